use super::*;

#[test]
fn the_command_is_run_after_each_renewal_and_told_of_the_file() {
    let directory = directory("keep-exec");
    let file = directory.join("token");
    let seen = directory.join("seen");
    let script = format!(
        "echo $SLURM_TOKEN_EXPIRES_AT $(cat $SLURM_TOKEN_FILE) ${{SLURM_JWT-none}} >> {}",
        seen.display()
    );
    let _keeper = Keeper::start(&file, &["--lifespan=1", "--exec", &script]);
    let lines = || {
        let text = fs::read_to_string(&seen).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    until("three renewals", || lines().len() >= 3);
    for line in &lines()[..3] {
        let [expires, token, jwt] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        assert_eq!(claims(token)["exp"].to_string(), expires);
        assert_eq!(jwt, "none");
    }
}

#[test]
fn a_command_that_fails_or_hangs_stops_no_renewal() {
    for (name, script, said) in [
        ("fails", "exit 7", "ended with exit status: 7"),
        ("hangs", "exec sleep infinity", "is not started once more"),
    ] {
        let file = directory(&format!("keep-exec-{name}")).join("token");
        let keeper = Keeper::start(&file, &["--lifespan=1", "--exec", script]);
        keeper.renews(&keeper.token());
        keeper.says(&said.replace("is not", "It is not"));
        keeper.renews(&keeper.token());
    }
}

#[test]
fn the_command_has_no_signal_blocked() {
    let directory = directory("keep-exec-signals");
    let seen = directory.join("seen");
    let script = format!("grep SigBlk /proc/self/status > {}", seen.display());
    let _keeper = Keeper::start(&directory.join("token"), &["--exec", &script]);
    until("the command", || {
        fs::read_to_string(&seen).is_ok_and(|text| text.ends_with('\n'))
    });
    assert_eq!(
        fs::read_to_string(&seen).unwrap(),
        "SigBlk:\t0000000000000000\n"
    );
}

#[test]
fn a_signal_in_the_moment_in_which_the_command_is_started_ends_it_well() {
    let directory = directory("keep-exec-moment");
    let file = directory.join("token");
    crate::node::install();
    // Its second clone is the command; the first is the thread that waits for signals.
    let mut keeper = Command::new("strace")
        .args(["-qq", "-f", "-u", "alice", "-o", "/dev/null"])
        .args([
            "-e",
            "trace=clone3",
            "-e",
            "inject=clone3:signal=SIGTERM:when=2",
        ])
        .args(["slurm-token", "keep", "--exec", "true", "--file"])
        .arg(&file)
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket())
        .spawn()
        .unwrap();
    let status = ended(&mut keeper);
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(names_in(&directory), ["token"]);
}

#[test]
fn a_signal_while_the_command_runs_ends_the_keeper_and_leaves_the_command() {
    let directory = directory("keep-exec-left");
    let seen = directory.join("seen");
    let script = format!(
        "echo began >> {0}; until [ -e {0}.go ]; do sleep 0.1; done; echo ended >> {0}",
        seen.display()
    );
    let mut keeper = Keeper::start(&directory.join("token"), &["--exec", &script]);
    let says = |words: &str| {
        until(words, || {
            fs::read_to_string(&seen).is_ok_and(|s| s == words)
        });
    };
    says("began\n");
    keeper.signal(Signal::SIGTERM);
    assert_eq!(keeper.end(), Some(0));
    fs::write(directory.join("seen.go"), "").unwrap();
    says("began\nended\n");
}
