//! One batch = one function = one transaction. Each looks at what is there, asks `domain` and `chassis::barrier` what
//! follows, and writes it: barrier rows first, then stock under lock, once per SKU.
//!
//! What a batch has read may be old by the time it writes: unique keys and expected outcomes in the statements notice,
//! and the batch runs again. Nothing here calls another process. Read next: [`reserve`].

pub(crate) mod commit;
pub(crate) mod release;
pub(crate) mod reserve;
pub(crate) mod restock;
