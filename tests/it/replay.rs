//! Random histories of remote control on a recording: in the end the market is what a fresh replay up to
//! there would make it, with nothing left over of other times; and a client that has watched all of it knows
//! the same as one that has just come.
#![warn(clippy::pedantic)]

use proptest::collection::vec;
use proptest::prelude::*;
use rust_decimal::Decimal;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use tickcast::client::{Book, Change, Command, Event as Heard, Input, Options, Output, Session};
use tickcast::feed::Stop;
use tickcast::feed::publish::parse_json_line;
use tickcast::feed::{Feed, FeedError, Source, SourceError, Span};
use tickcast::hub::{COHORT, Replica};
use tickcast::market::{
    Conditions, Counts, Event, FeedKind, FeedState, Instruments, QuoteValues, Side, Speed, Status, Symbol,
    Timestamp, Trade, TradingState,
};
use tickcast::server::fanout::{Fanout, Opening};
use tickcast::server::link::Link;
use tickcast::server::rights::Rights;
use tickcast::server::room::seek::{Course, SeekError, Target, seek};
use tickcast::tape::{
    Attachment, Batch, Control, Epoch, Fork, Handle, MemoryLog, Playing, Publication, Step, Tape, opening,
};
use tickcast::wire::{Encoding, Form, Incoming};

const SYMBOLS: [&str; 3] = ["A", "B", "C"];
const TOPICS: [&str; 6] = ["quote:*", "trades:*", "bars.1s:*", "bars.1m:*", "day:*", "status:*"];
/// Half a minute before a day ends.
const BEGINNING: i64 = 1_700_006_370_000_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// One record: so many ms after the one before, of a symbol.
#[derive(Clone, Debug)]
struct Record {
    after: u32,
    symbol: usize,
    what: What,
    /// By how many ms its own time is before that; below 0 it is of a time to come.
    late: i32,
}

#[derive(Clone, Debug)]
enum What {
    /// In hundredths, and now and then a digit finer.
    Quote(u16, bool),
    Trade(u16, bool),
    Halted(bool),
}

fn record() -> impl Strategy<Value = Record> {
    let fine = || proptest::bool::weighted(0.05);
    let what = prop_oneof![
        4 => (1..500_u16, fine()).prop_map(|(price, fine)| What::Quote(price, fine)),
        4 => (1..500_u16, fine()).prop_map(|(price, fine)| What::Trade(price, fine)),
        1 => any::<bool>().prop_map(What::Halted),
    ];
    let after = prop_oneof![3 => Just(0), 6 => 1..900_u32, 1 => 900..90_000_u32];
    let late = prop_oneof![
        6 => Just(0), 2 => -7000..3000, 1 => 0..100_000, 1 => 86_300_000..86_500_000
    ];
    let parts = (after, 0..SYMBOLS.len(), what, late);
    parts.prop_map(|(after, symbol, what, late)| Record { after, symbol, what, late })
}

/// A recording in memory, with a checkpoint now and then.
#[derive(Clone)]
struct Recorded {
    records: Arc<Vec<(Timestamp, Record)>>,
    /// A checkpoint stands in front of each record whose number this divides; 0: there is none.
    checkpoint_every: usize,
    /// Whether it can be played on beside itself, as a file cannot.
    forks: bool,
}

#[derive(Clone)]
struct Play {
    recorded: Recorded,
    next: usize,
    /// What stands in front of the next record.
    checkpoint: Vec<Event>,
}

impl Recorded {
    fn new(records: Vec<Record>, checkpoint_every: usize, forks: bool) -> Self {
        let mut at = Timestamp::from_nanos(BEGINNING);
        let timed = records.into_iter().map(|record| {
            at = at.plus_nanos(i64::from(record.after) * 1_000_000);
            (at, record)
        });
        Self { records: Arc::new(timed.collect()), checkpoint_every, forks }
    }

    fn end(&self) -> Timestamp {
        self.records.last().expect("there are records").0
    }

    /// The market after all that happens up to a moment, as plainly as can be.
    fn market_at(&self, to: Timestamp) -> Replica {
        let mut feed = self.open().expect("it is in memory");
        let (mut instruments, mut replica) = (Instruments::default(), Replica::new(Epoch::new(1)));
        fold(&mut replica, self.records[0].0, vec![opening(self.records[0].0)]);
        loop {
            let mut events = Vec::new();
            match feed.next(&mut instruments, &mut events).expect("good records") {
                Some(at) if at <= to => fold(&mut replica, at, events),
                _ => break,
            }
        }
        fold(&mut replica, to, Vec::new());
        replica
    }
}

fn fold(replica: &mut Replica, time: Timestamp, events: Vec<Event>) {
    let batch = Batch { position: replica.position().next(), time, events };
    replica.apply(&batch, &mut Vec::new());
}

impl Source for Recorded {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn open(&self) -> Result<Box<dyn Feed>, SourceError> {
        Ok(Box::new(Play { recorded: self.clone(), next: 0, checkpoint: Vec::new() }))
    }

    fn open_at(&self, to: Timestamp) -> Result<Box<dyn Feed>, SourceError> {
        let before = self.records.partition_point(|&(at, _)| at <= to);
        let Some(next) = before.checked_div(self.checkpoint_every).map(|n| n * self.checkpoint_every) else {
            return self.open();
        };
        // Of one moment all events stand on the same side of a checkpoint.
        let same =
            |next: usize| next > 0 && self.records.get(next).is_some_and(|r| r.0 == self.records[next - 1].0);
        if next == 0 || same(next) {
            return self.open();
        }
        let checkpoint = self.market_at(self.records[next - 1].0).checkpoint().collect();
        Ok(Box::new(Play { recorded: self.clone(), next, checkpoint }))
    }

    fn span(&self) -> Result<Span, SourceError> {
        Ok(Span { start: Some(self.records[0].0), end: Some(self.end()) })
    }
}

impl Feed for Play {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn fork(&self) -> Option<Box<dyn Feed>> {
        self.recorded.forks.then(|| Box::new(self.clone()) as Box<dyn Feed>)
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        let records = Arc::clone(&self.recorded.records);
        if !self.checkpoint.is_empty() {
            for event in self.checkpoint.drain(..) {
                match event {
                    Event::Instrument(definition) => drop(instruments.define((*definition).clone(), out)),
                    other => out.push(other),
                }
            }
            return Ok(Some(records[self.next - 1].0));
        }
        let Some(&(at, Record { symbol, ref what, late, .. })) = records.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        let id = instruments.intern(&Symbol::new(SYMBOLS[symbol]).unwrap(), out);
        let price =
            |price: u16, fine: bool| Decimal::new(i64::from(price) * 10 + i64::from(fine), 3).normalize();
        let event = match *what {
            What::Quote(bid, fine) => {
                let values =
                    QuoteValues { bid: Some(price(bid, fine)), bid_size: 1.into(), ..QuoteValues::default() };
                Event::Quote(id, instruments.quote(id, &values, (at, at), out).unwrap())
            }
            What::Trade(paid, fine) => {
                let kind = (Side::Buy, Conditions::default());
                let numbers = (price(paid, fine), 2.into());
                let times = (at.plus_nanos(-i64::from(late) * 1_000_000), at);
                let trade = instruments.trade(id, numbers, kind, times, out).unwrap();
                let counts = Counts::from_bits([31, 31, 31, 1, 9, 7, 0][usize::from(paid % 7)]).unwrap();
                Event::Trade(id, Trade { counts, ..trade })
            }
            What::Halted(halted) => {
                let state = if halted { TradingState::Halted } else { TradingState::Open };
                Event::Status(Some(id), Status { state, ts_event: at })
            }
        };
        out.push(event);
        Ok(Some(at))
    }
}

#[derive(Clone, Debug)]
enum Op {
    Play,
    Pause,
    Speed(f64),
    Max,
    /// To a thousandth of the recording.
    Seek(u16),
    SeekInVain(u16),
    StepEvents(u8),
    StepMillis(u16),
    Publish(u16),
    /// What is on the tape reaches the clients, who read so many bytes.
    Read(u16),
    Drop,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::Play),
        2 => Just(Op::Pause),
        1 => (0.1..1000.0).prop_map(Op::Speed),
        1 => Just(Op::Max),
        4 => (0..=1000_u16).prop_map(Op::Seek),
        2 => (0..=1000_u16).prop_map(Op::SeekInVain),
        3 => (1..5_u8).prop_map(Op::StepEvents),
        2 => (0..3000_u16).prop_map(Op::StepMillis),
        1 => (1..9_u16).prop_map(Op::Publish),
        6 => (1..3000_u16).prop_map(Op::Read),
        1 => Just(Op::Drop),
    ]
}

struct World {
    recorded: Recorded,
    tape: Handle,
    replica: Arc<Mutex<Replica>>,
    batches: mpsc::Receiver<Arc<Batch>>,
    fanout: Fanout<PipeEnd>,
    watcher: Client,
    start: Instant,
    now: Duration,
}

struct Client {
    session: Session,
    link: Option<(usize, Rc<RefCell<Pipe>>, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Pipe {
    bytes: Vec<u8>,
    room: usize,
}

#[derive(Debug)]
struct PipeEnd(Rc<RefCell<Pipe>>);

impl Link for PipeEnd {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        let taken = bytes.len().min(pipe.room);
        pipe.bytes.extend_from_slice(&bytes[..taken]);
        pipe.room -= taken;
        Ok(taken)
    }

    fn finish(&mut self) {}
}

impl World {
    fn new(recorded: Recorded) -> Self {
        let (batch, batches) = mpsc::channel();
        let replica = Arc::new(Mutex::new(Replica::new(Epoch::new(1))));
        let folded = Arc::clone(&replica);
        let tape = Tape {
            log: Box::new(MemoryLog::new(Epoch::new(1))),
            feed: Some(recorded.open().unwrap()),
            held: false,
            speed: Speed::Times(1.0),
            max_gap: None,
            memory: None,
            readers: vec![Box::new(move |read: &Arc<Batch>| {
                folded.lock().unwrap().apply(read, &mut Vec::new());
                // Nobody listens any more when the test is over.
                let _ = batch.send(Arc::clone(read));
            })],
        };
        let (tape, _) = tape.start().unwrap();
        let start = Instant::now();
        let mut world = Self {
            recorded,
            tape,
            replica,
            batches,
            // So small that most flushes come in several updates.
            fanout: Fanout::with_limits(Epoch::new(1), 100, COHORT),
            watcher: Client::new(start),
            start,
            now: Duration::ZERO,
        };
        world.control(Control::Pause);
        world.with_watcher(Client::subscribe);
        world
    }

    fn with_watcher(&mut self, act: impl FnOnce(&mut Client, &mut Self)) {
        let mut watcher = std::mem::replace(&mut self.watcher, Client::new(self.start));
        act(&mut watcher, self);
        self.watcher = watcher;
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Play => _ = self.control(Control::Play),
            Op::Pause => _ = self.control(Control::Pause),
            Op::Speed(factor) => _ = self.control(Control::Speed(Speed::Times(factor))),
            Op::Max => _ = self.control(Control::Speed(Speed::Max)),
            Op::Seek(thousandth) => self.seek(thousandth),
            Op::SeekInVain(thousandth) => self.seek_in_vain(thousandth),
            Op::StepEvents(count) => {
                for _ in 0..count {
                    self.control(Control::Step(Step::Event));
                }
            }
            Op::StepMillis(millis) => {
                self.control(Control::Step(Step::Interval(Duration::from_millis(millis.into()))));
            }
            Op::Publish(price) => self.publish(price),
            Op::Read(bytes) => {
                self.deliver();
                self.with_watcher(|watcher, world| watcher.read(world, bytes.into()));
            }
            Op::Drop => self.with_watcher(Client::hang_up),
        }
    }

    fn control(&self, control: Control) -> Playing {
        answer(|tell| self.tape.control(control, tell))
    }

    fn seek(&self, thousandth: u16) {
        let to = self.place(thousandth);
        let attachment = self.fold_to(to, &Course::new(Stop::default())).expect("it can be opened");
        assert!(answer(|tell| self.tape.attach(attachment, tell)).now >= to);
    }

    fn fold_to(&self, to: Timestamp, course: &Course) -> Result<Attachment, SeekError> {
        let fork = |to, first: Option<Timestamp>| {
            let known = Arc::clone(&self.replica);
            answer(|tell| {
                self.tape.fork(to, move |fork: Option<Fork>| {
                    let fork = fork.filter(|fork| first.is_none_or(|first| first <= fork.now));
                    tell(fork.map(|fork| (fork, known.lock().unwrap().checkpoint().collect())));
                })
            })
        };
        seek(&self.recorded, Target::Moment(to), fork, course, |_| ())
    }

    /// A seek that is not wanted any more: nothing comes of it.
    fn seek_in_vain(&self, thousandth: u16) {
        let before = self.control(Control::Look);
        let playing = answer(|tell| self.tape.seeking(true, tell));
        assert_eq!(playing.status.state, FeedState::Seeking);
        let stop = Stop::default();
        stop.set();
        let to = self.place(thousandth);
        assert!(matches!(self.fold_to(to, &Course::new(stop)), Err(SeekError::Stopped)));
        let after = answer(|tell| self.tape.seeking(false, tell));
        assert_eq!((after.status.speed, after.shift), (before.status.speed, before.shift));
        // It has played on.
        assert!(after.now >= before.now);
        if before.status.state == FeedState::Paused {
            assert_eq!(after, before);
        }
    }

    fn place(&self, thousandth: u16) -> Timestamp {
        let first = self.recorded.records[0].0;
        let span = self.recorded.end().nanos_since(first);
        first.plus_nanos(span / 1000 * i64::from(thousandth))
    }

    fn publish(&self, price: u16) {
        let trade = format!(r#"{{"type":"trade","symbol":"MINE","price":{price},"size":1}}"#);
        let publication = Publication { events: vec![(1, parse_json_line(&trade).unwrap())] };
        assert_eq!(answer(|tell| self.tape.publish(publication, tell)).accepted, 1);
    }

    /// What is on the tape goes out.
    fn deliver(&mut self) {
        for batch in self.batches.try_iter() {
            self.fanout.apply(&batch);
        }
        self.now += Duration::from_millis(100);
        self.fanout.tick(self.now);
        self.fanout.flush();
    }

    /// The recording is as far as `now`, and everybody knows what a fresh replay would have told them.
    fn settle_and_check(mut self, published: bool) {
        self.control(Control::Pause);
        // Of the moment at which it stands some events may be to come.
        let playing = self.control(Control::Step(Step::Interval(Duration::ZERO)));
        self.deliver();
        let replica = Arc::clone(&self.replica);
        let replica = replica.lock().unwrap();
        assert!(replica.time() <= playing.now);
        assert_eq!(replica.position(), self.fanout.replica().position());
        if !published {
            let fresh = self.recorded.market_at(replica.time());
            let known = |replica: &Replica| {
                let is_market = |event: &Event| !matches!(event, Event::Feed(_));
                replica.checkpoint().filter(is_market).collect::<Vec<_>>()
            };
            assert_eq!(known(&replica), known(&fresh), "{playing:?}");
        }
        assert_eq!(replica.market().feed.map(|(feed, _)| feed), Some(playing.status));
        self.with_watcher(Client::read_all);
        let mut newcomer = Client::new(self.start);
        newcomer.subscribe(&mut self);
        newcomer.read_all(&mut self);
        assert_eq!(self.watcher.image(), newcomer.image());
    }
}

impl Client {
    fn new(start: Instant) -> Self {
        Self { session: Session::new(1, start), link: None }
    }

    fn subscribe(&mut self, world: &mut World) {
        let topics = TOPICS.iter().chain(["status"].iter()).map(ToString::to_string).collect();
        self.handle(world, Input::Command(Command::Subscribe { topics, options: Options::default() }));
        self.handle(world, Input::Tick);
    }

    fn read(&mut self, world: &mut World, bytes: usize) {
        let Some((key, pipe, inbox)) = &mut self.link else { return };
        {
            let mut pipe = pipe.borrow_mut();
            let count = bytes.min(pipe.bytes.len());
            inbox.extend(pipe.bytes.drain(..count));
            pipe.room += bytes;
        }
        let key = *key;
        let mut frames = Vec::new();
        while let Some((opcode, payload, len)) = whole_frame(inbox) {
            frames.push((opcode, payload.to_vec()));
            inbox.drain(..len);
        }
        for (opcode, payload) in frames {
            match opcode {
                2 => self.handle(world, Input::Binary(&payload)),
                9 => world.fanout.received(key, [Incoming::Pong(payload)], None),
                other => panic!("only updates, answers and pings come, not {other}"),
            }
        }
        world.fanout.writable(key);
    }

    /// Reads until it knows all.
    fn read_all(&mut self, world: &mut World) {
        for _ in 0..1000 {
            // A lost connection is made again when its wait is over.
            world.now += Duration::from_secs(1);
            self.handle(world, Input::Tick);
            world.deliver();
            self.read(world, 1 << 20);
            let done = |(_, pipe, _): &(usize, Rc<RefCell<Pipe>>, Vec<u8>)| pipe.borrow().bytes.is_empty();
            if self.link.as_ref().is_some_and(done) {
                return;
            }
        }
        panic!("it is told without end");
    }

    fn hang_up(&mut self, world: &mut World) {
        if let Some((key, ..)) = self.link.take() {
            world.fanout.closed(key);
            self.handle(world, Input::Closed { code: None, reason: "dropped".to_owned() });
        }
    }

    fn handle(&mut self, world: &mut World, input: Input<'_>) {
        let mut outputs = Vec::new();
        self.session.handle(world.start + world.now, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Connect => {
                    let pipe = Rc::new(RefCell::new(Pipe { room: 300, ..Pipe::default() }));
                    let opening = Opening::new(Form::MSGPACK, Rights::ALL);
                    let key = world.fanout.open(&opening, |_| PipeEnd(Rc::clone(&pipe)));
                    self.link = Some((key, pipe, Vec::new()));
                    self.handle(world, Input::Connected);
                }
                Output::Send(text) => {
                    if let Some((key, ..)) = &self.link {
                        let request = Incoming::Message(Encoding::Json, text.into_bytes());
                        world.fanout.received(*key, [request], None);
                    }
                }
                Output::Disconnect => panic!("it could not read what it was told"),
                Output::Event(Heard::Update { changes, .. }) => {
                    // The recordings are shorter than rings.
                    let gap = changes.iter().find(|change| matches!(change, Change::Gap { .. }));
                    assert_eq!(gap, None, "nothing is lost");
                }
                Output::Event(Heard::Error { message, .. }) => panic!("refused: {message}"),
                Output::Event(_) => {}
            }
        }
    }

    /// All that it knows.
    fn image(&self) -> (Vec<String>, String) {
        let image = self.session.image();
        let shown = |book: &Book| {
            let Book { instrument, quote, bars_1s, bars_1m, day, status, .. } = book;
            format!("{instrument:?} {quote:?} {bars_1s:?} {bars_1m:?} {day:?} {status:?}")
        };
        let mut books: Vec<String> = image.books().map(shown).collect();
        books.sort();
        (books, format!("{:?}", image.market()))
    }
}

/// What the tape answers.
fn answer<T: Send + 'static>(ask: impl FnOnce(Box<dyn FnOnce(T) + Send>) -> bool) -> T {
    let (tell, told) = mpsc::channel();
    let asked = ask(Box::new(move |answer| tell.send(answer).expect("somebody waits for it")));
    assert!(asked, "the tape is there");
    told.recv_timeout(PATIENCE).expect("the tape answers")
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
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn after_any_control_the_market_is_what_a_fresh_replay_would_make_it(
        records in vec(record(), 1..60),
        checkpoint_every in prop_oneof![Just(0_usize), 2..20_usize],
        forks in any::<bool>(),
        ops in vec(op(), 0..25),
    ) {
        let mut world = World::new(Recorded::new(records, checkpoint_every, forks));
        for op in &ops {
            world.apply(op);
        }
        // What was published stays until the next seek.
        let last_seek = ops.iter().rposition(|op| matches!(op, Op::Seek(_)));
        let published = ops.iter().rposition(|op| matches!(op, Op::Publish(_)));
        world.settle_and_check(published > last_seek);
    }
}
