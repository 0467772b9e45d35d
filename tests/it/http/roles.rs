//! `/verify` with conditions: who may pass, by the account database now.

use super::{ADMIN, WWW_DATA, ask, bearer, opened, token};
use crate::node::{ALICE, Daemon, edit_accounts, generate_key, until};

/// The status and code that a token with this query gets.
fn verify(name: &str, token: &str, query: &str) -> (u16, String) {
    let line = format!("GET /verify?{query}");
    let answer = ask(name, WWW_DATA, &line, &[&bearer(token)], "");
    if answer.status == 200 {
        assert!(answer.header("x-slurm-user-name").is_some());
        return (200, String::new());
    }
    if answer.status == 403 {
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(
            challenge.contains("error=\"insufficient_scope\""),
            "{challenge}"
        );
    }
    answer.refusal()
}

/// ali.ce's. Groups are edited for it and for admin, whose groups no test that
/// runs beside these counts.
const ODD: u32 = 2020;

fn daemon(name: &str, limits: &str) -> Daemon {
    let key = generate_key("HS256", &format!("{name}.key"));
    let tables = format!("[limits]\n{limits}\n{}", opened(name, "", ""));
    Daemon::with(name, "HS256", &key, "", &tables)
}

#[test]
fn one_user_or_group_of_those_named_is_enough() {
    const NAME: &str = "http-roles";
    let daemon = daemon(NAME, "");
    let alices = token(&daemon, ALICE.uid, 600);
    for query in [
        "user=alice",
        "user=bob&user=alice",
        "group=hpcusers",
        "group=alice",
        "group=workflow&group=hpcusers",
        "user=bob&group=hpcusers",
        "user=alice&group=workflow",
        "group=%68pcusers",
    ] {
        assert_eq!(verify(NAME, &alices, query).0, 200, "{query}");
    }
    let refused = (403, "insufficient_role".to_owned());
    for query in [
        "user=bob",
        "user=Alice",
        "user=alice-too",
        "group=workflow",
        "user=bob&group=workflow",
        "group=no-such-group",
        "group=2100",
        "group=HPCUSERS",
        "group=hpcusers,workflow",
    ] {
        assert_eq!(verify(NAME, &alices, query), refused, "{query}");
    }
    // Who isn't valid has no role to be judged by.
    let forged = format!("{alices}x");
    assert_eq!(
        verify(NAME, &forged, "user=bob"),
        (401, "token_invalid".into())
    );
}

#[test]
fn a_change_of_the_account_database_counts_for_tokens_that_are_older() {
    const NAME: &str = "http-roles-change";
    let daemon = daemon(NAME, "account_cache = \"1s\"");
    let admins = token(&daemon, ADMIN, 600);
    assert_eq!(verify(NAME, &admins, "group=visitors").0, 403);
    edit_accounts("group", |groups| format!("{groups}visitors:x:2190:admin\n"));
    until("admin to be a visitor", || {
        verify(NAME, &admins, "group=visitors").0 == 200
    });
    edit_accounts("group", |groups| {
        groups.replace("visitors:x:2190:admin\n", "visitors:x:2190:\n")
    });
    until("admin to be none", || {
        verify(NAME, &admins, "group=visitors").0 == 403
    });
}

#[test]
fn a_group_that_has_the_name_of_another_has_no_members() {
    const NAME: &str = "http-roles-twins";
    let daemon = daemon(NAME, "");
    // The first of a name is the one that it leads to; admin is in the second.
    edit_accounts("group", |groups| {
        format!("{groups}twins:x:2191:ali.ce\ntwins:x:2192:admin\n")
    });
    let (first, second) = (token(&daemon, ODD, 600), token(&daemon, ADMIN, 600));
    assert_eq!(verify(NAME, &first, "group=twins").0, 200);
    assert_eq!(verify(NAME, &second, "group=twins").0, 403);
}
