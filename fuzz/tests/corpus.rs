//! The corpus, run on any toolchain: every committed input, every seed, and mutations of each from a fixed seed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking and shows what it saw")]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Instant,
};

use fuzz::{TARGETS, Target};
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng};

/// Mutations that each target gets, spread over its inputs: CI looks round a bit, libFuzzer looks for long.
const MUTATIONS: usize = 4_000;
/// Each of these builds the whole command line first.
const OF_COMMAND_LINES: usize = 200;

fn folder(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let mut files: Vec<_> =
        fs::read_dir(folder(target)).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    // The order of a folder is nobody's promise, and mutations follow from it.
    files.sort();
    let committed = files.into_iter().map(|path| fs::read(path).unwrap());
    (target.seeds)().into_iter().chain([Vec::new()]).chain(committed).collect()
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(target: &Target, data: &[u8], how: &str) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(data))).is_err() {
        panic!("{} breaks a promise on {how}: {}", target.name, hex(data));
    }
}

/// What decoders get wrong: lengths, signs, ends, what is there twice.
const ODD: [u8; 12] = [0, 1, 0x0a, 0x12, 0x1a, 0x7f, 0x80, 0xff, b'0', b'_', b'-', b':'];

fn mutated(random: &mut impl Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut data = input.to_vec();
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=data.len());
        let until = random.random_range(at..=data.len().min(at + 16));
        match random.random_range(0..8) {
            0 if at < data.len() => data[at] ^= 1 << random.random_range(0..8),
            1 if at < data.len() => data[at] = ODD[random.random_range(0..ODD.len())],
            2 => data.insert(at, ODD[random.random_range(0..ODD.len())]),
            3 => drop(data.drain(at..until)),
            4 => data.truncate(at),
            5 => {
                let twice = data[at..until].to_vec();
                data.splice(at..at, twice);
            }
            6 if !other.is_empty() => {
                let from = random.random_range(0..other.len());
                data.splice(at..until, other[from..].iter().copied());
            }
            _ => data.extend_from_slice(&[0xff; 9][..random.random_range(0..9)]),
        }
    }
    data.truncate(1 << 14);
    data
}

#[test]
fn every_target_keeps_its_promises_on_its_corpus_and_round_it() {
    let begun = Instant::now();
    let (mut runs, mut files) = (0, 0);
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    for (number, target) in TARGETS.iter().enumerate() {
        let inputs = inputs(target);
        assert!((target.seeds)().len() < inputs.len(), "{}", target.name);
        for input in &inputs {
            check(target, input, "an input");
        }
        let mut random = StdRng::seed_from_u64(number as u64);
        let mutations = if target.name == "command_line" { OF_COMMAND_LINES } else { MUTATIONS };
        for n in 0..mutations {
            let other = &inputs[random.random_range(0..inputs.len())];
            let data = mutated(&mut random, &inputs[n % inputs.len()], other);
            check(target, &data, &format!("mutation {n}"));
        }
        runs += inputs.len() + mutations;
        files += inputs.len();
    }
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("{} targets, {files} inputs, {runs} runs in {seconds:.1} s", TARGETS.len());
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    names.sort();
    let corpora = fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap();
    let mut found: Vec<_> = corpora.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(names, found);
    let size: u64 = TARGETS
        .iter()
        .flat_map(|target| fs::read_dir(folder(target)).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size < 1 << 20, "{size} bytes of corpus: minimise it (cargo xtask fuzz --minimise)");
}
