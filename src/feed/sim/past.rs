use super::random::Random;
use super::{float, whole};
use crate::market::{
    Bar, Conditions, Counts, Interval, Newest, Price, Recall, Recalled, Side, Size, Snapshot, Tail,
    Timestamp, Trade, Turnover,
};
use std::sync::Arc;

/// The history of an instrument before its market opens here: a walk back from its opening price, the same
/// each time for a seed. It takes no memory, and does not affect later events.
///
/// The newest minutes are walked trade by trade, and give their bars; the older ones are walked minute by
/// minute.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub seed: u64,
    /// When the market opens.
    pub start: Timestamp,
    /// Opening price in ticks.
    pub opens_at: i64,
    pub max_ticks: i64,
    /// Price and size units.
    pub tick_size: i64,
    pub lot_size: i64,
    /// Mean size of trades in lots.
    pub usual_lots: f64,
    /// The price's moves in ticks per second.
    pub ticks_per_second: f64,
    pub trades_per_second: f64,
}

/// Minutes that are sent as bars.
const MINUTES: i64 = 240;
/// Most trades of a second; more would not be visible.
const MOST_TRADES: f64 = 8.0;
/// A bar may still get trades so long after its end, as `hub` has it.
const GRACE: i64 = SECOND;

/// [`Trade::booked`] of a trade that counted in its second, its minute and its day.
const EVERYWHERE: u16 = 7;

const SECOND: i64 = Interval::Second.nanos();
const MINUTE: i64 = Interval::Minute.nanos();

/// The state of a walk back.
struct Walk {
    random: Random,
    /// In ticks.
    level: f64,
}

impl Past {
    /// The state of the instrument when its market opens.
    pub(super) fn snapshot(self) -> Snapshot {
        let (trades, mut walk) = self.newest_trades();
        let seconds = bars_of(&trades, Interval::Second);
        let mut minutes = bars_of(&trades, Interval::Minute);
        let newest = trades.last().map(|trade| Newest::new(trade.ts_event, 0));
        let midnight = Interval::Day.start_of(self.start);
        let today = self.minutes_before(self.begin(), midnight, &mut walk);
        let kept = usize::try_from(MINUTES).unwrap_or(0);
        let older = self.older_minutes().len().min(kept);
        let day = today
            .into_iter()
            .rev()
            .chain(minutes.iter().copied())
            .filter(|bar| bar.start >= midnight)
            .reduce(|day, bar| joined(&day, &bar))
            .map(|day| {
                Bar::from_parts(
                    midnight,
                    [day.open, day.high, day.low, day.close],
                    day.volume,
                    day.trades,
                    day.turnover(),
                )
            });
        let (second, minute) = (seconds.last().copied(), minutes.pop());
        let is_open = |bar: Option<Bar>, width| bar.is_some_and(|bar| self.is_open(&bar, width));
        let (second_open, minute_open) =
            (is_open(second, Interval::Second), is_open(minute, Interval::Minute));
        let closed = |newest: usize, open: bool| newest - usize::from(open && newest > 0);
        let lens = [
            trades.len(),
            closed(seconds.len(), second_open),
            closed(older + minutes.len() + usize::from(minute.is_some()), minute_open),
        ];
        // The day had more trades than are sent.
        let first = day.map_or(1, |day| day.trades.saturating_sub(lens[0] as u64).max(1));
        let past: Arc<dyn Recall> = Arc::new(self);
        let bars = |latest, is_open, len, all| crate::market::BarsSnapshot {
            latest,
            is_open,
            closed: Tail {
                first: 0,
                recalled: Some(Recalled::new(Arc::clone(&past), all, len)),
                entries: Vec::new(),
            },
        };
        Snapshot {
            trades: Tail {
                first,
                recalled: Some(Recalled::new(Arc::clone(&past), |past| past.trades(), lens[0])),
                entries: Vec::new(),
            },
            bars_1s: bars(second, second_open, lens[1], |past| past.bars(Interval::Second)),
            bars_1m: bars(minute, minute_open, lens[2], |past| past.bars(Interval::Minute)),
            day,
            newest,
            ..Snapshot::default()
        }
    }

    /// Where the walk by trades begins: the full minute before the one that it opens in.
    fn begin(&self) -> Timestamp {
        Interval::Minute.start_of(self.start).plus_nanos(-MINUTE)
    }

    fn is_open(&self, bar: &Bar, width: Interval) -> bool {
        bar.start.plus_nanos(width.nanos()).plus_nanos(GRACE) > Interval::Second.start_of(self.start)
    }

    /// Oldest first, with the state of the walk at their beginning.
    fn newest_trades(&self) -> (Vec<Trade>, Walk) {
        let mut walk = Walk { random: Random::new(self.seed), level: float(self.opens_at) };
        let (mut trades, mut second) = (Vec::new(), Interval::Second.start_of(self.start));
        while second > self.begin() {
            second = second.plus_nanos(-SECOND);
            let busy = self.trades_per_second.min(MOST_TRADES) * (0.5 + walk.random.unit());
            let count = whole((busy + walk.random.unit() - 0.5).max(0.0));
            let root = (1.0 / float(count.max(1))).sqrt();
            for number in (0..count).rev() {
                let price = self.price(walk.level);
                let at = second
                    .plus_nanos(SECOND * number / count + whole(walk.random.unit() * float(SECOND / count)));
                let lots = whole(self.usual_lots * walk.random.skewed()).max(1);
                trades.push(Trade {
                    price,
                    size: Size::new(lots.saturating_mul(self.lot_size)),
                    side: if walk.random.chance(0.5) { Side::Buy } else { Side::Sell },
                    conditions: Conditions::default(),
                    counts: Counts::EVERYTHING,
                    booked: EVERYWHERE,
                    ts_event: at,
                    ts_recv: at,
                });
                self.step_back(&mut walk, root);
            }
            if count == 0 {
                self.step_back(&mut walk, 1.0);
            }
        }
        trades.reverse();
        (trades, walk)
    }

    /// Newest first, from the one that ends at `end` back to the one that begins at `first`, or before.
    fn minutes_before(&self, end: Timestamp, first: Timestamp, walk: &mut Walk) -> Vec<Bar> {
        let count = end.nanos_since(first) / MINUTE;
        let minute = |number: i64| {
            let close = walk.level;
            let root = 60_f64.sqrt();
            self.step_back(walk, root);
            let open = walk.level;
            let mut reach = || self.ticks_per_second * root * 0.4 * walk.random.normal().abs();
            let (up, down) = (reach(), reach());
            let prices =
                [open, open.max(close) + up, open.min(close) - down, close].map(|level| self.price(level));
            let trades =
                whole(self.trades_per_second.min(MOST_TRADES) * 60.0 * (0.5 + walk.random.unit())).max(1);
            let lots = whole(self.usual_lots * float(trades) * (0.7 + 0.6 * walk.random.unit())).max(trades);
            let volume = Size::new(lots.saturating_mul(self.lot_size));
            let start = end.plus_nanos(-MINUTE * (number + 1));
            Bar::from_parts(
                start,
                prices,
                volume,
                trades.unsigned_abs(),
                Turnover::of(self.price(f64::midpoint(open, close)), volume),
            )
        };
        (0..count).map(minute).collect()
    }

    /// Oldest first: those that are sent, except the newest.
    fn older_minutes(&self) -> Vec<Bar> {
        let (_, mut walk) = self.newest_trades();
        let first = self.begin().plus_nanos(-MINUTE * (MINUTES - 1));
        let mut bars = self.minutes_before(self.begin(), first, &mut walk);
        bars.reverse();
        bars
    }

    fn step_back(&self, walk: &mut Walk, root: f64) {
        walk.level -= self.ticks_per_second * root * walk.random.normal();
        walk.level = walk.level.clamp(1.0, float(self.max_ticks));
    }

    fn price(&self, level: f64) -> Price {
        Price::new(whole(level).clamp(1, self.max_ticks).saturating_mul(self.tick_size))
    }
}

impl Recall for Past {
    fn trades(&self) -> Vec<Trade> {
        self.newest_trades().0
    }

    fn bars(&self, interval: Interval) -> Vec<Bar> {
        let (trades, _) = self.newest_trades();
        let mut bars = if interval == Interval::Minute { self.older_minutes() } else { Vec::new() };
        bars.extend(bars_of(&trades, interval));
        if bars.last().is_some_and(|bar| self.is_open(bar, interval)) {
            bars.pop();
        }
        bars
    }
}

fn bars_of(trades: &[Trade], width: Interval) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    for trade in trades {
        let start = width.start_of(trade.ts_event);
        match bars.last_mut() {
            Some(bar) if bar.start == start => bar.add(width, trade, true),
            _ => bars.push(Bar::open(start, width, trade)),
        }
    }
    bars
}

/// Two consecutive bars as one.
fn joined(first: &Bar, second: &Bar) -> Bar {
    let prices = [first.open, first.high.max(second.high), first.low.min(second.low), second.close];
    let volume = first.volume.plus(second.volume);
    let turnover = first.turnover().plus(second.turnover());
    Bar::from_parts(first.start, prices, volume, first.trades + second.trades, turnover)
}
