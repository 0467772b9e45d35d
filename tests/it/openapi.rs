//! The `OpenAPI` document says what the door does: schemathesis makes up
//! requests of it, good and bad ones, and compares each answer.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use slurm_tokend::wire::Code;

use crate::node::{ALICE, Daemon, User, generate_key, stdout, until};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/openapi.yaml");

/// A door with room for all that comes, and what its peers may have.
static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let key = generate_key("RS256", "openapi.pem");
    let tables = format!(
        "[http]
         socket = \"{}\"
         proxies = [\"www-data\"]
         [token]
         identity_claims = true
         issuer = \"login1\"
         audience = \"slurm\"
         [[policy.delegate]]
         caller = \"portal\"
         for_groups = [\"hpcusers\"]
         http = true
         [limits]
         tokens_per_minute = 1000000
         burst = 1000000",
        door().display()
    );
    Daemon::with("openapi", "RS256", &key, "", &tables)
});

fn door() -> PathBuf {
    Daemon::socket_of("openapi").with_file_name("http.sock")
}

const ADMIN: User = User {
    name: "admin",
    uid: 2003,
};
const PORTAL: User = User {
    name: "portal",
    uid: 500,
};
const PROXY: User = User {
    name: "www-data",
    uid: 33,
};

/// What tests/packages installs below the target directory.
fn program(name: &str) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    Command::new(target.join("openapi/bin").join(name))
}

/// The door by TCP, which schemathesis speaks: those who come by it are the
/// user to the daemon.
struct Relay {
    child: Child,
    url: String,
}

impl Relay {
    fn start(user: &User, port: u16) -> Self {
        LazyLock::force(&DAEMON);
        let child = user
            .runs("socat")
            .arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"))
            .arg(format!("UNIX-CONNECT:{}", door().display()))
            .spawn()
            .unwrap();
        until("socat to listen", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries the door as this user, with these options of schemathesis.
fn tried(user: &User, port: u16, document: &Path, token: Option<&str>, options: &[&str]) -> Output {
    let relay = Relay::start(user, port);
    let place = tempfile::tempdir().unwrap();
    let authorized = token.map_or(String::new(), |token| {
        format!("[headers]\nAuthorization = \"Bearer {token}\"\n")
    });
    // By a file: a token in argv would be for everybody to read.
    fs::write(place.path().join("schemathesis.toml"), authorized).unwrap();
    program("schemathesis")
        .arg("run")
        .arg(document)
        .args(["--url", &relay.url])
        .args(["--checks", "all", "--mode", "all"])
        .args([
            "--max-examples",
            "30",
            "--seed",
            "1",
            "--generation-database",
            "none",
        ])
        .args(["--continue-on-failure", "--no-color", "--warnings", "off"])
        .args(options)
        .current_dir(place.path())
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", place.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn assert_as_documented(user: &User, port: u16, token: Option<&str>, options: &[&str]) {
    let output = tried(user, port, Path::new(DOCUMENT), token, options);
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}{why}", output.status);
}

#[test]
fn it_is_a_document_of_openapi_3_1() {
    let output = program("openapi-spec-validator")
        .args(["--schema", "3.1", DOCUMENT])
        .output();
    assert!(stdout(output.unwrap()).ends_with("OK\n"));
}

/// The document with what Python's `yaml` reads of it.
static READ: LazyLock<Value> = LazyLock::new(|| {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let read = program("python").args(["-c", script, DOCUMENT]).output();
    serde_json::from_str(&stdout(read.unwrap())).unwrap()
});

/// The strings in a list of the document.
fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap();
    list.iter().map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn its_codes_are_the_daemons_without_those_of_the_line_protocol() {
    let mut codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    codes.retain(|code| *code != "unsupported_version");
    codes.sort_unstable();
    let mut told = strings(&READ["components"]["schemas"]["Code"]["enum"]);
    told.sort_unstable();
    assert_eq!(told, codes);
}

#[test]
fn each_of_its_codes_has_a_status() {
    let mut found = Vec::new();
    for (name, response) in READ["components"]["responses"].as_object().unwrap() {
        let schema = &response["content"]["application/json"]["schema"];
        if schema["$ref"] == "#/components/schemas/Refusal" {
            let codes = strings(&schema["properties"]["code"]["enum"]);
            assert!(!codes.is_empty(), "{name}");
            found.extend(codes);
        }
    }
    found.sort_unstable();
    found.dedup();
    let mut all = strings(&READ["components"]["schemas"]["Code"]["enum"]);
    // Said of a path or a method that the document doesn't have.
    all.retain(|code| *code != "unknown_operation");
    all.sort_unstable();
    assert_eq!(found, all);
}

/// Those who bring a token don't ask for one by their socket.
const WITH_A_TOKEN: [&str; 2] = ["--exclude-path", "/authenticate"];

#[test]
fn the_door_answers_a_user_as_it_says() {
    assert_as_documented(&ALICE, 9001, None, &[]);
    let token = DAEMON.client(&ALICE, &["--lifespan=max", "--format=raw"]);
    assert_as_documented(&ALICE, 9002, Some(&token), &WITH_A_TOKEN);
}

#[test]
fn the_door_answers_a_proxy_as_it_says() {
    assert_as_documented(&PROXY, 9003, None, &[]);
    let token = DAEMON.client(&ALICE, &["--lifespan=max", "--format=raw"]);
    assert_as_documented(&PROXY, 9004, Some(&token), &WITH_A_TOKEN);
}

#[test]
fn the_door_answers_a_service_as_it_says() {
    assert_as_documented(&PORTAL, 9005, None, &[]);
    let token = DAEMON.client(&PORTAL, &["--for=alice", "--format=raw"]);
    assert_as_documented(&PORTAL, 9006, Some(&token), &WITH_A_TOKEN);
}

#[test]
fn the_door_answers_an_administrator_as_it_says() {
    assert_as_documented(&ADMIN, 9007, None, &[]);
}

#[test]
fn a_door_that_does_otherwise_is_found_out() {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("openapi.yaml");
    for (from, to, found) in [
        ("const: ok }", "const: well }", "Response violates schema"),
        ("const: no-store }", "const: no-cache }", "Response header"),
        (
            "application/json:\n          schema: { $ref: \"#/components/schemas/Alive\" }",
            "text/plain:\n          schema: { type: string }",
            "Undocumented Content-Type",
        ),
        (
            "\"200\": { $ref: \"#/components/responses/Alive\" }",
            "\"204\": { description: Alive. }",
            "Undocumented status code",
        ),
    ] {
        assert!(document.contains(from), "{from}");
        fs::write(&file, document.replace(from, to)).unwrap();
        let only = ["--include-path", "/healthz", "--max-examples", "3"];
        let output = tried(&ALICE, 9008, &file, None, &only);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{to}: {said}");
        assert!(said.contains(found), "{to}: {said}");
    }
}
