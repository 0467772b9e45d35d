//! Who gets a token, and whom it names: the real daemon, the real accounts of
//! the private host (`tests/host/passwd`), and what openssl says of the token.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::jwt::Jwt;
use crate::node::{ALICE, BOB, Daemon, edit_accounts, generate_key, records, stdout, until};

/// Root's, so that it can be read whoever `SlurmUser` is.
static RS256: LazyLock<PathBuf> = LazyLock::new(|| {
    let key = generate_key("RS256", "identity.pem");
    chown(&key, Some(0), Some(0)).unwrap();
    key
});
static HS256: LazyLock<PathBuf> = LazyLock::new(|| generate_key("HS256", "identity.key"));

/// A system account, and a delegate where the policy says so.
const PORTAL: u32 = 500;

/// The rules of a site: a portal for its users, save its operators.
static SITE: LazyLock<Daemon> = LazyLock::new(|| {
    daemon(
        "identity-site",
        "",
        r#"[[policy.delegate]]
           caller = "portal"
           for_groups = ["hpcusers", "operators"]
           deny_groups = ["workflow"]
           max_lifespan = "10m""#,
    )
});

/// Rules that leave nothing but who somebody is to refuse them.
static OPEN: LazyLock<Daemon> = LazyLock::new(|| {
    daemon(
        "identity-open",
        "",
        r#"[policy]
           min_uid = 0
           [[policy.delegate]]
           caller = "portal"
           for_groups = ["root", "slurm", "nogroup", "odd", "alice", "admin", "portal", "slurmrestd"]
           [[policy.delegate]]
           caller = "slurmrestd"
           for_groups = ["hpcusers"]"#,
    )
});

/// All that a token can carry.
static CLAIMS: LazyLock<Daemon> = LazyLock::new(|| {
    let tables = r#"[token]
        identity_claims = true
        issuer = "login1.example.org"
        audience = "slurm"
        [[policy.delegate]]
        caller = "portal"
        for_groups = ["hpcusers"]"#;
    Daemon::with("identity-claims", "HS256", &HS256, "", tables)
});

fn daemon(name: &str, top: &str, tables: &str) -> Daemon {
    Daemon::with(name, "RS256", &RS256, top, tables)
}

/// The answer to a uid that asks for its own token.
fn own(daemon: &Daemon, uid: u32) -> Value {
    daemon.ask_as(uid, r#"{"v":1,"op":"issue"}"#)
}

/// The answer to a uid that asks for a token of somebody else.
fn of_another(daemon: &Daemon, uid: u32, target: &str) -> Value {
    daemon.ask_as(
        uid,
        &json!({"v": 1, "op": "issue", "for": target}).to_string(),
    )
}

#[track_caller]
fn token(answer: &Value) -> Jwt {
    let token = answer["ok"]["token"].as_str();
    Jwt::read(token.unwrap_or_else(|| panic!("refused: {answer}")))
}

/// The name that Slurm will go by.
#[track_caller]
fn sun(answer: &Value) -> String {
    token(answer).claims["sun"].as_str().unwrap().to_owned()
}

#[track_caller]
fn refused(answer: &Value, code: &str, says: &str) {
    assert_eq!(answer["error"]["code"], code, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains(says), "{answer}");
    assert_eq!(answer["ok"], Value::Null);
}

// Who asks for a token of their own.

#[test]
fn each_user_gets_a_token_of_their_own_name() {
    for user in [ALICE, BOB] {
        assert_eq!(sun(&own(&SITE, user.uid)), user.name);
    }
}

#[test]
fn whoever_slurm_would_take_for_somebody_else_gets_none() {
    for (uid, says) in [
        (0, "root (uid 0)"),
        (64_030, "slurm (uid 64030)"),
        (2010, "\"2002\": it is a number"),
        (2011, "\"31337\": it is a number"),
        (2021, "\"machine$\": it is not a POSIX portable"),
        (2022, "\"alice@corp\": it is not a POSIX portable"),
        (
            2023,
            "\"alice smith\": it is empty, too long, or has a sign, white space",
        ),
        (2024, "\"zoë\": it is empty, too long, or has"),
        (2025, "\"ali=ce\": it is not a POSIX portable"),
        (65_534, "nobody in particular"),
    ] {
        refused(&own(&OPEN, uid), "privileged_user", says);
    }
}

#[test]
fn a_uid_without_an_account_gets_none() {
    // The last is what a container's user may have outside, and -2 in 32 bits.
    for uid in [50_000, 165_536, 4_294_967_294] {
        refused(&own(&OPEN, uid), "unknown_user", &uid.to_string());
    }
}

#[test]
fn a_name_with_a_full_stop_is_portable() {
    assert_eq!(sun(&own(&SITE, 2020)), "ali.ce");
}

#[test]
fn a_uid_of_two_names_has_a_token_of_the_first() {
    let answer = own(&SITE, ALICE.uid);
    assert_eq!(
        (sun(&answer), &answer["ok"]["user"]),
        ("alice".into(), &json!("alice"))
    );
}

#[test]
fn system_accounts_get_none() {
    refused(&own(&SITE, PORTAL), "not_allowed", "uid below 1000");
}

#[test]
fn asking_for_oneself_by_name_is_asking_for_oneself() {
    let token = token(&of_another(&SITE, ALICE.uid, "alice"));
    assert_eq!(
        (&token.claims["sun"], token.claims.get("act")),
        (&json!("alice"), None)
    );
    refused(
        &of_another(&SITE, PORTAL, "portal"),
        "not_allowed",
        "uid below 1000",
    );
    refused(
        &of_another(&SITE, 0, "root"),
        "privileged_user",
        "root (uid 0)",
    );
}

/// The answer to a command's standard input line, from whoever the command makes of it.
fn asked_through(daemon: &Daemon, runner: &[&str]) -> Value {
    let address = format!("UNIX-CONNECT:{}", daemon.socket().display());
    let mut socat = Command::new(runner[0])
        .args(&runner[1..])
        .args(["socat", "-t", "60", "-", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = socat.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"{\"v\":1,\"op\":\"issue\"}\n").unwrap();
    drop(stdin);
    serde_json::from_str(&stdout(socat.wait_with_output().unwrap())).unwrap()
}

/// alice, in a user namespace of her own.
const ALICE_ALONE: [&str; 8] = [
    "setpriv",
    "--reuid",
    "2001",
    "--regid",
    "2001",
    "--clear-groups",
    "unshare",
    "--user",
];

#[test]
fn whoever_makes_a_user_namespace_stays_who_they_are() {
    let unmapped = asked_through(&SITE, &ALICE_ALONE);
    let root = asked_through(&SITE, &[&ALICE_ALONE[..], &["--map-root-user"]].concat());
    assert_eq!(
        (sun(&unmapped), sun(&root)),
        ("alice".into(), "alice".into())
    );
}

#[test]
fn accounts_and_pids_of_somebodys_own_namespaces_count_for_nothing() {
    // There bob's name and root's uid are alice's, and her pid is 1.
    let script = "sed -e 's/^alice:/bob:/' -e 's/^root:/alice:/' /etc/passwd >/tmp/own-passwd && \
                  mount --bind /tmp/own-passwd /etc/passwd && exec \"$@\"";
    let own = [
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
        "sh",
        "-c",
        script,
        "sh",
    ];
    let runner = [&ALICE_ALONE[..], &own].concat();
    assert_eq!(sun(&asked_through(&SITE, &runner)), "alice");
}

#[test]
fn whom_the_daemon_cannot_tell_apart_it_serves_none() {
    // In a user namespace the kernel shows whoever has no uid there as 65534.
    let script = "unshare --user sleep 60 & pid=$!; \
                  until [ \"$(readlink /proc/$pid/ns/user)\" != \"$(readlink /proc/$$/ns/user)\" ]; \
                  do sleep 0.05; done; \
                  echo '0 0 2002' >/proc/$pid/uid_map; echo '0 0 65536' >/proc/$pid/gid_map; \
                  exec nsenter --target $pid --user \"$@\"";
    Daemon::configure("identity-namespace", "RS256", &RS256, "", "");
    let command = Daemon::through("identity-namespace", &["sh", "-c", script, "sh"]);
    let daemon = Daemon::spawn("identity-namespace", command);
    assert_eq!(sun(&own(&daemon, ALICE.uid)), "alice");
    refused(&own(&daemon, BOB.uid), "privileged_user", "uid 65534");
}

#[test]
fn the_effective_uid_counts() {
    let runner = [
        "setpriv",
        "--ruid",
        "alice",
        "--euid",
        "bob",
        "--clear-groups",
    ];
    assert_eq!(sun(&asked_through(&SITE, &runner)), "bob");
}

#[test]
fn allow_names_admits_what_matches_and_no_more() {
    let daemon = daemon(
        "identity-names",
        "",
        "[policy]\nallow_names = [\"*@corp\", \"*\", \"31*\"]",
    );
    assert_eq!(sun(&own(&daemon, 2022)), "alice@corp");
    for (uid, says) in [
        (2010, "number"),
        (2011, "number"),
        (2023, "white space"),
        (2024, "non-ASCII"),
    ] {
        refused(&own(&daemon, uid), "privileged_user", says);
    }
}

#[test]
fn allow_privileged_admits_root_and_slurm_user_for_themselves_only() {
    let top = "allow_privileged = [\"root\", \"slurm\"]";
    let tables = "[[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"root\", \"slurm\"]";
    let daemon = daemon("identity-privileged", top, tables);
    assert_eq!(sun(&own(&daemon, 0)), "root");
    assert_eq!(sun(&own(&daemon, 64_030)), "slurm");
    for name in ["root", "slurm"] {
        refused(&of_another(&daemon, PORTAL, name), "privileged_user", name);
    }
}

#[test]
fn while_slurm_user_has_no_account_nothing_is_issued() {
    let daemon = daemon(
        "identity-slurmless",
        "slurm_user = \"ctld\"",
        "[limits]\naccount_cache = \"1s\"",
    );
    refused(&own(&daemon, ALICE.uid), "not_allowed", "nothing is issued");
    edit_accounts("passwd", |text| {
        format!("{text}ctld:x:64040:2010::/:/bin/sh\n")
    });
    until("the account to be seen", || {
        own(&daemon, ALICE.uid)["ok"] != Value::Null
    });
    refused(&own(&daemon, 64_040), "privileged_user", "ctld (uid 64040)");
}

#[test]
fn slurm_user_is_found_though_another_name_of_its_uid_comes_first() {
    edit_accounts("passwd", |text| {
        format!("{text}first:x:64041:2010::/:/bin/sh\nsecond:x:64041:2010::/:/bin/sh\n")
    });
    let daemon = daemon("identity-second", "slurm_user = \"second\"", "");
    assert_eq!(sun(&own(&daemon, ALICE.uid)), "alice");
    refused(
        &own(&daemon, 64_041),
        "privileged_user",
        "first (uid 64041)",
    );
}

#[test]
fn a_denied_user_is_denied_by_any_name() {
    let daemon = daemon(
        "identity-denied",
        "",
        "[policy]\ndeny_users = [\"alice-too\"]",
    );
    refused(
        &own(&daemon, ALICE.uid),
        "not_allowed",
        "denies tokens to alice",
    );
    assert_eq!(sun(&own(&daemon, BOB.uid)), "bob");
}

#[test]
fn a_group_that_is_not_there_refuses_until_it_is() {
    let daemon = daemon(
        "identity-group",
        "",
        "[policy]\nallow_groups = [\"hpcusers\", \"newcomers\"]\n[limits]\naccount_cache = \"1s\"",
    );
    refused(
        &own(&daemon, ALICE.uid),
        "not_allowed",
        "group newcomers, which can't be found",
    );
    edit_accounts("group", |text| format!("{text}newcomers:x:2150:\n"));
    until("the group to be seen", || {
        own(&daemon, ALICE.uid)["ok"] != Value::Null
    });
}

// Accounts that change.

#[test]
fn a_new_account_is_seen() {
    let daemon = daemon("identity-new", "", "[limits]\naccount_cache = \"1s\"");
    refused(&own(&daemon, 2050), "unknown_user", "2050");
    edit_accounts("passwd", |text| {
        format!("{text}newcomer:x:2050:2010::/:/bin/sh\n")
    });
    until("the account to be seen", || {
        own(&daemon, 2050)["ok"]["user"] == "newcomer"
    });
}

#[test]
fn an_account_that_is_renamed_or_removed_loses_its_name() {
    edit_accounts("passwd", |text| {
        format!("{text}passing:x:2051:2010::/:/bin/sh\n")
    });
    let daemon = daemon("identity-gone", "", "[limits]\naccount_cache = \"1s\"");
    assert_eq!(sun(&own(&daemon, 2051)), "passing");
    edit_accounts("passwd", |text| text.replace("\npassing:", "\npassed:"));
    until("the new name to be seen", || {
        own(&daemon, 2051)["ok"]["user"] == "passed"
    });
    edit_accounts("passwd", |text| {
        text.replace("\npassed:x:2051:", "\npassed:x:2052:")
    });
    until("the loss to be seen", || {
        own(&daemon, 2051)["error"]["code"] == "unknown_user"
    });
}

#[test]
fn an_account_that_leaves_a_group_loses_what_the_group_gave() {
    edit_accounts("group", |text| format!("{text}leaving:x:2151:bob\n"));
    let daemon = daemon(
        "identity-leaves",
        "",
        "[policy]\nallow_groups = [\"leaving\"]\n[limits]\naccount_cache = \"1s\"",
    );
    assert_eq!(sun(&own(&daemon, BOB.uid)), "bob");
    edit_accounts("group", |text| {
        text.replace("\nleaving:x:2151:bob", "\nleaving:x:2151:")
    });
    until("the loss to be seen", || {
        own(&daemon, BOB.uid)["error"]["code"] == "not_allowed"
    });
}

// Who asks for others.

#[test]
fn a_delegate_gets_a_token_that_speaks_for_the_user_and_names_the_delegate() {
    let token = token(&of_another(&SITE, PORTAL, "alice"));
    assert_eq!(token.claims["sun"], "alice");
    assert_eq!(token.claims["act"], json!({"sub": "portal"}));
}

#[test]
fn the_record_of_a_delegation_has_both_names() {
    let answer = of_another(&SITE, PORTAL, "alice");
    let jti = format!("jti={}", answer["ok"]["jti"].as_str().unwrap());
    until("the record", || {
        records(&SITE).iter().any(|record| record.contains(&jti))
    });
    let records = records(&SITE);
    let record = records.iter().find(|record| record.contains(&jti)).unwrap();
    for part in ["uid=500 ", "user=portal ", "for=alice ", "sun=alice "] {
        assert!(record.contains(part), "{record}");
    }
}

#[test]
fn a_delegate_gets_none_for_whom_slurm_would_take_for_somebody_else() {
    for name in [
        "root",
        "toor",
        "slurm",
        "slurm-too",
        "nobody",
        "0",
        "2002",
        "31337",
        "+0",
        "-1",
        " 0",
        "machine$",
        "alice@corp",
        "alice smith",
        "zoë",
        "ali=ce",
        "alice\n",
        "alice\0",
        "",
        "ALICE\u{212a}",
    ] {
        let answer = of_another(&OPEN, PORTAL, name);
        let code = answer["error"]["code"].as_str().unwrap();
        // Of another name NSS returns the account under its first one.
        let expected = match name {
            "toor" | "slurm-too" => "unknown_user",
            _ => "privileged_user",
        };
        assert_eq!(code, expected, "{name:?}: {answer}");
    }
}

#[test]
fn a_delegate_gets_none_by_another_name_of_the_user() {
    for name in ["alice-too", "Alice", "ALICE", "nosuch"] {
        refused(&of_another(&OPEN, PORTAL, name), "unknown_user", name);
    }
}

#[test]
fn a_delegate_gets_none_for_an_administrator() {
    refused(
        &of_another(&OPEN, PORTAL, "admin"),
        "not_allowed",
        "an administrator",
    );
}

#[test]
fn a_delegate_gets_none_for_another_delegate() {
    refused(
        &of_another(&OPEN, PORTAL, "slurmrestd"),
        "not_allowed",
        "a delegate itself",
    );
}

#[test]
fn a_delegate_gets_none_outside_its_groups_and_in_those_denied_to_it() {
    refused(
        &of_another(&SITE, PORTAL, "ali.ce"),
        "not_allowed",
        "members of hpcusers",
    );
    refused(
        &of_another(&SITE, PORTAL, "bob"),
        "not_allowed",
        "save those in workflow",
    );
}

#[test]
fn a_delegate_gets_none_for_a_system_account() {
    let daemon = daemon(
        "identity-system",
        "",
        "[[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"munge\"]",
    );
    refused(
        &of_another(&daemon, PORTAL, "munge"),
        "not_allowed",
        "uid below 1000",
    );
}

#[test]
fn a_delegate_gets_none_that_lives_longer_than_its_cap() {
    let asked = |lifespan: &str| {
        let request = json!({"v": 1, "op": "issue", "for": "alice", "lifespan": lifespan});
        SITE.ask_as(PORTAL, &request.to_string())
    };
    let claims = token(&asked("max")).claims;
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        600
    );
    let answer = asked("601");
    refused(&answer, "lifespan_too_long", "10m");
    assert_eq!(answer["error"]["max_lifespan"], 600);
}

#[test]
fn nobody_else_gets_a_token_for_another_or_learns_who_there_is() {
    for name in ["alice", "root", "admin", "nosuch", "alice-too"] {
        refused(
            &of_another(&SITE, BOB.uid, name),
            "not_allowed",
            "of its own only",
        );
    }
    refused(
        &of_another(&SITE, 0, "alice"),
        "not_allowed",
        "of its own only",
    );
}

// What is in a token.

fn names(object: &Value) -> BTreeSet<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[allow(clippy::disallowed_methods, reason = "the clock that tokens go by")]
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[test]
fn the_header_names_the_algorithm_and_the_key() {
    let kid = SITE.jwks()["keys"][0]["kid"].clone();
    assert!(kid.is_string());
    let header = token(&own(&SITE, ALICE.uid)).header;
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": kid}));
    let header = token(&own(&CLAIMS, ALICE.uid)).header;
    assert_eq!(
        header,
        json!({"alg": "HS256", "typ": "JWT", "kid": "identity"})
    );
}

#[test]
fn the_claims_are_those_that_were_asked_for_and_no_more() {
    let before = now();
    let claims = token(&SITE.ask_as(ALICE.uid, r#"{"v":1,"op":"issue","lifespan":600}"#)).claims;
    let after = now();
    assert_eq!(
        names(&claims),
        BTreeSet::from(["iat", "nbf", "exp", "jti", "sun"])
    );
    let seconds = |name: &str| claims[name].as_u64().unwrap();
    assert!((before..=after).contains(&seconds("iat")));
    assert_eq!(
        (seconds("nbf"), seconds("exp")),
        (seconds("iat"), seconds("iat") + 600)
    );
}

#[test]
fn each_token_has_a_number_of_its_own_of_128_bits() {
    let numbers: BTreeSet<_> = (0..8)
        .map(|_| {
            token(&own(&SITE, ALICE.uid)).claims["jti"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(numbers.len(), 8);
    let is_sound = |jti: &String| jti.len() == 32 && u128::from_str_radix(jti, 16).is_ok();
    assert!(numbers.iter().all(is_sound), "{numbers:?}");
}

#[test]
fn the_answer_says_what_the_token_says() {
    let answer = of_another(&SITE, PORTAL, "alice");
    let (token, ok) = (token(&answer), &answer["ok"]);
    assert_eq!(ok["user"], token.claims["sun"]);
    assert_eq!(ok["expires_at"], token.claims["exp"]);
    assert_eq!(ok["jti"], token.claims["jti"]);
    assert_eq!(ok["kid"], token.header["kid"]);
}

#[test]
fn an_rs256_token_is_signed_by_the_key_of_the_configuration() {
    let token = token(&own(&SITE, ALICE.uid));
    assert!(token.is_signed_by_rsa(&RS256));
    assert!(!token.is_signed_by_rsa(&generate_key("RS256", "identity-other.pem")));
}

#[test]
fn an_hs256_token_is_signed_by_the_bytes_of_the_key_file() {
    let token = token(&own(&CLAIMS, ALICE.uid));
    let key = fs::read(&*HS256).unwrap();
    assert!(token.is_signed_by_hmac(&key));
    assert!(!token.is_signed_by_hmac(&key[1..]));
}

#[test]
fn issuer_and_audience_are_those_of_the_configuration() {
    let claims = token(&own(&CLAIMS, ALICE.uid)).claims;
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (&json!("login1.example.org"), &json!("slurm"))
    );
}

// Identity claims.

#[test]
fn identity_claims_are_those_of_the_account_with_all_its_groups() {
    let claims = token(&own(&CLAIMS, BOB.uid)).claims;
    assert_eq!(
        (&claims["uid"], &claims["gid"]),
        (&json!(2002), &json!(2002))
    );
    let expected = json!({
        "name": "bob",
        "gecos": "Bob Example",
        "dir": "/var/home/bob",
        "shell": "/bin/sh",
        "groups": {"bob": 2002, "hpcusers": 2100, "workflow": 2101},
    });
    assert_eq!(claims["id"], expected);
}

#[test]
fn an_account_without_a_gecos_has_its_name_there() {
    let claims = token(&own(&CLAIMS, 2020)).claims;
    assert_eq!(claims["id"]["gecos"], "ali.ce");
}

#[test]
fn a_delegate_gets_the_identity_claims_of_the_user() {
    let claims = token(&of_another(&CLAIMS, PORTAL, "alice")).claims;
    assert_eq!(
        (&claims["uid"], &claims["id"]["name"]),
        (&json!(2001), &json!("alice"))
    );
    assert_eq!(
        claims["id"]["groups"],
        json!({"alice": 2001, "hpcusers": 2100})
    );
}

#[test]
fn groups_below_the_least_are_left_out() {
    let daemon = daemon(
        "identity-least",
        "",
        "[token]\nidentity_claims = true\nidentity_min_gid = 2101",
    );
    let claims = token(&own(&daemon, BOB.uid)).claims;
    assert_eq!(
        claims["id"]["groups"],
        json!({"bob": 2002, "workflow": 2101})
    );
}

#[test]
fn an_account_of_roots_group_gets_no_identity_claims_and_so_no_token() {
    refused(&own(&CLAIMS, 2030), "privileged_user", "gid 0");
    assert_eq!(sun(&own(&SITE, 2030)), "wheeled");
}

#[test]
fn a_group_without_a_name_is_carried_by_its_number() {
    edit_accounts("passwd", |text| {
        format!("{text}lonely:x:2053:2999::/:/bin/sh\n")
    });
    let claims = token(&own(&CLAIMS, 2053)).claims;
    assert_eq!(
        (&claims["gid"], &claims["id"]["gids"]),
        (&json!(2999), &json!([2999]))
    );
    assert_eq!(claims["id"].get("groups"), None);
}

#[test]
fn a_token_that_would_be_too_large_is_refused_and_the_journal_names_its_account_once() {
    edit_accounts("passwd", |text| {
        format!("{text}joiner:x:2054:2010::/:/bin/sh\n")
    });
    edit_accounts("group", |text| {
        use std::fmt::Write as _;
        let mut text = text.to_owned();
        for i in 0..400 {
            let gid = 30_000 + i;
            writeln!(text, "a-project-with-a-long-name-{gid}:x:{gid}:joiner").unwrap();
        }
        text
    });
    let daemon = daemon("identity-large", "", "[token]\nidentity_claims = true");
    for _ in 0..3 {
        refused(&own(&daemon, 2054), "token_too_large", "12 KiB");
    }
    let told = || {
        daemon
            .journal()
            .matches("joiner (uid 2054): no token")
            .count()
    };
    until("the journal to name the account", || told() > 0);
    assert_eq!(told(), 1, "{}", daemon.journal());
    assert!(daemon.journal().contains("raise identity_min_gid"));
}

#[test]
fn a_rules_kid_issuer_and_audience_are_those_of_the_tokens_it_gives() {
    let other = generate_key("RS256", "identity-rule.pem");
    chown(&other, Some(0), Some(0)).unwrap();
    let tables = format!(
        r#"kid = "first"
           [[signing.other]]
           key = "{}"
           algorithm = "RS256"
           kid = "other"
           [[policy.rule]]
           users = ["bob"]
           kid = "other"
           issuer = "login1.example.org"
           audience = "workflows""#,
        other.display()
    );
    let daemon = daemon("identity-rule-kid", "", &tables);

    let bobs = own(&daemon, BOB.uid);
    assert_eq!(bobs["ok"]["kid"], "other");
    let claims = token(&bobs).claims;
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (&json!("login1.example.org"), &json!("workflows"))
    );
    assert_eq!(
        daemon.ask_as(BOB.uid, r#"{"v":1,"op":"whoami"}"#)["ok"]["kid"],
        "other"
    );
    let alices = own(&daemon, ALICE.uid);
    assert_eq!(alices["ok"]["kid"], "first");
    assert_eq!(token(&alices).claims.get("iss"), None);

    let kids: Vec<Value> = daemon.jwks()["keys"].as_array().unwrap().clone();
    let kids: Vec<&Value> = kids.iter().map(|key| &key["kid"]).collect();
    assert_eq!(kids, [&json!("first"), &json!("other")]);
    for answer in [&bobs, &alices] {
        let verify = json!({"v": 1, "op": "verify", "token": answer["ok"]["token"]});
        let verified = daemon.ask_as(ALICE.uid, &verify.to_string());
        assert_eq!(verified["ok"]["kid"], answer["ok"]["kid"], "{verified}");
    }
}
