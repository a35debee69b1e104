//! The outbox: messages committed with the decision that caused them, and the relay that brings them to the bus.
//!
//! Every schema has a table `<schema>.outbox` of the same shape (`outbox_ddl!`). A command inserts its messages in its own
//! transaction with [`Outbox::insert`] and, after the commit, hands them to the [`Relay`], which publishes and then
//! deletes in batches. What was not handed over (a crash between commit and delivery) is found by the sweep: rows not
//! yet sent and older than 2 s, claimed with `skip locked`, never by a cursor over ids, because ids do not commit in
//! order. No connection is held while the bus is called.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row as _, SqlSafeStr as _};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use crate::{
    bus::{Bus, Exchange, LADDER, Message, Published},
    crash,
    database::{Trouble, Warm, in_time},
    seeded::{self, Bug},
    slots::slot,
    stop::Stop,
};

/// The table, for a schema's first migration. `dead_time` is set on what can never be delivered; such rows stay.
#[macro_export]
macro_rules! outbox_ddl {
    ($schema:literal) => {
        concat!(
            "create table ", $schema, ".outbox (",
            " outbox_id uuid constraint outbox_pk primary key,",
            " exchange text not null constraint outbox_exchange_known check (exchange in ('commands', 'replies', 'events')),",
            " routing_key text not null, kind text not null, body bytea not null, headers text not null,",
            " create_time timestamptz not null, attempt integer not null default 0,",
            " not_before timestamptz, dead_time timestamptz, dead_reason text",
            ") with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);"
        )
    };
}

/// A schema's outbox: its statements.
#[derive(Debug, Clone)]
pub struct Outbox {
    source: &'static str,
    insert: String,
    claim: String,
    delete: String,
    later: String,
    dead: String,
    backlog: String,
}

impl Outbox {
    /// The outbox of `schema`; `source` is the service's name on the bus.
    #[must_use]
    pub fn new(schema: &'static str, source: &'static str) -> Self {
        Self {
            source,
            insert: format!(
                "insert into {schema}.outbox (outbox_id, exchange, routing_key, kind, body, headers, create_time) \
                 select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::timestamptz[])"
            ),
            // Ids follow time, near enough for whom to serve first. `not_before` doubles as the claim: a relay that dies with
            // rows in hand leaves them to the next sweep. What nobody claimed is its writer's for a moment; a time far ahead is
            // a clock that was wrong. An array is made once: joined, what is due would be looked for again for every row there
            // is, by a plan made while there was none, which is how an outbox mostly is.
            claim: format!(
                "update {schema}.outbox o set not_before = now() + interval '30 seconds' \
                 where o.outbox_id = any (array( \
                       select outbox_id from {schema}.outbox where dead_time is null \
                       and ($2::boolean or not_before < now() or (not_before is null and create_time not between \
                         now() - make_interval(secs => $1) and now() + make_interval(secs => $1))) \
                       order by outbox_id limit 500 for update skip locked)) \
                 returning o.outbox_id, o.exchange, o.routing_key, o.kind, o.body, o.headers, o.create_time, o.attempt"
            ),
            delete: format!("delete from {schema}.outbox where outbox_id = any ($1::uuid[])"),
            later: format!(
                "update {schema}.outbox set attempt = ($2::integer[])[array_position($1::uuid[], outbox_id)], \
                   not_before = now() \
                     + make_interval(secs => ($3::double precision[])[array_position($1::uuid[], outbox_id)]) \
                 where outbox_id = any ($1::uuid[])"
            ),
            // The saga is told in the same statement: either the row is dead and the notice is on its way, or neither.
            // A dead row that is marked again (its claim was lost) finds its notice there: hence `on conflict`.
            dead: format!(
                "with dead as (update {schema}.outbox set dead_time = now(), dead_reason = $2, attempt = attempt + 1 \
                   where outbox_id = $1 and dead_time is null returning outbox_id) \
                 insert into {schema}.outbox (outbox_id, exchange, routing_key, kind, body, headers, create_time) \
                 select $3, $4, $5, $6, $7, $8, $9 from dead where $10 on conflict (outbox_id) do nothing"
            ),
            // Bounded, so that a backlog is not made worse by being counted.
            backlog: format!(
                "select count(*), coalesce(extract(epoch from now() - min(o.create_time)), 0)::double precision \
                 from (select create_time from {schema}.outbox where dead_time is null order by outbox_id limit 10000) o"
            ),
        }
    }

    /// The service's name on the bus.
    #[must_use]
    pub const fn source(&self) -> &'static str {
        self.source
    }

    /// Every statement, for the SQL check.
    #[must_use]
    pub fn statements(&self) -> [&str; 6] {
        [&self.insert, &self.claim, &self.delete, &self.later, &self.dead, &self.backlog]
    }

    /// Stores messages in the caller's transaction.
    ///
    /// # Errors
    /// What the database said.
    pub async fn insert(&self, connection: &mut PgConnection, messages: &[Message]) -> sqlx::Result<()> {
        if messages.is_empty() || seeded::is(Bug::OutboxBesidesTheCommit) {
            return Ok(());
        }
        let columns = Columns::of(messages);
        let insert = sqlx::query(AssertSqlSafe(self.insert.clone()).into_sql_str())
            .bind(columns.ids)
            .bind(columns.exchanges)
            .bind(columns.routing_keys)
            .bind(columns.kinds)
            .bind(columns.bodies)
            .bind(columns.headers)
            .bind(columns.times)
            .execute(connection);
        in_time(insert).await?;
        Ok(())
    }

    /// Takes what is older than `age` and in nobody's hand; or everything, whoever had it in hand.
    async fn claim(&self, pool: &PgPool, age: Duration, everything: bool) -> sqlx::Result<Vec<Message>> {
        let claim = sqlx::query(AssertSqlSafe(self.claim.clone()).into_sql_str())
            .bind(age.as_secs_f64())
            .bind(everything)
            .fetch_all(pool);
        let rows = in_time(claim).await?;
        rows.into_iter().map(|row| self.read(&row)).collect()
    }

    fn read(&self, row: &sqlx::postgres::PgRow) -> sqlx::Result<Message> {
        let exchange: String = row.try_get(1)?;
        let headers: String = row.try_get(5)?;
        let attempt: i32 = row.try_get(7)?;
        Ok(Message {
            id: row.try_get(0)?,
            exchange: Exchange::parse(&exchange)
                .ok_or_else(|| sqlx::Error::Decode("unknown exchange".into()))?,
            routing_key: row.try_get(2)?,
            kind: row.try_get(3)?,
            source: self.source.to_owned(),
            body: row.try_get(4)?,
            headers: serde_json::from_str(&headers).map_err(|e| sqlx::Error::Decode(e.into()))?,
            time: row.try_get(6)?,
            attempt: u32::try_from(attempt).unwrap_or(0),
        })
    }
}

/// Messages as the columns of an `unnest` insert: for stores that write their outbox rows in a statement of their own.
#[derive(Debug, Default)]
pub struct Columns {
    /// `outbox_id`
    pub ids: Vec<Uuid>,
    /// `exchange`
    pub exchanges: Vec<String>,
    /// `routing_key`
    pub routing_keys: Vec<String>,
    /// `kind`
    pub kinds: Vec<String>,
    /// `body`
    pub bodies: Vec<Vec<u8>>,
    /// `headers`, JSON
    pub headers: Vec<String>,
    /// `create_time`
    pub times: Vec<DateTime<Utc>>,
}

impl Columns {
    /// The columns of these messages.
    #[must_use]
    pub fn of(messages: &[Message]) -> Self {
        let mut columns = Self::default();
        for message in messages {
            columns.ids.push(message.id);
            columns.exchanges.push(message.exchange.as_str().to_owned());
            columns.routing_keys.push(message.routing_key.clone());
            columns.kinds.push(message.kind.clone());
            columns.bodies.push(message.body.clone());
            columns.headers.push(serde_json::to_string(&message.headers).unwrap_or_else(|_| "{}".into()));
            columns.times.push(message.time);
        }
        columns
    }
}

/// The backlog is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Events go, and what was sent is deleted, together with what comes within this time: nothing waits for it, and a statement
/// costs more than a row. Commands and their answers go at once. After a crash the sweep finds what had not gone, and what had
/// gone is sent again.
const LINGER: Duration = Duration::from_millis(50);

/// How the relay works.
#[derive(Debug, Clone, Copy)]
pub struct RelayOptions {
    /// The sweep takes rows older than this.
    pub sweep_age: Duration,
    /// And looks this often.
    pub sweep_every: Duration,
    /// Messages published at once.
    pub window: usize,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self { sweep_age: Duration::from_secs(2), sweep_every: Duration::from_secs(1), window: 500 }
    }
}

/// Brings outbox rows to the bus. Cheap to clone.
#[derive(Clone)]
pub struct Relay {
    hand: mpsc::UnboundedSender<Vec<Message>>,
    /// A bus within the process holds handlers that hold relays.
    bus: Weak<dyn Bus>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

impl Relay {
    /// Starts the relay of an outbox.
    pub fn new(pool: Warm, outbox: Outbox, bus: Arc<dyn Bus>, options: RelayOptions, stop: &Stop) -> Self {
        let (hand, handed) = mpsc::unbounded_channel();
        let runner = Runner {
            pool,
            outbox,
            bus: Arc::clone(&bus),
            options,
            held: Held::default(),
            sent: Held::default(),
            stop: stop.clone(),
        };
        stop.spawn(async move { runner.run(handed).await });
        Self { hand, bus: Arc::downgrade(&bus) }
    }

    /// Leaves out what nobody could want: it need not be stored.
    pub fn keep_wanted(&self, messages: &mut Vec<Message>) {
        if let Some(bus) = self.bus.upgrade() {
            messages.retain(|message| bus.is_wanted(message));
        }
    }

    /// Hands over what was just committed. Losing it (a crash here) costs the sweep's age, nothing else.
    pub fn hand(&self, messages: Vec<Message>) {
        if !messages.is_empty() {
            let _ = self.hand.send(messages);
        }
    }
}

struct Runner {
    pool: Warm,
    outbox: Outbox,
    bus: Arc<dyn Bus>,
    options: RelayOptions,
    /// Events that go soon.
    held: Held<Message>,
    /// Safe with the bus, and to be deleted.
    sent: Held<Uuid>,
    stop: Stop,
}

/// What lingers for others of its kind.
struct Held<T> {
    items: Vec<T>,
    /// When all of it goes.
    due: Instant,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { items: Vec::new(), due: Instant::now() }
    }
}

impl<T> Held<T> {
    fn extend(&mut self, items: impl IntoIterator<Item = T>) {
        if self.items.is_empty() {
            self.due = Instant::now() + LINGER;
        }
        self.items.extend(items);
    }

    /// Until there is something that has to go.
    async fn due(&self) {
        if self.items.is_empty() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(self.due).await;
    }

    /// All of it, if it is time or there are so many.
    fn take(&mut self, enough: usize) -> Vec<T> {
        let go = self.items.len() >= enough || Instant::now() >= self.due;
        if go { std::mem::take(&mut self.items) } else { Vec::new() }
    }
}

impl Runner {
    async fn run(mut self, mut handed: mpsc::UnboundedReceiver<Vec<Message>>) {
        // Where nobody else relays these rows, those that are there now were left by a death: whatever it had in hand is
        // free. Beside others only age tells what nobody has in hand.
        let mut everything = self.bus.is_of_one_process();
        let mut next_sweep = Instant::now();
        let mut next_look = next_sweep;
        while !self.stop.is_wanted() {
            let mut handed_now = Vec::new();
            tokio::select! {
                biased;
                () = self.stop.wanted() => break,
                first = handed.recv() => match first {
                    Some(messages) => handed_now = messages,
                    None => break,
                },
                () = self.held.due() => {}
                () = self.sent.due() => {}
                () = tokio::time::sleep_until(next_sweep) => {}
            }
            while handed_now.len() < self.options.window {
                match handed.try_recv() {
                    Ok(more) => handed_now.extend(more),
                    Err(_) => break,
                }
            }
            let (events, mut batch): (Vec<_>, Vec<_>) =
                handed_now.into_iter().partition(|message| message.exchange == Exchange::Events);
            self.held.extend(events);
            batch.extend(self.held.take(self.options.window));
            if !batch.is_empty() {
                self.relay(batch).await;
            }
            let sent = self.sent.take(self.options.window);
            self.delete(sent).await;
            if Instant::now() >= next_sweep {
                // A publish may have taken so long that all of this is old enough for the sweep.
                self.let_go().await;
                self.sweep(std::mem::take(&mut everything)).await;
                next_sweep = Instant::now() + self.options.sweep_every;
            }
            if Instant::now() >= next_look {
                self.look().await;
                next_look = Instant::now() + LOOK_EVERY;
            }
        }
        self.let_go().await;
    }

    /// Whatever lingers lingers no longer.
    async fn let_go(&mut self) {
        let held = self.held.take(0);
        if !held.is_empty() {
            self.relay(held).await;
        }
        let sent = self.sent.take(0);
        self.delete(sent).await;
    }

    /// Shows what is not sent yet, and for how long the oldest has not been.
    async fn look(&self) {
        let look = sqlx::query(AssertSqlSafe(self.outbox.backlog.clone()).into_sql_str());
        let seen = in_time(look.fetch_one(&*self.pool)).await;
        if let Ok((rows, oldest)) = seen.and_then(|row| Ok((row.try_get::<i64, _>(0)?, row.try_get(1)?))) {
            let rows = u32::try_from(rows).unwrap_or(u32::MAX);
            metrics::gauge!("amends_outbox_rows", "service" => self.outbox.source).set(f64::from(rows));
            metrics::gauge!("amends_outbox_oldest_seconds", "service" => self.outbox.source)
                .set::<f64>(oldest);
        }
    }

    async fn sweep(&mut self, everything: bool) {
        match self.outbox.claim(&self.pool, self.options.sweep_age, everything).await {
            Ok(messages) if messages.is_empty() => {}
            Ok(mut messages) => {
                if seeded::is(Bug::CursorOutbox) {
                    messages.retain(|message| seeded::is_behind_the_cursor(message.id));
                }
                crash::point("after claim of messages", self.outbox.source);
                metrics::counter!("amends_outbox_swept_total", "service" => self.outbox.source)
                    .increment(u64::try_from(messages.len()).unwrap_or(0));
                self.relay(messages).await;
            }
            Err(error) => tracing::warn!(service = self.outbox.source, %error, "cannot sweep the outbox"),
        }
    }

    async fn relay(&mut self, messages: Vec<Message>) {
        // A message may come by hand and by sweep: once in a batch is enough.
        let mut seen = HashSet::new();
        let messages: Vec<_> = messages.into_iter().filter(|m| seen.insert(m.id)).collect();
        if seeded::is(Bug::OutboxRowDeletedFirst) {
            self.delete(messages.iter().map(|m| m.id).collect()).await;
        }
        crash::point("before publish", self.outbox.source);
        let outcomes = self.bus.publish(&messages).await;
        crash::point("after publish", self.outbox.source);
        let mut later = (Vec::new(), Vec::new(), Vec::new());
        for (message, outcome) in messages.iter().zip(outcomes) {
            match outcome {
                Published::Safe => self.sent.extend([message.id]),
                Published::NotYet(why) => {
                    tracing::debug!(message.id = %message.id, kind = message.kind, why, "not yet");
                    later.0.push(message.id);
                    later.1.push(i32::try_from(message.attempt).unwrap_or(i32::MAX));
                    later.2.push(1.0);
                }
                Published::Later(why) => match LADDER.get(message.attempt as usize) {
                    Some(delay) => {
                        tracing::warn!(message.id = %message.id, kind = message.kind, attempt = message.attempt, why, "again later");
                        later.0.push(message.id);
                        later.1.push(i32::try_from(message.attempt + 1).unwrap_or(i32::MAX));
                        later.2.push(delay.as_secs_f64());
                    }
                    None => self.bury(message, &why).await,
                },
                Published::Dead(why) => self.bury(message, &why).await,
            }
        }
        self.put_off(later).await;
    }

    async fn delete(&self, sent: Vec<Uuid>) {
        if !sent.is_empty() {
            let delete = sqlx::query(AssertSqlSafe(self.outbox.delete.clone()).into_sql_str()).bind(sent);
            crash::point("before delete of what was sent", self.outbox.source);
            let _slot = slot().await;
            let deleted = match self.pool.connection().await {
                Ok(mut connection) => in_time(delete.execute(&mut *connection)).await.map_err(Trouble::from),
                Err(trouble) => Err(trouble),
            };
            if let Err(error) = deleted {
                // They will be published again; whoever handles them absorbs that.
                tracing::warn!(service = self.outbox.source, %error, "cannot delete what was sent");
            }
            crash::point("after delete of what was sent", self.outbox.source);
        }
    }

    async fn put_off(&self, later: (Vec<Uuid>, Vec<i32>, Vec<f64>)) {
        if !later.0.is_empty() {
            let update = sqlx::query(AssertSqlSafe(self.outbox.later.clone()).into_sql_str())
                .bind(later.0)
                .bind(later.1)
                .bind(later.2);
            crash::point("before putting off messages", self.outbox.source);
            if let Err(error) = in_time(update.execute(&*self.pool)).await {
                tracing::warn!(service = self.outbox.source, %error, "cannot put messages off");
            }
            crash::point("after putting off messages", self.outbox.source);
        }
    }

    async fn bury(&self, message: &Message, why: &str) {
        tracing::error!(message.id = %message.id, kind = message.kind, why, "a message is dead");
        metrics::counter!("amends_outbox_dead_total", "service" => self.outbox.source).increment(1);
        let notice = message.dead_notice(why);
        let headers = serde_json::to_string(&notice.headers).unwrap_or_else(|_| "{}".into());
        let tell = message.has_saga() && !seeded::is(Bug::DeadCommandWithoutSignal);
        let bury = sqlx::query(AssertSqlSafe(self.outbox.dead.clone()).into_sql_str())
            .bind(message.id)
            .bind(why)
            .bind(notice.id)
            .bind(notice.exchange.as_str())
            .bind(notice.routing_key)
            .bind(notice.kind)
            .bind(notice.body)
            .bind(headers)
            .bind(notice.time)
            .bind(tell);
        crash::point("before burying a message", self.outbox.source);
        if let Err(error) = in_time(bury.execute(&*self.pool)).await {
            tracing::warn!(message.id = %message.id, %error, "cannot bury a dead message");
        }
        crash::point("after burying a message", self.outbox.source);
    }
}
