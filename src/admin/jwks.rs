//! `slurm-tokenctl jwks`.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::key::{entry, kid};
use super::{Failure, lint, print, say};
use crate::daemon::{engine, keyring};
use crate::keys::file::{Trust, quoted};
use crate::keys::jwks::{Jwk, JwkSet};
use crate::keys::public::{MAX_JWKS, read_jwks};
use crate::keys::{Kid, store};
use crate::report::{Problem, Problems};

/// slurmctld's rule for a JWKS: written by its owner only, read by all.
pub(super) const JWKS_MODE: u32 = 0o644;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a set of the public halves of keys
    ///
    /// The kid of an entry has to be the one that the daemon writes into its
    /// tokens: signing.kid of its configuration or, where that isn't set, the
    /// key's RFC 7638 thumbprint. So an entry gets the thumbprint, unless
    /// --config, --kid or --kid-from-name says otherwise.
    Build(Build),
    /// Join sets, such as those of several nodes
    Merge(Merge),
    /// Say what each release of Slurm does with a set, entry by entry
    ///
    /// Exit status 0 means that all releases accept every entry.
    Lint {
        /// A JWKS file
        file: PathBuf,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct Build {
    /// Keys, private or public, and directories of *.pem and *.jwk files
    #[arg(value_name = "DIR|FILE", required_unless_present = "config")]
    sources: Vec<PathBuf>,
    /// Take the keys that this configuration signs with, under the kids of its tokens
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name of the one key, where signing.kid sets it
    #[arg(long, value_parser = kid, conflicts_with = "kid_from_name")]
    kid: Option<Kid>,
    /// Name each key after its file: <kid>.pem
    #[arg(long)]
    kid_from_name: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Merge {
    /// JWKS files, and directories of *.json files
    #[arg(value_name = "DIR|FILE", required = true)]
    sources: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Output {
    /// Write to this file, by rename, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Let keys go that FILE holds and the sources don't: tokens signed with
    /// them will be refused
    #[arg(long, requires = "out")]
    drop_others: bool,
}

pub(super) fn run(command: Command, trust: &Trust, owners: &Trust) -> Result<(), Failure> {
    match command {
        Command::Build(build) => build.run(trust, owners),
        Command::Merge(merge) => merge.run(trust),
        Command::Lint { file, json } => lint(&file, json, trust),
    }
}

impl Build {
    fn run(&self, trust: &Trust, owners: &Trust) -> Result<(), Failure> {
        let files = files_in(&self.sources, &["pem", "jwk"])?;
        if self.kid.is_some() && files.len() != 1 {
            return Err(Failure::Usage(format!(
                "--kid names one key, and here are {}",
                files.len()
            )));
        }
        let mut set = JwkSet::default();
        if let Some(config) = &self.config {
            for jwk in signing_jwks(config)? {
                add(&mut set, jwk, config)?;
            }
        }
        each(&files, |file| {
            let kid = match &self.kid {
                None if self.kid_from_name => Some(kid_from_name(file)?),
                kid => kid.clone(),
            };
            let given = kid.is_some();
            let jwk = entry(file, kid, owners)?;
            if !given {
                point_out_kid(file, &jwk.kid);
            }
            add(&mut set, jwk, file)
        })?;
        self.output.write(&set, trust)
    }
}

impl Merge {
    fn run(&self, trust: &Trust) -> Result<(), Failure> {
        let files = files_in(&self.sources, &["json"])?;
        let mut merged = JwkSet::default();
        each(&files, |file| {
            for jwk in read_set(file, trust)?.keys {
                add(&mut merged, jwk, file)?;
            }
            Ok(())
        })?;
        self.output.write(&merged, trust)
    }
}

impl Output {
    fn write(&self, set: &JwkSet, trust: &Trust) -> Result<(), Failure> {
        let Some(out) = &self.out else {
            return Ok(print(&set.to_json())?);
        };
        if !self.drop_others && out.exists() {
            let lost = read_set(out, trust)?;
            let lost: Vec<_> = lost
                .keys
                .iter()
                .filter(|jwk| !set.keys.contains(jwk))
                .collect();
            if let Some(first) = lost.first() {
                return Err(Problem::at(
                    out,
                    format!(
                        "{} of its keys would be lost, {:?} the first, and tokens signed with \
                         them refused",
                        lost.len(),
                        first.kid
                    ),
                    format!(
                        "write the new set to a file of its own and join them with: \
                         slurm-tokenctl jwks merge {out} NEW.json --out {out}; or say \
                         --drop-others",
                        out = quoted(out)
                    ),
                )
                .into());
            }
        }
        store::replace(out, set.to_json().as_bytes(), JWKS_MODE, trust)?;
        let kids: Vec<_> = set.keys.iter().map(|jwk| jwk.kid.as_str()).collect();
        say(format_args!(
            "{}: {} {}: {}",
            quoted(out),
            kids.len(),
            if kids.len() == 1 { "key" } else { "keys" },
            kids.join(", ")
        ));
        say(format_args!(
            "If slurmctld reads this file, it sees the change after scontrol reconfigure (Slurm \
             26.05) or a restart of slurmctld (22.05)"
        ));
        Ok(())
    }
}

/// Tells what becomes of the file's mode and of each entry.
fn lint(file: &Path, json: bool, trust: &Trust) -> Result<(), Failure> {
    let failed = |e| Problem::at(file, format!("it can't be read: {e}"), "name a JWKS file");
    let metadata = std::fs::metadata(file).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_JWKS as u64 {
        let what = format!("this is no file of at most {MAX_JWKS} bytes");
        return Err(Problem::at(file, what, "name a JWKS file").into());
    }
    // Not by our rules for a JWKS: the rules here are Slurm's.
    let bytes = std::fs::read(file).map_err(failed)?;
    let mut verdicts = lint::judge(&bytes);
    verdicts.extend(lint::judge_mode(
        metadata.mode(),
        metadata.uid(),
        trust.slurm_uid,
    ));
    let accepted = verdicts.iter().all(|verdict| verdict.finding.is_none());
    if json {
        let told = serde_json::json!({ "accepted": accepted, "verdicts": verdicts });
        print(&format!("{told}\n"))?;
    } else {
        let place = quoted(file);
        for verdict in &verdicts {
            print(&format!("{place}: {verdict}\n"))?;
        }
    }
    if accepted {
        Ok(())
    } else {
        Err(Failure::Findings)
    }
}

/// The entries for the keys that a configuration signs with.
fn signing_jwks(config: &Path) -> Result<Vec<Jwk>, Failure> {
    let config = engine::read_configuration(config)?;
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for source in config.signers() {
        match keyring::read_source(&config, source) {
            Ok(key) => entries.extend(key.public().map(|public| Jwk::new(public, key.kid()))),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems).into());
    }
    if entries.is_empty() {
        return Err(Problem::at(
            &config.path,
            "it signs with HS256, which has no public key",
            "give slurmctld the same secret as its jwt_key; a JWKS is for RS256",
        )
        .into());
    }
    Ok(entries)
}

fn kid_from_name(file: &Path) -> Result<Kid, Problem> {
    let stem = file.file_stem().and_then(OsStr::to_str);
    stem.and_then(Kid::new).ok_or_else(|| {
        Problem::at(
            file,
            "its name is no kid",
            "rename it to <kid>.pem, or give --kid",
        )
    })
}

/// A key under another name than its file's is right only where the daemon
/// agrees: the most likely cause of tokens that Slurm refuses.
fn point_out_kid(file: &Path, kid: &str) {
    let stem = file.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    if stem != kid {
        say(format_args!(
            "{}: its kid here is {kid}; where signing.kid is set, give --config, --kid or \
             --kid-from-name",
            quoted(file)
        ));
    }
}

pub(super) fn read_set(file: &Path, trust: &Trust) -> Result<JwkSet, Problem> {
    let reading = read_jwks(file, trust)?;
    for entry in reading.passed_over {
        say(format_args!("{}: {entry}; left out", quoted(file)));
    }
    Ok(reading.set)
}

fn add(set: &mut JwkSet, jwk: Jwk, file: &Path) -> Result<(), Problem> {
    set.add(jwk).map_err(|rejection| rejection.at(file))
}

/// The files named, and in the directories named those with one of these
/// extensions, in the order of their names. What else is there is named and
/// passed over.
fn files_in(sources: &[PathBuf], extensions: &[&str]) -> Result<Vec<PathBuf>, Problem> {
    let mut files = Vec::new();
    for source in sources {
        if !source.is_dir() {
            files.push(source.clone());
            continue;
        }
        let unreadable = |e| {
            Problem::at(
                source,
                format!("this directory can't be read: {e}"),
                "run this as root",
            )
        };
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(source).map_err(unreadable)? {
            entries.push(entry.map_err(unreadable)?.path());
        }
        entries.sort();
        let before = files.len();
        for path in entries {
            match passed_over(&path, extensions) {
                None => files.push(path),
                Some(why) => say(format_args!("{}: {why}; left out", quoted(&path))),
            }
        }
        if files.len() == before {
            return Err(Problem::at(
                source,
                format!(
                    "there is no *.{} file in this directory",
                    extensions.join(" or *.")
                ),
                "name the right directory, or the files",
            ));
        }
    }
    Ok(files)
}

/// Why an entry of a directory is none of those that are looked for.
fn passed_over(path: &Path, extensions: &[&str]) -> Option<&'static str> {
    let name = path.file_name().unwrap_or_default();
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    if store::is_unfinished(name) {
        Some("a crash left this unfinished file, which may be removed")
    } else if name.as_encoded_bytes().starts_with(b".") {
        Some("this file is hidden")
    } else if path.is_dir() {
        Some("this is a directory")
    } else if extensions.contains(&extension) {
        None
    } else if extension == "key" {
        Some("an HS256 key has no public half")
    } else {
        Some("its name ends otherwise")
    }
}

/// Does something with each file, and tells the problems of all together.
fn each(
    files: &[PathBuf],
    mut action: impl FnMut(&Path) -> Result<(), Problem>,
) -> Result<(), Problems> {
    let problems: Vec<_> = files.iter().filter_map(|file| action(file).err()).collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problems(problems))
    }
}
