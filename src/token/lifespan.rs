//! How long a token lives, in all the ways that people write it (design 4).
//!
//! | form | read as |
//! | --- | --- |
//! | `600` | seconds, as `scontrol token lifespan=600` |
//! | `90s` `30m` `12h` `7d` `1h30m` | units from the largest to the smallest, each once |
//! | `HH:MM:SS` | Slurm's hours, which may be more than 23 |
//! | `D-HH` `D-HH:MM` `D-HH:MM:SS` | Slurm's days and hours |
//! | `max` | as long as the policy gives (a request only) |
//!
//! `A:B` is refused: Slurm reads minutes and seconds, most people read hours
//! and minutes. For the same reason no field may be larger than its clock:
//! minutes and seconds stop at 59, and hours at 23 where days come first.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::wire::{LifespanWord, shorten};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The units, from the largest to the smallest, with their seconds.
const UNITS: [(char, u64); 4] = [('d', DAY), ('h', HOUR), ('m', MINUTE), ('s', 1)];

/// Seconds, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifespan(NonZeroU32);

impl Lifespan {
    /// A lifespan of `seconds`; none for 0.
    pub const fn from_seconds(seconds: u32) -> Option<Self> {
        match NonZeroU32::new(seconds) {
            Some(seconds) => Some(Self(seconds)),
            None => None,
        }
    }

    /// Its seconds, at least 1.
    pub const fn seconds(self) -> u32 {
        self.0.get()
    }
}

/// As people write it, and as it can be read again: `12h`, `1h30m`, `90s`.
impl fmt::Display for Lifespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::from(self.seconds());
        // "90s" says more than "1m30s".
        if rest < 2 * MINUTE && rest != MINUTE {
            return write!(f, "{rest}s");
        }
        for (unit, length) in UNITS {
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

impl FromStr for Lifespan {
    type Err = BadLifespan;

    /// Reads every form but `max`, which only a request can ask for.
    fn from_str(text: &str) -> Result<Self, BadLifespan> {
        let bad = |reason| BadLifespan {
            text: shorten(text),
            reason,
        };
        let seconds = seconds_of(text).map_err(bad)?;
        match u32::try_from(seconds).ok().map(Self::from_seconds) {
            Some(Some(lifespan)) => Ok(lifespan),
            Some(None) => Err(bad(Reason::Zero)),
            None => Err(bad(Reason::TooLarge)),
        }
    }
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: the policy's default, or its maximum if smaller.
    Default,
    /// `max`: as long as the policy gives.
    Max,
    /// This long, or a refusal.
    Of(Lifespan),
}

impl Asked {
    /// Reads a word such as `12h`, `600` or `max`.
    pub fn parse(text: &str) -> Result<Self, BadLifespan> {
        if text.eq_ignore_ascii_case("max") {
            Ok(Self::Max)
        } else {
            text.parse().map(Self::Of)
        }
    }

    /// Reads the field `lifespan` of a request; none asks for the default.
    pub fn from_word(word: Option<&LifespanWord>) -> Result<Self, BadLifespan> {
        match word {
            None => Ok(Self::Default),
            Some(LifespanWord::Seconds(seconds)) => u32::try_from(*seconds)
                .ok()
                .and_then(Lifespan::from_seconds)
                .map_or_else(|| Self::parse(&seconds.to_string()), |l| Ok(Self::Of(l))),
            Some(LifespanWord::Word(word)) => Self::parse(word),
        }
    }
}

/// A text that is no lifespan, and why. Its `Display` is a sentence without
/// its full stop, safe for a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLifespan {
    text: String,
    reason: Reason,
}

impl BadLifespan {
    /// The forms to choose from, for the sentence that says what to do.
    pub const FORMS: &str = "90s, 30m, 12h, 7d, 1h30m, 12:00:00, 1-12 or a number of seconds";

    /// Why, without the text itself.
    pub fn reason(&self) -> impl fmt::Display {
        self.reason
    }
}

impl fmt::Display for BadLifespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no lifespan: {}", self.text, self.reason)
    }
}

impl std::error::Error for BadLifespan {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Empty,
    Zero,
    TooLarge,
    Sign,
    Space,
    Fraction,
    Max,
    Endless,
    Word,
    NoNumber,
    NoUnit,
    UnknownUnit(char),
    RepeatedUnit(char),
    UnitOrder(char, char),
    TwoFields,
    Clock,
    Days,
    MinutesOrSeconds,
    HoursOfDay,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::Zero => "it is zero; the least is 1 second",
            Self::TooLarge => return write!(f, "it has more than {} seconds", u32::MAX),
            Self::Sign => "it has a sign",
            Self::Space => "it has white space in it",
            Self::Fraction => "it has a fraction; an hour and a half is 1h30m",
            Self::Max => "only a request can ask for the maximum",
            Self::Endless => "every token expires; max asks for as long as the policy gives",
            Self::Word => "it doesn't start with a digit",
            Self::NoNumber => "a unit has no number before it",
            Self::NoUnit => "its last number has no unit (d, h, m or s)",
            Self::UnknownUnit(unit) => {
                return write!(f, "{unit:?} is no unit; the units are d, h, m and s");
            }
            Self::RepeatedUnit(unit) => return write!(f, "it has the unit {unit} twice"),
            Self::UnitOrder(unit, before) => {
                return write!(
                    f,
                    "{unit} stands after {before}; the larger unit comes first"
                );
            }
            Self::TwoFields => {
                "it could be hours and minutes or minutes and seconds; HH:MM:SS has all three"
            }
            Self::Clock => "a clock has three fields of digits, HH:MM:SS",
            Self::Days => "a form with days is D-HH, D-HH:MM or D-HH:MM:SS",
            Self::MinutesOrSeconds => "minutes and seconds stop at 59",
            Self::HoursOfDay => "hours after days stop at 23",
        })
    }
}

/// The seconds that `text` stands for, 0 included.
fn seconds_of(text: &str) -> Result<u64, Reason> {
    if text.is_empty() {
        return Err(Reason::Empty);
    }
    if text.eq_ignore_ascii_case("max") {
        return Err(Reason::Max);
    }
    if ["infinite", "unlimited"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
    {
        return Err(Reason::Endless);
    }
    if text.contains(char::is_whitespace) {
        return Err(Reason::Space);
    }
    if text.starts_with('-') || text.contains('+') {
        return Err(Reason::Sign);
    }
    if text.contains(['.', ',']) {
        return Err(Reason::Fraction);
    }
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Reason::Word);
    }
    if let Some((days, clock)) = text.split_once('-') {
        return after_days(days, clock);
    }
    if text.contains(':') {
        return clock(text);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return number(text, Reason::NoNumber);
    }
    units(text)
}

/// `D-HH`, `D-HH:MM`, `D-HH:MM:SS`.
fn after_days(days: &str, clock: &str) -> Result<u64, Reason> {
    let days = number(days, Reason::Days)?;
    let mut fields = clock.split(':');
    let mut total = product(days, DAY)?;
    for (length, most, beyond) in [
        (HOUR, 23, Reason::HoursOfDay),
        (MINUTE, 59, Reason::MinutesOrSeconds),
        (1, 59, Reason::MinutesOrSeconds),
    ] {
        let Some(text) = fields.next() else { break };
        total = sum(total, field(text, most, beyond, Reason::Days)? * length)?;
    }
    if fields.next().is_some() {
        Err(Reason::Days)
    } else {
        Ok(total)
    }
}

/// `HH:MM:SS`.
fn clock(text: &str) -> Result<u64, Reason> {
    let fields: Vec<&str> = text.splitn(4, ':').collect();
    match fields[..] {
        [_, _] => Err(Reason::TwoFields),
        [hours, minutes, seconds] => {
            let hours = product(number(hours, Reason::Clock)?, HOUR)?;
            let minutes = field(minutes, 59, Reason::MinutesOrSeconds, Reason::Clock)?;
            let seconds = field(seconds, 59, Reason::MinutesOrSeconds, Reason::Clock)?;
            sum(hours, minutes * MINUTE + seconds)
        }
        _ => Err(Reason::Clock),
    }
}

/// `1h30m`: numbers, each with its unit.
fn units(text: &str) -> Result<u64, Reason> {
    let mut total = 0;
    let mut rest = text;
    let mut before: Option<usize> = None;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (count, tail) = rest.split_at(digits);
        let Some(unit) = tail.chars().next() else {
            return Err(Reason::NoUnit);
        };
        let Some(place) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(Reason::UnknownUnit(unit));
        };
        if let Some(before) = before {
            match place.cmp(&before) {
                std::cmp::Ordering::Less => {
                    return Err(Reason::UnitOrder(unit, UNITS[before].0));
                }
                std::cmp::Ordering::Equal => return Err(Reason::RepeatedUnit(unit)),
                std::cmp::Ordering::Greater => {}
            }
        }
        total = sum(
            total,
            product(number(count, Reason::NoNumber)?, UNITS[place].1)?,
        )?;
        before = Some(place);
        rest = &tail[1..];
    }
    Ok(total)
}

/// Digits and nothing else; anything else is `otherwise`.
fn number(text: &str, otherwise: Reason) -> Result<u64, Reason> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(otherwise);
    }
    // All digits: the only thing left to go wrong is its size.
    text.parse().map_err(|_| Reason::TooLarge)
}

/// One or two digits of a clock.
fn field(text: &str, most: u64, beyond: Reason, otherwise: Reason) -> Result<u64, Reason> {
    let count = number(text, otherwise)?;
    if text.len() > 2 || count > most {
        Err(beyond)
    } else {
        Ok(count)
    }
}

fn product(count: u64, length: u64) -> Result<u64, Reason> {
    count.checked_mul(length).ok_or(Reason::TooLarge)
}

fn sum(a: u64, b: u64) -> Result<u64, Reason> {
    a.checked_add(b).ok_or(Reason::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str) -> u32 {
        match Asked::parse(text) {
            Ok(Asked::Of(lifespan)) => lifespan.seconds(),
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    fn refusal(text: &str) -> String {
        match Asked::parse(text) {
            Err(bad) => bad.to_string(),
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn every_form_is_read_in_seconds() {
        for (text, expected) in [
            ("1", 1),
            ("600", 600),
            ("0600", 600),
            ("4294967295", u32::MAX),
            ("90s", 90),
            ("30m", 1800),
            ("12h", 43_200),
            ("7d", 604_800),
            ("1h30m", 5400),
            ("1d2h3m4s", 93_784),
            ("90m", 5400),
            ("0h5m", 300),
            ("00:30:00", 1800),
            ("1:02:03", 3723),
            ("48:00:00", 172_800),
            ("100:00:00", 360_000),
            ("2-00", 172_800),
            ("0-12", 43_200),
            ("1-12:30", 131_400),
            ("1-12:30:15", 131_415),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn max_asks_for_the_maximum() {
        assert_eq!(Asked::parse("max"), Ok(Asked::Max));
        assert_eq!(Asked::parse("MAX"), Ok(Asked::Max));
    }

    #[test]
    fn nothing_asks_for_the_default() {
        assert_eq!(Asked::from_word(None), Ok(Asked::Default));
    }

    #[test]
    fn a_number_in_a_request_is_seconds() {
        let asked = Asked::from_word(Some(&LifespanWord::Seconds(600)));
        assert_eq!(asked, Ok(Asked::Of(Lifespan::from_seconds(600).unwrap())));
    }

    #[test]
    fn a_negative_number_in_a_request_is_refused_for_its_sign() {
        let asked = Asked::from_word(Some(&LifespanWord::Seconds(-1)));
        assert_eq!(
            asked.unwrap_err().to_string(),
            "\"-1\" is no lifespan: it has a sign"
        );
    }

    #[test]
    fn a_word_in_a_request_is_read_like_one_on_the_command_line() {
        let asked = Asked::from_word(Some(&LifespanWord::Word("max".into())));
        assert_eq!(asked, Ok(Asked::Max));
    }

    #[test]
    fn each_refusal_says_its_own_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("0", "is zero"),
            ("0s", "is zero"),
            ("00:00:00", "is zero"),
            ("0-0", "is zero"),
            ("-1", "a sign"),
            ("+5", "a sign"),
            ("1h+5m", "a sign"),
            ("-1-00", "a sign"),
            (" 5", "white space"),
            ("5 ", "white space"),
            ("1h 30m", "white space"),
            ("5\n", "white space"),
            ("1.5h", "a fraction"),
            ("0,5", "a fraction"),
            ("infinite", "every token expires"),
            ("UNLIMITED", "every token expires"),
            ("4294967296", "more than 4294967295 seconds"),
            ("99999999999999999999999", "more than 4294967295 seconds"),
            ("99999999999999999999d", "more than 4294967295 seconds"),
            ("999999999999999999d", "more than 4294967295 seconds"),
            ("49711d", "more than 4294967295 seconds"),
            ("9999999999999999999:00:00", "more than 4294967295 seconds"),
            ("999999999999999999-00", "more than 4294967295 seconds"),
            ("213503982334601-23", "more than 4294967295 seconds"),
            ("h", "start with a digit"),
            ("1hm", "no number before it"),
            ("1h30", "has no unit"),
            ("1w", "'w' is no unit"),
            ("12H", "'H' is no unit"),
            ("5µ", "'µ' is no unit"),
            ("soon", "start with a digit"),
            ("0x10", "'x' is no unit"),
            ("٣", "start with a digit"),
            ("1h1h", "the unit h twice"),
            ("30m1h", "h stands after m"),
            ("30:00", "could be hours and minutes"),
            ("1:2:3:4", "three fields"),
            (":30:00", "start with a digit"),
            ("1::00", "three fields"),
            ("1h:00:00", "three fields"),
            ("00:60:00", "stop at 59"),
            ("00:00:60", "stop at 59"),
            ("00:000:00", "stop at 59"),
            ("1-", "D-HH"),
            ("1d-12", "D-HH"),
            ("1-12:30:15:1", "D-HH"),
            ("1-2-3", "D-HH"),
            ("1-24", "stop at 23"),
            ("1-12:60", "stop at 59"),
        ] {
            let told = refusal(text);
            assert!(told.contains(reason), "{text:?}: {told}");
        }
    }

    #[test]
    fn a_refusal_never_repeats_raw_bytes_or_the_whole_of_a_long_text() {
        let told = refusal(&format!("\u{1b}[31m{}", "x".repeat(10_000)));
        assert!(told.len() < 400 && !told.contains('\u{1b}'), "{told}");
    }

    #[test]
    fn a_lifespan_outside_a_request_can_t_be_max() {
        let bad = "max".parse::<Lifespan>().unwrap_err();
        assert!(bad.to_string().contains("only a request"), "{bad}");
    }

    #[test]
    fn it_prints_as_people_write_it() {
        for (seconds, expected) in [
            (1, "1s"),
            (60, "1m"),
            (90, "90s"),
            (119, "119s"),
            (120, "2m"),
            (1800, "30m"),
            (5400, "1h30m"),
            (43_200, "12h"),
            (86_400, "1d"),
            (604_800, "7d"),
            (93_784, "1d2h3m4s"),
            (86_401, "1d1s"),
        ] {
            assert_eq!(
                Lifespan::from_seconds(seconds).unwrap().to_string(),
                expected
            );
        }
    }

    proptest! {
        #[test]
        fn what_it_prints_is_read_as_the_same(seconds in 1_u32..) {
            let lifespan = Lifespan::from_seconds(seconds).unwrap();
            prop_assert_eq!(lifespan.to_string().parse::<Lifespan>(), Ok(lifespan));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9:dhmsax+. -]{0,30}|\\PC*") {
            if let Err(bad) = Asked::parse(&text) {
                prop_assert!(!bad.to_string().is_empty());
            }
        }
    }
}
