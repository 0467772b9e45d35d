//! The frames of the protocol, recorded: each release reads those of the ones
//! before it, and writes the same bytes. `tests/frames` has a file for each
//! operation: requests after `> `, answers after `< `.

use serde::{Deserialize, Serialize};
use slurm_tokend::keys::jwks::JwkSet;
use slurm_tokend::wire::{
    self, Blocked, Issued, Metrics, Pong, Request, Sessions, Standing, Status, Unblocked, Verified,
};

/// The lines of a recording after this mark.
fn lines<'r>(recording: &'r str, mark: &str) -> Vec<&'r str> {
    let lines: Vec<&str> = recording
        .lines()
        .filter_map(|line| line.strip_prefix(mark))
        .collect();
    assert!(!lines.is_empty(), "nothing is recorded after {mark:?}");
    lines
}

/// Reads and writes each frame of an operation that answers with a `T`.
#[track_caller]
fn read_and_written_again<T>(operation: &str, recording: &str)
where
    T: Serialize + for<'de> Deserialize<'de>,
{
    for line in lines(recording, "> ") {
        let request =
            Request::parse(line.as_bytes()).unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"));
        assert_eq!(request.operation(), operation);
        let written = String::from_utf8(request.to_line()).unwrap();
        assert_eq!(written, format!("{line}\n"));
    }
    for line in lines(recording, "< ") {
        let written = match wire::parse_answer::<T>(line.as_bytes()) {
            Ok(Ok(answer)) => wire::ok_line(&answer),
            Ok(Err(refusal)) => wire::refusal_line(&refusal),
            Err(unreadable) => panic!("{line}: {unreadable:?}"),
        };
        let written = String::from_utf8(written).unwrap();
        assert_eq!(written, format!("{line}\n"));
    }
}

#[test]
fn frames_of_issue_are_read_and_written_as_recorded() {
    read_and_written_again::<Issued>("issue", include_str!("../frames/issue"));
}

#[test]
fn frames_of_refresh_are_read_and_written_as_recorded() {
    read_and_written_again::<Issued>("refresh", include_str!("../frames/refresh"));
}

#[test]
fn frames_of_verify_are_read_and_written_as_recorded() {
    read_and_written_again::<Verified>("verify", include_str!("../frames/verify"));
}

#[test]
fn frames_of_whoami_are_read_and_written_as_recorded() {
    read_and_written_again::<Standing>("whoami", include_str!("../frames/whoami"));
}

#[test]
fn frames_of_jwks_are_read_and_written_as_recorded() {
    read_and_written_again::<JwkSet>("jwks", include_str!("../frames/jwks"));
}

#[test]
fn frames_of_ping_are_read_and_written_as_recorded() {
    read_and_written_again::<Pong>("ping", include_str!("../frames/ping"));
}

#[test]
fn frames_of_status_are_read_and_written_as_recorded() {
    read_and_written_again::<Status>("status", include_str!("../frames/status"));
}

#[test]
fn frames_of_sessions_are_read_and_written_as_recorded() {
    read_and_written_again::<Sessions>("sessions", include_str!("../frames/sessions"));
}

#[test]
fn frames_of_block_are_read_and_written_as_recorded() {
    read_and_written_again::<Blocked>("block", include_str!("../frames/block"));
}

#[test]
fn frames_of_unblock_are_read_and_written_as_recorded() {
    read_and_written_again::<Unblocked>("unblock", include_str!("../frames/unblock"));
}

#[test]
fn frames_of_metrics_are_read_and_written_as_recorded() {
    read_and_written_again::<Metrics>("metrics", include_str!("../frames/metrics"));
}
