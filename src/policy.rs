//! Who may get what. Pure: everything it goes by is an argument.

use crate::token::lifespan::Lifespan;

/// The rules of the configuration (design 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `slurm_user`: the account that slurmctld runs as.
    pub slurm_user: String,
    /// `slurm_uid`: its uid, where the node has no such account.
    pub slurm_uid: Option<u32>,
    /// `allow_privileged`: `root` and SlurmUser's name, for themselves only.
    pub allow_privileged: Vec<String>,
    /// `admin_group`: its members are never the target of a delegate.
    pub admin_group: String,
    /// `policy.min_uid`: accounts below it get nothing.
    pub min_uid: u32,
    /// `policy.allow_groups`: members only; empty admits everybody not denied.
    pub allow_groups: Vec<String>,
    /// `policy.deny_users`: these accounts get nothing.
    pub deny_users: Vec<String>,
    /// `policy.allow_names`: patterns (`*` stands for any run of characters)
    /// of names that aren't POSIX portable and are admitted all the same.
    pub allow_names: Vec<String>,
    /// `[[policy.rule]]`, in the file's order: the first that matches decides.
    pub rules: Vec<Rule>,
    /// `[[policy.delegate]]`, in the file's order.
    pub delegates: Vec<Delegate>,
    /// `token.default_lifespan`.
    pub default_lifespan: Lifespan,
    /// `token.max_lifespan`.
    pub max_lifespan: Lifespan,
    /// `token.identity_claims`: `uid`, `gid` and `id` in every token.
    pub identity_claims: bool,
    /// `token.identity_min_gid`: groups below it are left out of `id`.
    pub identity_min_gid: u32,
}

/// One `[[policy.rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Matches these accounts...
    pub users: Vec<String>,
    /// ...and the members of these groups.
    pub groups: Vec<String>,
    /// None takes `token.default_lifespan`.
    pub default_lifespan: Option<Lifespan>,
    /// None takes `token.max_lifespan`.
    pub max_lifespan: Option<Lifespan>,
}

/// One `[[policy.delegate]]`: a service that may ask for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    /// The service's account.
    pub caller: String,
    /// Whose members it may ask for.
    pub for_groups: Vec<String>,
    /// Whose members it may not ask for, first.
    pub deny_groups: Vec<String>,
    /// None takes what the target's own rule gives.
    pub max_lifespan: Option<Lifespan>,
}
