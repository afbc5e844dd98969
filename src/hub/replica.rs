//! The tape folded up to a position. Pure; on the thread that owns the replica: a shard's, the tape's, a
//! seek's or the recorder's.
//!
//! Invariant: replicas that folded the same batches are equal, except for `stats` and `watchers`, which are
//! of one server.

use super::amend::{believed, bit};
use super::channel::Channel;
use super::image::{BarImage, Counted, Image, QuoteImage, WatchersImage, refinement};
use super::membership::Moves;
use super::ring::Ring;
use super::stats::ServerStats;
use super::topic::{ChannelId, Kind, TopicKey};
use crate::market::{
    Bar, BarsSnapshot, Counts, Event, FeedStatus, Instrument, InstrumentId, Interval, Newest, Price, Quote,
    Snapshot, Status, Symbol, Timestamp, Trade,
};
use crate::tape::{Batch, Epoch, Position};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Entries kept per ring, for clients that lag and for history.
///
/// A complete ring must fit an update of 64 KiB, which bounds these.
pub const TRADES_KEPT: usize = 1024;
pub const BARS_KEPT: usize = 600;

/// A trade that reaches the tape this much after its bar's end still finds the bar open.
const CLOSE_GRACE_NANOS: i64 = SECOND;

const SECOND: i64 = Interval::Second.nanos();
const WIDTHS: [Interval; 2] = [Interval::Second, Interval::Minute];

/// The tape folded up to a position: the image of every topic, and the rings.
#[derive(Debug)]
pub struct Replica {
    epoch: Epoch,
    position: Position,
    time: Timestamp,
    /// Position at which the tape was last reset.
    reset_at: Position,
    books: Vec<Book>,
    by_symbol: FxHashMap<Symbol, InstrumentId>,
    /// They are no part of the market, so a reset leaves them as they are.
    channels: Vec<Channel>,
    by_channel: FxHashMap<Symbol, ChannelId>,
    market: Market,
    /// Of this node alone, with the position of their batch.
    stats: Option<(Arc<ServerStats>, Position)>,
    /// The clock in complete seconds. Bars know no finer one: how the events of one second are cut into
    /// batches must not matter to them.
    second: Timestamp,
    /// By [`WIDTHS`].
    open_bars: [OpenBars; 2],
    /// How many instruments there were before the batch that is being folded in.
    known: usize,
    /// Capacities of the rings of trades, and of bars.
    kept: (usize, usize),
}

/// The instruments with an open bar of one width.
#[derive(Debug)]
struct OpenBars {
    /// Some may be closed since, or there twice.
    instruments: Vec<InstrumentId>,
    /// Before this second of the clock no bar is due to close.
    due: Timestamp,
}

/// The state of one instrument.
#[derive(Debug)]
pub struct Book {
    pub definition: Arc<Instrument>,
    pub defined_at: Position,
    /// `None`: its sector never changed.
    pub moves: Option<Box<Moves>>,
    pub quote: QuoteImage,
    pub trades: Ring<Trade>,
    pub bars_1s: Bars,
    pub bars_1m: Bars,
    pub day: BarImage,
    pub status: Option<(Status, Position)>,
    /// Of this node alone.
    pub watchers: WatchersImage,
    pub(super) newest: Option<Newest>,
}

#[derive(Debug)]
pub struct Bars {
    pub latest: BarImage,
    pub closed: Ring<Bar>,
}

/// The state of the market itself.
#[derive(Clone, Debug, Default)]
pub struct Market {
    pub status: Option<(Status, Position)>,
    pub feed: Option<(FeedStatus, Position)>,
}

impl Replica {
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self::keeping(epoch, TRADES_KEPT, BARS_KEPT)
    }

    /// With other capacities of its rings, up to the usual ones.
    #[must_use]
    pub fn keeping(epoch: Epoch, trades: usize, bars: usize) -> Self {
        Self {
            kept: (trades.min(TRADES_KEPT), bars.min(BARS_KEPT)),
            epoch,
            position: Position::START,
            time: Timestamp::default(),
            reset_at: Position::START,
            books: Vec::new(),
            by_symbol: FxHashMap::default(),
            channels: Vec::new(),
            by_channel: FxHashMap::default(),
            market: Market::default(),
            stats: None,
            second: Timestamp::default(),
            open_bars: [OpenBars::NONE; 2],
            known: 0,
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

    /// Where the tape was last reset: what a client knows from before does not hold.
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

    /// The figures of this server, and the position from which they are pending.
    #[must_use]
    pub fn stats(&self) -> Option<&(Arc<ServerStats>, Position)> {
        self.stats.as_ref()
    }

    /// All instruments, by number.
    #[must_use]
    pub fn books(&self) -> impl ExactSizeIterator<Item = &Book> {
        self.books.iter()
    }

    /// All channels, by number.
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    #[must_use]
    pub fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(id.0 as usize)
    }

    /// The number of a channel that has had a message or a state.
    #[must_use]
    pub fn by_channel(&self, name: &str) -> Option<ChannelId> {
        self.by_channel.get(name).copied()
    }

    /// The events that bring an empty replica to this state if they are folded at [`Self::time`]:
    /// definitions, states, and a snapshot of each instrument. Two replicas with the same checkpoint differ
    /// only in positions, and in what is no part of the market.
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
        self.known = self.books.len();
        // A division, and most batches are of the second of the one before.
        if !(0..SECOND).contains(&batch.time.nanos_since(self.second)) {
            self.second = Interval::Second.start_of(batch.time);
        }
        // First, so that it does not matter whether the time was published in a silence before this batch.
        if self.open_bars.iter().any(|open| self.second >= open.due) {
            self.close_bars(touched);
        }
        for event in &batch.events {
            match event {
                &Event::Quote(instrument, ref quote) => self.quote(instrument, quote, touched),
                event => self.fold(event, touched),
            }
        }
    }

    /// Replaces the figures of this server; `None`: no session watches them any more. They get the position
    /// of the newest batch, which must not have been delivered to any session yet.
    pub fn note_stats(&mut self, stats: Option<Arc<ServerStats>>, touched: &mut Vec<TopicKey>) {
        self.stats = stats.map(|stats| (stats, self.position));
        touched.push(TopicKey::SERVER_STATS);
    }

    /// Notes how many sessions of this server watch an instrument. As [`Self::note_stats`].
    pub fn note_watchers(&mut self, instrument: InstrumentId, watchers: u64, touched: &mut Vec<TopicKey>) {
        let Some(book) = self.books.get_mut(instrument.index()) else { return };
        if book.watchers.set(watchers, self.position) {
            touched.push(TopicKey::of(instrument, Kind::Watchers));
        }
    }

    #[inline]
    fn quote(&mut self, instrument: InstrumentId, quote: &Quote, touched: &mut Vec<TopicKey>) {
        let Some(book) = self.books.get_mut(instrument.index()) else { return };
        if book.quote.apply(quote, self.position) {
            touched.push(TopicKey::of(instrument, Kind::Quote));
        }
    }

    /// Not inlined: quotes are most events, and would pay for the stack that the others need.
    #[inline(never)]
    fn fold(&mut self, event: &Event, touched: &mut Vec<TopicKey>) {
        let at = self.position;
        match event {
            Event::Instrument(definition) => self.define(definition, touched),
            &Event::Quote(instrument, ref quote) => self.quote(instrument, quote, touched),
            &Event::Trade(instrument, trade) => {
                let Some(book) = self.books.get_mut(instrument.index()) else { return };
                if trade.counts.is_break() {
                    book.take_back(trade, at, touched);
                    return;
                }
                let is_correction = trade.counts.has(Counts::CORRECTION);
                let corrected = if is_correction { book.correct(&trade, at, touched) } else { 0 };
                let booked = corrected | book.count(&trade, self.second, at, &mut self.open_bars, touched);
                book.trades.push(at, Trade { booked, ..trade });
                touched.push(TopicKey::of(instrument, Kind::Trades));
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
            Event::Posted(posted) => {
                let id = self.open_channel(posted.channel());
                let kind = self.channels[id.0 as usize].take(at, posted);
                touched.extend(kind.map(|kind| TopicKey::of_channel(id, kind)));
            }
            Event::Reset => {
                // The server's figures are not of the market, but a client drops them with a reset, too.
                let stats = self.stats.take().map(|(stats, _)| (stats, at));
                let (time, second) = (self.time, self.second);
                let (trades, bars) = self.kept;
                let (channels, by_channel) =
                    (std::mem::take(&mut self.channels), std::mem::take(&mut self.by_channel));
                *self = Self {
                    channels,
                    by_channel,
                    position: at,
                    time,
                    second,
                    reset_at: at,
                    stats,
                    ..Self::keeping(self.epoch, trades, bars)
                };
                touched.push(TopicKey::MARKET_STATUS);
            }
        }
    }

    fn open_channel(&mut self, name: &Symbol) -> ChannelId {
        if let Some(&id) = self.by_channel.get(name) {
            return id;
        }
        let id = ChannelId(u32::try_from(self.channels.len()).expect("a tape has few channels"));
        self.channels.push(Channel::new(name.clone()));
        self.by_channel.insert(name.clone(), id);
        id
    }

    fn restore(&mut self, instrument: InstrumentId, snapshot: &Snapshot, touched: &mut Vec<TopicKey>) {
        let at = self.position;
        let Some(book) = self.books.get_mut(instrument.index()) else { return };
        book.restore(snapshot, at);
        for (width, open) in WIDTHS.into_iter().zip(&mut self.open_bars) {
            if let Some(over) = book.bar_over(width) {
                // It may be there already, which does no harm.
                open.instruments.push(instrument);
                open.due = open.due.min(over);
            }
        }
        touched.extend(Kind::ALL.map(|kind| TopicKey::of(instrument, kind)));
    }

    fn define(&mut self, definition: &Arc<Instrument>, touched: &mut Vec<TopicKey>) {
        let (at, instrument) = (self.position, definition.id);
        let before = if let Some(book) = self.books.get_mut(instrument.index()) {
            book.refine(definition, at);
            book.defined_at = at;
            if instrument.index() < self.known {
                Moves::note(&mut book.moves, &book.definition.sector, &definition.sector, at);
            }
            Some(std::mem::replace(&mut book.definition, Arc::clone(definition)))
        } else {
            debug_assert_eq!(instrument.index(), self.books.len(), "numbers are dense");
            self.by_symbol.insert(definition.symbol.clone(), instrument);
            self.books.push(Book::new(Arc::clone(definition), at, self.kept));
            None
        };
        let book = &mut self.books[instrument.index()];
        let known =
            before.map_or(Price::NONE, |old| old.previous_close.refined(refinement(&old, definition).0));
        if definition.previous_close != known {
            book.day.set_previous_close(definition.previous_close, at);
        }
        touched.extend(Kind::ALL.map(|kind| TopicKey::of(instrument, kind)));
    }

    /// Closes the bars that are over by the clock. Not inlined, as [`Self::fold`].
    #[inline(never)]
    fn close_bars(&mut self, touched: &mut Vec<TopicKey>) {
        let (at, second, books) = (self.position, self.second, &mut self.books);
        for (open, width) in self.open_bars.iter_mut().zip(WIDTHS) {
            if second < open.due {
                continue;
            }
            let mut due = Timestamp::MAX;
            open.instruments.retain(|&instrument| {
                let book = &mut books[instrument.index()];
                let Some(over) = book.bar_over(width) else { return false };
                if over > second {
                    due = due.min(over);
                    return true;
                }
                let bars = book.bars_mut(width);
                if let Some(bar) = bars.latest.close() {
                    bars.closed.push(at, bar);
                    touched.push(TopicKey::of(instrument, Kind::of_bars(width)));
                }
                false
            });
            open.due = due;
        }
    }
}

impl OpenBars {
    const NONE: Self = Self { instruments: Vec::new(), due: Timestamp::MAX };
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
            newest: self.newest,
        }
    }

    /// Counts a trade that arrives in this second of the clock in the day and in the bars of its own time.
    /// Returns in which, as in [`Trade::booked`].
    fn count(
        &mut self,
        trade: &Trade,
        second: Timestamp,
        at: Position,
        open_bars: &mut [OpenBars; 2],
        touched: &mut Vec<TopicKey>,
    ) -> u16 {
        if trade.counts.plain() == Counts::NOTHING {
            return 0;
        }
        let arrival = trade.ts_recv.clamp(second, second.plus_nanos(SECOND - 1));
        let time = believed(trade, second, arrival);
        let (closes_bars, closes_day) = self.note_newest(trade, time, arrival);
        let instrument = self.definition.id;
        let mut booked = 0;
        if self.day.apply(trade, time, closes_day, at) != Counted::Nowhere {
            booked |= bit(Interval::Day);
            touched.push(TopicKey::of(instrument, Kind::Day));
        }
        for (width, open) in WIDTHS.into_iter().zip(open_bars) {
            let bars = self.bars_mut(width);
            let was_open = bars.latest.open().is_some();
            match bars.latest.apply(trade, time, closes_bars, at) {
                Counted::Nowhere => continue,
                Counted::InOpenBar => {}
                Counted::InNewBar(before) => {
                    if let Some(before) = before {
                        bars.closed.push(at, before);
                    }
                    if !was_open {
                        open.instruments.push(instrument);
                    }
                }
            }
            if let Some(over) = self.bar_over(width) {
                open.due = open.due.min(over);
            }
            booked |= bit(width);
            touched.push(TopicKey::of(instrument, Kind::of_bars(width)));
        }
        booked
    }

    /// Notes the time of a trade. Returns whether it may be the close of bars, and of the day, as the newest.
    fn note_newest(&mut self, trade: &Trade, time: Timestamp, arrival: Timestamp) -> (bool, bool) {
        let newest = self.newest.get_or_insert(Newest::NONE);
        // A trade of no bar must not set how long bars stay open: one that it ends could still be opened in
        // this second.
        if time >= newest.time && self.bars_1m.latest.counts(trade) {
            let late = arrival.nanos_since(time).max(0);
            (newest.time, newest.late) = (time, late - late % SECOND);
        }
        let closes = |last: &mut Option<Timestamp>, interval| {
            let is_newest = last.is_none_or(|last| time >= last);
            if is_newest && trade.counts.sets_last(interval) {
                *last = Some(time);
            }
            is_newest
        };
        (closes(&mut newest.bars_last, Interval::Minute), closes(&mut newest.day_last, Interval::Day))
    }

    /// The second of the clock from which on the open bar of a width is closed: a grace after its end, and
    /// later by how late the newest trade came (delayed data). `None` where no bar is open.
    fn bar_over(&self, width: Interval) -> Option<Timestamp> {
        let bars = if width == Interval::Second { &self.bars_1s } else { &self.bars_1m };
        let end = bars.latest.open()?.start.plus_nanos(width.nanos());
        let late = self.newest.map_or(0, |newest| newest.late);
        Some(end.plus_nanos(CLOSE_GRACE_NANOS).plus_nanos(late))
    }

    fn bars_mut(&mut self, width: Interval) -> &mut Bars {
        if width == Interval::Second { &mut self.bars_1s } else { &mut self.bars_1m }
    }

    /// Takes over what the snapshot holds; the rest stays.
    fn restore(&mut self, snapshot: &Snapshot, at: Position) {
        if let Some(quote) = &snapshot.quote {
            self.quote.apply(quote, at);
        }
        if let Some(status) = snapshot.status {
            self.status = Some((status, at));
        }
        if !snapshot.trades.is_empty() {
            self.trades = Ring::restored(self.trades.capacity(), &snapshot.trades, at);
        }
        self.bars_1s.restore(&snapshot.bars_1s, at);
        self.bars_1m.restore(&snapshot.bars_1m, at);
        if let Some(day) = snapshot.day {
            self.day.restore(day, true, at);
        }
        if !snapshot.previous_close.is_none() {
            self.day.set_previous_close(snapshot.previous_close, at);
        }
        self.newest = snapshot.newest.or(self.newest);
    }

    fn new(definition: Arc<Instrument>, at: Position, (trades, closed): (usize, usize)) -> Self {
        let bars = |interval| Bars { latest: BarImage::empty(interval), closed: Ring::new(closed) };
        Self {
            definition,
            defined_at: at,
            moves: None,
            quote: QuoteImage::EMPTY,
            trades: Ring::new(trades),
            bars_1s: bars(Interval::Second),
            bars_1m: bars(Interval::Minute),
            day: BarImage::empty(Interval::Day),
            status: None,
            watchers: WatchersImage::EMPTY,
            newest: None,
        }
    }

    /// Whether its sector last changed at that position.
    #[must_use]
    pub fn moved_at(&self, at: Position) -> bool {
        self.moves.as_ref().is_some_and(|moves| moves.since() == at)
    }

    /// The fields of a kind's image that changed after `since`, and the image; `None` where none changed.
    #[must_use]
    #[inline]
    pub fn changed(&self, kind: Kind, since: Position) -> Option<(u16, Image<'_>)> {
        let (mask, image) = match kind {
            Kind::Quote => (self.quote.changed_since(since), Image::Quote(self.quote.get()?)),
            Kind::Bars1s => self.bars_1s.latest.image(since),
            Kind::Bars1m => self.bars_1m.latest.image(since),
            Kind::Day => self.day.image(since),
            Kind::Watchers => self.watchers.image(since)?,
            Kind::Trades | Kind::Status | Kind::Stats | Kind::Messages | Kind::States => return None,
        };
        (mask != 0).then_some((mask, image))
    }

    /// When each field of [`Self::changed`] last changed.
    pub(super) fn stamps(&self, kind: Kind) -> &[Position] {
        match kind {
            Kind::Quote => self.quote.stamps(),
            Kind::Bars1s => self.bars_1s.latest.stamps(),
            Kind::Bars1m => self.bars_1m.latest.stamps(),
            Kind::Day => self.day.stamps(),
            Kind::Watchers => self.watchers.stamps(),
            Kind::Trades | Kind::Status | Kind::Stats | Kind::Messages | Kind::States => &[],
        }
    }

    /// The bars of a kind that has a ring of them.
    #[must_use]
    pub fn bars(&self, kind: Kind) -> Option<&Bars> {
        match kind {
            Kind::Bars1s => Some(&self.bars_1s),
            Kind::Bars1m => Some(&self.bars_1m),
            _ => None,
        }
    }

    /// Converts all that is kept to the scales of a new definition. Nothing is pending for that: clients do
    /// the same.
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
            self.closed = Ring::restored(self.closed.capacity(), &snapshot.closed, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Conditions, Counts, Price, Side, Size};
    use proptest::prelude::*;

    const X: InstrumentId = InstrumentId(0);

    fn trade(price: i64, size: i64, nanos: i64) -> Event {
        late_trade(price, size, nanos, nanos)
    }

    fn late_trade(price: i64, size: i64, nanos: i64, arrival: i64) -> Event {
        Event::Trade(
            X,
            Trade {
                price: Price::new(price),
                size: Size::new(size),
                side: Side::Buy,
                conditions: Conditions::default(),
                counts: Counts::EVERYTHING,
                booked: 0,
                ts_event: Timestamp::from_nanos(nanos),
                ts_recv: Timestamp::from_nanos(arrival),
            },
        )
    }

    /// Folds batches of (time, events) after a definition of X with a previous close of 90.
    fn replica(batches: &[(i64, Vec<Event>)]) -> Replica {
        let symbol = Symbol::new("X").unwrap();
        let definition = Instrument { previous_close: Price::new(90), ..Instrument::unknown(symbol) };
        let mut replica = Replica::new(Epoch::new(1));
        let define = (0, vec![Event::Instrument(Arc::new(definition))]);
        std::iter::once(&define).chain(batches).for_each(|batch| fold(&mut replica, batch));
        replica
    }

    fn fold(replica: &mut Replica, (time, events): &(i64, Vec<Event>)) {
        let (position, time) = (replica.position().next(), Timestamp::from_nanos(*time));
        replica.apply(&Batch { position, time, events: events.clone() }, &mut Vec::new());
    }

    /// Start in seconds, open, high, low, close and volume.
    fn day(replica: &Replica) -> [i128; 6] {
        let bar = replica.book(X).unwrap().day.get().unwrap();
        let [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map(Price::units);
        [i128::from(bar.start.nanos() / SECOND), open, high, low, close, bar.volume.units()]
    }

    /// `start: open high low close volume` of each closed 1 s bar, then of the open one.
    #[track_caller]
    fn check_bars(batches: &[(i64, Vec<Event>)], expected: &[&str]) -> Replica {
        let replica = replica(batches);
        let bars = &replica.book(X).unwrap().bars_1s;
        let show = |word: &str, bar: &Bar| {
            let prices = [bar.open, bar.high, bar.low, bar.close].map(Price::units);
            format!("{word} {} {prices:?} {}", bar.start.nanos() / SECOND, bar.volume.units())
        };
        let closed = bars.closed.newest(10).map(|(_, bar)| show("closed", &bar));
        let open = bars.latest.open().map(|bar| show("open", bar));
        assert_eq!(closed.chain(open).collect::<Vec<_>>(), expected);
        replica
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
    fn a_closed_bar_is_not_changed_by_a_trade_that_is_late_for_it_nor_is_a_newer_one() {
        let first = (0, vec![trade(100, 1, 0)]);
        let late = (5 * SECOND, vec![late_trade(98, 7, SECOND / 2, 5 * SECOND)]);
        check_bars(
            &[first.clone(), (4 * SECOND, vec![]), late.clone()],
            &["closed 0 [100, 100, 100, 100] 1"],
        );
        let newer = (5 * SECOND, vec![trade(101, 1, 5 * SECOND)]);
        let expected = ["closed 0 [100, 100, 100, 100] 1", "open 5 [101, 101, 101, 101] 1"];
        check_bars(&[first, newer, late], &expected);
    }

    #[test]
    fn a_late_trade_moves_high_low_and_volume_of_what_is_open_but_not_its_close() {
        let at = |price, nanos| late_trade(price, 1, nanos, SECOND - 1);
        let trades = vec![at(100, 0), at(101, SECOND / 2), at(90, SECOND / 4), at(99, SECOND / 4)];
        let replica = check_bars(&[(SECOND - 1, trades)], &["open 0 [100, 101, 90, 101] 4"]);
        assert_eq!(day(&replica), [0, 100, 101, 90, 101, 4]);
        // A trade too late for its second may still count in its minute and day.
        let trades = vec![trade(100, 1, 0), trade(101, 1, 9 * SECOND), late_trade(95, 5, SECOND, 9 * SECOND)];
        let expected = ["closed 0 [100, 100, 100, 100] 1", "open 9 [101, 101, 101, 101] 1"];
        let replica = check_bars(&[(9 * SECOND, trades)], &expected);
        assert_eq!(day(&replica), [0, 100, 101, 95, 101, 7]);
        let minute = replica.book(X).unwrap().bars_1m.latest.open().unwrap();
        assert_eq!((minute.low, minute.close, minute.trades), (Price::new(95), Price::new(101), 3));
    }

    #[test]
    fn a_trade_of_a_past_day_moves_nothing_and_is_told_all_the_same() {
        let today = Interval::Day.nanos() * 7;
        for long_ago in [today - 1, today - Interval::Day.nanos(), 0] {
            let trades = vec![trade(10, 1, today), late_trade(50, 1, long_ago, today)];
            let replica = check_bars(&[(today, trades)], &["open 604800 [10, 10, 10, 10] 1"]);
            assert_eq!(day(&replica), [604_800, 10, 10, 10, 10, 1]);
            let book = replica.book(X).unwrap();
            assert_eq!(book.day.previous_close(), Price::new(90));
            assert_eq!((book.trades.count(), book.bars_1m.closed.count()), (2, 0));
        }
    }

    #[test]
    fn data_of_which_all_is_delayed_have_the_bars_of_their_own_time() {
        let quarter = 15 * 60 * SECOND + SECOND / 3;
        let delayed = |time| (time + quarter, vec![late_trade(100 + time / SECOND, 1, time, time + quarter)]);
        let silence = |time| (time + quarter, Vec::new());
        let batches = [delayed(0), delayed(SECOND - 1), silence(SECOND * 3 / 2), delayed(7 * SECOND)];
        check_bars(&batches[..3], &["open 0 [100, 100, 100, 100] 2"]);
        check_bars(&batches, &["closed 0 [100, 100, 100, 100] 2", "open 7 [107, 107, 107, 107] 1"]);
        let mut last = batches.to_vec();
        last.push(silence(10 * SECOND));
        check_bars(&last, &["closed 0 [100, 100, 100, 100] 2", "closed 7 [107, 107, 107, 107] 1"]);
    }

    #[test]
    fn a_trade_of_a_time_far_ahead_counts_by_its_arrival() {
        let ahead = (SECOND / 2, vec![late_trade(100, 1, 1_000_000 * SECOND, SECOND / 2)]);
        let next = (SECOND - 1, vec![trade(101, 2, SECOND - 1)]);
        check_bars(&[ahead, next], &["open 0 [100, 101, 100, 101] 3"]);
    }

    #[test]
    fn a_trade_of_a_time_a_little_ahead_is_believed() {
        let ahead = (SECOND / 2, vec![late_trade(100, 1, 5 * SECOND - 1, SECOND / 2)]);
        check_bars(std::slice::from_ref(&ahead), &["open 4 [100, 100, 100, 100] 1"]);
        let over = (6 * SECOND, Vec::new());
        check_bars(&[ahead, over], &["closed 4 [100, 100, 100, 100] 1"]);
    }

    #[test]
    fn no_bar_is_invented_where_the_clock_jumps() {
        let hour = 3600 * SECOND;
        let before = (SECOND, vec![trade(100, 1, SECOND)]);
        let behind = (SECOND + hour, vec![trade(101, 1, SECOND + hour)]);
        let expected = ["closed 1 [100, 100, 100, 100] 1", "open 3601 [101, 101, 101, 101] 1"];
        let replica = check_bars(&[before, behind], &expected);
        assert_eq!(replica.book(X).unwrap().bars_1m.closed.count(), 1);
    }

    /// What happens to X: a trade so many ms after the one before, of a time so many ms before it arrives.
    fn trades() -> impl Strategy<Value = Vec<(u16, i64, i64)>> {
        let after = prop_oneof![5 => 0..400_u16, 2 => 400..3000_u16, 1 => 3000..60_000_u16];
        let late = prop_oneof![
            5 => Just(0_i64), 3 => -7000..3000_i64, 1 => 0..100_000_i64, 1 => 86_000_000..87_000_000_i64
        ];
        proptest::collection::vec((after, 90..110_i64, late), 1..60)
    }

    /// The bars and the day by the rules of `docs/protocol.md`, one trade after the other.
    #[derive(Default)]
    struct Model {
        /// Per width start, open, high, low, close, trades; and whether it is closed.
        bars: [Vec<([i64; 6], bool)>; 3],
        newest: Option<(i64, i64)>,
    }

    impl Model {
        fn pass(&mut self, second: i64) {
            let late = self.newest.map_or(0, |(_, late)| late);
            for (width, bars) in [SECOND, 60 * SECOND].into_iter().zip(&mut self.bars) {
                if let Some((bar, closed)) = bars.last_mut() {
                    *closed |= second >= bar[0] + width + SECOND + late;
                }
            }
        }

        fn trade(&mut self, price: i64, ts_event: i64, arrival: i64) {
            let second = arrival.div_euclid(SECOND) * SECOND;
            self.pass(second);
            let time = if ts_event < second + 5 * SECOND { ts_event } else { arrival };
            let is_newest = self.newest.is_none_or(|(newest, _)| time >= newest);
            if is_newest {
                self.newest = Some((time, (arrival - time).max(0) / SECOND * SECOND));
            }
            for (width, bars) in [SECOND, 60 * SECOND, Interval::Day.nanos()].into_iter().zip(&mut self.bars)
            {
                let start = time.div_euclid(width) * width;
                match bars.last_mut() {
                    Some((bar, _)) if start < bar[0] => {}
                    Some((bar, closed)) if start == bar[0] => {
                        if !*closed {
                            let close = if is_newest { price } else { bar[4] };
                            *bar = [start, bar[1], bar[2].max(price), bar[3].min(price), close, bar[5] + 1];
                        }
                    }
                    last => {
                        if let Some((_, closed)) = last {
                            *closed = true;
                        }
                        bars.push(([start, price, price, price, price, 1], false));
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn bars_follow_from_the_trades_however_they_are_batched_and_whenever_the_time_is_told(
            trades in trades(), cuts in proptest::collection::vec(any::<bool>(), 60), told in 0..4000_i64,
            taken_up in any::<proptest::sample::Index>(), silence in 0..200_000_i64,
        ) {
            const MILLI: i64 = 1_000_000;
            let begin = Interval::Day.nanos() * 20_000 - 20 * SECOND;
            let (mut clock, mut model, mut batches) = (begin, Model::default(), Vec::<(i64, Vec<Event>)>::new());
            for (&(after, price, late), cut) in trades.iter().zip(cuts) {
                let next = clock + i64::from(after) * MILLI;
                // In a silence the time is published now and then, or never.
                while told > 0 && clock + told * MILLI < next {
                    clock += told * MILLI;
                    batches.push((clock, Vec::new()));
                }
                clock = next;
                let ts_event = clock - late * MILLI;
                model.trade(price, ts_event, clock);
                let event = late_trade(price, 1, ts_event, clock);
                match batches.last_mut() {
                    // All events of one second may come in one batch.
                    Some((time, events)) if !cut && *time / SECOND == clock / SECOND => {
                        *time = clock;
                        events.push(event);
                    }
                    _ => batches.push((clock, vec![event])),
                }
            }
            batches.push((clock + silence * MILLI, Vec::new()));
            model.pass((clock + silence * MILLI).div_euclid(SECOND) * SECOND);

            let whole = replica(&batches);
            let (before, after) = batches.split_at(taken_up.index(batches.len()));
            let mut sought = Replica::new(Epoch::new(2));
            let known = replica(before);
            fold(&mut sought, &(known.time().nanos(), known.checkpoint().collect()));
            for batch in after {
                fold(&mut sought, batch);
            }

            for replica in [whole, sought] {
                let book = replica.book(X).unwrap();
                let parts = |bar: &Bar| {
                    let units = |price: Price| i64::try_from(price.units()).unwrap();
                    let [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map(units);
                    [bar.start.nanos(), open, high, low, close, i64::try_from(bar.trades).unwrap()]
                };
                for (bars, model) in [&book.bars_1s, &book.bars_1m].into_iter().zip(&model.bars) {
                    let mut shown: Vec<_> = bars.closed.newest(100).map(|(_, bar)| (parts(&bar), true)).collect();
                    shown.extend(bars.latest.open().map(|bar| (parts(bar), false)));
                    prop_assert_eq!(&shown, model);
                }
                let model = &model.bars[2];
                prop_assert_eq!(book.day.get().map(parts), model.last().map(|&(bar, _)| bar));
                let previous = model.iter().rev().nth(1).map_or(90, |(bar, _)| bar[4]);
                prop_assert_eq!(book.day.previous_close(), Price::new(previous));
            }
        }
    }

    /// A trade with these counts.
    fn counting(counts: &str, price: i64, size: i64, nanos: i64) -> Event {
        let Event::Trade(_, plain) = trade(price, size, nanos) else { unreachable!() };
        Event::Trade(X, Trade { counts: counts.parse().unwrap(), ..plain })
    }

    #[test]
    fn trades_count_as_far_as_they_say() {
        let trades = vec![
            counting("volume", 500, 1, 0),
            counting("volume day_high_low", 40, 2, 1),
            trade(100, 4, 2),
            counting("nothing", 900, 999, 3),
            counting("volume high_low", 120, 8, 4),
            counting("volume bars_high_low bars_last", 130, 16, 5),
            counting("last", 105, 32, 6),
            counting("volume", 1, 64, 7),
        ];
        let replica = check_bars(&[(SECOND, trades)], &["open 0 [100, 130, 100, 105] 95"]);
        let book = replica.book(X).unwrap();
        // The first trade with a price opens the day; it was the last one until there was one that sets it.
        assert_eq!(day(&replica), [0, 40, 120, 40, 105, 95]);
        assert_eq!(book.day.get().unwrap().trades, 6);
        let turnover = 500 + 40 * 2 + 100 * 4 + 120 * 8 + 130 * 16 + 64;
        assert_eq!(book.day.get().unwrap().vwap_hundredths(), (turnover * 100 + 47) / 95);
        assert_eq!(book.trades.count(), 8, "all are told");
    }

    #[test]
    fn a_bar_of_which_no_trade_sets_a_price_has_none() {
        let none = Price::NONE.units();
        let batches = [(0, vec![counting("volume", 500, 3, 0)]), (3 * SECOND, vec![])];
        check_bars(&batches, &[&format!("closed 0 {:?} 3", [none; 4])]);
    }

    #[test]
    fn a_trade_that_counts_for_nothing_opens_and_closes_no_bar() {
        let first = (0, vec![trade(100, 1, 0)]);
        let report = (SECOND, vec![counting("nothing", 100, 9, SECOND)]);
        check_bars(&[first.clone(), report.clone()], &["open 0 [100, 100, 100, 100] 1"]);
        let late = (SECOND, vec![late_trade(101, 1, SECOND - 1, SECOND)]);
        check_bars(&[first, report, late], &["open 0 [100, 101, 100, 101] 2"]);
    }

    #[test]
    fn the_close_is_the_newest_of_those_that_may_be_it() {
        // The newest trade of all is an odd lot; the one after it, of an earlier time, is still the close.
        let odd = counting("volume", 500, 1, 9);
        let overtaken = vec![trade(100, 1, 1), odd, late_trade(101, 1, 5, 10), late_trade(99, 1, 3, 11)];
        let replica = check_bars(&[(12, overtaken)], &["open 0 [100, 101, 99, 101] 4"]);
        assert_eq!(day(&replica), [0, 100, 101, 99, 101, 4]);
        // The day's close is not that of the extended hours, in whichever order the trades arrive.
        let extended = counting("volume bars_high_low bars_last", 200, 1, 9);
        let replica = replica_of(vec![trade(100, 1, 1), extended, late_trade(101, 1, 5, 10)]);
        assert_eq!(day(&replica), [0, 100, 101, 100, 101, 3]);
        assert_eq!(replica.book(X).unwrap().bars_1s.latest.get().unwrap().close, Price::new(200));
    }

    #[test]
    fn what_is_of_no_bar_does_not_say_for_how_long_bars_are_open() {
        // An earlier bar is opened after it. When it closes must not depend on how batches are cut.
        let first = counting("volume", 100, 0, 90 * SECOND);
        let late = [10, 11].map(|at| late_trade(101, 1, at * SECOND, 90 * SECOND));
        let minute = |batches: &[(i64, Vec<Event>)]| {
            let replica = replica(batches);
            replica.book(X).unwrap().bars_1m.latest.get().unwrap().trades
        };
        let [one, two] = late.clone();
        assert_eq!(minute(&[(90 * SECOND, [vec![first.clone()], late.to_vec()].concat())]), 2);
        assert_eq!(minute(&[first, one, two].map(|event| (90 * SECOND, vec![event]))), 2);
    }

    fn replica_of(trades: Vec<Event>) -> Replica {
        replica(&[(12, trades)])
    }

    #[test]
    fn a_day_without_a_price_leaves_the_previous_close() {
        let day = Interval::Day.nanos();
        let today = (1, vec![trade(100, 1, 0)]);
        let extended = counting("volume bars_high_low bars_last", 200, 1, day);
        let after = (2 * day, vec![trade(105, 1, 2 * day)]);
        let replica = replica(&[today, (day, vec![extended]), after]);
        let image = &replica.book(X).unwrap().day;
        assert_eq!((image.previous_close(), image.get().unwrap().open), (Price::new(100), Price::new(105)));
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
