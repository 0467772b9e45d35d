//! What facts mean: each finding says what is so, why it matters, and the
//! command that mends it. Pure.

use serde::Serialize;

use super::slurm_conf::SlurmConf;
use crate::keys::Algorithm;
use crate::report::Problem;

/// A key older than this is due for a rotation, in seconds.
const OLD_KEY: u64 = 365 * 24 * 3600;
/// File systems that other machines share, by their numbers in statfs(2).
const NETWORKS: [(i64, &str); 9] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x00c3_6400, "Ceph"),
    (0x6b41_4653, "AFS"),
];

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

fn advice(finding: Finding) -> Finding {
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
    /// The number of its file system.
    pub(super) file_system: Option<i64>,
}

pub(super) fn of_key(key: &KeyFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let network = NETWORKS
        .iter()
        .find(|(number, _)| key.file_system == Some(*number));
    if let Some((_, name)) = network {
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

/// What a JWKS beside slurm.conf holds of our key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InJwks {
    /// This key under its kid.
    Same,
    /// Another key under its kid.
    Other,
    Missing,
    /// The file can't be read here.
    Unread,
}

/// How the HS256 key that Slurm uses compares to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    Same,
    /// The same but for a newline at the end of one.
    ButForANewline,
    Other,
    Unread,
}

/// What slurm.conf or slurmdbd.conf says, and what lies beside it.
pub(super) struct SlurmFacts<'a> {
    /// The file.
    pub(super) file: String,
    /// slurmctld or slurmdbd.
    pub(super) program: &'static str,
    pub(super) conf: &'a SlurmConf,
    pub(super) in_jwks: InJwks,
    pub(super) secret: Secret,
    /// `slurm_user` of our configuration, and its longest lifespan in seconds.
    pub(super) slurm_user: &'a str,
    pub(super) longest: u32,
}

pub(super) fn of_slurm(facts: &SlurmFacts<'_>, key: &KeyFacts) -> Vec<Finding> {
    let SlurmFacts {
        file,
        program,
        conf,
        ..
    } = facts;
    let mut findings = Vec::new();
    for name in &conf.unread {
        findings.push(advice(fault(
            &**file,
            format!("the file {name:?} that it includes can't be read"),
            "what stands there was not looked at",
            format!("run this as root, or mend the line: Include {name}"),
        )));
    }
    if !conf.lists("AuthAltTypes", "auth/jwt") {
        findings.push(fault(
            &**file,
            "AuthAltTypes does not name auth/jwt",
            format!("{program} takes no token at all"),
            format!("add AuthAltTypes=auth/jwt, then: systemctl restart {program}"),
        ));
        return findings;
    }
    match key.algorithm {
        Algorithm::Rs256 => findings.extend(of_jwks(facts, key)),
        Algorithm::Hs256 => findings.extend(of_secret(facts, key)),
    }
    if conf.jwt_key().is_some() && conf.parameter("disable_token_creation").is_none() {
        findings.push(fault(
            &**file,
            "it has an HS256 key (jwt_key) and no disable_token_creation",
            "any valid token renews itself by scontrol token, for a year or more: no lifespan of \
             ours holds",
            format!(
                "add disable_token_creation to AuthAltParameters, then: systemctl restart {program}"
            ),
        ));
    }
    if let Some(theirs) = conf
        .parameter("max_token_lifespan")
        .and_then(|v| v.parse().ok())
        && facts.longest > theirs
    {
        findings.push(advice(fault(
            &**file,
            format!(
                "max_token_lifespan is {theirs} s, and slurm-tokend gives up to {} s",
                facts.longest
            ),
            "Slurm's limit binds scontrol token only, so here people get more than it means to give",
            "lower max_lifespan in slurm-tokend.toml, or raise the other",
        )));
    }
    let theirs = conf.get("SlurmUser").unwrap_or("root");
    if *program == "slurmctld" && theirs != facts.slurm_user {
        findings.push(fault(
            &**file,
            format!(
                "SlurmUser is {theirs}, and slurm_user of slurm-tokend is {}",
                facts.slurm_user
            ),
            format!("a token of {theirs} can act as anybody, and slurm-tokend may give one"),
            format!("set slurm_user = \"{theirs}\" in slurm-tokend.toml, then reload slurm-tokend"),
        ));
    }
    findings
}

fn of_jwks(facts: &SlurmFacts<'_>, key: &KeyFacts) -> Option<Finding> {
    let SlurmFacts {
        file,
        program,
        conf,
        ..
    } = facts;
    let Some(jwks) = conf.parameter("jwks").filter(|jwks| !jwks.is_empty()) else {
        return Some(fault(
            &**file,
            "AuthAltParameters names no jwks=",
            format!("{program} knows no RS256 key: every token of this node is refused"),
            format!(
                "add AuthAltParameters=jwks=/etc/slurm/jwks.json, then: systemctl restart {program}"
            ),
        ));
    };
    let merge = format!(
        "slurm-tokenctl jwks merge /etc/slurm/jwks.d --out {jwks}; then restart {program} (from \
         Slurm 26.05 on scontrol reconfigure is enough)"
    );
    match facts.in_jwks {
        InJwks::Same => None,
        InJwks::Unread => Some(advice(fault(
            jwks,
            format!("the set that {program} reads can't be read here"),
            "whether it holds this node's key is not known",
            "run slurm-tokenctl doctor where it is, or as root",
        ))),
        InJwks::Missing => Some(fault(
            jwks,
            format!("the kid {} is not in the set that {program} reads", key.kid),
            "every token of this node is refused",
            merge,
        )),
        InJwks::Other => Some(fault(
            jwks,
            format!(
                "another key has the kid {} in the set that {program} reads",
                key.kid
            ),
            "every token of this node is refused",
            merge,
        )),
    }
}

fn of_secret(facts: &SlurmFacts<'_>, key: &KeyFacts) -> Option<Finding> {
    let SlurmFacts {
        file,
        program,
        conf,
        ..
    } = facts;
    let Some(theirs) = conf.jwt_key() else {
        return Some(fault(
            &**file,
            "AuthAltParameters names a jwks= and no jwt_key=",
            format!("{program} takes no HS256 token: every token of this node is refused"),
            format!(
                "add jwt_key={}, then: systemctl restart {program}",
                key.file
            ),
        ));
    };
    let why = "every token of this node is refused";
    match facts.secret {
        Secret::Same | Secret::Unread => None,
        Secret::ButForANewline => Some(fault(
            theirs,
            format!("it differs from {} by a newline at the end", key.file),
            "each byte of the file is part of the key: every token of this node is refused",
            "copy the file as it is, with cp, and restart both",
        )),
        Secret::Other => Some(fault(
            theirs,
            format!("it is another HS256 key than {}", key.file),
            why,
            "copy the one to the other's place, by rename, and restart both",
        )),
    }
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

pub(super) fn of_daemon(daemon: &DaemonFacts, kid: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &daemon.kid {
        Ok(signs) if signs == kid => {}
        Ok(signs) => findings.push(fault(
            &*daemon.socket,
            format!("the daemon signs with {signs}, and the configuration names {kid}"),
            "the key was changed and the daemon has not taken it yet",
            &*daemon.restart,
        )),
        Err(why) => findings.push(fault(
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

/// What `timedatectl` says of the clock.
pub(super) fn of_clock(synchronised: Option<&str>, record_ahead: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if synchronised.is_some_and(|word| word.trim() == "no") {
        findings.push(fault(
            "the clock",
            "it is not synchronised",
            "tokens begin and end by it: slurmctld refuses those from a clock that is wrong",
            "timedatectl set-ntp true, or start chronyd or ntpd",
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
            file_system: Some(0xef53),
        }
    }

    fn slurm(text: &str, algorithm: Algorithm, in_jwks: InJwks, secret: Secret) -> Vec<String> {
        let conf = SlurmConf::parse(&format!("SlurmUser=slurm\n{text}"), &mut |_| None);
        let facts = SlurmFacts {
            file: "/etc/slurm/slurm.conf".into(),
            program: "slurmctld",
            conf: &conf,
            in_jwks,
            secret,
            slurm_user: "slurm",
            longest: 3600,
        };
        let findings = of_slurm(&facts, &key(algorithm));
        findings.into_iter().map(|finding| finding.what).collect()
    }

    const JWKS: &str = "AuthAltTypes=auth/jwt\nAuthAltParameters=jwks=/j.json";

    #[test]
    fn a_slurm_that_knows_the_key_gives_no_finding() {
        let rs256 = slurm(JWKS, Algorithm::Rs256, InJwks::Same, Secret::Unread);
        assert_eq!(rs256, [""; 0]);
        let text = "AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key=/k,disable_token_creation";
        let hs256 = slurm(text, Algorithm::Hs256, InJwks::Unread, Secret::Same);
        assert_eq!(hs256, [""; 0]);
    }

    #[test]
    fn each_way_in_which_slurm_refuses_every_token_is_found() {
        let rs256 = |text: &str, in_jwks| slurm(text, Algorithm::Rs256, in_jwks, Secret::Unread);
        let hs256 = |text: &str, secret| slurm(text, Algorithm::Hs256, InJwks::Unread, secret);
        let jwt_key = "AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key=/k,disable_token_creation";
        for (found, words) in [
            (
                rs256("AuthAltTypes=none", InJwks::Same),
                "does not name auth/jwt",
            ),
            (rs256(jwt_key, InJwks::Unread), "names no jwks="),
            (rs256(JWKS, InJwks::Missing), "is not in the set"),
            (rs256(JWKS, InJwks::Other), "another key has the kid"),
            (hs256(JWKS, Secret::Unread), "no jwt_key="),
            (hs256(jwt_key, Secret::Other), "another HS256 key"),
            (hs256(jwt_key, Secret::ButForANewline), "by a newline"),
        ] {
            assert!(
                found.len() == 1 && found[0].contains(words),
                "{words}: {found:?}"
            );
        }
    }

    #[test]
    fn a_slurm_in_which_tokens_renew_themselves_is_found() {
        let text = "AuthAltTypes=auth/jwt\nAuthAltParameters=jwks=/j.json,jwt_key=/k";
        let found = slurm(text, Algorithm::Rs256, InJwks::Same, Secret::Unread);
        assert!(found[0].contains("no disable_token_creation"), "{found:?}");
    }

    #[test]
    fn another_slurm_user_and_a_shorter_limit_are_found() {
        let text = format!("{JWKS},max_token_lifespan=60\nSlurmUser=root");
        let found = slurm(&text, Algorithm::Rs256, InJwks::Same, Secret::Unread);
        assert!(found[0].contains("max_token_lifespan is 60 s"), "{found:?}");
        assert!(found[1].contains("SlurmUser is root"), "{found:?}");
    }

    #[test]
    fn a_key_on_a_shared_disk_an_old_one_and_hs256_are_found() {
        let mut key = key(Algorithm::Hs256);
        key.file_system = Some(0x6969);
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
        assert_eq!(of_daemon(&daemon(Ok("login1"), 0o666), "login1"), []);
        for daemon in [
            daemon(Ok("other"), 0o666),
            daemon(Err("gone"), 0o666),
            daemon(Ok("login1"), 0o600),
        ] {
            assert_eq!(of_daemon(&daemon, "login1").len(), 1);
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
        assert_eq!(of_clock(Some("yes\n"), false), []);
        assert_eq!(of_clock(None, false), []);
        assert_eq!(of_clock(Some("no\n"), true).len(), 2);
    }
}
