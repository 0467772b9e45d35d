//! Public keys, read from their files.

use std::path::Path;

use super::file::{self, SecretBytes, Trust, read_key, read_public};
use super::format::{self, PublicKey, Rejection};
use super::jwks::{JwkSet, Reading};
use crate::report::Problem;

/// The largest JWKS, in bytes: a key has 0.5 KiB, and a cluster has hundreds
/// of nodes.
pub const MAX_JWKS: usize = 4 * 1024 * 1024;

/// The public key in a file, and the name that a JWK gives it. A file with a
/// private key in it has to be as safe as the daemon wants it.
pub fn read_public_half(
    path: &Path,
    trust: &Trust,
) -> Result<(PublicKey, Option<String>), Problem> {
    // It may turn out to be a private key: wiped like one.
    let bytes = SecretBytes::new(read_public(path, trust, file::MAX_KEY_FILE)?);
    let read = match PublicKey::read(bytes.as_slice()) {
        Err(Rejection::PrivateKey) => format::public_half(&read_key(path, trust)?),
        read => read,
    };
    read.map_err(|rejection| match rejection {
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
