//! The claims of a token (RFC 7519 section 4; Slurm's `auth/jwt` for `sun` and `id`).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::policy::{Grant, Membership};

/// What a token says, in the order in which it's written.
#[derive(Serialize)]
pub struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    iat: u64,
    nbf: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
    jti: &'a str,
    sun: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Actor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Id<'a>>,
}

/// Who asked for the token in its subject's stead (RFC 8693 section 4.1).
#[derive(Serialize)]
struct Actor<'a> {
    sub: &'a str,
}

/// What Slurm 26.05 reads with `use_jwt_client_ids`, beside `uid` and `gid`.
#[derive(Serialize)]
struct Id<'a> {
    name: &'a str,
    gecos: &'a str,
    dir: &'a str,
    shell: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<&'a BTreeMap<String, u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gids: Option<&'a [u32]>,
}

impl<'a> Claims<'a> {
    /// The claims of a grant. `now` and the token's `exp` are seconds since
    /// 1970; `jti` is the token's own number.
    pub fn new(grant: &'a Grant, jti: &'a str, now: u64) -> Self {
        let identity = grant.identity();
        Self {
            iss: grant.issuer(),
            aud: grant.audience(),
            iat: now,
            nbf: now,
            exp: expiry(grant, now),
            auth_time: grant.auth_time(),
            jti,
            sun: grant.subject(),
            act: grant.delegate().map(|sub| Actor { sub }),
            uid: identity.map(|i| i.uid),
            gid: identity.map(|i| i.gid),
            id: identity.map(|i| {
                let (groups, gids) = match &i.groups {
                    Membership::Named(groups) => (Some(groups), None),
                    Membership::Gids(gids) => (None, Some(gids.as_slice())),
                };
                Id {
                    name: &i.name,
                    gecos: &i.gecos,
                    dir: &i.dir,
                    shell: &i.shell,
                    groups,
                    gids,
                }
            }),
        }
    }
}

/// A grant's `exp`, in seconds since 1970.
pub fn expiry(grant: &Grant, now: u64) -> u64 {
    now.saturating_add(u64::from(grant.lifespan().seconds()))
}
