//! Statements that know their parameters and columns, so that a test can check every one against the real schema.
//!
//! A store declares `static RESERVE: Statement<(Vec<Uuid>, Vec<i64>), (Uuid, i64)> = Statement::new("…")`, runs it with
//! a tuple, and lists it in its crate's `statements()`. The SQL check (in `e2e`) prepares each on a migrated database
//! and compares the types. Chosen over `query!` because that compiles a second copy of sqlx for the host; the price is
//! that whether a column can be null is not checked.

use std::marker::PhantomData;

use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, Connection as _, Either, Encode, Executor as _, FromRow,
    PgConnection, Postgres, SqlSafeStr as _, Statement as _, Type, TypeInfo as _,
    postgres::{PgArguments, PgRow, PgTypeInfo},
};

use crate::{
    crash::{self, Among},
    database::in_time,
};

/// A statement with parameters `P` and rows `R`, both tuples.
pub struct Statement<P, R = ()> {
    sql: &'static str,
    among: Among,
    is_claim: bool,
    shape: PhantomData<fn(P) -> R>,
}

/// A tuple of parameters.
pub trait Params: Send {
    /// As sqlx takes them.
    ///
    /// # Errors
    /// When a value cannot be encoded, e.g. an array of more than 2³¹ elements.
    fn arguments(self) -> sqlx::Result<PgArguments>;
    /// Whether these are the types the statement wants.
    fn matches(wanted: &[PgTypeInfo]) -> Result<(), String>;
}

/// A tuple of columns.
pub trait Columns {
    /// Whether these are the types the statement gives.
    fn matches(given: &[PgTypeInfo]) -> Result<(), String>;
}

impl<P, R> Statement<P, R>
where
    P: Params,
    R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    /// Declares it.
    #[must_use]
    pub const fn new(sql: &'static str) -> Self {
        Self { sql, among: Among::Work, is_claim: false, shape: PhantomData }
    }

    /// It runs whether there is work or not: its crash points are counted apart.
    #[must_use]
    pub const fn by_the_clock(self) -> Self {
        Self { among: Among::Clock, ..self }
    }

    /// It is asked again and again, and mostly touches nothing: only what was taken is a crash point.
    #[must_use]
    pub const fn as_claim(self) -> Self {
        Self { is_claim: true, ..self }
    }

    /// A write that is a commit of its own passes crash points.
    fn point(&self, connection: &PgConnection) -> Option<Point> {
        if !crash::is_armed() || connection.is_in_transaction() {
            return None;
        }
        let what = written(self.sql)?;
        Some(Point { what, among: self.among, is_claim: self.is_claim })
    }

    /// All rows.
    pub async fn all(&self, connection: &mut PgConnection, parameters: P) -> sqlx::Result<Vec<R>> {
        let point = self.point(connection);
        before(point.as_ref());
        let rows: Vec<R> =
            in_time(sqlx::query_as_with(self.sql, parameters.arguments()?).fetch_all(connection)).await?;
        after(point.as_ref(), !rows.is_empty());
        Ok(rows)
    }

    /// The only row.
    pub async fn one(&self, connection: &mut PgConnection, parameters: P) -> sqlx::Result<R> {
        let point = self.point(connection);
        before(point.as_ref());
        let row =
            in_time(sqlx::query_as_with(self.sql, parameters.arguments()?).fetch_one(connection)).await?;
        after(point.as_ref(), true);
        Ok(row)
    }

    /// The only row, if there is one.
    pub async fn maybe(&self, connection: &mut PgConnection, parameters: P) -> sqlx::Result<Option<R>> {
        let point = self.point(connection);
        before(point.as_ref());
        let row: Option<R> =
            in_time(sqlx::query_as_with(self.sql, parameters.arguments()?).fetch_optional(connection))
                .await?;
        after(point.as_ref(), row.is_some());
        Ok(row)
    }

    /// Runs it; how many rows it touched.
    pub async fn run(&self, connection: &mut PgConnection, parameters: P) -> sqlx::Result<u64> {
        let point = self.point(connection);
        before(point.as_ref());
        let done = in_time(sqlx::query_with(self.sql, parameters.arguments()?).execute(connection)).await?;
        after(point.as_ref(), done.rows_affected() > 0);
        Ok(done.rows_affected())
    }
}

/// The crash points of a write.
struct Point {
    what: String,
    among: Among,
    is_claim: bool,
}

fn before(point: Option<&Point>) {
    if let Some(point) = point.filter(|point| !point.is_claim) {
        crash::pass(point.among, "before", &point.what);
    }
}

fn after(point: Option<&Point>, touched: bool) {
    if let Some(point) = point.filter(|point| touched || !point.is_claim) {
        crash::pass(point.among, "after", &point.what);
    }
}

/// What a statement writes, as in `insert orchestrator.journal`: the first table that it adds rows to, else the first that
/// it changes. None when it only reads.
fn written(sql: &str) -> Option<String> {
    let verbs = [("insert", " into "), ("delete", " from "), ("update", " ")];
    verbs.into_iter().find_map(|(verb, rest)| {
        let words = [verb, rest].concat();
        let mut places = sql.match_indices(&words).filter_map(|(at, _)| {
            sql[at + words.len()..].split(|c: char| c.is_whitespace() || c == '(').next()
        });
        // Tables have a schema everywhere; what follows in `for update skip locked` has none.
        let table = places.find(|table| table.contains('.'))?;
        Some(format!("{verb} {table}"))
    })
}

/// A statement, seen by the check.
pub trait Checked: Sync {
    /// The text.
    fn sql(&self) -> &str;
    /// Compares types with what the database says.
    fn matches(&self, parameters: &[PgTypeInfo], columns: &[PgTypeInfo]) -> Result<(), String>;
}

impl<P: Params, R: Columns> Checked for Statement<P, R> {
    fn sql(&self) -> &str {
        self.sql
    }

    fn matches(&self, parameters: &[PgTypeInfo], columns: &[PgTypeInfo]) -> Result<(), String> {
        P::matches(parameters)?;
        R::matches(columns)
    }
}

/// The types of a statement's parameters and columns, as a migrated database tells them.
///
/// # Errors
/// Why it cannot be prepared; it names the statement.
pub async fn describe(
    connection: &mut PgConnection,
    text: &str,
) -> Result<(Vec<PgTypeInfo>, Vec<PgTypeInfo>), String> {
    let prepared = connection
        .prepare(AssertSqlSafe(text.to_owned()).into_sql_str())
        .await
        .map_err(|e| format!("{e}\n{text}"))?;
    let parameters = match prepared.parameters() {
        Some(Either::Left(types)) => types.to_vec(),
        _ => return Err(format!("the driver does not tell the parameters\n{text}")),
    };
    Ok((parameters, prepared.columns().iter().map(|c| c.type_info().clone()).collect()))
}

/// Prepares a statement on a migrated database and compares its types. The error names the statement.
pub async fn check(connection: &mut PgConnection, statement: &dyn Checked) -> Result<(), String> {
    let text = statement.sql();
    let (parameters, columns) = describe(connection, text).await?;
    statement.matches(&parameters, &columns).map_err(|e| format!("{e}\n{text}"))
}

fn compare<T: Type<Postgres>>(what: &str, index: usize, found: &PgTypeInfo) -> Result<(), String> {
    if T::compatible(found) {
        return Ok(());
    }
    let index = index + 1;
    Err(format!("{what} {index} is {} in the database, {} in the code", found.name(), T::type_info().name()))
}

fn count(what: &str, found: usize, declared: usize) -> Result<(), String> {
    if found == declared {
        Ok(())
    } else {
        Err(format!("{found} {what} in the database, {declared} in the code"))
    }
}

/// Bytes that a parameter mostly takes at most: a slice's column.
const COLUMN: usize = 256;

macro_rules! params {
    ($n:literal: $($t:ident $i:tt),*) => {
        impl<$($t),*> Params for ($($t,)*)
        where
            $($t: for<'q> Encode<'q, Postgres> + Type<Postgres> + Send,)*
        {
            fn arguments(self) -> sqlx::Result<PgArguments> {
                let mut arguments = PgArguments::default();
                arguments.reserve($n, $n * COLUMN);
                $(arguments.add(self.$i).map_err(sqlx::Error::Encode)?;)*
                Ok(arguments)
            }

            fn matches(wanted: &[PgTypeInfo]) -> Result<(), String> {
                count("parameters", wanted.len(), $n)?;
                $(compare::<$t>("parameter", $i, &wanted[$i])?;)*
                Ok(())
            }
        }
    };
}

macro_rules! columns {
    ($n:literal: $($t:ident $i:tt),*) => {
        impl<$($t),*> Columns for ($($t,)*)
        where
            $($t: Type<Postgres>,)*
        {
            fn matches(given: &[PgTypeInfo]) -> Result<(), String> {
                count("columns", given.len(), $n)?;
                $(compare::<$t>("column", $i, &given[$i])?;)*
                Ok(())
            }
        }
    };
}

impl Params for () {
    fn arguments(self) -> sqlx::Result<PgArguments> {
        Ok(PgArguments::default())
    }

    fn matches(wanted: &[PgTypeInfo]) -> Result<(), String> {
        count("parameters", wanted.len(), 0)
    }
}

params!(1: A 0);
params!(2: A 0, B 1);
params!(3: A 0, B 1, C 2);
params!(4: A 0, B 1, C 2, D 3);
params!(5: A 0, B 1, C 2, D 3, E 4);
params!(6: A 0, B 1, C 2, D 3, E 4, F 5);
params!(7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
params!(8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
params!(9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
params!(10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
params!(11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
params!(12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
params!(13: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);
params!(14: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13);
params!(15: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14);
params!(16: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15);
params!(17: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16);
params!(18: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17);
params!(19: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18);
params!(20: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19);
params!(21: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19, U 20);
params!(22: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19, U 20, V 21);
params!(23: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19, U 20, V 21, W 22);
params!(24: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19, U 20, V 21, W 22, X 23);
impl Columns for () {
    fn matches(_: &[PgTypeInfo]) -> Result<(), String> {
        // Whatever the statement gives, nobody reads it.
        Ok(())
    }
}

params!(26: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19, U 20, V 21, W 22, X 23, Y 24, Z 25);
params!(27: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19, U 20, V 21, W 22, X 23, Y 24, Z 25, AA 26);
params!(28: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19, U 20, V 21, W 22, X 23, Y 24, Z 25, AA 26, AB 27);
columns!(1: A 0);
columns!(2: A 0, B 1);
columns!(3: A 0, B 1, C 2);
columns!(4: A 0, B 1, C 2, D 3);
columns!(5: A 0, B 1, C 2, D 3, E 4);
columns!(6: A 0, B 1, C 2, D 3, E 4, F 5);
columns!(7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
columns!(8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
columns!(9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
columns!(10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
columns!(11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
columns!(12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
columns!(13: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);
columns!(14: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13);
columns!(15: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14);
columns!(16: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_statement_writes_is_read_from_it() {
        let none =
            ["select a from b.c", "select a from b.c order by a limit 1 for no key update skip locked"];
        for sql in none {
            assert_eq!(written(sql), None, "{sql}");
        }
        assert_eq!(written("insert into a.b (c) values ($1)").as_deref(), Some("insert a.b"));
        assert_eq!(written("delete from a.b where c").as_deref(), Some("delete a.b"));
        let claim = "update a.b x set y from (select z from a.b for update skip locked) due";
        assert_eq!(written(claim).as_deref(), Some("update a.b"));
        let several = "with f as (select 1 for share), w as (update a.b set x) insert into a.c select 1";
        assert_eq!(written(several).as_deref(), Some("insert a.c"));
    }
}
