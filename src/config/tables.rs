//! Each table of the file: its keys, their defaults and bounds, and what must
//! hold between them.

use std::path::{Component, Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::reading::{Found, Place, Reading, Section, flag, lifespan, name, number, text, wait};
use super::{Audit, Config, DEFAULT_SLURM_USER, KeySource, Limits, Signing, Sink};
use crate::audit::Form;
use crate::keys::{Algorithm, Kid};
use crate::policy::{Delegate, Policy, Rule};
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
const LONGEST_SOCKET_PATH: usize = 95;
/// `PATH_MAX` of Linux, without its closing NUL.
const LONGEST_PATH: usize = 4095;
/// The longest `iss` and `aud`: they are in every token.
const LONGEST_CLAIM: usize = 255;
/// Longer ones aren't names of credentials to systemd (`NAME_MAX`).
const LONGEST_CREDENTIAL: usize = 255;

const DEFAULT_LIFESPAN: Lifespan = Lifespan::from_seconds(1800).unwrap();
const MAX_LIFESPAN: Lifespan = Lifespan::from_seconds(12 * 3600).unwrap();

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

    let signing = match top.section(reading, "signing") {
        Found::Sound(section, _) => read_signing(reading, section, host),
        Found::Bad => None,
        Found::Absent => {
            reading.missing(
                None,
                "the table [signing] is missing, so there is no key to sign with",
                "make a key with `slurm-tokenctl key generate`, then add three lines: \
                 [signing], key = \"/etc/slurm/token-keys/{host}.pem\", algorithm = \"RS256\"",
            );
            None
        }
    };
    let token = read_token(reading, &mut top);
    let policy = read_policy(reading, &mut top, &token);
    let limits = read_limits(reading, &mut top);
    let audit = read_audit(reading, &mut top);
    top.finish(reading);

    Config {
        path: reading.path().to_owned(),
        places: reading.places().clone(),
        socket: socket.or(DEFAULT_SOCKET.into()),
        user: user.or(DEFAULT_USER.into()),
        state_dir: state_dir.or("/var/lib/slurm-tokend".into()),
        signing: signing.unwrap_or_else(|| {
            reading.cannot_tell("signing");
            NO_SIGNING
        }),
        issuer: token.issuer,
        audience: token.audience,
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
            default_lifespan: token.default_lifespan,
            max_lifespan: token.max_lifespan.or(MAX_LIFESPAN),
            identity_claims: token.identity_claims,
            identity_min_gid: token.identity_min_gid,
        },
        limits,
        audit,
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

fn read_signing(
    reading: &mut Reading<'_>,
    mut section: Section<'_>,
    host: &str,
) -> Option<Signing> {
    let key = section.take(reading, "key", |reading, place, value| {
        key_source(reading, place, value, host)
    });
    if matches!(key, Found::Absent) {
        reading.missing(
            Some(&section),
            "the table [signing] has no key",
            "add a line such as key = \"/etc/slurm/token-keys/{host}.pem\"",
        );
    }
    let algorithm = section.take(reading, "algorithm", algorithm);
    if matches!(algorithm, Found::Absent) {
        reading.missing(
            Some(&section),
            "the table [signing] has no algorithm, and it's never guessed from the key",
            "add algorithm = \"RS256\" for an RSA key, or \"HS256\" for a secret that \
             slurmctld shares",
        );
    }
    let kid = section.take(reading, "kid", |reading, place, value| {
        let kid = expand(text(reading, place, value)?, host);
        let kid = kid
            .map_err(|(what, remedy)| reading.fault(place, what, remedy))
            .ok()?;
        Kid::new(&kid).or_else(|| {
            reading.fault(place, format!("can't be {kid:?}"), KID_REMEDY);
            None
        })
    });
    let kid = match (&key, &algorithm, kid) {
        (Found::Sound(source, place), Found::Sound(Algorithm::Hs256, _), Found::Absent) => {
            let kid = stem(source).and_then(Kid::new);
            if kid.is_none() {
                reading.fault(
                    place,
                    "is of a name that can't be the kid of its tokens, and there is no kid",
                    "add a line such as kid = \"cluster-2026\"",
                );
            }
            kid
        }
        (_, _, kid) => kid.ok(),
    };
    section.finish(reading);
    Some(Signing {
        key: key.ok()?,
        algorithm: algorithm.ok()?,
        kid,
    })
}

/// What stands in the place of a `[signing]` that can't be read. Never used:
/// a configuration without it isn't served with.
const NO_SIGNING: Signing = Signing {
    key: KeySource::Credential(String::new()),
    algorithm: Algorithm::Rs256,
    kid: None,
};

const KID_REMEDY: &str =
    "write 1 to 128 letters, digits, dots, underscores or hyphens, and no dot or hyphen first";

/// The key file's name without its last extension: the kid of an HS256 key
/// that has no other, as in `<kid>.key`.
fn stem(source: &KeySource) -> Option<&str> {
    match source {
        KeySource::File(path) => path.file_stem()?.to_str(),
        KeySource::Credential(name) => Path::new(name).file_stem()?.to_str(),
    }
}

fn algorithm(reading: &mut Reading<'_>, place: &Place, value: &DeValue<'_>) -> Option<Algorithm> {
    let name = text(reading, place, value)?;
    name.parse().ok().or_else(|| {
        reading.fault(
            place,
            format!("can't be {:?}", shorten(name)),
            "write \"RS256\" or \"HS256\": Slurm knows no other",
        );
        None
    })
}

/// Reads `signing.key`. What stands there is never repeated, as it may be the
/// key itself by mistake.
fn key_source(
    reading: &mut Reading<'_>,
    place: &Place,
    value: &DeValue<'_>,
    host: &str,
) -> Option<KeySource> {
    const REMEDY: &str =
        "write the absolute path of the key's file, or \"credential:NAME\", never the key itself";
    let Some(written) = value.as_str() else {
        reading.fault(place, "must be a string", REMEDY);
        return None;
    };
    let fault = match expand(written, host) {
        Err((what, remedy)) => {
            reading.fault(place, what, remedy);
            return None;
        }
        Ok(written) => match written.strip_prefix("credential:") {
            Some(name) if is_credential(name) => {
                return Some(KeySource::Credential(name.to_owned()));
            }
            Some(_) => "names a credential by what can't be a credential's name",
            None => match path_fault(&written, LONGEST_PATH) {
                None => return Some(KeySource::File(written.into())),
                Some(fault) => fault,
            },
        },
    };
    reading.fault(place, fault, REMEDY);
    None
}

/// A name of a file in `$CREDENTIALS_DIRECTORY`.
fn is_credential(name: &str) -> bool {
    (1..=LONGEST_CREDENTIAL).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
}

/// Puts the host's name in the place of `{host}`.
fn expand(text: &str, host: &str) -> Result<String, (&'static str, &'static str)> {
    if host.is_empty() && text.contains("{host}") {
        return Err((
            "has {host} in it, and this machine has no host name that could stand there",
            "write the name in its place, or give the machine one with `hostnamectl hostname`",
        ));
    }
    if text.replace("{host}", "").contains(['{', '}']) {
        return Err((
            "has braces around something else than host",
            "write {host} or no braces",
        ));
    }
    Ok(text.replace("{host}", host))
}

/// Reads an absolute path of at most `LONGEST` bytes.
fn path<const LONGEST: usize>(
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
fn path_fault(path: &str, longest: usize) -> Option<&'static str> {
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
    issuer: Option<String>,
    audience: Option<String>,
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
fn claim(reading: &mut Reading<'_>, place: &Place, value: &DeValue<'_>) -> Option<String> {
    let claim = text(reading, place, value)?;
    if (1..=LONGEST_CLAIM).contains(&claim.len()) && !claim.contains(char::is_control) {
        return Some(claim.to_owned());
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
            .map(|section| read_rule(reading, section, &token.max_lifespan))
            .collect(),
        delegates: read_delegates(reading, &mut section),
    };
    section.finish(reading);
    table
}

fn read_rule(
    reading: &mut Reading<'_>,
    mut section: Section<'_>,
    token_max: &Found<Lifespan>,
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
    section.finish(reading);
    Rule {
        users: values(users),
        groups: values(groups),
        default_lifespan: default_lifespan.ok(),
        max_lifespan: max_lifespan.ok(),
    }
}

fn read_delegates(reading: &mut Reading<'_>, policy: &mut Section<'_>) -> Vec<Delegate> {
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
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
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
                format!("is {per_user}, more than the {all} of limits.connections"),
                "lower the one or raise the other",
            );
        }
    }
    let connections = connections.or(usual.connections);
    let limits = Limits {
        connections,
        connections_per_user: per_user.or(usual.connections_per_user.min(connections)),
        tokens_per_minute: section
            .take(reading, "tokens_per_minute", number::<1, 100_000_000>)
            .or(usual.tokens_per_minute),
        burst: section
            .take(reading, "burst", number::<1, 100_000_000>)
            .or(usual.burst),
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
fn values<T>(list: Found<Vec<(T, Place)>>) -> Vec<T> {
    list.or(Vec::new())
        .into_iter()
        .map(|(value, _)| value)
        .collect()
}
