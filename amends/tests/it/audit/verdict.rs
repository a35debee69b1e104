//! The program's verdict, as scripts hear it: its exit code, and its JSON.

use rustix::process::Signal;
use serde_json::Value;

use super::world::World;
use crate::program::{Place, Server, amends, binaries, run, stderr};

#[tokio::test]
async fn the_exit_code_is_the_verdict() {
    let mut world = World::new().await;
    let url = world.database.owner_url().to_owned();
    let audit = ["audit", "--database-url", &url, "--quiescent"];
    let clean = run(&audit);
    assert_eq!(clean.status.code(), Some(0), "{}", stderr(&clean));
    let text = String::from_utf8(clean.stdout).unwrap();
    assert!(text.contains("I10") && text.ends_with("clean\n"), "{text}");

    world.run("update inventory.stock set available = available + 2").await;
    let broken = run(&[&audit[..], &["--json"]].concat());
    assert_eq!(broken.status.code(), Some(1), "{}", stderr(&broken));
    let report: Value = serde_json::from_slice(&broken.stdout).unwrap();
    assert_eq!(report["clean"], false);
    assert_eq!(report["invariants"][3]["id"], "I4");
    assert_eq!(report["invariants"][3]["violations"]["total"], 1);

    let wrong = run(&[&audit[..], &["--acknowledged", "/nowhere/at/all"]].concat());
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
    let unreadable = run(&["audit", "--database-url", "postgres://nobody@127.0.0.1:1/nothing"]);
    assert_eq!(unreadable.status.code(), Some(3), "{}", stderr(&unreadable));
}

#[test]
fn a_folder_that_is_named_goes_before_databases_in_the_environment() {
    let place = Place::new();
    let folder = place.data_dir.to_str().unwrap();
    let audit = |words: &[&str]| {
        let mut command = amends(&[&["audit", "--data-dir", folder], words].concat());
        command.env("AMENDS_LEDGER_DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing").output().unwrap()
    };
    let named = audit(&[]);
    assert_eq!(named.status.code(), Some(3), "{}", stderr(&named));
    assert!(stderr(&named).contains("holds no store of Amends"), "{}", stderr(&named));
    let both = audit(&["--database-url", "postgres://nobody@127.0.0.1:1/nothing"]);
    assert_eq!(both.status.code(), Some(2), "{}", stderr(&both));
    assert!(stderr(&both).contains("give one of the two"), "{}", stderr(&both));
}

#[test]
fn a_store_is_audited_while_it_runs_and_when_it_is_stopped() {
    let place = Place::new();
    let audit = || {
        let (folder, binaries) = (place.data_dir.to_str().unwrap(), binaries());
        run(&["audit", "--data-dir", folder, "--postgres-bin", binaries.to_str().unwrap()])
    };
    let nothing = audit();
    assert_eq!(nothing.status.code(), Some(3), "{}", stderr(&nothing));
    assert!(!place.data_dir.exists(), "an audit makes nothing");

    let mut server = Server::up(&place, &["--no-demo"]);
    let running = audit();
    assert_eq!(running.status.code(), Some(0), "{}", stderr(&running));
    assert!(place.postmaster().is_some());
    assert_eq!(server.end(Signal::TERM), Some(0));
    let stopped = audit();
    assert_eq!(stopped.status.code(), Some(0), "{}", stderr(&stopped));
    assert!(place.postmaster().is_none(), "it was stopped before, and is stopped again");
}
