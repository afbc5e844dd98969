use super::clock::Clock;
use super::unpack::Input;
use crate::feed::text::intern;
use crate::feed::{Feed, FeedError};
use crate::market::{
    Conditions, Event, FeedKind, InstrumentId, Instruments, NumberError, QuoteValues, Side, SymbolError,
    Timestamp,
};
use dbn::decode::dbn::fsm::{DbnFsm, ProcessResult};
use dbn::{
    Action, BboMsg, BidAskPair, Mbp1Msg, Metadata, RecordHeader, RecordRef, Schema, TradeMsg, TsSymbolMap,
};
use rust_decimal::Decimal;
use std::io::{self, Read};

/// The most metadata that is read: enough for the mappings of some 400,000 symbols.
const MAX_METADATA: u32 = 64 << 20;

/// A Databento file of version 1 to 3 with schema `mbp-1`, `tbbo`, `trades`, `bbo-1s` or `bbo-1m`; one record a batch.
///
/// The order within a record is that of the market: a trade of `mbp-1` comes before the quote it left behind, one of
/// `tbbo` after the quote it met. The timeline is the time of arrival, by which such files are sorted.
pub struct Dbn {
    file: String,
    input: Input,
    decoder: DbnFsm,
    symbols: TsSymbolMap,
    schema: Schema,
    clock: Clock,
    records: u64,
    ended: bool,
}

/// Why a file is no DBN that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbnError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Dbn(#[from] dbn::Error),
    #[error("{len} bytes of metadata exceed the limit of {MAX_METADATA}")]
    MetadataTooLarge { len: u32 },
    #[error("the file does not start with DBN")]
    NotDbn,
    #[error("the file breaks off in its metadata")]
    Truncated,
    #[error("schema {schema} is not supported: expected mbp-1, tbbo, trades, bbo-1s or bbo-1m")]
    Schema { schema: String },
}

/// Why a record is no quote or trade.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Dbn(#[from] dbn::Error),
    #[error("the file breaks off in a record")]
    Truncated,
    #[error("it has neither a time of arrival nor one of the venue")]
    NoTime,
    #[error("instrument id {id} has no symbol at {time}")]
    NoSymbol { id: u32, time: Timestamp },
    #[error("the trade has no price")]
    NoPrice,
    #[error("{0}")]
    Symbol(#[from] SymbolError),
    #[error("{0}")]
    Number(#[from] NumberError),
}

impl Dbn {
    /// Reads the metadata.
    pub(super) fn new(file: String, mut input: Input) -> Result<Self, DbnError> {
        let mut prelude = [0; 8];
        input.read_exact(&mut prelude).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => DbnError::Truncated,
            _ => error.into(),
        })?;
        if !prelude.starts_with(b"DBN") {
            return Err(DbnError::NotDbn);
        }
        // The decoder would take its memory on the word of this length.
        let len = u32::from_le_bytes([prelude[4], prelude[5], prelude[6], prelude[7]]);
        if len > MAX_METADATA {
            return Err(DbnError::MetadataTooLarge { len });
        }
        let mut decoder = DbnFsm::builder().build()?;
        decoder.write_all(&prelude);
        let metadata = read_metadata(&mut input, &mut decoder)?;
        let schema = match metadata.schema {
            Some(schema @ (Schema::Mbp1 | Schema::Tbbo | Schema::Trades | Schema::Bbo1S | Schema::Bbo1M)) => {
                schema
            }
            Some(other) => return Err(DbnError::Schema { schema: other.to_string() }),
            None => return Err(DbnError::Schema { schema: "mixed (a live session)".to_owned() }),
        };
        let symbols = TsSymbolMap::from_metadata(&metadata)?;
        Ok(Self { file, input, decoder, symbols, schema, clock: Clock::default(), records: 0, ended: false })
    }

    /// Makes the next record the decoder's last; false at the end of the file.
    fn advance(&mut self) -> Result<bool, RecordError> {
        loop {
            match self.decoder.process() {
                ProcessResult::Record(()) => return Ok(true),
                ProcessResult::Metadata(_) => {}
                ProcessResult::Err(error) => return Err(error.into()),
                ProcessResult::ReadMore(_) => {
                    let got = self.input.read(self.decoder.space())?;
                    if got == 0 {
                        let whole = self.decoder.data().is_empty();
                        return if whole { Ok(false) } else { Err(RecordError::Truncated) };
                    }
                    self.decoder.fill(got);
                }
            }
        }
    }
}

impl Feed for Dbn {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        while !self.ended {
            let read = match self.advance() {
                Ok(true) => {
                    self.records += 1;
                    let record = self.decoder.last_record();
                    record.map_or(Ok(None), |record| {
                        read_record(record, self.schema, &self.symbols, instruments, out)
                    })
                }
                Ok(false) => {
                    self.ended = true;
                    Ok(None)
                }
                Err(error) => {
                    // Records have no marks between them: after a broken one the next cannot be found.
                    self.ended = true;
                    self.records += 1;
                    Err(error)
                }
            };
            if let Some(arrival) = read.map_err(|error| FeedError {
                place: format!("{} record {}", self.file, self.records),
                reason: error.to_string(),
            })? {
                return Ok(Some(self.clock.at(arrival)));
            }
        }
        Ok(None)
    }
}

fn read_metadata(input: &mut Input, decoder: &mut DbnFsm) -> Result<Metadata, DbnError> {
    loop {
        match decoder.process() {
            ProcessResult::Metadata(metadata) => return Ok(metadata),
            ProcessResult::Err(error) => return Err(error.into()),
            ProcessResult::Record(()) => return Err(DbnError::Truncated),
            ProcessResult::ReadMore(_) => {
                let got = input.read(decoder.space())?;
                if got == 0 {
                    return Err(DbnError::Truncated);
                }
                decoder.fill(got);
            }
        }
    }
}

/// Appends what a record says to `out`; its time of arrival, or `None` where it is of another kind than the schema's
/// (gateways put in messages of their own).
fn read_record(
    record: RecordRef,
    schema: Schema,
    symbols: &TsSymbolMap,
    instruments: &mut Instruments,
    out: &mut Vec<Event>,
) -> Result<Option<Timestamp>, RecordError> {
    // `has` then `try_get`: a plain `get` panics where a record is shorter than its kind must be.
    if record.has::<Mbp1Msg>() {
        let record = record.try_get::<Mbp1Msg>()?;
        let mut sink = Sink::new(&record.hd, record.ts_recv, symbols, instruments, out)?;
        let trade = (record.price, record.size, record.side().ok());
        if schema == Schema::Tbbo {
            sink.quote(&record.levels[0])?;
            sink.trade(trade)?;
        } else {
            if matches!(record.action(), Ok(Action::Trade)) {
                sink.trade(trade)?;
            }
            sink.quote(&record.levels[0])?;
        }
        Ok(Some(sink.arrival))
    } else if record.has::<TradeMsg>() {
        let record = record.try_get::<TradeMsg>()?;
        let mut sink = Sink::new(&record.hd, record.ts_recv, symbols, instruments, out)?;
        sink.trade((record.price, record.size, record.side().ok()))?;
        Ok(Some(sink.arrival))
    } else if record.has::<BboMsg>() {
        let record = record.try_get::<BboMsg>()?;
        let mut sink = Sink::new(&record.hd, record.ts_recv, symbols, instruments, out)?;
        sink.quote(&record.levels[0])?;
        Ok(Some(sink.arrival))
    } else {
        Ok(None)
    }
}

/// Where the quote and the trade of one record go.
struct Sink<'a> {
    instrument: InstrumentId,
    venue: Timestamp,
    arrival: Timestamp,
    instruments: &'a mut Instruments,
    out: &'a mut Vec<Event>,
}

impl<'a> Sink<'a> {
    fn new(
        header: &RecordHeader,
        ts_recv: u64,
        symbols: &TsSymbolMap,
        instruments: &'a mut Instruments,
        out: &'a mut Vec<Event>,
    ) -> Result<Self, RecordError> {
        let (venue, arrival) = match (time(header.ts_event), time(ts_recv)) {
            (Some(venue), Some(arrival)) => (venue, arrival),
            (Some(both), None) | (None, Some(both)) => (both, both),
            (None, None) => return Err(RecordError::NoTime),
        };
        let id = header.instrument_id;
        let symbol = symbols
            .get_for_ts(arrival.nanos().unsigned_abs(), id)
            .ok_or(RecordError::NoSymbol { id, time: arrival })?;
        let instrument = intern(symbol, instruments, out)?;
        Ok(Self { instrument, venue, arrival, instruments, out })
    }

    fn quote(&mut self, level: &BidAskPair) -> Result<(), RecordError> {
        let values = QuoteValues {
            bid: price(level.bid_px),
            bid_size: level.bid_sz.into(),
            ask: price(level.ask_px),
            ask_size: level.ask_sz.into(),
        };
        let times = (self.venue, self.arrival);
        let quote = self.instruments.quote(self.instrument, &values, times, self.out)?;
        self.out.push(Event::Quote(self.instrument, quote));
        Ok(())
    }

    fn trade(&mut self, (units, size, aggressor): (i64, u32, Option<dbn::Side>)) -> Result<(), RecordError> {
        let numbers = (price(units).ok_or(RecordError::NoPrice)?, Decimal::from(size));
        let times = (self.venue, self.arrival);
        let kind = (side(aggressor), Conditions::default());
        let trade = self.instruments.trade(self.instrument, numbers, kind, times, self.out)?;
        self.out.push(Event::Trade(self.instrument, trade));
        Ok(())
    }
}

fn side(aggressor: Option<dbn::Side>) -> Side {
    match aggressor {
        Some(dbn::Side::Ask) => Side::Sell,
        Some(dbn::Side::Bid) => Side::Buy,
        Some(dbn::Side::None) | None => Side::None,
    }
}

/// `None` where undefined, or past the year 2261.
fn time(nanos: u64) -> Option<Timestamp> {
    i64::try_from(nanos).ok().map(Timestamp::from_nanos)
}

/// DBN writes prices in units of 1e-9. The trailing zeros go, so that an instrument's scale is what its prices need.
fn price(units: i64) -> Option<Decimal> {
    if units == dbn::UNDEF_PRICE {
        return None;
    }
    let (mut units, mut scale) = (units, 9);
    while scale > 0 && units % 10 == 0 {
        units /= 10;
        scale -= 1;
    }
    Some(Decimal::new(units, scale))
}

#[cfg(test)]
mod tests;
