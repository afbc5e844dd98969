//! `GET /v1/trades` and `GET /v1/bars`: what the rings hold, page by page.
//!
//! The entries of a symbol are read at one moment, those of different symbols perhaps one after the other, so
//! that nobody holds the replica for long. A page ends before an entry, which the token of the next page
//! names: so pages neither overlap nor leave anything out, however far the rings have moved meanwhile.

use super::cursor::{Cursor, Numbering, Token};
use super::represent::{Entry, Format, Listing, Moment, Paging, Row, Shape, Table};
use super::select::{Parameters, Selection, Symbols};
use super::{market, reset_meanwhile};
use crate::feed::parse_time;
use crate::hub::{BARS_KEPT, Book, Kind, Replica, TRADES_KEPT};
use crate::market::{Bar, Symbol, Timestamp};
use crate::server::App;
use crate::server::problem::Problem;
use crate::server::room::Room;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use std::sync::Arc;

/// Rows of a page unless the request asks for another number: of one symbol, and of several.
const DEFAULT_LIMIT: usize = 100;
const DEFAULT_LIMIT_OF_SEVERAL: usize = 1000;
/// The most rows of a page.
const MAX_LIMIT: usize = 10_000;
/// About how many entries are looked at before the replica is let go.
const SLICE: usize = 4096;

const SECOND: i64 = 1_000_000_000;

/// Whether the oldest or the newest entry of a symbol comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
}

/// What a request wants to see of the rings.
#[derive(Clone, Debug)]
struct Window {
    kind: Kind,
    symbols: Symbols,
    /// Both included.
    start: Timestamp,
    end: Timestamp,
    order: Order,
    limit: usize,
    token: Option<Token>,
    /// Nothing was said of where to begin: the newest entries of one symbol, oldest first, on a single page.
    is_newest: bool,
}

/// The rows of a page, and how it continues.
#[derive(Debug, Default)]
struct Page {
    rows: Vec<Row>,
    gap: Option<Gap>,
    next: Option<Token>,
}

/// Entries of a symbol that were evicted between two pages, so that neither has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gap {
    pub symbol: Symbol,
    /// The number at which the page should have gone on.
    pub expected: u64,
    /// The number of the oldest entry that is left.
    pub next: u64,
}

/// An entry within the window.
struct Placed {
    /// Its place in the order of its symbol, as in [`Cursor`].
    place: i64,
    number: u64,
    entry: Entry,
}

const TRADES: [&str; 8] = ["symbols", "start", "end", "limit", "sort", "page_token", "format", "room"];
const BARS: [&str; 9] =
    ["symbols", "interval", "start", "end", "limit", "sort", "page_token", "format", "room"];

/// `GET /v1/trades?symbols=A,B`
pub(in crate::server) async fn trades(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = query.unwrap_or_default();
    let parameters = Parameters::parse(Some(&query), &TRADES)?;
    history(&app, Kind::Trades, None, &query, &parameters, &headers).await
}

/// `GET /v1/trades/SYMBOL`
pub(in crate::server) async fn trades_of(
    State(app): State<Arc<App>>,
    symbol: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (symbol, query) = (symbol_of(symbol)?, query.unwrap_or_default());
    let parameters = Parameters::parse(Some(&query), &TRADES[1..])?;
    history(&app, Kind::Trades, Some(symbol), &query, &parameters, &headers).await
}

/// `GET /v1/bars?symbols=A,B&interval=1s`
pub(in crate::server) async fn bars(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = query.unwrap_or_default();
    let parameters = Parameters::parse(Some(&query), &BARS)?;
    history(&app, kind_of(&parameters)?, None, &query, &parameters, &headers).await
}

/// `GET /v1/bars/SYMBOL?interval=1s`
pub(in crate::server) async fn bars_of(
    State(app): State<Arc<App>>,
    symbol: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (symbol, query) = (symbol_of(symbol)?, query.unwrap_or_default());
    let parameters = Parameters::parse(Some(&query), &BARS[1..])?;
    history(&app, kind_of(&parameters)?, Some(symbol), &query, &parameters, &headers).await
}

async fn history(
    app: &App,
    kind: Kind,
    symbol: Option<Symbol>,
    query: &str,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let format = Format::asked(parameters, headers)?;
    let window = Arc::new(Window::asked(kind, symbol.clone(), parameters)?);
    let room = market(app, parameters.get("room"))?;
    let _turn = app.memory.listing().await;
    let (moment, page) = window.page(&room).await?;
    let is_settled = window.is_settled(&page);
    let Page { rows, gap, next } = page;
    let next = next.map(|token| token.write());
    let listing = Listing {
        table: if kind == Kind::Trades { Table::Trades } else { Table::Bars(kind) },
        shape: symbol.map_or(Shape::BySymbol, Shape::OfOne),
        moment,
        rows,
        paging: (!window.is_newest).then_some(Paging { gap, next, is_settled }),
    };
    listing.respond(app, format, query, headers).await
}

/// The symbol at the end of a path.
fn symbol_of(path: Result<Path<String>, PathRejection>) -> Result<Symbol, Problem> {
    let Path(text) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    Symbol::new(&text).map_err(|error| Problem::not_found(format!("unknown symbol: {error}")))
}

/// The parameter `interval`.
fn kind_of(parameters: &Parameters) -> Result<Kind, Problem> {
    let read = |text: &str| match text {
        "1s" => Ok(Kind::Bars1s),
        "1m" => Ok(Kind::Bars1m),
        "1d" => Ok(Kind::Day),
        _ => Err("1s or 1m, or 1d for the day so far".to_owned()),
    };
    Ok(parameters.read("interval", read)?.unwrap_or(Kind::Bars1m))
}

impl Order {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ascending => "asc",
            Self::Descending => "desc",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ascending, Self::Descending].into_iter().find(|order| order.name() == text)
    }
}

impl Window {
    /// Reads a request; `symbol` is that of its path.
    fn asked(kind: Kind, symbol: Option<Symbol>, parameters: &Parameters) -> Result<Self, Problem> {
        let time = |text: &str| {
            parse_time(text).map_err(|_| "RFC 3339, or whole seconds, ms, us or ns since 1970".to_owned())
        };
        let (start, end) = (parameters.read("start", time)?, parameters.read("end", time)?);
        if let (Some(start), Some(end)) = (start, end)
            && start > end
        {
            return Err(Problem::bad_request(format!("end: {end} is before start, {start}")));
        }
        let sort = |text: &str| Order::parse(text).ok_or_else(|| "asc or desc".to_owned());
        let (sort, token) = (parameters.read("sort", sort)?, parameters.get("page_token"));
        let token = token.filter(|text| !text.is_empty()).map(Token::read).transpose()?;
        let is_of_one = symbol.is_some();
        let is_newest = is_of_one && start.is_none() && end.is_none() && sort.is_none() && token.is_none();
        let order = if is_newest { Order::Descending } else { sort.unwrap_or(Order::Ascending) };
        if let Some(token) = &token {
            token.check(kind, order)?;
        }
        let limit = match kind {
            _ if !is_of_one => parameters.limit(DEFAULT_LIMIT_OF_SEVERAL, MAX_LIMIT)?,
            Kind::Trades => parameters.limit(DEFAULT_LIMIT, TRADES_KEPT)?,
            _ => parameters.limit(DEFAULT_LIMIT, BARS_KEPT + 1)?,
        };
        let named = parameters.get("symbols").map(Symbols::parse).transpose()?;
        let symbols = symbol.map(Symbols::one).or(named).filter(|symbols| !symbols.is_empty());
        let symbols = symbols
            .ok_or_else(|| Problem::bad_request("symbols: name some, as A,B, or * for all, or @SECTOR"))?;
        let (start, end) = (start.unwrap_or(Timestamp::MIN), end.unwrap_or(Timestamp::MAX));
        Ok(Self { kind, symbols, start, end, order, limit, token, is_newest })
    }

    /// The page, and the moment at which it was begun.
    async fn page(self: &Arc<Self>, room: &Room) -> Result<(Moment, Page), Problem> {
        let window = Arc::clone(self);
        let begin = move |replica: &Replica| {
            let cursor = window.token.as_ref().map(|token| token.cursor(replica)).transpose()?;
            let selection = window.symbols.resolve(replica)?.sorted();
            Ok::<_, Problem>((Moment::of(replica), cursor, selection))
        };
        let (moment, cursor, selection) = room.look(begin).await??;
        let mut index = cursor.map_or(0, |cursor| selection.at(cursor.instrument));
        let selection = Arc::new(selection);
        let mut page = Page::default();
        loop {
            let (window, selection) = (Arc::clone(self), Arc::clone(&selection));
            let slice = move |replica: &Replica| {
                let is_same = Numbering::of(replica) == moment.numbering;
                let more = is_same.then(|| window.slice(replica, &selection, cursor, &mut index, &mut page));
                more.map(|more| (more, index, page))
            };
            let more;
            (more, index, page) = room.look(slice).await?.ok_or_else(reset_meanwhile)?;
            if !more {
                break;
            }
            // So that others get a turn on this thread, too.
            tokio::task::yield_now().await;
        }
        if self.is_newest {
            page.rows.reverse();
            page.next = None;
        }
        Ok((moment, page))
    }

    /// Continues a page with the symbols from `index` on. Returns whether there is more to do.
    fn slice(
        &self,
        replica: &Replica,
        selection: &Selection,
        cursor: Option<Cursor>,
        index: &mut usize,
        page: &mut Page,
    ) -> bool {
        let mut looked_at = 0;
        while looked_at < SLICE {
            let Some(book) = selection.get(*index, replica).and_then(|id| replica.book(id)) else {
                return false;
            };
            *index += 1;
            let cursor = cursor.filter(|cursor| cursor.instrument == book.definition.id);
            if let Some(Cursor { expected, .. }) = cursor {
                let (symbol, next) = (book.definition.symbol.clone(), self.first(book));
                page.gap = (next > expected).then_some(Gap { symbol, expected, next });
            }
            let (mut entries, kept) = self.entries(book);
            looked_at += kept + 1;
            if self.order == Order::Descending {
                entries.reverse();
            }
            if let Some(Cursor { place, .. }) = cursor {
                entries.retain(|entry| match self.order {
                    Order::Ascending => entry.place >= place,
                    Order::Descending => entry.place <= place,
                });
            }
            let rest = entries.split_off(entries.len().min(self.limit - page.rows.len()));
            let row = |Placed { entry, .. }| Row::new(book, entry);
            page.rows.extend(entries.into_iter().map(row));
            if let Some(next) = rest.first() {
                let expected = rest.iter().map(|entry| entry.number).min().unwrap_or(next.number);
                page.next = Some(Token {
                    kind: self.kind,
                    order: self.order,
                    numbering: Numbering::of(replica),
                    symbol: book.definition.symbol.clone(),
                    place: next.place,
                    expected,
                });
                return false;
            }
        }
        true
    }

    /// The number of the oldest entry that a symbol's ring holds.
    fn first(&self, book: &Book) -> u64 {
        match self.kind {
            Kind::Trades => book.trades.first(),
            kind => book.bars(kind).map_or(0, |bars| bars.closed.first()),
        }
    }

    /// The entries of a symbol within the window, oldest first, and how many were looked at.
    fn entries(&self, book: &Book) -> (Vec<Placed>, usize) {
        let is_within = |time: Timestamp| (self.start..=self.end).contains(&time);
        if self.kind == Kind::Trades {
            let kept = book.trades.newest(usize::MAX);
            let within = kept.filter(|(_, trade)| is_within(trade.ts_event));
            let placed = |(number, trade)| {
                let place = i64::try_from(number).unwrap_or(i64::MAX);
                Placed { place, number, entry: Entry::Trade { number, trade } }
            };
            return (within.map(placed).collect(), book.trades.len());
        }
        let placed = |number: Option<u64>, bar: Bar| Placed {
            place: bar.start.nanos().div_euclid(SECOND),
            // An open bar gets this number at the earliest.
            number: number.unwrap_or_else(|| book.bars(self.kind).map_or(0, |bars| bars.closed.count())),
            entry: Entry::Bar { number, bar },
        };
        let Some(bars) = book.bars(self.kind) else {
            let day = book.day.get().filter(|day| is_within(day.start));
            return (day.into_iter().map(|day| placed(None, *day)).collect(), 1);
        };
        let closed = bars.by_start().into_values().map(|(number, bar)| (Some(number), bar));
        let open = bars.latest.open().map(|bar| (None, *bar));
        let within = closed.chain(open).filter(|(_, bar)| is_within(bar.start));
        (within.map(|(number, bar)| placed(number, bar)).collect(), bars.closed.len())
    }

    /// Whether the page cannot change any more, other than by being evicted: trades of one symbol from a
    /// token on, with more behind them.
    fn is_settled(&self, page: &Page) -> bool {
        self.kind == Kind::Trades
            && self.order == Order::Ascending
            && page.gap.is_none()
            && page.next.as_ref().map(|next| &next.symbol) == self.token.as_ref().map(|token| &token.symbol)
            && self.token.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Conditions, Counts, Event, Instrument, InstrumentId, Price, Side, Size, Trade};
    use crate::tape::{Batch, Epoch};
    use proptest::prelude::*;

    const KEPT: usize = 8;

    /// A market of two symbols with small rings.
    struct Market(Replica);

    impl Market {
        fn new() -> Self {
            let mut market = Self(Replica::keeping(Epoch::new(1), KEPT, KEPT));
            for (id, symbol) in ["A", "B"].into_iter().enumerate() {
                let id = InstrumentId(u32::try_from(id).unwrap());
                let definition = Instrument { id, ..Instrument::unknown(Symbol::new(symbol).unwrap()) };
                market.fold(0, Event::Instrument(Arc::new(definition)));
            }
            market
        }

        fn fold(&mut self, second: i64, event: Event) {
            let (position, time) = (self.0.position().next(), Timestamp::from_nanos(second * SECOND));
            self.0.apply(&Batch { position, time, events: vec![event] }, &mut Vec::new());
        }

        /// A trade of each symbol that closes the bar of the second before.
        fn trade(&mut self, second: i64) {
            let at = Timestamp::from_nanos(second * SECOND);
            let trade = Trade {
                price: Price::new(100),
                size: Size::new(1),
                side: Side::Buy,
                conditions: Conditions::default(),
                counts: Counts::EVERYTHING,
                booked: 0,
                ts_event: at,
                ts_recv: at,
            };
            self.fold(second, Event::Trade(InstrumentId(0), trade));
            self.fold(second, Event::Trade(InstrumentId(1), trade));
        }
    }

    fn window(kind: Kind, order: Order, limit: usize, token: Option<Token>) -> Window {
        let symbols = Symbols::parse("*").unwrap();
        let (start, end) = (Timestamp::MIN, Timestamp::MAX);
        Window { kind, symbols, start, end, order, limit, token, is_newest: false }
    }

    fn page(market: &Market, window: &Window) -> Page {
        let cursor = window.token.as_ref().map(|token| token.cursor(&market.0).unwrap());
        let (mut index, mut page) = (cursor.map_or(0, |cursor| cursor.instrument.index()), Page::default());
        while window.slice(&market.0, &Selection::All, cursor, &mut index, &mut page) {}
        page
    }

    /// Symbol and number of a row; an open bar has the number that it will get.
    fn row(row: &Row, open: u64) -> (String, u64) {
        let number = match row.entry() {
            Entry::Trade { number, .. } => *number,
            Entry::Bar { number, .. } => number.unwrap_or(open),
            other => panic!("{other:?} is not of a ring"),
        };
        (row.symbol().to_string(), number)
    }

    proptest! {
        /// Between any two pages the rings move. What a page should have begun with is there, or is told to
        /// be gone; nothing comes twice.
        #[test]
        fn pages_of_rings_that_move_leave_nothing_out_untold(
            (is_bars, is_asc) in any::<(bool, bool)>(),
            first in 0..20_i64,
            steps in proptest::collection::vec((0..12_i64, 1..6_usize), 40),
        ) {
            let kind = if is_bars { Kind::Bars1s } else { Kind::Trades };
            let order = if is_asc { Order::Ascending } else { Order::Descending };
            let (mut market, mut second, mut token) = (Market::new(), 0, None);
            let mut told: Vec<(String, u64)> = Vec::new();
            for (more, limit) in std::iter::once((first, 3)).chain(steps) {
                for _ in 0..more {
                    second += 1;
                    market.trade(second);
                }
                let window = window(kind, order, limit, token.take());
                let page = page(&market, &window);
                let open = market.0.book(InstrumentId(0)).map(|book| book.bars_1s.closed.count()).unwrap();
                let rows: Vec<_> = page.rows.iter().map(|each| row(each, open)).collect();
                prop_assert!(rows.len() <= limit);
                if let Some(Gap { symbol, expected, next }) = &page.gap {
                    let lost = (*expected..*next).map(|number| (symbol.to_string(), number));
                    if is_asc {
                        told.extend(lost);
                    } else {
                        // The entries that a descending list ends with.
                        let rest: Vec<_> = rows.iter().filter(|(of, _)| of == symbol.as_str()).cloned().collect();
                        prop_assert!(rest.iter().all(|(_, number)| number >= next));
                    }
                }
                told.extend(rows);
                token = page.next;
                if token.is_none() {
                    break;
                }
            }
            if token.is_none() && is_asc {
                let book = market.0.book(InstrumentId(1)).unwrap();
                let count = if is_bars { book.bars_1s.closed.count() + 1 } else { book.trades.count() };
                let last = told.last().map_or(0, |(_, number)| number + 1);
                prop_assert!(second == 0 || last == count, "{last} of {count}");
            }
            for symbol in ["A", "B"] {
                let numbers: Vec<u64> =
                    told.iter().filter(|(of, _)| of == symbol).map(|(_, number)| *number).collect();
                let step = |pair: &[u64]| if is_asc { pair[0] + 1 == pair[1] } else { pair[0] == pair[1] + 1 };
                prop_assert!(numbers.windows(2).all(step), "{symbol}: {numbers:?}");
            }
        }
    }

    #[test]
    fn a_symbol_is_read_whole_and_others_a_slice_later() {
        let mut market = Market::new();
        (1..=5).for_each(|second| market.trade(second));
        let window = window(Kind::Trades, Order::Ascending, 7, None);
        let page = page(&market, &window);
        let rows: Vec<_> = page.rows.iter().map(|each| row(each, 0)).collect();
        let expected =
            (0..5).map(|number| ("A".to_owned(), number)).chain([("B".to_owned(), 0), ("B".to_owned(), 1)]);
        assert_eq!(rows, expected.collect::<Vec<_>>());
        let next = page.next.unwrap();
        assert_eq!((next.symbol.as_str(), next.place, next.expected), ("B", 2, 2));
    }
}
