use super::export::{Export, Rows, TapeExport};
use crate::feed::Feed;
use crate::feed::formats::Recording;
use crate::market::{Event, Instrument, Instruments, Price, Side, Size, Timestamp};
use crate::recording::RecordingHeader;
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArrayType, DataType, FixedLenByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::sync::Arc;

/// Rows of a group. It is kept in memory until it is full: some 50 MB.
const GROUP_ROWS: usize = 128 << 10;

/// Parquet: the columns of the CSV format, with types.
///
/// The number of digits of its decimals is known only at the end, so all is kept in a temporary recording
/// until then.
pub struct ParquetExport<W: Write + Send> {
    to: W,
    rows: Rows,
    kept: Box<TapeExport<BufWriter<File>>>,
    file: File,
    digits: Digits,
}

/// A file whose columns are known.
struct Table<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Column>,
    /// Rows in the open group.
    count: usize,
}

/// What the numbers of a file need. Readers multiply them, in at most 38 digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Digits {
    price: Needed,
    size: Needed,
    /// Whether any time is not a multiple of a microsecond.
    nanos: bool,
}

/// The decimals of the finest number, and the digits before the point of the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Needed {
    scale: u8,
    whole: u8,
}

/// How a decimal column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decimals {
    precision: u8,
    scale: u8,
}

/// Digits that fit into 32 and 64 bits.
const INT_DIGITS: u8 = 9;
const LONG_DIGITS: u8 = 18;
const MOST_DIGITS: u8 = 38;

impl Needed {
    fn add(&mut self, (mut units, mut scale): (i128, u8)) {
        while scale > self.scale && units % 10 == 0 {
            (units, scale) = (units / 10, scale - 1);
        }
        self.scale = self.scale.max(scale);
        let digits = units.unsigned_abs().checked_ilog10().map_or(0, |log| log + 1);
        self.whole = self.whole.max(u8::try_from(digits).unwrap_or(u8::MAX).saturating_sub(scale));
    }

    fn precision(self) -> u8 {
        (self.scale + self.whole).max(1)
    }
}

impl Digits {
    fn add(&mut self, row: &Row<'_>, columns: &[&'static Kind]) {
        for kind in columns {
            match kind.of {
                Of::Decimal(number, of) => {
                    if let Some(number) = number(row) {
                        self.needed(number, of);
                    }
                }
                Of::Time(time) => self.nanos |= time(row).is_some_and(|time| time.nanos() % 1_000 != 0),
                Of::Text(_) | Of::Scale(_) | Of::Nanos(_) => {}
            }
        }
    }

    fn needed(&mut self, number: (i128, u8), family: Family) {
        match family {
            Family::Price => self.price.add(number),
            Family::Size => self.size.add(number),
        }
    }

    /// The smallest type that holds them. If price and size both fit into 64 bits and their product might
    /// not, prices get 19 digits: `DuckDB` 2 and `ClickHouse` compute in the type of the factors, one fails
    /// and the other may be wrong silently. With 19 and 18 digits, the product has the 38 that Arrow and
    /// `DataFusion` permit.
    fn decimals(self, family: Family) -> Decimals {
        let (price, size) = (self.price.precision(), self.size.precision());
        let (needed, precision) = match family {
            Family::Size => (self.size, size),
            Family::Price if price <= LONG_DIGITS && size <= LONG_DIGITS && price + size > LONG_DIGITS => {
                (self.price, LONG_DIGITS + 1)
            }
            Family::Price => (self.price, price),
        };
        Decimals { precision, scale: needed.scale }
    }
}

impl Decimals {
    fn stored(self) -> &'static str {
        match self.precision {
            ..=INT_DIGITS => "int32",
            10..=LONG_DIGITS => "int64",
            _ => "fixed_len_byte_array(16)",
        }
    }

    /// Units at this scale, of a number that [`Needed`] has seen.
    fn units(self, (units, scale): (i128, u8)) -> i128 {
        let power = |digits: u8| 10_i128.pow(u32::from(digits));
        if scale <= self.scale {
            units * power(self.scale - scale)
        } else {
            units / power(scale - self.scale)
        }
    }
}

/// A column of the open group: its values, and for each row whether it has one (1) or not (0).
struct Column {
    kind: &'static Kind,
    decimals: Decimals,
    levels: Vec<i16>,
    values: Values,
}

enum Values {
    Text(Vec<parquet::data_type::ByteArray>),
    Long(Vec<i64>),
    Wide(Vec<parquet::data_type::FixedLenByteArray>),
    Int(Vec<i32>),
}

/// What a decimal counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Price,
    Size,
}

/// The name of a column, and the source of its values.
struct Kind {
    name: &'static str,
    of: Of,
}

enum Of {
    Text(fn(&Row<'_>) -> Option<String>),
    Time(fn(&Row<'_>) -> Option<Timestamp>),
    /// Nanoseconds beyond the microsecond, if a file has any.
    Nanos(fn(&Row<'_>) -> Option<Timestamp>),
    Decimal(fn(&Row<'_>) -> Option<(i128, u8)>, Family),
    Scale(fn(&Row<'_>) -> Option<u8>),
}

/// One event, with its instrument.
struct Row<'a> {
    event: &'a Event,
    instrument: Option<&'a Instrument>,
}

#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the method is of one lifetime, and the closure of every one"
)]
static KINDS: [Kind; 23] = [
    Kind { name: "type", of: Of::Text(|row| row.kind().map(str::to_owned)) },
    Kind { name: "time", of: Of::Time(|row| row.time()) },
    Kind { name: "ts_recv", of: Of::Time(|row| row.ts_recv()) },
    Kind { name: "symbol", of: Of::Text(|row| row.instrument.map(|x| x.symbol.to_string())) },
    Kind {
        name: "bid",
        of: Of::Decimal(|row| row.side(|quote| (quote.bid, quote.bid_size))?.0, Family::Price),
    },
    Kind {
        name: "bid_size",
        of: Of::Decimal(|row| row.side(|quote| (quote.bid, quote.bid_size))?.1, Family::Size),
    },
    Kind {
        name: "ask",
        of: Of::Decimal(|row| row.side(|quote| (quote.ask, quote.ask_size))?.0, Family::Price),
    },
    Kind {
        name: "ask_size",
        of: Of::Decimal(|row| row.side(|quote| (quote.ask, quote.ask_size))?.1, Family::Size),
    },
    Kind {
        name: "price",
        of: Of::Decimal(
            |row| row.trade(|trade, x| Some((trade.price.units(), x.price_scale))),
            Family::Price,
        ),
    },
    Kind {
        name: "size",
        of: Of::Decimal(|row| row.trade(|trade, x| Some((trade.size.units(), x.size_scale))), Family::Size),
    },
    Kind {
        name: "side",
        of: Of::Text(|row| {
            row.trade(|trade, _| (trade.side != Side::None).then(|| trade.side.name().to_owned()))
        }),
    },
    Kind {
        name: "conditions",
        of: Of::Text(|row| {
            row.trade(|trade, _| Some(trade.conditions.as_str().to_owned()).filter(|text| !text.is_empty()))
        }),
    },
    Kind { name: "state", of: Of::Text(|row| row.state()) },
    Kind { name: "name", of: Of::Text(|row| row.text(|x| &x.name)) },
    Kind { name: "sector", of: Of::Text(|row| row.text(|x| &x.sector)) },
    Kind { name: "currency", of: Of::Text(|row| row.text(|x| &x.currency)) },
    Kind {
        name: "tick_size",
        of: Of::Decimal(|row| row.definition().map(|x| (x.tick_size, x.price_scale)), Family::Price),
    },
    Kind { name: "price_scale", of: Of::Scale(|row| row.definition().map(|x| x.price_scale)) },
    Kind { name: "size_scale", of: Of::Scale(|row| row.definition().map(|x| x.size_scale)) },
    Kind {
        name: "previous_close",
        of: Of::Decimal(
            |row| {
                let definition = row.definition().filter(|x| !x.previous_close.is_none())?;
                Some((definition.previous_close.units(), definition.price_scale))
            },
            Family::Price,
        ),
    },
    Kind {
        name: "counts",
        of: Of::Text(|row| {
            row.trade(|trade, _| (!trade.counts.is_everything()).then(|| trade.counts.to_string()))
        }),
    },
    Kind { name: "time_nanos", of: Of::Nanos(|row| row.time()) },
    Kind { name: "ts_recv_nanos", of: Of::Nanos(|row| row.ts_recv()) },
];

impl Rows {
    fn columns(self) -> impl Iterator<Item = &'static Kind> {
        KINDS.iter().filter(move |kind| match self {
            Self::All => true,
            Self::Quotes => [
                "time",
                "ts_recv",
                "symbol",
                "bid",
                "bid_size",
                "ask",
                "ask_size",
                "time_nanos",
                "ts_recv_nanos",
            ]
            .contains(&kind.name),
            Self::Trades => [
                "time",
                "ts_recv",
                "symbol",
                "price",
                "size",
                "side",
                "conditions",
                "counts",
                "time_nanos",
                "ts_recv_nanos",
            ]
            .contains(&kind.name),
        })
    }
}

impl<'a> Row<'a> {
    /// `None` for what is not written.
    fn of(event: &'a Event, instruments: &'a Instruments) -> Option<Self> {
        let instrument: Option<&Arc<Instrument>> = match (event, event.instrument()) {
            (Event::Instrument(definition), _) => Some(definition),
            (_, Some(id)) => Some(instruments.get(id)?),
            (_, None) => None,
        };
        let row = Self { event, instrument: instrument.map(|instrument| &**instrument) };
        row.kind().is_some().then_some(row)
    }

    fn kind(&self) -> Option<&'static str> {
        Some(match self.event {
            Event::Quote(..) => "quote",
            Event::Trade(_, trade) if trade.counts.is_break() => "cancel",
            Event::Trade(..) => "trade",
            Event::Status(..) => "status",
            Event::Instrument(_) => "instrument",
            Event::Feed(_) | Event::Snapshot(..) | Event::Posted(_) | Event::Reset => {
                return None;
            }
        })
    }

    fn time(&self) -> Option<Timestamp> {
        match self.event {
            Event::Quote(_, quote) => Some(quote.ts_event),
            Event::Trade(_, trade) => Some(trade.ts_event),
            Event::Status(_, status) => Some(status.ts_event),
            _ => None,
        }
    }

    fn ts_recv(&self) -> Option<Timestamp> {
        match self.event {
            Event::Quote(_, quote) => Some(quote.ts_recv),
            Event::Trade(_, trade) => Some(trade.ts_recv),
            _ => None,
        }
    }

    /// Price and size of one side of a quote, if it has a price.
    #[expect(clippy::type_complexity, reason = "two decimals")]
    fn side(
        &self,
        side: fn(&crate::market::Quote) -> (Price, Size),
    ) -> Option<(Option<(i128, u8)>, Option<(i128, u8)>)> {
        let (Event::Quote(_, quote), Some(x)) = (self.event, self.instrument) else { return None };
        let (price, size) = side(quote);
        (!price.is_none()).then(|| (Some((price.units(), x.price_scale)), Some((size.units(), x.size_scale))))
    }

    fn trade<T>(&self, of: impl FnOnce(&crate::market::Trade, &Instrument) -> Option<T>) -> Option<T> {
        let (Event::Trade(_, trade), Some(instrument)) = (self.event, self.instrument) else { return None };
        of(trade, instrument)
    }

    fn state(&self) -> Option<String> {
        let Event::Status(_, status) = self.event else { return None };
        Some(status.state.name().to_owned())
    }

    fn definition(&self) -> Option<&Instrument> {
        self.instrument.filter(|_| matches!(self.event, Event::Instrument(_)))
    }

    fn text(&self, of: fn(&Instrument) -> &String) -> Option<String> {
        self.definition().map(of).filter(|text| !text.is_empty()).cloned()
    }
}

impl Column {
    fn new(kind: &'static Kind, digits: Digits) -> Self {
        let decimals = match kind.of {
            Of::Decimal(_, family) => digits.decimals(family),
            _ => Decimals { precision: 0, scale: 0 },
        };
        let values = match (&kind.of, decimals.precision) {
            (Of::Text(_), _) => Values::Text(Vec::new()),
            (Of::Time(_), _) | (Of::Decimal(..), 10..=LONG_DIGITS) => Values::Long(Vec::new()),
            (Of::Scale(_) | Of::Nanos(_), _) | (Of::Decimal(..), ..=INT_DIGITS) => Values::Int(Vec::new()),
            (Of::Decimal(..), _) => Values::Wide(Vec::new()),
        };
        Self { kind, decimals, levels: Vec::new(), values }
    }

    fn push(&mut self, row: &Row<'_>) {
        let decimals = self.decimals;
        let is_there = match (&self.kind.of, &mut self.values) {
            (Of::Text(of), Values::Text(values)) => push(values, of(row), |text| text.as_str().into()),
            (Of::Time(of), Values::Long(values)) => {
                push(values, of(row), |time| time.nanos().div_euclid(1_000))
            }
            (Of::Nanos(of), Values::Int(values)) => {
                push(values, of(row), |time| i32::try_from(time.nanos().rem_euclid(1_000)).unwrap_or(0))
            }
            // `Digits` has seen them all, so they fit.
            (Of::Decimal(of, _), Values::Int(values)) => {
                push(values, of(row), |number| i32::try_from(decimals.units(number)).expect("nine digits"))
            }
            (Of::Decimal(of, _), Values::Long(values)) => {
                push(values, of(row), |number| i64::try_from(decimals.units(number)).expect("18 digits"))
            }
            (Of::Decimal(of, _), Values::Wide(values)) => {
                push(values, of(row), |number| decimals.units(number).to_be_bytes().to_vec().into())
            }
            (Of::Scale(of), Values::Int(values)) => push(values, of(row), Into::into),
            _ => unreachable!("made for each other"),
        };
        self.levels.push(i16::from(is_there));
    }

    fn write(&mut self, mut to: SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        fn put<T: DataType>(
            to: &mut SerializedColumnWriter<'_>,
            values: &mut Vec<T::T>,
            levels: &[i16],
        ) -> Result<(), ParquetError> {
            to.typed::<T>().write_batch(values, Some(levels), None)?;
            values.clear();
            Ok(())
        }
        match &mut self.values {
            Values::Text(values) => put::<ByteArrayType>(&mut to, values, &self.levels)?,
            Values::Long(values) => put::<Int64Type>(&mut to, values, &self.levels)?,
            Values::Wide(values) => put::<FixedLenByteArrayType>(&mut to, values, &self.levels)?,
            Values::Int(values) => put::<Int32Type>(&mut to, values, &self.levels)?,
        }
        self.levels.clear();
        to.close()
    }
}

/// Pushes a value, if there is one; returns whether there was.
fn push<T, V>(values: &mut Vec<V>, value: Option<T>, as_stored: impl FnOnce(T) -> V) -> bool {
    let before = values.len();
    values.extend(value.map(as_stored));
    values.len() > before
}

impl<W: Write + Send> ParquetExport<W> {
    /// # Errors
    /// Those of the temporary file.
    pub fn new(to: W, rows: Rows) -> io::Result<Self> {
        let file = tempfile::tempfile()?;
        let kept = TapeExport::new(BufWriter::new(file.try_clone()?), &RecordingHeader::default())?;
        Ok(Self { to, rows, kept: Box::new(kept), file, digits: Digits::default() })
    }
}

impl<W: Write + Send> Table<W> {
    fn new(to: W, rows: Rows, digits: Digits) -> io::Result<Self> {
        let mut schema = "message event {".to_owned();
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(parquet::basic::ZstdLevel::default()));
        let columns: Vec<_> =
            rows.columns().filter(|kind| digits.nanos || !matches!(kind.of, Of::Nanos(_))).collect();
        for Kind { name, of } in &columns {
            let (stored, meaning) = match of {
                Of::Text(_) => ("binary", "STRING".to_owned()),
                Of::Time(_) => ("int64", "TIMESTAMP(MICROS,true)".to_owned()),
                Of::Nanos(_) => ("int32", "INTEGER(16,true)".to_owned()),
                Of::Decimal(_, family) => {
                    let decimals = digits.decimals(*family);
                    if decimals.precision > MOST_DIGITS {
                        let reason = format!(
                            "{name} needs {} digits, and Parquet has {MOST_DIGITS}",
                            decimals.precision
                        );
                        return Err(io::Error::other(reason));
                    }
                    (decimals.stored(), format!("DECIMAL({},{})", decimals.precision, decimals.scale))
                }
                Of::Scale(_) => ("int32", "INTEGER(8,false)".to_owned()),
            };
            for part in ["optional ", stored, " ", name, " (", &meaning, ");"] {
                schema.push_str(part);
            }
            if let Of::Time(_) = of {
                // Times rarely repeat, and grow in small steps.
                properties = properties
                    .set_column_dictionary_enabled((*name).into(), false)
                    .set_column_encoding((*name).into(), Encoding::DELTA_BINARY_PACKED);
            }
        }
        schema.push('}');
        let schema = Arc::new(parse_message_type(&schema).map_err(told)?);
        let file = SerializedFileWriter::new(to, schema, Arc::new(properties.build())).map_err(told)?;
        let columns = columns.into_iter().map(|kind| Column::new(kind, digits)).collect();
        Ok(Self { file, columns, count: 0 })
    }

    fn push(&mut self, row: &Row<'_>) -> Result<(), ParquetError> {
        for column in &mut self.columns {
            column.push(row);
        }
        self.count += 1;
        if self.count == GROUP_ROWS { self.close_group() } else { Ok(()) }
    }

    fn close_group(&mut self) -> Result<(), ParquetError> {
        self.count = 0;
        let mut group = self.file.next_row_group()?;
        for column in &mut self.columns {
            let to = group.next_column()?;
            column.write(to.ok_or_else(|| ParquetError::General("a column too many".to_owned()))?)?;
        }
        group.close().map(drop)
    }

    fn finish(mut self) -> Result<W, ParquetError> {
        if self.count > 0 {
            self.close_group()?;
        }
        self.file.into_inner()
    }
}

/// The rows of some events.
fn rows_of<'a>(
    events: &'a [Event],
    rows: Rows,
    instruments: &'a Instruments,
) -> impl Iterator<Item = Row<'a>> {
    let is_wanted = move |event: &&Event| match rows {
        Rows::All => true,
        Rows::Quotes => matches!(event, Event::Quote(..)),
        Rows::Trades => matches!(event, Event::Trade(..)),
    };
    events.iter().filter(is_wanted).filter_map(|event| Row::of(event, instruments))
}

impl<W: Write + Send> Export for ParquetExport<W> {
    fn batch(&mut self, time: Timestamp, events: Vec<Event>, instruments: &Instruments) -> io::Result<()> {
        let columns: Vec<_> = self.rows.columns().collect();
        for row in rows_of(&events, self.rows, instruments) {
            self.digits.add(&row, &columns);
        }
        self.kept.batch(time, events, instruments)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let Self { to, rows, kept, mut file, digits } = *self;
        kept.finish()?;
        file.rewind()?;
        let unreadable =
            |reason: String| io::Error::other(format!("what was kept cannot be read back: {reason}"));
        let mut feed = Recording::new("export".to_owned(), zstd::Decoder::new(BufReader::new(file))?)
            .map_err(|error| unreadable(error.to_string()))?;
        let mut table = Table::new(to, rows, digits)?;
        let (mut instruments, mut events) = (Instruments::default(), Vec::new());
        while feed
            .next(&mut instruments, &mut events)
            .map_err(|error| unreadable(error.to_string()))?
            .is_some()
        {
            for row in rows_of(&events, rows, &instruments) {
                table.push(&row).map_err(told)?;
            }
            events.clear();
        }
        table.finish().map_err(told)?.flush()
    }
}

/// Unwraps the file's own error.
fn told(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => {
            cause.downcast::<io::Error>().map_or_else(io::Error::other, |error| *error)
        }
        error => io::Error::other(error),
    }
}
