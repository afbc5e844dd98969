use super::{Bar, Price, Quote, Status, Trade};

/// All that is known of one instrument at one moment besides its definition: whoever takes it over goes on as if they had read
/// everything before it. What is empty says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub quote: Option<Quote>,
    pub status: Option<Status>,
    pub trades: Tail<Trade>,
    pub bars_1s: BarsSnapshot,
    pub bars_1m: BarsSnapshot,
    pub day: Option<Bar>,
    /// The close that the day's change is counted from.
    pub previous_close: Price,
}

/// The bars of one width.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarsSnapshot {
    pub latest: Option<Bar>,
    /// Whether more trades may change `latest`.
    pub is_open: bool,
    pub closed: Tail<Bar>,
}

/// The newest of a sequence that is numbered from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail<T> {
    /// Number of the first entry, or of the next one to come where there is none.
    pub first: u64,
    pub entries: Vec<T>,
}

impl<T> Tail<T> {
    /// Whether there was never an entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == 0 && self.entries.is_empty()
    }
}

impl<T> Default for Tail<T> {
    fn default() -> Self {
        Self { first: 0, entries: Vec::new() }
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
        }
    }
}

impl Snapshot {
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
        }
    }
}

impl<T> Tail<T> {
    fn map(&self, change: impl FnMut(&T) -> T) -> Self {
        Self { first: self.first, entries: self.entries.iter().map(change).collect() }
    }
}
