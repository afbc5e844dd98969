mod records;

use self::records::Records;
use super::clock::Clock;
use super::unpack::Input;
use crate::feed::{Feed, FeedError};
use crate::market::{Event, FeedKind, Instruments, NumberError, SymbolError, Timestamp};
use dbn::decode::dbn::fsm::{DbnFsm, ProcessResult};
use dbn::{Metadata, Schema, TsSymbolMap};
use std::io::{self, Read};

/// The most metadata that is read: enough for the mappings of some 400,000 symbols.
const MAX_METADATA: u32 = 64 << 20;

/// A Databento file of version 1 to 3, or a live session of mixed records; one record a batch.
///
/// | schema | gives |
/// |---|---|
/// | `mbp-1`, `cmbp-1` | a quote a record, with the trade that led to it in front |
/// | `tbbo`, `tcbbo` | the quote that a trade met, and then the trade |
/// | `bbo-1s`, `bbo-1m`, `cbbo-1s`, `cbbo-1m` | a quote a record |
/// | `trades` | trades |
/// | `mbp-10` | trades, and quotes where the best level changes |
/// | `mbo` | trades, and quotes where the orders' best prices change, at the end of each event |
/// | `status` | trading states |
/// | `definition` | tick size and currency of instruments |
///
/// The timeline is the time of arrival, by which such files are sorted.
pub struct Dbn {
    file: String,
    input: Input,
    decoder: DbnFsm,
    records: Records,
    clock: Clock,
    read: u64,
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
    #[error(
        "schema {schema} holds {content}, and neither quotes nor trades: expected mbp-1, mbp-10, mbo, tbbo, trades, bbo, cmbp-1, tcbbo, cbbo, \
         status or definition"
    )]
    Schema { schema: Schema, content: &'static str },
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
    #[error("order {id} is not in the book of {symbol}")]
    NoOrder { id: u64, symbol: String },
    #[error("{0}")]
    Symbol(#[from] SymbolError),
    #[error("{0}")]
    Number(#[from] NumberError),
}

impl Dbn {
    /// Reads the metadata.
    pub(super) fn new(file: String, mut input: Input, best_quotes: bool) -> Result<Self, DbnError> {
        let mut prelude = [0; 8];
        input.read_exact(&mut prelude).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => DbnError::Truncated,
            _ => error.into(),
        })?;
        if !prelude.starts_with(b"DBN") {
            return Err(DbnError::NotDbn);
        }
        let len = u32::from_le_bytes([prelude[4], prelude[5], prelude[6], prelude[7]]);
        if len > MAX_METADATA {
            return Err(DbnError::MetadataTooLarge { len });
        }
        // The decoder would take its memory on the word of the length: it is given metadata only when all of it is there.
        let mut metadata = Vec::new();
        if (&mut input).take(len.into()).read_to_end(&mut metadata)? < len as usize {
            return Err(DbnError::Truncated);
        }
        let mut decoder = DbnFsm::builder().build()?;
        decoder.write_all(&prelude);
        let metadata = read_metadata(&mut decoder, &metadata)?;
        if let Some(schema) = metadata.schema
            && let Some(content) = other_content(schema)
        {
            return Err(DbnError::Schema { schema, content });
        }
        let symbols = TsSymbolMap::from_metadata(&metadata)?;
        let records = Records::new(metadata.schema, symbols, best_quotes);
        Ok(Self { file, input, decoder, records, clock: Clock::default(), read: 0, ended: false })
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
                    self.read += 1;
                    let record = self.decoder.last_record();
                    record.map_or(Ok(None), |record| self.records.read(record, instruments, out))
                }
                Ok(false) => {
                    self.ended = true;
                    Ok(None)
                }
                Err(error) => {
                    // Records have no marks between them: after a broken one the next cannot be found.
                    self.ended = true;
                    self.read += 1;
                    Err(error)
                }
            };
            if let Some(arrival) = read.map_err(|error| FeedError {
                place: format!("{} record {}", self.file, self.read),
                reason: error.to_string(),
            })? {
                return Ok(Some(self.clock.at(arrival)));
            }
        }
        Ok(None)
    }

    fn left_out(&self) -> u64 {
        self.records.left_out
    }
}

/// What a schema holds that is of no use here.
fn other_content(schema: Schema) -> Option<&'static str> {
    match schema {
        Schema::Ohlcv1S | Schema::Ohlcv1M | Schema::Ohlcv1H | Schema::Ohlcv1D | Schema::OhlcvEod => {
            Some("bars")
        }
        Schema::Statistics => Some("statistics of the venue"),
        Schema::Imbalance => Some("imbalances of auctions"),
        _ => None,
    }
}

fn read_metadata(decoder: &mut DbnFsm, metadata: &[u8]) -> Result<Metadata, DbnError> {
    let mut given = false;
    loop {
        match decoder.process() {
            ProcessResult::Metadata(metadata) => return Ok(metadata),
            ProcessResult::Err(error) => return Err(error.into()),
            ProcessResult::ReadMore(_) if !given => {
                decoder.write_all(metadata);
                given = true;
            }
            ProcessResult::ReadMore(_) | ProcessResult::Record(()) => return Err(DbnError::Truncated),
        }
    }
}

#[cfg(test)]
mod tests;
