//! A world made by hand: orders of every end, written row by row as the services would have left them.
//!
//! The journal is made of the orchestrator's own events, so that the auditor's reading of their stored form is tested
//! with it.

use amends::audit::{self, Invariant, Options, Report, Sources};
use chassis::testbed::TestDatabase;
use orchestrator::{
    journal::Recorded,
    saga::{Event, Outcome},
};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool};
use types::{OrderId, PaymentId, SagaId, StepName};
use uuid::Uuid;

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    connection: PgConnection,
    ledger: PgPool,
    /// One order of each end.
    pub(crate) completed: Uuid,
    pub(crate) refused: Uuid,
    pub(crate) refunded: Uuid,
    pub(crate) reversed: Uuid,
    pub(crate) parked: Uuid,
}

/// How far an order came, and what became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To its end.
    Completed,
    /// Out of stock: the document was cancelled, everything else is tombstones.
    Refused,
    /// Charged, and given back before it was booked: the books show it through suspense.
    Refunded,
    /// Booked, and taken back.
    Reversed,
    /// Waits for a person before its charge.
    Parked,
}

const TOTAL: i64 = 1200;

impl World {
    pub(crate) async fn new() -> Self {
        let schemas = [
            orchestrator::SCHEMA,
            order_svc::SCHEMA,
            inventory_svc::SCHEMA,
            risk_svc::SCHEMA,
            payment_svc::SCHEMA,
            payment_svc::SIMULATOR_SCHEMA,
            ledger_svc::SCHEMA,
            notification_svc::SCHEMA,
        ];
        let database = TestDatabase::create(&schemas).await;
        let connection = database.connect().await;
        let ledger = database.pool(&ledger_svc::SCHEMA).await;
        let nobody = Uuid::nil();
        let mut world = Self {
            database,
            connection,
            ledger,
            completed: nobody,
            refused: nobody,
            refunded: nobody,
            reversed: nobody,
            parked: nobody,
        };
        world.shelves().await;
        world.completed = world.order(Way::Completed).await;
        world.refused = world.order(Way::Refused).await;
        world.refunded = world.order(Way::Refunded).await;
        world.reversed = world.order(Way::Reversed).await;
        world.parked = world.order(Way::Parked).await;
        world
    }

    /// Anything, as the owner; triggers and foreign keys keep quiet.
    pub(crate) async fn run(&mut self, sql: &str) {
        let sql = format!("set session_replication_role = replica; {sql}");
        self.connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.clone()))).await.unwrap_or_else(|error| {
            panic!("{error}\n{sql}");
        });
    }

    pub(crate) fn sources(&self) -> Sources {
        Sources::one(self.database.owner_url())
    }

    pub(crate) async fn audit(&self) -> Report {
        self.audit_as(&Options { quiescent: true, ..Options::default() }).await
    }

    pub(crate) async fn audit_as(&self, options: &Options) -> Report {
        audit::run(&self.sources(), options).await.unwrap()
    }

    async fn shelves(&mut self) {
        self.run(
            "insert into inventory.restock values ('r1', 'P1', 60, now()), ('r2', 'P1', 40, now()); \
             insert into inventory.stock values ('P1', 100, 0, 0, 1, now()); \
             insert into ledger.account (account_id, type, currency, create_time, update_time) values \
               ('provider_clearing:EUR', 'ASSET', 'EUR', now(), now()), \
               ('merchant:m_1:EUR', 'LIABILITY', 'EUR', now(), now()), \
               ('tax_payable:EUR', 'LIABILITY', 'EUR', now(), now()), \
               ('suspense:EUR', 'LIABILITY', 'EUR', now(), now())",
        )
        .await;
    }

    async fn order(&mut self, way: Way) -> Uuid {
        let id = chassis::clock::new_uuid();
        self.orchestrator(id, way).await;
        self.document(id, way).await;
        self.reservation(id, way).await;
        self.payment(id, way).await;
        self.books(id, way).await;
        self.seal().await;
        id
    }

    /// One more that was completed.
    pub(crate) async fn another(&mut self) -> Uuid {
        self.order(Way::Completed).await
    }

    /// As ledger-svc's sealer leaves it. What other tests of the same server have under way holds it up.
    pub(crate) async fn seal(&mut self) {
        let open = "select (select count(*) from ledger.transaction) - coalesce(sum(transactions), 0)::bigint from ledger.block";
        let begin = tokio::time::Instant::now();
        loop {
            ledger_svc::seal(&self.ledger).await.unwrap();
            let (open,): (i64,) = sqlx::query_as(open).fetch_one(&mut self.connection).await.unwrap();
            if open == 0 {
                return;
            }
            assert!(begin.elapsed().as_secs() < 60, "{open} transactions cannot be sealed");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Gives an order an id of the year 2020, everywhere but in what is sealed.
    pub(crate) async fn age(&mut self, order: Uuid) -> Uuid {
        let old = Uuid::from_u128((order.as_u128() & (u128::MAX >> 48)) | (0x016f_5e66_e800 << 80));
        let tables = [
            "orchestrator.saga",
            "orchestrator.journal",
            "orders.document",
            "inventory.reservation",
            "payments.attempt",
        ];
        for table in tables {
            self.run(&format!("update {table} set saga_id = '{old}' where saga_id = '{order}'")).await;
        }
        for table in ["orchestrator.\"order\"", "orchestrator.idempotency_key"] {
            self.run(&format!("update {table} set order_id = '{old}' where order_id = '{order}'")).await;
        }
        self.run(&format!(
            "update payments.attempt set payment_id = '{}' where saga_id = '{old}'",
            payment(old)
        ))
        .await;
        let lines = format!("update ledger.transaction set saga_id = '{old}' where saga_id = '{order}'");
        self.run(&format!("{lines}; delete from ledger.block")).await;
        self.seal().await;
        old
    }

    async fn orchestrator(&mut self, id: Uuid, way: Way) {
        let (state, reason, status) = match way {
            Way::Completed => ("COMPLETED", "", "COMPLETED"),
            Way::Refused => ("COMPENSATED", "OUT_OF_STOCK", "CANCELLED"),
            Way::Refunded | Way::Reversed => ("COMPENSATED", "CANCEL_REQUESTED", "CANCELLED"),
            Way::Parked => ("PARKED", "MISMATCH", "INVENTORY_RESERVED"),
        };
        let rows = journal(way);
        let version = rows.len();
        let ended = state != "PARKED";
        let (commit, times) = (Uuid::from_u128(version as u128), "now() - interval '1 hour'");
        self.run(&format!(
            "insert into orchestrator.saga (saga_id, shard_id, kind, definition_version, definition_hash, version, \
               commit_id, epoch, state, reason, ended, create_time, update_time) \
             values ('{id}', 3, 'order', 1, 0, {version}, '{commit}', 2, '{state}', '{reason}', {ended}, {times}, {times}); \
             insert into orchestrator.\"order\" (order_id, customer_id, merchant_id, currency, total_minor, status, \
               version, create_time, update_time) \
             values ('{id}', 'c_1', 'm_1', 'EUR', {TOTAL}, '{status}', {version}, {times}, {times}); \
             insert into orchestrator.idempotency_key values ('m_1', 'key-{id}', '\\x01', '{id}', {times})"
        ))
        .await;
        for (at, events) in rows.iter().enumerate() {
            let recorded: Vec<Recorded> = events
                .iter()
                .map(|event| Recorded { at: 1000, trace: String::new(), event: event.clone() })
                .collect();
            let text = serde_json::to_string(&recorded).unwrap().replace('\'', "''");
            // Started by an instance that did not own the shard.
            let (version, epoch) = (at + 1, if at == 0 { 0 } else { 2 });
            let commit = Uuid::from_u128(version as u128);
            self.run(&format!(
                "insert into orchestrator.journal values ('{id}', {version}, {epoch}, '{commit}', '{text}', {times})"
            ))
            .await;
        }
    }

    async fn document(&mut self, id: Uuid, way: Way) {
        let (back, complete) = match way {
            Way::Completed => ("null, null", "'complete', 'DONE', '\\x01', '\\x01'"),
            Way::Refused | Way::Refunded | Way::Reversed => ("'DONE', '\\x01'", "null, null, null, null"),
            Way::Parked => ("null, null", "null, null, null, null"),
        };
        self.run(&format!(
            "insert into orders.document (saga_id, step, order_id, customer_id, merchant_id, currency, lines, \
               subtotal_minor, tax_minor, total_minor, history, forward_outcome, forward_hash, forward_reply, \
               back_outcome, back_reply, complete_step, complete_outcome, complete_hash, complete_reply, create_time, \
               update_time) \
             values ('{id}', 'open', '{id}', 'c_1', 'm_1', 'EUR', '[]', 1000, 200, {TOTAL}, '[]', 'DONE', '\\x01', '\\x01', \
               {back}, {complete}, now(), now())"
        ))
        .await;
    }

    async fn reservation(&mut self, id: Uuid, way: Way) {
        let (forward, back, commit) = match way {
            Way::Completed => ("DONE", "null, null", "'commit', 'DONE', '\\x01', '\\x01'"),
            Way::Refused => ("REFUSED", "null, null", "null, null, null, null"),
            Way::Refunded | Way::Reversed => ("DONE", "'DONE', '\\x01'", "null, null, null, null"),
            Way::Parked => ("DONE", "null, null", "null, null, null, null"),
        };
        let stock = match way {
            Way::Completed => "available = available - 2, sold = sold + 2",
            Way::Parked => "available = available - 2, reserved = reserved + 2",
            Way::Refused | Way::Refunded | Way::Reversed => "version = version + 2",
        };
        self.run(&format!(
            "insert into inventory.reservation (saga_id, step, order_id, skus, quantities, hold_until, forward_outcome, \
               forward_hash, forward_reply, back_outcome, back_reply, commit_step, commit_outcome, commit_hash, \
               commit_reply, create_time, update_time) \
             values ('{id}', 'reserve', '{id}', array['P1'], array[2], now(), '{forward}', '\\x01', '\\x01', {back}, {commit}, \
               now(), now()); \
             update inventory.stock set {stock}"
        ))
        .await;
    }

    async fn payment(&mut self, id: Uuid, way: Way) {
        let payment = payment(id);
        if way == Way::Refused {
            return self
                .run(&format!(
                    "insert into payments.attempt (saga_id, step, payment_id, state, forward_outcome, back_outcome, sends, \
                       create_time, update_time) \
                     values ('{id}', 'charge', '{payment}', 'BLOCKED', 'BLOCKED', 'BLOCKED', 0, now(), now())"
                ))
                .await;
        }
        if way == Way::Parked {
            return;
        }
        let is_back = way != Way::Completed;
        let (state, back) =
            if is_back { ("REFUNDED", "'DONE', '\\x01'") } else { ("SUCCEEDED", "null, null") };
        let key = PaymentId::from_uuid(payment);
        self.run(&format!(
            "insert into payments.attempt (saga_id, step, payment_id, state, forward_outcome, forward_hash, \
               forward_reply, back_outcome, back_reply, order_id, customer_id, merchant_id, amount_minor, currency, \
               provider, provider_reference, sends, create_time, update_time) \
             values ('{id}', 'charge', '{payment}', '{state}', 'DONE', '\\x01', '\\x01', {back}, '{id}', 'c_1', 'm_1', \
               {TOTAL}, 'EUR', 'simulator', 'ch_{id}', 1, now() - interval '1 hour', now() - interval '1 hour'); \
             insert into simulator.charge values ('{key}:charge:1', 'ch_{id}', {TOTAL}, 'EUR', 'approve', '\\x01', \
               'CHARGED', null, 1, now(), now())"
        ))
        .await;
        if is_back {
            self.run(&format!(
                "insert into simulator.refund values ('{key}:refund:1', 're_{id}', 'ch_{id}', {TOTAL}, 'EUR', '\\x01', \
                   'REFUNDED', 1, now(), now())"
            ))
            .await;
        }
    }

    async fn books(&mut self, id: Uuid, way: Way) {
        let (sale, back) = ([1200, -1000, -200], [-1200, 1000, 200]);
        let accounts = ["provider_clearing:EUR", "merchant:m_1:EUR", "tax_payable:EUR"];
        match way {
            Way::Completed => self.book(id, "POST", "DONE", "post", &pairs(&accounts, &sale)).await,
            Way::Reversed => {
                self.book(id, "POST", "DONE", "post", &pairs(&accounts, &sale)).await;
                self.book(id, "REVERSE", "DONE", "post", &pairs(&accounts, &back)).await;
            }
            Way::Refunded => {
                self.book(id, "POST", "BLOCKED", "post", &[]).await;
                self.book(id, "REVERSE", "BLOCKED", "post", &[]).await;
                let (clearing, suspense) = ("provider_clearing:EUR", "suspense:EUR");
                let entries = [(clearing, 1200), (suspense, -1200), (suspense, 1200), (clearing, -1200)];
                self.book(id, "SUSPENSE", "DONE", "charge", &entries).await;
            }
            Way::Refused => {
                self.book(id, "POST", "BLOCKED", "post", &[]).await;
                self.book(id, "REVERSE", "BLOCKED", "post", &[]).await;
            }
            Way::Parked => {}
        }
    }

    async fn book(&mut self, id: Uuid, kind: &str, outcome: &str, step: &str, entries: &[(&str, i64)]) {
        let transaction = chassis::clock::new_uuid();
        let hash = if outcome != "BLOCKED" && kind != "REVERSE" { "'\\x01'" } else { "null" };
        let reply = if outcome != "BLOCKED" && kind != "SUSPENSE" { "'\\x01'" } else { "null" };
        self.run(&format!(
            "insert into ledger.transaction (transaction_id, saga_id, step, kind, outcome, hash, reply, create_time) \
             values ('{transaction}', '{id}', '{step}', '{kind}', '{outcome}', {hash}, {reply}, now())"
        ))
        .await;
        for (account, amount) in entries {
            let entry = chassis::clock::new_uuid();
            let (debit, credit) = ((*amount).max(0), (-amount).max(0));
            self.run(&format!(
                "insert into ledger.entry values ('{entry}', '{transaction}', '{account}', {amount}, 'EUR'); \
                 update ledger.account set debits_minor = debits_minor + {debit}, \
                   credits_minor = credits_minor + {credit} where account_id = '{account}'"
            ))
            .await;
        }
    }
}

fn pairs<'a>(accounts: &[&'a str], amounts: &[i64]) -> Vec<(&'a str, i64)> {
    accounts.iter().copied().zip(amounts.iter().copied()).collect()
}

/// The payment of an order's charge.
pub(crate) fn payment(order: Uuid) -> Uuid {
    SagaId::from_uuid(order).derive(&name("charge"))
}

/// As a client sees it.
pub(crate) fn shown(order: Uuid) -> OrderId {
    OrderId::from_uuid(order)
}

fn name(step: &str) -> StepName {
    step.parse().unwrap()
}

/// What breaks an invariant in a report.
pub(crate) fn broken(report: &Report, invariant: Invariant) -> u64 {
    report.judged(invariant).unwrap().violations.total
}

fn journal(way: Way) -> Vec<Vec<Event>> {
    let steps = ["open", "reserve", "screen", "charge", "post", "commit", "complete"];
    let started = Event::Started {
        kind: "order".into(),
        version: 1,
        hash: -1,
        steps: steps.map(name).into(),
        skipped: Vec::new(),
        deadline: 1_800_000,
        input: r#"{"customer_id":"it's \"c_1\""}"#.into(),
    };
    let done = |step: &str| Event::StepDone { step: name(step), output: r#"{"a":"b"}"#.into() };
    let sent = |step: &str| Event::CommandSent { step: name(step), message_id: Uuid::max().to_string() };
    let answered = |step: &str| Event::CommandAnswered { step: name(step), applied: true };
    let turned = |reason: &str, steps: &[&str]| Event::TurnedRound {
        reason: reason.into(),
        metadata: [("step".to_owned(), "x".to_owned())].into(),
        take_back: steps.iter().map(|step| name(step)).collect(),
    };
    let prepared = [done("open"), done("reserve"), done("screen")].to_vec();
    let completed = Event::Finished { outcome: Outcome::Completed };
    let compensated = Event::Finished { outcome: Outcome::Compensated };
    match way {
        Way::Completed => vec![
            vec![started],
            prepared,
            vec![done("charge"), done("post"), Event::PivotPassed],
            vec![done("commit"), done("complete"), completed],
        ],
        Way::Refused => {
            let reason = "OUT_OF_STOCK".to_owned();
            let refused = Event::StepRefused { step: name("reserve"), reason, metadata: [].into() };
            vec![
                vec![started],
                vec![
                    done("open"),
                    refused,
                    turned("OUT_OF_STOCK", &["open", "charge", "post"]),
                    sent("post"),
                ],
                vec![answered("post"), sent("charge")],
                vec![answered("charge"), sent("open")],
                vec![answered("open"), compensated],
            ]
        }
        Way::Refunded | Way::Reversed => vec![
            vec![started],
            prepared,
            vec![done("charge"), Event::CancelRequested { reason: "changed their mind".into() }],
            vec![turned("CANCEL_REQUESTED", &["open", "reserve", "charge", "post"]), sent("post")],
            vec![answered("post"), sent("charge"), sent("charge")],
            vec![answered("charge"), sent("reserve")],
            vec![answered("reserve"), sent("open")],
            // A word that came too late changes nothing.
            vec![answered("open"), compensated, Event::StepFenced { step: name("commit") }],
        ],
        Way::Parked => vec![
            vec![started],
            prepared,
            vec![Event::Parked { reason: "MISMATCH".into(), detail: "charge".into() }],
        ],
    }
}
