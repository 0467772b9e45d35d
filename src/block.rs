//! Who is blocked on this node: administrators' words, kept by uid and by
//! name. Pure: the daemon keeps them on disk and in force.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// So many users can be blocked at once: whole groups are denied by the policy.
pub const MOST_BLOCKS: usize = 4096;
/// The longest reason, in bytes.
pub const LONGEST_REASON: usize = 200;

/// One user who gets no token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The name that the account had when it was blocked.
    pub user: String,
    /// The uid that it had.
    pub uid: u32,
    /// When it was blocked, in seconds since 1970.
    pub since: u64,
    /// When it ends, in seconds since 1970; none lasts until it's lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Who blocked it.
    pub by: String,
    /// Why, in that one's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Block {
    fn has_ended(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// Why a reason can't be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadReason {
    /// It has more than [`LONGEST_REASON`] bytes.
    TooLong,
    /// It has a line end or another control character.
    Control,
}

/// Judges a reason: one line that can be shown.
pub fn judge_reason(reason: &str) -> Result<(), BadReason> {
    if reason.len() > LONGEST_REASON {
        Err(BadReason::TooLong)
    } else if reason.chars().any(char::is_control) {
        Err(BadReason::Control)
    } else {
        Ok(())
    }
}

/// All blocks, at most [`MOST_BLOCKS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    by_uid: BTreeMap<u32, Block>,
    /// The uid that was blocked last under a name.
    by_name: BTreeMap<String, u32>,
}

/// What is on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    blocks: Vec<Block>,
}

/// The form of [`Written`] that this release knows.
const FORM: u32 = 1;

impl Blocks {
    /// Reads what [`Self::to_text`] wrote; the error says what is wrong where.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        if written.version != FORM {
            return Err(format!("its version is {}, not {FORM}", written.version));
        }
        if written.blocks.len() > MOST_BLOCKS {
            return Err(format!("it has more than {MOST_BLOCKS} blocks"));
        }
        let mut blocks = Self::default();
        for block in written.blocks {
            if blocks.by_uid.contains_key(&block.uid) {
                return Err(format!("it has two blocks of uid {}", block.uid));
            }
            blocks.put(block);
        }
        Ok(blocks)
    }

    /// The text that is kept on disk.
    pub fn to_text(&self) -> Vec<u8> {
        let written = Written {
            version: FORM,
            blocks: self.by_uid.values().cloned().collect(),
        };
        // Plain strings and numbers always have a JSON form.
        let mut text = serde_json::to_vec_pretty(&written).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// The block in force of an account, by its uid or by its name: neither a
    /// new name for the uid nor a new uid for the name ends it.
    pub fn of(&self, uid: u32, name: &str, now: u64) -> Option<&Block> {
        self.of_uid(uid, now)
            .or_else(|| self.of_uid(*self.by_name.get(name)?, now))
    }

    /// The block in force of a uid.
    pub fn of_uid(&self, uid: u32, now: u64) -> Option<&Block> {
        self.by_uid.get(&uid).filter(|block| !block.has_ended(now))
    }

    /// With this block beside the others, in the place of an earlier one of
    /// its uid; those that have ended are left out. None where there is no room.
    #[must_use]
    pub fn with(&self, block: Block) -> Option<Self> {
        let mut blocks = self.in_force(block.since);
        blocks.put(block);
        (blocks.by_uid.len() <= MOST_BLOCKS).then_some(blocks)
    }

    /// Without the blocks of this name and of this uid, and those lifted; none
    /// where nothing was to lift.
    #[must_use]
    pub fn without(&self, name: &str, uid: Option<u32>, now: u64) -> Option<(Self, Vec<Block>)> {
        let is_meant = |block: &Block| block.user == name || Some(block.uid) == uid;
        let (lifted, kept): (Vec<&Block>, Vec<&Block>) = self.all(now).partition(|b| is_meant(b));
        let lifted: Vec<Block> = lifted.into_iter().cloned().collect();
        (!lifted.is_empty()).then(|| (kept.into_iter().cloned().collect(), lifted))
    }

    /// All blocks in force, by uid.
    pub fn all(&self, now: u64) -> impl Iterator<Item = &Block> {
        self.by_uid
            .values()
            .filter(move |block| !block.has_ended(now))
    }

    /// Is nobody blocked, nor was.
    pub fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    fn in_force(&self, now: u64) -> Self {
        self.all(now).cloned().collect()
    }

    fn put(&mut self, block: Block) {
        if let Some(earlier) = self.by_uid.remove(&block.uid)
            && self.by_name.get(&earlier.user) == Some(&block.uid)
        {
            self.by_name.remove(&earlier.user);
        }
        // Of two blocks of one name, the one that lasts longer counts.
        let lasts = |block: &Block| block.until.unwrap_or(u64::MAX);
        let others = self.by_name.get(&block.user);
        let other = others.and_then(|uid| self.by_uid.get(uid));
        if other.is_none_or(|other| lasts(other) <= lasts(&block)) {
            self.by_name.insert(block.user.clone(), block.uid);
        }
        self.by_uid.insert(block.uid, block);
    }
}

impl FromIterator<Block> for Blocks {
    fn from_iter<I: IntoIterator<Item = Block>>(all: I) -> Self {
        let mut blocks = Self::default();
        for block in all {
            blocks.put(block);
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn block(user: &str, uid: u32, until: Option<u64>) -> Block {
        Block {
            user: user.into(),
            uid,
            since: NOW,
            until,
            by: "root".into(),
            reason: Some("a \"reason\" of two\u{e9}".into()),
        }
    }

    fn blocks(all: &[Block]) -> Blocks {
        all.iter().cloned().collect()
    }

    #[test]
    fn a_block_holds_for_the_uid_under_another_name_and_for_the_name_under_another_uid() {
        let blocks = blocks(&[block("alice", 2001, None)]);
        for (uid, name) in [(2001, "alice"), (2001, "alice-too"), (3001, "alice")] {
            assert!(blocks.of(uid, name, NOW).is_some(), "{uid} {name}");
        }
        assert_eq!(blocks.of(2002, "bob", NOW), None);
    }

    #[test]
    fn a_block_ends_at_its_time_and_not_before() {
        let blocks = blocks(&[block("alice", 2001, Some(NOW + 60))]);
        assert!(blocks.of(2001, "alice", NOW + 59).is_some());
        assert_eq!(blocks.of(2001, "alice", NOW + 60), None);
    }

    #[test]
    fn of_two_blocks_that_an_account_has_the_one_in_force_counts() {
        let ended = block("alice", 2001, Some(NOW));
        let other = block("alice", 3001, None);
        for order in [[ended.clone(), other.clone()], [other.clone(), ended]] {
            let found = blocks(&order).of(2001, "alice", NOW).cloned();
            assert_eq!(found.as_ref(), Some(&other));
        }
    }

    #[test]
    fn a_second_block_of_a_uid_takes_the_place_of_the_first() {
        let blocks = blocks(&[block("alice", 2001, None)]);
        let blocks = blocks.with(block("alicia", 2001, Some(NOW + 9))).unwrap();
        assert_eq!(blocks.all(NOW).count(), 1);
        assert!(blocks.of(3001, "alicia", NOW).is_some());
        assert_eq!(blocks.of(3001, "alice", NOW), None);
    }

    #[test]
    fn what_is_lifted_is_named_by_its_name_or_its_uid() {
        let blocks = blocks(&[block("alice", 2001, None), block("bob", 2002, None)]);
        for (name, uid) in [("alice", None), ("alice-too", Some(2001))] {
            let (left, lifted) = blocks.without(name, uid, NOW).unwrap();
            assert_eq!(lifted[0].user, "alice");
            assert_eq!(left.of(2001, "alice", NOW), None);
            assert!(left.of(2002, "bob", NOW).is_some());
        }
        assert_eq!(blocks.without("carol", None, NOW), None);
    }

    #[test]
    fn there_is_room_for_so_many_and_those_that_ended_leave_it() {
        let full: Blocks = (0..4096)
            .map(|i| block(&format!("u{i}"), i, Some(NOW + 5)))
            .collect();
        assert!(full.with(block("alice", 5000, None)).is_none());
        assert!(full.with(block("u7", 7, None)).is_some());
        let later = Block {
            since: NOW + 5,
            ..block("alice", 5000, None)
        };
        assert_eq!(full.with(later).unwrap().all(NOW).count(), 1);
    }

    #[test]
    fn what_is_written_reads_back() {
        let blocks = blocks(&[
            block("alice", 2001, None),
            block("odd\"\\name", 2002, Some(7)),
        ]);
        assert_eq!(Blocks::parse(&blocks.to_text()), Ok(blocks));
        let none = Blocks::default();
        assert_eq!(Blocks::parse(&none.to_text()), Ok(none));
    }

    #[test]
    fn what_is_not_wholly_understood_is_refused() {
        let good = String::from_utf8(blocks(&[block("alice", 2001, None)]).to_text()).unwrap();
        for bad in [
            String::new(),
            "{}".into(),
            good[..good.len() / 2].into(),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("\"since\"", "\"sinse\""),
            good.replace("\"uid\": 2001", "\"uid\": -1"),
            good.replace("\"version\"", "\"only\": \"issue\", \"version\""),
            good.replace("\"since\"", "\"until\": \"soon\", \"since\""),
        ] {
            assert!(Blocks::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let twice = serde_json::json!({"version": 1, "blocks": [
            {"user": "a", "uid": 1, "since": 1, "by": "root"},
            {"user": "b", "uid": 1, "since": 1, "by": "root"},
        ]});
        assert!(Blocks::parse(twice.to_string().as_bytes()).is_err());
    }

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        assert_eq!(judge_reason("portal \u{e9}\"'=\\ abuse"), Ok(()));
        assert_eq!(judge_reason(&"x".repeat(LONGEST_REASON)), Ok(()));
        let long = "x".repeat(LONGEST_REASON + 1);
        assert_eq!(judge_reason(&long), Err(BadReason::TooLong));
        for control in ["a\nb", "a\x1b[2J", "\0", "\u{85}"] {
            assert_eq!(judge_reason(control), Err(BadReason::Control));
        }
    }
}
