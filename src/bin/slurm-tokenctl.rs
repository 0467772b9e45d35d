//! Makes, publishes and checks keys.

use std::alloc::System;

use zeroizing_alloc::ZeroAlloc;

/// Memory is wiped when it's given back. `rsa` wipes a finished key only: the
/// primes that it was made from, and all numbers on the way, would stay.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> std::process::ExitCode {
    slurm_tokend::admin::main()
}
