//! Whatever a released build has stored, this one reads and goes on with as that one would.

use chassis::testbed::TestDatabase;
use e2e::{
    golden::{self, Facts, definitions, follows, name},
    load::Kind,
};

/// Rules that are new on a table that the release before writes to, and why each of them can refuse it nothing.
const WAIVED: &[(&str, &str, &str)] = &[
    (
        "ledger.transaction",
        "transaction_sealing",
        "it holds the primary key, so nothing more has to be unique",
    ),
    ("risk.screening", "screening_forward_known", "it takes what it took before, and BLOCKED"),
    ("risk.screening", "screening_has_reply", "the same, and a tombstone has none"),
    (
        "risk.screening",
        "screening_tombstone_is_empty",
        "of what is no tombstone it asks what `not null` asked before",
    ),
];

/// The rows of a journal, and what was recorded to follow from them.
fn golden(definition: &str, kind: Kind) -> (String, String) {
    let place = golden::place().join(definition).join(golden::file(kind));
    let read = |extension| {
        let file = place.with_extension(extension);
        std::fs::read_to_string(&file).unwrap_or_else(|error| {
            panic!(
                "{}: {error}; a released definition needs golden journals: cargo xtask golden",
                file.display()
            )
        })
    };
    (read("jsonl"), read("txt"))
}

#[test]
fn every_definition_has_golden_journals_and_every_golden_journal_its_definition() {
    let mut known: Vec<String> = definitions().iter().map(|saga| name(&**saga)).collect();
    let folders = std::fs::read_dir(golden::place()).unwrap();
    let mut found: Vec<String> =
        folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    known.sort();
    found.sort();
    assert_eq!(known, found, "a definition without golden journals cannot be released: cargo xtask golden");
}

#[test]
fn every_golden_journal_is_read_and_followed_as_it_was_recorded() {
    for saga in definitions() {
        for kind in Kind::ALL {
            let (rows, recorded) = golden(&name(&*saga), kind);
            let rows: Vec<&str> = rows.lines().collect();
            let saga_id = recorded.lines().next().unwrap();
            let followed = follows(&saga, saga_id, &rows).unwrap_or_else(|why| panic!("{kind:?}: {why}"));
            assert_eq!(followed, recorded, "{kind:?} of {}", name(&*saga));
            let end = recorded.lines().last().unwrap();
            let expected = if kind.needed() == "COMPLETED" {
                "COMPLETED COMPLETED: ; later: "
            } else {
                "COMPENSATED CANCELLED: ; later: "
            };
            assert!(end.ends_with(expected), "{kind:?} ends as {end}");
        }
    }
}

#[test]
fn a_golden_journal_that_this_build_cannot_follow_is_seen() {
    let saga = &definitions()[0];
    let (rows, recorded) = golden(&name(&**saga), Kind::Declined);
    let saga_id = recorded.lines().next().unwrap();
    let broken = |from: &str, to: &str| {
        assert!(rows.contains(from), "{from} is in {rows}");
        let rows = rows.replace(from, to);
        follows(saga, saga_id, &rows.lines().collect::<Vec<_>>())
    };
    assert!(broken("\"event\":\"TurnedRound\"", "\"event\":\"TurnedSideways\"").is_err(), "an unknown event");
    assert!(broken("\"event\":\"CommandAnswered\"", "\"event\":\"CommandSent\"").is_err(), "a missing field");
    assert_ne!(broken(r#"\"quantity\":1,"#, r#"\"quantity\":2,"#).unwrap(), recorded, "another body");
    let reordered: Vec<&str> = rows.lines().rev().collect();
    assert!(follows(saga, saga_id, &reordered).is_err(), "facts that do not fit");
}

#[tokio::test]
async fn the_schemas_still_do_whatever_the_release_before_asks_of_them() {
    let database = TestDatabase::create(&amends::provision::schemas()).await;
    let mut connection = database.connect().await;
    let (said, before) = golden::read_release();
    assert!(said.len() > 50 && before.columns.len() > 100, "{} statements are kept", said.len());
    let mut wrong = Vec::new();
    for one in &said {
        match golden::said(&mut connection, &one.by, &one.sql).await {
            Ok(now) if now == *one => {}
            Ok(now) => wrong.push(format!("{now:?}\nwas {one:?}")),
            Err(why) => wrong.push(format!("{}: {why}", one.by)),
        }
    }
    wrong.extend(forbidden(&before, &golden::facts(&mut connection).await));
    assert!(wrong.is_empty(), "a roll-back would fail:\n{}", wrong.join("\n\n"));
}

/// What the release before does and these schemas would refuse.
fn forbidden(before: &Facts, now: &Facts) -> Vec<String> {
    let table = |column: &str| column.rsplit_once('.').unwrap().0.to_owned();
    let columns = now.columns.iter().filter(|(name, (_, may_be_left_out))| {
        !may_be_left_out
            && !before.columns.contains_key(*name)
            && before.columns.keys().any(|old| table(old) == table(name))
    });
    let columns =
        columns.map(|(name, _)| format!("{name} is new, and an insert that does not know it fails"));
    let rules = before.rules.iter().flat_map(|(table, old)| {
        let new = now.rules.get(table).into_iter().flatten().filter(move |rule| !old.contains(*rule));
        new.filter(move |rule| !WAIVED.iter().any(|(at, name, _)| at == table && rule.contains(name))).map(
            move |rule| {
                format!("{table}: {rule} is new: say in WAIVED why the release before never breaks it")
            },
        )
    });
    columns.chain(rules).collect()
}

#[test]
fn a_schema_that_refuses_the_release_before_is_seen() {
    let (_, before) = golden::read_release();
    let mut now = before.clone();
    now.columns.insert("orchestrator.saga.tenant".into(), ("text".into(), false));
    now.columns.insert("orchestrator.saga.note".into(), ("text".into(), true));
    now.columns.insert("orchestrator.tenant.name".into(), ("text".into(), false));
    now.rules
        .entry("orchestrator.saga".into())
        .or_default()
        .insert("constraint saga_reason_ck CHECK (…)".into());
    let wrong = forbidden(&before, &now);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(
        wrong[0].starts_with("orchestrator.saga.tenant") && wrong[1].contains("saga_reason_ck"),
        "{wrong:?}"
    );
}
