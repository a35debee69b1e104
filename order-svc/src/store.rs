//! Every SQL statement of orders. No decision is made here.
//!
//! A document is one row, so a step is one statement: barrier, effect and answers stand in it together. Read next:
//! `commands`.

pub(crate) mod catalog;
pub(crate) mod document;

use chassis::sql::Checked;

/// Every statement, for the SQL check.
pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    document::STATEMENTS.into_iter().chain(catalog::STATEMENTS).collect()
}
