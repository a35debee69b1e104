//! The program `amends`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    amends::run()
}
