//! Short-lived Slurm tokens for the users of a login node.
//!
//! Data flows one way, from top to bottom; no module calls one below it in
//! this list except through the arguments it is given:
//!
//! ```text
//!  slurm-token           slurm-tokend                        slurm-tokenctl
//!  client ──wire──▶ daemon: caller ▶ account ▶ policy ▶ issue ▶ audit ▶ wire
//!                           ▲                   ▲        ▲
//!                         kernel              config    keys ◀── admin
//! ```

/// Accounts of the machine, through NSS.
pub mod account;
/// The program `slurm-tokenctl`.
pub mod admin;
/// The record of each decision; no secret can enter it.
pub mod audit;
/// Who is blocked on this node. Pure.
pub mod block;
/// What the kernel says of a peer.
pub mod caller;
/// The program `slurm-token`.
pub mod client;
/// The configuration file: its text becomes a checked `Config`, or all its problems.
pub mod config;
/// The program `slurm-tokend`.
pub mod daemon;
/// From a `Grant` and a key to a token: the only signer.
pub mod issue;
/// Standard error, without ever waiting for its reader.
pub mod journal;
/// Keys: their files, their formats, their public sets.
pub mod keys;
/// Who may get what: the only maker of a `Grant`. Pure.
pub mod policy;
/// What went wrong, where, and what to do about it.
pub mod report;
/// What must outlive the daemon: small files in its state directory.
pub mod state;
/// Tokens: lifespans, claims and the compact form. Pure.
pub mod token;
/// Frames, limits and codes of the protocol: shared by daemon and client.
pub mod wire;
