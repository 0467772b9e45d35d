use proptest::prelude::*;

use super::*;
use crate::caller::Door;

const SLURM: u32 = 64_030;
const HPCUSERS: u32 = 3001;
const WORKFLOW: u32 = 3002;
const OPERATORS: u32 = 3003;
const ADMINS: u32 = 3004;
const RATE: Rate = Rate {
    per_minute: 60,
    burst: 10,
};

pub(super) fn lifespan(text: &str) -> Lifespan {
    text.parse().unwrap()
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// A configuration that says nothing of who gets what.
pub(super) fn plain() -> Policy {
    Policy {
        slurm_user: "slurm".into(),
        slurm_uid: None,
        allow_privileged: Vec::new(),
        admin_group: "slurm-admins".into(),
        min_uid: 1000,
        allow_groups: Vec::new(),
        deny_users: Vec::new(),
        allow_names: Vec::new(),
        rules: Vec::new(),
        delegates: Vec::new(),
        proxies: Vec::new(),
        default_lifespan: lifespan("30m"),
        max_lifespan: lifespan("12h"),
        identity_claims: false,
        identity_min_gid: 1000,
        issuer: None,
        audience: None,
        max_session: lifespan("7d"),
    }
}

/// The same with a delegate, `portal`, for hpcusers who are no operators.
pub(super) fn with_portal() -> Policy {
    Policy {
        delegates: vec![delegate("portal")],
        ..plain()
    }
}

fn delegate(caller: &str) -> Delegate {
    Delegate {
        caller: caller.into(),
        for_groups: list(&["hpcusers"]),
        deny_groups: list(&["operators"]),
        max_lifespan: Some(lifespan("10m")),
        rate: RATE,
        http: false,
    }
}

fn rule(users: &[&str], groups: &[&str], max: Option<&str>) -> Rule {
    Rule {
        users: list(users),
        groups: list(groups),
        default_lifespan: None,
        max_lifespan: max.map(lifespan),
        ..no_rule()
    }
}

/// A rule for nobody, without anything of its own.
fn no_rule() -> Rule {
    Rule {
        users: Vec::new(),
        groups: Vec::new(),
        default_lifespan: None,
        max_lifespan: None,
        identity_claims: None,
        issuer: None,
        audience: None,
        kid: None,
    }
}

/// A machine on which every name has its meaning.
pub(super) fn machine() -> Names {
    let groups = [
        ("hpcusers", HPCUSERS),
        ("workflow", WORKFLOW),
        ("operators", OPERATORS),
        ("slurm-admins", ADMINS),
    ];
    Names {
        slurm_uid: Some(SLURM),
        users: BTreeMap::new(),
        groups: groups.map(|(name, gid)| (name.to_owned(), gid)).into(),
    }
}

/// The same, where a group can't be found.
fn machine_without(group: &str) -> Names {
    let mut names = machine();
    names.groups.remove(group).unwrap();
    names
}

fn account(name: &str, uid: u32, groups: &[u32]) -> Account {
    let primary = uid.max(1);
    Account {
        name: name.into(),
        uid,
        gid: primary,
        gecos: String::new(),
        dir: format!("/home/{name}"),
        shell: String::new(),
        groups: groups
            .iter()
            .chain([&primary])
            .map(|gid| (*gid, Some(format!("group-{gid}"))))
            .collect(),
    }
}

pub(super) fn alice() -> Account {
    account("alice", 2001, &[HPCUSERS])
}

pub(super) fn portal() -> Account {
    account("portal", 500, &[])
}

fn own(policy: &Policy, account: &Account) -> Result<Grant, Refusal> {
    policy.decide(&machine(), account, None, Asked::Max)
}

/// What `portal` gets for an account.
fn through_portal(policy: &Policy, target: &Account) -> Result<Grant, Refusal> {
    policy.decide(&machine(), &portal(), Some(target), Asked::Max)
}

#[track_caller]
fn seconds(decided: &Result<Grant, Refusal>) -> u32 {
    match decided {
        Ok(grant) => grant.lifespan().seconds(),
        Err(refusal) => panic!("refused: {refusal:?}"),
    }
}

#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(decided: Result<T, Refusal>, code: Code, says: &str) {
    let refusal = decided.expect_err("a refusal");
    assert_eq!(refusal.code, code, "{refusal:?}");
    assert!(refusal.message.contains(says), "{refusal:?}");
    assert!(!refusal.help.is_empty(), "{refusal:?}");
}

// Who gets a token of their own.

#[test]
fn an_account_gets_a_token_that_speaks_for_itself() {
    let grant = own(&plain(), &alice()).unwrap();
    assert_eq!((grant.subject(), grant.delegate()), ("alice", None));
}

/// Accounts that Slurm would take for root, `SlurmUser`, nobody or somebody else.
const PRIVILEGED: [(&str, u32, &str); 22] = [
    ("root", 0, "uid 0"),
    ("toor", 0, "uid 0"),
    ("alice", 0, "uid 0"),
    ("root", 2001, "root"),
    ("Root", 2001, "Root"),
    ("slurm", SLURM, "SlurmUser"),
    ("slurm-too", SLURM, "SlurmUser"),
    ("slurm", 2001, "slurm"),
    ("SLURM", 2001, "SLURM"),
    ("nobody", 65_534, "nobody in particular"),
    ("alice", 65_534, "nobody in particular"),
    ("alice", u32::MAX, "nobody in particular"),
    ("0", 2001, "is a number"),
    ("2002", 2001, "is a number"),
    ("+0", 2001, "a sign"),
    ("-1", 2001, "a sign"),
    (" 0", 2001, "white space"),
    ("alice smith", 2001, "white space"),
    ("alice\n", 2001, "a control"),
    ("zo\u{eb}", 2001, "a non-ASCII character"),
    ("machine$", 2001, "portable"),
    ("alice@corp", 2001, "portable"),
];

#[test]
fn no_privileged_account_and_no_other_name_of_one_gets_a_token() {
    let privileged =
        PRIVILEGED.map(|(name, uid, says)| (name, uid, says.replace("SlurmUser", name)));
    for (name, uid, says) in privileged {
        let decided = own(&plain(), &account(name, uid, &[]));
        refused(decided, Code::PrivilegedUser, &says);
    }
}

#[test]
fn no_privileged_account_and_no_other_name_of_one_gets_a_token_through_a_delegate() {
    let policy = Policy {
        min_uid: 0,
        ..with_portal()
    };
    for (name, uid, _) in PRIVILEGED {
        let decided = through_portal(&policy, &account(name, uid, &[HPCUSERS]));
        refused(decided, Code::PrivilegedUser, "");
    }
}

#[test]
fn no_pattern_admits_a_numeric_or_odd_name() {
    let policy = Policy {
        allow_names: list(&["*"]),
        ..plain()
    };
    for name in ["0", "2002", "+0", "-1", " 0", "a b", "a\0", "zo\u{eb}", ""] {
        refused(
            own(&policy, &account(name, 2001, &[])),
            Code::PrivilegedUser,
            "",
        );
    }
}

#[test]
fn a_pattern_admits_names_that_are_merely_not_portable() {
    let policy = Policy {
        allow_names: list(&["*@corp"]),
        ..plain()
    };
    let grant = own(&policy, &account("alice@corp", 2001, &[])).unwrap();
    assert_eq!(grant.subject(), "alice@corp");
    refused(
        own(&policy, &account("machine$", 2001, &[])),
        Code::PrivilegedUser,
        "portable",
    );
}

#[test]
fn portable_names_that_look_odd_are_accepted() {
    for name in ["ali.ce", "_alice", "0x0", "1a", "Alice", "rooted", "slurmy"] {
        assert_eq!(
            own(&plain(), &account(name, 2001, &[])).unwrap().subject(),
            name
        );
    }
}

#[test]
fn allow_privileged_admits_root_and_slurm_user_below_min_uid() {
    let policy = Policy {
        allow_privileged: list(&["root", "slurm"]),
        min_uid: 100_000,
        ..plain()
    };
    assert!(own(&policy, &account("root", 0, &[])).is_ok());
    assert!(own(&policy, &account("slurm", SLURM, &[])).is_ok());
}

#[test]
fn allow_privileged_admits_nobody_but_those_it_lists() {
    for (listed, name, uid) in [("root", "slurm", SLURM), ("slurm", "root", 0)] {
        let policy = Policy {
            allow_privileged: list(&[listed]),
            ..plain()
        };
        refused(
            own(&policy, &account(name, uid, &[])),
            Code::PrivilegedUser,
            name,
        );
    }
}

#[test]
fn allow_privileged_admits_no_other_name_and_no_other_uid() {
    let policy = Policy {
        allow_privileged: list(&["root", "slurm"]),
        ..plain()
    };
    for (name, uid) in [
        ("toor", 0),
        ("slurm-too", SLURM),
        ("root", 2001),
        ("root", SLURM),
        ("slurm", 2001),
        ("slurm", 0),
    ] {
        refused(
            own(&policy, &account(name, uid, &[])),
            Code::PrivilegedUser,
            name,
        );
    }
}

#[test]
fn allow_privileged_admits_them_for_themselves_only() {
    let policy = Policy {
        allow_privileged: list(&["root", "slurm"]),
        min_uid: 0,
        ..with_portal()
    };
    for (name, uid) in [("root", 0), ("slurm", SLURM)] {
        let target = account(name, uid, &[HPCUSERS]);
        refused(through_portal(&policy, &target), Code::PrivilegedUser, name);
    }
}

#[test]
fn allow_privileged_lifts_no_other_rule() {
    let root = account("root", 0, &[]);
    let policy = Policy {
        allow_privileged: list(&["root"]),
        ..plain()
    };
    let denied = Policy {
        deny_users: list(&["root"]),
        ..policy.clone()
    };
    refused(own(&denied, &root), Code::NotAllowed, "denies");
    let members = Policy {
        allow_groups: list(&["hpcusers"]),
        ..policy
    };
    refused(
        own(&members, &root),
        Code::NotAllowed,
        "members of hpcusers",
    );
}

#[test]
fn while_slurm_user_is_unknown_nothing_is_issued() {
    let names = Names {
        slurm_uid: None,
        ..machine()
    };
    let everything = Policy {
        allow_privileged: list(&["root"]),
        ..with_portal()
    };
    let (root, alice) = (account("root", 0, &[]), alice());
    for (caller, target) in [(&alice, None), (&root, None), (&portal(), Some(&alice))] {
        let decided = everything.decide(&names, caller, target, Asked::Default);
        refused(decided, Code::NotAllowed, "nothing is issued");
    }
}

#[test]
fn slurm_uid_takes_the_place_of_an_account_of_slurm_user() {
    let names = Names {
        slurm_uid: None,
        ..machine()
    };
    let policy = Policy {
        slurm_uid: Some(SLURM),
        ..plain()
    };
    assert!(policy.decide(&names, &alice(), None, Asked::Max).is_ok());
    let slurm = account("slurmd", SLURM, &[]);
    refused(
        policy.decide(&names, &slurm, None, Asked::Max),
        Code::PrivilegedUser,
        "slurmd",
    );
}

#[test]
fn where_slurm_uid_and_the_account_of_slurm_user_differ_both_are_refused() {
    let policy = Policy {
        slurm_uid: Some(990),
        allow_privileged: list(&["slurm"]),
        min_uid: 0,
        ..plain()
    };
    for (name, uid) in [
        ("other", 990),
        ("other", SLURM),
        ("slurm", 990),
        ("slurm", SLURM),
    ] {
        refused(
            own(&policy, &account(name, uid, &[])),
            Code::PrivilegedUser,
            name,
        );
    }
}

#[test]
fn a_slurm_user_that_is_root_needs_to_be_listed_like_root() {
    let names = Names {
        slurm_uid: Some(0),
        ..machine()
    };
    let root = account("root", 0, &[]);
    let policy = Policy {
        slurm_user: "root".into(),
        ..plain()
    };
    refused(
        policy.decide(&names, &root, None, Asked::Max),
        Code::PrivilegedUser,
        "root",
    );
    let listed = Policy {
        allow_privileged: list(&["root"]),
        ..policy
    };
    assert!(listed.decide(&names, &root, None, Asked::Max).is_ok());
}

#[test]
fn root_signs_for_accounts_that_the_policy_leaves_out_and_for_longer() {
    let mut policy = plain();
    policy.allow_groups = list(&["workflow"]);
    let daemon = account("daemon", 999, &[]);
    let asked = Asked::Of(lifespan("30d"));
    let grant = policy.decide_for_root(&machine(), &daemon, asked).unwrap();
    assert_eq!(grant.lifespan(), lifespan("30d"));
    assert_eq!(grant.ruling().to_string(), "root");
    assert_eq!(grant.delegate(), None);
    for (asked, expected) in [(Asked::Default, "30m"), (Asked::Max, "12h")] {
        let grant = policy.decide_for_root(&machine(), &daemon, asked).unwrap();
        assert_eq!(grant.lifespan(), lifespan(expected));
    }
}

#[test]
fn root_signs_for_root_where_that_is_listed_and_never_for_slurm_user() {
    let mut policy = plain();
    let (root, slurm) = (account("root", 0, &[]), account("slurm", SLURM, &[]));
    let sign =
        |policy: &Policy, subject| policy.decide_for_root(&machine(), subject, Asked::Default);
    refused(sign(&policy, &root), Code::PrivilegedUser, "root");
    policy.allow_privileged = list(&["root", "slurm"]);
    assert!(sign(&policy, &root).is_ok());
    refused(sign(&policy, &slurm), Code::PrivilegedUser, "slurm");
    policy.deny_users = list(&["alice"]);
    refused(sign(&policy, &alice()), Code::NotAllowed, "denies");
}

#[test]
fn accounts_below_min_uid_get_nothing() {
    refused(
        own(&plain(), &account("daemon", 999, &[])),
        Code::NotAllowed,
        "below 1000",
    );
    assert!(own(&plain(), &account("first", 1000, &[])).is_ok());
}

#[test]
fn deny_users_beats_every_permission() {
    let policy = Policy {
        deny_users: list(&["bob", "alice"]),
        allow_groups: list(&["hpcusers"]),
        rules: vec![rule(&["alice"], &[], Some("7d"))],
        ..plain()
    };
    refused(
        own(&policy, &alice()),
        Code::NotAllowed,
        "denies tokens to alice",
    );
}

#[test]
fn deny_users_finds_an_account_by_any_name_of_its_uid() {
    let policy = Policy {
        deny_users: list(&["ALICE"]),
        ..plain()
    };
    let mut names = machine();
    assert!(policy.decide(&names, &alice(), None, Asked::Max).is_ok());
    names.users.insert("ALICE".into(), 2001);
    let decided = policy.decide(&names, &alice(), None, Asked::Max);
    refused(decided, Code::NotAllowed, "denies");
}

#[test]
fn allow_groups_admits_members_of_any_of_them_also_supplementary_ones() {
    let policy = Policy {
        allow_groups: list(&["workflow", "hpcusers"]),
        ..plain()
    };
    assert!(own(&policy, &alice()).is_ok());
    let outsider = account("outsider", 2009, &[OPERATORS]);
    refused(
        own(&policy, &outsider),
        Code::NotAllowed,
        "members of workflow, hpcusers",
    );
}

#[test]
fn a_group_that_cannot_be_found_refuses_wherever_the_policy_names_it() {
    let denying = |policy: Policy| (policy, None);
    let cases = [
        denying(Policy {
            allow_groups: list(&["hpcusers", "operators"]),
            ..plain()
        }),
        denying(Policy {
            rules: vec![rule(&["alice"], &["operators"], None)],
            ..plain()
        }),
        (with_portal(), Some(portal())),
        (
            Policy {
                delegates: vec![Delegate {
                    for_groups: list(&["hpcusers", "operators"]),
                    deny_groups: Vec::new(),
                    ..delegate("portal")
                }],
                ..plain()
            },
            Some(portal()),
        ),
        (
            Policy {
                admin_group: "operators".into(),
                delegates: vec![Delegate {
                    deny_groups: Vec::new(),
                    ..delegate("portal")
                }],
                ..plain()
            },
            Some(portal()),
        ),
    ];
    for (policy, service) in cases {
        let decide = |names: &Names| match &service {
            Some(service) => policy.decide(names, service, Some(&alice()), Asked::Max),
            None => policy.decide(names, &alice(), None, Asked::Max),
        };
        assert!(decide(&machine()).is_ok(), "{policy:?}");
        let decided = decide(&machine_without("operators"));
        refused(
            decided,
            Code::NotAllowed,
            "the group operators, which can't be found",
        );
    }
}

#[test]
fn without_delegates_nobody_needs_the_admin_group() {
    let decided = plain().decide(&machine_without("slurm-admins"), &alice(), None, Asked::Max);
    assert!(decided.is_ok());
    assert_eq!(plain().named_groups().count(), 0);
    assert!(
        with_portal()
            .named_groups()
            .any(|group| group == "slurm-admins")
    );
}

#[test]
fn every_account_and_group_that_a_policy_names_is_looked_up() {
    let policy = Policy {
        deny_users: list(&["a"]),
        allow_groups: list(&["g"]),
        rules: vec![rule(&["b"], &["h"], None), rule(&["c"], &["i"], None)],
        delegates: vec![delegate("portal"), delegate("second")],
        ..plain()
    };
    let users: Vec<&str> = policy.named_users().collect();
    assert_eq!(users, ["a", "b", "c", "portal", "second"]);
    let groups: std::collections::BTreeSet<&str> = policy.named_groups().collect();
    let all = ["g", "h", "i", "hpcusers", "operators", "slurm-admins"];
    assert_eq!(groups, all.into());
}

// For how long.

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = Policy {
        rules: vec![
            rule(&["bob"], &[], Some("7d")),
            rule(&[], &["hpcusers"], Some("1h")),
            rule(&["alice"], &[], Some("7d")),
        ],
        ..plain()
    };
    let grant = own(&policy, &alice()).unwrap();
    assert_eq!(grant.ruling(), Ruling::Rule(2));
    assert_eq!(grant.lifespan(), lifespan("1h"));
}

#[test]
fn a_rule_finds_an_account_by_any_name_of_its_uid() {
    let policy = Policy {
        rules: vec![rule(&["alice-too"], &[], Some("1h"))],
        ..plain()
    };
    let mut names = machine();
    names.users.insert("alice-too".into(), 2001);
    let grant = policy.decide(&names, &alice(), None, Asked::Max).unwrap();
    assert_eq!(grant.ruling(), Ruling::Rule(1));
}

#[test]
fn where_no_rule_matches_the_bounds_of_all_tokens_hold() {
    let policy = Policy {
        rules: vec![rule(&["bob"], &["operators"], Some("7d"))],
        ..plain()
    };
    let grant = own(&policy, &alice()).unwrap();
    assert_eq!(grant.ruling(), Ruling::Default);
    assert_eq!(grant.lifespan(), lifespan("12h"));
}

#[test]
fn a_rule_without_bounds_of_its_own_has_those_of_all_tokens() {
    let policy = Policy {
        rules: vec![rule(&["alice"], &[], None)],
        ..plain()
    };
    let bounds = policy.bounds(&machine(), &alice()).unwrap();
    assert_eq!(
        (bounds.default, bounds.max),
        (lifespan("30m"), lifespan("12h"))
    );
}

#[test]
fn a_request_without_a_lifespan_gets_the_default_or_the_maximum_if_smaller() {
    let cases = [
        ("30m", None, None, "30m"),
        ("30m", None, Some("10m"), "10m"),
        ("30m", Some("5m"), Some("10m"), "5m"),
        ("30m", Some("20m"), Some("10m"), "10m"),
        ("24h", None, None, "12h"),
    ];
    for (default, of_rule, max_of_rule, expected) in cases {
        let policy = Policy {
            default_lifespan: lifespan(default),
            rules: vec![Rule {
                default_lifespan: of_rule.map(lifespan),
                ..rule(&["alice"], &[], max_of_rule)
            }],
            ..plain()
        };
        let decided = policy.decide(&machine(), &alice(), None, Asked::Default);
        assert_eq!(seconds(&decided), lifespan(expected).seconds());
    }
}

#[test]
fn without_a_rule_too_the_default_is_never_above_the_maximum() {
    let policy = Policy {
        default_lifespan: lifespan("24h"),
        ..plain()
    };
    let decided = policy.decide(&machine(), &alice(), None, Asked::Default);
    assert_eq!(seconds(&decided), lifespan("12h").seconds());
}

#[test]
fn a_lifespan_up_to_the_maximum_is_given_as_asked() {
    for asked in ["1s", "11h", "12h"] {
        let decided = plain().decide(&machine(), &alice(), None, Asked::Of(lifespan(asked)));
        assert_eq!(seconds(&decided), lifespan(asked).seconds());
    }
}

#[test]
fn a_lifespan_above_the_maximum_is_refused_and_the_maximum_said() {
    let asked = Asked::Of(Lifespan::from_seconds(43_201).unwrap());
    let refusal = plain()
        .decide(&machine(), &alice(), None, asked)
        .unwrap_err();
    assert_eq!(refusal.code, Code::LifespanTooLong);
    assert_eq!(refusal.max_lifespan, Some(43_200));
}

// For others.

#[test]
fn a_delegate_gets_a_token_that_speaks_for_the_target_and_names_the_delegate() {
    let grant = through_portal(&with_portal(), &alice()).unwrap();
    assert_eq!(
        (grant.subject(), grant.delegate()),
        ("alice", Some("portal"))
    );
}

#[test]
fn nobody_but_a_delegate_gets_a_token_for_another() {
    let bob = account("bob", 2002, &[HPCUSERS, ADMINS]);
    let root = account("root", 0, &[]);
    for caller in [bob, root, account("Portal", 501, &[])] {
        let decided = with_portal().decide(&machine(), &caller, Some(&alice()), Asked::Max);
        refused(decided, Code::NotAllowed, "of its own only");
    }
}

#[test]
fn a_delegate_named_nobody_serves_no_user_namespace() {
    let policy = Policy {
        delegates: vec![delegate("nobody")],
        ..plain()
    };
    for uid in [65_534, u32::MAX] {
        let nobody = account("nobody", uid, &[]);
        let decided = policy.decide(&machine(), &nobody, Some(&alice()), Asked::Max);
        refused(decided, Code::PrivilegedUser, "nobody in particular");
    }
}

#[test]
fn asking_for_oneself_by_name_is_no_delegation() {
    let policy = with_portal();
    for caller in [alice(), portal(), account("root", 0, &[])] {
        let named = policy.decide(&machine(), &caller, Some(&caller), Asked::Max);
        assert_eq!(named, own(&policy, &caller));
    }
    assert_eq!(own(&policy, &alice()).unwrap().delegate(), None);
}

#[test]
fn an_account_of_the_same_name_or_uid_is_not_oneself() {
    for other in [
        account("alice", 2009, &[HPCUSERS]),
        account("bob", 2001, &[HPCUSERS]),
    ] {
        let decided = plain().decide(&machine(), &alice(), Some(&other), Asked::Max);
        refused(decided, Code::NotAllowed, "of its own only");
    }
}

#[test]
fn min_uid_and_deny_users_do_not_bind_the_delegate_itself() {
    let policy = Policy {
        deny_users: list(&["portal"]),
        ..with_portal()
    };
    assert!(through_portal(&policy, &alice()).is_ok());
    refused(own(&policy, &portal()), Code::NotAllowed, "denies");
}

#[test]
fn a_delegate_asks_for_no_administrator() {
    let admin = account("admin", 2003, &[HPCUSERS, ADMINS]);
    refused(
        through_portal(&with_portal(), &admin),
        Code::NotAllowed,
        "an administrator",
    );
}

#[test]
fn a_delegate_asks_for_no_other_delegate() {
    let policy = Policy {
        delegates: vec![delegate("portal"), delegate("jupyter")],
        min_uid: 0,
        ..plain()
    };
    let jupyter = account("jupyter", 501, &[HPCUSERS]);
    refused(
        through_portal(&policy, &jupyter),
        Code::NotAllowed,
        "a delegate itself",
    );
}

#[test]
fn a_delegate_under_another_name_of_its_uid_is_no_target_either() {
    let policy = Policy {
        delegates: vec![delegate("portal"), delegate("JUPYTER")],
        min_uid: 0,
        ..plain()
    };
    let mut names = machine();
    names.users.insert("JUPYTER".into(), 501);
    let jupyter = account("jupyter", 501, &[HPCUSERS]);
    let decided = policy.decide(&names, &portal(), Some(&jupyter), Asked::Max);
    refused(decided, Code::NotAllowed, "a delegate itself");
}

#[test]
fn a_delegate_asks_for_nobody_outside_its_groups() {
    let bob = account("bob", 2002, &[WORKFLOW]);
    refused(
        through_portal(&with_portal(), &bob),
        Code::NotAllowed,
        "members of hpcusers only, save those in operators",
    );
}

#[test]
fn a_delegate_asks_for_nobody_in_the_groups_denied_to_it() {
    let bob = account("bob", 2002, &[HPCUSERS, OPERATORS]);
    refused(
        through_portal(&with_portal(), &bob),
        Code::NotAllowed,
        "save those in operators",
    );
}

#[test]
fn each_delegate_has_its_own_groups() {
    let policy = Policy {
        delegates: vec![
            delegate("portal"),
            Delegate {
                for_groups: list(&["workflow"]),
                ..delegate("jupyter")
            },
        ],
        ..plain()
    };
    let jupyter = account("jupyter", 501, &[]);
    let decided = policy.decide(&machine(), &jupyter, Some(&alice()), Asked::Max);
    refused(decided, Code::NotAllowed, "members of workflow only");
}

#[test]
fn what_binds_the_target_binds_its_delegate() {
    let cases = [
        (
            Policy {
                deny_users: list(&["alice"]),
                ..with_portal()
            },
            "denies",
        ),
        (
            Policy {
                min_uid: 2002,
                ..with_portal()
            },
            "below 2002",
        ),
        (
            Policy {
                allow_groups: list(&["workflow"]),
                ..with_portal()
            },
            "members of workflow",
        ),
    ];
    for (policy, says) in cases {
        refused(through_portal(&policy, &alice()), Code::NotAllowed, says);
    }
}

#[test]
fn a_delegate_gets_no_more_than_its_cap_nor_than_the_target_itself() {
    let cases = [
        (Some("10m"), None, "10m"),
        (Some("10m"), Some("5m"), "5m"),
        (None, Some("5m"), "5m"),
        (None, None, "12h"),
        (Some("7d"), None, "12h"),
    ];
    for (cap, max_of_target, expected) in cases {
        let policy = Policy {
            rules: vec![rule(&["alice"], &[], max_of_target)],
            delegates: vec![Delegate {
                max_lifespan: cap.map(lifespan),
                ..delegate("portal")
            }],
            ..plain()
        };
        let decided = through_portal(&policy, &alice());
        assert_eq!(seconds(&decided), lifespan(expected).seconds());
        let more = Asked::Of(Lifespan::from_seconds(lifespan(expected).seconds() + 1).unwrap());
        let decided = policy.decide(&machine(), &portal(), Some(&alice()), more);
        refused(decided, Code::LifespanTooLong, expected);
    }
}

#[test]
fn a_delegate_that_names_no_lifespan_gets_the_targets_default_or_its_cap_if_smaller() {
    for (cap, expected) in [("10m", "10m"), ("7d", "30m")] {
        let policy = Policy {
            delegates: vec![Delegate {
                max_lifespan: Some(lifespan(cap)),
                ..delegate("portal")
            }],
            ..plain()
        };
        let decided = policy.decide(&machine(), &portal(), Some(&alice()), Asked::Default);
        assert_eq!(seconds(&decided), lifespan(expected).seconds());
    }
}

#[test]
fn a_delegates_own_rule_gives_it_nothing_for_others() {
    let policy = Policy {
        rules: vec![rule(&["portal"], &[], Some("30d"))],
        ..with_portal()
    };
    assert_eq!(seconds(&through_portal(&policy, &alice())), 600);
}

// Identity claims.

fn claiming() -> Policy {
    Policy {
        identity_claims: true,
        ..plain()
    }
}

fn identity(policy: &Policy, account: &Account) -> Identity {
    own(policy, account).unwrap().identity().unwrap().clone()
}

#[test]
fn identity_claims_are_made_only_where_the_configuration_asks_for_them() {
    assert_eq!(own(&plain(), &alice()).unwrap().identity(), None);
}

#[test]
fn identity_claims_are_those_of_the_account() {
    let alice = Account {
        gecos: "Alice Example".into(),
        shell: "/bin/zsh".into(),
        ..alice()
    };
    let groups = [("group-2001", 2001), ("group-3001", 3001)];
    assert_eq!(
        identity(&claiming(), &alice),
        Identity {
            uid: 2001,
            gid: 2001,
            name: "alice".into(),
            gecos: "Alice Example".into(),
            dir: "/home/alice".into(),
            shell: "/bin/zsh".into(),
            groups: Membership::Named(groups.map(|(name, gid)| (name.to_owned(), gid)).into()),
        }
    );
}

#[test]
fn identity_claims_through_a_delegate_are_those_of_the_target() {
    let policy = Policy {
        identity_claims: true,
        ..with_portal()
    };
    let grant = through_portal(&policy, &alice()).unwrap();
    assert_eq!(grant.identity(), Some(&identity(&policy, &alice())));
}

#[test]
fn an_empty_gecos_is_filled_with_the_name_and_an_empty_shell_with_the_standard_one() {
    let identity = identity(&claiming(), &alice());
    assert_eq!(
        (identity.gecos, identity.shell),
        ("alice".into(), "/bin/sh".into())
    );
}

#[test]
fn groups_below_identity_min_gid_are_left_out() {
    let bob = account("bob", 2002, &[10, 998, 1000]);
    let Membership::Named(groups) = identity(&claiming(), &bob).groups else {
        panic!("every group has a name")
    };
    assert_eq!(groups.into_values().collect::<Vec<_>>(), [1000, 2002]);
}

#[test]
fn a_primary_group_below_identity_min_gid_stays() {
    let mut bob = account("bob", 2002, &[100]);
    bob.gid = 100;
    let Membership::Named(groups) = identity(&claiming(), &bob).groups else {
        panic!("every group has a name")
    };
    assert!(groups.values().any(|gid| *gid == 100));
}

#[test]
fn a_primary_group_0_is_refused() {
    let wheeled = Account { gid: 0, ..alice() };
    refused(own(&claiming(), &wheeled), Code::PrivilegedUser, "gid 0");
    assert!(own(&plain(), &wheeled).is_ok(), "without identity claims");
}

#[test]
fn roots_group_is_in_no_token_even_with_identity_min_gid_0() {
    let policy = Policy {
        identity_min_gid: 0,
        ..claiming()
    };
    let bob = account("bob", 2002, &[0, 10]);
    let Membership::Named(groups) = identity(&policy, &bob).groups else {
        panic!("every group has a name")
    };
    assert_eq!(groups.into_values().collect::<Vec<_>>(), [10, 2002]);
}

#[test]
fn where_a_group_has_no_name_all_are_given_by_gid() {
    let mut bob = account("bob", 2002, &[3001]);
    bob.groups.insert(3009, None);
    let groups = identity(&claiming(), &bob).groups;
    assert_eq!(groups, Membership::Gids(vec![2002, 3001, 3009]));
}

#[test]
fn where_two_groups_have_the_same_name_neither_is_lost() {
    let mut bob = account("bob", 2002, &[3001]);
    bob.groups.insert(3009, Some("group-3001".into()));
    let groups = identity(&claiming(), &bob).groups;
    assert_eq!(groups, Membership::Gids(vec![2002, 3001, 3009]));
}

// Whatever a policy says.

const USERS: [&str; 14] = [
    "root",
    "toor",
    "slurm",
    "slurm-too",
    "Slurm",
    "nobody",
    "alice",
    "bob",
    "admin",
    "portal",
    "jupyter",
    "2002",
    "alice@corp",
    "a b",
];
const UIDS: [u32; 10] = [
    0,
    500,
    999,
    1000,
    2001,
    2002,
    SLURM,
    65_534,
    u32::MAX - 1,
    u32::MAX,
];
const GROUPS: [&str; 5] = ["hpcusers", "workflow", "operators", "slurm-admins", "gone"];
const GIDS: [u32; 6] = [0, 998, HPCUSERS, WORKFLOW, OPERATORS, ADMINS];
const PATTERNS: [&str; 3] = ["*", "*@corp", "a*"];

fn few<T: Clone + std::fmt::Debug + 'static>(
    from: &'static [T],
) -> impl Strategy<Value = Vec<T>> + use<T> {
    prop::collection::vec(prop::sample::select(from), 0..3)
}

fn users() -> impl Strategy<Value = Vec<String>> {
    few(&USERS).prop_map(|names| list(&names))
}

fn groups() -> impl Strategy<Value = Vec<String>> {
    few(&GROUPS).prop_map(|names| list(&names))
}

fn lifespans() -> impl Strategy<Value = Lifespan> {
    (1_u32..=20).prop_map(|n| Lifespan::from_seconds(n).unwrap())
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        Just(Asked::Default),
        Just(Asked::Max),
        lifespans().prop_map(Asked::Of)
    ]
}

prop_compose! {
    fn accounts()(
        name in prop::sample::select(&USERS),
        uid in prop::sample::select(&UIDS),
        gid in prop::sample::select(&GIDS),
        others in few(&GIDS),
        named in any::<bool>(),
    ) -> Account {
        let mut account = account(name, uid, &others);
        account.gid = gid;
        account.groups.insert(gid, named.then(|| "primary".into()));
        account
    }
}

prop_compose! {
    fn rules()(
        users in users(),
        groups in groups(),
        default_lifespan in prop::option::of(lifespans()),
        max_lifespan in prop::option::of(lifespans()),
        identity_claims in prop::option::of(any::<bool>()),
    ) -> Rule {
        Rule { users, groups, default_lifespan, max_lifespan, identity_claims, ..no_rule() }
    }
}

prop_compose! {
    fn delegates()(
        caller in prop::sample::select(&USERS),
        for_groups in groups(),
        deny_groups in groups(),
        max_lifespan in prop::option::of(lifespans()),
        http in any::<bool>(),
    ) -> Delegate {
        Delegate { caller: caller.into(), for_groups, deny_groups, max_lifespan, rate: RATE, http }
    }
}

prop_compose! {
    fn policies()(
        slurm_user in prop::sample::select(&["slurm", "slurm", "slurm", "root"][..]),
        slurm_uid in prop::option::weighted(0.3, prop::sample::select(&[0, 990, 2001, SLURM][..])),
        allow_privileged in few(&["root", "slurm"]),
        min_uid in prop::sample::select(&[0, 1000, 2002][..]),
        allow_groups in groups(),
        deny_users in users(),
        allow_names in few(&PATTERNS),
        rules in prop::collection::vec(rules(), 0..3),
        delegates in prop::collection::vec(delegates(), 0..3),
        proxies in users(),
        lifespans in (lifespans(), lifespans()),
        identity in (any::<bool>(), prop::sample::select(&[0, 999, 3002][..])),
    ) -> Policy {
        Policy {
            slurm_user: slurm_user.into(),
            slurm_uid,
            allow_privileged: list(&allow_privileged),
            admin_group: "slurm-admins".into(),
            min_uid,
            allow_groups,
            deny_users,
            allow_names: list(&allow_names),
            rules,
            delegates,
            proxies,
            default_lifespan: lifespans.0,
            max_lifespan: lifespans.1,
            identity_claims: identity.0,
            identity_min_gid: identity.1,
            ..plain()
        }
    }
}

prop_compose! {
    fn machines()(
        slurm_uid in prop::option::weighted(0.8, prop::sample::select(&[0, 990, SLURM][..])),
        known in prop::collection::btree_map(
            prop::sample::select(&USERS), prop::sample::select(&UIDS), 0..4),
        gone in prop::option::of(prop::sample::select(&GROUPS)),
    ) -> Names {
        let mut names = machine();
        names.slurm_uid = slurm_uid;
        names.users = known.into_iter().map(|(user, uid)| (user.to_owned(), uid)).collect();
        if let Some(gone) = gone {
            names.groups.remove(gone);
        }
        names
    }
}

/// A case in which much is granted: an ordinary account, often asked for by
/// the delegate of a policy that has one.
fn cases() -> impl Strategy<Value = (Policy, Names, Account, Option<Account>, Asked)> {
    let ordinary = prop_oneof![
        accounts(),
        prop::sample::select(&["alice", "bob"][..]).prop_map(|name| account(
            name,
            2001,
            &[HPCUSERS, WORKFLOW]
        )),
    ];
    let permissive =
        (policies(), machines(), any::<bool>()).prop_map(|(mut policy, names, open)| {
            if open {
                policy.min_uid = policy.min_uid.min(1000);
                policy.allow_groups.clear();
                policy.deny_users.clear();
                for delegate in &mut policy.delegates {
                    delegate.caller = "portal".into();
                    delegate.for_groups = list(&["hpcusers", "workflow"]);
                    delegate.deny_groups.truncate(1);
                }
            }
            let names = if open { machine() } else { names };
            (policy, names)
        });
    let services = prop_oneof![Just(portal()), accounts()];
    (permissive, ordinary, prop::option::of(services), asked()).prop_map(
        |((policy, names), subject, service, asked)| match service {
            // One name and uid has one account.
            Some(service) if (&service.name, service.uid) == (&subject.name, subject.uid) => {
                (policy, names, subject.clone(), Some(subject), asked)
            }
            Some(service) => (policy, names, service, Some(subject), asked),
            None => (policy, names, subject, None, asked),
        },
    )
}

/// Something that can only take away, by the words of the manual.
#[derive(Clone, Debug)]
enum Restriction {
    DenyUser(String),
    AllowGroup(String),
    MinUid(u32),
    Max(Lifespan),
    MaxOfRules(Lifespan),
    RuleFirst(Rule),
    Cap(Lifespan),
    DenyGroup(String),
    OneForGroupLess,
    NobodyPrivileged,
    NoPattern,
    SlurmUid(u32),
    GroupGone(String),
    MinGid(u32),
}

fn restrictions() -> impl Strategy<Value = Restriction> {
    let user = || prop::sample::select(&USERS).prop_map(ToOwned::to_owned);
    let group = || prop::sample::select(&GROUPS).prop_map(ToOwned::to_owned);
    prop_oneof![
        user().prop_map(Restriction::DenyUser),
        group().prop_map(Restriction::AllowGroup),
        prop::sample::select(&[1000_u32, 2001, 2002][..]).prop_map(Restriction::MinUid),
        lifespans().prop_map(Restriction::Max),
        lifespans().prop_map(Restriction::MaxOfRules),
        (users(), groups()).prop_map(|(users, groups)| Restriction::RuleFirst(Rule {
            users,
            groups,
            max_lifespan: Lifespan::from_seconds(1),
            ..no_rule()
        })),
        lifespans().prop_map(Restriction::Cap),
        group().prop_map(Restriction::DenyGroup),
        Just(Restriction::OneForGroupLess),
        Just(Restriction::NobodyPrivileged),
        Just(Restriction::NoPattern),
        prop::sample::select(&[990_u32, 2001][..]).prop_map(Restriction::SlurmUid),
        group().prop_map(Restriction::GroupGone),
        prop::sample::select(&[999_u32, 3002, 5000][..]).prop_map(Restriction::MinGid),
    ]
}

impl Restriction {
    fn apply(&self, policy: &mut Policy, names: &mut Names) {
        let lower = |max: &mut Option<Lifespan>, to: Lifespan| {
            *max = Some(max.map_or(to, |max| max.min(to)));
        };
        match self.clone() {
            Self::DenyUser(user) => policy.deny_users.push(user),
            // A second group would admit more, but the first shuts out everybody else.
            Self::AllowGroup(group) if policy.allow_groups.is_empty() => {
                policy.allow_groups.push(group);
            }
            Self::AllowGroup(_) => policy.allow_groups.truncate(1),
            Self::MinUid(uid) => policy.min_uid = policy.min_uid.max(uid),
            Self::Max(max) => policy.max_lifespan = policy.max_lifespan.min(max),
            Self::MaxOfRules(max) => {
                for rule in &mut policy.rules {
                    let of_all = policy.max_lifespan;
                    lower(&mut rule.max_lifespan, max.min(of_all));
                }
            }
            // One that takes the place of a rule for claims changes what tokens say.
            Self::RuleFirst(rule) if policy.rules.iter().all(|r| r.identity_claims.is_none()) => {
                policy.rules.insert(0, rule);
            }
            Self::Cap(cap) => {
                for delegate in &mut policy.delegates {
                    lower(&mut delegate.max_lifespan, cap);
                }
            }
            Self::DenyGroup(group) => {
                for delegate in &mut policy.delegates {
                    delegate.deny_groups.push(group.clone());
                }
            }
            Self::OneForGroupLess => {
                for delegate in &mut policy.delegates {
                    delegate.for_groups.pop();
                }
            }
            Self::NobodyPrivileged => policy.allow_privileged.clear(),
            Self::NoPattern => policy.allow_names.clear(),
            // Where SlurmUser isn't known, to say its uid is to permit.
            Self::SlurmUid(uid) if names.slurm_uid.is_some() => {
                policy.slurm_uid = policy.slurm_uid.or(Some(uid));
            }
            Self::RuleFirst(_) | Self::SlurmUid(_) => {}
            Self::GroupGone(group) => {
                names.groups.remove(&group);
            }
            Self::MinGid(gid) => policy.identity_min_gid = policy.identity_min_gid.max(gid),
        }
    }
}

fn gids(grant: &Grant) -> Vec<u32> {
    match grant.identity().map(|identity| &identity.groups) {
        None => Vec::new(),
        Some(Membership::Named(groups)) => groups.values().copied().collect(),
        Some(Membership::Gids(gids)) => gids.clone(),
    }
}

/// The longest lifespan by the first rule that matches, said once more.
fn longest(policy: &Policy, names: &Names, account: &Account) -> Lifespan {
    let in_group = |group: &String| {
        names
            .groups
            .get(group)
            .is_some_and(|gid| account.groups.contains_key(gid))
    };
    let is_user = |user: &String| {
        *user == account.name || names.users.get(user).is_some_and(|uid| *uid == account.uid)
    };
    for rule in &policy.rules {
        if rule.users.iter().any(is_user) || rule.groups.iter().any(in_group) {
            return rule.max_lifespan.unwrap_or(policy.max_lifespan);
        }
    }
    policy.max_lifespan
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_policy_lets_a_token_outlive_the_rule_that_matched(
        (policy, names, caller, target, asked) in cases()
    ) {
        if let Ok(grant) = policy.decide(&names, &caller, target.as_ref(), asked) {
            let subject = target.as_ref().unwrap_or(&caller);
            prop_assert!(grant.lifespan() <= longest(&policy, &names, subject));
            if let Asked::Of(asked) = asked {
                prop_assert_eq!(grant.lifespan(), asked);
            }
        }
    }

    #[test]
    fn no_policy_lets_a_token_name_anybody_but_whom_it_was_asked_for(
        (policy, names, caller, target, asked) in cases()
    ) {
        if let Ok(grant) = policy.decide(&names, &caller, target.as_ref(), asked) {
            let subject = target.as_ref().unwrap_or(&caller);
            prop_assert_eq!(grant.subject(), &subject.name);
            let other = subject.uid != caller.uid || subject.name != caller.name;
            prop_assert_eq!(grant.delegate(), other.then_some(&*caller.name));
            if let Some(identity) = grant.identity() {
                prop_assert_eq!(identity.uid, subject.uid);
                prop_assert_eq!(&identity.name, &subject.name);
            }
        }
    }

    #[test]
    fn no_policy_lets_a_token_name_a_privileged_user_but_one_that_it_lists_for_itself(
        (policy, names, caller, target, asked) in cases()
    ) {
        if let Ok(grant) = policy.decide(&names, &caller, target.as_ref(), asked) {
            let Account { name, uid, .. } = target.as_ref().unwrap_or(&caller);
            let slurm_uids = [policy.slurm_uid, names.slurm_uid];
            prop_assert!(slurm_uids.iter().any(Option::is_some));
            prop_assert!(![65_534, u32::MAX].contains(uid));
            prop_assert!(!name.bytes().all(|b| b.is_ascii_digit()) && !name.contains(' '));
            let is_slurm = slurm_uids.contains(&Some(*uid))
                || name.to_lowercase() == policy.slurm_user;
            if *uid == 0 || name.to_lowercase() == "root" {
                prop_assert!(name == "root" && *uid == 0);
            } else if is_slurm {
                prop_assert!(*name == policy.slurm_user);
                prop_assert!(slurm_uids.into_iter().flatten().all(|slurm| slurm == *uid));
            } else {
                return Ok(());
            }
            prop_assert!(policy.allow_privileged.contains(name));
            prop_assert!(grant.delegate().is_none());
        }
    }

    #[test]
    fn no_policy_gives_more_for_one_restriction_more(
        (policy, names, caller, target, asked) in cases(),
        restriction in restrictions(),
    ) {
        let before = policy.decide(&names, &caller, target.as_ref(), asked);
        let (mut restricted, mut fewer) = (policy.clone(), names.clone());
        restriction.apply(&mut restricted, &mut fewer);
        if let Ok(after) = restricted.decide(&fewer, &caller, target.as_ref(), asked) {
            let before = match before {
                Ok(before) => before,
                // What refused was no rule, but a group that now has no say.
                Err(refusal) if refusal.message.starts_with("The policy names the group") => {
                    return Ok(());
                }
                Err(refusal) => return Err(TestCaseError::fail(refusal.message)),
            };
            prop_assert!(after.lifespan() <= before.lifespan());
            prop_assert_eq!(after.subject(), before.subject());
            prop_assert!(gids(&after).iter().all(|gid| gids(&before).contains(gid)));
        }
    }

    #[test]
    fn no_policy_gives_a_delegate_what_its_target_could_not_have(
        (policy, names, caller, target, asked) in cases()
    ) {
        let Some(target) = target else { return Ok(()) };
        let decided = policy.decide(&names, &caller, Some(&target), asked);
        let Ok(grant) = decided else { return Ok(()) };
        if grant.delegate().is_none() { return Ok(()) }
        let entry = policy.delegates.iter().find(|entry| entry.caller == caller.name);
        let entry = entry.ok_or_else(|| TestCaseError::fail("no delegate"))?;
        let is_in = |group: &String| target.groups.contains_key(&names.groups[group]);
        prop_assert!(entry.for_groups.iter().any(is_in));
        prop_assert!(!entry.deny_groups.iter().any(is_in));
        prop_assert!(!is_in(&policy.admin_group));
        prop_assert!(policy.delegates.iter().all(|other| other.caller != target.name));
        prop_assert!(entry.max_lifespan.is_none_or(|cap| grant.lifespan() <= cap));
        let own = policy.decide(&names, &target, None, Asked::Of(grant.lifespan()));
        prop_assert!(own.is_ok(), "{:?}", own);
    }

    #[test]
    fn no_policy_gives_by_http_what_the_main_socket_would_not_or_to_whom_it_must_not(
        (policy, names, caller, target, asked) in cases()
    ) {
        let decided = policy.decide_at(Door::Http, &names, &caller, target.as_ref(), asked);
        let Ok(grant) = decided else { return Ok(()) };
        let at_main = policy.decide(&names, &caller, target.as_ref(), asked);
        prop_assert_eq!(at_main.as_ref(), Ok(&grant));
        prop_assert!(policy.proxies.iter().all(|proxy| names.users.contains_key(proxy)));
        let is_caller = |proxy: &String| {
            *proxy == caller.name || names.users.get(proxy) == Some(&caller.uid)
        };
        prop_assert!(!policy.proxies.iter().any(is_caller));
        let slurm_uids = [policy.slurm_uid, names.slurm_uid];
        prop_assert!(grant.uid() != 0 && !slurm_uids.contains(&Some(grant.uid())));
        if let Some(delegate) = grant.delegate() {
            let entry = policy.delegates.iter().find(|entry| entry.caller == delegate);
            prop_assert!(entry.is_some_and(|entry| entry.http));
        }
    }

    #[test]
    fn a_group_that_cannot_be_found_changes_a_decision_to_a_refusal_or_not_at_all(
        (policy, names, caller, target, asked) in cases(),
        gone in prop::sample::select(&GROUPS),
    ) {
        let before = policy.decide(&names, &caller, target.as_ref(), asked);
        let mut fewer = names.clone();
        fewer.groups.remove(gone);
        if let Ok(after) = policy.decide(&fewer, &caller, target.as_ref(), asked) {
            prop_assert_eq!(Ok(after), before);
        }
    }

    #[test]
    fn root_signs_for_nobody_whom_no_token_may_name(
        (policy, names, subject, _, asked) in cases()
    ) {
        let granted = policy.decide_for_root(&names, &subject, asked).is_ok();
        // Without the limits that root may pass, it is what anybody gets.
        let unlimited = Policy {
            min_uid: 0,
            allow_groups: Vec::new(),
            rules: Vec::new(),
            max_lifespan: lifespan("100d"),
            ..policy
        };
        let asked = if let Asked::Max = asked { Asked::Default } else { asked };
        let own = unlimited.decide(&names, &subject, None, asked).is_ok();
        prop_assert!(!granted || own);
        let slurm_uids = [names.slurm_uid, unlimited.slurm_uid];
        let is_slurm = subject.uid != 0
            && (subject.name == unlimited.slurm_user || slurm_uids.contains(&Some(subject.uid)));
        prop_assert!(granted || !own || is_slurm);
    }

    #[test]
    fn no_policy_puts_roots_group_or_one_below_the_least_into_a_token(
        (policy, names, caller, target, asked) in cases()
    ) {
        if let Ok(grant) = policy.decide(&names, &caller, target.as_ref(), asked) {
            let primary = target.as_ref().unwrap_or(&caller).gid;
            for gid in gids(&grant) {
                prop_assert!(gid != 0);
                prop_assert!(gid >= policy.identity_min_gid || gid == primary);
            }
        }
    }
}
