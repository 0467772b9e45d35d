//! `slurm-token curl`: the token reaches slurmrestd, and nobody and nothing else.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::node::{ALICE, Daemon, HANG, ended, generate_key, send, stdout, until};
use crate::slurm::RS256;

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    // Tokens of RS256 are long: they take many lines of a trace.
    let key = generate_key("RS256", "curl.pem");
    Daemon::start("curl", "RS256", &key)
});

fn command(args: &[&str]) -> Command {
    let mut command = ALICE.runs("slurm-token");
    command
        .arg("curl")
        .args(args)
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    command
}

fn outcome(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// What standard error says of a call that is refused, for which nobody is asked.
fn refusal(args: &[&str]) -> String {
    let mut command = command(args);
    let output = command.env("SLURM_TOKEND_SOCKET", "/nonexistent").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A server that keeps what it's told, and answers each request with the same.
struct Recorder {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recorder = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
        };
        let requests = Arc::clone(&recorder.requests);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut request = String::new();
                let mut reader = BufReader::new(&connection);
                while reader.read_line(&mut request).unwrap_or(0) > 0 {
                    if request.ends_with("\r\n\r\n") {
                        break;
                    }
                }
                requests.lock().unwrap().push(request);
                let _ = connection.write_all(answer.as_bytes());
            }
        });
        recorder
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes";

/// The values of a header in a request.
fn values<'t>(request: &'t str, header: &str) -> Vec<&'t str> {
    let lines = request.lines();
    let value = |line: &'t str| line.split_once(": ").filter(|(name, _)| *name == header);
    lines.filter_map(value).map(|(_, value)| value).collect()
}

/// Makes sure that nothing of a token's signature is in a text.
fn assert_hides(text: &str, token: &str) {
    let (_, signature) = token.rsplit_once('.').unwrap();
    for piece in signature.as_bytes().chunks_exact(8) {
        let piece = std::str::from_utf8(piece).unwrap();
        assert!(!text.contains(piece), "{piece} in {text}");
    }
}

// Real slurmrestd.

/// Calls the real slurmrestd, which answers with this status.
fn status(place: &str, args: &[&str]) -> String {
    let site = &RS256;
    let mut call = command(&["-sS", "-o", "/dev/null", "-w", "%{http_code}"]);
    call.args(args)
        .arg(format!("/slurm/{}/jobs", site.bed.api()))
        .env("SLURM_TOKEND_SOCKET", site.daemon.socket())
        .env("SLURMRESTD_URL", place);
    stdout(call.output().unwrap())
}

#[test]
fn slurmrestd_is_called_by_tcp_and_by_its_unix_socket() {
    let bed = &RS256.bed;
    let by_socket = format!("unix:{}", bed.slurmrestd());
    assert_eq!(status(bed.slurmrestd_url(), &[]), "200");
    assert_eq!(status(&by_socket, &[]), "200");
    // An option counts more than the environment.
    assert_eq!(status("http://localhost:1", &["--url", &by_socket]), "200");
}

#[test]
fn without_its_headers_slurmrestd_would_refuse() {
    let bed = &RS256.bed;
    let url = format!("{}/slurm/{}/jobs", bed.slurmrestd_url(), bed.api());
    let plain = Command::new("curl")
        .args(["-qsS", "-o", "/dev/null", "-w", "%{http_code}", &url])
        .output();
    assert_eq!(stdout(plain.unwrap()), "401");
}

#[test]
fn a_job_is_submitted_from_standard_input() {
    let site = &RS256;
    let mut call = command(&["-sS", "--json", "@-", "--url"]);
    let mut call = call
        .arg(site.bed.slurmrestd_url())
        .arg(format!("/slurm/{}/job/submit", site.bed.api()))
        .env("SLURM_TOKEND_SOCKET", site.daemon.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let job = serde_json::json!({
        "script": "#!/bin/sh\nid -un\n",
        "job": {
            "current_working_directory": "/var/home/alice",
            "environment": {"PATH": "/usr/bin:/bin"},
        },
    });
    let mut stdin = call.stdin.take().unwrap();
    stdin.write_all(job.to_string().as_bytes()).unwrap();
    drop(stdin);
    let answer: Value = serde_json::from_str(&stdout(call.wait_with_output().unwrap())).unwrap();
    assert!(answer["job_id"].is_u64(), "{answer}");
}

// What the server gets.

#[test]
fn the_server_gets_token_and_name_once() {
    let server = Recorder::answering(OK);
    let output = outcome(&["-sS", "-H", "X-Own: 1", &format!("{}/x", server.url())]);
    assert_eq!(stdout(output), "yes");
    let requests = server.requests();
    let [request] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(values(request, "X-SLURM-USER-NAME"), ["alice"]);
    assert_eq!(values(request, "X-Own"), ["1"]);
    let [token] = values(request, "X-SLURM-USER-TOKEN")[..] else {
        panic!("{request}")
    };
    assert!(token.starts_with("eyJ"), "{request}");
}

#[test]
fn the_exit_status_is_curls() {
    let server = Recorder::answering("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    for verbose in [&[][..], &["-v"]] {
        let url = format!("{}/x", server.url());
        let args = [verbose, &["-fsS", &url]].concat();
        assert_eq!(outcome(&args).status.code(), Some(22));
        let args = [verbose, &["http://127.0.0.1:1/"]].concat();
        assert_eq!(outcome(&args).status.code(), Some(7));
    }
}

#[test]
fn braces_and_brackets_name_one_place() {
    let server = Recorder::answering(OK);
    let wanted = "/x{1,2}[3-4]";
    stdout(outcome(&["-sS", "--url", &server.url(), wanted]));
    assert_eq!(server.requests().len(), 1);
    assert!(server.requests()[0].starts_with(&format!("GET {wanted} ")));
}

// Who else doesn't get it.

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Recorder::answering(OK);
    let answer = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}/stolen\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        elsewhere.url()
    );
    let server = Recorder::answering(answer.leak());
    let url = format!("{}/x", server.url());
    stdout(outcome(&["-sS", &url]));
    assert_eq!(server.requests().len(), 1);
    for follow in ["-L", "-sL", "--location", "--location-trusted"] {
        let said = refusal(&[follow, &url]);
        assert!(said.contains("wherever a redirect points"), "{said}");
    }
    assert_eq!(server.requests().len(), 1);
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[test]
fn plain_http_leads_to_this_machine_only_unless_one_insists() {
    let server = Recorder::answering(OK);
    // The host's own name: it's this machine, and might be another.
    let url = format!("http://login1:{}/x", server.address.port());
    let said = refusal(&["-sS", &url]);
    assert!(said.contains("in clear text over the network"), "{said}");
    assert_eq!(server.requests(), Vec::<String>::new());
    stdout(outcome(&["-sS", "--force-insecure", &url]));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_proxy_of_the_environment_gets_nothing_in_clear_text() {
    let proxy = Recorder::answering(OK);
    let server = Recorder::answering(OK);
    for variable in ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
        let url = format!("{}/x", server.url());
        let mut call = command(&["-sS", &url]);
        stdout(call.env(variable, proxy.url()).output().unwrap());
    }
    assert_eq!(server.requests().len(), 4);
    assert_eq!(proxy.requests(), Vec::<String>::new());
}

#[test]
fn curls_own_configuration_is_not_read() {
    let proxy = Recorder::answering(OK);
    let server = Recorder::answering(OK);
    let home = Path::new("/tmp/curl-home");
    fs::create_dir(home).unwrap();
    let traced = "/tmp/curl-home-trace";
    fs::write(
        home.join(".curlrc"),
        format!(
            "proxy = {}\ntrace-ascii = {traced}\nlocation\n",
            proxy.url()
        ),
    )
    .unwrap();
    let url = format!("{}/x", server.url());
    let mut call = command(&["-sS", &url]);
    call.env("HOME", home).env("CURL_HOME", home);
    stdout(call.output().unwrap());
    assert_eq!(server.requests().len(), 1);
    assert_eq!(proxy.requests(), Vec::<String>::new());
    assert!(!Path::new(traced).exists());
}

#[test]
fn curl_gets_no_option_that_would_let_the_token_out() {
    let url = "http://localhost:1/x";
    for args in [
        &["-K", "/dev/null"][..],
        &["--next", "-s"],
        &["-:"],
        &["--libcurl", "/tmp/code"],
        &["--stderr", "/tmp/said"],
        &["-x", "http://127.0.0.1:1"],
        &["--resolve", "localhost:1:127.0.0.2"],
        &["-k"],
        &["-H", "X-SLURM-USER-TOKEN: mine"],
        &["--no-such-option"],
    ] {
        let said = refusal(&[args, &[url]].concat());
        assert!(said.starts_with("slurm-token: "), "{said}");
    }
}

#[test]
fn what_is_no_path_or_url_is_refused() {
    for (args, said) in [
        (&[][..], "needs a path or URL"),
        (&["/slurm"], "SLURMRESTD_URL"),
        (&["localhost:6820/x"], "neither a path"),
        (&["http://user@localhost/"], "names a user"),
        (
            &["http://localhost/", "http://evil/"],
            "one operand too many",
        ),
    ] {
        let complaint = refusal(args);
        assert!(complaint.contains(said), "{complaint}");
    }
}

#[test]
fn without_a_token_curl_is_not_called() {
    let server = Recorder::answering(OK);
    let mut call = command(&["-sS", &server.url()]);
    let output = call.env("SLURM_TOKEND_SOCKET", "/nonexistent").output();
    assert_eq!(output.unwrap().status.code(), Some(3));
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn where_there_is_no_curl_it_says_so() {
    let mut call = ALICE.runs("env");
    call.args(["PATH=/nonexistent", "/usr/bin/slurm-token"])
        .args(["curl", "http://localhost:1/"])
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    let output = call.output().unwrap();
    assert_eq!(output.status.code(), Some(127), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("slurm-token: curl: there is no such command"),
        "{said}"
    );
}

// What it tells.

/// All that a call tells, and the token that the server got.
fn told(args: &[&str]) -> (String, String) {
    let server = Recorder::answering(OK);
    let url = format!("{}/x", server.url());
    let output = outcome(&[args, &[&url]].concat());
    let told = [output.stdout, output.stderr].concat();
    let request = server.requests().pop().expect("a request");
    let token = values(&request, "X-SLURM-USER-TOKEN")[0].to_owned();
    (String::from_utf8(told).unwrap(), token)
}

#[test]
fn what_verbose_tells_is_all_but_the_token() {
    for args in [&["-v"][..], &["-sSv"], &["--verbose", "--trace-time"]] {
        let (told, token) = told(args);
        assert!(told.contains("> GET /x HTTP/1.1"), "{told}");
        assert!(told.contains("> X-SLURM-USER-TOKEN: [token]"), "{told}");
        assert!(told.contains("> X-SLURM-USER-NAME: alice"), "{told}");
        assert!(told.contains("< HTTP/1.1 200 OK"), "{told}");
        assert_hides(&told, &token);
    }
}

#[test]
fn what_a_trace_tells_is_all_but_the_headers_that_are_sent() {
    for option in ["--trace", "--trace-ascii"] {
        for place in ["-", "%", "/tmp/curl-trace"] {
            for time in [&[][..], &["--trace-time"]] {
                let (mut text, token) = told(&[&["-sS", option, place], time].concat());
                if let Ok(file) = fs::read_to_string(place) {
                    assert_eq!(Path::new(place).metadata().unwrap().mode() & 0o7777, 0o600);
                    fs::remove_file(place).unwrap();
                    text += &file;
                }
                assert!(text.contains("=> Send header"), "{option} {place}: {text}");
                assert!(text.contains("<= Recv header"), "{option} {place}: {text}");
                assert!(text.contains("the token is among them"), "{text}");
                assert_hides(&text, &token);
            }
        }
    }
}

#[test]
fn a_trace_would_tell_the_token_otherwise() {
    let server = Recorder::answering(OK);
    let mut curl = Command::new("curl")
        .args(["-qsS", "--trace-ascii", "-", "-H", "@-", &server.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let headers = DAEMON.client(&ALICE, &["--format", "header"]);
    let mut stdin = curl.stdin.take().unwrap();
    stdin.write_all(headers.as_bytes()).unwrap();
    drop(stdin);
    let told = stdout(curl.wait_with_output().unwrap());
    let token = values(&headers, "X-SLURM-USER-TOKEN")[0].to_owned();
    let hides = std::panic::catch_unwind(|| assert_hides(&told, &token));
    assert!(hides.is_err(), "assert_hides sees nothing");
}

#[test]
fn with_http_2_verbose_tells_no_token_either() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut bytes = [0; 64];
        connection.read_exact(&mut bytes).unwrap();
    });
    let output = outcome(&["-v", "--http2-prior-knowledge", &url]);
    server.join().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let line = said.lines().find(|line| {
        line.contains("[x-slurm-user-token: ") || line.contains("[X-SLURM-USER-TOKEN: ")
    });
    assert!(line.is_some_and(|line| line.contains("[token]")), "{said}");
    assert!(!said.contains("eyJ"), "{said}");
}

#[test]
fn a_trace_that_can_not_be_written_asks_nobody() {
    let server = Recorder::answering(OK);
    let output = outcome(&["--trace", "/nonexistent/trace", &server.url()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(server.requests(), Vec::<String>::new());
}

// Where this process stays beside curl.

/// A server that has a request by `curl -v` and no answer to it yet: what
/// alice's script started, and the connection.
fn waits(script: &str) -> (Child, BufReader<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let mut sh = ALICE.runs("sh");
    let child = sh
        .args(["-c", script, &url])
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut connection = BufReader::new(listener.accept().unwrap().0);
    connection.get_ref().set_read_timeout(Some(HANG)).unwrap();
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        connection.read_line(&mut request).unwrap();
    }
    (child, connection)
}

#[test]
fn a_signal_ends_curl_too_and_shows_as_what_ended_it() {
    for sent in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
    ] {
        let (mut child, mut connection) = waits("exec slurm-token curl -v $0");
        send(&child, sent).unwrap();
        // curl hangs up.
        assert_eq!(connection.read(&mut [0]).unwrap(), 0, "{sent}");
        assert_eq!(ended(&mut child).signal(), Some(sent as i32), "{sent}");
    }
}

#[test]
fn a_signal_that_the_caller_ignores_ends_neither() {
    let (child, mut connection) = waits("trap '' HUP; exec slurm-token curl -v $0");
    send(&child, Signal::SIGHUP).unwrap();
    connection.get_mut().write_all(OK.as_bytes()).unwrap();
    assert_eq!(stdout(child.wait_with_output().unwrap()), "yes");
}

// By TLS.

struct Tls {
    child: Child,
    certificate: PathBuf,
    url: String,
}

impl Tls {
    /// openssl's server, which has a certificate for localhost.
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let (key, certificate) = ("/tmp/curl-tls.key", "/tmp/curl-tls.pem");
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args([
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost",
            ])
            .args(["-keyout", key, "-out", certificate])
            .output();
        stdout(made.unwrap());
        let child = Command::new("openssl")
            .args([
                "s_server",
                "-www",
                "-quiet",
                "-key",
                key,
                "-cert",
                certificate,
            ])
            .args(["-accept", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the server", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            child,
            certificate: certificate.into(),
            url: format!("https://localhost:{port}"),
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn by_tls_the_server_has_to_prove_its_name() {
    let server = Tls::start();
    let certificate = server.certificate.to_str().unwrap();
    let path = "/slurm";
    let args = ["-sSv", "--url", &server.url, path];
    let known = outcome(&[&["--cacert", certificate][..], &args].concat());
    let told = String::from_utf8_lossy(&known.stderr);
    assert!(told.contains("< HTTP/1.0 200 ok"), "{told}");
    assert!(told.contains("> X-SLURM-USER-TOKEN: [token]"), "{told}");

    let unknown = outcome(&args);
    assert_eq!(unknown.status.code(), Some(60), "{unknown:?}");
    let told = String::from_utf8_lossy(&unknown.stderr);
    assert!(!told.contains("X-SLURM-USER-TOKEN"), "{told}");

    assert!(refusal(&[&["-k"][..], &args].concat()).contains("--cacert"));
    let forced = outcome(&[&["-k", "--force-insecure"][..], &args].concat());
    assert_eq!(forced.status.code(), Some(0), "{forced:?}");
}
