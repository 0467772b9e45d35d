//! What packaging/INSTALL.md tells people to type does what it says, on a node
//! that has just got the package.

use super::tree::{PACKED, on_a_host};
use crate::consoles::{blocks, commands, is_run_on_the_booted_host};

const GUIDE: &str = include_str!("../../../packaging/INSTALL.md");

/// The commands of a section of the guide, block by block, without those that
/// are marked as not run.
fn run_blocks(heading: &str) -> Vec<String> {
    let (_, section) = GUIDE
        .split_once(&format!("\n### {heading}\n"))
        .expect("the section");
    let end = ["\n### ", "\n## "]
        .iter()
        .filter_map(|next| section.find(next))
        .min();
    blocks(&section[..end.unwrap_or(section.len())])
        .into_iter()
        .filter(|(before, _)| !is_marked(before) && !is_booted(before))
        .map(|(_, block)| commands(block).join("\n") + "\n")
        .collect()
}

fn is_marked(before: &str) -> bool {
    before.to_lowercase().contains("*not run")
}

/// Run on the host that `make test-host` boots, which has a systemd.
fn is_booted(before: &str) -> bool {
    before.contains("*Booted:*")
}

/// What a node says where the package has been installed, then the script runs.
fn node(script: &str) -> String {
    on_a_host(
        &format!("dpkg -i \"$1\" >/dev/null; exec 2>&1; {script}"),
        &[&PACKED.package("slurm-tokend_", ".deb")],
    )
}

const WAYS: [&str; 3] = [
    "One login node with a key of its own",
    "Several login nodes, one merged JWKS",
    "HS256 beside slurmctld",
];

const SOUND: &str = "configuration and key are sound";

#[test]
fn each_command_is_run_here_or_marked_as_not_run() {
    let unmarked = blocks(GUIDE)
        .iter()
        .filter(|(before, _)| !is_marked(before) && !is_booted(before))
        .count();
    let run: usize = WAYS.iter().map(|way| run_blocks(way).len()).sum();
    assert_eq!(unmarked, run);
    assert_eq!(run, 5);
}

#[test]
fn each_command_that_is_marked_as_booted_is_run_on_the_booted_host() {
    let booted: Vec<String> = blocks(GUIDE)
        .iter()
        .filter(|(before, _)| is_booted(before))
        .flat_map(|(_, block)| commands(block))
        .collect();
    assert_eq!(booted.len(), 5);
    for command in booted {
        let run = is_run_on_the_booted_host("packaging/INSTALL.md", &command);
        assert!(run, "{command}");
    }
}

#[test]
fn one_node_with_a_key_of_its_own_is_sound_and_publishes_it() {
    let steps = run_blocks(WAYS[0]).concat();
    let said = node(&format!(
        "{steps} slurm-tokenctl jwks lint /etc/slurm/jwks.json && echo well"
    ));
    assert!(said.contains(SOUND) && said.ends_with("well\n"), "{said}");
}

#[test]
fn several_nodes_have_their_keys_in_one_set() {
    let blocks = run_blocks(WAYS[1]);
    let [each, controller] = &blocks[..] else {
        panic!("{blocks:?}")
    };
    let said = node(&format!(
        "{each} hostname login2\n{each} {controller} jq -r '.keys | length' /etc/slurm/jwks.json"
    ));
    assert_eq!(said.matches(SOUND).count(), 2, "{said}");
    assert!(said.ends_with("\n2\n"), "{said}");
}

#[test]
fn a_key_that_is_shared_with_slurmctld_is_sound() {
    let steps = run_blocks(WAYS[2]).concat();
    let said = node(&format!("{steps} stat -c '%U %a' /etc/slurm/jwt_hs256.key"));
    assert!(said.contains(SOUND), "{said}");
    assert!(said.ends_with("slurm 400\n"), "{said}");
}

#[test]
fn the_lines_for_slurm_conf_name_what_the_commands_make() {
    for way in WAYS {
        let (_, section) = GUIDE.split_once(&format!("\n### {way}\n")).unwrap();
        let file = if way == WAYS[2] {
            "jwt_hs256.key"
        } else {
            "jwks.json"
        };
        assert!(
            section.contains(&format!("--out /etc/slurm/{file}")),
            "{way}"
        );
        assert!(GUIDE.contains(&format!("=/etc/slurm/{file}")), "{way}");
    }
}
