use std::collections::VecDeque;
use std::ffi::OsString;

use super::options::CurlOption;
use super::place::Road;

/// What stands behind `curl` on the command line, apart from our own options.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Line {
    /// The words that curl gets, as they are.
    pub(super) words: Vec<OsString>,
    /// The options in these words, each with its value.
    options: Vec<(CurlOption, OsString)>,
    /// The path or URL.
    pub(super) operand: Option<String>,
    /// Where among the words the file of a trace is named.
    pub(super) trace: Option<usize>,
    /// `--` was there: what follows are operands.
    pub(crate) is_over: bool,
}

impl Line {
    /// Takes in one word, and from `rest` the value that belongs to it.
    pub(crate) fn take(
        &mut self,
        word: OsString,
        rest: &mut VecDeque<OsString>,
    ) -> Result<(), String> {
        let text = word.to_str().unwrap_or_default().to_owned();
        match text.strip_prefix('-').filter(|_| !self.is_over) {
            Some("-") => self.is_over = true,
            Some("") => return Err(unknown("-")),
            Some(letters) => {
                self.words.push(word);
                if let Some(name) = letters.strip_prefix('-') {
                    self.long(name, rest)?;
                } else {
                    self.letters(letters, rest)?;
                }
            }
            _ if text.is_empty() => return Err("a word for curl is empty or not UTF-8".into()),
            _ if self.operand.is_some() => {
                return Err(format!(
                    "{text} is one operand too many: curl gets one path or URL"
                ));
            }
            _ => self.operand = Some(text),
        }
        Ok(())
    }

    fn long(&mut self, name: &str, rest: &mut VecDeque<OsString>) -> Result<(), String> {
        let option = CurlOption::named(name).ok_or_else(|| unknown(&format!("--{name}")))?;
        let value = if option.takes_value {
            self.value(&format!("--{name}"), rest)?
        } else {
            OsString::new()
        };
        if option.is_trace() && self.trace.replace(self.words.len() - 1).is_some() {
            return Err("a trace is given twice".into());
        }
        self.options.push((option, value));
        Ok(())
    }

    /// Options of one letter: the first that takes a value takes what follows
    /// it in the word, or the next word.
    fn letters(&mut self, letters: &str, rest: &mut VecDeque<OsString>) -> Result<(), String> {
        for (at, letter) in letters.char_indices() {
            let option =
                CurlOption::lettered(letter).ok_or_else(|| unknown(&format!("-{letter}")))?;
            if !option.takes_value {
                self.options.push((option, OsString::new()));
                continue;
            }
            let value = match &letters[at + letter.len_utf8()..] {
                "" => self.value(&format!("-{letter}"), rest)?,
                value => value.into(),
            };
            self.options.push((option, value));
            break;
        }
        Ok(())
    }

    fn value(&mut self, name: &str, rest: &mut VecDeque<OsString>) -> Result<OsString, String> {
        let value = rest
            .pop_front()
            .ok_or_else(|| format!("curl's {name} takes a value"))?;
        self.words.push(value.clone());
        Ok(value)
    }

    /// Must curl not have one of these options.
    pub(super) fn objection(&self, road: &Road) -> Option<String> {
        self.options.iter().find_map(|(option, value)| {
            let (what, instead) = option.objection(road, &value.to_string_lossy())?;
            Some(format!("curl's --{} {what}; {instead}", option.name))
        })
    }

    /// Does curl tell on standard error what it sends.
    pub(super) fn is_verbose(&self) -> bool {
        self.options
            .iter()
            .any(|(option, _)| option.name == "verbose")
    }
}

fn unknown(option: &str) -> String {
    format!(
        "{option} is no option that slurm-token knows of curl's, so it can't tell what becomes of \
         the token; if it's sound: slurm-token --format curl | curl -K - {option} ..."
    )
}

#[cfg(test)]
mod tests {
    use super::super::place::Way;
    use super::*;

    fn line(words: &[&str]) -> Result<Line, String> {
        let mut rest: VecDeque<OsString> = words.iter().map(OsString::from).collect();
        let mut line = Line::default();
        while let Some(word) = rest.pop_front() {
            line.take(word, &mut rest)?;
        }
        Ok(line)
    }

    fn objection_on(way: Way, words: &[&str]) -> Option<String> {
        line(words).unwrap().objection(&Road { way, forced: false })
    }

    #[test]
    fn curls_words_are_handed_on_as_they_are() {
        let words = [
            "-sSo",
            "out",
            "-XPOST",
            "-d",
            "-v",
            "--data-raw",
            "--next",
            "-ofile",
            "--no-verbose",
        ];
        let line = line(&[&words[..], &["/a"]].concat()).unwrap();
        assert_eq!(line.words, words);
        assert_eq!(line.operand.as_deref(), Some("/a"));
        assert!(!line.is_verbose(), "-v was the value of -d");
    }

    #[test]
    fn what_follows_two_hyphens_is_an_operand() {
        let line = line(&["-s", "--", "-v"]).unwrap();
        assert_eq!(line.operand.as_deref(), Some("-v"));
        assert_eq!(line.words, ["-s"]);
    }

    #[test]
    fn an_option_that_is_not_known_is_refused() {
        for words in [
            &["--variable", "x"][..],
            &["--loc"],
            &["--trace-asci", "-"],
            &["--output=x"],
            &["-sW"],
            &["-"],
            &["-é"],
        ] {
            assert!(line(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_missing_value_and_a_second_operand_are_refused() {
        for words in [&["-o"][..], &["-sX"], &["--trace"], &["/a", "/b"], &[""]] {
            assert!(line(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn what_would_let_the_token_out_is_refused_on_every_road() {
        for words in [
            &["-K", "f"][..],
            &["-Kf"],
            &["--config", "f"],
            &["--libcurl", "f"],
            &["--stderr", "f"],
            &["-L"],
            &["-sSL"],
            &["--location"],
            &["--location-trusted"],
            &["--next"],
            &["-:"],
            &["-s:"],
            &["-k"],
            &["--insecure"],
            &["--unix-socket", "/s"],
            &["--abstract-unix-socket", "s"],
            &["-H", "X-SLURM-USER-TOKEN: x"],
            &["-Hx-slurm-user-name: x"],
            &["--header", "X-Slurm-User-Token;"],
        ] {
            assert!(objection_on(Way::Tls, words).is_some(), "{words:?}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused_without_encryption() {
        for words in [
            &["-x", "http://proxy"][..],
            &["--proxy", "p"],
            &["--proxy1.0", "p"],
            &["--preproxy", "p"],
            &["--socks5-hostname", "p"],
            &["--socks4", "p"],
            &["--resolve", "localhost:80:10.0.0.1"],
            &["--connect-to", "::evil:80"],
            &["--doh-url", "https://evil"],
            &["--dns-servers", "10.0.0.1"],
        ] {
            assert!(objection_on(Way::Loopback, words).is_some(), "{words:?}");
            assert_eq!(objection_on(Way::Tls, words), None, "{words:?}");
        }
    }

    #[test]
    fn who_insists_may() {
        let forced = Road {
            way: Way::ClearText,
            forced: true,
        };
        for words in [&["-k"][..], &["-x", "proxy"]] {
            assert_eq!(line(words).unwrap().objection(&forced), None);
        }
        assert!(line(&["-L"]).unwrap().objection(&forced).is_some());
    }
}
