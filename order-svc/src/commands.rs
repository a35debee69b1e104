//! One batch = one function = one transaction. Each looks at what is there, asks `chassis::barrier` and `domain` what
//! follows, and writes it in one statement.
//!
//! What a batch has read may be old by the time it writes: unique keys and expected outcomes in the statements notice,
//! and the batch runs again. Nothing here calls another process. Read next: [`open`].

pub(crate) mod cancel;
pub(crate) mod complete;
pub(crate) mod open;
