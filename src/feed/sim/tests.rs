//! Does it look like a market? Each test pulls a market of a fixed seed and measures it.

use super::*;
use crate::market::{Conditions, InstrumentId, Quote, Side, Trade};
use std::collections::BTreeMap;
use std::sync::LazyLock;

const START: Timestamp = Timestamp::from_nanos(1_700_000_000_123_456_789);

fn universe(rows: &str) -> Universe {
    let header = "symbol,name,sector,currency,tick_size,lot_size,previous_close,volatility,activity";
    Universe::parse(&format!("{header}\n{rows}")).unwrap()
}

fn simulator(universe: &Universe, symbols: usize, rate: u32, seed: u64) -> Simulator {
    let rate = NonZeroU32::new(rate).unwrap();
    Simulator::new(universe, SimConfig { symbols, rate, seed, start: START })
}

/// A market, pulled call by call.
pub(super) struct World {
    feed: Box<dyn Feed>,
    pub instruments: Instruments,
    /// The last quote of each instrument.
    pub quotes: BTreeMap<InstrumentId, Quote>,
}

impl World {
    pub fn new(feed: impl Feed + 'static) -> Self {
        Self { feed: Box::new(feed), instruments: Instruments::default(), quotes: BTreeMap::new() }
    }

    pub fn pull(&mut self) -> (Vec<Event>, Option<Timestamp>) {
        let mut out = Vec::new();
        let at = self.feed.next(&mut self.instruments, &mut out).unwrap();
        (out, at)
    }

    /// Passes every event of the opening and of `ticks` ticks to `look`, with the quote before it.
    fn run(&mut self, ticks: usize, mut look: impl FnMut(&Instruments, Option<Quote>, &Event)) {
        for _ in 0..=ticks {
            let (events, _) = self.pull();
            for event in &events {
                let before = match event {
                    Event::Quote(id, _) | Event::Trade(id, _) => self.quotes.get(id).copied(),
                    _ => None,
                };
                look(&self.instruments, before, event);
                if let Event::Quote(id, quote) = event {
                    self.quotes.insert(*id, *quote);
                }
            }
        }
    }
}

/// FNV-1a over the numbers of the events.
fn hash(simulator: Simulator, ticks: usize) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |number: i128| {
        let number = i64::try_from(number).unwrap();
        for byte in number.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    World::new(simulator).run(ticks, |_, _, event| match event {
        Event::Quote(id, q) => {
            let sizes = [q.bid_size.units(), q.ask_size.units()];
            let numbers = [id.0.into(), q.bid.units(), q.ask.units(), q.ts_event.nanos().into()];
            numbers.into_iter().chain(sizes).for_each(&mut add);
        }
        Event::Trade(id, t) => {
            let side = t.side.name().len() as u64;
            let letters = t.conditions.as_str().len() as u64;
            let numbers = [id.0.into(), t.price.units(), t.size.units(), t.ts_event.nanos().into()];
            numbers.into_iter().for_each(&mut add);
            add(side.into());
            add(letters.into());
        }
        // What was before: the market itself must not change by it.
        Event::Snapshot(..) => {}
        _ => add(-1),
    });
    hash
}

#[test]
fn a_seed_gives_the_same_events_on_every_machine() {
    // A changed value breaks every saved seed: say so in the commit.
    let universe = default_universe();
    assert_eq!(hash(simulator(&universe, 550, 10_000, 42), 100_000), 6_568_888_772_207_408_184);
}

#[test]
fn another_seed_gives_another_market() {
    let universe = default_universe();
    let first = |seed| hash(simulator(&universe, 10, 1_000, seed), 100);
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
}

#[test]
fn the_default_universe_is_large_and_on_its_grid() {
    let listings = default_universe().listings;
    assert!(listings.len() >= 500, "{}", listings.len());
    for Listing { instrument, .. } in &listings {
        assert!(instrument.previous_close.units() % instrument.tick_size == 0, "{instrument:?}");
        assert!(!instrument.name.is_empty() && !instrument.sector.is_empty(), "{instrument:?}");
    }
}

#[test]
fn the_first_call_defines_opens_and_quotes_everything_at_the_start() {
    let mut world = World::new(simulator(&default_universe(), 600, 1_000, 1));
    let (events, at) = world.pull();
    assert_eq!((events.len(), at, world.instruments.len()), (600 + 1 + 600 + 600, Some(START), 600));
    assert!(events[..600].iter().all(|e| matches!(e, Event::Instrument(_))));
    let open = Status { state: TradingState::Open, ts_event: START };
    assert_eq!(events[600], Event::Status(None, open));
    let quoted = |e: &Event| matches!(e, Event::Quote(_, q) if q.ts_recv == START);
    assert!(events[601..1201].iter().all(|e| matches!(e, Event::Snapshot(..))));
    assert!(events[1201..].iter().all(quoted));
}

#[test]
fn a_market_of_one_symbol_ticks_and_one_of_none_ends() {
    let universe = default_universe();
    let mut one = World::new(simulator(&universe, 1, 1, 1));
    assert_eq!(one.pull().1, Some(START));
    assert_eq!(one.pull().1, Some(START.plus_nanos(1_000_000_000)));
    let mut none = World::new(simulator(&universe, 0, 1, 1));
    assert_eq!((none.pull().0.len(), none.pull().1), (1, None));
}

#[test]
fn known_instruments_keep_their_number_and_finer_scale() {
    let mut world = World::new(simulator(&default_universe(), 1, 1_000, 1));
    let known = default_universe().listings[0].instrument.clone();
    world.instruments.define(default_universe().listings[1].instrument.clone(), &mut Vec::new());
    world.instruments.define(known.refined(2, 3), &mut Vec::new());
    world.run(200, |instruments, _, event| match event {
        Event::Quote(id, q) => {
            let aapl = &instruments.get(*id).unwrap();
            assert_eq!(
                (aapl.symbol.as_str(), q.bid.units() % 100, q.bid_size.units() % 1_000),
                ("AAPL", 0, 0)
            );
            assert!((q.bid.units() - aapl.previous_close.units()).abs() < aapl.previous_close.units() / 10);
        }
        Event::Trade(id, _) => assert_eq!(id.0, 1),
        _ => {}
    });
}

#[track_caller]
fn check_rate(rate: u32, ticks: i64) {
    let mut world = World::new(simulator(&default_universe(), 3, rate, 1));
    world.pull();
    for k in 1..=ticks {
        let (events, at) = world.pull();
        let expected = START.plus_nanos(k * 1_000_000_000 / i64::from(rate));
        assert_eq!((events.len(), at), (1, Some(expected)), "tick {k} at {rate} a second");
    }
}

#[test]
fn the_rate_is_exact_to_the_nanosecond() {
    check_rate(1, 10);
    check_rate(3, 20);
    check_rate(7_777, 20_000);
    check_rate(1_000_000, 2_000);
    check_rate(3_000_000_000, 100);
}

#[test]
fn quotes_and_trades_keep_the_rules_of_a_book() {
    let (mut quotes, mut trades, mut changed_fields) = (0_u32, 0_u32, 0_u32);
    let mut world = World::new(simulator(&default_universe(), 600, 50_000, 3));
    world.run(300_000, |instruments, before, event| match (event, before) {
        (Event::Quote(id, now), before) => {
            let instrument = instruments.get(*id).unwrap();
            let on_grid = |units: i128| units % instrument.tick_size == 0;
            assert!(now.bid.units() > 0 && now.bid < now.ask, "{instrument:?} {now:?}");
            assert!(on_grid(now.bid.units()) && on_grid(now.ask.units()), "{instrument:?} {now:?}");
            assert!(now.bid_size.units() > 0 && now.ask_size.units() > 0, "{instrument:?} {now:?}");
            if let Some(before) = before {
                quotes += 1;
                let fields = changes(&before, now);
                assert!(fields > 0, "a tick that changes nothing: {now:?}");
                changed_fields += fields;
            }
        }
        (Event::Trade(id, trade), Some(quote)) => {
            trades += 1;
            check_trade(trade, &quote, instruments.get(*id).unwrap().tick_size);
        }
        (Event::Trade(..), None) => panic!("a trade before the first quote"),
        _ => {}
    });
    assert_eq!(quotes + trades, 300_000);
    assert!((30_000..45_000).contains(&trades), "10 to 15 % are trades: {trades}");
    assert!(f64::from(changed_fields) / f64::from(quotes) < 1.6, "{changed_fields} of {quotes}");
}

fn changes(a: &Quote, b: &Quote) -> u32 {
    [a.bid != b.bid, a.bid_size != b.bid_size, a.ask != b.ask, a.ask_size != b.ask_size]
        .map(u32::from)
        .iter()
        .sum()
}

#[track_caller]
fn check_trade(trade: &Trade, quote: &Quote, tick_size: i128) {
    assert!(trade.size.units() > 0 && trade.price.units() % tick_size == 0, "{trade:?}");
    assert!(quote.bid <= trade.price && trade.price <= quote.ask, "{trade:?} in {quote:?}");
    match trade.side {
        Side::Buy => assert!(trade.price > quote.bid, "{trade:?} in {quote:?}"),
        Side::Sell => assert!(trade.price < quote.ask, "{trade:?} in {quote:?}"),
        Side::None => panic!("{trade:?} has no aggressor"),
    }
}

#[test]
fn odd_lots_of_shares_are_marked() {
    let odd = Conditions::new("I").unwrap();
    let mut world = World::new(simulator(&default_universe(), 18, 1_000, 3));
    let mut marked = 0;
    world.run(20_000, |instruments, _, event| {
        if let Event::Trade(id, trade) = event {
            let share = !["fx", "crypto", "commodities"].contains(&&*instruments.get(*id).unwrap().sector)
                && instruments.get(*id).unwrap().tick_size == 1;
            assert_eq!(trade.conditions == odd, share && trade.size.units() < 100, "{trade:?}");
            marked += u32::from(trade.conditions == odd);
        }
    });
    assert!(marked > 300, "{marked}");
}

#[test]
fn every_instrument_quotes() {
    let mut world = World::new(simulator(&default_universe(), 550, 10_000, 3));
    let mut quoted = vec![false; 550];
    world.run(400_000, |_, before, event| {
        if let (Event::Quote(id, _), Some(_)) = (event, before) {
            quoted[id.index()] = true;
        }
    });
    assert!(quoted.iter().all(|&q| q));
}

#[test]
fn extreme_listings_stay_in_range() {
    let rows = "PENNY,,,,0.01,1,0.01,90000,1\nMOUNTAIN,,,,1,4503599627370495,4503599627370495,90000,4000000000\n\
                COARSE,,,,4503599627370495,1,4503599627370495,1,1\nFINE,,,,1e-18,1e-18,1e-18,4000000000,1\n";
    let universe = universe(rows);
    World::new(simulator(&universe, 4, 10, 1)).run(20_000, |_, _, event| {
        if let Event::Quote(_, quote) = event {
            assert!(0 < quote.bid.units() && quote.bid < quote.ask, "{quote:?}");
            assert!(
                quote.bid_size.units() > 0 && quote.ask_size.units() <= crate::market::SAFE_INTEGER.into()
            );
        }
    });
}

/// Returns of the mid-prices of 6 technology and 6 energy companies over an hour, each of a second.
fn returns(seed: u64) -> Vec<Vec<f64>> {
    let row = |number| {
        let sector = if number < 6 { "technology" } else { "energy" };
        format!("S{number},,{sector},USD,0.01,1,200.00,4000,100\n")
    };
    let universe = universe(&(0..12).map(row).collect::<String>());
    let mut world = World::new(simulator(&universe, 12, 500, seed));
    let mids = |world: &World| -> Vec<f64> {
        let twice = |q: &Quote| i64::try_from(q.bid.units() + q.ask.units()).unwrap();
        world.quotes.values().map(|q| float(twice(q)) / 2.0).collect()
    };
    let mut returns = vec![Vec::new(); 12];
    world.run(0, |_, _, _| {});
    for _ in 0..3_600 {
        let before = mids(&world);
        world.run(499, |_, _, _| {});
        for ((returns, before), now) in returns.iter_mut().zip(before).zip(mids(&world)) {
            returns.push(now / before - 1.0);
        }
    }
    returns
}

/// The same over so many seconds each.
fn over(seconds: usize, returns: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let sums = |r: &Vec<f64>| r.chunks_exact(seconds).map(|chunk| chunk.iter().sum()).collect();
    returns.iter().map(sums).collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = float(i64::try_from(values.len()).unwrap());
    values.sum::<f64>() / count
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a.iter().copied()), mean(b.iter().copied()));
    let sum = |x: &[f64], mx, y: &[f64], my| x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>();
    sum(a, mean_a, b, mean_b) / (sum(a, mean_a, a, mean_a) * sum(b, mean_b, b, mean_b)).sqrt()
}

/// Mean correlation of returns within the two sectors, and across.
fn correlations(returns: &[Vec<f64>]) -> (f64, f64) {
    let (mut within, mut across) = (Vec::new(), Vec::new());
    for a in 0..12 {
        for b in a + 1..12 {
            let list = if (a < 6) == (b < 6) { &mut within } else { &mut across };
            list.push(correlation(&returns[a], &returns[b]));
        }
    }
    (mean(within.into_iter()), mean(across.into_iter()))
}

/// Mean correlation of `of` of each return with that of the one `lag` later.
fn autocorrelation(returns: &[Vec<f64>], lag: usize, of: fn(f64) -> f64) -> f64 {
    mean(returns.iter().map(|r| {
        let r: Vec<f64> = r.iter().map(|&x| of(x)).collect();
        correlation(&r[lag..], &r[..r.len() - lag])
    }))
}

/// The median over the instruments, which one great jump does not change.
fn kurtosis(returns: &[Vec<f64>]) -> f64 {
    let mut each: Vec<f64> = returns
        .iter()
        .map(|r| {
            let center = mean(r.iter().copied());
            let moment = |power| mean(r.iter().map(|x| (x - center).powi(power)));
            moment(4) / (moment(2) * moment(2))
        })
        .collect();
    each.sort_by(f64::total_cmp);
    each[each.len() / 2]
}

/// The mean over the instruments of the standard deviation, by how many times it is that of 40 % a year.
fn volatility(seconds: u32, returns: &[Vec<f64>]) -> f64 {
    let said = 0.4 * (f64::from(seconds) / (252.0 * 6.5 * 3600.0)).sqrt();
    mean(returns.iter().map(|r| mean(r.iter().map(|x| x * x)).sqrt() / said))
}

/// Three markets of an hour each, which the tests below look at.
static MARKETS: LazyLock<[Vec<Vec<f64>>; 3]> = LazyLock::new(|| [7, 8, 9].map(returns));

/// The mean over the markets, of returns over so many seconds.
fn typical(seconds: usize, measure: impl Fn(&[Vec<f64>]) -> f64) -> f64 {
    mean(MARKETS.iter().map(|returns| measure(&over(seconds, returns))))
}

#[track_caller]
fn check_within(what: &str, got: f64, expected: std::ops::Range<f64>) {
    assert!(expected.contains(&got), "{what}: {got} is not in {expected:?}");
}

#[test]
fn prices_move_with_the_market_and_more_with_their_sector() {
    // By `factors::Mix`: 0.55^2 of the variance is the market's, and as much again the sector's.
    check_within("within a sector", typical(10, |r| correlations(r).0), 0.53..0.68);
    check_within("across sectors", typical(10, |r| correlations(r).1), 0.17..0.36);
}

#[test]
fn volatility_clusters_and_is_forgotten_while_returns_are_not_foretold() {
    for lag in [1, 2, 10] {
        check_within("returns", typical(1, |r| autocorrelation(r, lag, |x| x)), -0.03..0.03);
    }
    let clusters = |lag| typical(1, |r| autocorrelation(r, lag, f64::abs));
    check_within("the next second", clusters(1), 0.14..0.22);
    check_within("twenty seconds later", clusters(20), 0.12..0.19);
    check_within("a minute later", clusters(60), 0.08..0.15);
    check_within("five minutes later", clusters(300), -0.02..0.05);
}

#[test]
fn returns_have_fat_tails_that_thin_out_with_time() {
    // 3 is that of a normal distribution.
    check_within("of a second", typical(1, kurtosis), 25.0..70.0);
    check_within("of ten seconds", typical(10, kurtosis), 7.0..16.0);
    check_within("of a minute", typical(60, kurtosis), 4.2..7.5);
}

#[test]
fn prices_move_half_as_much_again_as_their_volatility_says() {
    // Without jumps it is what it says to a hundredth; they come on top.
    for seconds in [1, 10, 60] {
        let measure = |r: &[Vec<f64>]| volatility(seconds, r);
        check_within("times", typical(seconds as usize, measure), 1.4..1.65);
    }
}

#[test]
fn prices_stay_near_their_close_for_days() {
    let mut world = World::new(simulator(&default_universe(), 30, 1, 8));
    world.run(3 * 86_400, |_, _, _| {});
    for (id, quote) in &world.quotes {
        let close = world.instruments.get(*id).unwrap().previous_close.units();
        assert!((quote.bid.units() - close).abs() < close / 4, "{quote:?} from {close}");
    }
}
