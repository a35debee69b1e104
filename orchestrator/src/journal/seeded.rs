//! What seeded bugs ask the database: never run in what people use. See `chassis::seeded`.

use chassis::sql::{Checked, Statement};
use sqlx::PgConnection;
use uuid::Uuid;

static PRESENT: Statement<(Vec<i16>,), (i16, i64)> = Statement::new(
    "select shard_id, epoch from orchestrator.fence where shard_id = any ($1) order by shard_id",
);

static SKIP: Statement<(Vec<Uuid>,)> = Statement::new(
    "update orchestrator.saga set version = version + 1 where saga_id = any ($1) and ended is not true",
);

pub(super) fn statements() -> [&'static dyn Checked; 2] {
    [&PRESENT, &SKIP]
}

/// The present epochs of these shards, whoever owns them.
pub(super) async fn present_epochs(connection: &mut PgConnection, shards: &[i16]) -> sqlx::Result<Vec<i64>> {
    let rows = PRESENT.all(connection, (shards.to_vec(),)).await?;
    Ok(rows.into_iter().map(|(_, epoch)| epoch).collect())
}

/// Counts a version that no journal row has.
pub(super) async fn skip_a_version(connection: &mut PgConnection, sagas: Vec<Uuid>) -> sqlx::Result<()> {
    SKIP.run(connection, (sagas,)).await.map(|_| ())
}
