//! The door that `AMENDS_FUZZ_TARGET` names, knocked at by libFuzzer. See `cargo xtask fuzz`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static NAME: LazyLock<String> =
    LazyLock::new(|| std::env::var("AMENDS_FUZZ_TARGET").expect("AMENDS_FUZZ_TARGET names a target"));

fuzz_target!(|data: &[u8]| fuzz::run(&NAME, data));
