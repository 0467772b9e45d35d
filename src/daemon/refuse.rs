//! What is refused: who pays for it, what of it is recorded, and what the
//! caller reads.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::account::Account;
use crate::audit::{Event, NotRecorded, Outcome};
use crate::caller::Caller;
use crate::daemon::directory::{Acquaintance, Found, Sought, Unavailable, Who};
use crate::daemon::engine::Engine;
use crate::daemon::grant::{LOG_PATIENCE, LOG_RETRY};
use crate::daemon::peer::Answer;
use crate::daemon::quotas::{Payer, STRANGERS, TooFast, Unrecorded};
use crate::daemon::serve::{Exchange, Next};
use crate::daemon::{Daemon, unix_now};
use crate::wire::{self, Code, Refusal};

impl Daemon {
    pub(super) fn refuse(
        self: &Arc<Self>,
        exchange: Exchange,
        account: Option<&Account>,
        refusal: &Refusal,
    ) -> Next {
        self.count_refusal(account, refusal.code);
        // Whoever came that far has paid for this request already.
        let recorded = if account.is_some() {
            Some(0)
        } else {
            self.pay_unknown(exchange.peer.caller(), refusal.code)
        };
        if let Some(suppressed) = recorded {
            self.record_refusal(&exchange, account, refusal.code, suppressed);
        }
        self.answer(exchange.peer, Answer::Refused(refusal))
    }

    pub(super) fn count_refusal(&self, account: Option<&Account>, code: Code) {
        self.metrics.refused(code);
        if let Some(Account { uid, name, .. }) = account {
            let unusual = self.ledger.refused(*uid, name, unix_now());
            self.tell_unusual(*uid, unusual);
        }
    }

    /// Refuses what is above a rate.
    pub(super) fn refuse_fast(
        self: &Arc<Self>,
        exchange: Exchange,
        account: Option<&Account>,
        fast: TooFast,
    ) -> Next {
        let refusal = too_fast(fast, exchange.peer.caller(), account);
        self.refuse_noted(exchange, account, fast.payer, &refusal)
    }

    /// Refuses what may be asked more often than the log should hear of: it's
    /// recorded once a second, with the number of those like it.
    pub(super) fn refuse_noted(
        self: &Arc<Self>,
        exchange: Exchange,
        account: Option<&Account>,
        payer: Payer,
        refusal: &Refusal,
    ) -> Next {
        self.count_refusal(account, refusal.code);
        let caller = exchange.peer.caller();
        let noted = self
            .quotas
            .note(payer, caller, refusal.code, Instant::now());
        if let Some(suppressed) = noted {
            self.record_refusal(&exchange, account, refusal.code, suppressed);
        }
        self.answer(exchange.peer, Answer::Refused(refusal))
    }

    /// A refusal needs no record to be given; the record is attempted all the same.
    pub(super) fn record_refusal(
        &self,
        exchange: &Exchange,
        account: Option<&Account>,
        code: Code,
        suppressed: u32,
    ) {
        let lifespan = exchange.request.lifespan().map(ToString::to_string);
        let remembered = self.remembered(exchange.peer.caller(), &exchange.engine);
        let event = exchange.event(
            account.or(remembered.as_deref()),
            Outcome::Refused {
                code,
                lifespan,
                suppressed,
            },
        );
        let caller = exchange.peer.caller();
        self.record(
            &exchange.engine,
            &event,
            Unrecorded {
                payer: account.map_or(Payer::Strangers, |_| Payer::User(caller.uid)),
                caller,
                code,
                others: suppressed,
            },
        );
    }

    /// Records a request that couldn't be read, or a connection that had no place.
    pub(super) fn record_unread(&self, caller: Caller, code: Code) {
        self.count_refusal(None, code);
        if let Some(others) = self.pay_unknown(caller, code) {
            self.record_without_request(Unrecorded {
                payer: Payer::Strangers,
                caller,
                code,
                others,
            });
        }
    }

    /// Records what floods of refusals left to record; with `all`, also what
    /// came a moment ago.
    pub(super) fn record_suppressed(&self, all: bool) {
        for last in self.quotas.unrecorded(Instant::now(), all) {
            self.record_without_request(last);
        }
    }

    /// The same at the end: with patience for a log that is full.
    pub(super) fn record_the_rest(&self) {
        let until = Instant::now() + LOG_PATIENCE;
        self.record_suppressed(true);
        while self.quotas.has_unrecorded() {
            if Instant::now() >= until {
                return self.complain_of_loss(&NotRecorded::Full);
            }
            thread::sleep(LOG_RETRY);
            self.record_suppressed(true);
        }
    }

    fn record_without_request(&self, last: Unrecorded) {
        let Unrecorded {
            caller,
            code,
            others: suppressed,
            ..
        } = last;
        let engine = self.engine();
        let account = self.remembered(caller, &engine);
        let event = Event {
            caller,
            user: account.as_deref().map(|account| account.name.as_str()),
            operation: "-",
            target: None,
            outcome: Outcome::Refused {
                code,
                lifespan: None,
                suppressed,
            },
        };
        self.record(&engine, &event, last);
    }

    /// The caller's account, where nobody has to be asked for it.
    fn remembered(&self, caller: Caller, engine: &Engine) -> Found {
        let sought = Sought::by(&engine.config.policy, Who::Uid(caller.uid));
        self.directory.remembered(&sought, Instant::now()).flatten()
    }

    /// Records a refusal. What a full log doesn't take, `as_number` keeps for
    /// later: then it's one of those that another line stands for.
    fn record(&self, engine: &Engine, event: &Event, as_number: Unrecorded) {
        match engine.recorder.record(event) {
            Ok(()) => {}
            Err(NotRecorded::Full) => self.quotas.keep(as_number, Instant::now()),
            Err(why) => self.complain_of_loss(&why),
        }
    }

    /// Says that a record was lost.
    pub(super) fn complain_of_loss(&self, why: &NotRecorded) {
        self.metrics.record_lost();
        self.complain(format_args!("an audit record was lost: {why}"));
    }

    /// A request whose caller has no account, or that has no form, is paid for
    /// by the caller's own rate if it's known, or by the one that all others
    /// share. Says whether its refusal is to be recorded now, and standing for
    /// how many others.
    fn pay_unknown(&self, caller: Caller, code: Code) -> Option<u32> {
        let engine = self.engine();
        let sought = Sought::by(&engine.config.policy, Who::Uid(caller.uid));
        let now = Instant::now();
        let (payer, rate) = match self.directory.acquaintance(&sought, now) {
            Acquaintance::Account => (Payer::User(caller.uid), engine.config.limits.tokens),
            Acquaintance::NoAccount | Acquaintance::Unknown => (Payer::Strangers, STRANGERS),
        };
        match self.quotas.take(payer, rate, now) {
            Ok(()) => Some(0),
            Err(TooFast { .. }) => self.quotas.note(payer, caller, code, now),
        }
    }
}

fn too_fast(fast: TooFast, caller: Caller, account: Option<&Account>) -> Refusal {
    let TooFast {
        payer,
        rate,
        retry_after,
    } = fast;
    let who = match (payer, account) {
        (Payer::Strangers, _) => "Users without an account ask".into(),
        (_, Some(account)) => format!("{} asks", account.name),
        (_, None) => format!("uid {} asks", caller.uid),
    };
    let (what, advice) = match payer {
        Payer::User(_) => ("tokens", "One token serves many calls until it expires."),
        Payer::Delegate(_) => (
            "tokens for others",
            "One token serves many calls of its user until it expires.",
        ),
        Payer::Verifier(_) | Payer::HttpVerifier(_) | Payer::Strangers => (
            "verifications",
            "What was said of a token stays true for a while.",
        ),
    };
    Refusal {
        retry_after: Some(retry_after),
        ..Refusal::new(
            Code::RateLimited,
            format!("{who} for more than {} {what} a minute.", rate.per_minute),
            format!("Wait {retry_after} s. {advice}"),
        )
    }
}

pub(super) fn no_account(uid: u32) -> Refusal {
    Refusal::new(
        Code::UnknownUser,
        format!("There is no account with uid {uid} on this machine."),
        "Call as a user that `getent passwd` knows, from outside a user namespace.",
    )
}

pub(super) fn unknown_name(name: Option<&str>) -> Refusal {
    Refusal::new(
        Code::UnknownUser,
        format!(
            "There is no account {} on this machine.",
            wire::shorten(name.unwrap_or_default())
        ),
        "Check the name with: getent passwd",
    )
}

pub(super) fn no_directory(why: Unavailable) -> Refusal {
    let what = match why {
        Unavailable::NoRoom => {
            "Too many account look-ups are waiting for the account service.".to_owned()
        }
        Unavailable::TimedOut => "The account service did not answer in time.".to_owned(),
        Unavailable::Failed(errno) => format!("The account service failed: {}.", errno.desc()),
    };
    Refusal {
        retry_after: Some(5),
        ..Refusal::new(
            Code::Busy,
            what,
            "Try again in a moment; if it lasts, ask your administrator to look at sssd or nslcd.",
        )
    }
}
