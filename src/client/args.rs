use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::Arg;

use super::failure::Failure;
use super::format::Format;
use super::socket::{Choice, Cluster};
use super::terminal::plain;
use crate::wire::LifespanWord;

/// What `--help` prints.
pub(super) const HELP: &str = "\
Usage: slurm-token [lifespan=LIFESPAN] [username=USER] [OPTION]...
       slurm-token whoami [OPTION]...

Prints a short-lived Slurm token for you as SLURM_JWT=TOKEN.
With whoami: says what the node's policy gives you.

  --lifespan LIFESPAN  how long the token lives: seconds, or a time such as 90s,
                       30m, 12h, 1h30m, 7d, HH:MM:SS, D-HH:MM; max is as long as
                       you may. Not given: what the policy gives by default
  --for USER           a token for this user, where the policy lets you ask
  --format FORMAT      env     SLURM_JWT=TOKEN (default)
                       export  export SLURM_JWT=TOKEN, for eval
                       raw     the token alone
                       json    an object: token, user, expires_at, kid, jti
                       header  the HTTP headers, for curl -H @-
                       curl    the same, for curl -K -
                       With whoami: json
  --socket PATH        the daemon's socket
  -M, --cluster NAME   the socket of the daemon for this cluster
  -h, --help           print this
  -V, --version        print the version

lifespan= and username= mean --lifespan and --for, as with scontrol token.
SLURM_TOKEND_SOCKET names the socket where no option does.

Examples:
  export $(slurm-token)
  eval \"$(slurm-token --lifespan 12h --format export)\"
  slurm-token --format header | curl -H @- http://localhost:6820/slurm/v0.0.38/jobs

Exit status: 0 done, 1 failed, 2 usage, 3 daemon not reached, 4 refused.
";

/// What a command line asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Help,
    Version,
    Token {
        socket: Choice,
        lifespan: Option<LifespanWord>,
        target: Option<String>,
        format: Format,
    },
    Whoami {
        socket: Choice,
        json: bool,
    },
}

/// A value that may be given once, by whichever of its names.
struct Once<T> {
    value: Option<(T, String)>,
}

impl<T> Once<T> {
    const NEW: Self = Self { value: None };

    fn set(&mut self, value: T, name: &str) -> Result<(), Failure> {
        match &self.value {
            None => {
                self.value = Some((value, name.to_owned()));
                Ok(())
            }
            Some((_, before)) if before == name => usage(format!("{name} is given twice")),
            Some((_, before)) => usage(format!("{before} and {name} exclude each other")),
        }
    }

    fn get(self) -> Option<T> {
        self.value.map(|(value, _)| value)
    }
}

/// Reads a command line.
pub(super) fn parse(mut parser: lexopt::Parser) -> Result<Command, Failure> {
    let mut lifespan = Once::NEW;
    let mut target = Once::NEW;
    let mut format = Once::NEW;
    let mut socket = Once::NEW;
    let mut verb = Once::NEW;
    while let Some(arg) = parser.next().map_err(unreadable)? {
        match arg {
            Arg::Long("lifespan") => {
                lifespan.set(
                    value(&mut parser, "--lifespan", lifespan_word)?,
                    "--lifespan",
                )?;
            }
            Arg::Long("for") => target.set(value(&mut parser, "--for", user)?, "--for")?,
            Arg::Long("format") => {
                format.set(
                    value(&mut parser, "--format", Format::from_str)?,
                    "--format",
                )?;
            }
            Arg::Long("socket") => {
                let path = parser.value().map_err(unreadable)?;
                if path.is_empty() {
                    return usage("--socket is empty");
                }
                socket.set(Choice::Path(PathBuf::from(path)), "--socket")?;
            }
            Arg::Short('M') | Arg::Long("cluster") => {
                let name = value(&mut parser, "--cluster", Cluster::from_str)?;
                socket.set(Choice::Cluster(name), "--cluster")?;
            }
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Short(option) => return usage(format!("there is no option -{option}")),
            Arg::Long(option) => {
                let nearest =
                    nearest(option, &OPTIONS).map(|near| format!("; did you mean --{near}?"));
                return usage(format!(
                    "there is no option --{option}{}",
                    nearest.unwrap_or_default()
                ));
            }
            Arg::Value(operand) => {
                let operand = text(operand, "an operand")?;
                match operand.split_once('=') {
                    Some((key, word)) if key.eq_ignore_ascii_case("lifespan") => {
                        lifespan.set(named("lifespan=", lifespan_word(word))?, "lifespan=")?;
                    }
                    Some((key, name)) if key.eq_ignore_ascii_case("username") => {
                        target.set(named("username=", user(name))?, "username=")?;
                    }
                    None if operand == "whoami" => verb.set((), "whoami")?,
                    _ => return Err(unknown_operand(&operand)),
                }
            }
        }
    }
    let socket = socket.get().unwrap_or(Choice::Usual);
    if verb.get().is_none() {
        return Ok(Command::Token {
            socket,
            lifespan: lifespan.get(),
            target: target.get(),
            format: format.get().unwrap_or(Format::Env),
        });
    }
    let strays = [
        lifespan.value.map(|(_, name)| name),
        target.value.map(|(_, name)| name),
    ];
    if let Some(name) = strays.into_iter().flatten().next() {
        return usage(format!("whoami takes no {name}"));
    }
    match format.get() {
        None => Ok(Command::Whoami {
            socket,
            json: false,
        }),
        Some(Format::Json) => Ok(Command::Whoami { socket, json: true }),
        Some(other) => usage(format!(
            "whoami has no token to write as {}: it takes json",
            other.name()
        )),
    }
}

/// The long options, for the nearest to a mistyped one.
const OPTIONS: [&str; 7] = [
    "lifespan", "for", "format", "socket", "cluster", "help", "version",
];

fn usage<T>(what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Usage(what.into()))
}

#[allow(clippy::needless_pass_by_value)] // the shape that `map_err` takes
fn unreadable(error: lexopt::Error) -> Failure {
    Failure::Usage(error.to_string())
}

fn text(value: OsString, name: &str) -> Result<String, Failure> {
    value
        .into_string()
        .or_else(|_| usage(format!("{name} is not UTF-8")))
}

/// The value of the option `name`, as `read` understands it.
fn value<T>(
    parser: &mut lexopt::Parser,
    name: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Failure> {
    let value = text(parser.value().map_err(unreadable)?, name)?;
    named(name, read(&value))
}

fn named<T>(name: &str, read: Result<T, String>) -> Result<T, Failure> {
    read.or_else(|what| usage(format!("{name} {what}")))
}

/// The word as it stands: what it means is the daemon's to say. All digits
/// are seconds.
fn lifespan_word(word: &str) -> Result<LifespanWord, String> {
    if word.is_empty() {
        return Err("is empty".into());
    }
    let seconds = if word.bytes().all(|b| b.is_ascii_digit()) {
        word.parse().ok()
    } else {
        None
    };
    Ok(seconds.map_or_else(
        || LifespanWord::Word(word.to_owned()),
        LifespanWord::Seconds,
    ))
}

fn user(name: &str) -> Result<String, String> {
    if name.is_empty() {
        Err("is empty".into())
    } else {
        Ok(name.to_owned())
    }
}

fn unknown_operand(operand: &str) -> Failure {
    let key = operand.split_once('=').map_or(operand, |(key, _)| key);
    let near = nearest(key, &["whoami", "lifespan=", "username="])
        .map_or_else(String::new, |near| format!("; did you mean {near}?"));
    Failure::Usage(format!("\"{}\" is not understood{near}", plain(operand)))
}

/// The one of `known` that differs from `word` in at most two letters.
fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|near| {
            (
                strsim::damerau_levenshtein(word, near.trim_end_matches('=')),
                *near,
            )
        })
        .filter(|(distance, _)| *distance <= 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, near)| near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(args: &[&str]) -> Result<Command, Failure> {
        parse(lexopt::Parser::from_args(args))
    }

    fn complaint(args: &[&str]) -> String {
        match command(args) {
            Err(Failure::Usage(what)) => what,
            other => panic!("not a usage error: {other:?}"),
        }
    }

    fn lifespan_of(args: &[&str]) -> Option<LifespanWord> {
        match command(args) {
            Ok(Command::Token { lifespan, .. }) => lifespan,
            other => panic!("no request for a token: {other:?}"),
        }
    }

    fn target_of(args: &[&str]) -> Option<String> {
        match command(args) {
            Ok(Command::Token { target, .. }) => target,
            other => panic!("no request for a token: {other:?}"),
        }
    }

    #[test]
    fn alone_it_asks_for_an_own_token_of_default_length() {
        assert_eq!(
            command(&[]).unwrap(),
            Command::Token {
                socket: Choice::Usual,
                lifespan: None,
                target: None,
                format: Format::Env
            }
        );
    }

    #[test]
    fn a_lifespan_of_digits_is_a_number_of_seconds() {
        assert_eq!(
            lifespan_of(&["lifespan=600"]),
            Some(LifespanWord::Seconds(600))
        );
        assert_eq!(
            lifespan_of(&["--lifespan", "0600"]),
            Some(LifespanWord::Seconds(600))
        );
        assert_eq!(
            lifespan_of(&["--lifespan=0"]),
            Some(LifespanWord::Seconds(0))
        );
    }

    #[test]
    fn any_other_lifespan_is_the_daemons_to_judge() {
        for word in [
            "12h",
            "max",
            "-5",
            "+5",
            "1e3",
            " 5",
            "infinite",
            "99999999999999999999",
        ] {
            assert_eq!(
                lifespan_of(&["--lifespan", word]),
                Some(LifespanWord::Word(word.into()))
            );
        }
    }

    #[test]
    fn operands_may_be_written_in_any_case() {
        assert_eq!(
            lifespan_of(&["LifeSpan=12h"]),
            Some(LifespanWord::Word("12h".into()))
        );
        assert_eq!(target_of(&["USERNAME=Bob"]), Some("Bob".into()));
    }

    #[test]
    fn a_user_is_named_by_operand_or_option() {
        assert_eq!(target_of(&["username=bob"]), Some("bob".into()));
        assert_eq!(target_of(&["--for", "bob"]), Some("bob".into()));
    }

    #[test]
    fn what_is_given_twice_is_a_usage_error() {
        assert_eq!(
            complaint(&["lifespan=5", "LIFESPAN=5"]),
            "lifespan= is given twice"
        );
        assert_eq!(
            complaint(&["--for=bob", "--for=bob"]),
            "--for is given twice"
        );
        assert_eq!(
            complaint(&["-Ma", "--cluster=a"]),
            "--cluster is given twice"
        );
        assert_eq!(complaint(&["whoami", "whoami"]), "whoami is given twice");
    }

    #[test]
    fn two_names_for_one_thing_are_a_usage_error() {
        assert_eq!(
            complaint(&["--lifespan=5", "lifespan=5"]),
            "--lifespan and lifespan= exclude each other"
        );
        assert_eq!(
            complaint(&["username=bob", "--for=bob"]),
            "username= and --for exclude each other"
        );
        assert_eq!(
            complaint(&["--socket=/a", "-Ma"]),
            "--socket and --cluster exclude each other"
        );
    }

    #[test]
    fn empty_values_are_usage_errors() {
        assert_eq!(complaint(&["lifespan="]), "lifespan= is empty");
        assert_eq!(complaint(&["--lifespan", ""]), "--lifespan is empty");
        assert_eq!(complaint(&["username="]), "username= is empty");
        assert_eq!(complaint(&["--for="]), "--for is empty");
        assert_eq!(complaint(&["--socket="]), "--socket is empty");
        assert_eq!(complaint(&["-M", ""]), "--cluster is empty");
    }

    #[test]
    fn a_missing_value_is_a_usage_error() {
        assert_eq!(complaint(&["--for"]), "missing argument for option '--for'");
    }

    #[test]
    fn a_mistyped_word_is_told_the_nearest() {
        assert_eq!(
            complaint(&["--lifespam=5"]),
            "there is no option --lifespam; did you mean --lifespan?"
        );
        assert_eq!(
            complaint(&["--clusters=a"]),
            "there is no option --clusters; did you mean --cluster?"
        );
        assert_eq!(
            complaint(&["whomai"]),
            "\"whomai\" is not understood; did you mean whoami?"
        );
        assert_eq!(complaint(&["user=bob"]), "\"user=bob\" is not understood");
        assert_eq!(
            complaint(&["lifespn=5"]),
            "\"lifespn=5\" is not understood; did you mean lifespan=?"
        );
        assert_eq!(complaint(&["-x"]), "there is no option -x");
        assert_eq!(
            complaint(&["--format=jsn"]),
            "--format jsn is not known; it takes env, export, raw, json, header or curl"
        );
    }

    #[test]
    fn an_argument_that_is_not_utf_8_is_a_usage_error() {
        use std::os::unix::ffi::OsStringExt;
        let operand = OsString::from_vec(b"lifespan=\xff".to_vec());
        assert!(matches!(
            parse(lexopt::Parser::from_args([operand])),
            Err(Failure::Usage(what)) if what == "an operand is not UTF-8"
        ));
    }

    #[test]
    fn a_cluster_is_a_name_and_never_a_path() {
        for name in ["..", ".", "a/b", "../../tmp/x", "-a", "a b", "a,b", "é"] {
            assert!(complaint(&["-M", name]).starts_with("--cluster "), "{name}");
        }
    }

    #[test]
    fn whoami_takes_what_belongs_to_it() {
        assert_eq!(
            command(&["--socket=/s", "whoami", "--format=json"]).unwrap(),
            Command::Whoami {
                socket: Choice::Path("/s".into()),
                json: true
            }
        );
        assert_eq!(
            complaint(&["whoami", "lifespan=5"]),
            "whoami takes no lifespan="
        );
        assert_eq!(complaint(&["--for=bob", "whoami"]), "whoami takes no --for");
        assert_eq!(
            complaint(&["whoami", "--format=env"]),
            "whoami has no token to write as env: it takes json"
        );
    }

    #[test]
    fn help_and_version_come_before_all_else() {
        assert_eq!(
            command(&["whoami", "-h", "--nonsense"]).unwrap(),
            Command::Help
        );
        assert_eq!(command(&["--version"]).unwrap(), Command::Version);
    }

    #[test]
    fn the_options_offered_for_a_mistyped_one_are_those_of_the_help() {
        for option in OPTIONS {
            assert!(HELP.contains(&format!("--{option}")), "--{option}");
        }
    }
}
