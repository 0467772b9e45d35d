//! What facts mean: each finding says what is so, why it matters, and the
//! command that mends it. Pure.

use std::path::Path;

use serde::Serialize;

use crate::keys::Algorithm;
use crate::keys::file::quoted;
use crate::report::Problem;

/// A key older than this is due for a rotation, in seconds.
const OLD_KEY: u64 = 365 * 24 * 3600;
/// Clocks differ where it's more than so many seconds; an answer takes a few.
const CLOCKS_DIFFER: i64 = 30;
/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Weight {
    /// Something doesn't work, or isn't safe.
    Fault,
    /// Better otherwise.
    Advice,
}

/// One thing that isn't as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) weight: Weight,
    /// Where: a file, or a part of the machine.
    pub(super) place: String,
    pub(super) what: String,
    pub(super) why: String,
    /// The command that mends it, or a sentence.
    pub(super) mend: String,
}

pub(super) fn fault(
    place: impl Into<String>,
    what: impl Into<String>,
    why: impl Into<String>,
    mend: impl Into<String>,
) -> Finding {
    Finding {
        weight: Weight::Fault,
        place: place.into(),
        what: what.into(),
        why: why.into(),
        mend: mend.into(),
    }
}

pub(super) fn advice(finding: Finding) -> Finding {
    Finding {
        weight: Weight::Advice,
        ..finding
    }
}

/// A problem that the daemon itself would have.
pub(super) fn problem(problem: &Problem, why: &str) -> Finding {
    fault(&*problem.place, &*problem.what, why, &*problem.remedy)
}

/// What is known of the key that signs.
#[derive(Clone, Debug)]
pub(super) struct KeyFacts {
    pub(super) file: String,
    pub(super) algorithm: Algorithm,
    pub(super) kid: String,
    /// Seconds since the file was written.
    pub(super) age: Option<u64>,
    /// What its file system is called, where other machines may reach it.
    pub(super) shared: Option<&'static str>,
}

pub(super) fn of_key(key: &KeyFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(name) = key.shared {
        findings.push(fault(
            &*key.file,
            format!("this private key is on a network file system ({name})"),
            "it travels in clear text, and whoever is root on another node can read it",
            "keep a key of its own on a local disk of each node: slurm-tokenctl rotate prepare",
        ));
    }
    if let Some(age) = key.age.filter(|age| *age > OLD_KEY) {
        findings.push(advice(fault(
            &*key.file,
            format!("this key is {} days old", age / 86_400),
            "the longer a key serves, the more copies of it there may be",
            "slurm-tokenctl rotate prepare",
        )));
    }
    if key.algorithm == Algorithm::Hs256 {
        findings.push(advice(fault(
            &*key.file,
            "tokens are signed with HS256",
            "whoever reads this secret, on any host that holds it, can be anybody on the cluster",
            "give each node an RS256 key: slurm-tokenctl key generate --alg RS256",
        )));
    }
    findings
}

/// The daemon that runs.
pub(super) struct DaemonFacts {
    pub(super) socket: String,
    /// The kid that it signs with, or why it doesn't say.
    pub(super) kid: Result<String, String>,
    /// The mode of the socket, and of its directory.
    pub(super) mode: Option<u32>,
    pub(super) directory_mode: Option<u32>,
    /// What starts it again.
    pub(super) restart: String,
}

/// `kid` is that of the configuration's key, if it can be read.
pub(super) fn of_daemon(daemon: &DaemonFacts, kid: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match (&daemon.kid, kid) {
        (Ok(_), None) => {}
        (Ok(signs), Some(kid)) if signs == kid => {}
        (Ok(signs), Some(kid)) => findings.push(fault(
            &*daemon.socket,
            format!("the daemon signs with {signs}, and the configuration names {kid}"),
            "the key was changed and the daemon has not taken it yet",
            &*daemon.restart,
        )),
        (Err(why), _) => findings.push(fault(
            &*daemon.socket,
            format!("the daemon does not answer: {why}"),
            "nobody gets a token",
            &*daemon.restart,
        )),
    }
    if let Some(mode) = daemon.mode.filter(|mode| mode & 0o666 != 0o666) {
        findings.push(fault(
            &*daemon.socket,
            format!("the socket's mode is {:04o}", mode & 0o7777),
            "some users can't connect to it",
            format!("chmod 0666 {}", daemon.socket),
        ));
    }
    if let Some(mode) = daemon.directory_mode.filter(|mode| mode & 0o022 != 0) {
        findings.push(fault(
            &*daemon.socket,
            format!(
                "the mode of the socket's directory is {:04o}",
                mode & 0o7777
            ),
            "others can put a socket of theirs in its place",
            format!("chmod 0755 \"$(dirname {})\"", daemon.socket),
        ));
    }
    findings
}

/// The services of a line of nsswitch.conf that need the network, which the
/// unit forbids: sssd and nslcd are reached by Unix sockets.
pub(super) fn of_nsswitch(text: &str, has_nslcd: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let Some((database, services)) = line.split_once(':') else {
            continue;
        };
        if !["passwd", "group", "initgroups"].contains(&database.trim()) {
            continue;
        }
        for service in services.split_whitespace() {
            let remote = matches!(service, "nis" | "nisplus" | "hesiod")
                || (service == "ldap" && !has_nslcd);
            if remote {
                findings.push(fault(
                    "/etc/nsswitch.conf",
                    format!(
                        "{} are looked up by {service}, over the network",
                        database.trim()
                    ),
                    "the unit of slurm-tokend has no network: no account is found, and nobody \
                     gets a token",
                    "install -D -m 0644 nss-network.conf \
                     /etc/systemd/system/slurm-tokend.service.d/nss-network.conf (it's with the \
                     units of slurm-tokend), then: systemctl daemon-reload && systemctl restart \
                     slurm-tokend",
                ));
            }
        }
    }
    findings
}

/// rsyslog's module that reads the journal drops what comes too fast, unless
/// told otherwise.
pub(super) fn of_rsyslog(file: &str, text: &str) -> Option<Finding> {
    let loads = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let module: String = loads
        .skip_while(|line| !line.contains("imjournal"))
        .take_while(|line| !line.trim().is_empty())
        .collect();
    let module = module.replace([' ', '\t'], "").to_lowercase();
    if !module.contains("imjournal") || module.contains("ratelimit.interval=\"0\"") {
        return None;
    }
    Some(fault(
        file,
        "imjournal drops records beyond 20,000 in 10 minutes",
        "audit records of tokens are lost, and nobody is told",
        "write: module(load=\"imjournal\" Ratelimit.Interval=\"0\"), then: systemctl restart rsyslog",
    ))
}

/// What the unit says of journald's own limit, in microseconds; 0 is none.
pub(super) fn of_journald(unit: &str, interval: Option<&str>) -> Option<Finding> {
    let interval = interval?.trim();
    (!matches!(interval, "" | "0")).then(|| {
        fault(
            unit,
            format!("journald limits the rate of this unit's records (LogRateLimitIntervalUSec={interval})"),
            "audit records beyond the limit are lost, and nobody is told",
            format!("systemctl edit {unit}, and write: [Service] LogRateLimitIntervalSec=0"),
        )
    })
}

/// What crashes left; `with_key` says that a private key may be in it.
pub(super) fn of_leftover(file: &Path, with_key: bool) -> Finding {
    let found = |why| {
        fault(
            file.display().to_string(),
            "a crash left this unfinished file",
            why,
            format!("rm -f {}", quoted(file)),
        )
    };
    if with_key {
        found("it may hold a private key, of which nobody knows any more")
    } else {
        advice(found("nobody needs it, and nobody will remove it"))
    }
}

/// What `timedatectl` says of the clock, and what slurmctld's differs by, in
/// seconds: above zero it's ahead of ours.
pub(super) fn of_clock(
    synchronised: Option<&str>,
    record_ahead: bool,
    slurmctld_ahead: Option<i64>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if synchronised.is_some_and(|word| word.trim() == "no") {
        findings.push(fault(
            "the clock",
            "it is not synchronised",
            "tokens begin and end by it: slurmctld refuses those from a clock that is wrong",
            "timedatectl set-ntp true, or start chronyd or ntpd",
        ));
    }
    if let Some(ahead) = slurmctld_ahead.filter(|ahead| ahead.abs() > CLOCKS_DIFFER) {
        let (word, why) = match ahead {
            1.. => (
                "ahead of",
                "it refuses tokens before their time, short ones at once",
            ),
            _ => (
                "behind",
                "it takes tokens for so much longer than they should live",
            ),
        };
        findings.push(fault(
            "the clock",
            format!("slurmctld's is {} s {word} this machine's", ahead.abs()),
            why,
            "see which is wrong: date -u, here and there; then set it by NTP",
        ));
    }
    if record_ahead {
        findings.push(fault(
            "the clock",
            "it is behind the times of files that were written before",
            "tokens made now may be dead already where slurmctld runs",
            "compare it with another machine's: date; then set it by NTP",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(algorithm: Algorithm) -> KeyFacts {
        KeyFacts {
            file: "/k/login1.pem".into(),
            algorithm,
            kid: "login1".into(),
            age: Some(1000),
            shared: None,
        }
    }

    #[test]
    fn a_key_on_a_shared_disk_an_old_one_and_hs256_are_found() {
        let mut key = key(Algorithm::Hs256);
        key.shared = Some("NFS");
        key.age = Some(OLD_KEY + 1);
        let weights: Vec<_> = of_key(&key).into_iter().map(|found| found.weight).collect();
        assert_eq!(weights, [Weight::Fault, Weight::Advice, Weight::Advice]);
    }

    #[test]
    fn a_daemon_with_another_key_or_none_is_found() {
        let daemon = |kid: Result<&str, &str>, mode| DaemonFacts {
            socket: "/s".into(),
            kid: kid.map(Into::into).map_err(Into::into),
            mode: Some(mode),
            directory_mode: Some(0o755),
            restart: "restart".into(),
        };
        assert_eq!(of_daemon(&daemon(Ok("login1"), 0o666), Some("login1")), []);
        assert_eq!(of_daemon(&daemon(Ok("other"), 0o666), None), []);
        for daemon in [
            daemon(Ok("other"), 0o666),
            daemon(Err("gone"), 0o666),
            daemon(Ok("login1"), 0o600),
        ] {
            assert_eq!(of_daemon(&daemon, Some("login1")).len(), 1);
        }
    }

    #[test]
    fn account_services_that_need_the_network_are_found() {
        let found = |line: &str, nslcd| of_nsswitch(line, nslcd).len();
        assert_eq!(found("passwd: files sss\ngroup: files systemd\n", false), 0);
        assert_eq!(found("passwd: files nis # ldap\n", false), 1);
        assert_eq!(found("group: files ldap\n", false), 1);
        assert_eq!(found("group: files ldap\n", true), 0);
        assert_eq!(found("hosts: files nis dns\n", false), 0);
    }

    #[test]
    fn logs_that_drop_records_are_found() {
        let rsyslog = |text: &str| of_rsyslog("f", text).is_some();
        assert!(rsyslog("module(load=\"imjournal\"\n   StateFile=\"x\")\n"));
        assert!(!rsyslog(
            "module(load=\"imjournal\" Ratelimit.Interval=\"0\")\n"
        ));
        assert!(!rsyslog(
            "#module(load=\"imjournal\")\nmodule(load=\"imuxsock\")\n"
        ));
        assert!(of_journald("u", Some("30s\n")).is_some());
        assert_eq!(of_journald("u", Some("0\n")), None);
        assert_eq!(of_journald("u", None), None);
    }

    #[test]
    fn a_clock_that_is_not_set_or_went_back_is_found() {
        assert_eq!(of_clock(Some("yes\n"), false, Some(-30)), []);
        assert_eq!(of_clock(None, false, None), []);
        assert_eq!(of_clock(Some("no\n"), true, None).len(), 2);
    }

    #[test]
    fn another_clock_than_slurmctlds_is_found() {
        for (ahead, words) in [(31, "31 s ahead of"), (-4000, "4000 s behind")] {
            let found = of_clock(None, false, Some(ahead));
            assert!(found[0].what.contains(words), "{found:?}");
        }
    }

    #[test]
    fn what_may_hold_a_key_is_worse_than_other_leftovers() {
        let weight = |with_key| of_leftover(Path::new("/k/.a.unfinished-0"), with_key).weight;
        assert_eq!([true, false].map(weight), [Weight::Fault, Weight::Advice]);
    }
}
