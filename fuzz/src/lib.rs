//! Every decoder at a door, as a function of bytes that panics when the decoder breaks a promise.
//!
//! The promises: no input panics; what is taken is taken the same way when it is written down and read again; a value
//! that is taken keeps the rules of its type; what is refused is refused with a text that says where and why.
//! `tests/corpus.rs` runs every target over the committed corpus, and over bounded mutations of it, on any toolchain;
//! `libfuzzer/` lets libFuzzer look for more (`cargo xtask fuzz`). Nothing depends on this crate.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a target fails by panicking")]

mod messages;
mod people;
mod program;
mod steps;
mod text;
mod verdict;

/// One decoder.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As in `cargo xtask fuzz create_order`, and the folder of its corpus.
    pub name: &'static str,
    /// Decodes the bytes, and panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that are taken, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($module:ident: $($name:ident),+;)+) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[
            $($(Target { name: stringify!($name), run: $module::$name, seeds: $module::seeds::$name },)+)+
        ];
    };
}

targets! {
    people: create_order, quote, set_price, restock, set_rule, resolve;
    steps: open, complete, cancel, reserve, commit, release, screen, charge, post, reverse;
    messages: envelope, order_commands, inventory_commands, payment_commands, ledger_commands, risk_commands,
        ledger_events, notification_events, replies, step_output;
    text: ids, keys, money, page_token, review_cursor, trace, smtp_url, time;
    program: command_line, acknowledged;
}

/// Runs one target, by name: for libFuzzer.
///
/// # Panics
/// When there is none, or a promise is broken.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target {name}")).run)(data);
}
