//! The integration tests: one file a behaviour. They run on a private host:
//! `make test` sees to that (`tests/host/private`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod administration;
mod audit;
mod blocking;
mod client;
mod clock;
mod completions;
mod consoles;
mod crowd;
mod curl;
mod directory;
mod doctor;
mod documents;
mod examples;
mod forge;
mod frames;
mod hostile;
mod http;
mod identity;
mod inspect;
mod interop;
mod jwt;
mod keep;
mod keys;
mod kill;
mod killed;
mod limits;
mod logs;
mod metrics;
mod newcomer;
mod node;
mod openapi;
mod packages;
mod peer;
mod policy_test;
mod presented;
mod private_host;
mod proxied;
mod python;
mod readme;
mod refresh;
mod reloading;
mod rotating;
mod run;
mod secrecy;
mod setup;
mod slurm;
mod starting;
mod state;
mod stopping;
mod tokens;
mod units;
mod verify;
mod waiting;
mod watchdog;
mod wiped;
