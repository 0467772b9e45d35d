//! Public keys, read from their files.

use std::path::Path;

use super::Algorithm;
use super::file::{self, SecretBytes, Trust, read_key, read_public};
use super::format::{PublicKey, Rejection, signing_key};
use super::jwks::{JwkSet, Reading};
use crate::report::Problem;

/// The largest JWKS, in bytes: a key has 0.5 KiB, and a cluster has hundreds
/// of nodes.
pub const MAX_JWKS: usize = 4 * 1024 * 1024;

/// The public key in a PEM file. A file with a private key in it has to be as
/// safe as the daemon wants it.
pub fn read_public_half(path: &Path, trust: &Trust) -> Result<PublicKey, Problem> {
    // It may turn out to be a private key: wiped like one.
    let bytes = SecretBytes::new(read_public(path, trust, file::MAX_KEY_FILE)?);
    let rejection = match PublicKey::from_pem(bytes.as_slice()) {
        Ok(key) => return Ok(key),
        Err(Rejection::PrivateKey) => {
            let bytes = read_key(path, trust)?;
            match signing_key(&bytes, Algorithm::Rs256, None).map(|key| key.public().cloned()) {
                Ok(Some(key)) => return Ok(key),
                Ok(None) => Rejection::NotPem,
                Err(rejection) => rejection,
            }
        }
        Err(rejection) => rejection,
    };
    Err(match rejection {
        Rejection::NotPem => Problem::at(
            path,
            rejection.what(),
            "name an RSA key; an HS256 key has no public half, and its kid is what signing.kid says",
        ),
        _ => rejection.at(path),
    })
}

/// A JWKS, whose entries for other purposes are named.
pub fn read_jwks(path: &Path, trust: &Trust) -> Result<Reading, Problem> {
    let bytes = read_public(path, trust, MAX_JWKS)?;
    JwkSet::parse(&bytes).map_err(|rejection| rejection.at(path))
}
