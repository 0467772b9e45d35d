//! JSON read so that nothing in it can hide.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

/// JSON as it was written: an object keeps members of the same name, of which
/// readers elsewhere may see the first or the last.
pub enum Json {
    /// Its members, in their order.
    Object(Vec<(String, Json)>),
    /// Its items, in their order.
    Array(Vec<Json>),
    /// A string.
    Text(String),
    /// A number, `true`, `false` or `null`: none of our business.
    Other,
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

    /// A member that is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.member(name) {
            Some(Self::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The first of these names that a member has, wherever in the document.
    pub fn first_named(&self, names: &[&'static str]) -> Option<&'static str> {
        match self {
            Self::Object(members) => members.iter().find_map(|(name, value)| {
                let own = names.iter().copied().find(|wanted| wanted == name);
                own.or_else(|| value.first_named(names))
            }),
            Self::Array(items) => items.iter().find_map(|item| item.first_named(names)),
            Self::Text(_) | Self::Other => None,
        }
    }

    /// The first name that two members of one object have, wherever in the
    /// document.
    pub fn repeated_member(&self) -> Option<&str> {
        match self {
            Self::Object(members) => {
                let mut seen = HashSet::new();
                members.iter().find_map(|(name, value)| {
                    if seen.insert(name.as_str()) {
                        value.repeated_member()
                    } else {
                        Some(name)
                    }
                })
            }
            Self::Array(items) => items.iter().find_map(Self::repeated_member),
            Self::Text(_) | Self::Other => None,
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

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
                Ok(Json::Other)
            }
        }
        deserializer.deserialize_any(JsonVisitor)
    }
}
