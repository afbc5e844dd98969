use super::image::{BarImage, QuoteImage, refinement};
use super::ring::Ring;
use super::topic::{Kind, TopicKey};
use crate::market::{
    Bar, BarsSnapshot, Event, FeedStatus, Instrument, InstrumentId, Interval, ServerStats, Snapshot, Status,
    Symbol, Timestamp, Trade,
};
use crate::tape::{Batch, Epoch, Position};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Entries kept per ring, for clients that fall behind and for history.
///
/// A ring entry of the wire must fit an update of 64 KiB whole, which bounds these.
pub const TRADES_KEPT: usize = 1024;
pub const BARS_KEPT: usize = 600;

/// A trade that reaches the tape this much later than its bar's end still finds the bar open.
const CLOSE_GRACE_NANOS: i64 = 1_000_000_000;

/// A trade is counted in a bar at most this much ahead of the tape's clock, whatever its own time says.
const MAX_AHEAD_NANOS: i64 = 5_000_000_000;

/// The tape folded up to a position: the image of every topic, and the rings. A pure function of the tape: two replicas that
/// read the same batches are equal.
#[derive(Debug)]
pub struct Replica {
    epoch: Epoch,
    position: Position,
    time: Timestamp,
    /// Where the tape last began anew.
    reset_at: Position,
    books: Vec<Book>,
    by_symbol: FxHashMap<Symbol, InstrumentId>,
    market: Market,
    /// Instruments with an open bar, to be looked at when the clock passes a second or a minute.
    open_bars: [Vec<InstrumentId>; 2],
    /// The last whole second of the clock at which open bars were looked at.
    looked_at: i64,
}

/// All that is known of one instrument.
#[derive(Debug)]
pub struct Book {
    pub definition: Arc<Instrument>,
    pub defined_at: Position,
    pub quote: QuoteImage,
    pub trades: Ring<Trade>,
    pub bars_1s: Bars,
    pub bars_1m: Bars,
    pub day: BarImage,
    pub status: Option<(Status, Position)>,
}

#[derive(Debug)]
pub struct Bars {
    pub latest: BarImage,
    pub closed: Ring<Bar>,
}

/// All that is known of the market as a whole, and of the server.
#[derive(Clone, Debug, Default)]
pub struct Market {
    pub status: Option<(Status, Position)>,
    pub feed: Option<(FeedStatus, Position)>,
    pub stats: Option<(Arc<ServerStats>, Position)>,
}

impl Replica {
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            position: Position::START,
            time: Timestamp::default(),
            reset_at: Position::START,
            books: Vec::new(),
            by_symbol: FxHashMap::default(),
            market: Market::default(),
            open_bars: [Vec::new(), Vec::new()],
            looked_at: i64::MIN,
        }
    }

    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Where the tape last began anew: whoever stands before it knows nothing that still holds.
    #[must_use]
    pub fn reset_at(&self) -> Position {
        self.reset_at
    }

    #[must_use]
    pub fn market(&self) -> &Market {
        &self.market
    }

    #[must_use]
    pub fn book(&self, id: InstrumentId) -> Option<&Book> {
        self.books.get(id.index())
    }

    #[must_use]
    pub fn by_symbol(&self, symbol: &str) -> Option<&Book> {
        self.by_symbol.get(symbol).and_then(|&id| self.book(id))
    }

    /// All instruments, by number.
    #[must_use]
    pub fn books(&self) -> impl ExactSizeIterator<Item = &Book> {
        self.books.iter()
    }

    /// What brings an empty replica to where this one is, if it is told at [`Self::time`]: definitions, states, and a snapshot of each
    /// instrument. Two replicas that say the same here differ only in positions.
    pub fn checkpoint(&self) -> impl Iterator<Item = Event> {
        let definitions = self.books.iter().map(|book| Event::Instrument(Arc::clone(&book.definition)));
        let status = self.market.status.map(|(status, _)| Event::Status(None, status));
        let feed = self.market.feed.map(|(feed, _)| Event::Feed(feed));
        let snapshots =
            self.books.iter().map(|book| Event::Snapshot(book.definition.id, Arc::new(book.snapshot())));
        definitions.chain(status).chain(feed).chain(snapshots)
    }

    /// Folds a batch in and appends the topics it touched to `touched`, some perhaps twice.
    pub fn apply(&mut self, batch: &Batch, touched: &mut Vec<TopicKey>) {
        self.position = batch.position;
        self.time = batch.time;
        for event in &batch.events {
            self.fold(event, touched);
        }
        self.close_bars(touched);
    }

    fn fold(&mut self, event: &Event, touched: &mut Vec<TopicKey>) {
        let at = self.position;
        match event {
            Event::Instrument(definition) => self.define(definition, touched),
            &Event::Quote(instrument, ref quote) => {
                let Some(book) = self.books.get_mut(instrument.index()) else { return };
                if book.quote.apply(quote, at) {
                    touched.push(TopicKey::of(instrument, Kind::Quote));
                }
            }
            &Event::Trade(instrument, trade) => {
                let Some(book) = self.books.get_mut(instrument.index()) else { return };
                book.trades.push(at, trade);
                // A venue's clock may be a little ahead of ours. A time far ahead is wrong, and would keep its bar open until it comes.
                let time = trade.ts_event.min(self.time.plus_nanos(MAX_AHEAD_NANOS));
                book.day.apply(&trade, time, at);
                for (bars, open) in
                    [&mut book.bars_1s, &mut book.bars_1m].into_iter().zip(&mut self.open_bars)
                {
                    if bars.latest.open().is_none() {
                        open.push(instrument);
                    }
                    if let Some(bar) = bars.latest.apply(&trade, time, at) {
                        bars.closed.push(at, bar);
                    }
                }
                for kind in [Kind::Trades, Kind::Bars1s, Kind::Bars1m, Kind::Day] {
                    touched.push(TopicKey::of(instrument, kind));
                }
            }
            &Event::Status(Some(instrument), status) => {
                let Some(book) = self.books.get_mut(instrument.index()) else { return };
                book.status = Some((status, at));
                touched.push(TopicKey::of(instrument, Kind::Status));
            }
            &Event::Status(None, status) => {
                self.market.status = Some((status, at));
                touched.push(TopicKey::MARKET_STATUS);
            }
            &Event::Feed(feed) => {
                self.market.feed = Some((feed, at));
                touched.push(TopicKey::MARKET_STATUS);
            }
            Event::Snapshot(instrument, snapshot) => self.restore(*instrument, snapshot, touched),
            Event::Reset => {
                // What the server tells of itself is not of the market, but whoever is told of a reset drops it, too.
                let stats = self.market.stats.take().map(|(stats, _)| (stats, at));
                *self = Self { position: at, time: self.time, reset_at: at, ..Self::new(self.epoch) };
                self.market.stats = stats;
                touched.push(TopicKey::MARKET_STATUS);
            }
            Event::Stats(stats) => {
                self.market.stats = stats.as_ref().map(|stats| (Arc::clone(stats), at));
                touched.push(TopicKey::SERVER_STATS);
            }
        }
    }

    fn restore(&mut self, instrument: InstrumentId, snapshot: &Snapshot, touched: &mut Vec<TopicKey>) {
        let at = self.position;
        let Some(book) = self.books.get_mut(instrument.index()) else { return };
        let is_open = |book: &Book| [&book.bars_1s, &book.bars_1m].map(|bars| bars.latest.open().is_some());
        let before = is_open(book);
        book.restore(snapshot, at);
        for ((now, before), open) in is_open(book).into_iter().zip(before).zip(&mut self.open_bars) {
            if now && !before {
                open.push(instrument);
            }
        }
        // Whoever took the snapshot has looked at open bars at this time: one that a late trade has opened since is still to stay open.
        self.looked_at = self.looked_at.max(looked_at(self.time));
        touched.extend(Kind::ALL.map(|kind| TopicKey::of(instrument, kind)));
    }

    fn define(&mut self, definition: &Arc<Instrument>, touched: &mut Vec<TopicKey>) {
        let (at, instrument) = (self.position, definition.id);
        let before = if let Some(book) = self.books.get_mut(instrument.index()) {
            book.refine(definition, at);
            book.defined_at = at;
            Some(std::mem::replace(&mut book.definition, Arc::clone(definition)))
        } else {
            debug_assert_eq!(instrument.index(), self.books.len(), "numbers are dense");
            self.by_symbol.insert(definition.symbol.clone(), instrument);
            self.books.push(Book::new(Arc::clone(definition), at));
            None
        };
        let book = &mut self.books[instrument.index()];
        let known = before.map_or(crate::market::Price::NONE, |old| {
            old.previous_close.refined(refinement(&old, definition).0)
        });
        if definition.previous_close != known {
            book.day.set_previous_close(definition.previous_close, at);
        }
        touched.extend(Kind::ALL.map(|kind| TopicKey::of(instrument, kind)));
    }

    /// Closes the bars whose end the clock has passed, at most once for each second of the clock.
    fn close_bars(&mut self, touched: &mut Vec<TopicKey>) {
        let (clock, second) = (self.time.plus_nanos(-CLOSE_GRACE_NANOS), looked_at(self.time));
        if second <= self.looked_at {
            return;
        }
        self.looked_at = second;
        let (at, books) = (self.position, &mut self.books);
        for (open, interval) in self.open_bars.iter_mut().zip([Interval::Second, Interval::Minute]) {
            open.retain(|&instrument| {
                let book = &mut books[instrument.index()];
                let bars = match interval {
                    Interval::Second => &mut book.bars_1s,
                    _ => &mut book.bars_1m,
                };
                let over = |bar: &Bar| bar.start.plus_nanos(interval.nanos()) <= clock;
                match bars.latest.open() {
                    Some(bar) if !over(bar) => true,
                    _ => {
                        if let Some(bar) = bars.latest.close() {
                            bars.closed.push(at, bar);
                            touched.push(TopicKey::of(instrument, Kind::of_bars(interval)));
                        }
                        false
                    }
                }
            });
        }
    }
}

/// The second of the clock at which open bars have been looked at by `time`.
fn looked_at(time: Timestamp) -> i64 {
    Interval::Second.start_of(time.plus_nanos(-CLOSE_GRACE_NANOS)).nanos()
}

impl Book {
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            quote: self.quote.get().copied(),
            status: self.status.map(|(status, _)| status),
            trades: self.trades.tail(),
            bars_1s: self.bars_1s.snapshot(),
            bars_1m: self.bars_1m.snapshot(),
            day: self.day.get().copied(),
            previous_close: self.day.previous_close(),
        }
    }

    /// Takes over what the snapshot holds; of what it does not, nothing changes.
    fn restore(&mut self, snapshot: &Snapshot, at: Position) {
        if let Some(quote) = &snapshot.quote {
            self.quote.apply(quote, at);
        }
        if let Some(status) = snapshot.status {
            self.status = Some((status, at));
        }
        if !snapshot.trades.is_empty() {
            self.trades = Ring::restored(TRADES_KEPT, &snapshot.trades, at);
        }
        self.bars_1s.restore(&snapshot.bars_1s, at);
        self.bars_1m.restore(&snapshot.bars_1m, at);
        if let Some(day) = snapshot.day {
            self.day.restore(day, true, at);
        }
        if !snapshot.previous_close.is_none() {
            self.day.set_previous_close(snapshot.previous_close, at);
        }
    }
    fn new(definition: Arc<Instrument>, at: Position) -> Self {
        let bars = |interval| Bars { latest: BarImage::empty(interval), closed: Ring::new(BARS_KEPT) };
        Self {
            definition,
            defined_at: at,
            quote: QuoteImage::EMPTY,
            trades: Ring::new(TRADES_KEPT),
            bars_1s: bars(Interval::Second),
            bars_1m: bars(Interval::Minute),
            day: BarImage::empty(Interval::Day),
            status: None,
        }
    }

    /// The bars of a width that has a ring.
    #[must_use]
    pub fn bars(&self, kind: Kind) -> Option<&Bars> {
        match kind {
            Kind::Bars1s => Some(&self.bars_1s),
            Kind::Bars1m => Some(&self.bars_1m),
            _ => None,
        }
    }

    /// Brings all that is kept to the scales of a new definition. Nothing is owed for that: clients do the same.
    fn refine(&mut self, definition: &Instrument, at: Position) {
        let (price, size) = refinement(&self.definition, definition);
        if (price, size) == (0, 0) {
            return;
        }
        self.quote.refine(price, size);
        self.day.refine(price, size, at);
        self.trades.update_all(|trade| {
            *trade = trade.refined(price, size);
        });
        for bars in [&mut self.bars_1s, &mut self.bars_1m] {
            bars.latest.refine(price, size, at);
            bars.closed.update_all(|bar| *bar = bar.refined(price, size));
        }
    }
}

impl Bars {
    fn snapshot(&self) -> BarsSnapshot {
        BarsSnapshot {
            latest: self.latest.get().copied(),
            is_open: self.latest.open().is_some(),
            closed: self.closed.tail(),
        }
    }

    fn restore(&mut self, snapshot: &BarsSnapshot, at: Position) {
        if let Some(latest) = snapshot.latest {
            self.latest.restore(latest, snapshot.is_open, at);
        }
        if !snapshot.closed.is_empty() {
            self.closed = Ring::restored(BARS_KEPT, &snapshot.closed, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Conditions, Price, Side, Size};

    const SECOND: i64 = 1_000_000_000;
    const X: InstrumentId = InstrumentId(0);

    fn trade(price: i64, size: i64, nanos: i64) -> Event {
        let at = Timestamp::from_nanos(nanos);
        Event::Trade(
            X,
            Trade {
                price: Price::new(price),
                size: Size::new(size),
                side: Side::Buy,
                conditions: Conditions::default(),
                ts_event: at,
                ts_recv: at,
            },
        )
    }

    /// Folds batches of (time, events) after a definition of X with a previous close of 90.
    fn replica(batches: &[(i64, Vec<Event>)]) -> Replica {
        let symbol = Symbol::new("X").unwrap();
        let definition = Instrument { previous_close: Price::new(90), ..Instrument::unknown(symbol) };
        let mut replica = Replica::new(Epoch::new(1));
        let define = (0, vec![Event::Instrument(Arc::new(definition))]);
        for (time, events) in std::iter::once(&define).chain(batches) {
            let batch = Batch {
                position: replica.position().next(),
                time: Timestamp::from_nanos(*time),
                events: events.clone(),
            };
            replica.apply(&batch, &mut Vec::new());
        }
        replica
    }

    /// `start: open high low close volume` of each closed 1 s bar, then of the open one.
    #[track_caller]
    fn check_bars(batches: &[(i64, Vec<Event>)], expected: &[&str]) {
        let replica = replica(batches);
        let bars = &replica.book(X).unwrap().bars_1s;
        let show = |word: &str, bar: &Bar| {
            let prices = [bar.open, bar.high, bar.low, bar.close].map(Price::units);
            format!("{word} {} {prices:?} {}", bar.start.nanos() / SECOND, bar.volume.units())
        };
        let closed = bars.closed.newest(10).map(|(_, bar)| show("closed", bar));
        let open = bars.latest.open().map(|bar| show("open", bar));
        assert_eq!(closed.chain(open).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_bar_closes_with_the_first_trade_of_the_next_one() {
        let trades = vec![trade(100, 1, 0), trade(104, 2, SECOND / 2), trade(99, 1, SECOND)];
        check_bars(&[(SECOND, trades)], &["closed 0 [100, 104, 100, 104] 3", "open 1 [99, 99, 99, 99] 1"]);
    }

    #[test]
    fn a_bar_closes_by_the_clock_after_a_grace_for_late_trades() {
        let first = (0, vec![trade(100, 1, 0)]);
        check_bars(&[first.clone(), (SECOND * 3 / 2, vec![])], &["open 0 [100, 100, 100, 100] 1"]);
        let late = (SECOND * 3 / 2, vec![trade(101, 5, SECOND - 1)]);
        check_bars(&[first, late, (2 * SECOND, vec![])], &["closed 0 [100, 101, 100, 101] 6"]);
    }

    #[test]
    fn a_trade_too_late_for_its_bar_counts_in_the_next_one() {
        let first = (0, vec![trade(100, 1, 0)]);
        let late = (5 * SECOND, vec![trade(98, 7, SECOND / 2)]);
        check_bars(
            &[first, (4 * SECOND, vec![]), late],
            &["closed 0 [100, 100, 100, 100] 1", "closed 1 [98, 98, 98, 98] 7"],
        );
    }

    #[test]
    fn a_trade_of_a_time_far_ahead_does_not_keep_its_bar_open() {
        let ahead = (0, vec![trade(100, 1, 1_000_000 * SECOND)]);
        let later = (10 * SECOND, vec![trade(101, 2, 10 * SECOND)]);
        check_bars(&[ahead, later], &["closed 5 [100, 100, 100, 100] 1", "open 10 [101, 101, 101, 101] 2"]);
    }

    #[test]
    fn a_new_day_takes_the_last_price_as_its_previous_close() {
        let day = Interval::Day.nanos();
        let check = |batches: &[(i64, Vec<Event>)], previous, open, close| {
            let replica = replica(batches);
            let image = &replica.book(X).unwrap().day;
            assert_eq!(image.previous_close(), Price::new(previous));
            let bar = image.get().unwrap();
            assert_eq!((bar.open, bar.close), (Price::new(open), Price::new(close)));
        };
        let today = (1, vec![trade(100, 1, 0), trade(103, 1, 1)]);
        check(std::slice::from_ref(&today), 90, 100, 103);
        check(&[today, (day, vec![trade(105, 1, day)])], 103, 105, 105);
    }
}
