//! `make install` puts what is built where it belongs, and no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::tree::{PROGRAMS, Tree, built};
use crate::node::stdout;

/// A tree installed below an empty directory.
struct Installed {
    tree: Tree,
    root: TempDir,
}

impl Installed {
    fn new(prefix: &str) -> Self {
        let site = Self {
            tree: Tree::copy(),
            root: tempfile::tempdir().unwrap(),
        };
        stdout(site.make("install", prefix).output().unwrap());
        site
    }

    fn make(&self, target: &str, prefix: &str) -> Command {
        self.tree.make(&[
            target,
            &format!("DESTDIR={}", self.root.path().display()),
            &format!("PREFIX={prefix}"),
            "PYTHONDIR=/usr/lib/python3/dist-packages",
        ])
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// All files below the root, as paths from `/`.
    fn files(&self) -> Vec<String> {
        files_below(self.root.path())
    }
}

fn files_below(root: &Path) -> Vec<String> {
    let find = Command::new("find")
        .arg(root)
        .args(["!", "-type", "d", "-printf", "/%P\n"])
        .output();
    let mut files: Vec<_> = stdout(find.unwrap())
        .lines()
        .map(ToOwned::to_owned)
        .collect();
    files.sort();
    files
}

#[test]
fn the_programs_and_what_belongs_to_them_are_where_systems_look_for_them() {
    let site = Installed::new("/usr");
    let files = site.files();
    for file in [
        "/usr/bin/slurm-token",
        "/usr/sbin/slurm-tokend",
        "/usr/sbin/slurm-tokenctl",
        "/usr/lib/systemd/system/slurm-tokend.socket",
        "/usr/lib/systemd/system/slurm-tokend.service",
        "/usr/lib/systemd/system/slurm-tokend@.socket",
        "/usr/lib/systemd/system/slurm-tokend@.service",
        "/usr/lib/systemd/user/slurm-token-keep.service",
        "/usr/lib/sysusers.d/slurm-tokend.conf",
        "/usr/lib/tmpfiles.d/slurm-tokend.conf",
        "/usr/lib/python3/dist-packages/slurm_token/__init__.py",
        "/usr/share/man/man1/slurm-token.1",
        "/usr/share/man/man5/slurm-tokend.toml.5",
        "/usr/share/man/man7/slurm-tokend.7",
        "/usr/share/man/man8/slurm-tokend.8",
        "/usr/share/man/man8/slurm-tokenctl.8",
        "/usr/share/bash-completion/completions/slurm-token",
        "/usr/share/zsh/site-functions/_slurm-token",
        "/usr/share/fish/vendor_completions.d/slurm-token.fish",
        "/usr/share/doc/slurm-tokend/INSTALL.md",
        "/usr/share/doc/slurm-tokend/SECURITY.md",
        "/etc/apparmor.d/usr.sbin.slurm-tokend",
        "/etc/slurm/slurm-tokend.toml",
    ] {
        assert!(files.iter().any(|path| path == file), "{file}: {files:#?}");
    }
}

#[test]
fn what_is_installed_can_be_read_by_all_and_written_by_root_alone() {
    let site = Installed {
        tree: Tree::copy(),
        root: tempfile::tempdir().unwrap(),
    };
    // The umask of a careful administrator.
    let mut make = Command::new("sh");
    make.args(["-ec", "umask 077; exec \"$@\"", "sh"]);
    let install = site.make("install", "/usr");
    make.arg(install.get_program()).args(install.get_args());
    stdout(make.output().unwrap());
    let find = Command::new("find")
        .arg(site.root.path())
        .args(["-mindepth", "1", "-printf", "%y %m %P\n"])
        .output();
    for line in stdout(find.unwrap()).lines() {
        let (kind_and_mode, path) = line.rsplit_once(' ').unwrap();
        let program = ["/bin/", "/sbin/", "/restart-running"]
            .iter()
            .any(|part| path.contains(part));
        let right = match kind_and_mode {
            "d 755" => true,
            "f 755" => program,
            "f 644" => !program,
            _ => false,
        };
        assert!(right, "{line}");
    }
}

#[test]
fn no_root_is_needed_to_install_below_a_directory() {
    let site = Installed {
        tree: Tree::copy(),
        root: tempfile::tempdir().unwrap(),
    };
    // Root's uid, so that it can reach the tree, without root's powers.
    let mut make = Command::new("setpriv");
    make.args(["--bounding-set=-all", "--inh-caps=-all"]);
    let install = site.make("install", "/usr");
    make.arg(install.get_program()).args(install.get_args());
    stdout(make.output().unwrap());
    assert!(site.at("/usr/sbin/slurm-tokend").exists());
}

#[test]
fn installing_again_keeps_the_configuration_that_is_there() {
    let site = Installed::new("/usr");
    fs::write(site.at("/etc/slurm/slurm-tokend.toml"), "mine").unwrap();
    stdout(site.make("install", "/usr").output().unwrap());
    assert_eq!(site.text("/etc/slurm/slurm-tokend.toml"), "mine");
}

#[test]
fn what_names_the_programs_names_them_where_they_are() {
    let site = Installed::new("/opt/slurm-tokend");
    for (file, says) in [
        (
            "/opt/slurm-tokend/lib/systemd/system/slurm-tokend.service",
            "ExecStart=/opt/slurm-tokend/sbin/slurm-tokend\n",
        ),
        (
            "/opt/slurm-tokend/lib/systemd/user/slurm-token-keep.service",
            "ExecStart=/opt/slurm-tokend/bin/slurm-token ",
        ),
        (
            "/etc/apparmor.d/opt.slurm-tokend.sbin.slurm-tokend",
            "profile slurm-tokend /opt/slurm-tokend/sbin/slurm-tokend ",
        ),
    ] {
        assert!(site.text(file).contains(says), "{file} doesn't say {says}");
    }
}

#[test]
fn without_programs_nothing_is_installed_and_the_step_before_is_told() {
    let site = Installed {
        tree: Tree::copy(),
        root: tempfile::tempdir().unwrap(),
    };
    fs::remove_dir_all(site.tree.path().join("target")).unwrap();
    let output = site.make("install", "/usr").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("run make first"),
        "{said}"
    );
    assert_eq!(site.files(), Vec::<String>::new());
}

#[test]
fn uninstalling_leaves_the_configuration_alone() {
    let site = Installed::new("/usr");
    stdout(site.make("uninstall", "/usr").output().unwrap());
    assert_eq!(site.files(), ["/etc/slurm/slurm-tokend.toml"]);
}

/// The newest glibc that a program asks for, as in `objdump -T`: 2.34 is (2, 34).
fn glibc_of(program: &Path) -> Option<(u32, u32)> {
    let table = stdout(
        Command::new("objdump")
            .arg("-T")
            .arg(program)
            .output()
            .unwrap(),
    );
    table
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
        .filter_map(|word| {
            let (major, minor) = word.strip_prefix("GLIBC_")?.split_once('.')?;
            Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
        })
        .max()
}

#[test]
fn no_program_needs_a_newer_glibc_than_el_9_has() {
    let newest = PROGRAMS.map(|program| (program, glibc_of(&built(program))));
    // Debian 12 has 2.36, but nothing of it is called. The client needs none.
    assert!(
        newest
            .iter()
            .all(|(_, glibc)| glibc.is_none_or(|glibc| glibc <= (2, 34))),
        "{newest:?}"
    );
    assert_eq!(newest[0].1, None);
    assert!(newest[1].1.is_some() && newest[2].1.is_some(), "{newest:?}");
}
