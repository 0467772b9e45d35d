//! `slurm-tokenctl policy test` says what the daemon decides.

use std::fs;
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::jwt::Jwt;
use crate::node::{ALICE, BOB, Daemon, generate_key, records, stdout, until};

/// Each rule and delegate that an answer can come from.
const TABLES: &str = r#"
    [policy]
    deny_users = ["ali.ce"]
    [[policy.rule]]
    groups = ["workflow"]
    default_lifespan = "10m"
    max_lifespan = "1h"
    identity_claims = true
    audience = "slurm"
    [[policy.delegate]]
    caller = "portal"
    for_groups = ["hpcusers", "operators", "root"]
    max_lifespan = "20m"
    [[policy.delegate]]
    caller = "slurmrestd"
    for_groups = ["hpcusers"]
    deny_groups = ["workflow"]
"#;

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let key = generate_key("HS256", "policy-test.key");
    Daemon::with("policy-test", "HS256", &key, "", TABLES)
});

/// A caller: name and uid, as tests/host/passwd has them.
type Caller = (&'static str, u32);
const PORTAL: Caller = ("portal", 500);
const SLURMRESTD: Caller = ("slurmrestd", 502);

/// What is asked: by whom, for whom, and for how long.
type Question = (Caller, Option<&'static str>, Option<&'static str>);

fn test(args: &[&str]) -> Output {
    LazyLock::force(&DAEMON);
    Command::new("slurm-tokenctl")
        .args(["policy", "test", "--config"])
        .arg(Daemon::configuration_of("policy-test"))
        .args(args)
        .output()
        .unwrap()
}

/// What the command says, and its exit status.
fn said(((name, _), target, lifespan): Question) -> (Value, Option<i32>) {
    let mut args = vec!["--json", name];
    args.extend(target.iter().flat_map(|name| ["--for", *name]));
    args.extend(lifespan.iter().flat_map(|time| ["--lifespan", *time]));
    let output = test(&args);
    let told = serde_json::from_slice(&output.stdout);
    (
        told.unwrap_or_else(|_| panic!("{output:?}")),
        output.status.code(),
    )
}

/// The daemon's answer to the same.
fn answer(((_, uid), target, lifespan): Question) -> Value {
    let mut request = json!({"v": 1, "op": "issue"});
    if let Some(name) = target {
        request["for"] = name.into();
    }
    if let Some(lifespan) = lifespan {
        request["lifespan"] = lifespan.into();
    }
    DAEMON.ask_as(uid, &request.to_string())
}

/// The rule that is on record for a token.
fn rule(jti: &str) -> String {
    let record = || records(&DAEMON).into_iter().find(|r| r.contains(jti));
    until("the record", || record().is_some());
    let record = record().unwrap();
    let (_, rule) = record.split_once(" rule=").unwrap();
    rule.split_whitespace().next().unwrap().to_owned()
}

/// The daemon gives what the command says, and by the same rule.
#[track_caller]
fn is_given(question: Question) {
    let answer = answer(question);
    let token = answer["ok"]["token"].as_str();
    let claims = Jwt::read(token.unwrap_or_else(|| panic!("refused: {answer}"))).claims;
    let seconds = |name: &str| claims[name].as_u64().unwrap();
    let longest = self::answer((question.0, question.1, Some("max")));
    let longest = Jwt::read(longest["ok"]["token"].as_str().unwrap()).claims;
    let longest = longest["exp"].as_u64().unwrap() - longest["iat"].as_u64().unwrap();
    let mut expected = json!({
        "allowed": true,
        "user": claims["sun"],
        "rule": rule(claims["jti"].as_str().unwrap()),
        "lifespan": seconds("exp") - seconds("iat"),
        "max_lifespan": longest,
        "identity_claims": claims["id"].is_object(),
    });
    if let Some(service) = claims["act"]["sub"].as_str() {
        expected["delegate"] = service.into();
    }
    if let Some(audience) = claims["aud"].as_str() {
        expected["audience"] = audience.into();
    }
    assert_eq!(said(question), (expected, Some(0)), "{question:?}");
}

/// The daemon refuses with what the command says, word for word.
#[track_caller]
fn is_refused(question: Question, code: &str) {
    let answer = answer(question);
    assert_eq!(answer["error"]["code"], code, "{question:?}: {answer}");
    let expected = json!({"allowed": false, "error": answer["error"]});
    assert_eq!(said(question), (expected, Some(1)), "{question:?}");
}

#[test]
fn it_says_what_users_get_for_themselves() {
    for (name, uid) in [(ALICE.name, ALICE.uid), (BOB.name, BOB.uid)] {
        for lifespan in [None, Some("5m"), Some("max")] {
            is_given(((name, uid), None, lifespan));
        }
        // Whoever names themselves asks for their own.
        is_given(((name, uid), Some(name), None));
    }
}

#[test]
fn it_says_who_gets_none_for_themselves() {
    for (caller, code) in [
        (("root", 0), "privileged_user"),
        (("slurm", 64_030), "privileged_user"),
        (("2002", 2010), "privileged_user"),
        (("zoë", 2024), "privileged_user"),
        (("ali.ce", 2020), "not_allowed"),
        (PORTAL, "not_allowed"),
    ] {
        is_refused((caller, None, None), code);
    }
}

#[test]
fn it_says_who_has_no_account() {
    // The daemon is asked by uids: nobody can ask it by another's second name.
    for name in ["nosuch", "toor", "alice-too", "2001", ""] {
        let (said, status) = said(((name, 0), None, None));
        assert_eq!(said["error"]["code"], "unknown_user", "{name}: {said}");
        assert_eq!(status, Some(1), "{name}");
    }
}

#[test]
fn it_says_who_may_have_how_long() {
    is_refused(
        (("alice", ALICE.uid), None, Some("13h")),
        "lifespan_too_long",
    );
    is_refused((("bob", BOB.uid), None, Some("61m")), "lifespan_too_long");
    is_refused((PORTAL, Some("alice"), Some("21m")), "lifespan_too_long");
}

#[test]
fn it_says_what_a_service_gets_for_others() {
    for lifespan in [None, Some("5m"), Some("max")] {
        is_given((PORTAL, Some("alice"), lifespan));
        is_given((PORTAL, Some("bob"), lifespan));
        is_given((SLURMRESTD, Some("alice"), lifespan));
    }
}

#[test]
fn it_says_for_whom_a_service_gets_none() {
    for (target, code) in [
        ("root", "privileged_user"),
        ("slurm", "privileged_user"),
        ("0", "privileged_user"),
        ("admin", "not_allowed"),
        ("slurmrestd", "not_allowed"),
        ("ali.ce", "not_allowed"),
        ("munge", "not_allowed"),
        ("alice-too", "unknown_user"),
        ("nosuch", "unknown_user"),
    ] {
        is_refused((PORTAL, Some(target), None), code);
    }
    is_refused((SLURMRESTD, Some("bob"), None), "not_allowed");
}

#[test]
fn it_says_that_nobody_else_gets_any_for_others() {
    for caller in [("alice", ALICE.uid), ("admin", 2003), ("root", 0)] {
        for target in ["bob", "slurm", "nosuch"] {
            is_refused((caller, Some(target), None), "not_allowed");
        }
    }
}

#[test]
fn it_makes_no_token_and_records_nothing() {
    let key = generate_key("HS256", "policy-silent.key");
    let daemon = Daemon::with("policy-silent", "HS256", &key, "", TABLES);
    let mut test = Command::new("slurm-tokenctl");
    test.args(["policy", "test", "alice", "--config"])
        .arg(Daemon::configuration_of("policy-silent"));
    assert_eq!(
        stdout(test.output().unwrap()),
        "alice gets a token of 30m, 12h at most (rule default).\n"
    );
    // What comes after it is the first record.
    daemon.ask_as(BOB.uid, r#"{"v":1,"op":"issue"}"#);
    until("a record", || !records(&daemon).is_empty());
    let records = records(&daemon);
    assert!(
        records.iter().all(|r| r.contains(" user=bob ")),
        "{records:?}"
    );
}

#[test]
fn it_tells_people_of_rule_service_claims_and_code() {
    let words = |args: &[&str]| String::from_utf8(test(args).stdout).unwrap();
    assert_eq!(
        words(&["portal", "--for", "bob", "--lifespan", "max"]),
        "bob through portal gets a token of 20m, 20m at most (rule rule-1), with identity claims.\n"
    );
    assert!(words(&["root"]).starts_with("privileged_user: "));
    assert!(words(&["no\u{1b}[1msuch"]).starts_with("unknown_user: "));
    assert!(!words(&["no\u{1b}[1msuch"]).contains('\u{1b}'));
}

#[test]
fn it_goes_by_what_the_file_says_now() {
    let key = generate_key("HS256", "policy-new.key");
    Daemon::configure("policy-new", "HS256", &key, "", TABLES);
    let file = Daemon::configuration_of("policy-new");
    let alice = || {
        let mut test = Command::new("slurm-tokenctl");
        test.args(["policy", "test", "alice", "--config"])
            .arg(&file);
        test.output().unwrap()
    };
    assert!(alice().status.success());
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"ali.ce\"", "\"alice\"")).unwrap();
    let denied = alice();
    assert_eq!(denied.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&denied.stdout).starts_with("not_allowed: "));
}

#[test]
fn a_broken_configuration_and_one_that_is_missing_answer_nothing() {
    let key = generate_key("HS256", "policy-broken.key");
    let broken = "[policy]\nmin_uidd = 5\n[[policy.rule]]\nmax_lifespan = \"soon\"\n";
    Daemon::configure("policy-broken", "HS256", &key, "", broken);
    let missing = "there is no configuration";
    for (named, says) in [
        (true, &["min_uidd", "max_lifespan"][..]),
        (false, &[missing][..]),
    ] {
        let mut test = Command::new("slurm-tokenctl");
        test.args(["policy", "test", "alice"]);
        if named {
            let file = Daemon::configuration_of("policy-broken");
            test.arg("--config").arg(file);
        }
        test.env_remove("SLURM_TOKEND_CONF");
        let output = test.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty());
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(says.iter().all(|word| words.contains(word)), "{words}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for args in [
        &[][..],
        &["alice", "--lifespan", "soon"],
        &["alice", "--lifespan", "0"],
        &["alice", "bob"],
    ] {
        let output = test(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty());
    }
}
