//! What README.md tells people to type does what it says.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use slurm_tokend::config::Config;

use crate::consoles::{blocks, commands, is_run_on_the_booted_host};
use crate::node::{ALICE, Daemon, generate_key, install, stdout};
use crate::slurm::RS256;

const README: &str = include_str!("../../README.md");

/// The first code block of a kind.
fn block(kind: &str) -> &'static str {
    let blocks = README.split("```").skip(1).step_by(2);
    let mut found = blocks.filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n'));
    found.next().unwrap()
}

/// The commands of the console block that holds `text`.
fn console(text: &str) -> Vec<String> {
    let mut consoles = blocks(README).into_iter();
    let (_, block) = consoles.find(|(_, block)| block.contains(text)).unwrap();
    commands(block)
}

const STEPS: &str = "key generate";
const CHECK: &str = "slurm-tokend --check";
const USERS: &str = "export $(slurm-token)";
const RUNNING: &str = "slurm-tokenctl block";
const FRESH: &str = "make demo";

#[test]
fn each_command_is_run_here_or_on_the_booted_host() {
    let mut here: Vec<String> = [STEPS, USERS, RUNNING, FRESH].map(console).concat();
    here.push(CHECK.into());
    for (_, block) in blocks(README) {
        for command in commands(block) {
            let run = here.contains(&command) || is_run_on_the_booted_host("README.md", &command);
            assert!(run, "{command}");
        }
    }
}

#[test]
fn its_steps_for_administrators_lead_from_nothing_to_a_sound_configuration() {
    install();
    for command in console(STEPS) {
        stdout(Command::new("sh").args(["-ec", &command]).output().unwrap());
    }
    let text = block("toml");
    let path = "/etc/slurm/slurm-tokend.toml";
    assert!(Config::parse(path.as_ref(), text, "login1").is_ok());
    fs::write(path, text).unwrap();
    let said = Command::new("sh").args(["-ec", CHECK]).output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("configuration and key are sound"), "{said}");
}

#[test]
fn its_commands_for_users_are_the_clients() {
    let site = &RS256;
    let home = "/var/home/alice/readme";
    fs::create_dir(home).unwrap();
    chown(home, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    // One after the other in one session, at the end of which the user leaves.
    let script = console(USERS).join("\n");
    let script = format!("trap 'kill $!' EXIT\n{script}").replace("v0.0.38", site.bed.api());
    let mut sh = ALICE.runs("sh");
    sh.args(["-ec", &script])
        .env("HOME", home)
        .env("SLURM_TOKEND_SOCKET", site.daemon.socket())
        .env("SLURM_CONF", site.bed.users_conf())
        .env("SLURMRESTD_URL", site.bed.slurmrestd_url());
    let printed = stdout(sh.output().unwrap());
    assert!(printed.contains("\"jobs\""), "{printed}");
    assert!(printed.contains("lifespan "), "{printed}");
}

#[test]
fn its_commands_for_the_running_daemon_are_done() {
    let key = generate_key("HS256", "readme-running.key");
    let daemon = Daemon::start("readme-running", "HS256", &key);
    for command in console(RUNNING) {
        let mut sh = Command::new("sh");
        sh.args(["-ec", &command])
            .env("SLURM_TOKEND_SOCKET", daemon.socket());
        stdout(sh.output().unwrap());
    }
}

#[test]
fn its_commands_for_a_fresh_machine_are_the_makefiles() {
    let makefile = include_str!("../../Makefile");
    for command in console(FRESH) {
        let target = command.strip_prefix("make ").unwrap();
        assert!(makefile.contains(&format!("\n{target}:\n")), "{command}");
    }
}
