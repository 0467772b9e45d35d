//! A token as others see it: taken apart here, its signature judged by openssl.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::node::stdout;

pub struct Jwt {
    pub header: Value,
    pub claims: Value,
    /// What the signature is of: the first two parts and the dot between them.
    signed: String,
    signature: Vec<u8>,
}

impl Jwt {
    /// Takes apart a compact token (RFC 7515 section 7.1): three parts of
    /// base64url without padding.
    pub fn read(token: &str) -> Self {
        let parts: Vec<_> = token
            .split('.')
            .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
            .collect();
        let [header, claims, signature] = &parts[..] else {
            panic!("{} parts", parts.len());
        };
        Self {
            header: serde_json::from_slice(header).unwrap(),
            claims: serde_json::from_slice(claims).unwrap(),
            signed: token.rsplit_once('.').unwrap().0.to_owned(),
            signature: signature.clone(),
        }
    }

    /// Was it signed by the RSA key in this file.
    pub fn is_signed_by_rsa(&self, key: &Path) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let public = Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(key)
            .output();
        Command::new("openssl")
            .args(["dgst", "-sha256", "-verify"])
            .arg(file("public", stdout(public.unwrap()).as_bytes()))
            .arg("-signature")
            .arg(file("signature", &self.signature))
            .arg(file("signed", self.signed.as_bytes()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    }

    /// Was it signed with these bytes as an HMAC key.
    pub fn is_signed_by_hmac(&self, key: &[u8]) -> bool {
        let hex: Vec<_> = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt"])
            .arg(format!("hexkey:{}", hex.concat()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = openssl.stdin.take().unwrap();
        stdin.write_all(self.signed.as_bytes()).unwrap();
        drop(stdin);
        openssl.wait_with_output().unwrap().stdout == self.signature
    }
}
