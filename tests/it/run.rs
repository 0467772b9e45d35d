//! `slurm-token run`: a command with a token in its environment, and nothing
//! else about it that env(1) wouldn't do.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::LazyLock;

use crate::node::{ALICE, BOB, Daemon, generate_key, stdout};
use crate::slurm::RS256;

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let key = generate_key("HS256", "run.key");
    Daemon::start("run", "HS256", &key)
});

/// Alice runs a script by sh.
fn script(script: &str) -> Command {
    let mut sh = ALICE.runs("sh");
    sh.args(["-c", script])
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    sh
}

fn outcome(text: &str) -> Output {
    script(text).output().unwrap()
}

/// What is printed by a script, which says nothing on standard error.
fn printed(text: &str) -> String {
    let output = outcome(text);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{text}");
    stdout(output)
}

/// What standard error says of a script that ends with `status`.
fn complaint(text: &str, status: i32) -> String {
    let output = outcome(text);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_commands_environment_is_the_callers_and_the_token() {
    let environment = |command: &str| {
        let all = printed(command);
        let mut all: Vec<String> = all.split('\0').map(ToOwned::to_owned).collect();
        all.sort_unstable();
        all
    };
    let without = environment("odd='a b\nc' export odd; exec env -0");
    let mut with = environment("odd='a b\nc' export odd; exec slurm-token run env -0");
    let token = with.iter().position(|line| line.starts_with("SLURM_JWT="));
    assert!(with.remove(token.unwrap()).starts_with("SLURM_JWT=eyJ"));
    assert_eq!(with, without);
}

#[test]
fn the_shell_that_calls_it_has_no_token() {
    assert_eq!(
        printed("slurm-token run true; echo ${SLURM_JWT-none}"),
        "none\n"
    );
}

#[test]
fn a_token_that_is_there_gives_way_to_the_new_one() {
    let both =
        printed("export $(slurm-token); echo $SLURM_JWT; slurm-token run printenv SLURM_JWT");
    let (old, new) = both.trim_end().split_once('\n').unwrap();
    assert!(new.starts_with("eyJ") && new != old, "{both}");
}

#[test]
fn it_becomes_the_command() {
    let pids = printed("echo $$; exec slurm-token run sh -c 'echo $$'");
    let (before, after) = pids.trim_end().split_once('\n').unwrap();
    assert_eq!(before, after);
}

#[test]
fn arguments_reach_the_command_as_they_are() {
    assert_eq!(
        printed("slurm-token run printf '%s|' '' 'a b' --lifespan -- -h '*' lifespan=1"),
        "|a b|--lifespan|--|-h|*|lifespan=1|"
    );
}

#[test]
fn the_commands_exit_status_is_the_programs() {
    complaint("slurm-token run sh -c 'exit 42'", 42);
    let mut killed = ALICE.runs("slurm-token");
    killed
        .args(["run", "sh", "-c", "kill -USR1 $$"])
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    assert_eq!(killed.status().unwrap().signal(), Some(10));
}

#[test]
fn a_command_that_can_not_be_run_ends_as_with_env() {
    for (command, said) in [
        ("no-such-command", "there is no such command"),
        ("/etc", "can't be run: Permission denied"),
        ("/etc/passwd", "can't be run: Permission denied"),
    ] {
        let env = outcome(&format!("env {command}")).status.code().unwrap();
        let complaint = complaint(&format!("slurm-token run {command}"), env);
        assert!(complaint.contains(said), "{complaint}");
    }
}

#[test]
fn signals_are_to_the_command_what_they_are_with_env() {
    let signals = |runner: &str| {
        printed(&format!(
            "trap '' HUP USR2; exec {runner} grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status"
        ))
    };
    let with_env = signals("env");
    let (_, ignored) = with_env.split_once("SigIgn:\t").unwrap();
    let ignored = u64::from_str_radix(ignored.lines().next().unwrap(), 16).unwrap();
    assert_eq!(
        ignored & 0x801,
        0x801,
        "HUP and USR2 are not ignored: {with_env}"
    );
    assert_eq!(signals("slurm-token run"), with_env);
}

#[test]
fn a_broken_pipe_ends_the_command_even_where_its_caller_ignores_that() {
    let ignored =
        printed("trap '' PIPE; exec slurm-token run sed -n 's/^SigIgn:\t//p' /proc/self/status");
    let ignored = u64::from_str_radix(ignored.trim_end(), 16).unwrap();
    assert_eq!(ignored & 1 << (13 - 1), 0, "SIGPIPE is ignored");
}

#[test]
fn the_terminal_is_the_commands() {
    let said = printed(
        "script --quiet --return --command \
         'slurm-token run sh -c \"tty && test -t 1 && test -t 2 && echo SLURM_\\${#SLURM_JWT}\"' /dev/null",
    );
    assert!(said.contains("/dev/pts/"), "{said}");
    assert!(said.contains("SLURM_"), "{said}");
}

#[test]
fn limits_are_the_callers() {
    assert_eq!(
        printed("ulimit -S -c 77; slurm-token run sh -c 'ulimit -c'"),
        "77\n"
    );
}

#[test]
fn without_a_token_nothing_is_run() {
    let refused = complaint("slurm-token run lifespan=7d echo 'it ran'", 4);
    assert!(refused.contains("--lifespan max"), "{refused}");
    let output = outcome("slurm-token run --socket /nonexistent echo 'it ran'");
    assert_eq!((output.status.code(), output.stdout), (Some(3), Vec::new()));
}

#[test]
fn a_stale_or_foreign_token_in_the_environment_is_warned_of() {
    let stale = DAEMON.client(&ALICE, &["lifespan=1", "--format=raw"]);
    let bobs = DAEMON.client(&BOB, &["--format=raw"]);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    for (token, said) in [
        (&*stale, "holds a token that expired"),
        (&bobs, "holds a token of bob;"),
        ("nonsense", "holds no token;"),
    ] {
        let mut sh = script("slurm-token run sh -c 'test $SLURM_JWT != $OLD'");
        let output = sh
            .env("SLURM_JWT", token)
            .env("OLD", token)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let warning = String::from_utf8(output.stderr).unwrap();
        assert!(warning.contains(said), "{warning}");
        assert!(warning.contains("unset SLURM_JWT"), "{warning}");
        assert!(!warning.contains(token), "{warning}");
    }
}

// Real Slurm.

/// Alice runs a script among Slurm's commands, who know no munge.
fn among_slurms(text: &str) -> Output {
    let site = &RS256;
    let mut sh = ALICE.runs("sh");
    sh.args(["-c", text])
        .env("SLURM_TOKEND_SOCKET", site.daemon.socket())
        .env("SLURM_CONF", site.bed.users_conf());
    sh.output().unwrap()
}

#[test]
fn squeue_takes_the_token() {
    let without = among_slurms("squeue");
    assert!(!without.status.success(), "squeue needs no token");
    let with = among_slurms("slurm-token run squeue --noheader");
    assert!(with.status.success(), "{with:?}");
    assert_eq!(with.stderr, b"");
}

#[test]
fn srun_fails_with_the_token_and_the_warning_says_so() {
    let output = among_slurms("slurm-token run srun --immediate=20 true");
    assert!(!output.status.success(), "srun works with a token");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("slurm-token: srun does not work"),
        "{said}"
    );
}

#[test]
fn salloc_hands_the_token_on_to_srun_which_breaks_as_the_warning_says() {
    let output = among_slurms(
        "slurm-token run salloc --immediate=20 sh -c 'test -n \"$SLURM_JWT\" && echo handed; srun true'",
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("slurm-token: salloc hands SLURM_JWT on"),
        "{said}"
    );
    assert_eq!(output.stdout, b"handed\n", "{said}");
    assert!(said.contains("launch failed"), "{said}");
    assert!(!output.status.success(), "{said}");
}

#[test]
fn sbatch_hands_the_token_on_to_the_job_as_the_warning_says() {
    let output = among_slurms(
        "cd && slurm-token run sbatch --wait --output=leak.out \
         --wrap='test -n \"$SLURM_JWT\" && echo leaked' && cat leak.out",
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("hands SLURM_JWT on to the job"), "{said}");
    assert!(
        String::from_utf8_lossy(&output.stdout).ends_with("leaked\n"),
        "{output:?}"
    );
}
