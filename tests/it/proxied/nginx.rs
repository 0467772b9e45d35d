//! nginx, run as it is on a node: its master as root, its workers as www-data.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::node::{stop, until};
use crate::slurm::RS256;

const EXAMPLE: &str = include_str!("../../../etc/nginx-slurmrestd.conf");

/// A running nginx; it's told to stop when dropped.
pub struct Nginx {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Nginx {
    /// The example, with the places and the port of this test in it, and these
    /// changes: each from what must stand there, once.
    pub fn example(door: &Path, port: u16, changes: &[(&str, &str)]) -> Self {
        let slurmrestd = RS256.bed.url().strip_prefix("http://").unwrap();
        let places = [
            ("/run/slurm-tokend/http.sock", door.to_str().unwrap()),
            ("127.0.0.1:6820", slurmrestd),
            ("127.0.0.1:8080", &format!("127.0.0.1:{port}")),
        ];
        Self::start(
            "www-data",
            port,
            &written(EXAMPLE, &[&places, changes].concat()),
        )
    }

    /// An nginx whose workers run as that user, with this in its http context.
    pub fn start(user: &str, port: u16, http: &str) -> Self {
        let place = PathBuf::from(format!("/tmp/nginx-{port}"));
        fs::create_dir(&place).unwrap();
        let log = place.join("error.log");
        let file = place.join("nginx.conf");
        let text = format!(
            "user {user};\n\
             worker_processes 2;\n\
             daemon off;\n\
             pid {place}/pid;\n\
             error_log {log};\n\
             events {{ }}\n\
             http {{\n\
             access_log {place}/access.log;\n\
             {http}\n\
             }}\n",
            place = place.display(),
            log = log.display(),
        );
        fs::write(&file, text).unwrap();
        let child = Command::new("/usr/sbin/nginx")
            .arg("-c")
            .arg(&file)
            .env_clear()
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx, which tests/packages installs");
        let mut nginx = Self {
            child,
            address: format!("127.0.0.1:{port}"),
            log,
        };
        until("nginx to listen", || {
            if let Some(status) = nginx.child.try_wait().unwrap() {
                panic!("nginx ended, {status}: {}", nginx.log());
            }
            TcpStream::connect(&nginx.address).is_ok()
        });
        nginx
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All that it has written down.
    pub fn log(&self) -> String {
        let access = self.log.with_file_name("access.log");
        [&self.log, &access]
            .map(|file| super::text_of(file))
            .concat()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// The example of a proxy with these changes.
pub fn written(example: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(example.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from} in the example");
        text.replacen(from, to, 1)
    })
}
