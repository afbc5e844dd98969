use super::BenchError;
use crate::feed::formats::{OpenError, OpenOptions, open};
use crate::feed::sim::{SimConfig, Simulator, default_universe};
use crate::feed::{Feed, Looped};
use crate::hub::{Kind, Replica, Topic, TopicKey};
use crate::market::{Event, InstrumentId, Instruments, Symbol, Timestamp};
use crate::recording::{RecordingHeader, RecordingWriter};
use crate::tape::{Batch, Epoch};
use rand::{RngExt, SeedableRng};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufWriter;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

/// 2026-01-05T15:00:00Z, a Monday on which the simulated exchanges are open.
const MARKET_OPEN: Timestamp = Timestamp::from_micros(1_767_625_200_000_000);

/// Changes that are timed at most: 2 GiB of moments.
const MAX_CHANGES: usize = 1 << 28;
/// Events of a feed that are looked through for them at most.
const MAX_EVENTS: u64 = 1 << 32;

/// The parameters of the market that a benchmark lets the server play.
#[derive(Clone, Copy, Debug)]
pub struct Market {
    pub symbols: u32,
    /// Events a second, at exactly equal distances.
    pub rate: NonZeroU32,
    pub seed: u64,
    /// Trades and no quotes.
    pub only_trades: bool,
    /// It alternates between running and pausing for so long.
    pub turns: Option<Duration>,
}

/// When each topic changes: all deliveries are known before anything is sent, so a server that is late cannot
/// hide it.
#[derive(Debug)]
pub struct Timelines {
    /// Moments on the feed's clock, µs, in order.
    changes: FxHashMap<TopicKey, Vec<i64>>,
    /// How often the quote changes, and how often it trades.
    busy: FxHashMap<InstrumentId, usize>,
    replica: Replica,
    /// The recording's first moment.
    start: Timestamp,
    /// Mean number of the feed's events in a second.
    rate: f64,
}

/// The moments at which something changes for a subscriber, µs on the feed's clock, in order.
pub type Timeline = Box<[i64]>;

/// Writes so many events of a simulated market to a recording. The same market gives the same file.
///
/// # Errors
/// Those of the file.
pub fn record(market: Market, events: u64, path: &Path) -> std::io::Result<()> {
    let Market { symbols, rate, seed, only_trades, turns } = market;
    let config = SimConfig { symbols: symbols as usize, rate, seed, start: MARKET_OPEN };
    let mut simulator = Simulator::new(&default_universe(), config);
    let header = RecordingHeader {
        epoch: 1,
        created: MARKET_OPEN,
        source: format!("a benchmark's market: {symbols} symbols, {rate} ticks/s, seed {seed}"),
    };
    let mut recording = RecordingWriter::new(BufWriter::new(File::create(path)?), &header)?;
    let (mut instruments, mut batch) = (Instruments::default(), Vec::new());
    let (mut position, mut written) = (0, 0);
    while written < events {
        let pulled = simulator.next(&mut instruments, &mut batch).map_err(std::io::Error::other)?;
        if pulled.is_none() {
            break;
        }
        // The history before its opening is not to be played again with each round.
        batch.retain(|event| match event {
            Event::Snapshot(..) => false,
            Event::Quote(..) => !only_trades,
            _ => true,
        });
        if batch.is_empty() {
            continue;
        }
        // The opening is at the start; from then on each tick has a moment of its own.
        let at = MARKET_OPEN.plus_nanos(offset_nanos(written, rate, turns));
        for event in &mut batch {
            event.each_time(|time| *time = at);
        }
        position += 1;
        recording.append(position, at, &batch)?;
        written += u64::from(position > 1);
        batch.clear();
    }
    recording.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

fn offset_nanos(events: u64, rate: NonZeroU32, turns: Option<Duration>) -> i64 {
    let running = u128::from(events) * 1_000_000_000 / u128::from(rate.get());
    let pauses = turns.map_or(0, |turn| running / turn.as_nanos() * turn.as_nanos());
    i64::try_from(running + pauses).unwrap_or(i64::MAX)
}

impl Timelines {
    /// Plays a recording in a loop for so many seconds of its own time, and notes when topics of these kinds
    /// change.
    ///
    /// # Arguments
    /// - `from`: the moment at which a server that plays it already is; `None`: its start
    ///
    /// # Errors
    /// A recording that cannot be opened or read, or more changes than can be timed.
    pub fn of(
        path: &Path,
        kinds: &[Kind],
        from: Option<Timestamp>,
        seconds: f64,
    ) -> Result<Self, BenchError> {
        let moved = from.map_or(Ok(0), |from| rounds_before(path, from))?;
        let mut feed = looped(path)?;
        let mut replica = Replica::new(Epoch::new(1));
        let (mut instruments, mut touched) = (Instruments::default(), Vec::new());
        let mut changes = FxHashMap::<TopicKey, Vec<i64>>::default();
        let mut busy = FxHashMap::<InstrumentId, usize>::default();
        let (mut first, mut last, mut events, mut timed) = (None, MARKET_OPEN, 0_u64, 0);
        loop {
            let mut batch = Batch { position: replica.position().next(), time: last, events: Vec::new() };
            let pulled = feed.next(&mut instruments, &mut batch.events).map_err(unreadable)?;
            let Some(time) = pulled.map(|time| time.plus_nanos(moved)) else { break };
            let start = *first.get_or_insert(time);
            #[expect(clippy::cast_precision_loss, reason = "a duration")]
            if time.nanos_since(from.unwrap_or(start)) as f64 / 1e9 > seconds {
                break;
            }
            (batch.time, last) = (time, time);
            events += batch.events.len() as u64;
            touched.clear();
            replica.apply(&batch, &mut touched);
            for topic in &touched {
                if let (Kind::Quote | Kind::Trades, Some(instrument)) = (topic.kind, topic.instrument()) {
                    *busy.entry(instrument).or_default() += 1;
                }
                if kinds.contains(&topic.kind) && from.is_none_or(|from| time >= from) {
                    changes.entry(*topic).or_default().push(time.micros());
                    timed += 1;
                }
            }
            if timed > MAX_CHANGES || events > MAX_EVENTS {
                return Err(BenchError::Plan(format!(
                    "after {events} events and {timed} changes to time there are more: make --duration shorter, or the feed slower"
                )));
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = first.map_or(0.0, |first| events as f64 / (last.nanos_since(first).max(1) as f64 / 1e9));
        let start = first.unwrap_or(MARKET_OPEN).plus_nanos(-moved);
        Ok(Self { changes, busy, replica, start, rate })
    }

    /// The first moment of the recording.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// Mean number of events in a second of the feed's clock.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// When something changes for a subscriber of these topics.
    #[must_use]
    pub fn of_topics(&self, topics: &[Topic]) -> Timeline {
        let mut keys = BTreeSet::new();
        for book in self.replica.books() {
            let covering = topics.iter().filter(|topic| topic.covers(&book.definition));
            keys.extend(covering.map(|topic| TopicKey::of(book.definition.id, topic.kind)));
        }
        let mut moments: Vec<i64> =
            keys.iter().filter_map(|key| self.changes.get(key)).flatten().copied().collect();
        moments.sort_unstable();
        moments.into()
    }

    /// A watchlist for each client: so many symbols, drawn by how often they change, each once, busiest
    /// first.
    #[must_use]
    pub fn watchlists(&self, clients: usize, symbols: usize, seed: u64) -> Vec<Vec<Symbol>> {
        let weight = |id| self.busy.get(&id).map_or(0, |&changes| changes) + 1;
        let mut weights: Vec<(usize, &Symbol)> =
            self.replica.books().map(|book| (weight(book.definition.id), &book.definition.symbol)).collect();
        weights.sort_unstable_by(|a, b| b.cmp(a));
        let mut sums = Vec::with_capacity(weights.len());
        let mut total = 0;
        for (weight, _) in &weights {
            total += weight;
            sums.push(total);
        }
        let mut random = rand_pcg::Pcg64::seed_from_u64(seed);
        let wanted = symbols.min(weights.len());
        (0..clients)
            .map(|_| {
                let mut drawn = BTreeSet::new();
                // The rarest may hardly ever be drawn: a client that wants nearly all symbols gets the
                // busiest for the rest.
                for _ in 0..wanted * 50 {
                    if drawn.len() == wanted {
                        break;
                    }
                    let at = random.random_range(0..total);
                    drawn.insert(sums.partition_point(|&sum| sum <= at));
                }
                let mut rest = 0..weights.len();
                while drawn.len() < wanted {
                    drawn.extend(rest.next());
                }
                drawn.into_iter().map(|index| weights[index].1.clone()).collect()
            })
            .collect()
    }
}

fn looped(path: &Path) -> Result<impl Feed + use<>, BenchError> {
    let path = path.to_owned();
    Looped::new(move || open(&path, &OpenOptions::default())).map_err(|error: OpenError| unreadable(error))
}

fn unreadable(error: impl std::fmt::Display) -> BenchError {
    BenchError::Feed(error.to_string())
}

/// By how many ns the round of a recording in which `from` lies is later than its first.
fn rounds_before(path: &Path, from: Timestamp) -> Result<i64, BenchError> {
    let mut feed = looped(path)?;
    let (mut instruments, mut events) = (Instruments::default(), Vec::new());
    let mut first = None;
    while let Some(time) = feed.next(&mut instruments, &mut events).map_err(unreadable)? {
        events.clear();
        let first = *first.get_or_insert(time);
        // The second round begins.
        if feed.shift() > 0 {
            return Ok(from.nanos_since(first).max(0) / feed.shift() * feed.shift());
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_has_played_for_long_is_met_where_it_is() {
        let made = tempfile::tempdir().unwrap();
        let path = made.path().join("market.tape");
        let rate = NonZeroU32::new(100).unwrap();
        let market = Market { symbols: 3, rate, seed: 1, only_trades: true, turns: None };
        record(market, 200, &path).unwrap();
        let topics = [Topic::parse("trades:*").unwrap()];
        let of = |from, seconds| Timelines::of(&path, &[Kind::Trades], from, seconds).unwrap();

        let start = of(None, 1.0);
        assert!((95.0..=105.0).contains(&start.rate()), "{}", start.rate());
        assert_eq!(start.start(), MARKET_OPEN);
        let moments = start.of_topics(&topics);
        // 1,000 rounds of 2 s later the same is due at the same distances.
        let period = rounds_before(&path, MARKET_OPEN.plus_nanos(3_000_000_000)).unwrap();
        assert!((1_990_000_000..=2_020_000_000).contains(&period), "{period}");
        let later = of(Some(MARKET_OPEN.plus_nanos(1_000 * period)), 1.0);
        assert_eq!(later.start(), MARKET_OPEN);
        let expected: Vec<i64> = moments.iter().map(|moment| moment + period).collect();
        assert_eq!(*later.of_topics(&topics), *expected);
    }

    #[test]
    fn only_what_is_subscribed_is_timed() {
        let made = tempfile::tempdir().unwrap();
        let path = made.path().join("market.tape");
        let rate = NonZeroU32::new(100).unwrap();
        record(Market { symbols: 1, rate, seed: 1, only_trades: true, turns: None }, 50, &path).unwrap();
        let timelines = Timelines::of(&path, &[Kind::Quote], None, 1.0).unwrap();
        assert!(timelines.of_topics(&[Topic::parse("trades:*").unwrap()]).is_empty());
    }
}
