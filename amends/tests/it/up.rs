//! `amends up`: opened, stopped, killed, opened again; and what it says when it cannot.

use std::{net::TcpListener, process::Command};

use rustix::process::{Signal, kill_process};
use sqlx::{Connection as _, Executor as _, PgConnection, SqlSafeStr as _};

use crate::program::{Place, Server, amends, binaries, eventually, run, stderr};

#[test]
fn a_store_opens_with_goods_and_closes_cleanly_and_opens_again_as_it_was() {
    let place = Place::new();
    let mut server = Server::up(&place, &[]);
    assert_eq!(server.json(&["stock", "get", "P1001"])["available"], 1000);
    assert_eq!(server.json(&["price", "list", "--limit", "0"])["prices"].as_array().unwrap().len(), 30);
    assert_eq!(server.json(&["stock", "restock", "P1001", "5"])["available"], 1005);
    assert!(server.get("/readyz").ends_with("ready\n"), "{}", server.get("/readyz"));
    assert!(server.get("/metrics").contains("amends_"), "{}", server.get("/metrics"));
    assert_eq!(server.end(Signal::INT), Some(0));
    assert!(place.postmaster().is_none(), "Postgres outlives its owner");

    let mut again = Server::up(&place, &[]);
    assert_eq!(again.json(&["stock", "get", "P1001"])["available"], 1005);
    assert_eq!(again.end(Signal::TERM), Some(0));
}

#[test]
fn what_was_acknowledged_survives_kill_9_of_the_program_and_of_its_postgres() {
    let place = Place::new();
    let mut server = Server::up(&place, &["--no-demo"]);
    assert_eq!(server.json(&["stock", "list"])["stocks"].as_array().unwrap().len(), 0);
    server.json(&["price", "set", "X1", "19.99", "EUR", "--title", "Kept"]);
    let postmaster = place.postmaster().unwrap();
    assert_eq!(server.end(Signal::KILL), None);
    assert_eq!(place.postmaster(), Some(postmaster), "Postgres outlives the program");

    let again = Server::up(&place, &["--no-demo"]);
    assert_eq!(place.postmaster(), Some(postmaster), "the running Postgres is used again");
    assert_eq!(again.json(&["price", "list"])["prices"][0]["unit_price"]["minor_units"], 1999);

    kill_process(postmaster, Signal::KILL).unwrap();
    eventually("Postgres is started again and the services find it", || {
        place.postmaster() != Some(postmaster) && again.ask(&["price", "list"]).status.success()
    });
}

#[test]
fn a_folder_that_is_in_use_and_a_port_that_is_taken_are_named() {
    let place = Place::new();
    let server = Server::up(&place, &["--no-demo"]);
    let folder = place.data_dir.to_str().unwrap();
    let bin = binaries();
    let words = ["up", "--data-dir", folder, "--postgres-bin", bin.to_str().unwrap(), "--grpc-listen"];

    let second = run(&[&words[..], &["127.0.0.1:0", "--http-listen", "127.0.0.1:0"]].concat());
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("in use by another amends (process"), "{}", stderr(&second));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = run(&[&words[..], &[&taken.local_addr().unwrap().to_string()]].concat());
    assert_eq!(taken.status.code(), Some(1));
    assert!(stderr(&taken).contains("--grpc-listen"), "{}", stderr(&taken));
    assert!(server.ask(&["price", "list"]).status.success());
}

#[test]
fn a_service_alone_says_what_it_needs() {
    let without_database = run(&["inventory"]);
    assert_eq!(without_database.status.code(), Some(2));
    assert!(stderr(&without_database).contains("AMENDS_INVENTORY_DATABASE_URL"));

    let without_broker = run(&["order", "--database-url", "postgres://127.0.0.1:1/x"]);
    assert_eq!(without_broker.status.code(), Some(2));
    assert!(stderr(&without_broker).contains("AMENDS_AMQP_URL"), "{}", stderr(&without_broker));
}

#[test]
fn a_command_without_a_server_says_so() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = format!("http://{port}");
    let output = run(&["order", "list", "--server", &server]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("amends up"), "{}", stderr(&output));
    let output = run(&["order", "list", "--server", &server, "--json"]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["code"], "UNREACHABLE");
}

#[test]
fn nohup_is_respected() {
    let place = Place::new();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" postgres --data-dir \"$1\" --postgres-bin \"$2\""]);
    command.arg(env!("CARGO_BIN_EXE_amends")).arg(&place.data_dir).arg(binaries());
    let mut server = Server::start(command);
    // A caught signal would no longer stand among the ignored ones.
    let status = format!("/proc/{}/status", server.pid());
    if let Ok(status) = std::fs::read_to_string(status) {
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
        assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 1, 1);
    }
    kill_process(server.pid(), Signal::HUP).unwrap();
    assert_eq!(server.end(Signal::TERM), Some(0));
}

#[test]
fn the_private_postgres_serves_alone_too() {
    let place = Place::new();
    let mut command = amends(&["postgres", "--provision", "--postgres-bin"]);
    command.arg(binaries()).arg("--data-dir").arg(&place.data_dir);
    let mut server = Server::start(command);
    assert!(server.address("postgres").starts_with("postgres://postgres@127.0.0.1:"));
    assert_eq!(server.end(Signal::INT), Some(0));
    assert!(place.postmaster().is_none());
}

/// What a release that is rolled back finds: every schema is newer than it knows.
#[test]
fn it_starts_on_schemas_that_a_newer_release_has_migrated() {
    let place = Place::new();
    let mut server = Server::up(&place, &[]);
    assert_eq!(server.end(Signal::TERM), Some(0));

    let mut command = amends(&["postgres", "--postgres-bin"]);
    command.arg(binaries()).arg("--data-dir").arg(&place.data_dir);
    let mut postgres = Server::start(command);
    let url = postgres.address("postgres");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let migrated = runtime.block_on(async {
        // The line names the server's own database.
        let ours = url.strip_suffix("/postgres").unwrap().to_owned() + "/amends";
        let mut connection = PgConnection::connect(&ours).await.unwrap();
        for schema in amends::provision::schemas() {
            let newer = format!(
                "insert into {}._sqlx_migrations (version, description, success, checksum, execution_time) \
                 values (9999, 'from a newer release', true, '\\x00', 1)",
                schema.name
            );
            connection.execute(sqlx::AssertSqlSafe(newer).into_sql_str()).await.unwrap();
        }
        amends::provision::schemas().len()
    });
    assert_eq!(migrated, 8);
    assert_eq!(postgres.end(Signal::INT), Some(0));

    let mut older = Server::up(&place, &[]);
    let words =
        "order create P1001:1 --customer c_1 --merchant m_1 --currency EUR --wait 30s --card tok_approve";
    let order = older.json(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(order["status"], "COMPLETED", "{order}");
    assert_eq!(older.end(Signal::TERM), Some(0));
}
