use super::{Bar, Price, Quote, Recalled, Status, Timestamp, Trade};
use std::borrow::Cow;

/// All that is known of one instrument at one moment except its definition: a reader that adopts it goes on
/// as if it had read everything before. Empty parts leave what is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The newest.
    pub quote: Option<Quote>,
    /// The instrument's own, not the market's.
    pub status: Option<Status>,
    /// The newest, as they arrived.
    pub trades: Tail<Trade>,
    /// Of a second.
    pub bars_1s: BarsSnapshot,
    /// Of a minute.
    pub bars_1m: BarsSnapshot,
    /// The bar of the newest UTC day with a trade.
    pub day: Option<Bar>,
    /// The close that the day's change is relative to.
    pub previous_close: Price,
    /// `None` before the first trade that counts.
    pub newest: Option<Newest>,
}

/// The newest, by its own time, of an instrument's trades that count for anything in seconds and minutes.
/// Later arrivals are compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// The venue's, `ts_event`.
    pub time: Timestamp,
    /// Whole seconds, in ns, from its time to its arrival: its bar stays open this much longer.
    pub late: i64,
    /// The time of the newest trade that may be the close of a second and a minute.
    pub bars_last: Option<Timestamp>,
    /// The time of the newest trade that may be the close of a day.
    pub day_last: Option<Timestamp>,
}

impl Newest {
    /// Before the first trade.
    pub const NONE: Self =
        Self { time: Timestamp::from_nanos(i64::MIN), late: 0, bars_last: None, day_last: None };

    /// Of an instrument whose trades all count for everything.
    #[must_use]
    pub const fn new(time: Timestamp, late: i64) -> Self {
        Self { time, late, bars_last: Some(time), day_last: Some(time) }
    }
}

/// The bars of one width.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarsSnapshot {
    /// The newest bar, open or closed.
    pub latest: Option<Bar>,
    /// Whether more trades may change `latest`.
    pub is_open: bool,
    /// The newest closed bars.
    pub closed: Tail<Bar>,
}

/// The newest of a sequence that is numbered from 0.
#[derive(Clone, Debug)]
pub struct Tail<T> {
    /// Number of the first entry, or of the next one to come if there is none.
    pub first: u64,
    /// What comes before `entries`.
    pub recalled: Option<Recalled<T>>,
    /// Oldest first.
    pub entries: Vec<T>,
}

impl<T> Tail<T> {
    /// Whether there was never an entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == 0 && self.entries.is_empty() && self.recalled.is_none()
    }

    /// Without recalled entries.
    #[must_use]
    pub fn of(first: u64, entries: Vec<T>) -> Self {
        Self { first, recalled: None, entries }
    }

    /// With recalled entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.recalled.as_ref().map_or(0, Recalled::len) + self.entries.len()
    }
}

impl<T: Clone> Tail<T> {
    /// All of them, oldest first.
    #[must_use]
    pub fn all(&self) -> Cow<'_, [T]> {
        match &self.recalled {
            None => Cow::Borrowed(&self.entries),
            Some(recalled) => {
                let mut all = recalled.entries();
                all.extend_from_slice(&self.entries);
                Cow::Owned(all)
            }
        }
    }
}

impl<T: Clone + PartialEq> PartialEq for Tail<T> {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first && self.all() == other.all()
    }
}

impl<T> Default for Tail<T> {
    fn default() -> Self {
        Self::of(0, Vec::new())
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            quote: None,
            status: None,
            trades: Tail::default(),
            bars_1s: BarsSnapshot::default(),
            bars_1m: BarsSnapshot::default(),
            day: None,
            previous_close: Price::NONE,
            newest: None,
        }
    }
}

impl Snapshot {
    /// What remains of it if the clock was wrong and is set back to `now`: no bar and no day of the future.
    #[must_use]
    pub fn as_of(mut self, now: Timestamp) -> Self {
        self.bars_1s.cut(now);
        self.bars_1m.cut(now);
        self.day = self.day.filter(|day| day.start <= now);
        self.newest = self.newest.map(|newest| match newest {
            Newest { time, .. } if time > now => Newest {
                time: now,
                late: 0,
                bars_last: newest.bars_last.map(|time| time.min(now)),
                day_last: newest.day_last.map(|time| time.min(now)),
            },
            newest => newest,
        });
        self
    }

    /// The same snapshot with prices `price` and sizes `size` digits finer.
    #[must_use]
    pub fn refined(&self, price: u8, size: u8) -> Self {
        let bars = |bars: &BarsSnapshot| BarsSnapshot {
            latest: bars.latest.map(|bar| bar.refined(price, size)),
            is_open: bars.is_open,
            closed: bars.closed.map(|bar| bar.refined(price, size)),
        };
        Self {
            quote: self.quote.map(|quote| quote.refined(price, size)),
            status: self.status,
            trades: self.trades.map(|trade| trade.refined(price, size)),
            bars_1s: bars(&self.bars_1s),
            bars_1m: bars(&self.bars_1m),
            day: self.day.map(|bar| bar.refined(price, size)),
            previous_close: self.previous_close.refined(price),
            newest: self.newest,
        }
    }
}

impl BarsSnapshot {
    fn cut(&mut self, now: Timestamp) {
        self.closed = Tail::of(self.closed.first, self.closed.all().into_owned());
        self.closed.entries.retain(|bar| bar.start <= now);
        if self.latest.is_some_and(|bar| bar.start > now) {
            // Of bars that were delivered again, the last one counts.
            (self.latest, self.is_open) =
                (self.closed.entries.iter().max_by_key(|bar| bar.start).copied(), false);
        }
    }
}

impl<T: Clone> Tail<T> {
    fn map(&self, change: impl FnMut(&T) -> T) -> Self {
        Self::of(self.first, self.all().iter().map(change).collect())
    }
}
