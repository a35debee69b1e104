//! Statements of the doors: the start of orders, the order projection, lists of sagas. What drives sagas is in
//! [`journal`](crate::journal).

pub mod order;
pub mod resume;
pub mod saga;
pub mod start;

use chassis::sql::Checked;

pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    [start::statements(), order::statements(), resume::statements(), saga::statements()].concat()
}
