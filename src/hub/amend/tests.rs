//! Breaks and corrections of trades, and the bars after them.

use crate::hub::{Bars, Replica};
use crate::market::{
    Bar, Conditions, Counts, Event, Instrument, InstrumentId, Price, Side, Size, Symbol, Timestamp, Trade,
};
use crate::tape::{Batch, Epoch};
use proptest::prelude::*;
use std::sync::Arc;

const X: InstrumentId = InstrumentId(0);
const SECOND: i64 = 1_000_000_000;

fn trade(price: i64, size: i64, nanos: i64) -> Trade {
    Trade {
        price: Price::new(price),
        size: Size::new(size),
        side: Side::Buy,
        conditions: Conditions::default(),
        counts: Counts::EVERYTHING,
        booked: 0,
        ts_event: Timestamp::from_nanos(nanos),
        ts_recv: Timestamp::from_nanos(nanos),
    }
}

/// The break of `trade`, at another time.
fn broken(trade: Trade, nanos: i64) -> Trade {
    Trade { counts: trade.counts.and(Counts::BREAK), ts_recv: Timestamp::from_nanos(nanos), ..trade }
}

/// A replica of each trade when it arrives, in a batch of its own, and then of the time `end`.
fn replica(trades: &[Trade], end: i64) -> Replica {
    let mut replica = Replica::new(Epoch::new(1));
    let definition = Instrument::unknown(Symbol::new("X").unwrap());
    let mut fold = |time: Timestamp, events: Vec<Event>| {
        let batch = Batch { position: replica.position().next(), time, events };
        replica.apply(&batch, &mut Vec::new());
    };
    fold(Timestamp::from_nanos(0), vec![Event::Instrument(Arc::new(definition))]);
    for trade in trades {
        fold(trade.ts_recv, vec![Event::Trade(X, *trade)]);
    }
    fold(Timestamp::from_nanos(end), Vec::new());
    replica
}

fn show(bar: &Bar) -> String {
    let prices = [bar.open, bar.high, bar.low, bar.close].map(|price| price.some().map_or(-1, Price::units));
    let Bar { volume, trades, .. } = bar;
    format!(
        "{} {prices:?} {} {trades} {}",
        bar.start.nanos() / SECOND,
        volume.units(),
        bar.turnover().short().unwrap()
    )
}

/// Bars of seconds, of minutes and of the day that have any trades left.
fn bars(replica: &Replica) -> [Vec<String>; 3] {
    let book = replica.book(X).unwrap();
    let left = |bars: Vec<Bar>| bars.iter().filter(|bar| bar.trades > 0).map(show).collect();
    let closed = |bars: &Bars| left(bars.by_start().into_values().map(|(_, bar)| bar).collect());
    [closed(&book.bars_1s), closed(&book.bars_1m), left(book.day.get().copied().into_iter().collect())]
}

#[track_caller]
fn check_minute(trades: &[Trade], end: i64, expected: &str) -> Replica {
    let replica = replica(trades, end * SECOND);
    let [_, minutes, _] = bars(&replica);
    assert_eq!(minutes, [expected]);
    replica
}

#[test]
fn a_trade_that_is_taken_back_leaves_bars_and_day_and_is_told_with_its_number() {
    let bad = trade(999, 200, 2 * SECOND);
    let trades = [trade(100, 1, SECOND), bad, trade(101, 4, 3 * SECOND), broken(bad, 90 * SECOND)];
    let replica = check_minute(&trades, 91, "0 [100, 101, 100, 101] 5 2 504");
    let book = replica.book(X).unwrap();
    assert_eq!(show(book.day.get().unwrap()), "0 [100, 101, 100, 101] 5 2 504");
    let told: Vec<_> =
        book.trades.newest(9).map(|(number, trade)| (number, trade.counts.is_break())).collect();
    assert_eq!(told, [(0, false), (1, false), (2, false), (3, true)]);
    assert_eq!(book.trades.newest(1).next().unwrap().1.booked, 2, "two before it");
    // The bar of its second is appended again, with nothing left in it.
    let closed: Vec<_> = book.bars_1s.closed.newest(9).map(|(_, bar)| show(&bar)).collect();
    assert_eq!(closed[3], "2 [-1, -1, -1, -1] 0 0 0");
    assert_eq!(book.bars_1s.closed.newest(1).next().unwrap().1.vwap_hundredths(), 0);
}

#[test]
fn a_break_of_what_is_not_known_or_was_taken_back_is_told_and_changes_nothing() {
    let bad = trade(999, 200, 2 * SECOND);
    let (good, other) = (trade(100, 1, SECOND), trade(7, 7, SECOND));
    let twice = [good, bad, broken(bad, 3 * SECOND), broken(bad, 4 * SECOND), broken(other, 5 * SECOND)];
    let replica = check_minute(&twice, 90, "0 [100, 100, 100, 100] 1 1 100");
    let told: Vec<_> = replica.book(X).unwrap().trades.newest(3).map(|(_, trade)| trade.booked).collect();
    assert_eq!(told, [1, 0, 0]);
}

#[test]
fn one_of_two_trades_alike_is_left() {
    let one = trade(100, 5, SECOND);
    check_minute(&[one, one, broken(one, 2 * SECOND)], 90, "0 [100, 100, 100, 100] 5 1 500");
}

#[test]
fn a_trade_that_did_not_count_in_a_closed_bar_is_not_taken_out_of_it() {
    // It arrived after the end of its minute, and counted in the day alone.
    let late = Trade { ts_event: Timestamp::from_nanos(SECOND), ..trade(999, 50, 100 * SECOND) };
    let trades = [trade(100, 1, SECOND), trade(101, 2, 99 * SECOND), late, broken(late, 101 * SECOND)];
    let replica = replica(&trades, 300 * SECOND);
    let [_, minutes, day] = bars(&replica);
    assert_eq!(minutes, ["0 [100, 100, 100, 100] 1 1 100", "60 [101, 101, 101, 101] 2 1 202"]);
    assert_eq!(day, ["0 [100, 101, 100, 101] 3 2 302"]);
}

#[test]
fn the_close_is_again_what_it_was_and_what_comes_later_is_measured_by_that() {
    let bad = trade(999, 1, 9 * SECOND);
    let overtaken = Trade { ts_event: Timestamp::from_nanos(8 * SECOND), ..trade(102, 1, 11 * SECOND) };
    let trades = [trade(100, 1, 7 * SECOND), bad, broken(bad, 10 * SECOND), overtaken];
    check_minute(&trades, 90, "0 [100, 102, 100, 102] 2 2 202");
}

#[test]
fn a_correction_counts_in_the_bars_that_the_trade_was_in() {
    let bad = trade(999, 200, 2 * SECOND);
    let right = Trade {
        price: Price::new(99),
        counts: Counts::EVERYTHING.and(Counts::CORRECTION),
        ts_recv: Timestamp::from_nanos(90 * SECOND),
        ..bad
    };
    let trades = [bad, trade(101, 4, 3 * SECOND), broken(bad, 90 * SECOND), right];
    let replica = check_minute(&trades, 91, "0 [99, 101, 99, 101] 204 2 20204");
    let [seconds, _, day] = bars(&replica);
    assert_eq!(seconds, ["2 [99, 99, 99, 99] 200 1 19800", "3 [101, 101, 101, 101] 4 1 404"]);
    assert_eq!(day, ["0 [101, 101, 99, 101] 204 2 20204"]);
}

#[test]
fn what_is_older_than_the_trades_looked_at_is_made_good_from_bars() {
    let mut trades = vec![trade(100, 1, SECOND), trade(999, 7, 2 * SECOND), trade(98, 1, 63 * SECOND)];
    trades.extend((0..600).map(|number| trade(100 + number % 3, 1, 130 * SECOND + number)));
    let before = replica(&trades, 200 * SECOND);
    assert_eq!(before.book(X).unwrap().day.get().unwrap().high, Price::new(999));
    let notice = broken(trades[1], 201 * SECOND);
    trades.push(notice);
    let after = replica(&trades, 300 * SECOND);
    let [seconds, minutes, day] = bars(&after);
    assert_eq!(minutes[0], "0 [100, 100, 100, 100] 1 1 100");
    assert_eq!(seconds[0], "1 [100, 100, 100, 100] 1 1 100");
    assert_eq!(day, ["0 [100, 102, 98, 102] 602 602 60798"]);
}

fn history() -> impl Strategy<Value = Vec<(i64, i64, i64, u8, bool)>> {
    let after = prop_oneof![3 => 0..SECOND / 2, 2 => SECOND / 2..3 * SECOND, 1 => 3 * SECOND..100 * SECOND];
    let counts = proptest::sample::select(&[31_u8, 31, 31, 1, 9, 7, 0][..]);
    proptest::collection::vec((after, 90..110_i64, 1..9_i64, counts, proptest::bool::weighted(0.3)), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn bars_without_what_is_taken_back_are_those_that_never_had_it(
        history in history(), wait in 0..200 * SECOND, split in any::<bool>(),
    ) {
        let mut at = SECOND;
        let (mut all, mut good, mut breaks) = (Vec::new(), Vec::new(), Vec::new());
        for (after, price, size, counts, is_bad) in history {
            at += after;
            let counts = Counts::from_bits(counts).unwrap();
            let one = Trade { counts, ..trade(price, size, at) };
            all.push(one);
            if is_bad { breaks.push(one) } else { good.push(one) }
            // Broken at once, or all of them later.
            if split && is_bad {
                breaks.pop();
                all.push(broken(one, at));
            }
        }
        let end = at + wait;
        all.extend(breaks.into_iter().map(|one| broken(one, end)));
        let end = end + 400 * SECOND;
        let (got, expected) = (replica(&all, end), replica(&good, end));
        prop_assert_eq!(bars(&got), bars(&expected));
        // A replica that starts from the checkpoint has the same bars.
        let mut sought = Replica::new(Epoch::new(2));
        let events = got.checkpoint().collect();
        sought.apply(&Batch { position: sought.position().next(), time: got.time(), events }, &mut Vec::new());
        prop_assert_eq!(bars(&sought), bars(&got));
    }
}
