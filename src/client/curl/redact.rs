//! What curl tells of a request, without the token.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

/// What stands in the token's place.
const INSTEAD: &[u8] = b"[token]";
/// So many bytes of a token's beginning are everybody's: its header's.
const COMMON: usize = 24;
/// The longest line of a trace that is kept until its end.
const LONGEST: usize = 16 * 1024;

/// Takes a token out of a stream, however it is cut into pieces.
///
/// A piece of a token, from its beginning on, goes as well: curl cuts long
/// lines.
pub(super) struct Redactor {
    token: Zeroizing<Vec<u8>>,
    /// How far the token's beginning is its own end, up to each byte
    /// (Knuth, Morris and Pratt).
    again: Vec<usize>,
    /// How much of the token came last.
    held: usize,
}

impl Redactor {
    pub(super) fn new(token: &str) -> Self {
        let token = Zeroizing::new(token.as_bytes().to_vec());
        let mut again = vec![0; token.len()];
        let mut length = 0;
        for at in 1..token.len() {
            while length > 0 && token[at] != token[length] {
                length = again[length - 1];
            }
            if token[at] == token[length] {
                length += 1;
            }
            again[at] = length;
        }
        Self {
            token,
            again,
            held: 0,
        }
    }

    /// What may be told of these bytes, and of those before.
    pub(super) fn pass(&mut self, bytes: &[u8], told: &mut Vec<u8>) {
        for byte in bytes {
            while self.held > 0 && self.token[self.held] != *byte {
                self.let_go(told);
            }
            if self.token[self.held] == *byte {
                self.held += 1;
            } else {
                told.push(*byte);
            }
            if self.held == self.token.len() {
                told.extend_from_slice(INSTEAD);
                self.held = 0;
            }
        }
    }

    /// What may be told when nothing more comes.
    pub(super) fn end(&mut self, told: &mut Vec<u8>) {
        while self.held > 0 {
            self.let_go(told);
        }
    }

    /// The token didn't go on: where it may have begun later, that is held.
    fn let_go(&mut self, told: &mut Vec<u8>) {
        if self.held > COMMON {
            told.extend_from_slice(INSTEAD);
            self.held = 0;
        } else {
            let later = self.again[self.held - 1];
            told.extend_from_slice(&self.token[..self.held - later]);
            self.held = later;
        }
    }
}

/// Copies what `-v` tells, as it comes.
pub(super) fn verbose(
    mut from: impl Read,
    mut to: impl Write,
    mut redactor: Redactor,
) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let mut told = Vec::new();
        let read = from.read(&mut bytes)?;
        redactor.pass(&bytes[..read], &mut told);
        if read == 0 {
            redactor.end(&mut told);
        }
        to.write_all(&told)?;
        if read == 0 {
            return Ok(());
        }
    }
}

/// Copies what `--trace` and `--trace-ascii` tell, without the dumps of the
/// headers that are sent: those cut the token into pieces.
pub(super) fn trace(from: impl Read, mut to: impl Write, mut redactor: Redactor) -> io::Result<()> {
    let mut from = io::BufReader::new(from);
    let mut hidden = false;
    loop {
        let mut line = Zeroizing::new(Vec::new());
        let limit = LONGEST.try_into().unwrap_or(u64::MAX);
        if io::BufRead::read_until(&mut Read::take(&mut from, limit), b'\n', &mut line)? == 0 {
            return to.flush();
        }
        if hidden && is_dump(&line) {
            continue;
        }
        let mut told = Vec::new();
        redactor.pass(&line, &mut told);
        redactor.end(&mut told);
        hidden = without_time(&line).starts_with(b"=> Send header");
        if hidden {
            told.extend_from_slice(b"(not shown: the token is among them)\n");
        }
        to.write_all(&told)?;
    }
}

/// A line with the offset at which a dump's line begins: `0040: `.
fn is_dump(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    digits >= 4 && line[digits..].starts_with(b": ")
}

/// A line without the `12:34:56.789012 ` of `--trace-time`.
fn without_time(line: &[u8]) -> &[u8] {
    let of_a_time = |b: &u8| b.is_ascii_digit() || matches!(b, b':' | b'.');
    let length = line.iter().take_while(|b| of_a_time(b)).count();
    match line.get(length) {
        Some(b' ') if length > 0 => &line[length + 1..],
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdW4iOiJhbGljZSJ9.c2lnbmF0dXJl";

    fn told(token: &str, pieces: &[&str]) -> String {
        let (mut redactor, mut told) = (Redactor::new(token), Vec::new());
        for piece in pieces {
            redactor.pass(piece.as_bytes(), &mut told);
        }
        redactor.end(&mut told);
        String::from_utf8(told).unwrap()
    }

    #[test]
    fn the_token_is_taken_out_wherever_the_stream_is_cut() {
        let line = format!("> X-SLURM-USER-TOKEN: {TOKEN}\r\n");
        for at in 0..line.len() {
            let (first, second) = line.split_at(at);
            assert_eq!(
                told(TOKEN, &[first, second]),
                "> X-SLURM-USER-TOKEN: [token]\r\n"
            );
        }
    }

    #[test]
    fn a_piece_of_the_token_goes_as_well() {
        assert_eq!(told(TOKEN, &[&TOKEN[..40], "...\n"]), "[token]...\n");
        assert_eq!(told(TOKEN, &[&TOKEN[..40]]), "[token]");
    }

    #[test]
    fn what_only_begins_like_a_token_stays() {
        for text in ["eyJhbGciOiJSUzI1NiJ9", "eyeyJ", "e", "", "no token at all"] {
            assert_eq!(told(TOKEN, &[text]), text);
        }
    }

    #[test]
    fn a_token_that_begins_anew_within_its_own_beginning_is_found() {
        assert_eq!(told("aabaac", &["aabaabaac"]), "aab[token]");
        assert_eq!(told("aabaac", &["aaaabaac aabaa"]), "aa[token] aabaa");
    }

    proptest! {
        #[test]
        fn no_stream_tells_the_token(text in "[ab.]{0,40}", at in 0..40_usize, token in "[ab.]{1,6}") {
            let at = at.min(text.len());
            let all = format!("{}{token}{}", &text[..at], &text[at..]);
            let told = told(&token, &[&all[..at], &all[at..]]);
            prop_assert!(!told.replace("[token]", "!").contains(&token), "{all}: {told}");
            prop_assert_eq!(told.replace("[token]", &token), all);
        }
    }

    fn traced(text: &str) -> String {
        let mut told = Vec::new();
        trace(text.as_bytes(), &mut told, Redactor::new(TOKEN)).unwrap();
        String::from_utf8(told).unwrap()
    }

    #[test]
    fn a_trace_tells_no_header_that_was_sent() {
        for time in ["", "12:34:56.789012 "] {
            let text = format!(
                "{time}== Info: h2h3 [x-slurm-user-token: {TOKEN}]\n\
                 {time}=> Send header, 120 bytes (0x78)\n\
                 0000: GET / HTTP/1.1\n\
                 0040: X-SLURM-USER-TOKEN: eyJhb\n\
                 10040: ...\n\
                 {time}=> Send data, 2 bytes (0x2)\n\
                 0000: {{}}\n\
                 {time}<= Recv header, 17 bytes (0x11)\n\
                 0000: HTTP/1.1 200 OK\n"
            );
            assert_eq!(
                traced(&text),
                format!(
                    "{time}== Info: h2h3 [x-slurm-user-token: [token]]\n\
                     {time}=> Send header, 120 bytes (0x78)\n\
                     (not shown: the token is among them)\n\
                     {time}=> Send data, 2 bytes (0x2)\n\
                     0000: {{}}\n\
                     {time}<= Recv header, 17 bytes (0x11)\n\
                     0000: HTTP/1.1 200 OK\n"
                )
            );
        }
    }
}
