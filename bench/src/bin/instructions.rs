//! One case of [`bench::pure`], for `cargo xtask instructions`, which counts what it executes.
#![expect(clippy::print_stdout, reason = "it lists what there is")]

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let cases = bench::pure::cases();
    let Some(wanted) = std::env::args().nth(1) else {
        cases.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let (_, ready) = cases.iter().find(|(name, _)| *name == wanted).context("there is no such case")?;
    let mut work = ready()?;
    // What is made once, such as tables of a hash, is made before it counts.
    work();
    bench::pure::measured(&mut *work);
    Ok(())
}
