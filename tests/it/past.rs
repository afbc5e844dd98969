//! A simulated market that opens with the hours before: bars, trades and days that agree with each other.
#![warn(clippy::pedantic)]

use tickcast::feed::Feed;
use tickcast::feed::sim::{SimConfig, Simulator, default_universe};
use tickcast::hub::{BARS_KEPT, Replica, Ring};
use tickcast::market::{Bar, Event, Instruments, Interval, Price, Tail, Timestamp, Trade};
use tickcast::tape::{Batch, Epoch, Position};

const SECOND: i64 = Interval::Second.nanos();

/// 07:02:37.5 UTC, and one that is a minute's first moment.
const STARTS: [i64; 2] = [1_700_031_757_500_000_000, 1_700_031_720_000_000_000];

fn opening(start: i64, seed: u64) -> (Instruments, Vec<Event>) {
    let config = SimConfig { symbols: 40, seed, ..SimConfig::starting(Timestamp::from_nanos(start)) };
    let (mut instruments, mut events) = (Instruments::default(), Vec::new());
    Simulator::new(&default_universe(), config).next(&mut instruments, &mut events).unwrap();
    (instruments, events)
}

fn opened(start: i64, seed: u64) -> Replica {
    let (_, events) = opening(start, seed);
    let mut replica = Replica::new(Epoch::new(1));
    let time = Timestamp::from_nanos(start);
    replica.apply(&Batch { position: Position::new(1), time, events }, &mut Vec::new());
    replica
}

#[test]
fn a_market_opens_with_hours_of_bars_that_agree_with_each_other_and_with_its_quotes() {
    for start in STARTS {
        let replica = opened(start, 3);
        for book in replica.books() {
            let symbol = &book.definition.symbol;
            let mut minutes: Vec<Bar> = book.bars_1m.closed.newest(BARS_KEPT).map(|(_, bar)| bar).collect();
            minutes.extend(book.bars_1m.latest.open());
            assert!((239..=241).contains(&minutes.len()), "{symbol}: {}", minutes.len());
            for pair in minutes.windows(2) {
                assert!(pair[0].start < pair[1].start, "{symbol}: {pair:?}");
            }
            for bar in &minutes {
                assert!(bar.low <= bar.open.min(bar.close) && bar.high >= bar.open.max(bar.close), "{bar:?}");
                let vwap = bar.vwap_hundredths();
                assert!(bar.low.units() * 100 <= vwap && vwap <= bar.high.units() * 100, "{bar:?}");
                assert!(bar.start < Timestamp::from_nanos(start) && bar.trades > 0, "{bar:?}");
            }
            let trades: Vec<Trade> = book.trades.newest(2_000).map(|(_, trade)| trade).collect();
            assert!(trades.iter().all(|trade| trade.ts_event < Timestamp::from_nanos(start)));
            assert!(trades.windows(2).all(|pair| pair[0].ts_event <= pair[1].ts_event), "{symbol}");
            let mut seconds: Vec<Bar> = book.bars_1s.closed.newest(BARS_KEPT).map(|(_, bar)| bar).collect();
            seconds.extend(book.bars_1s.latest.open());
            let count: u64 = seconds.iter().map(|bar| bar.trades).sum();
            assert_eq!(count, trades.len() as u64, "{symbol}: each trade is in one second");
            // Where it opens is where it came to.
            let (quote, day) = (book.quote.get().unwrap(), book.day.get().unwrap());
            assert_eq!(day.close, minutes.last().unwrap().close, "{symbol}");
            let middle = i128::midpoint(quote.bid.units(), quote.ask.units());
            let off = (day.close.units() - middle).abs();
            assert!(off * 200 < middle, "{symbol}: {} about {middle}", day.close.units());
            let today = minutes.iter().filter(|bar| bar.start >= day.start);
            assert!(today.clone().all(|bar| bar.high <= day.high && bar.low >= day.low), "{symbol}");
            assert!(today.map(|bar| bar.trades).sum::<u64>() <= day.trades, "{symbol}");
            assert!(!book.day.previous_close().is_none());
        }
    }
}

#[test]
fn the_past_is_the_same_for_a_seed_and_another_for_another() {
    let of = |seed| opened(STARTS[0], seed).checkpoint().collect::<Vec<_>>();
    assert_eq!(of(1), of(1));
    let closes = |seed| -> Vec<Price> {
        let replica = opened(STARTS[0], seed);
        replica
            .books()
            .flat_map(|book| book.bars_1m.closed.newest(20).map(|(_, bar)| bar.close).collect::<Vec<_>>())
            .collect()
    };
    assert_ne!(closes(1), closes(2));
}

#[test]
fn a_day_that_has_just_begun_holds_what_was_traded_in_it() {
    let midnight = Interval::Day.nanos() * 19_700;
    let replica = opened(midnight + 30 * SECOND, 3);
    for book in replica.books() {
        let trades =
            book.trades.newest(2_000).filter(|(_, trade)| trade.ts_event.nanos() >= midnight).count();
        assert_eq!(book.day.get().map_or(0, |day| day.trades), trades as u64);
    }
    assert!(opened(midnight, 3).books().all(|book| book.day.get().is_none()));
}

#[test]
fn what_a_ring_recalls_goes_when_it_is_full_as_what_it_keeps() {
    let (_, events) = opening(STARTS[0], 3);
    let snapshots = || {
        events.iter().filter_map(|event| match event {
            Event::Snapshot(_, snapshot) => Some(snapshot),
            _ => None,
        })
    };
    let first = snapshots().next().unwrap();
    let all = first.bars_1m.closed.all().into_owned();
    let (at, capacity) = (Position::new(5), all.len() + 3);
    let mut recalled = Ring::restored(capacity, &first.bars_1m.closed, at);
    let mut kept = Ring::restored(capacity, &Tail::of(0, all.clone()), at);
    for number in 0..all.len() as u64 + 10 {
        for (ring, position) in [(&mut recalled, number + 6), (&mut kept, number + 6)] {
            ring.push(Position::new(position), all[0]);
        }
        for (since, upto) in
            [(0, 4), (0, 5), (4, number + 6), (5, number + 6), (number + 5, number + 6), (0, u64::MAX)]
        {
            let [a, b] = [&recalled, &kept].map(|ring| {
                let run = ring.owed(Position::new(since), Position::new(upto));
                (run.number, run.broken, run.gap, run.len(), run.iter_from(2).copied().collect::<Vec<_>>())
            });
            assert_eq!(a, b, "{number}: {since} to {upto}");
        }
        for count in [1, 5, all.len(), 2_000] {
            let newest = |ring: &Ring<Bar>| ring.newest(count).collect::<Vec<_>>();
            assert_eq!(newest(&recalled), newest(&kept));
        }
        assert_eq!((recalled.count(), recalled.tail()), (kept.count(), kept.tail()));
    }
}
