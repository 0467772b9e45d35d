//! What the administrators' operations answer.

use serde::{Deserialize, Serialize};

use crate::block::Block;

/// What `status` answers. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's release.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started_at: u64,
    /// Its configuration file.
    pub configuration: String,
    /// When that was read last.
    pub configured_at: u64,
    /// The key that signs.
    pub key: KeyStatus,
    /// Connections that are open.
    pub connections: usize,
    /// Connections that may be open at once.
    pub connections_limit: usize,
    /// RSA signatures that wait for their turn.
    pub signatures_waiting: usize,
    /// Account look-ups that are under way.
    pub lookups: usize,
    /// Users that the ledger knows.
    pub users: usize,
    /// Tokens issued since the start that haven't expired: at most so many.
    pub live_tokens: u64,
    /// Tokens issued since the start.
    pub issued: u64,
    /// What the ledger had to forget for want of room.
    pub forgotten: Forgotten,
    /// Users that are blocked.
    pub blocked: usize,
    /// Can the audit log be reached now; why not, where it can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_trouble: Option<String>,
    /// Audit records that were lost since the start.
    pub audit_lost: u64,
}

/// The key that signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// Its name.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: String,
    /// When its file was last changed, in seconds since 1970, where that can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<u64>,
    /// When the last token expires that was signed with it since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_expiry: Option<u64>,
}

/// What the ledger had to forget for want of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// So many users.
    pub users: u64,
    /// Their tokens that were live then.
    pub live_tokens: u64,
    /// When the last of those expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_expiry: Option<u64>,
}

/// What `sessions` answers: users by their uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Nothing before this is known: the daemon's start, in seconds since 1970.
    pub since: u64,
    /// As many users as one answer holds.
    pub users: Vec<Holder>,
    /// There are more, with uids above this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_after: Option<u32>,
    /// What the ledger had to forget for want of room.
    pub forgotten: Forgotten,
}

/// Who holds tokens. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The account.
    pub user: String,
    /// Its uid.
    pub uid: u32,
    /// Its tokens that haven't expired, those among them that a service got for it.
    pub live_tokens: u64,
    /// The number is a bound: there were too many different ends to remember.
    pub at_most: bool,
    /// When the last of them expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_expiry: Option<u64>,
    /// Tokens issued for it.
    pub issued: u64,
    /// Tokens that it got for others, as a service.
    pub for_others: u64,
    /// Requests of its that were refused.
    pub refused: u64,
    /// When it was first heard of; none where it's only blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// Tokens within the last minute.
    pub per_minute: u64,
    /// The most tokens within a minute of the clock.
    pub peak_per_minute: u64,
    /// Where its requests came from.
    pub origins: Vec<Origin>,
    /// Tokens whose process was not looked at: processes are sampled.
    pub unseen: u64,
    /// Origins that were forgotten for want of room.
    pub forgotten_origins: u64,
    /// Its block, where it's blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Block>,
}

impl Holder {
    /// One of whom nothing is known but the name.
    pub fn unknown(uid: u32, user: &str) -> Self {
        Self {
            user: user.to_owned(),
            uid,
            live_tokens: 0,
            at_most: false,
            latest_expiry: None,
            issued: 0,
            for_others: 0,
            refused: 0,
            first: None,
            last: None,
            per_minute: 0,
            peak_per_minute: 0,
            origins: Vec::new(),
            unseen: 0,
            forgotten_origins: 0,
            blocked: None,
        }
    }
}

/// Where requests came from. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// By the process's cgroup: a Slurm job such as `job_4711`, a login session
    /// such as `session-7.scope`, or a unit; `unknown` where it can't be read.
    pub place: String,
    /// The process that was looked at last.
    pub pid: i32,
    /// The kernel gave the very process that connected; false where it is only
    /// the one that had its pid a moment later.
    pub pinned: bool,
    /// Its executable, where that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Its terminal, such as `pts/3`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<String>,
    /// Tokens that are known to have come from here.
    pub tokens: u64,
    /// When it was first seen.
    pub first: u64,
    /// When it was last seen.
    pub last: u64,
}

/// What `block` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// The block.
    pub block: Block,
    /// Tokens issued before that haven't expired, at most: they work until they do.
    pub live_tokens: u64,
    /// When the last of them expires, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_expiry: Option<u64>,
    /// Only tokens issued since then are counted: the daemon's start.
    pub since: u64,
    /// The longest life of tokens that the configuration gives, in seconds:
    /// what was issued before `since` has expired by `since` plus this.
    pub longest_lifespan: u32,
    /// The key that signs on this node.
    pub kid: String,
}

/// What `unblock` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unblocked {
    /// The blocks that were lifted.
    pub lifted: Vec<Block>,
}

/// What `metrics` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// The text, in the form asked for.
    pub text: String,
}

/// In which form `metrics` answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exposition {
    /// `OpenMetrics` 1.0.
    #[default]
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4, which `node_exporter` reads.
    Prometheus,
}
