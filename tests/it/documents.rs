//! The files that explain the product say what the product does.

use std::path::Path;

use slurm_tokend::config::{Config, KEYS, Key};
use slurm_tokend::keys::jwks::JwkSet;
use slurm_tokend::report::Problems;
use slurm_tokend::wire::{self, Code, Issued, Pong, Request, Standing, Verified};

const EXAMPLE: &str = include_str!("../../etc/slurm-tokend.toml");
const CONFIGURATION_PAGE: &str = include_str!("../../packaging/man/slurm-tokend.toml.5");
const PROTOCOL_PAGE: &str = include_str!("../../packaging/man/slurm-tokend.7");

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(Path::new("/etc/slurm/slurm-tokend.toml"), text, "login1")
}

/// The line of a key with its default, or with an example where it has none.
fn starts_line(key: &Key) -> String {
    match key.default {
        Some(default) => format!("{} = {default}", key.name),
        None => format!("{} = ", key.name),
    }
}

/// What stands below the header of a key's table, up to the next one; `header`
/// reads one from a line.
fn below_header<'t>(
    text: &'t str,
    key: &Key,
    header: impl Fn(&'t str) -> Option<&'t str>,
) -> Vec<&'t str> {
    let mut section = "";
    text.lines()
        .filter(|line| {
            section = header(line).unwrap_or(section);
            section == key.section
        })
        .collect()
}

// The example configuration.

/// Every setting of the example, whether it's commented out or not.
fn uncommented() -> String {
    let setting = |line: &&str| {
        let rest = line.strip_prefix('#')?;
        rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[')
            .then_some(rest.len())
    };
    EXAMPLE
        .lines()
        .map(|line| setting(&line).map_or(line, |length| &line[line.len() - length..]))
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[test]
fn the_example_configuration_is_accepted() {
    parse(EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
}

#[test]
fn the_example_configuration_changes_no_default() {
    let least = "[signing]\n\
                 key = \"/etc/slurm/token-keys/{host}.pem\"\n\
                 algorithm = \"RS256\"\n";
    assert_eq!(parse(EXAMPLE), parse(least));
}

#[test]
fn the_example_configuration_is_accepted_with_every_line_in_force() {
    parse(&uncommented()).unwrap_or_else(|problems| panic!("{problems}"));
}

#[test]
fn the_example_configuration_shows_every_key_with_its_default() {
    let text = uncommented();
    for key in KEYS {
        let lines = below_header(&text, &key, |line| {
            line.starts_with('[').then(|| line.trim_matches(['[', ']']))
        });
        // A rule's lists are empty only in a rule that is for nobody.
        let wanted = match key.section {
            "policy.rule" | "policy.delegate" => format!("{} = ", key.name),
            _ => starts_line(&key),
        };
        assert!(
            lines.iter().any(|line| line.starts_with(&wanted)),
            "{wanted} stands nowhere below [{}]",
            key.section
        );
    }
}

// The manual page of the configuration.

/// A line of a page as it is read: its escapes and macros taken away.
fn plain(line: &str) -> String {
    line.replace("\\(dq", "\"")
        .replace("\\-", "-")
        .replace("\\e", "\\")
}

/// The page's paragraph about a key: its heading as TOML, and the words below.
fn paragraph(key: &Key) -> Option<(String, String)> {
    let lines = below_header(CONFIGURATION_PAGE, key, |line| {
        let title = line
            .strip_prefix(".Ss ")
            .or_else(|| line.strip_prefix(".Sh "))?;
        Some(match title.split_once("]: ") {
            Some((table, _)) => table.trim_matches(['[', ']']),
            None if title == "Before the first table" => "",
            None => title,
        })
    });
    let heading = |line: &str| {
        let (name, value) = line.strip_prefix(".It Ic ")?.split_once(" No = Li ")?;
        Some((name.to_owned(), format!("{name} = {}", plain(value))))
    };
    let at = lines
        .iter()
        .position(|line| heading(line).is_some_and(|(name, _)| name == key.name))?;
    let words: Vec<&str> = lines[at + 1..]
        .iter()
        .copied()
        .take_while(|line| !line.starts_with(".It ") && *line != ".El")
        .collect();
    Some((heading(lines[at])?.1, words.join(" ")))
}

#[test]
fn the_configuration_page_tells_of_every_key_with_its_default() {
    for key in KEYS {
        let name = format!("{}.{}", key.section, key.name);
        let Some((heading, words)) = paragraph(&key) else {
            panic!("{name} is not told of")
        };
        match key.default {
            Some(_) => assert_eq!(heading, starts_line(&key), "{name}"),
            None => assert!(
                words.contains("No default") || words.contains("Left out"),
                "{name} has no default, and the page doesn't say so"
            ),
        }
    }
}

#[test]
fn the_configuration_page_gives_values_that_are_accepted() {
    let mut section = "";
    let text: String = KEYS
        .iter()
        .flat_map(|key| {
            let header = match key.section {
                same if same == section => String::new(),
                list if list.starts_with("policy.") => format!("[[{list}]]"),
                list @ ("signing.other" | "verify") => format!("[[{list}]]"),
                table => format!("[{table}]"),
            };
            section = key.section;
            // A key stands in another [[verify]] than a JWKS.
            let header = match (key.section, key.name) {
                ("verify", "key") => "[[verify]]".to_owned(),
                _ => header,
            };
            // A rule's lists are empty only in a rule that is for nobody.
            let line = match (key.section, key.name) {
                ("policy.rule", "users") => "users = [\"alice\"]".to_owned(),
                _ => paragraph(key).expect("a paragraph").0,
            };
            [header, "\n".into(), line, "\n".into()]
        })
        .collect();
    parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
}

#[test]
fn the_configuration_page_gives_the_true_bounds_of_each_limit() {
    let accepted = |name: &str, value: &str| {
        let room = if name == "connections" {
            ""
        } else {
            "connections = 1000000\n"
        };
        let text = format!(
            "[signing]\nkey = \"/k\"\nalgorithm = \"RS256\"\n[limits]\n{room}{name} = {value}\n"
        );
        parse(&text).is_ok()
    };
    for key in KEYS.iter().filter(|key| key.section == "limits") {
        let (_, words) = paragraph(key).expect("a paragraph");
        let bounds = words
            .rsplit_once("From ")
            .and_then(|(_, tail)| tail.split_once(" to "));
        let (least, most) = bounds.unwrap_or_else(|| panic!("{} has no bounds", key.name));
        let most = most.trim_end_matches('.');
        let (quote, over) = match most.parse::<u64>() {
            Ok(most) => ("", (most + 1).to_string()),
            Err(_) => ("\"", format!("\"{most}1s\"")),
        };
        assert!(
            accepted(key.name, &format!("{quote}{least}{quote}")),
            "{}: {least}",
            key.name
        );
        assert!(
            accepted(key.name, &format!("{quote}{most}{quote}")),
            "{}: {most}",
            key.name
        );
        assert!(!accepted(key.name, "0"), "{}: 0", key.name);
        assert!(!accepted(key.name, &over), "{}: {over}", key.name);
    }
}

/// The literal blocks of a page, as they are read.
fn literal_blocks(page: &str) -> Vec<String> {
    page.split("\n.Bd -literal")
        .skip(1)
        .filter_map(|block| block.split_once('\n')?.1.split_once("\n.Ed"))
        .map(|(block, _)| {
            block
                .lines()
                .flat_map(|line| [plain(line), "\n".into()])
                .collect()
        })
        .collect()
}

#[test]
fn the_configuration_page_has_examples_that_are_accepted() {
    let examples = literal_blocks(CONFIGURATION_PAGE);
    assert_eq!(examples.len(), 2);
    for example in examples {
        parse(&example).unwrap_or_else(|problems| panic!("{example}\n{problems}"));
    }
}

#[test]
fn the_configuration_page_lists_forms_of_lifespans_as_they_are_read() {
    let (_, table) = CONFIGURATION_PAGE
        .split_once(".Bl -column")
        .expect("the table of forms");
    let (table, _) = table.split_once(".El").expect("its end");
    let forms: Vec<String> = table
        .lines()
        .filter_map(|line| Some(plain(line.strip_prefix(".It Li ")?.split_once(" Ta ")?.0)))
        .collect();
    assert_eq!(forms.len(), 10);
    for form in forms {
        let read = form.parse::<slurm_tokend::token::lifespan::Lifespan>();
        assert!(read.is_ok(), "{form}: {read:?}");
    }
}

// The manual page of the protocol.

/// The page's frames: each request with its answer, in order.
fn frames() -> Vec<(String, String)> {
    let blocks = literal_blocks(PROTOCOL_PAGE).concat();
    let mut lines = blocks.lines();
    let mut pairs = Vec::new();
    while let Some(request) = lines.next() {
        let request = request.strip_prefix("> ").expect("a request");
        let answer = lines
            .next()
            .and_then(|line| line.strip_prefix("< "))
            .expect("its answer");
        pairs.push((request.to_owned(), answer.to_owned()));
    }
    pairs
}

/// The answer as the client reads it, and as the daemon would write it again.
fn again<T>(answer: &str) -> Vec<u8>
where
    T: serde::Serialize + for<'de> serde::Deserialize<'de>,
{
    match wire::parse_answer::<T>(answer.as_bytes()) {
        Ok(Ok(ok)) => wire::ok_line(&ok),
        Ok(Err(refusal)) => wire::refusal_line(&refusal),
        Err(unreadable) => panic!("{answer}: {unreadable:?}"),
    }
}

#[test]
fn the_protocol_page_has_requests_as_the_client_writes_them() {
    for (request, _) in frames() {
        let parsed = Request::parse(request.as_bytes());
        let parsed = parsed.unwrap_or_else(|refusal| panic!("{request}: {refusal:?}"));
        assert_eq!(String::from_utf8(parsed.to_line()), Ok(request + "\n"));
    }
}

#[test]
fn the_protocol_page_has_answers_as_the_daemon_writes_them() {
    let frames = frames();
    assert!(frames.len() >= 9, "{frames:#?}");
    for (request, answer) in frames {
        let written = match Request::parse(request.as_bytes()).expect("a request") {
            Request::Issue { .. } | Request::Refresh { .. } => again::<Issued>(&answer),
            Request::Verify { .. } => again::<Verified>(&answer),
            Request::Whoami => again::<Standing>(&answer),
            Request::Jwks => again::<JwkSet>(&answer),
            Request::Ping => again::<Pong>(&answer),
            Request::Status => again::<wire::Status>(&answer),
            Request::Sessions { .. } => again::<wire::Sessions>(&answer),
            Request::Block { .. } => again::<wire::Blocked>(&answer),
            Request::Unblock { .. } => again::<wire::Unblocked>(&answer),
            Request::Metrics { .. } => again::<wire::Metrics>(&answer),
        };
        assert_eq!(String::from_utf8(written), Ok(answer + "\n"));
    }
}

#[test]
fn the_protocol_page_lists_every_code_and_no_other() {
    let codes: Vec<&str> = PROTOCOL_PAGE
        .lines()
        .filter_map(|line| line.strip_prefix(".It Li "))
        .collect();
    assert_eq!(codes, Code::ALL.map(Code::as_str));
}

#[test]
fn the_protocol_page_tells_the_true_limits() {
    for (what, bytes) in [
        ("A request has at most", wire::MAX_REQUEST),
        ("An answer has at most", wire::MAX_ANSWER),
        ("A token has at most", slurm_tokend::token::MAX_TOKEN),
    ] {
        let sentence = format!("{what} {bytes} bytes");
        assert!(PROTOCOL_PAGE.contains(&sentence), "{sentence}");
    }
}

/// Words that begin with `--`, in a text.
fn long_options(text: &str) -> std::collections::BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn the_page_of_slurm_tokenctl_tells_of_every_option_and_no_other() {
    let page = include_str!("../../packaging/man/slurm-tokenctl.8").replace("Fl -", "--");
    let mut offered = std::collections::BTreeSet::new();
    for command in [
        "key generate",
        "key kid",
        "key public",
        "key jwk",
        "jwks build",
        "jwks merge",
        "jwks lint",
        "setup",
        "token sign",
        "token verify",
        "token inspect",
        "policy test",
        "doctor",
        "rotate status",
        "rotate prepare",
        "rotate activate",
        "rotate retire",
        "rotate now",
        "status",
        "sessions",
        "block",
        "unblock",
        "metrics",
    ] {
        assert!(page.contains(&format!(".Cm {command}\n")), "{command}");
        let help = std::process::Command::new(env!("CARGO_BIN_EXE_slurm-tokenctl"))
            .args(command.split(' '))
            .arg("--help")
            .output()
            .unwrap();
        offered.extend(long_options(&String::from_utf8(help.stdout).unwrap()));
    }
    for usual in ["--help", "--version"] {
        offered.remove(usual);
    }
    assert_eq!(long_options(&page), offered);
}

#[test]
fn the_page_of_slurm_tokend_tells_of_every_option_and_no_other() {
    let page = include_str!("../../packaging/man/slurm-tokend.8");
    let page = page.replace("Fl -", "--").replace(", -", ", --");
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_slurm-tokend"))
        .arg("--help")
        .output()
        .unwrap();
    let offered = long_options(&String::from_utf8(help.stdout).unwrap());
    assert_eq!(long_options(&page), offered);
}
