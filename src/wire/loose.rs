//! Requests as libraries of other languages write them: integers as floats, and entries that are `undefined`.
//! Pure; any thread.
//!
//! Invariant: of a request it is tried only on one that the strict reader has refused.

use crate::market::Extension;
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A value of JSON or `MessagePack`. An integer may be written as a float, a timestamp is RFC 3339, and
/// entries that are undefined are dropped. A key that occurs twice is refused.
pub(super) struct Loose(Option<Value>);

impl Loose {
    /// Reads a request that the strict reader has refused.
    pub(super) fn into_request<T: DeserializeOwned>(self) -> Option<T> {
        serde_json::from_value(self.0?).ok()
    }

    /// The value itself; `None` if it is undefined.
    pub(super) fn into_value(self) -> Option<Value> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Loose, E> {
        Ok(Loose(Some(Value::Null)))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Loose, E> {
        Ok(Loose(Some(value.into())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Loose, E> {
        Ok(Loose(Some(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Loose, E> {
        Ok(Loose(Some(value.into())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Loose, E> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let number = if value.fract() == 0.0 && value.abs() < EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and below 2^53")]
            Number::from(value as i64)
        } else {
            Number::from_f64(value).ok_or_else(|| E::custom("it is no number"))?
        };
        Ok(Loose(Some(Value::Number(number))))
    }

    fn visit_str<E>(self, value: &str) -> Result<Loose, E> {
        Ok(Loose(Some(value.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Loose, A::Error> {
        let mut values = Vec::new();
        while let Some(Loose(value)) = seq.next_element()? {
            values.push(value.unwrap_or_default());
        }
        Ok(Loose(Some(Value::Array(values))))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Loose, A::Error> {
        let (mut map, mut undefined) = (Map::new(), Vec::new());
        while let Some((key, Loose(value))) = entries.next_entry::<String, Loose>()? {
            if map.contains_key(&key) || undefined.contains(&key) {
                return Err(A::Error::custom(format!("{key:?} stands twice")));
            }
            match value {
                Some(value) => drop(map.insert(key, value)),
                None => undefined.push(key),
            }
        }
        Ok(Loose(Some(Value::Object(map))))
    }

    /// `rmp_serde` passes extensions on by this.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Loose, D::Error> {
        Ok(Loose(match Extension::deserialize(deserializer)? {
            Extension::Undefined => None,
            Extension::Timestamp(time) => Some(time.to_string().into()),
        }))
    }
}
