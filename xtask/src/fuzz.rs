//! `cargo xtask fuzz [TARGET …] [--seconds N] [--minimise]`: libFuzzer at the decoders of every door.
//!
//! It starts from the committed corpus and keeps what it finds in `target/fuzz/`, so a run goes on where the last one
//! ended; `--minimise` brings the committed corpus up to it. A decoder that breaks a promise leaves its input there, and
//! a line that repeats it. cargo-fuzz is installed into `target/tools/` when it is not there. Read next: `fuzz/src/lib.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cargo::{self, workspace_root};
use crate::child;
use crate::stop::Stop;

const HELP: &str = "\
cargo xtask fuzz [TARGET …] [--seconds N] [--minimise]

  TARGET       as the folders of fuzz/corpus/; without one, all of them, one after the other
  --seconds N  how long each is tried (default 60)
  --minimise   instead: write the smallest corpus that reaches as much as the one in target/fuzz/ into fuzz/corpus/
  FILE         a file instead of a target's name, after it: run this input once (cargo xtask fuzz open target/fuzz/…)";

/// How long a libFuzzer may take to end after a signal before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Longer inputs find what shorter ones find, slower.
const LONGEST: u32 = 4096;

/// Files of a corpus that are kept, smallest first: CI runs them all, and mutations of each.
const KEPT: usize = 150;

struct Asked {
    targets: Vec<String>,
    seconds: u32,
    minimise: bool,
    input: Option<PathBuf>,
}

impl Asked {
    fn of(arguments: &[String]) -> Result<Self> {
        let corpus = workspace_root().join("fuzz/corpus");
        let mut all: Vec<String> = fs::read_dir(&corpus)
            .with_context(|| format!("cannot read {}", corpus.display()))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        all.sort();
        let mut asked = Self { targets: Vec::new(), seconds: 60, minimise: false, input: None };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--seconds" => {
                    let number = words.next().and_then(|n| n.parse().ok());
                    asked.seconds = number.context("--seconds needs a number")?;
                }
                "--minimise" => asked.minimise = true,
                name if all.iter().any(|known| known == name) => asked.targets.push(name.to_owned()),
                file if Path::new(file).is_file() => asked.input = Some(fs::canonicalize(file)?),
                other => bail!("there is no target {other}: {}\n\n{HELP}", all.join(", ")),
            }
        }
        if asked.targets.is_empty() {
            asked.targets = all;
        }
        Ok(asked)
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if arguments.iter().any(|word| word == "-h" || word == "--help") {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let asked = Asked::of(arguments)?;
    let stop = Stop::listen()?;
    let door = build(&stop)?;
    for target in &asked.targets {
        if asked.minimise {
            minimise(&door, target, &stop)?;
            continue;
        }
        let work = folder(target)?;
        let mut command = libfuzzer(&door, target);
        match &asked.input {
            Some(input) => command.arg(input),
            None => command
                .arg(format!("-max_total_time={}", asked.seconds))
                .arg(&work)
                .arg(workspace_root().join("fuzz/corpus").join(target)),
        };
        eprintln!("+ {target}: {} s of libFuzzer", asked.seconds);
        if !child::run(command, &stop, GRACE)?.success() {
            bail!(
                "{target} breaks a promise: run the input above again with `cargo xtask fuzz {target} FILE`"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// cargo-fuzz, installed if need be.
fn tool(stop: &Stop) -> Result<PathBuf> {
    let root = workspace_root().join("target/tools");
    let tool = root.join("bin/cargo-fuzz");
    if !tool.is_file() {
        let mut install =
            cargo::command(&["install", "cargo-fuzz", "--locked", "--version", "0.13.2", "--root"]);
        install.arg(&root);
        if !cargo::run(install, stop)?.success() {
            bail!(
                "cargo-fuzz could not be installed from crates.io: install it by hand and copy it to {}; \
                 the corpus runs without it, with `cargo test -p fuzz`",
                tool.display()
            );
        }
    }
    Ok(tool)
}

/// The program that libFuzzer is linked into. No sanitizer: nothing of ours is unsafe. `RUSTC_BOOTSTRAP`, because counting
/// branches is a flag that a stable compiler takes only then.
fn build(stop: &Stop) -> Result<PathBuf> {
    let root = workspace_root();
    let built = root.join("target/fuzz-build");
    let mut build = Command::new(tool(stop)?);
    build.args([
        "fuzz",
        "build",
        "--sanitizer",
        "none",
        "--codegen-units",
        "16",
        "--fuzz-dir",
        "fuzz/libfuzzer",
    ]);
    build.arg("--target-dir");
    build.arg(&built).args(["door"]).current_dir(&root).env("RUSTC_BOOTSTRAP", "1");
    eprintln!("+ cargo fuzz build (a minute or several, once)");
    if !child::run(build, stop, GRACE)?.success() {
        bail!("libFuzzer could not be built: it needs a C++ compiler (apt-get install g++)");
    }
    let triples = fs::read_dir(&built).context("cannot read target/fuzz-build")?;
    let programs = triples.filter_map(|entry| Some(entry.ok()?.path().join("release/door")));
    programs.into_iter().find(|path| path.is_file()).context("cargo-fuzz built no program")
}

fn libfuzzer(door: &Path, target: &str) -> Command {
    let mut command = Command::new(door);
    command.env("AMENDS_FUZZ_TARGET", target).current_dir(workspace_root());
    command.args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048"]);
    command.arg(format!("-max_len={LONGEST}"));
    command.arg(format!("-artifact_prefix=target/fuzz/{target}-"));
    command
}

/// Where what was found is kept.
fn folder(target: &str) -> Result<PathBuf> {
    let folder = workspace_root().join("target/fuzz").join(target);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The smallest inputs that together reach what the whole corpus reaches, into `fuzz/corpus/`.
fn minimise(door: &Path, target: &str, stop: &Stop) -> Result<()> {
    let (work, committed) = (folder(target)?, workspace_root().join("fuzz/corpus").join(target));
    let merged = workspace_root().join("target/fuzz").join(format!("{target}.merged"));
    let _ = fs::remove_dir_all(&merged);
    fs::create_dir_all(&merged)?;
    let mut merge = libfuzzer(door, target);
    merge.arg("-merge=1").arg(&merged).arg(&committed).arg(&work);
    if !child::run(merge, stop, GRACE)?.success() {
        bail!("{target}: its corpus could not be merged");
    }
    let mut files: Vec<(u64, PathBuf)> = fs::read_dir(&merged)?
        .map(|entry| entry.and_then(|entry| Ok((entry.metadata()?.len(), entry.path()))))
        .collect::<Result<_, _>>()?;
    files.sort();
    files.truncate(KEPT);
    fs::remove_dir_all(&committed)?;
    fs::create_dir_all(&committed)?;
    for (_, file) in &files {
        fs::copy(file, committed.join(file.file_name().unwrap_or_default()))?;
    }
    eprintln!("{target}: {} inputs", files.len());
    Ok(())
}
