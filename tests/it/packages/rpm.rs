//! The packages for EL, SUSE and their kin, by the rpm that Debian has. It keeps
//! no database of what Debian has installed: hence `--nodeps`.

use std::fs;
use std::path::PathBuf;

use super::tree::{LATER, NEXT, PACKED, Tree, VERSION, on_a_host, quietly};
use crate::node::stdout;

fn package() -> PathBuf {
    PACKED.package("slurm-tokend-", ".rpm")
}

fn query(format: &str) -> String {
    quietly("rpm", &["-qp", "--qf", format], &package())
}

#[test]
fn rpm_has_nothing_to_complain_of() {
    for name in ["slurm-tokend-", "python3-slurm-token-"] {
        let package = PACKED.package(name, ".rpm");
        quietly("rpm", &["-qpil"], &package);
        quietly("rpm", &["-qp", "--scripts"], &package);
        let checked = quietly("rpm", &["-K"], &package);
        assert!(checked.ends_with("digests OK\n"), "{checked}");
    }
}

#[test]
fn the_version_is_the_programs() {
    assert_eq!(query("%{VERSION}"), VERSION);
}

#[test]
fn all_files_are_roots_and_others_can_not_write_them() {
    let files = query("[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\n]");
    assert!(files.lines().count() > 30, "{files}");
    for file in files.lines() {
        let (mode, rest) = file.split_once(' ').unwrap();
        let right = ["-rw-r--r--", "-rwxr-xr-x", "drwxr-xr-x"].contains(&mode);
        assert!(right && rest.starts_with("root root "), "{file}");
    }
}

#[test]
fn the_administrators_files_are_marked_as_such() {
    let files = query("[%{FILEFLAGS:fflags} %{FILENAMES}\n]");
    let marked: Vec<&str> = files
        .lines()
        .filter_map(|file| file.strip_prefix("cn "))
        .collect();
    assert_eq!(
        marked,
        [
            "/etc/apparmor.d/usr.sbin.slurm-tokend",
            "/etc/slurm/slurm-tokend.toml"
        ]
    );
    assert!(!files.contains("token-keys"), "{files}");
}

#[test]
fn it_can_be_installed_on_el_9() {
    let requires = quietly("rpm", &["-qp", "--requires"], &package());
    let glibc = |line: &&str| line.starts_with("libc.so.6(GLIBC_");
    let newest = requires
        .lines()
        .filter(glibc)
        .filter_map(|line| {
            line.split_once("(GLIBC_2.")?
                .1
                .split([')', '.'])
                .next()?
                .parse::<u32>()
                .ok()
        })
        .max();
    assert!(newest.is_some_and(|minor| minor <= 34), "{requires}");
    // EL 9 has Python 3.9, and its packages say so.
    let python = PACKED.package("python3-slurm-token-", ".rpm");
    let requires = quietly("rpm", &["-qp", "--requires"], &python);
    assert!(requires.contains("python(abi) = 3.9\n"), "{requires}");
}

#[test]
fn what_is_packed_twice_is_the_same_to_the_byte() {
    let again = Tree::copy();
    let mut make = again.make(&["-o", "build", "rpm"]);
    stdout(
        make.env("TZ", "Asia/Tokyo")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap(),
    );
    for name in ["slurm-tokend-", "python3-slurm-token-"] {
        let packages = [&*PACKED, &again].map(|tree| fs::read(tree.package(name, ".rpm")).unwrap());
        assert!(packages[0] == packages[1], "{name}");
    }
}

const RPM: &str =
    "rpm() { command rpm --dbpath /var/lib/rpm --force-debian --nodeps \"$@\" 2>&1; };";

#[test]
fn a_first_install_starts_nothing_enables_nothing_and_makes_no_key() {
    let script = format!(
        "{RPM} sed -i /^slurm-tokend:/d /etc/passwd /etc/group /etc/shadow /etc/gshadow
         rpm -i \"$1\"
         getent passwd slurm-tokend
         find /etc/systemd /etc/slurm/token-keys /etc/slurm/jwks.d /run -name '*slurm-token*'
         find /etc/slurm/token-keys -type f
         pgrep -x slurm-tokend || echo none runs"
    );
    let said = on_a_host(&script, &[&package()]);
    assert!(
        said.contains("how to set it up: /usr/share/doc/slurm-tokend/INSTALL.md\n"),
        "{said}"
    );
    let (_, after) = said.split_once("\nslurm-tokend:x:").expect("an account");
    assert_eq!(after.lines().skip(1).collect::<Vec<_>>(), ["none runs"]);
}

#[test]
fn an_upgrade_keeps_the_configuration_that_was_changed() {
    let script = format!(
        "{RPM} rpm -i \"$1\"
         echo '# mine' >>/etc/slurm/slurm-tokend.toml
         rpm -U \"$2\"
         command rpm --dbpath /var/lib/rpm -q --qf '%{{VERSION}}\\n' slurm-tokend
         tail -n 1 /etc/slurm/slurm-tokend.toml
         head -n 1 /etc/slurm/slurm-tokend.toml.rpmnew"
    );
    let said = on_a_host(
        &script,
        &[&package(), &NEXT.package("slurm-tokend-", ".rpm")],
    );
    let wanted = format!("{LATER}\n# mine\n# Of the later version.\n");
    assert!(said.ends_with(&wanted), "{said}");
}

#[test]
fn removal_keeps_the_administrators_files() {
    let script = format!(
        "{RPM} rpm -i \"$1\" >/dev/null
         echo '# mine' >>/etc/slurm/slurm-tokend.toml
         echo key >/etc/slurm/token-keys/login1.pem
         echo jwks >/etc/slurm/jwks.json
         mkdir /var/lib/slurm-tokend
         echo state >/var/lib/slurm-tokend/expiry-login1.json
         rpm -e slurm-tokend >/dev/null
         tail -qn 1 /etc/slurm/slurm-tokend.toml.rpmsave /etc/slurm/token-keys/login1.pem \
            /etc/slurm/jwks.json /var/lib/slurm-tokend/expiry-login1.json
         find /usr -path '*slurm[-_]token*'"
    );
    let said = on_a_host(&script, &[&package()]);
    assert_eq!(said, "# mine\nkey\njwks\nstate\n");
}
