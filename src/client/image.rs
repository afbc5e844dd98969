use crate::hub::{Kind, Scope, Topic, refinement};
use crate::market::{FeedStatus, Instrument, InstrumentId, ServerStats, Status, Symbol, Timestamp, Trade};
use crate::tape::Position;
use crate::wire::{BarFields, Entry, Numbered, QuoteFields, Update, checksum, json};
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What a client knows: the images of its topics, and how far it has counted each ring. Trades and closed bars are
/// handed on, not kept, so its memory depends on the number of instruments only.
#[derive(Clone, Debug, Default)]
pub struct Image {
    books: FxHashMap<InstrumentId, Book>,
    by_symbol: FxHashMap<Symbol, InstrumentId>,
    status: Option<Status>,
    feed: Option<FeedStatus>,
    stats: Option<Arc<ServerStats>>,
    /// Topics whose first snapshot is in: an uncounted ring of theirs was empty then, so it begins at 0.
    settled: Vec<Topic>,
    /// A reset was told, and the flush that told of it has not ended: rings begin where the server says.
    is_beginning: bool,
}

/// What a client knows of one instrument.
#[derive(Clone, Debug)]
pub struct Book {
    pub instrument: Arc<Instrument>,
    pub quote: QuoteFields,
    pub bars_1s: BarFields,
    pub bars_1m: BarFields,
    pub day: BarFields,
    pub status: Option<Status>,
    /// Number of the next trade, next closed second, next closed minute.
    expected: [Option<u64>; 3],
}

/// One thing that an update changed. Images are whole, as they stand now.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The tape goes on at another moment, as after a seek in a replay: all that was known is void, and what follows is the market there.
    Reset,
    /// New or changed reference data.
    Definition(Arc<Instrument>),
    Quote {
        instrument: Arc<Instrument>,
        quote: QuoteFields,
        changed: QuoteFields,
    },
    /// The wire has no `ts_recv`; it is `ts_event` once more.
    Trade {
        instrument: Arc<Instrument>,
        number: u64,
        trade: Trade,
    },
    /// The latest bar of a width, or the day.
    Bar {
        instrument: Arc<Instrument>,
        kind: Kind,
        bar: BarFields,
    },
    ClosedBar {
        instrument: Arc<Instrument>,
        kind: Kind,
        number: u64,
        bar: BarFields,
    },
    /// Exactly so many trades or closed bars were lost: the server no longer had them.
    Gap {
        instrument: Arc<Instrument>,
        kind: Kind,
        missed: u64,
    },
    Status {
        instrument: Option<Arc<Instrument>>,
        status: Status,
    },
    Feed(FeedStatus),
    /// What the server tells of itself.
    Stats(Arc<ServerStats>),
}

impl Image {
    /// Takes an update in and says what it changed, in order.
    pub fn apply(&mut self, update: &Update) -> Vec<Change> {
        let mut changes = Vec::with_capacity(update.entries.len());
        for entry in &update.entries {
            self.entry(entry, &mut changes);
        }
        self.is_beginning &= !update.whole;
        changes
    }

    fn entry(&mut self, entry: &Entry, changes: &mut Vec<Change>) {
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
            Entry::Quote(instrument, change) => {
                let book = self.book_mut(instrument);
                book.quote.merge(change);
                let (instrument, quote) = (Arc::clone(instrument), book.quote);
                changes.push(Change::Quote { instrument, quote, changed: *change });
            }
            Entry::Trades(instrument, trades) => {
                for (number, trade) in self.count(instrument, Kind::Trades, trades, changes) {
                    let (instrument, trade) = (Arc::clone(instrument), *trade);
                    changes.push(Change::Trade { instrument, number, trade });
                }
            }
            Entry::Bar(instrument, kind, change) => {
                let book = self.book_mut(instrument);
                let image = match kind {
                    Kind::Bars1s => &mut book.bars_1s,
                    Kind::Bars1m => &mut book.bars_1m,
                    _ => &mut book.day,
                };
                image.merge(change);
                let (instrument, bar) = (Arc::clone(instrument), *image);
                changes.push(Change::Bar { instrument, kind: *kind, bar });
            }
            Entry::ClosedBars(instrument, kind, bars) => {
                for (number, bar) in self.count(instrument, *kind, bars, changes) {
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
        }
    }

    /// Counts a ring on: tells of a gap, and gives those entries that were not had before.
    fn count<'a, T>(
        &mut self,
        instrument: &Arc<Instrument>,
        kind: Kind,
        run: &'a Numbered<T>,
        changes: &mut Vec<Change>,
    ) -> impl Iterator<Item = (u64, &'a T)> + use<'a, T> {
        let expected = *self.book_mut(instrument).expected_mut(kind);
        let covers = |topic: &Topic| topic.kind == kind && topic.covers(instrument);
        let settled = || !self.is_beginning && self.settled.iter().any(covers);
        // A ring that is met for the first time begins where the server says, and nothing of it was lost.
        let from = expected.unwrap_or_else(|| if settled() { 0 } else { run.number });
        *self.book_mut(instrument).expected_mut(kind) = Some(from.max(run.number + run.entries.len() as u64));
        if run.number > from {
            let (instrument, missed) = (Arc::clone(instrument), run.number - from);
            changes.push(Change::Gap { instrument, kind, missed });
        }
        run.iter().skip_while(move |&(number, _)| number < from)
    }

    fn define(&mut self, definition: &Arc<Instrument>) {
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

    /// The first snapshots of these topics are in.
    pub fn settle(&mut self, topics: impl IntoIterator<Item = Topic>) {
        for topic in topics {
            if !self.settled.contains(&topic) {
                self.settled.push(topic);
            }
        }
    }

    /// Drops all that none of these topics takes in, because the others were given up.
    pub fn keep(&mut self, topics: &[Topic]) {
        self.settled.retain(|topic| topics.contains(topic));
        for book in self.books.values_mut() {
            let instrument = Arc::clone(&book.instrument);
            for kind in Kind::ALL {
                if !topics.iter().any(|topic| topic.kind == kind && topic.covers(&instrument)) {
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

    #[must_use]
    pub fn book(&self, symbol: &str) -> Option<&Book> {
        self.by_symbol.get(symbol).and_then(|id| self.books.get(id))
    }

    pub fn books(&self) -> impl Iterator<Item = &Book> {
        self.books.values()
    }

    /// The market's trading state and what feeds the server.
    #[must_use]
    pub fn market(&self) -> (Option<&Status>, Option<&FeedStatus>) {
        (self.status.as_ref(), self.feed.as_ref())
    }

    /// What the server last told of itself.
    #[must_use]
    pub fn stats(&self) -> Option<&ServerStats> {
        self.stats.as_deref()
    }

    /// The hash that the server should give of the same image at the same position; `None` where there is no image.
    #[must_use]
    pub fn checksum(&self, topic: &Topic) -> Option<u32> {
        let Scope::Symbol(symbol) = &topic.scope else { return None };
        let book = self.book(symbol.as_str())?;
        let bar = match topic.kind {
            Kind::Quote if book.quote != QuoteFields::default() => {
                return Some(checksum(&topic.to_string(), book.quote.units()));
            }
            Kind::Bars1s => &book.bars_1s,
            Kind::Bars1m => &book.bars_1m,
            Kind::Day => &book.day,
            Kind::Quote | Kind::Trades | Kind::Status | Kind::Stats => return None,
        };
        bar.start?;
        let fields = if topic.kind == Kind::Day { 9 } else { 8 };
        Some(checksum(&topic.to_string(), bar.units().into_iter().take(fields)))
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
            expected: [None; 3],
        }
    }

    fn expected_mut(&mut self, kind: Kind) -> &mut Option<u64> {
        &mut self.expected[match kind {
            Kind::Bars1s => 1,
            Kind::Bars1m => 2,
            _ => 0,
        }]
    }

    fn forget(&mut self, kind: Kind) {
        match kind {
            Kind::Quote => self.quote = QuoteFields::default(),
            Kind::Trades => *self.expected_mut(kind) = None,
            Kind::Bars1s => self.bars_1s = BarFields::default(),
            Kind::Bars1m => self.bars_1m = BarFields::default(),
            Kind::Day => self.day = BarFields::default(),
            Kind::Status => self.status = None,
            Kind::Stats => {}
        }
        if matches!(kind, Kind::Bars1s | Kind::Bars1m) {
            *self.expected_mut(kind) = None;
        }
    }
}

impl Change {
    /// The topic it belongs to; a definition and a reset belong to none.
    #[must_use]
    pub fn topic(&self) -> Option<String> {
        let (kind, instrument) = match self {
            Self::Reset | Self::Definition(_) => return None,
            Self::Quote { instrument, .. } => (Kind::Quote, Some(instrument)),
            Self::Trade { instrument, .. } => (Kind::Trades, Some(instrument)),
            Self::Bar { instrument, kind, .. }
            | Self::ClosedBar { instrument, kind, .. }
            | Self::Gap { instrument, kind, .. } => (*kind, Some(instrument)),
            Self::Status { instrument, .. } => (Kind::Status, instrument.as_ref()),
            Self::Feed(_) => (Kind::Status, None),
            Self::Stats(_) => (Kind::Stats, None),
        };
        Some(json::topic(kind, instrument.map(|instrument| &**instrument)))
    }

    /// As one object that stands alone: topic, the update's time and position, and whole images in the fields of the
    /// protocol's JSON form. A reset has no topic. `None` for a definition.
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
            Self::Quote { instrument, quote, .. } => line.extend(json::quote_fields(instrument, quote)),
            Self::Trade { instrument, number, trade } => {
                extend(&mut line, json::trade(instrument, *number, trade));
            }
            Self::Bar { instrument, kind, bar } => {
                if *kind != Kind::Day {
                    line.insert("closed".to_owned(), false.into());
                }
                line.extend(json::bar_fields(instrument, bar));
            }
            Self::ClosedBar { instrument, number, bar, .. } => {
                line.insert("closed".to_owned(), true.into());
                extend(&mut line, json::closed_bar(instrument, *number, bar));
            }
            Self::Gap { missed, .. } => drop(line.insert("gap".to_owned(), (*missed).into())),
            Self::Status { status, .. } => line.extend(json::status_fields(status)),
            Self::Feed(feed) => drop(line.insert("feed".to_owned(), json::feed(feed))),
            Self::Stats(stats) => drop(line.insert("stats".to_owned(), json::stats(stats))),
        }
        Some(Value::Object(line))
    }
}

fn extend(line: &mut Map<String, Value>, fields: Value) {
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
}
