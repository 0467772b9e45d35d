//! Our keys, sets and tokens, read by openssl, jwcrypto, `PyJWT` and libjwt; and
//! theirs, read by us.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use crate::node::{install, run_with, stdout};

const JOSE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/jose.py");
const LIBJWT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/libjwt.c");
/// Where the files of these tests are: below directories that are root's alone.
const PLACE: &str = "/etc/slurm/interop";

/// Our files: a key pair, a secret, and what is made of them.
static OURS: LazyLock<()> = LazyLock::new(|| {
    let place = directory("ours");
    let ours = |args: &str| ctl(args, "");
    ours("key generate --alg RS256 --out ours/rsa.pem");
    ours("key generate --alg HS256 --bits 512 --out ours/secret.key");
    ours("key jwk ours/rsa.pem --private --out ours/private.jwk");
    fs::write(place.join("public.pem"), ours("key public ours/rsa.pem")).unwrap();
    fs::write(place.join("public.jwk"), ours("key jwk ours/rsa.pem")).unwrap();
    ours("jwks build ours/rsa.pem --out ours/set.json");
});

/// Files of jwcrypto's making, and the thumbprint that it gives their key.
static JWCRYPTO: LazyLock<String> = LazyLock::new(|| {
    let place = directory("jwcrypto");
    let thumbprint = jose(&["generate", "login1", place.to_str().unwrap()], "");
    for name in ["private.pem", "private.jwk", "private.json"] {
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    thumbprint
});

fn directory(name: &str) -> PathBuf {
    install();
    let path = Path::new(PLACE).join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Runs a command in our place, with this standard input.
fn run(command: &mut Command, input: &str) -> Output {
    run_with(command.current_dir(PLACE), input.as_bytes()).1
}

/// What slurm-tokenctl prints.
fn ctl(args: &str, input: &str) -> String {
    let mut ctl = Command::new("slurm-tokenctl");
    stdout(run(ctl.args(args.split(' ')), input))
}

/// The words with which it fails.
fn fails(args: &str) -> String {
    let output = run(Command::new("slurm-tokenctl").args(args.split(' ')), "");
    assert_eq!(output.status.code(), Some(1), "{args}: {output:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// What a function of jose.py prints.
fn jose(args: &[&str], input: &str) -> String {
    let mut python = Command::new("/usr/bin/python3");
    let output = run(python.arg(JOSE).args(args), input);
    stdout(output).trim_end().to_owned()
}

/// Runs openssl in our place.
fn openssl(args: &str) {
    stdout(run(Command::new("openssl").args(args.split(' ')), ""));
}

fn our_token(algorithm: &str) -> String {
    LazyLock::force(&OURS);
    let key = if algorithm == "RS256" {
        "ours/rsa.pem"
    } else {
        "ours/secret.key"
    };
    ctl(
        &format!("token sign --alg {algorithm} --key {key} --sun alice"),
        "",
    )
}

#[test]
fn jwcrypto_finds_the_same_key_in_each_of_our_forms() {
    LazyLock::force(&OURS);
    let kid = ctl("key kid ours/rsa.pem", "");
    for (function, file) in [
        ("thumbprint_of_pem", "ours/rsa.pem"),
        ("thumbprint_of_pem", "ours/public.pem"),
        ("thumbprint_of_jwk", "ours/public.jwk"),
        ("thumbprint_of_jwk", "ours/private.jwk"),
        ("kids", "ours/set.json"),
    ] {
        assert_eq!(jose(&[function, file], ""), kid.trim_end(), "{file}");
    }
    assert_eq!(jose(&["has_private", "ours/public.jwk"], ""), "False");
    assert_eq!(jose(&["has_private", "ours/private.jwk"], ""), "True");
}

#[test]
fn jwcrypto_verifies_our_tokens() {
    let rs256 = our_token("RS256");
    assert_eq!(
        jose(&["jwcrypto_verifies_by_set", "ours/set.json"], &rs256),
        "alice"
    );
    let hs256 = our_token("HS256");
    assert_eq!(
        jose(&["jwcrypto_verifies_by_secret", "ours/secret.key"], &hs256),
        "alice"
    );
}

#[test]
fn pyjwt_verifies_our_tokens() {
    let rs256 = our_token("RS256");
    assert_eq!(
        jose(&["pyjwt_verifies", "RS256", "ours/public.pem"], &rs256),
        "alice"
    );
    assert_eq!(
        jose(&["pyjwt_verifies_by_set", "ours/set.json"], &rs256),
        "alice"
    );
    let hs256 = our_token("HS256");
    assert_eq!(
        jose(&["pyjwt_verifies", "HS256", "ours/secret.key"], &hs256),
        "alice"
    );
}

#[test]
fn libjwt_verifies_our_tokens_and_no_changed_one() {
    let built = directory("libjwt").join("libjwt");
    let mut cc = Command::new("cc");
    stdout(run(
        cc.args(["-Wall", "-o"]).arg(&built).args([LIBJWT, "-ljwt"]),
        "",
    ));
    let asked = |algorithm: &str, key: &str, token: &str| {
        run(Command::new(&built).args([algorithm, key]), token)
    };
    for (algorithm, key) in [("RS256", "ours/public.pem"), ("HS256", "ours/secret.key")] {
        let token = our_token(algorithm);
        assert_eq!(stdout(asked(algorithm, key, &token)), "alice\n");
        let changed = token.replacen(".eyJ", ".eyK", 1);
        assert!(!asked(algorithm, key, &changed).status.success());
    }
}

#[test]
fn openssl_verifies_with_the_public_half_of_our_private_jwk() {
    LazyLock::force(&OURS);
    let by_jwk = "token sign --alg RS256 --key ours/private.jwk --sun alice";
    let token = ctl(by_jwk, "");
    let jwt = crate::jwt::Jwt::read(token.trim_end());
    assert!(jwt.is_signed_by_rsa(&Path::new(PLACE).join("ours/rsa.pem")));
}

#[test]
fn a_key_of_jwcryptos_is_read_in_each_of_its_forms() {
    let thumbprint = JWCRYPTO.as_str();
    for file in ["private.pem", "public.pem", "private.jwk", "public.jwk"] {
        let kid = ctl(&format!("key kid jwcrypto/{file}"), "");
        assert_eq!(kid.trim_end(), thumbprint, "{file}");
    }
    let public = fs::read_to_string(Path::new(PLACE).join("jwcrypto/public.pem")).unwrap();
    assert_eq!(ctl("key public jwcrypto/private.jwk", ""), public);
    let set = "jwks build jwcrypto/public.jwk";
    assert!(ctl(set, "").contains("\"kid\": \"login1\""));
    let joined: serde_json::Value =
        serde_json::from_str(&ctl("jwks merge jwcrypto/public.json", "")).unwrap();
    let built: serde_json::Value = serde_json::from_str(&ctl(set, "")).unwrap();
    assert_eq!(joined, built);
}

#[test]
fn tokens_of_jwcryptos_and_pyjwts_are_verified() {
    LazyLock::force(&JWCRYPTO);
    for token in [
        jose(&["jwcrypto_signs", "jwcrypto/private.jwk"], ""),
        jose(
            &["pyjwt_signs", "RS256", "jwcrypto/private.pem", "login1"],
            "",
        ),
    ] {
        for by in [
            "--jwks jwcrypto/public.json",
            "--key jwcrypto/public.pem",
            "--key jwcrypto/private.jwk",
        ] {
            let told = ctl(&format!("token verify {by}"), &token);
            assert!(told.starts_with("valid: a token for alice"), "{told}");
        }
    }
}

#[test]
fn keys_of_the_steps_on_the_web_sign_and_verify() {
    let place = directory("web");
    let mut dd = Command::new("dd");
    stdout(run(
        dd.args(["if=/dev/random", "of=web/jwt_hs256.key", "bs=32", "count=1"]),
        "",
    ));
    openssl("genrsa -out web/pkcs8.pem 2048");
    openssl("rsa -traditional -in web/pkcs8.pem -out web/pkcs1.pem");
    for name in ["jwt_hs256.key", "pkcs8.pem", "pkcs1.pem"] {
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    for (algorithm, key) in [
        ("HS256", "web/jwt_hs256.key"),
        ("RS256", "web/pkcs8.pem"),
        ("RS256", "web/pkcs1.pem"),
    ] {
        let kid: &[&str] = if algorithm == "RS256" { &["web"] } else { &[] };
        let theirs = jose(&[&["pyjwt_signs", algorithm, key][..], kid].concat(), "");
        let told = ctl(
            &format!("token verify --alg {algorithm} --key {key}"),
            &theirs,
        );
        assert!(told.starts_with("valid: "), "{told}");
        let ours = ctl(
            &format!("token sign --alg {algorithm} --key {key} --sun alice"),
            "",
        );
        if algorithm == "HS256" {
            assert_eq!(jose(&["pyjwt_verifies", "HS256", key], &ours), "alice");
        } else {
            let jwt = crate::jwt::Jwt::read(ours.trim_end());
            assert!(jwt.is_signed_by_rsa(&Path::new(PLACE).join(key)), "{key}");
        }
    }
}

#[test]
fn a_set_with_a_private_key_in_it_is_refused_everywhere_with_the_advice_to_replace_the_key() {
    LazyLock::force(&JWCRYPTO);
    for command in [
        "key kid FILE",
        "key public FILE",
        "key jwk FILE",
        "key jwk FILE --private --out web-private.jwk",
        "jwks build FILE",
        "jwks merge FILE",
        "jwks lint FILE",
        "token verify --jwks FILE",
        "token verify --key FILE",
        "token sign --alg RS256 --key FILE --sun alice",
    ] {
        let told = fails(&command.replace("FILE", "jwcrypto/private.json"));
        assert!(
            told.contains("treat this key as stolen: replace it"),
            "{command}: {told}"
        );
    }
}
