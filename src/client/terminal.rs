//! Others' text made fit for a terminal: what a daemon, a file name or an
//! argument holds must move no cursor, set no title and reorder no line. And
//! colours, where they are seen and wanted.

use std::io::IsTerminal;

/// The most characters of one text; no sentence of ours comes near.
const MOST: usize = 2000;

/// Printable ASCII as it stands; every other character, line ends and
/// backspaces and those that turn the direction of text included, as an
/// escape such as `\n` or `\u{202e}`.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars().take(MOST) {
        if c == ' ' || c.is_ascii_graphic() {
            plain.push(c);
        } else {
            plain.extend(c.escape_default());
        }
    }
    if text.chars().nth(MOST).is_some() {
        plain.push_str("...");
    }
    plain
}

/// Are colours seen and wanted: by a terminal that knows them, unless the user
/// says no (<https://no-color.org>).
pub(super) fn has_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
        && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// The lines with the program's name before each in bold.
pub(super) fn coloured(lines: &str, program: &str) -> String {
    let bold = format!("\x1b[1m{program}:\x1b[0m");
    let name = format!("{program}:");
    lines
        .split_inclusive('\n')
        .map(|line| match line.strip_prefix(&name) {
            Some(rest) => bold.clone() + rest,
            None => line.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_stays_as_it_is() {
        let sentence = r#"Your limit is 12h; "24h" is more: DOMAIN\alice's rule 2 (of 3)."#;
        assert_eq!(plain(sentence), sentence);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            plain("a\x1b]0;title\x07\r\nb\x08\x7f\u{9b}2J\0"),
            r"a\u{1b}]0;title\u{7}\r\nb\u{8}\u{7f}\u{9b}2J\u{0}"
        );
    }

    #[test]
    fn characters_that_turn_or_hide_text_are_escaped() {
        assert_eq!(
            plain("a\u{202e}b\u{2066}c\u{200b}d\u{feff}"),
            r"a\u{202e}b\u{2066}c\u{200b}d\u{feff}"
        );
    }

    #[test]
    fn letters_that_look_like_others_are_escaped() {
        assert_eq!(plain("аlice"), r"\u{430}lice");
    }

    #[test]
    fn endless_text_is_cut() {
        assert_eq!(plain(&"x".repeat(MOST + 1)).len(), MOST + 3);
        assert_eq!(plain(&"x".repeat(MOST)).len(), MOST);
    }
}
