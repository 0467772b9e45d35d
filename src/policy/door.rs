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
