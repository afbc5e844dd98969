use crate::feed::{Feed, FeedError, LeftOut};
use crate::market::{Event, InstrumentId, Instruments, Quote, Timestamp};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a recording holds, read once from beginning to end, in memory that does not grow with it.
#[derive(Debug, Default)]
pub struct Summary {
    pub quotes: u64,
    pub trades: u64,
    pub states: u64,
    pub definitions: u64,
    pub symbols: Vec<SymbolSummary>,
    /// The first and the last moment.
    pub span: Option<(Timestamp, Timestamp)>,
    pub rates: Rates,
    pub silences: Silences,
    /// Quotes whose bid is above their ask.
    pub crossed: u64,
    /// Quotes without a bid or without an ask.
    pub one_sided: u64,
    /// Quotes and trades that arrived earlier than one before them.
    pub backwards: u64,
    /// Records that hold nothing for a tape.
    pub left_out: LeftOut,
    pub faults: u64,
    /// The first of them, as many as [`FAULTS_KEPT`].
    pub first_faults: Vec<String>,
    latest_arrival: Option<Timestamp>,
}

/// The counts of one symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolSummary {
    pub symbol: String,
    pub quotes: u64,
    pub trades: u64,
}

/// Numbers of events over time.
#[derive(Debug, Default)]
pub struct Rates {
    /// Events in consecutive stretches of `width` ns from the first moment on.
    counts: Vec<u64>,
    width: i64,
    first: Timestamp,
    /// The current second, and its events.
    second: (i64, u64),
    /// The busiest second, and its events.
    busiest: (i64, u64),
}

/// The longest times between two moments.
#[derive(Debug, Default)]
pub struct Silences {
    longest: BinaryHeap<Reverse<(i64, Timestamp)>>,
    last: Option<Timestamp>,
}

/// A time without events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    pub from: Timestamp,
    pub nanos: i64,
}

/// Faults that are reported one by one.
pub const FAULTS_KEPT: usize = 20;
/// Stretches whose events are counted; when more are needed, each two become one.
const STRETCHES: usize = 4096;
const SILENCES_KEPT: usize = 1000;
const SECOND: i64 = 1_000_000_000;
/// A silence is this many times as long as the mean time between moments, and a second at least.
const SILENT_FOR: i64 = 20;

impl Summary {
    /// Reads a feed to its end.
    pub fn of(feed: &mut dyn Feed) -> Self {
        let (mut summary, mut instruments) = (Self::default(), Instruments::default());
        let (mut events, mut by_id) = (Vec::new(), FxHashMap::default());
        loop {
            match feed.next(&mut instruments, &mut events) {
                Ok(Some(time)) => summary.moment(time, &events, &mut by_id),
                Ok(None) => break,
                Err(error) => {
                    summary.fault(&error);
                    // Definitions count, and come before what needs them.
                    summary.definitions += events.len() as u64;
                }
            }
            events.clear();
        }
        summary.left_out = feed.left_out_by_kind();
        summary.symbols = instruments
            .iter()
            .map(|x| {
                let (quotes, trades) = by_id.get(&x.id).copied().unwrap_or_default();
                SymbolSummary { symbol: x.symbol.to_string(), quotes, trades }
            })
            .collect();
        summary.symbols.sort_by_key(|symbol| Reverse(symbol.quotes + symbol.trades));
        summary
    }

    /// Quotes, trades and states.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.quotes + self.trades + self.states
    }

    /// Whether there were records, and none could be read.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.events() + self.definitions == 0 && (self.faults > 0 || self.left_out.total() > 0)
    }

    #[must_use]
    pub fn seconds(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        self.span.map_or(0.0, |(first, last)| last.nanos_since(first) as f64 / 1e9)
    }

    /// The silences, the longest first, at most a thousand.
    #[must_use]
    pub fn silences(&self) -> Vec<Silence> {
        let moments = i64::try_from(self.events()).unwrap_or(i64::MAX).max(1);
        let mean = self.span.map_or(0, |(first, last)| last.nanos_since(first) / moments);
        let least = mean.saturating_mul(SILENT_FOR).max(SECOND);
        let mut found: Vec<_> = self.silences.longest.iter().map(|&Reverse(silence)| silence).collect();
        found.retain(|&(nanos, _)| nanos >= least);
        found.sort_by_key(|&(nanos, from)| (Reverse(nanos), from));
        found.into_iter().map(|(nanos, from)| Silence { from, nanos }).collect()
    }

    fn moment(&mut self, time: Timestamp, events: &[Event], by_id: &mut FxHashMap<InstrumentId, (u64, u64)>) {
        let before = self.events();
        for event in events {
            match event {
                Event::Quote(id, quote) => {
                    self.quotes += 1;
                    by_id.entry(*id).or_default().0 += 1;
                    self.quote(quote);
                }
                Event::Trade(id, trade) => {
                    self.trades += 1;
                    by_id.entry(*id).or_default().1 += 1;
                    self.arrival(trade.ts_recv);
                }
                Event::Status(..) => self.states += 1,
                Event::Instrument(_) => self.definitions += 1,
                Event::Feed(_) | Event::Snapshot(..) | Event::Posted(_) | Event::Reset => {}
            }
        }
        let first = self.span.map_or(time, |(first, _)| first);
        self.span = Some((first, time));
        let count = self.events() - before;
        if count > 0 {
            self.rates.add(time, count);
            self.silences.add(time);
        }
    }

    fn quote(&mut self, quote: &Quote) {
        let (bid, ask) = (quote.bid.some(), quote.ask.some());
        self.one_sided += u64::from(bid.is_none() || ask.is_none());
        self.crossed += u64::from(bid.zip(ask).is_some_and(|(bid, ask)| bid > ask));
        self.arrival(quote.ts_recv);
    }

    fn arrival(&mut self, at: Timestamp) {
        let latest = self.latest_arrival.unwrap_or(at);
        self.backwards += u64::from(at < latest);
        self.latest_arrival = Some(latest.max(at));
    }

    fn fault(&mut self, error: &FeedError) {
        self.faults += 1;
        if self.first_faults.len() < FAULTS_KEPT {
            self.first_faults.push(error.to_string());
        }
    }
}

impl Rates {
    fn add(&mut self, time: Timestamp, count: u64) {
        if self.counts.is_empty() {
            (self.first, self.width) = (time, 1_000_000);
        }
        let since = time.nanos_since(self.first);
        let stretch = |width: i64| usize::try_from(since / width).unwrap_or(0);
        while stretch(self.width) >= STRETCHES {
            let pairs = self.counts.chunks(2).map(|pair| pair.iter().sum());
            self.counts = pairs.collect();
            self.width = self.width.saturating_mul(2);
        }
        let at = stretch(self.width);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += count;

        let second = time.nanos().div_euclid(SECOND);
        if second != self.second.0 {
            self.second = (second, 0);
        }
        self.second.1 += count;
        if self.second.1 > self.busiest.1 {
            self.busiest = self.second;
        }
    }

    /// The busiest second of the clock, and how many events came in it.
    #[must_use]
    pub fn busiest(&self) -> Option<(Timestamp, u64)> {
        let (second, count) = self.busiest;
        (count > 0).then(|| (Timestamp::from_nanos(second.saturating_mul(SECOND)), count))
    }

    /// Events in this many equal parts of the time until `last`, in fewer if it is too short.
    #[must_use]
    pub fn profile(&self, last: Timestamp, parts: usize) -> Vec<u64> {
        let span = last.nanos_since(self.first) / self.width.max(1) + 1;
        let stretches = usize::try_from(span).unwrap_or(usize::MAX).clamp(1, STRETCHES);
        let parts = parts.min(stretches);
        let mut profile = vec![0; parts];
        for (stretch, count) in self.counts.iter().enumerate() {
            profile[(stretch * parts / stretches).min(parts - 1)] += count;
        }
        profile
    }
}

impl Silences {
    fn add(&mut self, time: Timestamp) {
        if let Some(last) = self.last.replace(time) {
            let nanos = time.nanos_since(last);
            if nanos < SECOND {
                return;
            }
            self.longest.push(Reverse((nanos, last)));
            if self.longest.len() > SILENCES_KEPT {
                self.longest.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    #[test]
    fn rates_are_counted_whatever_the_length() {
        let mut rates = Rates::default();
        for millis in 0..100_000 {
            rates.add(at(millis), if millis < 50_000 { 1 } else { 3 });
        }
        let profile = rates.profile(at(99_999), 4);
        assert_eq!(profile.iter().sum::<u64>(), 200_000);
        // Within one stretch: the edges of parts are those of stretches.
        assert!(profile[0].abs_diff(25_000) < 100 && profile[3].abs_diff(75_000) < 200, "{profile:?}");
        assert_eq!(rates.busiest(), Some((at(50_000), 3000)));
        assert!(rates.counts.len() <= STRETCHES);
    }

    #[test]
    fn a_moment_alone_has_one_part() {
        let mut rates = Rates::default();
        rates.add(at(5), 7);
        assert_eq!(rates.profile(at(5), 60), [7]);
    }

    #[test]
    fn silences_are_those_that_stand_out() {
        let mut summary = Summary { span: Some((at(0), at(40_000))), quotes: 301, ..Summary::default() };
        for step in 0..=150 {
            summary.silences.add(at(step * 100));
        }
        summary.silences.add(at(25_000));
        summary.silences.add(at(26_500));
        let expected = [Silence { from: at(15_000), nanos: 10_000_000_000 }];
        assert_eq!(summary.silences(), expected, "1.5 s do not stand out where 0.13 s are the mean");
    }
}
