use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::{Delegate, Rate, Rule};
use crate::report::Problem;
use crate::token::lifespan::Lifespan;

const SIGNING: &str = "[signing]\nkey = \"/etc/slurm/token-keys/k.pem\"\nalgorithm = \"RS256\"\n";

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(Path::new("/etc/slurm/slurm-tokend.toml"), text, "login1")
}

fn config(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems of a text, each as `line: what; remedy`.
fn problems(text: &str) -> Vec<String> {
    let Err(Problems(problems)) = parse(text) else {
        panic!("no problem in {text}")
    };
    problems
        .into_iter()
        .map(
            |Problem {
                 place,
                 what,
                 remedy,
             }| {
                let line = place
                    .strip_prefix("/etc/slurm/slurm-tokend.toml")
                    .expect("a path");
                format!("{}: {what}; {remedy}", line.trim_start_matches(':'))
            },
        )
        .collect()
}

/// The one problem of a text.
fn problem(text: &str) -> String {
    match &problems(text)[..] {
        [one] => one.clone(),
        several => panic!("{several:#?} in {text}"),
    }
}

/// Each line, above a sound `[signing]` or below it, has one problem that says all of this.
#[track_caller]
fn each_is_refused(cases: &[(&str, &[&str])]) {
    for (lines, says) in cases {
        let text = if lines.starts_with('[') {
            format!("{SIGNING}{lines}\n")
        } else {
            format!("{lines}\n{SIGNING}")
        };
        let told = problem(&text);
        for part in *says {
            assert!(
                told.contains(part),
                "{lines}\nsays: {told}\nwithout: {part}"
            );
        }
    }
}

#[test]
fn a_file_of_two_keys_is_enough_and_has_every_default() {
    let config = config(SIGNING);
    assert_eq!(
        config.socket,
        Path::new("/run/slurm-tokend/slurm-tokend.sock")
    );
    assert_eq!(config.policy.default_lifespan.seconds(), 1800);
    assert_eq!(config.policy.max_lifespan.seconds(), 43_200);
    assert_eq!(config.signing.kid, None);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.http, Http::default());
    assert_eq!(
        config.audit,
        Audit {
            sink: Sink::Syslog,
            format: Form::Text,
            required: true
        }
    );
}

/// Are there several tables of this name.
fn is_list(section: &str) -> bool {
    section.starts_with("policy.") || matches!(section, "signing.other" | "verify")
}

#[test]
fn the_known_keys_name_the_true_defaults() {
    let mut text = String::new();
    for key in KEYS.iter().filter(|key| !is_list(key.section)) {
        let full = [key.section, key.name].join(".");
        if let Some(default) = key.default {
            text.extend([full.trim_start_matches('.'), " = ", default, "\n"]);
        }
    }
    // To name a key of [http] is to have that table.
    assert_eq!(
        config(&(text + SIGNING)),
        config(&format!("{SIGNING}[http]\n"))
    );
}

#[test]
fn every_known_key_is_read() {
    for key in KEYS {
        let table = match key.section {
            "" => String::new(),
            section if is_list(section) => format!("[[{section}]]\n"),
            section => format!("[{section}]\n"),
        };
        // No key takes a date.
        let told = problems(&format!("{table}{} = 1979-05-27\n", key.name)).join("\n");
        let full = format!("{}.{}", key.section, key.name);
        let says = format!("{} must be", full.trim_start_matches('.'));
        assert!(told.contains(&says), "{says}: {told}");
        assert!(!told.contains("no key \""), "{told}");
    }
}

/// Every key, none with its default.
const FULL: &str = r#"slurm_user = "slurmctl"
slurm_uid = 64030
allow_privileged = ["root", "slurmctl"]
socket = "/run/other/tokend.sock"
user = "tokend"
admin_group = "hpcadmins"
state_dir = "/srv/tokend"
[signing]
key = "/etc/slurm/token-keys/{host}-2026-11.pem"
algorithm = "RS256"
kid = "{host}-2026-11"
[[signing.other]]
key = "/etc/slurm/token-keys/{host}-workflow.key"
algorithm = "HS256"
[[verify]]
jwks = "/etc/slurm/jwks.json"
[[verify]]
key = "/etc/slurm/token-keys/{host}-2025-11.pem"
algorithm = "RS256"
kid = "{host}-2025-11"
[token]
default_lifespan = "1h"
max_lifespan = 7200
max_session = "2d"
leeway = 5
identity_claims = true
identity_min_gid = 500
issuer = "https://login1.example.org"
audience = "cluster"
[policy]
min_uid = 500
allow_groups = ["hpcusers", "domain users"]
deny_users = ["bob"]
allow_names = ["*.ext"]
[[policy.rule]]
users = ["alice"]
groups = ["workflow"]
default_lifespan = "2d"
max_lifespan = "7d"
identity_claims = false
issuer = "workflow"
audience = "workflows"
kid = "{host}-workflow"
[[policy.delegate]]
caller = "ondemand"
for_groups = ["hpcusers"]
deny_groups = ["operators"]
max_lifespan = "10m"
tokens_per_minute = 30
burst = 6
http = true
[limits]
connections = 100
connections_per_user = 10
tokens_per_minute = 60
burst = 5
verifications_per_minute = 120
verification_burst = 7
lookups = 4
lookup_timeout = "2s"
account_cache = 60
request_timeout = "3s"
idle_timeout = "1h"
stop_timeout = "20s"
[audit]
sink = "stderr"
format = "json"
required = false
[http]
socket = "/run/other/http.sock"
proxies = ["www-data"]
connections = 20
connections_per_user = 8
verifications_per_minute = 240
verification_burst = 9
"#;

fn seconds(seconds: u32) -> Lifespan {
    Lifespan::from_seconds(seconds).expect("not 0")
}

#[test]
fn every_rule_of_the_policy_arrives_where_it_belongs() {
    assert_eq!(
        config(FULL).policy,
        Policy {
            slurm_user: "slurmctl".into(),
            slurm_uid: Some(64030),
            allow_privileged: vec!["root".into(), "slurmctl".into()],
            admin_group: "hpcadmins".into(),
            min_uid: 500,
            allow_groups: vec!["hpcusers".into(), "domain users".into()],
            deny_users: vec!["bob".into()],
            allow_names: vec!["*.ext".into()],
            rules: vec![Rule {
                users: vec!["alice".into()],
                groups: vec!["workflow".into()],
                default_lifespan: Some(seconds(172_800)),
                max_lifespan: Some(seconds(604_800)),
                identity_claims: Some(false),
                issuer: Some("workflow".into()),
                audience: Some("workflows".into()),
                kid: Kid::new("login1-workflow"),
            }],
            delegates: vec![Delegate {
                caller: "ondemand".into(),
                for_groups: vec!["hpcusers".into()],
                deny_groups: vec!["operators".into()],
                max_lifespan: Some(seconds(600)),
                rate: Rate {
                    per_minute: 30,
                    burst: 6,
                },
                http: true,
            }],
            proxies: vec!["www-data".into()],
            default_lifespan: seconds(3600),
            max_lifespan: seconds(7200),
            identity_claims: true,
            identity_min_gid: 500,
            issuer: Some("https://login1.example.org".into()),
            audience: Some("cluster".into()),
            max_session: seconds(172_800),
        }
    );
}

#[test]
fn every_other_value_arrives_where_it_belongs() {
    let config = config(FULL);
    let expected = Config {
        path: "/etc/slurm/slurm-tokend.toml".into(),
        places: Places::in_file(Path::new("/etc/slurm/slurm-tokend.toml")),
        socket: "/run/other/tokend.sock".into(),
        user: "tokend".into(),
        state_dir: "/srv/tokend".into(),
        signing: ConfiguredKey {
            key: KeySource::File("/etc/slurm/token-keys/login1-2026-11.pem".into()),
            algorithm: Algorithm::Rs256,
            kid: Kid::new("login1-2026-11"),
        },
        other_signing: vec![ConfiguredKey {
            key: KeySource::File("/etc/slurm/token-keys/login1-workflow.key".into()),
            algorithm: Algorithm::Hs256,
            kid: Kid::new("login1-workflow"),
        }],
        verify: vec![
            Accepted::Jwks("/etc/slurm/jwks.json".into()),
            Accepted::Key(ConfiguredKey {
                key: KeySource::File("/etc/slurm/token-keys/login1-2025-11.pem".into()),
                algorithm: Algorithm::Rs256,
                kid: Kid::new("login1-2025-11"),
            }),
        ],
        leeway: 5,
        policy: config.policy.clone(),
        limits: Limits {
            room: Room {
                connections: 100,
                connections_per_user: 10,
            },
            tokens: Rate {
                per_minute: 60,
                burst: 5,
            },
            verifications: Rate {
                per_minute: 120,
                burst: 7,
            },
            lookups: 4,
            lookup_timeout: Duration::from_secs(2),
            account_cache: Duration::from_mins(1),
            request_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_hours(1),
            stop_timeout: Duration::from_secs(20),
        },
        audit: Audit {
            sink: Sink::Stderr,
            format: Form::Json,
            required: false,
        },
        http: Http {
            configured: true,
            socket: "/run/other/http.sock".into(),
            room: Room {
                connections: 20,
                connections_per_user: 8,
            },
            verifications: Rate {
                per_minute: 240,
                burst: 9,
            },
        },
    };
    assert_eq!(config, expected);
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_their_lines() {
    let told = problems(
        "slurm_usr = \"slurm\"\n\
         socket = \"tokend.sock\"\n\
         [signing]\n\
         kid = \"a b\"\n\
         [token]\n\
         max_lifespan = \"infinite\"\n\
         [limits]\n\
         burst = 0\n",
    );
    let says = [
        "1: there is no key \"slurm_usr\"; did you mean slurm_user?",
        "2: socket is no absolute path",
        "3: the table [signing] has no key",
        "3: the table [signing] has no algorithm",
        "4: signing.kid can't be \"a b\"",
        "6: token.max_lifespan can't be \"infinite\": every token expires",
        "8: limits.burst is 0; write a whole number from 1",
    ];
    assert_eq!(told.len(), says.len(), "{told:#?}");
    for (told, says) in told.iter().zip(says) {
        assert!(told.starts_with(says), "{told}\nis not: {says}");
    }
}

#[test]
fn an_empty_file_is_told_what_a_file_needs() {
    for text in ["", "\n# nothing\n", "\u{feff}"] {
        let told = problem(text);
        for part in [
            "[signing] is missing",
            "key = \"/etc/",
            "algorithm = \"RS256\"",
            "key generate",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
    each_is_refused(&[
        (
            "slurmuser = \"slurm\"",
            &["1: ", "\"slurmuser\"", "did you mean slurm_user?"],
        ),
        (
            "Socket = \"/run/x\"",
            &["\"Socket\"", "did you mean socket?"],
        ),
        (
            "max_lifespan = \"1h\"",
            &["\"max_lifespan\"", "it belongs to [token]"],
        ),
        (
            "identity_claim = true",
            &["did you mean identity_claims? It belongs to [token]"],
        ),
        ("[tokens]", &["4: ", "\"tokens\"", "did you mean token?"]),
        (
            "[token]\nmax_livespan = 5",
            &["5: ", "in [token]", "did you mean max_lifespan?"],
        ),
        (
            "[limits]\nsocket = \"/x\"",
            &["in [limits]", "belongs to the top of the file"],
        ),
        (
            "[[policy.rule]]\nusers = [\"alice\"]\ngruops = [\"x\"]",
            &["6: ", "in [[policy.rule]]", "did you mean groups?"],
        ),
        (
            "[audit]\nzzz = 1",
            &["\"zzz\"", "known here are sink, format, required"],
        ),
        ("\"so\\u001b[31mck\" = 1", &["\\u{1b}"]),
    ]);
}

#[test]
fn a_long_unknown_key_is_not_repeated_as_it_may_be_a_secret() {
    let told = problem(&format!(
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ = 1\n{SIGNING}"
    ));
    assert!(
        !told.contains("MIIE") && told.contains("50 characters"),
        "{told}"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_told_what_it_is_and_what_it_should_be() {
    each_is_refused(&[
        ("slurm_user = 5", &["slurm_user must be a string, and is 5"]),
        (
            "slurm_uid = \"slurm\"",
            &["slurm_uid must be a whole number, and is a string"],
        ),
        ("slurm_uid = 1.5", &["must be a whole number, and is 1.5"]),
        (
            "slurm_uid = -1",
            &["slurm_uid is -1; write a whole number from 0 to 4294967294"],
        ),
        ("slurm_uid = 4294967295", &["slurm_uid is 4294967295"]),
        (
            "slurm_uid = 99999999999999999999999999999999999999999999",
            &["slurm_uid is 9999"],
        ),
        (
            "allow_privileged = \"root\"",
            &["must be a list, and is a string"],
        ),
        (
            "allow_privileged = [true]",
            &["must be a string, and is true"],
        ),
        ("socket = []", &["socket must be a string, and is a list"]),
        (
            "token = 3",
            &["token must be one table, and is a number", "[token]"],
        ),
        ("[[token]]", &["token must be one table, and is a list"]),
        (
            "[policy.rule]\nusers = [\"a\"]",
            &["policy.rule must be a list of tables", "[[policy.rule]]"],
        ),
        (
            "[policy]\nrule = [1]",
            &["policy.rule must be a list of tables", "two brackets"],
        ),
        (
            "[token]\nidentity_claims = \"yes\"",
            &["must be true or false, and is a string"],
        ),
        (
            "[token]\nidentity_claims = 1",
            &["must be true or false, and is 1"],
        ),
        (
            "[token]\nmax_lifespan = true",
            &["must be a length of time, and is true"],
        ),
        (
            "[audit]\nsink = \"file\"",
            &["audit.sink can't be \"file\"; write \"syslog\" or \"stderr\""],
        ),
        (
            "[audit]\nformat = \"xml\"",
            &["audit.format can't be \"xml\"; write \"text\" or \"json\""],
        ),
    ]);
}

#[test]
fn a_value_out_of_bounds_is_told_the_bounds() {
    each_is_refused(&[
        (
            "[limits]\nconnections = 0",
            &["write a whole number from 1 to 1000000"],
        ),
        (
            "[limits]\nconnections = 1000001",
            &["limits.connections is 1000001"],
        ),
        (
            "[limits]\nconnections_per_user = 0",
            &["limits.connections_per_user is 0"],
        ),
        (
            "[limits]\nconnections_per_user = 12001",
            &["more than the 12000 of limits.connections"],
        ),
        (
            "[http]\nconnections = 100\nconnections_per_user = 101",
            &["http.connections_per_user is 101, more than the 100 of http.connections"],
        ),
        (
            "socket = \"/run/one.sock\"\nhttp.socket = \"/run/one.sock\"",
            &["socket is http.socket as well"],
        ),
        (
            "[limits]\ntokens_per_minute = 0",
            &["limits.tokens_per_minute is 0"],
        ),
        (
            "[limits]\nlookups = 1025",
            &["write a whole number from 1 to 1024"],
        ),
        (
            "[limits]\nlookup_timeout = \"61s\"",
            &["is 61s; write 1s to 1m"],
        ),
        (
            "[limits]\naccount_cache = \"2h\"",
            &["is 2h; write 1s to 1h"],
        ),
        (
            "[limits]\nrequest_timeout = \"2m\"",
            &["is 2m; write 1s to 1m"],
        ),
        (
            "[limits]\nidle_timeout = \"1d1s\"",
            &["is 1d1s; write 1s to 1d"],
        ),
        ("[limits]\nstop_timeout = \"0s\"", &["it is zero"]),
        (
            "[token]\nmax_lifespan = \"max\"",
            &["only a request can ask for the maximum"],
        ),
        (
            "[token]\nmax_lifespan = -5",
            &["can't be -5: it has a sign"],
        ),
        ("[token]\nmax_lifespan = 0", &["it is zero"]),
        (
            "[token]\nidentity_min_gid = -1",
            &["token.identity_min_gid is -1"],
        ),
        ("[token]\nissuer = \"\"", &["token.issuer can't be \"\""]),
        (
            "[token]\naudience = \"a\\nb\"",
            &["token.audience can't be \"a\\nb\""],
        ),
    ]);
}

#[test]
fn a_default_above_its_maximum_is_refused() {
    each_is_refused(&[
        (
            "[token]\ndefault_lifespan = \"2h\"\nmax_lifespan = \"1h\"",
            &["5: token.default_lifespan is 2h, longer than 1h, which is token.max_lifespan"],
        ),
        (
            "[token]\ndefault_lifespan = \"13h\"",
            &["longer than 12h", "where it isn't given"],
        ),
        (
            "[[policy.rule]]\nusers = [\"alice\"]\ndefault_lifespan = \"2h\"\nmax_lifespan = \"1h\"",
            &["policy.rule.default_lifespan is 2h, longer than 1h, which is policy.rule.max_"],
        ),
        (
            "[token]\nmax_lifespan = \"1h\"\n[[policy.rule]]\nusers = [\"alice\"]\ndefault_lifespan = \"2h\"",
            &["policy.rule.default_lifespan is 2h, longer than 1h, which is token.max_lifespan"],
        ),
    ]);
}

#[test]
fn a_default_that_nobody_chose_makes_way_for_a_smaller_maximum() {
    let config = config(&format!("{SIGNING}[token]\nmax_lifespan = \"10m\"\n"));
    assert_eq!(config.policy.default_lifespan.seconds(), 600);
}

#[test]
fn a_quota_that_nobody_chose_makes_way_for_fewer_connections() {
    let config = config(&format!("{SIGNING}[limits]\nconnections = 10\n"));
    assert_eq!(config.limits.room.connections_per_user, 10);
}

#[test]
fn accounts_that_would_undo_the_daemon_are_refused() {
    each_is_refused(&[
        ("user = \"root\"", &["user must not be root"]),
        ("user = \"nobody\"", &["user must not be nobody"]),
        (
            "user = \"slurm\"",
            &["user must not be the account of slurm_user"],
        ),
        (
            "user = \"x\"\nslurm_user = \"x\"",
            &["1: user must not be the account of slurm_user"],
        ),
        (
            "slurm_user = \"slurm-tokend\"",
            &["slurm_user is slurm-tokend"],
        ),
        ("slurm_uid = 0", &["slurm_uid is 0, which is root's"]),
        (
            "slurm_uid = 65534",
            &["slurm_uid is 65534, which is nobody's"],
        ),
        (
            "allow_privileged = [\"alice\"]",
            &["may hold only \"root\" and \"slurm\""],
        ),
        (
            "allow_privileged = [\"slurm\"]\nslurm_user = \"slurmctl\"",
            &["holds \"slurm\"", "\"slurmctl\""],
        ),
    ]);
}

#[test]
fn a_slurm_user_that_is_root_may_have_roots_uid() {
    let config = config(&format!("slurm_user = \"root\"\nslurm_uid = 0\n{SIGNING}"));
    assert_eq!(config.policy.slurm_uid, Some(0));
}

#[test]
fn lists_of_names_hold_names_each_once() {
    each_is_refused(&[
        (
            "[policy]\ndeny_users = [\"\"]",
            &["policy.deny_users must be a name, and is empty"],
        ),
        (
            "[policy]\ndeny_users = [\"1002\"]",
            &["must be a name, and is a number: \"1002\""],
        ),
        (
            "[policy]\ndeny_users = [\" bob\"]",
            &["white space around it"],
        ),
        (
            "[policy]\ndeny_users = [\"b\\nb\"]",
            &["a character that no name has: \"b\\nb\""],
        ),
        (
            "[policy]\ndeny_users = [\"a,b\"]",
            &["a character that no name has"],
        ),
        (
            "[policy]\nallow_groups = [\"g\",\n\"g\"]",
            &["6: policy.allow_groups holds \"g\" twice"],
        ),
        (
            "[policy]\nallow_names = [\"a b\"]",
            &["white space", "refused always"],
        ),
        ("[policy]\nallow_names = [\"+*\"]", &["starts with a sign"]),
        ("[policy]\nallow_names = [\"12\"]", &["is a number"]),
        ("[policy]\nallow_names = [\"\"]", &["is empty"]),
        (
            "slurm_user = \"0\"",
            &["slurm_user must be a name, and is a number"],
        ),
        (
            "admin_group = \"\"",
            &["admin_group must be a name, and is empty"],
        ),
    ]);
}

#[test]
fn a_rule_for_nobody_is_refused() {
    each_is_refused(&[
        (
            "[[policy.rule]]\nmax_lifespan = \"1h\"",
            &["4: ", "names neither users nor groups"],
        ),
        (
            "[[policy.rule]]\nusers = []",
            &["names neither users nor groups"],
        ),
    ]);
}

#[test]
fn a_delegate_needs_a_caller_of_its_own_and_somebody_to_ask_for() {
    let delegate = "[[policy.delegate]]\ncaller = \"ondemand\"\n";
    each_is_refused(&[
        (
            "[[policy.delegate]]\nfor_groups = [\"g\"]",
            &["4: ", "has no caller"],
        ),
        (delegate, &["4: ", "has no for_groups"]),
        (
            &format!("{delegate}for_groups = []"),
            &["has no for_groups"],
        ),
        (
            &format!("{delegate}for_groups = [\"g\"]\ndeny_groups = [\"g\"]"),
            &["7: policy.delegate.deny_groups holds \"g\", which is in for_groups too"],
        ),
        (
            &format!("{delegate}for_groups = [\"g\"]\n{delegate}for_groups = [\"h\"]"),
            &["8: policy.delegate.caller is \"ondemand\", which has a [[policy.delegate]] above"],
        ),
    ]);
}

#[test]
fn paths_are_absolute_and_end_in_a_name() {
    let long = format!("socket = \"/{}\"", "x".repeat(95));
    each_is_refused(&[
        (
            "socket = \"run/x\"",
            &["socket is no absolute path: \"run/x\""],
        ),
        ("socket = \"\"", &["socket is no absolute path"]),
        ("socket = \"@tokend\"", &["socket is no absolute path"]),
        ("socket = \"/run/\"", &["socket ends in no name"]),
        ("socket = \"/run/../x\"", &["socket has .. in it"]),
        (
            "socket = \"/run/\\u0000x\"",
            &["socket has a control character"],
        ),
        (&long, &["socket is too long a path", "at most 95 bytes"]),
        ("state_dir = \"/\"", &["state_dir ends in no name"]),
    ]);
}

fn signing(lines: &str) -> String {
    format!("[signing]\nkey = \"/k.pem\"\nalgorithm = \"RS256\"\n{lines}")
        .replace(
            "key = \"/k.pem\"\nalgorithm = \"RS256\"\nkey",
            "algorithm = \"RS256\"\nkey",
        )
        .replace("algorithm = \"RS256\"\nalgorithm", "algorithm")
}

#[test]
fn the_key_is_a_path_or_a_credential_and_is_never_repeated() {
    for (key, says) in [
        ("\"k.pem\"", "is no absolute path"),
        ("\"/etc/{hostname}.pem\"", "braces around something else"),
        ("\"/etc/{host.pem\"", "braces around something else"),
        ("\"/etc/../k\"", "has .. in it"),
        ("\"credential:\"", "can't be a credential's name"),
        ("\"credential:../k\"", "can't be a credential's name"),
        ("\"credential:a/b\"", "can't be a credential's name"),
        ("\"secret-k\"", "no absolute path"),
        ("5", "must be a string"),
        ("[\"secret\"]", "must be a string"),
    ] {
        let told = problem(&signing(&format!("key = {key}\n")));
        assert!(
            told.contains("3: signing.key") && told.contains(says),
            "{key}: {told}"
        );
        assert!(
            told.contains("never the key itself") || says.contains("braces"),
            "{told}"
        );
        assert!(
            !told.contains("secret") && !told.contains("hostname"),
            "{told}"
        );
    }
}

#[test]
fn a_credential_is_named_with_the_host_in_it() {
    let config = config(&signing("key = \"credential:token-keys_{host}.pem\"\n"));
    assert_eq!(
        config.signing.key,
        KeySource::Credential("token-keys_login1.pem".into())
    );
}

#[test]
fn a_host_without_a_name_can_t_stand_in_a_key() {
    let told = Config::parse(
        Path::new("/c"),
        &signing("key = \"/{host}.pem\"\nkid = \"{host}\"\n"),
        "",
    );
    let told = told.expect_err("a problem").to_string();
    assert!(
        told.contains("/c:3: signing.key has {host} in it"),
        "{told}"
    );
    assert!(
        told.contains("/c:4: signing.kid has {host} in it"),
        "{told}"
    );
}

#[test]
fn a_host_that_is_no_part_of_a_name_can_t_lead_elsewhere() {
    let told = Config::parse(Path::new("/c"), &signing("key = \"/a/{host}/k\"\n"), "..");
    assert!(
        told.expect_err("a problem")
            .to_string()
            .contains("has .. in it")
    );
}

#[test]
fn the_algorithm_is_one_that_slurm_knows() {
    for name in ["rs256", "none", "ES256", ""] {
        let told = problem(&signing(&format!("algorithm = \"{name}\"\n")));
        assert!(
            told.contains(&format!("signing.algorithm can't be \"{name}\"")),
            "{told}"
        );
    }
}

#[test]
fn an_hs256_key_without_a_kid_is_named_after_its_file() {
    for (key, kid) in [
        ("/etc/slurm/jwt_hs256.key", "jwt_hs256"),
        ("/etc/slurm/token-keys/{host}-2026.11.key", "login1-2026.11"),
        ("credential:jwt_hs256.key", "jwt_hs256"),
    ] {
        let text = format!("[signing]\nkey = \"{key}\"\nalgorithm = \"HS256\"\n");
        assert_eq!(config(&text).signing.kid, Kid::new(kid), "{key}");
    }
}

#[test]
fn an_hs256_key_of_a_name_that_is_no_kid_needs_one() {
    let told = problem("[signing]\nkey = \"/etc/slurm/my key\"\nalgorithm = \"HS256\"\n");
    assert!(
        told.contains("2: signing.key") && told.contains("add a line such as kid ="),
        "{told}"
    );
}

#[test]
fn a_rule_names_a_key_that_signs() {
    let other =
        "[[signing.other]]\nkey = \"/k/w.pem\"\nalgorithm = \"RS256\"\nkid = \"login1-workflow\"\n";
    let rule = |kid: &str| format!("[[policy.rule]]\nusers = [\"alice\"]\nkid = {kid}\n");
    let config = config(&format!("{SIGNING}{other}{}", rule("\"login1-workflow\"")));
    assert_eq!(config.policy.rules[0].kid, Kid::new("login1-workflow"));

    let told = problem(&format!("{SIGNING}{other}{}", rule("\"login1-workfow\"")));
    assert!(
        told.starts_with("10: policy.rule.kid is \"login1-workfow\""),
        "{told}"
    );
    assert!(told.contains("did you mean \"login1-workflow\"?"), "{told}");
    let told = problem(&format!("{SIGNING}{}", rule("\"../../etc\"")));
    assert!(
        told.contains("the kid of [signing] or of a [[signing.other]]"),
        "{told}"
    );
}

#[test]
fn a_key_beside_the_first_has_a_kid_of_its_own() {
    let other = |lines: &str| {
        format!(
            "{}[[signing.other]]\n{lines}\n",
            signing("kid = \"first\"\n")
        )
    };
    let told = problem(&other("key = \"/k/w.pem\"\nalgorithm = \"RS256\""));
    assert!(
        told.contains("has no kid, so no rule can name it"),
        "{told}"
    );
    let told = problem(&other(
        "key = \"/k/w.pem\"\nalgorithm = \"RS256\"\nkid = \"first\"",
    ));
    assert!(
        told.contains("another key that signs has already"),
        "{told}"
    );
    let told = problem(&other("key = \"/k/first.key\"\nalgorithm = \"HS256\""));
    assert!(
        told.contains("another key that signs has already"),
        "{told}"
    );
    let told = problems(&other("kid = \"second\""));
    assert!(
        told[0].contains("this [[signing.other]] has no key"),
        "{told:?}"
    );
    assert!(
        told[1].contains("this [[signing.other]] has no algorithm"),
        "{told:?}"
    );
    assert_eq!(told.len(), 2);
}

#[test]
fn a_faulty_key_is_no_reason_to_doubt_the_rules_that_name_it() {
    let told = problem(&format!(
        "{SIGNING}[[signing.other]]\nkey = \"k.pem\"\nalgorithm = \"RS256\"\nkid = \"w\"\n\
         [[policy.rule]]\nusers = [\"alice\"]\nkid = \"w\"\n"
    ));
    assert!(
        told.contains("signing.other.key is no absolute path"),
        "{told}"
    );
}

#[test]
fn keys_to_verify_with_are_a_jwks_or_one_key_with_its_algorithm() {
    each_is_refused(&[
        ("[[verify]]", &["this [[verify]] names no keys"]),
        (
            "[[verify]]\njwks = \"jwks.json\"",
            &["verify.jwks is no absolute path"],
        ),
        (
            "[[verify]]\nkey = \"/k/old.pem\"",
            &["this [[verify]] has no algorithm"],
        ),
        (
            "[[verify]]\njwks = \"/j\"\nalgorithm = \"RS256\"",
            &["verify.jwks stands beside", "make it two [[verify]]"],
        ),
        (
            "[[verify]]\njwks = \"/j\"\nset = 1",
            &["there is no key \"set\" in [[verify]]"],
        ),
        ("[verify]\njwks = \"/j\"", &["must be a list of tables"]),
    ]);
}

#[test]
fn broken_syntax_is_told_with_its_line_and_so_is_the_rest() {
    let told = problems(
        "socket = \"relative\"\n\
         [signing]\n\
         key = /etc/slurm/k.pem\n\
         algorithm = \"RS256\"\n\
         algorithm = \"HS256\"\n\
         [limits]\n\
         brust = 5\n",
    );
    let says = [
        "1: socket is no absolute path",
        "3: this is not TOML: string values must be quoted",
        "5: this is not TOML: duplicate key",
        "7: there is no key \"brust\" in [limits]; did you mean burst?",
    ];
    assert_eq!(told.len(), says.len(), "{told:#?}");
    for (told, says) in told.iter().zip(says) {
        assert!(told.starts_with(says), "{told}\nis not: {says}");
    }
}

#[test]
fn a_line_of_broken_syntax_is_told_of_once() {
    let told = problem(&format!("socket = relative\n{SIGNING}"));
    assert!(
        told.starts_with("1: this is not TOML: string values must be quoted"),
        "{told}"
    );
}

#[test]
fn a_broken_header_is_not_followed_by_noise() {
    let told = problem("[signing\nkey = \"/k.pem\"\nalgorithm = \"RS256\"\n");
    assert!(
        told.starts_with("1: this is not TOML: unclosed table"),
        "{told}"
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*", host in "\\PC{0,8}") {
        let _ = Config::parse(Path::new("/c"), &text, &host);
    }

    /// Lines made of known keys, known tables and values of every sort.
    #[test]
    fn no_mixture_of_known_parts_makes_it_panic(lines in prop::collection::vec(line(), 0..20)) {
        let text = lines.concat();
        if let Err(Problems(problems)) = Config::parse(Path::new("/c"), &text, "login1") {
            prop_assert!(!problems.is_empty());
        }
    }
}

fn line() -> impl Strategy<Value = String> {
    let names = KEYS.map(|key| key.name).to_vec();
    let tables = vec![
        "[signing]",
        "[token]",
        "[policy]",
        "[[policy.rule]]",
        "[[policy.delegate]]",
        "[limits]",
        "[audit]",
        "[http]",
        "[[verify]]",
        "[policy.rule]",
        "[[token]]",
        "[",
        "]",
        "\"\"\"",
        "'''",
    ];
    let values = vec![
        "1",
        "-1",
        "0",
        "0x7f",
        "1e9",
        "nan",
        "true",
        "\"12h\"",
        "\"{host}\"",
        "\"/a/{host}\"",
        "\"credential:k\"",
        "\"RS256\"",
        "\"HS256\"",
        "[]",
        "[\"a\", \"a\"]",
        "[1,",
        "{}",
        "{a=1}",
        "1979-05-27",
        "\"\\u0000\"",
        "\"root\"",
        "unquoted",
        "",
        "99999999999999999999999999999999",
    ];
    prop_oneof![
        1 => prop::sample::select(tables).prop_map(|table| format!("{table}\n")),
        3 => (prop::sample::select(names), prop::sample::select(values))
            .prop_map(|(name, value)| format!("{name} = {value}\n")),
    ]
}
