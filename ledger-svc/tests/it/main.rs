//! The ledger against a real Postgres: each module is one behaviour. Read next: [`bed`].

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

mod bed;
mod books;
mod concurrency;
mod doors;
mod laws;
mod posting;
mod reversing;
mod sealing;
mod suspense;
