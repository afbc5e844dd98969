//! Random histories through every door: what was published, what a client of it is told, and what it knows
//! when it has been slow, or was cut off in the middle of a frame and came back. One model and one driver for
//! all doors; a door is what connects and reads.
//!
//! To each door applies:
//! - *exactness*: at the position that a client says it has reached, its images are what the model had there
//!   or later, and it has each trade and message once and in order;
//! - *conflation*: whatever it was told was so at some time, and never goes back; what it was not told of a
//!   ring is said exactly, and was not kept any more;
//! - *resume*: it goes on from where it was; on another tape it is told so, and begins anew.

mod doors;
mod model;

use crate::server::support::{PATIENCE, TestServer, request};
use doors::{Door, Heard, Msgpack, Poll, SocketIo, Stream, Way, WebSocket};
use model::{CHANNELS, Known, Model, SYMBOLS, TOPICS, Tick};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::Value;
use tickcast::tape::{Epoch, MemoryLog};

#[derive(Clone, Debug)]
enum Op {
    /// One batch.
    Publish(Vec<Tick>),
    /// More than a ring keeps, or a socket's buffers: so many trades of a symbol, messages of a channel, or
    /// states in it.
    Trades(usize, u16),
    Messages(usize, u16),
    States(usize, u8),
    /// The client reads so many updates, or all that there are.
    Read(u8),
    /// Its connection breaks after so many bytes more, and the next one after as many as are said.
    Cut(u16, Option<u16>),
    /// Its server is another one from now on, with another tape.
    Replace,
}

fn tick() -> impl Strategy<Value = Tick> {
    let symbol = || 0..SYMBOLS.len();
    let channel = || 0..CHANNELS.len();
    let side = || proptest::option::weighted(0.8, 1..500_u16);
    prop_oneof![
        4 => (symbol(), [side(), side()], any::<[u8; 2]>(), proptest::bool::weighted(0.05))
            .prop_map(|(symbol, prices, sizes, is_fine)| Tick::Quote(symbol, prices, sizes, is_fine)),
        4 => (symbol(), 1..500_u16, any::<u8>()).prop_map(|(symbol, price, size)| Tick::Trade(symbol, price, size)),
        1 => (symbol(), any::<bool>()).prop_map(|(symbol, is_halted)| Tick::Status(symbol, is_halted)),
        3 => (channel(), 0..100_u16).prop_map(|(channel, padding)| Tick::Message(channel, padding)),
        3 => (channel(), 0..5_u8, proptest::option::of(0..3_u8))
            .prop_map(|(channel, key, value)| Tick::State(channel, key, value)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let channel = || 0..CHANNELS.len();
    prop_oneof![
        8 => proptest::collection::vec(tick(), 1..6).prop_map(Op::Publish),
        1 => (0..SYMBOLS.len(), 1..1500_u16).prop_map(|(symbol, count)| Op::Trades(symbol, count)),
        2 => (channel(), 1..60_u16).prop_map(|(channel, count)| Op::Messages(channel, count)),
        1 => (channel(), 1..100_u8).prop_map(|(channel, count)| Op::States(channel, count)),
        4 => prop_oneof![1..4_u8, Just(u8::MAX)].prop_map(Op::Read),
        4 => (bytes(), proptest::option::weighted(0.3, bytes())).prop_map(|(after, again)| Op::Cut(after, again)),
        1 => proptest::bool::weighted(0.5).prop_map(|so| if so { Op::Replace } else { Op::Read(1) }),
    ]
}

/// Most connections break soon, in their head or their first update.
fn bytes() -> impl Strategy<Value = u16> {
    prop_oneof![2 => 0..2_000_u16, 1 => any::<u16>()]
}

fn way() -> impl Strategy<Value = Way> {
    let topics = proptest::sample::subsequence(&TOPICS[..], 1..=TOPICS.len());
    let max_hz = prop_oneof![2 => Just(None), 1 => Just(Some(20)), 1 => Just(Some(200))];
    (topics, any::<bool>(), max_hz, any::<bool>(), any::<bool>()).prop_map(
        |(topics, delta, max_hz, is_narrow, says_otherwise)| Way {
            topics,
            delta,
            max_hz,
            is_narrow,
            says_otherwise,
        },
    )
}

struct World<D> {
    epoch: u64,
    server: TestServer,
    model: Model,
    topics: Vec<&'static str>,
    door: D,
    known: Known,
}

async fn started(epoch: u64) -> TestServer {
    TestServer::start_with(|config| config.log = Box::new(MemoryLog::new(Epoch::new(epoch)))).await
}

impl<D: Door> World<D> {
    async fn play(way: Way, door: D, ops: &[Op]) {
        let (epoch, topics) = (1, way.topics);
        let (server, model, known) = (started(epoch).await, Model::new(epoch), Known::default());
        let mut world = Self { epoch, server, model, topics, door, known };
        world.door.connect(&world.server, None).await;
        for op in ops {
            world.apply(op).await;
        }
        world.read_all().await;
    }

    async fn apply(&mut self, op: &Op) {
        match *op {
            Op::Publish(ref ticks) => self.publish(ticks).await,
            Op::Trades(symbol, count) => {
                let tick = |number| Tick::Trade(symbol, 1 + number % 300, 1);
                self.publish_each(&(0..count).map(tick).collect::<Vec<_>>(), 500).await;
            }
            Op::Messages(channel, count) => {
                let tick = |number: u16| Tick::Message(channel, 3000 + number % 100);
                self.publish_each(&(0..count).map(tick).collect::<Vec<_>>(), 20).await;
            }
            Op::States(channel, count) => {
                let tick = |number| Tick::State(channel, number, Some(number % 3));
                self.publish_each(&(0..count).map(tick).collect::<Vec<_>>(), 40).await;
            }
            Op::Read(u8::MAX) => self.read_all().await,
            Op::Read(updates) => assert!(self.read(updates.into()).await, "the connection goes on"),
            Op::Cut(after, again) => {
                self.door.break_after(after.into());
                self.read(usize::MAX).await;
                if let Some(after) = again {
                    self.door.connect(&self.server, Some(after.into())).await;
                    self.read(usize::MAX).await;
                }
                self.door.connect(&self.server, None).await;
            }
            Op::Replace => {
                self.epoch += 1;
                (self.server, self.model) = (started(self.epoch).await, Model::new(self.epoch));
                self.door.connect(&self.server, None).await;
            }
        }
    }

    async fn publish_each(&mut self, ticks: &[Tick], batch: usize) {
        for ticks in ticks.chunks(batch) {
            self.publish(ticks).await;
        }
    }

    async fn publish(&mut self, ticks: &[Tick]) {
        let lines: Vec<Value> = ticks.iter().map(|tick| self.model.line(tick)).collect();
        let body: String = lines.iter().map(|line| line.to_string() + "\n").collect();
        let answer = request(self.server.address, "POST", "/v1/publish", &[], body.as_bytes()).await.json();
        assert_eq!(answer["accepted"], lines.len(), "{answer}");
        let position = answer["position"].as_u64().expect("a position");
        for line in &lines {
            self.model.take(line, position);
        }
    }

    async fn read_all(&mut self) {
        assert!(self.read(usize::MAX).await, "the connection goes on");
    }

    /// Reads so many updates, or all that there are; returns whether the connection goes on.
    async fn read(&mut self, mut updates: usize) -> bool {
        let end = self.model.last_change(&self.topics);
        let mut heard = Vec::new();
        while updates > 0 && self.known.position < end {
            let next = tokio::time::timeout(PATIENCE, self.door.hear()).await;
            let Ok(next) = next else {
                panic!("at {} of {end}: nothing comes behind {heard:?}", self.known.position)
            };
            let Some(next) = next else { return false };
            heard.push(format!("{next:?}").chars().take(200).collect::<String>());
            match next {
                Heard::Begun { since, resumed } => self.known.begin(since, resumed, &self.model),
                Heard::Update { told, position } => {
                    updates -= 1;
                    self.known.take(told, position, D::TELLS_GAPS, &self.topics, &self.model);
                }
            }
        }
        true
    }
}

/// The cases are the same each time; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` give more, and others.
fn check<D: Door>(cases: u32, door: impl Fn(Way) -> D) {
    let from_environment = ProptestConfig::default();
    let config = ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(cases, |_| from_environment.cases),
        rng_seed: match from_environment.rng_seed {
            RngSeed::Random => RngSeed::Fixed(1),
            fixed @ RngSeed::Fixed(_) => fixed,
        },
        max_shrink_iters: 500,
        failure_persistence: None,
        ..from_environment
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    proptest!(config, |(way in way(), ops in proptest::collection::vec(op(), 0..25))| {
        let door = door(way.clone());
        runtime.block_on(World::play(way, door, &ops));
    });
}

#[test]
fn json_over_websocket() {
    check(24, WebSocket::new);
}

#[test]
fn messagepack_over_websocket() {
    check(24, Msgpack::new);
}

#[test]
fn server_sent_events() {
    check(24, Stream::events);
}

#[test]
fn lines_of_json() {
    check(24, Stream::lines);
}

#[test]
fn polls() {
    check(16, Poll::new);
}

#[test]
fn socket_io_over_websocket() {
    check(24, SocketIo::websocket);
}

#[test]
fn socket_io_in_messagepack() {
    check(16, SocketIo::msgpack);
}

#[test]
fn socket_io_by_polls() {
    check(24, SocketIo::polling);
}

#[test]
fn socket_io_from_polls_to_a_websocket() {
    check(16, SocketIo::upgrading);
}
