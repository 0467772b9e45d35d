//! The listening sockets: those that systemd passes, or our own.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use nix::sys::stat::{Mode, fstat, umask};

use crate::config::Config;
use crate::daemon::front::Listener;
use crate::keys::file::{Trust, open_directory, quoted};
use crate::report::Problem;

/// The name of the HTTP door's socket among those that systemd passes
/// (`FileDescriptorName=`, systemd.socket(5)).
const HTTP: &str = "http";
/// All of their names (`sd_listen_fds_with_names(3)`).
const NAMES: &str = "LISTEN_FDNAMES";

/// Where the daemon's sockets come from.
pub struct Sources {
    /// The main one.
    pub main: Source,
    /// That of the HTTP door, if it's to be open.
    pub http: Option<Source>,
    /// What is to be told of them, though nothing is wrong.
    pub note: Option<String>,
}

/// The sockets that the daemon listens on.
pub struct Doors {
    /// The main one.
    pub main: Listener,
    /// That of the HTTP door, if it's to be open.
    pub http: Option<Listener>,
}

impl Doors {
    /// Opens them. Called before there are threads: it sets the umask.
    pub fn open(sources: Sources) -> Result<Self, Problem> {
        let main = sources.main.open()?;
        let http = sources.http.map(Source::open).transpose();
        match http {
            Ok(http) => Ok(Self { main, http }),
            Err(problem) => {
                remove(main.own.as_slice());
                Err(problem)
            }
        }
    }

    /// The paths of those that are our own.
    pub fn own(&self) -> Vec<PathBuf> {
        let all = [Some(&self.main), self.http.as_ref()];
        let own = all.into_iter().flatten().filter_map(|l| l.own.clone());
        own.collect()
    }
}

/// Takes sockets of our own away. Best effort: once root's power is dropped the
/// directory isn't ours. The next start replaces a socket that nobody listens on.
pub fn remove(own: &[PathBuf]) {
    for path in own {
        let _ = fs::remove_file(path);
    }
}

/// Where a socket comes from.
pub enum Source {
    /// systemd, which has bound it.
    Passed(UnixListener),
    /// Us: this path.
    Own(PathBuf),
}

impl Sources {
    /// Finds out, and finds what would be in the way, without making anything.
    pub fn find(config: &Config) -> Result<Self, Problem> {
        let http = &config.http;
        let mut passed = ListenFd::from_env();
        if passed.len() == 0 {
            let of_http = http.configured.then(|| Source::own(&http.socket));
            return Ok(Self {
                main: Source::own(&config.socket)?,
                http: of_http.transpose()?,
                note: None,
            });
        }
        let names = std::env::var(NAMES).unwrap_or_default();
        let mut names = names.split(':');
        let (mut main, mut of_http) = (None, None);
        for index in 0..passed.len() {
            let socket = match passed.take_unix_listener(index) {
                Ok(Some(socket)) => socket,
                Ok(None) => return Err(wrong_socket("nothing")),
                Err(error) => return Err(wrong_socket(&error.to_string())),
            };
            let place = match names.next() {
                Some(HTTP) => &mut of_http,
                Some(_) | None => &mut main,
            };
            if place.replace(Source::Passed(socket)).is_some() {
                return Err(wrong_socket(&format!("{} sockets", passed.len())));
            }
        }
        let note = (http.configured && of_http.is_none()).then(|| {
            "[http] is there and systemd passes no socket for it, so the HTTP door stays shut; \
             open it with: systemctl enable slurm-tokend-http.socket, and restart slurm-tokend"
                .to_owned()
        });
        Ok(Self {
            main: main.ok_or_else(no_main_socket)?,
            http: of_http,
            note,
        })
    }
}

impl Source {
    /// A socket of our own at this path.
    fn own(path: &Path) -> Result<Self, Problem> {
        check_directory(directory_of(path))?;
        check_present(path)?;
        Ok(Self::Own(path.to_owned()))
    }

    fn open(self) -> Result<Listener, Problem> {
        match self {
            Self::Passed(socket) => Ok(Listener { socket, own: None }),
            Self::Own(path) => Ok(Listener {
                socket: bind(&path)?,
                own: Some(path),
            }),
        }
    }
}

fn wrong_socket(what: &str) -> Problem {
    Problem::new(
        "slurm-tokend.socket",
        format!("systemd passed what is not one listening Unix stream socket: {what}"),
        "give the socket unit one ListenStream= with an absolute path",
    )
}

fn no_main_socket() -> Problem {
    Problem::new(
        "slurm-tokend.socket",
        "systemd passed the socket of the HTTP door alone, and the daemon needs its main one",
        "start that too: systemctl enable --now slurm-tokend.socket",
    )
}

/// Binds our own: under another name first, so that callers find either the
/// old socket or the new one, with its mode, and never none.
fn bind(path: &Path) -> Result<UnixListener, Problem> {
    make_directory(directory_of(path))?;
    check_unanswered(path)?;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let failed = |error: &io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::InvalidInput => "name a socket whose path has at most 95 characters",
            _ => "check the directory and its file system",
        };
        Problem::at(path, format!("the socket can't be made: {error}"), remedy)
    };
    // One of ours, which died with this pid before it got any further.
    let _ = fs::remove_file(&fresh);
    let before = umask(Mode::from_bits_truncate(0o111));
    let bound = UnixListener::bind(&fresh);
    umask(before);
    let socket = bound.map_err(|e| failed(&e))?;
    fs::rename(&fresh, path).map_err(|e| {
        let _ = fs::remove_file(&fresh);
        failed(&e)
    })?;
    Ok(socket)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Nobody else may put a socket in the place of ours: not in its directory,
/// nor another directory in that one's place. One that is missing is made later.
fn check_directory(directory: &Path) -> Result<(), Problem> {
    let trust = Trust::of_process(None);
    if fs::symlink_metadata(directory).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return open_directory(directory_of(directory), &trust).map(|_| ());
    }
    let opened = open_directory(directory, &trust)?;
    let mode = fstat(&opened).map_or(0o777, |status| status.st_mode) & 0o7777;
    if mode & 0o022 == 0 {
        return Ok(());
    }
    Err(Problem::at(
        directory,
        format!("its mode {mode:04o} lets others put a socket of theirs there when ours is gone"),
        format!("chmod go-w {}", quoted(directory)),
    ))
}

/// Makes the directory where there is none, for everybody to enter.
fn make_directory(directory: &Path) -> Result<(), Problem> {
    let before = umask(Mode::from_bits_truncate(0o022));
    let made = fs::create_dir(directory);
    umask(before);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Problem::at(
            directory,
            format!("the socket's directory can't be made: {error}"),
            format!("make it with: install -d -m 0755 {}", quoted(directory)),
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Nothing but a socket is taken away.
fn check_present(path: &Path) -> Result<(), Problem> {
    match fs::symlink_metadata(path) {
        Ok(status) if !status.file_type().is_socket() => Err(Problem::at(
            path,
            "there is something that is not a socket",
            format!(
                "look at it, then move it away: mv {0} {0}.old",
                quoted(path)
            ),
        )),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Nor is a socket on which somebody answers.
fn check_unanswered(path: &Path) -> Result<(), Problem> {
    if UnixStream::connect(path).is_err() {
        return Ok(());
    }
    Err(Problem::at(
        path,
        "another daemon answers on this socket",
        "stop it first, or set another socket in the configuration",
    ))
}
