/// A key file or configuration file, opened and checked on its descriptor.
pub mod file;
/// Bytes to keys and keys to bytes: PEM, DER, raw. Pure.
pub mod format;
/// JSON read so that nothing in it can hide. Pure.
pub mod json;
/// One RSA key as a JWK, public or private. Pure.
pub mod jwk;
/// Public keys as JWK and JWKS (RFC 7517, RFC 7638). Pure.
pub mod jwks;
/// Public keys, read from their files.
pub mod public;
/// Key files made and replaced without a reader ever seeing half of one.
pub mod store;

use std::fmt;

/// How a token is signed (RFC 7518 section 3.1). The two that Slurm knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// HMAC with SHA-256.
    Hs256,
}

impl Algorithm {
    /// The name in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Algorithm {
    type Err = ();
    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "RS256" => Ok(Self::Rs256),
            "HS256" => Ok(Self::Hs256),
            _ => Err(()),
        }
    }
}

/// A key's name in token headers and JWKS (RFC 7515 section 4.1.4): 1 to 128
/// characters that are safe in a file name, a header and a log line
/// (letters, digits, `.`, `_`, `-`; no leading `.`, and no leading `-` but in
/// a thumbprint's 43 characters of base64url, one in 64 of which begins so).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kid(String);

impl Kid {
    /// The kid, or none where `name` breaks the rules above.
    pub fn new(name: &str) -> Option<Self> {
        let sound = (1..=128).contains(&name.len())
            && !name.starts_with('.')
            && (!name.starts_with('-') || (name.len() == 43 && !name.contains('.')))
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        sound.then(|| Self(name.to_owned()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_is_safe_in_a_file_name_a_header_and_a_log_line() {
        for name in ["login1-2026-11", "a", "A_b.c", &"k".repeat(128)] {
            assert!(Kid::new(name).is_some(), "{name}");
        }
        for name in [
            "", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "a\"", "\u{e4}",
        ] {
            assert!(Kid::new(name).is_none(), "{name}");
        }
        assert!(Kid::new(&"k".repeat(129)).is_none());
    }

    #[test]
    fn a_thumbprint_that_begins_with_a_dash_is_a_kid() {
        assert!(Kid::new("-zbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs").is_some());
    }
}
