//! Bytes to keys. Pure: nothing here opens a file or asks for the time.
//!
//! A signing key is parsed once, into the form in which aws-lc signs; the
//! `rsa` crate only reads and writes the encodings (PKCS#1, PKCS#8, SPKI) and
//! computes nothing with a private key (RUSTSEC-2023-0071).

use std::fmt;
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rsa::pkcs1;
use rsa::pkcs1::UintRef;
use rsa::pkcs8::der::asn1::{AnyRef, BitStringRef};
use rsa::pkcs8::der::{self, Decode, Encode, SliceReader, Tag, Tagged};
use rsa::pkcs8::spki::{SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use rsa::pkcs8::{ObjectIdentifier, PrivateKeyInfo};
use zeroize::Zeroizing;

use super::file::{SecretBytes, quoted};
use super::jwks::JwkSet;
use super::{Algorithm, Kid, jwk};
use crate::report::Problem;

/// The shortest RSA modulus, in bits (RFC 7518 section 3.3).
pub const MIN_RSA_BITS: usize = 2048;
/// The longest RSA modulus, in bits: beyond it a signature takes too long to
/// serve a node's users.
pub const MAX_RSA_BITS: usize = 4096;
/// The shortest HS256 secret, in bytes (RFC 7518 section 3.2).
pub const MIN_SECRET: usize = 32;

/// Why bytes are refused as a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// A file without a byte, for either algorithm.
    Empty,
    /// For RS256: no PEM at all.
    NotPem,
    /// For RS256: PKCS#8 or PKCS#1 without its PEM clothes.
    Der,
    /// For RS256: JSON that is no JWK.
    Json,
    /// A set of keys (JWKS) where one key is needed.
    KeySet,
    /// A set of keys with the private part of one in it.
    PrivateInSet,
    /// A JWK in which a number is missing.
    JwkIncomplete,
    /// A JWK under a name that no kid of ours can be.
    JwkKid,
    /// A public key where a private one is needed.
    PublicKey,
    /// A private key where a public one is needed.
    PrivateKey,
    /// A certificate where a private key is needed.
    Certificate,
    /// A private key under a passphrase.
    Encrypted,
    /// A private key in OpenSSH's own format.
    OpenSsh,
    /// More PEM blocks than one.
    SeveralBlocks {
        /// How many.
        count: usize,
    },
    /// A key that isn't RSA, or PEM that isn't a key.
    NotRsa {
        /// What it is.
        kind: String,
    },
    /// RSA of less than [`MIN_RSA_BITS`].
    TooSmall {
        /// The modulus's length.
        bits: usize,
    },
    /// RSA of more than [`MAX_RSA_BITS`].
    TooLarge {
        /// The modulus's length.
        bits: usize,
    },
    /// The encoding is broken, or cut off.
    Malformed,
    /// The numbers don't belong together, or make no RSA key.
    Inconsistent,
    /// An HS256 secret of less than [`MIN_SECRET`] bytes.
    SecretTooShort {
        /// Its length.
        bytes: usize,
    },
    /// A public key or a certificate as HS256 secret: it's known to everybody.
    SecretIsPublic,
    /// HS256 without a kid: nothing of a secret may serve as its name.
    KidMissing,
}

impl Rejection {
    /// What happened, in a sentence without its full stop.
    pub fn what(&self) -> String {
        match self {
            Self::Empty => "the key file is empty".into(),
            Self::NotPem => "there is no PEM key in it".into(),
            Self::Der => "this key is in DER, not in PEM".into(),
            Self::Json => "this is JSON, and no key (JWK)".into(),
            Self::KeySet => "this is a set of keys (JWKS), where one key is needed".into(),
            Self::PrivateInSet => {
                "this is a set of keys (JWKS), and it holds the private part of one".into()
            }
            Self::JwkIncomplete => {
                "a number is missing in this JWK: all of n, e, d, p, q, dp, dq and qi make a \
                 private key, n and e a public one"
                    .into()
            }
            Self::JwkKid => "the kid in this JWK is none that a token of ours can carry".into(),
            Self::PublicKey => {
                "this is a public key, where the private key that signs is needed".into()
            }
            Self::PrivateKey => "this is a private key, where a public one is needed".into(),
            Self::Certificate => {
                "this is a certificate, where the private key that signs is needed".into()
            }
            Self::Encrypted => {
                "this private key is encrypted, and nobody is there to type its passphrase".into()
            }
            Self::OpenSsh => "this private key is in OpenSSH's own format, not in PKCS#8".into(),
            Self::SeveralBlocks { count } => {
                format!("there are {count} PEM blocks in it, where one key is needed")
            }
            Self::NotRsa { kind } => format!("RS256 needs an RSA key, and this is: {kind}"),
            Self::TooSmall { bits } => {
                format!("this RSA key has {bits} bits, and RS256 needs at least {MIN_RSA_BITS}")
            }
            Self::TooLarge { bits } => {
                format!("this RSA key has {bits} bits, and at most {MAX_RSA_BITS} are accepted")
            }
            Self::Malformed => "the key's encoding is broken or cut off".into(),
            Self::Inconsistent => "the key's numbers do not belong together".into(),
            Self::SecretTooShort { bytes } => format!(
                "this HS256 key has {bytes} bytes, and needs at least {MIN_SECRET}, or it can be \
                 guessed"
            ),
            Self::SecretIsPublic => {
                "this HS256 key is a public key or a certificate: whoever has it can forge every \
                 token"
                    .into()
            }
            Self::KidMissing => "an HS256 key has no kid of its own".into(),
        }
    }

    /// What to do about the key at `path`: a command, or a sentence without
    /// its full stop.
    pub fn remedy(&self, path: &Path) -> String {
        let file = quoted(path);
        let generate =
            |alg| format!("make a key with: slurm-tokenctl key generate --alg {alg} --out NEW.pem");
        match self {
            Self::Empty => {
                "make a key with: slurm-tokenctl key generate --alg RS256|HS256 --out FILE".into()
            }
            Self::NotPem => format!(
                "name an RSA private key in PEM, set algorithm = \"HS256\" if these are the raw \
                 bytes of a shared secret, or {}",
                generate("RS256")
            ),
            Self::Der => format!(
                "convert it with: (umask 077; openssl pkey -inform DER -in {file} -out NEW.pem)"
            ),
            Self::Json => format!("name a key in PEM or a JWK, or {}", generate("RS256")),
            Self::KeySet => "name the file of the key itself".into(),
            Self::PrivateInSet => "treat this key as stolen: replace it (slurm-tokenctl key \
                                   generate) and remove its entry everywhere; a JWKS holds \
                                   public parts only"
                .into(),
            Self::JwkIncomplete => format!("export the key again, or {}", generate("RS256")),
            Self::JwkKid => "give it a name of letters, digits, '.', '_' and '-': set \
                             signing.kid, or give --kid"
                .into(),
            Self::PublicKey | Self::Certificate => format!(
                "name the private key that belongs to it, or {}",
                generate("RS256")
            ),
            Self::PrivateKey => {
                format!("take its public half with: slurm-tokenctl key public {file}")
            }
            Self::Encrypted => {
                format!("decrypt it with: (umask 077; openssl pkey -in {file} -out NEW.pem)")
            }
            Self::OpenSsh => format!(
                "convert it in place with: ssh-keygen -p -m PKCS8 -N '' -f {file}, or {}",
                generate("RS256")
            ),
            Self::SeveralBlocks { .. } => {
                format!("take the key out with: (umask 077; openssl pkey -in {file} -out NEW.pem)")
            }
            Self::NotRsa { .. }
            | Self::TooSmall { .. }
            | Self::TooLarge { .. }
            | Self::Inconsistent => generate("RS256"),
            Self::Malformed => {
                format!(
                    "look at it with: openssl pkey -noout -check -in {file}; restore it from \
                         a copy, or {}",
                    generate("RS256")
                )
            }
            Self::SecretTooShort { .. } | Self::SecretIsPublic => {
                "make a key with: slurm-tokenctl key generate --alg HS256 --out NEW.key".into()
            }
            Self::KidMissing => "set signing.kid, or give --kid".into(),
        }
    }

    /// The problem that this is for the file at `path`.
    pub fn at(&self, path: &Path) -> Problem {
        Problem::at(path, self.what(), self.remedy(path))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.remedy(Path::new("FILE")))
    }
}

/// What an operator should know about a key that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caution {
    /// HS256 signs and verifies with one secret.
    ForgesAnybody,
    /// The last byte is a newline, and Slurm takes it for a part of the key.
    EndsWithNewline,
}

impl fmt::Display for Caution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ForgesAnybody => {
                "whoever reads this HS256 key can forge a token of any user on the whole cluster; \
                 RS256 gives every node a key of its own"
            }
            Self::EndsWithNewline => {
                "this HS256 key ends with a newline, which is part of the key here as in Slurm: \
                 a copy without it signs tokens that Slurm refuses"
            }
        })
    }
}

/// A signature could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignError;

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the signature could not be made")
    }
}

impl std::error::Error for SignError {}

/// A key that signs, ready for use by several threads.
pub struct SigningKey {
    kid: Kid,
    material: Material,
}

#[expect(
    clippy::large_enum_variant,
    reason = "a process has one or two of these"
)]
enum Material {
    Rsa { pair: RsaKeyPair, public: PublicKey },
    Secret { key: hmac::Key, secret: SecretBytes },
}

/// Reads a signing key for `algorithm`, which is never guessed from the bytes.
///
/// RS256 takes one unencrypted RSA private key of 2048 to 4096 bits, in PEM -
/// PKCS#8 (RFC 5958) or PKCS#1 (RFC 8017 appendix A.1.2) - or as a JWK; its kid
/// is, unless given, the one in the JWK or the RFC 7638 thumbprint. HS256 takes the bytes as they are, a
/// newline at their end included, as Slurm does; it needs a kid, because a
/// name made from a secret tells something about it.
pub fn signing_key(
    bytes: &SecretBytes,
    algorithm: Algorithm,
    kid: Option<Kid>,
) -> Result<SigningKey, Rejection> {
    let bytes = bytes.as_slice();
    if bytes.is_empty() {
        return Err(Rejection::Empty);
    }
    match algorithm {
        Algorithm::Rs256 => {
            let (pair, public, name) = rsa_pair(bytes)?;
            let kid = public.kid(kid, name.as_deref())?;
            Ok(SigningKey {
                kid,
                material: Material::Rsa { pair, public },
            })
        }
        Algorithm::Hs256 => {
            if bytes.len() < MIN_SECRET {
                return Err(Rejection::SecretTooShort { bytes: bytes.len() });
            }
            if is_public(bytes) {
                return Err(Rejection::SecretIsPublic);
            }
            let kid = kid.ok_or(Rejection::KidMissing)?;
            let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
            let secret = SecretBytes::new(bytes.to_vec());
            Ok(SigningKey {
                kid,
                material: Material::Secret { key, secret },
            })
        }
    }
}

/// The public half of a private RSA key in any encoding that [`signing_key`]
/// reads, and the name that a JWK gives it.
pub fn public_half(bytes: &SecretBytes) -> Result<(PublicKey, Option<String>), Rejection> {
    let (_, public, name) = rsa_pair(bytes.as_slice())?;
    Ok((public, name))
}

/// A public key, a set of them, or a certificate.
fn is_public(bytes: &[u8]) -> bool {
    if jwk::is_json(bytes) {
        return jwk::public(bytes).is_ok() || JwkSet::parse(bytes).is_ok();
    }
    pem_block(bytes).is_ok_and(|block| {
        block.label.ends_with("PUBLIC KEY") || block.label.contains("CERTIFICATE")
    })
}

impl SigningKey {
    /// The algorithm that the key is pinned to.
    pub fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::Secret { .. } => Algorithm::Hs256,
        }
    }

    /// The key's name in token headers.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The same key under another name.
    #[must_use]
    pub fn named(self, kid: Kid) -> Self {
        Self { kid, ..self }
    }

    /// The public half; HS256 has none.
    pub fn public(&self) -> Option<&PublicKey> {
        match &self.material {
            Material::Rsa { public, .. } => Some(public),
            Material::Secret { .. } => None,
        }
    }

    /// What an operator should know about this key.
    pub fn cautions(&self) -> Vec<Caution> {
        match &self.material {
            Material::Rsa { .. } => Vec::new(),
            Material::Secret { secret, .. } if secret.as_slice().ends_with(b"\n") => {
                vec![Caution::ForgesAnybody, Caution::EndsWithNewline]
            }
            Material::Secret { .. } => vec![Caution::ForgesAnybody],
        }
    }

    /// How many bytes a signature has.
    pub fn signature_len(&self) -> usize {
        match &self.material {
            Material::Rsa { pair, .. } => pair.public_modulus_len(),
            Material::Secret { .. } => aws_lc_rs::digest::SHA256_OUTPUT_LEN,
        }
    }

    /// Signs `message`: RSASSA-PKCS1-v1_5 or HMAC, with SHA-256 (RFC 7518
    /// sections 3.3 and 3.2). An RSA signature has the modulus's length.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.material {
            Material::Rsa { pair, .. } => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .map_err(|_| SignError)?;
                Ok(signature)
            }
            Material::Secret { key, .. } => Ok(hmac::sign(key, message).as_ref().to_vec()),
        }
    }

    /// What verifies this key's signatures: the public half, or the secret.
    pub fn verifying(&self) -> VerifyingKey {
        let kid = self.kid.as_str();
        match &self.material {
            Material::Rsa { public, .. } => VerifyingKey::rs256(public, kid),
            Material::Secret { secret, .. } => VerifyingKey {
                kid: kid.into(),
                half: Half::Secret(jsonwebtoken::DecodingKey::from_secret(secret.as_slice())),
            },
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

/// A key that verifies, pinned to one algorithm.
pub struct VerifyingKey {
    kid: String,
    half: Half,
}

/// What a verifier has of a key.
enum Half {
    /// For RS256, parsed once: what jsonwebtoken would do for each token costs
    /// more than to check its signature.
    Public {
        key: PublicKey,
        parsed: Option<ParsedPublicKey>,
    },
    /// For HS256.
    Secret(jsonwebtoken::DecodingKey),
}

impl VerifyingKey {
    /// Verifies RS256 signatures of tokens whose header names `kid`. Another
    /// issuer's may hold characters that [`Kid`] doesn't.
    pub fn rs256(public: &PublicKey, kid: &str) -> Self {
        let PublicKey { n, e, .. } = public;
        let components = RsaPublicKeyComponents { n, e };
        // A public key is what aws-lc takes; what it didn't take would verify nothing.
        let parsed = components
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .ok();
        Self {
            kid: kid.into(),
            half: Half::Public {
                key: public.clone(),
                parsed,
            },
        }
    }

    /// The same key under another name.
    #[must_use]
    pub fn named(self, kid: &str) -> Self {
        Self {
            kid: kid.into(),
            ..self
        }
    }

    /// The name by which a token's header refers to this key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The only algorithm that this key verifies.
    pub fn algorithm(&self) -> Algorithm {
        match self.half {
            Half::Public { .. } => Algorithm::Rs256,
            Half::Secret(_) => Algorithm::Hs256,
        }
    }

    /// Is `signature`, in base64url, this key's signature of `message`. HMACs
    /// are compared in constant time.
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        match &self.half {
            Half::Public { parsed, .. } => match (parsed, URL_SAFE_NO_PAD.decode(signature)) {
                (Some(key), Ok(signature)) => key.verify_sig(message, &signature).is_ok(),
                _ => false,
            },
            // An error is no signature: base64url that can't be read.
            Half::Secret(key) => {
                let algorithm = jsonwebtoken::Algorithm::HS256;
                jsonwebtoken::crypto::verify(signature, message, key, algorithm).unwrap_or(false)
            }
        }
    }

    /// Is the other the same key, whatever its name.
    pub fn is_same_key(&self, other: &Self) -> bool {
        use jsonwebtoken::DecodingKeyKind::SecretOrDer;
        match (&self.half, &other.half) {
            (Half::Public { key: one, .. }, Half::Public { key: other, .. }) => one == other,
            (Half::Secret(one), Half::Secret(other)) => match (one.kind(), other.kind()) {
                (SecretOrDer(one), SecretOrDer(other)) => {
                    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
                }
                _ => false,
            },
            _ => false,
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

/// An RSA public key of 2048 to 4096 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    n: Vec<u8>,
    e: Vec<u8>,
    /// The same as `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7).
    spki: Vec<u8>,
}

impl PublicKey {
    /// The key of modulus `n` and public exponent `e`, both big-endian.
    ///
    /// The exponent is odd, above 1 and of at most 33 bits, as aws-lc wants it.
    pub fn from_components(n: &[u8], e: &[u8]) -> Result<Self, Rejection> {
        let (n, e) = (without_zeros(n), without_zeros(e));
        check_size(n)?;
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        if !odd(n) || !odd(e) || e == [1] || bits(e) > 33 {
            return Err(Rejection::Inconsistent);
        }
        Ok(Self {
            n: n.to_vec(),
            e: e.to_vec(),
            spki: spki(n, e)?,
        })
    }

    /// Reads a public key: a JWK, which may give it a name, or PEM as
    /// [`Self::from_pem`] does.
    pub fn read(bytes: &[u8]) -> Result<(Self, Option<String>), Rejection> {
        if jwk::is_json(bytes) {
            return jwk::public(bytes);
        }
        Self::from_pem(bytes).map(|key| (key, None))
    }

    /// Reads a public key in PEM: SPKI (`PUBLIC KEY`), PKCS#1 (`RSA PUBLIC KEY`)
    /// or the one in a certificate (`CERTIFICATE`), whose names, dates and
    /// signature count for nothing here.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, Rejection> {
        if bytes.is_empty() {
            return Err(Rejection::Empty);
        }
        let block = pem_block(bytes)?;
        match block.label {
            "PUBLIC KEY" => {
                let der = block.decode()?;
                let info = SubjectPublicKeyInfoRef::from_der(&der);
                Self::from_spki(&info.map_err(|_| Rejection::Malformed)?)
            }
            "CERTIFICATE" => {
                let der = block.decode()?;
                let info = certified_key(&der);
                Self::from_spki(&info.map_err(|_| Rejection::Malformed)?)
            }
            "RSA PUBLIC KEY" => Self::from_pkcs1(&block.decode()?),
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" | "OPENSSH PRIVATE KEY" => {
                Err(Rejection::PrivateKey)
            }
            other => Err(Rejection::NotRsa { kind: other.into() }),
        }
    }

    fn from_spki(info: &SubjectPublicKeyInfoRef<'_>) -> Result<Self, Rejection> {
        check_kind(&info.algorithm.oid)?;
        let key = info.subject_public_key.as_bytes();
        Self::from_pkcs1(key.ok_or(Rejection::Malformed)?)
    }

    fn from_pkcs1(der: &[u8]) -> Result<Self, Rejection> {
        let key = pkcs1::RsaPublicKey::from_der(der).map_err(|_| Rejection::Malformed)?;
        Self::from_components(key.modulus.as_bytes(), key.public_exponent.as_bytes())
    }

    /// What tokens call the key: as given, as its JWK names it, or by its
    /// thumbprint.
    pub fn kid(&self, given: Option<Kid>, in_jwk: Option<&str>) -> Result<Kid, Rejection> {
        match (given, in_jwk) {
            (Some(kid), _) => Ok(kid),
            (None, Some(name)) => Kid::new(name).ok_or(Rejection::JwkKid),
            (None, None) => Ok(self.thumbprint()),
        }
    }

    /// The modulus, big-endian without leading zeros.
    pub fn n(&self) -> &[u8] {
        &self.n
    }

    /// The public exponent, big-endian without leading zeros.
    pub fn e(&self) -> &[u8] {
        &self.e
    }

    /// The modulus's length.
    pub fn bits(&self) -> usize {
        bits(&self.n)
    }

    /// The RFC 7638 thumbprint with SHA-256: 43 characters of base64url.
    pub fn thumbprint(&self) -> Kid {
        // RFC 7638 section 3: the required members only, sorted, no white space.
        let canonical = format!(
            r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
            URL_SAFE_NO_PAD.encode(&self.e),
            URL_SAFE_NO_PAD.encode(&self.n)
        );
        let hash = digest::digest(&digest::SHA256, canonical.as_bytes());
        Kid(URL_SAFE_NO_PAD.encode(hash))
    }

    /// The key in PEM, as openssl writes it (RFC 7468 section 13).
    pub fn to_spki_pem(&self) -> String {
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        let text = STANDARD.encode(&self.spki);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END PUBLIC KEY-----\n");
        pem
    }
}

/// The public key in a certificate (RFC 5280 section 4.1): in `TBSCertificate`
/// it follows the version, if any, and five fields more.
fn certified_key(der: &[u8]) -> der::Result<SubjectPublicKeyInfoRef<'_>> {
    let certificate = AnyRef::from_der(der)?;
    let tbs = AnyRef::decode(&mut SliceReader::new(certificate.value())?)?;
    let mut fields = SliceReader::new(tbs.value())?;
    let mut passed = AnyRef::decode(&mut fields)?;
    if passed.tag().is_context_specific() {
        passed = AnyRef::decode(&mut fields)?;
    }
    passed.tag().assert_eq(Tag::Integer)?;
    for _signature_issuer_validity_subject in 0..4 {
        AnyRef::decode(&mut fields)?
            .tag()
            .assert_eq(Tag::Sequence)?;
    }
    SubjectPublicKeyInfoRef::decode(&mut fields)
}

/// The key pair in a file, its public half, and the name that a JWK gives it.
fn rsa_pair(bytes: &[u8]) -> Result<(RsaKeyPair, PublicKey, Option<String>), Rejection> {
    let (der, name) = private_pkcs1(bytes)?;
    let numbers = pkcs1::RsaPrivateKey::from_der(&der).map_err(|_| Rejection::Malformed)?;
    let public = PublicKey::from_components(
        numbers.modulus.as_bytes(),
        numbers.public_exponent.as_bytes(),
    )?;
    let pair = RsaKeyPair::from_der(&der).map_err(|_| Rejection::Inconsistent)?;
    Ok((pair, public, name))
}

/// The private key in a file, in PKCS#1, and the name that a JWK gives it.
pub(super) fn private_pkcs1(
    bytes: &[u8],
) -> Result<(Zeroizing<Vec<u8>>, Option<String>), Rejection> {
    if jwk::is_json(bytes) {
        return jwk::private(bytes);
    }
    let block = pem_block(bytes)?;
    let der = match block.label {
        "PRIVATE KEY" | "RSA PRIVATE KEY" => block.decode()?,
        "ENCRYPTED PRIVATE KEY" => return Err(Rejection::Encrypted),
        "OPENSSH PRIVATE KEY" => return Err(Rejection::OpenSsh),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err(Rejection::PublicKey),
        label if label.contains("CERTIFICATE") => return Err(Rejection::Certificate),
        label => return Err(Rejection::NotRsa { kind: label.into() }),
    };
    if block.label == "RSA PRIVATE KEY" {
        return Ok((der, None));
    }
    let info = PrivateKeyInfo::try_from(der.as_slice()).map_err(|_| Rejection::Malformed)?;
    check_kind(&info.algorithm.oid)?;
    Ok((Zeroizing::new(info.private_key.to_vec()), None))
}

/// One block of PEM (RFC 7468), still in base64.
struct PemBlock<'a> {
    label: &'a str,
    body: &'a str,
}

impl PemBlock<'_> {
    /// The bytes in it. Lines may have any length, as openssl allows.
    fn decode(&self) -> Result<Zeroizing<Vec<u8>>, Rejection> {
        // RFC 1421 headers: openssl writes them for an encrypted PKCS#1 key.
        if self.body.contains("ENCRYPTED") {
            return Err(Rejection::Encrypted);
        }
        let mut text = Zeroizing::new(Vec::with_capacity(self.body.len()));
        text.extend(self.body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        let mut der = Zeroizing::new(vec![0; text.len() / 4 * 3 + 3]);
        let length = STANDARD
            .decode_slice(&*text, &mut der)
            .map_err(|_| Rejection::Malformed)?;
        der.truncate(length);
        Ok(der)
    }
}

/// The only PEM block of a file. Text around it is allowed, as openssl does.
fn pem_block(bytes: &[u8]) -> Result<PemBlock<'_>, Rejection> {
    let not_pem = || match bytes.trim_ascii_start() {
        // An ASN.1 SEQUENCE of more than 127 bytes.
        [0x30, 0x81..=0x83, ..] => Rejection::Der,
        _ => Rejection::NotPem,
    };
    let text = std::str::from_utf8(bytes).map_err(|_| not_pem())?;
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, after) = after.split_once("-----").ok_or(Rejection::Malformed)?;
        let end = format!("-----END {label}-----");
        let (body, after) = after.split_once(end.as_str()).ok_or(Rejection::Malformed)?;
        blocks.push(PemBlock { label, body });
        rest = after;
    }
    // An EC key comes with a block of parameters: what it is says more than
    // how many blocks there are.
    if let Some(ec) = blocks.iter().find(|block| block.label.starts_with("EC ")) {
        return Err(Rejection::NotRsa {
            kind: ec.label.into(),
        });
    }
    match blocks.len() {
        0 => Err(not_pem()),
        1 => blocks.pop().ok_or(Rejection::NotPem),
        count => Err(Rejection::SeveralBlocks { count }),
    }
}

/// Whether an algorithm's identifier is plain RSA; the others have names here
/// so that a message can tell them.
fn check_kind(oid: &ObjectIdentifier) -> Result<(), Rejection> {
    if *oid == pkcs1::ALGORITHM_OID {
        return Ok(());
    }
    let kind = match oid.to_string().as_str() {
        "1.2.840.113549.1.1.10" => "an RSA key for PSS signatures only".into(),
        "1.2.840.10045.2.1" => "an EC key".into(),
        "1.2.840.10040.4.1" => "a DSA key".into(),
        "1.3.101.112" => "an Ed25519 key".into(),
        "1.3.101.113" => "an Ed448 key".into(),
        other => format!("a key of the kind {other}"),
    };
    Err(Rejection::NotRsa { kind })
}

fn check_size(n: &[u8]) -> Result<(), Rejection> {
    match bits(n) {
        bits if bits < MIN_RSA_BITS => Err(Rejection::TooSmall { bits }),
        bits if bits > MAX_RSA_BITS => Err(Rejection::TooLarge { bits }),
        _ => Ok(()),
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    &number[zeros..]
}

/// The length in bits of a big-endian number without leading zeros.
fn bits(number: &[u8]) -> usize {
    number
        .first()
        .map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn spki(n: &[u8], e: &[u8]) -> Result<Vec<u8>, Rejection> {
    let encode = || {
        let key = pkcs1::RsaPublicKey {
            modulus: UintRef::new(n)?,
            public_exponent: UintRef::new(e)?,
        }
        .to_der()?;
        SubjectPublicKeyInfo {
            algorithm: pkcs1::ALGORITHM_ID,
            subject_public_key: BitStringRef::from_bytes(&key)?,
        }
        .to_der()
    };
    encode().map_err(|_| Rejection::Malformed)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    const RSA: &str = "genpkey -quiet -algorithm RSA -out key -pkeyopt rsa_keygen_bits:2048";

    /// A directory of files that openssl made.
    struct Made(tempfile::TempDir);

    impl Made {
        /// Runs each command in the directory.
        fn by(commands: &[&str]) -> Self {
            let made = Self(tempfile::tempdir().unwrap());
            for command in commands {
                made.openssl(command);
            }
            made
        }

        fn openssl(&self, command: &str) {
            let mut openssl = Command::new("openssl");
            openssl.args(command.split(' ')).current_dir(self.0.path());
            let output = openssl.output().expect("openssl is installed");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "openssl {command}: {stderr}");
        }

        fn file(&self, name: &str) -> Vec<u8> {
            std::fs::read(self.0.path().join(name)).unwrap()
        }

        fn put(&self, name: &str, bytes: &[u8]) {
            std::fs::write(self.0.path().join(name), bytes).unwrap();
        }
    }

    fn rs256(pem: &[u8]) -> Result<SigningKey, Rejection> {
        signing_key(&SecretBytes::new(pem.to_vec()), Algorithm::Rs256, None)
    }

    /// What is said of the file `out` that the commands make.
    fn rs256_rejection(commands: &[&str]) -> Rejection {
        rs256(&Made::by(commands).file("out")).unwrap_err()
    }

    fn hs256(secret: &[u8]) -> Result<SigningKey, Rejection> {
        let secret = SecretBytes::new(secret.to_vec());
        signing_key(&secret, Algorithm::Hs256, Kid::new("login1"))
    }

    #[test]
    fn openssl_verifies_what_a_key_of_its_making_signs() {
        let made = Made::by(&[RSA, "pkey -in key -pubout -out public"]);
        made.put("message", b"message");
        made.put(
            "signature",
            &rs256(&made.file("key")).unwrap().sign(b"message").unwrap(),
        );
        made.openssl("dgst -sha256 -verify public -signature signature message");
    }

    #[test]
    fn the_verifying_key_verifies_this_message_and_no_other() {
        for key in [rs256(&Made::by(&[RSA]).file("key")), hs256(&[7; 32])].map(Result::unwrap) {
            let signature = URL_SAFE_NO_PAD.encode(key.sign(b"message").unwrap());
            assert!(key.verifying().verifies(b"message", &signature));
            assert!(!key.verifying().verifies(b"another", &signature));
        }
    }

    #[test]
    fn pkcs1_and_pkcs8_give_the_same_key() {
        let made = Made::by(&[RSA, "rsa -traditional -in key -out pkcs1"]);
        assert!(
            made.file("pkcs1")
                .starts_with(b"-----BEGIN RSA PRIVATE KEY-----")
        );
        let [one, other] = ["key", "pkcs1"].map(|name| rs256(&made.file(name)).unwrap());
        assert_eq!(one.public(), other.public());
    }

    #[test]
    fn a_key_of_4096_bits_gives_a_signature_of_512_bytes() {
        let key = rs256(&Made::by(&["genrsa -out key 4096"]).file("key")).unwrap();
        assert_eq!(key.sign(b"message").unwrap().len(), 512);
    }

    #[test]
    fn carriage_returns_and_text_around_a_pem_block_do_no_harm() {
        let pem = String::from_utf8(Made::by(&[RSA]).file("key")).unwrap();
        let dressed = format!("login1\n\n{}bye", pem.replace('\n', "\r\n"));
        assert!(rs256(dressed.as_bytes()).is_ok());
    }

    #[test]
    fn the_kid_of_an_rsa_key_is_its_thumbprint_unless_it_is_given() {
        let pem = SecretBytes::new(Made::by(&[RSA]).file("key"));
        let key = signing_key(&pem, Algorithm::Rs256, None).unwrap();
        assert_eq!(*key.kid(), key.public().unwrap().thumbprint());
        let key = signing_key(&pem, Algorithm::Rs256, Kid::new("login1")).unwrap();
        assert_eq!(key.kid().as_str(), "login1");
    }

    #[test]
    fn a_public_key_does_not_sign() {
        let commands = [RSA, "pkey -in key -pubout -out out"];
        assert_eq!(rs256_rejection(&commands), Rejection::PublicKey);
        let commands = [RSA, "rsa -in key -RSAPublicKey_out -out out"];
        assert_eq!(rs256_rejection(&commands), Rejection::PublicKey);
    }

    #[test]
    fn an_encrypted_key_is_refused_in_either_encoding() {
        let commands = [RSA, "pkey -in key -aes256 -passout pass:secret -out out"];
        assert_eq!(rs256_rejection(&commands), Rejection::Encrypted);
        let commands = [
            RSA,
            "rsa -in key -traditional -aes256 -passout pass:secret -out out",
        ];
        assert_eq!(rs256_rejection(&commands), Rejection::Encrypted);
    }

    #[test]
    fn a_certificate_is_refused() {
        let commands = [RSA, "req -x509 -key key -subj /CN=login1 -out out"];
        assert_eq!(rs256_rejection(&commands), Rejection::Certificate);
    }

    #[test]
    fn keys_that_are_not_rsa_are_refused_and_say_what_they_are() {
        for (command, kind) in [
            ("ecparam -genkey -name prime256v1 -out out", "EC PARAMETERS"),
            (
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out out",
                "an EC key",
            ),
            ("genpkey -algorithm ED25519 -out out", "an Ed25519 key"),
            (
                "genpkey -quiet -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out out",
                "an RSA key for PSS signatures only",
            ),
        ] {
            assert_eq!(
                rs256_rejection(&[command]),
                Rejection::NotRsa { kind: kind.into() }
            );
        }
    }

    #[test]
    fn rsa_below_2048_or_above_4096_bits_is_refused() {
        assert_eq!(
            rs256_rejection(&["genrsa -out out 1024"]),
            Rejection::TooSmall { bits: 1024 }
        );
        assert_eq!(
            rs256_rejection(&["genrsa -out out 2047"]),
            Rejection::TooSmall { bits: 2047 }
        );
        assert_eq!(
            rs256_rejection(&["genrsa -out out 4104"]),
            Rejection::TooLarge { bits: 4104 }
        );
    }

    #[test]
    fn an_exponent_of_3_is_accepted() {
        let made = Made::by(&["genrsa -3 -out key 2048"]);
        assert_eq!(rs256(&made.file("key")).unwrap().public().unwrap().e(), [3]);
    }

    #[test]
    fn two_keys_in_one_file_are_refused() {
        let made = Made::by(&[RSA]);
        let twice = made.file("key").repeat(2);
        assert_eq!(
            rs256(&twice).unwrap_err(),
            Rejection::SeveralBlocks { count: 2 }
        );
    }

    #[test]
    fn der_json_raw_bytes_and_nothing_are_told_apart() {
        let made = Made::by(&[RSA, "pkey -in key -outform DER -out der"]);
        assert_eq!(rs256(&made.file("der")).unwrap_err(), Rejection::Der);
        assert_eq!(rs256(br#"{"a":"b"}"#).unwrap_err(), Rejection::Json);
        assert_eq!(rs256(&[0xff; 32]).unwrap_err(), Rejection::NotPem);
        assert_eq!(rs256(b"").unwrap_err(), Rejection::Empty);
    }

    #[test]
    fn a_pem_file_cut_off_anywhere_is_refused() {
        let pem = Made::by(&[RSA]).file("key");
        // Only the newline at its very end may be missing.
        for length in 0..pem.len() - 1 {
            assert!(rs256(&pem[..length]).is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn a_private_key_whose_numbers_do_not_belong_together_is_refused() {
        let made = Made::by(&[RSA, "rsa -in key -traditional -outform DER -out der"]);
        let der = made.file("der");
        let numbers = pkcs1::RsaPrivateKey::from_der(&der).unwrap();
        for number in [
            numbers.modulus,
            numbers.private_exponent,
            numbers.prime1,
            numbers.prime2,
            numbers.exponent1,
            numbers.exponent2,
            numbers.coefficient,
        ] {
            let number = number.as_bytes();
            let place = der
                .windows(number.len())
                .position(|window| window == number)
                .unwrap();
            let mut changed = der.clone();
            changed[place + number.len() / 2] ^= 1;
            let pem = format!(
                "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n",
                STANDARD.encode(&changed)
            );
            assert_eq!(rs256(pem.as_bytes()).unwrap_err(), Rejection::Inconsistent);
        }
    }

    #[test]
    fn hs256_takes_the_bytes_unchanged() {
        // A newline at the end, NULs and PEM text are bytes like any others.
        let pem = Made::by(&[RSA]).file("key");
        for secret in [&b"0123456789abcdef0123456789abcdef\n"[..], &[0; 32], &pem] {
            let made = Made::by(&[]);
            made.put("message", b"message");
            let hex: Vec<_> = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            let hex = hex.concat();
            made.openssl(&format!(
                "dgst -sha256 -mac HMAC -macopt hexkey:{hex} -binary -out mac message"
            ));
            assert_eq!(
                hs256(secret).unwrap().sign(b"message").unwrap(),
                made.file("mac")
            );
        }
    }

    #[test]
    fn a_secret_below_32_bytes_is_refused() {
        assert_eq!(hs256(b"").unwrap_err(), Rejection::Empty);
        assert_eq!(
            hs256(&[7; 31]).unwrap_err(),
            Rejection::SecretTooShort { bytes: 31 }
        );
        assert!(hs256(&[7; 32]).is_ok());
    }

    #[test]
    fn a_public_key_or_certificate_is_no_secret() {
        let made = Made::by(&[
            RSA,
            "pkey -in key -pubout -out public",
            "req -x509 -key key -subj /CN=login1 -out certificate",
        ]);
        for name in ["public", "certificate"] {
            assert_eq!(
                hs256(&made.file(name)).unwrap_err(),
                Rejection::SecretIsPublic
            );
        }
    }

    #[test]
    fn a_secret_needs_a_kid() {
        let secret = SecretBytes::new(vec![7; 32]);
        let rejection = signing_key(&secret, Algorithm::Hs256, None).unwrap_err();
        assert_eq!(rejection, Rejection::KidMissing);
    }

    #[test]
    fn a_newline_at_the_end_of_a_secret_is_pointed_out() {
        let with = hs256(b"0123456789abcdef0123456789abcde\n")
            .unwrap()
            .cautions();
        assert_eq!(with, [Caution::ForgesAnybody, Caution::EndsWithNewline]);
        let without = hs256(b"0123456789abcdef0123456789abcdef")
            .unwrap()
            .cautions();
        assert_eq!(without, [Caution::ForgesAnybody]);
    }

    #[test]
    fn the_thumbprint_of_rfc_7638_section_3_1_comes_out() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6\
                 tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5\
                 v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD0\
                 8qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU\
                 8awapJzKnqDKgw";
        let n = URL_SAFE_NO_PAD.decode(n).unwrap();
        let key = PublicKey::from_components(&n, &[1, 0, 1]).unwrap();
        assert_eq!(
            key.thumbprint().as_str(),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    #[test]
    fn public_keys_are_read_and_written_as_openssl_does() {
        let made = Made::by(&[
            RSA,
            "pkey -in key -pubout -out spki",
            "rsa -in key -RSAPublicKey_out -out pkcs1",
        ]);
        let key = rs256(&made.file("key")).unwrap();
        let public = key.public().unwrap();
        assert_eq!(PublicKey::from_pem(&made.file("spki")).as_ref(), Ok(public));
        assert_eq!(
            PublicKey::from_pem(&made.file("pkcs1")).as_ref(),
            Ok(public)
        );
        assert_eq!(public.to_spki_pem().into_bytes(), made.file("spki"));
    }

    #[test]
    fn the_public_key_is_taken_out_of_a_certificate() {
        let made = Made::by(&[RSA, "req -x509 -key key -subj /CN=login1 -out certificate"]);
        let key = rs256(&made.file("key")).unwrap();
        let certified = PublicKey::from_pem(&made.file("certificate"));
        assert_eq!(certified.as_ref(), Ok(key.public().unwrap()));
    }

    #[test]
    fn a_certificate_request_holds_no_key_that_is_read() {
        let made = Made::by(&[RSA, "req -new -key key -subj /CN=login1 -out request"]);
        let rejection = PublicKey::from_pem(&made.file("request")).unwrap_err();
        assert_eq!(
            rejection,
            Rejection::NotRsa {
                kind: "CERTIFICATE REQUEST".into()
            }
        );
    }

    #[test]
    fn a_private_key_is_refused_where_a_public_one_is_read() {
        let made = Made::by(&[RSA]);
        assert_eq!(
            PublicKey::from_pem(&made.file("key")),
            Err(Rejection::PrivateKey)
        );
    }

    #[test]
    fn leading_zeros_do_not_change_a_public_key() {
        let made = Made::by(&[RSA]);
        let key = rs256(&made.file("key")).unwrap();
        let key = key.public().unwrap();
        let longer = [&[0, 0], key.n()].concat();
        assert_eq!(
            PublicKey::from_components(&longer, &[0, 1, 0, 1]).as_ref(),
            Ok(key)
        );
    }

    #[test]
    fn numbers_that_make_no_rsa_key_are_refused() {
        let n = [0xff; 256];
        for e in [&[][..], &[1], &[2], &[3, 0, 0, 0, 1]] {
            assert_eq!(
                PublicKey::from_components(&n, e),
                Err(Rejection::Inconsistent),
                "{e:?}"
            );
        }
        let even = [0xfe; 256];
        assert_eq!(
            PublicKey::from_components(&even, &[3]),
            Err(Rejection::Inconsistent)
        );
    }

    #[test]
    fn no_key_shows_in_debug_output() {
        let pem = Made::by(&[RSA]).file("key");
        let kid = rs256(&pem).unwrap().kid().clone();
        let rsa = rs256(&pem).unwrap();
        assert_eq!(
            format!("{rsa:?}"),
            format!(r#"SigningKey {{ kid: Kid("{kid}"), algorithm: Rs256, .. }}"#)
        );
        let hmac = hs256(b"0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!(
            format!("{hmac:?} {:?}", hmac.verifying()),
            "SigningKey { kid: Kid(\"login1\"), algorithm: Hs256, .. } \
             VerifyingKey { kid: \"login1\", algorithm: Hs256, .. }"
        );
    }

    /// What may pass for a key: noise, noise in PEM, JSON, and a sound key with
    /// a piece of noise in it.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| Made::by(&[RSA]).file("key"));
        const LABELS: &[&str] = &[
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "PUBLIC KEY",
            "RSA PUBLIC KEY",
            "CERTIFICATE",
            "EC PARAMETERS",
        ];
        let pem = (prop::sample::select(LABELS), any::<Vec<u8>>()).prop_map(|(label, der)| {
            let body = STANDARD.encode(der);
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n").into_bytes()
        });
        let json = r#"\{"(kty|keys|n|e|d)":[\[\]{}"0-9A-Za-z:,.-]{0,30}\}?"#;
        let changed = (any::<prop::sample::Index>(), any::<[u8; 4]>()).prop_map(|(at, noise)| {
            let mut key = KEY.clone();
            let at = at.index(key.len() - noise.len());
            key.splice(at..at + noise.len(), noise);
            key
        });
        prop_oneof![
            any::<Vec<u8>>(),
            pem,
            json.prop_map(String::into_bytes),
            changed
        ]
    }

    proptest! {
        #[test]
        fn no_bytes_crash_a_reader_of_keys(bytes in bytes()) {
            let _ = PublicKey::read(&bytes);
            let _ = JwkSet::parse(&bytes);
            let secret = SecretBytes::new(bytes.clone());
            let _ = jwk::private_jwk(&secret, None);
            let _ = public_half(&secret);
            if let Ok(key) = signing_key(&secret, Algorithm::Rs256, None) {
                // Whatever is read can sign, and its signature is good.
                let signature = URL_SAFE_NO_PAD.encode(key.sign(b"message").unwrap());
                prop_assert!(key.verifying().verifies(b"message", &signature));
            }
            let is_secret = signing_key(&secret, Algorithm::Hs256, Kid::new("a")).is_ok();
            prop_assert!(!is_secret || bytes.len() >= MIN_SECRET);
        }
    }

    #[test]
    fn a_signing_key_serves_several_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<SigningKey>();
        shared::<VerifyingKey>();
    }
}
