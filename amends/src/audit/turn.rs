//! Whose turn it is: of any number of auditors over one orchestrator's database, one audits and the others stand by.
//!
//! A lock that lasts as long as a connection: when its holder dies, or the server does, the next who asks has it. Nothing
//! depends on there being one only; two would find the same twice.

use chassis::sql::{Checked, Statement};
use sqlx::{Connection as _, PgConnection};

use super::sources::{self, Room, Sources};

/// "amends audit", as a number.
const LOCK: i64 = 0x616d_656e_6473;

static TAKE: Statement<(i64,), (bool,)> = Statement::new("select pg_try_advisory_lock($1)");

static ALIVE: Statement<(), (i32,)> = Statement::new("select 1");

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&TAKE, &ALIVE]
}

/// One auditor's claim to it.
#[derive(Debug, Default)]
pub struct Turn {
    held: Option<PgConnection>,
}

impl Turn {
    /// Whether it is this one's turn; takes it if nobody has it.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn is_mine(&mut self, sources: &Sources) -> sqlx::Result<bool> {
        if let Some(mut held) = self.held.take()
            && ALIVE.one(&mut held, ()).await.is_ok()
        {
            self.held = Some(held);
            return Ok(true);
        }
        let mut connection = sources::glance(sources, Room::Orchestrator).await?;
        if TAKE.one(&mut connection, (LOCK,)).await?.0 {
            self.held = Some(connection);
            return Ok(true);
        }
        connection.close().await?;
        Ok(false)
    }

    /// Gives it up.
    pub async fn end(self) {
        if let Some(held) = self.held {
            let _ = held.close().await;
        }
    }
}
