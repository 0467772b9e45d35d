//! What README.md tells people to type does what it says.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use slurm_tokend::config::Config;

use crate::node::{ALICE, Daemon, generate_key, install, stdout};
use crate::slurm::RS256;

const README: &str = include_str!("../../README.md");

/// The code blocks of a kind, in their order.
fn blocks(kind: &str) -> Vec<&'static str> {
    README
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n'))
        .collect()
}

/// The console block that holds `text`.
fn console(text: &str) -> &'static str {
    blocks("console")
        .into_iter()
        .find(|block| block.contains(text))
        .unwrap()
}

/// The commands behind a prompt, comments left out.
fn commands(block: &str, prompt: &str) -> Vec<String> {
    block
        .lines()
        .filter_map(|line| line.strip_prefix(prompt))
        .map(|line| line.split("  ").next().unwrap().trim().to_owned())
        .collect()
}

#[test]
fn its_steps_for_administrators_lead_from_nothing_to_a_sound_configuration() {
    install();
    for command in commands(console("key generate"), "# ") {
        stdout(Command::new("sh").args(["-ec", &command]).output().unwrap());
    }
    let text = blocks("toml")[0];
    let path = "/etc/slurm/slurm-tokend.toml";
    assert!(Config::parse(path.as_ref(), text, "login1").is_ok());
    fs::write(path, text).unwrap();
    let check = commands(console("--check"), "# ").remove(0);
    let said = Command::new("sh").args(["-ec", &check]).output().unwrap();
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
    let script = commands(console("export $(slurm-token)"), "$ ").join("\n");
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
    for command in commands(console("slurm-tokenctl block"), "# ") {
        let mut sh = Command::new("sh");
        sh.args(["-ec", &command])
            .env("SLURM_TOKEND_SOCKET", daemon.socket());
        stdout(sh.output().unwrap());
    }
}

#[test]
fn its_commands_for_a_fresh_machine_are_the_makefiles() {
    let makefile = include_str!("../../Makefile");
    for command in commands(console("make demo"), "$ ") {
        let target = command.strip_prefix("make ").unwrap();
        assert!(makefile.contains(&format!("\n{target}:\n")), "{command}");
    }
}
