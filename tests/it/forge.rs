//! Tokens that no daemon made, signed by openssl: with a key of the node's
//! that somebody stole, with one of their own, or not at all.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// What somebody signs with.
pub enum Forger<'a> {
    /// RS256 with the key in this file.
    Rsa(&'a Path),
    /// HS256 with these bytes.
    Hmac(&'a [u8]),
    /// Nothing: the signature is empty.
    Nobody,
}

impl Forger<'_> {
    /// A token of this header and these claims, as they stand here.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let signed = [header, claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".");
        let signature = match self {
            Self::Rsa(key) => {
                let key = key.to_str().unwrap();
                openssl(&["dgst", "-sha256", "-sign", key], signed.as_bytes())
            }
            Self::Hmac(secret) => {
                let hex: Vec<_> = secret.iter().map(|byte| format!("{byte:02x}")).collect();
                let key = format!("hexkey:{}", hex.concat());
                let arguments = [
                    "dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt", &key,
                ];
                openssl(&arguments, signed.as_bytes())
            }
            Self::Nobody => Vec::new(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token for `kid` with the claims of a good one of alice's, but for
    /// these: null takes one away.
    pub fn token(&self, kid: &str, changes: &Value) -> String {
        let alg = match self {
            Self::Rsa(_) => "RS256",
            Self::Hmac(_) => "HS256",
            Self::Nobody => "none",
        };
        let header = json!({"alg": alg, "typ": "JWT", "kid": kid});
        self.sign(&header.to_string(), &claims(changes).to_string())
    }
}

/// The claims of a good token of alice's, made now for ten minutes, but for these.
pub fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iat": now(), "nbf": now(), "exp": now() + 600, "sun": "alice", "jti": "1",
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// Seconds since 1970.
#[allow(clippy::disallowed_methods, reason = "a test is its own rim")]
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut openssl = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(input).unwrap();
    let done = openssl.wait_with_output().unwrap();
    assert!(done.status.success());
    done.stdout
}
