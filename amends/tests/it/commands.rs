//! The operator's commands against a running store: every verb once, and what a refusal looks like.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::program::{Place, Server, eventually, stderr};

const BUY: &str = "order create --customer c_1 --merchant m_1 --currency EUR --wait 20s";

fn words<'a>(line: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    line.split(' ').chain(more.iter().copied()).collect()
}

/// Refused: exit code 1, the error as a document.
fn refused(server: &Server, line: &str) -> Value {
    let output = server.ask(&words(line, &["--json"]));
    assert_eq!(output.status.code(), Some(1), "{line}: {}", String::from_utf8_lossy(&output.stdout));
    let document: Value = serde_json::from_slice(&output.stderr).unwrap();
    document["error"].clone()
}

fn lines(server: &Server, line: &str) -> Vec<Value> {
    let output = server.ask(&words(line, &["--json"]));
    assert!(output.status.success(), "{line}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn every_verb_does_what_it_says() {
    let place = Place::new();
    let mut server = Server::up(&place, &[]);
    let sold = orders(&server);
    sagas(&server, &sold);
    reviews(&server);
    books(&server, &sold);
    refusals(&server, &sold);
    benches(&server, &place);
    let letters = place.data_dir.join("outbox");
    eventually("letters lie in the data folder", || crate::letters_in(&letters) >= 2);
    assert_eq!(server.end(Signal::TERM), Some(0));
}

fn orders(server: &Server) -> String {
    let create = words(BUY, &["P1001:2@12.50", "--card", "tok_approve", "--request-id", "k1"]);
    let order = server.json(&create);
    assert_eq!(
        (&order["status"], &order["lines"][0]["quantity"]),
        (&json!("COMPLETED"), &json!(2)),
        "{order}"
    );
    let repeat = server.ask(&create);
    assert!(stderr(&repeat).contains("repeat"), "{}", stderr(&repeat));
    assert!(String::from_utf8_lossy(&repeat.stdout).contains("12.50 EUR"));

    let id = order["order_id"].as_str().unwrap().to_owned();
    assert_eq!(server.json(&["order", "get", &id])["etag"], order["etag"]);
    let list = server.json(&["order", "list", "--status", "completed", "--customer", "c_1"]);
    assert_eq!(list["orders"][0]["order_id"], id.as_str());
    let watched = lines(server, &format!("order watch {id}"));
    assert_eq!(watched.last().unwrap()["status"], "COMPLETED");

    let declined = server.json(&words(BUY, &["P1002", "--card", "tok_decline", "--metadata", "shop=web"]));
    assert_eq!(
        (&declined["status"], &declined["status_reason"], &declined["metadata"]["shop"]),
        (&json!("CANCELLED"), &json!("CARD_DECLINED"), &json!("web"))
    );
    id
}

fn sagas(server: &Server, sold: &str) {
    let saga = server.json(&["saga", "show", sold]);
    assert_eq!((&saga["state"], saga["steps"].as_array().unwrap().len()), (&json!("COMPLETED"), 7));
    let list = server.json(&["saga", "list", "--state", "compensated", "--kind", "order"]);
    assert_eq!(list["sagas"].as_array().unwrap().len(), 1, "{list}");
    let journal = server.json(&["saga", "journal", sold]);
    assert_eq!(journal["entries"][0]["events"][0]["event"], "Started", "{journal}");
    assert_eq!(lines(server, &format!("saga watch {sold}")).last().unwrap()["state"], "COMPLETED");
    let text = server.ask(&["saga", "show", sold]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("PARTICIPANT"));
}

fn reviews(server: &Server) {
    let waiting = server.json(&words(BUY, &["P1010:200", "--card", "tok_approve"]));
    assert_eq!(waiting["status"], "UNDER_REVIEW", "{waiting}");
    let id = waiting["order_id"].as_str().unwrap();
    assert_eq!(server.json(&["review", "list"])["reviews"][0]["order_id"], id);
    let review =
        server.json(&["review", "decide", id, "--approve", "--reason", "known", "--reviewer", "ada"]);
    assert_eq!((&review["state"], &review["reviewer"]), (&json!("APPROVED"), &json!("ada")));
    assert_eq!(lines(server, &format!("order watch {id}")).last().unwrap()["status"], "COMPLETED");
    assert_eq!(
        server.json(&["review", "list", "--state", "approved"])["reviews"].as_array().unwrap().len(),
        1
    );
}

fn books(server: &Server, sold: &str) {
    let account = server.json(&["balance", "merchant:m_1:EUR"]);
    assert!(account["balance"]["minor_units"].as_i64().unwrap() > 2500, "{account}");
    let accounts = server.json(&["balance", "list", "--prefix", "merchant:"]);
    assert_eq!(accounts["accounts"][0], account);
    let entries = server.json(&["balance", "entries", "--saga", sold]);
    let sum: i64 =
        entries["entries"].as_array().unwrap().iter().map(|e| e["amount_minor"].as_i64().unwrap()).sum();
    assert_eq!(sum, 0, "{entries}");
    let stocks = server.json(&["stock", "list", "--limit", "3"]);
    assert_eq!(stocks["stocks"].as_array().unwrap().len(), 3);
    let prices = server.json(&["price", "list", "--currency", "JPY"]);
    assert!(prices["prices"].as_array().unwrap().iter().all(|p| p["unit_price"]["currency_code"] == "JPY"));
}

/// It ends with the auditor, whose silence is no verdict.
fn benches(server: &Server, place: &Place) {
    let load = "bench --seconds 1 --warm-up 0 --in-flight 4 --data-dir";
    let (there, elsewhere) = (place.data_dir.to_str().unwrap(), place.data_dir.join("elsewhere"));
    let figures = server.json(&words(load, &[there]));
    assert_eq!((&figures["audited"], &figures["pace"]), (&json!(true), &json!("closed, 4 in flight")));
    assert!(figures["orders"].as_u64().unwrap() > 0, "{figures}");
    let error = refused(server, &format!("{load} {}", elsewhere.display()));
    assert_eq!(error["code"], "VOID", "{error}");

    // A hundred orders and more, of which some wait for a person.
    let reviewed =
        server.json(&words("bench --seconds 5 --warm-up 0 --in-flight 16 --mix review --data-dir", &[there]));
    assert_eq!(reviewed["audited"], true, "{reviewed}");
    let reviews = server.json(&["review", "list", "--state", "approved"]);
    assert!(reviews.to_string().contains("\"reviewer\":\"bench\""), "{reviews}");

    let url = format!("{}?options[synchronous_commit]=off", server.address("postgres"));
    let error = refused(server, &format!("bench --seconds 1 --warm-up 0 --database-url {url}"));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("synchronous_commit = off"), "{error}");
}

fn refusals(server: &Server, sold: &str) {
    let error = refused(server, &format!("{BUY} P999:2 --card tok_approve"));
    assert_eq!(
        (&error["code"], &error["violations"][0]["field"]),
        (&json!("INVALID_ARGUMENT"), &json!("lines[0].sku"))
    );
    let error = refused(server, &format!("{BUY} P1001:3 --card tok_approve --request-id k1"));
    assert_eq!(error["code"], "ALREADY_EXISTS");
    for line in [
        format!("order cancel {sold}"),
        format!("saga retry {sold} --reason x"),
        format!("saga compensate {sold} --reason x"),
        format!("saga resolve {sold} --step charge --outcome refused --reason x --evidence y"),
    ] {
        let error = refused(server, &line);
        assert_eq!(error["code"], "FAILED_PRECONDITION", "{line}: {error}");
        assert!(error["reason"].is_string(), "{line}: {error}");
    }
    let text = server.ask(&["stock", "get", "NOPE"]);
    assert!(stderr(&text).starts_with("error: NOT_FOUND: "), "{}", stderr(&text));
}
