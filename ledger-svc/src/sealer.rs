//! Seals the books: now and then, what was booked and is final goes into the next block of the chain.
//!
//! Beside the booking and never in its way: it only reads what has committed, and adds a row. Any number of instances may
//! seal, the block's number decides which of them did. What it must never do is choose: a block holds everything that is
//! final behind the last one, up to a page. Read next: [`crate::chain`], the rule; `store/chain.rs`.

use std::time::Duration;

use chassis::{clock, database, stop::Stop};
use chrono::SubsecRound as _;
use metrics::{counter, gauge};
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use crate::{
    chain::Seal,
    store::chain::{self, Block},
};

/// Transactions of a block at most: some hundred kilobytes in memory.
const PAGE: i64 = 2_000;

/// How long what is stopped waits for what is still under way elsewhere on the server, and how often it looks.
const LAST: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// The loop.
pub(crate) struct Sealer {
    pub(crate) pool: PgPool,
    pub(crate) every: Duration,
}

impl Sealer {
    /// Runs until `stop`, and then until everything is sealed, for a moment: what is stopped in peace is whole.
    pub(crate) async fn run(self, stop: Stop) {
        let mut was_well = true;
        while stop.sleep(self.every).await {
            let sealed = seal(&self.pool).await;
            match &sealed {
                Ok(0) => {}
                Ok(transactions) => tracing::debug!(transactions, "sealed"),
                Err(error) if was_well => tracing::warn!(%error, "the books cannot be sealed now"),
                Err(_) => {}
            }
            was_well = sealed.is_ok();
        }
        let until = Instant::now() + LAST;
        loop {
            // Whoever was booking commits meanwhile.
            tokio::time::sleep(PAUSE).await;
            match self.last().await {
                Ok(true) if Instant::now() < until => {}
                _ => return,
            }
        }
    }

    /// Seals, and says whether there is more to come.
    async fn last(&self) -> Result<bool, database::Trouble> {
        seal(&self.pool).await?;
        let mut connection = database::acquire(&self.pool).await?;
        Ok(chain::is_behind(&mut connection).await?)
    }
}

/// Seals everything that is final; how many transactions this caller sealed.
///
/// # Errors
/// When the database cannot be reached, or says no.
pub async fn seal(pool: &PgPool) -> Result<u64, database::Trouble> {
    let mut connection = database::acquire(pool).await?;
    let mut sealed = 0;
    loop {
        match next(&mut connection).await? {
            Next::Nothing => return Ok(sealed),
            Next::TakenByAnother => {}
            Next::Sealed { transactions, block_no } => {
                sealed += transactions;
                counter!("amends_ledger_sealed_transactions_total").increment(transactions);
                #[expect(clippy::cast_precision_loss, reason = "as metrics are")]
                gauge!("amends_ledger_chain_block").set(block_no as f64);
            }
        }
    }
}

enum Next {
    Nothing,
    TakenByAnother,
    Sealed { transactions: u64, block_no: i64 },
}

async fn next(connection: &mut PgConnection) -> Result<Next, database::Trouble> {
    let tip = chain::tip(connection).await?;
    let lines = chain::final_lines(connection, tip.last, PAGE).await?;
    if lines.is_empty() {
        return Ok(Next::Nothing);
    }
    let ids = lines.iter().map(|line| line.position.transaction).collect();
    let entries = chain::entries(connection, ids).await?;
    let block_no = tip.block_no + 1;
    let mut seal = Seal::begin(block_no, &tip.hash, tip.last);
    for line in &lines {
        let entries = entries.get(&line.position.transaction).map_or(&[][..], Vec::as_slice);
        seal.add(line, entries);
    }
    let (transactions, last) = (seal.count(), seal.last());
    // As the database will keep it.
    let create_time = clock::now().trunc_subsecs(6);
    let hash = seal.close(create_time);
    let block = Block { block_no, previous: tip.hash, hash, last, transactions, create_time };
    if chain::add(connection, &block).await? {
        Ok(Next::Sealed { transactions, block_no })
    } else {
        Ok(Next::TakenByAnother)
    }
}
