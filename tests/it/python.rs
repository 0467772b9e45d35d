//! The Python module as its users meet it: installed by pip, with real daemons,
//! and with requests and httpx against the real slurmrestd.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::thread;

use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use serde_json::Value;

use crate::node::{ALICE, BOB, Daemon, User, generate_key, stdout};
use crate::slurm::RS256;

const README: &str = include_str!("../../packaging/python/README.md");

/// Debian's Python with the module, installed from a copy of the checkout as
/// the README says.
static PYTHON: LazyLock<String> = LazyLock::new(|| {
    let home = "/tmp/python";
    let (install, _) = README
        .split_once("```console\n$ ")
        .and_then(|(_, rest)| rest.split_once('\n'))
        .unwrap();
    let script = format!(
        "mkdir -p {home}/checkout/packaging
         cp -r packaging/python {home}/checkout/packaging
         /usr/bin/python3 -m venv --system-site-packages {home}/venv
         . {home}/venv/bin/activate
         cd {home}/checkout
         {install}"
    );
    let mut sh = Command::new("sh");
    sh.args(["-ec", &script])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    stdout(sh.output().unwrap());
    format!("{home}/venv/bin/python")
});

/// A daemon that lets the portal ask for users.
static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let key = generate_key("HS256", "python.key");
    let tables = "[[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"hpcusers\"]";
    Daemon::with("python", "HS256", &key, "", tables)
});

/// Python for this user, with this daemon.
fn python(user: &User, socket: &Path) -> Command {
    let mut command = user.runs(&PYTHON);
    command
        .env("SLURM_TOKEND_SOCKET", socket)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// What the user's script prints.
fn prints(user: &User, script: &str) -> String {
    let mut command = python(user, DAEMON.socket());
    stdout(command.args(["-c", script]).output().unwrap())
}

/// What alice's script prints that calls the real slurmrestd.
fn prints_with_slurm(script: &str) -> String {
    let mut command = python(&ALICE, RS256.daemon.socket());
    command
        .args(["-c", script])
        .env("URL", RS256.bed.url())
        .env("API", RS256.bed.api());
    stdout(command.output().unwrap())
}

// The module itself.

#[test]
fn it_passes_its_own_tests() {
    let mut command = python(&ALICE, DAEMON.socket());
    command
        .args(["-W", "error::ResourceWarning", "-m", "unittest"])
        .args(["discover", "-s", "tests"])
        .current_dir("/tmp/python/checkout/packaging/python");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let (_, ran) = said.rsplit_once("Ran ").unwrap();
    let (count, _) = ran.split_once(' ').unwrap();
    assert!(count.parse::<u32>().unwrap() > 70, "{said}");
}

#[test]
fn it_is_written_for_the_python_of_el_8() {
    let read = prints(
        &ALICE,
        "import ast, pathlib, slurm_token
files = list(pathlib.Path(slurm_token.__file__).parent.glob('*.py'))
for file in files:
    ast.parse(file.read_text(), feature_version=(3, 6))
print(len(files))",
    );
    assert_eq!(read, "7\n");
}

#[test]
fn it_is_of_the_programs_version() {
    let version = prints(
        &ALICE,
        "import importlib.metadata as m; print(m.version('slurm-token'))",
    );
    assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn it_needs_nothing_but_the_standard_library() {
    // Isolated from the system's modules, and from what a venv may see of them.
    let script = "
import glob, sys
sys.path.append(glob.glob('/tmp/python/venv/lib/python3*/site-packages')[0])
import slurm_token
print(slurm_token.get().user, [m for m in ('requests', 'httpx') if m in sys.modules])";
    LazyLock::force(&PYTHON);
    let mut command = ALICE.runs("/usr/bin/python3");
    command
        .args(["-I", "-S", "-c", script])
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    assert_eq!(stdout(command.output().unwrap()), "alice []\n");
}

// Its daemon.

#[test]
fn a_token_is_for_the_user_who_runs_the_process() {
    for user in [ALICE, BOB] {
        let said = prints(
            &user,
            "import slurm_token, json
token = slurm_token.get(lifespan='10m')
print(json.dumps([token.user, token.kid, len(token.jti), token.token, token.expires_at]))",
        );
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said[0], user.name);
        assert_eq!((&said[1], &said[2]), (&"python".into(), &32.into()));
        let jwt = crate::jwt::Jwt::read(said[3].as_str().unwrap());
        assert_eq!(jwt.claims["sun"], user.name);
        assert_eq!(jwt.claims["exp"], said[4]);
        let life = jwt.claims["exp"].as_i64().unwrap() - jwt.claims["iat"].as_i64().unwrap();
        assert_eq!(life, 600);
    }
}

#[test]
fn a_service_asks_for_the_users_it_serves() {
    let portal = User {
        name: "portal",
        uid: 500,
    };
    let user = prints(
        &portal,
        "import slurm_token; print(slurm_token.get(for_user='bob').user)",
    );
    assert_eq!(user, "bob\n");
}

#[test]
fn a_cluster_has_a_daemon_of_its_own() {
    LazyLock::force(&DAEMON);
    let mut command = python(&ALICE, Path::new("/nonexistent"));
    let script = "import slurm_token; print(slurm_token.get(cluster='python').kid)";
    let said = command.args(["-c", script]).output().unwrap();
    assert_eq!(stdout(said), "python\n");
}

/// The kind, code and numbers of the error that a call raises, and its words.
fn raises(user: &User, socket: &Path, call: &str) -> (String, String) {
    let script = format!(
        "import slurm_token
try:
    slurm_token.{call}
except slurm_token.Error as error:
    print(type(error).__name__, error.code, error.retry_after, error.max_lifespan)
    print(error)"
    );
    let said = stdout(python(user, socket).args(["-c", &script]).output().unwrap());
    let (kind, words) = said.split_once('\n').unwrap();
    (kind.to_owned(), words.to_owned())
}

#[test]
fn what_the_daemon_refuses_is_told_with_its_code_and_what_to_do() {
    for (call, kind, words) in [
        (
            "get('30d')",
            "Refused lifespan_too_long None 43200",
            "Ask for less",
        ),
        (
            "get('infinite')",
            "Refused bad_lifespan None None",
            "Give seconds",
        ),
        ("get(-5)", "Refused bad_lifespan None None", "Give seconds"),
        (
            "get(for_user='bob')",
            "Refused not_allowed None None",
            "whoami",
        ),
    ] {
        let (told, said) = raises(&ALICE, DAEMON.socket(), call);
        assert_eq!(told, kind, "{call}");
        assert!(said.contains(words), "{call}: {said}");
    }
}

#[test]
fn a_daemon_that_is_not_there_is_told_with_what_to_do() {
    for (socket, words) in [
        (
            "/run/slurm-tokend-nowhere/slurm-tokend.sock",
            "systemctl start slurm-tokend@nowhere.socket",
        ),
        ("/tmp/nowhere", "no daemon runs here"),
        ("/etc/passwd", "you may not connect"),
        (&format!("/{}", "x".repeat(200)), "at most 107 bytes"),
    ] {
        let (told, said) = raises(&ALICE, Path::new(socket), "get()");
        assert_eq!(told, "NotReached not_reached None None");
        assert!(said.contains(words), "{said}");
    }
}

fn directory(path: &str, owner: u32, mode: u32) -> PathBuf {
    fs::create_dir(path).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    path.into()
}

/// A listener of that uid's, to whom everybody may connect.
fn listener(uid: u32, socket: &Path) -> UnixListener {
    let path = socket.to_owned();
    // The kernel takes it from the thread that calls listen(2).
    let bound = thread::spawn(move || {
        set_thread_res_uid(None, Uid::from_raw(uid), None).unwrap();
        UnixListener::bind(path).unwrap()
    });
    let listener = bound.join().unwrap();
    fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
    listener
}

#[test]
fn a_socket_that_another_user_laid_out_is_told_nothing() {
    directory("/run/python-of-all", 0, 0o1777);
    for directory in [
        directory("/tmp/python-of-bob", BOB.uid, 0o755),
        directory("/run/python-of-root", 0, 0o777),
        directory("/run/python-of-all/of-bob", BOB.uid, 0o755),
    ] {
        let socket = directory.join("s");
        let trap = listener(BOB.uid, &socket);
        let (told, said) = raises(&ALICE, &socket, "get()");
        assert_eq!(told, "NotReached not_reached None None");
        assert!(said.contains("the listener is uid 2002"), "{said}");
        let mut heard = Vec::new();
        trap.accept().unwrap().0.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"", "{}", directory.display());
    }
}

#[test]
fn the_owner_of_a_directory_that_root_made_is_trusted() {
    let socket = directory("/run/python-of-a-service", 501, 0o755).join("s");
    let service = listener(501, &socket);
    let asked = thread::spawn(move || {
        let mut heard = Vec::new();
        for _ in 0..2 {
            service.accept().unwrap().0.read_to_end(&mut heard).unwrap();
        }
        heard
    });
    let (told, said) = raises(&ALICE, &socket, "get()");
    assert_eq!(told, "NotReached not_reached None None");
    assert!(said.contains("closed the connection twice"), "{said}");
    let line = b"{\"v\":1,\"op\":\"issue\"}\n";
    assert_eq!(asked.join().unwrap(), [&line[..], line].concat());
}

#[test]
fn the_environment_of_another_user_names_no_socket() {
    LazyLock::force(&PYTHON);
    let chosen = |real: &str| {
        let mut command = Command::new("setpriv");
        command
            .args(["--ruid", real, "--euid", "alice", "--clear-groups"])
            .arg(&*PYTHON)
            .args([
                "-c",
                "from slurm_token import _daemon; print(_daemon.choose(None, None))",
            ])
            .env("SLURM_TOKEND_SOCKET", "/tmp/theirs");
        stdout(command.output().unwrap())
    };
    assert_eq!(chosen("alice"), "/tmp/theirs\n");
    assert_eq!(chosen("bob"), "/run/slurm-tokend/slurm-tokend.sock\n");
}

#[test]
fn many_threads_share_one_token() {
    let tokens = prints(
        &ALICE,
        "import slurm_token
from concurrent.futures import ThreadPoolExecutor
auth = slurm_token.Auth()
with ThreadPoolExecutor(32) as pool:
    found = pool.map(lambda _: auth.headers('https://slurm.example')['X-SLURM-USER-TOKEN'], range(500))
print(len(set(found)))",
    );
    assert_eq!(tokens, "1\n");
}

// Slurm.

/// One session each of requests, httpx and httpx in an event loop, all with
/// tokens that live for 2 s; and a call with a token of one's own.
const SESSIONS: &str = "
import asyncio, os, time, urllib.error, urllib.request
import httpx, requests
import slurm_token, slurm_token.httpx

url = '{}/slurm/{}'.format(os.environ['URL'], os.environ['API'])
job = {
    'script': '#!/bin/sh\\nid -un\\n',
    'job': {
        'current_working_directory': '/var/home/alice',
        'standard_output': '/var/home/alice/%j.out',
        'environment': {'PATH': '/usr/bin:/bin'},
    },
}

class Async:
    def __init__(self, **options):
        self.loop = asyncio.new_event_loop()
        self.client = httpx.AsyncClient(**options)

    def get(self, url):
        return self.loop.run_until_complete(self.client.get(url))

    def post(self, url, json):
        return self.loop.run_until_complete(self.client.post(url, json=json))

def sessions():
    session = requests.Session()
    session.auth = slurm_token.Auth(2)
    yield session
    yield httpx.Client(auth=slurm_token.httpx.Auth(2))
    yield Async(auth=slurm_token.httpx.Auth(2))

def status(token):
    request = urllib.request.Request(url + '/jobs', headers=token.headers)
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code

def until_slurm_refuses(token):
    while status(token) != 500:
        time.sleep(0.1)

def submit(session):
    job['job']['name'] = type(session).__module__ + str(time.time())
    answer = session.post(url + '/job/submit', json=job)
    number = answer.json()['job_id']
    names = [one['name'] for one in session.get(url + '/jobs').json()['jobs']]
    assert names.count(job['job']['name']) == 1
    file = '/var/home/alice/{}.out'.format(number)
    while not (os.path.exists(file) and os.path.getsize(file)):
        time.sleep(0.1)
    with open(file) as output:
        return answer, output.read().strip()
";

#[test]
fn calls_go_on_when_a_token_has_expired() {
    let said = prints_with_slurm(&format!(
        "{SESSIONS}
for session in sessions():
    before = session.get(url + '/jobs')
    until_slurm_refuses(slurm_token.get(2))
    after, user = submit(session)
    print(before.status_code, after.status_code, after.history, user)"
    ));
    assert_eq!(said, "200 200 [] alice\n".repeat(3));
}

#[test]
fn a_call_that_slurm_refuses_for_an_expired_token_is_made_once_more() {
    // By a clock that is an hour behind, no token here has expired.
    let said = prints_with_slurm(&format!(
        "{SESSIONS}
from unittest import mock
behind = mock.Mock(time=lambda: time.time() - 3600, monotonic=time.monotonic)
with mock.patch('slurm_token._auth.time', behind):
    for session in sessions():
        before = session.get(url + '/jobs')
        until_slurm_refuses(slurm_token.get(2))
        after, user = submit(session)
        refused = [one.status_code for one in after.history]
        print(before.status_code, refused, after.status_code, user)"
    ));
    assert_eq!(said, "200 [500] 200 alice\n".repeat(3));
}

#[test]
fn what_slurm_refuses_for_another_reason_is_handed_back_at_once() {
    let said = prints_with_slurm(&format!(
        "{SESSIONS}
job['job']['partition'] = 'nowhere'
for session in sessions():
    session.get(url + '/jobs')
    # Old enough to be replaced, if that were the reason.
    time.sleep(1.1)
    answer = session.post(url + '/job/submit', json=job)
    print(answer.status_code, answer.json()['errors'][0]['error'], answer.history)"
    ));
    assert_eq!(said, "500 Invalid partition name specified []\n".repeat(3));
}

#[test]
fn its_readmes_examples_work_as_they_stand() {
    let examples: Vec<&str> = README
        .split("```python\n")
        .skip(1)
        .map(|example| example.split_once("```").unwrap().0)
        .collect();
    assert_eq!(examples.len(), 5);
    let mut said = String::new();
    for example in examples {
        let script = example
            .replace("http://localhost:6820", RS256.bed.url())
            .replace("v0.0.38", RS256.bed.api());
        said += &prints_with_slurm(&script);
    }
    assert!(said.starts_with("alice "), "{said}");
    assert!(said.contains("30d is longer than the 12h"), "{said}");
    assert!(said.ends_with("lifespan_too_long 43200\n"), "{said}");
}
