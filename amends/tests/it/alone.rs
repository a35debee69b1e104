//! Each service in a process of its own, over RabbitMQ: an order goes through all of them.

use amends::provision::schemas;
use chassis::testbed::{TestDatabase, variable};
use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Server, amends, eventually, stderr};

const SERVICES: [&str; 6] = ["order", "inventory", "risk", "payment", "ledger", "notification"];

/// A service on free ports.
fn start(service: &str, prefix: &str, variables: &[(String, String)]) -> Server {
    let mut command = amends(&[service, "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    command.env("AMENDS_AMQP_URL", variable("AMENDS_TEST_AMQP_URL")).env("AMENDS_AMQP_PREFIX", prefix);
    command.env("AMENDS_REDIS_URL", variable("AMENDS_TEST_REDIS_URL")).env("AMENDS_REDIS_PREFIX", prefix);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    Server::start(command)
}

async fn variables() -> Vec<(String, String)> {
    let database = TestDatabase::create(&schemas()).await;
    let named = [
        ("ORCHESTRATOR", orchestrator::SCHEMA),
        ("ORDER", order_svc::SCHEMA),
        ("INVENTORY", inventory_svc::SCHEMA),
        ("RISK", risk_svc::SCHEMA),
        ("PAYMENT", payment_svc::SCHEMA),
        ("SIMULATOR", payment_svc::SIMULATOR_SCHEMA),
        ("LEDGER", ledger_svc::SCHEMA),
        ("NOTIFICATION", notification_svc::SCHEMA),
    ];
    named.iter().map(|(name, schema)| (format!("AMENDS_{name}_DATABASE_URL"), database.url(schema))).collect()
}

fn create(orchestrator: &Server, card: &str) -> Value {
    let words = "order create P1:2 --customer c_1 --merchant m_1 --currency EUR --wait 20s --card";
    let words: Vec<_> = words.split(' ').chain([card]).collect();
    orchestrator.json(&words)
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_processes_make_an_order_and_make_amends_for_another() {
    let prefix = format!("t-{}.", chassis::clock::new_uuid().simple());
    let mut variables = variables().await;
    let letters = tempfile::tempdir().unwrap();
    variables.push(("AMENDS_TOKEN_KEY".to_owned(), chassis::testbed::TOKEN_KEY.to_owned()));
    variables.push(("AMENDS_NOTIFICATION_OUTBOX_DIR".to_owned(), letters.path().display().to_string()));
    let mut servers: Vec<_> = SERVICES.iter().map(|service| start(service, &prefix, &variables)).collect();
    for (service, server) in SERVICES.iter().zip(&servers) {
        let address = format!("http://{}", server.address("grpc"));
        variables.push((format!("AMENDS_{}_URL", service.to_uppercase()), address));
    }
    servers[0].json(&["price", "set", "P1", "19.99", "EUR", "--title", "Cup"]);
    servers[1].json(&["stock", "restock", "P1", "10"]);
    let orchestrator = start("orchestrator", &prefix, &variables);

    assert_eq!(create(&orchestrator, "tok_approve")["status"], "COMPLETED");
    let declined = create(&orchestrator, "tok_decline");
    assert_eq!(
        (&declined["status"], &declined["status_reason"]),
        (&"CANCELLED".into(), &"CARD_DECLINED".into())
    );
    let stock = servers[1].json(&["stock", "get", "P1"]);
    assert_eq!((&stock["reserved"], &stock["sold"]), (&0.into(), &2.into()), "{stock}");
    let account = servers[4].json(&["balance", "merchant:m_1:EUR"]);
    assert!(account["balance"]["minor_units"].as_i64().unwrap() > 0, "{account}");

    eventually("both customers got their letters", || crate::letters_in(letters.path()) >= 2);

    // What one service does not serve is said plainly.
    let wrong = servers[1].ask(&["order", "list"]);
    assert!(stderr(&wrong).contains("UNIMPLEMENTED"), "{}", stderr(&wrong));
    servers.push(orchestrator);
    for server in &mut servers {
        assert_eq!(server.end(Signal::TERM), Some(0));
    }
}
