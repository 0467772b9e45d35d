//! A node's key is replaced by `slurm-tokenctl rotate`, and whatever interrupts
//! it, the node has a key to sign with and has published it.

mod interrupted;
mod others;
mod restarted;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use slurm_tokend::keys::Kid;
use slurm_tokend::keys::jwks::JwkSet;
use slurm_tokend::state::StateDir;

use crate::node::{Daemon, install, stdout};

/// The directory of a node's keys and the configuration that names one.
pub struct Node {
    name: String,
    directory: PathBuf,
}

/// How the configuration names the key.
#[derive(Clone, Copy, Debug)]
pub enum Named {
    /// One file for ever; the kid is the thumbprint.
    SameFile,
    /// A file and a kid for each key.
    OwnName,
    /// An HS256 secret.
    Secret,
}

impl Node {
    pub fn new(name: &str, named: Named) -> Self {
        install();
        let node = Self {
            name: name.into(),
            directory: PathBuf::from(format!("/etc/slurm/{name}")),
        };
        fs::create_dir_all(node.path("keys")).unwrap();
        let (algorithm, file, kid) = match named {
            Named::SameFile => ("RS256", "{host}.pem", ""),
            Named::OwnName => (
                "RS256",
                "{host}-2020-01.pem",
                "kid = \"{host}-2020-01\" # ours",
            ),
            Named::Secret => ("HS256", "{host}.key", ""),
        };
        let key = node.path("keys").join(file.replace("{host}", "login1"));
        let mut generate = Command::new("slurm-tokenctl");
        generate
            .args(["key", "generate", "--alg", algorithm, "--out"])
            .arg(&key);
        stdout(generate.output().unwrap());
        let daemon = 501;
        chown(&key, Some(daemon), Some(daemon)).unwrap();
        let written = node.path("keys").join(file);
        Daemon::configure(name, algorithm, &written, "", kid);
        let state = PathBuf::from(format!("/var/lib/slurm-tokend-{name}"));
        fs::create_dir_all(&state).unwrap();
        chown(&state, Some(daemon), Some(daemon)).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        node
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// `slurm-tokenctl rotate WORDS`, by another program if there is one.
    pub fn command(&self, through: &[&str], words: &[&str]) -> Command {
        let program = [through, &["/usr/sbin/slurm-tokenctl", "rotate"]].concat();
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .arg("--config")
            .arg(Daemon::configuration_of(&self.name))
            .arg("--jwks-dir")
            .arg(self.path("jwks.d"))
            .args(words);
        command
    }

    pub fn rotate(&self, words: &[&str]) -> Output {
        self.command(&[], words).output().unwrap()
    }

    /// What the verb said, which it must have done.
    pub fn done(&self, words: &[&str]) -> String {
        let output = self.rotate(words);
        assert!(output.status.success(), "{words:?}: {}", told(&output));
        told(&output)
    }

    /// What the verb said, which it must have refused.
    pub fn refused(&self, words: &[&str]) -> String {
        let output = self.rotate(words);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{words:?}: {}",
            told(&output)
        );
        told(&output)
    }

    pub fn status(&self) -> Value {
        let output = stdout(self.rotate(&["status", "--json"]));
        serde_json::from_str(&output).unwrap()
    }

    /// The kid of the key that signs, and that of the next.
    pub fn kids(&self) -> (String, Option<String>) {
        let keys = self.status()["keys"].take();
        let kid = |key: &Value| key["kid"].as_str().map(ToOwned::to_owned);
        (kid(&keys["current"]).unwrap(), kid(&keys["next"]))
    }

    /// Switches to the next key because somebody says that Slurm accepts it.
    pub fn activate(&self) -> String {
        let next = self.kids().1.expect("a next key");
        self.done(&["activate", &format!("--confirm={next}")])
    }

    /// Records that tokens of a key may live until then, as the daemon does.
    pub fn signed(&self, kid: &str, exp: u64) {
        let state = StateDir::open(Path::new(&format!("/var/lib/slurm-tokend-{}", self.name)));
        state
            .unwrap()
            .raise_latest_exp(&Kid::new(kid).unwrap(), exp, 0)
            .unwrap();
    }

    /// The names of the files in a directory of the node, hidden ones left out.
    pub fn files(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).into_iter().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }

    /// What must be so at any instant: a key that signs, published unless it's
    /// a secret, and nothing that is broken or that others could read.
    pub fn is_sound(&self, named: Named) {
        let secret = matches!(named, Named::Secret);
        let current = self.status()["keys"]["current"].take();
        assert_eq!(current["published"], !secret, "{current}");
        for name in fs::read_dir(self.path("keys")).unwrap() {
            let path = name.unwrap().path();
            let mode = fs::metadata(&path).unwrap().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
        for name in self.files("keys") {
            if secret {
                assert_eq!(fs::read(self.path("keys").join(name)).unwrap().len(), 32);
                continue;
            }
            let mut openssl = Command::new("openssl");
            openssl
                .args(["pkey", "-noout", "-check", "-in"])
                .arg(self.path("keys").join(name));
            stdout(openssl.output().unwrap());
        }
        for name in self.files("jwks.d") {
            let set = fs::read(self.path("jwks.d").join(&name)).unwrap();
            let set = JwkSet::parse(&set).unwrap().set;
            assert_eq!(format!("{}.json", set.keys[0].kid), name);
        }
    }
}

pub fn told(output: &Output) -> String {
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8(text).unwrap()
}

const FAR: u64 = 4_000_000_000;

#[test]
fn a_rotation_with_one_file_ends_with_the_next_key_and_nothing_of_the_old_one() {
    let node = Node::new("rotating-file", Named::SameFile);
    let (old, _) = node.kids();
    node.done(&["prepare"]);
    assert_eq!(node.files("keys"), ["login1.next.pem", "login1.pem"]);
    node.signed(&old, 1000);
    let (_, next) = node.kids();
    node.activate();
    let kept = format!("login1.old-{old}.pem");
    assert_eq!(node.files("keys"), [kept, "login1.pem".into()]);
    assert_eq!(node.kids(), (next.clone().unwrap(), None));
    node.done(&["retire"]);
    assert_eq!(node.files("keys"), ["login1.pem"]);
    assert_eq!(node.files("jwks.d"), [format!("{}.json", next.unwrap())]);
}

#[test]
fn a_rotation_with_kids_names_the_next_key_in_the_configuration_and_keeps_its_comments() {
    let node = Node::new("rotating-name", Named::OwnName);
    let configuration = Daemon::configuration_of(&node.name);
    let before = fs::read_to_string(&configuration).unwrap();
    node.done(&["prepare"]);
    let (old, next) = node.kids();
    let next = next.unwrap();
    assert!(next.starts_with("login1-20") && next > old, "{next}");
    node.signed(&old, 1000);
    node.activate();
    let date = next.strip_prefix("login1").unwrap();
    let wanted = before.replace("{host}-2020-01", &format!("{{host}}{date}"));
    assert_eq!(fs::read_to_string(&configuration).unwrap(), wanted);
    node.done(&["retire"]);
    assert_eq!(node.files("keys"), [format!("{next}.pem")]);
    assert_eq!(node.files("jwks.d"), [format!("{next}.json")]);
}

#[test]
fn the_next_key_is_as_strong_as_the_present_one_and_belongs_to_the_same_user() {
    let node = Node::new("rotating-strong", Named::SameFile);
    let key = node.path("keys/login1.pem");
    fs::remove_file(&key).unwrap();
    let mut generate = Command::new("slurm-tokenctl");
    generate
        .args(["key", "generate", "--bits", "3072", "--out"])
        .arg(&key);
    stdout(generate.output().unwrap());
    chown(&key, Some(501), Some(501)).unwrap();
    node.done(&["prepare"]);
    let next = node.path("keys/login1.next.pem");
    let made = fs::metadata(&next).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o7777), (501, 0o400));
    let mut openssl = Command::new("openssl");
    openssl.args(["pkey", "-text", "-noout", "-in"]).arg(&next);
    assert!(stdout(openssl.output().unwrap()).contains("(3072 bit"));
}

#[test]
fn the_present_key_is_published_with_the_next_one() {
    let node = Node::new("rotating-publish", Named::SameFile);
    let (current, _) = node.kids();
    node.done(&["prepare"]);
    let (_, next) = node.kids();
    let mut wanted = [current, next.unwrap()].map(|kid| format!("{kid}.json"));
    wanted.sort();
    assert_eq!(node.files("jwks.d"), wanted);
    node.is_sound(Named::SameFile);
}

#[test]
fn preparing_twice_makes_one_key() {
    let node = Node::new("rotating-twice", Named::OwnName);
    node.done(&["prepare"]);
    let before = (node.files("keys"), node.kids());
    assert!(node.done(&["prepare"]).contains("there already"));
    assert_eq!((node.files("keys"), node.kids()), before);
}

#[test]
fn nothing_is_activated_without_proof_or_the_right_word() {
    let node = Node::new("rotating-word", Named::SameFile);
    node.done(&["prepare"]);
    let before = node.kids();
    let output = node.rotate(&["activate"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    let wrong = node.refused(&["activate", &format!("--confirm={}", before.0)]);
    assert!(wrong.contains("nothing was changed"), "{wrong}");
    assert_eq!(node.kids(), before);
}

#[test]
fn a_next_key_that_is_broken_or_readable_by_others_never_replaces_the_present_one() {
    let node = Node::new("rotating-broken", Named::SameFile);
    node.done(&["prepare"]);
    let (current, next) = node.kids();
    let file = node.path("keys/login1.next.pem");
    let confirm = format!("--confirm={}", next.unwrap());
    let whole = fs::read(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    assert!(node.refused(&["activate", &confirm]).contains("chmod"));
    fs::remove_file(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    node.refused(&["activate", &confirm]);
    fs::remove_file(&file).unwrap();
    assert_eq!(node.kids(), (current, None));
}

#[test]
fn an_unpublished_next_key_is_not_activated() {
    let node = Node::new("rotating-unpublished", Named::SameFile);
    node.done(&["prepare"]);
    let next = node.kids().1.unwrap();
    fs::remove_file(node.path("jwks.d").join(format!("{next}.json"))).unwrap();
    let confirm = format!("--confirm={next}");
    assert!(
        node.refused(&["activate", &confirm])
            .contains("is not published")
    );
    node.done(&["prepare"]);
    node.activate();
}

#[test]
fn a_key_whose_tokens_may_live_is_not_retired_and_it_is_said_until_when() {
    let node = Node::new("rotating-live", Named::SameFile);
    node.done(&["prepare"]);
    let (old, _) = node.kids();
    node.signed(&old, FAR);
    node.activate();
    let told = node.refused(&["retire"]);
    assert!(told.contains("until 2096-10-02 07:06:40 UTC"), "{told}");
    assert_eq!(node.files("jwks.d").len(), 2);
    node.done(&["retire", "--tokens-may-die"]);
    assert_eq!(node.files("jwks.d").len(), 1);
}

#[test]
fn a_key_of_which_nobody_knows_the_tokens_is_not_retired() {
    let node = Node::new("rotating-unknown", Named::SameFile);
    node.done(&["prepare"]);
    let (old, _) = node.kids();
    let record = format!("/var/lib/slurm-tokend-rotating-unknown/expiry-{old}.json");
    fs::write(&record, "{").unwrap();
    node.activate();
    let told = node.refused(&["retire"]);
    assert!(
        told.contains(&record) && told.contains("may still live"),
        "{told}"
    );
    let command = told.split("live any more: ").nth(1).unwrap();
    let command = command.split(';').next().unwrap();
    stdout(Command::new("sh").args(["-ec", command]).output().unwrap());
    // Nobody has a record of it any more: it counts as another node's.
    assert!(
        node.refused(&["retire", "--", &old])
            .contains("has signed here")
    );
}

#[test]
fn the_key_that_signs_is_never_retired() {
    let node = Node::new("rotating-present", Named::SameFile);
    node.done(&["prepare"]);
    let (current, _) = node.kids();
    node.signed(&current, 1000);
    let told = node.refused(&["retire", "--tokens-may-die", "--", &current]);
    assert!(told.contains("signs now"), "{told}");
    assert!(node.done(&["retire"]).contains("no old key"));
    assert_eq!(node.kids().0, current);
}

#[test]
fn keys_of_other_nodes_are_left_alone() {
    let node = Node::new("rotating-others", Named::SameFile);
    node.done(&["prepare"]);
    let (current, _) = node.kids();
    let other = node.path("jwks.d/login2.json");
    let set = fs::read_to_string(node.path("jwks.d").join(format!("{current}.json"))).unwrap();
    fs::write(&other, set.replace(&current, "login2")).unwrap();
    node.signed(&current, 1000);
    node.activate();
    node.done(&["retire"]);
    node.done(&["now", "--compromised"]);
    assert!(other.exists());
}

#[test]
fn a_compromised_key_is_gone_in_one_step_with_all_that_lay_beside_it() {
    for (name, named) in [
        ("rotating-now", Named::SameFile),
        ("rotating-now-name", Named::OwnName),
    ] {
        let node = Node::new(name, named);
        node.done(&["prepare"]);
        let (first, _) = node.kids();
        node.signed(&first, FAR);
        node.activate();
        node.done(&["prepare"]);
        let (second, third) = node.kids();
        let told = node.done(&["now", "--compromised"]);
        for kid in [&first, &second, &third.unwrap()] {
            assert!(told.contains(kid.as_str()), "{kid}: {told}");
        }
        assert!(
            told.contains("--drop-others") && told.contains("restart slurmctld"),
            "{told}"
        );
        let (new, next) = node.kids();
        assert_eq!(next, None);
        assert_eq!(node.files("jwks.d"), [format!("{new}.json")]);
        assert_eq!(node.files("keys").len(), 1, "{:?}", node.files("keys"));
        node.is_sound(named);
    }
}

#[test]
fn now_wants_to_hear_that_the_key_is_compromised() {
    let node = Node::new("rotating-consent", Named::SameFile);
    let before = fs::read(node.path("keys/login1.pem")).unwrap();
    assert_eq!(node.rotate(&["now"]).status.code(), Some(2));
    assert_eq!(fs::read(node.path("keys/login1.pem")).unwrap(), before);
}

#[test]
fn with_hs256_the_same_verbs_lead_through_the_hard_cut() {
    let node = Node::new("rotating-secret", Named::Secret);
    let told = node.done(&["prepare"]);
    assert!(
        told.contains("hard cut") && told.contains("JWT_KEY"),
        "{told}"
    );
    let next = fs::read(node.path("keys/login1.next.key")).unwrap();
    assert_eq!(next.len(), 32);
    let check = node.rotate(&[
        "activate",
        "--check",
        "/etc/slurm/slurm.conf",
        "--as",
        "alice",
    ]);
    assert_eq!(check.status.code(), Some(2));
    node.activate();
    assert_eq!(node.files("keys"), ["login1.key"]);
    assert_eq!(fs::read(node.path("keys/login1.key")).unwrap(), next);
    assert!(node.done(&["retire"]).contains("no old key"));
    node.done(&["now", "--compromised"]);
    assert_ne!(fs::read(node.path("keys/login1.key")).unwrap(), next);
}

#[test]
fn nodes_that_share_a_configuration_must_all_be_ready_before_it_names_new_keys() {
    let node = Node::new("rotating-shared", Named::OwnName);
    node.done(&["prepare"]);
    let (current, next) = node.kids();
    let publish_as = |kid: &str| {
        let set = fs::read_to_string(node.path("jwks.d").join(format!("{current}.json"))).unwrap();
        fs::write(
            node.path(&format!("jwks.d/{kid}.json")),
            set.replace(&current, kid),
        )
        .unwrap();
    };
    publish_as("login2-2020-01");
    let next = next.unwrap();
    let confirm = format!("--confirm={next}");
    let told = node.refused(&["activate", &confirm]);
    assert!(told.contains("login2"), "{told}");
    assert_eq!(node.kids().0, current);
    publish_as(&next.replace("login1", "login2"));
    node.activate();
}

#[test]
fn two_do_not_rotate_at_once() {
    let node = Node::new("rotating-two", Named::SameFile);
    let lock = "/var/lib/slurm-tokend-rotating-two/rotation.lock";
    let file = fs::File::create(lock).unwrap();
    file.lock().unwrap();
    for words in [&["prepare"][..], &["now", "--compromised"]] {
        let told = node.refused(words);
        assert!(told.contains("locked by another program"), "{told}");
    }
    assert_eq!(node.files("keys"), ["login1.pem"]);
    node.done(&["status"]);
    file.unlock().unwrap();
    node.done(&["prepare"]);
}

#[test]
fn a_compromised_secret_is_replaced_where_the_next_one_is_prepared() {
    let node = Node::new("rotating-now-secret", Named::Secret);
    let before = fs::read(node.path("keys/login1.key")).unwrap();
    node.done(&["prepare"]);
    let prepared = fs::read(node.path("keys/login1.next.key")).unwrap();
    node.done(&["now", "--compromised"]);
    assert_eq!(node.files("keys"), ["login1.key"]);
    let new = fs::read(node.path("keys/login1.key")).unwrap();
    assert!(new != before && new != prepared);
}
