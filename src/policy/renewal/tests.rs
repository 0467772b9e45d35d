use super::super::Delegate;
use super::super::tests::{alice, lifespan, machine, plain, portal, refused, with_portal};
use super::*;
use crate::caller::Door;
use crate::token::compact::Actor;

const NOW: u64 = 1_795_305_600;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// A token of alice's, made an hour ago for two.
fn old() -> Claims {
    Claims {
        sun: "alice".into(),
        exp: NOW + HOUR,
        iat: Some(NOW - HOUR),
        nbf: Some(NOW - HOUR),
        auth_time: None,
        jti: Some("1".into()),
        iss: None,
        aud: Vec::new(),
        act: None,
        uid: None,
        gid: None,
        id: None,
    }
}

fn by(service: &str, old: Claims) -> Claims {
    Claims {
        act: Some(Actor {
            sub: service.into(),
        }),
        ..old
    }
}

fn renewed(policy: &Policy, old: &Claims) -> Result<Grant, Refusal> {
    policy.renew(Door::Main, &machine(), &alice(), None, old, NOW)
}

// Whose token it is.

#[test]
fn a_token_is_its_subjects_own() {
    let old = old();
    assert_eq!(plain().whose(&alice(), &old), Ok(None));
}

#[test]
fn a_token_that_a_service_got_is_that_services() {
    let old = by("portal", old());
    let whose = with_portal().whose(&portal(), &old);
    assert_eq!(whose, Ok(Some("alice")));
}

#[test]
fn a_token_is_nobody_elses_and_one_that_a_service_got_not_even_its_subjects() {
    let bob = Account {
        name: "bob".into(),
        uid: 2002,
        ..alice()
    };
    for (caller, old) in [
        (&bob, old()),
        (&alice(), by("portal", old())),
        (&bob, by("portal", old())),
        (&portal(), old()),
        // Whoever says this was no daemon of ours.
        (&alice(), by("alice", old())),
        // Another account had the name when the token was made.
        (
            &alice(),
            Claims {
                uid: Some(2002),
                ..old()
            },
        ),
    ] {
        refused(plain().whose(caller, &old), Code::NotYourToken, "neither");
    }
}

// What is given in its place.

#[test]
fn a_renewed_token_lives_as_long_as_the_old_one_and_carries_its_sessions_begin() {
    let grant = renewed(&plain(), &old()).unwrap();
    assert_eq!(u64::from(grant.lifespan().seconds()), 2 * HOUR);
    assert_eq!(grant.auth_time(), Some(NOW - HOUR));

    let second = Claims {
        auth_time: Some(NOW - 3 * DAY),
        ..old()
    };
    let grant = renewed(&plain(), &second).unwrap();
    assert_eq!(grant.auth_time(), Some(NOW - 3 * DAY));
}

#[test]
fn a_first_token_carries_no_begin_of_its_session() {
    let first = plain().decide(&machine(), &alice(), None, Asked::Default);
    assert_eq!(first.unwrap().auth_time(), None);
}

#[test]
fn a_token_renewed_for_another_names_the_service_again() {
    let policy = with_portal();
    let old = by(
        "portal",
        Claims {
            iat: Some(NOW - 60),
            exp: NOW + 60,
            ..old()
        },
    );
    let grant = policy.renew(Door::Main, &machine(), &portal(), Some(&alice()), &old, NOW);
    let grant = grant.unwrap();
    assert_eq!(
        (grant.subject(), grant.delegate()),
        ("alice", Some("portal"))
    );
}

#[test]
fn the_policy_is_applied_as_it_is_now() {
    let denying = Policy {
        deny_users: vec!["alice".into()],
        ..plain()
    };
    refused(renewed(&denying, &old()), Code::NotAllowed, "denies");

    let shorter = Policy {
        max_lifespan: lifespan("1h"),
        ..plain()
    };
    let refusal = renewed(&shorter, &old()).unwrap_err();
    assert_eq!(refusal.code, Code::LifespanTooLong);
    assert_eq!(refusal.max_lifespan, Some(3600));

    let uncovered = by("portal", old());
    let capped = with_portal();
    let decided = capped.renew(
        Door::Main,
        &machine(),
        &portal(),
        Some(&alice()),
        &uncovered,
        NOW,
    );
    refused(decided, Code::LifespanTooLong, "longer than the 10m");
    let gone = plain().renew(
        Door::Main,
        &machine(),
        &portal(),
        Some(&alice()),
        &uncovered,
        NOW,
    );
    refused(gone, Code::NotAllowed, "no delegate");
}

#[test]
fn an_expired_token_is_not_renewed_not_even_in_its_last_second() {
    for exp in [NOW, NOW - 1] {
        let old = Claims { exp, ..old() };
        refused(renewed(&plain(), &old), Code::TokenExpired, "expired");
    }
}

#[test]
fn no_renewed_token_ends_after_its_session() {
    let of_session = |begun| Claims {
        auth_time: Some(begun),
        ..old()
    };
    let last = NOW + 2 * HOUR - 7 * DAY;
    let grant = renewed(&plain(), &of_session(last)).unwrap();
    assert_eq!(grant.auth_time(), Some(last));

    for (begun, left) in [(last - 1, 7199), (NOW - 7 * DAY, 0), (0, 0)] {
        let refusal = renewed(&plain(), &of_session(begun)).unwrap_err();
        assert_eq!(refusal.code, Code::LifespanTooLong, "{begun}");
        assert_eq!(refusal.max_lifespan, Some(left), "{begun}");
        assert!(refusal.message.contains("7d"), "{refusal:?}");
    }
}

#[test]
fn a_session_that_began_in_the_future_lasts_no_longer_for_that() {
    let old = Claims {
        iat: Some(NOW + 30),
        exp: NOW + 90,
        ..old()
    };
    let grant = renewed(&plain(), &old).unwrap();
    assert_eq!(grant.auth_time(), Some(NOW));
}

#[test]
fn times_that_no_token_of_ours_has_are_refused() {
    for impossible in [
        Claims { iat: None, ..old() },
        Claims {
            iat: None,
            auth_time: Some(NOW - HOUR),
            ..old()
        },
        Claims {
            iat: Some(NOW + HOUR),
            ..old()
        },
        Claims {
            iat: Some(NOW + 2 * HOUR),
            ..old()
        },
        Claims {
            exp: u64::MAX,
            ..old()
        },
        // A session that begins after its second token.
        Claims {
            auth_time: Some(NOW - HOUR + 1),
            ..old()
        },
    ] {
        refused(renewed(&plain(), &impossible), Code::TokenInvalid, "began");
    }
}

/// The portal may ask by HTTP, for ten minutes at the most.
fn with_http() -> Policy {
    let policy = with_portal();
    let delegates = policy.delegates.iter().cloned();
    Policy {
        delegates: delegates.map(|d| Delegate { http: true, ..d }).collect(),
        ..policy
    }
}

fn early(policy: &Policy, old: &Claims) -> Option<Grant> {
    policy.renew_early(&machine(), &portal(), &alice(), old, NOW)
}

/// A token of alice's of which so many seconds are left of ten minutes.
fn nearly_over(left: u64) -> Claims {
    Claims {
        iat: Some(NOW + left - 600),
        exp: NOW + left,
        ..old()
    }
}

#[test]
fn a_proxy_that_is_a_delegate_renews_a_users_own_token_as_its_own_issue() {
    let grant = early(&with_http(), &nearly_over(100)).unwrap();
    assert_eq!(
        (grant.subject(), grant.delegate()),
        ("alice", Some("portal"))
    );
    assert_eq!(grant.lifespan(), lifespan("10m"));
    assert_eq!(grant.auth_time(), Some(NOW - 500));
    assert_eq!(early(&with_portal(), &nearly_over(100)), None);
    assert_eq!(early(&plain(), &nearly_over(100)), None);
}

#[test]
fn an_early_one_is_no_longer_than_the_cap_and_outlives_the_old_one() {
    let long = |left| Claims {
        iat: Some(NOW - 2 * HOUR),
        exp: NOW + left,
        ..old()
    };
    assert_eq!(early(&with_http(), &long(600)), None);
    let grant = early(&with_http(), &long(599)).unwrap();
    assert_eq!(grant.lifespan(), lifespan("10m"));
}

#[test]
fn an_early_one_stays_within_its_session() {
    let of_session = |begun| Claims {
        auth_time: Some(begun),
        ..nearly_over(100)
    };
    let last = NOW + 600 - 7 * DAY;
    assert!(early(&with_http(), &of_session(last)).is_some());
    assert_eq!(early(&with_http(), &of_session(last - 1)), None);
}

#[test]
fn what_is_somebody_elses_is_not_renewed_early() {
    let uid = |uid| Claims {
        uid: Some(uid),
        ..nearly_over(100)
    };
    let policy = with_http();
    assert!(early(&policy, &uid(2001)).is_some());
    assert_eq!(early(&policy, &uid(2002)), None);
    assert!(early(&policy, &by("portal", nearly_over(100))).is_some());
    assert_eq!(early(&policy, &by("jupyter", nearly_over(100))), None);
    let bobs = Claims {
        sun: "bob".into(),
        ..nearly_over(100)
    };
    assert_eq!(early(&policy, &bobs), None);
    let own = Claims {
        sun: "portal".into(),
        ..nearly_over(100)
    };
    let decided = policy.renew_early(&machine(), &portal(), &portal(), &own, NOW);
    assert_eq!(decided, None);
}

#[test]
fn half_of_a_life_is_over_when_less_is_left_than_has_passed() {
    let at = |left| is_past_half(&nearly_over(left), NOW);
    assert_eq!(
        [at(301), at(300), at(299), at(0)],
        [false, false, true, true]
    );
    let timeless = Claims { iat: None, ..old() };
    assert!(!is_past_half(&timeless, NOW));
}
