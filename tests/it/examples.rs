//! What the help and the page of slurm-tokenctl show as examples is done on a
//! node as it stands, one after the other.

use std::process::Command;

use crate::node::{install, stdout};

const PAGE: &str = include_str!("../../packaging/man/slurm-tokenctl.8");

/// The page's examples, a command a line.
fn of_the_page() -> Vec<String> {
    let (_, examples) = PAGE.split_once(".Sh EXAMPLES\n").unwrap();
    let blocks = examples.split(".Bd -literal -offset indent\n").skip(1);
    blocks
        .flat_map(|block| block.split_once(".Ed").unwrap().0.lines())
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn help_and_page_have_the_same() {
    install();
    let mut ctl = Command::new("slurm-tokenctl");
    let help = stdout(ctl.arg("--help").output().unwrap());
    let (_, examples) = help.split_once("\nExamples:\n").unwrap();
    let of_the_help: Vec<&str> = examples.lines().map(str::trim).collect();
    assert_eq!(of_the_help, of_the_page());
}

#[test]
fn each_of_slurm_tokenctls_works_as_it_stands() {
    install();
    let done = |script: &str| {
        let private = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/private");
        let mut host = Command::new(private);
        stdout(
            host.args(["bash", "-euo", "pipefail", "-c", script])
                .output()
                .unwrap(),
        )
    };
    let all = of_the_page();
    let [setup, generate, build, sign, block, sessions] = all.as_slice() else {
        panic!("{all:#?}")
    };
    assert!(done(setup).contains("/etc/slurm/token-keys/login1.pem"));
    let said = done(&format!(
        "mkdir -m 0755 /etc/slurm/token-keys
         {generate}
         {build}
         cp etc/slurm-tokend.toml /etc/slurm/
         socat -u UNIX-RECV:/dev/log,mode=0666 /dev/null &
         until [ -S /dev/log ]; do sleep 0.1; done
         {sign}
         mkdir -m 0755 /run/slurm-tokend
         slurm-tokend 2>/run/journal &
         until [ -S /run/slurm-tokend/slurm-tokend.sock ]; do sleep 0.1; done
         {block}
         {sessions}"
    ));
    assert!(said.contains("alice"), "{said}");
    assert!(said.contains("ticket 4711"), "{said}");
}
