//! What depends on the door that a request came by. The peer of the main
//! socket asks for itself; the peer of the HTTP door may be a proxy, which
//! passes on what somebody else asks for.

use super::{Names, Policy, is_named, not_allowed};
use crate::account::Account;
use crate::caller::Door;
use crate::wire::{Code, Refusal};

impl Policy {
    /// May this account ask here for more than to have tokens verified. While
    /// it can't be told who the proxies are, nobody may.
    pub fn admits(&self, door: Door, names: &Names, caller: &Account) -> Result<(), Refusal> {
        if door == Door::Main {
            return Ok(());
        }
        if let Some(missing) = self.proxies.iter().find(|p| !names.users.contains_key(*p)) {
            return Err(Refusal::new(
                Code::NotAllowed,
                format!(
                    "The configuration names {missing} in http.proxies, which can't be found on \
                     this machine, so nobody here can be told apart from a proxy."
                ),
                "Use the main socket: slurm-token; ask your administrator to mend slurm-tokend.toml.",
            ));
        }
        if is_named(names, caller, &self.proxies) {
            return Err(Refusal::new(
                Code::NotAllowed,
                format!(
                    "{} is a proxy, which speaks for others: it may only have tokens verified here.",
                    caller.name
                ),
                "Ask by the main socket: slurm-token.",
            ));
        }
        Ok(())
    }

    /// May this delegate ask for others here.
    pub(super) fn may_delegate(&self, door: Door, caller: &Account) -> Result<(), Refusal> {
        let delegate = self.delegate(caller)?;
        if door == Door::Main || delegate.http {
            return Ok(());
        }
        Err(not_allowed(format!(
            "{} may not ask for others through the HTTP door.",
            caller.name
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{alice, machine, plain, portal, refused, with_portal};
    use super::super::{Delegate, Grant};
    use super::*;
    use crate::token::lifespan::Asked;

    fn with_proxies(proxies: &[&str]) -> Policy {
        Policy {
            proxies: proxies.iter().map(|&name| name.to_owned()).collect(),
            ..plain()
        }
    }

    fn by_http(
        policy: &Policy,
        names: &Names,
        caller: &Account,
        target: Option<&Account>,
    ) -> Result<Grant, Refusal> {
        policy.decide_at(Door::Http, names, caller, target, Asked::Default)
    }

    fn machine_with(users: &[(&str, u32)]) -> Names {
        let users = users.iter().map(|(name, uid)| ((*name).to_owned(), *uid));
        Names {
            users: users.collect(),
            ..machine()
        }
    }

    #[test]
    fn a_proxy_gets_no_token_by_http_under_any_of_its_names() {
        let names = machine_with(&[("www-data", 33), ("alice-too", 2001)]);
        for proxies in [["www-data", "alice-too"], ["alice-too", "www-data"]] {
            let policy = with_proxies(&proxies);
            let decided = by_http(&policy, &names, &alice(), None);
            refused(decided, Code::NotAllowed, "is a proxy");
            let at_main = policy.decide(&names, &alice(), None, Asked::Default);
            assert!(at_main.is_ok(), "{at_main:?}");
        }
        let policy = with_proxies(&["www-data"]);
        assert!(by_http(&policy, &names, &alice(), None).is_ok());
    }

    #[test]
    fn while_a_proxy_has_no_account_nobody_gets_a_token_by_http() {
        let policy = with_proxies(&["www-data", "gone"]);
        let names = machine_with(&[("www-data", 33)]);
        let decided = by_http(&policy, &names, &alice(), None);
        refused(decided, Code::NotAllowed, "gone in http.proxies");
        let at_main = policy.decide(&names, &alice(), None, Asked::Default);
        assert!(at_main.is_ok(), "{at_main:?}");
    }

    #[test]
    fn a_delegate_asks_by_http_for_others_only_with_leave_for_that() {
        let policy = with_portal();
        let decided = by_http(&policy, &machine(), &portal(), Some(&alice()));
        refused(decided, Code::NotAllowed, "through the HTTP door");
        let delegates = policy.delegates.iter().cloned();
        let policy = Policy {
            delegates: delegates.map(|d| Delegate { http: true, ..d }).collect(),
            ..policy
        };
        let grant = by_http(&policy, &machine(), &portal(), Some(&alice()));
        assert_eq!(grant.map(|grant| grant.uid()), Ok(2001));
    }

    #[test]
    fn the_privileged_get_no_token_by_http_though_they_are_listed() {
        let policy = Policy {
            allow_privileged: vec!["root".into(), "slurm".into()],
            ..plain()
        };
        for (name, uid) in [("root", 0), ("slurm", 64_030)] {
            let account = Account {
                name: name.into(),
                uid,
                ..alice()
            };
            let decided = by_http(&policy, &machine(), &account, None);
            refused(decided, Code::PrivilegedUser, "could do anything");
            let at_main = policy.decide(&machine(), &account, None, Asked::Default);
            assert!(at_main.is_ok(), "{at_main:?}");
        }
    }
}
