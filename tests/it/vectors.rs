//! The golden vectors of the protocol: bytes, and the JSON that they mean. The tests of every client read the
//! same files.
//!
//! `UPDATE_VECTORS=1 cargo test --test it vectors` writes them anew; every changed byte is then a changed
//! line to review.

use crate::update_json::update_json;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tickcast::hub::{
    ChannelEntries, Entries, FeedStats, Image, Kind, LatencyStats, Owed, RecordingStats, Ring, Run, Scope,
    ServerStats, SessionStats, ShardStats, SlowSession, StateRun, TapeStats, Topic, TopicStats, TopicsStats,
    Upto,
};
use tickcast::market::{
    Bar, Conditions, Counts, FeedKind, FeedState, FeedStatus, Instrument, InstrumentId, Interval, Json,
    MAX_SCALE, Message, Price, Quote, SAFE_INTEGER, Side, Size, Speed, Status, Symbol, Timestamp, Trade,
    TradingState, Word,
};
use tickcast::tape::Position;
use tickcast::wire::schema::{self, Backoff, Field, OpSchema, TOPICS, TopicSchema, tag, trade_flag};
use tickcast::wire::{
    Answer, BarFields, CloseCode, CloseSchema, Encoding, ErrorCode, Form, Id, Limits, MAX_HZ, MIN_HZ,
    PROTOCOL, PROTOCOL_JSON, PROTOCOL_MSGPACK, QuoteFields, Refusal, ReplayState, Request, Return,
    SessionNumber, TopicAnswer, TopicChecksum, UpdateDecoder, UpdateEncoder, WatchersFields,
};

/// 2026-11-22T18:55:44Z, in µs.
const NOW: i64 = 1_795_373_744_000_000;

/// The images and rings by name.
trait Tell: Owed {
    fn quote(&mut self, instrument: &Instrument, mask: u16, quote: &Quote) {
        self.image(instrument, Kind::Quote, mask, Image::Quote(quote));
    }

    fn bar(&mut self, instrument: &Instrument, kind: Kind, mask: u16, bar: Option<&Bar>, close: Price) {
        self.image(instrument, kind, mask, Image::Bar(bar, close));
    }

    fn trades(&mut self, instrument: &Instrument, numbered: bool, run: &Run<'_, Trade>) {
        self.ring(instrument, Kind::Trades, numbered, Entries::Trades(run));
    }

    fn closed_bars(&mut self, instrument: &Instrument, kind: Kind, numbered: bool, run: &Run<'_, Bar>) {
        self.ring(instrument, kind, numbered, Entries::Bars(run));
    }
}

impl<T: Owed> Tell for T {}

/// One file: a session's welcome and the frames that follow it, decoded in order by one decoder.
struct Script {
    name: &'static str,
    welcome: Upto,
    from: Upto,
    encoder: UpdateEncoder,
    frames: Vec<Value>,
}

impl Script {
    fn new(name: &'static str, position: u64, micros: i64) -> Self {
        let welcome = Upto { position: Position::new(position), time: Timestamp::from_micros(micros) };
        Self {
            name,
            welcome,
            from: welcome,
            encoder: UpdateEncoder::new(tickcast::wire::FULL_BYTES),
            frames: Vec::new(),
        }
    }

    /// An update that ends a flush.
    fn update(&mut self, name: &str, positions: u64, micros: i64, tell: impl Fn(&mut UpdateEncoder)) {
        let upto = self.plus(positions, micros);
        self.encode(name, false, upto, true, tell);
    }

    fn plus(&self, positions: u64, micros: i64) -> Upto {
        Upto {
            position: Position::new(self.from.position.get() + positions),
            time: Timestamp::from_micros(self.from.time.micros() + micros),
        }
    }

    fn encode(
        &mut self,
        name: &str,
        times: bool,
        upto: Upto,
        whole: bool,
        tell: impl Fn(&mut UpdateEncoder),
    ) {
        let mut payload = |form| {
            let mut frame = Vec::new();
            self.encoder.begin(form, times, self.from, upto);
            tell(&mut self.encoder);
            self.encoder.finish(whole, &mut frame);
            let header = if frame[1] < 126 { 2 } else { 4 };
            frame.split_off(header)
        };
        let (bytes, text) = (payload(Form::MSGPACK), payload(Form::JSON));
        let json: Value = serde_json::from_slice(&text).unwrap();
        self.frames.push(json!({ "name": name, "hex": hex(&bytes), "json": json }));
        let position = if whole { upto.position } else { self.from.position };
        self.from = Upto { position, time: upto.time };
    }

    fn file(&self) -> Value {
        let welcome = json!({ "position": self.welcome.position.get(), "time": self.welcome.time.micros() });
        json!({ "name": self.name, "welcome": welcome, "frames": self.frames })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn apple() -> Instrument {
    Instrument {
        name: "Apple".to_owned(),
        sector: "technology".to_owned(),
        currency: "USD".to_owned(),
        anchor: Price::new(18_890),
        previous_close: Price::new(18_890),
        ..Instrument::unknown(Symbol::new("AAPL").unwrap())
    }
}

/// An instrument of which only prices and sizes are known.
fn bitcoin() -> Instrument {
    Instrument {
        id: InstrumentId(300),
        price_scale: 2,
        size_scale: 8,
        tick_size: 1,
        anchor: Price::new(6_183_763),
        ..Instrument::unknown(Symbol::new("BTCUSDT").unwrap())
    }
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(NOW + micros)
}

fn quote(bid: Option<i64>, bid_size: i64, ask: Option<i64>, ask_size: i64, micros: i64) -> Quote {
    let price = |price: Option<i64>| price.map_or(Price::NONE, Price::new);
    Quote {
        bid: price(bid),
        bid_size: Size::new(bid_size),
        ask: price(ask),
        ask_size: Size::new(ask_size),
        ts_event: at(micros),
        ts_recv: at(micros),
    }
}

fn trade(price: i64, size: i64, side: Side, conditions: &str, micros: i64) -> Trade {
    Trade {
        price: Price::new(price),
        size: Size::new(size),
        side,
        conditions: Conditions::new(conditions).unwrap(),
        counts: Counts::EVERYTHING,
        booked: 0,
        ts_event: at(micros),
        ts_recv: at(micros),
    }
}

/// A ring of these, each at the position after its number; `capacity` of them are left.
fn ring<T: Clone>(entries: &[T], capacity: usize) -> Ring<T> {
    let mut ring = Ring::new(capacity);
    for (number, entry) in (1..).zip(entries) {
        ring.push(Position::new(number), entry.clone());
    }
    ring
}

fn bar(start: i64, prices: &[i64]) -> Bar {
    let trades: Vec<Trade> = prices.iter().map(|&price| trade(price, 100, Side::None, "", 0)).collect();
    let mut bar = Bar::open(at(start * 1_000_000), Interval::Second, &trades[0]);
    trades[1..].iter().for_each(|trade| bar.add(Interval::Second, trade, true));
    bar
}

fn quotes() -> Script {
    let mut script = Script::new("quotes", 1000, NOW);
    let whole = quote(Some(18_941), 300, Some(18_943), 200, 0);
    script.update("a definition and a whole quote", 1, 250_000, |sink| {
        sink.definition(&apple());
        sink.quote(&apple(), 15, &whole);
    });
    for mask in 1..15 {
        script.update(&format!("a lone quote with mask {mask}"), 1, 1_000, |sink| {
            sink.quote(&apple(), mask, &quote(Some(18_900), 100, Some(18_880), 70_000, 0));
        });
    }
    script.update("heartbeat", 40, 5_000_000, |_| {});
    script.update("heartbeat of a tape that stands still", 0, 0, |_| {});
    script.update("several instruments in one frame", 3, 1_500, |sink| {
        sink.quote(&apple(), 1, &whole);
        sink.definition(&bitcoin());
        sink.quote(&bitcoin(), 15, &quote(Some(6_183_763), 378_826_000, Some(6_183_764), 154_698_000, 0));
    });
    script.update("an empty ask", 1, 10, |sink| {
        sink.quote(&apple(), 12, &quote(Some(18_941), 300, None, 0, 0))
    });
    let upto = script.plus(2, 900);
    script.encode("quotes with times, before and after the update's own", true, upto, true, |sink| {
        sink.quote(&apple(), 4, &quote(Some(1), 1, Some(18_950), 100, 100));
        sink.quote(&bitcoin(), 10, &quote(Some(1), 5, Some(1), 6, 9_000_000));
    });
    let upto = script.plus(70_000, 60_000_000);
    script.encode("first part of a flush: the time moves", false, upto, false, |sink| {
        sink.quote(&apple(), 1, &whole)
    });
    script.encode("last part of it: the position moves", false, upto, true, |sink| {
        sink.quote(&bitcoin(), 2, &whole)
    });
    script.update("the time runs back", 1, -3_600_000_000, |sink| sink.quote(&apple(), 2, &whole));
    script
}

fn trades() -> Script {
    let mut script = Script::new("trades", 0, NOW);
    let all = [
        trade(18_942, 100, Side::Buy, "", -120_000),
        trade(18_941, 1, Side::Sell, "I", -1),
        trade(18_890, 0, Side::None, "F I", 0),
        trade(17_000, 1_000_000, Side::Sell, "", 5),
        trade(18_943, 7, Side::Buy, "@4TX", 1_000_000),
    ];
    let ring = self::ring(&all, 3);
    let run = |since, upto| ring.owed(Position::new(since), Position::new(upto));
    script.update("numbered where the first ones are gone", 3, 0, |sink| {
        sink.definition(&apple());
        sink.trades(&apple(), true, &run(0, 3));
    });
    script.update("continuing", 1, 100_000, |sink| sink.trades(&apple(), false, &run(3, 4)));
    script.update("continuing again", 1, 100_000, |sink| sink.trades(&apple(), false, &run(4, 5)));
    script.update("a number without trades", 1, 0, |sink| sink.trades(&apple(), true, &run(5, 5)));
    script.update("numbered anew after a gap", 90, 0, |sink| sink.trades(&apple(), true, &run(2, 5)));
    script.update("a ring that begins without a number begins at 0", 1, 0, |sink| {
        sink.definition(&bitcoin());
        let first = self::ring(&[trade(6_183_764, 600_000, Side::Buy, "", 0)], 8);
        sink.trades(&bitcoin(), false, &first.owed(Position::START, Position::new(1)));
    });
    let counting = |counts, conditions| Trade { counts, ..trade(18_942, 100, Side::Buy, conditions, 0) };
    let some = Counts::VOLUME.and(Counts::DAY_HIGH_LOW);
    let kinds = [
        (Counts::VOLUME, "I"),
        (Counts::NOTHING, "M"),
        (some, ""),
        (Counts::EVERYTHING.and(Counts::CORRECTION), ""),
        (Counts::LAST, ""),
    ];
    let kinds = kinds.map(|(counts, conditions)| counting(counts, conditions));
    let notice = |counts, booked| Trade { booked, ..counting(counts, "") };
    let everything = Counts::EVERYTHING;
    let breaks = [
        counting(everything, ""),
        notice(everything.and(Counts::BREAK), 1),
        counting(everything.and(Counts::CORRECTION), "I"),
        notice(Counts::VOLUME.and(Counts::BREAK), 0),
    ];
    script.update("trades that are taken back, and one that is corrected", 1, 0, |sink| {
        sink.trades(&apple(), true, &self::ring(&breaks, 8).owed(Position::START, Position::MAX));
    });
    script.update("what does not count for everything says so", 1, 0, |sink| {
        sink.trades(&apple(), true, &self::ring(&kinds, 8).owed(Position::START, Position::MAX));
    });
    script
}

fn bars() -> Script {
    let mut script = Script::new("bars", 7, NOW);
    let open = bar(0, &[18_940, 18_942, 18_939]);
    let closed =
        self::ring(&[bar(-2, &[18_900]), bar(-1, &[18_890, 18_910, 18_905]), bar(0, &[18_940, 18_941])], 8);
    let run = closed.owed(Position::START, Position::new(2));
    for (name, kind) in [("seconds", Kind::Bars1s), ("minutes", Kind::Bars1m)] {
        script.update(&format!("closed {name} with numbers, and the open one"), 1, 0, |sink| {
            sink.definition(&apple());
            sink.closed_bars(&apple(), kind, true, &run);
            sink.bar(&apple(), kind, 255, Some(&open), Price::NONE);
        });
        script.update(&format!("more of the open one of the {name}"), 1, 0, |sink| {
            sink.bar(
                &apple(),
                kind,
                16 + 32 + 64 + 128,
                Some(&bar(0, &[18_940, 18_942, 18_939, 18_941])),
                Price::NONE,
            );
        });
        script.update(&format!("closed {name} that continue"), 1, 0, |sink| {
            sink.closed_bars(&apple(), kind, false, &closed.owed(Position::new(2), Position::new(3)));
        });
    }
    script.update("a day without a trade has its previous close", 1, 0, |sink| {
        sink.bar(&apple(), Kind::Day, 256, None, Price::new(18_890));
    });
    script.update("a whole day", 1, 0, |sink| {
        sink.bar(&apple(), Kind::Day, 511, Some(&open), Price::new(18_890))
    });
    script.update("a day that goes on", 1, 0, |sink| {
        sink.bar(
            &apple(),
            Kind::Day,
            4 + 16 + 64 + 128,
            Some(&bar(0, &[18_940, 19_000])),
            Price::new(18_890),
        );
    });
    script.update("a previous close that is not known", 1, 0, |sink| {
        sink.bar(&apple(), Kind::Day, 256, None, Price::NONE);
    });
    let odd = Trade { counts: Counts::VOLUME, ..trade(18_943, 7, Side::Buy, "I", 0) };
    let odd = Bar::open(at(0), Interval::Second, &odd);
    script.update("bars of which no trade sets a price", 1, 0, |sink| {
        sink.closed_bars(
            &apple(),
            Kind::Bars1s,
            true,
            &self::ring(&[odd], 8).owed(Position::START, Position::MAX),
        );
        sink.bar(&apple(), Kind::Bars1m, 255, Some(&odd), Price::NONE);
        sink.bar(&apple(), Kind::Day, 511, Some(&odd), Price::new(18_890));
    });
    script
}

fn states() -> Script {
    let mut script = Script::new("states", 1, NOW);
    let states = [TradingState::PreOpen, TradingState::Open, TradingState::Halted, TradingState::Closed];
    for state in states {
        script.update(&format!("market and instrument {state}"), 1, 500, |sink| {
            sink.status(None, &Status { state, ts_event: at(0) });
            sink.definition(&apple());
            sink.status(Some(&apple()), &Status { state, ts_event: at(-7_000_000) });
        });
    }
    for &kind in FeedKind::ALL {
        for (&state, speed) in FeedState::ALL.iter().zip([1.0, 0.5, 10.0, 1000.0, 0.001]) {
            let feed = FeedStatus { kind, state, speed: Speed::Times(speed) };
            script.update(&format!("{kind} {state} at speed {speed}"), 1, 0, |sink| sink.feed(&feed));
        }
    }
    let feed = FeedStatus { kind: FeedKind::Replay, state: FeedState::Live, speed: Speed::Max };
    script.update("a replay as fast as it can", 1, 0, |sink| sink.feed(&feed));
    script
}

fn stats() -> Script {
    let mut script = Script::new("stats", 1, NOW);
    script.update("nothing to tell of", 1, 0, |sink| sink.stats(&ServerStats::default()));
    let topic = |topic: &str, watchers, per_s| TopicStats { topic: topic.to_owned(), watchers, per_s };
    let told = ServerStats {
        time: NOW + 1_000_000,
        period_ms: 1_000,
        version: "0.1.0".to_owned(),
        uptime_ms: 86_400_000,
        memory_bytes: Some(47_001_600),
        tape: TapeStats {
            position: 1_234_567,
            batches_per_s: 987.5,
            events: 4_294_967_296,
            events_per_s: 50_000.0,
            publications: 3,
            faults: 1,
            instruments: 10_000,
        },
        recording: RecordingStats {
            state: "ended".to_owned(),
            position: 1_234_000,
            files: 2,
            bytes: 40_000_000,
            error: "No space left on device (os error 28)".to_owned(),
        },
        feed: FeedStats {
            kind: "replay".to_owned(),
            state: "live".to_owned(),
            speed: Speed::Times(4.0),
            clock: NOW - 1,
            behind_ms: 12,
            reanchored: 2,
        },
        sessions: SessionStats {
            open: 1_000,
            max: 10_000,
            blocked: 1,
            opened: 1_005,
            closed: 5,
            closed_by_code: [("1000".to_owned(), 4), ("1006".to_owned(), 1)].into(),
            refused: 7,
        },
        shards: vec![
            ShardStats {
                sessions: 500,
                blocked: 1,
                views: 3,
                busy: 0.425,
                turns_per_s: 990.1,
                frames_built_per_s: 1_200.0,
                sends_per_s: 495_000.3,
                bytes_per_s: 12_345_678.9,
                ticks_per_s: 25_000_000.0,
                merged_per_s: 1_500.0,
                behind: 0,
                late: false,
            },
            ShardStats { late: true, behind: 300, ..ShardStats::default() },
        ],
        latency: LatencyStats {
            bounds_us: vec![100, 1_000],
            counts: vec![900, 99, 1],
            p50_us: Some(56),
            p90_us: Some(100),
            p99_us: Some(918),
            p999_us: Some(1_000),
        },
        topics: TopicsStats {
            by_rate: vec![topic("quote:AAPL", 900, Some(120.5)), topic("trades:AAPL", 0, Some(30.0))],
            by_watchers: vec![topic("quote:*", 899, None), topic("quote:AAPL", 1, Some(120.5))],
            partial: true,
        },
        slow: vec![SlowSession {
            session: 17,
            shard: 1,
            topics: 10_000,
            lag: 2_500,
            lag_ms: 2_480,
            stalled_s: 2,
            waiting: 120_000,
            merged: Some(110_000),
            backlog_bytes: 16_384,
        }],
    };
    script.update("a busy server", 1, 1_000, |sink| sink.stats(&told));
    script.update("between the states of the market", 1, 0, |sink| {
        sink.status(None, &Status { state: TradingState::Open, ts_event: at(0) });
        sink.stats(&ServerStats { time: NOW, ..ServerStats::default() });
        sink.definition(&apple());
    });
    script
}

/// Messages of channels and states in them, between those of the market; and how many watch.
fn channels() -> Script {
    let mut script = Script::new("channels", 10, NOW);
    let desk = Symbol::new("desk").unwrap();
    let word = |text: &str| Word::new(text).unwrap();
    let json = |value: &Value| Json::new(value, Message::MAX_DATA).unwrap();
    let message = |from: Option<&str>, event: Option<&str>, data: &Value, micros| {
        let (from, event) = (from.map(word), event.map(word));
        let (channel, data, ts_event) = (desk.clone(), json(data), at(micros));
        Arc::new(Message { channel, from, event, data, is_spread: false, except: None, ts_event })
    };
    let all = [
        message(Some("Ann"), Some("chat message"), &json!("hello"), 0),
        message(None, None, &json!({ "headline": "Äpfel", "importance": 2, "tickers": ["AAPL", null] }), -1),
        message(Some("Bob"), None, &json!(1.5), 2_000_000),
    ];
    let (whole, last) = (ring(&all, 3), ring(&all, 1));
    script.update("messages of a channel", 2, 1_000, |sink| {
        sink.channel(&desk, &ChannelEntries::Messages(whole.owed(Position::START, Position::new(2))));
    });
    script.update("one more, after a quote", 1, 1_000, |sink| {
        sink.definition(&apple());
        sink.quote(&apple(), 15, &quote(Some(18_941), 300, Some(18_943), 200, 0));
        sink.channel(&desk, &ChannelEntries::Messages(whole.owed(Position::new(2), Position::MAX)));
    });
    script.update("those before are not kept any more", 1, 0, |sink| {
        sink.channel(&desk, &ChannelEntries::Messages(last.owed(Position::new(1), Position::MAX)));
    });
    script.update("a number without messages", 1, 0, |sink| {
        sink.channel(&desk, &ChannelEntries::Messages(last.owed(Position::new(1), Position::new(2))));
    });
    let (ann, bob) = (word("Ann"), word("Bob"));
    let typing = json(&json!({ "typing": true }));
    script.update("all states of a channel", 1, 0, |sink| {
        let states = vec![(&ann, Some(&typing)), (&bob, Some(&typing))];
        sink.channel(&desk, &ChannelEntries::States(StateRun { whole: true, states }));
    });
    script.update("one of them has ended", 1, 0, |sink| {
        sink.channel(&desk, &ChannelEntries::States(StateRun { whole: false, states: vec![(&ann, None)] }));
    });
    script.update("none is left", 1, 0, |sink| {
        sink.channel(&desk, &ChannelEntries::States(StateRun { whole: true, states: Vec::new() }));
    });
    script.update("how many watch", 1, 0, |sink| {
        sink.image(&apple(), Kind::Watchers, 1, Image::Watchers(3));
    });
    script
}

fn definitions() -> Script {
    let mut script = Script::new("definitions", 1, NOW);
    let unknown = Instrument { id: InstrumentId(1), ..Instrument::unknown(Symbol::new("A B").unwrap()) };
    script.update("known by its symbol only", 1, 0, |sink| sink.definition(&unknown));
    script.update("in full", 1, 0, |sink| {
        sink.definition(&apple());
        sink.quote(&apple(), 15, &quote(Some(18_941), 300, Some(18_943), 200, 0));
    });
    let finer = apple().refined(2, 1);
    script.update(
        "finer scales: what is kept is multiplied, and a field is told in the new units",
        1,
        0,
        |sink| {
            sink.definition(&finer);
            sink.quote(&finer, 1, &quote(Some(1_894_055), 0, None, 0, 0));
        },
    );
    let renamed =
        Instrument { name: "Äpfel & \"Söhne\"".to_owned(), sector: String::new(), ..finer.clone() };
    script.update("changed reference data", 1, 0, |sink| sink.definition(&renamed));
    for (number, symbol) in (2..).zip(["A,B", "@tech", "*", "XYZ*", "@107", "币安人生USDT"]) {
        let of = Instrument { id: InstrumentId(number), ..Instrument::unknown(Symbol::new(symbol).unwrap()) };
        script.update("a symbol stands as it is", 1, 0, |sink| sink.definition(&of));
    }
    script
}

/// The tape goes on at another moment: back in time, where other instruments have the numbers.
fn resets() -> Script {
    let mut script = Script::new("resets", 10, NOW);
    let trades = [trade(18_942, 100, Side::Buy, "", 0), trade(18_941, 1, Side::Sell, "", 1)];
    let (all, last) = (ring(&trades, 2), ring(&trades, 1));
    let since = |ring: &Ring<Trade>, position, tell: &mut dyn FnMut(&Run<'_, Trade>)| {
        tell(&ring.owed(Position::new(position), Position::MAX));
    };
    script.update("before it", 1, 0, |sink| {
        sink.definition(&apple());
        sink.quote(&apple(), 15, &quote(Some(18_941), 300, Some(18_943), 200, 0));
        since(&all, 0, &mut |run| sink.trades(&apple(), true, run));
    });
    let other = Instrument {
        id: apple().id,
        price_scale: 0,
        anchor: Price::new(5),
        ..Instrument::unknown(Symbol::new("OTHER").unwrap())
    };
    let upto = script.plus(1, -60_000_000);
    script.encode("a minute back, more to follow", false, upto, false, |sink| {
        sink.reset();
        sink.definition(&other);
        sink.quote(&other, 15, &quote(Some(6), 1, None, 0, 0));
    });
    script.encode("the rest of it: a ring is counted from where it is", false, upto, true, |sink| {
        since(&last, 0, &mut |run| sink.trades(&other, true, run));
    });
    script.update("nothing but a reset", 1, 5, Owed::reset);
    script
}

/// An instrument moves from one sector to another and back, under sets of both.
fn moves() -> Script {
    let mut script = Script::new("moves", 10, NOW);
    let all = [trade(18_942, 100, Side::Buy, "", 0), trade(18_941, 1, Side::Sell, "", 1)];
    let (trades, bars) = (ring(&all, 1), ring(&[bar(-2, &[18_900]), bar(-1, &[18_890])], 1));
    let energy = Instrument { sector: "energy".to_owned(), ..apple() };
    let whole = quote(Some(18_941), 300, Some(18_943), 200, 0);
    script.update("one that joins comes whole, its rings with their numbers", 1, 0, |sink| {
        sink.definition(&apple());
        sink.joined(&apple(), Kind::Quote);
        sink.quote(&apple(), 15, &whole);
        sink.joined(&apple(), Kind::Trades);
        sink.trades(&apple(), true, &trades.owed(Position::START, Position::MAX));
        sink.joined(&apple(), Kind::Bars1s);
        sink.closed_bars(&apple(), Kind::Bars1s, true, &bars.owed(Position::START, Position::MAX));
    });
    script.update("one that leaves is said to, behind what came before of its ring", 1, 0, |sink| {
        sink.definition(&energy);
        for kind in Kind::ALL {
            sink.left(&energy, kind);
        }
    });
    script.update("nothing is known of one that joins again", 1, 0, |sink| {
        sink.definition(&apple());
        for kind in Kind::ALL {
            sink.joined(&apple(), kind);
        }
        sink.trades(&apple(), true, &ring(&[all[0]; 7], 2).owed(Position::START, Position::MAX));
        sink.status(Some(&apple()), &Status { state: TradingState::Open, ts_event: at(0) });
    });
    script
}

fn extremes() -> Script {
    let mut script = Script::new("extremes", (1 << 53) - 11, SAFE_INTEGER - 1_000_000);
    let far = Instrument { id: InstrumentId(u32::MAX), anchor: Price::new(1), ..bitcoin() };
    script.update("prices and sizes as large as they get", 9, 0, |sink| {
        sink.definition(&far);
        sink.quote(&far, 15, &quote(Some(-SAFE_INTEGER + 1), SAFE_INTEGER, Some(SAFE_INTEGER), 1, 0));
    });
    script.update("the last position and the last time", 1, 1_000_000, |sink| {
        sink.quote(&far, 7, &quote(Some(0), 0, Some(1_i64 << 32), 1, 0));
    });
    script.update("a moment as far back as it gets", 0, 0, |sink| {
        sink.status(Some(&far), &Status { state: TradingState::Open, ts_event: Timestamp::from_micros(0) });
    });
    for edge in [127, 128, 255, 256, 65_535, 65_536, 4_294_967_295, 4_294_967_296] {
        script.update(&format!("integers about {edge}"), 0, 0, |sink| {
            sink.quote(&far, 15, &quote(Some(1 + edge), edge, Some(1 - edge), edge + 1, 0));
        });
    }
    script
}

/// Units beyond 2^53, which are told as text.
fn wide() -> Script {
    let price = |units: &str| Price::from_units(units.parse().unwrap()).unwrap();
    let size = |units: &str| Size::from_units(units.parse().unwrap()).unwrap();
    let anchor = price("1850123456789012345678");
    let before = Instrument {
        price_scale: 18,
        size_scale: 8,
        tick_size: 10_000_000_000_000_000,
        anchor,
        previous_close: price("1849000000000000000001"),
        ..bitcoin()
    };
    let traded = |units: &str, amount: &str, micros| Trade {
        price: price(units),
        size: size(amount),
        ..trade(0, 0, Side::Buy, "", micros)
    };
    let trades = [
        traded("1850123456789012345679", "100000000000000012345678", 0),
        traded("1234", "9007199254740991", 5),
        traded("1860123456789012345678", "9007199254740992", 7),
    ];
    let mut open = Bar::open(at(0), Interval::Second, &trades[0]);
    trades[1..].iter().for_each(|trade| open.add(Interval::Second, trade, true));
    let closed = ring(&[open, Bar::open(at(1_000_000), Interval::Second, &trades[2])], 4);
    let mut script = Script::new("wide", 3, NOW);
    script.update("an anchor of more digits than a double has", 1, 0, |sink| {
        sink.definition(&before);
        let safe = Size::new(SAFE_INTEGER);
        let bid = price("1850132463988267086669");
        sink.quote(
            &before,
            15,
            &Quote {
                bid,
                bid_size: safe,
                ask: price("1850132463988267086670"),
                ask_size: size("9007199254740992"),
                ..quote(None, 0, None, 0, 0)
            },
        );
        sink.quote(
            &before,
            15,
            &Quote {
                bid: Price::new(-1),
                bid_size: size("100000000000000012345678"),
                ask: anchor,
                ask_size: Size::ZERO,
                ..quote(None, 0, None, 0, 0)
            },
        );
    });
    script.update("trades, each beside the one before", 1, 0, |sink| {
        sink.trades(&before, true, &ring(&trades, 4).owed(Position::START, Position::MAX));
    });
    script.update("bars with sums of more than 64 bits", 1, 0, |sink| {
        sink.closed_bars(&before, Kind::Bars1s, true, &closed.owed(Position::START, Position::MAX));
        sink.bar(&before, Kind::Bars1m, 255, Some(&open), Price::NONE);
        sink.bar(&before, Kind::Day, 511, Some(&open), before.previous_close);
    });
    let after = before.refined(0, 10);
    script.update("the same at the finest scale", 1, 0, |sink| {
        sink.definition(&after);
        sink.bar(&after, Kind::Day, 32, Some(&open.refined(0, 10)), Price::NONE);
    });
    script
}

fn answers() -> Vec<(&'static str, Answer)> {
    let granted = |topic: &str| TopicAnswer::granted(topic.to_owned());
    let refusal = Refusal {
        code: ErrorCode::UnknownTopic,
        message: "unknown topic \"qoute:AAPL\": did you mean \"quote:AAPL\"?".to_owned(),
        nearest: Some("quote:AAPL".to_owned()),
    };
    let limits = Limits { topics: 1024, message_bytes: 65_536, requests_per_second: 50, max_hz: 1000.0 };
    vec![
        (
            "welcome",
            Answer::Welcome {
                protocol: "tickcast.v1".to_owned(),
                server: "tickcast/0.1.0".to_owned(),
                epoch: (1 << 53) - 1,
                begins: 0,
                position: 1000,
                time: NOW,
                heartbeat_ms: 5000,
                limits,
            },
        ),
        (
            "welcome to a tape that began anew",
            Answer::Welcome {
                protocol: "tickcast.v1".to_owned(),
                server: "tickcast/0.1.0".to_owned(),
                epoch: 5,
                begins: 999,
                position: 1000,
                time: NOW,
                heartbeat_ms: 5000,
                limits,
            },
        ),
        (
            "subscribed",
            Answer::Subscribed {
                id: Some(Id::Number(7)),
                epoch: 5,
                position: 1000,
                resumed: Some(true),
                topics: vec![
                    TopicAnswer { instrument: Some(0), ..granted("quote:AAPL") },
                    TopicAnswer {
                        pending: true,
                        nearest: Some("quote:AAPL".to_owned()),
                        ..granted("quote:AAPM")
                    },
                    granted("trades:*"),
                    TopicAnswer::refused("qoute:AAPL".to_owned(), refusal.clone()),
                ],
            },
        ),
        (
            "subscribed by the query of the URL",
            Answer::Subscribed {
                id: None,
                epoch: 5,
                position: 0,
                resumed: None,
                topics: vec![granted("status")],
            },
        ),
        (
            "unsubscribed",
            Answer::Unsubscribed { id: Some(Id::Text("a".to_owned())), topics: vec![granted("status")] },
        ),
        ("opened", Answer::Opened { id: Some(Id::Number(8)), position: 1000, time: NOW }),
        ("closed", Answer::Closed { id: None }),
        ("reset", Answer::Reset { begins: 1001 }),
        ("pong", Answer::Pong { id: None, time: NOW, position: 1001 }),
        ("lag", Answer::Lag { lag_ms: 1_250 }),
        (
            "stats",
            Answer::Stats {
                id: None,
                position: 1001,
                lag: 3,
                lag_ms: 2,
                frames: 10,
                bytes: 12_345,
                events: 500,
                delivered: 40,
            },
        ),
        (
            "replay",
            Answer::Replay(ReplayState {
                id: Some(Id::Number(2)),
                now: "2026-11-22T18:55:44Z".to_owned(),
                start: Some("2026-11-22T14:30:00Z".to_owned()),
                controllable: true,
                room: Some("study".to_owned()),
                ..ReplayState::of(
                    &FeedStatus { kind: FeedKind::Replay, state: FeedState::Paused, speed: Speed::Max },
                    "paused",
                )
            }),
        ),
        (
            "checksum",
            Answer::Checksum {
                id: Some(Id::Number((1 << 53) - 1)),
                position: 1001,
                topics: vec![
                    TopicChecksum {
                        topic: "quote:AAPL".to_owned(),
                        checksum: Some(tickcast::wire::checksum(
                            "quote:AAPL",
                            [Some(18_941), Some(300), None, Some(0)],
                        )),
                        error: None,
                    },
                    TopicChecksum { topic: "qoute:AAPL".to_owned(), checksum: None, error: Some(refusal) },
                ],
            },
        ),
        ("published", Answer::Published { id: Some(Id::Number(12)), position: 1002 }),
        ("fault", Answer::Fault { id: Some(Id::Number(10)), fault: "mute".to_owned(), for_ms: Some(5000) }),
        (
            "error",
            Answer::Error {
                id: None,
                code: ErrorCode::UnknownOp,
                message: "unknown op \"subscrbe\": did you mean \"subscribe\"?".to_owned(),
            },
        ),
        (
            "goodbye",
            Answer::Goodbye {
                code: 1012,
                reason: "the server restarts".to_owned(),
                retry_after_ms: 500,
                jitter_ms: 2000,
            },
        ),
    ]
}

fn requests() -> Vec<(&'static str, Value)> {
    vec![
        (
            "subscribe",
            json!({ "op": "subscribe", "id": 7, "topics": ["quote:AAPL", "trades:*", "day:@technology", "status"] }),
        ),
        (
            "subscribe with all options",
            json!({ "op": "subscribe", "id": "a", "topics": ["quote:AAPL"], "since": { "epoch": 9_007_199_254_740_991_u64, "position": 1000 },
                "max_hz": 2.5, "times": true }),
        ),
        ("lift the rate cap", json!({ "op": "subscribe", "topics": ["quote:AAPL"], "max_hz": null })),
        ("unsubscribe", json!({ "op": "unsubscribe", "topics": ["quote:AAPL"] })),
        ("open", json!({ "op": "open", "id": 8, "session": 1 })),
        (
            "subscribe in another session",
            json!({ "op": "subscribe", "session": 1, "topics": ["day:*"], "max_hz": 1.0 }),
        ),
        ("close", json!({ "op": "close", "session": 15 })),
        ("ping", json!({ "op": "ping", "id": 0 })),
        ("stats", json!({ "op": "stats", "enabled": true })),
        ("checksum", json!({ "op": "checksum", "id": 9, "topics": ["quote:AAPL", "bars.1m:AAPL"] })),
        ("replay: how it stands", json!({ "op": "replay", "id": 1 })),
        ("replay: seek", json!({ "op": "replay", "id": 2, "action": "seek", "to": "2026-11-22T18:55:44Z" })),
        ("replay: speed", json!({ "op": "replay", "action": "speed", "speed": 2.5 })),
        ("replay: step", json!({ "op": "replay", "action": "step", "by": "1s" })),
        ("fault: mute", json!({ "op": "fault", "id": 10, "fault": "mute", "for_ms": 5000 })),
        ("fault: delay", json!({ "op": "fault", "fault": "delay", "by_ms": 250 })),
        (
            "fault: slow",
            json!({ "op": "fault", "fault": "slow", "bytes_per_second": 1000, "for_ms": 600_000 }),
        ),
        ("fault: drop", json!({ "op": "fault", "fault": "drop", "code": 1012 })),
        ("fault: garble", json!({ "op": "fault", "fault": "garble", "what": "frame" })),
        (
            "publish a message",
            json!({ "op": "publish", "id": 12, "topic": "messages:desk", "from": "Ann", "event": "chat message", "data": "hello" }),
        ),
        (
            "publish a state that ends by itself",
            json!({ "op": "publish", "topic": "states:desk", "key": "Ann", "data": { "typing": true }, "ttl_ms": 5000 }),
        ),
        ("end a state", json!({ "op": "publish", "topic": "states:desk", "key": "Ann", "data": null })),
        ("no fault", json!({ "op": "fault", "fault": "none" })),
        (
            "subscribe to symbols that need an escape, and to some that do not",
            json!({ "op": "subscribe", "topics": ["quote:A%2CB", "quote:%40tech", "quote:%2A", "quote:XYZ*", "quote:@107", "quote:币安人生USDT"] }),
        ),
    ]
}

/// What a connection with three sessions is sent behind its welcome, marked with the number of the session;
/// the first is not.
fn sessions() -> Value {
    let number = |number| SessionNumber::new(number).unwrap();
    let (first, second, last) = (number(0), number(1), number(15));
    let start = Upto { position: Position::new(1000), time: at(0) };
    let later = Upto { position: Position::new(1002), time: at(20_000) };
    let opened = |id, Upto { position, time }: Upto| Answer::Opened {
        id: Some(Id::Number(id)),
        position: position.get(),
        time: time.micros(),
    };
    let whole = quote(Some(18_941), 300, Some(18_943), 200, 0);
    let mut encoder = UpdateEncoder::new(tickcast::wire::FULL_BYTES);
    let payload = |frame: Vec<u8>| frame[if frame[1] < 126 { 2 } else { 4 }..].to_vec();
    let mut frames = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, text: Vec<u8>| {
        let json: Value = serde_json::from_slice(&payload(text)).unwrap();
        frames.push(json!({ "name": name, "hex": hex(&payload(bytes)), "json": json }));
    };
    let answer = |session: SessionNumber, answer: &Answer| {
        let written = |form: Form| {
            let mut frame = Vec::new();
            match form.encoding() {
                Encoding::MessagePack => form.write(&answer.to_msgpack(), &mut frame),
                Encoding::Json => form.write(answer.to_json().as_bytes(), &mut frame),
            }
            frame
        };
        [Form::MSGPACK, Form::JSON].map(|form| written(form.in_session(session)))
    };
    let mut update = |session: SessionNumber, (from, upto): (Upto, Upto), mask: u16| {
        [Form::MSGPACK, Form::JSON].map(|form| {
            let mut frame = Vec::new();
            encoder.begin(form.in_session(session), false, from, upto);
            if from == start {
                encoder.definition(&apple());
            }
            if mask > 0 {
                encoder.quote(&apple(), mask, &whole);
            }
            encoder.finish(true, &mut frame);
            frame
        })
    };
    let [bytes, text] = answer(second, &opened(8, start));
    add("a second session begins where the tape is", bytes, text);
    let [bytes, text] = update(first, (start, later), 1);
    add("the first is told as if there were no other", bytes, text);
    let [bytes, text] = answer(last, &opened(9, later));
    add("a session has the last number that there may be", bytes, text);
    let [bytes, text] = update(second, (start, later), 15);
    add("the second counts from where it began", bytes, text);
    let [bytes, text] = update(last, (later, later), 0);
    add("a heartbeat of the last", bytes, text);
    let topics = vec![TopicAnswer::granted("status".to_owned())];
    let [bytes, text] = answer(second, &Answer::Unsubscribed { id: Some(Id::Number(10)), topics });
    add("an answer in the second", bytes, text);
    let [bytes, text] = answer(last, &Answer::Closed { id: Some(Id::Number(11)) });
    add("the end of the last", bytes, text);
    let welcome = json!({ "position": start.position.get(), "time": start.time.micros() });
    json!({ "name": "sessions", "welcome": welcome, "frames": frames })
}

fn scripts() -> [Script; 11] {
    [
        quotes(),
        trades(),
        bars(),
        states(),
        stats(),
        channels(),
        definitions(),
        resets(),
        moves(),
        extremes(),
        wide(),
    ]
}

/// The words of the protocol, for those who do not read Rust: `tickcast::wire::schema`, and what the market
/// and the hub have names for.
fn schema() -> Value {
    let fields = |fields: &[Field]| -> Value {
        fields.iter().map(|f| json!({ "name": f.name, "bit": f.bit, "unit": f.unit })).collect()
    };
    let topic = |topic: &TopicSchema| {
        let image = topic.image.map(|i| json!({ "tag": i.tag, "fields": i.name, "all": i.all }));
        let ring = topic.ring.map(
            |r| json!({ "tag": r.tag, "numbered": r.numbered, "entry": r.entry, "list": r.list, "least": r.least }),
        );
        json!({ "kind": topic.kind.name(), "number": topic.kind.index(), "image": image, "ring": ring })
    };
    let asked = |asked: &[OpSchema]| -> Value {
        asked.iter().map(|op| json!({ "name": op.name, "fields": op.fields })).collect()
    };
    let close = |known: &CloseSchema| {
        let then = match known.then {
            Return::Yes => "return",
            Return::Slower => "return slower",
            Return::No => "stay away",
        };
        json!({ "code": known.code.0, "meaning": known.meaning, "then": then })
    };
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap();
    let Backoff { first, first_when_busy, longest, longest_asked } = schema::BACKOFF;
    json!({
        "protocol": PROTOCOL,
        "subprotocols": { "msgpack": PROTOCOL_MSGPACK, "json": PROTOCOL_JSON },
        "topics": TOPICS.iter().map(topic).collect::<Vec<_>>(),
        "channel_topics": Kind::OF_CHANNELS.map(Kind::name),
        "market_topics": [Topic::STATUS.to_string(), Topic::STATS.to_string()],
        "fields": {
            "quote": fields(QuoteFields::FIELDS),
            "bar": fields(BarFields::FIELDS),
            "watchers": fields(WatchersFields::FIELDS),
        },
        "tags": {
            "quote": tag::QUOTE, "quote_with_time": tag::QUOTE_WITH_TIME,
            "left": tag::LEFT, "joined": tag::JOINED, "reset": tag::RESET, "status": tag::STATUS,
            "feed": tag::FEED, "stats": tag::STATS, "definition": tag::DEFINITION,
            "messages": tag::MESSAGES, "states": tag::STATES,
        },
        "trade_flags": {
            "side": trade_flag::SIDE, "conditions": trade_flag::CONDITIONS, "counts": trade_flag::COUNTS,
        },
        "sides": schema::SIDES.map(Side::name),
        "counts": Counts::NAMES.iter().map(|(name, counts)| ((*name).to_owned(), counts.bits().into())).collect::<Map<_, _>>(),
        "trading_states": TradingState::ALL.iter().map(|state| state.name()).collect::<Vec<_>>(),
        "feed_kinds": FeedKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "feed_states": FeedState::ALL.iter().map(|state| state.name()).collect::<Vec<_>>(),
        "largest_integer": SAFE_INTEGER,
        "largest_scale": MAX_SCALE,
        "ops": asked(&schema::OPS),
        "replay_actions": asked(&schema::ACTIONS),
        "faults": asked(&schema::FAULTS),
        "answers": schema::ANSWERS,
        "error_codes": ErrorCode::ALL,
        "close_codes": CloseCode::KNOWN.iter().map(close).collect::<Vec<_>>(),
        "backoff": {
            "first_ms": ms(first), "first_when_busy_ms": ms(first_when_busy), "longest_ms": ms(longest),
            "longest_asked_ms": ms(longest_asked),
        },
        "max_hz": { "least": MIN_HZ, "most": MAX_HZ },
        "speed": { "least": Speed::RANGE.start(), "most": Speed::RANGE.end() },
    })
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name).with_extension("json")
}

/// The file of that name holds this; or is made to, with `UPDATE_VECTORS`.
#[track_caller]
fn check_file(name: &str, expected: &Value) {
    let path = path(name);
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, format!("{expected:#}\n")).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    let frames = |file: &Value| file["frames"].as_array().cloned().unwrap_or_default();
    for (found, expected) in frames(&found).iter().zip(&frames(expected)) {
        assert_eq!(found, expected, "{name}: {}", expected["name"]);
    }
    assert_eq!(&found, expected, "{name}");
}

/// Each frame of a file as a fresh decoder reads it.
fn decoded(file: &Value) -> Vec<Value> {
    let welcome = &file["welcome"];
    let position = Position::new(welcome["position"].as_u64().unwrap());
    let mut decoder = UpdateDecoder::new(position, Timestamp::from_micros(welcome["time"].as_i64().unwrap()));
    let frames = file["frames"].as_array().unwrap().iter();
    frames
        .map(|frame| update_json(&decoder.decode(&unhex(frame["hex"].as_str().unwrap())).unwrap()))
        .collect()
}

#[test]
fn the_encoder_writes_what_the_files_hold() {
    for script in scripts() {
        check_file(script.name, &script.file());
    }
}

#[test]
fn every_update_decodes_to_its_json_form() {
    for script in scripts() {
        let file = script.file();
        for (frame, decoded) in file["frames"].as_array().unwrap().iter().zip(decoded(&file)) {
            assert_eq!(decoded, frame["json"], "{}: {}", script.name, frame["name"]);
        }
    }
}

#[test]
fn every_answer_is_the_same_message_in_both_forms() {
    let frames: Vec<Value> = answers()
        .into_iter()
        .map(|(name, answer)| {
            let (bytes, json) = (answer.to_msgpack(), serde_json::from_str(&answer.to_json()).unwrap());
            assert_eq!(rmp_serde::from_slice::<Answer>(&bytes).unwrap(), answer, "{name}");
            assert_eq!(serde_json::from_value::<Answer>(Value::clone(&json)).unwrap(), answer, "{name}");
            json!({ "name": name, "hex": hex(&bytes), "json": json })
        })
        .collect();
    check_file("answers", &json!({ "name": "answers", "frames": frames }));
}

#[test]
fn sessions_that_share_a_connection_are_told_apart_in_both_forms() {
    let file = sessions();
    check_file("sessions", &file);
    let mut decoders = std::collections::BTreeMap::new();
    let begin = |place: &Value| {
        let position = Position::new(place["position"].as_u64().unwrap());
        UpdateDecoder::new(position, Timestamp::from_micros(place["time"].as_i64().unwrap()))
    };
    decoders.insert(SessionNumber::FIRST, begin(&file["welcome"]));
    for frame in file["frames"].as_array().unwrap() {
        let bytes = unhex(frame["hex"].as_str().unwrap());
        let (number, message) = SessionNumber::split(&bytes);
        let mut json = frame["json"].clone();
        let told = json.as_object_mut().unwrap().remove("session").map(|told| told.as_u64().unwrap());
        assert_eq!(told.and_then(SessionNumber::new).unwrap_or_default(), number, "{}", frame["name"]);
        if json["type"] == "update" {
            let update = decoders.get_mut(&number).expect("it was opened").decode(message).unwrap();
            assert_eq!(update_json(&update), json, "{}", frame["name"]);
        } else {
            let answer = rmp_serde::from_slice::<Answer>(message).unwrap();
            assert_eq!(serde_json::to_value(&answer).unwrap(), json, "{}", frame["name"]);
            match answer {
                Answer::Opened { .. } => drop(decoders.insert(number, begin(&json))),
                Answer::Closed { .. } => drop(decoders.remove(&number)),
                _ => {}
            }
        }
    }
}

#[test]
fn every_request_is_read_the_same_from_both_forms() {
    let frames: Vec<Value> = requests()
        .into_iter()
        .map(|(name, json)| {
            let bytes = rmp_serde::to_vec_named(&json).unwrap();
            let request = Request::from_json(&json.to_string()).unwrap();
            assert_eq!(Request::from_msgpack(&bytes).unwrap(), request, "{name}");
            json!({ "name": name, "hex": hex(&bytes), "json": json })
        })
        .collect();
    check_file("requests", &json!({ "name": "requests", "frames": frames }));
}

#[test]
fn the_schema_says_what_the_tables_say() {
    check_file("schema", &schema());
}

/// The rows of the table in `docs/protocol.md` whose head begins so, cell by cell.
fn table(head: &str) -> Vec<Vec<String>> {
    const PROTOCOL_TEXT: &str = include_str!("../../docs/protocol.md");
    let rows = PROTOCOL_TEXT.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "docs/protocol.md has a table {head:?}");
    rows
}

/// What stands between backticks.
fn words(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The cells of a table in docs/protocol.md begin with these words, one row each and in this order.
#[track_caller]
fn check_rows(head: &str, expected: &[&str]) {
    let rows = table(head);
    let first: Vec<&str> = rows.iter().map(|row| words(&row[0])[0]).collect();
    assert_eq!(first, expected, "the table {head:?} in docs/protocol.md");
}

#[test]
fn the_text_has_the_topics_and_their_fields() {
    let all: Vec<String> = table("| topic | what")
        .iter()
        .flat_map(|row| words(&row[0]).into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let mut expected: Vec<String> = Kind::ALL.iter().map(|kind| format!("{}:SYMBOL", kind.name())).collect();
    expected.extend(Kind::OF_CHANNELS.map(|kind| format!("{}:CHANNEL", kind.name())));
    expected.extend([Topic::STATUS, Topic::STATS].map(|topic| topic.to_string()));
    assert_eq!(all, expected, "the table of topics in docs/protocol.md");
    // Fields stand with their bits in the table of tags.
    let tags = table("| tag | entry");
    let row = |tag: String| tags.iter().find(|row| row[0].split([',', ' ']).any(|word| word == tag));
    for topic in &TOPICS {
        let Some(image) = topic.image else { continue };
        let tag = if image.tag == tag::QUOTE { "1–15".to_owned() } else { image.tag.to_string() };
        let row = row(tag.clone()).unwrap_or_else(|| panic!("docs/protocol.md has no row for tag {tag}"));
        for field in image.fields.iter().filter(|field| field.bit & image.all != 0) {
            let said = format!("{} `{}`", field.bit, field.name);
            assert!(row[2].contains(&said), "docs/protocol.md, tag {tag}: {said}");
        }
    }
    for topic in TOPICS.iter().filter_map(|topic| topic.ring) {
        for tag in [topic.tag, topic.numbered] {
            assert!(row(tag.to_string()).is_some(), "docs/protocol.md has no row for tag {tag}");
        }
    }
    let others = [
        (tag::MESSAGES, "messages"),
        (tag::STATES, "states"),
        (tag::LEFT, "left"),
        (tag::JOINED, "joined"),
        (tag::RESET, "reset"),
        (tag::STATUS, "trading state"),
        (tag::FEED, "feed"),
        (tag::STATS, "stats"),
        (tag::DEFINITION, "definition"),
    ];
    for (tag, entry) in others {
        assert!(
            row(tag.to_string()).is_some_and(|row| row[1].starts_with(entry)),
            "docs/protocol.md: {tag} {entry}"
        );
    }
    let numbered = |names: &[&str]| {
        let named = names.iter().enumerate().map(|(number, name)| format!("{number} {name}"));
        named.collect::<Vec<_>>().join(", ")
    };
    let names = |tag: u8, names: &[&str]| {
        let said = numbered(names);
        assert!(row(tag.to_string()).unwrap()[2].contains(&said), "docs/protocol.md, tag {tag}: {said}");
    };
    names(tag::STATUS, &TradingState::ALL.iter().map(|state| state.name()).collect::<Vec<_>>());
    names(tag::FEED, &FeedKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>());
    names(tag::FEED, &FeedState::ALL.iter().map(|state| state.name()).collect::<Vec<_>>());
    names(
        tag::LEFT,
        &Kind::ALL.map(|kind| format!("`{}`", kind.name())).iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[test]
fn the_text_has_the_ops_answers_and_faults() {
    check_rows("| op | fields", &schema::OPS.map(|op| op.name));
    for (op, row) in schema::OPS.iter().zip(table("| op | fields")) {
        // Those of `replay` and `fault` have texts of their own.
        for field in op.fields.iter().filter(|_| !["replay", "fault"].contains(&op.name)) {
            assert!(
                words(&row[1]).iter().any(|word| word.trim_end_matches('?') == *field),
                "{}: {field}",
                op.name
            );
        }
    }
    let answers: std::collections::BTreeSet<String> =
        table("| type | fields").iter().map(|row| words(&row[0])[0].to_owned()).collect();
    let known = schema::ANSWERS.into_iter().chain(["update"]).map(str::to_owned);
    assert_eq!(answers, known.collect());
    let errors = table("| type | fields").into_iter().find(|row| row[0] == "`error`").unwrap();
    for code in ErrorCode::ALL {
        let code = serde_json::to_value(code).unwrap();
        assert!(words(&errors[1]).contains(&code.as_str().unwrap()), "docs/protocol.md: error code {code}");
    }
    assert_eq!(words(&errors[1]).len(), 2 + ErrorCode::ALL.len(), "`code`, `message`, and the codes");
    let faults: std::collections::BTreeSet<String> =
        table("| `fault` | fields").iter().map(|row| words(&row[0])[0].to_owned()).collect();
    assert_eq!(faults, schema::FAULTS.map(|fault| fault.name.to_owned()).into());
}

#[test]
fn the_text_has_the_close_codes_and_when_to_come_back() {
    let rows = table("| code | meaning");
    let codes: Vec<u16> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(
        codes,
        CloseCode::KNOWN.map(|known| known.code.0),
        "the table of close codes in docs/protocol.md"
    );
    for (known, row) in CloseCode::KNOWN.iter().zip(&rows) {
        let says = row.get(2).map(String::as_str).unwrap_or_default();
        let holds = match known.then {
            Return::No => !says.starts_with("yes"),
            Return::Slower => says.starts_with("yes, "),
            // Of one who closed himself nothing is said.
            Return::Yes => says.starts_with("yes") || known.code == CloseCode::NORMAL,
        };
        assert!(holds, "docs/protocol.md: {} comes back? {says:?}, but {:?}", known.code, known.then);
    }
    let text = include_str!("../../docs/protocol.md");
    let paragraph =
        text.lines().skip_while(|line| !line.starts_with("A client that comes back waits")).take(3);
    let paragraph = paragraph.collect::<Vec<_>>().join(" ");
    let slower = CloseCode::KNOWN.iter().filter(|known| known.then == Return::Slower);
    let slower: Vec<String> = slower.map(|known| known.code.to_string()).collect();
    let Backoff { first, first_when_busy, longest, longest_asked } = schema::BACKOFF;
    assert_eq!(longest_asked.as_secs(), 3600, "\"an hour at most\"");
    for said in [
        format!("{} ms at the first attempt", first.as_millis()),
        format!("{} s at most", longest.as_secs()),
        format!("After {} it begins with {} s", slower.join(" and "), first_when_busy.as_secs()),
        "an hour at most".to_owned(),
    ] {
        assert!(paragraph.replace("  ", " ").contains(&said), "docs/protocol.md does not say {said:?}");
    }
}

#[test]
fn each_topic_of_the_table_names_its_symbol() {
    let table: Vec<Value> = serde_json::from_str(include_str!("../topics.json")).unwrap();
    assert!(!table.is_empty());
    for row in &table {
        let [symbol, topic, query] = ["symbol", "topic", "query"].map(|name| row[name].as_str().unwrap());
        let read = Topic::parse(topic).unwrap();
        assert_eq!(read.scope, Scope::Symbol(Symbol::new(symbol).unwrap()), "{topic}");
        assert_eq!(read.to_string(), topic);
        let (given, _) = form_urlencoded::parse(query.as_bytes()).next().unwrap();
        assert_eq!(Topic::parse(&given).unwrap(), read, "{query}");
    }
}

#[test]
fn the_text_has_what_a_trade_counts_for() {
    let rows = table("| bit | word");
    for (name, counts) in Counts::NAMES {
        let row = rows
            .iter()
            .find(|row| words(&row[1]).contains(&name))
            .unwrap_or_else(|| panic!("no row for {name}"));
        let at = words(&row[1]).iter().position(|word| *word == name).unwrap();
        let bits = row[0].split(", ").nth(at).unwrap();
        let bits: u8 = bits.split(" + ").map(|bit| bit.parse::<u8>().unwrap()).sum();
        assert_eq!(bits, counts.bits(), "docs/protocol.md: {name}");
    }
}

#[test]
fn an_answer_has_one_of_the_types() {
    let types: std::collections::BTreeSet<String> = answers()
        .iter()
        .map(|(_, answer)| {
            serde_json::from_str::<Value>(&answer.to_json()).unwrap()["type"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(types, schema::ANSWERS.map(str::to_owned).into());
}

#[test]
fn the_vectors_use_every_tag() {
    let mut text = String::new();
    for script in scripts() {
        text.push_str(&script.file().to_string());
    }
    for word in [
        "\"trades\":[",
        "\"closed\":[",
        "\"bar\":{",
        "\"day:",
        "\"state\":",
        "\"feed\":",
        "\"instrument\":",
        "\"reset\":",
        "\"joined\":",
        "\"left\":",
        "\"messages\":[",
        "\"states\":{",
        "\"watchers\":",
        "\"ts_event\":",
    ] {
        assert!(text.contains(word), "{word}");
    }
}

proptest! {
    #[test]
    fn no_mutation_of_an_update_makes_the_decoder_panic_or_hoard(
        file in 0..11_usize,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let script = scripts().into_iter().nth(file).unwrap();
        let mut decoder = UpdateDecoder::new(script.welcome.position, script.welcome.time);
        for frame in &script.frames {
            let bytes = unhex(frame["hex"].as_str().unwrap());
            let mut mutated = bytes.clone();
            for (at, value) in &edits {
                *at.get_mut(&mut mutated) = *value;
            }
            if let Ok(update) = decoder.decode(&mutated) {
                prop_assert!(update.entries.len() <= mutated.len());
                // Whatever it is taken for, it can be shown.
                prop_assert!(update_json(&update).is_object());
            }
            let cut = cut.index(bytes.len());
            prop_assert!(decoder.decode(&bytes[..cut]).is_err(), "an update without its end is none");
        }
    }
}

#[test]
fn definitions_are_shared_not_copied() {
    let script = quotes();
    let mut decoder = UpdateDecoder::new(script.welcome.position, script.welcome.time);
    let mut known: Option<Arc<Instrument>> = None;
    for frame in &script.frames[..3] {
        for entry in decoder.decode(&unhex(frame["hex"].as_str().unwrap())).unwrap().entries {
            match entry {
                tickcast::wire::Entry::Definition(definition) => known = Some(definition),
                tickcast::wire::Entry::Image(instrument, Kind::Quote, _) => {
                    assert!(Arc::ptr_eq(&instrument, known.as_ref().unwrap()));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
