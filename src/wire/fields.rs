//! What follows from a list of fields with their bits and units ([`super::schema`] has one for each image):
//! how they are read, written, shown, merged, refined and hashed. Pure; any thread.
//!
//! Invariant: all of these take the fields in the order of the list, so a new field is one line.

use super::json;
use super::msgpack::MsgpackUpdate;
use super::reader::{DecodeError, Reader};
use crate::market::{Instrument, Price, Size, Timestamp, decimal_text};
use serde_json::Value;

/// What the numbers of a field are, and how they are written.
pub(super) trait Unit {
    /// In memory.
    type Value: Copy;
    /// As in `schema.json`.
    const NAME: &'static str;

    /// At scales that are `price` and `size` digits finer.
    fn refined(value: Self::Value, price: u8, size: u8) -> Self::Value;
    /// As in a checksum; `None` is a price that is none.
    fn units(value: Self::Value) -> Option<i128>;
    /// As in JSON form, at the instrument's scales.
    fn json(value: Self::Value, instrument: &Instrument) -> Value;
    /// As an element of an update in MessagePack form.
    fn write(value: Self::Value, instrument: &Instrument, to: &mut MsgpackUpdate);
    /// Reads what [`Self::write`] wrote. `micros`: the time of the update.
    fn read(from: &mut Reader<'_>, instrument: &Instrument, micros: i64) -> Result<Self::Value, DecodeError>;
}

/// A price: on the wire relative to the instrument's anchor, nil where there is none.
pub(super) struct PriceUnit;
/// A size: on the wire in units.
pub(super) struct SizeUnit;
/// A number of things.
pub(super) struct CountUnit;
/// Complete seconds since 1970.
pub(super) struct SecondUnit;
/// A moment in µs, on the wire relative to the time of the update.
pub(super) struct MomentUnit;
/// Hundredths of a price unit, on the wire relative to 100 times the anchor.
pub(super) struct HundredthUnit;

/// A struct of such fields, each known or not.
macro_rules! fields {
    ($(#[$about:meta])* $name:ident {
        $($(#[$doc:meta])* $field:ident: $value:ty, $unit:ident = $bit:expr;)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $field: Option<$value>,)+
        }

        impl $name {
            /// In the order of the wire.
            pub const FIELDS: &'static [super::schema::Field] =
                &[$(Field { name: stringify!($field), bit: $bit, unit: $unit::NAME }),+];

            /// The fields in `mask`.
            fn only(self, mask: u16) -> Self {
                Self { $($field: self.$field.filter(|_| mask & $bit != 0)),+ }
            }

            /// The fields of `change` replace those known before; the others stay.
            fn take(&mut self, change: &Self) {
                *self = Self { $($field: change.$field.or(self.$field)),+ };
            }

            /// The same fields at scales that are `price` and `size` digits finer.
            #[must_use]
            pub fn refined(&self, price: u8, size: u8) -> Self {
                Self { $($field: self.$field.map(|value| $unit::refined(value, price, size))),+ }
            }

            /// The known fields, in units; `None` is a price that is none.
            pub fn values(&self) -> impl Iterator<Item = (&'static Field, Option<i128>)> + use<> {
                let values = [$(self.$field.map($unit::units)),+];
                Self::FIELDS.iter().zip(values).filter_map(|(field, value)| Some((field, value?)))
            }

            pub(crate) fn json(&self, instrument: &Instrument) -> Map<String, Value> {
                let values = [$(self.$field.map(|value| $unit::json(value, instrument))),+];
                let named = Self::FIELDS.iter().zip(values);
                named.filter_map(|(field, value)| Some((field.name.to_owned(), value?))).collect()
            }

            pub(super) fn write(&self, instrument: &Instrument, to: &mut MsgpackUpdate) {
                $(if let Some(value) = self.$field {
                    $unit::write(value, instrument, to);
                })+
            }

            pub(super) fn read(
                mask: u16,
                instrument: &Instrument,
                micros: i64,
                from: &mut Reader<'_>,
            ) -> Result<Self, DecodeError> {
                $(let $field = match mask & $bit {
                    0 => None,
                    _ => Some($unit::read(from, instrument, micros)?),
                };)+
                Ok(Self { $($field),+ })
            }
        }
    };
}

/// The fields of an image of any kind.
macro_rules! images {
    ($($kind:ident($fields:ident)),+) => {
        /// The fields of an image of some kind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fields {
            $(#[doc = concat!("See [`", stringify!($fields), "`].")] $kind($fields)),+
        }

        impl Fields {
            /// The known fields, in units; `None` is a price that is none.
            #[must_use]
            pub fn values(&self) -> Vec<(&'static Field, Option<i128>)> {
                match self { $(Self::$kind(fields) => fields.values().collect()),+ }
            }

            pub(crate) fn json(&self, instrument: &Instrument) -> Map<String, Value> {
                match self { $(Self::$kind(fields) => fields.json(instrument)),+ }
            }

            pub(super) fn write(&self, instrument: &Instrument, to: &mut MsgpackUpdate) {
                match self { $(Self::$kind(fields) => fields.write(instrument, to)),+ }
            }

            /// Whether the first field is known, as it is once there is an image.
            #[must_use]
            pub fn has_begun(&self) -> bool {
                self.values().first().is_some_and(|(field, _)| field.bit == 1)
            }

            /// The values of a checksum: each field in `all`, known or not.
            pub fn units(&self, all: u16) -> impl Iterator<Item = Option<i128>> + use<> {
                let values = self.values();
                let fields = match self { $(Self::$kind(_) => $fields::FIELDS),+ };
                let known = move |field: &Field| values.iter().find(|(known, _)| known.bit == field.bit)?.1;
                fields.iter().filter(move |field| field.bit & all != 0).map(known)
            }
        }
    };
}

pub(super) use {fields, images};

impl Unit for PriceUnit {
    type Value = Price;
    const NAME: &'static str = "price";

    fn refined(value: Price, price: u8, _: u8) -> Price {
        value.refined(price)
    }

    fn units(value: Price) -> Option<i128> {
        value.some().map(Price::units)
    }

    fn json(value: Price, instrument: &Instrument) -> Value {
        json::price(instrument, value)
    }

    fn write(value: Price, instrument: &Instrument, to: &mut MsgpackUpdate) {
        to.price(instrument, value);
    }

    fn read(from: &mut Reader<'_>, instrument: &Instrument, _: i64) -> Result<Price, DecodeError> {
        from.price(instrument.anchor_units())
    }
}

impl Unit for SizeUnit {
    type Value = Size;
    const NAME: &'static str = "size";

    fn refined(value: Size, _: u8, size: u8) -> Size {
        value.refined(size)
    }

    fn units(value: Size) -> Option<i128> {
        Some(value.units())
    }

    fn json(value: Size, instrument: &Instrument) -> Value {
        json::size(instrument, value)
    }

    fn write(value: Size, _: &Instrument, to: &mut MsgpackUpdate) {
        to.size(value);
    }

    fn read(from: &mut Reader<'_>, _: &Instrument, _: i64) -> Result<Size, DecodeError> {
        from.size()
    }
}

impl Unit for CountUnit {
    type Value = u64;
    const NAME: &'static str = "count";

    fn refined(value: u64, _: u8, _: u8) -> u64 {
        value
    }

    fn units(value: u64) -> Option<i128> {
        Some(value.into())
    }

    fn json(value: u64, _: &Instrument) -> Value {
        value.into()
    }

    fn write(value: u64, _: &Instrument, to: &mut MsgpackUpdate) {
        to.uint(value);
    }

    fn read(from: &mut Reader<'_>, _: &Instrument, _: i64) -> Result<u64, DecodeError> {
        from.uint("a count")
    }
}

impl Unit for SecondUnit {
    type Value = Timestamp;
    const NAME: &'static str = "second";

    fn refined(value: Timestamp, _: u8, _: u8) -> Timestamp {
        value
    }

    fn units(value: Timestamp) -> Option<i128> {
        Some(value.nanos().div_euclid(1_000_000_000).into())
    }

    fn json(value: Timestamp, _: &Instrument) -> Value {
        json::second(value)
    }

    fn write(value: Timestamp, _: &Instrument, to: &mut MsgpackUpdate) {
        to.int(value.nanos().div_euclid(1_000_000_000));
    }

    fn read(from: &mut Reader<'_>, _: &Instrument, _: i64) -> Result<Timestamp, DecodeError> {
        from.second()
    }
}

impl Unit for MomentUnit {
    type Value = Timestamp;
    const NAME: &'static str = "moment";

    fn refined(value: Timestamp, _: u8, _: u8) -> Timestamp {
        value
    }

    fn units(value: Timestamp) -> Option<i128> {
        Some(value.micros().into())
    }

    fn json(value: Timestamp, _: &Instrument) -> Value {
        json::moment(value)
    }

    fn write(value: Timestamp, _: &Instrument, to: &mut MsgpackUpdate) {
        to.moment(value);
    }

    fn read(from: &mut Reader<'_>, _: &Instrument, micros: i64) -> Result<Timestamp, DecodeError> {
        from.moment(micros)
    }
}

impl Unit for HundredthUnit {
    type Value = i128;
    const NAME: &'static str = "hundredth";

    fn refined(value: i128, price: u8, _: u8) -> i128 {
        // A hundredth is finer than a price, and 128 bits hold ten billion times as much.
        value.saturating_mul(10_i128.pow(price.into()))
    }

    fn units(value: i128) -> Option<i128> {
        Some(value)
    }

    fn json(value: i128, instrument: &Instrument) -> Value {
        decimal_text(value, instrument.price_scale + 2).into()
    }

    fn write(value: i128, instrument: &Instrument, to: &mut MsgpackUpdate) {
        to.units(value - instrument.anchor_units() * 100);
    }

    fn read(from: &mut Reader<'_>, instrument: &Instrument, _: i64) -> Result<i128, DecodeError> {
        from.hundredths(instrument.anchor_units())
    }
}
