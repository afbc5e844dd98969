//! How lists are shown: as JSON, as newline-delimited JSON, or as CSV, with the header fields that lead to
//! the next page and spare a client what it has already.
//!
//! A row is a map of named values, the same in each format; [`Table::columns`] are the names that a row may
//! have.

use super::cursor::Numbering;
use super::history::Gap;
use super::select::Parameters;
use crate::hub::{Book, Kind, Replica, bar_field};
use crate::market::{Bar, Instrument, Price, Quote, Symbol, Timestamp, Trade};
use crate::server::App;
use crate::server::accept::{Accept, knows};
use crate::server::problem::Problem;
use crate::tape::Position;
use crate::wire::json;
use crate::wire::schema::{BarFields, QuoteFields};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Where on the tape an answer is from, as the parameter `since` takes it.
const POSITION: HeaderName = HeaderName::from_static("tickcast-position");
/// A gap before the first row, for formats that have no other place for it.
const GAP: HeaderName = HeaderName::from_static("tickcast-gap");

/// Rows that are written before others get a turn on the thread.
const ROWS_AT_A_TIME: usize = 256;
/// How long a page that cannot change any more may be kept.
const SETTLED: &str = "max-age=3600";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Format {
    Json,
    Lines,
    Csv,
}

/// What the rows of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Instruments,
    Quotes,
    Trades,
    Bars(Kind),
}

/// How the rows of a list are arranged in JSON.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// One after the other, each with its symbol.
    List,
    /// All of this symbol, which is stated once.
    OfOne(Symbol),
    /// In a list for each symbol.
    BySymbol,
}

/// A moment on a tape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub numbering: Numbering,
    pub position: Position,
    pub time: Timestamp,
}

/// A row, before it is written.
#[derive(Debug)]
pub(super) struct Row {
    definition: Arc<Instrument>,
    /// A finer scale shows the same values with more digits.
    defined_at: Position,
    entry: Entry,
}

/// What a row shows of its instrument.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    Instrument,
    Quote(Quote),
    Trade {
        number: u64,
        trade: Trade,
    },
    /// Without a number: it is open still.
    Bar {
        number: Option<u64>,
        bar: Bar,
    },
}

/// How a page continues.
#[derive(Debug)]
pub(super) struct Paging {
    pub gap: Option<Gap>,
    pub next: Option<String>,
    /// Whether it cannot change any more.
    pub is_settled: bool,
}

/// A list to be shown.
#[derive(Debug)]
pub(super) struct Listing {
    pub table: Table,
    pub shape: Shape,
    pub moment: Moment,
    pub rows: Vec<Row>,
    /// `None`: it is all on one page.
    pub paging: Option<Paging>,
}

impl Format {
    const ALL: [Self; 3] = [Self::Json, Self::Lines, Self::Csv];

    /// The format that the parameter `format` names, else that which is accepted most.
    ///
    /// # Errors
    /// 400: there is no such format; 406: none is accepted.
    pub fn asked(parameters: &Parameters, headers: &HeaderMap) -> Result<Self, Problem> {
        let read = |text: &str| {
            let named = Self::ALL.into_iter().find(|format| format.name() == text);
            named.ok_or_else(|| "json, ndjson or csv".to_owned())
        };
        if let Some(named) = parameters.read("format", read)? {
            return Ok(named);
        }
        let accept = Accept::of(headers);
        if accept.is_empty() {
            return Ok(Self::Json);
        }
        let weighed = Self::ALL.map(|format| (accept.weight(format.essence(), None), format));
        // The first of several with the same weight.
        let best =
            weighed.into_iter().rev().max_by_key(|(weight, _)| *weight).filter(|(weight, _)| *weight > 0);
        best.map(|(_, format)| format).ok_or_else(|| {
            let there = Self::ALL.map(Self::essence).join(", ");
            Problem::new(StatusCode::NOT_ACCEPTABLE, format!("Accept: there are {there}"))
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Lines => "ndjson",
            Self::Csv => "csv",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// The media type without parameters.
    fn essence(self) -> &'static str {
        let media_type = self.media_type();
        media_type.split_once(';').map_or(media_type, |(essence, _)| essence)
    }
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Instruments => "instruments",
            Self::Quotes => "quotes",
            Self::Trades => "trades",
            Self::Bars(_) => "bars",
        }
    }

    /// The names of all values that a row may have, in the order of CSV.
    fn columns(self) -> Vec<&'static str> {
        match self {
            Self::Instruments => vec![
                "symbol",
                "name",
                "sector",
                "currency",
                "price_scale",
                "size_scale",
                "tick_size",
                "previous_close",
            ],
            Self::Quotes => {
                let fields = QuoteFields::FIELDS.iter().map(|field| field.name);
                ["symbol"].into_iter().chain(fields).chain(["ts_recv"]).collect()
            }
            Self::Trades => {
                vec![
                    "symbol",
                    "number",
                    "price",
                    "size",
                    "side",
                    "ts_event",
                    "conditions",
                    "counts",
                    "breaks",
                ]
            }
            Self::Bars(_) => {
                let fields = BarFields::FIELDS.iter().filter(|field| field.bit & bar_field::BAR != 0);
                let fields = fields.map(|field| field.name);
                ["symbol", "number"].into_iter().chain(fields).chain(["closed"]).collect()
            }
        }
    }

    /// The parameter `interval` of bars.
    fn interval(self) -> Option<&'static str> {
        match self {
            Self::Bars(Kind::Bars1s) => Some("1s"),
            Self::Bars(Kind::Bars1m) => Some("1m"),
            Self::Bars(_) => Some("1d"),
            _ => None,
        }
    }
}

impl Moment {
    pub fn of(replica: &Replica) -> Self {
        Self { numbering: Numbering::of(replica), position: replica.position(), time: replica.time() }
    }
}

impl Row {
    pub fn new(book: &Book, entry: Entry) -> Self {
        Self { definition: Arc::clone(&book.definition), defined_at: book.defined_at, entry }
    }

    pub fn symbol(&self) -> &Symbol {
        &self.definition.symbol
    }

    #[cfg(test)]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its values, without the symbol.
    fn values(&self) -> Map<String, Value> {
        let definition = &self.definition;
        let mut values = match &self.entry {
            Entry::Instrument => json::instrument(definition),
            Entry::Trade { number, trade } => json::trade(definition, *number, trade),
            Entry::Quote(quote) => {
                let mut values = json::quote(definition, quote);
                values.insert("ts_recv".to_owned(), json::moment(quote.ts_recv));
                return values;
            }
            Entry::Bar { number, bar } => {
                let mut values = Map::from_iter([("number".to_owned(), json!(number))]);
                values.extend(json::bar(definition, bar));
                values.insert("closed".to_owned(), number.is_some().into());
                return values;
            }
        };
        let mut values = values.as_object_mut().map(std::mem::take).unwrap_or_default();
        values.shift_remove("symbol");
        values
    }

    /// Its values, with the symbol first.
    fn with_symbol(&self) -> Map<String, Value> {
        let mut values = Map::from_iter([("symbol".to_owned(), self.symbol().as_str().into())]);
        values.extend(self.values());
        values
    }
}

impl Hash for Row {
    /// What its values follow from. An entry of a ring never changes.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.definition.id, self.defined_at).hash(state);
        match &self.entry {
            Entry::Instrument => {}
            Entry::Trade { number, .. } | Entry::Bar { number: Some(number), .. } => number.hash(state),
            &Entry::Quote(Quote { bid, bid_size, ask, ask_size, ts_event, ts_recv }) => {
                (bid, bid_size, ask, ask_size, ts_event, ts_recv).hash(state);
            }
            Entry::Bar { number: None, bar } => {
                let prices: [Price; 4] = [bar.open, bar.high, bar.low, bar.close];
                (bar.start, prices, bar.volume, bar.trades, bar.vwap_hundredths()).hash(state);
            }
        }
    }
}

impl Listing {
    /// The answer to a request with that query. It is only written if the client does not have it.
    pub async fn respond(
        self,
        app: &App,
        format: Format,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        let tag = self.tag(format);
        let mut response = if knows(headers, &tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            app.memory.answer(format.media_type(), self.write(format).await)?
        };
        let about = response.headers_mut();
        about.insert(header::ETAG, tag);
        about.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        let is_settled = self.paging.as_ref().is_some_and(|paging| paging.is_settled);
        let keep = if is_settled { SETTLED } else { "no-cache" };
        about.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
        let Moment { numbering, position, .. } = self.moment;
        about.insert(POSITION, text(&format!("{}-{}", numbering.epoch.get(), position.get())));
        let Some(Paging { gap, next, .. }) = &self.paging else { return Ok(response) };
        if let Some(Gap { symbol, expected, next }) = gap {
            let symbol = utf8_percent_encode(symbol.as_str(), NON_ALPHANUMERIC);
            about.insert(GAP, text(&format!("symbol=\"{symbol}\", expected={expected}, next={next}")));
        }
        if let Some(next) = next {
            about.insert(header::LINK, text(&link(query, next)));
        }
        Ok(response)
    }

    /// A weak one: what is shown is the same, but for the moment at which it was asked for.
    fn tag(&self, format: Format) -> HeaderValue {
        let mut hasher = DefaultHasher::new();
        (self.moment.numbering, format, &self.rows).hash(&mut hasher);
        if let Some(Paging { gap, next, .. }) = &self.paging {
            (gap, next).hash(&mut hasher);
        }
        text(&format!("W/\"{:016x}\"", hasher.finish()))
    }

    async fn write(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Json => self.write_json().await,
            Format::Lines => self.write_lines().await,
            Format::Csv => self.write_csv().await,
        }
    }

    async fn write_json(&self) -> Vec<u8> {
        let head = json!({
            "epoch": self.moment.numbering.epoch.get(),
            "position": self.moment.position.get(),
            "time": json::moment(self.moment.time),
        });
        let mut text = open_end(&head);
        text.extend_from_slice(format!(",\"{}\":", self.table.name()).as_bytes());
        text.push(if matches!(self.shape, Shape::BySymbol) { b'{' } else { b'[' });
        let mut last = None;
        for (at, row) in self.rows.iter().enumerate() {
            turn(at).await;
            let is_first_of_symbol = last.replace(row.definition.id) != Some(row.definition.id);
            match &self.shape {
                Shape::BySymbol if is_first_of_symbol => {
                    text.extend_from_slice(if at > 0 { b"]," } else { b"" });
                    write(&mut text, row.symbol().as_str());
                    text.extend_from_slice(b":[");
                }
                _ if at > 0 => text.push(b','),
                _ => {}
            }
            match self.shape {
                Shape::List => write(&mut text, &row.with_symbol()),
                Shape::OfOne(_) | Shape::BySymbol => write(&mut text, &row.values()),
            }
        }
        let end: &[u8] = match self.shape {
            Shape::BySymbol if self.rows.is_empty() => b"}",
            Shape::BySymbol => b"]}",
            _ => b"]",
        };
        text.extend_from_slice(end);
        for (name, value) in self.after_rows() {
            text.push(b',');
            write(&mut text, &name);
            text.push(b':');
            write(&mut text, &value);
        }
        text.push(b'}');
        text
    }

    /// What follows the rows in JSON.
    fn after_rows(&self) -> Map<String, Value> {
        let mut after = Map::new();
        if let Shape::OfOne(symbol) = &self.shape {
            after.insert("symbol".to_owned(), symbol.as_str().into());
        }
        if let Some(interval) = self.table.interval() {
            after.insert("interval".to_owned(), interval.into());
        }
        if let Some(Paging { gap, next, .. }) = &self.paging {
            let gap = gap.as_ref().map(|Gap { symbol, expected, next }| {
                json!({ "symbol": symbol.as_str(), "expected": expected, "next": next })
            });
            after.insert("gap".to_owned(), gap.into());
            after.insert("next_page_token".to_owned(), next.as_deref().into());
        }
        after
    }

    async fn write_lines(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            turn(at).await;
            write(&mut text, &row.with_symbol());
            text.push(b'\n');
        }
        text
    }

    async fn write_csv(&self) -> Vec<u8> {
        let columns = self.table.columns();
        let mut lines = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        lines.write_record(&columns).expect(TAKES_ALL);
        for (at, row) in self.rows.iter().enumerate() {
            turn(at).await;
            let row = row.with_symbol();
            debug_assert!(row.keys().all(|name| columns.contains(&name.as_str())), "{row:?} has no column");
            let cells = columns.iter().map(|&column| row.get(column).map_or("".into(), cell));
            lines.write_record(cells.map(|cell| cell.into_owned().into_bytes())).expect(TAKES_ALL);
        }
        lines.into_inner().expect(TAKES_ALL)
    }
}

const TAKES_ALL: &str = "a vector takes all";

fn write<T: serde::Serialize + ?Sized>(text: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(text, value).expect(TAKES_ALL);
}

/// An object without its closing brace.
fn open_end(object: &Value) -> Vec<u8> {
    let mut text = object.to_string().into_bytes();
    text.pop();
    text
}

/// Lets others have a turn now and then.
async fn turn(row: usize) {
    if row % ROWS_AT_A_TIME == ROWS_AT_A_TIME - 1 {
        tokio::task::yield_now().await;
    }
}

/// A value as text: exact, and empty where there is none.
fn cell(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => "".into(),
        Value::String(text) => text.into(),
        // As `counts` is written everywhere.
        Value::Array(words) if words.is_empty() => "nothing".into(),
        Value::Array(words) => words.iter().map(cell).collect::<Vec<_>>().join(" ").into(),
        other => other.to_string().into(),
    }
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("it is of visible ASCII")
}

/// Leads to the next page, wherever a proxy has put this one: only the query differs.
fn link(query: &str, next: &str) -> String {
    let mut target = form_urlencoded::Serializer::for_suffix("?".to_owned(), 1);
    for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "page_token") {
        target.append_pair(&name, &value);
    }
    target.append_pair("page_token", next);
    format!("<{}>; rel=\"next\"", target.finish())
}
