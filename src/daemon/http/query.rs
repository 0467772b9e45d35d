//! The query of `/verify`: what must be true of the token beside that it's
//! valid, and whether a new one is wanted.

use form_urlencoded::parse;

use crate::wire::{Code, Refusal, shorten};

/// What a proxy wants of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The name that came beside it.
    pub named: Option<String>,
    /// Its user must be one of these...
    pub users: Vec<String>,
    /// ...or in one of these groups, where any are named at all.
    pub groups: Vec<String>,
    /// A new one is wanted once half of its life is over.
    pub refresh: bool,
}

impl Conditions {
    /// Those of a query: `group=G`, `user=U`, each any number of times, and
    /// `refresh=1`.
    pub fn of_query(query: Option<&str>) -> Result<Self, Refusal> {
        let mut conditions = Self::default();
        let mut refresh = None;
        for (key, value) in parse(query.unwrap_or_default().as_bytes()) {
            let is_name = !value.is_empty()
                && !value.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER);
            match key.as_ref() {
                "user" if is_name => conditions.users.push(value.into_owned()),
                "group" if is_name => conditions.groups.push(value.into_owned()),
                "refresh" if refresh.is_none() && matches!(value.as_ref(), "0" | "1") => {
                    refresh = Some(value == "1");
                }
                "user" | "group" | "refresh" => {
                    return Err(bad(&format!(
                        "{key} can't be {:?}, or is there twice",
                        shorten(&value)
                    )));
                }
                other => return Err(bad(&format!("it has {:?}", shorten(other)))),
            }
        }
        conditions.refresh = refresh.unwrap_or(false);
        Ok(conditions)
    }

    /// Is it settled without a look at groups whether this user is one of
    /// those wanted.
    pub fn by_name(&self, user: &str) -> Option<bool> {
        if self.users.iter().any(|wanted| wanted == user) {
            return Some(true);
        }
        match (self.users.is_empty(), self.groups.is_empty()) {
            (true, true) => Some(true),
            (false, true) => Some(false),
            (_, false) => None,
        }
    }
}

fn bad(what: &str) -> Refusal {
    Refusal::new(
        Code::MalformedRequest,
        format!("The query can't be read: {what}."),
        "Give group=NAME and user=NAME as often as needed, and refresh=1 once.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_users_and_groups_may_be_named_in_any_order() {
        let read = Conditions::of_query(Some("group=a%20b&user=alice&refresh=1&group=c&user=bob"));
        let expected = Conditions {
            named: None,
            users: vec!["alice".into(), "bob".into()],
            groups: vec!["a b".into(), "c".into()],
            refresh: true,
        };
        assert_eq!(read, Ok(expected));
        for nothing in [None, Some(""), Some("refresh=0")] {
            assert_eq!(Conditions::of_query(nothing), Ok(Conditions::default()));
        }
    }

    #[test]
    fn what_is_unknown_empty_or_there_twice_is_refused() {
        for query in [
            "groups=a",
            "group=",
            "group",
            "user=",
            "user=%00",
            "user=%ff",
            "refresh=yes",
            "refresh=",
            "refresh=1&refresh=0",
            "refresh=1&refresh=1",
            "Group=a",
            "=a",
        ] {
            let refused = Conditions::of_query(Some(query)).unwrap_err();
            assert_eq!(refused.code, Code::MalformedRequest, "{query}");
        }
    }

    #[test]
    fn a_condition_of_users_alone_is_settled_by_the_name() {
        let of = |query| Conditions::of_query(Some(query)).unwrap().by_name("alice");
        assert_eq!(of(""), Some(true));
        assert_eq!(of("user=bob&user=alice"), Some(true));
        assert_eq!(of("user=alice&group=x"), Some(true));
        assert_eq!(of("user=bob"), Some(false));
        assert_eq!(of("user=bob&group=x"), None);
        assert_eq!(of("group=x"), None);
    }
}
