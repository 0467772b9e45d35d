//! The client as somebody meets it who has just logged in: on a terminal, in
//! the shell of their choice, in a script.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Output;
use std::sync::LazyLock;

use crate::jwt::Jwt;
use crate::node::{ALICE, Daemon, generate_key, stdout};

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let key = generate_key("HS256", "newcomer.key");
    Daemon::start("newcomer", "HS256", &key)
});

/// What a script prints that alice runs by this shell.
fn printed(shell: &str, script: &str) -> String {
    let mut user = ALICE.runs(shell);
    user.args(["-c", script])
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    let output = user.output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "",
        "{shell}: {script}"
    );
    stdout(output)
}

fn user_of(token: &str) -> String {
    Jwt::read(token.trim_end()).claims["sun"]
        .as_str()
        .unwrap()
        .to_owned()
}

// On a terminal.

/// A command on a terminal of its own: what is seen there.
fn on_terminal(command: &str, environment: &[(&str, &str)]) -> Output {
    let mut script = ALICE.runs("script");
    script
        .args(["--quiet", "--return", "--command", command, "/dev/null"])
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket())
        .env("TERM", "xterm-256color")
        .envs(environment.iter().copied());
    script.output().unwrap()
}

fn seen(command: &str, environment: &[(&str, &str)]) -> String {
    String::from_utf8(on_terminal(command, environment).stdout).unwrap()
}

#[test]
fn who_sees_a_token_is_told_how_long_it_lives_and_where_it_is_meant_to_go() {
    let seen = seen("slurm-token", &[]);
    assert!(seen.contains("SLURM_JWT=eyJ"), "{seen}");
    assert!(seen.contains("This token of alice is valid for "), "{seen}");
    assert!(seen.contains("export $(slurm-token)"), "{seen}");
}

#[test]
fn a_mistake_leads_to_the_help_of_the_command() {
    let seen = seen("slurm-token keep ~/kept", &[("NO_COLOR", "1")]);
    assert_eq!(
        seen,
        "slurm-token: keep takes its file by name: keep --file /var/home/alice/kept\r\n\
         slurm-token: see slurm-token keep --help\r\n"
    );
}

#[test]
fn where_the_token_goes_somewhere_else_nothing_is_said() {
    assert_eq!(seen("slurm-token > /dev/null", &[]), "");
    assert_eq!(seen("slurm-token | cat > /dev/null", &[]), "");
}

#[test]
fn words_have_colour_on_a_terminal_that_knows_it_and_only_there() {
    let mistake = "slurm-token --lifespam 5";
    let bold = "\u{1b}[1mslurm-token:\u{1b}[0m there is no option";
    assert!(seen(mistake, &[]).contains(bold));
    for environment in [[("NO_COLOR", "1")], [("TERM", "dumb")], [("TERM", "")]] {
        let seen = seen(mistake, &environment);
        assert!(
            seen.starts_with("slurm-token: there is no option"),
            "{seen:?}"
        );
    }
    let piped = seen(&format!("{mistake} 2>&1 | cat"), &[]);
    assert!(!piped.contains('\u{1b}'), "{piped:?}");
}

#[test]
fn on_a_terminal_the_keeper_says_what_it_does_and_ctrl_c_ends_it() {
    // What script(1) reads is what is typed: here Ctrl-C, as soon as there's a file.
    let typed = "until [ -s ~/newcomer ]; do sleep 0.1; done; sleep 0.2; printf '\\003'";
    let mut sh = ALICE.runs("sh");
    sh.args([
        "-c",
        &format!(
            "({typed}; sleep 1) | script -qec 'trap : INT; slurm-token keep --file ~/newcomer; echo ended $?' /dev/null"
        ),
    ])
    .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    let seen = stdout(sh.output().unwrap());
    assert!(
        seen.contains("holds a valid token of alice for as long as this runs"),
        "{seen}"
    );
    assert!(seen.contains("ended 0"), "{seen}");
}

// In shells.

#[test]
fn every_shell_exports_a_token() {
    for (shell, script) in [
        ("sh", "export $(slurm-token); printenv SLURM_JWT"),
        ("bash", "export $(slurm-token); printenv SLURM_JWT"),
        ("zsh", "export $(slurm-token); printenv SLURM_JWT"),
        ("fish", "export (slurm-token); printenv SLURM_JWT"),
        (
            "fish",
            "set -x SLURM_JWT (slurm-token --format raw); printenv SLURM_JWT",
        ),
        (
            "fish",
            "slurm-token --format export | source; printenv SLURM_JWT",
        ),
    ] {
        assert_eq!(
            user_of(&printed(shell, script)),
            "alice",
            "{shell}: {script}"
        );
    }
}

#[test]
fn every_shell_runs_keeps_and_looks_into_one() {
    for shell in ["sh", "bash", "zsh", "fish"] {
        let run = printed(shell, "slurm-token run printenv SLURM_JWT");
        assert_eq!(user_of(&run), "alice", "{shell}");
        let kept = printed(shell, "slurm-token keep --once --file ~/kept && cat ~/kept");
        assert_eq!(user_of(&kept), "alice", "{shell}");
        let told = printed(shell, "slurm-token | slurm-token inspect -");
        assert!(told.contains("\"sun\": \"alice\""), "{shell}: {told}");
    }
}

#[test]
fn a_script_stops_where_there_is_no_token() {
    for shell in ["sh", "bash", "zsh", "fish"] {
        let mut user = ALICE.runs(shell);
        let script = "slurm-token > /dev/null || exit 9; echo went on";
        user.args(["-c", script])
            .env("SLURM_TOKEND_SOCKET", "/nonexistent");
        let output = user.output().unwrap();
        assert_eq!(
            (output.status.code(), output.stdout),
            (Some(9), Vec::new()),
            "{shell}"
        );
    }
}

#[test]
fn a_python_script_gets_one() {
    let script = "
import json, subprocess
answer = json.loads(subprocess.check_output(['slurm-token', '--json']))
print(answer['token'])
";
    let mut user = ALICE.runs("/usr/bin/python3");
    user.args(["-c", script])
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    assert_eq!(user_of(&stdout(user.output().unwrap())), "alice");
}

// In the help.

/// Programs of the examples that have nothing to do with us: they do nothing.
fn stubs() -> PathBuf {
    let directory = PathBuf::from("/var/home/alice/stubs");
    fs::create_dir(&directory).unwrap();
    chown(&directory, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    for name in ["squeue", "sinfo", "systemctl", "curl", "submit.py"] {
        let stub = directory.join(name);
        fs::write(&stub, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&stub, Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

#[test]
fn every_example_of_a_help_works_as_it_stands() {
    let stubs = stubs();
    let path = format!("{}:/usr/bin:/bin", stubs.display());
    for command in [
        "", "run", "keep", "curl", "inspect", "verify", "refresh", "whoami",
    ] {
        let help = printed("sh", &format!("slurm-token {command} --help"));
        let (_, examples) = help.split_once("Examples:\n").unwrap();
        let (examples, _) = examples.split_once("\n\n").unwrap_or((examples, ""));
        let script = format!(
            "trap 'kill $(jobs -p) 2>/dev/null || :' EXIT; set -e -o pipefail; cd {}\n{examples}",
            stubs.display()
        );
        let mut bash = ALICE.runs("bash");
        bash.args(["-c", &script])
            .env("SLURM_TOKEND_SOCKET", DAEMON.socket())
            .env("SLURM_JWT", DAEMON.client(&ALICE, &["--format=raw"]))
            .env("XDG_RUNTIME_DIR", &stubs)
            .env("HOME", &stubs)
            .env("PATH", &path);
        let output = bash.output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        assert!(!examples.is_empty());
    }
}
