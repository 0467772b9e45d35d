//! Each table of the file: its keys, their defaults and bounds, and what must
//! hold between them.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::keys::{self, SigningTable};
use super::reading::{Found, Place, Reading, Section, flag, lifespan, name, number, text, wait};
use super::{Audit, Config, DEFAULT_SLURM_USER, Limits, Room, Sink, http};
use crate::audit::Form;
use crate::policy::{Delegate, Policy, Rate, Rule};
use crate::token::lifespan::Lifespan;
use crate::wire::{DEFAULT_SOCKET, shorten};

/// The daemon's own account.
const DEFAULT_USER: &str = "slurm-tokend";
/// The largest uid or gid that an account or group may have: the one above
/// means "no change" to the kernel (chown(2)).
const LAST_ID: u32 = u32::MAX - 1;
/// The uid of `nobody`.
const NOBODY: u32 = 65_534;
/// `sun_path` of a Unix socket's address holds 107 bytes and a NUL (unix(7)),
/// and a socket is bound under a longer name before it takes this one.
pub(super) const LONGEST_SOCKET_PATH: usize = 95;
/// `PATH_MAX` of Linux, without its closing NUL.
pub(super) const LONGEST_PATH: usize = 4095;
/// The longest `iss` and `aud`: they are in every token.
const LONGEST_CLAIM: usize = 255;

const DEFAULT_LIFESPAN: Lifespan = Lifespan::from_seconds(1800).unwrap();
const MAX_LIFESPAN: Lifespan = Lifespan::from_seconds(12 * 3600).unwrap();
const MAX_SESSION: Lifespan = Lifespan::from_seconds(7 * 24 * 3600).unwrap();
/// The most seconds that clocks may differ, of those who check tokens: more
/// than a few minutes would prolong every token (RFC 7519 section 4.1.4).
const MOST_LEEWAY: u32 = 300;

/// Reads every table. What can't be read has a default in its place, and
/// `reading` has noted why.
pub(super) fn read(reading: &mut Reading<'_>, table: &DeTable<'_>, host: &str) -> Config {
    let mut top = Section::top(table);
    let slurm_user = top.take(reading, "slurm_user", name);
    let slurm_uid = top.take(reading, "slurm_uid", number::<0, LAST_ID>);
    let allow_privileged = top.take_list(reading, "allow_privileged", name);
    let socket = top.take(reading, "socket", path::<LONGEST_SOCKET_PATH>);
    let user = top.take(reading, "user", name);
    let admin_group = top.take(reading, "admin_group", name);
    let state_dir = top.take(reading, "state_dir", path::<LONGEST_PATH>);
    check_accounts(reading, &slurm_user, &slurm_uid, &allow_privileged, &user);

    let signing = keys::read_signing(reading, &mut top, host);
    let verify = keys::read_verify(reading, &mut top, host);
    let token = read_token(reading, &mut top);
    let limits = read_limits(reading, &mut top);
    let policy = read_policy(reading, &mut top, &token, &signing, &limits);
    let audit = read_audit(reading, &mut top);
    let (http, proxies) = http::read(reading, &mut top);
    let socket_of_http = http.socket.as_path();
    if let Found::Sound(path, place) = &socket
        && path == socket_of_http
    {
        reading.fault(
            place,
            "is http.socket as well",
            "give each of the two a path of its own",
        );
    }
    top.finish(reading);

    Config {
        path: reading.path().to_owned(),
        places: reading.places().clone(),
        socket: socket.or(DEFAULT_SOCKET.into()),
        user: user.or(DEFAULT_USER.into()),
        state_dir: state_dir.or("/var/lib/slurm-tokend".into()),
        signing: signing.key.unwrap_or_else(|| {
            reading.cannot_tell("signing");
            keys::NONE
        }),
        other_signing: signing.others,
        verify,
        leeway: token.leeway,
        policy: Policy {
            slurm_user: slurm_user.or(DEFAULT_SLURM_USER.into()),
            slurm_uid: slurm_uid.ok(),
            allow_privileged: values(allow_privileged),
            admin_group: admin_group.or("slurm-admins".into()),
            min_uid: policy.min_uid,
            allow_groups: policy.allow_groups,
            deny_users: policy.deny_users,
            allow_names: policy.allow_names,
            rules: policy.rules,
            delegates: policy.delegates,
            proxies,
            default_lifespan: token.default_lifespan,
            max_lifespan: token.max_lifespan.or(MAX_LIFESPAN),
            identity_claims: token.identity_claims,
            identity_min_gid: token.identity_min_gid,
            issuer: token.issuer,
            audience: token.audience,
            max_session: token.max_session,
        },
        limits,
        audit,
        http,
    }
}

/// The accounts of the first lines must be who they can be.
fn check_accounts(
    reading: &mut Reading<'_>,
    slurm_user: &Found<String>,
    slurm_uid: &Found<u32>,
    allow_privileged: &Found<Vec<(String, Place)>>,
    user: &Found<String>,
) {
    let slurm_name = slurm_user
        .value()
        .map_or(DEFAULT_SLURM_USER, String::as_str);
    match slurm_uid {
        Found::Sound(0, place) if slurm_name != "root" => reading.fault(
            place,
            format!("is 0, which is root's uid and not that of {slurm_name:?}"),
            "write the uid that slurmctld runs with, or slurm_user = \"root\" where it is root",
        ),
        Found::Sound(NOBODY, place) => reading.fault(
            place,
            "is 65534, which is nobody's uid",
            "write the uid that slurmctld runs with",
        ),
        _ => {}
    }
    if let (Found::Sound(listed, _), false) = (allow_privileged, slurm_user.is_bad()) {
        for (name, place) in listed
            .iter()
            .filter(|(name, _)| name != "root" && name != slurm_name)
        {
            reading.fault(
                place,
                format!("holds {name:?}, and may hold only \"root\" and {slurm_name:?}"),
                "remove it: other accounts need no leave to have a token of their own",
            );
        }
    }
    let remedy = "write an account that has nothing but this daemon, such as \"slurm-tokend\"";
    match (user, slurm_user) {
        (Found::Sound(user, place), _) if user == "root" || user == "nobody" => {
            reading.fault(place, format!("must not be {user}"), remedy);
        }
        (Found::Sound(user, place), _) if !slurm_user.is_bad() && user == slurm_name => {
            reading.fault(place, "must not be the account of slurm_user", remedy);
        }
        (Found::Absent, Found::Sound(slurm_user, place)) if slurm_user == DEFAULT_USER => {
            reading.fault(
                place,
                format!("is {slurm_user}, the account that this daemon runs as"),
                "write the account that slurmctld runs as",
            );
        }
        _ => {}
    }
}

/// Reads an absolute path of at most `LONGEST` bytes.
pub(super) fn path<const LONGEST: usize>(
    reading: &mut Reading<'_>,
    place: &Place,
    value: &DeValue<'_>,
) -> Option<PathBuf> {
    let path = text(reading, place, value)?;
    let Some(fault) = path_fault(path, LONGEST) else {
        return Some(path.into());
    };
    reading.fault(
        place,
        format!("{fault}: {:?}", shorten(path)),
        format!("write an absolute path of at most {LONGEST} bytes"),
    );
    None
}

/// Why a text can't be the path of one file or directory of ours.
pub(super) fn path_fault(path: &str, longest: usize) -> Option<&'static str> {
    if !path.starts_with('/') {
        Some("is no absolute path")
    } else if path.len() > longest {
        Some("is too long a path")
    } else if path.contains(char::is_control) {
        Some("has a control character in it")
    } else if Path::new(path)
        .components()
        .any(|part| part == Component::ParentDir)
    {
        Some("has .. in it")
    } else if path.ends_with('/') || path.ends_with("/.") {
        Some("ends in no name")
    } else {
        None
    }
}

/// What `[token]` says.
struct TokenTable {
    default_lifespan: Lifespan,
    max_lifespan: Found<Lifespan>,
    identity_claims: bool,
    identity_min_gid: u32,
    issuer: Option<Arc<str>>,
    audience: Option<Arc<str>>,
    max_session: Lifespan,
    leeway: u32,
}

fn read_token(reading: &mut Reading<'_>, top: &mut Section<'_>) -> TokenTable {
    let mut section = top.optional_section(reading, "token");
    let default_lifespan = section.take(reading, "default_lifespan", lifespan);
    let max_lifespan = section.take(reading, "max_lifespan", lifespan);
    check_default(reading, &default_lifespan, &max_lifespan, &Found::Absent);
    // A default that nobody chose makes way for the maximum that somebody chose.
    let most = max_lifespan.value().copied().unwrap_or(MAX_LIFESPAN);
    let table = TokenTable {
        default_lifespan: default_lifespan.or(DEFAULT_LIFESPAN.min(most)),
        max_lifespan,
        identity_claims: section.take(reading, "identity_claims", flag).or(false),
        identity_min_gid: section
            .take(reading, "identity_min_gid", number::<0, LAST_ID>)
            .or(1000),
        issuer: section.take(reading, "issuer", claim).ok(),
        audience: section.take(reading, "audience", claim).ok(),
        max_session: section
            .take(reading, "max_session", lifespan)
            .or(MAX_SESSION),
        leeway: section
            .take(reading, "leeway", number::<0, MOST_LEEWAY>)
            .or(0),
    };
    section.finish(reading);
    table
}

/// A default that somebody chose may not be above its maximum: the one of the
/// same table, or else the one of `[token]`.
fn check_default(
    reading: &mut Reading<'_>,
    default: &Found<Lifespan>,
    max: &Found<Lifespan>,
    token_max: &Found<Lifespan>,
) {
    let (most, whose) = match (max, token_max) {
        (Found::Bad, _) | (Found::Absent, Found::Bad) => return,
        (Found::Sound(most, place), _) | (Found::Absent, Found::Sound(most, place)) => {
            (*most, place.key.clone())
        }
        (Found::Absent, Found::Absent) => (
            MAX_LIFESPAN,
            "token.max_lifespan where it isn't given".into(),
        ),
    };
    if let Found::Sound(default, place) = default
        && *default > most
    {
        reading.fault(
            place,
            format!("is {default}, longer than {most}, which is {whose}"),
            "lower the one or raise the other",
        );
    }
}

/// Reads `iss` or `aud`.
fn claim(reading: &mut Reading<'_>, place: &Place, value: &DeValue<'_>) -> Option<Arc<str>> {
    let claim = text(reading, place, value)?;
    if (1..=LONGEST_CLAIM).contains(&claim.len()) && !claim.contains(char::is_control) {
        return Some(claim.into());
    }
    reading.fault(
        place,
        format!("can't be {:?}", shorten(claim)),
        format!("write 1 to {LONGEST_CLAIM} bytes without control characters"),
    );
    None
}

/// What `[policy]` says.
struct PolicyTable {
    min_uid: u32,
    allow_groups: Vec<String>,
    deny_users: Vec<String>,
    allow_names: Vec<String>,
    rules: Vec<Rule>,
    delegates: Vec<Delegate>,
}

fn read_policy(
    reading: &mut Reading<'_>,
    top: &mut Section<'_>,
    token: &TokenTable,
    signing: &SigningTable,
    limits: &Limits,
) -> PolicyTable {
    let mut section = top.optional_section(reading, "policy");
    let table = PolicyTable {
        min_uid: section
            .take(reading, "min_uid", number::<0, LAST_ID>)
            .or(1000),
        allow_groups: values(section.take_list(reading, "allow_groups", name)),
        deny_users: values(section.take_list(reading, "deny_users", name)),
        allow_names: values(section.take_list(reading, "allow_names", pattern)),
        rules: section
            .sections(reading, "rule", "policy.rule")
            .into_iter()
            .map(|section| read_rule(reading, section, &token.max_lifespan, signing))
            .collect(),
        delegates: read_delegates(reading, &mut section, limits.tokens),
    };
    section.finish(reading);
    table
}

fn read_rule(
    reading: &mut Reading<'_>,
    mut section: Section<'_>,
    token_max: &Found<Lifespan>,
    signing: &SigningTable,
) -> Rule {
    let users = section.take_list(reading, "users", name);
    let groups = section.take_list(reading, "groups", name);
    if users.is_empty() && groups.is_empty() {
        reading.missing(
            Some(&section),
            "this [[policy.rule]] names neither users nor groups, so it's for nobody",
            "add a line such as groups = [\"workflow\"], or remove the rule",
        );
    }
    let default_lifespan = section.take(reading, "default_lifespan", lifespan);
    let max_lifespan = section.take(reading, "max_lifespan", lifespan);
    check_default(reading, &default_lifespan, &max_lifespan, token_max);
    let rule = Rule {
        users: values(users),
        groups: values(groups),
        default_lifespan: default_lifespan.ok(),
        max_lifespan: max_lifespan.ok(),
        identity_claims: section.take(reading, "identity_claims", flag).ok(),
        issuer: section.take(reading, "issuer", claim).ok(),
        audience: section.take(reading, "audience", claim).ok(),
        kid: section
            .take(reading, "kid", |reading, place, value| {
                signing.named(reading, place, value)
            })
            .ok(),
    };
    section.finish(reading);
    rule
}

fn read_delegates(
    reading: &mut Reading<'_>,
    policy: &mut Section<'_>,
    usual: Rate,
) -> Vec<Delegate> {
    let mut delegates: Vec<Delegate> = Vec::new();
    for mut section in policy.sections(reading, "delegate", "policy.delegate") {
        let caller = section.take(reading, "caller", name);
        match &caller {
            Found::Absent => reading.missing(
                Some(&section),
                "this [[policy.delegate]] has no caller",
                "add the account that may ask for others, such as caller = \"ondemand\"",
            ),
            Found::Sound(name, place) if delegates.iter().any(|other| other.caller == *name) => {
                reading.fault(
                    place,
                    format!("is {name:?}, which has a [[policy.delegate]] above already"),
                    "make one of the two",
                );
            }
            Found::Sound(..) | Found::Bad => {}
        }
        let for_groups = section.take_list(reading, "for_groups", name);
        if for_groups.is_empty() {
            reading.missing(
                Some(&section),
                "this [[policy.delegate]] has no for_groups, so its caller may ask for nobody",
                "add the groups whose members it may ask for, such as for_groups = [\"hpcusers\"]",
            );
        }
        let deny_groups = section.take_list(reading, "deny_groups", name);
        if let (Found::Sound(wanted, _), Found::Sound(denied, _)) = (&for_groups, &deny_groups) {
            for (group, place) in denied
                .iter()
                .filter(|(group, _)| wanted.iter().any(|(wanted, _)| wanted == group))
            {
                reading.fault(
                    place,
                    format!("holds {group:?}, which is in for_groups too"),
                    "remove it from one of the two",
                );
            }
        }
        delegates.push(Delegate {
            caller: caller.or(String::new()),
            for_groups: values(for_groups),
            deny_groups: values(deny_groups),
            max_lifespan: section.take(reading, "max_lifespan", lifespan).ok(),
            rate: read_rate(reading, &mut section, ["tokens_per_minute", "burst"], usual),
            http: section.take(reading, "http", flag).or(false),
        });
        section.finish(reading);
    }
    delegates
}

/// Reads a pattern of `allow_names`. One that only names refused in any case
/// could match would be a promise that isn't kept.
fn pattern(reading: &mut Reading<'_>, place: &Place, value: &DeValue<'_>) -> Option<String> {
    let pattern = text(reading, place, value)?;
    let fault = if pattern.is_empty() {
        "is empty"
    } else if !pattern.bytes().all(|b| b.is_ascii_graphic()) {
        "has white space, control characters or letters beyond ASCII in it"
    } else if pattern.starts_with(['+', '-']) {
        "starts with a sign"
    } else if pattern.bytes().all(|b| b.is_ascii_digit()) {
        "is a number"
    } else {
        return Some(pattern.to_owned());
    };
    reading.fault(
        place,
        format!(
            "holds {:?}, which {fault}: such names are refused always",
            shorten(pattern)
        ),
        "write the name, with * for any run of characters, such as \"*.ext\"",
    );
    None
}

fn read_limits(reading: &mut Reading<'_>, top: &mut Section<'_>) -> Limits {
    let mut section = top.optional_section(reading, "limits");
    let usual = Limits::default();
    let limits = Limits {
        room: read_connections(reading, &mut section, usual.room),
        tokens: read_rate(
            reading,
            &mut section,
            ["tokens_per_minute", "burst"],
            usual.tokens,
        ),
        verifications: read_rate(
            reading,
            &mut section,
            ["verifications_per_minute", "verification_burst"],
            usual.verifications,
        ),
        lookups: section
            .take(reading, "lookups", number::<1, 1024>)
            .map(count)
            .or(usual.lookups),
        lookup_timeout: section
            .take(reading, "lookup_timeout", wait::<60>)
            .or(usual.lookup_timeout),
        account_cache: section
            .take(reading, "account_cache", wait::<3600>)
            .or(usual.account_cache),
        request_timeout: section
            .take(reading, "request_timeout", wait::<60>)
            .or(usual.request_timeout),
        idle_timeout: section
            .take(reading, "idle_timeout", wait::<86_400>)
            .or(usual.idle_timeout),
        stop_timeout: section
            .take(reading, "stop_timeout", wait::<60>)
            .or(usual.stop_timeout),
    };
    section.finish(reading);
    limits
}

/// Reads how many connections there may be, and of one uid.
pub(super) fn read_connections(
    reading: &mut Reading<'_>,
    section: &mut Section<'_>,
    usual: Room,
) -> Room {
    let connections = section
        .take(reading, "connections", number::<1, 1_000_000>)
        .map(count);
    let per_user = section
        .take(reading, "connections_per_user", number::<1, 1_000_000>)
        .map(count);
    if let Found::Sound(per_user, place) = &per_user
        && !connections.is_bad()
    {
        let all = connections.value().copied().unwrap_or(usual.connections);
        if *per_user > all {
            reading.fault(
                place,
                format!(
                    "is {per_user}, more than the {all} of {}.connections",
                    section.name()
                ),
                "lower the one or raise the other",
            );
        }
    }
    let connections = connections.or(usual.connections);
    Room {
        connections,
        connections_per_user: per_user.or(usual.connections_per_user.min(connections)),
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn read_rate(
    reading: &mut Reading<'_>,
    section: &mut Section<'_>,
    [per_minute, burst]: [&'static str; 2],
    usual: Rate,
) -> Rate {
    Rate {
        per_minute: section
            .take(reading, per_minute, number::<1, 100_000_000>)
            .or(usual.per_minute),
        burst: section
            .take(reading, burst, number::<1, 100_000_000>)
            .or(usual.burst),
    }
}

fn read_audit(reading: &mut Reading<'_>, top: &mut Section<'_>) -> Audit {
    let mut section = top.optional_section(reading, "audit");
    let sink = section.take(reading, "sink", |reading, place, value| {
        match text(reading, place, value)? {
            "syslog" => Some(Sink::Syslog),
            "stderr" => Some(Sink::Stderr),
            other => {
                let what = format!("can't be {:?}", shorten(other));
                reading.fault(place, what, "write \"syslog\" or \"stderr\"");
                None
            }
        }
    });
    let format = section.take(reading, "format", |reading, place, value| {
        match text(reading, place, value)? {
            "text" => Some(Form::Text),
            "json" => Some(Form::Json),
            other => {
                let what = format!("can't be {:?}", shorten(other));
                reading.fault(place, what, "write \"text\" or \"json\"");
                None
            }
        }
    });
    let audit = Audit {
        sink: sink.or(Sink::Syslog),
        format: format.or(Form::Text),
        required: section.take(reading, "required", flag).or(true),
    };
    section.finish(reading);
    audit
}

/// The values of a list, without their places.
pub(super) fn values<T>(list: Found<Vec<(T, Place)>>) -> Vec<T> {
    list.or(Vec::new())
        .into_iter()
        .map(|(value, _)| value)
        .collect()
}
