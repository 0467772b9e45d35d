use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::Arg;

use super::ask::Daemon;
use super::curl::{Call, Line};
use super::failure::Failure;
use super::format::Format;
use super::given::Source;
use super::keep::Keeping;
use super::socket::{Choice, Cluster};
use super::terminal::plain;
use crate::token::lifespan::Lifespan;
use crate::wire::LifespanWord;

/// What the program is told to do: the word that says it, or none for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Token,
    Run,
    Keep,
    Curl,
    Inspect,
    Verify,
    Refresh,
    Whoami,
}

impl Verb {
    /// Those that have a word.
    const NAMED: [Self; 7] = [
        Self::Run,
        Self::Keep,
        Self::Curl,
        Self::Inspect,
        Self::Verify,
        Self::Refresh,
        Self::Whoami,
    ];

    /// The word.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Token => "slurm-token",
            Self::Run => "run",
            Self::Keep => "keep",
            Self::Curl => "curl",
            Self::Inspect => "inspect",
            Self::Verify => "verify",
            Self::Refresh => "refresh",
            Self::Whoami => "whoami",
        }
    }

    /// What `--help` is to stand behind.
    pub(super) fn with_help(self) -> String {
        match self {
            Self::Token => self.name().to_owned(),
            verb => format!("{} {}", Self::Token.name(), verb.name()),
        }
    }

    fn named(word: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|verb| verb.name() == word)
    }
}

/// What a command line asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Help(Verb),
    Version,
    Token {
        asking: Asking,
        format: Format,
    },
    Run {
        asking: Asking,
        words: Vec<OsString>,
    },
    Keep {
        asking: Asking,
        keeping: Keeping,
    },
    Curl {
        asking: Asking,
        call: Call,
    },
    Inspect {
        source: Source,
        expected: Option<String>,
        json: bool,
    },
    Verify {
        daemon: Daemon,
        source: Source,
        expected: Option<String>,
        json: bool,
    },
    Refresh {
        daemon: Daemon,
        source: Source,
        format: Format,
    },
    Whoami {
        daemon: Daemon,
        json: bool,
    },
}

/// The token that is asked for, and the daemon to ask.
#[derive(Debug, PartialEq)]
pub(super) struct Asking {
    pub(super) daemon: Daemon,
    /// How long it is to live.
    pub(super) lifespan: Option<LifespanWord>,
    /// For whom, where not for the caller.
    pub(super) target: Option<String>,
}

/// What an option tells; options that tell the same thing exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Lifespan,
    Target,
    Format,
    Socket,
    Wait,
    File,
    Exec,
    Once,
    Url,
    ForceInsecure,
    ExpectUser,
    Given,
}

impl Slot {
    /// With which verbs it has a meaning.
    const fn verbs(self) -> &'static [Verb] {
        match self {
            Self::Lifespan | Self::Target => &[Verb::Token, Verb::Run, Verb::Keep, Verb::Curl],
            Self::Format => &[
                Verb::Token,
                Verb::Keep,
                Verb::Inspect,
                Verb::Verify,
                Verb::Refresh,
                Verb::Whoami,
            ],
            Self::Socket | Self::Wait => &[
                Verb::Token,
                Verb::Run,
                Verb::Keep,
                Verb::Curl,
                Verb::Verify,
                Verb::Refresh,
                Verb::Whoami,
            ],
            Self::File | Self::Exec | Self::Once => &[Verb::Keep],
            Self::Url | Self::ForceInsecure => &[Verb::Curl],
            Self::ExpectUser => &[Verb::Inspect, Verb::Verify],
            Self::Given => &[Verb::Inspect, Verb::Verify, Verb::Refresh],
        }
    }
}

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    /// `--option` or `--option=value`.
    MaybeValue,
}

/// A long option: its name with the hyphens, what it tells, and its value.
type Long = (&'static str, Slot, Takes);

/// Every long option but `--help` and `--version`.
const OPTIONS: [Long; 13] = [
    ("--lifespan", Slot::Lifespan, Takes::Value),
    ("--for", Slot::Target, Takes::Value),
    ("--format", Slot::Format, Takes::Value),
    ("--json", Slot::Format, Takes::Nothing),
    ("--socket", Slot::Socket, Takes::Value),
    ("--cluster", Slot::Socket, Takes::Value),
    ("--wait", Slot::Wait, Takes::MaybeValue),
    ("--file", Slot::File, Takes::Value),
    ("--exec", Slot::Exec, Takes::Value),
    ("--once", Slot::Once, Takes::Nothing),
    ("--url", Slot::Url, Takes::Value),
    ("--force-insecure", Slot::ForceInsecure, Takes::Nothing),
    ("--expect-user", Slot::ExpectUser, Takes::Value),
];

/// How long `--wait` waits where it doesn't say.
const WAIT: Duration = Duration::from_secs(60);

/// What the options and operands have told so far.
#[derive(Default)]
struct Given {
    /// What was told, by which name.
    told: Vec<(Slot, &'static str)>,
    lifespan: Option<LifespanWord>,
    target: Option<String>,
    format: Option<Format>,
    socket: Option<Choice>,
    wait: Option<Duration>,
    file: Option<PathBuf>,
    exec: Option<OsString>,
    once: bool,
    url: Option<String>,
    forced: bool,
    line: Line,
    expected: Option<String>,
    /// The token to look into.
    token: Option<OsString>,
    /// The command that `run` is to run.
    words: Vec<OsString>,
}

impl Given {
    /// Each thing may be told once, by whichever of its names.
    fn tell(&mut self, slot: Slot, name: &'static str) -> Result<(), Failure> {
        match self.told.iter().find(|(told, _)| *told == slot) {
            None => {
                self.told.push((slot, name));
                Ok(())
            }
            Some((_, before)) if *before == name => usage(format!("{name} is given twice")),
            Some((_, before)) => usage(format!("{before} and {name} exclude each other")),
        }
    }

    /// Takes an option in. Where it takes no value, `value` is empty.
    fn option(&mut self, (name, slot, _): Long, value: OsString) -> Result<(), Failure> {
        self.tell(slot, name)?;
        let word = || text(value.clone(), name);
        match name {
            "--lifespan" => self.lifespan = Some(named(name, lifespan_word(&word()?))?),
            "--for" => self.target = Some(named(name, user(&word()?))?),
            "--format" => self.format = Some(named(name, Format::from_str(&word()?))?),
            "--json" => self.format = Some(Format::Json),
            "--cluster" => {
                let cluster = named(name, Cluster::from_str(&word()?))?;
                self.socket = Some(Choice::Cluster(cluster));
            }
            "--once" => self.once = true,
            "--expect-user" => self.expected = Some(named(name, user(&word()?))?),
            "--force-insecure" => self.forced = true,
            "--url" => self.url = Some(word()?),
            "--wait" if value.is_empty() => self.wait = Some(WAIT),
            "--wait" => self.wait = Some(named(name, time(&word()?))?),
            _ if value.is_empty() => return usage(format!("{name} is empty")),
            "--file" => self.file = Some(PathBuf::from(value)),
            "--exec" => self.exec = Some(value),
            _ => self.socket = Some(Choice::Path(PathBuf::from(value))),
        }
        Ok(())
    }

    /// Takes in `lifespan=` or `username=`, if it is one.
    fn scontrol_operand(&mut self, word: &str) -> Result<bool, Failure> {
        match word.split_once('=') {
            Some((key, value)) if key.eq_ignore_ascii_case("lifespan") => {
                self.tell(Slot::Lifespan, "lifespan=")?;
                self.lifespan = Some(named("lifespan=", lifespan_word(value))?);
            }
            Some((key, value)) if key.eq_ignore_ascii_case("username") => {
                self.tell(Slot::Target, "username=")?;
                self.target = Some(named("username=", user(value))?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What follows `curl`: its words, and among them options of ours, which
    /// curl doesn't have.
    fn curl_line(&mut self, mut rest: VecDeque<OsString>) -> Result<Option<Command>, Failure> {
        while let Some(word) = rest.pop_front() {
            let text = word.to_str().unwrap_or_default();
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None => (text, None),
            };
            let ours = |(own, slot, _): &&Long| *own == name && slot.verbs().contains(&Verb::Curl);
            match OPTIONS.iter().find(ours).filter(|_| !self.line.is_over) {
                Some(option) => {
                    let value = match (option.2, value) {
                        (Takes::Nothing, Some(_)) => {
                            return usage(format!("{name} takes no value"));
                        }
                        (Takes::Value, None) => rest.pop_front().ok_or_else(|| {
                            Failure::Usage(format!("missing argument for option '{name}'"))
                        })?,
                        (_, value) => value.unwrap_or_default(),
                    };
                    self.option(*option, value)?;
                }
                None if matches!(text, "-h" | "--help") && !self.line.is_over => {
                    return Ok(Some(Command::Help(Verb::Curl)));
                }
                None => self.line.take(word, &mut rest).map_err(Failure::Usage)?,
            }
        }
        Ok(None)
    }

    fn command(self, verb: Verb) -> Result<Command, Failure> {
        let stray = |(slot, _): &&(Slot, _)| !slot.verbs().contains(&verb);
        if let Some((slot, name)) = self.told.iter().find(stray) {
            return usage(match verb {
                Verb::Token => format!("{name} goes with {}", names(slot.verbs())),
                verb => format!("{} takes no {name}", verb.name()),
            });
        }
        let daemon = Daemon {
            socket: self.socket.unwrap_or(Choice::Usual),
            wait: self.wait.unwrap_or_default(),
        };
        let asking = Asking {
            daemon,
            lifespan: self.lifespan,
            target: self.target,
        };
        Ok(match verb {
            Verb::Token => Command::Token {
                asking,
                format: self.format.unwrap_or(Format::Env),
            },
            Verb::Run if self.words.is_empty() => {
                return usage("run needs a command, as in: slurm-token run squeue --me");
            }
            Verb::Run => Command::Run {
                asking,
                words: self.words,
            },
            Verb::Keep => {
                let Some(file) = self.file else {
                    return usage("keep needs a file: slurm-token keep --file FILE");
                };
                Command::Keep {
                    asking,
                    keeping: Keeping {
                        file,
                        format: self.format.unwrap_or(Format::Raw),
                        exec: self.exec,
                        once: self.once,
                    },
                }
            }
            Verb::Curl => Command::Curl {
                asking,
                call: Call {
                    base: self.url,
                    forced: self.forced,
                    line: self.line,
                },
            },
            Verb::Inspect => Command::Inspect {
                source: source(self.token),
                expected: self.expected,
                json: only_json(verb, self.format)?,
            },
            Verb::Verify => Command::Verify {
                daemon: asking.daemon,
                source: unseen(source(self.token))?,
                expected: self.expected,
                json: only_json(verb, self.format)?,
            },
            Verb::Refresh => Command::Refresh {
                daemon: asking.daemon,
                source: unseen(source(self.token))?,
                format: self.format.unwrap_or(Format::Env),
            },
            Verb::Whoami => Command::Whoami {
                daemon: asking.daemon,
                json: only_json(verb, self.format)?,
            },
        })
    }
}

/// Reads a command line. Its verb is told even where the rest is no good.
pub(super) fn parse(parser: lexopt::Parser) -> (Verb, Result<Command, Failure>) {
    let mut verb = None;
    let command = read(parser, &mut verb);
    (verb.unwrap_or(Verb::Token), command)
}

fn read(mut parser: lexopt::Parser, verb: &mut Option<Verb>) -> Result<Command, Failure> {
    let mut given = Given::default();
    let mut asks_for_help = false;
    loop {
        if *verb == Some(Verb::Run)
            && let Some(mut rest) = parser.try_raw_args()
            && rest.next_if(|word| word == "--").is_some()
        {
            given.words = rest.collect();
            break;
        }
        let Some(arg) = parser.next().map_err(unreadable)? else {
            break;
        };
        let option = match arg {
            Arg::Short('h') | Arg::Long("help") => {
                return Ok(Command::Help(verb.unwrap_or(Verb::Token)));
            }
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Short('M') => long("cluster")?,
            Arg::Short(option) => return usage(format!("there is no option -{option}")),
            Arg::Long(option) => long(option)?,
            Arg::Value(word) => {
                let readable = word.to_str().unwrap_or_default();
                if given.scontrol_operand(readable)? {
                    continue;
                }
                match (*verb, Verb::named(readable)) {
                    (None, Some(Verb::Curl)) => {
                        *verb = Some(Verb::Curl);
                        let rest = parser.raw_args().map_err(unreadable)?.collect();
                        if let Some(help) = given.curl_line(rest)? {
                            return Ok(help);
                        }
                        break;
                    }
                    (None, Some(named)) => *verb = Some(named),
                    (None, None) if readable == "help" => asks_for_help = true,
                    (Some(Verb::Run), _) => {
                        given.words.push(word);
                        given.words.extend(parser.raw_args().map_err(unreadable)?);
                        break;
                    }
                    (Some(verb), _) if Slot::Given.verbs().contains(&verb) => {
                        given.tell(Slot::Given, "a token")?;
                        given.token = Some(word);
                    }
                    (Some(before), Some(named)) if before == named => {
                        return usage(format!("{} is given twice", named.name()));
                    }
                    (Some(Verb::Keep), None) => {
                        let file = plain(&text(word, "an operand")?);
                        return usage(format!("keep takes its file by name: keep --file {file}"));
                    }
                    _ => return Err(unknown_operand(&text(word, "an operand")?)),
                }
                continue;
            }
        };
        let value = match option.2 {
            Takes::Nothing => OsString::new(),
            Takes::Value => parser.value().map_err(unreadable)?,
            Takes::MaybeValue => parser.optional_value().unwrap_or_default(),
        };
        given.option(option, value)?;
    }
    let verb = verb.unwrap_or(Verb::Token);
    if asks_for_help {
        return Ok(Command::Help(verb));
    }
    given.command(verb)
}

/// The long option of this name, which has no hyphens here.
fn long(name: &str) -> Result<Long, Failure> {
    let named = |(known, _, _): &&Long| known.strip_prefix("--") == Some(name);
    OPTIONS.iter().find(named).copied().map_or_else(
        || {
            let known = OPTIONS.iter().map(|(known, _, _)| *known);
            let near = nearest(&format!("--{name}"), known.chain(["--help", "--version"]))
                .map_or_else(String::new, |near| format!("; did you mean {near}?"));
            usage(format!("there is no option --{}{near}", plain(name)))
        },
        Ok,
    )
}

fn names(verbs: &[Verb]) -> String {
    let names: Vec<_> = verbs.iter().map(|verb| verb.name()).collect();
    names.join(", ")
}

/// Where the token is that an operand names.
fn source(given: Option<OsString>) -> Source {
    match given {
        None => Source::Environment,
        Some(word) if word == "-" => Source::StandardInput,
        Some(word) => Source::Argument(word),
    }
}

/// A token that is to be used may not stand where everybody can read it.
fn unseen(source: Source) -> Result<Source, Failure> {
    match source {
        Source::Argument(_) => usage(
            "a token on the command line is for everybody to read: give it on standard input, \
             and - for its name",
        ),
        unseen => Ok(unseen),
    }
}

/// For a verb that has words for people and JSON for programs.
fn only_json(verb: Verb, format: Option<Format>) -> Result<bool, Failure> {
    match format {
        None => Ok(false),
        Some(Format::Json) => Ok(true),
        Some(other) => usage(format!(
            "{} has no token to write as {}: it takes json",
            verb.name(),
            other.name()
        )),
    }
}

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

/// A time in one of the forms of a lifespan.
fn time(word: &str) -> Result<Duration, String> {
    let time = word.parse::<Lifespan>();
    time.map(|time| Duration::from_secs(time.seconds().into()))
        .map_err(|bad| format!("{}: {}", plain(word), bad.reason()))
}

fn unknown_operand(operand: &str) -> Failure {
    let key = operand.split_once('=').map_or(operand, |(key, _)| key);
    let words = Verb::NAMED.map(Verb::name);
    let near = nearest(key, words.into_iter().chain(["lifespan=", "username="]))
        .map_or_else(String::new, |near| format!("; did you mean {near}?"));
    Failure::Usage(format!("\"{}\" is not understood{near}", plain(operand)))
}

/// The one of `known` that differs from `word` in at most two letters, or in
/// one where it has few.
fn nearest(word: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    known
        .map(|near| {
            let letters = near.trim_end_matches('=');
            (strsim::damerau_levenshtein(word, letters), near)
        })
        .filter(|(distance, near)| *distance <= if near.len() < 5 { 1 } else { 2 })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, near)| near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(args: &[&str]) -> Result<Command, Failure> {
        parse(lexopt::Parser::from_args(args)).1
    }

    fn asking(socket: Choice) -> Asking {
        Asking {
            daemon: Daemon {
                socket,
                wait: Duration::ZERO,
            },
            lifespan: None,
            target: None,
        }
    }

    fn complaint(args: &[&str]) -> String {
        match command(args) {
            Err(Failure::Usage(what)) => what,
            other => panic!("not a usage error: {other:?}"),
        }
    }

    fn lifespan_of(args: &[&str]) -> Option<LifespanWord> {
        match command(args) {
            Ok(Command::Token { asking, .. }) => asking.lifespan,
            other => panic!("no request for a token: {other:?}"),
        }
    }

    fn target_of(args: &[&str]) -> Option<String> {
        match command(args) {
            Ok(Command::Token { asking, .. }) => asking.target,
            other => panic!("no request for a token: {other:?}"),
        }
    }

    #[test]
    fn alone_it_asks_for_an_own_token_of_default_length() {
        assert_eq!(
            command(&[]).unwrap(),
            Command::Token {
                asking: asking(Choice::Usual),
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
    fn the_verb_is_told_with_what_is_wrong() {
        for (args, verb) in [
            (&["keep"][..], Verb::Keep),
            (&["curl", "-L"], Verb::Curl),
            (&["--no-such", "keep"], Verb::Token),
        ] {
            let (told, command) = parse(lexopt::Parser::from_args(args));
            assert!(command.is_err() || verb == Verb::Curl);
            assert_eq!(told, verb, "{args:?}");
        }
    }

    #[test]
    fn an_argument_that_is_not_utf_8_is_a_usage_error() {
        use std::os::unix::ffi::OsStringExt;
        let operand = OsString::from_vec(b"lifespan=\xff".to_vec());
        assert!(matches!(
            parse(lexopt::Parser::from_args([operand])).1,
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
                daemon: asking(Choice::Path("/s".into())).daemon,
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
            Command::Help(Verb::Whoami)
        );
        assert_eq!(command(&["--version"]).unwrap(), Command::Version);
    }

    #[test]
    fn help_may_be_asked_for_by_a_word() {
        for (args, verb) in [
            (&["help"][..], Verb::Token),
            (&["help", "run"], Verb::Run),
            (&["help", "curl"], Verb::Curl),
        ] {
            assert_eq!(command(args).unwrap(), Command::Help(verb), "{args:?}");
        }
        // But what is run may have that name.
        assert_eq!(run_by(&["run", "help"]).1, ["help"]);
        assert_eq!(complaint(&["help", "me"]), "\"me\" is not understood");
    }

    #[test]
    fn a_time_to_wait_may_be_given_or_left_out() {
        for (args, seconds) in [
            (&[][..], 0),
            (&["--wait"], 60),
            (&["--wait=90s"], 90),
            (&["--wait=5"], 5),
        ] {
            match command(args).unwrap() {
                Command::Token { asking, .. } => {
                    assert_eq!(asking.daemon.wait, Duration::from_secs(seconds));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            complaint(&["--wait=1e3"]),
            "--wait 1e3: 'e' is no unit; the units are d, h, m and s"
        );
    }

    fn run_by(args: &[&str]) -> (Asking, Vec<OsString>) {
        match command(args) {
            Ok(Command::Run { asking, words }) => (asking, words),
            other => panic!("runs nothing: {other:?}"),
        }
    }

    #[test]
    fn what_follows_the_command_that_run_runs_is_the_commands_own() {
        for args in [
            &["run", "ls", "--lifespan", "-h", "--", "run"][..],
            &["run", "--", "ls", "--lifespan", "-h", "--", "run"],
        ] {
            let (own, words) = run_by(args);
            assert_eq!(own, asking(Choice::Usual));
            assert_eq!(words, ["ls", "--lifespan", "-h", "--", "run"]);
        }
    }

    #[test]
    fn runs_own_options_stand_before_its_command() {
        for args in [
            &["--lifespan=5", "-Ma", "run", "ls"][..],
            &["run", "--lifespan", "5", "--cluster=a", "ls"],
            &["lifespan=5", "run", "-Ma", "--", "ls"],
            &["run", "LIFESPAN=5", "-M", "a", "ls"],
        ] {
            let (own, words) = run_by(args);
            assert_eq!(own.lifespan, Some(LifespanWord::Seconds(5)), "{args:?}");
            assert_eq!(own.daemon.socket, Choice::Cluster("a".parse().unwrap()));
            assert_eq!(words, ["ls"]);
        }
    }

    #[test]
    fn after_two_hyphens_any_word_is_a_command() {
        assert_eq!(run_by(&["run", "--", "lifespan=5"]).1, ["lifespan=5"]);
        assert_eq!(run_by(&["run", "--", "--for"]).1, ["--for"]);
    }

    #[test]
    fn run_without_a_command_is_a_usage_error() {
        for args in [&["run"][..], &["run", "--"], &["run", "--lifespan=5"]] {
            assert!(
                complaint(args).starts_with("run needs a command"),
                "{args:?}"
            );
        }
    }

    #[test]
    fn keep_writes_the_raw_token_unless_told_otherwise() {
        for (args, format) in [
            (&["keep", "--file=f"][..], Format::Raw),
            (&["keep", "--file=f", "--format=header"], Format::Header),
        ] {
            match command(args).unwrap() {
                Command::Keep { keeping, .. } => assert_eq!(keeping.format, format),
                other => panic!("keeps nothing: {other:?}"),
            }
        }
    }

    #[test]
    fn keep_needs_a_file() {
        assert!(complaint(&["keep"]).starts_with("keep needs a file"));
        assert_eq!(
            complaint(&["keep", "~/f"]),
            "keep takes its file by name: keep --file ~/f"
        );
        assert_eq!(complaint(&["keep", "--file="]), "--file is empty");
        assert_eq!(complaint(&["--file=f"]), "--file goes with keep");
    }

    #[test]
    fn curls_words_and_ours_may_stand_in_any_order() {
        for args in [
            &[
                "--lifespan=5",
                "--url",
                "unix:/s",
                "-Ma",
                "curl",
                "-s",
                "/x",
            ][..],
            &[
                "curl",
                "-s",
                "/x",
                "--url=unix:/s",
                "--cluster",
                "a",
                "--lifespan",
                "5",
            ],
            &[
                "-Ma",
                "lifespan=5",
                "curl",
                "--url",
                "unix:/s",
                "-s",
                "--",
                "/x",
            ],
        ] {
            let Ok(Command::Curl { asking, call }) = command(args) else {
                panic!("{args:?}")
            };
            assert_eq!(asking.lifespan, Some(LifespanWord::Seconds(5)));
            assert_eq!(asking.daemon.socket, Choice::Cluster("a".parse().unwrap()));
            assert_eq!(call.base.as_deref(), Some("unix:/s"));
            let plain = command(&["curl", "-s", "--", "/x"]);
            let plain = plain.unwrap_or_else(|failure| panic!("{failure:?}"));
            assert!(matches!(plain, Command::Curl { call: same, .. }
                if same.line.is_over || same.line == call.line));
        }
    }

    #[test]
    fn what_curl_has_by_the_name_of_ours_is_curls() {
        let given = command(&["curl", "--json", "{}", "-M", "/x"]);
        assert!(matches!(given, Ok(Command::Curl { .. })), "{given:?}");
    }

    #[test]
    fn after_curl_help_is_ours() {
        for args in [&["curl", "-h"][..], &["curl", "-s", "--help"]] {
            assert_eq!(command(args).unwrap(), Command::Help(Verb::Curl));
        }
    }

    #[test]
    fn a_token_to_look_into_comes_from_where_one_says() {
        for (args, expected) in [
            (&["inspect"][..], Source::Environment),
            (&["inspect", "-"], Source::StandardInput),
            (&["inspect", "a.b.c"], Source::Argument("a.b.c".into())),
            (
                &["inspect", "--", "whoami"],
                Source::Argument("whoami".into()),
            ),
        ] {
            match command(args).unwrap() {
                Command::Inspect { source, .. } => assert_eq!(source, expected),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(complaint(&["inspect", "a", "b"]), "a token is given twice");
    }

    #[test]
    fn a_token_that_is_to_be_used_is_not_taken_from_the_command_line() {
        for verb in ["verify", "refresh"] {
            assert!(command(&[verb]).is_ok() && command(&[verb, "-"]).is_ok());
            assert!(complaint(&[verb, "a.b.c"]).starts_with("a token on the command line"));
        }
    }

    #[test]
    fn an_option_that_has_no_meaning_is_a_usage_error() {
        assert_eq!(
            complaint(&["run", "--format=raw", "ls"]),
            "run takes no --format"
        );
        assert_eq!(complaint(&["run", "--json", "ls"]), "run takes no --json");
    }

    #[test]
    fn every_option_is_told_of_in_a_help() {
        for (option, slot, _) in OPTIONS {
            for verb in slot.verbs() {
                let help = super::super::help::of(*verb);
                assert!(help.contains(option), "{option}: {}", verb.name());
            }
        }
    }
}
