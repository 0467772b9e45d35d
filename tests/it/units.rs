//! What systemd says of our units.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use crate::node;

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");
const PLACE: &str = "/etc/systemd/system";

/// Our units for the system, as they are shipped.
fn units() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(UNITS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("slurm-tokend"))
        .collect();
    names.sort();
    assert!(names.len() >= 4, "the units are missing: {names:?}");
    names
}

/// Puts the units in their place, once: tests run side by side.
static INSTALLED: LazyLock<()> = LazyLock::new(|| {
    node::install();
    fs::create_dir_all(PLACE).unwrap();
    for name in units() {
        fs::copy(Path::new(UNITS).join(&name), Path::new(PLACE).join(&name)).unwrap();
    }
});

/// What systemd-analyze says of units in their place.
fn analyze(arguments: &[&str]) -> Output {
    LazyLock::force(&INSTALLED);
    Command::new("systemd-analyze")
        .args(arguments)
        .output()
        .unwrap()
}

/// A name that can be started: a template's needs an instance.
fn instance(name: &str) -> String {
    name.replace('@', "@east")
}

/// Which settings a unit has, without its words about them.
fn settings(name: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(UNITS).join(name)).unwrap();
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn is_silent(output: &Output) {
    let words = [&output.stdout[..], &output.stderr[..]].concat();
    let words = String::from_utf8_lossy(&words);
    assert!(
        output.status.success() && words.is_empty(),
        "{}: {words}",
        output.status
    );
}

#[test]
fn systemd_takes_every_unit_without_a_word() {
    let names: Vec<String> = units().iter().map(|name| instance(name)).collect();
    let mut arguments = vec!["verify", "--man=no"];
    arguments.extend(names.iter().map(String::as_str));
    is_silent(&analyze(&arguments));
}

#[test]
fn systemd_takes_the_drop_ins_without_a_word() {
    LazyLock::force(&INSTALLED);
    for drop_in in ["el8.conf", "nss-network.conf"] {
        // A unit of its own for each: the plain one is looked at as it is.
        let name = format!("with-{}", drop_in.replace(".conf", ".service"));
        let place = Path::new(PLACE).join(format!("{name}.d"));
        fs::create_dir_all(&place).unwrap();
        fs::copy(
            Path::new(UNITS).join("slurm-tokend.service"),
            Path::new(PLACE).join(&name),
        )
        .unwrap();
        fs::copy(
            Path::new(UNITS).join("drop-ins").join(drop_in),
            place.join(drop_in),
        )
        .unwrap();
        is_silent(&analyze(&["verify", "--man=no", &name]));
    }
}

#[test]
fn the_service_is_exposed_to_no_more_than_it_must() {
    for name in ["slurm-tokend.service", "slurm-tokend@east.service"] {
        // Tenths of the exposure.
        let output = analyze(&[
            "security",
            "--no-pager",
            "--offline=true",
            "--threshold=4",
            name,
        ]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

#[test]
fn the_units_of_one_more_cluster_differ_in_its_name_alone() {
    let service = settings("slurm-tokend@.service");
    let expected: Vec<String> = settings("slurm-tokend.service")
        .into_iter()
        .flat_map(|line| match line.as_str() {
            // Each cluster's daemon is a user of its own.
            "User=slurm-tokend" => vec!["User=slurm-tokend-%i".into()],
            "StateDirectory=slurm-tokend" => vec!["StateDirectory=slurm-tokend-%i".into()],
            "ExecStart=/usr/sbin/slurm-tokend" => vec![
                "Environment=SLURM_TOKEND_CONF=/etc/slurm/slurm-tokend@%i.toml".into(),
                line,
            ],
            _ if line.starts_with("Description=") => vec![format!("{line}: %i")],
            _ => vec![line.replace("slurm-tokend.socket", "slurm-tokend@%i.socket")],
        })
        .collect();
    assert_eq!(service, expected);

    for name in ["slurm-tokend", "slurm-tokend-http"] {
        let socket = settings(&format!("{name}@.socket"));
        let expected: Vec<String> = settings(&format!("{name}.socket"))
            .into_iter()
            .map(|line| match line.as_str() {
                _ if line.starts_with("Description=") => format!("{line} of %i"),
                _ => line
                    .replace("/run/slurm-tokend/", "/run/slurm-tokend-%i/")
                    .replace("slurm-tokend.service", "slurm-tokend@%i.service"),
            })
            .collect();
        assert_eq!(socket, expected);
    }
}
