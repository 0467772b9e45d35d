//! Accounts of the machine, through NSS. Every call here may block for as long
//! as the directory service likes: the daemon calls them from
//! `daemon::directory` only.

use std::collections::BTreeMap;
use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// The uid that the kernel shows for a peer it can't name here: one from a
/// user namespace without a mapping (`/proc/sys/kernel/overflowuid`).
pub const OVERFLOW_UID: u32 = 65_534;
/// The uid that system calls take for "no change"; nobody has it.
pub const NO_UID: u32 = u32::MAX;

/// The longest login name, in bytes (limits.h, `LOGIN_NAME_MAX`, less its NUL).
pub const LONGEST_NAME: usize = 255;

/// One account, from one look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The login name, exactly as NSS has it.
    pub name: String,
    /// Its uid.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// The comment field.
    pub gecos: String,
    /// The home directory.
    pub dir: String,
    /// The login shell.
    pub shell: String,
    /// All groups, the primary one among them, by gid; a group without a name
    /// here has none. Names are looked up only where the tokens carry them.
    pub groups: BTreeMap<u32, Option<String>>,
}

/// Whether an account's groups are looked up by their names, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupNames {
    /// They aren't.
    Unneeded,
    /// The name that each gid leads to.
    AsTheyAre,
    /// Only those that lead back to the gid: another group may have the same.
    Unambiguous,
}

impl GroupNames {
    /// For tokens that carry them, or don't.
    pub const fn if_carried(carried: bool) -> Self {
        if carried {
            Self::AsTheyAre
        } else {
            Self::Unneeded
        }
    }
}

/// Looks up the account of a uid.
pub fn by_uid(uid: u32, group_names: GroupNames) -> Result<Option<Account>, Errno> {
    match User::from_uid(Uid::from_raw(uid))? {
        // A name that leads to another uid would let one account speak for another.
        Some(user) if maps_back(&user)? => complete(user, group_names).map(Some),
        Some(_) | None => Ok(None),
    }
}

/// Looks up the account of a name. NSS must return exactly that name, and its
/// uid must lead back to it.
pub fn by_name(name: &str, group_names: GroupNames) -> Result<Option<Account>, Errno> {
    let Some(named) = User::from_name(name)? else {
        return Ok(None);
    };
    match User::from_uid(named.uid)? {
        Some(user) if user.name == name && named.name == name => {
            complete(user, group_names).map(Some)
        }
        Some(_) | None => Ok(None),
    }
}

/// Looks up the uid of a name, be it the account's first name or another.
pub fn uid_of(name: &str) -> Result<Option<u32>, Errno> {
    Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
}

/// Looks up a group's gid.
pub fn group(name: &str) -> Result<Option<u32>, Errno> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

fn maps_back(user: &User) -> Result<bool, Errno> {
    Ok(User::from_name(&user.name)?.is_some_and(|u| u.uid == user.uid && u.name == user.name))
}

fn complete(user: User, group_names: GroupNames) -> Result<Account, Errno> {
    let name = CString::new(user.name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut groups = BTreeMap::new();
    for gid in getgrouplist(&name, user.gid)? {
        let name = match group_names {
            GroupNames::Unneeded => None,
            GroupNames::AsTheyAre => group_name(gid)?,
            GroupNames::Unambiguous => match group_name(gid)? {
                Some(name) if group(&name)? == Some(gid.as_raw()) => Some(name),
                Some(_) | None => None,
            },
        };
        groups.insert(gid.as_raw(), name);
    }
    Ok(Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        gecos: user.gecos.to_string_lossy().into_owned(),
        dir: user.dir.to_string_lossy().into_owned(),
        shell: user.shell.to_string_lossy().into_owned(),
        groups,
    })
}

fn group_name(gid: Gid) -> Result<Option<String>, Errno> {
    Ok(Group::from_gid(gid)?.map(|group| group.name))
}

/// Why a name can't be the `sun` of a token, whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// Slurm takes it for a uid: `"0"` runs jobs as root (slurm facts, measured).
    Numeric,
    /// It has a sign, white space, a control or a non-ASCII byte, or is empty
    /// or longer than any login name (`LOGIN_NAME_MAX`).
    Odd,
    /// It is not a POSIX portable user name (XBD 3.437).
    NotPortable,
}

/// Judges a name by itself. `admitted` lists patterns, in which `*` stands for
/// any run of characters, of names that need not be portable; nothing admits a
/// numeric or odd one.
pub fn judge_name(name: &str, admitted: &[String]) -> Result<(), BadName> {
    let bytes = name.as_bytes();
    if bytes.is_empty()
        || bytes.len() > LONGEST_NAME
        || bytes[0] == b'-'
        || bytes.iter().any(|b| !b.is_ascii_graphic() || *b == b'+')
    {
        return Err(BadName::Odd);
    }
    if bytes.iter().all(u8::is_ascii_digit) {
        return Err(BadName::Numeric);
    }
    let portable = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if bytes.iter().all(portable) || admitted.iter().any(|p| matches(p.as_bytes(), bytes)) {
        return Ok(());
    }
    Err(BadName::NotPortable)
}

/// Does the pattern match, `*` standing for any run of bytes. Callers choose
/// the name, so its cost is bounded: a `*` that has to take more than it did
/// leaves those before it as they are.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // The last `*`, and where in the name its run ends.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, end)) = star else { return false };
                star = Some((at, end + 1));
                p = at + 1;
                n = end + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_slurm_takes_for_a_uid_are_refused_even_when_admitted() {
        let all = vec!["*".to_owned()];
        for name in ["0", "00", "1002", "4294967295"] {
            assert_eq!(judge_name(name, &all), Err(BadName::Numeric), "{name}");
        }
        for name in [
            "", "+0", "-0", " 0", "0 ", "a+b", "-a", "a b", "a\tb", "a\nb", "\u{e9}", "a\0b",
            "a\u{7f}",
        ] {
            assert_eq!(judge_name(name, &all), Err(BadName::Odd), "{name:?}");
        }
    }

    #[test]
    fn portable_names_pass_and_others_need_a_pattern() {
        for name in ["alice", "a.b_c-d", "Bob", "1a", "_x", "0x10"] {
            assert_eq!(judge_name(name, &[]), Ok(()), "{name}");
        }
        for name in ["alice@example.org", "EXAMPLE\\bob", "host$"] {
            assert_eq!(judge_name(name, &[]), Err(BadName::NotPortable), "{name}");
        }
        let admitted = vec!["*@example.org".to_owned(), "*$".to_owned()];
        assert_eq!(judge_name("alice@example.org", &admitted), Ok(()));
        assert_eq!(judge_name("host$", &admitted), Ok(()));
        assert_eq!(
            judge_name("alice@example.com", &admitted),
            Err(BadName::NotPortable)
        );
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, name) in [
            ("*", "@"),
            ("*@*", "@"),
            ("a*@b*c", "aaa@bcbc"),
            ("*@corp", "a@corp@corp"),
            ("**@", "a@"),
            ("a@*", "a@"),
            ("a@b", "a@b"),
        ] {
            assert_eq!(
                judge_name(name, &[pattern.into()]),
                Ok(()),
                "{pattern} {name}"
            );
        }
        for (pattern, name) in [
            ("a*@b*c", "aaa@bcb"),
            ("*@corp", "a@corp.org"),
            ("a@*b", "a@"),
            ("@*", "a@"),
            ("a@b", "a@"),
            ("a@b", "a@bc"),
        ] {
            let judged = judge_name(name, &[pattern.into()]);
            assert_eq!(judged, Err(BadName::NotPortable), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_costs_little_for_a_name_chosen_against_it() {
        // By backtracking through all stars this would not end within years.
        let name = "a".repeat(LONGEST_NAME - 1) + "@";
        let pattern = "*a".repeat(40) + "*b";
        assert_eq!(judge_name(&name, &[pattern]), Err(BadName::NotPortable));
    }
}
