//! Requests that bring a token: is it valid, and a new one in its place.

use std::sync::Arc;
use std::time::Instant;

use crate::account::{Account, NO_UID};
use crate::caller::{Caller, Door};
use crate::daemon::directory::{Acquaintance, Who};
use crate::daemon::grant::{Facts, Wanted};
use crate::daemon::peer::Peer;
use crate::daemon::quotas::{Payer, STRANGERS};
use crate::daemon::serve::{Exchange, Next};
use crate::daemon::{Daemon, unix_now};
use crate::policy::Names;
use crate::token::compact::Claims;
use crate::token::verify::{Rules, Verified, verify};
use crate::wire::{self, Refusal, Request};

impl Daemon {
    /// Tells anybody whether a token is valid, and what it says. Who asks
    /// matters only for who pays.
    pub(super) fn verify(self: &Arc<Self>, exchange: Exchange, now: Instant) -> Next {
        let sought = exchange.sought(Who::Uid(exchange.peer.caller().uid));
        let caller = self.directory.acquaintance(&sought, now);
        let names = self.directory.last_names(exchange.engine.generation, now);
        if let (Acquaintance::Account | Acquaintance::NoAccount, Some(names)) = (caller, names) {
            return self.verify_for(exchange, caller == Acquaintance::Account, names);
        }
        self.later(exchange, async move |daemon, exchange| {
            let engine = Arc::clone(&exchange.engine);
            let (caller, names) = daemon.look_up(&engine, sought).await;
            // Who can't be found pays as one of those without an account, and
            // names without meaning leave those that the token itself says.
            let has_account = matches!(caller, Ok(Some(_)));
            daemon.verify_for(exchange, has_account, names.unwrap_or_default())
        })
    }

    fn verify_for(
        self: &Arc<Self>,
        exchange: Exchange,
        has_account: bool,
        names: Arc<Names>,
    ) -> Next {
        let (payer, rate) = if has_account {
            let Caller { uid, door, .. } = exchange.peer.caller();
            let config = &exchange.engine.config;
            match door {
                Door::Main => (Payer::Verifier(uid), config.limits.verifications),
                Door::Http => (Payer::HttpVerifier(uid), config.http.verifications),
            }
        } else {
            (Payer::Strangers, STRANGERS)
        };
        if let Err(fast) = self.quotas.take(payer, rate, Instant::now()) {
            return self.refuse_fast(exchange, None, fast);
        }
        self.examine(
            exchange,
            names,
            move |daemon, exchange, examined| match examined {
                Ok(verified) => daemon.forward(exchange, told(verified), payer),
                Err(refusal) => daemon.refuse_noted(exchange, None, payer, &refusal),
            },
        )
    }

    /// Gives a token in the place of one that the caller brings: its own, or
    /// one that it got for somebody else.
    pub(super) fn refresh(
        self: &Arc<Self>,
        exchange: Exchange,
        caller: Arc<Account>,
        names: Arc<Names>,
    ) -> Next {
        let payer = Payer::Verifier(caller.uid);
        let rate = exchange.engine.config.limits.verifications;
        if let Err(fast) = self.quotas.take(payer, rate, Instant::now()) {
            return self.refuse_fast(exchange, Some(&caller), fast);
        }
        let known = Arc::clone(&names);
        self.examine(
            exchange,
            known,
            move |daemon, exchange, examined| match examined {
                Ok(Verified { claims, .. }) => daemon.renew(exchange, caller, names, claims),
                Err(refusal) => daemon.refuse_noted(exchange, Some(&caller), payer, &refusal),
            },
        )
    }

    /// Goes on as with a request for a token, which the old one stands for.
    fn renew(
        self: &Arc<Self>,
        mut exchange: Exchange,
        caller: Arc<Account>,
        names: Arc<Names>,
        old: Claims,
    ) -> Next {
        let whose = exchange.engine.config.policy.whose(&caller, &old);
        match whose {
            Ok(target) => exchange.on_behalf = target.map(ToOwned::to_owned),
            Err(refusal) => {
                let payer = Payer::Verifier(caller.uid);
                return self.refuse_noted(exchange, Some(&caller), payer, &refusal);
            }
        }
        if let Err(fast) = self.pay(&exchange, &caller, exchange.on_behalf.is_some()) {
            return self.refuse_fast(exchange, Some(&caller), fast);
        }
        let facts = Facts {
            names,
            caller,
            wanted: Wanted::InPlaceOf(Box::new(old)),
        };
        match exchange.on_behalf.clone() {
            Some(name) => self.learn_target(exchange, facts, name),
            None => self.decide(exchange, facts, None),
        }
    }

    /// Takes a token apart and checks it, on the threads that sign and when
    /// it's the caller's turn: a flood of tokens holds up only who sends it,
    /// and no thread that reads requests. The threads of the HTTP door are there
    /// for verifications, and hand none on.
    fn examine<F>(self: &Arc<Self>, exchange: Exchange, names: Arc<Names>, then: F) -> Next
    where
        F: FnOnce(&Arc<Self>, Exchange, Result<Verified, Refusal>) -> Next + Send + 'static,
    {
        let is_verify = matches!(exchange.request, Request::Verify { .. });
        if is_verify && matches!(exchange.peer, Peer::Http(_)) {
            let examined = self.judge(&exchange, &names);
            return then(self, exchange, examined);
        }
        self.in_turn(exchange, move |daemon, exchange| {
            let examined = daemon.judge(&exchange, &names);
            then(daemon, exchange, examined)
        })
    }

    /// The token of a request, if it's genuine, valid, and nobody's who is
    /// blocked here.
    fn judge(&self, exchange: &Exchange, names: &Names) -> Result<Verified, Refusal> {
        let config = &exchange.engine.config;
        let rules = Rules {
            leeway: config.leeway,
            policy: &config.policy,
            names,
        };
        let token = exchange.request.shown_token()?.as_bytes();
        let verified = verify(token, exchange.engine.keys.ring(), &rules, unix_now())
            .map_err(|rejected| rejected.refusal())?;
        let Claims { sun, uid, .. } = &verified.claims;
        match self.blocks.refusal(uid.unwrap_or(NO_UID), sun) {
            Some(refusal) => Err(refusal),
            None => Ok(verified),
        }
    }
}

fn told(verified: Verified) -> wire::Verified {
    wire::Verified {
        user: verified.claims.sun.clone(),
        expires_at: verified.claims.exp,
        kid: verified.kid,
        alg: verified.algorithm.as_str().into(),
        claims: verified.claims,
    }
}
