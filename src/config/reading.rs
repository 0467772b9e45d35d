//! The file's tables, read key by key: each fault is kept with its line, and
//! reading goes on.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::known::{KEYS, place_of};
use super::{Config, Draft, Places};
use crate::report::Problem;
use crate::token::lifespan::{BadLifespan, Lifespan};
use crate::wire::shorten;

/// An unknown key longer than this isn't repeated: it may be a pasted secret.
const LONGEST_NAME: usize = 32;

/// What has been found wrong so far.
pub(super) struct Reading<'f> {
    path: &'f Path,
    /// The offset at which each line starts.
    lines: Vec<usize>,
    /// Lines whose syntax is broken: what else is said of them would be noise.
    broken: BTreeSet<usize>,
    /// The header of a table is broken: keys may be in the wrong table.
    misplaced: bool,
    problems: Vec<(usize, Problem)>,
    /// The keys that are there, and those whose values have a fault.
    places: Places,
    faulty: BTreeSet<String>,
}

/// Where a value stands, and the name of its key.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) key: String,
    line: usize,
}

/// What became of a key.
#[derive(Debug)]
pub(super) enum Found<T> {
    /// It isn't in the file.
    Absent,
    /// It's there, and its problem has been noted.
    Bad,
    /// It's there, at this place.
    Sound(T, Place),
}

impl<T> Found<T> {
    /// What was read. What takes the place of a bad value is never used.
    pub(super) fn or(self, default: T) -> T {
        match self {
            Self::Sound(value, _) => value,
            Self::Absent | Self::Bad => default,
        }
    }

    pub(super) fn ok(self) -> Option<T> {
        match self {
            Self::Sound(value, _) => Some(value),
            Self::Absent | Self::Bad => None,
        }
    }

    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Absent => Found::Absent,
            Self::Bad => Found::Bad,
            Self::Sound(value, place) => Found::Sound(change(value), place),
        }
    }

    pub(super) fn value(&self) -> Option<&T> {
        match self {
            Self::Sound(value, _) => Some(value),
            Self::Absent | Self::Bad => None,
        }
    }

    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Bad)
    }
}

impl<T> Found<Vec<T>> {
    /// Nothing is in the list, and not because it couldn't be read.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Absent => true,
            Self::Bad => false,
            Self::Sound(list, _) => list.is_empty(),
        }
    }
}

impl<'f> Reading<'f> {
    /// The file's outermost table. A text with broken syntax gives what could
    /// be read of it.
    pub(super) fn start(path: &'f Path, text: &'f str) -> (Self, Spanned<DeTable<'f>>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut reading = Self {
            path,
            lines: std::iter::once(0)
                .chain(text.match_indices('\n').map(|(i, _)| i + 1))
                .collect(),
            broken: BTreeSet::new(),
            misplaced: false,
            problems: Vec::new(),
            places: Places::in_file(path),
            faulty: BTreeSet::new(),
        };
        for error in errors {
            let line = reading.line(error.span().map_or(0, |span| span.start));
            let written = reading
                .lines
                .get(line - 1)
                .and_then(|start| text.get(*start..));
            reading.misplaced |= written.unwrap_or_default().trim_start().starts_with('[');
            // Of several faults in a line the first is the cause.
            if reading.broken.insert(line) {
                let problem = Problem::new(
                    format!("{}:{line}", path.display()),
                    format!("this is not TOML: {}", error.message()),
                    "mend the line; strings stand in quotes, and each key stands once in its table",
                );
                reading.problems.push((line, problem));
            }
        }
        (reading, table)
    }

    /// What was read, and everything that was wrong, line by line. Of a text
    /// with broken syntax nobody knows what else it says.
    pub(super) fn finish(mut self, read: Config) -> Draft {
        self.problems.sort_by_key(|(line, _)| *line);
        let problems = self.problems.into_iter().map(|(_, problem)| problem);
        Draft {
            config: self.broken.is_empty().then_some(read),
            problems: problems.collect(),
            faulty: self.faulty,
        }
    }

    pub(super) fn path(&self) -> &'f Path {
        self.path
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// The line of a byte of the text, from 1.
    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// Notes a problem with the value at `place`: its key is named first.
    pub(super) fn fault(&mut self, place: &Place, what: impl Display, remedy: impl Into<String>) {
        self.faulty.insert(place.key.clone());
        self.note(place.line, format!("{} {what}", place.key), remedy);
    }

    /// Notes that what stands for this key is no more than a default, whatever
    /// the reason.
    pub(super) fn cannot_tell(&mut self, key: &str) {
        self.faulty.insert(key.to_owned());
    }

    fn note(&mut self, line: usize, what: impl Into<String>, remedy: impl Into<String>) {
        if !self.broken.contains(&line) {
            let place = format!("{}:{line}", self.path.display());
            self.problems
                .push((line, Problem::new(place, what, remedy)));
        }
    }

    /// Notes that something has to be there and isn't. In a file of broken
    /// syntax it may well be there, unread.
    pub(super) fn missing(
        &mut self,
        section: Option<&Section<'_>>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.broken.is_empty() {
            match section {
                Some(section) => self.note(section.line, what, remedy),
                None => self
                    .problems
                    .push((0, Problem::at(self.path, what, remedy))),
            }
        }
    }
}

/// A table of the file, and the keys that it has been asked for.
pub(super) struct Section<'t> {
    name: &'static str,
    line: usize,
    table: Option<&'t DeTable<'t>>,
    asked: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// The outermost table.
    pub(super) fn top(table: &'t DeTable<'t>) -> Self {
        Self {
            name: "",
            line: 1,
            table: Some(table),
            asked: Vec::new(),
        }
    }

    /// A table that isn't in the file.
    pub(super) fn absent(name: &'static str) -> Self {
        Self {
            name,
            line: 1,
            table: None,
            asked: Vec::new(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    fn dotted(&self, name: &str) -> String {
        if self.name.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.name)
        }
    }

    fn get(
        &mut self,
        reading: &mut Reading<'_>,
        name: &'static str,
    ) -> Option<(Place, &'t Spanned<DeValue<'t>>)> {
        self.asked.push(name);
        let (key, value) = self.table?.get_key_value(name)?;
        let place = Place {
            key: self.dotted(name),
            line: reading.line(key.span().start),
        };
        reading.places.insert(place.key.clone(), place.line);
        Some((place, value))
    }

    /// The value of a key. Where `read` can't read it, it notes why.
    pub(super) fn take<T>(
        &mut self,
        reading: &mut Reading<'_>,
        name: &'static str,
        read: impl FnOnce(&mut Reading<'_>, &Place, &DeValue<'_>) -> Option<T>,
    ) -> Found<T> {
        debug_assert!(
            KEYS.iter()
                .any(|key| key.section == self.name && key.name == name),
            "{name} must be among the known keys"
        );
        let Some((place, value)) = self.get(reading, name) else {
            return Found::Absent;
        };
        match read(reading, &place, value.get_ref()) {
            Some(value) => Found::Sound(value, place),
            None => Found::Bad,
        }
    }

    /// The list of a key, with each element's own line.
    pub(super) fn take_list<T>(
        &mut self,
        reading: &mut Reading<'_>,
        name: &'static str,
        read: impl Fn(&mut Reading<'_>, &Place, &DeValue<'_>) -> Option<T>,
    ) -> Found<Vec<(T, Place)>>
    where
        T: PartialEq,
    {
        debug_assert!(
            KEYS.iter()
                .any(|key| key.section == self.name && key.name == name)
        );
        let Some((place, value)) = self.get(reading, name) else {
            return Found::Absent;
        };
        let Some(elements) = value.get_ref().as_array() else {
            reading.fault(
                &place,
                format!("must be a list, and is {}", kind(value.get_ref())),
                format!("write {name} = [\"...\", \"...\"]"),
            );
            return Found::Bad;
        };
        let mut list: Vec<(T, Place)> = Vec::with_capacity(elements.len());
        let mut sound = true;
        for element in elements {
            let place = Place {
                line: reading.line(element.span().start),
                ..place.clone()
            };
            match read(reading, &place, element.get_ref()) {
                Some(item) if list.iter().any(|(other, _)| *other == item) => {
                    let what = format!("holds {} twice", shown(element.get_ref()));
                    reading.fault(&place, what, "remove one of the two");
                    sound = false;
                }
                Some(item) => list.push((item, place)),
                None => sound = false,
            }
        }
        if sound {
            Found::Sound(list, place)
        } else {
            Found::Bad
        }
    }

    /// A table within this one: `[name]`.
    pub(super) fn section(
        &mut self,
        reading: &mut Reading<'_>,
        name: &'static str,
    ) -> Found<Section<'t>> {
        let Some((place, value)) = self.get(reading, name) else {
            return Found::Absent;
        };
        match value.get_ref() {
            DeValue::Table(table) => {
                let section = Section {
                    name,
                    line: place.line,
                    table: Some(table),
                    asked: Vec::new(),
                };
                Found::Sound(section, place)
            }
            other => {
                let what = format!("must be one table, and is {}", kind(other));
                reading.fault(
                    &place,
                    what,
                    format!("write [{name}] once, and its keys below it"),
                );
                Found::Bad
            }
        }
    }

    /// A table within this one that may be left out: then all its keys are.
    pub(super) fn optional_section(
        &mut self,
        reading: &mut Reading<'_>,
        name: &'static str,
    ) -> Section<'t> {
        self.section(reading, name).or(Section::absent(name))
    }

    /// The tables of a list within this one: `[[policy.rule]]`.
    pub(super) fn sections(
        &mut self,
        reading: &mut Reading<'_>,
        name: &'static str,
        full_name: &'static str,
    ) -> Vec<Section<'t>> {
        let Some((place, value)) = self.get(reading, name) else {
            return Vec::new();
        };
        let elements = value.get_ref().as_array().map_or(&[][..], |array| array);
        let sections: Vec<_> = elements
            .iter()
            .filter_map(|element| match element.get_ref() {
                DeValue::Table(table) => Some(Section {
                    name: full_name,
                    line: reading.line(element.span().start),
                    table: Some(table),
                    asked: Vec::new(),
                }),
                _ => None,
            })
            .collect();
        if sections.is_empty() || sections.len() < elements.len() {
            reading.fault(
                &place,
                format!("must be a list of tables, and is {}", kind(value.get_ref())),
                format!("write [[{full_name}]], with two brackets, above the keys of each"),
            );
        }
        sections
    }

    /// Is any of these keys there. They count as asked for.
    pub(super) fn has_any(&mut self, names: &[&'static str]) -> bool {
        self.asked.extend(names);
        self.table
            .is_some_and(|table| names.iter().any(|name| table.contains_key(*name)))
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self, reading: &mut Reading<'_>) {
        for key in self.table.iter().flat_map(|table| table.keys()) {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) || reading.misplaced {
                continue;
            }
            let line = reading.line(key.span().start);
            let (what, remedy) = self.explain(name);
            reading.note(line, what, remedy);
        }
    }

    /// What is wrong with an unknown key, and what to do.
    fn explain(&self, name: &str) -> (String, String) {
        if name.chars().count() > LONGEST_NAME {
            let what = format!("there is no key of {} characters", name.chars().count());
            return (
                what,
                "remove it; if it's a secret that slipped in here, replace it".into(),
            );
        }
        let here = if self.name.is_empty() {
            String::new()
        } else {
            format!(" in {}", place_of(self.name))
        };
        let what = format!("there is no key {name:?}{here}");
        let elsewhere = |name: &str| {
            KEYS.iter()
                .find(|key| key.name == name && key.section != self.name)
        };
        let remedy = if let Some(key) = elsewhere(name) {
            format!("it belongs to {}", place_of(key.section))
        } else if let Some(near) = nearest(name, self.asked.iter().copied()) {
            format!("did you mean {near}?")
        } else if let Some(key) = nearest(name, KEYS.iter().map(|key| key.name)).and_then(elsewhere)
        {
            format!(
                "did you mean {}? It belongs to {}",
                key.name,
                place_of(key.section)
            )
        } else {
            format!("remove it; known here are {}", self.asked.join(", "))
        };
        (what, remedy)
    }
}

/// The known name that is most like `name`, if one is like it at all.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    const ALIKE: f64 = 0.8;
    let name = name.to_lowercase();
    known
        .map(|known| (known, strsim::jaro_winkler(&name, known)))
        .filter(|(_, likeness)| *likeness >= ALIKE)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(known, _)| known)
}

/// What sort of value it is.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The value itself where it's short to say, else what sort of value it is.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", shorten(text)),
        DeValue::Integer(number) => shorten(&number.to_string()),
        DeValue::Float(number) => shorten(number.as_str()),
        DeValue::Boolean(flag) => flag.to_string(),
        other => kind(other).into(),
    }
}

/// Notes a value of the wrong sort. Values are shown, as none of them but
/// `signing.key` can hold a secret by mistake, and that one reads itself.
fn mistyped<T>(
    reading: &mut Reading<'_>,
    place: &Place,
    value: &DeValue<'_>,
    expected: &str,
    remedy: impl Into<String>,
) -> Option<T> {
    let what = match value {
        DeValue::Array(_) | DeValue::Table(_) | DeValue::Datetime(_) | DeValue::String(_) => {
            format!("must be {expected}, and is {}", kind(value))
        }
        _ => format!("must be {expected}, and is {}", shown(value)),
    };
    reading.fault(place, what, remedy);
    None
}

/// A string.
pub(super) fn text<'v>(
    reading: &mut Reading<'_>,
    place: &Place,
    value: &'v DeValue<'_>,
) -> Option<&'v str> {
    value.as_str().or_else(|| {
        mistyped(
            reading,
            place,
            value,
            "a string",
            "write it in quotes, once",
        )
    })
}

/// `true` or `false`.
pub(super) fn flag(reading: &mut Reading<'_>, place: &Place, value: &DeValue<'_>) -> Option<bool> {
    value.as_bool().or_else(|| {
        mistyped(
            reading,
            place,
            value,
            "true or false",
            "write true or false, without quotes",
        )
    })
}

/// A whole number within `range`.
pub(super) fn number<const LEAST: u32, const MOST: u32>(
    reading: &mut Reading<'_>,
    place: &Place,
    value: &DeValue<'_>,
) -> Option<u32> {
    let range: RangeInclusive<u32> = LEAST..=MOST;
    let remedy = format!("write a whole number from {LEAST} to {MOST}, without quotes");
    let Some(integer) = value.as_integer() else {
        return mistyped(reading, place, value, "a whole number", remedy);
    };
    let number = i128::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| range.contains(number));
    if number.is_none() {
        reading.fault(place, format!("is {}", shown(value)), remedy);
    }
    number
}

/// A length of time: a number of seconds, or a string such as `"12h"`.
pub(super) fn lifespan(
    reading: &mut Reading<'_>,
    place: &Place,
    value: &DeValue<'_>,
) -> Option<Lifespan> {
    let remedy = || format!("write one of the forms {}", BadLifespan::FORMS);
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.to_string(), |number| number.to_string()),
        _ => return mistyped(reading, place, value, "a length of time", remedy()),
    };
    match text.parse::<Lifespan>() {
        Ok(lifespan) => Some(lifespan),
        Err(bad) => {
            let what = format!("can't be {}: {}", shown(value), bad.reason());
            reading.fault(place, what, remedy());
            None
        }
    }
}

/// A length of time of 1 to `MOST` seconds.
pub(super) fn wait<const MOST: u32>(
    reading: &mut Reading<'_>,
    place: &Place,
    value: &DeValue<'_>,
) -> Option<std::time::Duration> {
    let wait = lifespan(reading, place, value)?;
    if wait.seconds() > MOST {
        let most = Lifespan::from_seconds(MOST)?;
        reading.fault(place, format!("is {wait}"), format!("write 1s to {most}"));
        return None;
    }
    Some(std::time::Duration::from_secs(wait.seconds().into()))
}

/// The name of an account or group. A directory service may allow more than
/// POSIX does, so only what no name can be is refused.
pub(super) fn name(
    reading: &mut Reading<'_>,
    place: &Place,
    value: &DeValue<'_>,
) -> Option<String> {
    let name = text(reading, place, value)?;
    let fault = if name.is_empty() {
        "must be a name, and is empty"
    } else if name.bytes().all(|b| b.is_ascii_digit()) {
        "must be a name, and is a number"
    } else if name.trim() != name {
        "must be a name, and has white space around it"
    } else if name.contains(|c: char| c.is_control() || c == ':' || c == ',') {
        "must be a name, and has a character that no name has"
    } else {
        return Some(name.to_owned());
    };
    reading.fault(
        place,
        format!("{fault}: {}", shown(value)),
        "write the name as `getent passwd` or `getent group` shows it",
    );
    None
}
