//! Who may get what. Pure: everything it goes by is an argument.

mod door;
mod renewal;

pub use self::renewal::is_past_half;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::account::{Account, BadName, NO_UID, OVERFLOW_UID, judge_name};
use crate::caller::Door;
use crate::keys::Kid;
use crate::token::lifespan::{Asked, Lifespan};
use crate::wire::{Code, Refusal};

/// The rules of the configuration (design 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `slurm_user`: the account that slurmctld runs as.
    pub slurm_user: String,
    /// `slurm_uid`: its uid, where the node has no such account.
    pub slurm_uid: Option<u32>,
    /// `allow_privileged`: `root` and the name of `SlurmUser`, for themselves only.
    pub allow_privileged: Vec<String>,
    /// `admin_group`: its members are never the target of a delegate.
    pub admin_group: String,
    /// `policy.min_uid`: accounts below it get nothing.
    pub min_uid: u32,
    /// `policy.allow_groups`: members only; empty admits everybody not denied.
    pub allow_groups: Vec<String>,
    /// `policy.deny_users`: these accounts get nothing.
    pub deny_users: Vec<String>,
    /// `policy.allow_names`: patterns (`*` stands for any run of characters)
    /// of names that aren't POSIX portable and are admitted all the same.
    pub allow_names: Vec<String>,
    /// `[[policy.rule]]`, in the file's order: the first that matches decides.
    pub rules: Vec<Rule>,
    /// `[[policy.delegate]]`, in the file's order.
    pub delegates: Vec<Delegate>,
    /// `http.proxies`: whose requests at the HTTP door are those of others.
    pub proxies: Vec<String>,
    /// `token.default_lifespan`.
    pub default_lifespan: Lifespan,
    /// `token.max_lifespan`.
    pub max_lifespan: Lifespan,
    /// `token.identity_claims`: `uid`, `gid` and `id` in every token.
    pub identity_claims: bool,
    /// `token.identity_min_gid`: groups below it are left out of `id`.
    pub identity_min_gid: u32,
    /// `token.issuer`: `iss` of every token.
    pub issuer: Option<Arc<str>>,
    /// `token.audience`: `aud` of every token.
    pub audience: Option<Arc<str>>,
    /// `token.max_session`: how long after its first token a refreshed one may end.
    pub max_session: Lifespan,
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many a minute, once the burst is used.
    pub per_minute: u32,
    /// So many at once.
    pub burst: u32,
}

/// One `[[policy.rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Matches these accounts...
    pub users: Vec<String>,
    /// ...and the members of these groups.
    pub groups: Vec<String>,
    /// None takes `token.default_lifespan`.
    pub default_lifespan: Option<Lifespan>,
    /// None takes `token.max_lifespan`.
    pub max_lifespan: Option<Lifespan>,
    /// None takes `token.identity_claims`.
    pub identity_claims: Option<bool>,
    /// None takes `token.issuer`.
    pub issuer: Option<Arc<str>>,
    /// None takes `token.audience`.
    pub audience: Option<Arc<str>>,
    /// The key that signs; none takes that of `[signing]`.
    pub kid: Option<Kid>,
}

/// One `[[policy.delegate]]`: a service that may ask for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    /// The service's account.
    pub caller: String,
    /// Whose members it may ask for.
    pub for_groups: Vec<String>,
    /// Whose members it may not ask for, first.
    pub deny_groups: Vec<String>,
    /// None takes what the target's own rule gives.
    pub max_lifespan: Option<Lifespan>,
    /// How often it may ask for others, apart from its own tokens.
    pub rate: Rate,
    /// May it ask for others through the HTTP door.
    pub http: bool,
}

/// What the names in a policy mean on this machine now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The uid of `slurm_user`; none where there is no such account.
    pub slurm_uid: Option<u32>,
    /// The uid of each account that the policy names and that exists: a uid
    /// may have several names, and some directories return another case.
    pub users: BTreeMap<String, u32>,
    /// The gid of each group that the policy names and that exists.
    pub groups: BTreeMap<String, u32>,
}

/// The rule that decided on a lifespan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// No `[[policy.rule]]` matched: the bounds of `[token]`.
    Default,
    /// The n-th `[[policy.rule]]`, from 1.
    Rule(usize),
    /// Root said so: `slurm-tokenctl token sign`.
    Root,
}

impl Ruling {
    /// Its name: `default`, `rule-2` or `root`.
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Default => "default".into(),
            Self::Rule(n) => format!("rule-{n}").into(),
            Self::Root => "root".into(),
        }
    }
}

impl std::fmt::Display for Ruling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// What an account may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Which rule says so.
    pub ruling: Ruling,
    /// The lifespan of a request that names none.
    pub default: Lifespan,
    /// The longest lifespan.
    pub max: Lifespan,
}

/// Leave to sign one token. Only [`Policy::decide`] makes one, and only
/// [`crate::issue`] takes one: an unauthorised token can't be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    subject: String,
    uid: u32,
    delegate: Option<String>,
    lifespan: Lifespan,
    ruling: Ruling,
    identity: Option<Identity>,
    issuer: Option<Arc<str>>,
    audience: Option<Arc<str>>,
    kid: Option<Kid>,
    auth_time: Option<u64>,
}

impl Grant {
    /// Whom the token speaks for: its `sun`.
    pub fn subject(&self) -> &str {
        &self.subject
    }
    /// The uid of that account.
    pub fn uid(&self) -> u32 {
        self.uid
    }
    /// The service that asked, where it asked for somebody else: `act`.
    pub fn delegate(&self) -> Option<&str> {
        self.delegate.as_deref()
    }
    /// How long the token lives.
    pub fn lifespan(&self) -> Lifespan {
        self.lifespan
    }
    /// The rule that gave the lifespan.
    pub fn ruling(&self) -> Ruling {
        self.ruling
    }
    /// `uid`, `gid` and `id`, where the configuration asks for them.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
    /// `iss`, where one is configured.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }
    /// `aud`, where one is configured.
    pub fn audience(&self) -> Option<&str> {
        self.audience.as_deref()
    }
    /// The key that signs, where a rule names one.
    pub fn kid(&self) -> Option<&Kid> {
        self.kid.as_ref()
    }
    /// When the first token of a chain of refreshed ones was made, in seconds
    /// since 1970; none for a first one.
    pub fn auth_time(&self) -> Option<u64> {
        self.auth_time
    }
}

/// The identity claims of Slurm 26.05 (`use_jwt_client_ids`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account's uid.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its login name.
    pub name: String,
    /// Its comment field, or its name: Slurm voids the claims when it's empty.
    pub gecos: String,
    /// Its home directory.
    pub dir: String,
    /// Its shell; an empty field in passwd(5) means `/bin/sh`.
    pub shell: String,
    /// Its groups from `identity_min_gid` on, and the primary one.
    pub groups: Membership,
}

/// The groups of [`Identity`], in one of the two forms that Slurm reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Every group has a name: name to gid.
    Named(BTreeMap<String, u32>),
    /// Some group has none, or two have the same.
    Gids(Vec<u32>),
}

impl Policy {
    /// Decides on a token that is asked for by the main socket: for the caller
    /// itself, or with `target` for that account.
    pub fn decide(
        &self,
        names: &Names,
        caller: &Account,
        target: Option<&Account>,
        asked: Asked,
    ) -> Result<Grant, Refusal> {
        self.decide_at(Door::Main, names, caller, target, asked)
    }

    /// The same for each door. With [`Self::decide_for_root`], the only maker
    /// of a [`Grant`].
    pub fn decide_at(
        &self,
        door: Door,
        names: &Names,
        caller: &Account,
        target: Option<&Account>,
        asked: Asked,
    ) -> Result<Grant, Refusal> {
        self.admits(door, names, caller)?;
        match target {
            Some(target) if target.uid != caller.uid || target.name != caller.name => {
                self.decide_for_another(door, names, caller, target, asked)
            }
            _ => {
                let bounds = self.own_bounds(door, names, caller)?;
                self.grant(caller, None, bounds, asked)
            }
        }
    }

    fn decide_for_another(
        &self,
        door: Door,
        names: &Names,
        caller: &Account,
        target: &Account,
        asked: Asked,
    ) -> Result<Grant, Refusal> {
        self.may_delegate(door, caller)?;
        let bounds = self.bounds_for_another(names, caller, target)?;
        self.grant(target, Some(&caller.name), bounds, asked)
    }

    /// Decides on a token that root signs with the key in hand, past the
    /// daemon. For whom and for how long is root's to say; whom no token may
    /// name is not.
    pub fn decide_for_root(
        &self,
        names: &Names,
        subject: &Account,
        asked: Asked,
    ) -> Result<Grant, Refusal> {
        self.refuse_privileged(names, subject, subject.uid == 0)?;
        self.refuse_denied(names, subject)?;
        let max = match asked {
            Asked::Of(lifespan) => lifespan.max(self.max_lifespan),
            Asked::Default | Asked::Max => self.max_lifespan,
        };
        let bounds = Bounds {
            ruling: Ruling::Root,
            default: self.default_lifespan.min(max),
            max,
        };
        self.grant(subject, None, bounds, asked)
    }

    /// What an account may have for itself.
    pub fn bounds(&self, names: &Names, account: &Account) -> Result<Bounds, Refusal> {
        self.own_bounds(Door::Main, names, account)
    }

    fn own_bounds(&self, door: Door, names: &Names, account: &Account) -> Result<Bounds, Refusal> {
        // Whose request it is that came by HTTP nobody knows for sure: it may
        // not be one that could do anything to the cluster.
        let privileged = self.refuse_privileged(names, account, door == Door::Main)?;
        self.refuse_denied(names, account)?;
        if account.uid < self.min_uid && !privileged {
            return Err(not_allowed(format!(
                "Accounts with a uid below {} get no token, and {} has uid {}.",
                self.min_uid, account.name, account.uid
            )));
        }
        if !self.allow_groups.is_empty() && !is_member(names, account, &self.allow_groups)? {
            return Err(not_allowed(format!(
                "Only members of {} get tokens, and {} is in none of them.",
                self.allow_groups.join(", "),
                account.name
            )));
        }
        self.bounds_by_rule(names, account)
    }

    /// The delegate entry of a caller: its leave to ask for others at all.
    pub fn delegate(&self, caller: &Account) -> Result<&Delegate, Refusal> {
        if matches!(caller.uid, OVERFLOW_UID | NO_UID) {
            return Err(overflow_uid(caller.uid));
        }
        let entry = self.delegates.iter().find(|d| d.caller == caller.name);
        entry.ok_or_else(|| {
            not_allowed(format!(
                "{} may ask for a token of its own only: the policy names it as no delegate.",
                caller.name
            ))
        })
    }

    /// May the account ask for what only administrators may: root, and the
    /// members of `admin_group`. Where that group can't be found, root alone.
    pub fn is_administrator(&self, names: &Names, account: &Account) -> bool {
        let is_somebody = !matches!(account.uid, OVERFLOW_UID | NO_UID);
        let gid = names.groups.get(&self.admin_group);
        account.uid == 0 || (is_somebody && gid.is_some_and(|gid| account.groups.contains_key(gid)))
    }

    /// What a service may have for `target`: never more than the target itself.
    fn bounds_for_another(
        &self,
        names: &Names,
        caller: &Account,
        target: &Account,
    ) -> Result<Bounds, Refusal> {
        let delegate = self.delegate(caller)?;
        self.refuse_privileged(names, target, false)?;
        let delegates = self.delegates.iter().map(|d| &d.caller);
        if is_named(names, target, delegates) {
            return Err(not_allowed(format!(
                "{} is a delegate itself, and nobody gets tokens for a delegate.",
                target.name
            )));
        }
        if is_member(names, target, std::slice::from_ref(&self.admin_group))? {
            return Err(not_allowed(format!(
                "{} is an administrator ({}), and nobody gets tokens for one.",
                target.name, self.admin_group
            )));
        }
        if is_member(names, target, &delegate.deny_groups)?
            || !is_member(names, target, &delegate.for_groups)?
        {
            return Err(not_allowed(format!(
                "{} may ask for members of {} only{}, and {} is not one of those.",
                caller.name,
                delegate.for_groups.join(", "),
                if delegate.deny_groups.is_empty() {
                    String::new()
                } else {
                    format!(", save those in {}", delegate.deny_groups.join(", "))
                },
                target.name
            )));
        }
        let own = self.bounds(names, target)?;
        let max = delegate
            .max_lifespan
            .map_or(own.max, |cap| cap.min(own.max));
        Ok(Bounds {
            ruling: own.ruling,
            default: own.default.min(max),
            max,
        })
    }

    /// The first rule that matches.
    fn bounds_by_rule(&self, names: &Names, account: &Account) -> Result<Bounds, Refusal> {
        for (i, rule) in self.rules.iter().enumerate() {
            if is_member(names, account, &rule.groups)? || is_named(names, account, &rule.users) {
                let max = rule.max_lifespan.unwrap_or(self.max_lifespan);
                let default = rule
                    .default_lifespan
                    .unwrap_or(self.default_lifespan)
                    .min(max);
                return Ok(Bounds {
                    ruling: Ruling::Rule(i + 1),
                    default,
                    max,
                });
            }
        }
        let max = self.max_lifespan;
        Ok(Bounds {
            ruling: Ruling::Default,
            default: self.default_lifespan.min(max),
            max,
        })
    }

    /// Refuses whoever Slurm would take for root, for `SlurmUser`, or for
    /// somebody else (design 3). Says whether this is one of the privileged
    /// whom `allow_privileged` admits, for themselves only (`own`).
    fn refuse_privileged(
        &self,
        names: &Names,
        account: &Account,
        own: bool,
    ) -> Result<bool, Refusal> {
        let Account { name, uid, .. } = account;
        if matches!(*uid, OVERFLOW_UID | NO_UID) {
            return Err(overflow_uid(*uid));
        }
        self.judge(name)?;
        let mut slurm_uids = self.slurm_uids(names);
        if slurm_uids.clone().next().is_none() {
            return Err(Refusal::new(
                Code::NotAllowed,
                format!(
                    "The account {} (SlurmUser) can't be found on this machine, so nobody can be \
                     told apart from it and nothing is issued.",
                    self.slurm_user
                ),
                "Ask your administrator to set slurm_user, or slurm_uid, in slurm-tokend.toml.",
            ));
        }
        let admitted =
            |known: &str| own && name == known && self.allow_privileged.iter().any(|p| p == known);
        // Some directories find an account whatever the case of its name.
        let is_root = *uid == 0 || name.eq_ignore_ascii_case("root");
        let is_slurm = slurm_uids.clone().any(|slurm| slurm == *uid)
            || name.eq_ignore_ascii_case(&self.slurm_user);
        let passes = (!is_root || (*uid == 0 && admitted("root")))
            && (!is_slurm || (slurm_uids.all(|slurm| slurm == *uid) && admitted(&self.slurm_user)));
        if passes {
            return Ok(is_root || is_slurm);
        }
        Err(self.privileged(&format!("{name} (uid {uid})")))
    }

    /// Where both are known and differ, each could be the one that counts.
    fn slurm_uids(&self, names: &Names) -> impl Iterator<Item = u32> + Clone + use<> {
        self.slurm_uid.into_iter().chain(names.slurm_uid)
    }

    fn refuse_denied(&self, names: &Names, account: &Account) -> Result<(), Refusal> {
        if is_named(names, account, &self.deny_users) {
            return Err(denied(&account.name));
        }
        Ok(())
    }

    fn privileged(&self, whom: &str) -> Refusal {
        Refusal::new(
            Code::PrivilegedUser,
            format!(
                "A token for {whom} could do anything to the cluster: root and {} get none.",
                self.slurm_user
            ),
            "Ask as an ordinary user; only allow_privileged in slurm-tokend.toml admits these two, for themselves.",
        )
    }

    /// Refuses the subject of a token that somebody shows, by what the token
    /// itself says: its account isn't looked up. `uid` and `gid` are its
    /// identity claims, by which Slurm 26.05 goes instead of the name.
    pub fn refuse_claimed(
        &self,
        names: &Names,
        name: &str,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), Refusal> {
        self.judge(name)?;
        if let Some(uid @ (OVERFLOW_UID | NO_UID)) = uid {
            return Err(overflow_uid(uid));
        }
        let admitted = |known: &str| {
            name == known && self.allow_privileged.iter().any(|listed| listed == known)
        };
        let mut slurm_uids = self.slurm_uids(names);
        let is_root = uid == Some(0) || name.eq_ignore_ascii_case("root");
        let is_slurm = uid.is_some_and(|uid| slurm_uids.clone().any(|slurm| slurm == uid))
            || name.eq_ignore_ascii_case(&self.slurm_user);
        let passes = (!is_root || (uid.is_none_or(|uid| uid == 0) && admitted("root")))
            && (!is_slurm
                || (uid.is_none_or(|uid| slurm_uids.all(|slurm| slurm == uid))
                    && admitted(&self.slurm_user)));
        if !passes {
            return Err(self.privileged(name));
        }
        if gid == Some(0) && !is_root {
            return Err(primary_group_of_root(name));
        }
        let is_denied = |user: &String| {
            user == name || uid.is_some_and(|uid| names.users.get(user) == Some(&uid))
        };
        if self.deny_users.iter().any(is_denied) {
            return Err(denied(name));
        }
        Ok(())
    }

    /// Refuses a name that must not become a `sun`. Also asked before a name
    /// from a request is looked up, so that no odd bytes reach NSS.
    pub fn judge(&self, name: &str) -> Result<(), Refusal> {
        let why = match judge_name(name, &self.allow_names) {
            Ok(()) => return Ok(()),
            Err(BadName::Numeric) => "is a number, which Slurm would take for a uid",
            Err(BadName::Odd) => {
                "is empty, too long, or has a sign, white space, a control or a non-ASCII character"
            }
            Err(BadName::NotPortable) => "is not a POSIX portable user name",
        };
        let name: String = name.chars().take(64).collect();
        Err(Refusal::new(
            Code::PrivilegedUser,
            format!("No token is made for the name {name:?}: it {why}."),
            "Ask for an ordinary account; allow_names in slurm-tokend.toml admits names that are merely not portable.",
        ))
    }

    fn grant(
        &self,
        subject: &Account,
        delegate: Option<&str>,
        bounds: Bounds,
        asked: Asked,
    ) -> Result<Grant, Refusal> {
        let lifespan = match asked {
            Asked::Default => bounds.default,
            Asked::Max => bounds.max,
            Asked::Of(lifespan) if lifespan <= bounds.max => lifespan,
            Asked::Of(lifespan) => {
                return Err(Refusal {
                    max_lifespan: Some(bounds.max.seconds()),
                    ..Refusal::new(
                        Code::LifespanTooLong,
                        format!(
                            "{lifespan} is longer than the {} that {} may have.",
                            bounds.max, subject.name
                        ),
                        "Ask for less, or for \"max\".",
                    )
                });
            }
        };
        let identity = self
            .gives_identity(bounds.ruling)
            .then(|| self.identity(subject))
            .transpose()?;
        let rule = self.rule(bounds.ruling);
        let of_rule_or = |of_rule: fn(&Rule) -> &Option<Arc<str>>, usual: &Option<Arc<str>>| {
            rule.and_then(|rule| of_rule(rule).clone())
                .or_else(|| usual.clone())
        };
        Ok(Grant {
            subject: subject.name.clone(),
            uid: subject.uid,
            delegate: delegate.map(ToOwned::to_owned),
            lifespan,
            ruling: bounds.ruling,
            identity,
            issuer: of_rule_or(|rule| &rule.issuer, &self.issuer),
            audience: of_rule_or(|rule| &rule.audience, &self.audience),
            kid: self.kid(bounds.ruling).cloned(),
            auth_time: None,
        })
    }

    fn rule(&self, ruling: Ruling) -> Option<&Rule> {
        match ruling {
            Ruling::Default | Ruling::Root => None,
            Ruling::Rule(number) => self.rules.get(number - 1),
        }
    }

    /// Do tokens by this ruling carry `uid`, `gid` and `id`.
    pub fn gives_identity(&self, ruling: Ruling) -> bool {
        self.rule(ruling)
            .and_then(|rule| rule.identity_claims)
            .unwrap_or(self.identity_claims)
    }

    /// The key that signs by this ruling, where a rule names one.
    pub fn kid(&self, ruling: Ruling) -> Option<&Kid> {
        self.rule(ruling)?.kid.as_ref()
    }

    /// Do any tokens carry identity claims.
    pub fn needs_group_names(&self) -> bool {
        let by_rule = |rule: &Rule| rule.identity_claims == Some(true);
        self.identity_claims || self.rules.iter().any(by_rule)
    }

    fn identity(&self, account: &Account) -> Result<Identity, Refusal> {
        if account.gid == 0 {
            return Err(primary_group_of_root(&account.name));
        }
        // Not even identity_min_gid = 0 lets root's group pass.
        let is_kept = |gid: u32| gid == account.gid || (gid != 0 && gid >= self.identity_min_gid);
        let kept = || account.groups.iter().filter(|(gid, _)| is_kept(**gid));
        let named: Option<BTreeMap<String, u32>> = kept()
            .map(|(gid, name)| Some((name.clone()?, *gid)))
            .collect();
        // Two groups of one name would become one.
        let named = named.filter(|named| named.len() == kept().count());
        let or = |text: &str, other: &str| {
            if text.is_empty() {
                other.to_owned()
            } else {
                text.to_owned()
            }
        };
        Ok(Identity {
            uid: account.uid,
            gid: account.gid,
            name: account.name.clone(),
            gecos: or(&account.gecos, &account.name),
            dir: account.dir.clone(),
            shell: or(&account.shell, "/bin/sh"),
            groups: named.map_or_else(
                || Membership::Gids(kept().map(|(gid, _)| *gid).collect()),
                Membership::Named,
            ),
        })
    }

    /// The longest that any token may live.
    pub fn longest_lifespan(&self) -> Lifespan {
        // A delegate's maximum only ever lowers what its target may have.
        let rules = self.rules.iter().filter_map(|rule| rule.max_lifespan);
        rules.fold(self.max_lifespan, Lifespan::max)
    }

    /// Every account that the policy names, save `SlurmUser`.
    pub fn named_users(&self) -> impl Iterator<Item = &str> {
        self.deny_users
            .iter()
            .chain(self.rules.iter().flat_map(|r| &r.users))
            .chain(self.delegates.iter().map(|d| &d.caller))
            .chain(&self.proxies)
            .map(String::as_str)
    }

    /// Every group that the policy names.
    pub fn named_groups(&self) -> impl Iterator<Item = &str> {
        let delegates = self.delegates.iter();
        let admins = delegates.clone().take(1).map(|_| &self.admin_group);
        self.allow_groups
            .iter()
            .chain(self.rules.iter().flat_map(|r| &r.groups))
            .chain(delegates.flat_map(|d| d.for_groups.iter().chain(&d.deny_groups)))
            .chain(admins)
            .map(String::as_str)
    }
}

/// Is the account one of those named, by its own name or by another of its uid.
fn is_named<'a>(
    names: &Names,
    account: &Account,
    users: impl IntoIterator<Item = &'a String>,
) -> bool {
    users
        .into_iter()
        .any(|user| *user == account.name || names.users.get(user) == Some(&account.uid))
}

/// Is the account in one of the groups. A group that doesn't resolve refuses:
/// skipping it could turn a denial into a grant.
fn is_member(names: &Names, account: &Account, groups: &[String]) -> Result<bool, Refusal> {
    let mut member = false;
    for group in groups {
        let Some(gid) = names.groups.get(group) else {
            return Err(Refusal::new(
                Code::NotAllowed,
                format!(
                    "The policy names the group {group}, which can't be found on this machine."
                ),
                "Ask your administrator to create the group or to mend slurm-tokend.toml.",
            ));
        };
        member |= account.groups.contains_key(gid);
    }
    Ok(member)
}

fn overflow_uid(uid: u32) -> Refusal {
    Refusal::new(
        Code::PrivilegedUser,
        format!("uid {uid} stands for nobody in particular."),
        "Call from outside the container or user namespace, as yourself.",
    )
}

fn primary_group_of_root(name: &str) -> Refusal {
    Refusal::new(
        Code::PrivilegedUser,
        format!("The primary group of {name} is gid 0, which no token may carry."),
        "Ask your administrator to give the account a primary group of its own.",
    )
}

fn denied(name: &str) -> Refusal {
    not_allowed(format!("The policy denies tokens to {name}."))
}

fn not_allowed(message: String) -> Refusal {
    Refusal::new(
        Code::NotAllowed,
        message,
        "slurm-token whoami says what you may have; your administrator sets it in slurm-tokend.toml.",
    )
}

#[cfg(test)]
mod tests;
