//! The program `amends`: see the library.

use std::process::ExitCode;

/// A saga is many small allocations on many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    amends::run()
}
