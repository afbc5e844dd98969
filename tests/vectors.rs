//! The golden vectors of the protocol: bytes, and the JSON that they mean. The tests of every client read the same files.
//!
//! `UPDATE_VECTORS=1 cargo test --test vectors` writes them anew; every changed byte is then a changed line to review.

use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tickcast::hub::{Form, Kind, Owed, Ring, Run, Upto};
use tickcast::market::{
    Bar, Conditions, FeedKind, FeedState, FeedStats, FeedStatus, Instrument, InstrumentId, LatencyStats,
    MAX_UNITS, Price, Quote, ServerStats, SessionStats, ShardStats, Side, Size, SlowSession, Speed, Status,
    Symbol, TapeStats, Timestamp, TopicStats, TopicsStats, Trade, TradingState,
};
use tickcast::tape::Position;
use tickcast::wire::{
    Answer, ErrorCode, Id, Limits, Refusal, ReplayState, Request, TopicAnswer, TopicChecksum, UpdateDecoder,
    UpdateEncoder,
};

/// 2026-11-22T18:55:44Z, in µs.
const NOW: i64 = 1_795_373_744_000_000;

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
        let (bytes, text) = (payload(Form::MessagePack), payload(Form::Json));
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
    let mut bar = Bar::open(at(start * 1_000_000), &trades[0]);
    trades[1..].iter().for_each(|trade| bar.add(trade));
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
    let ring = ring(&all, 3);
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
        let first = crate::ring(&[trade(6_183_764, 600_000, Side::Buy, "", 0)], 8);
        sink.trades(&bitcoin(), false, &first.owed(Position::START, Position::new(1)));
    });
    script
}

fn bars() -> Script {
    let mut script = Script::new("bars", 7, NOW);
    let open = bar(0, &[18_940, 18_942, 18_939]);
    let closed =
        ring(&[bar(-2, &[18_900]), bar(-1, &[18_890, 18_910, 18_905]), bar(0, &[18_940, 18_941])], 8);
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
        for (&state, speed) in FeedState::ALL.iter().zip([1.0, 0.5, 10.0, 1000.0]) {
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
        feed: FeedStats {
            kind: "replay".to_owned(),
            state: "live".to_owned(),
            speed: Some(4.0),
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

fn extremes() -> Script {
    let mut script = Script::new("extremes", (1 << 53) - 11, MAX_UNITS - 1_000_000);
    let far = Instrument { id: InstrumentId(u32::MAX), anchor: Price::new(1), ..bitcoin() };
    script.update("prices and sizes as large as they get", 9, 0, |sink| {
        sink.definition(&far);
        sink.quote(&far, 15, &quote(Some(-MAX_UNITS + 1), MAX_UNITS, Some(MAX_UNITS), 1, 0));
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
        ("pong", Answer::Pong { id: None, time: NOW, position: 1001 }),
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
        ("ping", json!({ "op": "ping", "id": 0 })),
        ("stats", json!({ "op": "stats", "enabled": true })),
        ("checksum", json!({ "op": "checksum", "id": 9, "topics": ["quote:AAPL", "bars.1m:AAPL"] })),
        ("replay: how it stands", json!({ "op": "replay", "id": 1 })),
        ("replay: seek", json!({ "op": "replay", "id": 2, "action": "seek", "to": "2026-11-22T18:55:44Z" })),
        ("replay: speed", json!({ "op": "replay", "action": "speed", "speed": 2.5 })),
        ("replay: step", json!({ "op": "replay", "action": "step", "by": "1s" })),
        ("auth", json!({ "op": "auth", "token": "t" })),
        ("fault: mute", json!({ "op": "fault", "id": 10, "fault": "mute", "for_ms": 5000 })),
        ("fault: delay", json!({ "op": "fault", "fault": "delay", "by_ms": 250 })),
        (
            "fault: slow",
            json!({ "op": "fault", "fault": "slow", "bytes_per_second": 1000, "for_ms": 600_000 }),
        ),
        ("fault: drop", json!({ "op": "fault", "fault": "drop", "code": 1012 })),
        ("fault: garble", json!({ "op": "fault", "fault": "garble", "what": "frame" })),
        ("no fault", json!({ "op": "fault", "fault": "none" })),
    ]
}

fn scripts() -> [Script; 8] {
    [quotes(), trades(), bars(), states(), stats(), definitions(), resets(), extremes()]
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
    let frames = |file: &Value| file["frames"].as_array().unwrap().clone();
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
    frames.map(|frame| decoder.decode(&unhex(frame["hex"].as_str().unwrap())).unwrap().to_json()).collect()
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
        "\"ts_event\":",
    ] {
        assert!(text.contains(word), "{word}");
    }
}

proptest! {
    #[test]
    fn no_mutation_of_an_update_makes_the_decoder_panic_or_hoard(
        file in 0..8_usize,
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
                prop_assert!(update.to_json().is_object());
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
                tickcast::wire::Entry::Quote(instrument, _) => {
                    assert!(Arc::ptr_eq(&instrument, known.as_ref().unwrap()));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
