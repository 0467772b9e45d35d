//! The keys of the configuration file, for messages and for the documents.

/// One key of the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its table, such as `policy.rule`; empty at the top of the file.
    pub section: &'static str,
    /// Its name in that table.
    pub name: &'static str,
    /// What stands in its place where it isn't given, as TOML; none where it
    /// must be given or where nothing stands in its place.
    pub default: Option<&'static str>,
}

const fn key(section: &'static str, name: &'static str, default: &'static str) -> Key {
    Key {
        section,
        name,
        default: Some(default),
    }
}

const fn bare(section: &'static str, name: &'static str) -> Key {
    Key {
        section,
        name,
        default: None,
    }
}

/// Every key that this release knows, in the order of the manual.
pub const KEYS: [Key; 65] = [
    key("", "slurm_user", "\"slurm\""),
    bare("", "slurm_uid"),
    key("", "allow_privileged", "[]"),
    key("", "socket", "\"/run/slurm-tokend/slurm-tokend.sock\""),
    key("", "user", "\"slurm-tokend\""),
    key("", "admin_group", "\"slurm-admins\""),
    key("", "state_dir", "\"/var/lib/slurm-tokend\""),
    bare("signing", "key"),
    bare("signing", "algorithm"),
    bare("signing", "kid"),
    bare("signing.other", "key"),
    bare("signing.other", "algorithm"),
    bare("signing.other", "kid"),
    bare("verify", "jwks"),
    bare("verify", "key"),
    bare("verify", "algorithm"),
    bare("verify", "kid"),
    key("token", "default_lifespan", "\"30m\""),
    key("token", "max_lifespan", "\"12h\""),
    key("token", "max_session", "\"7d\""),
    key("token", "leeway", "0"),
    key("token", "identity_claims", "false"),
    key("token", "identity_min_gid", "1000"),
    bare("token", "issuer"),
    bare("token", "audience"),
    key("policy", "min_uid", "1000"),
    key("policy", "allow_groups", "[]"),
    key("policy", "deny_users", "[]"),
    key("policy", "allow_names", "[]"),
    key("policy.rule", "users", "[]"),
    key("policy.rule", "groups", "[]"),
    bare("policy.rule", "default_lifespan"),
    bare("policy.rule", "max_lifespan"),
    bare("policy.rule", "identity_claims"),
    bare("policy.rule", "issuer"),
    bare("policy.rule", "audience"),
    bare("policy.rule", "kid"),
    bare("policy.delegate", "caller"),
    bare("policy.delegate", "for_groups"),
    key("policy.delegate", "deny_groups", "[]"),
    bare("policy.delegate", "max_lifespan"),
    bare("policy.delegate", "tokens_per_minute"),
    bare("policy.delegate", "burst"),
    key("policy.delegate", "http", "false"),
    key("limits", "connections", "12000"),
    key("limits", "connections_per_user", "64"),
    key("limits", "tokens_per_minute", "600"),
    key("limits", "burst", "100"),
    key("limits", "verifications_per_minute", "6000"),
    key("limits", "verification_burst", "600"),
    key("limits", "lookups", "32"),
    key("limits", "lookup_timeout", "\"5s\""),
    key("limits", "account_cache", "\"30s\""),
    key("limits", "request_timeout", "\"5s\""),
    key("limits", "idle_timeout", "\"1m\""),
    key("limits", "stop_timeout", "\"10s\""),
    key("audit", "sink", "\"syslog\""),
    key("audit", "format", "\"text\""),
    key("audit", "required", "true"),
    key("http", "socket", "\"/run/slurm-tokend/http.sock\""),
    key("http", "proxies", "[]"),
    key("http", "connections", "512"),
    key("http", "connections_per_user", "256"),
    key("http", "verifications_per_minute", "600000"),
    key("http", "verification_burst", "20000"),
];

/// Where a key belongs, as people write it: `[token]`, or the top of the file.
pub(super) fn place_of(section: &str) -> String {
    match section {
        "" => "the top of the file, before the first [table]".into(),
        "signing.other" | "verify" | "policy.rule" | "policy.delegate" => format!("[[{section}]]"),
        _ => format!("[{section}]"),
    }
}
