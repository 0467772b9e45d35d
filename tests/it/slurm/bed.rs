//! A real Slurm of one node: what `tests/slurm/bed` starts, asked as its users
//! ask it. Stopped when dropped, or with the private host.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::node::{stdout, until};

const BED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slurm/bed");

pub struct Bed {
    dir: PathBuf,
    env: HashMap<String, String>,
}

/// What slurmrestd said: the HTTP status, and the body where it is JSON.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub json: Value,
}

/// A job that ended: what it printed, and the uid that owns its output.
#[derive(Debug)]
pub struct Finished {
    pub output: String,
    pub owner: u32,
}

impl Bed {
    /// Starts a Slurm that accepts HS256 tokens of the key, RS256 tokens of the
    /// JWKS, or both. Slurm's account must be able to read the files.
    pub fn up(jwt_key: Option<&Path>, jwks: Option<&Path>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/tmp/bed-{}-{number}", std::process::id()));
        let mut up = Command::new(BED);
        up.arg("up").arg(&dir);
        if let Some(file) = jwt_key {
            up.arg("--jwt-key").arg(file);
        }
        if let Some(file) = jwks {
            up.arg("--jwks").arg(file);
        }
        let env: HashMap<_, _> = stdout(up.output().unwrap())
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let bed = Self { dir, env };
        let conf = fs::read_to_string(&bed.env["SLURM_CONF"]).unwrap();
        let conf = conf.replace("AuthInfo=socket=", "AuthInfo=socket=/nonexistent");
        fs::create_dir(bed.dir.join("users")).unwrap();
        fs::write(bed.users_conf(), conf).unwrap();
        bed
    }

    /// Restarts slurmctld: the only thing that makes 22.05 read its keys again.
    pub fn restart(&self) {
        stdout(
            Command::new(BED)
                .arg("restart")
                .arg(&self.dir)
                .output()
                .unwrap(),
        );
    }

    /// Restarts slurmctld, unless it dies of its configuration.
    pub fn restarts(&self) -> bool {
        let restart = Command::new(BED).arg("restart").arg(&self.dir).output();
        restart.unwrap().status.success()
    }

    /// The users' `SLURM_CONF`. By it their commands find this Slurm but no
    /// munge, so they get through by `SLURM_JWT` or not at all.
    pub fn users_conf(&self) -> PathBuf {
        self.dir.join("users/slurm.conf")
    }

    /// The version of slurmrestd's interface, as its paths have it.
    pub fn api(&self) -> &str {
        &self.env["SLURM_API"]
    }

    /// Where slurmrestd listens on loopback.
    pub fn url(&self) -> &str {
        &self.env["SLURMRESTD_URL"]
    }

    /// The Unix socket on which slurmrestd listens.
    pub fn slurmrestd(&self) -> &str {
        &self.env["SLURMRESTD_SOCKET"]
    }

    /// Where slurmrestd listens on TCP, as a URL.
    pub fn slurmrestd_url(&self) -> &str {
        &self.env["SLURMRESTD_URL"]
    }

    /// slurmctld's log, which tells why it refused a token.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.env["SLURMCTLD_LOG"]).unwrap()
    }

    /// A request to slurmrestd; `path` follows `/slurm/<version>/`.
    pub fn rest(
        &self,
        method: &str,
        path: &str,
        token: &str,
        user: &str,
        body: Option<&Value>,
    ) -> Answer {
        let mut config = vec![
            (
                "url",
                format!("http://localhost/slurm/{}/{path}", self.api()),
            ),
            ("unix-socket", self.slurmrestd().to_owned()),
            ("request", method.to_owned()),
            ("header", format!("X-SLURM-USER-NAME: {user}")),
            ("header", format!("X-SLURM-USER-TOKEN: {token}")),
            ("write-out", "\n%{http_code}".to_owned()),
        ];
        if let Some(body) = body {
            config.push(("header", "Content-Type: application/json".to_owned()));
            config.push(("data", body.to_string()));
        }
        let text = curl(&config);
        let (body, status) = text.rsplit_once('\n').unwrap();
        Answer {
            status: status.parse().unwrap(),
            json: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    /// The status of a request that slurmctld must authenticate. (`ping` is not
    /// one: it answers 200 to any token.)
    pub fn jobs(&self, token: &str, user: &str) -> u16 {
        self.rest("GET", "jobs", token, user, None).status
    }

    /// Submits a job that runs `script` in the user's home directory and writes
    /// its output there.
    pub fn submit(&self, token: &str, user: &str, script: &str) -> Answer {
        let body = json!({
            "script": format!("#!/bin/sh\n{script}\n"),
            "job": {
                "name": "test",
                "current_working_directory": format!("/var/home/{user}"),
                "standard_output": format!("/var/home/{user}/%j.out"),
                "environment": {"PATH": "/usr/bin:/bin"},
            },
        });
        self.rest("POST", "job/submit", token, user, Some(&body))
    }

    /// Waits for the job that `submit` was answered with.
    pub fn finish(&self, submitted: &Answer, user: &str) -> Finished {
        let id = submitted.json["job_id"].as_u64();
        let id = id.unwrap_or_else(|| panic!("no job was submitted: {submitted:?}"));
        let mut state = String::new();
        until("the job to end", || {
            state = self.job_state(id);
            !["PENDING", "CONFIGURING", "RUNNING", "COMPLETING"].contains(&state.as_str())
        });
        assert_eq!(state, "COMPLETED");
        let file = format!("/var/home/{user}/{id}.out");
        Finished {
            owner: fs::metadata(&file).unwrap().uid(),
            output: fs::read_to_string(&file).unwrap(),
        }
    }

    fn job_state(&self, id: u64) -> String {
        let job = self.as_root("scontrol", &["show", "job", &id.to_string()]);
        let (_, state) = job.split_once("JobState=").unwrap();
        state.split_whitespace().next().unwrap().to_owned()
    }

    /// A Slurm command as root, whom munge vouches for; its output.
    pub fn as_root(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("SLURM_CONF", &self.env["SLURM_CONF"])
            .env_remove("SLURM_JWT");
        stdout(command.output().unwrap())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let down = Command::new(BED).arg("down").arg(&self.dir).output();
        if !thread::panicking() {
            let down = down.unwrap();
            assert!(
                down.status.success(),
                "{}",
                String::from_utf8_lossy(&down.stderr)
            );
        }
    }
}

/// Runs curl with these options on its standard input: a token in its argv
/// would be for everybody to read.
fn curl(options: &[(&str, String)]) -> String {
    let mut curl = Command::new("curl")
        .args([
            "--disable",
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            "--config",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = curl.stdin.take().unwrap();
    for (name, value) in options {
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        writeln!(stdin, "{name} = \"{value}\"").unwrap();
    }
    drop(stdin);
    let output = curl.wait_with_output().unwrap();
    assert!(output.status.success(), "curl failed: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
