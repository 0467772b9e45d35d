use std::process::Command;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::keys::Kid;
use crate::keys::file::SecretBytes;
use crate::keys::format::{PublicKey, SigningKey, signing_key};
use crate::token::compact::Flaw;

const NOW: u64 = 1_800_000_000;

/// One RSA key for all tests.
static RSA: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let openssl = Command::new("openssl").args(["genrsa", "2048"]).output();
    openssl.expect("openssl is installed").stdout
});

fn rsa() -> SigningKey {
    let pem = SecretBytes::new(RSA.clone());
    signing_key(&pem, Algorithm::Rs256, Kid::new("rsa")).unwrap()
}

fn hmac(byte: u8, kid: &str) -> SigningKey {
    let secret = SecretBytes::new(vec![byte; 32]);
    signing_key(&secret, Algorithm::Hs256, Kid::new(kid)).unwrap()
}

fn policy() -> Policy {
    Policy {
        slurm_user: "slurm".into(),
        slurm_uid: Some(64_030),
        allow_privileged: Vec::new(),
        admin_group: "slurm-admins".into(),
        min_uid: 1000,
        allow_groups: Vec::new(),
        deny_users: vec!["mallory".into()],
        allow_names: Vec::new(),
        rules: Vec::new(),
        delegates: Vec::new(),
        proxies: Vec::new(),
        default_lifespan: "30m".parse().unwrap(),
        max_lifespan: "12h".parse().unwrap(),
        identity_claims: false,
        identity_min_gid: 1000,
        issuer: None,
        audience: None,
        max_session: "7d".parse().unwrap(),
    }
}

/// Signs these texts as they are.
fn signed(key: &SigningKey, header: &str, claims: &str) -> String {
    let input = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let input = input.join(".");
    let signature = key.sign(input.as_bytes()).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn header(key: &SigningKey) -> Value {
    json!({"alg": key.algorithm().as_str(), "typ": "JWT", "kid": key.kid().as_str()})
}

fn claims() -> Value {
    json!({"iat": NOW, "nbf": NOW, "exp": NOW + 600, "jti": "00", "sun": "alice"})
}

/// An object with these members too, or instead; null removes one.
fn changed(mut object: Value, members: &Value) -> String {
    let map = object.as_object_mut().unwrap();
    map.extend(members.as_object().unwrap().clone());
    map.retain(|_, value| !value.is_null());
    object.to_string()
}

/// A token of a key, with these members of header and claims changed.
fn token(key: &SigningKey, in_header: &Value, in_claims: &Value) -> String {
    signed(
        key,
        &changed(header(key), in_header),
        &changed(claims(), in_claims),
    )
}

fn ring(keys: &[&SigningKey]) -> KeyRing {
    KeyRing::new(keys.iter().map(|key| key.verifying())).unwrap()
}

/// What is said of a token by who knows these keys.
fn judged(token: &str, keys: &[&SigningKey], leeway: u32, now: u64) -> Result<Verified, Rejected> {
    let policy = policy();
    let rules = Rules {
        leeway,
        policy: &policy,
        names: &Names::default(),
    };
    verify(token.as_bytes(), &ring(keys), &rules, now)
}

fn untrue(token: &str, keys: &[&SigningKey]) -> Untrue {
    match judged(token, keys, 0, NOW) {
        Err(Rejected::Untrue(untrue)) => untrue,
        other => panic!("{other:?}"),
    }
}

/// What is said of claims of the one key's, changed like this.
fn of_claims(changes: &Value) -> Result<Verified, Rejected> {
    let key = hmac(7, "k");
    judged(&token(&key, &json!({}), changes), &[&key], 0, NOW)
}

#[test]
fn a_token_of_either_algorithm_is_accepted_and_says_what_it_says() {
    for key in [rsa(), hmac(7, "k")] {
        let verified = judged(&token(&key, &json!({}), &json!({})), &[&key], 0, NOW).unwrap();
        assert_eq!(verified.kid, key.kid().as_str());
        assert_eq!(verified.algorithm, key.algorithm());
        assert_eq!(verified.claims.sun, "alice");
        assert_eq!(verified.claims.exp, NOW + 600);
    }
}

#[test]
fn a_ring_that_remembers_a_token_looks_at_all_else_again() {
    let key = rsa();
    let keys = ring(&[&key]);
    let mut policy = policy();
    let mut says = |token: &str, now: u64, denied: &str| {
        policy.deny_users = vec![denied.into()];
        let rules = Rules {
            leeway: 0,
            policy: &policy,
            names: &Names::default(),
        };
        verify(token.as_bytes(), &keys, &rules, now).map_err(|rejected| rejected.code())
    };
    let good = token(&key, &json!({}), &json!({}));
    for _ in 0..2 {
        assert_eq!(says(&good, NOW, "").unwrap().claims.sun, "alice");
    }
    assert_eq!(says(&good, NOW + 600, ""), Err(Code::TokenExpired));
    assert_eq!(says(&good, NOW - 1, ""), Err(Code::TokenInvalid));
    assert_eq!(says(&good, NOW, "alice"), Err(Code::NotAllowed));
    // The same signature below other claims, and another below the same.
    let other = token(&key, &json!({}), &json!({"sun": "bob"}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (others, others_signature) = other.rsplit_once('.').unwrap();
    for mixed in [
        format!("{others}.{signature}"),
        format!("{signed}.{others_signature}"),
        format!("{signed}."),
    ] {
        assert!(says(&mixed, NOW, "").is_err(), "{mixed}");
    }
}

#[test]
fn the_signatures_of_rfc_7515_are_good_and_their_tokens_name_nobody() {
    // Appendix A.1: HS256.
    let secret =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let secret = SecretBytes::new(URL_SAFE_NO_PAD.decode(secret).unwrap());
    let secret = signing_key(&secret, Algorithm::Hs256, Kid::new("a1")).unwrap();
    // Appendix A.2: RS256.
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJ\
             PMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OM\
             g0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQ\
             Y4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs\
             91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let n = URL_SAFE_NO_PAD.decode(n).unwrap();
    let public = PublicKey::from_components(&n, &[1, 0, 1]).unwrap();
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290\
                  Ijp0cnVlfQ";
    let hs256 = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{claims}.\
         dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    let rs256 = format!(
        "eyJhbGciOiJSUzI1NiJ9.{claims}.\
         cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8\
         W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPv\
         kSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1ph\
         CnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    for (text, key) in [
        (hs256, secret.verifying()),
        (rs256, VerifyingKey::rs256(&public, "a2")),
    ] {
        let read = Compact::read(text.as_bytes()).unwrap();
        assert!(key.verifies(read.signed(), read.signature()));
        let flaw = Flaw::Missing;
        assert_eq!(
            read.typed_claims(),
            Err(BadMember {
                member: "sun",
                flaw
            })
        );
    }
}

#[test]
fn a_token_of_another_key_of_the_same_name_is_forged() {
    let forged = token(&hmac(8, "k"), &json!({}), &json!({}));
    let kid = "k".to_owned();
    assert_eq!(untrue(&forged, &[&hmac(7, "k")]), Untrue::Signature { kid });
}

#[test]
fn the_key_decides_about_the_algorithm_and_the_token_does_not() {
    let rsa = rsa();
    // The oldest trick: the public key, known to all, as an HS256 secret.
    let pem = rsa.public().unwrap().to_spki_pem();
    let input = ["{\"alg\":\"HS256\",\"kid\":\"rsa\"}", &claims().to_string()]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, pem.as_bytes());
    let mac = aws_lc_rs::hmac::sign(&key, input.as_bytes());
    let confused = format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac));
    let hmac = hmac(7, "k");
    for (text, keys, alg, wanted) in [
        (confused, &rsa, "HS256", Algorithm::Rs256),
        (
            token(&rsa, &json!({"alg": "none"}), &json!({})),
            &rsa,
            "none",
            Algorithm::Rs256,
        ),
        (
            token(&rsa, &json!({"alg": "rs256"}), &json!({})),
            &rsa,
            "rs256",
            Algorithm::Rs256,
        ),
        (
            token(&hmac, &json!({"alg": "RS256"}), &json!({})),
            &hmac,
            "RS256",
            Algorithm::Hs256,
        ),
        (
            token(&hmac, &json!({"alg": "HS512"}), &json!({})),
            &hmac,
            "HS512",
            Algorithm::Hs256,
        ),
    ] {
        let alg = alg.to_owned();
        assert_eq!(
            untrue(&text, &[keys]),
            Untrue::OtherAlgorithm { alg, wanted }
        );
    }
}

#[test]
fn an_unknown_kid_is_refused_though_the_key_would_fit() {
    let key = hmac(7, "k");
    let unknown = token(&key, &json!({"kid": "other"}), &json!({}));
    assert_eq!(
        untrue(&unknown, &[&key]),
        Untrue::UnknownKid("other".into())
    );
}

#[test]
fn a_token_of_slurms_own_without_kid_is_tried_with_the_only_secret() {
    let (key, other, rsa) = (hmac(7, "k"), hmac(8, "l"), rsa());
    let text = token(&key, &json!({"kid": null}), &json!({}));
    assert_eq!(judged(&text, &[&rsa, &key], 0, NOW).unwrap().kid, "k");
    assert_eq!(untrue(&text, &[&key, &other]), Untrue::NoKid);
    assert_eq!(untrue(&text, &[&rsa]), Untrue::NoKid);
}

#[test]
fn an_rs256_token_without_kid_is_refused_as_slurm_does() {
    let key = rsa();
    let text = token(&key, &json!({"kid": null}), &json!({}));
    assert_eq!(untrue(&text, &[&key]), Untrue::NoKid);
    assert_eq!(untrue(&text, &[&key, &hmac(7, "k")]), Untrue::NoKid);
}

#[test]
fn two_keys_of_one_name_make_no_ring_and_one_key_twice_does() {
    let keys = [hmac(7, "k"), hmac(8, "k"), rsa()].map(|key| key.verifying());
    let kid = "k".to_owned();
    assert_eq!(KeyRing::new(keys).unwrap_err(), KidTwice { kid });
    let public = rsa().public().unwrap().clone();
    let same_name = [hmac(7, "rsa").verifying(), rsa().verifying()];
    assert!(KeyRing::new(same_name).is_err());
    let twice = [rsa().verifying(), VerifyingKey::rs256(&public, "rsa")];
    assert!(KeyRing::new(twice).is_ok());
}

#[test]
fn extensions_and_other_types_are_refused() {
    let key = hmac(7, "k");
    let of = |changes: &Value| untrue(&token(&key, changes, &json!({})), &[&key]);
    assert_eq!(of(&json!({"crit": ["b64"], "b64": true})), Untrue::Critical);
    assert_eq!(of(&json!({"crit": []})), Untrue::Critical);
    assert_eq!(
        of(&json!({"typ": "at+jwt"})),
        Untrue::OtherType("at+jwt".into())
    );
    for typ in [json!(null), json!("jwt")] {
        let token = token(&key, &json!({ "typ": typ }), &json!({}));
        assert!(judged(&token, &[&key], 0, NOW).is_ok(), "{typ}");
    }
}

#[test]
fn a_member_that_is_there_twice_is_refused_though_both_say_the_same() {
    let key = hmac(7, "k");
    let good = claims().to_string();
    for (header, claims, member) in [
        (
            r#"{"alg":"HS256","kid":"k","kid":"k"}"#,
            good.as_str(),
            "kid",
        ),
        (
            r#"{"alg":"HS256","kid":"k"}"#,
            r#"{"sun":"alice","s\u0075n":"alice","exp":1900000000}"#,
            "sun",
        ),
    ] {
        let text = signed(&key, header, claims);
        assert_eq!(untrue(&text, &[&key]), Untrue::MemberTwice(member.into()));
    }
}

#[test]
fn a_token_is_valid_from_its_begin_to_just_before_its_end() {
    let key = hmac(7, "k");
    let text = token(&key, &json!({}), &json!({}));
    let at = |now| judged(&text, &[&key], 0, now).map(|_| ());
    let (nbf, exp) = (NOW, NOW + 600);
    let now = nbf - 1;
    assert_eq!(at(now), Err(Untrue::NotYet { nbf, now }.into()));
    assert_eq!(at(nbf), Ok(()));
    assert_eq!(at(exp - 1), Ok(()));
    assert_eq!(at(exp), Err(Rejected::Expired { exp, now: exp }));
}

#[test]
fn the_leeway_widens_both_ends_by_so_many_seconds() {
    let key = hmac(7, "k");
    let text = token(&key, &json!({}), &json!({}));
    let at = |now| judged(&text, &[&key], 10, now).is_ok();
    assert!(at(NOW - 10) && at(NOW + 609));
    assert!(!at(NOW - 11) && !at(NOW + 610));
}

#[test]
fn nothing_else_limits_a_token_in_time() {
    for changes in [
        json!({"nbf": null, "iat": null}),
        json!({"iat": NOW + 5000}),
        json!({"auth_time": NOW + 5000}),
        json!({"exp": NOW + 3_000_000_000}),
    ] {
        assert!(of_claims(&changes).is_ok(), "{changes}");
    }
}

#[test]
fn that_it_has_expired_is_told_only_of_a_token_that_was_good() {
    let key = hmac(7, "k");
    let expired = json!({"exp": NOW - 1});
    let forged = token(&hmac(8, "k"), &json!({}), &expired);
    assert!(matches!(untrue(&forged, &[&key]), Untrue::Signature { .. }));
    assert!(matches!(
        of_claims(&json!({"exp": NOW - 1, "sun": "0"})),
        Err(Rejected::Subject(_))
    ));
    assert!(matches!(of_claims(&expired), Err(Rejected::Expired { .. })));
}

#[test]
fn an_end_in_milliseconds_is_called_so() {
    let rejected = of_claims(&json!({"exp": NOW * 1000})).unwrap_err();
    assert!(
        rejected.what().contains("\"exp\" looks like milliseconds"),
        "{rejected}"
    );
    assert_eq!(rejected.code(), Code::TokenInvalid);
}

#[test]
fn whom_issuing_refuses_by_name_is_refused_however_good_the_signature() {
    for sun in [
        "0", "00", "2001", "+0", "-alice", "a b", "", "root", "ROOT", "slurm", "mallory", "a@b",
    ] {
        let Err(Rejected::Subject(refusal)) = of_claims(&json!({ "sun": sun })) else {
            panic!("{sun:?}");
        };
        let expected = if sun == "mallory" {
            Code::NotAllowed
        } else {
            Code::PrivilegedUser
        };
        assert_eq!(refusal.code, expected, "{sun:?}");
    }
}

#[test]
fn whom_issuing_refuses_by_uid_or_group_is_refused_whatever_the_name() {
    for changes in [
        json!({"uid": 0}),
        json!({"uid": 64_030}),
        json!({"uid": 65_534}),
        json!({"uid": 4_294_967_295_u32}),
        json!({"uid": 2001, "gid": 0}),
    ] {
        let rejected = of_claims(&changes).unwrap_err();
        assert_eq!(rejected.code(), Code::PrivilegedUser, "{changes}");
    }
    assert!(of_claims(&json!({"uid": 2001, "gid": 2001})).is_ok());
}

#[test]
fn whom_the_policy_names_is_refused_by_the_uid_of_that_name() {
    let key = hmac(7, "k");
    let policy = Policy {
        slurm_uid: None,
        ..policy()
    };
    let names = Names {
        slurm_uid: Some(64_031),
        users: [("mallory".into(), 2666)].into(),
        ..Names::default()
    };
    let rules = Rules {
        leeway: 0,
        policy: &policy,
        names: &names,
    };
    let code_of = |uid: u32| {
        let token = token(&key, &json!({}), &json!({ "uid": uid }));
        let verified = verify(token.as_bytes(), &ring(&[&key]), &rules, NOW);
        verified.err().map(|rejected| rejected.code())
    };
    assert_eq!(code_of(64_031), Some(Code::PrivilegedUser));
    assert_eq!(code_of(2666), Some(Code::NotAllowed));
    assert_eq!(code_of(2001), None);
}

#[test]
fn privileged_users_pass_where_the_policy_lists_them() {
    let key = hmac(7, "k");
    let mut policy = policy();
    policy.allow_privileged = vec!["root".into()];
    let rules = Rules {
        leeway: 0,
        policy: &policy,
        names: &Names::default(),
    };
    let of = |changes: &Value| {
        let token = token(&key, &json!({}), changes);
        verify(token.as_bytes(), &ring(&[&key]), &rules, NOW).is_ok()
    };
    assert!(of(&json!({"sun": "root"})));
    assert!(of(&json!({"sun": "root", "uid": 0, "gid": 0})));
    assert!(!of(&json!({"sun": "root", "uid": 2001})));
    assert!(!of(&json!({"sun": "alice", "uid": 0})));
    assert!(!of(&json!({"sun": "slurm"})));
}

#[test]
fn identity_claims_of_somebody_else_are_refused() {
    let id =
        |name: &str| json!({"id": {"name": name, "gecos": "A", "dir": "/", "shell": "/bin/sh"}});
    assert!(of_claims(&id("alice")).is_ok());
    assert_eq!(of_claims(&id("bob")), Err(Untrue::OtherIdentity.into()));
}

#[test]
fn each_kind_of_rejection_has_its_code_a_sentence_and_a_remedy() {
    let key = hmac(7, "k");
    for (text, code) in [
        ("x".to_owned(), Code::TokenInvalid),
        (
            format!("{}\n", token(&key, &json!({}), &json!({}))),
            Code::TokenInvalid,
        ),
        (
            token(&key, &json!({}), &json!({"sun": null})),
            Code::TokenInvalid,
        ),
        (
            token(&key, &json!({}), &json!({"exp": 1})),
            Code::TokenExpired,
        ),
        (
            token(&key, &json!({}), &json!({"sun": "0"})),
            Code::PrivilegedUser,
        ),
    ] {
        let refusal = judged(&text, &[&key], 0, NOW).unwrap_err().refusal();
        assert_eq!(refusal.code, code);
        for words in [&refusal.message, &refusal.help] {
            assert!(words.ends_with('.') && !words.ends_with(".."), "{words}");
            assert!(
                !words.starts_with(|c: char| c.is_ascii_lowercase()),
                "{words}"
            );
        }
    }
}

#[test]
fn a_message_repeats_no_more_of_a_token_than_fits_a_line() {
    let key = hmac(7, "k");
    let kid = "\u{1b}[2J\n".repeat(500);
    let rejected = untrue(&token(&key, &json!({ "kid": kid }), &json!({})), &[&key]);
    let words = Rejected::from(rejected).to_string();
    assert!(
        words.len() < 1500 && !words.contains(char::is_control),
        "{words}"
    );
}

#[test]
fn no_token_that_differs_in_any_byte_is_accepted() {
    let key = hmac(7, "k");
    let policy = policy();
    let rules = Rules {
        leeway: 0,
        policy: &policy,
        names: &Names::default(),
    };
    let keys = ring(&[&key]);
    let good = token(&key, &json!({}), &json!({})).into_bytes();
    assert!(verify(&good, &keys, &rules, NOW).is_ok());
    for at in 0..good.len() {
        let mut other = good.clone();
        for byte in (0..=u8::MAX).filter(|byte| *byte != good[at]) {
            other[at] = byte;
            assert!(
                verify(&other, &keys, &rules, NOW).is_err(),
                "byte {at} is {byte}"
            );
        }
        assert!(
            verify(&good[..at], &keys, &rules, NOW).is_err(),
            "cut to {at}"
        );
    }
}

proptest! {
    #[test]
    fn no_rs256_token_that_differs_is_accepted(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        static GOOD: LazyLock<String> = LazyLock::new(|| token(&rsa(), &json!({}), &json!({})));
        let good = GOOD.as_bytes();
        let at = at.index(good.len());
        let mut other = good.to_vec();
        other.splice(at..=at, bytes);
        let text = String::from_utf8_lossy(&other);
        prop_assert_eq!(judged(&text, &[&rsa()], 0, NOW).is_ok(), other == good);
    }

    #[test]
    fn no_claims_crash_the_verifier_and_only_sound_names_pass(
        sun in r"[a-z0-9+ @-]{0,4}",
        exp in any::<i64>(),
        extra in r#"[\[\]{}":,0-9a-z.-]{0,20}"#,
    ) {
        let key = hmac(7, "k");
        let claims = format!(r#"{{"sun":{},"exp":{exp}{extra}}}"#, json!(sun));
        let token = signed(&key, &header(&key).to_string(), &claims);
        if let Ok(verified) = judged(&token, &[&key], 0, NOW) {
            prop_assert!(verified.claims.exp > NOW);
            prop_assert!(crate::account::judge_name(&sun, &[]).is_ok());
        }
    }
}
