//! How often a saga was in hand when its owner died: five times in a row, and it is kept from killing every instance.
//!
//! An owner that was only asleep, and finds its sagas taken over, says that it is alive: they did not kill it.

use chassis::sql::{Checked, Statement};
use sqlx::PgConnection;
use types::SagaId;
use uuid::Uuid;

/// Counts the take-overs after a death of sagas with work in hand; 30 s of life in between forgive.
static COUNT: Statement<(Vec<Uuid>, Vec<i16>, Vec<i64>), (Uuid, i32)> = Statement::new(
    "with fence as materialized ( \
       select f.shard_id from orchestrator.fence f \
       join unnest($2::smallint[], $3::bigint[]) as o (shard_id, epoch) on o.shard_id = f.shard_id and o.epoch = f.epoch \
       order by f.shard_id for share of f) \
     update orchestrator.saga s \
     set resumes = case when s.resume_time > now() - interval '30 seconds' then s.resumes + 1 else 1 end, resume_time = now() \
     from fence where fence.shard_id = s.shard_id and s.saga_id = any ($1::uuid[]) \
     returning s.saga_id, s.resumes",
);

static ACQUIT: Statement<(Vec<i16>,)> = Statement::new(
    "update orchestrator.saga s set resumes = 0 \
     from (select saga_id from orchestrator.saga where shard_id = any ($1) and not ended and resumes > 0 \
           order by saga_id for update) a \
     where s.saga_id = a.saga_id",
)
.by_the_clock();

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&COUNT, &ACQUIT]
}

/// Counts a resume for sagas taken over from the dead; how many each has now. Sagas of lost shards are left out.
///
/// # Errors
/// What the database said.
pub async fn count(
    connection: &mut PgConnection,
    sagas: &[SagaId],
    owned: &[(i16, i64)],
) -> sqlx::Result<Vec<(SagaId, i32)>> {
    let (shards, epochs) = owned.iter().copied().unzip();
    let ids = sagas.iter().map(|s| s.uuid()).collect();
    let rows = COUNT.all(connection, (ids, shards, epochs)).await?;
    Ok(rows.into_iter().map(|(id, resumes)| (SagaId::from_uuid(id), resumes)).collect())
}

/// Counts nothing against the sagas of shards whose owner was thought dead and is not.
///
/// # Errors
/// What the database said.
pub async fn acquit(connection: &mut PgConnection, shards: &[i16]) -> sqlx::Result<()> {
    ACQUIT.run(connection, (shards.to_vec(),)).await.map(|_| ())
}
