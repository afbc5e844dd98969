mod names;
mod records;

pub(super) use self::records::Records;

use self::names::OtherNames;
use super::unpack::Input;
use crate::feed::{Feed, FeedError, LeftOut};
use crate::market::{Event, FeedKind, Instruments, NumberError, SymbolError, Timestamp};
use dbn::decode::dbn::fsm::{DbnFsm, ProcessResult};
use dbn::{
    BboMsg, CbboMsg, Cmbp1Msg, MboMsg, Mbp1Msg, Mbp10Msg, Metadata, RecordHeader, Schema, StatusMsg,
    SymbolMappingMsg, TradeMsg, TsSymbolMap, rtype, v1, v2, v3,
};
use std::io::{self, BufRead, Read};

/// The most metadata that is read: enough for the mappings of some 400,000 symbols.
const MAX_METADATA: u32 = 64 << 20;
/// Known versions of the form.
const VERSIONS: std::ops::RangeInclusive<u8> = 1..=3;
/// From version 2 on the metadata hold at this offset the length of each symbol in them, in two bytes.
const SYMBOL_LEN_AT: usize = 45;
/// The shortest symbol length ever used: it bounds the number of symbols.
const MIN_SYMBOL_LEN: u16 = 22;
/// Every record begins with its length and kind, publisher, instrument and time.
const RECORD_HEADER: usize = size_of::<RecordHeader>();
/// The longest length that a record can state, in words of four bytes.
const MAX_RECORD: usize = 4 * u8::MAX as usize;

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
    version: u8,
    /// Bytes after each record's own: the time when it was sent, or none.
    extra: usize,
    /// Takes one record at a time, each checked and complete, so that it is aligned in its memory.
    decoder: DbnFsm,
    record: [u8; MAX_RECORD],
    records: Records,
    read: u64,
    ended: bool,
}

/// Why a file cannot be read as DBN.
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
    #[error("it is of version {0} of DBN: expected 1, 2 or 3")]
    Version(u8),
    #[error("its metadata say that symbols are of {0} bytes: expected {MIN_SYMBOL_LEN} or more")]
    SymbolLen(u16),
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
pub(super) enum RecordError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Dbn(#[from] dbn::Error),
    #[error("the file breaks off in a record")]
    Truncated,
    #[error("it says to be of {len} bytes, less than a record's header: the file cannot be read on")]
    TooShort { len: usize },
    #[error(
        "it says to be of kind {kind:#04x} and of {len} bytes, and such records have {expected}: the file cannot be read on"
    )]
    Length { kind: u8, len: usize, expected: usize },
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

/// The result of reading the next record.
enum Advance {
    /// There is none.
    End,
    /// It is of a kind that is not read.
    LeftOut,
    /// The decoder has it.
    Record,
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
        let version = prelude[3];
        if !VERSIONS.contains(&version) {
            return Err(DbnError::Version(version));
        }
        let len = u32::from_le_bytes([prelude[4], prelude[5], prelude[6], prelude[7]]);
        if len > MAX_METADATA {
            return Err(DbnError::MetadataTooLarge { len });
        }
        // The decoder allocates by the stated length, so it is given metadata only when all of it is there.
        let mut metadata = Vec::new();
        if (&mut input).take(len.into()).read_to_end(&mut metadata)? < len as usize {
            return Err(DbnError::Truncated);
        }
        if let Some(&[low, high]) = metadata.get(SYMBOL_LEN_AT..SYMBOL_LEN_AT + 2)
            && version > 1
        {
            let len = u16::from_le_bytes([low, high]);
            if len < MIN_SYMBOL_LEN {
                return Err(DbnError::SymbolLen(len));
            }
        }
        let metadata = read_metadata(prelude, &metadata)?;
        if let Some(schema) = metadata.schema
            && let Some(content) = other_content(schema)
        {
            return Err(DbnError::Schema { schema, content });
        }
        let symbols = TsSymbolMap::from_metadata(&metadata)?;
        let mut records = Records::new(metadata.schema, symbols, best_quotes);
        records.others = OtherNames::new(&metadata);
        let decoder = DbnFsm::builder()
            .skip_metadata(true)
            .input_dbn_version(Some(version))?
            .ts_out(metadata.ts_out)
            .build()?;
        Ok(Self {
            file,
            input,
            version,
            extra: if metadata.ts_out { size_of::<u64>() } else { 0 },
            decoder,
            record: [0; MAX_RECORD],
            records,
            read: 0,
            ended: false,
        })
    }

    /// Reads the next record, and passes it to the decoder if it is of a kind that is read.
    ///
    /// The decoder trusts a record's stated length, so a record with a wrong one is not given to it.
    fn advance(&mut self) -> Result<Advance, RecordError> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(Advance::End);
        }
        let (header, rest) = self.record.split_at_mut(RECORD_HEADER);
        read_whole(&mut self.input, header)?;
        let (len, kind) = (4 * usize::from(header[0]), header[1]);
        if len < RECORD_HEADER {
            return Err(RecordError::TooShort { len });
        }
        let expected = expected_len(self.version, kind).map(|expected| expected + self.extra);
        if let Some(expected) = expected.filter(|&expected| expected != len) {
            return Err(RecordError::Length { kind, len, expected });
        }
        read_whole(&mut self.input, &mut rest[..len - RECORD_HEADER])?;
        if expected.is_none() {
            return Ok(Advance::LeftOut);
        }
        self.decoder.write_all(&self.record[..len]);
        match self.decoder.process() {
            ProcessResult::Record(()) => Ok(Advance::Record),
            ProcessResult::Err(error) => Err(error.into()),
            // It was complete.
            ProcessResult::Metadata(_) | ProcessResult::ReadMore(_) => Err(RecordError::Truncated),
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
                Ok(Advance::LeftOut) => {
                    self.read += 1;
                    self.records.left_out.add("records of kind", &format!("{:#04x}", self.record[1]));
                    Ok(None)
                }
                Ok(Advance::Record) => {
                    self.read += 1;
                    let record = self.decoder.last_record();
                    record.map_or(Ok(None), |record| self.records.read(record, instruments, out))
                }
                Ok(Advance::End) => {
                    self.ended = true;
                    Ok(None)
                }
                Err(error) => {
                    // There are no marks between records: after a broken one the next cannot be found.
                    self.ended = true;
                    self.read += 1;
                    Err(error)
                }
            };
            if let Some(arrival) =
                read.map_err(|error| FeedError { place: self.place(), reason: error.to_string() })?
            {
                return Ok(Some(arrival));
            }
        }
        Ok(None)
    }

    fn left_out(&self) -> u64 {
        self.records.left_out.total()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        self.records.left_out.clone()
    }
}

impl Dbn {
    /// Of the last record.
    fn place(&self) -> String {
        format!("{} record {}", self.file, self.read)
    }
}

/// What a schema holds, for one that is not read here.
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

/// How long records of a kind are; `None` of kinds that are not read.
fn expected_len(version: u8, kind: u8) -> Option<usize> {
    Some(match kind {
        rtype::MBP_0 => size_of::<TradeMsg>(),
        rtype::MBP_1 => size_of::<Mbp1Msg>(),
        rtype::MBP_10 => size_of::<Mbp10Msg>(),
        rtype::CMBP_1 | rtype::TCBBO => size_of::<Cmbp1Msg>(),
        rtype::BBO_1S | rtype::BBO_1M => size_of::<BboMsg>(),
        rtype::CBBO_1S | rtype::CBBO_1M => size_of::<CbboMsg>(),
        rtype::MBO => size_of::<MboMsg>(),
        rtype::STATUS => size_of::<StatusMsg>(),
        rtype::INSTRUMENT_DEF => match version {
            1 => size_of::<v1::InstrumentDefMsg>(),
            2 => size_of::<v2::InstrumentDefMsg>(),
            _ => size_of::<v3::InstrumentDefMsg>(),
        },
        rtype::SYMBOL_MAPPING if version == 1 => size_of::<v1::SymbolMappingMsg>(),
        rtype::SYMBOL_MAPPING => size_of::<SymbolMappingMsg>(),
        _ => return None,
    })
}

fn read_whole(input: &mut Input, into: &mut [u8]) -> Result<(), RecordError> {
    input.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => RecordError::Truncated,
        _ => error.into(),
    })
}

fn read_metadata(prelude: [u8; 8], metadata: &[u8]) -> Result<Metadata, DbnError> {
    let mut decoder = DbnFsm::builder().buffer_size(prelude.len() + metadata.len()).build()?;
    decoder.write_all(&prelude);
    decoder.write_all(metadata);
    match decoder.process() {
        ProcessResult::Metadata(metadata) => Ok(metadata),
        ProcessResult::Err(error) => Err(error.into()),
        ProcessResult::ReadMore(_) | ProcessResult::Record(()) => Err(DbnError::Truncated),
    }
}

#[cfg(test)]
mod tests;
