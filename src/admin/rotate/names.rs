//! What the next key is called. Pure.

use crate::keys::Kid;

/// The name without the date at its end: `login1` of `login1-2026-11`, and of
/// `login1-2026-11-25` and `login1-2026-11-25-2`.
pub(super) fn stem(name: &str) -> &str {
    split(name).0
}

/// Does `kid` name a key of the same stem as `present`, and a later one: one
/// that may come to follow it.
pub(super) fn is_later(kid: &Kid, present: &Kid) -> bool {
    let ((stem, date), (other, before)) = (split(kid.as_str()), split(present.as_str()));
    stem == other && date > before
}

/// A name for the key after `name`, made `today`, which is written as
/// `2026-11-25`: with the month, or with the day too where
/// that one is taken or past, or with a number. None where all are, as when the
/// clock is behind the present key.
pub(super) fn next(name: &str, today: &str, taken: impl Fn(&str) -> bool) -> Option<String> {
    let (stem, before) = split(name);
    let by_month = format!("{stem}-{}", today.rsplit_once('-')?.0);
    let by_day = format!("{stem}-{today}");
    let numbered = (2..100).map(|number| format!("{by_day}-{number}"));
    [by_month, by_day.clone()]
        .into_iter()
        .chain(numbered)
        .find(|name| split(name).1 > before && !taken(name))
}

/// A name without its date, and the date: year, month, day and number in the
/// day, as far as they are there.
fn split(name: &str) -> (&str, Vec<u16>) {
    let parts: Vec<&str> = name.split('-').collect();
    let number = |part: &str, least: usize, most: usize| {
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        ((least..=most).contains(&part.len()) && digits).then(|| part.parse().ok())?
    };
    for length in [4, 3, 2] {
        let Some(rest) = parts.len().checked_sub(length).filter(|rest| *rest > 0) else {
            continue;
        };
        let date: Option<Vec<u16>> = parts[rest..]
            .iter()
            .enumerate()
            .map(|(place, part)| match place {
                0 => number(part, 4, 4),
                3 => number(part, 1, 2),
                _ => number(part, 2, 2),
            })
            .collect();
        if let Some(date) = date {
            let dated: usize = parts[rest..].iter().map(|part| part.len() + 1).sum();
            return (&name[..name.len() - dated], date);
        }
    }
    (name, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: &str = "2026-11-05";

    #[test]
    fn the_stem_is_what_stands_before_a_date() {
        for (name, wanted) in [
            ("login1-2026-11", "login1"),
            ("login1-2026-11-25", "login1"),
            ("login1-2026-11-25-2", "login1"),
            ("{host}-2026-11", "{host}"),
            ("gpu-login-2-2026-11", "gpu-login-2"),
            ("login1", "login1"),
            ("login-2026", "login-2026"),
            ("2026-11", "2026-11"),
            ("login-20-11", "login-20-11"),
        ] {
            assert_eq!(stem(name), wanted, "{name}");
        }
    }

    #[test]
    fn the_next_name_is_dated_later_and_never_taken() {
        let of = |name: &str, taken: &[&str]| next(name, TODAY, |name| taken.contains(&name));
        assert_eq!(of("login1", &[]).unwrap(), "login1-2026-11");
        assert_eq!(of("{host}-2026-10", &[]).unwrap(), "{host}-2026-11");
        assert_eq!(of("a-2026-11", &[]).unwrap(), "a-2026-11-05");
        assert_eq!(of("a-2026-11-05", &[]).unwrap(), "a-2026-11-05-2");
        assert_eq!(of("a-2026-11-05-2", &[]).unwrap(), "a-2026-11-05-3");
        assert_eq!(of("a", &["a-2026-11"]).unwrap(), "a-2026-11-05");
        assert_eq!(next("a", TODAY, |_| true), None);
        assert_eq!(of("a-2026-12", &[]), None);
    }

    #[test]
    fn every_next_name_is_later_than_all_before() {
        let mut names = vec!["login1".to_owned()];
        while let Some(name) = next(names.last().unwrap(), TODAY, |_| false) {
            let kid = Kid::new(&name).unwrap();
            for before in &names {
                assert!(
                    is_later(&kid, &Kid::new(before).unwrap()),
                    "{before} {name}"
                );
            }
            names.push(name);
        }
        assert_eq!(names.len(), 101);
    }

    #[test]
    fn a_key_of_another_stem_follows_none_of_ours() {
        let kid = |name| Kid::new(name).unwrap();
        assert!(!is_later(&kid("login10-2026-11"), &kid("login1-2026-10")));
        assert!(!is_later(&kid("login1-2026-11"), &kid("login1-2026-11")));
        assert!(!is_later(&kid("login1"), &kid("login1-2026-10")));
    }
}
