use super::MAX_DEPTH;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// The most fields of an event: more than any type of event has.
const MAX_FIELDS: usize = 16;

/// The fields of one flat event, whatever notation it came in. Each is taken at most once.
#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, Scalar<'a>)>);

/// What a field holds. A number is its decimal text, because no float stands between the publisher's digits and ours.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool,
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    /// An array, a map, or bytes: no field of an event is one.
    Nested,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FieldError {
    #[error("no JSON object: {0}")]
    Json(#[from] serde_json::Error),
    #[error("no MessagePack map: {0}")]
    MessagePack(#[from] rmp_serde::decode::Error),
    #[error("field {0:?} stands twice")]
    Twice(String),
    #[error("{0} fields exceed the limit of {MAX_FIELDS}")]
    TooMany(usize),
}

impl<'a> Fields<'a> {
    pub(super) fn from_json(text: &'a str) -> Result<Self, FieldError> {
        let Pairs(pairs) = serde_json::from_str::<Pairs<&RawValue>>(text)?;
        let scalar = |(name, raw): (Cow<'a, str>, &'a RawValue)| Ok((name, Scalar::from_json(raw.get())?));
        Self::new(pairs.into_iter().map(scalar).collect::<Result<_, serde_json::Error>>()?)
    }

    pub(super) fn from_msgpack(bytes: &'a [u8]) -> Result<Self, FieldError> {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
        deserializer.set_max_depth(MAX_DEPTH);
        Self::new(Pairs::deserialize(&mut deserializer)?.0)
    }

    pub(super) fn from_texts(fields: impl Iterator<Item = (String, String)>) -> Result<Self, FieldError> {
        let there = fields.filter(|(_, text)| !text.is_empty());
        Self::new(there.map(|(name, text)| (name.into(), Scalar::Text(text.into()))).collect())
    }

    fn new(fields: Vec<(Cow<'a, str>, Scalar<'a>)>) -> Result<Self, FieldError> {
        if fields.len() > MAX_FIELDS {
            return Err(FieldError::TooMany(fields.len()));
        }
        for (index, (name, _)) in fields.iter().enumerate() {
            if fields[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(FieldError::Twice(name.chars().take(40).collect()));
            }
        }
        Ok(Self(fields))
    }

    /// Takes a field out.
    pub(super) fn take(&mut self, name: &str) -> Option<Scalar<'a>> {
        let at = self.0.iter().position(|(field, _)| field == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// A field left that is none of `known`.
    pub(super) fn first_besides(&self, known: &[&str]) -> Option<&str> {
        self.0.iter().map(|(name, _)| &**name).find(|name| !known.contains(name))
    }
}

impl<'a> Scalar<'a> {
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::Nested => "a nested value",
        }
    }

    fn from_json(raw: &'a str) -> serde_json::Result<Self> {
        Ok(match raw.as_bytes().first() {
            Some(b'"') => Self::Text(match serde_json::from_str(raw) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => Cow::Owned(serde_json::from_str(raw)?),
            }),
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Bool,
            Some(b'{' | b'[') => Self::Nested,
            _ => Self::Number(Cow::Borrowed(raw)),
        })
    }
}

/// The entries of a map in their order, twice the same key included.
struct Pairs<'a, V>(Vec<(Cow<'a, str>, V)>);

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Pairs<'a, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor<'a, V>(PhantomData<(&'a str, V)>);

        impl<'de: 'a, 'a, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<'a, V> {
            type Value = Pairs<'a, V>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                // Not sized by what the map says of its length.
                let mut pairs = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

/// A key, borrowed where the notation allows it.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor<'a>(PhantomData<&'a str>);

        impl<'de: 'a, 'a> Visitor<'de> for ScalarVisitor<'a> {
            type Value = Scalar<'a>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Bool)
            }

            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(value.to_string().into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(value.to_string().into()))
            }

            // A float is what its shortest decimal says: 0.1 is meant where 0.1000000000000000055 is stored.
            fn visit_f32<E>(self, value: f32) -> Result<Self::Value, E> {
                Ok(Scalar::Number(value.to_string().into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(value.to_string().into()))
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(value.to_owned().into()))
            }

            fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Self::Value, E> {
                Err(E::custom("binary is no value of a field"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nested)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nested)
            }
        }

        deserializer.deserialize_any(ScalarVisitor(PhantomData))
    }
}
