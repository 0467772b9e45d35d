use super::bearer::Bearer;
use super::failure::Failure;
use crate::report::Problem;
use crate::wire::Issued;

/// Whose token was asked for.
pub(super) enum Expected<'a> {
    /// The user named on the command line.
    Named(&'a str),
    /// Whoever asks.
    Caller(Caller),
}

/// Who asks, as far as that's known without the account service: the client
/// is linked statically and has no NSS, which an answer would have to wait for.
pub(super) struct Caller {
    uid: u32,
    /// The node's local accounts, in the form of passwd(5).
    passwd: Vec<u8>,
}

impl Caller {
    /// The effective uid, which is what the daemon sees, and `/etc/passwd`.
    pub(super) fn of_this_process() -> Self {
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            passwd: std::fs::read("/etc/passwd").unwrap_or_default(),
        }
    }

    /// Does the local account file say that this uid has another name, or
    /// this name another uid? An account of a directory service is not in it:
    /// there the daemon's word stands.
    fn contradicts(&self, user: &str) -> bool {
        let mut uid_has_other_name = false;
        for line in self.passwd.split(|b| *b == b'\n') {
            let mut fields = line.split(|b| *b == b':');
            let (Some(name), Some(_), Some(uid)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Some(uid) = std::str::from_utf8(uid)
                .ok()
                .and_then(|uid| uid.parse::<u32>().ok())
            else {
                continue;
            };
            match (name == user.as_bytes(), uid == self.uid) {
                (true, own) => return !own,
                (false, true) => uid_has_other_name = true,
                (false, false) => {}
            }
        }
        uid_has_other_name
    }
}

/// Accepts a token of the user that was asked for and no other.
///
/// The token must be one by its form, and its `sun` must be the user that the
/// answer names.
pub(super) fn check(issued: &Issued, expected: &Expected<'_>) -> Result<(), Failure> {
    let user = issued.user.as_str();
    if user.is_empty() || !user.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(unusable(format!(
            "names the user \"{user}\", which is no user name"
        )));
    }
    match expected {
        Expected::Named(name) if *name != user => {
            return Err(unusable(format!("is for {user}, and {name} was asked for")));
        }
        Expected::Caller(caller) if caller.contradicts(user) => {
            return Err(Failure::Failed(Problem::new(
                "the daemon's answer",
                format!(
                    "is for {user}, and by /etc/passwd that's not your uid {}",
                    caller.uid
                ),
                format!("it was not used; if you are {user}, ask with --for {user}"),
            )));
        }
        _ => {}
    }
    match Bearer::read(&issued.token).map(|bearer| bearer.sun) {
        None => Err(unusable("holds no token".to_owned())),
        Some(sun) if sun != user => {
            Err(unusable(format!("is for {user}, and its token for {sun}")))
        }
        Some(_) => Ok(()),
    }
}

fn unusable(what: String) -> Failure {
    Failure::Failed(Problem::new(
        "the daemon's answer",
        what,
        "it was not used: see that this is the daemon's socket, and tell your administrator",
    ))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::token::MAX_TOKEN;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/:/bin/sh\n\
                          bob:x:1002:1002::/:/bin/sh\nbroken\nhalf:x:\n";

    fn own(uid: u32) -> Expected<'static> {
        Expected::Caller(Caller {
            uid,
            passwd: PASSWD.into(),
        })
    }

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn issued(user: &str, token: String) -> Issued {
        Issued {
            token,
            user: user.into(),
            expires_at: 1,
            kid: "k".into(),
            jti: "j".into(),
        }
    }

    fn answer_for(user: &str) -> Issued {
        issued(user, token(&format!("{{\"sun\":\"{user}\",\"exp\":1}}")))
    }

    fn complaint(result: Result<(), Failure>) -> String {
        match result {
            Err(Failure::Failed(problem)) => problem.what,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_token_for_the_caller_is_accepted() {
        check(&answer_for("alice"), &own(1001)).unwrap();
    }

    #[test]
    fn a_token_for_the_user_asked_for_is_accepted() {
        check(&answer_for("bob"), &Expected::Named("bob")).unwrap();
    }

    #[test]
    fn a_token_for_another_than_was_asked_for_is_refused() {
        let refused = check(&answer_for("alice"), &Expected::Named("bob"));
        assert_eq!(complaint(refused), "is for alice, and bob was asked for");
    }

    #[test]
    fn an_own_token_in_the_name_of_another_local_account_is_refused() {
        complaint(check(&answer_for("bob"), &own(1001)));
        complaint(check(&answer_for("bob"), &own(70_000)));
    }

    #[test]
    fn an_own_token_in_a_name_that_is_not_the_local_accounts_is_refused() {
        complaint(check(&answer_for("mallory"), &own(1001)));
    }

    #[test]
    fn an_account_that_only_a_directory_knows_is_taken_on_the_daemons_word() {
        check(&answer_for("carol"), &own(70_000)).unwrap();
    }

    #[test]
    fn a_uid_with_two_local_names_goes_by_either() {
        let both = Expected::Caller(Caller {
            uid: 5,
            passwd: b"a:x:5:5:::\nb:x:5:5:::".to_vec(),
        });
        check(&answer_for("a"), &both).unwrap();
        check(&answer_for("b"), &both).unwrap();
    }

    #[test]
    fn a_token_that_speaks_for_another_than_the_answer_is_refused() {
        let lie = issued("alice", token("{\"sun\":\"bob\"}"));
        assert_eq!(
            complaint(check(&lie, &own(1001))),
            "is for alice, and its token for bob"
        );
    }

    #[test]
    fn a_token_that_names_two_users_is_refused() {
        let both = issued("alice", token("{\"sun\":\"alice\",\"sun\":\"alice\"}"));
        assert_eq!(complaint(check(&both, &own(1001))), "holds no token");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let claims = URL_SAFE_NO_PAD.encode("{\"sun\":\"alice\"}");
        for no_token in [
            String::new(),
            "..".into(),
            format!("a.{claims}"),
            format!("a.{claims}.b.c"),
            format!(".{claims}.b"),
            format!("a.{claims}."),
            format!("a.{claims}.b\n"),
            format!("a.{claims}.$(id)"),
            format!("a.{claims}=.b"),
            format!("a.{claims}.{}", "b".repeat(MAX_TOKEN)),
            "a.bm8.b".into(),
            token("{}"),
            token("{\"sun\":1001}"),
        ] {
            let refused = check(&issued("alice", no_token.clone()), &own(1001));
            assert_eq!(complaint(refused), "holds no token", "{no_token}");
        }
    }

    #[test]
    fn a_user_that_no_header_could_hold_is_refused() {
        for user in ["", "al ice", "alice\nX-EVIL: 1", "alicé"] {
            let odd = issued(user, token("{\"sun\":\"alice\"}"));
            assert!(complaint(check(&odd, &own(1001))).starts_with("names the user"));
        }
    }
}
