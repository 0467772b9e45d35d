//! What the daemon has counted, as monitoring programs read it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::node::{ALICE, Daemon, generate_key, stdout, until};

const ISSUE: &str = r#"{"v":1,"op":"issue"}"#;

fn daemon(name: &str) -> Daemon {
    let key = generate_key("HS256", &format!("{name}.key"));
    Daemon::with(name, "HS256", &key, "", "")
}

/// Every sample, by its name and labels.
fn samples(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap())
        .collect()
}

fn asks_and_is_refused(daemon: &Daemon) {
    for request in [
        ISSUE,
        ISSUE,
        r#"{"v":1,"op":"issue","lifespan":"1y"}"#,
        r#"{"v":1,"op":"issue","for":"root"}"#,
        r#"{"v":1,"op":"ping"}"#,
        "hello",
    ] {
        daemon.ask_as(ALICE.uid, request);
    }
    daemon.ask_as(100_000, ISSUE);
}

#[test]
fn what_happened_is_counted() {
    let daemon = daemon("counted");
    asks_and_is_refused(&daemon);
    let text = stdout(daemon.tokenctl(&["metrics"]));
    let samples = samples(&text);
    for (name, value) in [
        ("slurm_tokend_tokens_total", "2"),
        ("slurm_tokend_live_tokens", "2"),
        ("slurm_tokend_users", "1"),
        (r#"slurm_tokend_refusals_total{code="bad_lifespan"}"#, "1"),
        (r#"slurm_tokend_refusals_total{code="not_allowed"}"#, "1"),
        (r#"slurm_tokend_refusals_total{code="unknown_user"}"#, "1"),
        (
            r#"slurm_tokend_refusals_total{code="malformed_request"}"#,
            "1",
        ),
        (r#"slurm_tokend_refusals_total{code="busy"}"#, "0"),
        (
            r#"slurm_tokend_request_duration_seconds_count{op="issue"}"#,
            "5",
        ),
        (
            r#"slurm_tokend_request_duration_seconds_bucket{op="issue",le="+Inf"}"#,
            "5",
        ),
        (
            r#"slurm_tokend_request_duration_seconds_count{op="other"}"#,
            "2",
        ),
        (r#"slurm_tokend_lookups_total{result="absent"}"#, "1"),
        ("slurm_tokend_blocked_users", "0"),
        ("slurm_tokend_audit_records_lost_total", "0"),
        ("slurm_tokend_connections_limit", "12000"),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}\n{text}");
    }
    let age = samples
        .iter()
        .find(|(name, _)| name.starts_with("slurm_tokend_key_age_seconds{"));
    let (name, age) = age.expect("the key's age");
    assert!(name.contains(r#"alg="HS256""#), "{name}");
    assert!(age.parse::<u64>().unwrap() < 600, "{age}");
}

/// Prometheus's own reader, which refuses whatever the standard doesn't allow.
#[test]
fn the_text_is_open_metrics() {
    const READ: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    print(family.name, family.type, family.unit, len(family.samples))";
    let daemon = daemon("open-metrics");
    asks_and_is_refused(&daemon);
    let file = Path::new("/tmp/open-metrics");
    fs::write(file, stdout(daemon.tokenctl(&["metrics"]))).unwrap();
    let reader = Command::new("/usr/bin/python3")
        .args(["-c", READ])
        .stdin(fs::File::open(file).unwrap())
        .output();
    let families = stdout(reader.unwrap());
    for family in [
        "slurm_tokend_request_duration_seconds histogram seconds 36",
        "slurm_tokend_tokens counter  1",
        "slurm_tokend_key_age_seconds gauge seconds 1",
    ] {
        assert!(
            families.lines().any(|line| line == family),
            "{family}\n{families}"
        );
    }
}

/// The node exporter, which reads `*.prom` of a directory.
struct Exporter(Child);

impl Exporter {
    fn of(directory: &Path, port: u16) -> Self {
        let child = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--collector.disable-defaults", "--collector.textfile"])
            .arg(format!(
                "--collector.textfile.directory={}",
                directory.display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_node_exporter_reads_the_file_with_its_types() {
    let daemon = daemon("exported");
    asks_and_is_refused(&daemon);
    let directory = Path::new("/run/exported");
    fs::create_dir(directory).unwrap();
    let file = directory.join("slurm-tokend.prom");
    stdout(daemon.tokenctl(&["metrics", "--out", file.to_str().unwrap()]));
    let _exporter = Exporter::of(directory, 9199);
    let scrape = || {
        let url = "http://127.0.0.1:9199/metrics";
        let scraped = Command::new("curl").args(["--silent", url]).output();
        String::from_utf8(scraped.unwrap().stdout).unwrap()
    };
    until("the exporter to answer", || {
        scrape().contains("node_textfile")
    });
    let scraped = scrape();
    for line in [
        "node_textfile_scrape_error 0",
        "# TYPE slurm_tokend_tokens_total counter",
        "slurm_tokend_tokens_total 2",
        "# TYPE slurm_tokend_request_duration_seconds histogram",
        "slurm_tokend_request_duration_seconds_count{op=\"issue\"} 5",
        "# TYPE slurm_tokend_live_tokens gauge",
    ] {
        assert!(
            scraped.lines().any(|have| have == line),
            "{line}\n{scraped}"
        );
    }
}

#[test]
fn the_file_is_replaced_whole_and_readable_by_all() {
    let daemon = daemon("replaced-file");
    let directory = Path::new("/run/replaced-metrics");
    fs::create_dir(directory).unwrap();
    let file = directory.join("x.prom");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let old = fs::metadata(&file).unwrap().ino();
    stdout(daemon.tokenctl(&["metrics", "--out", file.to_str().unwrap()]));
    let new = fs::metadata(&file).unwrap();
    assert_ne!(new.ino(), old);
    assert_eq!(new.mode() & 0o7777, 0o644);
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1);

    // What can't be written leaves the old one as it is.
    let whole = fs::read(&file).unwrap();
    drop(daemon);
    let gone = Command::new("slurm-tokenctl")
        .args(["metrics", "--out"])
        .arg(&file)
        .args(["--socket", "/run/nobody/listens"])
        .output()
        .unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert_eq!(fs::read(&file).unwrap(), whole);
}

#[test]
fn a_file_where_there_is_no_directory_is_refused_with_its_name() {
    let daemon = daemon("nowhere");
    let output = daemon.tokenctl(&["metrics", "--out", "/run/no-such-directory/x.prom"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("/run/no-such-directory"), "{told}");
}

#[test]
fn the_timer_and_its_service_are_units_that_systemd_takes() {
    const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");
    let _daemon = daemon("units");
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(format!("{UNITS}/slurm-tokend-metrics.timer"))
        .arg(format!("{UNITS}/slurm-tokend-metrics.service"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && told.is_empty(), "{told}");
}

/// The command of the service is one that slurm-tokenctl understands.
#[test]
fn the_service_writes_the_file_that_it_names() {
    let service = include_str!("../../systemd/slurm-tokend-metrics.service");
    let daemon = daemon("service");
    let command = service
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let (_, file) = command.split_once("--out ").unwrap();
    fs::create_dir_all(Path::new(file).parent().unwrap()).unwrap();
    let words: Vec<&str> = command.split(' ').collect();
    let ran = Command::new(words[0])
        .args(&words[1..])
        .env("SLURM_TOKEND_SOCKET", daemon.socket())
        .output();
    stdout(ran.unwrap());
    assert!(
        fs::read_to_string(file)
            .unwrap()
            .contains("slurm_tokend_tokens_total")
    );
}
