//! `slurm-tokenctl key`.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use rand_core::OsRng;
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey, LineEnding};

use super::{Failure, print, say};
use crate::keys::file::{SecretBytes, Trust, quoted, read_key};
use crate::keys::format::{Caution, SigningKey, signing_key};
use crate::keys::jwk::private_jwk;
use crate::keys::jwks::Jwk;
use crate::keys::public::read_public_half;
use crate::keys::{Algorithm, Kid, store};
use crate::report::Problem;

/// Nobody needs to write to a key, its owner included.
pub(super) const KEY_MODE: u32 = 0o400;
/// The length of an RSA key, in bits, unless another is asked for.
pub(super) const USUAL_BITS: usize = 2048;
/// A copy for another program.
const JWK_MODE: u32 = 0o600;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a new key in a file of its own; an existing file is never overwritten
    Generate(Generate),
    /// Print a key's RFC 7638 thumbprint: its kid, unless signing.kid gives another
    Kid(Source),
    /// Print the public half of an RSA key in PEM
    Public(Source),
    /// Print the public half of an RSA key as a JWK
    ///
    /// With --private it's the whole key, into a new file that its owner alone
    /// can read: never to standard output.
    Jwk(JwkArgs),
}

#[derive(Args)]
pub(super) struct JwkArgs {
    #[command(flatten)]
    source: Source,
    /// The key's name, where signing.kid sets it [default: that in a JWK, or
    /// its thumbprint]
    #[arg(long, value_parser = kid)]
    kid: Option<Kid>,
    /// The private key, for a program that reads no PEM
    #[arg(long, requires = "out")]
    private: bool,
    /// With --private: the file to make
    #[arg(long, value_name = "FILE", requires = "private")]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Generate {
    /// RS256: a key pair for this node alone. HS256: the cluster's one shared
    /// secret, with which anybody's token can be forged
    #[arg(long, value_name = "ALG", default_value = "RS256", value_parser = algorithm())]
    alg: Algorithm,
    /// RS256: 2048 (default), 3072 or 4096; HS256: 256 (default) to 512
    #[arg(long)]
    bits: Option<usize>,
    /// The file to make, readable by its owner only
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
pub(super) struct Source {
    /// An RSA key: private, public or in a certificate in PEM, or a JWK
    file: PathBuf,
}

/// A kid from the command line.
pub(super) fn kid(name: &str) -> Result<Kid, String> {
    Kid::new(name).ok_or_else(|| {
        "a kid has 1 to 128 letters, digits, '.', '_' and '-', and begins with neither '.' nor '-'"
            .into()
    })
}

pub(super) fn algorithm() -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(["RS256", "HS256"]).map(|name| match name.as_str() {
        "HS256" => Algorithm::Hs256,
        _ => Algorithm::Rs256,
    })
}

/// Runs a command that reads keys of `owners`, and makes files as `trust` says.
pub(super) fn run(command: Command, trust: &Trust, owners: &Trust) -> Result<(), Failure> {
    match command {
        Command::Generate(generate) => generate.run(trust),
        Command::Kid(source) => {
            let (key, _) = read_public_half(&source.file, owners)?;
            Ok(print(&format!("{}\n", key.thumbprint()))?)
        }
        Command::Public(source) => {
            let (key, _) = read_public_half(&source.file, owners)?;
            Ok(print(&key.to_spki_pem())?)
        }
        Command::Jwk(jwk) => jwk.run(trust, owners),
    }
}

/// The public key in a file, as an entry of a set.
pub(super) fn entry(path: &Path, kid: Option<Kid>, owners: &Trust) -> Result<Jwk, Problem> {
    let (key, name) = read_public_half(path, owners)?;
    let kid = key.kid(kid, name.as_deref());
    Ok(Jwk::new(
        &key,
        &kid.map_err(|rejection| rejection.at(path))?,
    ))
}

impl JwkArgs {
    fn run(self, trust: &Trust, owners: &Trust) -> Result<(), Failure> {
        let file = &self.source.file;
        let Some(out) = self.out.filter(|_| self.private) else {
            let jwk = entry(file, self.kid, owners)?;
            return Ok(print(&format!("{}\n", jwk.to_json()))?);
        };
        let bytes = read_key(file, owners)?;
        let jwk = private_jwk(&bytes, self.kid).map_err(|rejection| rejection.at(file))?;
        store::create_new(&out, jwk.as_slice(), JWK_MODE, trust)?;
        drop((bytes, jwk));
        say(format_args!(
            "{}: the private key as a JWK. Whoever reads it signs tokens: it belongs into no set \
             (JWKS) and to no other machine",
            quoted(&out)
        ));
        Ok(())
    }
}

impl Generate {
    fn run(&self, trust: &Trust) -> Result<(), Failure> {
        // A long key takes half a minute to make: say no before that.
        store::check_new(&self.out, trust)?;
        match self.alg {
            Algorithm::Rs256 => self.rs256(trust),
            Algorithm::Hs256 => self.hs256(trust),
        }
    }

    fn rs256(&self, trust: &Trust) -> Result<(), Failure> {
        let bits = self.bits.unwrap_or(USUAL_BITS);
        if ![2048, 3072, 4096].contains(&bits) {
            return Err(Failure::Usage(
                "RS256 takes --bits 2048, 3072 or 4096".into(),
            ));
        }
        let (pem, key) = rsa_key(bits, &self.out)?;
        store::create_new(&self.out, pem.as_slice(), KEY_MODE, trust)?;
        let kid = key.kid().clone();
        // Nobody knows how long its words wait for their reader.
        drop((pem, key));

        let file = quoted(&self.out);
        say(format_args!(
            "{file}: a new RS256 key of {bits} bits; its kid is {kid}\n\
             Next, name it in /etc/slurm/slurm-tokend.toml:\n  \
               [signing]\n  \
               key = \"{}\"\n  \
               algorithm = \"RS256\"\n\
             and publish its public half, on this node and then where slurmctld runs:\n  \
               slurm-tokenctl jwks build {file} --out /etc/slurm/jwks.d/{kid}.json\n  \
               slurm-tokenctl jwks merge /etc/slurm/jwks.d --out /etc/slurm/jwks.json",
            self.absolute()
        ));
        Ok(())
    }

    fn hs256(&self, trust: &Trust) -> Result<(), Failure> {
        let bits = self.bits.unwrap_or(256);
        if !(256..=512).contains(&bits) || !bits.is_multiple_of(8) {
            return Err(Failure::Usage(
                "HS256 takes --bits from 256 to 512, a multiple of 8".into(),
            ));
        }
        let secret = secret(bits / 8, &self.out)?;
        store::create_new(&self.out, secret.as_slice(), KEY_MODE, trust)?;
        drop(secret);

        let kid = self
            .out
            .file_stem()
            .and_then(|stem| Kid::new(stem.to_str()?));
        say(format_args!(
            "{}: a new HS256 key of {} bytes\n\
             Beware: {}\n\
             Next, name it in /etc/slurm/slurm-tokend.toml:\n  \
               [signing]\n  \
               key = \"{}\"\n  \
               algorithm = \"HS256\"\n  \
               kid = \"{}\"\n\
             and put the same bytes where slurmctld runs, as its jwt_key, mode 0400, owned by \
             SlurmUser",
            quoted(&self.out),
            bits / 8,
            Caution::ForgesAnybody,
            self.absolute(),
            kid.as_ref().map_or("hs256", Kid::as_str),
        ));
        Ok(())
    }

    fn absolute(&self) -> String {
        let path = std::path::absolute(&self.out).unwrap_or_else(|_| self.out.clone());
        path.display().to_string()
    }
}

/// A new RSA key for the file `out`, as PEM and read by the library that will
/// sign with it.
pub(super) fn rsa_key(bits: usize, out: &Path) -> Result<(SecretBytes, SigningKey), Problem> {
    let failed = |_| {
        Problem::at(
            out,
            "no RSA key could be made",
            "check that the kernel's getrandom works",
        )
    };
    let pair = RsaPrivateKey::new(&mut OsRng, bits).map_err(failed)?;
    let pem = pair
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|_| failed(rsa::Error::Internal))?;
    let pem = SecretBytes::new(pem.as_bytes().to_vec());
    let key = signing_key(&pem, Algorithm::Rs256, None).map_err(|r| r.at(out))?;
    Ok((pem, key))
}

/// A new HS256 secret for the file `out`.
pub(super) fn secret(bytes: usize, out: &Path) -> Result<SecretBytes, Problem> {
    random_secret(bytes).ok_or_else(|| {
        Problem::at(
            out,
            "no random numbers are to be had",
            "check that the kernel's getrandom works",
        )
    })
}

/// So many random bytes, of which the last is no white space: a copy that
/// passes through an editor or `$(...)` loses or gains one there, and signs
/// tokens that Slurm refuses.
fn random_secret(bytes: usize) -> Option<SecretBytes> {
    loop {
        let mut secret = vec![0; bytes];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        let secret = SecretBytes::new(secret);
        if secret
            .as_slice()
            .last()
            .is_some_and(|last| !last.is_ascii_whitespace())
        {
            return Some(secret);
        }
    }
}
