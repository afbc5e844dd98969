use super::MAX_DEPTH;
use crate::market::Extension;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// The most fields of an event: more than any type of event has.
const MAX_FIELDS: usize = 16;

/// The most elements of a list.
const MAX_LIST: usize = 16;

/// The fields of one event, of either notation. Each is taken at most once.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    scalars: Vec<(Cow<'a, str>, Scalar<'a>)>,
    source: Source<'a>,
}

/// Where the fields are from.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Json(&'a str),
    MessagePack(&'a [u8]),
    Texts,
}

/// The value of a field. A number is its decimal text, so that no float comes between the publisher's digits
/// and ours.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool,
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    /// An array of a few texts and numbers.
    List(Vec<Cow<'a, str>>),
    /// Another array, a map, or bytes: no field of an event is one.
    Nested,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FieldError {
    #[error("an array: send one event a line, without brackets around them and commas between")]
    Array,
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
        if text.starts_with('[') {
            return Err(FieldError::Array);
        }
        let Pairs(pairs) = serde_json::from_str::<Pairs<&RawValue>>(text)?;
        let scalar = |(name, raw): (Cow<'a, str>, &'a RawValue)| Ok((name, Scalar::from_json(raw.get())?));
        let scalars = pairs.into_iter().map(scalar).collect::<Result<_, serde_json::Error>>()?;
        Self::new(scalars, Source::Json(text))
    }

    pub(super) fn from_msgpack(bytes: &'a [u8]) -> Result<Self, FieldError> {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
        deserializer.set_max_depth(MAX_DEPTH);
        Self::new(Pairs::deserialize(&mut deserializer)?.0, Source::MessagePack(bytes))
    }

    pub(super) fn from_texts(fields: impl Iterator<Item = (String, String)>) -> Result<Self, FieldError> {
        let there = fields.filter(|(_, text)| !text.is_empty());
        let scalars = there.map(|(name, text)| (name.into(), Scalar::Text(text.into()))).collect();
        Self::new(scalars, Source::Texts)
    }

    fn new(fields: Vec<(Cow<'a, str>, Scalar<'a>)>, source: Source<'a>) -> Result<Self, FieldError> {
        if fields.len() > MAX_FIELDS {
            return Err(FieldError::TooMany(fields.len()));
        }
        for (index, (name, _)) in fields.iter().enumerate() {
            if fields[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(FieldError::Twice(name.chars().take(40).collect()));
            }
        }
        Ok(Self { scalars: fields, source })
    }

    /// Takes the field `data` out, whatever it holds. Read only for events that have it, as it takes another
    /// look at the event.
    pub(super) fn take_data(&mut self) -> Result<Option<Value>, FieldError> {
        #[derive(serde::Deserialize)]
        struct Data {
            data: Value,
        }
        Ok(match (self.take("data"), self.source) {
            (Some(_), Source::Json(text)) => Some(serde_json::from_str::<Data>(text)?.data),
            (Some(_), Source::MessagePack(bytes)) => {
                let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
                deserializer.set_max_depth(MAX_DEPTH);
                Some(Data::deserialize(&mut deserializer)?.data)
            }
            (Some(Scalar::Text(text)), Source::Texts) => Some(Value::String(text.into_owned())),
            (None, _) | (Some(_), Source::Texts) => None,
        })
    }

    /// Takes a field out.
    pub(super) fn take(&mut self, name: &str) -> Option<Scalar<'a>> {
        let at = self.scalars.iter().position(|(field, _)| field == name)?;
        Some(self.scalars.swap_remove(at).1)
    }

    /// A remaining field that is none of `known`.
    pub(super) fn first_besides(&self, known: &[&str]) -> Option<&str> {
        self.scalars.iter().map(|(name, _)| &**name).find(|name| !known.contains(name))
    }
}

impl<'a> Scalar<'a> {
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) | Self::Nested => "a nested value",
        }
    }

    fn list(elements: impl Iterator<Item = Option<Self>>) -> Self {
        let texts = elements.map(|element| match element {
            Some(Self::Text(text) | Self::Number(text)) => Some(text),
            _ => None,
        });
        let texts: Option<Vec<_>> = texts.take(MAX_LIST + 1).collect();
        texts.filter(|texts| texts.len() <= MAX_LIST).map_or(Self::Nested, Self::List)
    }

    fn from_json(raw: &'a str) -> serde_json::Result<Self> {
        Ok(match raw.as_bytes().first() {
            Some(b'"') => Self::Text(match serde_json::from_str(raw) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => Cow::Owned(serde_json::from_str(raw)?),
            }),
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Bool,
            Some(b'[') => {
                let elements = serde_json::from_str::<Vec<&RawValue>>(raw)?;
                Self::list(elements.into_iter().map(|element| Self::from_json(element.get()).ok()))
            }
            Some(b'{') => Self::Nested,
            _ => Self::Number(Cow::Borrowed(raw)),
        })
    }
}

/// The entries of a map in order, including duplicate keys.
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
                // Not sized by the map's stated length, which may be wrong.
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

            // A float means its shortest decimal: 0.1, not the stored 0.1000000000000000055.
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

            /// `rmp_serde` passes an extension so.
            fn visit_newtype_struct<D: Deserializer<'de>>(self, of: D) -> Result<Self::Value, D::Error> {
                Ok(match Extension::deserialize(of)? {
                    Extension::Undefined => Scalar::Null,
                    Extension::Timestamp(time) => Scalar::Text(time.to_string().into()),
                })
            }

            fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Self::Value, E> {
                Err(E::custom("binary is no value of a field"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while elements.len() <= MAX_LIST
                    && let Some(element) = seq.next_element::<Scalar>()?
                {
                    elements.push(Some(element));
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::list(elements.into_iter()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nested)
            }
        }

        deserializer.deserialize_any(ScalarVisitor(PhantomData))
    }
}
