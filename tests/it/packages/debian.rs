//! The packages for Debian and its kin.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::tree::{LATER, NEXT, PACKED, Tree, VERSION, on_a_host, quietly};
use crate::node::stdout;

#[test]
fn lintian_finds_no_error_and_nothing_to_warn_of() {
    let changes = PACKED.package("slurm-tokend_", ".changes");
    let mut lintian = Command::new("lintian");
    lintian
        .args(["--allow-root", "--fail-on", "error,warning"])
        .arg(changes);
    let said = stdout(lintian.output().unwrap());
    assert!(!said.contains("E: ") && !said.contains("W: "), "{said}");
}

fn package() -> PathBuf {
    PACKED.package("slurm-tokend_", ".deb")
}

#[test]
fn the_version_is_the_programs() {
    let fields = quietly("dpkg-deb", &["-f"], &package());
    let version = format!("\nVersion: {VERSION}-1\n");
    assert!(fields.contains(&version), "{fields}");
}

#[test]
fn what_is_packed_twice_is_the_same_to_the_byte() {
    let again = Tree::copy();
    let mut make = again.make(&["-o", "build", "deb"]);
    stdout(
        make.env("TZ", "Asia/Tokyo")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap(),
    );
    for name in ["slurm-tokend_", "python3-slurm-token_"] {
        let packages = [&*PACKED, &again].map(|tree| fs::read(tree.package(name, ".deb")).unwrap());
        assert!(packages[0] == packages[1], "{name}");
    }
}

#[test]
fn a_first_install_starts_nothing_enables_nothing_and_makes_no_key() {
    let said = on_a_host(
        "sed -i /^slurm-tokend:/d /etc/passwd /etc/group /etc/shadow /etc/gshadow
         dpkg -i \"$1\"
         getent passwd slurm-tokend
         find /etc/systemd /etc/slurm/token-keys /etc/slurm/jwks.d /run -name '*slurm-token*'
         find /etc/slurm/token-keys -type f
         pgrep -x slurm-tokend || echo none runs",
        &[&package()],
    );
    assert!(
        said.contains("how to set it up: /usr/share/doc/slurm-tokend/INSTALL.md\n"),
        "{said}"
    );
    let (_, after) = said.split_once("\nslurm-tokend:x:").expect("an account");
    assert_eq!(after.lines().skip(1).collect::<Vec<_>>(), ["none runs"]);
}

#[test]
fn an_upgrade_keeps_the_configuration_that_was_changed() {
    let said = on_a_host(
        "dpkg -i \"$1\"
         echo '# mine' >>/etc/slurm/slurm-tokend.toml
         dpkg --force-confdef --force-confold -i \"$2\"
         dpkg-query -W -f '${Version}\\n' slurm-tokend
         tail -n 1 /etc/slurm/slurm-tokend.toml
         head -n 1 /etc/slurm/slurm-tokend.toml.dpkg-dist",
        &[&package(), &NEXT.package("slurm-tokend_", ".deb")],
    );
    let wanted = format!("{LATER}-1\n# mine\n# Of the later version.\n");
    assert!(said.ends_with(&wanted), "{said}");
}

#[test]
fn an_upgrade_of_a_configuration_that_was_not_changed_takes_the_new_example() {
    let said = on_a_host(
        "dpkg -i \"$1\"
         dpkg -i \"$2\"
         head -n 1 /etc/slurm/slurm-tokend.toml",
        &[&package(), &NEXT.package("slurm-tokend_", ".deb")],
    );
    assert!(said.ends_with("# Of the later version.\n"), "{said}");
}

/// A node in use: with a configuration, keys, state, and units that start.
const IN_USE: &str = "
    dpkg -i \"$1\" >/dev/null
    echo '# mine' >>/etc/slurm/slurm-tokend.toml
    echo '# mine' >/etc/slurm/slurm-tokend@test.toml
    echo key >/etc/slurm/token-keys/login1.pem
    echo jwk >/etc/slurm/jwks.d/login1.json
    echo jwks >/etc/slurm/jwks.json
    mkdir -p /var/lib/private/slurm-tokend /var/lib/slurm-tokend-test
    ln -s private/slurm-tokend /var/lib/slurm-tokend
    echo state >/var/lib/slurm-tokend/expiry-login1.json
    systemctl enable slurm-tokend.service slurm-tokend@test.service \
        slurm-tokend-http.socket slurm-tokend-http@test.socket 2>/dev/null
    ";

/// What of the package and of its use is on the machine.
const LEFT: &str = "
    find /etc /usr /var/lib -path /var/lib/dpkg -prune -o -path '*slurm[-_]token*' -print \
        -o -path '/etc/slurm/*' -print | grep -v '/__pycache__' | sort
    ";

const ADMINISTRATORS: [&str; 6] = [
    "/etc/slurm/jwks.d",
    "/etc/slurm/jwks.d/login1.json",
    "/etc/slurm/jwks.json",
    "/etc/slurm/slurm-tokend@test.toml",
    "/etc/slurm/token-keys",
    "/etc/slurm/token-keys/login1.pem",
];

#[test]
fn removal_keeps_keys_state_and_configuration_and_a_new_install_finds_them() {
    let script = format!("{IN_USE} dpkg -r slurm-tokend >/dev/null; {LEFT}");
    let left = on_a_host(&script, &[&package()]);
    let left: Vec<&str> = left.lines().collect();
    for kept in ADMINISTRATORS.iter().chain(&[
        "/etc/slurm/slurm-tokend.toml",
        "/var/lib/private/slurm-tokend/expiry-login1.json",
        "/etc/systemd/system/sockets.target.wants/slurm-tokend.socket",
    ]) {
        assert!(left.contains(kept), "{kept}: {left:#?}");
    }
    assert!(
        !left.iter().any(|path| path.starts_with("/usr")),
        "{left:#?}"
    );

    let script = format!(
        "{IN_USE} dpkg -r slurm-tokend >/dev/null; dpkg -i \"$1\" >/dev/null
         tail -qn 1 /etc/slurm/slurm-tokend.toml /etc/slurm/token-keys/login1.pem \
            /var/lib/slurm-tokend/expiry-login1.json"
    );
    assert_eq!(on_a_host(&script, &[&package()]), "# mine\nkey\nstate\n");
}

#[test]
fn a_purge_leaves_what_only_the_administrator_has_made() {
    let script = format!("{IN_USE} dpkg -P slurm-tokend >/dev/null; {LEFT}");
    let left = on_a_host(&script, &[&package()]);
    assert_eq!(left.lines().collect::<Vec<_>>(), ADMINISTRATORS);
}

#[test]
fn the_python_module_is_importable_and_leaves_nothing_behind() {
    let said = on_a_host(
        "dpkg -i \"$1\" >/dev/null
         cd /
         /usr/bin/python3 -c 'import slurm_token; print(slurm_token.__file__)'
         dpkg -r python3-slurm-token >/dev/null
         find /usr/lib/python3 -path '*slurm_token*'",
        &[&PACKED.package("python3-slurm-token_", ".deb")],
    );
    assert_eq!(
        said,
        "/usr/lib/python3/dist-packages/slurm_token/__init__.py\n"
    );
}

#[test]
fn manual_pages_are_compressed_and_documents_are_not() {
    let list = quietly("dpkg-deb", &["-c"], &package());
    let ends = |end: &str| list.lines().any(|line| line.ends_with(end));
    for page in fs::read_dir("packaging/man").unwrap() {
        let page = page.unwrap().file_name().into_string().unwrap();
        assert!(ends(&format!("/{page}.gz")), "{page}: {list}");
    }
    assert!(ends("/README.md") && ends("/SECURITY.md"), "{list}");
}
