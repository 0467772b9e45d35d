//! What the help and the page of slurm-tokenctl and of slurm-tokend show as
//! examples is done on a node as it stands, one after the other.

use std::process::Command;

use crate::node::{install, stdout};

/// A program, and its page.
type Shown = (&'static str, &'static str);

const CTL: Shown = (
    "slurm-tokenctl",
    include_str!("../../packaging/man/slurm-tokenctl.8"),
);
const DAEMON: Shown = (
    "slurm-tokend",
    include_str!("../../packaging/man/slurm-tokend.8"),
);

/// The page's examples, a command a line.
fn of_the_page((_, page): Shown) -> Vec<String> {
    let (_, examples) = page.split_once(".Sh EXAMPLES\n").unwrap();
    let (examples, _) = examples.split_once(".Sh ").unwrap();
    let blocks = examples.split(".Bd -literal -offset indent\n").skip(1);
    blocks
        .flat_map(|block| block.split_once(".Ed").unwrap().0.lines())
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn help_and_page_have_the_same() {
    install();
    for shown in [CTL, DAEMON] {
        let help = stdout(Command::new(shown.0).arg("--help").output().unwrap());
        let (_, examples) = help.split_once("\nExamples:\n").unwrap();
        let of_the_help: Vec<&str> = examples.lines().map(str::trim).collect();
        assert_eq!(of_the_help, of_the_page(shown));
    }
}

/// What a script says on a host of its own.
fn done(script: &str) -> String {
    let private = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/private");
    let mut host = Command::new(private);
    host.args(["bash", "-euo", "pipefail", "-c", script]);
    stdout(host.output().unwrap())
}

#[test]
fn each_of_slurm_tokenctls_works_as_it_stands() {
    install();
    let all = of_the_page(CTL);
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

#[test]
fn each_of_slurm_tokends_works_as_it_stands() {
    install();
    let all = of_the_page(DAEMON);
    let [check, west] = all.as_slice() else {
        panic!("{all:#?}")
    };
    let prepared = "mkdir -m 0755 /etc/slurm/token-keys
         slurm-tokenctl key generate --out /etc/slurm/token-keys/login1.pem
         cp etc/slurm-tokend.toml /etc/slurm/";
    done(&format!("{prepared}\n{check}"));
    done(&format!(
        "{prepared}\nmv /etc/slurm/slurm-tokend{{,@west}}.toml\n{west}"
    ));
    let said = done(&format!("{prepared}\n{west} 2>&1 || :"));
    assert!(
        said.contains("/etc/slurm/slurm-tokend@west.toml: "),
        "{said}"
    );
}
