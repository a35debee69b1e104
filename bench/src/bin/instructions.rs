//! One case of [`bench::pure`], for `cargo xtask instructions`, which counts what it executes.
#![expect(clippy::print_stdout, reason = "it lists what there is")]

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let cases = bench::pure::cases();
    let mut words = std::env::args().skip(1);
    let Some(wanted) = words.next() else {
        cases.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let (_, ready) = cases.iter().find(|(name, _)| *name == wanted).context("there is no such case")?;
    let times = words.next().context("how often?")?.parse()?;
    let mut work = ready()?;
    // What is made once, such as tables of a hash, is made before it counts.
    work();
    bench::pure::measured(times, &mut *work);
    Ok(())
}
