//! Recordings as users have them: the small ones in `feeds/`, and those of real venues, which are not part of
//! the repository and lie where `TICKCAST_DATA` says, by default in `../shared/data`.

use rust_decimal::Decimal;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tickcast::feed::formats::{OpenOptions, open};
use tickcast::feed::{Feed, Merged};
use tickcast::hub::Replica;
use tickcast::market::{Event, Instruments, Price, Timestamp};
use tickcast::record::Recorder;
use tickcast::recording::{RecordingHeader, RecordingReader, RecordingWriter};
use tickcast::tape::{Batch, Epoch, Position};

/// What a feed gave, in figures.
#[derive(Default)]
struct Summary {
    quotes: u64,
    trades: u64,
    bid: Range<Decimal>,
    empty_bids: u64,
    ask: Range<Decimal>,
    empty_asks: u64,
    price: Range<Decimal>,
    volume: Decimal,
    /// Quotes whose bid is above their ask.
    crossed: u64,
    /// Trading states.
    states: u64,
    left_out: u64,
    conditions: BTreeSet<String>,
    event: Range<Timestamp>,
    recv: Range<Timestamp>,
    symbols: BTreeSet<String>,
    errors: Vec<String>,
}

#[derive(Default)]
struct Range<T>(Option<(T, T)>);

impl<T: Copy + Ord> Range<T> {
    fn add(&mut self, value: T) {
        self.0 = Some(self.0.map_or((value, value), |(min, max)| (min.min(value), max.max(value))));
    }
}

impl<T: std::fmt::Display> Range<T> {
    fn show(&self, between: &str) -> String {
        self.0.as_ref().map_or_else(|| "none".to_owned(), |(min, max)| format!("{min}{between}{max}"))
    }
}

impl Summary {
    fn of(feed: &mut dyn Feed) -> Self {
        let (mut instruments, mut events) = (Instruments::default(), Vec::new());
        let mut summary = Self::default();
        let mut latest = None;
        loop {
            match feed.next(&mut instruments, &mut events) {
                Ok(None) => break,
                Ok(Some(moment)) => {
                    assert!(latest.is_none_or(|latest| latest <= moment), "time runs back at {moment}");
                    latest = Some(moment);
                }
                Err(error) => summary.errors.push(error.to_string()),
            }
            for event in events.drain(..) {
                summary.add(&event, &instruments);
            }
        }
        summary.left_out = feed.left_out();
        summary.symbols.extend(instruments.iter().map(|x| x.symbol.to_string()));
        summary
    }

    fn add(&mut self, event: &Event, instruments: &Instruments) {
        let decimal = |price: Price, scale: u8| price.to_decimal(scale).map(|price| price.normalize());
        match event {
            Event::Quote(id, quote) => {
                let scale = instruments.get(*id).expect("defined").price_scale;
                self.quotes += 1;
                self.crossed += u64::from(!quote.ask.is_none() && quote.bid > quote.ask);
                match decimal(quote.bid, scale) {
                    Some(bid) => self.bid.add(bid),
                    None => self.empty_bids += 1,
                }
                match decimal(quote.ask, scale) {
                    Some(ask) => self.ask.add(ask),
                    None => self.empty_asks += 1,
                }
                self.event.add(quote.ts_event);
                self.recv.add(quote.ts_recv);
            }
            Event::Trade(id, trade) => {
                let x = instruments.get(*id).expect("defined");
                self.trades += 1;
                self.price.add(decimal(trade.price, x.price_scale).expect("trades have a price"));
                self.volume += trade.size.to_decimal(x.size_scale);
                self.conditions.insert(trade.conditions.as_str().to_owned());
                self.event.add(trade.ts_event);
                self.recv.add(trade.ts_recv);
            }
            Event::Status(..) => self.states += 1,
            Event::Instrument(_) | Event::Feed(_) | Event::Snapshot(..) | Event::Posted(_) | Event::Reset => {
            }
        }
    }

    fn show(&self) -> String {
        format!(
            "{} quotes, {} trades, bid {} ({} empty), ask {} ({} empty), price {}, volume {}, \
             event {}, received {}",
            self.quotes,
            self.trades,
            self.bid.show(" - "),
            self.empty_bids,
            self.ask.show(" - "),
            self.empty_asks,
            self.price.show(" - "),
            self.volume.normalize(),
            self.event.show(" to "),
            self.recv.show(" to "),
        )
    }
}

fn feeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("feeds")
}

fn data() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("TICKCAST_DATA").map_or_else(default, PathBuf::from);
    assert!(
        folder.is_dir(),
        "{} is no folder: TICKCAST_DATA says where the recordings are",
        folder.display()
    );
    folder
}

#[track_caller]
fn summary(path: &Path) -> Summary {
    summary_by(path, &OpenOptions::default())
}

#[track_caller]
fn summary_by(path: &Path, options: &OpenOptions) -> Summary {
    let mut feed = open(path, options).unwrap_or_else(|error| panic!("{error}"));
    let summary = Summary::of(&mut *feed);
    assert_eq!(summary.errors, Vec::<String>::new(), "{}", path.display());
    summary
}

#[track_caller]
fn check(path: &Path, symbols: &[&str], expected: &str) {
    check_by(path, &OpenOptions::default(), symbols, expected);
}

#[track_caller]
fn check_by(path: &Path, options: &OpenOptions, symbols: &[&str], expected: &str) {
    let summary = summary_by(path, options);
    assert_eq!(summary.show(), expected, "{}", path.display());
    let got: Vec<_> = summary.symbols.iter().map(String::as_str).collect();
    assert_eq!(got, symbols, "{}", path.display());
}

#[test]
fn the_recorded_minute_has_every_quote_and_trade_of_two_instruments() {
    check(
        &feeds().join("binance-spot-60s.tape"),
        &["BTCUSDT", "ETHUSDT"],
        "10440 quotes, 2501 trades, bid 2682.06 - 61860.79 (0 empty), ask 2682.07 - 61860.8 (0 empty), \
         price 2682.06 - 61860.8, volume 330.41685, \
         event 2024-08-08T23:54:14.024619568Z to 2024-08-08T23:55:15.236Z, \
         received 2024-08-08T23:54:14.024619568Z to 2024-08-08T23:55:13.964968061Z",
    );
}

#[test]
fn the_recorded_minute_ends_with_the_prices_that_were_last() {
    let mut feed = open(&feeds().join("binance-spot-60s.tape"), &OpenOptions::default()).unwrap();
    let (mut instruments, mut events) = (Instruments::default(), Vec::new());
    while feed.next(&mut instruments, &mut events).unwrap().is_some() {}
    let last = |symbol: &str| {
        let x = instruments.by_symbol(symbol).unwrap();
        let price = |price: Price| price.to_decimal(x.price_scale).unwrap().to_string();
        let size = |size: tickcast::market::Size| size.to_decimal(x.size_scale).normalize().to_string();
        let of_x = events.iter().rev();
        let quote = of_x.clone().find_map(|event| match event {
            Event::Quote(id, quote) if *id == x.id => Some(quote),
            _ => None,
        });
        let trade = of_x.clone().find_map(|event| match event {
            Event::Trade(id, trade) if *id == x.id => Some(trade),
            _ => None,
        });
        let (quote, trade) = (quote.unwrap(), trade.unwrap());
        let (bid, ask) = (price(quote.bid), price(quote.ask));
        let (bid_size, ask_size) = (size(quote.bid_size), size(quote.ask_size));
        format!("{bid} x {bid_size} / {ask} x {ask_size}, {} x {}", price(trade.price), size(trade.size))
    };
    assert_eq!(last("BTCUSDT"), "61837.88 x 2.98948 / 61837.89 x 1.49889, 61837.89 x 0.00265");
    assert_eq!(last("ETHUSDT"), "2683.60 x 10.0039 / 2683.61 x 8.3435, 2683.61 x 0.3726");
}

#[test]
fn the_example_files_are_read() {
    check(
        &feeds().join("example-quotes.csv"),
        &["ACME", "EURX"],
        "20 quotes, 0 trades, bid 1.08419 - 42.22 (1 empty), ask 1.08422 - 42.23 (1 empty), price none, volume 0, \
         event 2026-01-05T14:30:00Z to 2026-01-05T14:30:09.5Z, \
         received 2026-01-05T14:30:00Z to 2026-01-05T14:30:09.5Z",
    );
    check(
        &feeds().join("example-trades.csv"),
        &["ACME", "EURX"],
        "0 quotes, 20 trades, bid none (0 empty), ask none (0 empty), price 1.08419 - 42.22, volume 271430, \
         event 2026-01-05T14:30:00.1Z to 2026-01-05T14:30:09.6Z, \
         received 2026-01-05T14:30:00.1Z to 2026-01-05T14:30:09.6Z",
    );
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn taq_files_are_read_as_their_facts_say() {
    let folder = data().join("taq-highfrequency");
    check(
        &folder.join("XXX_20180102_quotes.csv.gz"),
        &["XXX"],
        "66695 quotes, 0 trades, bid 90.8 - 159.36 (27 empty), ask 156.06 - 190 (45 empty), price none, volume 0, \
         event 2018-01-02T09:04:13.125Z to 2018-01-03T01:00:00.05Z, \
         received 2018-01-02T09:04:13.125Z to 2018-01-03T01:00:00.05Z",
    );
    let trades = folder.join("XXX_20180102_trades.csv.gz");
    check(
        &trades,
        &["XXX"],
        "0 quotes, 39470 trades, bid none (0 empty), ask none (0 empty), price 156.03 - 159.3988, volume 5553205, \
         event 2018-01-02T10:01:21.479Z to 2018-01-03T00:58:30.17Z, \
         received 2018-01-02T10:01:21.479Z to 2018-01-03T00:58:30.17Z",
    );
    let conditions = summary(&trades).conditions;
    assert_eq!(conditions.len(), 29);
    assert!(conditions.contains("F I") && conditions.contains("N  I"), "inner blanks count: {conditions:?}");
}

/// The day of a TAQ file, and its minute of the closing auction: volume, open, high, low and close.
fn taq_bars(options: &OpenOptions) -> [String; 2] {
    let at = |time: &str| time.parse::<Timestamp>().unwrap();
    let mut feed = open(&data().join("taq-highfrequency/XXX_20180102_trades.csv.gz"), options).unwrap();
    let (mut instruments, mut replica) = (Instruments::default(), Replica::keeping(Epoch::new(1), 1, 2000));
    let (mut events, mut day) = (Vec::new(), None);
    while let Some(time) = feed.next(&mut instruments, &mut events).unwrap() {
        let position = replica.position().next();
        replica.apply(&Batch { position, time, events: std::mem::take(&mut events) }, &mut Vec::new());
        // The last trades are of after midnight, UTC.
        let bar = replica.by_symbol("XXX").and_then(|book| book.day.get());
        day = bar.filter(|bar| bar.start == at("2018-01-02T00:00:00Z")).copied().or(day);
    }
    let (x, book) = (instruments.by_symbol("XXX").unwrap(), replica.by_symbol("XXX").unwrap());
    let mut minutes = book.bars_1m.closed.newest(2000).map(|(_, bar)| bar);
    let minute = minutes.find(|bar| bar.start == at("2018-01-02T21:00:00Z"));
    [day, minute].map(|bar| {
        let bar = bar.unwrap();
        let price = |price: Price| price.to_decimal(x.price_scale).unwrap().normalize();
        let [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map(price);
        format!("{} {open} {high} {low} {close}", bar.volume.to_decimal(x.size_scale).normalize())
    })
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn days_and_minutes_of_taq_files_hold_what_counts_unless_all_prints_are_asked_for() {
    let all = OpenOptions { all_prints: true, ..OpenOptions::default() };
    // 276 shares of after midnight, UTC, are of the next day: all that counts is 5108362, and all there is
    // 5553205.
    assert_eq!(
        taq_bars(&OpenOptions::default()),
        ["5108086 158.3 159.39 156.03 157.04", "727249 157.04 157.04 157.04 157.04"]
    );
    assert_eq!(
        taq_bars(&all),
        ["5552929 157.8 159.3988 156.03 157.45", "1172050 157.02 157.04 157.01 157.04"]
    );
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn tardis_and_truefx_files_are_read_as_their_facts_say() {
    let data = data();
    check(
        &data.join("tardis-csv/bitmex_trades_XBTUSD.csv"),
        &["XBTUSD"],
        "0 quotes, 10 trades, bid none (0 empty), ask none (0 empty), price 8531.5 - 8531.5, volume 2161, \
         event 2020-03-01T00:00:03.145Z to 2020-03-01T00:00:03.276Z, \
         received 2020-03-01T00:00:03.30716Z to 2020-03-01T00:00:03.336743Z",
    );
    check(
        &data.join("tardis-csv/huobi-dm-swap_quotes_BTC-USD.csv"),
        &["BTC-USD"],
        "10 quotes, 0 trades, bid 8629.2 - 8629.2 (0 empty), ask 8629.3 - 8629.3 (0 empty), price none, volume 0, \
         event 2020-05-01T00:00:01.099Z to 2020-05-01T00:00:01.814Z, \
         received 2020-05-01T00:00:01.234268Z to 2020-05-01T00:00:01.927888Z",
    );
    check(
        &data.join("truefx/usdjpy-ticks.csv"),
        &["usdjpy-ticks"],
        "1000 quotes, 0 trades, bid 86.655 - 86.846 (0 empty), ask 86.728 - 86.859 (0 empty), price none, volume 0, \
         event 2013-01-01T22:00:00.295Z to 2013-01-01T22:35:13.494Z, \
         received 2013-01-01T22:00:00.295Z to 2013-01-01T22:35:13.494Z",
    );
    // Of order books, the best bid and ask.
    check(
        &data.join("tardis-csv/binance-futures_book_snapshot_5_BTCUSDT.csv"),
        &["BTCUSDT"],
        "10 quotes, 0 trades, bid 11657.07 - 11657.07 (0 empty), ask 11657.08 - 11657.08 (0 empty), price none, volume 0, \
         event 2020-09-01T00:00:03.696Z to 2020-09-01T00:00:04.284Z, \
         received 2020-09-01T00:00:03.810979Z to 2020-09-01T00:00:04.289427Z",
    );
    check(
        &data.join("tardis-csv/deribit_incremental_book_L2_BTC-PERPETUAL.csv"),
        &["BTC-PERPETUAL"],
        "1 quotes, 0 trades, bid none (1 empty), ask 6421.5 - 6421.5 (0 empty), price none, volume 0, \
         event 2020-04-01T00:00:00.245Z to 2020-04-01T00:00:00.245Z, \
         received 2020-04-01T00:00:00.355684Z to 2020-04-01T00:00:00.355684Z",
    );
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn lean_files_are_read_in_the_zone_of_their_venue_and_keep_crossed_quotes() {
    let folder = data().join("lean-fx");
    let fxcm = folder.join("fxcm/eurusd/20140502_quote.zip");
    check(
        &fxcm,
        &["EURUSD"],
        "96406 quotes, 0 trades, bid 1.38121 - 1.38817 (0 empty), ask 1.38124 - 1.38819 (0 empty), price none, volume 0, \
         event 2014-05-02T05:00:00.611Z to 2014-05-02T20:59:11.909Z, \
         received 2014-05-02T05:00:00.611Z to 2014-05-02T20:59:11.909Z",
    );
    assert_eq!(summary(&fxcm).crossed, 12_061);
    check(
        &folder.join("oanda-cfd/xauusd/20140504_quote.zip"),
        &["XAUUSD"],
        "9889 quotes, 0 trades, bid 1299.189 - 1302.32 (0 empty), ask 1299.83 - 1303.179 (0 empty), price none, volume 0, \
         event 2014-05-04T22:00:00.579427Z to 2014-05-04T23:59:57.3891722Z, \
         received 2014-05-04T22:00:00.579427Z to 2014-05-04T23:59:57.3891722Z",
    );
    check(
        &folder.join("oanda/eurusd/20140502_quote.zip"),
        &["EURUSD"],
        "49341 quotes, 0 trades, bid 1.38085 - 1.38806 (0 empty), ask 1.38129 - 1.38822 (0 empty), price none, volume 0, \
         event 2014-05-02T00:00:00.277Z to 2014-05-02T20:59:58.557Z, \
         received 2014-05-02T00:00:00.277Z to 2014-05-02T20:59:58.557Z",
    );
    check(
        &folder.join("oanda/nzdusd/20140502_quote.zip"),
        &["NZDUSD"],
        "41665 quotes, 0 trades, bid 0.85873 - 0.86687 (0 empty), ask 0.85957 - 0.86757 (0 empty), price none, volume 0, \
         event 2014-05-02T00:00:00.274Z to 2014-05-02T20:59:58.56Z, \
         received 2014-05-02T00:00:00.274Z to 2014-05-02T20:59:58.56Z",
    );
    let options = OpenOptions { zone: Some("UTC".parse().unwrap()), ..OpenOptions::default() };
    let moved = summary_by(&fxcm, &options).event.show(" to ");
    assert_eq!(moved, "2014-05-02T00:00:00.611Z to 2014-05-02T15:59:11.909Z", "a given zone is the zone");
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn histdata_files_are_read_in_new_yorks_winter_time() {
    let options = OpenOptions { symbol: Some("EURUSD".parse().unwrap()), ..OpenOptions::default() };
    check_by(
        &data().join("histdata/quote_tick_data.csv"),
        &options,
        &["EURUSD"],
        "9500 quotes, 0 trades, bid 1.12106 - 1.12245 (0 empty), ask 1.12124 - 1.12247 (0 empty), price none, volume 0, \
         event 2020-01-01T22:00:00.065Z to 2020-01-02T04:00:52.125Z, \
         received 2020-01-01T22:00:00.065Z to 2020-01-02T04:00:52.125Z",
    );
}

fn best_quotes() -> OpenOptions {
    OpenOptions { best_quotes: true, ..OpenOptions::default() }
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn taq_quotes_of_all_exchanges_are_folded_where_asked() {
    check_by(
        &data().join("taq-highfrequency/XXX_20180102_quotes.csv.gz"),
        &best_quotes(),
        &["XXX"],
        "23314 quotes, 0 trades, bid 153.18 - 159.36 (0 empty), ask 156.06 - 159.38 (0 empty), price none, volume 0, \
         event 2018-01-02T09:04:13.125Z to 2018-01-02T23:35:58.16Z, \
         received 2018-01-02T09:04:13.125Z to 2018-01-02T23:35:58.16Z",
    );
}

const KRAKEN: &[&str] = &[
    "ADA/XBT",
    "ETH/CHF",
    "GRT/ETH",
    "KSM/XBT",
    "OCEAN/XBT",
    "OMG/USD",
    "SC/EUR",
    "WAVES/EUR",
    "XBT/CHF",
    "XMR/USD",
];

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn coinbase_sessions_are_read_as_their_facts_say() {
    let file = data().join("cryptofeed-ws/COINBASE.ws.28.0");
    let symbols = [
        "BAND-BTC", "BAND-GBP", "CRV-EUR", "DASH-BTC", "NMR-EUR", "NU-GBP", "SKL-BTC", "SKL-GBP", "SKL-USD",
        "YFI-BTC",
    ];
    check(
        &file,
        &symbols,
        "107 quotes, 107 trades, bid 0.00001302 - 66.9311 (0 empty), ask 0.00001304 - 67.021 (0 empty), \
         price 0.00001303 - 67.021, volume 57718.744007, \
         event 2021-04-17T16:41:49.984117Z to 2021-04-17T16:44:06.669388Z, \
         received 2021-04-17T16:43:37.079694Z to 2021-04-17T16:44:06.656824Z",
    );
    assert_eq!(summary(&file).left_out, 3 + 10 + 9719, "subscriptions, snapshots and changes of depth");
    check_by(
        &file,
        &best_quotes(),
        &symbols,
        "1778 quotes, 107 trades, bid 0.00001302 - 66.938 (0 empty), ask 0.00001304 - 67.021 (0 empty), \
         price 0.00001303 - 67.021, volume 57718.744007, \
         event 2021-04-17T16:41:49.984117Z to 2021-04-17T16:44:07.85976Z, \
         received 2021-04-17T16:43:37.077736Z to 2021-04-17T16:44:07.8464699Z",
    );
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn kraken_sessions_are_read_as_their_facts_say() {
    let folder = data().join("cryptofeed-ws");
    check(
        &folder.join("KRAKEN.ws.48.0"),
        &["SC/EUR", "XMR/USD"],
        "0 quotes, 10 trades, bid none (0 empty), ask none (0 empty), price 0.04296 - 354.55, volume 52948.76340787, \
         event 2021-04-17T16:49:02.557535Z to 2021-04-17T16:49:18.135041Z, \
         received 2021-04-17T16:49:02.592855Z to 2021-04-17T16:49:18.165955Z",
    );
    check(
        &folder.join("KRAKEN.ws.49.0"),
        KRAKEN,
        "18 quotes, 0 trades, bid 0.00002291 - 56119.1 (0 empty), ask 0.00002293 - 56218.3 (0 empty), price none, volume 0, \
         event 2021-04-17T16:48:52.9496498Z to 2021-04-17T16:49:18.167805Z, \
         received 2021-04-17T16:48:52.9496498Z to 2021-04-17T16:49:18.167805Z",
    );
    // It has nothing but depth, of which every checksum is right.
    check(
        &folder.join("KRAKEN.ws.50.0"),
        KRAKEN,
        "810 quotes, 0 trades, bid 0.00002288 - 56119 (0 empty), ask 0.0000229 - 56275.9 (0 empty), price none, volume 0, \
         event 2021-04-17T16:48:49.215329Z to 2021-04-17T16:49:23.32776Z, \
         received 2021-04-17T16:48:53.626511Z to 2021-04-17T16:49:23.368086Z",
    );
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn bitstamp_and_bitmex_sessions_are_read_as_their_facts_say() {
    let folder = data().join("cryptofeed-ws");
    let bitstamp = folder.join("BITSTAMP.ws.1.0");
    check(
        &bitstamp,
        &["ethusd"],
        "0 quotes, 10 trades, bid none (0 empty), ask none (0 empty), price 3800.53 - 3805.44, volume 34.91894724, \
         event 2022-01-05T00:48:19.596Z to 2022-01-05T00:48:41.269Z, \
         received 2022-01-05T00:48:19.529292Z to 2022-01-05T00:48:41.224481Z",
    );
    assert_eq!(
        summary(&bitstamp).left_out,
        20 + 717,
        "subscriptions, and changes of books that are not known"
    );
    let symbols = [
        "ADAUSDT",
        "BCHUSD",
        "EOSUSDT",
        "MATICUSDT",
        "SOLUSDT",
        "TRXU21",
        "TRXUSDT",
        "UNIUSDT",
        "XBTUSD",
        "XRPU21",
    ];
    check(
        &folder.join("BITMEX.ws.1.0"),
        &symbols,
        "436 quotes, 27 trades, bid 0.0000016425 - 32186.5 (0 empty), ask 0.0000016477 - 32187 (0 empty), \
         price 0.0000016425 - 32187, volume 43214, \
         event 2021-07-22T21:01:57.358Z to 2021-07-22T22:36:37.988Z, \
         received 2021-07-22T22:36:10.0327702Z to 2021-07-22T22:36:38.015744Z",
    );
    check_by(
        &folder.join("BITMEX.ws.1.0"),
        &best_quotes(),
        &symbols,
        "470 quotes, 27 trades, bid 0.0000016425 - 32186.5 (0 empty), ask 0.0000016477 - 32187 (0 empty), \
         price 0.0000016425 - 32187, volume 43214, \
         event 2021-07-22T21:01:57.358Z to 2021-07-22T22:36:38.2795892Z, \
         received 2021-07-22T22:36:10.0327702Z to 2021-07-22T22:36:38.2795892Z",
    );
}

/// The top of a book that is folded from its depth is what the exchange itself says is the best bid and ask.
#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn binance_depth_folds_to_the_quotes_that_came_beside_it() {
    let file = data().join("binance-ws/usdm/btcusdt_20240808.gz");
    let tops = |options: &OpenOptions| {
        let mut feed = open(&file, options).unwrap();
        let (mut instruments, mut events) = (Instruments::default(), Vec::new());
        while feed.next(&mut instruments, &mut events).unwrap().is_some() {}
        let quotes = events.iter().filter_map(|event| match event {
            Event::Quote(_, quote) => Some((quote.bid, quote.bid_size, quote.ask, quote.ask_size)),
            _ => None,
        });
        quotes.collect::<Vec<_>>()
    };
    let (stated, folded) = (tops(&OpenOptions::default()), tops(&best_quotes()));
    let known: BTreeSet<_> = stated.iter().collect();
    let agree = folded.iter().filter(|top| known.contains(top)).count();
    assert!(folded.len() > 5_000, "{} tops", folded.len());
    assert!(agree * 100 >= folded.len() * 99, "{agree} of {} tops were stated, too", folded.len());
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn binance_sessions_are_read_as_their_facts_say() {
    let folder = data().join("binance-ws");
    check(
        &folder.join("spot/btcusdt_20240808.gz"),
        &["BTCUSDT"],
        "28040 quotes, 9757 trades, bid 61583.22 - 61860.79 (0 empty), ask 61595 - 61860.8 (0 empty), \
         price 61583.22 - 61860.8, volume 212.03315, \
         event 2024-08-08T23:54:14.087891268Z to 2024-08-09T00:00:01.271Z, \
         received 2024-08-08T23:54:14.087891268Z to 2024-08-08T23:59:59.999231384Z",
    );
    check(
        &folder.join("spot/ethusdt_20240808.gz"),
        &["ETHUSDT"],
        "24077 quotes, 6106 trades, bid 2679 - 2685.36 (0 empty), ask 2679.31 - 2685.37 (0 empty), \
         price 2679 - 2685.37, volume 2261.3149, \
         event 2024-08-08T23:54:14.024619568Z to 2024-08-09T00:00:00.982Z, \
         received 2024-08-08T23:54:14.024619568Z to 2024-08-08T23:59:59.900862584Z",
    );
    check(
        &folder.join("usdm/btcusdt_20240808.gz"),
        &["BTCUSDT"],
        "66089 quotes, 21313 trades, bid 61590.3 - 61839.8 (0 empty), ask 61590.4 - 61839.9 (0 empty), \
         price 61590.3 - 61839.9, volume 2429.366, \
         event 2024-08-08T23:54:16.313Z to 2024-08-09T00:00:00.709Z, \
         received 2024-08-08T23:54:15.088169167Z to 2024-08-08T23:59:59.439160683Z",
    );
}

/// Files with the same content (mostly one content in several versions of DBN), and what they hold.
const DBN: &[(&[&str], &str)] = &[
    (
        &["EQUS.MINI/test_data.bbo-1m.dbn.zst"],
        "4 quotes, 0 trades, bid 307.93 - 307.96 (2 empty), ask 308.01 - 308.04 (2 empty), price none, volume 0, \
         event 2023-03-28T09:34:00Z to 2023-03-28T11:03:00Z, received 2023-03-28T09:34:00Z to 2023-03-28T11:03:00Z",
    ),
    (
        &["EQUS.MINI/test_data.bbo-1s.dbn.zst"],
        "4 quotes, 0 trades, bid 307.92 - 307.93 (1 empty), ask none (4 empty), price none, volume 0, \
         event 2023-03-28T09:33:15Z to 2023-03-28T11:00:03Z, received 2023-03-28T09:33:15Z to 2023-03-28T11:00:03Z",
    ),
    (
        &["EQUS.MINI/test_data.mbp-1.dbn.zst"],
        "4 quotes, 0 trades, bid 307.89 - 307.89 (2 empty), ask 307.94 - 307.94 (1 empty), price none, volume 0, \
         event 2023-03-28T09:33:14.034064012Z to 2023-03-28T11:00:00.163426408Z, received 2023-03-28T09:33:14.034097506Z to 2023-03-28T11:00:00.163442085Z",
    ),
    (
        &["EQUS.MINI/test_data.tbbo.dbn.zst"],
        "4 quotes, 4 trades, bid 307.8 - 307.89 (0 empty), ask 307.86 - 307.97 (0 empty), price 307.8 - 307.97, volume 2700, \
         event 2023-03-28T11:08:14.559680187Z to 2023-03-28T11:10:31.124032275Z, received 2023-03-28T11:08:14.55975593Z to 2023-03-28T11:10:31.124072442Z",
    ),
    (
        &["EQUS.MINI/test_data.trades.dbn.zst"],
        "0 quotes, 4 trades, bid none (0 empty), ask none (0 empty), price 307.8 - 307.97, volume 2700, \
         event 2023-03-28T11:08:14.559680187Z to 2023-03-28T11:10:31.124032275Z, received 2023-03-28T11:08:14.55975593Z to 2023-03-28T11:10:31.124072442Z",
    ),
    (
        &[
            "GLBX.MDP3/test_data.bbo-1m.dbn.zst",
            "dbn-testdata/test_data.bbo-1m.dbn",
            "dbn-testdata/test_data.bbo-1m.v2.dbn.zst",
            "dbn-testdata/test_data.bbo-1m.v3.dbn.zst",
        ],
        "4 quotes, 0 trades, bid 3702.25 - 3704.5 (0 empty), ask 3702.75 - 3705 (0 empty), price none, volume 0, \
         event 2020-12-28T00:00:00Z to 2020-12-28T00:03:00Z, received 2020-12-28T00:00:00Z to 2020-12-28T00:03:00Z",
    ),
    (
        &[
            "GLBX.MDP3/test_data.bbo-1s.dbn.zst",
            "dbn-testdata/test_data.bbo-1s.dbn",
            "dbn-testdata/test_data.bbo-1s.v2.dbn.zst",
            "dbn-testdata/test_data.bbo-1s.v3.dbn.zst",
        ],
        "4 quotes, 0 trades, bid 3702.25 - 3702.5 (0 empty), ask 3702.75 - 3702.75 (0 empty), price none, volume 0, \
         event 2020-12-28T00:00:00Z to 2020-12-28T00:00:03Z, received 2020-12-28T00:00:00Z to 2020-12-28T00:00:03Z",
    ),
    (
        &["GLBX.MDP3/test_data.mbp-1.dbn.zst"],
        "4 quotes, 0 trades, bid 3702.25 - 3702.25 (0 empty), ask 3702.75 - 3702.75 (0 empty), price none, volume 0, \
         event 2020-12-28T00:00:00.005871213Z to 2020-12-28T00:00:00.076339855Z, received 2020-12-28T00:00:00.006150193Z to 2020-12-28T00:00:00.076436915Z",
    ),
    (
        &["GLBX.MDP3/test_data.tbbo.dbn.zst"],
        "4 quotes, 4 trades, bid 3702.5 - 3702.5 (0 empty), ask 3702.75 - 3702.75 (0 empty), price 3702.5 - 3702.75, volume 4, \
         event 2020-12-28T00:00:00.246507011Z to 2020-12-28T00:00:00.721335895Z, received 2020-12-28T00:00:00.246821748Z to 2020-12-28T00:00:00.721589695Z",
    ),
    (
        &["GLBX.MDP3/test_data.trades.dbn.zst"],
        "0 quotes, 4 trades, bid none (0 empty), ask none (0 empty), price 3702.5 - 3702.75, volume 4, \
         event 2020-12-28T00:00:00.246507011Z to 2020-12-28T00:00:00.721335895Z, received 2020-12-28T00:00:00.246821748Z to 2020-12-28T00:00:00.721589695Z",
    ),
    (
        &["OPRA.PILLAR/test_data.mbp-1.dbn.zst"],
        "4 quotes, 0 trades, bid none (4 empty), ask none (4 empty), price none, volume 0, \
         event 2025-02-20T13:00:00.467415552Z to 2025-02-20T13:00:00.646692096Z, received 2025-02-20T13:00:00.467622316Z to 2025-02-20T13:00:00.646899853Z",
    ),
    (
        &["OPRA.PILLAR/test_data.tbbo.dbn.zst"],
        "4 quotes, 4 trades, bid 0.18 - 0.24 (0 empty), ask 0.21 - 0.25 (0 empty), price 0.19 - 0.24, volume 8, \
         event 2025-02-20T14:30:00.817657088Z to 2025-02-20T14:30:01.745517312Z, received 2025-02-20T14:30:00.817866523Z to 2025-02-20T14:30:01.745727547Z",
    ),
    (
        &["OPRA.PILLAR/test_data.trades.dbn.zst"],
        "0 quotes, 4 trades, bid none (0 empty), ask none (0 empty), price 0.19 - 0.24, volume 8, \
         event 2025-02-20T14:30:00.817657088Z to 2025-02-20T14:30:01.745517312Z, received 2025-02-20T14:30:00.817866523Z to 2025-02-20T14:30:01.745727547Z",
    ),
    (
        &["XNAS.ITCH/test_data.mbp-1.dbn.zst"],
        "4 quotes, 0 trades, bid 502 - 519.75 (0 empty), ask 539 - 539 (2 empty), price none, volume 0, \
         event 2020-12-28T09:01:28.297098637Z to 2020-12-28T09:01:52.948319734Z, received 2020-12-28T09:01:28.297109209Z to 2020-12-28T09:01:52.948330298Z",
    ),
    (
        &["XNAS.ITCH/test_data.tbbo.dbn.zst"],
        "4 quotes, 4 trades, bid 520 - 521 (0 empty), ask 521 - 535.5 (0 empty), price 521 - 521.01, volume 42, \
         event 2020-12-28T09:05:12.576690768Z to 2020-12-28T09:08:35.938352105Z, received 2020-12-28T09:05:12.576701886Z to 2020-12-28T09:08:35.938363127Z",
    ),
    (
        &["XNAS.ITCH/test_data.trades.dbn.zst"],
        "0 quotes, 4 trades, bid none (0 empty), ask none (0 empty), price 521 - 521.01, volume 42, \
         event 2020-12-28T09:05:12.576690768Z to 2020-12-28T09:08:35.938352105Z, received 2020-12-28T09:05:12.576701886Z to 2020-12-28T09:08:35.938363127Z",
    ),
    (
        &[
            "dbn-testdata/test_data.mbp-1.dbn",
            "dbn-testdata/test_data.mbp-1.v1.dbn.zst",
            "dbn-testdata/test_data.mbp-1.v2.dbn.zst",
            "dbn-testdata/test_data.mbp-1.v3.dbn.zst",
        ],
        "2 quotes, 0 trades, bid 3720.25 - 3720.25 (0 empty), ask 3720.5 - 3720.5 (0 empty), price none, volume 0, \
         event 2020-12-28T13:00:00.006001487Z to 2020-12-28T13:00:00.006146661Z, received 2020-12-28T13:00:00.006136329Z to 2020-12-28T13:00:00.006246513Z",
    ),
    (
        &[
            "dbn-testdata/test_data.tbbo.dbn",
            "dbn-testdata/test_data.tbbo.v1.dbn.zst",
            "dbn-testdata/test_data.tbbo.v2.dbn.zst",
            "dbn-testdata/test_data.tbbo.v3.dbn.zst",
        ],
        "2 quotes, 2 trades, bid 3720.25 - 3720.25 (0 empty), ask 3720.5 - 3720.5 (0 empty), price 3720.25 - 3720.25, volume 26, \
         event 2020-12-28T13:00:00.098821953Z to 2020-12-28T13:00:00.107665963Z, received 2020-12-28T13:00:00.099150057Z to 2020-12-28T13:00:00.108142648Z",
    ),
    (
        &[
            "dbn-testdata/test_data.trades.dbn",
            "dbn-testdata/test_data.trades.v1.dbn.zst",
            "dbn-testdata/test_data.trades.v2.dbn.zst",
            "dbn-testdata/test_data.trades.v3.dbn.zst",
        ],
        "0 quotes, 2 trades, bid none (0 empty), ask none (0 empty), price 3720.25 - 3720.25, volume 26, \
         event 2020-12-28T13:00:00.098821953Z to 2020-12-28T13:00:00.107665963Z, received 2020-12-28T13:00:00.099150057Z to 2020-12-28T13:00:00.108142648Z",
    ),
    (
        &["futures/futures_mbp-1_2024-07-01T23-58_2024-07-02T00-02.dbn.zst"],
        "2288 quotes, 120 trades, bid 5528.5 - 5529.25 (0 empty), ask 5528.75 - 5529.5 (0 empty), price 5528.5 - 5529.5, volume 253, \
         event 2024-07-01T23:58:01.218218853Z to 2024-07-02T00:01:59.824330531Z, received 2024-07-01T23:58:01.218485389Z to 2024-07-02T00:01:59.824434324Z",
    ),
    (
        &["futures/futures_trades_2024-07-01T23-58_2024-07-02T00-02.dbn.zst"],
        "0 quotes, 120 trades, bid none (0 empty), ask none (0 empty), price 5528.5 - 5529.5, volume 253, \
         event 2024-07-01T23:58:01.218218853Z to 2024-07-02T00:01:52.813445903Z, received 2024-07-01T23:58:01.218485389Z to 2024-07-02T00:01:52.813670786Z",
    ),
    (
        &["GLBX.MDP3/test_data.mbo.dbn.zst"],
        "0 quotes, 0 trades, bid none (0 empty), ask none (0 empty), price none, volume 0, \
         event none, received none",
    ),
    (
        &["GLBX.MDP3/test_data.mbp-10.dbn.zst"],
        "4 quotes, 0 trades, bid 3702.25 - 3702.25 (0 empty), ask 3702.75 - 3702.75 (0 empty), price none, volume 0, \
         event 2020-12-28T00:00:00.005871213Z to 2020-12-28T00:00:00.076339855Z, received 2020-12-28T00:00:00.006150193Z to 2020-12-28T00:00:00.076436915Z",
    ),
    (
        &["LIVE/test_data.live.dbn.zst"],
        "7 quotes, 4 trades, bid 3790 - 4746 (0 empty), ask 4730.5 - 4888 (0 empty), price 4756 - 4756, volume 6, \
         event 2023-11-19T13:00:04.389012225Z to 2023-11-20T20:01:35.835989503Z, received 2023-11-19T13:00:04.834724745Z to 2023-11-20T20:01:35.836184225Z",
    ),
    (
        &["OPRA.PILLAR/test_data.cbbo-1m.dbn.zst"],
        "4 quotes, 0 trades, bid 0.32 - 0.43 (1 empty), ask 0.34 - 0.45 (1 empty), price none, volume 0, \
         event 2025-02-20T13:01:00Z to 2025-02-20T14:33:00Z, received 2025-02-20T13:01:00Z to 2025-02-20T14:33:00Z",
    ),
    (
        &["OPRA.PILLAR/test_data.cbbo-1s.dbn.zst"],
        "4 quotes, 0 trades, bid 0.1 - 0.22 (1 empty), ask 0.21 - 0.25 (1 empty), price none, volume 0, \
         event 2025-02-20T13:00:01Z to 2025-02-20T14:30:03Z, received 2025-02-20T13:00:01Z to 2025-02-20T14:30:03Z",
    ),
    (
        &["XNAS.ITCH/test_data.mbo.dbn.zst", "XNAS.ITCH/test_data.mbp-10.dbn.zst"],
        "3 quotes, 0 trades, bid 502 - 512.01 (0 empty), ask 539 - 539 (2 empty), price none, volume 0, \
         event 2020-12-28T09:01:28.297098637Z to 2020-12-28T09:01:33.580213335Z, received 2020-12-28T09:01:28.297109209Z to 2020-12-28T09:01:33.580223478Z",
    ),
    (
        &[
            "dbn-testdata/test_data.cbbo-1s.dbn",
            "dbn-testdata/test_data.cbbo-1s.v2.dbn.zst",
            "dbn-testdata/test_data.cbbo-1s.v3.dbn.zst",
        ],
        "2 quotes, 0 trades, bid 3720.25 - 3720.25 (0 empty), ask 3720.5 - 3720.5 (0 empty), price none, volume 0, \
         event 2020-12-28T13:00:00.006136329Z to 2020-12-28T13:00:00.006246513Z, received 2020-12-28T13:00:00.006136329Z to 2020-12-28T13:00:00.006246513Z",
    ),
    (
        &[
            "dbn-testdata/test_data.cmbp-1.dbn",
            "dbn-testdata/test_data.cmbp-1.v2.dbn.zst",
            "dbn-testdata/test_data.cmbp-1.v3.dbn.zst",
        ],
        "2 quotes, 0 trades, bid 3720.25 - 3720.25 (0 empty), ask 3720.5 - 3720.5 (0 empty), price none, volume 0, \
         event 2020-12-28T13:00:00.006001487Z to 2020-12-28T13:00:00.006146661Z, received 2020-12-28T13:00:00.006136329Z to 2020-12-28T13:00:00.006246513Z",
    ),
    (
        &[
            "dbn-testdata/test_data.mbo.dbn",
            "dbn-testdata/test_data.mbo.v1.dbn.zst",
            "dbn-testdata/test_data.mbo.v2.dbn.zst",
            "dbn-testdata/test_data.mbo.v3.dbn",
            "dbn-testdata/test_data.mbo.v3.dbn.zst",
        ],
        "0 quotes, 0 trades, bid none (0 empty), ask none (0 empty), price none, volume 0, \
         event none, received none",
    ),
    (
        &[
            "dbn-testdata/test_data.mbp-10.dbn",
            "dbn-testdata/test_data.mbp-10.v1.dbn.zst",
            "dbn-testdata/test_data.mbp-10.v2.dbn.zst",
            "dbn-testdata/test_data.mbp-10.v3.dbn.zst",
        ],
        "1 quotes, 0 trades, bid 3720.25 - 3720.25 (0 empty), ask 3720.5 - 3720.5 (0 empty), price none, volume 0, \
         event 2020-12-28T13:00:00.000429831Z to 2020-12-28T13:00:00.000429831Z, received 2020-12-28T13:00:00.00070406Z to 2020-12-28T13:00:00.00070406Z",
    ),
    (
        &["futures/esh4-glbx-mdp3-20231225.mbo.dbn.zst"],
        "25439 quotes, 2973 trades, bid 4799 - 4811.5 (0 empty), ask 4785.5 - 4811.75 (0 empty), price 4800.25 - 4811.75, volume 9892, \
         event 2023-12-25T22:00:00.180087113Z to 2023-12-25T23:59:59.446048065Z, received 2023-12-25T22:00:00.181198464Z to 2023-12-25T23:59:59.446137629Z",
    ),
];

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn dbn_files_are_read_as_their_facts_say_and_others_are_refused_by_schema() {
    let folder = data().join("dbn");
    let mut read = BTreeSet::new();
    for (files, expected) in DBN {
        for file in *files {
            let path = folder.join(file);
            let summary = summary(&path);
            assert_eq!(summary.show(), *expected, "{file}");
            assert_eq!(summary.symbols.len(), 1, "{file}: {:?}", summary.symbols);
            read.insert(path);
        }
    }
    let symbol = |file| summary(&folder.join(file)).symbols.into_iter().next();
    assert_eq!(symbol("OPRA.PILLAR/test_data.tbbo.dbn.zst").as_deref(), Some("AAPL  250221C00250000"));
    let futures = "futures/futures_trades_2024-07-01T23-58_2024-07-02T00-02.dbn.zst";
    assert_eq!(symbol(futures).as_deref(), Some("ESU4"));

    let (mut states, mut definitions, mut refused) = (0, 0, 0);
    for venue in std::fs::read_dir(&folder).unwrap() {
        for file in std::fs::read_dir(venue.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if read.contains(&path) {
            } else if name.contains("status") {
                let summary = summary(&path);
                assert_eq!((summary.states, summary.left_out), (3, 1), "{name}: one says nothing of trading");
                states += 1;
            } else if name.contains("definition") {
                let summary = summary(&path);
                assert!(summary.quotes + summary.trades == 0 && !summary.symbols.is_empty(), "{name}");
                definitions += 1;
            } else {
                let error = open(&path, &OpenOptions::default()).err().expect("another schema").to_string();
                assert!(error.contains("and neither quotes nor trades: expected mbp-1"), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!((read.len(), states, definitions, refused), (59, 4, 9, 44));
}

/// Of an order book that is told order by order, and of the same day's best prices: they meet.
#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn futures_orders_fold_to_a_market_without_faults() {
    let file = data().join("dbn/futures/esh4-glbx-mdp3-20231225.mbo.dbn.zst");
    let mut feed = open(&file, &OpenOptions::default()).unwrap();
    let (mut instruments, mut events) = (Instruments::default(), Vec::new());
    while feed.next(&mut instruments, &mut events).unwrap().is_some() {}
    let mut quotes = events.iter().filter_map(|event| match event {
        Event::Quote(_, quote) => Some(quote),
        _ => None,
    });
    let open_from: Timestamp = "2023-12-25T23:00:00.5Z".parse().unwrap();
    let crossed = quotes.clone().filter(|quote| quote.ts_event > open_from && quote.bid >= quote.ask).count();
    assert_eq!(crossed, 0, "in continuous trading the best bid is below the best ask");
    let last = quotes.next_back().unwrap();
    let sizes = (last.bid_size.units(), last.ask_size.units());
    assert_eq!((last.bid.units(), last.ask.units(), sizes), (481_000, 481_025, (22, 28)));
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn itch_messages_are_read_as_their_facts_say() {
    let folder = data().join("nasdaq-itch");
    let excerpt = summary(&folder.join("nasdaq-20230822-excerpt.itch50"));
    assert_eq!(
        excerpt.show(),
        "12 quotes, 7 trades, bid 80.52 - 87.39 (9 empty), ask 6.61 - 357.33 (2 empty), price 19.56 - 679.52, volume 11103, \
         event 2023-08-22T13:29:59.999894278Z to 2023-08-22T13:30:38.952381153Z, \
         received 2023-08-22T13:29:59.999894278Z to 2023-08-22T13:30:38.952381153Z",
    );
    assert_eq!(
        (excerpt.symbols.len(), excerpt.states),
        (22, 1 + 6),
        "the market opens, and six stocks change"
    );
    assert_eq!(
        excerpt.conditions.into_iter().collect::<Vec<_>>(),
        ["", "O"],
        "crosses are those of the opening"
    );
    // Of the rest, the orders that are changed are from before the excerpt, and three crosses had no shares.
    assert_eq!(excerpt.left_out, 46 + 3);
    // By the letter of the messages in each capture: quotes, trades, states, left out.
    let folder = folder.join("Nasdaq.Equities.TotalView.Itch.v5.0.20230822");
    for (name, expected) in [
        ("AddOrderNoMPID", (5, 0, 0, 0)),
        ("AddOrderWithMPID", (5, 0, 0, 0)),
        ("CrossTrade", (0, 2, 0, 3)),
        ("NonCrossTrade", (0, 5, 0, 0)),
        ("StockTradingAction", (0, 0, 5, 0)),
        ("SystemEvent", (0, 0, 1, 0)),
        ("LULDAuctionCollar", (0, 0, 0, 5)),
        ("MarketParticipantPosition", (0, 0, 0, 5)),
        ("NetOrderImbalanceIndicator", (0, 0, 0, 5)),
        ("OrderCancel", (0, 0, 0, 5)),
        ("OrderDelete", (0, 0, 0, 5)),
        ("OrderExecuted", (0, 0, 0, 5)),
        ("OrderExecutedWithPrice", (0, 0, 0, 5)),
        ("OrderReplace", (0, 0, 0, 5)),
        ("RegSHORestriction", (0, 0, 0, 5)),
    ] {
        let s = summary(&folder.join(format!("{name}.pcap")));
        assert_eq!((s.quotes, s.trades, s.states, s.left_out), expected, "{name}");
    }
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn captured_packets_have_two_times_and_tell_what_is_missing_between_them() {
    let path = data().join("nasdaq-itch/Nasdaq.Equities.TotalView.Itch.v5.0/Multiple.Packets.pcap");
    let mut feed = open(&path, &OpenOptions::default()).unwrap();
    let s = Summary::of(&mut *feed);
    let missing =
        "Multiple.Packets.pcap message 1 (up to byte 1661): messages 14764497 to 19009116 are missing";
    assert_eq!(s.errors, [missing]);
    assert_eq!(
        (s.quotes, s.left_out, s.event.show(" to "), s.recv.show(" to ")),
        (
            2,
            1,
            "2023-08-22T13:30:38.952381153Z to 2023-08-22T13:30:38.952381153Z".to_owned(),
            "2023-08-22T13:30:38.952561782Z to 2023-08-22T13:30:38.952561782Z".to_owned(),
        )
    );
}

/// The first minute of two spot sessions, merged by time of arrival.
fn spot_minute(data: &Path) -> Vec<u8> {
    let session = |name: &str| {
        let path = data.join(format!("binance-ws/spot/{name}_20240808.gz"));
        open(&path, &OpenOptions::default()).unwrap_or_else(|error| panic!("{error}"))
    };
    let mut feed = Merged::new(vec![session("btcusdt"), session("ethusdt")]);
    let (mut instruments, mut events) = (Instruments::default(), Vec::new());
    let mut writer = None;
    let mut position = 0;
    while let Some(time) = feed.next(&mut instruments, &mut events).unwrap() {
        let (writer, start) = writer.get_or_insert_with(|| {
            let source = "nkaz001/hftbacktest 5f3ec40b2afb, examples/spot/{btcusdt,ethusdt}_20240808.gz";
            let header = RecordingHeader { epoch: 1, created: time, source: source.to_owned() };
            (RecordingWriter::new(Vec::new(), &header).unwrap(), time)
        });
        if time.nanos_since(*start) >= 60_000_000_000 {
            break;
        }
        position += 1;
        writer.append(position, time, &events).unwrap();
        events.clear();
    }
    writer.expect("sessions have batches").0.finish().unwrap()
}

#[test]
#[ignore = "writes feeds/binance-spot-60s.tape from the source recordings"]
fn the_recorded_minute_is_what_the_sessions_make() {
    let path = feeds().join("binance-spot-60s.tape");
    let made = spot_minute(&data());
    // Written only where it differs: other tests read the file meanwhile.
    if std::fs::read(&path).unwrap_or_default() != made {
        std::fs::write(&path, &made).unwrap();
        panic!("{} has changed: look at it, and commit it", path.display());
    }
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn a_recording_of_a_merged_session_gives_the_same_events_as_the_session() {
    let data = data();
    let file = spot_minute(&data);
    let mut reader = RecordingReader::new(zstd::Decoder::new(&file[..]).unwrap()).unwrap();
    let sessions = ["btcusdt", "ethusdt"].map(|name| {
        open(&data.join(format!("binance-ws/spot/{name}_20240808.gz")), &OpenOptions::default()).unwrap()
    });
    let mut feed = Merged::new(sessions.into());
    let mut instruments = Instruments::default();
    let (mut recorded, mut live) = (Vec::new(), Vec::new());
    let mut batches = 0;
    while let Some((position, time)) = reader.next(&mut recorded).unwrap() {
        batches += 1;
        assert_eq!(feed.next(&mut instruments, &mut live).unwrap(), Some(time));
        assert_eq!((position, &recorded), (batches, &live));
        recorded.clear();
        live.clear();
    }
    assert_eq!(batches, 12_941);
}

/// The same quotes and trades as Databento writes them, schema `mbp-1`: 80 bytes a record. Its sizes are
/// whole numbers of 32 bits, so here they are units, cut off where they need more.
fn as_dbn(path: &Path) -> Vec<u8> {
    use dbn::encode::{EncodeRecord, dbn::Encoder};
    use dbn::{BidAskPair, FlagSet, Mbp1Msg, MetadataBuilder, RecordHeader, SType, Schema};
    let metadata = MetadataBuilder::new()
        .dataset("XNAS.ITCH".to_owned())
        .schema(Some(Schema::Mbp1))
        .start(0)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .build();
    let mut encoder = Encoder::new(Vec::new(), &metadata).unwrap();
    let mut feed = open(path, &OpenOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let (mut instruments, mut events) = (Instruments::default(), Vec::new());
    let letter = |letter: char| std::ffi::c_char::try_from(letter as u32).unwrap();
    let nanos = |time: Timestamp| time.nanos().unsigned_abs();
    let mut level = BidAskPair::default();
    while feed.next(&mut instruments, &mut events).unwrap().is_some() {
        for event in events.drain(..) {
            let price = |id, price: Price| {
                let scale = instruments.get(id).unwrap().price_scale;
                let nanos = price.to_decimal(scale).map(|price| price * Decimal::from(1_000_000_000));
                nanos.map_or(dbn::UNDEF_PRICE, |nanos| nanos.try_into().unwrap())
            };
            let size = |size: tickcast::market::Size| u32::try_from(size.units()).unwrap_or(u32::MAX);
            let (id, at, action, side, paid, traded) = match event {
                Event::Quote(id, quote) => {
                    level = BidAskPair {
                        bid_px: price(id, quote.bid),
                        ask_px: price(id, quote.ask),
                        bid_sz: size(quote.bid_size),
                        ask_sz: size(quote.ask_size),
                        ..BidAskPair::default()
                    };
                    (id, (quote.ts_event, quote.ts_recv), 'A', 'B', level.bid_px, level.bid_sz)
                }
                Event::Trade(id, trade) => {
                    let side = if trade.side == tickcast::market::Side::Buy { 'B' } else { 'A' };
                    let at = (trade.ts_event, trade.ts_recv);
                    (id, at, 'T', side, price(id, trade.price), size(trade.size))
                }
                _ => continue,
            };
            let record = Mbp1Msg {
                hd: RecordHeader::new::<Mbp1Msg>(dbn::rtype::MBP_1, 1, id.0, nanos(at.0)),
                price: paid,
                size: traded,
                action: letter(action),
                side: letter(side),
                flags: FlagSet::default(),
                depth: 0,
                ts_recv: nanos(at.1),
                ts_in_delta: 0,
                sequence: 0,
                levels: [level.clone()],
            };
            encoder.encode_record(&record).unwrap();
        }
    }
    encoder.get_ref().clone()
}

/// A recording of a session, with checkpoints as a server makes them or without.
fn as_tape(path: &Path, with_checkpoints: bool) -> (u64, Vec<u8>) {
    let mut feed = open(path, &OpenOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let (mut instruments, mut count, mut position) = (Instruments::default(), 0, Position::START);
    let header = RecordingHeader::default();
    let mut recorder = Recorder::new(Vec::new(), &header).unwrap();
    let mut writer = RecordingWriter::new(Vec::new(), &header).unwrap();
    loop {
        let mut events = Vec::new();
        let Some(time) = feed.next(&mut instruments, &mut events).unwrap() else { break };
        count += events.iter().filter(|event| !matches!(event, Event::Instrument(_))).count() as u64;
        position = position.next();
        if with_checkpoints {
            recorder.append(&Batch { position, time, events }).unwrap();
        } else {
            writer.append(position.get(), time, &events).unwrap();
        }
    }
    (count, if with_checkpoints { recorder.finish() } else { writer.finish() }.unwrap())
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn a_recorded_session_is_a_fraction_of_what_others_make_of_it() {
    println!("bytes a tick: the session's own gzip'ed JSON, DBN, DBN packed, ours with checkpoints, without");
    for session in ["spot/btcusdt", "spot/ethusdt", "usdm/btcusdt"] {
        let path = data().join("binance-ws").join(format!("{session}_20240808.gz"));
        let (events, tape) = as_tape(&path, true);
        let (_, bare) = as_tape(&path, false);
        let dbn = as_dbn(&path);
        let packed = zstd::encode_all(&dbn[..], 3).unwrap();
        let gzip = std::fs::metadata(&path).unwrap().len();
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let each = |bytes: u64| bytes as f64 / events as f64;
        let [gzip, dbn, packed, tape, bare] =
            [gzip, dbn.len() as u64, packed.len() as u64, tape.len() as u64, bare.len() as u64].map(each);
        println!("{session}: {events} ticks, {gzip:.1}, {dbn:.1}, {packed:.1}, {tape:.1}, {bare:.1}");
        assert!(tape < gzip / 2.0 && tape < 1.3 * bare, "{session}");
    }
}
