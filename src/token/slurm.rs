//! What Slurm would say to a token, as far as that shows without its key.
//!
//! Slurm 22.05.8 was asked itself: `tests/it/slurm/inspect.rs` does it again.
//! What 26.05.3 does was measured once, for the cases that have an answer
//! here; what wasn't is called so. Both read tokens with libjwt 1.10.

use std::fmt;

use super::compact::{Compact, NO_SECONDS};
use crate::account::judge_name;
use crate::keys::json::Json;

/// Tokens of so many bytes pass, ...
const PASSES: usize = 70_000;
/// ...and tokens of so many don't. What lies between was not tried with 26.05.
const FAILS: usize = 100_000;

/// What a release of Slurm does with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Accepts it, if it knows the key and the signature is good.
    Accepts,
    /// It was not tried.
    NotTried,
    /// Refuses it, whatever the signature.
    Refuses,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepts => "accepts it",
            Self::NotTried => "was not tried with this",
            Self::Refuses => "refuses it",
        })
    }
}

/// Something about a token that a release refuses, or may refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What it is, in a sentence without its full stop.
    pub what: String,
    /// What Slurm 22.05 does with such a token.
    pub slurm_22_05: Fate,
    /// What Slurm 26.05 does with such a token.
    pub slurm_26_05: Fate,
}

/// Whom Slurm takes the bearer of a token for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// An account, by its name.
    User(String),
    /// A uid: the name is a number.
    Uid(u32),
}

impl fmt::Display for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "{name:?}"),
            Self::Uid(0) => f.write_str("root (uid 0)"),
            Self::Uid(uid) => write!(f, "uid {uid}"),
        }
    }
}

/// What Slurm would say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opinion {
    /// For whom Slurm takes its bearer.
    pub bearer: Option<Bearer>,
    /// What is in the token's way; none where both releases accept it.
    pub obstacles: Vec<Obstacle>,
    /// What its user should know beside that, each in a sentence without its
    /// full stop.
    pub remarks: Vec<String>,
}

impl Opinion {
    /// What Slurm 22.05 does with the token.
    pub fn slurm_22_05(&self) -> Fate {
        self.worst(|obstacle| obstacle.slurm_22_05)
    }

    /// What Slurm 26.05 does with the token.
    pub fn slurm_26_05(&self) -> Fate {
        self.worst(|obstacle| obstacle.slurm_26_05)
    }

    fn worst(&self, fate: impl Fn(&Obstacle) -> Fate) -> Fate {
        let fates: Vec<_> = self.obstacles.iter().map(fate).collect();
        [Fate::Refuses, Fate::NotTried]
            .into_iter()
            .find(|worse| fates.contains(worse))
            .unwrap_or(Fate::Accepts)
    }

    fn refused_by_both(&mut self, what: impl Into<String>) {
        self.obstacle(what, Fate::Refuses, Fate::Refuses);
    }

    fn obstacle(&mut self, what: impl Into<String>, slurm_22_05: Fate, slurm_26_05: Fate) {
        self.obstacles.push(Obstacle {
            what: what.into(),
            slurm_22_05,
            slurm_26_05,
        });
    }

    fn remark(&mut self, what: impl Into<String>) {
        self.remarks.push(what.into());
    }
}

/// Judges a token. `now` is in seconds since 1970, by this machine's clock;
/// slurmctld goes by its own.
pub fn judge(token: &[u8], now: u64) -> Opinion {
    let mut opinion = Opinion::default();
    match Compact::read_foreign(token) {
        Ok(compact) => {
            judge_size(&mut opinion, token.len());
            judge_header(&mut opinion, &compact.header);
            judge_times(&mut opinion, &compact.claims, now);
            judge_bearer(&mut opinion, &compact.claims);
            judge_identity(&mut opinion, &compact.claims);
            if let Some(member) = compact.repeated_member() {
                opinion.remark(format!(
                    "it has the member {member:?} twice: Slurm takes the last, others may not"
                ));
            }
        }
        Err(malformed) => opinion.refused_by_both(malformed.what()),
    }
    opinion
}

fn judge_size(opinion: &mut Opinion, bytes: usize) {
    if bytes >= FAILS {
        opinion.refused_by_both(format!("it has {bytes} bytes, too many for slurmrestd"));
    } else if bytes > PASSES {
        let what = format!("it has {bytes} bytes, perhaps too many for slurmrestd");
        opinion.obstacle(what, Fate::NotTried, Fate::NotTried);
    }
}

fn judge_header(opinion: &mut Opinion, header: &Json) {
    let text = |name| last_text(header, name).unwrap_or_default();
    let resembles = |name, wanted| text(name).eq_ignore_ascii_case(wanted);
    let signed_with_rsa = resembles("alg", "RS256");
    if !signed_with_rsa && !resembles("alg", "HS256") {
        let what = "its \"alg\" is neither RS256 nor HS256";
        opinion.obstacle(what, Fate::Refuses, Fate::NotTried);
    } else if !matches!(text("alg"), "RS256" | "HS256") {
        let what = "its \"alg\" is not in capital letters";
        opinion.obstacle(what, Fate::Accepts, Fate::NotTried);
    }
    if signed_with_rsa && last_text(header, "kid").is_none() {
        opinion.refused_by_both(
            "its header names no key (\"kid\"), which RS256 needs: \"no kid in credential\"",
        );
    }
    match header.last_member("typ") {
        None => {}
        Some(Json::Text(typ)) if typ.eq_ignore_ascii_case("JWT") => {}
        Some(Json::Text(_)) => {
            opinion.obstacle("its \"typ\" is not JWT", Fate::Refuses, Fate::NotTried);
        }
        Some(_) => opinion.obstacle("its \"typ\" is not a string", Fate::Accepts, Fate::NotTried),
    }
    if header.member("crit").is_some() {
        let what = "its header names extensions (\"crit\"), which a verifier has to know";
        opinion.obstacle(what, Fate::Accepts, Fate::NotTried);
    }
}

fn last_text<'a>(object: &'a Json, name: &str) -> Option<&'a str> {
    match object.last_member(name) {
        Some(Json::Text(text)) => Some(text),
        _ => None,
    }
}

fn judge_times(opinion: &mut Opinion, claims: &Json, now: u64) {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let integer = |name: &str| match claims.last_member(name) {
        Some(Json::Number(number)) => number.as_i64(),
        _ => None,
    };
    match (integer("exp"), claims.last_member("exp")) {
        (Some(exp), _) if exp < 0 => opinion.refused_by_both("its \"exp\" is negative"),
        (Some(exp), _) if exp < now => {
            opinion.refused_by_both(format!("it expired {} s ago: \"token expired\"", now - exp));
        }
        (Some(exp), _) if exp.unsigned_abs() >= NO_SECONDS => opinion.obstacle(
            "its \"exp\" looks like milliseconds, which Slurm takes for seconds: the token lives \
             for ever",
            Fate::Accepts,
            Fate::NotTried,
        ),
        (Some(_), _) => {}
        (None, None) => opinion.refused_by_both("it has no \"exp\""),
        (None, Some(_)) => opinion.refused_by_both(
            "its \"exp\" is not a whole number of seconds: no fraction, no string",
        ),
    }
    if integer("nbf").is_some_and(|nbf| nbf > now) {
        opinion.remark("its \"nbf\" lies in the future: Slurm doesn't look at it, others do");
    }
}

fn judge_bearer(opinion: &mut Opinion, claims: &Json) {
    let (name, claim) = match (last_text(claims, "sun"), last_text(claims, "username")) {
        (Some(sun), _) => (sun, "sun"),
        (None, Some(username)) => (username, "username"),
        (None, None) => {
            let what = "it names no user: no \"sun\" that is a string";
            return opinion.obstacle(what, Fate::Refuses, Fate::NotTried);
        }
    };
    if name.is_empty() {
        let what = format!("its \"{claim}\" is empty");
        return opinion.obstacle(what, Fate::Refuses, Fate::NotTried);
    }
    if claim == "username" {
        opinion.remark("without a \"sun\" that is a string Slurm takes \"username\"");
    }
    let bearer = match numeric(name) {
        Some(uid) => Bearer::Uid(uid),
        None => Bearer::User(name.into()),
    };
    match &bearer {
        Bearer::Uid(_) => opinion.remark(format!(
            "its \"{claim}\" {name:?} is a number, which Slurm takes for a uid: jobs run as {bearer}"
        )),
        Bearer::User(name) if name == "root" || name == "slurm" => opinion.remark(format!(
            "{bearer} may act as any user: whoever has this token is root on the cluster"
        )),
        Bearer::User(name) if judge_name(name, &[]).is_err() => opinion.remark(format!(
            "{bearer} is not a POSIX portable user name, and slurm-tokend issues nothing for it"
        )),
        Bearer::User(_) => {}
    }
    opinion.bearer = Some(bearer);
}

/// The uid that Slurm takes a name for. Tried with `0`, `00`, `+0`, `-0`, ` 0`
/// and `1002`.
fn numeric(name: &str) -> Option<u32> {
    let number = name.trim_start_matches(' ');
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let uid = digits.parse().ok()?;
    (uid == 0 || !number.starts_with('-')).then_some(uid)
}

/// The claims by which Slurm 26.05 goes with `use_jwt_client_ids`.
fn judge_identity(opinion: &mut Opinion, claims: &Json) {
    let number = |name| match claims.last_member(name) {
        Some(Json::Number(number)) => number.as_u64(),
        _ => None,
    };
    let (Some(uid), Some(_), Some(id)) = (number("uid"), number("gid"), claims.last_member("id"))
    else {
        return;
    };
    let gecos = id.text("gecos").is_some_and(|gecos| !gecos.is_empty());
    let shell = id.text("shell").is_some_and(|shell| shell.starts_with('/'));
    if gecos && shell {
        opinion.remark(format!(
            "with use_jwt_client_ids Slurm 26.05 takes its bearer for uid {uid}, whatever \"sun\" \
             says; 22.05 goes by \"sun\""
        ));
    } else {
        opinion.remark(
            "its \"id\" has an empty \"gecos\" or a relative \"shell\", so that Slurm 26.05 \
             doesn't go by it, and refuses it with use_jwt_client_ids_only",
        );
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    /// What is said of a token in which these members are others, or null: not there.
    fn judged(header: &Value, claims: &Value) -> Opinion {
        let mut all = [
            json!({"alg": "RS256", "typ": "JWT", "kid": "login1"}),
            json!({"exp": NOW + 600, "iat": NOW, "sun": "alice"}),
        ];
        for (part, members) in all.iter_mut().zip([header, claims]) {
            let part = part.as_object_mut().unwrap();
            part.extend(members.as_object().unwrap().clone());
            part.retain(|_, value| !value.is_null());
        }
        let [header, claims] = all.map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        judge(format!("{header}.{claims}.AAAA").as_bytes(), NOW)
    }

    fn with_claims(claims: &Value) -> Opinion {
        judged(&json!({}), claims)
    }

    fn fates(opinion: &Opinion) -> (Fate, Fate) {
        (opinion.slurm_22_05(), opinion.slurm_26_05())
    }

    const BOTH_ACCEPT: (Fate, Fate) = (Fate::Accepts, Fate::Accepts);
    const BOTH_REFUSE: (Fate, Fate) = (Fate::Refuses, Fate::Refuses);

    #[test]
    fn a_token_of_ours_is_accepted_without_a_remark() {
        let opinion = with_claims(&json!({"nbf": NOW, "jti": "00"}));
        let bearer = Some(Bearer::User("alice".into()));
        assert_eq!(
            opinion,
            Opinion {
                bearer,
                ..Opinion::default()
            }
        );
        assert_eq!(fates(&opinion), BOTH_ACCEPT);
    }

    #[test]
    fn the_last_second_is_accepted_and_the_one_after_it_is_not() {
        assert_eq!(fates(&with_claims(&json!({"exp": NOW}))), BOTH_ACCEPT);
        let expired = with_claims(&json!({"exp": NOW - 1}));
        assert_eq!(fates(&expired), BOTH_REFUSE);
        assert_eq!(
            expired.obstacles[0].what,
            "it expired 1 s ago: \"token expired\""
        );
    }

    #[test]
    fn an_end_that_is_no_whole_number_is_refused() {
        for exp in [
            json!(null),
            json!(1_900_000_000.5),
            json!("1900000000"),
            json!(-1),
        ] {
            assert_eq!(
                fates(&with_claims(&json!({ "exp": exp }))),
                BOTH_REFUSE,
                "{exp}"
            );
        }
    }

    #[test]
    fn rs256_needs_a_kid_and_hs256_does_not() {
        for kid in [json!(null), json!(1)] {
            let of = |alg| fates(&judged(&json!({"alg": alg, "kid": kid}), &json!({})));
            assert_eq!(of("RS256"), BOTH_REFUSE, "{kid}");
            assert_eq!(of("HS256"), BOTH_ACCEPT, "{kid}");
        }
    }

    #[test]
    fn a_numeric_name_is_a_uid() {
        for (sun, uid) in [
            ("0", 0),
            ("00", 0),
            ("+0", 0),
            (" 0", 0),
            ("-0", 0),
            ("1002", 1002),
        ] {
            let opinion = with_claims(&json!({ "sun": sun }));
            assert_eq!(opinion.bearer, Some(Bearer::Uid(uid)), "{sun:?}");
            assert!(opinion.remarks[0].contains("takes for a uid"));
        }
        for sun in ["0x0", "1e3", "alice", "-1", "4294967296", "+", ""] {
            let opinion = with_claims(&json!({ "sun": sun }));
            assert!(!matches!(opinion.bearer, Some(Bearer::Uid(_))), "{sun:?}");
        }
    }

    #[test]
    fn without_sun_username_counts() {
        let opinion = with_claims(&json!({"sun": null, "username": "bob"}));
        assert_eq!(opinion.bearer, Some(Bearer::User("bob".into())));
        assert_eq!(fates(&opinion), BOTH_ACCEPT);
        let nobody = with_claims(&json!({"sun": null}));
        assert_eq!((nobody.slurm_22_05(), nobody.bearer), (Fate::Refuses, None));
    }

    #[test]
    fn the_last_of_two_members_counts() {
        let claims = format!(r#"{{"exp":{},"sun":"bob","sun":"alice"}}"#, NOW + 600);
        let token = format!(
            "eyJhbGciOiJIUzI1NiJ9.{}.AAAA",
            URL_SAFE_NO_PAD.encode(claims)
        );
        let opinion = judge(token.as_bytes(), NOW);
        assert_eq!(opinion.bearer, Some(Bearer::User("alice".into())));
        assert!(opinion.remarks[0].contains("\"sun\" twice"));
    }

    #[test]
    fn who_may_act_as_anybody_is_pointed_out() {
        for sun in ["root", "slurm"] {
            let opinion = with_claims(&json!({ "sun": sun }));
            assert!(opinion.remarks[0].contains("root on the cluster"), "{sun}");
        }
    }

    #[test]
    fn identity_claims_count_for_26_05_where_they_are_complete() {
        let claims = |gecos: &str| {
            let id = json!({"name": "alice", "gecos": gecos, "dir": "/", "shell": "/bin/sh"});
            with_claims(&json!({"uid": 0, "gid": 2001, "id": id}))
        };
        assert!(claims("Alice").remarks[0].contains("takes its bearer for uid 0"));
        assert!(claims("").remarks[0].contains("empty \"gecos\""));
    }

    #[test]
    fn a_token_has_at_most_so_many_bytes() {
        let of = |bytes: usize| {
            let rest = "eyJhbGciOiJIUzI1NiJ9.".len() + ".AAAA".len();
            let text = format!(r#"{{"exp":{},"sun":"alice","x":""#, NOW + 600);
            let room = (bytes - rest) * 3 / 4 - text.len() - 2;
            let claims = URL_SAFE_NO_PAD.encode(text + &"y".repeat(room) + "\"}");
            fates(&judge(
                format!("eyJhbGciOiJIUzI1NiJ9.{claims}.AAAA").as_bytes(),
                NOW,
            ))
        };
        assert_eq!(of(70_000), BOTH_ACCEPT);
        assert_eq!(of(80_000), (Fate::NotTried, Fate::NotTried));
        assert_eq!(of(100_002), BOTH_REFUSE);
    }

    #[test]
    fn what_is_no_token_is_refused_by_all() {
        for text in ["", "x", "e30=.e30.AAAA", "Bearer e30.e30.AAAA"] {
            assert_eq!(fates(&judge(text.as_bytes(), NOW)), BOTH_REFUSE, "{text}");
        }
    }

    #[test]
    fn what_was_not_tried_with_26_05_is_not_guessed() {
        for header in [
            json!({"alg": "rs256"}),
            json!({"typ": "x"}),
            json!({"crit": []}),
        ] {
            let opinion = judged(&header, &json!({}));
            assert_eq!(opinion.slurm_26_05(), Fate::NotTried, "{header}");
        }
    }
}
