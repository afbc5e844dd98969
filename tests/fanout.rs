//! Random histories of publishes, subscribes, stalls, rate caps, disconnects and resumes, on the real fan-out core and the real client
//! with a pipe between them instead of a socket, against a plain model: what the model knows the client must know in the end, and of
//! trades it must have had each one, in order, or been told exactly how many it had not.

use proptest::prelude::*;
use rust_decimal::Decimal;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tickcast::client::{Change, Command, Event, Input, Options, Output, Session};
use tickcast::hub::{Form, Kind, TRADES_KEPT};
use tickcast::market::{Conditions, Event as TapeEvent, Instruments, QuoteValues, Side, Symbol, Timestamp};
use tickcast::server::fanout::{Fanout, Opening, Socket};
use tickcast::tape::{Batch, Epoch, Position};
use tickcast::wire::{CloseCode, ErrorCode, Fault, Garbled, TopicAnswer, mask};

const SYMBOLS: [&str; 4] = ["A", "B", "C", "D"];
const CLIENTS: usize = 3;
/// Topics that histories subscribe: singles, a set, an overlap of both.
const TOPICS: [&str; 9] =
    ["quote:A", "quote:B", "quote:*", "trades:A", "trades:C", "trades:*", "day:*", "bars.1s:B", "status"];

#[derive(Clone, Debug)]
enum Op {
    /// One batch.
    Publish(Vec<Tick>),
    /// So many trades of one symbol, in batches of 100: more than a ring keeps, if it comes often.
    Burst(usize, u16),
    /// Time passes, and what is due goes out.
    Pass(u16),
    /// A client reads up to so many bytes, which makes as much room in its pipe.
    Read(usize, u16),
    Subscribe(usize, Vec<usize>),
    Unsubscribe(usize, usize),
    /// Tenths of updates a second; 0 lifts the cap.
    Cap(usize, u8),
    /// The images of a client are compared with the server's, unless they are just being.
    Verify(usize),
    Drop(usize),
    /// The way to a client is broken at its own wish, for so many milliseconds.
    Fault(usize, Fault, u16),
}

#[derive(Clone, Debug)]
enum Tick {
    /// Symbol; bid and ask in hundredths, `None` for an empty side; sizes in tenths; a finer digit now and then.
    Quote(usize, Option<u16>, u8, Option<u16>, u8, bool),
    Trade(usize, u16, u8, bool),
}

fn tick() -> impl Strategy<Value = Tick> {
    let side = || proptest::option::weighted(0.9, 1..500_u16);
    let fine = || proptest::bool::weighted(0.03);
    prop_oneof![
        (0..SYMBOLS.len(), side(), any::<u8>(), side(), any::<u8>(), fine())
            .prop_map(|(s, b, bs, a, as_, f)| Tick::Quote(s, b, bs, a, as_, f)),
        (0..SYMBOLS.len(), 1..500_u16, any::<u8>(), fine()).prop_map(|(s, p, n, f)| Tick::Trade(s, p, n, f)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let client = || 0..CLIENTS;
    prop_oneof![
        8 => proptest::collection::vec(tick(), 0..6).prop_map(Op::Publish),
        1 => (0..SYMBOLS.len(), 1..1500_u16).prop_map(|(s, n)| Op::Burst(s, n)),
        6 => (0..3000_u16).prop_map(Op::Pass),
        8 => (client(), 0..2000_u16).prop_map(|(c, n)| Op::Read(c, n)),
        3 => (client(), proptest::collection::vec(0..TOPICS.len(), 1..4)).prop_map(|(c, t)| Op::Subscribe(c, t)),
        1 => (client(), 0..TOPICS.len()).prop_map(|(c, t)| Op::Unsubscribe(c, t)),
        1 => (client(), 0..50_u8).prop_map(|(c, hz)| Op::Cap(c, hz)),
        3 => client().prop_map(Op::Verify),
        1 => client().prop_map(Op::Drop),
        2 => (client(), fault(), 1..20_000_u16).prop_map(|(c, fault, ms)| Op::Fault(c, fault, ms)),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::None),
        Just(Fault::Mute),
        (1..3000_u64).prop_map(|ms| Fault::Delay(Duration::from_millis(ms))),
        (10..5000_u32).prop_map(Fault::Slow),
        proptest::option::of(Just(CloseCode::RESTART)).prop_map(Fault::Drop),
        prop_oneof![Just(Garbled::Message), Just(Garbled::Frame)].prop_map(Fault::Garble),
    ]
}

/// A socket's buffers: what the server has sent and the client has not read.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    room: usize,
    /// How often it was asked to take any.
    asked: u64,
    /// It did not take all, and nobody has read since.
    is_full: bool,
    finished: bool,
    /// The server has dropped its end, whose key may be another's by now.
    dropped: bool,
}

#[derive(Debug)]
struct PipeEnd(Rc<RefCell<Pipe>>);

impl Socket for PipeEnd {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        let taken = bytes.len().min(pipe.room);
        pipe.asked += 1;
        pipe.bytes.extend(&bytes[..taken]);
        pipe.room -= taken;
        pipe.is_full = taken < bytes.len();
        Ok(taken)
    }

    fn finish(&mut self) {
        self.0.borrow_mut().finished = true;
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        (pipe.finished, pipe.dropped) = (true, true);
    }
}

impl Link {
    fn is_dropped(&self) -> bool {
        self.pipe.borrow().dropped
    }
}

struct Client {
    session: Session,
    link: Option<Link>,
    /// What it has asked for.
    topics: BTreeSet<&'static str>,
    /// What it has been told that it gets.
    granted: BTreeSet<String>,
    options: Options,
    /// Per symbol the number of the next trade, where one was had.
    next_trade: BTreeMap<String, u64>,
    /// Whether it may have been sent what cannot be read, after which it believes nothing it knew.
    garbled: bool,
    /// The last comparison: each topic with whether both sides had the same.
    verified: Vec<(String, bool)>,
}

struct Link {
    shard: usize,
    key: usize,
    pipe: Rc<RefCell<Pipe>>,
    inbox: Vec<u8>,
    /// A checksum was asked for over this connection, and is not answered yet.
    verifies: bool,
}

/// The truth, kept as plainly as can be.
#[derive(Default)]
struct Model {
    quotes: BTreeMap<&'static str, QuoteValues>,
    trades: BTreeMap<&'static str, Vec<(Decimal, Decimal)>>,
}

struct World {
    /// Two shards, of which the second hears of the tape late: a client that comes from the first to it is ahead of it.
    shards: [Fanout<PipeEnd>; 2],
    late: Vec<Batch>,
    connects: usize,
    instruments: Instruments,
    position: Position,
    model: Model,
    clients: Vec<Client>,
    start: Instant,
    now: Duration,
}

impl Client {
    fn watches(&self, kind: &str, symbol: &str) -> bool {
        [format!("{kind}:{symbol}"), format!("{kind}:*")].iter().any(|topic| self.topics.contains(&**topic))
    }

    /// What is subscribed anew is counted anew.
    fn unsubscribed(&mut self, topics: &[TopicAnswer]) {
        for TopicAnswer { topic, .. } in topics {
            self.granted.remove(topic);
        }
        let granted = |topic: &str| self.granted.contains(topic);
        self.next_trade.retain(|symbol, _| granted("trades:*") || granted(&format!("trades:{symbol}")));
    }
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        let client = |seed| Client {
            session: Session::new(seed, start),
            link: None,
            topics: BTreeSet::new(),
            granted: BTreeSet::new(),
            options: Options::default(),
            next_trade: BTreeMap::new(),
            garbled: false,
            verified: Vec::new(),
        };
        Self {
            // So small that most flushes come in several updates, and few sessions to one cohort or two.
            shards: [2, 1].map(|cohort| {
                let mut shard = Fanout::with_limits(Epoch::new(7), 100, cohort);
                shard.allow_faults();
                shard
            }),
            late: Vec::new(),
            connects: 0,
            instruments: Instruments::default(),
            position: Position::START,
            model: Model::default(),
            clients: (0..CLIENTS as u64).map(client).collect(),
            start,
            now: Duration::ZERO,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Publish(ticks) => self.publish(&ticks),
            Op::Burst(symbol, count) => {
                let trades: Vec<Tick> =
                    (0..count).map(|n| Tick::Trade(symbol, 1 + n % 300, 1, false)).collect();
                trades.chunks(100).for_each(|trades| self.publish(trades));
            }
            Op::Pass(millis) => self.pass(Duration::from_millis(millis.into())),
            Op::Read(client, bytes) => {
                self.read(client, bytes.into());
                // A poll may tell so of sockets that were never full, too.
                self.writable(client);
            }
            Op::Subscribe(client, topics) => {
                let topics: Vec<&'static str> = topics.into_iter().map(|t| TOPICS[t]).collect();
                self.clients[client].topics.extend(&topics);
                self.subscribe(client, &topics);
            }
            Op::Unsubscribe(client, topic) => {
                let them = &mut self.clients[client];
                them.topics.remove(TOPICS[topic]);
                self.command(client, Command::Unsubscribe { topics: vec![TOPICS[topic].to_owned()] });
            }
            Op::Cap(client, tenths) => {
                let max_hz = (tenths > 0).then(|| f64::from(tenths) / 10.0);
                self.clients[client].options.max_hz = max_hz;
                let topics: Vec<&'static str> = self.clients[client].topics.iter().copied().collect();
                self.subscribe(client, &topics);
            }
            Op::Verify(client) => self.verify(client),
            Op::Drop(client) => self.hang_up(client, true),
            Op::Fault(client, fault, millis) => {
                let lasts = matches!(fault, Fault::Mute | Fault::Delay(_) | Fault::Slow(_))
                    .then(|| Duration::from_millis(millis.into()));
                self.clients[client].garbled |= matches!(fault, Fault::Garble(_));
                self.command(client, Command::Fault { fault, lasts });
            }
        }
    }

    fn publish(&mut self, ticks: &[Tick]) {
        let mut events = Vec::new();
        let time = Timestamp::from_nanos(1_000_000_000_000 + i64::try_from(self.now.as_nanos()).unwrap());
        for tick in ticks {
            let price = |p: u16, fine: bool| Decimal::new(i64::from(p) * 10 + i64::from(fine), 3).normalize();
            let size = |s: u8, fine: bool| Decimal::new(i64::from(s) * 10 + i64::from(fine), 2).normalize();
            match *tick {
                Tick::Quote(symbol, bid, bid_size, ask, ask_size, fine) => {
                    let values = QuoteValues {
                        bid: bid.map(|p| price(p, fine)),
                        bid_size: if bid.is_some() { size(bid_size, false) } else { Decimal::ZERO },
                        ask: ask.map(|p| price(p, false)),
                        ask_size: if ask.is_some() { size(ask_size, fine) } else { Decimal::ZERO },
                    };
                    let id = self.instruments.intern(&Symbol::new(SYMBOLS[symbol]).unwrap(), &mut events);
                    let quote = self.instruments.quote(id, &values, (time, time), &mut events).unwrap();
                    events.push(TapeEvent::Quote(id, quote));
                    self.model.quotes.insert(SYMBOLS[symbol], values);
                }
                Tick::Trade(symbol, p, s, fine) => {
                    let numbers = (price(p, fine), size(s, false));
                    let id = self.instruments.intern(&Symbol::new(SYMBOLS[symbol]).unwrap(), &mut events);
                    let kind = (Side::Buy, Conditions::default());
                    let trade = self.instruments.trade(id, numbers, kind, (time, time), &mut events).unwrap();
                    events.push(TapeEvent::Trade(id, trade));
                    self.model.trades.entry(SYMBOLS[symbol]).or_default().push(numbers);
                }
            }
        }
        self.position = self.position.next();
        let batch = Batch { position: self.position, time, events };
        self.shards[0].apply(&batch);
        self.late.push(batch);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        // Half of what the late one has not heard yet it hears before its flush, of the rest a batch after each cohort.
        let mut late = std::mem::take(&mut self.late);
        let rest = late.split_off(late.len().div_ceil(2));
        late.iter().for_each(|batch| self.shards[1].apply(batch));
        for shard in &mut self.shards {
            shard.tick(self.now);
        }
        self.shards[0].flush();
        let mut rest = rest.iter();
        self.shards[1].flush_with(|shard| rest.next().into_iter().for_each(|batch| shard.apply(batch)));
        rest.for_each(|batch| self.shards[1].apply(batch));
        self.shards[1].flush();
        for shard in &mut self.shards {
            for _ in 0..20 {
                shard.sweep();
            }
        }
        for client in 0..CLIENTS {
            self.handle(client, Input::Tick);
            if self.clients[client].link.as_ref().is_some_and(|link| {
                let pipe = link.pipe.borrow();
                pipe.finished && pipe.bytes.is_empty()
            }) {
                self.hang_up(client, true);
            }
        }
    }

    fn read(&mut self, client: usize, bytes: usize) {
        let Some(link) = &mut self.clients[client].link else { return };
        let was_full = {
            let mut pipe = link.pipe.borrow_mut();
            let count = bytes.min(pipe.bytes.len());
            link.inbox.extend(pipe.bytes.drain(..count));
            pipe.room += bytes;
            std::mem::take(&mut pipe.is_full)
        };
        let mut frames = Vec::new();
        while let Some((opcode, payload, len)) = whole_frame(&link.inbox) {
            frames.push((opcode, payload.to_vec()));
            link.inbox.drain(..len);
        }
        for (opcode, payload) in frames {
            match opcode {
                2 => self.handle(client, Input::Binary(&payload)),
                8 => return self.hang_up(client, true),
                9 => {}
                // What is no frame ends the connection.
                3 => return self.hang_up(client, true),
                other => panic!("unexpected opcode {other}"),
            }
            if self.clients[client].link.is_none() {
                return;
            }
        }
        if was_full {
            self.writable(client);
        }
    }

    fn writable(&mut self, client: usize) {
        if let Some(link) = self.clients[client].link.as_ref().filter(|link| !link.is_dropped()) {
            self.shards[link.shard].writable(link.key);
        }
    }

    fn subscribe(&mut self, client: usize, topics: &[&'static str]) {
        let (topics, options) =
            (topics.iter().map(ToString::to_string).collect(), self.clients[client].options);
        self.command(client, Command::Subscribe { topics, options });
    }

    fn verify(&mut self, client: usize) {
        if self.clients[client].link.as_ref().is_some_and(|link| !link.verifies) {
            let of = |kind| SYMBOLS.map(|symbol| format!("{kind}:{symbol}"));
            let topics = ["quote", "day", "bars.1s"].into_iter().flat_map(of).collect();
            self.command(client, Command::Verify { topics });
        }
    }

    fn command(&mut self, client: usize, command: Command) {
        self.handle(client, Input::Command(command));
    }

    fn hang_up(&mut self, client: usize, tell: bool) {
        if let Some(link) = self.clients[client].link.take() {
            if !link.is_dropped() {
                self.shards[link.shard].closed(link.key);
            }
            if tell {
                self.handle(client, Input::Closed { code: None, reason: "dropped".to_owned() });
            }
        }
    }

    fn handle(&mut self, client: usize, input: Input<'_>) {
        let mut outputs = Vec::new();
        let now = self.start + self.now;
        self.clients[client].session.handle(now, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Connect => self.connect(client),
                Output::Disconnect => self.hang_up(client, false),
                Output::Send(text) => {
                    if let Some(link) = self.clients[client].link.as_mut().filter(|link| !link.is_dropped()) {
                        link.verifies |= text.contains("checksum");
                        let (shard, key) = (link.shard, link.key);
                        self.shards[shard].received(key, &client_frame(text.as_bytes()));
                    }
                }
                Output::Event(event) => self.check_event(client, event),
            }
        }
    }

    fn connect(&mut self, client: usize) {
        let pipe = Rc::new(RefCell::new(Pipe { room: 300, ..Pipe::default() }));
        let opening =
            Opening { form: Form::MessagePack, topics: Vec::new(), max_hz: None, times: false, since: None };
        let shard = self.connects % self.shards.len();
        self.connects += 1;
        let key = self.shards[shard].open(&opening, &[], |_| PipeEnd(Rc::clone(&pipe)));
        self.clients[client].link = Some(Link { shard, key, pipe, inbox: Vec::new(), verifies: false });
        self.handle(client, Input::Connected);
    }

    /// Trades must be the model's, each once, in order, or exactly counted as missed.
    fn check_event(&mut self, client: usize, event: Event) {
        let Client { next_trade, .. } = &mut self.clients[client];
        let changes = match event {
            Event::Update { changes, .. } => changes,
            Event::Subscribed { topics } => {
                return self.clients[client].granted.extend(topics.into_iter().map(|answer| answer.topic));
            }
            Event::Unsubscribed { topics } => return self.clients[client].unsubscribed(&topics),
            Event::Verified { topics, .. } => {
                let Client { link, verified, .. } = &mut self.clients[client];
                link.as_mut().expect("it came over one").verifies = false;
                *verified = topics;
                return;
            }
            Event::Replaced if std::mem::take(&mut self.clients[client].garbled) => {
                return self.clients[client].next_trade.clear();
            }
            Event::Replaced => panic!("there is one epoch only"),
            Event::Closed { reason, .. } => panic!("closed for good: {reason}"),
            Event::Error { message, .. } => panic!("refused: {message}"),
            _ => return,
        };
        for change in changes {
            match change {
                Change::Trade { instrument, number, trade } => {
                    let symbol = instrument.symbol.as_str();
                    let (price, size) = self.model.trades[symbol][usize::try_from(number).unwrap()];
                    assert_eq!(trade.price.to_decimal(instrument.price_scale), Some(price));
                    assert_eq!(trade.size.to_decimal(instrument.size_scale), size);
                    let next = next_trade.entry(symbol.to_owned()).or_insert(number);
                    assert_eq!(*next, number, "{symbol}: lost, repeated or reordered without a gap");
                    *next += 1;
                }
                Change::Gap { instrument, kind: Kind::Trades, missed } => {
                    let symbol = instrument.symbol.as_str();
                    // A ring of which nothing was had yet is counted from the first trade of it.
                    let Some(next) = next_trade.get_mut(symbol) else { continue };
                    *next += missed;
                    let published = self.model.trades[symbol].len() as u64;
                    assert!(missed > 0);
                    assert!(
                        *next + TRADES_KEPT as u64 <= published,
                        "{symbol}: told a gap up to {next} of {published} while the ring still had them"
                    );
                }
                _ => {}
            }
        }
    }

    /// Everyone reads until nothing more comes, and then knows what the model knows.
    fn settle_and_check(mut self) {
        for _ in 0..100 {
            self.pass(Duration::from_millis(1500));
            let mut quiet = true;
            for client in 0..CLIENTS {
                for _ in 0..2000 {
                    self.read(client, 1 << 16);
                    match &self.clients[client].link {
                        Some(link) if !link.pipe.borrow().bytes.is_empty() => quiet = false,
                        Some(link) => {
                            // The next pass tells the client that its connection has ended.
                            quiet &= !link.pipe.borrow().finished;
                            break;
                        }
                        None => {
                            quiet = false;
                            break;
                        }
                    }
                }
            }
            if quiet && self.shards.iter().all(|shard| shard.next_due().is_none()) {
                break;
            }
        }
        for client in 0..CLIENTS {
            assert!(self.clients[client].link.as_ref().is_none_or(|link| !link.verifies), "no checksum came");
            self.verify(client);
            self.read(client, 1 << 16);
            self.check_client(&self.clients[client]);
        }
    }

    fn check_client(&self, client: &Client) {
        assert!(client.link.is_some(), "came back");
        let watches = |kind: &str, symbol: &str| client.watches(kind, symbol);
        let verified =
            |kind: &str, symbol: &str| client.verified.contains(&(format!("{kind}:{symbol}"), true));
        for symbol in SYMBOLS {
            let Some(book) = self.shards[0].replica().by_symbol(symbol) else { continue };
            let (price_scale, size_scale) = (book.definition.price_scale, book.definition.size_scale);
            if let Some(quote) = self.model.quotes.get(symbol).filter(|_| watches("quote", symbol)) {
                assert!(verified("quote", symbol), "{symbol}: {:?}", client.verified);
                let image = client.session.image().book(symbol).expect("a subscribed quote").quote;
                let price = |p: Option<tickcast::market::Price>| p.unwrap().to_decimal(price_scale);
                let size = |s: Option<tickcast::market::Size>| s.unwrap().to_decimal(size_scale);
                assert_eq!((price(image.bid), size(image.bid_size)), (quote.bid, quote.bid_size));
                assert_eq!((price(image.ask), size(image.ask_size)), (quote.ask, quote.ask_size));
            }
            let Some(trades) = self.model.trades.get(symbol) else { continue };
            if watches("trades", symbol) {
                let next = client.next_trade.get(symbol).copied();
                assert_eq!(next, Some(trades.len() as u64), "{symbol}: the newest trades are missing");
            }
            if watches("day", symbol) {
                assert!(verified("day", symbol), "{symbol}: {:?}", client.verified);
                let day = client.session.image().book(symbol).expect("a subscribed day").day;
                let prices = || trades.iter().map(|&(price, _)| price);
                let price = |p: Option<tickcast::market::Price>| p.unwrap().to_decimal(price_scale);
                assert_eq!(price(day.open), prices().next());
                assert_eq!(price(day.high), prices().max());
                assert_eq!(price(day.low), prices().min());
                assert_eq!(price(day.close), prices().next_back());
                let volume: Decimal = trades.iter().map(|&(_, size)| size).sum();
                assert_eq!(day.volume.unwrap().to_decimal(size_scale), volume);
                assert_eq!(day.trades, Some(trades.len() as u64));
            }
            if watches("bars.1s", symbol) {
                assert!(verified("bars.1s", symbol), "{symbol}: {:?}", client.verified);
                let image = client.session.image().book(symbol).expect("a subscribed bar").bars_1s;
                let bar = book.bars_1s.latest.get().unwrap();
                assert_eq!((image.close, image.volume), (Some(bar.close), Some(bar.volume)));
                assert_eq!(image.vwap, Some(bar.vwap_hundredths()));
            }
        }
    }
}

/// A client's text frame, masked.
fn client_frame(payload: &[u8]) -> Vec<u8> {
    let key = [9, 8, 7, 6];
    let mut frame = Vec::new();
    tickcast::wire::write_frame(tickcast::wire::Opcode::Text, payload, &mut frame);
    let header = frame.len() - payload.len();
    frame[1] |= 0x80;
    mask(&mut frame[header..], key);
    frame.splice(header..header, key);
    frame
}

/// The first frame of a server's bytes, if all of it is there: opcode, payload, length.
fn whole_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&first, &length) = (bytes.first()?, bytes.get(1)?);
    let (header, length) = match length {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?)).unwrap()),
        length => (2, usize::from(length)),
    };
    Some((first & 0x0f, bytes.get(header..header + length)?, header + length))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn after_any_history_every_client_knows_what_was_published(ops in proptest::collection::vec(op(), 0..60)) {
        let mut world = World::new();
        ops.into_iter().for_each(|op| world.apply(op));
        world.settle_and_check();
    }
}

/// Sessions with an endless pipe each, all subscribed to the same topics by URL.
fn watchers(count: usize, form: Form, topics: &str) -> (World, Vec<Rc<RefCell<Pipe>>>) {
    let mut world = World::new();
    world.publish(&[Tick::Quote(0, Some(100), 1, Some(101), 1, false), Tick::Trade(0, 100, 1, false)]);
    let pipes = (0..count).map(|_| watcher(&mut world, form, topics, None)).collect();
    (world, pipes)
}

/// One more session on the prompt shard.
fn watcher(world: &mut World, form: Form, topics: &str, max_hz: Option<f64>) -> Rc<RefCell<Pipe>> {
    let topics = topics.split(',').map(str::to_owned).collect();
    let opening = Opening { form, topics, max_hz, times: false, since: None };
    let pipe = Rc::new(RefCell::new(Pipe { room: usize::MAX, ..Pipe::default() }));
    world.shards[0].open(&opening, &[], |_| PipeEnd(Rc::clone(&pipe)));
    pipe
}

#[test]
fn a_flush_is_built_once_and_sent_once_to_each_session_of_a_view() {
    let (mut world, pipes) = watchers(1000, Form::MessagePack, "quote:A,trades:A");
    pipes.iter().for_each(|pipe| pipe.borrow_mut().asked = 0);
    let before = world.shards[0].counters();
    for price in 102..112 {
        // Three ticks in two batches that come together: one flush.
        world.publish(&[Tick::Quote(0, Some(price), 1, None, 0, false), Tick::Trade(0, price, 1, false)]);
        world.publish(&[Tick::Quote(0, Some(price), 2, None, 0, false)]);
        world.shards[0].flush();
    }
    let after = world.shards[0].counters();
    assert_eq!((after.built - before.built, after.sent - before.sent), (10, 10_000));
    assert!(pipes.iter().all(|pipe| pipe.borrow().asked == 10), "one call a flush");
    // Of each image its newest state, and every trade.
    assert_eq!(after.delivered - before.delivered, 20_000);
    let bytes = |pipe: &Rc<RefCell<Pipe>>| pipe.borrow().bytes.clone();
    assert!(pipes.iter().all(|pipe| bytes(pipe) == bytes(&pipes[0])), "everyone gets the same bytes");
}

#[test]
fn a_session_that_has_caught_up_shares_frames_again() {
    let (mut world, pipes) = watchers(100, Form::MessagePack, "quote:A");
    pipes[7].borrow_mut().room = 0;
    let flush = |world: &mut World, price| {
        world.publish(&[Tick::Quote(0, Some(price), 1, None, 0, false)]);
        let (before, asked) = (world.shards[0].counters(), pipes[7].borrow().asked);
        world.shards[0].flush();
        let after = world.shards[0].counters();
        (after.built - before.built, after.sent - before.sent, pipes[7].borrow().asked - asked)
    };
    // It is left alone while it would block: tried once, then not even that.
    assert_eq!(flush(&mut world, 200), (1, 99, 1));
    assert_eq!(flush(&mut world, 201), (1, 99, 0));
    pipes[7].borrow_mut().room = usize::MAX;
    world.shards[0].writable(7);
    assert_eq!(flush(&mut world, 202), (1, 100, 1));
}

#[test]
fn each_gap_that_a_session_is_told_of_is_counted_once() {
    for form in [Form::MessagePack, Form::Json] {
        let (mut world, pipes) = watchers(3, form, "trades:A");
        let trade = [Tick::Trade(0, 100, 1, false)];
        for behind in [1, 2] {
            pipes[1].borrow_mut().room = 0;
            // More than its ring keeps.
            for _ in 0..2_000 {
                world.publish(&trade);
                world.shards[0].flush();
            }
            pipes[1].borrow_mut().room = usize::MAX;
            world.shards[0].writable(1);
            assert_eq!(world.shards[0].counters().gaps, behind, "{form:?}");
        }
        // Who comes now has missed nothing: it was told of nothing before.
        let late = watcher(&mut world, form, "trades:A", None);
        world.shards[0].flush();
        assert!(!late.borrow().bytes.is_empty());
        assert_eq!(world.shards[0].counters().gaps, 2, "{form:?}");
    }
}

#[test]
fn what_comes_within_a_flush_is_told_at_once_to_those_still_in_line_and_next_time_to_the_others() {
    let (mut world, pipes) = watchers(7, Form::Json, "quote:A");
    let publish = |world: &mut World, price| world.publish(&[Tick::Quote(0, Some(price), 1, None, 0, false)]);
    publish(&mut world, 200);
    // Four cohorts of two. The shard hears of 201 when the first has been served, and of 202 after the second.
    let mut shard = std::mem::replace(&mut world.shards[0], Fanout::new(Epoch::new(7)));
    let before = shard.counters();
    let mut served = 0;
    shard.flush_with(|shard| {
        served += 1;
        if served <= 2 {
            publish(&mut world, 200 + served);
            shard.apply(world.late.last().expect("just published"));
        }
    });
    let after = shard.counters();
    assert_eq!((served, after.sent - before.sent), (4, 7), "one frame to each, none is served twice");
    assert_eq!(after.built - before.built, 3, "200, 201 and 202, the last for two cohorts");
    assert_eq!(shard.in_line(), 2, "the first two have more to tell");
    assert!(shard.next_due().is_some());
    // Where the last of the updates that a client was sent has brought it.
    let newest = |pipe: &Rc<RefCell<Pipe>>| messages(pipe).last().expect("an update")["position"].as_u64();
    let newest = |pipes: &[_]| pipes.iter().map(newest).collect::<Option<Vec<u64>>>().expect("positions");
    let at = world.position.get();
    assert_eq!(newest(&pipes), [at - 2, at - 2, at - 1, at - 1, at, at, at]);
    shard.flush();
    assert_eq!(newest(&pipes), [at; 7]);
    assert_eq!((shard.counters().sent - after.sent, shard.in_line()), (4, 0));
    assert_eq!(shard.next_due(), None);
}

#[test]
fn an_answer_found_meanwhile_goes_out_whole_though_the_socket_takes_only_a_part_of_it() {
    let (mut world, pipes) = watchers(1, Form::Json, "quote:A");
    let shard = &mut world.shards[0];
    shard.received(0, &client_frame(br#"{"op":"replay","id":7}"#));
    let [asked] = shard.take_asked()[..] else { panic!("one request") };
    let publish = |world: &mut World, price| {
        world.publish(&[Tick::Quote(0, Some(price), 1, None, 0, false)]);
        world.shards[0].flush();
    };
    publish(&mut world, 200);
    pipes[0].borrow_mut().room = 40;
    let outcome = Err((ErrorCode::Unavailable, "nothing is played yet".to_owned()));
    world.shards[0].answer_replay(asked.key, asked.number, outcome);
    pipes[0].borrow_mut().room = usize::MAX;
    publish(&mut world, 201);
    world.shards[0].writable(0);
    publish(&mut world, 202);
    let messages = messages(&pipes[0]);
    let kinds: Vec<&str> = messages.iter().map(|message| message["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["welcome", "subscribed", "update", "update", "error", "update", "update"]);
}

/// The position that the answer to the one `checksum` request speaks of.
#[track_caller]
fn checksum_answered_at(pipe: &RefCell<Pipe>) -> u64 {
    let messages = messages(pipe);
    let at = messages.iter().position(|message| message["type"] == "checksum").expect("an answer");
    assert_eq!(messages[at]["position"], messages[at - 1]["position"], "right behind its update");
    messages[at]["position"].as_u64().expect("a position")
}

#[test]
fn a_checksum_asked_for_behind_half_a_frame_is_answered_though_the_tape_goes_on() {
    let bid = |world: &mut World, price| world.publish(&[Tick::Quote(0, Some(price), 1, None, 0, false)]);
    for (max_hz, takes_all) in [(None, true), (None, false), (Some(1.0), true), (Some(1.0), false)] {
        let mut world = World::new();
        let pipe = watcher(&mut world, Form::Json, "quote:A", max_hz);
        let flush = |world: &mut World, at, price| {
            let before = pipe.borrow().bytes.len();
            bid(world, price);
            world.shards[0].tick(Duration::from_secs(at));
            world.shards[0].flush();
            pipe.borrow().bytes.len() - before
        };
        flush(&mut world, 1, 200);
        let frame = flush(&mut world, 2, 201);
        pipe.borrow_mut().room = 40;
        flush(&mut world, 3, 202);
        bid(&mut world, 203);
        world.shards[0].received(0, &client_frame(br#"{"op":"checksum","topics":["quote:A"]}"#));
        // It has come as far as its cohort, which is not flushed now. There is room for the rest of the frame, and all or half of another.
        pipe.borrow_mut().room = if takes_all { usize::MAX } else { frame };
        world.shards[0].writable(0);
        let end = world.position.get();
        bid(&mut world, 204);
        pipe.borrow_mut().room = usize::MAX;
        world.shards[0].writable(0);
        assert_eq!(checksum_answered_at(&pipe), end, "{max_hz:?}, {takes_all}");
    }
}

#[test]
fn a_checksum_over_a_broken_way_is_answered_though_nothing_happens_to_what_its_session_watches() {
    let mut world = World::new();
    world.publish(&[Tick::Quote(1, Some(100), 1, None, 0, false)]);
    let pipe = watcher(&mut world, Form::Json, "quote:B", None);
    world.shards[0].received(0, &client_frame(br#"{"op":"fault","fault":"delay","by_ms":500}"#));
    world.publish(&[Tick::Quote(0, Some(100), 1, None, 0, false)]);
    world.shards[0].received(0, &client_frame(br#"{"op":"checksum","topics":["quote:B"]}"#));
    for second in [1, 2] {
        world.shards[0].tick(Duration::from_secs(second));
        world.shards[0].flush();
    }
    assert_eq!(checksum_answered_at(&pipe), world.position.get());
}

#[test]
fn sessions_of_one_rate_are_flushed_at_the_same_moments_whatever_cohort_they_are_in() {
    let mut world = World::new();
    // Two fill a cohort: the third, which comes in the middle of the second, is in one of its own.
    let mut pipes: Vec<_> = (0..2).map(|_| watcher(&mut world, Form::Json, "quote:A", Some(1.0))).collect();
    let mut sent_at = |millis, price, joins: bool| {
        let now = Duration::from_millis(millis);
        if joins {
            pipes.push(watcher(&mut world, Form::Json, "quote:A", Some(1.0)));
        }
        world.publish(&[Tick::Quote(0, Some(price), 1, None, 0, false)]);
        let shard = &mut world.shards[0];
        let before = shard.counters().sent;
        shard.tick(now);
        shard.flush();
        let due = shard.next_due();
        assert!(due.is_none_or(|due| due > now), "nothing to do before {due:?}");
        (shard.counters().sent - before, due)
    };
    assert_eq!(sent_at(100, 200, false), (2, None));
    assert_eq!(sent_at(400, 201, true), (0, Some(Duration::from_secs(1))));
    assert_eq!(sent_at(900, 202, false), (0, Some(Duration::from_secs(1))));
    assert_eq!(sent_at(1000, 203, false), (3, None));
}

/// All that a client was sent, in JSON.
fn messages(pipe: &RefCell<Pipe>) -> Vec<serde_json::Value> {
    let mut bytes: Vec<u8> = pipe.borrow().bytes.iter().copied().collect();
    let mut messages = Vec::new();
    while let Some((_, payload, len)) = whole_frame(&bytes) {
        messages.push(serde_json::from_slice(payload).expect("JSON"));
        bytes.drain(..len);
    }
    assert!(bytes.is_empty(), "only whole frames");
    messages
}

#[test]
fn what_is_given_up_and_taken_anew_is_told_anew_whatever_else_is_given_up() {
    let topic = |name| TOPICS.iter().position(|&topic| topic == name).expect("one of them");
    let (all, one) = (topic("trades:*"), topic("trades:C"));
    let mut world = World::new();
    for op in [
        Op::Subscribe(0, vec![all]),
        Op::Publish(vec![Tick::Trade(2, 100, 1, false)]),
        Op::Pass(1_000),
        Op::Read(0, u16::MAX),
        // All on the way at once; of the last it never had anything.
        Op::Unsubscribe(0, all),
        Op::Subscribe(0, vec![all]),
        Op::Unsubscribe(0, one),
    ] {
        world.apply(op);
    }
    world.settle_and_check();
}
