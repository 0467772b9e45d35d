//! `slurm-tokenctl doctor` finds what is wrong between a user who asks and a
//! Slurm that accepts, on a node with a real Slurm.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;

use crate::node::{Daemon, build_jwks, generate_key, publish};
use crate::slurm::bed::Bed;

/// A node where nothing is wrong, and the Slurm that knows its key.
struct Site {
    daemon: Daemon,
    bed: Bed,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let key = generate_key("RS256", "doctor.pem");
    let jwks = publish(&build_jwks(&[&key]), "doctor.json");
    let daemon = Daemon::start("doctor", "RS256", &key);
    Site {
        daemon,
        bed: Bed::up(None, Some(&jwks)),
    }
});

/// The doctor, of the daemon of this name and this slurm.conf.
fn doctor(name: &str, slurm_conf: &Path, more: &[&str]) -> Output {
    let mut doctor = Command::new("slurm-tokenctl");
    doctor
        .args(["doctor", "--json", "--config"])
        .arg(Daemon::configuration_of(name))
        .arg("--slurm-conf")
        .arg(slurm_conf)
        .args(more);
    doctor.output().unwrap()
}

/// What it found, each as its place, what, and the command that mends it.
fn findings(output: &Output) -> Vec<Value> {
    let mut told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = told["findings"].as_array_mut().unwrap();
    for finding in findings.iter() {
        for part in ["place", "what", "why", "mend"] {
            assert!(!finding[part].as_str().unwrap().is_empty(), "{finding}");
        }
    }
    std::mem::take(findings)
}

/// The one thing that it finds, which makes it end with status 1.
fn finds(output: &Output, words: &str) -> Value {
    let found = findings(output);
    let one = found
        .iter()
        .find(|f| f["what"].as_str().unwrap().contains(words));
    let one = one.unwrap_or_else(|| panic!("{words}: {found:#?}")).clone();
    assert_eq!(output.status.code(), Some(1));
    one
}

/// A copy of the site's slurm.conf with a change.
fn slurm_conf(name: &str, change: impl FnOnce(String) -> String) -> PathBuf {
    let conf = fs::read_to_string(SITE.bed.users_conf()).unwrap();
    let path = PathBuf::from(format!("/etc/slurm/{name}.conf"));
    fs::write(&path, change(conf)).unwrap();
    path
}

#[test]
fn where_all_is_well_it_says_so_and_a_real_call_is_accepted() {
    let rest = format!("unix:{}", SITE.bed.slurmrestd());
    let more = ["--slurmrestd", &rest, "--as", "alice"];
    let output = doctor("doctor", &SITE.bed.users_conf(), &more);
    assert_eq!(findings(&output), [Value::Null; 0]);
    assert_eq!(output.status.code(), Some(0));
    assert!(SITE.daemon.journal().contains("ready"));
}

#[test]
fn a_key_that_slurm_does_not_know_is_found_in_its_set_and_by_a_real_call() {
    let key = generate_key("RS256", "doctor-unknown.pem");
    let _daemon = Daemon::start("doctor-unknown", "RS256", &key);
    let rest = format!("unix:{}", SITE.bed.slurmrestd());
    let more = ["--slurmrestd", &rest, "--as", "alice"];
    let output = doctor("doctor-unknown", &SITE.bed.users_conf(), &more);
    let found = finds(&output, "is not in the set that slurmctld reads");
    assert!(found["mend"].as_str().unwrap().contains("jwks merge"));
    finds(&output, "did not accept a token");
}

#[test]
fn tokens_that_renew_themselves_are_found() {
    let conf = slurm_conf("doctor-renew", |conf| {
        conf.replace("jwks=", "jwt_key=/etc/slurm/none.key,jwks=")
    });
    let found = finds(&doctor("doctor", &conf, &[]), "no disable_token_creation");
    assert!(found["why"].as_str().unwrap().contains("for a year"));
}

#[test]
fn a_slurm_without_tokens_is_found_through_an_included_file() {
    slurm_conf("doctor-included", |_| "authalttypes=auth/none\n".into());
    let conf = slurm_conf("doctor-includes", |conf| {
        conf + "Include doctor-included.conf\n"
    });
    finds(&doctor("doctor", &conf, &[]), "does not name auth/jwt");
}

#[test]
fn another_slurm_user_is_found() {
    let conf = slurm_conf("doctor-user", |conf| conf + "SlurmUser=admin\n");
    finds(&doctor("doctor", &conf, &[]), "SlurmUser is admin");
}

#[test]
fn a_daemon_that_does_not_run_is_found() {
    let key = generate_key("RS256", "doctor-stopped.pem");
    Daemon::configure("doctor-stopped", "RS256", &key, "", "");
    finds(
        &doctor("doctor-stopped", Path::new("/none"), &[]),
        "the daemon does not answer",
    );
}

#[test]
fn a_daemon_with_another_key_than_the_configurations_is_found() {
    let keys = ["doctor-one.pem", "doctor-two.pem"].map(|file| generate_key("RS256", file));
    let _daemon = Daemon::start("doctor-behind", "RS256", &keys[0]);
    Daemon::configure("doctor-behind", "RS256", &keys[1], "", "");
    finds(
        &doctor("doctor-behind", Path::new("/none"), &[]),
        "and the configuration names",
    );
}

#[test]
fn an_hs256_key_that_differs_by_a_newline_is_found() {
    let key = generate_key("HS256", "doctor.key");
    let theirs = Path::new("/etc/slurm/doctor-theirs.key");
    let bytes = fs::read(&key).unwrap();
    fs::write(theirs, [bytes.as_slice(), b"\n"].concat()).unwrap();
    fs::set_permissions(theirs, fs::Permissions::from_mode(0o400)).unwrap();
    let _daemon = Daemon::start("doctor-newline", "HS256", &key);
    let conf = slurm_conf("doctor-newline", |conf| {
        let jwks = conf.split("jwks=").nth(1).unwrap().lines().next().unwrap();
        let ours = format!("jwt_key={},disable_token_creation", theirs.display());
        conf.replace(&format!("jwks={jwks}"), &ours)
    });
    let output = doctor("doctor-newline", &conf, &[]);
    finds(&output, "by a newline at the end");
    assert!(fs::metadata(&key).unwrap().ino() > 0);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!told.contains(&*String::from_utf8_lossy(&bytes)));
}

#[test]
fn a_key_that_others_can_read_and_a_broken_configuration_are_found() {
    let key = generate_key("RS256", "doctor-open.pem");
    Daemon::configure("doctor-open", "RS256", &key, "", "");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o444)).unwrap();
    let found = finds(
        &doctor("doctor-open", Path::new("/none"), &[]),
        "its mode 0444",
    );
    assert!(found["mend"].as_str().unwrap().starts_with("chmod"));
    Daemon::configure("doctor-open", "RS256", &key, "sokcet = 1", "");
    finds(
        &doctor("doctor-open", Path::new("/none"), &[]),
        "no key \"sokcet\"",
    );
}

#[test]
fn a_key_that_cannot_be_read_hides_nothing_else() {
    let key = generate_key("RS256", "doctor-unreadable.pem");
    Daemon::configure("doctor-unreadable", "RS256", &key, "", "");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o444)).unwrap();
    let conf = slurm_conf("doctor-unreadable", |_| "AuthAltTypes=auth/none\n".into());
    let output = doctor("doctor-unreadable", &conf, &[]);
    finds(&output, "its mode 0444");
    finds(&output, "the daemon does not answer");
    finds(&output, "does not name auth/jwt");
}

#[test]
fn a_key_that_a_rule_names_is_looked_at_too() {
    let [key, other] =
        ["doctor-rule.pem", "doctor-rule-other.pem"].map(|file| generate_key("RS256", file));
    let tables =
        format!("[[signing.other]]\nkey = {other:?}\nalgorithm = \"RS256\"\nkid = \"workflow\"\n");
    let jwks = publish(&build_jwks(&[&key]), "doctor-rule.json");
    let conf = slurm_conf("doctor-rule", |conf| {
        let theirs = conf.split("jwks=").nth(1).unwrap().lines().next().unwrap();
        conf.replace(theirs, jwks.to_str().unwrap())
    });
    Daemon::configure("doctor-rule", "RS256", &key, "", &tables);
    let missing = "the kid workflow is not in the set";
    finds(&doctor("doctor-rule", &conf, &[]), missing);
    fs::remove_file(other).unwrap();
    let found = findings(&doctor("doctor-rule", &conf, &[]));
    let place = |f: &Value| f["place"].as_str().unwrap().contains("doctor-rule-other");
    assert!(found.iter().any(place), "{found:?}");
}

#[test]
fn what_a_crash_left_is_found_with_the_command_that_removes_it() {
    let place = Path::new("/etc/slurm/doctor-left");
    fs::create_dir(place).unwrap();
    let key = place.join("login1.pem");
    fs::rename(generate_key("RS256", "doctor-left.pem"), &key).unwrap();
    Daemon::configure("doctor-left", "RS256", &key, "", "");
    let left = place.join(".login1.next.pem.unfinished-0123456789abcdef");
    fs::write(&left, "half").unwrap();
    let found = finds(
        &doctor("doctor-left", Path::new("/none"), &[]),
        "a crash left",
    );
    assert_eq!(found["place"], left.to_str().unwrap());
    assert_eq!(found["weight"], "fault");
    let mend = found["mend"].as_str().unwrap();
    assert!(
        Command::new("sh")
            .args(["-c", mend])
            .status()
            .unwrap()
            .success()
    );
    assert!(!left.exists());
}

#[test]
fn what_releases_of_slurm_do_not_take_of_a_set_is_found_and_that_it_cannot_be_read() {
    let key = generate_key("RS256", "doctor-ignored.pem");
    Daemon::configure("doctor-ignored", "RS256", &key, "", "");
    let mut set = build_jwks(&[&key]);
    for (kid, missing) in [("ignored", "alg"), ("deadly", "kid")] {
        let mut entry = set["keys"][0].clone();
        entry["kid"] = kid.into();
        entry.as_object_mut().unwrap().remove(missing);
        set["keys"].as_array_mut().unwrap().push(entry);
    }
    let jwks = publish(&set, "doctor-ignored.json");
    fs::set_permissions(&jwks, fs::Permissions::from_mode(0o600)).unwrap();
    let conf = slurm_conf("doctor-ignored", |conf| {
        let theirs = conf.split("jwks=").nth(1).unwrap().lines().next().unwrap();
        conf.replace(theirs, jwks.to_str().unwrap())
    });
    let output = doctor("doctor-ignored", &conf, &[]);
    let found = finds(&output, "key \"ignored\": ");
    assert_eq!(found["weight"], "advice", "{found}");
    for words in ["entry 3: ", "keeps SlurmUser from reading it"] {
        let found = finds(&output, words);
        assert_eq!(found["weight"], "fault", "{found}");
    }
}

#[test]
fn a_slurmctld_with_another_clock_is_found() {
    let told = SITE.bed.as_root(
        "env",
        &["SLURM_TIME_FORMAT=%s", "scontrol", "show", "config"],
    );
    let told = told.lines().next().unwrap();
    assert!(told.starts_with("Configuration data as of 1"), "{told}");
    // The same answer, a day later.
    let bin = Path::new("/etc/slurm/doctor-bin");
    fs::create_dir(bin).unwrap();
    let script = "#!/bin/sh\necho Configuration data as of $(($(date +%s) + 86400))\n";
    fs::write(bin.join("scontrol"), script).unwrap();
    fs::set_permissions(bin.join("scontrol"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut doctor = Command::new("slurm-tokenctl");
    doctor
        .args(["doctor", "--json", "--config"])
        .arg(Daemon::configuration_of("doctor"))
        .arg("--slurm-conf")
        .arg(SITE.bed.users_conf())
        .env("PATH", format!("{}:/usr/sbin:/usr/bin", bin.display()));
    finds(&doctor.output().unwrap(), "s ahead of this machine's");
}

#[test]
fn groups_that_the_policy_names_and_nobody_has_are_found() {
    let key = generate_key("RS256", "doctor-group.pem");
    let tables = "[policy]\nallow_groups = [\"nowhere\"]\n";
    Daemon::configure("doctor-group", "RS256", &key, "", tables);
    finds(
        &doctor("doctor-group", Path::new("/none"), &[]),
        "the group nowhere",
    );
}

#[test]
fn proxies_that_nobody_has_are_found() {
    let key = generate_key("RS256", "doctor-proxy.pem");
    let tables = "[http]\nproxies = [\"www-data\", \"caddy-of-old\"]\n";
    Daemon::configure("doctor-proxy", "RS256", &key, "", tables);
    let output = doctor("doctor-proxy", Path::new("/none"), &[]);
    finds(&output, "the account caddy-of-old (http.proxies)");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("www-data"));
}

#[test]
fn words_are_for_people_unless_asked_for_json() {
    let mut doctor = Command::new("slurm-tokenctl");
    let configuration = Daemon::configuration_of("doctor");
    doctor
        .args(["doctor", "--slurm-conf"])
        .arg(SITE.bed.users_conf());
    doctor.arg("--config").arg(configuration);
    let output = doctor.output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "All is well.\n");
    assert_eq!(output.status.code(), Some(0));
}
