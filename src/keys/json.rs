//! JSON read so that nothing in it can hide.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Number;

/// JSON as it was written: an object keeps members of the same name, of which
/// readers elsewhere may see the first or the last.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// Its members, in their order.
    Object(Vec<(String, Json)>),
    /// Its items, in their order.
    Array(Vec<Json>),
    /// A string.
    Text(String),
    /// A number. Integers beyond 64 bits have become fractions.
    Number(Number),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
}

impl Json {
    /// The first member of that name.
    pub fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else {
            return None;
        };
        members
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The last member of that name: the one that jansson, and so Slurm, takes.
    pub fn last_member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else {
            return None;
        };
        members
            .iter()
            .rev()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// A member that is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.member(name) {
            Some(Self::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// This JSON on indented lines of printable ASCII, all else escaped: as a
    /// terminal may have it, and still the same JSON.
    pub fn to_ascii(&self) -> String {
        // Strings, numbers and lists: nothing that JSON can't hold.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let mut ascii = String::with_capacity(text.len());
        for c in text.chars() {
            if c == '\n' || c == ' ' || c.is_ascii_graphic() {
                ascii.push(c);
            } else {
                // serde has escaped all that has a shorter escape.
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(ascii, "\\u{unit:04x}");
                }
            }
        }
        ascii
    }

    /// The first of these names that a member has, wherever in the document.
    pub fn first_named(&self, names: &[&'static str]) -> Option<&'static str> {
        match self {
            Self::Object(members) => members.iter().find_map(|(name, value)| {
                let own = names.iter().copied().find(|wanted| wanted == name);
                own.or_else(|| value.first_named(names))
            }),
            Self::Array(items) => items.iter().find_map(|item| item.first_named(names)),
            Self::Text(_) | Self::Number(_) | Self::Bool(_) | Self::Null => None,
        }
    }

    /// The first name that two members of one object have, wherever in the
    /// document.
    pub fn repeated_member(&self) -> Option<&str> {
        match self {
            Self::Object(members) => {
                let mut seen = BTreeSet::new();
                members.iter().find_map(|(name, value)| {
                    if seen.insert(name.as_str()) {
                        value.repeated_member()
                    } else {
                        Some(name)
                    }
                })
            }
            Self::Array(items) => items.iter().find_map(Self::repeated_member),
            Self::Text(_) | Self::Number(_) | Self::Bool(_) | Self::Null => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonVisitor;
        impl<'de> Visitor<'de> for JsonVisitor {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Json::Object(members))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = sequence.next_element()? {
                    items.push(item);
                }
                Ok(Json::Array(items))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, bool: bool) -> Result<Json, E> {
                Ok(Json::Bool(bool))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Json, E> {
                Ok(Json::Number(number.into()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Json, E> {
                Ok(Json::Number(number.into()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Json, E> {
                // JSON writes finite numbers only.
                let number = Number::from_f64(number);
                number
                    .map(Json::Number)
                    .ok_or_else(|| E::custom("no number"))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
        }
        deserializer.deserialize_any(JsonVisitor)
    }
}

/// Writes it as it was read: members of the same name are all there.
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Self::Array(items) => items.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
            Self::Number(number) => number.serialize(serializer),
            Self::Bool(bool) => bool.serialize(serializer),
            Self::Null => serializer.serialize_unit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_written_again_with_its_order_and_its_repetitions() {
        let text = r#"{"b":1,"a":[-2,0.5,true,null,"x"],"b":{"c":"d"}}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), text);
    }

    #[test]
    fn what_a_terminal_gets_is_ascii_and_says_the_same() {
        let text = "{\"a\u{202e}\":\"\u{7f}\u{9b}2J\u{1f600}\\u001b\\n\"}";
        let json: Json = serde_json::from_str(text).unwrap();
        let ascii = json.to_ascii();
        assert!(
            ascii
                .bytes()
                .all(|b| b == b'\n' || b == b' ' || b.is_ascii_graphic())
        );
        assert_eq!(serde_json::from_str::<Json>(&ascii).unwrap(), json);
    }
}
