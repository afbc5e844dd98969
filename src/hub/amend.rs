//! Trades that are broken or corrected, and what becomes of their bars. Pure; any thread.
//!
//! Invariant: only the newest 512 trades and 240 bars of a width are looked at, and no replica keeps fewer,
//! so all replicas amend alike.

use super::image::BarImage;
use super::replica::{Bars, Book};
use super::topic::{Kind, TopicKey};
use crate::market::{Bar, Counts, Interval, Price, Timestamp, Trade};
use crate::tape::Position;
use std::collections::{BTreeMap, BTreeSet};

/// How many of the newest trades, and of the newest bars of a width, are looked at.
const TRADES: usize = 512;
const BARS: usize = 240;

const WIDTHS: [Interval; 3] = [Interval::Second, Interval::Minute, Interval::Day];

/// The newest trades that are not broken, as far as they are looked at.
struct Kept {
    trades: Vec<(u64, Trade)>,
    /// Whether the ring never had another.
    is_all: bool,
}

/// A change of a trade's bar.
enum Change<'a> {
    Without(&'a Trade),
    With(&'a Trade),
}

/// The bit of [`Trade::booked`] for an interval.
pub(super) const fn bit(interval: Interval) -> u16 {
    match interval {
        Interval::Second => 1,
        Interval::Minute => 2,
        Interval::Day => 4,
    }
}

/// The time by which a trade counts: its own, or `arrival` if its own is too far ahead of the second it
/// arrived in; see [`super::replica`].
pub(super) fn believed(trade: &Trade, second: Timestamp, arrival: Timestamp) -> Timestamp {
    /// A venue's clock may be a little ahead of ours; a later time is taken for wrong.
    const MAX_AHEAD_NANOS: i64 = 5 * Interval::Second.nanos();
    if trade.ts_event < second.plus_nanos(MAX_AHEAD_NANOS) { trade.ts_event } else { arrival }
}

fn time_of(trade: &Trade) -> Timestamp {
    believed(trade, Interval::Second.start_of(trade.ts_recv), trade.ts_recv)
}

impl Book {
    /// Takes the trade that a break names out of its bars and its day, and appends the break to the trades. A
    /// break that names no known trade is appended, and changes nothing else.
    pub(super) fn take_back(&mut self, mut notice: Trade, at: Position, touched: &mut Vec<TopicKey>) {
        let mut kept = Kept::of(self);
        let same = |trade: &Trade| {
            // Clients know its time in microseconds.
            (trade.price, trade.size) == (notice.price, notice.size)
                && trade.ts_event.micros() == notice.ts_event.micros()
        };
        let found = kept.trades.iter().rposition(|(_, trade)| same(trade));
        let was = if let Some(index) = found {
            let (number, was) = kept.trades[index];
            notice.booked = u16::try_from(self.trades.count() - number).unwrap_or(0);
            Some(was)
        } else {
            // It may be older than what is looked at: then it is assumed to have counted.
            let is_older = kept.trades.first().is_some_and(|(_, first)| notice.ts_event < first.ts_event);
            let was = Trade { counts: notice.counts.plain(), booked: 7, ..notice };
            (is_older && !kept.is_all).then_some(was)
        };
        self.trades.push(at, notice);
        touched.push(TopicKey::of(self.definition.id, Kind::Trades));
        let Some(was) = was else { return };
        let begins = WIDTHS.map(|interval| kept.has_beginning_of(&was, interval));
        if let Some(index) = found {
            kept.trades.remove(index);
        }
        for (interval, is_whole) in WIDTHS.into_iter().zip(begins) {
            if was.booked & bit(interval) != 0 {
                self.amend(interval, &Change::Without(&was), &kept, is_whole, at, touched);
            }
        }
        let Some(newest) = &mut self.newest else { return };
        for (last, interval) in
            [(&mut newest.bars_last, Interval::Minute), (&mut newest.day_last, Interval::Day)]
        {
            if *last == Some(time_of(&was)) {
                let may = kept.trades.iter().filter(|(_, trade)| trade.counts.sets_last(interval));
                *last = may.map(|(_, trade)| time_of(trade)).max().or(*last);
            }
        }
    }

    /// Counts a trade that replaces a broken one in the closed bars of its time. Returns which bars, as in
    /// [`Trade::booked`].
    pub(super) fn correct(&mut self, trade: &Trade, at: Position, touched: &mut Vec<TopicKey>) -> u16 {
        let kept = Kept::of(self);
        let mut booked = 0;
        for interval in [Interval::Second, Interval::Minute] {
            let bars = self.bars_of(interval);
            let start = interval.start_of(time_of(trade));
            let is_open = bars.latest.open().is_some_and(|bar| bar.start <= start);
            let is_past = bars.latest.get().is_some_and(|bar| start <= bar.start);
            if !is_open && is_past && bars.latest.counts(trade) {
                let is_whole = kept.has_beginning_of(trade, interval);
                let is_known = self.amend(interval, &Change::With(trade), &kept, is_whole, at, touched);
                booked |= if is_known { bit(interval) } else { 0 };
            }
        }
        booked
    }

    /// Changes the bar of a trade, if it is known. A closed bar is appended once more, with the same start.
    fn amend(
        &mut self,
        interval: Interval,
        change: &Change<'_>,
        kept: &Kept,
        is_whole: bool,
        at: Position,
        touched: &mut Vec<TopicKey>,
    ) -> bool {
        let (Change::With(trade) | Change::Without(trade)) = change;
        let start = interval.start_of(time_of(trade));
        let Some(mut bar) = self.bar_of(interval, start) else { return false };
        match change {
            Change::Without(was) => bar.remove_volume(was),
            Change::With(is) => bar.add(interval, is, false),
        }
        if trade.counts.sets_last(interval) || trade.counts.sets_high_low(interval) {
            let mut trades = kept.of_bar(interval, start);
            if let Change::With(is) = change {
                trades.push(**is);
            }
            if is_whole {
                bar.set_prices(prices(interval, start, trades));
            } else if bar.trades == 0 {
                bar.set_prices([Price::NONE; 4]);
            } else if let Change::Without(was) = change {
                let finer = self.finer_bars(interval, start);
                bar.set_prices(without(&bar, was, interval, &trades, &finer));
            }
        }
        let instrument = self.definition.id;
        let Some(bars) = self.closable(interval) else {
            self.day.amend(bar, at);
            touched.push(TopicKey::of(instrument, Kind::Day));
            return true;
        };
        if bars.latest.get().is_some_and(|latest| latest.start == start) {
            bars.latest.amend(bar, at);
        }
        if bars.latest.open().is_none_or(|open| open.start != start) {
            bars.closed.push(at, bar);
        }
        touched.push(TopicKey::of(instrument, Kind::of_bars(interval)));
        true
    }

    /// The present values of the bar with that start.
    fn bar_of(&self, interval: Interval, start: Timestamp) -> Option<Bar> {
        let image = if interval == Interval::Day { &self.day } else { &self.bars_of(interval).latest };
        let latest = image.get().filter(|bar| bar.start == start).copied();
        latest.or_else(|| {
            let bars = (interval != Interval::Day).then(|| self.bars_of(interval))?;
            bars.newest_closed().remove(&start)
        })
    }

    /// The bars of the next finer width within one, by their start.
    fn finer_bars(&self, interval: Interval, start: Timestamp) -> Vec<Bar> {
        let finer = match interval {
            Interval::Second => return Vec::new(),
            Interval::Minute => &self.bars_1s,
            Interval::Day => &self.bars_1m,
        };
        let mut bars = finer.newest_closed();
        bars.extend(finer.latest.get().map(|bar| (bar.start, *bar)));
        bars.range(start..start.plus_nanos(interval.nanos())).map(|(_, bar)| *bar).collect()
    }

    fn bars_of(&self, interval: Interval) -> &Bars {
        if interval == Interval::Second { &self.bars_1s } else { &self.bars_1m }
    }

    /// `None` for days: no closed ones are kept.
    fn closable(&mut self, interval: Interval) -> Option<&mut Bars> {
        match interval {
            Interval::Second => Some(&mut self.bars_1s),
            Interval::Minute => Some(&mut self.bars_1m),
            Interval::Day => None,
        }
    }
}

impl Bars {
    /// The closed bars that are kept by their start, each in its last version, with the number of that.
    #[must_use]
    pub fn by_start(&self) -> BTreeMap<Timestamp, (u64, Bar)> {
        self.closed.newest(usize::MAX).map(|(number, bar)| (bar.start, (number, bar))).collect()
    }

    /// The newest closed bars by their start, each in its last version.
    fn newest_closed(&self) -> BTreeMap<Timestamp, Bar> {
        self.closed.newest(BARS).map(|(_, bar)| (bar.start, bar)).collect()
    }
}

impl BarImage {
    /// Replaces the bar of the same start.
    fn amend(&mut self, bar: Bar, at: Position) {
        let is_open = self.open().is_some() || self.is_day();
        self.restore(bar, is_open, at);
    }
}

impl Kept {
    fn of(book: &Book) -> Self {
        let newest: Vec<(u64, Trade)> = book.trades.newest(TRADES).collect();
        let is_all = book.trades.count() == newest.len() as u64;
        let breaks = newest.iter().filter(|(_, trade)| trade.counts.is_break() && trade.booked > 0);
        let broken: BTreeSet<u64> =
            breaks.map(|(number, notice)| number - u64::from(notice.booked)).collect();
        let stands = |(number, trade): &(u64, Trade)| !trade.counts.is_break() && !broken.contains(number);
        Self { trades: newest.into_iter().filter(stands).collect(), is_all }
    }

    fn is_of(trade: &Trade, interval: Interval, start: Timestamp) -> bool {
        trade.booked & bit(interval) != 0 && interval.start_of(time_of(trade)) == start
    }

    /// Whether all trades of a trade's bar are here: one of an earlier bar is, as bars never go back, or all
    /// there ever were.
    fn has_beginning_of(&self, trade: &Trade, interval: Interval) -> bool {
        let start = interval.start_of(time_of(trade));
        let before = |(_, trade): &(u64, Trade)| {
            trade.booked & bit(interval) != 0 && interval.start_of(time_of(trade)) < start
        };
        self.is_all || self.trades.iter().any(before)
    }

    fn of_bar(&self, interval: Interval, start: Timestamp) -> Vec<Trade> {
        let trades = self.trades.iter().map(|(_, trade)| *trade);
        trades.filter(|trade| Self::is_of(trade, interval, start)).collect()
    }
}

/// Open, high, low and close of all trades of a bar. A correction counts at its own time.
fn prices(interval: Interval, start: Timestamp, mut trades: Vec<Trade>) -> [Price; 4] {
    if trades.iter().any(|trade| trade.counts.has(Counts::CORRECTION)) {
        trades.sort_by_key(time_of);
    }
    let mut bar: Option<Bar> = None;
    let mut last = None;
    for trade in &trades {
        let is_newest = last.is_none_or(|last| time_of(trade) >= last);
        if is_newest && trade.counts.sets_last(interval) {
            last = Some(time_of(trade));
        }
        match &mut bar {
            Some(bar) => bar.add(interval, trade, is_newest),
            None => bar = Some(Bar::open(start, interval, trade)),
        }
    }
    bar.map_or([Price::NONE; 4], |bar| [bar.open, bar.high, bar.low, bar.close])
}

/// Open, high, low and close of a bar whose beginning is not kept, without one trade. A price that the trade
/// set comes from the trades and finer bars that are kept.
fn without(bar: &Bar, was: &Trade, interval: Interval, trades: &[Trade], finer: &[Bar]) -> [Price; 4] {
    let sets = |trade: &&Trade| trade.counts.sets_high_low(interval) || trade.counts.sets_last(interval);
    let paid = || trades.iter().filter(sets).map(|trade| trade.price);
    let of = |price: fn(&Bar) -> Price| finer.iter().map(price).filter(|price| !price.is_none());
    let instead = |price: Price, other: Option<Price>| {
        if price == was.price { other.unwrap_or(price) } else { price }
    };
    let lasts = trades.iter().filter(|trade| trade.counts.sets_last(interval));
    let close = lasts.max_by_key(|trade| time_of(trade)).map(|trade| trade.price);
    [
        instead(bar.open, of(|bar| bar.open).next()),
        instead(bar.high, paid().chain(of(|bar| bar.high)).max()),
        instead(bar.low, paid().chain(of(|bar| bar.low)).min()),
        instead(bar.close, close.or_else(|| of(|bar| bar.close).next_back())),
    ]
}

#[cfg(test)]
mod tests;
