//! Anybody may ask whether a token is valid and what it says. Nothing that an
//! attacker writes into one is believed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::forge::{Forger, claims, now};
use crate::node::{ALICE, BOB, Daemon, build_jwks, generate_key, publish, records, stdout, until};
use crate::peer::code;

/// No account has it.
const STRANGER: u32 = 4242;

/// A daemon that signs with RS256, and its key, whose kid is `own`.
struct Node {
    daemon: Daemon,
    key: PathBuf,
}

static NODE: LazyLock<Node> = LazyLock::new(|| {
    let key = generate_key("RS256", "verify.pem");
    let tables = "kid = \"own\"\n\
        [token]\nidentity_claims = true\n\
        [policy]\ndeny_users = [\"bob\"]\n\
        [[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"hpcusers\"]\n";
    Node {
        daemon: Daemon::with("verify", "RS256", &key, "", tables),
        key,
    }
});

impl Node {
    /// A token that somebody made who has the node's key.
    fn forged(&self, changes: &Value) -> String {
        Forger::Rsa(&self.key).token("own", changes)
    }
}

fn request(field: &str, value: &str) -> String {
    json!({"v": 1, "op": "verify", field: value}).to_string()
}

fn verify(daemon: &Daemon, token: &str) -> Value {
    daemon.ask_as(BOB.uid, &request("token", token))
}

#[track_caller]
fn assert_refused(answer: &Value, expected: &str, says: &str) {
    assert_eq!(code(answer), expected, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains(says), "{answer}");
    assert!(
        answer["error"]["help"]
            .as_str()
            .is_some_and(|help| !help.is_empty())
    );
}

// What is valid.

#[test]
fn anybody_learns_who_a_token_speaks_for_and_what_it_says() {
    let Node { daemon, .. } = &*NODE;
    let token = daemon.client(&ALICE, &["--format", "raw"]);
    for uid in [ALICE.uid, BOB.uid, 0, STRANGER] {
        let answer = daemon.ask_as(uid, &request("token", &token));
        let ok = &answer["ok"];
        assert_eq!(
            (&ok["user"], &ok["kid"], &ok["alg"]),
            (&json!("alice"), &json!("own"), &json!("RS256")),
            "{uid}: {answer}"
        );
        assert_eq!(ok["expires_at"], ok["claims"]["exp"]);
        assert_eq!(ok["claims"]["uid"], json!(ALICE.uid));
        assert_eq!(ok["claims"]["id"]["name"], json!("alice"));
        assert_eq!(ok["claims"]["act"], Value::Null);
    }
}

#[test]
fn the_service_that_got_a_token_for_somebody_is_named() {
    let Node { daemon, .. } = &*NODE;
    let issued = daemon.ask_as(500, r#"{"v":1,"op":"issue","for":"alice"}"#);
    let answer = verify(daemon, issued["ok"]["token"].as_str().unwrap());
    assert_eq!(answer["ok"]["user"], json!("alice"), "{answer}");
    assert_eq!(answer["ok"]["claims"]["act"], json!({"sub": "portal"}));
}

#[test]
fn an_hs256_token_is_verified_with_or_without_its_kid() {
    let key = generate_key("HS256", "verify-hs.key");
    let daemon = Daemon::start("verify-hs", "HS256", &key);
    let token = daemon.client(&ALICE, &["--format", "raw"]);
    assert_eq!(code(&verify(&daemon, &token)), "ok");
    // As `scontrol token` makes them.
    let secret = fs::read(&key).unwrap();
    let nameless = Forger::Hmac(&secret).sign(
        r#"{"alg":"HS256","typ":"JWT"}"#,
        &claims(&json!({})).to_string(),
    );
    assert_eq!(code(&verify(&daemon, &nameless)), "ok");
    let other = Forger::Hmac(&[7; 32]).token("verify-hs", &json!({}));
    assert_refused(&verify(&daemon, &other), "token_invalid", "signature");
}

#[test]
fn the_header_that_carries_a_token_may_be_given_as_it_came() {
    let Node { daemon, .. } = &*NODE;
    let token = daemon.client(&ALICE, &["--format", "raw"]);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let line = request("authorization", &format!("{scheme} {token}"));
        assert_eq!(code(&daemon.ask_as(STRANGER, &line)), "ok", "{scheme}");
    }
    for (value, expected) in [
        (String::new(), "authorization_header_missing"),
        (token.clone(), "invalid_header"),
        (format!("Basic {token}"), "invalid_header"),
        (format!("Bearer {token}, Bearer {token}"), "invalid_header"),
        ("Bearer x.y.z".to_owned(), "token_invalid"),
    ] {
        let answer = daemon.ask_as(BOB.uid, &request("authorization", &value));
        assert_eq!(code(&answer), expected, "{answer}");
    }
}

#[test]
fn a_request_brings_one_token() {
    let Node { daemon, .. } = &*NODE;
    let none = daemon.ask_as(BOB.uid, r#"{"v":1,"op":"verify"}"#);
    assert_refused(&none, "authorization_header_missing", "No token");
    let empty = verify(daemon, "");
    assert_refused(&empty, "authorization_header_missing", "No token");
    let line = json!({"v": 1, "op": "verify", "token": "x", "authorization": "Bearer x"});
    let both = daemon.ask_as(BOB.uid, &line.to_string());
    assert_refused(&both, "invalid_header", "a header that carries one, too");
}

// What an attacker may write.

#[test]
fn a_token_signed_by_nobody_or_by_another_algorithm_is_refused() {
    let Node { daemon, key } = &*NODE;
    let good = claims(&json!({})).to_string();
    let header = |alg: &str| format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"own"}}"#);
    for alg in ["none", "None", "NONE", "RS256", "HS256", ""] {
        let unsigned = Forger::Nobody.sign(&header(alg), &good);
        assert_refused(&verify(daemon, &unsigned), "token_invalid", "no signature");
    }
    for alg in ["none", "HS256", "rs256", "RS384", "RS512", "PS256", "ES256"] {
        let signed = Forger::Rsa(key).sign(&header(alg), &good);
        assert_refused(
            &verify(daemon, &signed),
            "token_invalid",
            "its key is for RS256",
        );
    }
}

#[test]
fn a_public_key_is_no_secret_to_sign_with() {
    let Node { daemon, key } = &*NODE;
    let public = |form: &str| {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["pkey", "-pubout", "-outform", form, "-in"])
            .arg(key);
        openssl.output().unwrap().stdout
    };
    let (pem, der) = (public("PEM"), public("DER"));
    let jwk = daemon.jwks()["keys"][0].take();
    for secret in [
        pem.as_slice(),
        pem.trim_ascii_end(),
        &der,
        jwk.to_string().as_bytes(),
        jwk["n"].as_str().unwrap().as_bytes(),
    ] {
        let token = Forger::Hmac(secret).token("own", &json!({}));
        assert_refused(
            &verify(daemon, &token),
            "token_invalid",
            "its key is for RS256",
        );
    }
}

#[test]
fn a_header_leads_to_no_key_but_those_configured() {
    let Node { daemon, .. } = &*NODE;
    let own = generate_key("RS256", "verify-mallory.pem");
    let forger = Forger::Rsa(&own);
    for kid in [
        "",
        "other",
        "OWN",
        "own ",
        "own\\u0000",
        "../token-keys/verify-mallory",
        "/etc/slurm/token-keys/verify-mallory.pem",
        "/dev/null",
        "own' OR '1'='1",
        "\\uff4fwn",
    ] {
        let header = format!(r#"{{"alg":"RS256","typ":"JWT","kid":"{kid}"}}"#);
        let token = forger.sign(&header, &claims(&json!({})).to_string());
        assert_refused(&verify(daemon, &token), "token_invalid", "not known here");
    }
    // Its own key, brought along in every way that RFC 7515 knows.
    let jwk = build_jwks(&[&own])["keys"][0].take();
    let header = json!({
        "alg": "RS256", "typ": "JWT", "kid": "own", "jwk": jwk, "x5c": ["MIIB"],
        "jku": "file:///etc/slurm/jwks.json", "x5u": "http://127.0.0.1/",
    });
    let token = forger.sign(&header.to_string(), &claims(&json!({})).to_string());
    assert_refused(&verify(daemon, &token), "token_invalid", "signature");
}

#[test]
fn a_header_that_readers_may_take_in_two_ways_is_refused() {
    let Node { daemon, key } = &*NODE;
    let good = claims(&json!({})).to_string();
    for (header, says) in [
        (
            r#"{"alg":"RS256","kid":"own","kid":"own"}"#,
            "\"kid\" twice",
        ),
        (
            r#"{"alg":"none","alg":"RS256","kid":"own"}"#,
            "\"alg\" twice",
        ),
        (
            r#"{"alg":"RS256","kid":["own"]}"#,
            "\"kid\" is not a string",
        ),
        (r#"{"alg":"RS256"}"#, "names no key"),
        (
            r#"{"alg":"RS256","kid":"own","crit":["exp"],"exp":1}"#,
            "\"crit\"",
        ),
        (r#"{"alg":"RS256","kid":"own","crit":[]}"#, "\"crit\""),
        (r#"{"alg":"RS256","kid":"own","typ":"at+jwt"}"#, "not a JWT"),
        (r#"{"alg":"RS256","kid":"own","typ":"JOSE"}"#, "not a JWT"),
        (r#"["RS256"]"#, "not a JSON object"),
        ("{", "not JSON"),
    ] {
        let token = Forger::Rsa(key).sign(header, &good);
        assert_refused(&verify(daemon, &token), "token_invalid", says);
    }
}

#[test]
fn a_token_that_was_changed_or_cut_off_is_refused() {
    let Node { daemon, .. } = &*NODE;
    let token = daemon.client(&ALICE, &["--format", "raw"]);
    let parts: Vec<&str> = token.split('.').collect();
    let root = Forger::Nobody.token("own", &json!({"sun": "root"}));
    let root = root.split('.').nth(1).unwrap();
    let flipped = |part: &str| {
        let first = if part.starts_with('A') { "B" } else { "A" };
        format!("{first}{}", &part[1..])
    };
    for (changed, why) in [
        (
            format!("{}.{root}.{}", parts[0], parts[2]),
            "claims of another",
        ),
        (
            format!("{}.{}.{}", parts[0], parts[1], flipped(parts[2])),
            "a changed signature",
        ),
        (
            token[..token.len() - 1].to_owned(),
            "a signature cut off by one",
        ),
        (
            token[..token.len() - 4].to_owned(),
            "a signature cut off by three bytes",
        ),
        (format!("{token}AAAA"), "a signature too long"),
        (format!("{}.{}.", parts[0], parts[1]), "no signature"),
        (format!("{}.{}", parts[0], parts[1]), "two parts"),
        (format!("{token}."), "four parts"),
        (format!("{token}\n"), "a newline at the end"),
        (format!("{token}="), "padding"),
        (token.replace('.', "\u{2024}"), "full stops of another kind"),
        (
            format!("Bearer {token}"),
            "a scheme where the token stands alone",
        ),
    ] {
        let answer = verify(daemon, &changed);
        assert_eq!(code(&answer), "token_invalid", "{why}: {answer}");
    }
    assert_eq!(code(&verify(daemon, &token)), "ok");
}

#[test]
fn a_token_in_a_token_is_none() {
    let Node { daemon, key } = &*NODE;
    let token = daemon.client(&ALICE, &["--format", "raw"]);
    let header = r#"{"alg":"RS256","typ":"JWT","cty":"JWT","kid":"own"}"#;
    let nested = Forger::Rsa(key).sign(header, &token);
    assert_refused(&verify(daemon, &nested), "token_invalid", "not JSON");
    let quoted = Forger::Rsa(key).sign(header, &format!("\"{token}\""));
    assert_refused(
        &verify(daemon, &quoted),
        "token_invalid",
        "not a JSON object",
    );
}

#[test]
fn claims_that_slurm_would_misread_are_refused_though_the_signature_is_good() {
    let Node { daemon, .. } = &*NODE;
    for (changes, says) in [
        (json!({"sun": null}), "\"sun\" is missing"),
        (
            json!({"sun": null, "username": "alice"}),
            "\"sun\" is missing",
        ),
        (json!({"sun": 2001}), "\"sun\" is not a string"),
        (json!({"exp": null}), "\"exp\" is missing"),
        (json!({"exp": (now() + 600) * 1000}), "milliseconds"),
        (json!({"exp": format!("{}", now() + 600)}), "\"exp\" is not"),
        (json!({"exp": -1}), "\"exp\" is not"),
        (json!({"exp": 4e9}), "\"exp\" is not"),
        (json!({"nbf": now() + 300}), "becomes valid in"),
        (
            json!({"id": {"name": "bob", "gecos": "b", "dir": "/", "shell": "/bin/sh"}}),
            "two accounts",
        ),
        (json!({"act": "portal"}), "\"act\""),
    ] {
        let answer = verify(daemon, &NODE.forged(&changes));
        assert_refused(&answer, "token_invalid", says);
    }
    let twice = r#"{"sun":"alice","exp":4000000000,"sun":"root"}"#;
    let token = Forger::Rsa(&NODE.key).sign(r#"{"alg":"RS256","kid":"own"}"#, twice);
    assert_refused(&verify(daemon, &token), "token_invalid", "\"sun\" twice");
}

#[test]
fn whom_no_token_may_name_is_refused_though_the_signature_is_good() {
    let Node { daemon, .. } = &*NODE;
    for sun in [
        "root",
        "Root",
        "slurm",
        "SLURM",
        "0",
        "00",
        "+0",
        " 0",
        "2001",
        "-1",
        "",
        "alice\0",
        "alice ",
        "al\u{ef}ce",
        "\u{ff41}lice",
        "root\u{200b}",
        "alice@corp",
    ] {
        let answer = verify(daemon, &NODE.forged(&json!({"sun": sun})));
        assert_refused(&answer, "privileged_user", "");
    }
    // JSON may write any letter as an escape.
    let escaped = r#"{"sun":"\u0072oot","exp":4000000000}"#;
    let token = Forger::Rsa(&NODE.key).sign(r#"{"alg":"RS256","kid":"own"}"#, escaped);
    assert_refused(&verify(daemon, &token), "privileged_user", "root");
    for changes in [
        json!({"uid": 0}),
        // SlurmUser's, which no configuration says.
        json!({"uid": 64030}),
        json!({"uid": 65534}),
        json!({"uid": 4_294_967_295_u32}),
        json!({"gid": 0}),
    ] {
        let answer = verify(daemon, &NODE.forged(&changes));
        assert_refused(&answer, "privileged_user", "");
    }
    let denied = verify(daemon, &NODE.forged(&json!({"sun": "bob"})));
    assert_refused(&denied, "not_allowed", "denies");
}

#[test]
fn a_token_of_a_user_who_was_blocked_is_neither_verified_nor_refreshed() {
    let key = generate_key("HS256", "verify-blocked.key");
    let daemon = Daemon::start("verify-blocked", "HS256", &key);
    let token = daemon.client(&ALICE, &["--format", "raw"]);
    assert_eq!(code(&verify(&daemon, &token)), "ok");
    let blocked = daemon.ask(r#"{"v":1,"op":"block","user":"alice"}"#);
    assert_eq!(code(&blocked), "ok");
    assert_eq!(code(&verify(&daemon, &token)), "blocked");
    let refresh = json!({"v": 1, "op": "refresh", "token": token}).to_string();
    assert_eq!(code(&daemon.ask_as(ALICE.uid, &refresh)), "blocked");
    daemon.ask(r#"{"v":1,"op":"unblock","user":"alice"}"#);
    assert_eq!(code(&verify(&daemon, &token)), "ok");
}

// Times.

#[test]
fn a_token_is_valid_until_its_end_and_then_expired() {
    let Node { daemon, .. } = &*NODE;
    let answer = verify(daemon, &NODE.forged(&json!({"exp": now() - 1})));
    assert_refused(&answer, "token_expired", "expired");
    // Only of a token that was good is it said that it has expired.
    let forged = Forger::Hmac(&[1; 32]).token("own", &json!({"exp": 1}));
    assert_eq!(code(&verify(daemon, &forged)), "token_invalid");
}

#[test]
fn a_leeway_is_for_clocks_that_differ() {
    let key = generate_key("HS256", "leeway.key");
    let daemon = Daemon::with("leeway", "HS256", &key, "", "[token]\nleeway = 60\n");
    let secret = fs::read(&key).unwrap();
    let of = |changes: Value| Forger::Hmac(&secret).token("leeway", &changes);
    for changes in [json!({"exp": now() - 30}), json!({"nbf": now() + 30})] {
        assert_eq!(code(&verify(&daemon, &of(changes))), "ok");
    }
    let late = verify(&daemon, &of(json!({"exp": now() - 61})));
    assert_eq!(code(&late), "token_expired");
    let early = verify(&daemon, &of(json!({"nbf": now() + 120})));
    assert_eq!(code(&early), "token_invalid");
}

// Keys beside the daemon's own.

#[test]
fn tokens_of_other_keys_are_accepted_as_configured_and_taken_anew_by_a_reload() {
    let [own, other, old] =
        ["ring-own.pem", "ring-other.pem", "ring-old.pem"].map(|file| generate_key("RS256", file));
    let shared = generate_key("HS256", "ring-shared.key");
    let kid = |key: &Path| {
        build_jwks(&[key])["keys"][0]["kid"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let token = |key: &Path| Forger::Rsa(key).token(&kid(key), &json!({}));
    publish(&build_jwks(&[&other]), "ring.json");
    let public = Path::new("/etc/slurm/ring-old.pub");
    let mut openssl = Command::new("openssl");
    openssl
        .args(["pkey", "-pubout", "-in"])
        .arg(&old)
        .arg("-out")
        .arg(public);
    stdout(openssl.output().unwrap());

    let verify_tables = format!(
        "[[verify]]\njwks = \"/etc/slurm/ring.json\"\n\
         [[verify]]\nkey = \"{}\"\nalgorithm = \"RS256\"\n\
         [[verify]]\nkey = \"{}\"\nalgorithm = \"HS256\"\nkid = \"shared\"\n",
        public.display(),
        shared.display()
    );
    let daemon = Daemon::with("ring", "RS256", &own, "", &verify_tables);
    let secret = fs::read(&shared).unwrap();
    for (whose, token) in [
        ("its own", daemon.client(&ALICE, &["--format", "raw"])),
        ("another node's", token(&other)),
        ("an old one", token(&old)),
        (
            "a shared secret",
            Forger::Hmac(&secret).token("shared", &json!({})),
        ),
    ] {
        assert_eq!(code(&verify(&daemon, &token)), "ok", "{whose}");
    }
    // Each key is for its own algorithm and kid.
    let mixed = Forger::Hmac(&secret).token(&kid(&old), &json!({}));
    assert_refused(
        &verify(&daemon, &mixed),
        "token_invalid",
        "its key is for RS256",
    );
    let other_kid = Forger::Rsa(&other).token(&kid(&old), &json!({}));
    assert_refused(&verify(&daemon, &other_kid), "token_invalid", "signature");
    // They sign nothing here, and are not published.
    assert_eq!(daemon.jwks(), build_jwks(&[&own]));

    publish(&build_jwks(&[&old]), "ring.json");
    daemon.signal(Signal::SIGHUP);
    until("the other key to be forgotten", || {
        code(&verify(&daemon, &token(&other))) == "token_invalid"
    });
    assert_eq!(code(&verify(&daemon, &token(&old))), "ok");
    // The daemon's user can't read it any more: the one in use stays.
    let still = Forger::Hmac(&secret).token("shared", &json!({}));
    assert_eq!(code(&verify(&daemon, &still)), "ok");
    let note = "ring-shared.key: can't be read any more";
    assert!(daemon.journal().contains(note), "{}", daemon.journal());
}

#[test]
fn every_fault_of_the_keys_to_verify_with_is_told_at_the_start() {
    let key = generate_key("RS256", "faults.pem");
    let other = generate_key("RS256", "faults-other.pem");
    let mut twice = build_jwks(&[&other]);
    twice["keys"][0]["kid"] = json!("own");
    publish(&twice, "faults-twice.json");
    publish(
        &json!({"keys": [{"kty": "oct", "kid": "s", "k": "AAAA"}]}),
        "faults-private.json",
    );
    fs::write("/etc/slurm/faults-open.json", "{\"keys\":[]}").unwrap();
    stdout(
        Command::new("chmod")
            .args(["0666", "/etc/slurm/faults-open.json"])
            .output()
            .unwrap(),
    );
    let tables = "kid = \"own\"\n\
        [[verify]]\njwks = \"/etc/slurm/faults-twice.json\"\n\
        [[verify]]\njwks = \"/etc/slurm/faults-private.json\"\n\
        [[verify]]\njwks = \"/etc/slurm/faults-open.json\"\n\
        [[verify]]\njwks = \"/etc/slurm/faults-absent.json\"\n\
        [[verify]]\nkey = \"credential:old\"\nalgorithm = \"RS256\"\n";
    Daemon::configure("faults", "RS256", &key, "", tables);
    let ended = Daemon::command("faults").arg("--check").output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let told = String::from_utf8(ended.stderr).unwrap();
    for says in [
        "faults-twice.json: another key with the kid \"own\" is known already",
        "faults-private.json: it holds the private part of a key",
        "faults-open.json: its mode 0666",
        "faults-absent.json: ",
        "verify.key is credential:old, and systemd passed no credentials",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    assert_eq!(told.lines().count(), 5, "{told}");
}

// Floods.

#[test]
fn verifications_have_a_rate_of_their_own() {
    let key = generate_key("HS256", "verify-rate.key");
    let limits = "[limits]\ntokens_per_minute = 1\nburst = 1\n\
                  verifications_per_minute = 1\nverification_burst = 3\n";
    let daemon = Daemon::with("verify-rate", "HS256", &key, "", limits);
    let issued = daemon.ask_as(ALICE.uid, r#"{"v":1,"op":"issue"}"#);
    let token = issued["ok"]["token"].as_str().unwrap();
    let mut alice = daemon.peer(ALICE.uid);
    for line in [token, "x", token] {
        alice.say(request("token", line) + "\n");
        assert_ne!(alice.hear_code().as_deref(), Some("rate_limited"));
    }
    alice.say(request("token", token) + "\n");
    let answer = alice.hear().unwrap();
    assert_refused(
        &answer,
        "rate_limited",
        "more than 1 verifications a minute",
    );
    assert!(answer["error"]["retry_after"].as_u64() > Some(0));
    // Neither another user nor the caller's tokens pay for it.
    assert_eq!(code(&verify(&daemon, token)), "ok");
    assert_eq!(
        code(&daemon.ask_as(BOB.uid, r#"{"v":1,"op":"issue"}"#)),
        "ok"
    );
}

#[test]
fn a_flood_of_bad_tokens_is_recorded_by_its_number_and_never_by_a_token() {
    let key = generate_key("HS256", "verify-flood.key");
    let daemon = Daemon::start("verify-flood", "HS256", &key);
    let forged = Forger::Hmac(&[3; 32]).token("verify-flood", &json!({}));
    let mut alice = daemon.peer(ALICE.uid);
    for _ in 0..200 {
        alice.say(request("token", &forged) + "\n");
        assert_eq!(alice.hear_code().as_deref(), Some("token_invalid"));
    }
    let recorded = || -> Vec<String> {
        let mut all = records(&daemon);
        all.retain(|record| record.contains("code=token_invalid"));
        all
    };
    let counted = |records: &[String]| -> usize {
        let suppressed = records.iter().filter_map(|record| {
            let (_, number) = record.split_once("suppressed=")?;
            number.split_whitespace().next()?.parse::<usize>().ok()
        });
        records.len() + suppressed.sum::<usize>()
    };
    until("all to be counted", || counted(&recorded()) == 200);
    assert!(recorded().len() < 100, "{:?}", recorded().len());
    let first = &recorded()[0];
    assert!(
        first.contains("op=verify result=refused uid=2001"),
        "{first}"
    );
    assert!(!recorded().concat().contains("eyJ"));
    assert!(!daemon.journal().contains("eyJ"));
}
