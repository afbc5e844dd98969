//! One column of a Parquet file, a few thousand rows at a time.

use crate::feed::formats::cell::{Numbers, Read};
use crate::feed::formats::columns::Field;
use crate::feed::formats::csv::Cell;
use crate::feed::formats::times::Zone;
use crate::feed::text::time_from_integer;
use crate::market::Timestamp;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::ColumnReaderImpl;
use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type,
    Int64Type, Int96Type,
};
use parquet::errors::ParquetError;
use parquet::schema::types::ColumnDescPtr;
use rust_decimal::Decimal;

/// Rows that are decoded at once.
pub(super) const CHUNK: usize = 4096;

/// What a column's numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Plain,
    Unsigned,
    /// So many decimals.
    Decimal(u8),
    /// Nanoseconds a unit since 1970; whether the clock is UTC's.
    Moment {
        unit: i64,
        utc: bool,
    },
    /// Nanoseconds a unit since midnight.
    OfDay(i64),
    Days,
}

/// Why a column cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {name:?} is of type {kind}: expected numbers, text, or times")]
pub(super) struct TypeError {
    name: String,
    kind: String,
}

pub(super) struct Column {
    descriptor: ColumnDescPtr,
    /// Its index among the file's columns.
    pub(super) index: usize,
    pub(super) name: String,
    /// `None` for columns of our own exports that only definitions and states have.
    pub(super) field: Option<Field>,
    meaning: Meaning,
    /// The level of a value that is there.
    there: i16,
    levels: Vec<i16>,
    values: Values,
    /// The row, and the index of its value among those present.
    row: usize,
    value: Option<usize>,
    behind: usize,
    /// Decimals that the last float had.
    decimals: std::cell::Cell<u8>,
}

enum Values {
    None,
    Bool(Source<BoolType>),
    Int(Source<Int32Type>),
    Long(Source<Int64Type>),
    Old(Source<Int96Type>),
    Float(Source<FloatType>),
    Double(Source<DoubleType>),
    Bytes(Source<ByteArrayType>),
    Fixed(Source<FixedLenByteArrayType>),
}

struct Source<T: DataType> {
    reader: ColumnReaderImpl<T>,
    values: Vec<T::T>,
}

impl<T: DataType> Source<T> {
    fn new(reader: ColumnReader) -> Self {
        Self { reader: get_typed_column_reader(reader), values: Vec::new() }
    }

    fn read(&mut self, levels: &mut Vec<i16>) -> Result<usize, ParquetError> {
        self.values.clear();
        self.reader.read_records(CHUNK, Some(levels), None, &mut self.values).map(|(records, ..)| records)
    }
}

impl Column {
    pub(super) fn new(
        index: usize,
        descriptor: ColumnDescPtr,
        field: Option<Field>,
    ) -> Result<Self, TypeError> {
        let name = descriptor.path().string();
        let error = || TypeError { name: name.clone(), kind: format!("{:?}", descriptor.physical_type()) };
        if descriptor.max_rep_level() > 0 {
            return Err(TypeError { name, kind: "list".to_owned() });
        }
        let scale = u8::try_from(descriptor.type_scale().max(0)).ok().filter(|scale| *scale <= 38);
        let nanos = |unit: &TimeUnit| match unit {
            TimeUnit::MILLIS => 1_000_000,
            TimeUnit::MICROS => 1_000,
            TimeUnit::NANOS => 1,
        };
        let meaning = match (descriptor.logical_type_ref(), descriptor.converted_type()) {
            (Some(LogicalType::Decimal(decimal)), _) => {
                let scale = u8::try_from(decimal.scale).ok().filter(|scale| *scale <= 38);
                Meaning::Decimal(scale.ok_or_else(error)?)
            }
            (Some(LogicalType::Timestamp(time)), _) => {
                Meaning::Moment { unit: nanos(&time.unit), utc: time.is_adjusted_to_u_t_c }
            }
            (Some(LogicalType::Time(time)), _) => Meaning::OfDay(nanos(&time.unit)),
            (Some(LogicalType::Date), _) | (None, ConvertedType::DATE) => Meaning::Days,
            (None, ConvertedType::DECIMAL) => Meaning::Decimal(scale.ok_or_else(error)?),
            (None, ConvertedType::TIMESTAMP_MILLIS) => Meaning::Moment { unit: 1_000_000, utc: true },
            (None, ConvertedType::TIMESTAMP_MICROS) => Meaning::Moment { unit: 1_000, utc: true },
            (None, ConvertedType::TIME_MILLIS) => Meaning::OfDay(1_000_000),
            (None, ConvertedType::TIME_MICROS) => Meaning::OfDay(1_000),
            (Some(LogicalType::Integer(int)), _) if !int.is_signed => Meaning::Unsigned,
            (None, ConvertedType::UINT_32 | ConvertedType::UINT_64) => Meaning::Unsigned,
            _ => Meaning::Plain,
        };
        let is_number = matches!(meaning, Meaning::Decimal(_));
        match descriptor.physical_type() {
            Type::FIXED_LEN_BYTE_ARRAY if !is_number || descriptor.type_length() > 16 => return Err(error()),
            _ => {}
        }
        Ok(Self {
            index,
            name,
            field,
            meaning,
            there: descriptor.max_def_level(),
            descriptor,
            levels: Vec::new(),
            values: Values::None,
            row: 0,
            value: None,
            behind: 0,
            decimals: std::cell::Cell::new(0),
        })
    }

    pub(super) fn descriptor(&self) -> ColumnDescPtr {
        self.descriptor.clone()
    }

    /// Whether rows may have no value.
    pub(super) fn is_optional(&self) -> bool {
        self.there > 0
    }

    /// Whether its times are of an unknown clock.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.meaning, Meaning::Moment { utc: false, .. })
    }

    /// Goes on with another row group.
    pub(super) fn begin(&mut self, reader: ColumnReader) {
        self.values = match reader {
            reader @ ColumnReader::BoolColumnReader(_) => Values::Bool(Source::new(reader)),
            reader @ ColumnReader::Int32ColumnReader(_) => Values::Int(Source::new(reader)),
            reader @ ColumnReader::Int64ColumnReader(_) => Values::Long(Source::new(reader)),
            reader @ ColumnReader::Int96ColumnReader(_) => Values::Old(Source::new(reader)),
            reader @ ColumnReader::FloatColumnReader(_) => Values::Float(Source::new(reader)),
            reader @ ColumnReader::DoubleColumnReader(_) => Values::Double(Source::new(reader)),
            reader @ ColumnReader::ByteArrayColumnReader(_) => Values::Bytes(Source::new(reader)),
            reader @ ColumnReader::FixedLenByteArrayColumnReader(_) => Values::Fixed(Source::new(reader)),
        };
    }

    /// Decodes the next rows; how many there are.
    pub(super) fn read(&mut self) -> Result<usize, ParquetError> {
        self.levels.clear();
        (self.row, self.behind, self.value) = (0, 0, None);
        match &mut self.values {
            Values::None => Ok(0),
            Values::Bool(source) => source.read(&mut self.levels),
            Values::Int(source) => source.read(&mut self.levels),
            Values::Long(source) => source.read(&mut self.levels),
            Values::Old(source) => source.read(&mut self.levels),
            Values::Float(source) => source.read(&mut self.levels),
            Values::Double(source) => source.read(&mut self.levels),
            Values::Bytes(source) => source.read(&mut self.levels),
            Values::Fixed(source) => source.read(&mut self.levels),
        }
    }

    /// Goes on to the next row of those.
    pub(super) fn step(&mut self) {
        let is_there = self.there == 0 || self.levels.get(self.row) == Some(&self.there);
        self.value = is_there.then_some(self.behind);
        self.behind += usize::from(is_there);
        self.row += 1;
    }

    /// The row's value, for a field; the file's clock is that of `zone`.
    pub(super) fn cell(
        &self,
        field: Field,
        zone: Option<&Zone>,
        numbers: &Numbers,
    ) -> Result<Cell<'_>, CellError> {
        let Some(at) = self.value else { return Ok(Cell::EMPTY) };
        let is_time = matches!(field, Field::Time | Field::TsRecv);
        let integer = |value: i64| self.integer(value, is_time, zone);
        match &self.values {
            Values::None => Ok(Cell::EMPTY),
            Values::Bool(source) => {
                Ok(Cell::Text(if *value(&source.values, at)? { "true" } else { "false" }))
            }
            Values::Int(source) => {
                let value = *value(&source.values, at)?;
                // Signs are none of its bits.
                let value = if self.meaning == Meaning::Unsigned {
                    i64::from(value.cast_unsigned())
                } else {
                    value.into()
                };
                integer(value)
            }
            Values::Long(source) => {
                let value = *value(&source.values, at)?;
                if value == i64::MAX
                    || value == i64::MIN
                    || (self.meaning == Meaning::Unsigned && value == -1)
                {
                    // A type's largest number means none.
                    return Ok(Cell::EMPTY);
                }
                if self.meaning == Meaning::Unsigned && value < 0 {
                    return Ok(Cell::Number(Read::Exact(value.cast_unsigned().into())));
                }
                integer(value)
            }
            Values::Old(source) => {
                let nanos = value(&source.values, at)?.to_nanos();
                moment(Some(nanos), true, zone)
            }
            Values::Float(source) => self.float(*value(&source.values, at)?, numbers),
            Values::Double(source) => self.double(*value(&source.values, at)?, numbers),
            Values::Bytes(source) => match self.meaning {
                Meaning::Decimal(scale) => decimal(wide(value(&source.values, at)?.data())?, scale),
                _ => text(value(&source.values, at)?),
            },
            Values::Fixed(source) => match self.meaning {
                Meaning::Decimal(scale) => decimal(wide(value(&source.values, at)?.data())?, scale),
                _ => Err(CellError::Range),
            },
        }
    }

    /// The row's value as text; `None` if it has none.
    pub(super) fn text(&self) -> Result<Option<String>, CellError> {
        let numbers =
            Numbers { sign: None, comma_is_free: false, nulls: super::super::cell::Nulls::default() };
        Ok(match self.cell(Field::Price, None, &numbers)? {
            Cell::Text("") => None,
            Cell::Text(text) => Some(text.to_owned()),
            Cell::Number(number) => Some(number.value().to_string()),
            Cell::Time(time) => Some(time.to_string()),
        })
    }

    /// A whole number of nanoseconds beyond a microsecond.
    pub(super) fn whole(&self) -> i64 {
        match (&self.values, self.value) {
            (Values::Int(source), Some(at)) => source.values.get(at).copied().map_or(0, i64::from),
            (Values::Long(source), Some(at)) => source.values.get(at).copied().unwrap_or(0),
            _ => 0,
        }
    }

    fn integer(&self, value: i64, is_time: bool, zone: Option<&Zone>) -> Result<Cell<'static>, CellError> {
        match self.meaning {
            Meaning::Plain | Meaning::Unsigned if is_time => Ok(Cell::Time(time_from_integer(value))),
            Meaning::Plain | Meaning::Unsigned => Ok(Cell::Number(Read::Exact(value.into()))),
            Meaning::Decimal(scale) => decimal(value.into(), scale),
            Meaning::Moment { unit, utc } => moment(value.checked_mul(unit), utc, zone),
            Meaning::Days => moment(value.checked_mul(86_400_000_000_000), false, zone),
            Meaning::OfDay(_) => Err(CellError::OfDay),
        }
    }

    /// The shortest decimal number that a float is the nearest of.
    fn double(&self, value: f64, numbers: &Numbers) -> Result<Cell<'static>, CellError> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if !value.is_finite() || value >= f64::MAX {
            return Ok(Cell::EMPTY);
        }
        // Division is exact to the last bit, so a number that gives the same float back is the one.
        for scale in self.decimals.get()..=DECIMALS {
            let units = (value * POWERS[usize::from(scale)]).round();
            if units.abs() < EXACT && (units / POWERS[usize::from(scale)]).to_bits() == value.to_bits() {
                return Ok(self.short(units, scale));
            }
        }
        self.long(&value.to_string(), numbers)
    }

    fn float(&self, value: f32, numbers: &Numbers) -> Result<Cell<'static>, CellError> {
        if !value.is_finite() || value >= f32::MAX {
            return Ok(Cell::EMPTY);
        }
        self.long(&value.to_string(), numbers)
    }

    fn short(&self, units: f64, scale: u8) -> Cell<'static> {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and below 2^53")]
        let units = units as i64;
        // A number found with the decimals of the one before may have more than it needs.
        self.decimals.set(if units % 10 == 0 { 0 } else { scale });
        Cell::Number(Read::Exact(Decimal::new(units, scale.into())))
    }

    fn long(&self, text: &str, numbers: &Numbers) -> Result<Cell<'static>, CellError> {
        self.decimals.set(0);
        numbers.read(text).map(Cell::Number).map_err(|_| CellError::Range)
    }
}

const DECIMALS: u8 = 12;
const POWERS: [f64; 13] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

/// Why a value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CellError {
    #[error("it is out of range")]
    Range,
    #[error("it is no UTF-8 text")]
    NotText,
    #[error("a time of day alone, without its date")]
    OfDay,
    #[error("the column ends here")]
    Missing,
}

fn value<T>(values: &[T], at: usize) -> Result<&T, CellError> {
    values.get(at).ok_or(CellError::Missing)
}

fn text(bytes: &ByteArray) -> Result<Cell<'_>, CellError> {
    std::str::from_utf8(bytes.data())
        .map(|text| Cell::Text(super::super::cell::trimmed(text)))
        .map_err(|_| CellError::NotText)
}

fn moment(nanos: Option<i64>, utc: bool, zone: Option<&Zone>) -> Result<Cell<'static>, CellError> {
    let nanos = nanos.ok_or(CellError::Range)?;
    let time = match zone {
        Some(zone) if !utc => zone.moment(nanos).ok_or(CellError::Range)?,
        _ => Timestamp::from_nanos(nanos),
    };
    Ok(Cell::Time(time))
}

/// A number with a sign, its most significant byte first.
fn wide(bytes: &[u8]) -> Result<i128, CellError> {
    let (&first, _) = bytes.split_first().ok_or(CellError::Range)?;
    if bytes.len() > 16 {
        return Err(CellError::Range);
    }
    let start = if first & 0x80 == 0 { 0 } else { -1 };
    Ok(bytes.iter().fold(start, |number: i128, &byte| (number << 8) | i128::from(byte)))
}

fn decimal(mut units: i128, mut scale: u8) -> Result<Cell<'static>, CellError> {
    loop {
        match Decimal::try_from_i128_with_scale(units, scale.into()) {
            Ok(value) => return Ok(Cell::Number(Read::Exact(value))),
            // Digits beyond those that can be held are zeros, if a file's columns have the finest scale.
            Err(_) if scale > 0 && units % 10 == 0 => (units, scale) = (units / 10, scale - 1),
            Err(_) => return Err(CellError::Range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_decimals_are_exact() {
        let check = |bytes: &[u8], scale, expected: &str| {
            let Ok(Cell::Number(read)) = wide(bytes).and_then(|units| decimal(units, scale)) else {
                panic!("a number")
            };
            assert_eq!(read.value().normalize().to_string(), expected);
        };
        check(&[0x4a, 0x3d], 2, "190.05");
        check(&[0xff], 1, "-0.1");
        check(&(1_234_500_000_000_000_000_000_000_000_000_000_i128).to_be_bytes(), 18, "1234500000000000");
        assert_eq!(wide(&[0; 17]).err(), Some(CellError::Range));
        assert!(decimal(i128::MAX, 0).is_err());
    }
}
