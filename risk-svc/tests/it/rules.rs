//! Rules kept as rows: shown, set, heeded from the next order on.

use proto::{
    risk::v1::{AllowRequest, DenyRequest, ListRulesRequest, Rule, SetRuleRequest},
    step::Answer,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::bed::{Bed, Running, approved, order, order_by, saga};

fn rule(kind: &str, currency: &str, threshold: i64, window_seconds: i64, enabled: bool) -> Rule {
    Rule { kind: kind.into(), currency_code: currency.into(), threshold, window_seconds, enabled }
}

async fn set(risk: &Running, rule: Rule) -> Result<Rule, tonic::Status> {
    let request = SetRuleRequest { rule: Some(rule) };
    risk.rules.clone().set_rule(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn the_rules_at_the_beginning_are_shown() {
    let bed = Bed::new().await;
    let rules = bed.risk.rules.clone().list_rules(ListRulesRequest {}).await.unwrap().into_inner().rules;
    assert_eq!(
        rules,
        [rule("AMOUNT_REVIEW", "", 1_000_000, 0, true), rule("VELOCITY_REVIEW", "", 1000, 60, false)]
    );
}

#[tokio::test]
async fn a_rule_that_is_set_holds_for_the_next_order() {
    let bed = Bed::new().await;
    let eur = rule("AMOUNT_REVIEW", "EUR", 500, 0, true);
    for _ in 0..2 {
        assert_eq!(set(&bed.risk, eur.clone()).await.unwrap(), eur);
    }
    assert!(matches!(bed.risk.screen(vec![order(saga(), 500)]).await[0], Answer::Pending(_)));
    set(&bed.risk, Rule { enabled: false, ..eur }).await.unwrap();
    assert_eq!(bed.risk.screen(vec![order(saga(), 5_000_000)]).await, [approved("RULES")]);
    let rules = bed.risk.rules.clone().list_rules(ListRulesRequest {}).await.unwrap().into_inner().rules;
    assert_eq!(rules.len(), 3);
}

/// The process remembers the rules; what another process, or a person with psql, writes holds all the same.
#[tokio::test]
async fn what_others_write_holds_for_the_next_order() {
    let bed = Bed::new().await;
    let mut others = bed.database.connect().await;
    for _ in 0..3 {
        assert_eq!(bed.risk.screen(vec![order(saga(), 500), order(saga(), 501)]).await.len(), 2);
    }
    sqlx::query("update risk.rule set threshold = 501 where kind = 'AMOUNT_REVIEW'")
        .execute(&mut others)
        .await
        .unwrap();
    let answers = bed.risk.screen(vec![order(saga(), 500), order(saga(), 501)]).await;
    assert_eq!(answers[0], approved("RULES"));
    assert!(matches!(answers[1], Answer::Pending(_)), "{answers:?}");
    assert_eq!(bed.risk.screen(vec![order(saga(), 500)]).await, [approved("RULES")]);
    sqlx::query("insert into risk.denied (customer_id, reason, create_time) values ('c_2', 'fraud', now())")
        .execute(&mut others)
        .await
        .unwrap();
    let answers = bed.risk.screen(vec![order(saga(), 1), order_by(saga(), 1, "c_2")]).await;
    assert_eq!(answers[0], approved("RULES"));
    assert!(matches!(answers[1], Answer::Refused(_)), "{answers:?}");
}

/// A repeat among new orders: nothing is stored twice, and each gets its answer.
#[tokio::test]
async fn a_repeat_in_a_slice_of_approvals_says_what_it_said() {
    let bed = Bed::new().await;
    let first = saga();
    for _ in 0..4 {
        let answers = bed.risk.screen(vec![order(saga(), 1), order(first, 1), order(saga(), 1)]).await;
        assert!(answers.iter().all(|answer| *answer == approved("RULES")), "{answers:?}");
    }
    let (rows,): (i64,) = sqlx::query_as("select count(*) from risk.screening")
        .fetch_one(&mut bed.database.connect().await)
        .await
        .unwrap();
    assert_eq!(rows, 9);
}

#[tokio::test]
async fn velocity_counts_the_orders_of_each_customer_within_the_window() {
    let bed = Bed::new().await;
    set(&bed.risk, rule("VELOCITY_REVIEW", "", 3, 3600, true)).await.unwrap();
    let first = saga();
    // In one slice and over several, repeats not counted.
    let answers = bed.risk.screen(vec![order(first, 1), order(saga(), 1), order_by(saga(), 1, "c_2")]).await;
    assert!(answers.iter().all(|answer| *answer == approved("RULES")), "{answers:?}");
    assert_eq!(bed.risk.screen(vec![order(first, 1)]).await, [approved("RULES")]);
    let answers = bed.risk.screen(vec![order(saga(), 1), order(saga(), 1), order_by(saga(), 1, "c_2")]).await;
    assert_eq!(answers[0], approved("RULES"));
    assert!(matches!(answers[1], Answer::Pending(_)), "{answers:?}");
    assert_eq!(answers[2], approved("RULES"));
    // What lies before the window does not count.
    sqlx::query("update risk.screening set create_time = create_time - interval '2 hours'")
        .execute(&mut bed.database.connect().await)
        .await
        .unwrap();
    assert_eq!(bed.risk.screen(vec![order(saga(), 1)]).await, [approved("RULES")]);
}

#[tokio::test]
async fn doors_refuse_rules_and_names_that_cannot_be() {
    let bed = Bed::new().await;
    for (rule, fields) in [
        (rule("SIZE", "", 1, 0, true), &["rule.kind"][..]),
        (rule("SIZE", "eur", 1, 0, true), &["rule.kind", "rule.currency_code"]),
        (rule("AMOUNT_REVIEW", "E\0R", 1, 0, true), &["rule.currency_code"]),
        (rule("AMOUNT_REVIEW", "EUR", -1, 60, true), &["rule.threshold", "rule.window_seconds"]),
        (rule("VELOCITY_REVIEW", "", 1, 0, true), &["rule.window_seconds"]),
        (rule("VELOCITY_REVIEW", "", 1, i64::MAX, true), &["rule.window_seconds"]),
        (rule("VELOCITY_REVIEW", "EUR", 1, 60, true), &["rule.currency_code"]),
    ] {
        let status = set(&bed.risk, rule.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{rule:?}");
        let bad = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(bad.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), fields, "{rule:?}");
    }
    let mut rules = bed.risk.rules.clone();
    assert_eq!(
        rules.set_rule(SetRuleRequest { rule: None }).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    for (customer, reason, count) in [("", "", 2), ("c\0", "r", 1), ("c_1", "", 1), ("c_1", "a\nb", 1)] {
        let request = DenyRequest { customer_id: customer.into(), reason: reason.into() };
        let status = rules.deny(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.get_details_bad_request().unwrap().field_violations.len(), count, "{customer:?}");
    }
    let nobody = AllowRequest { customer_id: "c 1".into() };
    assert_eq!(rules.allow(nobody).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(bed.risk.screen(vec![order(saga(), 1)]).await, [approved("RULES")]);
}
