//! `/authenticate/refresh`: a token in the place of one that is brought.

use super::{ask, bearer, get, opened, token};
use crate::node::{ALICE, BOB, Daemon, generate_key};

const LINE: &str = "POST /authenticate/refresh";

fn daemon(name: &str) -> Daemon {
    let key = generate_key("RS256", &format!("{name}.pem"));
    Daemon::with(name, "RS256", &key, "", &opened(name, "", ""))
}

#[test]
fn a_user_has_a_token_of_their_own_renewed_by_either_header() {
    const NAME: &str = "http-renewed";
    let daemon = daemon(NAME);
    let old = token(&daemon, ALICE.uid, 600);
    for header in [bearer(&old), format!("X-SLURM-USER-TOKEN: {old}")] {
        let answer = ask(NAME, ALICE.uid, LINE, &[&header], "");
        assert_ne!(answer.token(), old);
        assert_eq!(answer.json()["user"], "alice");
    }
}

#[test]
fn a_token_that_is_not_ones_own_or_none_is_refused_with_the_right_code() {
    const NAME: &str = "http-not-renewed";
    let daemon = daemon(NAME);
    let alices = token(&daemon, ALICE.uid, 600);
    let stranger = ask(NAME, BOB.uid, LINE, &[&bearer(&alices)], "");
    assert_eq!(stranger.refusal(), (403, "not_your_token".into()));
    let missing = get(NAME, ALICE.uid, LINE);
    assert_eq!(
        missing.refusal(),
        (401, "authorization_header_missing".into())
    );
    let forged = format!("{alices}x");
    let forged = ask(NAME, ALICE.uid, LINE, &[&bearer(&forged)], "");
    assert_eq!(forged.refusal(), (401, "token_invalid".into()));
    let twice = [bearer(&alices), bearer(&alices)];
    let twice: Vec<&str> = twice.iter().map(String::as_str).collect();
    let twice = ask(NAME, ALICE.uid, LINE, &twice, "");
    assert_eq!(twice.refusal(), (401, "invalid_header".into()));
    let body = ask(NAME, ALICE.uid, LINE, &[&bearer(&alices)], "{}");
    assert_eq!(body.refusal(), (400, "malformed_request".into()));
}
