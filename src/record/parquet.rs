use super::export::{Export, Rows};
use crate::market::{Event, Instrument, Instruments, Price, Side, Size, Timestamp};
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArrayType, DataType, FixedLenByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use std::io::{self, Write};
use std::sync::Arc;

/// Rows of a group, which is kept in memory until it is full: some 50 MB.
const GROUP_ROWS: usize = 128 << 10;
/// Decimals of every price and size: the finest scale an instrument may have, so that each value is exact whatever comes later in the file.
const SCALE: u8 = crate::market::MAX_SCALE;

/// Parquet: the columns of the CSV form, with types.
pub struct ParquetExport<W: Write + Send> {
    file: SerializedFileWriter<W>,
    rows: Rows,
    columns: Vec<Column>,
    /// Rows in the open group.
    count: usize,
}

/// A column of the open group: what is there, and for each row whether something is (1) or not (0).
struct Column {
    kind: &'static Kind,
    levels: Vec<i16>,
    values: Values,
}

enum Values {
    Text(Vec<parquet::data_type::ByteArray>),
    Time(Vec<i64>),
    Decimal(Vec<parquet::data_type::FixedLenByteArray>),
    Scale(Vec<i32>),
}

/// What a column is called, and where its values come from.
struct Kind {
    name: &'static str,
    of: Of,
}

enum Of {
    Text(fn(&Row<'_>) -> Option<String>),
    Time(fn(&Row<'_>) -> Option<Timestamp>),
    Decimal(fn(&Row<'_>) -> Option<(i64, u8)>),
    Scale(fn(&Row<'_>) -> Option<u8>),
}

/// One event, with the instrument it is of.
struct Row<'a> {
    event: &'a Event,
    instrument: Option<&'a Instrument>,
}

static KINDS: [Kind; 20] = [
    Kind { name: "type", of: Of::Text(|row| row.kind().map(str::to_owned)) },
    Kind { name: "time", of: Of::Time(|row| row.time()) },
    Kind { name: "ts_recv", of: Of::Time(|row| row.ts_recv()) },
    Kind { name: "symbol", of: Of::Text(|row| row.instrument.map(|x| x.symbol.to_string())) },
    Kind { name: "bid", of: Of::Decimal(|row| row.side(|quote| (quote.bid, quote.bid_size))?.0) },
    Kind { name: "bid_size", of: Of::Decimal(|row| row.side(|quote| (quote.bid, quote.bid_size))?.1) },
    Kind { name: "ask", of: Of::Decimal(|row| row.side(|quote| (quote.ask, quote.ask_size))?.0) },
    Kind { name: "ask_size", of: Of::Decimal(|row| row.side(|quote| (quote.ask, quote.ask_size))?.1) },
    Kind {
        name: "price",
        of: Of::Decimal(|row| row.trade(|trade, x| Some((trade.price.units(), x.price_scale)))),
    },
    Kind {
        name: "size",
        of: Of::Decimal(|row| row.trade(|trade, x| Some((trade.size.units(), x.size_scale)))),
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
    Kind { name: "tick_size", of: Of::Decimal(|row| row.definition().map(|x| (x.tick_size, x.price_scale))) },
    Kind { name: "price_scale", of: Of::Scale(|row| row.definition().map(|x| x.price_scale)) },
    Kind { name: "size_scale", of: Of::Scale(|row| row.definition().map(|x| x.size_scale)) },
    Kind {
        name: "previous_close",
        of: Of::Decimal(|row| {
            let definition = row.definition().filter(|x| !x.previous_close.is_none())?;
            Some((definition.previous_close.units(), definition.price_scale))
        }),
    },
];

impl Rows {
    fn columns(self) -> impl Iterator<Item = &'static Kind> {
        KINDS.iter().filter(move |kind| match self {
            Self::All => true,
            Self::Quotes => {
                ["time", "ts_recv", "symbol", "bid", "bid_size", "ask", "ask_size"].contains(&kind.name)
            }
            Self::Trades => {
                ["time", "ts_recv", "symbol", "price", "size", "side", "conditions"].contains(&kind.name)
            }
        })
    }
}

impl<'a> Row<'a> {
    /// `None` for what is not written.
    fn of(event: &'a Event, instruments: &'a Instruments) -> Option<Self> {
        let instrument: Option<&Arc<Instrument>> = match event {
            Event::Quote(id, _) | Event::Trade(id, _) => Some(instruments.get(*id)?),
            Event::Status(id, _) => id.and_then(|id| instruments.get(id)),
            Event::Instrument(definition) => Some(definition),
            Event::Feed(_) | Event::Snapshot(..) | Event::Stats(_) | Event::Reset => return None,
        };
        Some(Self { event, instrument: instrument.map(|instrument| &**instrument) })
    }

    fn kind(&self) -> Option<&'static str> {
        Some(match self.event {
            Event::Quote(..) => "quote",
            Event::Trade(..) => "trade",
            Event::Status(..) => "status",
            Event::Instrument(_) => "instrument",
            Event::Feed(_) | Event::Snapshot(..) | Event::Stats(_) | Event::Reset => return None,
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

    /// Price and size of one side of a quote, where it has a price.
    #[expect(clippy::type_complexity, reason = "two decimals")]
    fn side(
        &self,
        side: fn(&crate::market::Quote) -> (Price, Size),
    ) -> Option<(Option<(i64, u8)>, Option<(i64, u8)>)> {
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
    fn new(kind: &'static Kind) -> Self {
        let values = match kind.of {
            Of::Text(_) => Values::Text(Vec::new()),
            Of::Time(_) => Values::Time(Vec::new()),
            Of::Decimal(_) => Values::Decimal(Vec::new()),
            Of::Scale(_) => Values::Scale(Vec::new()),
        };
        Self { kind, levels: Vec::new(), values }
    }

    fn push(&mut self, row: &Row<'_>) {
        let is_there = match (&self.kind.of, &mut self.values) {
            (Of::Text(of), Values::Text(values)) => push(values, of(row), |text| text.as_str().into()),
            (Of::Time(of), Values::Time(values)) => push(values, of(row), |time| time.nanos()),
            (Of::Decimal(of), Values::Decimal(values)) => {
                push(values, of(row), |&(units, scale)| decimal(units, scale).to_vec().into())
            }
            (Of::Scale(of), Values::Scale(values)) => push(values, of(row), |&scale| scale.into()),
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
            Values::Time(values) => put::<Int64Type>(&mut to, values, &self.levels)?,
            Values::Decimal(values) => put::<FixedLenByteArrayType>(&mut to, values, &self.levels)?,
            Values::Scale(values) => put::<Int32Type>(&mut to, values, &self.levels)?,
        }
        self.levels.clear();
        to.close()
    }
}

/// Whether there was a value.
fn push<T, V>(values: &mut Vec<V>, value: Option<T>, as_stored: impl FnOnce(&T) -> V) -> bool {
    values.extend(value.as_ref().map(as_stored));
    value.is_some()
}

/// Units at the scale of all, big-endian. Units stay below 2^53, so 38 digits are enough.
fn decimal(units: i64, scale: u8) -> [u8; 16] {
    (i128::from(units) * 10_i128.pow(u32::from(SCALE - scale))).to_be_bytes()
}

impl<W: Write + Send> ParquetExport<W> {
    /// # Errors
    /// Those of the writer.
    pub fn new(to: W, rows: Rows) -> io::Result<Self> {
        let mut schema = "message event {".to_owned();
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(parquet::basic::ZstdLevel::default()));
        for Kind { name, of } in rows.columns() {
            schema += &match of {
                Of::Text(_) => format!("optional binary {name} (STRING);"),
                Of::Time(_) => format!("optional int64 {name} (TIMESTAMP(NANOS,true));"),
                Of::Decimal(_) => format!("optional fixed_len_byte_array(16) {name} (DECIMAL(38,{SCALE}));"),
                Of::Scale(_) => format!("optional int32 {name} (INTEGER(8,false));"),
            };
            if let Of::Time(_) = of {
                // Times hardly repeat, and grow by little.
                properties = properties
                    .set_column_dictionary_enabled((*name).into(), false)
                    .set_column_encoding((*name).into(), Encoding::DELTA_BINARY_PACKED);
            }
        }
        schema.push('}');
        let schema = Arc::new(parse_message_type(&schema).map_err(told)?);
        let file = SerializedFileWriter::new(to, schema, Arc::new(properties.build())).map_err(told)?;
        Ok(Self { file, rows, columns: rows.columns().map(Column::new).collect(), count: 0 })
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
}

impl<W: Write + Send> Export for ParquetExport<W> {
    fn batch(&mut self, _: Timestamp, events: Vec<Event>, instruments: &Instruments) -> io::Result<()> {
        let rows = self.rows;
        let is_wanted = |event: &&Event| match rows {
            Rows::All => true,
            Rows::Quotes => matches!(event, Event::Quote(..)),
            Rows::Trades => matches!(event, Event::Trade(..)),
        };
        for row in events.iter().filter(is_wanted).filter_map(|event| Row::of(event, instruments)) {
            for column in &mut self.columns {
                column.push(&row);
            }
            self.count += 1;
            if self.count == GROUP_ROWS {
                self.close_group().map_err(told)?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.count > 0 {
            self.close_group().map_err(told)?;
        }
        self.file.into_inner().map_err(told)?.flush()
    }
}

/// What was wrong with the file is told as it was.
fn told(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => {
            cause.downcast::<io::Error>().map_or_else(io::Error::other, |error| *error)
        }
        error => io::Error::other(error),
    }
}
