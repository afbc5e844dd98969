use super::best::BestQuotes;
use super::book::DepthBook;
use super::clock::Clock;
use super::columns::{ColumnError, ColumnMapping, Field, Layout, RecordKind};
use super::lines::{LineError, Lines};
use super::times::Times;
use super::unpack::Input;
use crate::feed::text::{TimeError, intern};
use crate::feed::{Feed, FeedError};
use crate::market::{
    Conditions, Event, FeedKind, InstrumentId, Instruments, NumberError, QuoteValues, Side, Symbol,
    SymbolError, Timestamp, parse_decimal,
};
use rust_decimal::Decimal;
use rustc_hash::FxHashMap;

/// The longest line that is read.
const MAX_LINE: u64 = 64 * 1024;

/// Quotes, trades or price levels of a CSV file. One record a batch, but for price levels: of them what came in one message is one.
pub struct Csv {
    file: String,
    lines: Lines<Input>,
    records: Records,
    clock: Clock,
}

/// What is known of a CSV file beside its lines.
pub(super) struct About {
    /// As errors name it.
    pub(super) file: String,
    /// Of a file without a symbol column; only there does it matter whether it is one.
    pub(super) symbol: Result<Symbol, SymbolError>,
    pub(super) times: Times,
    /// Whether quotes of several venues are folded.
    pub(super) best_quotes: bool,
}

/// Turns lines into events.
struct Records {
    layout: Layout,
    times: Times,
    /// Of a file without a symbol column.
    symbol: Option<Symbol>,
    best: Option<BestQuotes>,
    books: FxHashMap<InstrumentId, DepthBook>,
    /// The message that the last price level belongs to: its book changes as one.
    message: Option<Message>,
    left_out: u64,
}

#[derive(Clone, Copy)]
struct Message {
    id: InstrumentId,
    venue: Timestamp,
    arrival: Timestamp,
}

/// Why a line is no quote, trade or price level.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error("{0}")]
    Line(#[from] LineError),
    #[error("{0}")]
    Csv(#[from] csv::Error),
    #[error("{got} columns where the first line has {expected}")]
    Columns { got: usize, expected: usize },
    #[error("{field}: {error}")]
    Time { field: Field, error: TimeError },
    #[error("{field}: {error}")]
    Number { field: Field, error: NumberError },
    #[error("{0}")]
    Symbol(#[from] SymbolError),
    #[error("{0}")]
    Value(#[from] NumberError),
    #[error("{field}: {text:?} is none of {expected}")]
    Word { field: Field, text: String, expected: &'static str },
    #[error("conditions: {0:?} is longer than 4 printable characters")]
    Conditions(String),
}

/// The cells of one line by [`Field`]; empty where the file has no such column.
type Cells<'a> = [&'a str; Field::ALL.len()];

impl Csv {
    /// Reads the header; `columns` says what it means, or it is one of the known ones.
    pub(super) fn new(
        input: Input,
        columns: Option<&ColumnMapping>,
        about: About,
    ) -> Result<Self, HeaderError> {
        let mut lines = Lines::new(input, MAX_LINE);
        let line = lines.next()?.ok_or(HeaderError::Empty)?;
        let header = csv_record(line.trim_start_matches('\u{feff}'))?;
        let header: Vec<_> = header.iter().map(str::trim).collect();
        let layout = match columns {
            Some(mapping) => mapping.layout(&header)?,
            None => ColumnMapping::of_header(&header)?.layout(&header)?,
        };
        Self::with(lines, layout, about)
    }

    /// Reads a file without a header, whose columns are numbered in `columns`; `first` is its first line, which `input` has, too.
    pub(super) fn without_header(
        input: Input,
        first: &str,
        columns: &ColumnMapping,
        about: About,
    ) -> Result<Self, HeaderError> {
        let layout = columns.numbered(csv_record(first)?.len())?;
        Self::with(Lines::new(input, MAX_LINE), layout, about)
    }

    fn with(lines: Lines<Input>, layout: Layout, about: About) -> Result<Self, HeaderError> {
        let About { file, symbol, times, best_quotes } = about;
        let records = Records {
            symbol: if layout.fields.contains(&Some(Field::Symbol)) { None } else { Some(symbol?) },
            layout,
            times,
            best: best_quotes.then(BestQuotes::default),
            books: FxHashMap::default(),
            message: None,
            left_out: 0,
        };
        Ok(Self { file, lines, records, clock: Clock::default() })
    }
}

/// Why a file's first line is no header.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    #[error("the header line is missing")]
    Empty,
    #[error("{0}")]
    Columns(#[from] ColumnError),
    #[error("the header cannot be read: {0}")]
    Unreadable(String),
    #[error("no column holds the symbol, and the file's name is none, so one must be given: {0}")]
    Symbol(#[from] SymbolError),
}

impl From<LineError> for HeaderError {
    fn from(error: LineError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<csv::Error> for HeaderError {
    fn from(error: csv::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl Feed for Csv {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        loop {
            let line = self.lines.next();
            let ended = matches!(line, Ok(None));
            let read = match line {
                Ok(Some(line)) => self.records.read_line(line, instruments, out),
                Ok(None) => self.records.end(instruments, out),
                Err(error) => Err(error.into()),
            };
            match read {
                Ok(Some(arrival)) => return Ok(Some(self.clock.at(arrival))),
                Ok(None) if ended => return Ok(None),
                Ok(None) => {}
                Err(error) => {
                    let place = format!("{} line {}", self.file, self.lines.number());
                    return Err(FeedError { place, reason: error.to_string() });
                }
            }
        }
    }

    fn left_out(&self) -> u64 {
        self.records.left_out
    }
}

impl Records {
    /// Appends what a line says to `out`; its time of arrival, or `None` where it says nothing yet.
    fn read_line(
        &mut self,
        line: &str,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, RecordError> {
        // Market data has no quotation marks, so that a line is split at its commas; the rest is for the real CSV reader.
        if line.contains('"') {
            let record = csv_record(line)?;
            self.read(&cells(record.iter(), &self.layout)?, instruments, out)
        } else {
            self.read(&cells(line.split(','), &self.layout)?, instruments, out)
        }
    }

    fn read(
        &mut self,
        cells: &Cells,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, RecordError> {
        let times @ (venue, arrival) = self.times(cells)?;
        let name = self.symbol.as_ref().map_or(cells[Field::Symbol as usize], Symbol::as_str);
        match self.layout.kind {
            RecordKind::Quotes => {
                let mut values = quote_values(cells, &self.layout)?;
                let id = intern(name, instruments, out)?;
                if let Some(best) = &mut self.best {
                    match best.fold(id, cells[Field::Venue as usize].as_bytes(), values) {
                        Some(best) => values = best,
                        None => return Ok(None),
                    }
                }
                let quote = instruments.quote(id, &values, times, out)?;
                out.push(Event::Quote(id, quote));
            }
            RecordKind::Trades => {
                if !stands(cells)? {
                    self.left_out += 1;
                    return Ok(None);
                }
                let numbers = (number(cells, Field::Price)?, size(cells, Field::Size)?);
                let kind = (side(cells)?, conditions(cells)?);
                let id = intern(name, instruments, out)?;
                let trade = instruments.trade(id, numbers, kind, times, out)?;
                out.push(Event::Trade(id, trade));
            }
            RecordKind::Levels => {
                let (price, size) = (number(cells, Field::Price)?, size(cells, Field::Size)?);
                let (side, snapshot) = (side(cells)?, is_snapshot(cells)?);
                if side == Side::None {
                    return Err(word(Field::Side, cells[Field::Side as usize], "bid or ask"));
                }
                let message = Message { id: intern(name, instruments, out)?, venue, arrival };
                let told = self.end_unless(Some(message), instruments, out);
                let book = self.books.entry(message.id).or_default();
                if !book.set_row(side, price, size, snapshot) {
                    self.left_out += 1;
                }
                self.message = Some(message);
                return told;
            }
        }
        Ok(Some(arrival))
    }

    /// What the last message of a file of price levels has changed.
    fn end(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, RecordError> {
        self.end_unless(None, instruments, out)
    }

    /// Tells the book of the last message, unless the next price level belongs to that message too.
    fn end_unless(
        &mut self,
        next: Option<Message>,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, RecordError> {
        let is_of =
            |last: &Message| next.is_some_and(|next| (next.id, next.arrival) == (last.id, last.arrival));
        let Some(Message { id, venue, arrival }) = self.message.take_if(|last| !is_of(last)) else {
            return Ok(None);
        };
        let Some(values) = self.books.get_mut(&id).and_then(DepthBook::changed) else { return Ok(None) };
        let quote = instruments.quote(id, &values, (venue, arrival), out)?;
        out.push(Event::Quote(id, quote));
        Ok(Some(arrival))
    }

    /// The venue's time and the time of arrival; where the file has one of them, it is both.
    fn times(&self, cells: &Cells) -> Result<(Timestamp, Timestamp), RecordError> {
        let time = |field: Field| {
            self.times.parse(cells[field as usize]).map_err(|error| RecordError::Time { field, error })
        };
        match (cells[Field::Time as usize], cells[Field::TsRecv as usize]) {
            (_, "") => time(Field::Time).map(|both| (both, both)),
            ("", _) => time(Field::TsRecv).map(|both| (both, both)),
            _ => Ok((time(Field::Time)?, time(Field::TsRecv)?)),
        }
    }
}

fn cells<'a>(line: impl Iterator<Item = &'a str>, layout: &Layout) -> Result<Cells<'a>, RecordError> {
    let mut cells = [""; Field::ALL.len()];
    let mut got = 0;
    for cell in line {
        if let Some(&Some(field)) = layout.fields.get(got) {
            cells[field as usize] = cell;
        }
        got += 1;
    }
    let expected = layout.fields.len();
    if got == expected { Ok(cells) } else { Err(RecordError::Columns { got, expected }) }
}

fn csv_record(line: &str) -> Result<csv::StringRecord, csv::Error> {
    let mut record = csv::StringRecord::new();
    csv::ReaderBuilder::new()
        .has_headers(false)
        .buffer_capacity(line.len().max(1))
        .from_reader(line.as_bytes())
        .read_record(&mut record)?;
    Ok(record)
}

fn quote_values(cells: &Cells, layout: &Layout) -> Result<QuoteValues, RecordError> {
    let price = |field: Field| match cells[field as usize] {
        "" => Ok(None),
        _ => number(cells, field).map(|price| Some(price).filter(|p| !(layout.zero_is_empty && p.is_zero()))),
    };
    let size = |field| {
        let size = size(cells, field)?;
        if layout.size_unit == 1 {
            return Ok(size);
        }
        let (value, scale) = (size, 0);
        size.checked_mul(layout.size_unit.into())
            .ok_or(RecordError::Number { field, error: NumberError::OutOfRange { value, scale } })
    };
    Ok(QuoteValues {
        bid: price(Field::Bid)?,
        bid_size: size(Field::BidSize)?,
        ask: price(Field::Ask)?,
        ask_size: size(Field::AskSize)?,
    })
}

fn number(cells: &Cells, field: Field) -> Result<Decimal, RecordError> {
    parse_decimal(cells[field as usize]).map_err(|error| RecordError::Number { field, error })
}

/// 0 where the file does not say.
fn size(cells: &Cells, field: Field) -> Result<Decimal, RecordError> {
    if cells[field as usize].is_empty() { Ok(Decimal::ZERO) } else { number(cells, field) }
}

fn side(cells: &Cells) -> Result<Side, RecordError> {
    match cells[Field::Side as usize] {
        "buy" | "BUY" | "Buy" | "b" | "B" | "bid" => Ok(Side::Buy),
        "sell" | "SELL" | "Sell" | "s" | "S" | "ask" => Ok(Side::Sell),
        "" | "none" | "unknown" => Ok(Side::None),
        text => Err(word(Field::Side, text, "buy, sell, or empty")),
    }
}

fn is_snapshot(cells: &Cells) -> Result<bool, RecordError> {
    let text = cells[Field::Snapshot as usize];
    text.parse().map_err(|_| word(Field::Snapshot, text, "true or false"))
}

/// Whether a trade is good, or one that holds the values it was corrected to (0 to 2). From 7 on it is one that was cancelled or was an
/// error, or the note of that: whoever prints them counts trades that do not stand.
fn stands(cells: &Cells) -> Result<bool, RecordError> {
    match cells[Field::Correction as usize] {
        "" => Ok(true),
        text => match text.trim().parse::<u8>() {
            Ok(indicator) => Ok(indicator < 7),
            Err(_) => Err(word(Field::Correction, text, "the numbers from 0 to 12")),
        },
    }
}

fn word(field: Field, text: &str, expected: &'static str) -> RecordError {
    RecordError::Word { field, text: text.chars().take(40).collect(), expected }
}

fn conditions(cells: &Cells) -> Result<Conditions, RecordError> {
    let text = cells[Field::Conditions as usize];
    Conditions::new(text).ok_or_else(|| RecordError::Conditions(text.chars().take(40).collect()))
}

#[cfg(test)]
mod tests;
