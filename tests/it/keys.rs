//! What slurm-tokenctl does with keys and sets of them, judged by openssl and
//! Python.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// The members of a JWKS entry, all that every release of Slurm needs.
const MEMBERS: [&str; 6] = ["kty", "kid", "use", "alg", "n", "e"];

/// RFC 7638 section 3.1 in Python, on its own reading of the key.
const THUMBPRINT: &str = r#"
import base64, hashlib, json, re, subprocess, sys
text = subprocess.check_output(
    ["openssl", "rsa", "-in", sys.argv[1], "-noout", "-modulus", "-text"], text=True)
def b64(number):
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
n = int(re.search(r"^Modulus=(\w+)", text, re.M)[1], 16)
e = int(re.search(r"^publicExponent: (\d+)", text, re.M)[1])
members = {"e": b64(e), "kty": "RSA", "n": b64(n)}
canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
digest = hashlib.sha256(canonical.encode()).digest()
print(base64.urlsafe_b64encode(digest).rstrip(b"=").decode())
"#;

/// A directory of keys.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With an RSA key of openssl's making in each of these files.
    fn with(names: &[&str]) -> Self {
        let keys = Self::new();
        for name in names {
            done(
                Command::new("openssl")
                    .args(["genrsa", "-out"])
                    .arg(keys.path(name)),
            );
            keys.mode(name, 0o400);
        }
        keys
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Runs slurm-tokenctl in the directory.
    fn ctl(&self, args: &str) -> Output {
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_slurm-tokenctl"));
        ctl.args(args.split(' ')).current_dir(self.0.path());
        ctl.output().unwrap()
    }

    /// What it prints where it succeeds.
    fn prints(&self, args: &str) -> String {
        let output = self.ctl(args);
        assert!(output.status.success(), "{args}: {}", words(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The set that it prints.
    fn set(&self, args: &str) -> Vec<Value> {
        let set: Value = serde_json::from_str(&self.prints(args)).unwrap();
        set["keys"].as_array().unwrap().clone()
    }

    /// The words with which it fails, printing nothing else.
    fn fails(&self, args: &str) -> String {
        let output = self.ctl(args);
        let words = words(&output);
        assert_eq!(output.status.code(), Some(1), "{args}: {words}");
        assert!(output.stdout.is_empty(), "{args}");
        words
    }

    fn openssl(&self, args: &str) -> String {
        let mut openssl = Command::new("openssl");
        done(openssl.args(args.split(' ')).current_dir(self.0.path()))
    }
}

fn words(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", words(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn kids(set: &[Value]) -> Vec<&str> {
    set.iter().map(|jwk| jwk["kid"].as_str().unwrap()).collect()
}

#[test]
fn openssl_finds_no_fault_in_a_key_of_ours() {
    let keys = Keys::new();
    keys.prints("key generate --alg RS256 --out key.pem");
    assert!(
        keys.openssl("pkey -in key.pem -check -noout")
            .contains("Key is valid")
    );
    assert!(
        keys.read("key.pem")
            .starts_with(b"-----BEGIN PRIVATE KEY-----\n")
    );
    assert!(
        keys.openssl("rsa -in key.pem -text -noout")
            .contains("(2048 bit, 2 primes)")
    );
}

#[test]
fn a_key_has_as_many_bits_as_asked_for() {
    let keys = Keys::new();
    keys.prints("key generate --bits 3072 --out key.pem");
    assert!(
        keys.openssl("rsa -in key.pem -text -noout")
            .contains("(3072 bit, 2 primes)")
    );
    keys.prints("key generate --alg HS256 --bits 512 --out long.key");
    assert_eq!(keys.read("long.key").len(), 64);
    keys.prints("key generate --alg HS256 --out short.key");
    assert_eq!(keys.read("short.key").len(), 32);
}

#[test]
fn no_two_keys_are_the_same() {
    let keys = Keys::new();
    keys.prints("key generate --alg HS256 --out one.key");
    keys.prints("key generate --alg HS256 --out other.key");
    assert_ne!(keys.read("one.key"), keys.read("other.key"));
}

#[test]
fn a_new_key_can_be_read_by_its_owner_only() {
    for alg in ["RS256", "HS256"] {
        let keys = Keys::new();
        keys.prints(&format!("key generate --alg {alg} --out key"));
        let made = fs::metadata(keys.path("key")).unwrap();
        let own = fs::metadata(keys.0.path()).unwrap().uid();
        assert_eq!((made.mode() & 0o7777, made.uid()), (0o400, own));
    }
}

#[test]
fn generate_tells_the_kid_and_no_part_of_the_key() {
    let keys = Keys::new();
    let output = keys.ctl("key generate --out key.pem");
    assert!(output.stdout.is_empty());
    let words = words(&output);
    assert!(
        words.contains(keys.prints("key kid key.pem").trim_end()),
        "{words}"
    );
    let pem = String::from_utf8(keys.read("key.pem")).unwrap();
    assert!(!pem.lines().any(|line| words.contains(line)), "{words}");
}

#[test]
fn what_generate_says_comes_next_can_be_done() {
    let keys = Keys::new();
    let told = words(&keys.ctl("key generate --out key.pem"));
    fs::create_dir(keys.path("jwks.d")).unwrap();
    let commands = told
        .lines()
        .filter_map(|line| line.strip_prefix("  slurm-tokenctl "));
    let commands: Vec<_> = commands
        .map(|line| line.replace("/etc/slurm/", "./"))
        .collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        keys.prints(&command);
    }
    let kid = keys.prints("key kid key.pem");
    assert_eq!(keys.json("jwks.json")["keys"][0]["kid"], kid.trim_end());
}

#[test]
fn a_file_that_exists_is_never_overwritten_by_a_key() {
    for alg in ["RS256", "HS256"] {
        let keys = Keys::new();
        keys.put("key", "old");
        let told = keys.fails(&format!("key generate --alg {alg} --out key"));
        assert!(told.contains("exists"), "{told}");
        assert_eq!(keys.read("key"), b"old");
    }
}

#[test]
fn no_key_is_made_where_others_could_replace_it() {
    let keys = Keys::new();
    fs::create_dir(keys.path("shared")).unwrap();
    keys.mode("shared", 0o777);
    let told = keys.fails("key generate --out shared/key.pem");
    assert!(told.contains("chmod go-w"), "{told}");
    assert_eq!(fs::read_dir(keys.path("shared")).unwrap().count(), 0);
}

#[test]
fn wrong_usage_exits_with_2_and_makes_nothing() {
    let keys = Keys::new();
    for args in [
        "key",
        "key generate",
        "key generate --alg ES256 --out key",
        "key generate --bits 1024 --out key",
        "key generate --bits 8192 --out key",
        "key generate --alg HS256 --bits 128 --out key",
        "key generate --alg HS256 --bits 257 --out key",
        "jwks build",
        "jwks merge",
        "jwks lint",
        "jwks build --kid a/b key",
        "jwks build --kid a one two",
        "jwks build --kid a --kid-from-name key",
        "jwks build --drop-others key",
    ] {
        let output = keys.ctl(args);
        assert_eq!(output.status.code(), Some(2), "{args}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{args}"
        );
    }
    assert_eq!(fs::read_dir(keys.0.path()).unwrap().count(), 0);
}

#[test]
fn help_and_version_exit_with_0() {
    let keys = Keys::new();
    assert!(keys.prints("--help").contains("slurm-tokenctl"));
    assert!(keys.prints("--version").contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_kid_is_the_thumbprint_that_python_computes() {
    let keys = Keys::with(&["key.pem"]);
    let mut python = Command::new("python3");
    let thumbprint = done(python.args(["-c", THUMBPRINT]).arg(keys.path("key.pem")));
    assert_eq!(keys.prints("key kid key.pem"), thumbprint);
}

#[test]
fn the_public_half_is_the_one_that_openssl_takes() {
    let keys = Keys::with(&["key.pem"]);
    assert_eq!(
        keys.prints("key public key.pem"),
        keys.openssl("pkey -in key.pem -pubout")
    );
}

#[test]
fn private_and_public_halves_and_a_certificate_give_the_same_entry() {
    let keys = Keys::with(&["key.pem"]);
    keys.openssl("pkey -in key.pem -pubout -out public.pem");
    keys.openssl("req -x509 -key key.pem -subj /CN=login1 -out certificate.pem");
    let jwk = keys.prints("key jwk key.pem");
    assert_eq!(keys.prints("key jwk public.pem"), jwk);
    assert_eq!(keys.prints("key jwk certificate.pem"), jwk);
}

#[test]
fn an_entry_has_exactly_the_members_that_slurm_needs() {
    let keys = Keys::with(&["key.pem"]);
    let set = keys.set("jwks build key.pem");
    let entry = set[0].as_object().unwrap();
    assert_eq!(entry.len(), MEMBERS.len());
    assert!(
        MEMBERS.iter().all(|member| entry[*member].is_string()),
        "{entry:?}"
    );
    let fixed = ["kty", "use", "alg", "e"].map(|member| entry[member].as_str().unwrap());
    assert_eq!(fixed, ["RSA", "sig", "RS256", "AQAB"]);
    assert_eq!(
        set,
        [serde_json::from_str::<Value>(&keys.prints("key jwk key.pem")).unwrap()]
    );
}

#[test]
fn an_entry_is_named_as_asked() {
    let keys = Keys::with(&["login1.pem"]);
    let thumbprint = keys.prints("key kid login1.pem");
    assert_eq!(
        kids(&keys.set("jwks build login1.pem")),
        [thumbprint.trim_end()]
    );
    assert_eq!(
        kids(&keys.set("jwks build --kid-from-name login1.pem")),
        ["login1"]
    );
    assert_eq!(
        kids(&keys.set("jwks build --kid other login1.pem")),
        ["other"]
    );
}

#[test]
fn a_kid_other_than_the_files_name_is_pointed_out() {
    let keys = Keys::with(&["login1.pem"]);
    let told = words(&keys.ctl("jwks build login1.pem"));
    let thumbprint = keys.prints("key kid login1.pem");
    let kid = thumbprint.trim_end();
    assert!(
        told.contains(&format!("login1.pem: its kid here is {kid};")),
        "{told}"
    );
    assert_eq!(
        words(&keys.ctl("jwks build --kid-from-name login1.pem")),
        ""
    );
}

#[test]
fn with_the_daemons_configuration_the_kid_is_that_of_its_tokens() {
    let keys = Keys::with(&["login1.pem"]);
    let key = keys.path("login1.pem");
    let named = format!("[signing]\nkey = {key:?}\nalgorithm = \"RS256\"\n");
    keys.put("unnamed.toml", &named);
    keys.put("named.toml", &format!("{named}kid = \"login1-2026-11\"\n"));
    let thumbprint = keys.prints("key kid login1.pem");
    assert_eq!(
        kids(&keys.set("jwks build --config unnamed.toml")),
        [thumbprint.trim_end()]
    );
    assert_eq!(
        kids(&keys.set("jwks build --config named.toml")),
        ["login1-2026-11"]
    );
}

#[test]
fn a_directory_gives_its_pem_files_and_nothing_that_a_crash_left() {
    let keys = Keys::with(&["b.pem", "a.pem", ".c.pem.unfinished-0", ".d.pem"]);
    keys.put("e.key", "0123456789abcdef0123456789abcdef");
    keys.put("notes", "");
    fs::create_dir(keys.path("old.pem")).unwrap();
    assert_eq!(kids(&keys.set("jwks build --kid-from-name .")), ["a", "b"]);
    let told = words(&keys.ctl("jwks build --kid-from-name ."));
    for (name, why) in [
        (".c.pem.unfinished-0", "a crash left this unfinished file"),
        (".d.pem", "this file is hidden"),
        ("e.key", "an HS256 key has no public half"),
        ("notes", "its name ends otherwise"),
        ("old.pem", "this is a directory"),
    ] {
        assert!(told.contains(&format!("./{name}: {why}")), "{told}");
    }
    assert_eq!(told.lines().count(), 5, "{told}");
    fs::create_dir(keys.path("empty")).unwrap();
    assert!(
        keys.fails("jwks build empty")
            .contains("no *.pem or *.jwk file")
    );
}

#[test]
fn all_bad_keys_are_named_at_once_and_nothing_is_written() {
    let keys = Keys::with(&["a.pem", "b.pem", "good.pem"]);
    keys.mode("a.pem", 0o444);
    keys.openssl("pkey -in b.pem -aes256 -passout pass:secret -out c.pem");
    let told = keys.fails("jwks build . --out jwks.json");
    assert!(told.contains("a.pem: its mode 0444"), "{told}");
    assert!(
        told.contains("c.pem: this private key is encrypted"),
        "{told}"
    );
    assert!(!keys.path("jwks.json").exists());
}

#[test]
fn an_hs256_key_has_no_public_half() {
    let keys = Keys::new();
    keys.prints("key generate --alg HS256 --out login1.key");
    for command in ["kid", "public", "jwk"] {
        let told = keys.fails(&format!("key {command} login1.key"));
        assert!(told.contains("an HS256 key has no public half"), "{told}");
    }
}

#[test]
fn sets_are_joined_and_an_entry_in_two_of_them_is_there_once() {
    let keys = Keys::with(&["a.pem", "b.pem", "c.pem"]);
    fs::create_dir(keys.path("jwks.d")).unwrap();
    keys.prints("jwks build --kid-from-name a.pem b.pem --out jwks.d/1.json");
    keys.prints("jwks build --kid-from-name b.pem c.pem --out jwks.d/2.json");
    assert_eq!(kids(&keys.set("jwks merge jwks.d")), ["a", "b", "c"]);
    assert_eq!(
        kids(&keys.set("jwks merge jwks.d/2.json jwks.d/1.json")),
        ["b", "c", "a"]
    );
}

#[test]
fn two_keys_of_one_kid_are_not_joined() {
    let keys = Keys::with(&["a.pem", "b.pem"]);
    keys.prints("jwks build --kid login1 a.pem --out a.json");
    keys.prints("jwks build --kid login1 b.pem --out b.json");
    let told = keys.fails("jwks merge a.json b.json");
    assert!(
        told.contains("b.json: two different keys have the kid \"login1\""),
        "{told}"
    );
}

#[test]
fn a_set_with_a_private_part_is_refused_with_the_advice_to_replace_the_key() {
    let keys = Keys::with(&["a.pem"]);
    let mut set = json!({ "keys": keys.set("jwks build a.pem") });
    set["keys"][0]["d"] = json!("cHJpdmF0ZQ");
    keys.put("private.json", &set.to_string());
    let told = keys.fails("jwks merge private.json --out jwks.json");
    assert!(
        told.contains("replace it (slurm-tokenctl key generate)"),
        "{told}"
    );
    assert!(!told.contains("cHJpdmF0ZQ"), "{told}");
    assert!(!keys.path("jwks.json").exists());
}

#[test]
fn a_set_is_replaced_by_rename_readable_by_all_and_writable_by_its_owner_only() {
    let keys = Keys::with(&["a.pem", "b.pem"]);
    keys.prints("jwks build a.pem --out jwks.json");
    let old = fs::metadata(keys.path("jwks.json")).unwrap();
    keys.prints("jwks build a.pem b.pem --out jwks.json");
    let new = fs::metadata(keys.path("jwks.json")).unwrap();
    assert_ne!(old.ino(), new.ino());
    assert_eq!(new.mode() & 0o7777, 0o644);
    assert_eq!(keys.json("jwks.json")["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn keys_in_the_set_that_is_there_are_not_lost_unless_that_is_asked_for() {
    let keys = Keys::with(&["a.pem", "b.pem"]);
    keys.prints("jwks build --kid-from-name a.pem --out jwks.json");
    let told = keys.fails("jwks build --kid-from-name b.pem --out jwks.json");
    assert!(
        told.contains("1 of its keys would be lost, \"a\" the first"),
        "{told}"
    );
    assert_eq!(keys.json("jwks.json")["keys"][0]["kid"], "a");
    keys.prints("jwks build --kid-from-name b.pem --out jwks.json --drop-others");
    assert_eq!(keys.json("jwks.json")["keys"][0]["kid"], "b");
}

#[test]
fn lint_finds_nothing_in_a_set_of_ours() {
    let keys = Keys::with(&["a.pem"]);
    keys.prints("jwks build --kid-from-name a.pem --out jwks.json");
    assert_eq!(
        keys.prints("jwks lint jwks.json"),
        "jwks.json: key \"a\": Slurm 22.05 accepts it, 26.05 accepts it\n"
    );
}

#[test]
fn lint_tells_its_findings_and_exits_with_1() {
    let keys = Keys::with(&["a.pem"]);
    keys.prints("jwks build --kid-from-name a.pem --out jwks.json");
    keys.mode("jwks.json", 0o646);
    let output = keys.ctl("jwks lint jwks.json");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(
        told.contains("26.05 dies of it: its mode 0646 lets everybody"),
        "{told}"
    );
}

#[test]
fn lint_tells_programs_the_same() {
    let keys = Keys::with(&["a.pem"]);
    keys.prints("jwks build --kid-from-name a.pem --out jwks.json");
    let told: Value = serde_json::from_str(&keys.prints("jwks lint --json jwks.json")).unwrap();
    let verdict = json!({
        "subject": "key \"a\"",
        "slurm_22_05": "accepts it",
        "slurm_26_05": "accepts it",
        "finding": null,
    });
    assert_eq!(told, json!({ "accepted": true, "verdicts": [verdict] }));
    keys.mode("jwks.json", 0o646);
    let output = keys.ctl("jwks lint --json jwks.json");
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["accepted"], false);
    let finding = &told["verdicts"][1]["finding"];
    assert!(finding["what"].as_str().unwrap().contains("0646"), "{told}");
    assert_eq!(finding["mend"], "chmod go-w FILE");
}

#[test]
fn a_key_of_the_daemons_account_is_read_and_nobody_elses() {
    let keys = Keys::with(&["a.pem"]);
    let (daemon, alice) = (501, 2001);
    chown(keys.path("a.pem"), Some(daemon), Some(daemon)).unwrap();
    keys.prints("key kid a.pem");
    keys.prints("key jwk a.pem --private --out a.jwk");
    keys.prints("jwks build a.pem --out jwks.json");
    chown(keys.path("a.pem"), Some(alice), Some(alice)).unwrap();
    assert!(keys.fails("jwks build a.pem").contains("chown"));
}

#[test]
fn lint_of_a_file_that_is_not_there_is_a_failure() {
    assert!(
        Keys::new()
            .fails("jwks lint jwks.json")
            .contains("it can't be read")
    );
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let keys = Keys::with(&["a.pem"]);
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_slurm-tokenctl"));
    ctl.args([
        OsStr::new("jwks"),
        OsStr::new("build"),
        keys.path("a.pem").as_os_str(),
    ]);
    let full = fs::File::options()
        .write(true)
        .open(Path::new("/dev/full"))
        .unwrap();
    assert_eq!(ctl.stdout(full).output().unwrap().status.code(), Some(1));
}
