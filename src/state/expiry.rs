//! Until when tokens of each key may live: the latest `exp` that any of them
//! can have, recorded before such a token leaves.
//!
//! Today's `max_lifespan` says nothing of the tokens that were signed when it
//! was longer. So a record is raised and never lowered, and a key may go only
//! when its record's time is past. One that can't be read says that nobody
//! knows: it's set aside, and as long as it lies there nobody does.

use serde::{Deserialize, Serialize};

use super::StateDir;
use crate::keys::Kid;
use crate::keys::file::quoted;
use crate::report::Problem;

/// A record has 200 bytes, of which the kid may be 128.
const MOST: usize = 1024;

/// What is known of the tokens of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LatestExp {
    /// None lives beyond this time, in seconds since 1970.
    Until(u64),
    /// There is no record: the key has never signed here, or its record is lost.
    NoRecord,
    /// There is a record that says nothing, for this reason.
    Unknown(Problem),
}

/// The record as it stands in its file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u8,
    kid: String,
    latest_exp: u64,
}

fn file(kid: &Kid) -> String {
    format!("expiry-{kid}.json")
}

fn file_aside(kid: &Kid) -> String {
    format!("expiry-{kid}.broken")
}

/// The record's bytes, and back.
fn write(kid: &Kid, latest_exp: u64) -> Vec<u8> {
    let record = Record {
        v: 1,
        kid: kid.as_str().to_owned(),
        latest_exp,
    };
    // Two numbers and a plain string: nothing that JSON can't hold.
    let mut bytes = serde_json::to_vec(&record).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// None where the bytes are not exactly what [`write`] gives.
fn parse(kid: &Kid, bytes: &[u8]) -> Option<u64> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    (write(kid, record.latest_exp) == bytes).then_some(record.latest_exp)
}

impl StateDir {
    /// Until when tokens of a key may live.
    pub fn latest_exp(&self, kid: &Kid) -> LatestExp {
        if self.is_there(&file_aside(kid)) {
            let what = format!("a broken record of key {kid} was set aside here");
            LatestExp::Unknown(self.nobody_knows(&file_aside(kid), what))
        } else {
            self.recorded(kid)
        }
    }

    fn recorded(&self, kid: &Kid) -> LatestExp {
        let bytes = match self.read(&file(kid), MOST) {
            Ok(None) => return LatestExp::NoRecord,
            Ok(Some(bytes)) => bytes,
            Err(problem) => return LatestExp::Unknown(problem),
        };
        parse(kid, &bytes).map_or_else(
            || {
                let what = format!("this is no record of key {kid}");
                LatestExp::Unknown(self.nobody_knows(&file(kid), what))
            },
            LatestExp::Until,
        )
    }

    fn nobody_knows(&self, name: &str, what: String) -> Problem {
        let place = self.place(name);
        Problem::at(
            &place,
            what,
            format!(
                "when you are sure that no token of this key can live any more: rm {}",
                quoted(&place)
            ),
        )
    }

    /// Records that a token of this key may live until `exp`, in seconds since
    /// 1970. Where the record says less, it becomes `exp` and `ahead` more, so
    /// that whoever signs often writes seldom. Gives what the record says now;
    /// it's on the disk.
    ///
    /// A broken record is set aside: it goes on saying that nobody knows.
    pub fn raise_latest_exp(&self, kid: &Kid, exp: u64, ahead: u64) -> Result<u64, Problem> {
        let _lock = self.lock()?;
        match self.recorded(kid) {
            LatestExp::Until(latest_exp) if latest_exp >= exp => return Ok(latest_exp),
            LatestExp::Until(_) | LatestExp::NoRecord => {}
            LatestExp::Unknown(_) => self.set_aside(&file(kid), &file_aside(kid))?,
        }
        let latest_exp = exp.saturating_add(ahead);
        self.replace(&file(kid), &write(kid, latest_exp))?;
        Ok(latest_exp)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn kid(name: &str) -> Kid {
        Kid::new(name).unwrap()
    }

    fn state(directory: &tempfile::TempDir) -> StateDir {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        StateDir::open(directory.path()).unwrap()
    }

    #[test]
    fn a_record_is_raised_and_never_lowered() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(&dir);
        let kid = kid("login1-2026-11");
        assert_eq!(state.latest_exp(&kid), LatestExp::NoRecord);
        for (exp, recorded) in [(100, 100), (50, 100), (200, 200), (200, 200)] {
            assert_eq!(state.raise_latest_exp(&kid, exp, 0), Ok(recorded));
            assert_eq!(state.latest_exp(&kid), LatestExp::Until(recorded));
        }
    }

    #[test]
    fn what_is_recorded_ahead_needs_no_writing_until_it_is_used_up() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(&dir);
        let kid = kid("a");
        let inode = || {
            fs::metadata(dir.path().join("expiry-a.json"))
                .unwrap()
                .ino()
        };
        state.raise_latest_exp(&kid, 100, 10).unwrap();
        let first = inode();
        assert_eq!(state.raise_latest_exp(&kid, 110, 10), Ok(110));
        assert_eq!(inode(), first);
        assert_eq!(state.raise_latest_exp(&kid, 111, 10), Ok(121));
    }

    #[test]
    fn each_key_has_a_record_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(&dir);
        state.raise_latest_exp(&kid("a"), 100, 0).unwrap();
        state.raise_latest_exp(&kid("b"), 7, 0).unwrap();
        assert_eq!(state.latest_exp(&kid("a")), LatestExp::Until(100));
        assert_eq!(state.latest_exp(&kid("b")), LatestExp::Until(7));
    }

    #[test]
    fn a_record_that_is_not_exactly_one_says_that_nobody_knows() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(&dir);
        for broken in [
            "",
            "{\"v\":1,\"kid\":\"a\",\"latest_exp\":7}",
            "{\"v\":1,\"kid\":\"b\",\"latest_exp\":7}\n",
            "{\"v\":2,\"kid\":\"a\",\"latest_exp\":7}\n",
            "{\"v\":1,\"kid\":\"a\",\"latest_exp\":-7}\n",
            "{\"v\":1,\"kid\":\"a\",\"latest_exp\":7,\"latest_exp\":1}\n",
            "{\"v\":1,\"kid\":\"a\",\"latest_exp\":7}\nmore",
        ] {
            fs::write(dir.path().join("expiry-a.json"), broken).unwrap();
            let known = state.latest_exp(&kid("a"));
            assert!(
                matches!(known, LatestExp::Unknown(_)),
                "{broken}: {known:?}"
            );
        }
    }

    #[test]
    fn a_record_that_others_could_have_written_says_that_nobody_knows() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(&dir);
        state.raise_latest_exp(&kid("a"), 7, 0).unwrap();
        let file = dir.path().join("expiry-a.json");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).unwrap();
        assert!(matches!(state.latest_exp(&kid("a")), LatestExp::Unknown(_)));
    }

    #[test]
    fn a_broken_record_goes_on_saying_that_nobody_knows_when_it_is_raised() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(&dir);
        fs::write(dir.path().join("expiry-a.json"), "{").unwrap();
        assert_eq!(state.raise_latest_exp(&kid("a"), 100, 0), Ok(100));
        let LatestExp::Unknown(problem) = state.latest_exp(&kid("a")) else {
            panic!("it knows")
        };
        let file = problem.remedy.split("rm ").last().unwrap();
        fs::remove_file(file).unwrap();
        assert_eq!(state.latest_exp(&kid("a")), LatestExp::Until(100));
    }

    #[test]
    fn a_record_and_the_lock_are_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        state(&dir).raise_latest_exp(&kid("a"), 7, 0).unwrap();
        for file in ["expiry-a.json", "lock"] {
            let made = fs::metadata(dir.path().join(file)).unwrap();
            assert_eq!(made.mode() & 0o7777, 0o600, "{file}");
        }
    }

    #[test]
    fn many_who_raise_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        state(&dir);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = dir.path();
                scope.spawn(move || {
                    let state = StateDir::open(path).unwrap();
                    for step in 0..25 {
                        let exp = 1 + step * 4 + thread;
                        assert!(state.raise_latest_exp(&kid("a"), exp, 0).unwrap() >= exp);
                    }
                });
            }
        });
        assert_eq!(state(&dir).latest_exp(&kid("a")), LatestExp::Until(100));
    }
}
