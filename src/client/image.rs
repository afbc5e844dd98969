use crate::hub::{Kind, Scope, ServerStats, Topic, refinement};
use crate::market::{FeedStatus, Instrument, InstrumentId, Status, Symbol, Timestamp, Trade};
use crate::tape::Position;
use crate::wire::{
    BarFields, Entry, Fields, Numbered, QuoteFields, Update, WatchersFields, checksum, json, schema,
};
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A client's state: the images of its topics, and the next number of each ring. Trades and closed bars are
/// passed on, not kept, so memory depends on the number of instruments only.
#[derive(Clone, Debug, Default)]
pub struct Image {
    books: FxHashMap<InstrumentId, Book>,
    by_symbol: FxHashMap<Symbol, InstrumentId>,
    status: Option<Status>,
    feed: Option<FeedStatus>,
    stats: Option<Arc<ServerStats>>,
    /// Topics whose first snapshot is complete: a ring of theirs without a number was empty then, so begins
    /// at 0.
    settled: Vec<Topic>,
    /// In the flush of a reset: rings begin at the server's number.
    is_beginning: bool,
    /// The topic that joined with the entry before.
    joined: Option<Joined>,
    /// Rings that left in the current flush. Their numbers are kept until it ends, as it may be given up and
    /// sent again.
    leaving: Vec<(InstrumentId, Kind)>,
    /// Earlier definitions of instruments that moved in the current flush: until it ends, their images belong
    /// to the earlier sectors. With each a mask of the kinds concerned.
    moved: Moved,
}

type Moved = FxHashMap<InstrumentId, Vec<(Arc<Instrument>, u8)>>;

#[derive(Clone, Copy, Debug)]
struct Joined {
    topic: (InstrumentId, Kind),
    had_left: bool,
}

/// A client's state of one instrument: the fields of a topic that was not delivered are `None`.
#[derive(Clone, Debug)]
pub struct Book {
    /// Its latest definition; its scales are those of all numbers here.
    pub instrument: Arc<Instrument>,
    /// The image of `quote`.
    pub quote: QuoteFields,
    /// The latest bar of `bars.1s`.
    pub bars_1s: BarFields,
    /// The latest bar of `bars.1m`.
    pub bars_1m: BarFields,
    /// The image of `day`: the UTC day so far.
    pub day: BarFields,
    /// Its trading state, of `status`.
    pub status: Option<Status>,
    /// The image of `watchers`.
    pub watchers: WatchersFields,
    /// Number of the next trade, next closed second, next closed minute.
    expected: [Option<u64>; 3],
    /// Mask of the kinds whose ring has left: entries missed until such a ring joins again are no gap.
    left: u8,
}

/// One change of an update. Images are complete and current; prices and sizes are units at the instrument's
/// scales.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The tape continues at another moment, as after a seek: all state is void, and snapshots of that moment
    /// follow.
    Reset,
    /// New or changed reference data.
    Definition(Arc<Instrument>),
    /// Best bid and offer.
    Quote {
        /// The quoted instrument.
        instrument: Arc<Instrument>,
        /// The complete image after the change.
        quote: QuoteFields,
        /// The fields that this update sent; the others are `None`.
        changed: QuoteFields,
    },
    /// The wire has no `ts_recv`; it is equal to `ts_event`.
    Trade {
        /// The traded instrument.
        instrument: Arc<Instrument>,
        /// Its number in the instrument's ring of trades, from 0.
        number: u64,
        /// Prices and sizes in units of the instrument's scales.
        trade: Trade,
    },
    /// The latest bar of a width, or the day.
    Bar {
        /// The bar's instrument.
        instrument: Arc<Instrument>,
        /// `Bars1s`, `Bars1m` or `Day`.
        kind: Kind,
        /// The complete image after the change.
        bar: BarFields,
    },
    /// A bar that no trade is added to any more.
    ClosedBar {
        /// The bar's instrument.
        instrument: Arc<Instrument>,
        /// `Bars1s` or `Bars1m`.
        kind: Kind,
        /// Its number in the instrument's ring of that width, from 0.
        number: u64,
        /// All fields but `previous_close`.
        bar: BarFields,
    },
    /// How many sessions watch an instrument by name.
    Watchers {
        /// The watched instrument.
        instrument: Arc<Instrument>,
        /// The complete image after the change.
        watchers: WatchersFields,
    },
    /// Trades or closed bars were lost: they left the server's ring, or this client's, before they were
    /// delivered.
    Gap {
        /// The ring's instrument.
        instrument: Arc<Instrument>,
        /// `Trades`, `Bars1s` or `Bars1m`.
        kind: Kind,
        /// The exact number of lost entries.
        missed: u64,
    },
    /// A trading state.
    Status {
        /// `None`: the state of the market.
        instrument: Option<Arc<Instrument>>,
        /// The state, and since when.
        status: Status,
    },
    /// The state of the server's feed.
    Feed(FeedStatus),
    /// The server's statistics, once a second.
    Stats(Arc<ServerStats>),
    /// The instrument moved into a subscribed sector: its snapshot follows. Earlier ring entries do not count
    /// as missed, unless the topic belonged to a subscribed sector before and nothing of it was dropped.
    Joined {
        /// The instrument that moved.
        instrument: Arc<Instrument>,
        /// The topic's kind.
        kind: Kind,
    },
    /// The instrument moved out of the last subscribed sector: its image is dropped, and delivery ends.
    Left {
        /// The instrument that moved.
        instrument: Arc<Instrument>,
        /// The topic's kind.
        kind: Kind,
    },
}

/// How a change is merged with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Voids all before it.
    Reset,
    /// Replaces the one before.
    Image(Key),
    /// Follows the one before.
    Ring(RingKey),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Definition(InstrumentId),
    Image(Kind, Option<InstrumentId>),
    Feed,
}

pub(super) type RingKey = (Kind, InstrumentId);

impl Image {
    /// Applies an update and returns its changes, in order.
    pub fn apply(&mut self, update: &Update) -> Vec<Change> {
        let mut changes = Vec::with_capacity(update.entries.len());
        for entry in &update.entries {
            self.entry(entry, &mut changes);
        }
        self.joined = None;
        self.is_beginning &= !update.whole;
        if update.whole {
            self.moved.clear();
            for (instrument, kind) in self.leaving.drain(..) {
                if let Some(book) = self.books.get_mut(&instrument).filter(|book| book.left & bit(kind) != 0)
                {
                    *book.expected_mut(kind) = None;
                }
            }
        }
        changes
    }

    fn entry(&mut self, entry: &Entry, changes: &mut Vec<Change>) {
        let joined = self.joined.take();
        match entry {
            Entry::Reset => {
                let settled = std::mem::take(&mut self.settled);
                *self = Self { settled, is_beginning: true, ..Self::default() };
                changes.push(Change::Reset);
            }
            Entry::Definition(definition) => {
                self.define(definition);
                changes.push(Change::Definition(Arc::clone(definition)));
            }
            Entry::Image(instrument, _, Fields::Quote(change)) => {
                let book = self.book_mut(instrument);
                book.quote.merge(change);
                let (instrument, quote) = (Arc::clone(instrument), book.quote);
                changes.push(Change::Quote { instrument, quote, changed: *change });
            }
            Entry::Image(instrument, kind, Fields::Bar(change)) => {
                let image = self.book_mut(instrument).bar_mut(*kind);
                image.merge(change);
                let (instrument, bar) = (Arc::clone(instrument), *image);
                changes.push(Change::Bar { instrument, kind: *kind, bar });
            }
            Entry::Image(instrument, _, Fields::Watchers(change)) => {
                let image = &mut self.book_mut(instrument).watchers;
                image.merge(change);
                let (instrument, watchers) = (Arc::clone(instrument), *image);
                changes.push(Change::Watchers { instrument, watchers });
            }
            Entry::Trades(instrument, trades) => {
                for (number, trade) in self.count(instrument, Kind::Trades, trades, joined, changes) {
                    let (instrument, trade) = (Arc::clone(instrument), *trade);
                    changes.push(Change::Trade { instrument, number, trade });
                }
            }
            Entry::ClosedBars(instrument, kind, bars) => {
                for (number, bar) in self.count(instrument, *kind, bars, joined, changes) {
                    let (instrument, kind, bar) = (Arc::clone(instrument), *kind, *bar);
                    changes.push(Change::ClosedBar { instrument, kind, number, bar });
                }
            }
            Entry::Status(instrument, status) => {
                match instrument {
                    Some(instrument) => self.book_mut(instrument).status = Some(*status),
                    None => self.status = Some(*status),
                }
                changes.push(Change::Status { instrument: instrument.clone(), status: *status });
            }
            Entry::Feed(feed) => {
                self.feed = Some(*feed);
                changes.push(Change::Feed(*feed));
            }
            Entry::Stats(stats) => {
                self.stats = Some(Arc::clone(stats));
                changes.push(Change::Stats(Arc::clone(stats)));
            }
            Entry::Joined(instrument, kind) => {
                let had_left = self.book_mut(instrument).comes_again(*kind);
                self.joined = Some(Joined { topic: (instrument.id, *kind), had_left });
                changes.push(Change::Joined { instrument: Arc::clone(instrument), kind: *kind });
            }
            Entry::Left(instrument, kind) => {
                let book = self.book_mut(instrument);
                book.drop_image(*kind);
                if kind.has_ring() && book.expected_mut(*kind).is_some() {
                    book.left |= bit(*kind);
                    self.leaving.push((instrument.id, *kind));
                }
                changes.push(Change::Left { instrument: Arc::clone(instrument), kind: *kind });
            }
            // `Channels` takes these.
            Entry::Messages(..) | Entry::States(..) => {}
        }
    }

    /// Advances a ring's number: reports a gap, and returns the entries that were not received before.
    fn count<'a, T>(
        &mut self,
        instrument: &Arc<Instrument>,
        kind: Kind,
        run: &'a Numbered<T>,
        joined: Option<Joined>,
        changes: &mut Vec<Change>,
    ) -> impl Iterator<Item = (u64, &'a T)> + use<'a, T> {
        let expected = *self.book_mut(instrument).expected_mut(kind);
        let covers = |topic: &Topic| topic.kind == kind && topic.covers(instrument);
        let joined = joined.filter(|joined| joined.topic == (instrument.id, kind));
        let had_left = self.book_mut(instrument).comes_again(kind) || joined.is_some_and(|it| it.had_left);
        let begins = had_left || joined.is_some() || self.is_beginning;
        let from = match expected {
            // Entries that came while it was outside the sectors do not count as lost.
            Some(expected) if had_left => expected.max(run.number),
            Some(expected) => expected,
            None if !begins && self.settled.iter().any(covers) => 0,
            // A new ring begins at the server's number, without a gap.
            None => run.number,
        };
        *self.book_mut(instrument).expected_mut(kind) = Some(from.max(run.number + run.entries.len() as u64));
        if run.number > from {
            let (instrument, missed) = (Arc::clone(instrument), run.number - from);
            changes.push(Change::Gap { instrument, kind, missed });
        }
        run.iter().skip_while(move |&(number, _)| number < from)
    }

    fn define(&mut self, definition: &Arc<Instrument>) {
        let before = Arc::clone(&self.book_mut(definition).instrument);
        if before.sector != definition.sector {
            // The server does not report what has left a set that never settled.
            let sets = self.settled.iter().filter(|topic| is_set_of(topic, &before));
            let kinds = sets.fold(0, |mask, topic| mask | bit(topic.kind));
            self.moved.entry(definition.id).or_default().push((before, kinds));
        }
        let book = self.book_mut(definition);
        let (price, size) = refinement(&book.instrument, definition);
        book.quote = book.quote.refined(price, size);
        for bar in [&mut book.bars_1s, &mut book.bars_1m, &mut book.day] {
            *bar = bar.refined(price, size);
        }
        book.instrument = Arc::clone(definition);
        self.by_symbol.insert(definition.symbol.clone(), definition.id);
    }

    fn book_mut(&mut self, instrument: &Arc<Instrument>) -> &mut Book {
        self.books.entry(instrument.id).or_insert_with(|| Book::new(Arc::clone(instrument)))
    }

    /// Marks the first snapshots of these topics as complete.
    pub fn settle(&mut self, topics: impl IntoIterator<Item = Topic>) {
        for topic in topics {
            if !self.settled.contains(&topic) {
                self.settled.push(topic);
            }
        }
    }

    /// Drops all that none of these topics covers, because the others were unsubscribed.
    pub fn keep(&mut self, topics: &[Topic]) {
        self.settled.retain(|topic| topics.contains(topic));
        for book in self.books.values_mut() {
            for kind in Kind::ALL {
                if !is_kept(topics, kind, book, &self.moved) {
                    book.forget(kind);
                }
            }
        }
        if !topics.contains(&Topic::STATUS) {
            (self.status, self.feed) = (None, None);
        }
        if !topics.contains(&Topic::STATS) {
            self.stats = None;
        }
    }

    /// Drops the images that none of these topics covers, because another connection begins them with a
    /// snapshot, and returns a [`Change::Left`] for each. Numbers of rings are kept: they identify entries
    /// that are sent again.
    pub fn drop_images(&mut self, topics: &[Topic]) -> Vec<Change> {
        let mut changes = Vec::new();
        for book in self.books.values_mut() {
            for kind in Kind::ALL {
                if !is_kept(topics, kind, book, &self.moved) && book.drop_image(kind) {
                    let instrument = &book.instrument;
                    changes.push(Change::Left { instrument: Arc::clone(instrument), kind });
                }
            }
        }
        changes
    }

    /// The state of one instrument; `None` if no definition of the symbol was received.
    #[must_use]
    pub fn book(&self, symbol: &str) -> Option<&Book> {
        self.by_symbol.get(symbol).and_then(|id| self.books.get(id))
    }

    /// The state of each instrument, in no order.
    pub fn books(&self) -> impl Iterator<Item = &Book> {
        self.books.values()
    }

    /// The market's trading state and the state of the server's feed: both of `status`.
    #[must_use]
    pub fn market(&self) -> (Option<&Status>, Option<&FeedStatus>) {
        (self.status.as_ref(), self.feed.as_ref())
    }

    /// The server's last statistics.
    #[must_use]
    pub fn stats(&self) -> Option<&ServerStats> {
        self.stats.as_deref()
    }

    /// The checksum that the server should have of this image at the same position; `None` if there is no
    /// image.
    #[must_use]
    pub fn checksum(&self, topic: &Topic) -> Option<u32> {
        let Scope::Symbol(symbol) = &topic.scope else { return None };
        let book = self.book(symbol.as_str())?;
        let fields = book.fields(topic.kind)?.units(schema::image(topic.kind)?.all);
        Some(checksum(&topic.to_string(), fields))
    }
}

impl Book {
    fn new(instrument: Arc<Instrument>) -> Self {
        Self {
            instrument,
            quote: QuoteFields::default(),
            bars_1s: BarFields::default(),
            bars_1m: BarFields::default(),
            day: BarFields::default(),
            status: None,
            watchers: WatchersFields::default(),
            expected: [None; 3],
            left: 0,
        }
    }

    fn bar_mut(&mut self, kind: Kind) -> &mut BarFields {
        match kind {
            Kind::Bars1s => &mut self.bars_1s,
            Kind::Bars1m => &mut self.bars_1m,
            _ => &mut self.day,
        }
    }

    /// The image of a kind; `None` for a kind without fields, or if none was received.
    fn fields(&self, kind: Kind) -> Option<Fields> {
        let of_bar = |bar: &BarFields| bar.start.map(|_| Fields::Bar(*bar));
        match kind {
            Kind::Quote => (self.quote != QuoteFields::default()).then_some(Fields::Quote(self.quote)),
            Kind::Bars1s => of_bar(&self.bars_1s),
            Kind::Bars1m => of_bar(&self.bars_1m),
            Kind::Day => of_bar(&self.day),
            Kind::Watchers => self.watchers.watchers.map(|_| Fields::Watchers(self.watchers)),
            Kind::Trades | Kind::Status | Kind::Stats | Kind::Messages | Kind::States => None,
        }
    }

    fn expected_mut(&mut self, kind: Kind) -> &mut Option<u64> {
        &mut self.expected[match kind {
            Kind::Bars1s => 1,
            Kind::Bars1m => 2,
            _ => 0,
        }]
    }

    /// Notes that a topic is delivered again; returns whether it had left.
    fn comes_again(&mut self, kind: Kind) -> bool {
        let had_left = self.left & bit(kind) != 0;
        self.left &= !bit(kind);
        had_left
    }

    fn forget(&mut self, kind: Kind) {
        self.drop_image(kind);
        if kind.has_ring() {
            *self.expected_mut(kind) = None;
        }
    }

    /// Returns whether there was one.
    fn drop_image(&mut self, kind: Kind) -> bool {
        match kind {
            Kind::Quote => std::mem::take(&mut self.quote) != QuoteFields::default(),
            Kind::Bars1s => std::mem::take(&mut self.bars_1s) != BarFields::default(),
            Kind::Bars1m => std::mem::take(&mut self.bars_1m) != BarFields::default(),
            Kind::Day => std::mem::take(&mut self.day) != BarFields::default(),
            Kind::Status => self.status.take().is_some(),
            Kind::Watchers => std::mem::take(&mut self.watchers) != WatchersFields::default(),
            Kind::Trades | Kind::Stats | Kind::Messages | Kind::States => false,
        }
    }
}

/// Whether one of these topics covers the book, or did before its instrument moved in the current flush.
fn is_kept(topics: &[Topic], kind: Kind, book: &Book, moved: &Moved) -> bool {
    let before = moved.get(&book.instrument.id).into_iter().flatten();
    let mut before = before.filter(|(_, kinds)| kinds & bit(kind) != 0);
    let of_kind = topics.iter().filter(|topic| topic.kind == kind);
    of_kind.clone().any(|topic| topic.covers(&book.instrument))
        || before.any(|(instrument, _)| of_kind.clone().any(|topic| is_set_of(topic, instrument)))
}

/// Whether a topic covers an instrument by its sector.
fn is_set_of(topic: &Topic, instrument: &Instrument) -> bool {
    matches!(topic.scope, Scope::Sector(_)) && topic.covers(instrument)
}

/// A kind's bit in a mask of kinds.
const fn bit(kind: Kind) -> u8 {
    1 << kind.index()
}

impl Change {
    /// Its topic; a definition and a reset have none.
    #[must_use]
    pub fn topic(&self) -> Option<String> {
        Some(json::topic(self.kind()?, self.instrument().map(|instrument| &**instrument)))
    }

    /// The kind of that topic.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Reset | Self::Definition(_) => return None,
            Self::Quote { .. } => Kind::Quote,
            Self::Trade { .. } => Kind::Trades,
            Self::Bar { kind, .. }
            | Self::ClosedBar { kind, .. }
            | Self::Gap { kind, .. }
            | Self::Joined { kind, .. }
            | Self::Left { kind, .. } => *kind,
            Self::Status { .. } | Self::Feed(_) => Kind::Status,
            Self::Watchers { .. } => Kind::Watchers,
            Self::Stats(_) => Kind::Stats,
        })
    }

    /// Its instrument; `None` for a change of the whole market or the server.
    #[must_use]
    pub fn instrument(&self) -> Option<&Arc<Instrument>> {
        match self {
            Self::Definition(instrument)
            | Self::Quote { instrument, .. }
            | Self::Trade { instrument, .. }
            | Self::Bar { instrument, .. }
            | Self::ClosedBar { instrument, .. }
            | Self::Gap { instrument, .. }
            | Self::Watchers { instrument, .. }
            | Self::Joined { instrument, .. }
            | Self::Left { instrument, .. } => Some(instrument),
            Self::Status { instrument, .. } => instrument.as_ref(),
            Self::Reset | Self::Feed(_) | Self::Stats(_) => None,
        }
    }

    /// How it is merged with others.
    pub(super) fn place(&self) -> Place {
        let image = |kind, instrument: Option<&Arc<Instrument>>| {
            Place::Image(Key::Image(kind, instrument.map(|instrument| instrument.id)))
        };
        match self {
            Self::Reset => Place::Reset,
            Self::Definition(instrument) => Place::Image(Key::Definition(instrument.id)),
            Self::Quote { instrument, .. } => image(Kind::Quote, Some(instrument)),
            Self::Bar { instrument, kind, .. } => image(*kind, Some(instrument)),
            Self::Status { instrument, .. } => image(Kind::Status, instrument.as_ref()),
            Self::Watchers { instrument, .. } => image(Kind::Watchers, Some(instrument)),
            Self::Feed(_) => Place::Image(Key::Feed),
            Self::Stats(_) => image(Kind::Stats, None),
            Self::Trade { instrument, .. } => Place::Ring((Kind::Trades, instrument.id)),
            Self::ClosedBar { instrument, kind, .. } | Self::Gap { instrument, kind, .. } => {
                Place::Ring((*kind, instrument.id))
            }
            // In order with the ring's entries.
            Self::Joined { instrument, kind } | Self::Left { instrument, kind } if kind.has_ring() => {
                Place::Ring((*kind, instrument.id))
            }
            Self::Joined { instrument, kind } | Self::Left { instrument, kind } => {
                image(*kind, Some(instrument))
            }
        }
    }

    /// Replaces an earlier one that was not delivered: takes over the fields which that changed.
    pub(super) fn follow(&mut self, before: &Self) {
        if let (Self::Quote { changed: before, .. }, Self::Quote { changed, .. }) = (before, self) {
            let mut all = *before;
            all.merge(changed);
            *changed = all;
        }
    }

    /// Converts it to the scales of its instrument's new definition.
    pub(super) fn refine(&mut self, definition: &Arc<Instrument>) {
        let finer = |instrument: &mut Arc<Instrument>| {
            let digits = refinement(instrument, definition);
            *instrument = Arc::clone(definition);
            digits
        };
        match self {
            Self::Quote { instrument, quote, changed } => {
                let (price, size) = finer(instrument);
                *quote = quote.refined(price, size);
                *changed = changed.refined(price, size);
            }
            Self::Trade { instrument, trade, .. } => {
                let (price, size) = finer(instrument);
                *trade = trade.refined(price, size);
            }
            Self::Bar { instrument, bar, .. } | Self::ClosedBar { instrument, bar, .. } => {
                let (price, size) = finer(instrument);
                *bar = bar.refined(price, size);
            }
            Self::Gap { instrument, .. }
            | Self::Watchers { instrument, .. }
            | Self::Joined { instrument, .. }
            | Self::Left { instrument, .. }
            | Self::Status { instrument: Some(instrument), .. } => {
                finer(instrument);
            }
            Self::Status { instrument: None, .. }
            | Self::Reset
            | Self::Definition(_)
            | Self::Feed(_)
            | Self::Stats(_) => {}
        }
    }

    /// As one self-contained object: topic, the update's time and position, and complete images in the fields
    /// of the protocol's JSON form. A reset has no topic. `None` for a definition.
    #[must_use]
    pub fn to_json(&self, time: Timestamp, position: Position) -> Option<Value> {
        let mut line = match self {
            Self::Reset => Map::from_iter([("reset".to_owned(), true.into())]),
            _ => Map::from_iter([("topic".to_owned(), self.topic()?.into())]),
        };
        line.insert("time".to_owned(), json::moment(time));
        line.insert("position".to_owned(), position.get().into());
        match self {
            Self::Reset | Self::Definition(_) => {}
            Self::Quote { instrument, quote, .. } => line.extend(quote.json(instrument)),
            Self::Trade { instrument, number, trade } => {
                extend(&mut line, json::trade(instrument, *number, trade));
            }
            Self::Bar { instrument, kind, bar } => {
                if *kind != Kind::Day {
                    line.insert("closed".to_owned(), false.into());
                }
                line.extend(bar.json(instrument));
            }
            Self::ClosedBar { instrument, number, bar, .. } => {
                line.insert("closed".to_owned(), true.into());
                extend(&mut line, json::closed_bar(instrument, *number, bar));
            }
            Self::Gap { missed, .. } => drop(line.insert("gap".to_owned(), (*missed).into())),
            Self::Status { status, .. } => line.extend(json::status_fields(status)),
            Self::Watchers { instrument, watchers } => line.extend(watchers.json(instrument)),
            Self::Feed(feed) => drop(line.insert("feed".to_owned(), json::feed(feed))),
            Self::Stats(stats) => drop(line.insert("stats".to_owned(), json::stats(stats))),
            Self::Joined { .. } => drop(line.insert("joined".to_owned(), true.into())),
            Self::Left { .. } => drop(line.insert("left".to_owned(), true.into())),
        }
        Some(Value::Object(line))
    }
}

fn extend(line: &mut Map<String, Value>, fields: Value) {
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Conditions, Counts, Price, Side, Size};

    fn instrument(sector: &str) -> Arc<Instrument> {
        let unknown = Instrument::unknown(Symbol::new("X").unwrap());
        Arc::new(Instrument { sector: sector.to_owned(), ..unknown })
    }

    fn trades(number: u64, count: usize) -> Entry {
        let at = Timestamp::default();
        let (price, size, side) = (Price::new(1), Size::new(1), Side::Buy);
        let trade = Trade {
            price,
            size,
            side,
            conditions: Conditions::default(),
            counts: Counts::EVERYTHING,
            booked: 0,
            ts_event: at,
            ts_recv: at,
        };
        Entry::Trades(instrument("x"), Numbered { number, stated: true, entries: vec![trade; count] })
    }

    fn quote(fields: QuoteFields) -> Entry {
        Entry::Image(instrument("x"), Kind::Quote, Fields::Quote(fields))
    }

    /// An image's changes by an update: numbers of trades, gaps, joins and leaves.
    fn told(image: &mut Image, whole: bool, entries: Vec<Entry>) -> String {
        let (position, time) = (Position::START, Timestamp::default());
        let words =
            image.apply(&Update { position, time, whole, entries }).into_iter().filter_map(|change| {
                Some(match change {
                    Change::Trade { number, .. } => number.to_string(),
                    Change::Gap { missed, .. } => format!("gap of {missed}"),
                    Change::Joined { .. } => "joined".to_owned(),
                    Change::Left { .. } => "left".to_owned(),
                    _ => return None,
                })
            });
        words.collect::<Vec<_>>().join(" ")
    }

    const TRADES: Kind = Kind::Trades;

    /// An image with X of a subscribed sector, and its trades up to number 11.
    fn image() -> Image {
        let mut image = Image::default();
        image.settle([Topic::parse("trades:@x").unwrap(), Topic::parse("quote:@x").unwrap()]);
        let joins =
            vec![Entry::Definition(instrument("x")), Entry::Joined(instrument("x"), TRADES), trades(10, 2)];
        assert_eq!(told(&mut image, true, joins), "joined 10 11", "what came before it joined is no gap");
        image
    }

    #[test]
    fn what_leaves_is_counted_anew_when_it_joins_again() {
        let mut image = image();
        assert_eq!(told(&mut image, true, vec![Entry::Left(instrument("y"), TRADES)]), "left");
        let again = vec![Entry::Joined(instrument("x"), TRADES), trades(20, 1)];
        assert_eq!(told(&mut image, true, again), "joined 20");
        assert_eq!(told(&mut image, true, vec![trades(25, 1)]), "gap of 4 25");
    }

    #[test]
    fn a_flush_that_is_given_up_behind_a_word_that_something_left_tells_no_trade_twice() {
        let mut image = image();
        let leaves = |number, count| vec![trades(number, count), Entry::Left(instrument("y"), TRADES)];
        assert_eq!(told(&mut image, false, leaves(12, 1)), "12 left");
        assert_eq!(told(&mut image, true, leaves(12, 2)), "13 left");
        // After the end of the flush a new subscription begins at the server's number.
        assert_eq!(told(&mut image, true, vec![trades(9, 2)]), "9 10");
    }

    #[test]
    fn one_who_was_away_while_it_left_and_joined_again_goes_on_counting() {
        let again = |number| vec![Entry::Joined(instrument("x"), TRADES), trades(number, 2)];
        assert_eq!(told(&mut image(), true, again(11)), "joined 12");
        assert_eq!(told(&mut image(), true, again(15)), "joined gap of 3 15 16");
    }

    #[test]
    fn of_what_leaves_no_image_stays() {
        let mut image = image();
        let bid = QuoteFields { bid: Some(Price::new(1)), ..QuoteFields::default() };
        told(&mut image, true, vec![quote(bid)]);
        assert_eq!(image.book("X").unwrap().quote, bid);
        told(&mut image, true, vec![Entry::Left(instrument("y"), Kind::Quote)]);
        assert_eq!(image.book("X").unwrap().quote, QuoteFields::default());
    }

    #[test]
    fn what_was_never_had_whole_is_dropped_with_its_connection_and_its_ring_counted_on() {
        let mut image = image();
        let bid = QuoteFields { bid: Some(Price::new(1)), ..QuoteFields::default() };
        told(&mut image, false, vec![quote(bid)]);
        let dropped = image.drop_images(&[Topic::parse("trades:@x").unwrap()]);
        let left = Change::Left { instrument: instrument("x"), kind: Kind::Quote };
        assert_eq!(dropped, [left]);
        assert_eq!(told(&mut image, true, vec![trades(10, 3)]), "12");
    }
}
