//! How many bytes a quote takes on the wire, measured on recorded sessions of an exchange beside its own
//! JSON.
//!
//! `cargo test --release --test it sizes -- --ignored --nocapture`, with the recordings in `../shared/data`
//! or in `TICKCAST_DATA`.

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use tickcast::hub::{Kind, Replica, Since, TopicKey, Upto, tell};
use tickcast::market::{Event, Instruments, QuoteValues, Symbol, Timestamp, parse_decimal};
use tickcast::tape::{Batch, Epoch};
use tickcast::wire::{Form, UpdateEncoder};

const SESSIONS: [&str; 3] = ["spot/btcusdt_20240808", "spot/ethusdt_20240808", "usdm/btcusdt_20240808"];

/// One best bid and offer as the exchange sent it.
struct Ticker {
    received: Timestamp,
    symbol: Symbol,
    values: QuoteValues,
    /// The exchange's message with its WebSocket header.
    bytes: usize,
}

fn data() -> PathBuf {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data"));
    std::env::var_os("TICKCAST_DATA").map_or_else(default, PathBuf::from)
}

/// The `bookTicker` messages of a session, under the session's own name as symbol, because two markets share
/// one.
fn tickers(session: &str) -> Vec<Ticker> {
    let path = data().join("binance-ws").join(session).with_extension("gz");
    let file = File::open(&path).unwrap_or_else(|error| {
        panic!("{}: {error}: name the folder of the recordings in TICKCAST_DATA", path.display())
    });
    let symbol = Symbol::new(session).unwrap();
    let lines = BufReader::new(MultiGzDecoder::new(file)).lines().map(Result::unwrap);
    lines
        .filter_map(|line| {
            let (received, message) = line.split_once(' ').unwrap();
            let parsed: Value = serde_json::from_str(message).unwrap();
            parsed["stream"].as_str()?.strip_suffix("@bookTicker")?;
            let number = |field: &str| parse_decimal(parsed["data"][field].as_str().unwrap()).unwrap();
            Some(Ticker {
                received: Timestamp::from_nanos(received.parse().unwrap()),
                symbol: symbol.clone(),
                values: QuoteValues {
                    bid: Some(number("b")),
                    bid_size: number("B"),
                    ask: Some(number("a")),
                    ask_size: number("A"),
                },
                bytes: message.len() + header(message.len()),
            })
        })
        .collect()
}

/// Bytes of a server's frame in front of its payload.
fn header(payload: usize) -> usize {
    if payload < 126 { 2 } else { 4 }
}

#[derive(Default)]
struct Tally {
    /// Quotes on the tape that changed something, and what the exchange sent for them.
    changes: usize,
    exchange: usize,
    /// Quotes told, and the bytes of their frames: merging leaves out those that were replaced within a
    /// flush.
    told: usize,
    bytes: usize,
    frames: usize,
    /// Of these bytes those that are not there in a frame without quotes: what they add to a frame that holds
    /// others.
    added: usize,
    /// Of the JSON form.
    json: usize,
}

/// Flushes the quotes after every change, or every so many nanoseconds.
fn measure(tickers: &[Ticker], every: Option<i64>) -> Tally {
    let (mut instruments, mut replica) = (Instruments::default(), Replica::new(Epoch::new(1)));
    let (mut tally, mut encoder, mut frame) =
        (Tally::default(), UpdateEncoder::new(tickcast::wire::FULL_BYTES), Vec::new());
    let mut from = Upto { position: replica.position(), time: Timestamp::default() };
    let mut due = None;
    for ticker in tickers {
        if let (Some(every), Some(at)) = (every, due)
            && ticker.received.nanos() >= at
        {
            flush(&replica, &mut from, &mut encoder, &mut frame, &mut tally);
            due = Some(ticker.received.nanos() + every);
        }
        due = due.or(every.map(|every| ticker.received.nanos() + every));
        let (mut events, mut touched) = (Vec::new(), Vec::new());
        let id = instruments.intern(&ticker.symbol, &mut events);
        let times = (ticker.received, ticker.received);
        let quote = instruments.quote(id, &ticker.values, times, &mut events).unwrap();
        let defines = !events.is_empty();
        events.push(Event::Quote(id, quote));
        let batch = Batch { position: replica.position().next(), time: ticker.received, events };
        replica.apply(&batch, &mut touched);
        if defines {
            // A session begins with definitions and whole quotes; what follows is measured.
            from = Upto { position: replica.position(), time: replica.time() };
        } else if !touched.is_empty() {
            tally.changes += 1;
            tally.exchange += ticker.bytes;
            if every.is_none() {
                flush(&replica, &mut from, &mut encoder, &mut frame, &mut tally);
            }
        }
    }
    tally
}

fn flush(
    replica: &Replica,
    from: &mut Upto,
    encoder: &mut UpdateEncoder,
    frame: &mut Vec<u8>,
    tally: &mut Tally,
) {
    let upto = Upto { position: replica.position(), time: replica.time() };
    let topics: Vec<TopicKey> =
        replica.books().map(|book| TopicKey::of(book.definition.id, Kind::Quote)).collect();
    let since = Since { position: from.position, numbered: false };
    let changed: Vec<TopicKey> = topics
        .into_iter()
        .filter(|topic| {
            let book = replica.book(topic.instrument().unwrap()).unwrap();
            book.quote.changed_since(from.position) != 0
        })
        .collect();
    let mut size = |form, topics: &[TopicKey]| {
        frame.clear();
        encoder.begin(form, false, *from, upto);
        tell(replica, topics.iter().copied().enumerate(), |_| since, upto.position, encoder);
        encoder.finish(true, frame);
        frame.len()
    };
    if !changed.is_empty() {
        let (all, none) = (size(Form::MSGPACK, &changed), size(Form::MSGPACK, &[]));
        tally.told += changed.len();
        tally.frames += 1;
        tally.bytes += all;
        tally.added += all - none;
        tally.json += size(Form::JSON, &changed);
    }
    *from = upto;
}

fn mean(bytes: usize, count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "byte counts are far below 2^53")]
    let mean = bytes as f64 / count as f64;
    mean
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn a_quote_takes_the_bytes_that_the_protocol_promises() {
    let sessions = SESSIONS.map(tickers);
    println!(
        "Every change told by itself, bytes a quote (lone: a frame of its own; added: to a frame of others):"
    );
    println!(
        "{:<24} {:>8} {:>8} {:>8} {:>8} {:>10}",
        "session", "changes", "lone", "added", "JSON", "exchange"
    );
    for (name, session) in SESSIONS.iter().zip(&sessions) {
        let tally = measure(session, None);
        let [lone, added, json] = [tally.bytes, tally.added, tally.json].map(|bytes| mean(bytes, tally.told));
        let exchange = mean(tally.exchange, tally.changes);
        println!("{name:<24} {:>8} {lone:>8.2} {added:>8.2} {json:>8.1} {exchange:>10.1}", tally.changes);
        assert!(tally.told > 10_000, "{name}: a session of {} changes proves nothing", tally.told);
        assert!(lone <= 13.5, "{name}: a lone quote takes {lone:.2} bytes");
        assert!(added <= 8.0, "{name}: a quote adds {added:.2} bytes to a frame that holds others");
    }
    let mut merged: Vec<Ticker> = sessions.into_iter().flatten().collect();
    merged.sort_by_key(|ticker| ticker.received);
    println!("The three sessions merged by time, several changes of a quote merged into one:");
    println!(
        "{:<24} {:>8} {:>8} {:>8} {:>10} {:>8} {:>12}",
        "a flush", "changes", "told", "frames", "per quote", "added", "per change"
    );
    for (name, millis) in [("every 10 ms", 10), ("every 100 ms", 100), ("every 1 s", 1000)] {
        let tally = measure(&merged, Some(millis * 1_000_000));
        let [quote, added] = [tally.bytes, tally.added].map(|bytes| mean(bytes, tally.told));
        let change = mean(tally.bytes, tally.changes);
        println!(
            "{name:<24} {:>8} {:>8} {:>8} {quote:>10.2} {added:>8.2} {change:>12.2}",
            tally.changes, tally.told, tally.frames
        );
        assert!(change <= 8.0, "{name}: merged, a change takes {change:.2} bytes");
    }
}
