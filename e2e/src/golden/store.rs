//! What is read from the databases to be kept: a journal as it is stored, and what a schema forbids.

use sqlx::PgConnection;
use types::SagaId;

/// The rows of a saga's journal, oldest first, as they are stored.
pub(super) async fn journal(connection: &mut PgConnection, saga: SagaId) -> Vec<String> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "select version, events from orchestrator.journal where saga_id = $1 order by version",
    )
    .bind(saga.uuid())
    .fetch_all(connection)
    .await
    .unwrap();
    assert!(rows.iter().map(|(version, _)| *version).eq(1..=rows.len() as i64), "a journal without gaps");
    rows.into_iter().map(|(_, events)| events).collect()
}

/// Every column of these schemas: its name, its type, and whether an insert may leave it out.
pub(super) async fn columns(
    connection: &mut PgConnection,
    schemas: &[String],
) -> Vec<(String, String, bool)> {
    sqlx::query_as(
        "select table_schema || '.' || table_name || '.' || column_name, data_type::text, \
                is_nullable = 'YES' or column_default is not null or is_generated = 'ALWAYS' or is_identity = 'YES' \
         from information_schema.columns \
         where table_schema = any ($1) and table_name <> '_sqlx_migrations' order by 1",
    )
    .bind(schemas)
    .fetch_all(connection)
    .await
    .unwrap()
}

/// Everything that may forbid a write to tables of these schemas: the table, and what it is called.
pub(super) async fn rules(connection: &mut PgConnection, schemas: &[String]) -> Vec<(String, String)> {
    sqlx::query_as(
        "select n.nspname || '.' || t.relname, 'constraint ' || c.conname || ' ' || pg_get_constraintdef(c.oid) \
         from pg_constraint c join pg_class t on t.oid = c.conrelid join pg_namespace n on n.oid = t.relnamespace \
         where n.nspname = any ($1) and t.relname <> '_sqlx_migrations' and c.contype <> 'n' \
         union all \
         select n.nspname || '.' || t.relname, 'unique index ' || i.relname \
         from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid \
         join pg_namespace n on n.oid = t.relnamespace \
         where n.nspname = any ($1) and t.relname <> '_sqlx_migrations' and x.indisunique \
         union all \
         select n.nspname || '.' || t.relname, 'trigger ' || g.tgname \
         from pg_trigger g join pg_class t on t.oid = g.tgrelid join pg_namespace n on n.oid = t.relnamespace \
         where n.nspname = any ($1) and not g.tgisinternal \
         order by 1, 2",
    )
    .bind(schemas)
    .fetch_all(connection)
    .await
    .unwrap()
}
