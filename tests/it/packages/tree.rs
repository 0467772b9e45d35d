//! Copies of the source tree with the release programs in it, as `make` leaves
//! them: what is packed in one touches nothing here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

use crate::node::stdout;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
const PRIVATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/private");

/// The packages of this version.
pub static PACKED: LazyLock<Tree> = LazyLock::new(|| Tree::copy().packed());

/// The packages of a later version, whose example configuration is another.
pub static NEXT: LazyLock<Tree> = LazyLock::new(|| {
    let tree = Tree::copy();
    tree.edit("Cargo.toml", |text| {
        text.replacen(&format!("\"{VERSION}\""), &format!("\"{LATER}\""), 1)
    });
    tree.edit("etc/slurm-tokend.toml", |text| {
        format!("# Of the later version.\n{text}")
    });
    tree.packed()
});

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
pub const LATER: &str = "99.0.0";

pub struct Tree(TempDir);

impl Tree {
    /// What `make` installs and packs, and the programs that it has built.
    pub fn copy() -> Self {
        let tree = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let parts = [
            "Makefile",
            "Cargo.toml",
            "README.md",
            "SECURITY.md",
            "CHANGELOG.md",
            "LICENSE",
            "etc",
            "packaging",
            "systemd",
        ];
        let from = parts.map(|part| Path::new(SOURCE).join(part));
        stdout(
            Command::new("cp")
                .arg("-a")
                .args(from)
                .arg(tree.path())
                .output()
                .unwrap(),
        );
        let release = tree.path().join("target/release");
        fs::create_dir_all(&release).unwrap();
        for program in PROGRAMS {
            fs::copy(built(program), release.join(program)).unwrap();
        }
        Self(tree)
    }

    fn packed(self) -> Self {
        stdout(self.make(&["-o", "build", "deb", "rpm"]).output().unwrap());
        self
    }

    /// `make` in this tree, which builds nothing.
    pub fn make(&self, arguments: &[&str]) -> Command {
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(self.path())
            .args(arguments)
            .stdin(Stdio::null());
        for ours in [
            "CARGO_TARGET_DIR",
            "MAKEFLAGS",
            "MAKELEVEL",
            "PREFIX",
            "DESTDIR",
            "SOURCE_DATE_EPOCH",
        ] {
            make.env_remove(ours);
        }
        make
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn edit(&self, file: &str, edit: impl FnOnce(&str) -> String) {
        let path = self.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        let new = edit(&text);
        assert_ne!(new, text, "{file}");
        fs::write(path, new).unwrap();
    }

    /// The only package below the tree whose name begins and ends like this.
    pub fn package(&self, begins: &str, ends: &str) -> PathBuf {
        let mut found: Vec<PathBuf> = [
            "target/debian",
            "target/rpm/RPMS/x86_64",
            "target/rpm/RPMS/aarch64",
            "target/rpm/RPMS/noarch",
        ]
        .iter()
        .filter_map(|directory| fs::read_dir(self.path().join(directory)).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(begins) && name.ends_with(ends)
        })
        .collect();
        assert_eq!(found.len(), 1, "{begins}*{ends}: {found:?}");
        found.remove(0)
    }
}

pub const PROGRAMS: [&str; 3] = ["slurm-token", "slurm-tokend", "slurm-tokenctl"];

/// A program as `make` builds it for a release.
pub fn built(program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .with_file_name("release")
        .join(program);
    assert!(path.exists(), "{}: run make build first", path.display());
    path
}

/// What a script says that runs as root on a private host of its own, where
/// each step must succeed; `$1` and so on are the arguments.
pub fn on_a_host(script: &str, arguments: &[&Path]) -> String {
    // Nothing here outlives a crash, and nobody looks for a manual page.
    let script = format!(
        "dpkg() {{ command dpkg --force-unsafe-io \"$@\"; }}
         rm -f /var/lib/man-db/auto-update
         {script}"
    );
    let mut host = Command::new(PRIVATE);
    host.args(["sh", "-euc", &script, "sh"])
        .args(arguments)
        .stdin(Stdio::null());
    host.env("DEBIAN_FRONTEND", "noninteractive");
    stdout(host.output().unwrap())
}

/// What a command says on standard output; it must succeed and not complain.
pub fn quietly(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(file)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(complaint, "", "{program} {arguments:?}");
    stdout(output)
}
