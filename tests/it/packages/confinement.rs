//! The policies of `AppArmor` and `SELinux`: their compilers take them, and the
//! first allows what the daemon does, and not much more.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::tree::{Tree, on_a_host};
use crate::node::{ALICE, Daemon, generate_key, stdout, until};

const APPARMOR: &str = "packaging/apparmor/usr.sbin.slurm-tokend";

#[test]
fn apparmor_compiles_the_profile_and_the_kernel_takes_it_where_it_can() {
    let said = on_a_host(
        "apparmor_parser --skip-kernel-load --skip-cache \"$1\" 2>&1
         if [ -w /sys/kernel/security/apparmor/.load ]; then
            apparmor_parser --replace --skip-cache \"$1\"
            apparmor_parser --remove \"$1\"
         fi",
        &[Path::new(APPARMOR)],
    );
    // Without AppArmor in the kernel there is no cache for its features.
    let said: Vec<_> = said
        .lines()
        .filter(|line| !line.starts_with("Cache read/write disabled"))
        .collect();
    assert_eq!(said, Vec::<&str>::new());
}

#[test]
fn apparmor_refuses_a_profile_that_is_broken() {
    let broken = fs::read_to_string(APPARMOR)
        .unwrap()
        .replace("capability chown,", "capability crown,");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, broken).unwrap();
    let mut parser = Command::new("apparmor_parser");
    parser
        .args(["--skip-kernel-load", "--skip-cache"])
        .arg(file.path());
    assert!(!parser.output().unwrap().status.success());
}

/// The accesses, each an act (r, w) and a path, that the profile does not allow.
fn not_allowed(accesses: &str) -> Vec<String> {
    let mut judge = Command::new("/usr/bin/python3")
        .args(["tests/it/packages/allows.py", APPARMOR])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    judge
        .stdin
        .take()
        .unwrap()
        .write_all(accesses.as_bytes())
        .unwrap();
    let said = stdout(judge.wait_with_output().unwrap());
    said.lines().map(ToOwned::to_owned).collect()
}

/// What a line of `strace -y` says is done to which files, as `AppArmor` asks.
fn accesses(line: &str) -> Vec<String> {
    let Some((call, rest)) = line.split_once('(') else {
        return Vec::new();
    };
    let Some((arguments, result)) = rest.rsplit_once(") = ") else {
        return Vec::new();
    };
    if result.starts_with('-') {
        return Vec::new();
    }
    let call = call.rsplit(' ').next().unwrap();
    let has = |flag: &str| arguments.contains(flag);
    let acts: &[&str] = match call {
        "openat" if has("O_PATH") => &[],
        "openat" if has("O_RDWR") => &["r", "w"],
        "openat" if has("O_WRONLY") || has("O_CREAT") => &["w"],
        "openat" | "execve" => &["r"],
        "connect" | "bind" | "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat"
        | "mkdir" | "mkdirat" => &["w"],
        _ => &[],
    };
    if acts.is_empty() {
        return Vec::new();
    }
    // Paths stand in quotes; what they are relative to in <> before them.
    let mut paths = Vec::new();
    let mut rest = arguments;
    while let Some((before, after)) = rest.split_once('"') {
        let (path, after) = after.split_once('"').unwrap();
        let base = before
            .rsplit_once('<')
            .and_then(|(_, base)| Some(base.split_once('>')?.0));
        paths.push(match (path, base) {
            (path, _) if path.starts_with('/') => path.to_owned(),
            (".", Some(base)) => base.to_owned(),
            (path, Some(base)) => format!("{base}/{path}"),
            (path, None) => panic!("{path} is relative to nothing: {line}"),
        });
        rest = after;
    }
    let directory = match call {
        "mkdir" | "mkdirat" => true,
        "openat" => has("O_DIRECTORY"),
        _ => call.starts_with("rename") && paths.last().is_some_and(|to| Path::new(to).is_dir()),
    };
    paths
        .iter()
        .flat_map(|path| {
            let path = path.replace("/proc/self/", "/proc/1/");
            let true_path = fs::canonicalize(&path).map_or(path, |path| path.display().to_string());
            let slash = if directory { "/" } else { "" };
            acts.iter()
                .map(move |act| format!("{act} {true_path}{slash}"))
        })
        .collect()
}

#[test]
fn the_apparmor_profile_allows_all_that_the_daemon_opens() {
    let key = generate_key("RS256", "confined.pem");
    // Both sockets are its own to make.
    let door = Daemon::socket_of("confined").with_file_name("http.sock");
    let http = format!("[http]\nsocket = \"{}\"\n", door.display());
    Daemon::configure("confined", "RS256", &key, "", &http);
    let trace = "/tmp/slurm-tokend-confined.trace";
    let mut daemon = Daemon::spawn(
        "confined",
        Daemon::through(
            "confined",
            &[
                "strace",
                "-D",
                "-f",
                "-y",
                "-s",
                "4096",
                "-o",
                trace,
                "-e",
                "trace=%file,%network",
            ],
        ),
    );
    daemon.client(&ALICE, &[]);
    daemon.client(&ALICE, &["whoami"]);
    let mut curl = ALICE.runs("curl");
    curl.args(["--fail", "--silent", "--show-error", "--request", "POST"])
        .arg("--unix-socket")
        .arg(&door)
        .arg("http://localhost/authenticate");
    assert!(stdout(curl.output().unwrap()).contains("\"token\""));
    let pid = format!("{} ", daemon.pid());
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait();
    until("the end of the trace", || {
        let lines = fs::read_to_string(trace).unwrap();
        let last = lines.lines().last().unwrap_or_default();
        last.starts_with(&pid) && last.contains("+++ exited with 0 +++")
    });
    let lines = fs::read_to_string(trace).unwrap();
    let mut done: Vec<String> = lines.lines().flat_map(accesses).collect();
    done.sort();
    done.dedup();
    for expected in [
        "r /etc/slurm/token-keys/confined.pem",
        "r /etc/passwd",
        "w /dev/log",
        "w /run/slurm-tokend-confined/http.sock",
    ] {
        assert!(
            done.iter().any(|access| access == expected),
            "{expected}: {done:#?}"
        );
    }
    assert_eq!(not_allowed(&done.join("\n")), Vec::<String>::new());
}

#[test]
fn the_apparmor_profile_allows_what_systemd_gives_the_daemon() {
    let done = "r /run/credentials/slurm-tokend.service/token-keys_login1.pem\n\
                r /run/credentials/slurm-tokend@test.service/token-keys_login1.pem\n\
                r /var/lib/private/slurm-tokend/expiry-login1.json\n\
                w /var/lib/private/slurm-tokend-test/expiry-login1.json\n\
                w /run/systemd/notify\n\
                w /run/systemd/journal/dev-log\n\
                w /var/lib/sss/pipes/nss";
    assert_eq!(not_allowed(done), Vec::<String>::new());
}

#[test]
fn the_apparmor_profile_allows_nothing_of_others() {
    let done = "w /etc/slurm/token-keys/login1.pem\n\
                w /etc/slurm/slurm-tokend.toml\n\
                r /etc/shadow\n\
                r /etc/munge/munge.key\n\
                r /root/.ssh/id_rsa\n\
                r /home/alice/secret\n\
                w /var/lib/munge/x\n\
                w /usr/sbin/slurm-tokend\n\
                w /tmp/x\n\
                r /run/credentials/other.service/key";
    assert_eq!(not_allowed(done).join("\n"), done);
}

#[test]
fn selinux_compiles_the_module() {
    let tree = Tree::copy();
    let module = tree.path().join("packaging/selinux");
    let mut make = Command::new("make");
    make.args(["-f", "/usr/share/selinux/devel/Makefile", "slurm_tokend.pp"])
        .current_dir(&module)
        .env_remove("MAKEFLAGS");
    let output = make.output().unwrap();
    let complaints = String::from_utf8(output.stderr.clone()).unwrap();
    stdout(output);
    assert!(!complaints.contains("slurm_tokend"), "{complaints}");

    // What is compiled labels what is installed, by the compiler's own word.
    let unpack = Command::new("semodule_unpackage")
        .args(["slurm_tokend.pp", "module", "contexts"])
        .current_dir(&module)
        .output();
    stdout(unpack.unwrap());
    let contexts = fs::read_to_string(module.join("contexts")).unwrap();
    for line in [
        "/usr/sbin/slurm-tokend\t--\tsystem_u:object_r:slurm_tokend_exec_t",
        "/etc/slurm/token-keys(/.*)?\tsystem_u:object_r:slurm_tokend_key_t",
    ] {
        assert!(contexts.contains(line), "{line}: {contexts}");
    }
}
