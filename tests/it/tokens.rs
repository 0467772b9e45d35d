//! What `slurm-tokenctl token` signs, for whom it doesn't, and what it says of
//! others' tokens.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;

use crate::jwt::Jwt;
use crate::node::{ALICE, Daemon, generate_key, install, records_of, run_with, until};

static RSA: LazyLock<PathBuf> = LazyLock::new(|| generate_key("RS256", "tokens.pem"));
static SECRET: LazyLock<PathBuf> = LazyLock::new(|| generate_key("HS256", "tokens.key"));

/// What a command did, and which process it was.
struct Done {
    pid: u32,
    output: Output,
}

impl Done {
    fn words(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    fn prints(&self) -> String {
        assert!(self.output.status.success(), "{}", self.words());
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    /// The words with which it failed, printing nothing else.
    fn fails(&self) -> String {
        assert_eq!(self.output.status.code(), Some(1), "{}", self.words());
        assert!(self.output.stdout.is_empty());
        self.words()
    }

    /// Its audit records, once there are as many.
    fn records(&self, number: usize) -> Vec<String> {
        until("the audit records", || records_of(self.pid).len() >= number);
        records_of(self.pid)
    }
}

/// Runs a command with this standard input.
fn run(command: &mut Command, input: &[u8]) -> Done {
    install();
    let (pid, output) = run_with(command, input);
    Done { pid, output }
}

fn ctl(args: &[&str], input: &[u8]) -> Done {
    run(Command::new("slurm-tokenctl").args(args), input)
}

/// Signs with a key of this algorithm.
fn sign(algorithm: &str, args: &[&str]) -> Done {
    let (key, kid) = match algorithm {
        "RS256" => (&*RSA, None),
        _ => (&*SECRET, Some("--kid=secret")),
    };
    let mut all = vec![
        "token",
        "sign",
        "--alg",
        algorithm,
        "--key",
        key.to_str().unwrap(),
    ];
    all.extend(kid);
    all.extend(args);
    ctl(&all, b"")
}

fn token(args: &[&str]) -> String {
    sign("RS256", args).prints().trim_end().to_owned()
}

fn verify(args: &str, token: &str) -> Done {
    let mut all = vec!["token", "verify"];
    all.extend(args.split(' '));
    ctl(&all, token.as_bytes())
}

/// With `key` in the place of KEY.
fn verify_with(key: &Path, args: &str, token: &str) -> Done {
    verify(&args.replace("KEY", key.to_str().unwrap()), token)
}

fn inspect(token: &str) -> Done {
    ctl(&["token", "inspect"], token.as_bytes())
}

/// A file of the test's own that only root reads.
fn secret_file(name: &str, bytes: &[u8]) -> PathBuf {
    install();
    let path = Path::new("/etc/slurm").join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn root_signs_a_token_with_either_algorithm_that_openssl_finds_genuine() {
    let read = |algorithm| Jwt::read(sign(algorithm, &["--sun", "alice"]).prints().trim_end());
    assert!(read("RS256").is_signed_by_rsa(&RSA));
    assert!(read("HS256").is_signed_by_hmac(&fs::read(&*SECRET).unwrap()));
}

#[test]
fn a_signed_token_says_what_the_daemons_say() {
    let jwt = Jwt::read(&token(&[
        "--sun",
        "alice",
        "--kid",
        "login1",
        "--lifespan",
        "1h",
    ]));
    assert_eq!(
        jwt.header,
        serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": "login1"})
    );
    let seconds = |name: &str| jwt.claims[name].as_u64().unwrap();
    assert_eq!(seconds("exp") - seconds("iat"), 3600);
    assert_eq!(seconds("nbf"), seconds("iat"));
    assert_eq!(jwt.claims["sun"], "alice");
    assert_eq!(jwt.claims["jti"].as_str().unwrap().len(), 32);
    assert_eq!(jwt.claims.as_object().unwrap().len(), 5);
}

#[test]
fn a_lifespan_is_the_policys_default_or_what_root_says() {
    let lives = |args: &[&str]| {
        let claims = Jwt::read(&token(args)).claims;
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap()
    };
    assert_eq!(lives(&["--sun", "alice"]), 1800);
    assert_eq!(lives(&["--sun", "alice", "--lifespan", "max"]), 43_200);
    let longer = sign("RS256", &["--sun", "alice", "--lifespan", "30d"]);
    assert!(
        longer
            .words()
            .contains("the daemon's tokens for 12h at most")
    );
    let words = sign("RS256", &["--sun", "alice", "--lifespan", "infinite"]);
    assert_eq!(words.output.status.code(), Some(2));
}

#[test]
fn a_grant_stands_in_the_audit_record_with_the_administrator_and_the_user() {
    let signed = sign("RS256", &["--sun", "alice", "--lifespan", "60"]);
    let claims = Jwt::read(signed.prints().trim_end()).claims;
    let records = signed.records(1);
    let [record] = records.as_slice() else {
        panic!("{records:?}")
    };
    let expected = format!(
        "op=sign result=granted uid=0 user=root pid={} for=alice sun=alice lifespan=60 exp={} kid=",
        signed.pid, claims["exp"]
    );
    assert!(record.starts_with("<86>"), "{record}");
    assert!(record.contains(&expected), "{record}");
    let jti = claims["jti"].as_str().unwrap();
    assert!(
        record.ends_with(&format!("jti={jti} rule=root")),
        "{record}"
    );
}

#[test]
fn whom_no_token_may_name_root_can_t_name_either_and_that_is_on_record() {
    for (sun, code) in [
        ("root", "privileged_user"),
        ("slurm", "privileged_user"),
        ("toor", "unknown_user"),
        ("slurm-too", "unknown_user"),
        ("alice-too", "unknown_user"),
        ("nobody", "privileged_user"),
        ("0", "privileged_user"),
        ("00", "privileged_user"),
        ("+0", "privileged_user"),
        (" 0", "privileged_user"),
        ("2002", "privileged_user"),
        ("31337", "privileged_user"),
        ("", "privileged_user"),
        ("alice ", "privileged_user"),
        ("alice\n", "privileged_user"),
        ("alice@corp", "privileged_user"),
        ("zo\u{eb}", "privileged_user"),
        ("ALICE", "unknown_user"),
        ("nosuchuser", "unknown_user"),
    ] {
        let signed = sign("HS256", &["--sun", sun]);
        signed.fails();
        let records = signed.records(1);
        assert!(
            records[0].ends_with(&format!("code={code}")),
            "{sun:?}: {records:?}"
        );
    }
}

#[test]
fn root_may_sign_for_an_account_that_the_policy_leaves_out() {
    // uid 500, below min_uid.
    assert_eq!(
        Jwt::read(&token(&["--sun", "portal"])).claims["sun"],
        "portal"
    );
}

#[test]
fn only_root_signs() {
    let mut sign = ALICE.runs("/usr/sbin/slurm-tokenctl");
    sign.args(["token", "sign", "--sun", "alice", "--alg", "RS256", "--key"]);
    let words = run(sign.arg(&*RSA), b"").fails();
    assert!(words.contains("this is not root"), "{words}");
}

#[test]
fn the_configuration_gives_key_kid_issuer_and_whom_it_denies() {
    let tables = "kid = \"login1-2026\"\n\
                  [token]\n\
                  issuer = \"login1\"\n\
                  [policy]\n\
                  deny_users = [\"bob\"]";
    Daemon::configure("sign", "RS256", &RSA, "", tables);
    let config = Daemon::configuration_of("sign");
    let config = config.to_str().unwrap();
    let signed = ctl(
        &["token", "sign", "--sun", "alice", "--config", config],
        b"",
    )
    .prints();
    let jwt = Jwt::read(signed.trim_end());
    assert_eq!(
        (&jwt.header["kid"], &jwt.claims["iss"]),
        (&"login1-2026".into(), &"login1".into())
    );
    assert!(jwt.is_signed_by_rsa(&RSA));
    // The configuration's own key has the configured kid by its path, too.
    let by_path = sign("RS256", &["--sun", "alice", "--config", config]).prints();
    assert_eq!(Jwt::read(by_path.trim_end()).header["kid"], "login1-2026");
    let denied = ctl(&["token", "sign", "--sun", "bob", "--config", config], b"").fails();
    assert!(
        denied.contains("The policy denies tokens to bob"),
        "{denied}"
    );
}

#[test]
fn root_signs_for_nobody_who_is_blocked_on_the_node() {
    let daemon = Daemon::start("sign-blocked", "RS256", &RSA);
    let socket = daemon.socket().to_str().unwrap();
    let config = Daemon::configuration_of("sign-blocked");
    let sign = |sun| {
        let config = config.to_str().unwrap();
        ctl(&["token", "sign", "--sun", sun, "--config", config], b"")
    };
    ctl(&["block", "--socket", socket, "alice"], b"").prints();
    let blocked = sign("alice");
    blocked.fails();
    assert!(blocked.records(1)[0].ends_with("code=blocked"));
    sign("bob").prints();
    ctl(&["unblock", "--socket", socket, "alice"], b"").prints();
    sign("alice").prints();
}

#[test]
fn a_configuration_that_can_t_be_read_never_becomes_defaults() {
    let broken = secret_file("broken.toml", b"[policy]\nmin_uids = 1\n");
    let config = broken.to_str().unwrap();
    let words = sign("RS256", &["--sun", "alice", "--config", config]).fails();
    assert!(words.contains("min_uids"), "{words}");
    let words = sign(
        "RS256",
        &["--sun", "alice", "--config", "/etc/slurm/none.toml"],
    )
    .fails();
    assert!(words.contains("none.toml"), "{words}");
}

#[test]
fn how_long_tokens_of_the_key_may_live_is_on_the_disk_before_anybody_has_one() {
    let table = "[token]\nmax_lifespan = \"1h\"";
    Daemon::configure(
        "expiry",
        "HS256",
        &SECRET,
        "",
        &format!("kid = \"expiry\"\n{table}"),
    );
    let config = Daemon::configuration_of("expiry");
    let args = [
        "token",
        "sign",
        "--sun",
        "alice",
        "--config",
        config.to_str().unwrap(),
    ];
    let record = Path::new("/var/lib/slurm-tokend-expiry/expiry-expiry.json");
    let recorded = || {
        let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
        record["latest_exp"].as_u64().unwrap()
    };
    let exp = |args: &[&str]| {
        let claims = Jwt::read(ctl(args, b"").prints().trim_end()).claims;
        claims["exp"].as_u64().unwrap()
    };
    let long = exp(&[&args[..], &["--lifespan", "9d"]].concat());
    assert_eq!(recorded(), long);
    exp(&args);
    assert_eq!(recorded(), long);
    let daemon = fs::metadata("/var/lib/slurm-tokend-expiry").unwrap();
    assert_eq!((daemon.uid(), daemon.mode() & 0o7777), (501, 0o700));
}

#[test]
fn without_that_record_there_is_no_token() {
    Daemon::configure("nostate", "HS256", &SECRET, "", "kid = \"nostate\"");
    let directory = Path::new("/var/lib/slurm-tokend-nostate");
    fs::write(directory, "").unwrap();
    let config = Daemon::configuration_of("nostate");
    let config = config.to_str().unwrap();
    let signed = ctl(
        &["token", "sign", "--sun", "alice", "--config", config],
        b"",
    );
    assert!(signed.fails().contains("slurm-tokend-nostate"));
    assert!(records_of(signed.pid).is_empty());
}

#[test]
fn without_the_audit_record_there_is_no_token() {
    // A mount namespace of its own, in which nobody listens to the log.
    let mut sign = Command::new("unshare");
    sign.args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount --bind /dev/null /dev/log && exec slurm-tokenctl token sign --sun alice --alg RS256 --key \"$0\"")
        .arg(&*RSA);
    let words = run(&mut sign, b"").fails();
    assert!(
        words.contains("it can't be handed over, so there is no token"),
        "{words}"
    );
}

#[test]
fn json_has_the_members_that_the_daemon_answers_with() {
    let signed = sign("RS256", &["--sun", "alice", "--json"]).prints();
    let signed: Value = serde_json::from_str(&signed).unwrap();
    let jwt = Jwt::read(signed["token"].as_str().unwrap());
    assert_eq!(signed["user"], "alice");
    assert_eq!(signed["expires_at"], jwt.claims["exp"]);
    assert_eq!(
        (&signed["kid"], &signed["jti"]),
        (&jwt.header["kid"], &jwt.claims["jti"])
    );
}

#[test]
fn a_secret_is_named_after_its_file_and_its_algorithm_is_never_guessed() {
    let secret = SECRET.to_str().unwrap();
    let args = [
        "token", "sign", "--sun", "alice", "--alg", "HS256", "--key", secret,
    ];
    let signed = ctl(&args, b"").prints();
    assert_eq!(Jwt::read(signed.trim_end()).header["kid"], "tokens");
    let unsaid = ctl(&["token", "sign", "--sun", "alice", "--key", secret], b"");
    assert_eq!(unsaid.output.status.code(), Some(2));
}

#[test]
fn a_token_is_verified_by_its_key_in_any_form() {
    let signed = token(&["--sun", "alice"]);
    let rsa = RSA.to_str().unwrap();
    let made = |args: &[&str], name: &str| {
        let text = ctl(args, b"").prints();
        secret_file(name, text.as_bytes())
    };
    let public = made(&["key", "public", rsa], "verify-public.pem");
    let jwk = made(&["key", "jwk", rsa], "verify.jwk");
    let private = Path::new("/etc/slurm/verify-private.jwk");
    ctl(
        &[
            "key",
            "jwk",
            "--private",
            "--out",
            private.to_str().unwrap(),
            rsa,
        ],
        b"",
    )
    .prints();
    for key in [&*RSA, &public, &jwk, private] {
        let told = verify_with(key, "--key KEY", &signed).prints();
        assert!(
            told.starts_with("valid: a token for alice, until "),
            "{told}"
        );
    }
    let set = made(&["jwks", "build", rsa], "verify.json");
    assert!(
        verify_with(&set, "--jwks KEY", &signed)
            .prints()
            .starts_with("valid: ")
    );
    let secret = sign("HS256", &["--sun", "alice"]).prints();
    assert!(
        verify_with(&SECRET, "--alg HS256 --key KEY", &secret)
            .prints()
            .starts_with("valid: ")
    );
}

#[test]
fn a_token_of_another_key_is_not_verified() {
    let other = generate_key("RS256", "tokens-other.pem");
    let signed = token(&["--sun", "alice"]);
    let words = verify_with(&other, "--key KEY", &signed).fails();
    assert!(words.contains("signature is not of the key"), "{words}");
    let secret = sign("HS256", &["--sun", "alice"]).prints();
    let words = verify_with(&RSA, "--key KEY", &secret).fails();
    assert!(
        words.contains("says that it is signed with \"HS256\", and its key is for RS256"),
        "{words}"
    );
}

#[test]
fn the_kid_counts_where_it_is_asked_for() {
    let signed = token(&["--sun", "alice", "--kid", "login1"]);
    verify_with(&RSA, "--key KEY --kid login1", &signed).prints();
    let words = verify_with(&RSA, "--key KEY --kid login2", &signed).fails();
    assert!(
        words.contains("the key \"login1\", which is not known here"),
        "{words}"
    );
}

#[test]
fn several_sets_are_searched_and_two_keys_of_one_kid_are_refused() {
    let other = generate_key("RS256", "tokens-second.pem");
    let set = |key: &Path, kid: &str, name: &str| {
        let key = key.to_str().unwrap();
        let text = ctl(&["jwks", "build", "--kid", kid, key], b"").prints();
        secret_file(name, text.as_bytes())
    };
    let (one, two) = (set(&RSA, "one", "one.json"), set(&other, "two", "two.json"));
    let signed = token(&["--sun", "alice", "--kid", "one"]);
    let args =
        |one: &Path, two: &Path| format!("--jwks {} --jwks {}", two.display(), one.display());
    verify(&args(&one, &two), &signed).prints();
    let again = set(&other, "one", "again.json");
    let words = verify(&args(&again, &one), &signed).fails();
    assert!(
        words.contains("another key with the kid \"one\" is known already"),
        "{words}"
    );
}

#[test]
fn what_verify_finds_can_be_read_by_a_program() {
    let signed = token(&["--sun", "alice"]);
    let found = verify_with(&RSA, "--key KEY --json", &signed).prints();
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(
        (&found["valid"], &found["algorithm"]),
        (&true.into(), &"RS256".into())
    );
    assert_eq!(found["claims"], Jwt::read(&signed).claims);
    let rejected = verify_with(&RSA, "--key KEY --json", "x");
    assert_eq!(rejected.output.status.code(), Some(1));
    let rejected: Value = serde_json::from_slice(&rejected.output.stdout).unwrap();
    assert_eq!(
        (&rejected["valid"], &rejected["error"]["code"]),
        (&false.into(), &"token_invalid".into())
    );
}

#[test]
fn a_token_may_come_as_slurm_token_prints_it() {
    let signed = token(&["--sun", "alice"]);
    for input in [format!("SLURM_JWT={signed}\n"), format!("\n {signed} \r\n")] {
        verify_with(&RSA, "--key KEY", &input).prints();
        verify_with(&RSA, "--key KEY -", &input).prints();
    }
    verify_with(&RSA, &format!("--key KEY {signed}"), "").prints();
}

#[test]
fn anybody_may_verify_and_inspect() {
    let signed = token(&["--sun", "alice"]);
    let set = Path::new("/etc/slurm/anybody.json");
    let args = [
        "jwks",
        "build",
        "--out",
        set.to_str().unwrap(),
        RSA.to_str().unwrap(),
    ];
    ctl(&args, b"").prints();
    let as_alice = |args: &[&str]| {
        run(
            ALICE.runs("/usr/sbin/slurm-tokenctl").args(args),
            signed.as_bytes(),
        )
    };
    as_alice(&["token", "verify", "--jwks", set.to_str().unwrap()]).prints();
    as_alice(&["token", "inspect"]).prints();
    let words = as_alice(&["token", "verify", "--key", RSA.to_str().unwrap()]).fails();
    assert!(words.contains("tokens.pem"), "{words}");
}

#[test]
fn inspect_tells_header_claims_times_and_what_slurm_would_say() {
    let told = inspect(&token(&[
        "--sun",
        "alice",
        "--kid",
        "login1",
        "--lifespan",
        "2h",
    ]))
    .prints();
    for part in [
        "\"kid\": \"login1\"",
        "\"sun\": \"alice\"",
        "valid until: 20",
        "UTC (in ",
        "Slurm takes its bearer for \"alice\"",
        "Slurm 22.05 and 26.05 accept it, if they know its key",
        "Its signature was not checked",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn what_slurm_would_refuse_is_a_finding() {
    // {"alg":"RS256"} and {"sun":"0","exp":5}, signed by nobody.
    let told = inspect("eyJhbGciOiJSUzI1NiJ9.eyJzdW4iOiIwIiwiZXhwIjo1fQ.AAAA");
    assert_eq!(told.output.status.code(), Some(1));
    let told = String::from_utf8(told.output.stdout).unwrap();
    for part in [
        "Slurm 22.05 refuses it, 26.05 refuses it: its header names no key",
        "Slurm 22.05 refuses it, 26.05 refuses it: it expired ",
        "its \"sun\" \"0\" is a number, which Slurm takes for a uid: jobs run as root (uid 0)",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn what_a_token_says_moves_no_cursor() {
    // {"alg":"HS256"} and {"sun":"\u{1b}[2J\u{9b}","exp":5}.
    let told = inspect("eyJhbGciOiJIUzI1NiJ9.eyJzdW4iOiJcdTAwMWJbMkrCmyIsImV4cCI6NX0.AAAA");
    let told = String::from_utf8(told.output.stdout).unwrap();
    assert!(told.contains("u001b[2J"), "{told}");
    assert!(
        told.bytes()
            .all(|byte| byte == b'\n' || byte == b' ' || byte.is_ascii_graphic()),
        "{told}"
    );
}

#[test]
fn a_token_stands_in_no_error_however_it_is_given() {
    let signed = token(&["--sun", "alice"]);
    let twice = [signed.as_str(), signed.as_str()];
    for args in [
        &["token", "inspect"][..],
        &["token", "verify", "--key", RSA.to_str().unwrap()],
        &["token", "verify", "--jwks", "/nonexistent"],
    ] {
        for broken in [&signed[..signed.len() - 9], &signed.replacen('.', "!", 1)] {
            for done in [
                ctl(&[args, &twice].concat(), b""),
                ctl(&[args, &[broken]].concat(), b""),
                ctl(args, broken.as_bytes()),
            ] {
                let words = done.words();
                let parts = signed.split('.').map(|part| &part[..20]);
                assert!(
                    parts.into_iter().all(|part| !words.contains(part)),
                    "{words}"
                );
            }
        }
    }
}

#[test]
fn the_daemons_tokens_are_verified_with_its_set() {
    let daemon = Daemon::start("tokens", "RS256", &RSA);
    let set = secret_file("daemons.json", daemon.jwks().to_string().as_bytes());
    let signed = daemon.client(&ALICE, &["--format", "raw"]);
    let told = verify_with(&set, "--jwks KEY", &signed).prints();
    assert!(told.contains("a token for alice"), "{told}");
}

#[test]
fn help_says_that_arguments_are_everybodys_to_read() {
    for command in ["verify", "inspect"] {
        let help = ctl(&["token", command, "--help"], b"").prints();
        assert!(help.contains("can read arguments"), "{help}");
    }
}

#[test]
fn a_token_of_roots_has_the_identity_claims_that_the_daemons_has() {
    let claims = "[token]\nidentity_claims = true\n";
    let daemon = Daemon::with("tokens-identity", "RS256", &RSA, "", claims);
    let theirs = Jwt::read(&daemon.client(&ALICE, &["--format", "raw"])).claims;
    let configuration = Daemon::configuration_of("tokens-identity");
    let config = ["token", "sign", "--sun", "alice", "--config"];
    let sign = [&config[..], &[configuration.to_str().unwrap()]].concat();
    let ours = Jwt::read(ctl(&sign, b"").prints().trim_end()).claims;
    for claim in ["uid", "gid", "id"] {
        assert!(!ours[claim].is_null(), "{ours}");
        assert_eq!(ours[claim], theirs[claim]);
    }
}
