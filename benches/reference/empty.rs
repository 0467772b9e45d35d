//! The least that a process costs: what `slurm-token` is measured against.

fn main() {}
