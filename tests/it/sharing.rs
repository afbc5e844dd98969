//! What several readers are owed is encoded once; here is that it is, to the byte, what each would be told
//! alone.

use proptest::prelude::*;
use std::sync::Arc;
use tickcast::hub::{Kind, Replica, Since, TRADES_KEPT, TopicKey, Upto, tell};
use tickcast::market::{
    Conditions, Counts, Event, Instrument, InstrumentId, Price, Quote, Side, Size, Status, Symbol, Timestamp,
    Trade, TradingState,
};
use tickcast::tape::{Batch, Epoch, Position};
use tickcast::wire::{FULL_BYTES, Form, UpdateEncoder};

const SYMBOLS: u32 = 3;
const TOPICS: usize = SYMBOLS as usize * Kind::ALL.len() + 1;

#[derive(Clone, Debug)]
enum Op {
    /// A batch, so many milliseconds after the one before.
    Publish(u16, Vec<Tick>),
    Read(Reader),
}

#[derive(Clone, Debug)]
enum Tick {
    /// Symbol, and prices and sizes from few, so that some stay as they are.
    Quote(u32, [u8; 4]),
    /// Symbol, and how many.
    Trades(u32, usize),
    Status(Option<u32>),
    /// Defines a symbol anew, perhaps with a finer scale.
    Define(u32, bool),
}

#[derive(Clone, Debug)]
struct Reader {
    /// Its topics, as bits.
    topics: u32,
    times: bool,
    /// How many positions it is behind.
    behind: u64,
    /// A topic that it has from further back, numbered, as fresh ones are.
    fresh: Option<usize>,
    /// Its flush was begun so many positions ago.
    begun: u64,
    full: bool,
}

fn op() -> impl Strategy<Value = Op> {
    let symbol = || 0..SYMBOLS;
    let tick = prop_oneof![
        6 => (symbol(), proptest::array::uniform4(1..4_u8)).prop_map(|(s, q)| Tick::Quote(s, q)),
        6 => (symbol(), 1..4_usize).prop_map(|(s, n)| Tick::Trades(s, n)),
        1 => symbol().prop_map(|s| Tick::Trades(s, TRADES_KEPT + 5)),
        1 => proptest::option::of(symbol()).prop_map(Tick::Status),
        1 => (symbol(), any::<bool>()).prop_map(|(s, finer)| Tick::Define(s, finer)),
    ];
    let behind = prop_oneof![4 => Just(1), 4 => 0..6_u64, 1 => Just(u64::MAX)];
    let reader = (
        any::<u32>(),
        any::<bool>(),
        behind,
        proptest::option::weighted(0.1, 0..TOPICS),
        prop_oneof![8 => Just(0), 1 => 1..3_u64],
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(topics, times, behind, fresh, begun, full)| Reader {
            topics,
            times,
            behind,
            fresh,
            begun,
            full,
        });
    prop_oneof![
        1 => (0..2000_u16, proptest::collection::vec(tick, 0..6)).prop_map(|(ms, t)| Op::Publish(ms, t)),
        4 => reader.prop_map(Op::Read),
    ]
}

struct World {
    replica: Replica,
    definitions: Vec<Instrument>,
    /// The clock at each position.
    times: Vec<Timestamp>,
}

impl World {
    fn new() -> Self {
        let define = |n| Instrument {
            id: InstrumentId(n),
            ..Instrument::unknown(Symbol::new(&format!("S{n}")).unwrap())
        };
        let definitions: Vec<_> = (0..SYMBOLS).map(define).collect();
        let times = vec![Timestamp::default(), Timestamp::from_nanos(1_000_000_000_000)];
        let mut replica = Replica::new(Epoch::new(1));
        let events = definitions.iter().map(|d| Event::Instrument(Arc::new(d.clone()))).collect();
        replica.apply(&Batch { position: Position::new(1), time: times[1], events }, &mut Vec::new());
        Self { replica, definitions, times }
    }

    fn publish(&mut self, millis: u16, ticks: &[Tick]) {
        let time = self.replica.time().plus_nanos(i64::from(millis) * 1_000_000);
        let events = ticks.iter().flat_map(|tick| self.events(tick, time)).collect();
        self.times.push(time);
        let position = self.replica.position().next();
        self.replica.apply(&Batch { position, time, events }, &mut Vec::new());
    }

    fn events(&mut self, tick: &Tick, at: Timestamp) -> Vec<Event> {
        match *tick {
            Tick::Quote(symbol, [bid, bid_size, ask, ask_size]) => {
                let (price, size) = (|p: u8| Price::new(p.into()), |s: u8| Size::new(s.into()));
                let (bid, bid_size, ask, ask_size) = (price(bid), size(bid_size), price(ask), size(ask_size));
                let quote = Quote { bid, bid_size, ask, ask_size, ts_event: at, ts_recv: at };
                vec![Event::Quote(InstrumentId(symbol), quote)]
            }
            Tick::Trades(symbol, count) => {
                let trade = Trade {
                    price: Price::new(100),
                    size: Size::new(1),
                    side: Side::Sell,
                    conditions: Conditions::default(),
                    counts: Counts::EVERYTHING,
                    booked: 0,
                    ts_event: at,
                    ts_recv: at,
                };
                vec![Event::Trade(InstrumentId(symbol), trade); count]
            }
            Tick::Status(symbol) => {
                let status = Status { state: TradingState::Halted, ts_event: at };
                vec![Event::Status(symbol.map(InstrumentId), status)]
            }
            Tick::Define(symbol, finer) => {
                let definition = &mut self.definitions[symbol as usize];
                definition.price_scale = (definition.price_scale + u8::from(finer)).min(6);
                vec![Event::Instrument(Arc::new(definition.clone()))]
            }
        }
    }

    /// The frame for a reader, and how many values are in it.
    fn read(&self, reader: &Reader, encoder: &mut UpdateEncoder) -> (Vec<u8>, u64) {
        let end = self.replica.position().get();
        let at = |position: u64| Upto {
            position: Position::new(position),
            time: self.times[usize::try_from(position).unwrap()],
        };
        let upto = at(end - reader.begun.min(end));
        let from = at(upto.position.get().saturating_sub(reader.behind));
        let kinds = (0..SYMBOLS).flat_map(|n| Kind::ALL.map(|kind| TopicKey::of(InstrumentId(n), kind)));
        let topics: Vec<TopicKey> = std::iter::once(TopicKey::MARKET_STATUS).chain(kinds).collect();
        let fresh = reader.fresh.map(|number| topics[number]);
        let wanted = topics.iter().copied().enumerate().filter(|(n, _)| reader.topics & (1 << n) != 0);
        let since = |topic| {
            if fresh == Some(topic) {
                Since { position: Position::START, numbered: true }
            } else {
                Since { position: from.position, numbered: false }
            }
        };
        encoder.begin(Form::MSGPACK, reader.times, from, upto);
        let rest = tell(&self.replica, wanted, since, upto.position, encoder);
        let mut frame = Vec::new();
        let delivered = encoder.finish(rest.is_none(), &mut frame);
        (frame, delivered)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn readers_who_share_are_told_what_each_would_be_told_alone(ops in proptest::collection::vec(op(), 0..80)) {
        let mut world = World::new();
        // Of two sizes, because where an update ends depends on what is in it.
        let encoders = |new: fn(usize) -> UpdateEncoder| [new(FULL_BYTES), new(60)];
        let (mut alone, mut sharing) = (encoders(UpdateEncoder::new), encoders(UpdateEncoder::sharing));
        for op in ops {
            match op {
                Op::Publish(millis, ticks) => world.publish(millis, &ticks),
                Op::Read(reader) => {
                    let size = usize::from(reader.full);
                    let expected = world.read(&reader, &mut alone[size]);
                    prop_assert_eq!(world.read(&reader, &mut sharing[size]), expected, "{:?}", reader);
                }
            }
        }
    }
}
