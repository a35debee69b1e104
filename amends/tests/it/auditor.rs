//! The auditor as a service: damage done to a running world shows up in its metrics, and goes again when it is mended.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    audit::world::World,
    program::{Place, Server, amends, eventually, run, stderr},
};

fn start(world: &World, more: &[&str]) -> Server {
    let listen = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--every", "200ms"];
    let mut command = amends(&["auditor"]);
    command.args(listen).args(["--database-url", world.database.owner_url()]).args(more);
    Server::start(command)
}

/// The value of a metric, as in `name{label="x"}`.
fn metric(server: &Server, name: &str) -> Option<f64> {
    let text = server.get("/metrics");
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn shows(server: &Server, name: &str, value: f64) {
    eventually(&format!("{name} is {value}"), || metric(server, name) == Some(value));
}

const I4: &str = "amends_audit_violations{invariant=\"I4\"}";
const I12: &str = "amends_audit_violations{invariant=\"I12\"}";

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_a_running_world_shows_up_in_its_metrics_and_is_told_once() {
    let mut world = World::new().await;
    let mut auditor = start(&world, &[]);
    shows(&auditor, I4, 0.0);
    shows(&auditor, I12, 0.0);
    shows(&auditor, "amends_audit_at_work", 1.0);
    shows(&auditor, "amends_audit_units_held", 2.0);
    shows(&auditor, "amends_audit_open_sagas", 1.0);
    assert!(metric(&auditor, "amends_audit_oldest_open_saga_seconds").unwrap() >= 3_600.0);
    eventually("it goes on auditing", || {
        metric(&auditor, "amends_audit_runs_total{result=\"clean\"}").is_some_and(|runs| runs >= 3.0)
    });
    assert!(auditor.get("/readyz").ends_with("ready\n"), "{}", auditor.get("/readyz"));

    // Stock out of nothing is seen by the whole alone; what came since is not.
    let order = world.another().await;
    world.run("update inventory.stock set available = available + 2").await;
    world.run(&format!("update ledger.transaction set reason = 'x' where saga_id = '{order}'")).await;
    shows(&auditor, I12, 1.0);
    shows(&auditor, I4, 1.0);
    let violations = "amends_audit_runs_total{result=\"violations\"}";
    let runs = metric(&auditor, violations).unwrap();
    eventually("it was found several times", || metric(&auditor, violations).unwrap() >= runs + 2.0);
    let money = "amends_audit_money_at_risk_minor_units{currency=\"EUR\"}";
    assert_eq!(metric(&auditor, money), None, "nothing was at risk yet");
    // A refund that went missing: the money is still with the provider.
    let refunded = world.refunded;
    world.run(&format!("delete from simulator.refund where charge_reference = 'ch_{refunded}'")).await;
    shows(&auditor, money, 1_200.0);

    world.run("update inventory.stock set available = available - 2").await;
    shows(&auditor, I4, 0.0);
    assert_eq!(auditor.end(Signal::TERM), Some(0));
    let log = auditor.rest();
    let told = |text: &str| log.iter().filter(|line| line.contains("broken") && line.contains(text)).count();
    assert_eq!((told("I4"), told("I12")), (1, 1), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("no longer found") && line.contains("I4")), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_one_is_at_work_and_another_takes_over() {
    let mut world = World::new().await;
    let mut first = start(&world, &["--whole-every", "0s"]);
    shows(&first, "amends_audit_at_work", 1.0);
    let second = start(&world, &[]);
    shows(&second, "amends_audit_at_work", 0.0);
    shows(&second, I4, 0.0);
    world.run("update inventory.stock set available = available + 2").await;
    shows(&first, I4, 1.0);
    assert_eq!(metric(&second, I4), Some(0.0), "it does not look");
    assert_eq!(first.end(Signal::KILL), None);
    shows(&second, "amends_audit_at_work", 1.0);
    shows(&second, I4, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_not_clean_and_not_ready() {
    let mut world = World::new().await;
    let auditor = start(&world, &[]);
    shows(&auditor, I12, 0.0);
    world.run("alter schema ledger rename to away").await;
    eventually("it says so", || auditor.get("/readyz").contains("audit: the schema ledger cannot be read"));
    assert!(metric(&auditor, "amends_audit_runs_total{result=\"failed\"}").unwrap() >= 1.0);
    assert!(auditor.get("/healthz").ends_with("alive\n"));
    world.run("alter schema away rename to ledger").await;
    eventually("it is well again", || auditor.get("/readyz").ends_with("ready\n"));

    let nowhere = run(&["auditor"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(stderr(&nowhere).contains("--database-url"), "{}", stderr(&nowhere));
}

#[test]
fn everything_in_one_process_is_audited_too_unless_it_is_left_out() {
    let place = Place::new();
    let mut server = Server::up(&place, &["--no-demo", "--audit-every", "200ms"]);
    shows(&server, I12, 0.0);
    assert_eq!(server.end(Signal::TERM), Some(0));
    let mut server = Server::up(&place, &["--no-demo", "--audit-every", "200ms", "--no-audit"]);
    // Time enough for five.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(metric(&server, I12), None);
    assert_eq!(server.end(Signal::TERM), Some(0));
}
