//! I11, looked for everywhere: every text and every byte string of every table of every database, and the lines of logs.
//!
//! Which tables and columns there are is asked of the database, so that what is added later is looked at too. It goes
//! page by page in the order of the pages on disk. What it tells is where something stands (table, row, column; file,
//! line), and never the thing itself; a row is named by its key, unless the key is what holds it.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use chassis::sql::{Checked, Statement};
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow};

use super::{
    Error, Options, Progress,
    report::Invariant::I11,
    secrets::{Seen, Watch},
    sources::Snapshot,
    tally::Tally,
};

/// Pages of a table read at once: some thousand rows.
const PAGES: i64 = 32;
/// A line of a log is looked at in pieces of this length.
const PIECE: u64 = 1024 * 1024;

/// Schema, table, its key's columns as one text, its columns that may hold a text.
type TableRow = (String, String, String, Vec<String>, Vec<bool>);

static TABLES: Statement<(), TableRow> = Statement::new(
    "select n.nspname::text, c.relname::text, \
       coalesce((select string_agg(format('%I::text', k.attname), ' || ''/'' || ' order by array_position(i.indkey::int2[], k.attnum)) \
                 from pg_index i join pg_attribute k on k.attrelid = c.oid and k.attnum = any (i.indkey::int2[]) \
                 where i.indrelid = c.oid and i.indisprimary), ''), \
       array_agg(a.attname::text order by a.attnum), array_agg(a.atttypid = 'bytea'::regtype order by a.attnum) \
     from pg_class c join pg_namespace n on n.oid = c.relnamespace \
     join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
     where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_' \
       and a.atttypid in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'json'::regtype, 'jsonb'::regtype, \
                          'text[]'::regtype, 'bytea'::regtype) \
       and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') \
     group by n.nspname, c.relname, c.oid order by 1, 2",
);

// Rows that come after the snapshot are not in it, so what is counted after its beginning is enough.
static PAGES_OF: Statement<(String,), (i64,)> =
    Statement::new("select pg_relation_size($1::text::regclass) / current_setting('block_size')::bigint");

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&TABLES, &PAGES_OF]
}

/// Judges I11 over everything that is stored.
pub(super) async fn judge(
    snapshot: &mut Snapshot,
    tally: &mut Tally,
    options: &Options,
) -> Result<(), Error> {
    let watch = Watch::new(&options.canaries);
    if !snapshot.has_letters() {
        tally.inform(I11, "the letters' database was not given: it was not looked at".to_owned());
    }
    judge_logs(&watch, tally, options)?;
    for (schema, connection) in snapshot.connections() {
        let looked = look_at_all(connection, &watch, tally, options).await;
        looked.map_err(|source| Error::Unreadable { schema, source })?;
    }
    Ok(())
}

async fn look_at_all(
    connection: &mut PgConnection,
    watch: &Watch,
    tally: &mut Tally,
    options: &Options,
) -> sqlx::Result<()> {
    let mut done = 0;
    for (schema, name, key, columns, are_bytes) in TABLES.all(connection, ()).await? {
        let table = Table { schema, name, key, columns, are_bytes };
        let query = table.query();
        let (pages,) = PAGES_OF.one(connection, (table.full_name(),)).await?;
        let mut from = 0;
        while from < pages {
            let to = from + PAGES;
            let rows = sqlx::query(AssertSqlSafe(query.clone()))
                .bind(format!("({from},0)"))
                .bind(format!("({to},0)"))
                .fetch_all(&mut *connection)
                .await?;
            from = to;
            done += rows.len() as u64;
            tally.checked(I11, rows.len() as u64);
            (options.progress)(&Progress { what: "rows for secrets", done, of: 0 });
            for row in &rows {
                table.look(row, watch, tally)?;
            }
        }
    }
    Ok(())
}

/// A table and what of it is looked at.
struct Table {
    schema: String,
    name: String,
    /// An expression; empty for a table without a key.
    key: String,
    columns: Vec<String>,
    are_bytes: Vec<bool>,
}

impl Table {
    /// Rows between two places on disk: where each is, its key, and every column as bytes. By the pages, since whoever asks
    /// for the next so many rows in their order has all that follow sorted, each time.
    fn query(&self) -> String {
        let columns: String = self
            .columns
            .iter()
            .zip(&self.are_bytes)
            .map(|(column, is_bytes)| match is_bytes {
                true => format!(", {}", quoted(column)),
                false => format!(", convert_to({}::text, 'UTF8')", quoted(column)),
            })
            .collect();
        let key = if self.key.is_empty() { "''" } else { &self.key };
        format!(
            "select ctid::text, {key}{columns} from {} where ctid >= $1::tid and ctid < $2::tid",
            self.full_name()
        )
    }

    fn full_name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    fn look(&self, row: &PgRow, watch: &Watch, tally: &mut Tally) -> sqlx::Result<()> {
        let (place, key): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        for (at, column) in self.columns.iter().enumerate() {
            let Some(bytes) = row.try_get::<Option<&[u8]>, _>(at + 2)? else { continue };
            for seen in watch.look(bytes) {
                let key =
                    key.as_deref().filter(|key| !key.is_empty() && watch.look(key.as_bytes()).is_empty());
                let row = key.map_or_else(|| format!("the row at {place}"), str::to_owned);
                let (schema, name) = (&self.schema, &self.name);
                tally.certain(I11, format!("{schema}.{name}, {row}, {column}: {}", seen.as_str()));
            }
        }
        Ok(())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Judges I11 over files: those that are named, and all in folders that are named.
fn judge_logs(watch: &Watch, tally: &mut Tally, options: &Options) -> Result<(), Error> {
    let mut left: Vec<PathBuf> = options.logs.clone();
    while let Some(path) = left.pop() {
        let failed = |source| Error::File { path: path.clone(), source };
        if path.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                left.push(entry.map_err(failed)?.path());
            }
        } else if path.is_file() || options.logs.contains(&path) {
            look_at_file(&path, watch, tally).map_err(failed)?;
        }
    }
    Ok(())
}

fn look_at_file(path: &Path, watch: &Watch, tally: &mut Tally) -> std::io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut line, mut number) = (Vec::new(), 1_u64);
    let mut told: Vec<Seen> = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(PIECE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        for seen in watch.look(&line) {
            if !told.contains(&seen) {
                tally.certain(I11, format!("{}:{number}: {}", path.display(), seen.as_str()));
                told.push(seen);
            }
        }
        if line.ends_with(b"\n") {
            tally.checked(I11, 1);
            number += 1;
            told.clear();
        }
    }
}
