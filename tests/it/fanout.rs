//! Random histories of publishes, subscribes, stalls, rate caps, disconnects and resumes, on the real fan-out
//! core and the real client with a pipe between them instead of a socket, against a plain model: what the
//! model knows the client must know in the end, and of trades it must have had each one, in order, or been
//! told exactly how many it had not. Symbols change their sectors meanwhile: what joins a set must come
//! whole, and what leaves it must be said to, and be dropped. Some connections have several sessions: to each
//! of these the same holds as to one that has a connection for itself.

use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::json;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tickcast::client::{Change, Command, Event, Input, Options, Output, Session};
use tickcast::hub::{Kind, TRADES_KEPT};
use tickcast::market::{
    Conditions, Event as TapeEvent, Instrument, InstrumentId, Instruments, QuoteValues, Side, Symbol,
    Timestamp,
};
use tickcast::server::fanout::{Fanout, Opening};
use tickcast::server::link::{Breakable, Link};
use tickcast::server::rights::Rights;
use tickcast::tape::{Batch, Epoch, Position};
use tickcast::wire::{
    Answer, BarFields, CloseCode, Encoding, ErrorCode, Fault, Form, Garbled, Incoming, Opcode, QuoteFields,
    SessionNumber, TopicAnswer,
};

pub const SYMBOLS: [&str; 4] = ["A", "B", "C", "D"];
/// Those with a connection of their own.
const HOSTS: usize = 3;
/// Those that are further sessions on the connection of one of these, and their numbers there.
const GUESTS: [(usize, u64); 3] = [(0, 1), (0, 15), (1, 2)];
const CLIENTS: usize = HOSTS + GUESTS.len();
/// Symbols begin in the first, which has no name.
const SECTORS: [&str; 3] = ["", "x", "y"];
/// Topics that histories subscribe: singles, sets, overlaps of both.
pub const TOPICS: [&str; 17] = [
    "quote:A",
    "quote:B",
    "quote:*",
    "trades:A",
    "trades:C",
    "trades:*",
    "day:*",
    "bars.1s:B",
    "status",
    "quote:@x",
    "quote:@y",
    "trades:@x",
    "trades:@x",
    "trades:@y",
    "day:@x",
    "bars.1s:@x",
    "bars.1s:@y",
];

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
    /// The tape begins anew.
    Reset,
    /// The way to a client is broken at its own wish, for so many milliseconds.
    Fault(usize, Fault, u16),
}

#[derive(Clone, Debug)]
pub enum Tick {
    /// Symbol; bid and ask in hundredths, `None` for an empty side; sizes in tenths; a finer digit now and
    /// then.
    Quote(usize, Option<u16>, u8, Option<u16>, u8, bool),
    Trade(usize, u16, u8, bool),
    /// A symbol moves into another sector.
    Move(usize, usize),
}

pub fn tick() -> impl Strategy<Value = Tick> {
    let side = || proptest::option::weighted(0.9, 1..500_u16);
    let fine = || proptest::bool::weighted(0.03);
    prop_oneof![
        2 => (0..SYMBOLS.len(), side(), any::<u8>(), side(), any::<u8>(), fine())
            .prop_map(|(s, b, bs, a, as_, f)| Tick::Quote(s, b, bs, a, as_, f)),
        3 => (0..SYMBOLS.len(), 1..500_u16, any::<u8>(), fine()).prop_map(|(s, p, n, f)| Tick::Trade(s, p, n, f)),
        1 => (0..SYMBOLS.len(), 0..SECTORS.len()).prop_map(|(symbol, sector)| Tick::Move(symbol, sector)),
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
        2 => client().prop_map(Op::Drop),
        1 => proptest::option::weighted(0.2, Just(Op::Reset)).prop_map(|op| op.unwrap_or(Op::Pass(10))),
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
pub struct Pipe {
    pub bytes: VecDeque<u8>,
    room: usize,
    /// How often it was asked to take any.
    asked: u64,
    /// It did not take all, and nobody has read since.
    is_full: bool,
    finished: bool,
    /// The server has dropped its end, whose key may be another's by now.
    dropped: bool,
}

/// The server's end of a pipe.
#[derive(Debug)]
pub struct PipeEnd {
    pipe: Rc<RefCell<Pipe>>,
    /// The second in which the client began a message that is not whole.
    begun: Option<u32>,
}

pub type Shard = Fanout<Breakable<PipeEnd>>;

fn pipe_end(pipe: &Rc<RefCell<Pipe>>) -> Breakable<PipeEnd> {
    Breakable::new(PipeEnd { pipe: Rc::clone(pipe), begun: None })
}

impl Link for PipeEnd {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut pipe = self.pipe.borrow_mut();
        let taken = bytes.len().min(pipe.room);
        pipe.asked += 1;
        pipe.bytes.extend(&bytes[..taken]);
        pipe.room -= taken;
        pipe.is_full = taken < bytes.len();
        Ok(taken)
    }

    fn finish(&mut self) {
        self.pipe.borrow_mut().finished = true;
    }

    fn begun(&self) -> Option<u32> {
        self.begun
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut pipe = self.pipe.borrow_mut();
        (pipe.finished, pipe.dropped) = (true, true);
    }
}

impl Connected {
    fn is_dropped(&self) -> bool {
        self.pipe.borrow().dropped
    }
}

struct Client {
    session: Session,
    /// Whose connection it is on, and its number there.
    host: usize,
    number: SessionNumber,
    link: Option<Connected>,
    /// Sessions of its number that were closed, and are not said to be.
    closing: u32,
    /// Of a host: what it was welcomed with, and the newest model that was told of over this connection.
    welcome: Option<Answer>,
    newest: usize,
    /// What it has asked for.
    topics: BTreeSet<&'static str>,
    /// What it has been told that it gets.
    granted: BTreeSet<String>,
    /// Where the tape was when it was first told so.
    granted_at: BTreeMap<String, Position>,
    options: Options,
    /// Those of which the first snapshot is in.
    settled: BTreeSet<String>,
    /// The same of symbols that the client either counts on or begins anew: those that have left, which may
    /// be said again until the end of its flush; and those that were told in a snapshot which was cut off.
    maybe_next: BTreeMap<String, Option<u64>>,
    /// Per symbol the number of the next trade, where one was had.
    next_trade: BTreeMap<String, u64>,
    /// Symbols that have left, which may be said again.
    left: BTreeSet<String>,
    /// Whether it may have been sent what cannot be read, after which it believes nothing it knew.
    garbled: bool,
    /// The last comparison: each topic with whether both sides had the same.
    verified: Vec<(String, bool)>,
}

struct Connected {
    shard: usize,
    key: usize,
    pipe: Rc<RefCell<Pipe>>,
    inbox: Vec<u8>,
    /// A checksum was asked for over this connection, and is not answered yet.
    verifies: bool,
}

/// The truth since the tape began, or began anew, kept as plainly as can be.
#[derive(Default)]
struct Model {
    quotes: BTreeMap<&'static str, QuoteValues>,
    trades: BTreeMap<&'static str, Vec<Traded>>,
    /// Per symbol its sectors, each with the batch from which on it has been of it.
    sectors: BTreeMap<&'static str, Vec<(Position, &'static str)>>,
}

/// A trade: the batch it came in, its price and size.
type Traded = (Position, Decimal, Decimal);

pub struct World {
    /// Two shards, of which the second hears of the tape late: a client that comes from the first to it is
    /// ahead of it.
    shards: [Shard; 2],
    late: Vec<Batch>,
    connects: usize,
    instruments: Instruments,
    position: Position,
    /// The last one is of now; the name of an instrument says which one it is of.
    models: Vec<Model>,
    clients: Vec<Client>,
    start: Instant,
    now: Duration,
}

impl Client {
    fn watches(&self, kind: &str, symbol: &str, sector: &str) -> bool {
        topics_of(kind, symbol, sector).iter().any(|topic| self.topics.contains(&**topic))
    }

    /// What is subscribed anew is counted anew.
    fn unsubscribed(&mut self, topics: &[TopicAnswer]) {
        for TopicAnswer { topic, .. } in topics {
            self.granted.remove(topic);
            self.granted_at.remove(topic);
            self.settled.remove(topic);
        }
        // What is given up may be had again as if it had not been: a symbol that has moved is yet to be said
        // to have left the set that it was counted in, be it one that stays. While it is away, a topic whose
        // first snapshot it never had is asked for anew, of which nothing is said to have left before.
        let is_away = self.link.is_none();
        let is_given_up = |symbol: &&String| {
            !self.covers(&self.granted, symbol) || (is_away && !self.covers(&self.settled, symbol))
        };
        let given_up: Vec<String> = self.next_trade.keys().filter(is_given_up).cloned().collect();
        for symbol in given_up {
            let next = self.next_trade.remove(&symbol);
            self.maybe_next.insert(symbol, next);
        }
    }

    /// What was counted is void.
    fn forget(&mut self) {
        self.next_trade.clear();
        self.maybe_next.clear();
        self.left.clear();
    }

    fn disconnected(&mut self) {
        let is_cut = |symbol: &&String| !self.covers(&self.settled, symbol);
        let cut: Vec<String> = self.next_trade.keys().filter(is_cut).cloned().collect();
        for symbol in cut {
            let next = self.next_trade.remove(&symbol);
            self.maybe_next.insert(symbol, next);
        }
        self.settled.retain(|topic| self.topics.contains(&**topic));
    }

    /// Whether trades of a symbol, of the sector that the client knows it to be of, are of these topics.
    fn covers(&self, topics: &BTreeSet<String>, symbol: &str) -> bool {
        let sector = self.session.image().book(symbol).map_or("", |book| &book.instrument.sector);
        topics_of("trades", symbol, sector).iter().any(|topic| topics.contains(topic))
    }
}

fn topics_of(kind: &str, symbol: &str, sector: &str) -> [String; 3] {
    [format!("{kind}:{symbol}"), format!("{kind}:*"), format!("{kind}:@{sector}")]
}

impl Model {
    fn sector(&self, symbol: &str) -> &'static str {
        self.sectors.get(symbol).and_then(|sectors| sectors.last()).map_or("", |&(_, sector)| sector)
    }

    fn moves(&mut self, symbol: &'static str, at: Position, sector: &'static str) {
        let sectors = self.sectors.entry(symbol).or_default();
        // What happens within a batch counts as its end is.
        sectors.retain(|&(since, _)| since < at);
        if sectors.last().is_none_or(|&(_, before)| before != sector) {
            sectors.push((at, sector));
        }
    }

    fn trades(&self, symbol: &str) -> &[Traded] {
        self.trades.get(symbol).map_or(&[], |trades| trades)
    }

    /// Whether a symbol has left one of these sets since that was granted.
    fn left_after(&self, symbol: &str, granted_at: &BTreeMap<String, Position>) -> bool {
        let sectors = &self.sectors[symbol];
        sectors.iter().zip(&sectors[1..]).any(|(&(_, sector), &(until, _))| {
            granted_at.get(&format!("trades:@{sector}")).is_some_and(|&granted| until > granted)
        })
    }

    /// Whether a symbol had left a sector by when its trades before `next` were made.
    fn has_left_by(&self, symbol: &str, next: u64) -> bool {
        let trades = self.trades(symbol);
        self.sectors[symbol]
            .iter()
            .skip(1)
            .any(|&(until, _)| trades.partition_point(|&(traded, ..)| traded < until) as u64 <= next)
    }

    /// Whether a symbol of which a client has had the trades before `next` can have left its sector there:
    /// whatever came while it was in it has been had, or was counted as missed.
    fn can_leave(&self, symbol: &str, next: Option<u64>) -> bool {
        let (sectors, trades) = (&self.sectors[symbol], self.trades(symbol));
        let before = |at| trades.partition_point(|&(traded, ..)| traded < at);
        let is_gone = |number: usize| number + TRADES_KEPT <= trades.len();
        sectors.iter().zip(&sectors[1..]).any(|(&(from, _), &(until, _))| {
            let (first, end) = (before(from), before(until));
            match next.map(|next| usize::try_from(next).unwrap()) {
                Some(next) => next == end || (next > end && is_gone(next)),
                None => first == end || is_gone(end),
            }
        })
    }
}

impl World {
    pub fn new() -> Self {
        let start = Instant::now();
        let places = (0..HOSTS).map(|host| (host, 0)).chain(GUESTS);
        let client = |(seed, (host, number))| Client {
            session: Session::new(seed, start),
            host,
            number: SessionNumber::new(number).unwrap(),
            closing: 0,
            welcome: None,
            newest: 0,
            link: None,
            topics: BTreeSet::new(),
            granted: BTreeSet::new(),
            granted_at: BTreeMap::new(),
            settled: BTreeSet::new(),
            maybe_next: BTreeMap::new(),
            left: BTreeSet::new(),
            options: Options::default(),
            next_trade: BTreeMap::new(),
            garbled: false,
            verified: Vec::new(),
        };
        Self {
            // So small that most flushes come in several updates, and few sessions to one cohort or two.
            shards: [2, 1].map(|cohort| Fanout::with_limits(Epoch::new(7), 100, cohort)),
            late: Vec::new(),
            connects: 0,
            instruments: Instruments::default(),
            position: Position::START,
            models: vec![Model::default()],
            clients: (0..).zip(places).map(client).collect(),
            start,
            now: Duration::ZERO,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Publish(ticks) => self.publish(&ticks),
            Op::Burst(symbol, count) => self.burst(symbol, count),
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
            Op::Reset => self.reset(),
            Op::Fault(client, fault, millis) => {
                let lasts = matches!(fault, Fault::Mute | Fault::Delay(_) | Fault::Slow(_))
                    .then(|| Duration::from_millis(millis.into()));
                // It is the connection that breaks.
                let host = self.clients[client].host;
                self.clients[host].garbled |= matches!(fault, Fault::Garble(_));
                self.command(host, Command::Fault { fault, lasts });
            }
        }
    }

    pub fn burst(&mut self, symbol: usize, count: u16) {
        let trades: Vec<Tick> = (0..count).map(|n| Tick::Trade(symbol, 1 + n % 300, 1, false)).collect();
        trades.chunks(100).for_each(|trades| self.publish(trades));
    }

    /// The tape begins anew.
    pub fn reset(&mut self) {
        self.instruments = Instruments::default();
        self.models.push(Model::default());
        self.put(vec![TapeEvent::Reset]);
    }

    /// The shard that hears of the tape at once.
    pub fn prompt(&mut self) -> &mut Shard {
        &mut self.shards[0]
    }

    pub fn publish(&mut self, ticks: &[Tick]) {
        let mut events = Vec::new();
        let time = self.time();
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
                    let id = self.known(symbol, &mut events);
                    let quote = self.instruments.quote(id, &values, (time, time), &mut events).unwrap();
                    events.push(TapeEvent::Quote(id, quote));
                    self.model().quotes.insert(SYMBOLS[symbol], values);
                }
                Tick::Trade(symbol, p, s, fine) => {
                    let numbers = (price(p, fine), size(s, false));
                    let id = self.known(symbol, &mut events);
                    let kind = (Side::Buy, Conditions::default());
                    let trade = self.instruments.trade(id, numbers, kind, (time, time), &mut events).unwrap();
                    events.push(TapeEvent::Trade(id, trade));
                    let traded = (self.position.next(), numbers.0, numbers.1);
                    self.model().trades.entry(SYMBOLS[symbol]).or_default().push(traded);
                }
                Tick::Move(symbol, sector) => {
                    let id = self.known(symbol, &mut events);
                    let known = self.instruments.get(id).expect("just made known");
                    let definition = Instrument { sector: SECTORS[sector].to_owned(), ..(**known).clone() };
                    self.instruments.define(definition, &mut events);
                    let at = self.position.next();
                    self.model().moves(SYMBOLS[symbol], at, SECTORS[sector]);
                }
            }
        }
        self.put(events);
    }

    fn model(&mut self) -> &mut Model {
        self.models.last_mut().expect("one at least")
    }

    /// The number of a symbol, which is defined where it is new.
    fn known(&mut self, symbol: usize, events: &mut Vec<TapeEvent>) -> InstrumentId {
        if let Some(known) = self.instruments.by_symbol(SYMBOLS[symbol]) {
            return known.id;
        }
        let unknown = Instrument::unknown(Symbol::new(SYMBOLS[symbol]).unwrap());
        let name = (self.models.len() - 1).to_string();
        let at = self.position.next();
        self.model().moves(SYMBOLS[symbol], at, SECTORS[0]);
        self.instruments.define(Instrument { name, ..unknown }, events)
    }

    /// Puts a batch on the tape.
    fn put(&mut self, events: Vec<TapeEvent>) {
        let time = self.time();
        self.position = self.position.next();
        let batch = Batch { position: self.position, time, events };
        self.shards[0].apply(&batch);
        self.late.push(batch);
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_nanos(1_000_000_000_000 + i64::try_from(self.now.as_nanos()).unwrap())
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        // Half of what the late one has not heard yet it hears before its flush, of the rest a batch after
        // each cohort.
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
            if client < HOSTS
                && self.clients[client].link.as_ref().is_some_and(|link| {
                    let pipe = link.pipe.borrow();
                    pipe.finished && pipe.bytes.is_empty()
                })
            {
                self.hang_up(client, true);
            }
        }
    }

    fn read(&mut self, client: usize, bytes: usize) {
        let client = self.clients[client].host;
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
                2 => {
                    let (number, message) = SessionNumber::split(&payload);
                    self.hear(client, number, message);
                }
                8 => return self.hang_up(client, true),
                9 => self.answer_ping(client, payload),
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

    /// What a session of this connection knows from before that position is void: also one that is opened
    /// later.
    fn note_reset(&mut self, host: usize, at: u64) {
        if let Some(Answer::Welcome { begins, .. }) = &mut self.clients[host].welcome {
            *begins = at.max(*begins);
        }
    }

    /// A message of one of the sessions on a connection.
    fn hear(&mut self, host: usize, number: SessionNumber, message: &[u8]) {
        // A map; updates are lists.
        let is_answer = matches!(message[0], 0x80..=0x8f | 0xde);
        let answer = is_answer.then(|| rmp_serde::from_slice::<Answer>(message).expect("an answer"));
        if number == SessionNumber::FIRST {
            match answer {
                Some(welcome @ Answer::Welcome { .. }) => self.clients[host].welcome = Some(welcome),
                Some(Answer::Reset { begins }) => self.note_reset(host, begins),
                _ => {}
            }
            return self.handle(host, Input::Binary(message));
        }
        let of_number = |them: &Client| them.host == host && them.number == number;
        let guest = self.clients.iter().position(of_number).expect("nobody else asked for a session");
        let them = &mut self.clients[guest];
        match answer {
            Some(Answer::Closed { .. }) => them.closing -= 1,
            _ if them.closing > 0 => {}
            // A further session is like a first one from there on.
            Some(Answer::Opened { position: at, time: now, .. }) => {
                let mut welcome = self.clients[host].welcome.clone().expect("it comes first");
                let Answer::Welcome { position, time, .. } = &mut welcome else { unreachable!() };
                (*position, *time) = (at, now);
                self.handle(guest, Input::Binary(&welcome.to_msgpack()));
            }
            _ => self.handle(guest, Input::Binary(message)),
        }
    }

    /// As a library does, which has read as far as the ping.
    fn answer_ping(&mut self, client: usize, payload: Vec<u8>) {
        if let Some(link) = self.clients[client].link.as_ref().filter(|link| !link.is_dropped()) {
            self.shards[link.shard].received(link.key, [Incoming::Pong(payload)], None);
        }
    }

    fn writable(&mut self, client: usize) {
        let client = self.clients[client].host;
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
        let closed = || Input::Closed { code: None, reason: "dropped".to_owned() };
        let Some(link) = self.clients[client].link.take() else { return };
        let number = self.clients[client].number;
        if number != SessionNumber::FIRST {
            self.clients[client].closing += 1;
            self.ask_of(&link, &format!(r#"{{"op":"close","session":{number}}}"#));
        } else if !link.is_dropped() {
            self.shards[link.shard].closed(link.key);
        }
        if tell {
            self.handle(client, closed());
        }
        if number == SessionNumber::FIRST {
            for guest in HOSTS..CLIENTS {
                if self.clients[guest].host == client {
                    self.clients[guest].closing = 0;
                    if self.clients[guest].link.take().is_some() {
                        self.handle(guest, closed());
                    }
                }
            }
        }
    }

    fn ask_of(&mut self, link: &Connected, text: &str) {
        if !link.is_dropped() {
            self.shards[link.shard].received(link.key, [request(text.as_bytes())], None);
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
                    let text = marked(text, self.clients[client].number);
                    if let Some(link) = self.clients[client].link.as_mut().filter(|link| !link.is_dropped()) {
                        link.verifies |= text.contains("checksum");
                        let (shard, key) = (link.shard, link.key);
                        self.shards[shard].received(key, [request(text.as_bytes())], None);
                    }
                }
                Output::Event(event) => self.check_event(client, event),
            }
        }
    }

    fn connect(&mut self, client: usize) {
        if client >= HOSTS {
            return self.open_guest(client);
        }
        let pipe = Rc::new(RefCell::new(Pipe { room: 300, ..Pipe::default() }));
        let opening = Opening::new(Form::MSGPACK, Rights::ALL);
        let shard = self.connects % self.shards.len();
        self.connects += 1;
        let key = self.shards[shard].open(&opening, |_| pipe_end(&pipe));
        self.clients[client].link = Some(Connected { shard, key, pipe, inbox: Vec::new(), verifies: false });
        self.clients[client].newest = 0;
        self.handle(client, Input::Connected);
    }

    /// One more session on the connection of its host; where that is away it is asked for once more later, as
    /// after any loss.
    fn open_guest(&mut self, guest: usize) {
        let Client { host, number, .. } = self.clients[guest];
        let Some(link) = &self.clients[host].link else {
            return self.handle(guest, Input::Closed { code: None, reason: "no connection".to_owned() });
        };
        let Connected { shard, key, ref pipe, .. } = *link;
        let link = Connected { shard, key, pipe: Rc::clone(pipe), inbox: Vec::new(), verifies: false };
        self.ask_of(&link, &format!(r#"{{"op":"open","session":{number}}}"#));
        self.clients[guest].link = Some(link);
        self.handle(guest, Input::Connected);
    }

    /// What comes behind a reset, in whichever session, is of behind it.
    fn check_order(&mut self, host: usize, changes: &[Change]) {
        let newest = &mut self.clients[host].newest;
        for change in changes {
            let (Change::Trade { instrument, .. } | Change::Quote { instrument, .. }) = change else {
                continue;
            };
            let model = instrument.name.parse().expect("the number of a model");
            assert!(model >= *newest, "{}: of tape {model} behind one of {newest}", instrument.symbol);
            *newest = model;
        }
    }

    /// Trades must be the model's, each once, in order, or exactly counted as missed.
    fn check_event(&mut self, client: usize, event: Event) {
        if let Event::Update { changes, position, .. } = &event {
            let host = self.clients[client].host;
            self.check_order(host, changes);
            if changes.contains(&Change::Reset) {
                self.note_reset(host, position.get());
            }
        }
        let Client { next_trade, maybe_next, left, granted_at, .. } = &mut self.clients[client];
        let changes = match event {
            Event::Update { changes, .. } => changes,
            Event::Subscribed { topics } => {
                let at = self.position;
                let them = &mut self.clients[client];
                for TopicAnswer { topic, .. } in topics {
                    them.granted_at.entry(topic.clone()).or_insert(at);
                    them.granted.insert(topic);
                }
                return;
            }
            Event::Unsubscribed { topics } => return self.clients[client].unsubscribed(&topics),
            Event::Settled { topics } => {
                let them = &mut self.clients[client];
                them.settled.extend(topics.iter().map(ToString::to_string));
                return;
            }
            Event::Disconnected { .. } => return self.clients[client].disconnected(),
            Event::Verified { topics, .. } => {
                let Client { link, verified, .. } = &mut self.clients[client];
                link.as_mut().expect("it came over one").verifies = false;
                *verified = topics;
                return;
            }
            // All that it knew is void also where the tape began anew while it was away.
            Event::Replaced if std::mem::take(&mut self.clients[client].garbled) || self.models.len() > 1 => {
                return self.clients[client].forget();
            }
            Event::Replaced => panic!("there is one epoch only"),
            Event::Closed { reason, .. } => panic!("closed for good: {reason}"),
            Event::Error { message, .. } => panic!("refused: {message}"),
            _ => return,
        };
        let model = |instrument: &Instrument| &self.models[instrument.name.parse::<usize>().unwrap()];
        let (mut joins, mut leaves) = (Vec::new(), Vec::new());
        for change in &changes {
            match change {
                Change::Joined { instrument, kind: Kind::Trades } => {
                    joins.push(instrument.symbol.to_string())
                }
                Change::Left { instrument, kind: Kind::Trades } => leaves.push(instrument.symbol.to_string()),
                _ => {}
            }
        }
        for change in changes {
            match change {
                Change::Reset => {
                    next_trade.clear();
                    maybe_next.clear();
                    left.clear();
                }
                Change::Left { instrument, kind: Kind::Trades } => {
                    let symbol = instrument.symbol.as_str();
                    let next = next_trade.remove(symbol);
                    let is_repeated = next.is_none() && left.contains(symbol);
                    let maybe = maybe_next.get(symbol).copied().flatten();
                    let can_leave = |next| model(&instrument).can_leave(symbol, next);
                    // Of what has left before it was subscribed nothing is owed, and it may be said all the
                    // same.
                    let is_old = next.is_none() && !model(&instrument).left_after(symbol, granted_at);
                    // A snapshot that was cut off may have brought more than there was when it left.
                    let had = |maybe| can_leave(Some(maybe)) || model(&instrument).has_left_by(symbol, maybe);
                    let can_leave = is_repeated || is_old || can_leave(next) || maybe.is_some_and(had);
                    assert!(can_leave, "{symbol}: left behind trade {next:?}");
                    let known = maybe_next.entry(symbol.to_owned()).or_default();
                    *known = next.or(*known);
                    left.insert(symbol.to_owned());
                }
                Change::Trade { instrument, number, trade } => {
                    let symbol = instrument.symbol.as_str();
                    let trades = model(&instrument).trades(symbol);
                    let (_, price, size) = trades[usize::try_from(number).unwrap()];
                    let is_whole = number == 0 || number + TRADES_KEPT as u64 <= trades.len() as u64;
                    let goes_on =
                        next_trade.contains_key(symbol) || maybe_next.remove(symbol) == Some(Some(number));
                    assert!(
                        is_whole || goes_on || leaves.iter().any(|name| name == symbol),
                        "{symbol}: begins with trade {number}"
                    );
                    assert_eq!(trade.price.to_decimal(instrument.price_scale), Some(price));
                    assert_eq!(trade.size.to_decimal(instrument.size_scale), size);
                    left.remove(symbol);
                    let next = next_trade.entry(symbol.to_owned()).or_insert(number);
                    assert_eq!(*next, number, "{symbol}: lost, repeated or reordered without a gap");
                    *next += 1;
                }
                Change::Gap { instrument, kind: Kind::Trades, missed } => {
                    let symbol = instrument.symbol.as_str();
                    if !next_trade.contains_key(symbol)
                        && let Some(next) = maybe_next.remove(symbol).flatten()
                    {
                        // It goes on counting.
                        next_trade.insert(symbol.to_owned(), next);
                    }
                    // A ring of which nothing was had yet is counted from the first trade of it.
                    let Some(next) = next_trade.get_mut(symbol) else {
                        assert!(
                            joins.iter().all(|name| name != symbol),
                            "{symbol}: nothing is lost of what joins"
                        );
                        continue;
                    };
                    *next += missed;
                    let published = model(&instrument).trades(symbol).len() as u64;
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
            for client in 0..HOSTS {
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
            quiet &= self.clients.iter().all(|client| client.link.is_some());
            if quiet && self.shards.iter().all(|shard| shard.next_due().is_none()) {
                break;
            }
        }
        for client in 0..CLIENTS {
            assert!(self.clients[client].closing == 0, "no word of a session's end");
            assert!(self.clients[client].link.as_ref().is_none_or(|link| !link.verifies), "no checksum came");
            self.verify(client);
            self.read(client, 1 << 16);
            self.check_client(&self.clients[client]);
        }
    }

    fn check_client(&self, client: &Client) {
        assert!(client.link.is_some(), "came back");
        let model = self.models.last().expect("one at least");
        let watches = |kind: &str, symbol: &str| client.watches(kind, symbol, model.sector(symbol));
        let verified =
            |kind: &str, symbol: &str| client.verified.contains(&(format!("{kind}:{symbol}"), true));
        for symbol in SYMBOLS {
            let Some(book) = self.shards[0].replica().by_symbol(symbol) else { continue };
            let (price_scale, size_scale) = (book.definition.price_scale, book.definition.size_scale);
            if let Some(quote) = model.quotes.get(symbol).filter(|_| watches("quote", symbol)) {
                assert!(verified("quote", symbol), "{symbol}: {:?}", client.verified);
                let image = client.session.image().book(symbol).expect("a subscribed quote").quote;
                let price = |p: Option<tickcast::market::Price>| p.unwrap().to_decimal(price_scale);
                let size = |s: Option<tickcast::market::Size>| s.unwrap().to_decimal(size_scale);
                assert_eq!((price(image.bid), size(image.bid_size)), (quote.bid, quote.bid_size));
                assert_eq!((price(image.ask), size(image.ask_size)), (quote.ask, quote.ask_size));
            }
            let image = client.session.image().book(symbol);
            let known = image.map(|book| (book.quote, book.bars_1s, book.day)).unwrap_or_default();
            assert!(
                watches("quote", symbol) || known.0 == QuoteFields::default(),
                "{symbol}: stale {:?}",
                known.0
            );
            assert!(
                watches("bars.1s", symbol) || known.1 == BarFields::default(),
                "{symbol}: stale {:?}",
                known.1
            );
            assert!(
                watches("day", symbol) || known.2 == BarFields::default(),
                "{symbol}: stale {:?}",
                known.2
            );
            let is_counted = client.next_trade.contains_key(symbol);
            assert!(watches("trades", symbol) || !is_counted, "{symbol}: has left without a word");
            let Some(trades) = model.trades.get(symbol) else { continue };
            if watches("trades", symbol) {
                let next = client.next_trade.get(symbol).copied();
                let next = next.or_else(|| client.maybe_next.get(symbol).copied().flatten());
                assert_eq!(next, Some(trades.len() as u64), "{symbol}: the newest trades are missing");
            }
            if watches("day", symbol) {
                assert!(verified("day", symbol), "{symbol}: {:?}", client.verified);
                let day = client.session.image().book(symbol).expect("a subscribed day").day;
                let prices = || trades.iter().map(|&(_, price, _)| price);
                let price = |p: Option<tickcast::market::Price>| p.unwrap().to_decimal(price_scale);
                assert_eq!(price(day.open), prices().next());
                assert_eq!(price(day.high), prices().max());
                assert_eq!(price(day.low), prices().min());
                assert_eq!(price(day.close), prices().next_back());
                let volume: Decimal = trades.iter().map(|&(_, _, size)| size).sum();
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

/// A client's request in that session, if it is about a session.
fn marked(text: String, number: SessionNumber) -> String {
    let mut request: serde_json::Value = serde_json::from_str(&text).expect("requests are JSON");
    let is_of_connection = ["ping", "fault", "replay"].map(Into::into).contains(&request["op"]);
    if number == SessionNumber::FIRST || is_of_connection {
        return text;
    }
    request["session"] = number.index().into();
    request.to_string()
}

/// A client's request in JSON.
fn request(text: &[u8]) -> Incoming {
    Incoming::Message(Encoding::Json, text.to_vec())
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

#[test]
fn a_session_that_is_opened_again_after_a_reset_keeps_nothing_from_before() {
    let trade = || Op::Publish(vec![Tick::Trade(3, 1, 0, false)]);
    let quiet = || [Op::Publish(Vec::new()), Op::Pass(0)];
    let mut world = World::new();
    quiet().into_iter().for_each(|op| world.apply(op));
    world.apply(trade());
    quiet().into_iter().chain(quiet()).for_each(|op| world.apply(op));
    for op in [Op::Read(0, 250), Op::Pass(0), trade(), Op::Subscribe(4, vec![9, 5]), Op::Reset] {
        world.apply(op);
    }
    for op in [Op::Read(3, 207), trade(), Op::Drop(4)] {
        world.apply(op);
    }
    world.settle_and_check();
}

proptest! {
    // More by PROPTEST_CASES.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(10_000), ..ProptestConfig::default() })]

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
pub fn watcher(world: &mut World, form: Form, topics: &str, max_hz: Option<f64>) -> Rc<RefCell<Pipe>> {
    let topics = topics.split(',').map(str::to_owned).collect();
    let opening = Opening { topics, max_hz, ..Opening::new(form, Rights::ALL) };
    let pipe = Rc::new(RefCell::new(Pipe { room: usize::MAX, ..Pipe::default() }));
    world.shards[0].open(&opening, |_| pipe_end(&pipe));
    pipe
}

#[test]
fn a_flush_is_built_once_and_sent_once_to_each_session_of_a_view() {
    let (mut world, pipes) = watchers(1000, Form::MSGPACK, "quote:A,trades:A");
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
    let (mut world, pipes) = watchers(100, Form::MSGPACK, "quote:A");
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
    for form in [Form::MSGPACK, Form::JSON] {
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
fn what_is_lost_while_a_flush_goes_out_in_parts_is_told_once() {
    // More than a ring keeps come to B between the two parts: all that the second part was to have is lost,
    // and in the end some of what follows it.
    for (more, next) in [(4, 2), (5, 3), (9, 7)] {
        let mut world = World::new();
        world.shards[0].keep(4, 4);
        let trade = |symbol| Tick::Trade(symbol, 100, 1, false);
        world.publish(&[trade(0), trade(1)]);
        let pipe = watcher(&mut world, Form::SOCKET_IO, "trades:A,trades:B", None);
        let go_on = |world: &mut World| {
            world.shards[0].received(0, [request(b"3")], None);
            world.shards[0].writable(0);
            world.shards[0].flush();
        };
        (0..5).for_each(|_| go_on(&mut world));
        pipe.borrow_mut().bytes.clear();
        pipe.borrow_mut().room = 1;
        world.publish(&[trade(0), trade(1)]);
        world.shards[0].flush();
        (0..more).for_each(|_| world.publish(&[trade(1)]));
        pipe.borrow_mut().room = usize::MAX;
        (0..5).for_each(|_| go_on(&mut world));
        let texts = frames(&pipe).0.into_iter().map(|(_, text)| String::from_utf8(text).expect("UTF-8"));
        let events = texts.filter_map(|text| text.strip_prefix("42").map(str::to_owned));
        let told = events.flat_map(|event| {
            let event: serde_json::Value = serde_json::from_str(&event).expect("JSON");
            if event[0] == "gap" {
                return vec![format!("{} from {}", event[1]["topic"].as_str().unwrap(), event[1]["next"])];
            }
            let entries = event[1]["updates"].as_array().expect("a list").iter();
            let trades = entries.filter_map(|entry| entry["trades"].as_array()).flatten();
            trades.map(|trade| trade["number"].to_string()).collect()
        });
        let numbers = (next..2 + more).map(|number| number.to_string());
        let expected = ["1".to_owned(), format!("trades:B from {next}")].into_iter().chain(numbers);
        assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{more}");
        assert_eq!(world.shards[0].counters().gaps, 1, "{more}");
    }
}

#[test]
fn what_comes_within_a_flush_is_told_at_once_to_those_still_in_line_and_next_time_to_the_others() {
    let (mut world, pipes) = watchers(7, Form::JSON, "quote:A");
    let publish = |world: &mut World, price| world.publish(&[Tick::Quote(0, Some(price), 1, None, 0, false)]);
    publish(&mut world, 200);
    // Four cohorts of two. The shard hears of 201 when the first has been served, and of 202 after the
    // second.
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
    let (mut world, pipes) = watchers(1, Form::JSON, "quote:A");
    let shard = &mut world.shards[0];
    shard.received(0, [request(br#"{"op":"replay","id":7}"#)], None);
    let [ref asked] = shard.take_asked()[..] else { panic!("one request") };
    let (key, number) = (asked.key, asked.number);
    let publish = |world: &mut World, price| {
        world.publish(&[Tick::Quote(0, Some(price), 1, None, 0, false)]);
        world.shards[0].flush();
    };
    publish(&mut world, 200);
    pipes[0].borrow_mut().room = 40;
    let outcome = Err((ErrorCode::Unavailable, "nothing is played yet".to_owned()));
    world.shards[0].answer_asked(key, number, outcome);
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
        let pipe = watcher(&mut world, Form::JSON, "quote:A", max_hz);
        let flush = |world: &mut World, at, price| {
            let before = pipe.borrow().bytes.len();
            bid(world, price);
            world.shards[0].tick(Duration::from_secs(at));
            world.shards[0].flush();
            answer_last_ping(&mut world.shards[0], 0, &pipe);
            pipe.borrow().bytes.len() - before
        };
        flush(&mut world, 1, 200);
        let frame = flush(&mut world, 2, 201);
        pipe.borrow_mut().room = 40;
        flush(&mut world, 3, 202);
        bid(&mut world, 203);
        world.shards[0].received(0, [request(br#"{"op":"checksum","topics":["quote:A"]}"#)], None);
        // It has come as far as its cohort, which is not flushed now. There is room for the rest of the
        // frame, and all or half of another.
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
    let pipe = watcher(&mut world, Form::JSON, "quote:B", None);
    world.shards[0].received(0, [request(br#"{"op":"fault","fault":"delay","by_ms":500}"#)], None);
    world.publish(&[Tick::Quote(0, Some(100), 1, None, 0, false)]);
    world.shards[0].received(0, [request(br#"{"op":"checksum","topics":["quote:B"]}"#)], None);
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
    let mut pipes: Vec<_> = (0..2).map(|_| watcher(&mut world, Form::JSON, "quote:A", Some(1.0))).collect();
    let mut sent_at = |millis, price, joins: bool| {
        let now = Duration::from_millis(millis);
        if joins {
            pipes.push(watcher(&mut world, Form::JSON, "quote:A", Some(1.0)));
        }
        world.publish(&[Tick::Quote(0, Some(price), 1, None, 0, false)]);
        let shard = &mut world.shards[0];
        let before = shard.counters().sent;
        shard.tick(now);
        shard.flush();
        let (due, sent) = (shard.next_due(), shard.counters().sent - before);
        assert!(due.is_none_or(|due| due > now), "nothing to do before {due:?}");
        pipes.iter().enumerate().for_each(|(key, pipe)| answer_last_ping(shard, key, pipe));
        (sent, due)
    };
    assert_eq!(sent_at(100, 200, false), (2, None));
    assert_eq!(sent_at(400, 201, true), (0, Some(Duration::from_secs(1))));
    assert_eq!(sent_at(900, 202, false), (0, Some(Duration::from_secs(1))));
    assert_eq!(sent_at(1000, 203, false), (3, None));
}

#[test]
fn what_moved_into_a_set_before_it_is_resumed_was_not_had_with_it() {
    let mut world = World::new();
    let trade = Tick::Trade(0, 100, 1, false);
    for ticks in
        [[Tick::Move(0, 1), trade.clone()], [Tick::Move(0, 1), trade], [Tick::Move(0, 2), Tick::Move(0, 2)]]
    {
        world.publish(&ticks);
    }
    let resume = |world: &mut World, topic, position| {
        let since = serde_json::json!({ "epoch": 7, "position": position });
        let request = serde_json::json!({ "op": "subscribe", "topics": [topic], "since": since });
        world.shards[0].received(0, [self::request(request.to_string().as_bytes())], None);
    };
    let opening = Opening::new(Form::JSON, Rights::ALL);
    let pipe = Rc::new(RefCell::new(Pipe { room: usize::MAX, ..Pipe::default() }));
    world.shards[0].open(&opening, |_| pipe_end(&pipe));
    // The one set is resumed from where A had left it already; the other from where A had not come to it yet.
    resume(&mut world, "trades:@x", 3);
    resume(&mut world, "trades:@y", 2);
    assert_eq!(told(&pipe), ["A in y", "trades:A 0 1"]);
    // Both from where A was of the one: that it is of the other now is nothing to tell, but for its
    // definition.
    let (mut world, pipe) = (world, Rc::new(RefCell::new(Pipe { room: usize::MAX, ..Pipe::default() })));
    let since = tickcast::wire::Resume { epoch: 7, position: 2 };
    let topics = vec!["trades:@x".to_owned(), "trades:@y".to_owned()];
    let opening = Opening { topics, since: Some(since), ..opening };
    world.shards[0].open(&opening, |_| pipe_end(&pipe));
    assert_eq!(told(&pipe), ["A in y"]);
}

/// All that a client was sent, in JSON.
fn messages(pipe: &RefCell<Pipe>) -> Vec<serde_json::Value> {
    let (frames, rest) = frames(pipe);
    assert!(rest.is_empty(), "only whole frames");
    let messages = frames.iter().filter(|(opcode, _)| *opcode != Opcode::Ping as u8);
    messages.map(|(_, payload)| serde_json::from_slice(payload).expect("JSON")).collect()
}

/// The whole frames that a client was sent, opcode and payload, and the bytes behind them.
fn frames(pipe: &RefCell<Pipe>) -> (Vec<(u8, Vec<u8>)>, Vec<u8>) {
    let mut bytes: Vec<u8> = pipe.borrow().bytes.iter().copied().collect();
    let mut frames = Vec::new();
    while let Some((opcode, payload, len)) = whole_frame(&bytes) {
        frames.push((opcode, payload.to_vec()));
        bytes.drain(..len);
    }
    (frames, bytes)
}

/// Answers the last ping that a client was sent, if any was.
fn answer_last_ping(shard: &mut Shard, key: usize, pipe: &RefCell<Pipe>) {
    let ping = frames(pipe).0.into_iter().rfind(|(opcode, _)| *opcode == Opcode::Ping as u8);
    if let Some((_, payload)) = ping {
        shard.received(key, [Incoming::Pong(payload)], None);
    }
}

/// What a client was told since it was last asked, in JSON: the entries of its updates.
fn told(pipe: &RefCell<Pipe>) -> Vec<String> {
    let messages = messages(pipe);
    pipe.borrow_mut().bytes.clear();
    let updates = messages.iter().filter_map(|message| message["updates"].as_array());
    // Which instrument is defined, and of which sector it is; of trades their numbers.
    let shown = |entry: &serde_json::Value| match (&entry["instrument"], &entry["trades"]) {
        (serde_json::Value::Object(it), _) => {
            format!("{} in {}", it["symbol"].as_str().unwrap(), it["sector"].as_str().unwrap())
        }
        (_, serde_json::Value::Array(trades)) => {
            let numbers: Vec<_> = trades.iter().map(|trade| trade["number"].to_string()).collect();
            format!("{} {}", entry["topic"].as_str().unwrap(), numbers.join(" "))
        }
        _ => {
            let topic = entry["topic"].as_str().unwrap();
            let word = ["joined", "left"].into_iter().find(|&word| entry[word] == true);
            let fields = || entry.as_object().unwrap().keys().filter(|&key| key != "topic");
            let fields = || fields().map(String::as_str).collect::<Vec<_>>().join(" ");
            format!("{topic} {}", word.map_or_else(fields, str::to_owned))
        }
    };
    let mut told: Vec<String> = updates.flatten().map(shown).collect();
    // Each update of a flush defines anew.
    let mut defined = BTreeSet::new();
    told.retain(|words| !words.contains(" in ") || defined.insert(words.clone()));
    told
}

#[test]
fn a_symbol_that_moves_into_a_sector_comes_whole_and_one_that_moves_out_is_said_to() {
    let topics = "quote:@x,trades:@x";
    let (mut world, pipes) = watchers(100, Form::JSON, topics);
    let publish = |world: &mut World, ticks: &[Tick]| {
        let before = world.shards[0].counters().built;
        world.publish(ticks);
        world.shards[0].flush();
        world.shards[0].counters().built - before
    };
    let (quote, trade) = (Tick::Quote(0, Some(102), 1, Some(103), 1, false), Tick::Trade(0, 100, 1, false));
    told(&pipes[0]);
    let built = publish(&mut world, &[Tick::Move(0, 1)]);
    let whole =
        ["A in x", "quote:A joined", "quote:A bid bid_size ask ask_size", "trades:A joined", "trades:A 0"];
    assert_eq!((told(&pipes[0]), built), (whole.map(str::to_owned).to_vec(), 2), "two frames for all");
    assert_eq!(told(&pipes[99]), whole);
    publish(&mut world, std::slice::from_ref(&trade));
    assert_eq!(told(&pipes[0]), ["trades:A 1"]);
    // What comes before it leaves is told though it comes in the same flush; what comes with it or after is
    // not.
    world.publish(std::slice::from_ref(&trade));
    let built = publish(&mut world, &[Tick::Move(0, 2), trade.clone()]);
    assert_eq!(
        (told(&pipes[0]).join(", "), built),
        ("A in y, quote:A left, trades:A 2, trades:A left".to_owned(), 2)
    );
    assert_eq!(publish(&mut world, &[quote.clone(), trade.clone()]), 0, "nobody watches it");
    // Who comes later to the same topics hears nothing of it; and one who comes to those of its new sector
    // hears all.
    let late = watcher(&mut world, Form::JSON, topics, None);
    assert!(told(&late).is_empty());
    let other = watcher(&mut world, Form::JSON, "trades:@y", None);
    assert_eq!(told(&other), ["A in y", "trades:A 0 1 2 3 4"]);
    publish(&mut world, &[Tick::Move(0, 1), Tick::Move(0, 2)]);
    assert_eq!((told(&late), told(&other)), (vec![], vec!["A in y".to_owned()]), "it has not moved");
    publish(&mut world, &[Tick::Move(0, 1)]);
    assert_eq!(
        told(&late),
        [
            "A in x",
            "quote:A joined",
            "quote:A bid bid_size ask ask_size",
            "trades:A joined",
            "trades:A 0 1 2 3 4"
        ]
    );
    assert_eq!(told(&other), ["A in x", "trades:A left"]);
}

#[test]
fn a_new_symbol_belongs_to_the_sector_that_its_first_batch_ends_with() {
    let (mut world, pipes) = watchers(1, Form::JSON, "trades:@x");
    told(&pipes[0]);
    // It is known by name before it is known by its sector.
    world.publish(&[Tick::Trade(1, 100, 1, false), Tick::Move(1, 1)]);
    world.shards[0].flush();
    assert_eq!(told(&pipes[0]), ["B in x", "trades:B 0"]);
}

#[test]
fn what_comes_and_goes_while_a_session_is_stuck_is_told_entry_by_entry() {
    let (mut world, pipes) = watchers(1, Form::JSON, "quote:@x,trades:@x");
    told(&pipes[0]);
    pipes[0].borrow_mut().room = 0;
    for ticks in [
        vec![Tick::Trade(0, 100, 1, false)],
        vec![Tick::Move(0, 1)],
        vec![Tick::Trade(0, 100, 1, false), Tick::Quote(0, Some(102), 1, None, 1, false)],
        vec![Tick::Move(0, 2)],
        vec![Tick::Trade(0, 100, 1, false)],
    ] {
        world.publish(&ticks);
        world.shards[0].flush();
    }
    pipes[0].borrow_mut().room = usize::MAX;
    world.shards[0].writable(0);
    let words = told(&pipes[0]);
    assert_eq!(
        words,
        ["A in y", "quote:A joined", "quote:A left", "trades:A joined", "trades:A 2", "trades:A left"]
    );
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

/// What stands between a server and whoever handles its messages: the library reads as long as few wait, and
/// answers pings as it reads.
struct Reader {
    pipe: Rc<RefCell<Pipe>>,
    key: usize,
    /// Messages that wait in the library, by the moment they were sent.
    waiting: VecDeque<Duration>,
    /// The library stops reading at so many, and goes on at a quarter of them.
    most_waiting: usize,
    is_paused: bool,
    handling: Duration,
    busy_until: Duration,
    /// The oldest that was handled, by its age then.
    oldest: Duration,
    handled: u64,
    pongs: u64,
}

impl Reader {
    fn new(world: &mut World, most_waiting: usize, handling: Duration) -> Self {
        let pipe = watcher(world, Form::JSON, "quote:A", None);
        Self {
            pipe,
            key: world.shards[0].len() - 1,
            waiting: VecDeque::new(),
            most_waiting,
            is_paused: false,
            handling,
            busy_until: Duration::ZERO,
            oldest: Duration::ZERO,
            handled: 0,
            pongs: 0,
        }
    }

    /// Handles what it has time for by `now`, and reads on.
    fn run(&mut self, shard: &mut Shard, now: Duration) {
        while self.busy_until <= now
            && let Some(sent) = self.waiting.pop_front()
        {
            self.oldest = self.oldest.max(self.busy_until.max(sent) - sent);
            self.busy_until = self.busy_until.max(sent) + self.handling;
            self.handled += 1;
        }
        self.is_paused &= self.waiting.len() > self.most_waiting / 4;
        while !self.is_paused {
            let frame = {
                let mut pipe = self.pipe.borrow_mut();
                let bytes: &[u8] = pipe.bytes.make_contiguous();
                let Some((opcode, payload, len)) = whole_frame(bytes) else { break };
                let frame = (opcode, payload.to_vec());
                pipe.bytes.drain(..len);
                frame
            };
            match frame {
                (9, payload) => {
                    self.pongs += 1;
                    shard.received(self.key, [Incoming::Pong(payload)], None);
                }
                (_, payload) => {
                    let message: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
                    // The bid of each quote is the moment it was published at, in ms.
                    let entries = message["updates"].as_array().into_iter().flatten();
                    let bids = entries.filter_map(|entry| entry["bid"].as_str()?.parse::<f64>().ok());
                    self.waiting.extend(bids.map(|bid| Duration::from_secs_f64(bid / 1000.0)));
                    self.is_paused = self.waiting.len() >= self.most_waiting;
                }
            }
        }
    }
}

/// A minute of a thousand quotes a second.
fn minute(world: &mut World, reader: &mut Reader, mut each: impl FnMut(&mut World, &mut Reader, u64)) {
    let fine = |world: &mut World, millis: u64| {
        let mut events = Vec::new();
        let now = Duration::from_millis(millis);
        let time = Timestamp::from_nanos(1_000_000_000_000 + i64::try_from(now.as_nanos()).unwrap());
        let id = world.instruments.intern(&Symbol::new("A").unwrap(), &mut events);
        let bid = Some(Decimal::from(millis));
        let values = QuoteValues { bid, bid_size: Decimal::ONE, ask: None, ask_size: Decimal::ZERO };
        let quote = world.instruments.quote(id, &values, (time, time), &mut events).unwrap();
        events.push(TapeEvent::Quote(id, quote));
        world.position = world.position.next();
        world.shards[0].apply(&Batch { position: world.position, time, events });
        world.shards[0].tick(now);
        world.shards[0].flush();
    };
    for millis in 1..=60_000 {
        fine(world, millis);
        reader.run(&mut world.shards[0], Duration::from_millis(millis));
        each(world, reader, millis);
    }
}

#[track_caller]
fn check_reader(most_waiting: usize, handling: u64, oldest: u64) {
    let mut world = World::new();
    let mut reader = Reader::new(&mut world, most_waiting, Duration::from_millis(handling));
    minute(&mut world, &mut reader, |_, _, _| ());
    let (age, handled) = (reader.oldest.as_millis(), reader.handled);
    assert!(age <= oldest.into(), "{age} ms old, {handled} handled");
    // It is not kept waiting either: of the time it has, it works in nine tenths.
    assert!(handled * handling >= 54_000, "{handled} handled");
}

#[test]
fn whoever_takes_long_for_a_message_is_shown_no_old_prices() {
    // A library that reads on only when its message is handled, and one that keeps some.
    check_reader(1, 10, 150);
    check_reader(1, 50, 300);
    check_reader(1, 400, 1_600);
    check_reader(16, 10, 350);
    check_reader(16, 50, 1_100);
    check_reader(32, 10, 500);
}

#[test]
fn whoever_reads_in_time_is_told_all_and_asked_now_and_then() {
    let mut world = World::new();
    let mut reader = Reader::new(&mut world, 16, Duration::from_micros(200));
    let mut pongs = 0;
    minute(&mut world, &mut reader, |_, reader, millis| {
        if millis == 1_000 {
            pongs = reader.pongs;
        }
    });
    assert!(reader.handled >= 59_990, "{} handled", reader.handled);
    let pongs = reader.pongs - pongs;
    assert!((850..=1_000).contains(&pongs), "one in 64: {pongs}");
}

#[test]
fn whoever_becomes_slow_gets_what_was_under_way_and_then_only_what_is_new() {
    let mut world = World::new();
    let mut reader = Reader::new(&mut world, 1, Duration::ZERO);
    minute(&mut world, &mut reader, |_, reader, millis| match millis {
        30_000 => reader.handling = Duration::from_millis(10),
        40_000 => reader.oldest = Duration::ZERO,
        50_000 => {
            assert!(reader.oldest <= Duration::from_millis(150), "{:?}", reader.oldest);
            // And catches up.
            (reader.handling, reader.handled) = (Duration::ZERO, 0);
        }
        30_001..40_000 => assert!(reader.oldest <= Duration::from_millis(1_500), "{:?}", reader.oldest),
        _ => {}
    });
    assert!(reader.handled >= 9_800, "{} handled", reader.handled);
}

#[test]
fn a_message_that_drips_is_not_waited_for_and_others_are() {
    let (mut world, pipes) = watchers(2, Form::JSON, "quote:A");
    let mut closed = [None; 2];
    for second in 1..=45_u32 {
        let shard = &mut world.shards[0];
        shard.tick(Duration::from_secs(second.into()));
        for (key, begun) in [(0, 1), (1, second)] {
            if let Some(link) = shard.link(key) {
                link.inner_mut().begun = Some(begun);
            }
        }
        // Bytes that end no message are heard all the same.
        shard.received(0, [], None);
        shard.received(1, [request(br#"{"op":"ping"}"#)], None);
        for _ in 0..20 {
            shard.sweep();
        }
        for (key, pipe) in pipes.iter().enumerate() {
            answer_last_ping(shard, key, pipe);
            let close = frames(pipe).0.into_iter().find(|(opcode, _)| *opcode == Opcode::Close as u8);
            closed[key] =
                closed[key].or(close.map(|(_, reason)| (second, u16::from_be_bytes([reason[0], reason[1]]))));
        }
    }
    assert_eq!(closed, [Some((31, 4408)), None]);
}

#[test]
fn who_resumes_in_two_requests_is_told_of_what_left_the_first_set_by_way_of_the_second() {
    let topic = |name| TOPICS.iter().position(|&topic| topic == name).expect("a topic");
    let mut world = World::new();
    let history = [
        Op::Publish(vec![Tick::Move(3, 1), Tick::Trade(3, 256, 0, false)]),
        Op::Subscribe(2, vec![topic("trades:*"), topic("bars.1s:@x")]),
        Op::Pass(0),
        Op::Read(2, 194),
        Op::Subscribe(2, vec![topic("bars.1s:@y")]),
        Op::Publish(vec![Tick::Move(3, 2)]),
        Op::Read(2, 316),
        Op::Drop(2),
        Op::Publish(vec![Tick::Move(3, 0)]),
        Op::Pass(75),
    ];
    history.into_iter().for_each(|op| world.apply(op));
    world.settle_and_check();
}

#[test]
fn sessions_without_pings_and_close_frames_are_flushed_and_kept_like_any() {
    for (form, head, tail) in
        [(Form::EVENTS, &b"data: "[..], &b"\n\n"[..]), (Form::LINES, &b""[..], &b"\n"[..])]
    {
        let (mut world, pipes) = watchers(2, form, "quote:A");
        let taken = |pipe: &RefCell<Pipe>| Vec::from(std::mem::take(&mut pipe.borrow_mut().bytes));
        pipes.iter().for_each(|pipe| drop(taken(pipe)));
        for second in 1..=90_u16 {
            world.publish(&[Tick::Quote(0, Some(100 + second), 1, None, 0, false)]);
            world.pass(Duration::from_secs(1));
            let sent = pipes.iter().map(|pipe| taken(pipe)).collect::<Vec<_>>();
            assert_eq!(sent[0], sent[1], "they share their bytes");
            let at = sent[0].iter().position(|&byte| byte == b'{').expect("JSON");
            let (before, rest) = sent[0].split_at(at);
            let place = format!("id: 7-{}\n", world.shards[0].replica().position().get());
            assert!(before == head || before == [place.as_bytes(), head].concat(), "{before:?}");
            let payload = rest.strip_suffix(tail);
            let update: serde_json::Value = serde_json::from_slice(payload.expect("framed")).expect("JSON");
            let bid = Decimal::new(i64::from(100 + second), 2).to_string();
            assert_eq!(update["updates"][0]["bid"], bid.as_str(), "{update}");
        }
        let full = &pipes[1];
        full.borrow_mut().room = 0;
        let dropped = |second: u16| {
            world.publish(&[Tick::Quote(0, Some(300 + second), 1, None, 0, false)]);
            world.pass(Duration::from_secs(1));
            full.borrow().dropped
        };
        let dropped: Vec<bool> = (1..=40).map(dropped).collect();
        assert!(!dropped[28] && dropped[34], "given up after 30 s, and there is no Close frame to wait for");
    }
}

/// What a client of Socket.IO was sent since it was last asked: its events by name, and how many heartbeats.
fn taken_packets(pipe: &RefCell<Pipe>) -> (Vec<(String, serde_json::Value)>, usize) {
    let (frames, rest) = frames(pipe);
    assert!(rest.is_empty(), "whole frames");
    pipe.borrow_mut().bytes.clear();
    let (mut events, mut heartbeats) = (Vec::new(), 0);
    for (opcode, payload) in frames {
        assert_eq!(opcode, Opcode::Text as u8);
        match payload.strip_prefix(b"42") {
            Some(event) => events.push(serde_json::from_slice(event).expect("a name and an argument")),
            None => {
                assert_eq!(payload, b"2");
                heartbeats += 1;
            }
        }
    }
    (events, heartbeats)
}

#[test]
fn heartbeats_of_socket_io_pace_a_client_as_pings_do() {
    let (mut world, pipes) = watchers(2, Form::SOCKET_IO.of_images(), "quote:A");
    let mut bid = 100_u16;
    // Ten changes a second; who answers its heartbeats does so before the next one.
    let mut second = |world: &mut World, answers: [bool; 2]| {
        let mut sent = [(0, 0, None), (0, 0, None)];
        for _ in 0..10 {
            bid += 1;
            world.publish(&[Tick::Quote(0, Some(bid), 1, None, 0, false)]);
            world.pass(Duration::from_millis(100));
            for (key, pipe) in pipes.iter().enumerate() {
                let (frames, beats, last) = &mut sent[key];
                // An answer may bring the next frame at once.
                loop {
                    let (events, heartbeats) = taken_packets(pipe);
                    // One that has lagged is told so.
                    let updates: Vec<_> = events.iter().filter(|(name, _)| name == "update").collect();
                    *frames += updates.len();
                    *beats += heartbeats;
                    *last = updates.last().map(|(_, update)| update["updates"][0].clone()).or(last.take());
                    if heartbeats == 0 || !answers[key] {
                        break;
                    }
                    let answers = (0..heartbeats).map(|_| Incoming::Message(Encoding::Json, b"3".to_vec()));
                    world.shards[0].received(key, answers, None);
                }
            }
        }
        let expected = Decimal::new(bid.into(), 2).to_string();
        let is_current = |last: &Option<serde_json::Value>| {
            last.as_ref().is_some_and(|entry| entry["bid"] == expected.as_str())
        };
        sent.map(|(frames, beats, last)| (frames, beats, is_current(&last)))
    };
    for _ in 0..20 {
        second(&mut world, [true, true]);
    }
    // In step, a heartbeat now and then is enough.
    let calm = (0..10).map(|_| second(&mut world, [true, true])).collect::<Vec<_>>();
    assert!(calm.iter().all(|both| both.iter().all(|&(frames, _, is_current)| frames == 10 && is_current)));
    let beats: usize = calm.iter().map(|both| both[0].1).sum();
    assert!((2..=20).contains(&beats), "{beats} heartbeats in 10 s");
    // One that handles nothing more is sent nothing more, and the other is as before.
    let stalled = (0..10).map(|_| second(&mut world, [true, false])).collect::<Vec<_>>();
    assert!(
        stalled[5..].iter().all(|both| both[0] == (10, both[0].1, true) && both[1].0 == 0),
        "{stalled:?}"
    );
    // When it goes on it answers all of them, and gets the present, not the past.
    let unanswered: usize = stalled.iter().map(|both| both[1].1).sum();
    let answers = (0..unanswered).map(|_| Incoming::Message(Encoding::Json, b"3".to_vec()));
    world.shards[0].received(1, answers, None);
    let back = second(&mut world, [true, true]);
    assert!(back[1].2 && back[1].0 <= 11, "nothing of what it has missed is made up for: {back:?}");
}

#[test]
fn clients_of_one_parser_share_their_frames_whose_values_are_the_same_in_either() {
    let [text, binary] = [Form::SOCKET_IO, Form::SOCKET_IO_MSGPACK].map(|form| {
        let (mut world, pipes) = watchers(3, form, "quote:A");
        pipes.iter().for_each(|pipe| pipe.borrow_mut().bytes.clear());
        let before = world.shards[0].counters();
        for key in 0..pipes.len() {
            // The welcome, what was asked for and the first update came with heartbeats.
            let answers = (0..3).map(|_| Incoming::Message(Encoding::Json, b"3".to_vec()));
            world.shards[0].received(key, answers, None);
        }
        world.publish(&[Tick::Quote(0, Some(200), 5, None, 0, false)]);
        world.shards[0].flush();
        let after = world.shards[0].counters();
        assert_eq!((after.built - before.built, after.sent - before.sent), (1, 3));
        let sent = pipes.iter().map(|pipe| frames(pipe).0).collect::<Vec<_>>();
        assert!(sent[0] == sent[1] && sent[1] == sent[2], "they share their bytes");
        sent[0].clone()
    });
    let text = text.iter().find(|(opcode, _)| *opcode == Opcode::Text as u8).unwrap();
    let text: serde_json::Value = serde_json::from_slice(text.1.strip_prefix(b"42").unwrap()).unwrap();
    let binary = binary.iter().find(|(opcode, _)| *opcode == Opcode::Binary as u8).unwrap();
    let binary: serde_json::Value = rmp_serde::from_slice(&binary.1).unwrap();
    assert_eq!(text[1]["updates"][0]["bid"], "2.00");
    assert_eq!(binary, json!({ "type": 2, "data": text, "nsp": "/" }));
}

#[test]
fn a_packet_about_a_namespace_sends_its_connection_back_with_what_follows() {
    let (mut world, pipes) = watchers(1, Form::SOCKET_IO, "quote:A");
    let text = |packet: &str| Incoming::Message(Encoding::Json, packet.as_bytes().to_vec());
    world.publish(&[Tick::Quote(0, Some(200), 5, None, 0, false)]);
    world.pass(Duration::from_secs(1));
    let (_, heartbeats) = taken_packets(&pipes[0]);
    let shard = &mut world.shards[0];
    // A frame that was begun belongs to the socket that it was begun on.
    pipes[0].borrow_mut().room = 10;
    let follows = ["40/desk,{}", "3", "42[\"ping\"]", "nonsense"];
    shard.received(0, [text("421[\"ping\"]")].into_iter().chain(follows.map(text)), None);
    let returned = shard.take_returned().expect("it goes back");
    assert_eq!((returned.key, returned.messages), (0, follows.map(text).to_vec()));
    assert_eq!(shard.take_returned(), None);
    let (rest, pings) = shard.unlink(0);
    assert_eq!((heartbeats, pings), (1, 1), "the client has yet to answer it");
    let begun: Vec<u8> = pipes[0].borrow().bytes.iter().copied().collect();
    assert_eq!(begun.len(), 10);
    let sent = [begun, rest].concat();
    let (_, pong, len) = whole_frame(&sent).expect("the answer");
    assert!(pong.starts_with(b"431[{\"type\":\"pong\"") && len == sent.len());
    // The session goes on, on its new link.
    pipes[0].borrow_mut().bytes.clear();
    pipes[0].borrow_mut().room = usize::MAX;
    shard.relinked(0, Vec::new());
    shard.received(0, [text("3"), text("422[\"ping\"]")], None);
    assert!(taken_packets_of(&pipes[0]).iter().any(|packet| packet.starts_with(b"432[")));
    // Its own namespace is the door's as well, and a client that breaks the protocol goes nowhere.
    shard.received(0, [text("41")], None);
    assert_eq!(shard.take_returned().expect("it goes back").messages, [text("41")]);
    shard.received(0, [text("41")], Some((CloseCode::PROTOCOL_ERROR, "reserved bits are set")));
    assert_eq!(shard.take_returned(), None);
}

#[test]
fn a_connection_under_a_fault_keeps_its_namespace() {
    let mut world = World::new();
    let pipe = Rc::new(RefCell::new(Pipe { room: usize::MAX, ..Pipe::default() }));
    let opening = Opening::new(Form::SOCKET_IO, Rights::ALL);
    let shard = &mut world.shards[0];
    shard.open(&opening, |_| pipe_end(&pipe));
    let text = |packet: &str| Incoming::Message(Encoding::Json, packet.as_bytes().to_vec());
    shard.received(0, [text("42[\"fault\",{\"fault\":\"delay\",\"by_ms\":10}]")], None);
    shard.received(0, [text("40/desk,")], None);
    assert_eq!(shard.take_returned(), None);
    shard.received(0, [text("42[\"fault\",{\"fault\":\"none\"}]")], None);
    world.pass(Duration::from_millis(50));
    let refused = b"44/desk,{\"message\":\"this connection is impaired at its own request";
    assert!(taken_packets_of(&pipe).iter().any(|packet| packet.starts_with(refused)));
}

/// The packets that a client of Socket.IO was sent since it was last asked.
fn taken_packets_of(pipe: &RefCell<Pipe>) -> Vec<Vec<u8>> {
    let (frames, _) = frames(pipe);
    pipe.borrow_mut().bytes.clear();
    frames.into_iter().map(|(_, payload)| payload).collect()
}

#[test]
fn a_topic_given_up_within_a_flush_leaves_what_is_yet_to_be_told_of_a_move_alone() {
    let topic = |name| TOPICS.iter().position(|&topic| topic == name).expect("a topic");
    let mut world = World::new();
    let history = [
        Op::Subscribe(0, vec![topic("quote:@x")]),
        Op::Pass(0),
        Op::Pass(244),
        Op::Subscribe(0, vec![topic("trades:@x"), topic("bars.1s:B")]),
        Op::Drop(0),
        Op::Publish(vec![]),
        Op::Publish(vec![Tick::Trade(1, 1, 0, false)]),
        Op::Publish(vec![Tick::Move(1, 1)]),
        Op::Pass(387),
        Op::Read(0, 219),
        Op::Publish(vec![Tick::Move(1, 0)]),
        Op::Publish(vec![Tick::Move(1, 1)]),
        Op::Pass(0),
        Op::Unsubscribe(0, topic("bars.1s:B")),
    ];
    history.into_iter().for_each(|op| world.apply(op));
    world.settle_and_check();
}

#[test]
fn a_sector_that_was_never_had_whole_keeps_nothing_alive_over_a_new_connection() {
    let topic = |name| TOPICS.iter().position(|&topic| topic == name).expect("a topic");
    let mut world = World::new();
    let history = [
        Op::Subscribe(0, vec![topic("day:*"), topic("quote:A")]),
        Op::Subscribe(0, vec![topic("day:@x")]),
        Op::Pass(0),
        Op::Pass(1),
        Op::Publish(vec![Tick::Move(0, 1), Tick::Trade(0, 256, 0, false)]),
        Op::Read(0, 174),
        Op::Read(0, 211),
        Op::Publish(vec![
            Tick::Trade(2, 1, 0, false),
            Tick::Trade(1, 1, 0, false),
            Tick::Quote(3, None, 0, None, 0, false),
        ]),
        Op::Publish(vec![Tick::Move(0, 0), Tick::Quote(0, None, 0, None, 0, false)]),
        Op::Drop(0),
        Op::Pass(183),
        Op::Read(0, 178),
        Op::Unsubscribe(0, topic("day:*")),
    ];
    history.into_iter().for_each(|op| world.apply(op));
    world.settle_and_check();
}

#[test]
fn nothing_is_resumed_from_before_the_first_batch() {
    let topic = |name| TOPICS.iter().position(|&topic| topic == name).expect("a topic");
    let mut world = World::new();
    let history = [
        Op::Pass(10),
        Op::Read(0, 174),
        Op::Pass(2324),
        Op::Subscribe(0, vec![topic("bars.1s:@y")]),
        Op::Pass(1666),
        Op::Publish(vec![Tick::Trade(0, 1, 0, false)]),
        Op::Unsubscribe(0, topic("quote:A")),
        Op::Read(0, 80),
        Op::Drop(0),
        Op::Pass(183),
        Op::Publish(vec![Tick::Move(0, 2), Tick::Move(1, 2)]),
        Op::Pass(1),
        Op::Read(0, 178),
        Op::Fault(0, Fault::Drop(None), 1),
        Op::Publish(vec![Tick::Move(0, 0)]),
    ];
    history.into_iter().for_each(|op| world.apply(op));
    world.settle_and_check();
}

/// What a client asks over a connection of the prompt shard.
fn ask(world: &mut World, key: usize, text: &str) {
    world.shards[0].received(key, [request(text.as_bytes())], None);
}

/// Answers pings until nothing more comes.
fn read_on(world: &mut World, key: usize, pipe: &RefCell<Pipe>) {
    loop {
        let before = pipe.borrow().bytes.len();
        answer_last_ping(&mut world.shards[0], key, pipe);
        if pipe.borrow().bytes.len() == before {
            break;
        }
    }
}

/// Each message behind the welcome: whose it is, and what it is.
fn by_session(pipe: &RefCell<Pipe>) -> Vec<(u64, String)> {
    let kind = |message: &serde_json::Value| {
        let kind = message["type"].as_str().unwrap();
        let resets = message["updates"][0]["reset"] == true;
        format!("{kind}{}", if resets { " that resets" } else { "" })
    };
    let messages = messages(pipe);
    messages[1..].iter().map(|message| (message["session"].as_u64().unwrap_or(0), kind(message))).collect()
}

const OPEN: &str = r#"{"op":"open","session":1,"id":7}"#;

#[test]
fn a_session_has_the_same_bytes_whatever_others_are_on_its_connection() {
    for form in [Form::MSGPACK, Form::JSON] {
        let (mut world, pipes) = watchers(2, form, "quote:A,trades:A");
        ask(&mut world, 1, OPEN);
        ask(&mut world, 1, r#"{"op":"subscribe","session":1,"topics":["day:*","trades:A"],"max_hz":1}"#);
        for price in 200..220 {
            world.publish(&[Tick::Quote(0, Some(price), 1, None, 0, false), Tick::Trade(0, price, 1, false)]);
            world.pass(Duration::from_millis(200));
            pipes.iter().enumerate().for_each(|(key, pipe)| read_on(&mut world, key, pipe));
        }
        let is_marked = |payload: &[u8]| payload[0] < 16 || payload.starts_with(br#"{"session":1,"#);
        let of = |pipe: &RefCell<Pipe>, marked| {
            let data = frames(pipe).0.into_iter().filter(|(opcode, _)| *opcode < 8);
            data.filter(|(_, payload)| is_marked(payload) == marked).collect::<Vec<_>>()
        };
        assert!(of(&pipes[0], false).len() > 20);
        assert_eq!(of(&pipes[1], false), of(&pipes[0], false));
        // Opened, subscribed, the snapshot, and an update a second.
        assert!((6..30).contains(&of(&pipes[1], true).len()), "{}", of(&pipes[1], true).len());
        assert_eq!(of(&pipes[0], true), []);
    }
}

#[test]
fn sessions_whose_connection_is_slow_take_turns() {
    let mut world = World::new();
    for symbol in 0..SYMBOLS.len() {
        world.publish(&[
            Tick::Quote(symbol, Some(100), 1, None, 0, false),
            Tick::Trade(symbol, 100, 1, false),
        ]);
    }
    let pipe = watcher(&mut world, Form::JSON, "status", None);
    read_on(&mut world, 0, &pipe);
    ask(&mut world, 0, OPEN);
    pipe.borrow_mut().room = 0;
    for session in [0, 1] {
        let subscribe = r#"{"op":"subscribe","topics":["quote:*","trades:*","day:*"],"session":"#;
        ask(&mut world, 0, &format!("{subscribe}{session}}}"));
    }
    pipe.borrow_mut().room = usize::MAX;
    let before = by_session(&pipe).len();
    world.shards[0].tick(Duration::from_secs(1));
    world.shards[0].writable(0);
    let told = |pipe| by_session(pipe)[before..].iter().filter(|(_, kind)| kind == "update").count();
    assert_eq!(told(&pipe), 1, "no more than its window lets through");
    read_on(&mut world, 0, &pipe);
    let told: Vec<u64> = by_session(&pipe)[before..]
        .iter()
        .filter(|(_, kind)| kind == "update")
        .map(|&(session, _)| session)
        .collect();
    assert!(told.len() > 10, "{told:?}");
    assert!(told.windows(2).all(|two| two[0] != two[1]), "{told:?}");
}

#[test]
fn where_the_tape_begins_anew_all_sessions_of_a_connection_are_told_at_once() {
    let mut world = World::new();
    world.publish(&[Tick::Quote(0, Some(100), 1, None, 0, false), Tick::Trade(0, 100, 1, false)]);
    let pipes: Vec<_> = (0..2).map(|_| watcher(&mut world, Form::JSON, "quote:A", None)).collect();
    ask(&mut world, 1, OPEN);
    ask(&mut world, 1, r#"{"op":"subscribe","session":1,"topics":["day:A"],"max_hz":0.1}"#);
    let go_on = |world: &mut World| {
        world.pass(Duration::from_millis(10));
        pipes.iter().enumerate().for_each(|(key, pipe)| read_on(world, key, pipe));
    };
    world.pass(Duration::from_secs(20));
    go_on(&mut world);
    for _ in 0..2 {
        let before: Vec<usize> = pipes.iter().map(|pipe| by_session(pipe).len()).collect();
        world.apply(Op::Reset);
        world.publish(&[Tick::Quote(0, Some(50), 1, None, 0, false), Tick::Trade(0, 50, 1, false)]);
        go_on(&mut world);
        let told = |pipe: usize| by_session(&pipes[pipe]).split_off(before[pipe]);
        let first = |told: &[(u64, String)], session| {
            let of_session = |(of, kind): &&(u64, String)| *of == session && kind != "reset";
            told.iter().find(of_session).map(|(_, kind)| kind.clone())
        };
        let several = told(1);
        assert_eq!(several[0], (0, "reset".to_owned()), "{several:?}");
        assert_eq!(several.iter().filter(|(_, kind)| kind == "reset").count(), 1);
        for session in [0, 1] {
            assert_eq!(first(&several, session).as_deref(), Some("update that resets"), "{several:?}");
        }
        assert_eq!(told(0)[0].1, "update that resets", "one session alone needs no such word");
    }
}

#[test]
fn what_is_asked_of_a_session_that_is_not_there_is_refused() {
    let (mut world, pipes) = watchers(1, Form::JSON, "quote:A");
    let mut answer = |text: &str| {
        ask(&mut world, 0, text);
        let message = messages(&pipes[0]).pop().expect("an answer");
        let said = message["message"].as_str().map_or_else(|| message["type"].to_string(), str::to_owned);
        (message["session"].as_u64(), said)
    };
    let refused = |message: &str| (None, message.to_owned());
    let close = r#"{"op":"close","session":1}"#;
    let stats = r#"{"op":"stats","session":1}"#;
    assert_eq!(answer(stats), refused("session 1 is not open"));
    assert_eq!(answer(close), refused("session 1 is not open"));
    assert_eq!(answer(OPEN), (Some(1), "\"opened\"".to_owned()));
    assert_eq!(answer(OPEN), refused("session 1 is open already"));
    assert_eq!(answer(stats), (Some(1), "\"stats\"".to_owned()));
    assert_eq!(answer(close), (Some(1), "\"closed\"".to_owned()));
    assert_eq!(answer(stats), refused("session 1 is not open"));
    assert_eq!(answer(OPEN), (Some(1), "\"opened\"".to_owned()));
}

#[test]
fn topics_are_counted_over_all_sessions_of_a_connection() {
    let (mut world, pipes) = watchers(1, Form::JSON, "quote:A");
    ask(&mut world, 0, OPEN);
    let subscribe = |world: &mut World, session, topics: Vec<String>| {
        let request = json!({ "op": "subscribe", "session": session, "topics": topics });
        ask(world, 0, &request.to_string());
        let mut answers = messages(&pipes[0]);
        let answer = answers.pop().expect("an answer");
        answer["topics"].as_array().unwrap().last().unwrap()["error"]["message"].clone()
    };
    let many = (0..1022).map(|number| format!("quote:X{number}")).collect();
    assert_eq!(subscribe(&mut world, 1, many), json!(null));
    assert_eq!(subscribe(&mut world, 0, vec!["quote:Y".to_owned()]), json!(null));
    let too_many = json!("the sessions of a connection may have 1024 topics");
    assert_eq!(subscribe(&mut world, 0, vec!["quote:Z".to_owned()]), too_many);
    assert_eq!(subscribe(&mut world, 1, vec!["quote:Z".to_owned()]), too_many);
    ask(&mut world, 0, r#"{"op":"close","session":1}"#);
    assert_eq!(subscribe(&mut world, 0, vec!["quote:Z".to_owned()]), json!(null));
}

#[test]
fn each_session_has_heartbeats_and_checksums_of_its_own() {
    let (mut world, pipes) = watchers(1, Form::JSON, "quote:A,day:A");
    ask(&mut world, 0, OPEN);
    ask(&mut world, 0, r#"{"op":"subscribe","session":1,"topics":["quote:A"],"max_hz":0.1}"#);
    read_on(&mut world, 0, &pipes[0]);
    let before = by_session(&pipes[0]).len();
    for _ in 0..6 {
        world.pass(Duration::from_secs(1));
        read_on(&mut world, 0, &pipes[0]);
    }
    let beats = by_session(&pipes[0]).split_off(before);
    for session in [0, 1] {
        assert!(beats.contains(&(session, "update".to_owned())), "{beats:?}");
    }
    world.publish(&[Tick::Quote(0, Some(103), 1, None, 0, false), Tick::Trade(0, 103, 1, false)]);
    for (session, topics) in [(1, r#"["quote:A","day:A"]"#), (0, r#"["day:A"]"#)] {
        ask(&mut world, 0, &format!(r#"{{"op":"checksum","session":{session},"topics":{topics}}}"#));
        read_on(&mut world, 0, &pipes[0]);
        let of_session = |message: &serde_json::Value| message["session"].as_u64().unwrap_or(0) == session;
        let messages: Vec<_> = messages(&pipes[0]).into_iter().filter(of_session).collect();
        let [.., update, checksum] = &messages[..] else { panic!("an update and an answer") };
        assert_eq!((&checksum["type"], &update["position"]), (&json!("checksum"), &checksum["position"]));
        assert_eq!(checksum["position"], world.position.get());
        let codes = checksum["topics"].as_array().unwrap().iter().map(|topic| topic["error"]["code"].clone());
        let expected =
            if session == 1 { vec![json!(null), json!("not_subscribed")] } else { vec![json!(null)] };
        assert_eq!(codes.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn nothing_is_left_of_a_connection_and_its_sessions_when_it_is_gone() {
    let (mut world, _pipes) = watchers(2, Form::MSGPACK, "quote:A");
    for key in [0, 1] {
        for session in 1..16 {
            ask(&mut world, key, &format!(r#"{{"op":"open","session":{session}}}"#));
            ask(
                &mut world,
                key,
                &format!(r#"{{"op":"subscribe","session":{session},"topics":["day:@s{session}"]}}"#),
            );
        }
    }
    assert_eq!(world.shards[0].report(&[]).views, 16);
    world.shards[0].closed(0);
    assert_eq!(world.shards[0].report(&[]).views, 16);
    world.shards[0].closed(1);
    assert_eq!(world.shards[0].report(&[]).views, 0);
    assert!(world.shards[0].is_empty());
}

#[test]
fn a_further_session_counts_from_the_reset_on() {
    let topic = |name| TOPICS.iter().position(|&topic| topic == name).expect("a topic");
    let mut world = World::new();
    let history = [
        Op::Publish(vec![Tick::Trade(0, 1, 0, false)]),
        Op::Subscribe(3, vec![topic("trades:A"), topic("status")]),
        Op::Subscribe(3, vec![topic("quote:A"), topic("bars.1s:@y")]),
        Op::Pass(10),
        Op::Publish(vec![Tick::Move(0, 2)]),
        Op::Read(3, 214),
        Op::Read(0, 290),
        Op::Reset,
        Op::Drop(0),
        Op::Pass(183),
        Op::Read(3, 222),
        Op::Read(0, 183),
        Op::Burst(0, 1025),
        Op::Drop(3),
    ];
    history.into_iter().for_each(|op| world.apply(op));
    world.settle_and_check();
}
