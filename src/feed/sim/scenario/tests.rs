//! Does a script have its effects? Each test plays a script to its end and checks.
#![expect(clippy::cast_precision_loss, reason = "counts, prices and seconds are far below 2^53")]
#![expect(clippy::float_cmp, reason = "the moments of a script are exact in seconds")]

use super::*;
use crate::market::{Event, FeedState, Instruments, Quote, Side, Trade, TradingState};
use crate::recording::{RecordingHeader, RecordingWriter};
use std::collections::BTreeMap;

const START: Timestamp = Timestamp::from_micros(1_767_625_200_000_000);

/// All that was played: seconds since the start, the symbol (empty for the market), and the event.
struct Played {
    rows: Vec<(f64, String, Told)>,
    /// The moments of the batches, in seconds.
    moments: Vec<f64>,
}

#[derive(Clone, Debug)]
enum Told {
    Defined,
    Quote(Quote),
    Trade(Trade),
    State(TradingState),
    Feed(FeedState),
}

fn seconds(at: Timestamp) -> f64 {
    at.nanos_since(START) as f64 / 1e9
}

fn play(text: &str) -> Played {
    let scenario = Scenario { start: Some(START), ..Scenario::parse(text).unwrap() };
    let mut feed = scenario.play(START).unwrap();
    let (mut instruments, mut out) = (Instruments::default(), Vec::new());
    let (mut rows, mut moments, mut ended) = (Vec::new(), Vec::new(), false);
    while let Some(at) = feed.next(&mut instruments, &mut out).unwrap() {
        assert!(moments.last().is_none_or(|&last| last <= seconds(at)), "time runs back");
        assert!(moments.last().is_none_or(|_| !ended), "the end is the last moment");
        ended = out.is_empty();
        moments.push(seconds(at));
        for event in out.drain(..) {
            if let Event::Quote(id, quote) = &event {
                check_quote(quote, instruments.get(*id).unwrap());
            }
            let (id, told) = match event {
                Event::Instrument(definition) => (Some(definition.id), Told::Defined),
                Event::Quote(id, quote) => (Some(id), Told::Quote(quote)),
                Event::Trade(id, trade) => (Some(id), Told::Trade(trade)),
                Event::Status(id, status) => (id, Told::State(status.state)),
                Event::Feed(status) => (None, Told::Feed(status.state)),
                other => panic!("a simulated market has no {other:?}"),
            };
            let symbol = id.map_or_else(String::new, |id| instruments.get(id).unwrap().symbol.to_string());
            rows.push((seconds(at), symbol, told));
        }
    }
    Played { rows, moments }
}

/// Under any script a quote is valid, or withdrawn on both sides.
#[track_caller]
fn check_quote(quote: &Quote, instrument: &Instrument) {
    if quote.bid.is_none() && quote.ask.is_none() {
        return assert_eq!((quote.bid_size.units(), quote.ask_size.units()), (0, 0), "{quote:?}");
    }
    let on_grid = |price: Price| price.units() % instrument.tick_size == 0;
    assert!(0 < quote.bid.units() && quote.bid < quote.ask, "{quote:?} of {instrument:?}");
    assert!(on_grid(quote.bid) && on_grid(quote.ask), "{quote:?} of {instrument:?}");
    assert!(quote.bid_size.units() > 0 && quote.ask_size.units() > 0, "{quote:?} of {instrument:?}");
}

impl Told {
    /// In seconds since the start.
    fn venue_time(&self) -> f64 {
        match self {
            Self::Quote(quote) => seconds(quote.ts_event),
            Self::Trade(trade) => seconds(trade.ts_event),
            other => panic!("{other:?} is no tick"),
        }
    }
}

impl Played {
    fn ticks(&self, from: f64, to: f64) -> impl Iterator<Item = &(f64, String, Told)> {
        let is_tick = |told: &Told| matches!(told, Told::Quote(_) | Told::Trade(_));
        self.rows.iter().filter(move |row| from < row.0 && row.0 < to && is_tick(&row.2))
    }

    fn trades(&self) -> impl Iterator<Item = (f64, &str, &Trade)> {
        self.rows.iter().filter_map(|(at, symbol, told)| match told {
            Told::Trade(trade) => Some((*at, symbol.as_str(), trade)),
            _ => None,
        })
    }

    /// The states of a symbol or of the market (empty), as `open@0 halted@2.5`.
    fn states(&self, of: &str) -> String {
        let states = self.rows.iter().filter(|row| row.1 == of).filter_map(|(at, _, told)| match told {
            Told::State(state) => Some(format!("{state}@{at}")),
            Told::Feed(state) => Some(format!("{state}@{at}")),
            _ => None,
        });
        states.collect::<Vec<_>>().join(" ")
    }

    /// The middle of each symbol's quote at a moment.
    fn mids(&self, at: f64) -> BTreeMap<&str, f64> {
        let mut mids = BTreeMap::new();
        for (_, symbol, told) in self.rows.iter().take_while(|row| row.0 <= at) {
            if let Told::Quote(quote) = told {
                mids.insert(symbol.as_str(), (quote.bid.units() + quote.ask.units()) as f64 / 2.0);
            }
        }
        mids
    }

    /// By how many per cent prices differ between two moments, for each symbol there at both.
    fn change(&self, from: f64, to: f64) -> BTreeMap<&str, f64> {
        let before = self.mids(from);
        let after = self.mids(to).into_iter();
        after.filter_map(|(s, mid)| Some((s, (mid / before.get(s)? - 1.0) * 100.0))).collect()
    }
}

fn ready(name: &str) -> &'static str {
    READY.iter().find(|ready| ready.0 == name).unwrap().1
}

/// FNV-1a over the bytes of the recording of all that a script plays, unpacked.
fn hash(text: &str) -> u64 {
    let scenario = Scenario { start: Some(START), ..Scenario::parse(text).unwrap() };
    let mut feed = scenario.play(START).unwrap();
    let (mut instruments, mut batch) = (Instruments::default(), Vec::new());
    let mut recording = RecordingWriter::new(Vec::new(), &RecordingHeader::default()).unwrap();
    while let Some(at) = feed.next(&mut instruments, &mut batch).unwrap() {
        recording.append(1, at, &batch).unwrap();
        batch.clear();
    }
    let bytes = zstd::decode_all(recording.finish().unwrap().as_slice()).unwrap();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn a_script_plays_the_same_on_every_machine() {
    // A changed value breaks every saved seed: say so in the commit.
    let hashes: Vec<(&str, u64)> = READY.iter().map(|(name, text)| (*name, hash(text))).collect();
    assert_eq!(
        hashes,
        [
            ("calm-day", 13_827_906_754_764_803_030),
            ("opening-bell", 8_288_338_441_336_682_650),
            ("flash-crash", 11_052_709_308_275_511_911),
            ("feed-outage", 14_899_718_014_532_337_883),
            ("burst", 13_013_849_740_397_542_547),
        ]
    );
}

#[test]
fn in_the_flash_crash_all_fall_by_what_is_said_and_recover() {
    let played = play(ready("flash-crash"));
    let check = |to: f64, expected: f64| {
        let changes = played.change(119.9, to);
        for (symbol, percent) in &changes {
            // A restless coin moves by more than 1 % within a minute without any crash.
            assert!((percent - expected).abs() < 3.0, "{symbol} moved by {percent} %");
        }
        let mean = changes.values().sum::<f64>() / 100.0;
        assert!((mean - expected).abs() < 0.2 && changes.len() == 100, "{mean} in the mean of {changes:?}");
    };
    check(165.0, -9.0);
    check(260.1, 0.0);
    assert_eq!(played.states("AAPL"), "halted@150 open@180");
    assert_eq!(played.ticks(150.0, 180.0).filter(|row| row.1 == "AAPL").count(), 0);
    assert_eq!(played.states(""), "open@0");
    let rate = |from, to| played.ticks(from, to).count() / 10;
    assert_eq!((rate(100.0, 110.0), rate(130.0, 140.0)), (1999, 11_999));
    assert_eq!(played.moments.last(), Some(&360.0));
}

#[test]
fn a_calm_day_opens_and_closes_with_an_auction_and_nothing_much_in_between() {
    let played = play(ready("calm-day"));
    // Each phase is published, even if the state is the one before.
    assert_eq!(played.states(""), "pre-open@0 pre-open@60 open@90 open@690 closed@720");
    for (bell, conditions) in [(90.0, "O"), (720.0, "6")] {
        let prints: Vec<_> = played.trades().filter(|(at, ..)| *at == bell).collect();
        assert_eq!(prints.len(), 200, "one in each symbol at {bell}");
        for (_, symbol, trade) in prints {
            assert_eq!((trade.side, trade.conditions.as_str()), (Side::None, conditions), "{symbol}");
        }
    }
    assert!(played.trades().all(|(at, ..)| at == 90.0 || (90.0 < at && at < 690.0) || at == 720.0));
    let rate = |from, to| played.ticks(from, to).count() / 10;
    assert_eq!((rate(10.0, 20.0), rate(100.0, 110.0), rate(400.0, 410.0)), (999, 2499, 999));
    assert_eq!(played.moments.last(), Some(&720.0));
    for (symbol, percent) in played.change(100.0, 720.0) {
        assert!(percent.abs() < 4.0, "{symbol} moved by {percent} % on a calm day");
    }
}

#[test]
fn the_bell_opens_with_a_print_in_each_symbol_and_a_rush() {
    let played = play(ready("opening-bell"));
    assert_eq!(played.states(""), "pre-open@0 pre-open@40 open@60");
    assert_eq!(played.trades().next().unwrap().0, 60.0, "no trade before the bell");
    let mut mids = played.mids(59.999);
    for (_, symbol, trade) in played.trades().filter(|(at, ..)| *at == 60.0) {
        let mid = mids.remove(symbol).unwrap();
        let off = trade.price.units() as f64 / mid - 1.0;
        assert!(off.abs() < 0.01, "{symbol} opens {off} off its quote");
    }
    assert!(mids.is_empty(), "no print of {mids:?}");
    let rate = |from, to| played.ticks(from, to).count() / 10;
    assert_eq!((rate(20.0, 30.0), rate(60.0, 70.0), rate(140.0, 150.0)), (399, 19_999, 399));
    let first = played.rows.iter().find(|row| row.1 == "NEWCO").unwrap();
    assert!(matches!(first, (90.0, _, Told::Defined)), "{first:?}");
    let jumped = played.change(94.99, 95.0)["NEWCO"];
    assert!((17.0..19.0).contains(&jumped), "{jumped}");
    assert!(played.ticks(100.0, 180.0).filter(|row| row.1 == "NEWCO").count() > 50);
}

#[test]
fn the_outage_stalls_and_comes_back_and_breaks_ticks_as_it_says() {
    let played = play(ready("feed-outage"));
    assert_eq!(played.states(""), "open@0 stale@62 live@80");
    assert_eq!(played.ticks(60.0, 80.0).count(), 0);
    // Without its faults the market is the same: what comes is compared to what was sent.
    let sent = play(ready("feed-outage").split("[[fault").next().unwrap());
    assert_eq!(played.mids(80.0), sent.mids(80.0), "whoever comes back asks for all quotes");
    assert_eq!(played.mids(99.0), sent.mids(99.0));
    let came = |from, to| played.ticks(from, to).count() as f64 / sent.ticks(from, to).count() as f64;
    assert!((came(81.0, 100.0) - 1.0).abs() < 0.001);
    assert!((came(100.0, 120.0) - 0.95).abs() < 0.01, "dropped: {}", came(100.0, 120.0));
    assert!((came(130.0, 150.0) - 1.2).abs() < 0.01, "duplicated: {}", came(130.0, 150.0));
    assert!((came(160.0, 181.0) - 1.0).abs() < 0.001, "reordered: {}", came(160.0, 181.0));
    let backwards = |from, to| {
        let times: Vec<f64> = played.ticks(from, to).map(|row| row.2.venue_time()).collect();
        times.windows(2).filter(|pair| pair[1] < pair[0]).count() as f64 / times.len() as f64
    };
    assert_eq!((backwards(1.0, 59.0), backwards(131.0, 149.0)), (0.0, 0.0));
    assert!(backwards(160.5, 179.5) > 0.4, "{}", backwards(160.5, 179.5));
    let late: Vec<_> = played.ticks(190.0, 210.0).filter(|row| row.0 - row.2.venue_time() > 2.99).collect();
    assert!((late.len() as f64 / 20_000.0 - 0.1).abs() < 0.01, "{}", late.len());
    assert!(played.ticks(211.0, 240.0).all(|row| row.0 - row.2.venue_time() < 0.001));
}

#[test]
fn the_burst_is_ten_seconds_with_a_burst_in_the_middle() {
    let played = play(ready("burst"));
    let rate = |from, to| played.ticks(from, to).count();
    assert_eq!((rate(0.0, 3.0), rate(3.0, 6.0), rate(6.0, 10.0)), (1499, 14_999, 1_999));
}

#[test]
fn every_ready_scenario_ends_and_is_built_in() {
    let feeds = concat!(env!("CARGO_MANIFEST_DIR"), "/feeds");
    let mut files: Vec<String> = std::fs::read_dir(feeds)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
        .collect();
    let mut names: Vec<&str> = READY.iter().map(|ready| ready.0).collect();
    files.sort_unstable();
    names.sort_unstable();
    assert_eq!(files, names);
    for (name, text) in READY {
        let scenario = Scenario::parse(text).unwrap();
        assert!(scenario.end.is_some() && !scenario.about.is_empty(), "{name}");
    }
}

/// A market of ten symbols and 100 ticks/s under these lines.
fn small(lines: &str) -> Played {
    play(&format!("{lines}\n[market]\nsymbols = 10\nrate = 100\n"))
}

#[test]
fn a_halted_market_is_silent_and_goes_on_with_a_quote_of_everything() {
    let played = small("end = \"30s\"\n[[halt]]\nat = \"10s\"\nfor = \"10s\"\n");
    assert_eq!(played.states(""), "open@0 halted@10 open@20");
    assert_eq!(played.ticks(10.0, 20.0).count(), 0);
    assert_eq!(played.rows.iter().filter(|row| row.0 == 20.0).count(), 11, "the state and ten quotes");
    assert_eq!(played.ticks(20.0, 30.0).count(), 999);
}

#[test]
fn a_halted_sector_leaves_the_whole_rate_to_the_others() {
    let played = small("end = \"30s\"\n[[halt]]\nat = \"10s\"\nfor = \"10s\"\nsector = \"technology\"\n");
    assert_eq!(played.ticks(10.0, 20.0).count(), 999);
    assert!(played.ticks(10.0, 20.0).all(|row| !["AAPL", "MSFT", "NVDA"].contains(&&*row.1)));
    assert_eq!(played.states("AAPL"), "halted@10 open@20");
}

#[test]
fn halts_of_one_symbol_that_overlap_are_one() {
    let halt = |at, lasts| format!("[[halt]]\nat = \"{at}s\"\nfor = \"{lasts}s\"\nsymbol = \"AAPL\"\n");
    let played = small(&format!("end = \"30s\"\n{}{}", halt(5, 10), halt(10, 10)));
    assert_eq!(played.states("AAPL"), "halted@5 open@20");
    assert_eq!(played.ticks(5.0, 20.0).filter(|row| row.1 == "AAPL").count(), 0);
}

#[test]
fn news_moves_whom_it_concerns_at_once_and_for_good() {
    let played = small("end = \"20s\"\n[[jump]]\nat = \"10s\"\npercent = -8\nsector = \"technology\"\n");
    let (at_once, later) = (played.change(9.9, 10.0), played.change(9.9, 19.0));
    for changes in [at_once, later] {
        assert!((changes["AAPL"] + 8.0).abs() < 0.3 && changes["AMZN"].abs() < 0.3, "{changes:?}");
    }
}

#[test]
fn a_volatile_regime_moves_prices_so_many_times_as_far() {
    // The median of the moves of 30 s, which a single jump does not change.
    let typical = |times: &str| {
        let spell = format!("[[volatility]]\nat = \"0s\"\nfor = \"5m\"\ntimes = {times}\n");
        let played = play(&format!("end = \"5m\"\n[market]\nsymbols = 30\nrate = 1000\n{spell}"));
        let between = |n: u32| played.change(f64::from(n) * 30.0 - 20.0, f64::from(n) * 30.0 + 10.0);
        let mut moves: Vec<f64> = (1..9).flat_map(|n| between(n).into_values().collect::<Vec<_>>()).collect();
        moves.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        moves[moves.len() / 2].abs()
    };
    let (calm, wild) = (typical("1"), typical("5"));
    assert!((4.0..6.0).contains(&(wild / calm)), "{wild} / {calm}");
}

#[test]
fn a_delisted_symbol_is_withdrawn_and_never_heard_of_again() {
    let played = small("end = \"20s\"\n[[delist]]\nat = \"10s\"\nsymbol = \"AAPL\"\n");
    assert_eq!(played.states("AAPL"), "closed@10");
    let last = played.rows.iter().rev().find(|row| row.1 == "AAPL" && matches!(row.2, Told::Quote(_)));
    let Some((10.0, _, Told::Quote(quote))) = last else { panic!("{last:?}") };
    assert!(quote.bid.is_none() && quote.ask.is_none());
}

#[test]
fn a_stall_too_short_to_be_told_loses_its_ticks_all_the_same() {
    let played = small("end = \"20s\"\n[[fault.stall]]\nat = \"10s\"\nfor = \"1500ms\"\n");
    assert_eq!(played.states(""), "open@0");
    assert_eq!(played.ticks(10.0, 11.5).count(), 0);
    assert!(played.rows.iter().any(|row| row.0 == 11.5));
}

#[test]
fn states_of_a_stalled_feed_are_told_when_it_comes_back() {
    let played = small(
        "end = \"30s\"\n[[fault.stall]]\nat = \"10s\"\nfor = \"10s\"\n[[halt]]\nat = \"12s\"\nfor = \"20s\"\nsymbol = \"AAPL\"\n",
    );
    assert_eq!(
        (played.states("AAPL"), played.states("")),
        ("halted@20".into(), "open@0 stale@12 live@20".into())
    );
}

#[test]
fn another_start_is_the_same_market_at_other_times() {
    let text = "end = \"5s\"\n[market]\nsymbols = 5\nrate = 100\n";
    let first_trade = |start: Timestamp| {
        let scenario = Scenario { start: Some(start), ..Scenario::parse(text).unwrap() };
        let (mut feed, mut out) = (scenario.play(START).unwrap(), Vec::new());
        let mut instruments = Instruments::default();
        loop {
            let at = feed.next(&mut instruments, &mut out).unwrap().unwrap();
            for event in out.drain(..) {
                if let Event::Trade(id, trade) = event {
                    return (id, trade.price, trade.size, at.nanos_since(start));
                }
            }
        }
    };
    assert_eq!(first_trade(START), first_trade(START.plus_nanos(1_234_567_890_123_456)));
}

#[test]
fn a_script_without_an_end_goes_on() {
    let scenario = Scenario::parse("[[halt]]\nat = \"1s\"\nfor = \"1s\"\nsymbol = \"AAPL\"\n").unwrap();
    assert_eq!(scenario.end, None);
    let (mut feed, mut instruments, mut out) =
        (scenario.play(START).unwrap(), Instruments::default(), Vec::new());
    for _ in 0..100_000 {
        assert!(feed.next(&mut instruments, &mut out).unwrap().is_some());
        out.clear();
    }
}

/// The error of a scenario, in itself or in its market.
#[track_caller]
fn check_refused(text: &str, expected: &str) {
    let error = Scenario::parse(text).and_then(|scenario| scenario.play(START).map(drop)).unwrap_err();
    assert_eq!(error.to_string(), expected, "{text}");
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line_and_what_was_meant() {
    check_refused("[[hlat]]\n", "line 1: unknown key \"hlat\": did you mean \"halt\"?");
    check_refused(
        "[market]\nrate = 5\n\n[[halt]]\nat = \"1m\"\nfor = \"1m\"\nsymbl = \"AAPL\"\n",
        "line 7: unknown key \"symbl\": did you mean \"symbol\"?",
    );
    check_refused(
        "[[phase]]\nat = \"1m\"\nis = \"preopen\"\n",
        "line 3: unknown value \"preopen\": did you mean \"pre-open\"?",
    );
    check_refused(
        "[[fault.stal]]\nat = \"1m\"\nfor = \"1m\"\n",
        "line 1: unknown key \"stal\": did you mean \"stall\"?",
    );
    check_refused("[[halt]]\nfor = \"1m\"\n", "line 1: missing field \"at\"");
    let length = "expected a length of time up to 30 days such as \"5m30s\", \"10s\" or \"250ms\"";
    check_refused("end = \"soon\"\n", &format!("line 1: invalid value: string \"soon\", {length}"));
    check_refused("\nend = 90\n", &format!("line 2: invalid type: integer \"90\", {length}"));
    check_refused("end = \"40d\"\n", &format!("line 1: invalid value: string \"40d\", {length}"));
    check_refused(
        "[market]\nrate = 2000000\n",
        "line 2: 2000000 is out of range: expected ticks a second from 1 to 1000000",
    );
    check_refused(
        "[[fault.drop]]\nat = \"1s\"\nfor = \"1s\"\nprobability = 1.5\n",
        "line 4: 1.5 is out of range: expected a probability from 0 to 1",
    );
    check_refused("[[halt\n", "line 1: unclosed array table, expected \"]]\"");
}

#[test]
fn what_does_not_fit_together_is_told_with_its_line() {
    let halt = |rest: &str| format!("[market]\nsymbols = 20\n[[halt]]\nat = \"1m\"\nfor = \"1m\"\n{rest}\n");
    check_refused(
        &halt("symbol = \"APPL\""),
        "line 3: symbol \"APPL\" is not in this market at that time: did you mean \"AAPL\"?",
    );
    check_refused(
        &halt("symbol = \"ZZZ\""),
        "line 3: symbol \"ZZZ\" is not in this market at that time: it has 20 others",
    );
    check_refused(
        &halt("sector = \"technolgy\""),
        "line 3: sector \"technolgy\" is not in this market: did you mean \"technology\"?",
    );
    check_refused(
        &halt("sector = \"index\"\nsymbol = \"AAPL\""),
        "line 3: symbol and sector: only one of them",
    );
    check_refused(
        "end = \"10s\"\n[[jump]]\nat = \"11s\"\npercent = 1\n",
        "line 2: at 11s the scenario is over: it ends at 10s",
    );
    check_refused(
        "[[phase]]\nat = \"1s\"\nis = \"close\"\n[[phase]]\nat = \"1s\"\nis = \"halt\"\n",
        "line 4: phase: there is another one at 1s",
    );
    check_refused(
        "[[list]]\nat = \"1s\"\nsymbol = \"AAPL\"\nprice = \"10\"\n",
        "line 1: symbol AAPL is listed already at 1s",
    );
    check_refused(
        "[[list]]\nat = \"1s\"\nsymbol = \"NEW\"\nprice = \"10.005\"\n",
        "line 1: price: 10.005 has more than 2 decimals",
    );
    check_refused(
        "[[delist]]\nat = \"1s\"\nsymbol = \"AAPL\"\n[[jump]]\nat = \"2s\"\nsymbol = \"AAPL\"\npercent = 1\n",
        "line 4: symbol \"AAPL\" is delisted by then",
    );
}

#[test]
fn the_wildest_script_keeps_the_rules_of_a_book() {
    let spell = |table: &str, rest: &str| format!("[[{table}]]\nat = \"1s\"\nfor = \"20s\"\n{rest}\n");
    let jump = |percent: i32, at: u32| format!("[[jump]]\nat = \"{at}s\"\npercent = {percent}\n");
    let crash = "[[crash]]\nat = \"1s\"\npercent = 99\nfall = \"0s\"\nhold = \"10s\"\nrecover = \"1s\"\n";
    let jumps: String = (2..20).map(|at| jump(if at % 3 == 0 { 1000 } else { -99 }, at)).collect();
    let played = small(&format!(
        "end = \"30s\"\n{crash}{crash}{jumps}{}{}{}",
        spell("volatility", "times = 20"),
        spell("volatility", "times = 20"),
        spell("burst", "rate = 5000"),
    ));
    assert!(played.ticks(0.0, 30.0).count() > 100_000);
}
