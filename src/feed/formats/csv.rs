use super::best::BestQuotes;
use super::book::DepthBook;
use super::cell::{Nulls, Numbers, Read, boolean, trimmed};
use super::columns::{ColumnError, ColumnMapping, Field, Layout, RecordKind};
use super::course::Course;
use super::datetime;
use super::dialect::{Delimiter, Dialect};
use super::known;
use super::lines::{LineError, Lines};
use super::rows::{Rows, TooLong};
use super::seen::{SeenTrades, TradeId};
use super::times::Times;
use super::unpack::Input;
use crate::feed::text::{TimeError, intern};
use crate::feed::{Feed, FeedError, LeftOut, Mend, Mends, Tape};
use crate::market::{
    Conditions, Counts, Event, FeedKind, InstrumentId, Instruments, NumberError, QuoteValues, Side, Symbol,
    SymbolError, Timestamp, Trade, UnknownName,
};
use rust_decimal::Decimal;
use rustc_hash::FxHashMap;
use std::borrow::Cow;

/// The longest line that is read.
pub(super) const MAX_LINE: u64 = 64 * 1024;

/// Quotes, trades or price levels of a CSV file. A batch is one record, or all price levels of one message.
pub struct Csv {
    file: String,
    rows: Rows,
    records: Records,
    /// The error of a cell in a record that was read otherwise.
    fault: Option<FeedError>,
}

/// What is known of a CSV file other than its lines.
pub(super) struct About {
    /// As errors name it.
    pub(super) file: String,
    /// For a file without a symbol column; elsewhere it need not be valid.
    pub(super) symbol: Result<Symbol, SymbolError>,
    pub(super) times: Times,
    /// Whether quotes of several venues are folded.
    pub(super) best_quotes: bool,
    pub(super) dialect: Dialect,
    pub(super) mends: Mends,
    /// The first lines, for detecting the dialect if it is not given.
    pub(super) sample: String,
}

/// Turns lines into events.
pub(super) struct Records {
    pub(super) layout: Layout,
    delimiter: Delimiter,
    pub(super) numbers: Numbers,
    pub(super) times: Times,
    pub(super) mended: Mended,
    /// Whether there are blanks after the delimiters, which are then not part of conditions.
    has_blanks: bool,
    /// The error of a cell in a record that is valid otherwise.
    pub(super) fault: Option<RecordError>,
    /// The last quotes, if a row states only what has changed.
    quotes: FxHashMap<InstrumentId, QuoteValues>,
    /// When the row before arrived.
    last: Option<Timestamp>,
    /// Of a file without a symbol column.
    symbol: Option<Symbol>,
    best: Option<BestQuotes>,
    books: FxHashMap<InstrumentId, DepthBook>,
    /// The message that the last price level belongs to: its book changes as one.
    message: Option<Message>,
    pub(super) left_out: LeftOut,
    seen: SeenTrades,
    /// If rows can be read ahead.
    course: Option<Course>,
}

/// Counts corrections, and where they were.
pub(super) struct Mended {
    pub(super) file: String,
    /// The word for rows of the file: line, or row.
    pub(super) unit: &'static str,
    pub(super) line: u64,
    pub(super) mends: Mends,
}

impl Mended {
    pub(super) fn add(&self, mend: Mend, what: impl FnOnce() -> String) {
        self.mends.add(&self.file, mend, || format!("{} {}, {}", self.unit, self.line, what()));
    }
}

#[derive(Clone, Copy)]
struct Message {
    id: InstrumentId,
    venue: Timestamp,
    arrival: Timestamp,
}

/// Why a line is no quote, trade or price level.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
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
    #[error("counts: {0}")]
    Counts(#[from] UnknownName),
    /// Such a row may not belong to the file; it was not processed.
    #[error("its time {0} is far from that of the row before")]
    Leap(Timestamp),
}

/// The cells of one row by [`Field`]; empty if the file has no such column.
pub(super) type Cells<'a> = [Cell<'a>; Field::ALL.len()];

pub(super) const NO_CELLS: Cells<'static> = [Cell::EMPTY; Field::ALL.len()];

/// The content of a cell: text as it is written, or a value if the file has types.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    Text(&'a str),
    Number(Read),
    Time(Timestamp),
}

impl<'a> Cell<'a> {
    pub(super) const EMPTY: Self = Self::Text("");

    /// Empty if it is no text.
    fn text(self) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::Number(_) | Self::Time(_) => "",
        }
    }
}

impl Csv {
    /// Reads the header; `columns` maps it, or it is one of the known ones.
    pub(super) fn new(
        input: Input,
        columns: Option<&ColumnMapping>,
        about: About,
    ) -> Result<Self, HeaderError> {
        let mut lines = Lines::new(input, MAX_LINE);
        let line = lines.next()?.ok_or(HeaderError::Empty)?.trim_start_matches('\u{feff}');
        let delimiter = about.delimiter();
        let has_blanks = line.contains(", ") && !line.replace(", ", "").contains(',');
        let header = csv_record(line, delimiter)?;
        let header: Vec<_> = header.iter().map(trimmed).collect();
        let layout = match columns {
            Some(mapping) => mapping.layout(&header)?,
            None => known::mapping(&header)?.layout(&header)?,
        };
        Self::with(lines, layout, delimiter, has_blanks, about)
    }

    /// Reads a file without a header, whose columns are numbered in `columns`; `first` is its first line,
    /// which `input` has, too.
    pub(super) fn without_header(
        input: Input,
        first: &str,
        columns: &ColumnMapping,
        about: About,
    ) -> Result<Self, HeaderError> {
        let delimiter = about.delimiter();
        let layout = columns.numbered(csv_record(first, delimiter)?.len())?;
        Self::with(Lines::new(input, MAX_LINE), layout, delimiter, false, about)
    }

    fn with(
        lines: Lines<Input>,
        layout: Layout,
        delimiter: Delimiter,
        has_blanks: bool,
        about: About,
    ) -> Result<Self, HeaderError> {
        let order = order_in(&about.sample, &layout, delimiter);
        let file = about.file.clone();
        let mut records = Records::new(layout, delimiter, has_blanks, order, about)?;
        records.course = Some(Course::default());
        let mut rows = Rows::new(lines);
        // Price levels of one moment have an order of their own.
        if records.layout.kind != RecordKind::Levels {
            rows.put_in_order(|row| records.time_of(row))?;
        }
        Ok(Self { file, rows, records, fault: None })
    }
}

/// The meaning of the columns of a file with this first line; `None` if it is not known.
pub(super) fn layout(first: &str, columns: Option<&ColumnMapping>, delimiter: Delimiter) -> Option<Layout> {
    let record = csv_record(first.trim_start_matches('\u{feff}'), delimiter).ok()?;
    let header: Vec<_> = record.iter().map(trimmed).collect();
    match columns {
        Some(columns) if columns.is_numbered() => columns.numbered(header.len()).ok(),
        Some(columns) => columns.layout(&header).ok(),
        None => known::mapping(&header).and_then(|mapping| mapping.layout(&header)).ok(),
    }
}

impl About {
    fn delimiter(&self) -> Delimiter {
        self.dialect.delimiter.or_else(|| Delimiter::of(&self.sample)).unwrap_or(Delimiter::Comma)
    }
}

/// The order of dates in some lines, if one of them shows it.
fn order_in(sample: &str, layout: &Layout, delimiter: Delimiter) -> Option<datetime::DateOrder> {
    sample.lines().find_map(|line| {
        let (mut cells, mut quoted) = (NO_CELLS, None);
        read_cells(line, delimiter, layout, &mut quoted, &mut cells).ok()?;
        [Field::Time, Field::TsRecv].into_iter().find_map(|field| {
            datetime::order_of(&with_date(cells[field as usize].text(), cells[Field::Date as usize].text()))
        })
    })
}

/// A date and the time of day in another column.
fn with_date<'a>(time: &'a str, date: &str) -> Cow<'a, str> {
    if date.is_empty() { Cow::Borrowed(time) } else { Cow::Owned(format!("{date} {time}")) }
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
    #[error(
        "its rows go from the newest to the oldest, and it is too long to be turned round in memory: turn it round first, as `tac` does"
    )]
    NewestFirst,
    #[error("no column holds the symbol, and the file's name is none, so one must be given: {0}")]
    Symbol(#[from] SymbolError),
}

impl From<TooLong> for HeaderError {
    fn from(TooLong: TooLong) -> Self {
        Self::NewestFirst
    }
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
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        loop {
            self.records.mended.line = self.rows.upcoming();
            let line = self.rows.next();
            let ended = matches!(line, Ok(None));
            let read = match line {
                Ok(Some(line)) => self.records.read_line(line, instruments, out),
                Ok(None) => self.records.end(instruments, out),
                Err(error) => Err(error.into()),
            };
            if let Err(RecordError::Leap(time)) = read {
                self.records.fault = None;
                let behind = self.rows.look_ahead(|row| self.records.time_of(row));
                let course = self.records.course.get_or_insert_default();
                if let Err(outlier) = course.judge(time, &behind) {
                    let _ = self.rows.next();
                    return Err(FeedError { place: self.place(), reason: outlier.to_string() });
                }
                continue;
            }
            if let Some(cell) = self.records.fault.take() {
                let fault = FeedError { place: self.place(), reason: cell.to_string() };
                // The record goes first.
                match read {
                    Ok(Some(arrival)) => {
                        self.fault = Some(fault);
                        return Ok(Some(arrival));
                    }
                    Ok(None) => return Err(fault),
                    Err(_) => {}
                }
            }
            match read {
                Ok(Some(arrival)) => return Ok(Some(arrival)),
                Ok(None) if ended => return Ok(None),
                Ok(None) => {}
                Err(error) => return Err(FeedError { place: self.place(), reason: error.to_string() }),
            }
        }
    }

    fn left_out(&self) -> u64 {
        self.records.left_out.total()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        self.records.left_out.clone()
    }
}

impl Csv {
    /// Of the last record.
    fn place(&self) -> String {
        format!("{} line {}", self.file, self.rows.number())
    }
}

impl Records {
    pub(super) fn new(
        layout: Layout,
        delimiter: Delimiter,
        has_blanks: bool,
        order: Option<datetime::DateOrder>,
        about: About,
    ) -> Result<Self, SymbolError> {
        let About { file, symbol, mut times, best_quotes, dialect, mends, .. } = about;
        times.order = dialect.date_order.or(order);
        Ok(Self {
            symbol: if layout.fields.contains(&Some(Field::Symbol)) { None } else { Some(symbol?) },
            layout,
            delimiter,
            numbers: Numbers {
                sign: dialect.decimal,
                comma_is_free: delimiter != Delimiter::Comma,
                nulls: dialect.nulls,
            },
            times,
            mended: Mended { file, unit: "line", line: 0, mends },
            has_blanks,
            fault: None,
            quotes: FxHashMap::default(),
            last: None,
            best: best_quotes.then(BestQuotes::default),
            books: FxHashMap::default(),
            message: None,
            seen: SeenTrades::default(),
            course: None,
            left_out: LeftOut::default(),
        })
    }

    /// When a row arrived; `None` if it does not state it, or it cannot be read.
    fn time_of(&self, row: &str) -> Option<Timestamp> {
        let (mut cells, mut quoted) = (NO_CELLS, None);
        read_cells(row, self.delimiter, &self.layout, &mut quoted, &mut cells).ok()?;
        let text = |field: Field| {
            let cell = cells[field as usize].text();
            (!self.numbers.nulls.is_no_number(cell)).then_some(cell)
        };
        let time = text(Field::TsRecv).map(Cow::Borrowed);
        let date = cells[Field::Date as usize].text();
        let time = time.or_else(|| text(Field::Time).map(|time| with_date(time, date)))?;
        self.times.parse(&time, None).ok()
    }

    /// Appends a line's events to `out`; returns its time of arrival, or `None` if it has no events yet.
    fn read_line(
        &mut self,
        line: &str,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, RecordError> {
        let (mut cells, mut quoted) = (NO_CELLS, None);
        read_cells(line, self.delimiter, &self.layout, &mut quoted, &mut cells)?;
        self.read(&cells, instruments, out)
    }

    /// Appends a row's events to `out`; returns its time of arrival, or `None` if it has no events yet.
    pub(super) fn read(
        &mut self,
        cells: &Cells,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, RecordError> {
        let times @ (venue, arrival) = self.times(cells)?;
        if let Some(course) = &mut self.course
            && !course.follows(arrival)
        {
            return Err(RecordError::Leap(arrival));
        }
        self.last = Some(arrival);
        let kind = self.layout.kind;
        match kind {
            RecordKind::Quotes | RecordKind::Both | RecordKind::Trades => {
                let has_trade = match kind {
                    RecordKind::Trades => true,
                    RecordKind::Both => self.has_price(cells),
                    _ => false,
                };
                let mut quote = (kind != RecordKind::Trades).then(|| self.quote_values(cells, venue));
                let mut trade = if has_trade { self.trade(cells)? } else { None };
                if has_trade && trade.is_none() {
                    self.left_out.add("trades", "whose correction says that they do not stand");
                }
                if trade.is_none() && quote.is_none() {
                    return Ok(None);
                }
                let id = intern(name_of(self.symbol.as_ref(), cells), instruments, out)?;
                let known = cells[Field::TradeId as usize];
                if trade.is_some() && self.is_known(id, known) {
                    self.left_out.add("trades", "that were told before");
                    trade = None;
                }
                let before = out.len();
                if let Some(values) = &mut quote {
                    self.push_quote(id, values, cells, times, instruments, out)?;
                }
                if let Some((mut numbers, kind, counts)) = trade {
                    let trade = loop {
                        match instruments.trade(id, numbers, kind, times, out) {
                            Ok(trade) => break trade,
                            Err(error) => self.round([Some(&mut numbers.0), Some(&mut numbers.1)], error)?,
                        }
                    };
                    out.push(Event::Trade(id, Trade { counts, ..trade }));
                }
                if out.len() == before {
                    return Ok(None);
                }
            }
            RecordKind::Levels => {
                let (price, size) = (self.required(cells, Field::Price)?, self.size(cells, Field::Size)?);
                let (side, snapshot) = (side(cells)?, is_snapshot(cells)?);
                if side == Side::None {
                    return Err(word(Field::Side, cells[Field::Side as usize].text(), "bid or ask"));
                }
                let message = Message {
                    id: intern(name_of(self.symbol.as_ref(), cells), instruments, out)?,
                    venue,
                    arrival,
                };
                let told = self.end_unless(Some(message), instruments, out);
                let book = self.books.entry(message.id).or_default();
                if !book.set_row(side, price, size, snapshot) {
                    self.left_out.add("price levels", "before the first snapshot");
                }
                self.message = Some(message);
                return told;
            }
        }
        Ok(Some(arrival))
    }

    /// Emits the change by the last message of a file of price levels.
    pub(super) fn end(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, RecordError> {
        self.end_unless(None, instruments, out)
    }

    /// Emits the book of the last message, unless the next price level belongs to that message, too.
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
        let Some(mut values) = self.books.get_mut(&id).and_then(DepthBook::changed) else { return Ok(None) };
        self.emit_quote(id, &mut values, (venue, arrival), instruments, out)?;
        Ok(Some(arrival))
    }

    /// The venue's time and the time of arrival; if only one can be read, it is both.
    fn times(&mut self, cells: &Cells) -> Result<(Timestamp, Timestamp), RecordError> {
        let read = |field: Field| {
            let cell = match cells[field as usize] {
                Cell::Time(time) => return Some(Ok(time)),
                Cell::Number(number) => {
                    let text = number.value().to_string();
                    let read = self.times.parse(&text, self.last);
                    return Some(read.map_err(|error| RecordError::Time { field, error }));
                }
                Cell::Text(cell) => cell,
            };
            if cell.is_empty() || self.numbers.nulls.is_no_number(cell) {
                return None;
            }
            let date = if field == Field::Time { cells[Field::Date as usize].text() } else { "" };
            let text = with_date(cell, date);
            Some(self.times.parse(&text, self.last).map_err(|error| RecordError::Time { field, error }))
        };
        match (read(Field::Time), read(Field::TsRecv)) {
            (Some(Ok(venue)), Some(Ok(arrival))) => Ok((venue, arrival)),
            (Some(Ok(time)), None) | (None, Some(Ok(time))) => Ok((time, time)),
            (Some(Ok(time)), Some(Err(error))) | (Some(Err(error)), Some(Ok(time))) => {
                self.fault.get_or_insert(error);
                Ok((time, time))
            }
            (Some(Err(error)), _) | (None, Some(Err(error))) => Err(error),
            (None, None) => {
                let field = Field::Time;
                let cell = cells[field as usize].text();
                Err(RecordError::Time {
                    field,
                    error: self.times.parse(cell, None).err().unwrap_or_else(|| TimeError::none(cell)),
                })
            }
        }
    }

    /// A number, if there is one.
    #[inline]
    fn number(&self, cells: &Cells, field: Field) -> Result<Option<Decimal>, RecordError> {
        if let Cell::Text(cell) = cells[field as usize]
            && cell != NO_SIZE
            && let Some(number) = self.numbers.short(cell)
        {
            return Ok(Some(number));
        }
        self.any_number(cells, field)
    }

    /// The same for any cell.
    fn any_number(&self, cells: &Cells, field: Field) -> Result<Option<Decimal>, RecordError> {
        let (cell, read) = match cells[field as usize] {
            Cell::Text(cell) => {
                if self.numbers.nulls.is_no_number(cell) || (is_size(field) && cell == NO_SIZE) {
                    return Ok(None);
                }
                (cell, self.numbers.read(cell).map_err(|error| RecordError::Number { field, error })?)
            }
            Cell::Number(read) if self.numbers.nulls.has_value(read.value()) => return Ok(None),
            Cell::Number(read) => ("a float", read),
            Cell::Time(_) => {
                ("", self.numbers.read("a time").map_err(|error| RecordError::Number { field, error })?)
            }
        };
        let is_read_as = || format!("{field}: {cell} is read as {}", read.value());
        match read {
            Read::Exact(_) => {}
            Read::Cleaned(_) => self.mended.add(Mend::Noise, is_read_as),
            Read::Rounded(_) => self.mended.add(Mend::Rounded, is_read_as),
        }
        Ok(Some(read.value()))
    }

    fn required(&self, cells: &Cells, field: Field) -> Result<Decimal, RecordError> {
        let text = || cells[field as usize].text().chars().take(40).collect();
        self.number(cells, field)?
            .ok_or_else(|| RecordError::Number { field, error: NumberError::NotDecimal { text: text() } })
    }

    /// 0 if the file does not state it.
    #[inline]
    fn size(&self, cells: &Cells, field: Field) -> Result<Decimal, RecordError> {
        Ok(self.number(cells, field)?.unwrap_or_default())
    }

    /// A cell that cannot be read counts as empty, and is reported.
    #[inline]
    fn or_fault<T: Default>(&mut self, read: Result<T, RecordError>) -> T {
        read.unwrap_or_else(|error| {
            self.fault.get_or_insert(error);
            T::default()
        })
    }

    fn quote_values(&mut self, cells: &Cells, venue: Timestamp) -> QuoteValues {
        let (bid, bid_size) = self.quote_side(cells, (Field::Bid, Field::BidSize), venue);
        let (ask, ask_size) = self.quote_side(cells, (Field::Ask, Field::AskSize), venue);
        QuoteValues { bid, bid_size, ask, ask_size }
    }

    #[inline]
    fn quote_side(
        &mut self,
        cells: &Cells,
        (price, size): (Field, Field),
        venue: Timestamp,
    ) -> (Option<Decimal>, Decimal) {
        let (price, size) = (self.number(cells, price), self.quote_size(cells, size, venue));
        let price = self.or_fault(price).filter(|price| !(self.layout.zero_is_empty && price.is_zero()));
        (price, self.or_fault(size))
    }

    #[inline]
    fn quote_size(&self, cells: &Cells, field: Field, venue: Timestamp) -> Result<Decimal, RecordError> {
        let size = self.size(cells, field)?;
        let is_single = self.layout.size_unit_until.is_some_and(|until| venue >= until);
        if self.layout.size_unit == 1 || is_single {
            return Ok(size);
        }
        let (value, scale) = (size, 0);
        size.checked_mul(self.layout.size_unit.into())
            .ok_or(RecordError::Number { field, error: NumberError::OutOfRange { value, scale } })
    }

    fn push_quote(
        &mut self,
        id: InstrumentId,
        values: &mut QuoteValues,
        cells: &Cells,
        times: (Timestamp, Timestamp),
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<(), RecordError> {
        if self.layout.empty_is_unchanged
            && let Some(before) = self.quotes.get(&id)
        {
            if values.bid.is_none() {
                (values.bid, values.bid_size) = (before.bid, before.bid_size);
            }
            if values.ask.is_none() {
                (values.ask, values.ask_size) = (before.ask, before.ask_size);
            }
        }
        // A row that has a trade as well need not have changed the quote.
        if self.layout.kind == RecordKind::Both || self.layout.empty_is_unchanged {
            let is_first = !self.quotes.contains_key(&id) && *values != QuoteValues::default();
            if self.quotes.insert(id, *values).is_some_and(|before| before == *values)
                || (self.layout.kind == RecordKind::Both && *values == QuoteValues::default() && is_first)
            {
                return Ok(());
            }
        }
        if let Some(best) = &mut self.best {
            match best.fold(id, cells[Field::Venue as usize].text().as_bytes(), *values) {
                Some(best) => *values = best,
                None => return Ok(()),
            }
        }
        self.emit_quote(id, values, times, instruments, out)
    }

    /// Appends a quote in units. A number that does not fit is dropped.
    fn emit_quote(
        &mut self,
        id: InstrumentId,
        values: &mut QuoteValues,
        times: (Timestamp, Timestamp),
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<(), RecordError> {
        loop {
            let error = match instruments.quote(id, values, times, out) {
                Ok(quote) => {
                    out.push(Event::Quote(id, quote));
                    return Ok(());
                }
                Err(error) => error,
            };
            let QuoteValues { bid, bid_size, ask, ask_size } = values;
            match error {
                NumberError::TooPrecise { .. } => {
                    self.round([bid.as_mut(), Some(bid_size), ask.as_mut(), Some(ask_size)], error)?;
                }
                NumberError::Negative { value }
                | NumberError::TooLarge { value }
                | NumberError::OutOfRange { value, .. } => {
                    let field = if *bid == Some(value) {
                        (*bid, *bid_size) = (None, Decimal::ZERO);
                        Field::Bid
                    } else if *ask == Some(value) {
                        (*ask, *ask_size) = (None, Decimal::ZERO);
                        Field::Ask
                    } else if bid.is_some() && *bid_size == value {
                        *bid_size = Decimal::ZERO;
                        Field::BidSize
                    } else if ask.is_some() && *ask_size == value {
                        *ask_size = Decimal::ZERO;
                        Field::AskSize
                    } else {
                        return Err(error.into());
                    };
                    self.fault.get_or_insert(RecordError::Number { field, error });
                }
                error => return Err(error.into()),
            }
        }
    }

    /// Rounds the one of these numbers that has too many decimals.
    fn round<const N: usize>(
        &self,
        numbers: [Option<&mut Decimal>; N],
        error: NumberError,
    ) -> Result<(), NumberError> {
        let NumberError::TooPrecise { value, scale } = error else { return Err(error) };
        let mut is_rounded = false;
        for number in numbers.into_iter().flatten().filter(|number| **number == value) {
            *number = number.round_dp(scale.into());
            is_rounded = true;
            self.mended.add(Mend::Rounded, || format!("{value} is read as {number}"));
        }
        if is_rounded { Ok(()) } else { Err(error) }
    }

    /// Whether a row of quotes and trades has a trade.
    fn has_price(&self, cells: &Cells) -> bool {
        let cell = match cells[Field::Price as usize] {
            Cell::Text(cell) => cell,
            Cell::Number(price) => return !(self.layout.empty_is_unchanged && price.value().is_zero()),
            Cell::Time(_) => return true,
        };
        let is_zero = || cell.bytes().all(|b| b == b'0' || b == b'.' || b == b',');
        !(self.numbers.nulls.is_no_number(cell) || (self.layout.empty_is_unchanged && is_zero()))
    }

    /// A row's trade; `None` if it was cancelled.
    fn trade(&mut self, cells: &Cells) -> Result<Option<TradeValues>, RecordError> {
        if !stands(cells, &self.numbers.nulls)? {
            return Ok(None);
        }
        let numbers = (self.required(cells, Field::Price)?, self.size(cells, Field::Size)?);
        let side = if self.layout.side_is_flags { side_of_flags(cells) } else { side(cells) };
        let side = self.or_fault(side);
        let counts = counts(cells, self.layout.conditions_of)?;
        Ok(Some((numbers, (side, self.conditions(cells)), counts)))
    }

    /// Whether a trade of that id was there before.
    fn is_known(&mut self, id: InstrumentId, cell: Cell) -> bool {
        match cell {
            Cell::Text("") | Cell::Time(_) => false,
            Cell::Text(text) => !self.seen.is_new(id, TradeId::text(text)),
            Cell::Number(number) => !self.seen.is_new(id, TradeId::text(&number.value().to_string())),
        }
    }

    fn conditions(&self, cells: &Cells) -> Conditions {
        let cell = cells[Field::Conditions as usize].text();
        let cell = if self.has_blanks { cell.trim_start() } else { cell };
        if self.numbers.nulls.is_no_word(cell) {
            return Conditions::default();
        }
        Conditions::new(cell).unwrap_or_else(|| {
            let fitting = Conditions::fitting(cell);
            self.mended.add(Mend::Conditions, || {
                format!(
                    "conditions: {:?} is read as {:?}",
                    cell.chars().take(40).collect::<String>(),
                    fitting.as_str()
                )
            });
            fitting
        })
    }
}

/// Price and size, side and conditions, and what the trade counts for.
type TradeValues = ((Decimal, Decimal), (Side, Conditions), Counts);

/// The largest number of 32 bits: for Databento, no size.
const NO_SIZE: &str = "4294967295";

const fn is_size(field: Field) -> bool {
    matches!(field, Field::Size | Field::BidSize | Field::AskSize)
}

fn name_of<'a>(symbol: Option<&'a Symbol>, cells: &Cells<'a>) -> &'a str {
    symbol.map_or(cells[Field::Symbol as usize].text(), Symbol::as_str)
}

/// Reads the cells of a line, without the blanks around them. `quoted` keeps those of a line with quotation
/// marks.
fn read_cells<'a>(
    line: &'a str,
    delimiter: Delimiter,
    layout: &Layout,
    quoted: &'a mut Option<csv::StringRecord>,
    cells: &mut Cells<'a>,
) -> Result<(), RecordError> {
    // Market data rarely have quotation marks; lines without are split at the delimiter, the CSV reader takes
    // the rest.
    if line.contains('"') {
        return place_cells(quoted.insert(csv_record(line, delimiter)?).iter(), layout, cells);
    }
    place_cells(split(line, delimiter), layout, cells)
}

/// Splits a line at its delimiters. Cells are so short that looking at each byte is faster than the search of
/// the standard library.
fn split(line: &str, delimiter: Delimiter) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let end = line.bytes().position(|byte| byte == delimiter.byte());
        rest = end.map(|end| &line[end + 1..]);
        Some(&line[..end.unwrap_or(line.len())])
    })
}

/// In place, since so many cells take as long to be moved as to be read.
fn place_cells<'a>(
    line: impl Iterator<Item = &'a str>,
    layout: &Layout,
    cells: &mut Cells<'a>,
) -> Result<(), RecordError> {
    let (mut got, expected) = (0, layout.fields.len());
    // Some writers end each line with a delimiter, even if the header has none.
    let mut beyond = 0;
    for cell in line {
        match layout.fields.get(got) {
            // Blanks are part of conditions: NYSE TAQ has a fixed column for each of four letters.
            Some(&Some(field @ Field::Conditions)) => cells[field as usize] = Cell::Text(cell),
            Some(&Some(field)) => cells[field as usize] = Cell::Text(trimmed(cell)),
            Some(None) => {}
            None if trimmed(cell).is_empty() => beyond += 1,
            None => beyond = 0,
        }
        got += 1;
    }
    let got = if got > expected { got - beyond } else { got };
    if got == expected { Ok(()) } else { Err(RecordError::Columns { got, expected }) }
}

pub(super) fn csv_record(line: &str, delimiter: Delimiter) -> Result<csv::StringRecord, csv::Error> {
    let mut record = csv::StringRecord::new();
    let line = quoted_at_once(line, delimiter);
    csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter.byte())
        .buffer_capacity(line.len().max(1))
        .from_reader(line.as_bytes())
        .read_record(&mut record)?;
    Ok(record)
}

/// The same line without blanks between a delimiter and a quotation mark, which would invalidate the mark.
fn quoted_at_once(line: &str, delimiter: Delimiter) -> Cow<'_, str> {
    if !line.contains(" \"") && !line.contains("\" ") {
        return Cow::Borrowed(line);
    }
    let delimiter = char::from(delimiter.byte());
    let (mut kept, mut blanks, mut is_quoted, mut is_start) =
        (String::with_capacity(line.len()), 0, false, true);
    let mut was_quoted = false;
    for c in line.chars() {
        match c {
            ' ' if !is_quoted && (is_start || was_quoted) => blanks += 1,
            '"' if is_quoted || is_start => {
                (blanks, was_quoted, is_start) = (0, is_quoted, false);
                is_quoted = !is_quoted;
                kept.push(c);
            }
            _ => {
                let ends = c == delimiter && !is_quoted;
                if !(ends && was_quoted) {
                    kept.extend(std::iter::repeat_n(' ', blanks));
                }
                (blanks, was_quoted, is_start) = (0, false, ends);
                kept.push(c);
            }
        }
    }
    Cow::Owned(kept)
}

fn side(cells: &Cells) -> Result<Side, RecordError> {
    match cells[Field::BuyerIsMaker as usize].text() {
        "" => {}
        text => match boolean(text) {
            Some(true) => return Ok(Side::Sell),
            Some(false) => return Ok(Side::Buy),
            None => return Err(word(Field::BuyerIsMaker, text, "true or false")),
        },
    }
    match cells[Field::Side as usize].text() {
        "buy" | "BUY" | "Buy" | "b" | "B" | "bid" => Ok(Side::Buy),
        "sell" | "SELL" | "Sell" | "s" | "S" | "ask" => Ok(Side::Sell),
        "" | "none" | "unknown" => Ok(Side::None),
        text if Nulls::default().is_no_word(text) => Ok(Side::None),
        text => Err(word(Field::Side, text, "buy, sell, or empty")),
    }
}

/// `MetaTrader`'s flags of a tick: 32 is a buy, 64 a sell.
fn side_of_flags(cells: &Cells) -> Result<Side, RecordError> {
    match cells[Field::Side as usize].text() {
        "" => Ok(Side::None),
        text => match text.parse::<u32>().map(|flags| flags & 0x60) {
            Ok(32) => Ok(Side::Buy),
            Ok(64) => Ok(Side::Sell),
            Ok(_) => Ok(Side::None),
            Err(_) => Err(word(Field::Side, text, "the flags of a tick")),
        },
    }
}

fn is_snapshot(cells: &Cells) -> Result<bool, RecordError> {
    let text = cells[Field::Snapshot as usize].text();
    boolean(text).ok_or_else(|| word(Field::Snapshot, text, "true or false"))
}

/// Whether a trade is valid, perhaps with corrected values (0 to 2). From 7 on it was cancelled or an error,
/// or is the notice of that: it must not count.
fn stands(cells: &Cells, nulls: &Nulls) -> Result<bool, RecordError> {
    match cells[Field::Correction as usize].text() {
        text if nulls.is_no_number(text) => Ok(true),
        text => match text.trim().parse::<u8>() {
            Ok(indicator) => Ok(indicator < 7),
            Err(_) => Err(word(Field::Correction, text, "the numbers from 0 to 12")),
        },
    }
}

fn word(field: Field, text: &str, expected: &'static str) -> RecordError {
    RecordError::Word { field, text: text.chars().take(40).collect(), expected }
}

/// What a trade counts for: as the row states, or by the letters of its conditions, of any length.
fn counts(cells: &Cells, conditions_of: Option<Tape>) -> Result<Counts, RecordError> {
    let tape = match cells[Field::Tape as usize].text() {
        "" => conditions_of,
        text => Some(text.parse().map_err(|expected| word(Field::Tape, text, expected))?),
    };
    match cells[Field::Counts as usize].text() {
        "" => {
            let conditions = cells[Field::Conditions as usize].text();
            Ok(tape.map_or(Counts::EVERYTHING, |tape| tape.counts(conditions)))
        }
        text => Ok(text.parse()?),
    }
}

#[cfg(test)]
mod tests;
