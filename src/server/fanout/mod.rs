//! The fan-out core of one shard: the tape folded into its own replica, and the sessions it owes. Sans-IO: batches, bytes and the time
//! go in, sends on a [`Socket`] come out.

mod connection;
mod delivery;
mod faulty; // the way to a session that asked for it to be broken
mod report;
mod requests;
mod tally;

pub use connection::Socket;
pub use report::{MAX_SLOW, Report};
pub use tally::Tally;

use crate::hub::{COHORT, CohortId, Form, Replica, Session, TopicKey, Upto, ViewOptions, Views};
use crate::market::Event;
use crate::tape::{Batch, Epoch};
use crate::wire::{
    Answer, CloseCode, FULL_BYTES, FrameError, Incoming, Limits, MAX_HZ, MAX_MESSAGE_BYTES, Opcode, PROTOCOL,
    ReplayAction, Resume, UpdateEncoder,
};
use connection::{Connection, State};
use delivery::{Delivery, FrameCache};
use faulty::PUMP_EVERY;
use slab::Slab;
use std::collections::VecDeque;
use std::time::Duration;

/// A session that is owed nothing hears at the latest this long after the last update.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// A request a second on average, and this many at once.
const REQUESTS_PER_SECOND: u8 = 50;
const REQUEST_BURST: u8 = 100;
const PING_EVERY_SECONDS: u32 = 20;
const SILENCE_SECONDS: u32 = 60;
const STALL_SECONDS: u32 = 30;
const LINGER_SECONDS: u32 = 2;
/// A connection in whose way more answers than this pile up does not read them.
const MAX_BACKLOG: usize = 1 << 18;
/// The sweep looks at one slice of the connections at a time, so that it never holds up a flush.
const SLICES: u32 = 20;

/// How a connection begins.
#[derive(Clone, Debug)]
pub struct Opening {
    pub form: Form,
    /// Topics given in the URL.
    pub topics: Vec<String>,
    pub max_hz: Option<f64>,
    pub times: bool,
    pub since: Option<Resume>,
}

/// All sessions of one shard and what they are owed.
#[derive(Debug)]
pub struct Fanout<S> {
    replica: Replica,
    views: Views,
    connections: Slab<Connection<S>>,
    encoder: UpdateEncoder,
    frames: FrameCache,
    /// Cohorts with something to tell, in the order they were touched.
    line: VecDeque<CohortId>,
    /// How many have left the line.
    left_line: u64,
    /// Those that left it because their rate does not let them be flushed yet.
    waiting: Vec<CohortId>,
    /// Since this core exists.
    now: Duration,
    swept: u32,
    counters: Counters,
    tally: Tally,
    touched: Vec<TopicKey>,
    /// Connections whose way is broken at their own wish.
    faulty: Vec<usize>,
    /// Members of the cohort that is being flushed which are not in step with it.
    others: Vec<u32>,
    draining: bool,
    rights: Rights,
    /// What they ask of it, to be taken by whoever can do it, and how often they have asked.
    asked: Vec<AskedReplay>,
    replays: u64,
}

/// What sessions may do.
#[derive(Clone, Copy, Debug, Default)]
struct Rights {
    stats_forbidden: bool,
    /// Whether they may ask for faults.
    faults_allowed: bool,
    /// Whether they may control what is played.
    controllable: bool,
}

/// What a session asks of what is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AskedReplay {
    pub key: usize,
    /// Tells requests apart, also where a connection has the key of one before.
    pub number: u64,
    pub action: ReplayAction,
}

/// What this core has done since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Update frames built.
    pub built: u64,
    /// Update frames sent, at one `send` each.
    pub sent: u64,
    /// Bytes of the frames sent.
    pub bytes: u64,
    /// Values and ring entries in the frames sent.
    pub delivered: u64,
    /// Ticks delivered: changes of a session's topics that the frames sent to it stand for. More than `delivered` by what was merged, and by
    /// what was lost in gaps.
    pub events: u64,
    /// How often a session was told that it missed entries of a topic's ring.
    pub gaps: u64,
}

impl<S: Socket> Fanout<S> {
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self::with_limits(epoch, FULL_BYTES, COHORT)
    }

    /// With other sizes: of a full update, so that tests need no great flushes to see one split, and of a cohort.
    #[must_use]
    pub fn with_limits(epoch: Epoch, full: usize, cohort: usize) -> Self {
        Self {
            replica: Replica::new(epoch),
            views: Views::with_cohorts_of(cohort),
            connections: Slab::new(),
            encoder: UpdateEncoder::sharing(full),
            frames: FrameCache::default(),
            line: VecDeque::new(),
            left_line: 0,
            waiting: Vec::new(),
            now: Duration::ZERO,
            swept: 0,
            counters: Counters::default(),
            tally: Tally::default(),
            touched: Vec::new(),
            faulty: Vec::new(),
            others: Vec::new(),
            draining: false,
            rights: Rights::default(),
            asked: Vec::new(),
            replays: 0,
        }
    }

    /// Refuses the topic `stats` from here on, which tells of other sessions.
    pub fn forbid_stats(&mut self) {
        self.rights.stats_forbidden = true;
    }

    /// Lets sessions have the way to them broken from here on, as they wish.
    pub fn allow_faults(&mut self) {
        self.rights.faults_allowed = true;
    }

    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sessions whose sockets take no more for now. Looks at every connection: for now and then, not for each turn.
    #[must_use]
    pub fn blocked(&self) -> usize {
        self.connections.iter().filter(|(_, connection)| connection.state == State::Blocked).count()
    }

    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// The socket of a connection that is still there.
    pub fn socket(&mut self, key: usize) -> Option<&mut S> {
        self.connections.get_mut(key).map(|connection| &mut connection.socket)
    }

    /// Says whether sessions may control what is played. They may not, at first.
    pub fn set_controllable(&mut self, controllable: bool) {
        self.rights.controllable = controllable;
    }

    /// Lets one session control it.
    pub fn let_control(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.may_control = true;
        }
    }

    /// What sessions have asked of what is played since this was last called. Each is to be [answered](Self::answer_replay).
    pub fn take_asked(&mut self) -> Vec<AskedReplay> {
        std::mem::take(&mut self.asked)
    }

    /// Time passes; everything below happens at `now`, counted from when this core was made.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
    }

    /// Folds a batch in. Nothing is sent before [`Self::flush`], so that what is pending together goes out together.
    pub fn apply(&mut self, batch: &Batch) {
        self.touched.clear();
        self.frames.clear();
        let mut known = self.replica.books().len();
        self.replica.apply(batch, &mut self.touched);
        if matches!(batch.events.first(), Some(Event::Reset)) {
            // What the views were to tell is void, and told anew.
            self.encoder.forget();
            self.views.reset(&self.replica);
            self.touched.clear();
            return;
        }
        for event in &batch.events {
            // A new instrument is often defined twice in its first batch: by name, then with the scales its numbers need.
            if let Event::Instrument(instrument) = event
                && instrument.id.index() >= known
            {
                // Once, though a batch may define it and redefine it.
                known = instrument.id.index() + 1;
                self.views.welcome(instrument);
            }
        }
        self.views.touch(&self.touched);
    }

    /// A new connection, its handshake done; `early` are bytes that came with it. Returns its key.
    pub fn open(&mut self, opening: &Opening, early: &[u8], socket: impl FnOnce(usize) -> S) -> usize {
        self.views.settle();
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let options = ViewOptions::new(opening.form);
        let session = Session::open(key_u32(key), options, &self.replica, &mut self.views);
        let mut connection = Connection::new(socket(key), session, second(self.now), REQUEST_BURST);
        let welcome = Answer::Welcome {
            protocol: PROTOCOL.to_owned(),
            server: concat!("tickcast/", env!("CARGO_PKG_VERSION")).to_owned(),
            epoch: self.replica.epoch().get(),
            begins: self.replica.reset_at().get(),
            position: self.replica.position().get(),
            time: self.replica.time().micros(),
            heartbeat_ms: u64::try_from(HEARTBEAT.as_millis()).expect("seconds"),
            limits: Limits {
                topics: crate::hub::MAX_TOPICS,
                message_bytes: MAX_MESSAGE_BYTES,
                requests_per_second: u32::from(REQUESTS_PER_SECOND),
                max_hz: MAX_HZ,
            },
        };
        connection.answer(&welcome, opening.form, second(self.now));
        entry.insert(connection);
        self.tally.opened += 1;
        if self.draining {
            self.say_goodbye(key, CloseCode::GOING_AWAY, "server is shutting down", Duration::from_secs(1));
            return key;
        }
        if !opening.topics.is_empty() {
            let max_hz = Some(opening.max_hz);
            self.subscribe(key, None, opening.topics.clone(), opening.since, max_hz, Some(opening.times));
        }
        if !early.is_empty() {
            self.received(key, early);
        }
        self.reap(key);
        key
    }

    /// Bytes from a connection's peer.
    pub fn received(&mut self, key: usize, bytes: &[u8]) {
        self.views.settle();
        let now = second(self.now);
        let Some(connection) = self.alone(key) else { return };
        connection.heard = now;
        if connection.state == State::Closing {
            return;
        }
        let mut messages = Vec::new();
        let read = connection.reader.read(bytes, |message| messages.push(message));
        for message in messages {
            if !self.take(key, message) {
                break;
            }
        }
        if let Err(error) = read {
            self.violated(key, &error);
        }
        self.reap(key);
    }

    /// The peer closed its side, or the connection broke.
    pub fn closed(&mut self, key: usize) {
        self.views.settle();
        if let Some(connection) = self.connections.get_mut(key) {
            connection.state = State::Gone;
        }
        self.reap(key);
    }

    /// A socket that would block takes bytes again.
    pub fn writable(&mut self, key: usize) {
        self.views.settle();
        let now = second(self.now);
        // The poll tells so of sockets that were never full, too: a session in step is owed nothing.
        let blocked = |connection: &&mut Connection<S>| !connection.session.is_in_step();
        let Some(connection) = self.connections.get_mut(key).filter(blocked) else { return };
        if connection.unblock(now) {
            self.catch_up(key);
        }
        self.reap(key);
    }

    /// Sends everything that is due now.
    pub fn flush(&mut self) {
        self.flush_with(|_| {});
    }

    /// Sends everything that is due now, to one cohort after the other. `between` is called after each, and may fold in what has come: those
    /// still in line are told it, too, and those already served get in line again, for the next flush.
    pub fn flush_with(&mut self, mut between: impl FnMut(&mut Self)) {
        self.views.settle();
        let is_over = |id: &mut CohortId| self.views.cohort(*id).is_none_or(|c| c.next_flush <= self.now);
        self.line.extend(self.waiting.extract_if(.., is_over));
        self.views.take_dirty(&mut self.line);
        for _ in 0..self.line.len() {
            let Some(id) = self.line.pop_front() else { break };
            self.left_line += 1;
            if self.is_due(id) {
                self.flush_cohort(id);
                between(self);
                self.views.settle();
                self.views.take_dirty(&mut self.line);
            }
        }
        if !self.faulty.is_empty() {
            self.pump();
        }
    }

    /// Whether a cohort from the line is to be flushed now.
    fn is_due(&mut self, id: CohortId) -> bool {
        let Some(cohort) = self.views.cohort(id).filter(|cohort| cohort.is_dirty()) else { return false };
        if cohort.next_flush > self.now {
            self.waiting.push(id);
            return false;
        }
        let period = self.views.view(cohort).key.options.period;
        if !period.is_zero() {
            // Whole multiples of the period, so that all sessions of one rate share their frames.
            let next = (self.now.as_nanos() / period.as_nanos() + 1) * period.as_nanos();
            let cohort = self.views.cohort_mut(id).expect("it is there");
            cohort.next_flush = Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX));
        }
        true
    }

    /// How many cohorts have left the line, served or not.
    #[must_use]
    pub fn left_line(&self) -> u64 {
        self.left_line
    }

    /// How many cohorts are in line. When as many have left it, everything is sent that was folded in before, but to those that wait for their
    /// rate. Within [`Self::flush_with`] that holds of what was folded in before the last cohort was served.
    #[must_use]
    pub fn in_line(&self) -> usize {
        self.line.len()
    }

    /// When [`Self::flush`] is next needed although nothing came.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let pump = (!self.faulty.is_empty()).then(|| self.now + PUMP_EVERY);
        let next = |&id: &CohortId| self.views.cohort(id).map(|cohort| cohort.next_flush);
        let waiting = self.waiting.iter().filter_map(next);
        let in_line = (!self.line.is_empty()).then_some(self.now);
        waiting.chain(in_line).chain(pump).min()
    }

    /// Heartbeats, pings, and the end of peers that are silent or do not read. To be called every
    /// [`Self::SWEEP_EVERY`]; each call looks at a slice of the connections.
    pub fn sweep(&mut self) {
        self.views.settle();
        self.swept = (self.swept + 1) % SLICES;
        let now = second(self.now);
        for key in (self.swept as usize..self.connections.capacity()).step_by(SLICES as usize) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            // By the time that has passed: a loaded shard may come by less than once a second.
            let seconds = u8::try_from(now.saturating_sub(connection.swept)).unwrap_or(u8::MAX);
            connection.swept = now;
            let refill = REQUESTS_PER_SECOND.saturating_mul(seconds);
            connection.requests_left = connection.requests_left.saturating_add(refill).min(REQUEST_BURST);
            let silent = now.saturating_sub(connection.heard);
            let needs_ping = now.saturating_sub(connection.pinged) >= PING_EVERY_SECONDS;
            if connection.session.is_in_step() && silent < SILENCE_SECONDS && !needs_ping {
                self.heartbeat(key, now);
                continue;
            }
            let Some(connection) = self.alone(key) else { continue };
            let stuck = now.saturating_sub(connection.sent);
            match connection.state {
                State::Closing if stuck >= LINGER_SECONDS => connection.state = State::Gone,
                State::Blocked if stuck >= STALL_SECONDS => {
                    connection.close(CloseCode::STALLED, "owed data was not read for 30 s", now);
                }
                // It is told nothing more for now, so it has nothing to answer either.
                State::Faulty if !connection.may_hear() => {}
                State::Open | State::Blocked | State::Faulty if silent >= SILENCE_SECONDS => {
                    connection.close(CloseCode::STALLED, "nothing was heard for 60 s", now);
                }
                State::Open | State::Faulty => {
                    if needs_ping {
                        connection.pinged = now;
                        connection.say(Opcode::Ping, b"", now);
                    }
                    self.heartbeat(key, now);
                    self.tell_stats(key);
                }
                _ => {}
            }
            self.reap(key);
        }
    }

    pub const SWEEP_EVERY: Duration = Duration::from_millis(1000 / SLICES as u64);

    /// Tells everyone that the server leaves, and when to come back. From here on nothing is sent.
    pub fn say_goodbye_to_all(&mut self, code: CloseCode, reason: &str, retry_after: Duration) {
        self.draining = true;
        self.views.settle();
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.say_goodbye(key, code, reason, retry_after);
            self.reap(key);
        }
    }

    fn say_goodbye(&mut self, key: usize, code: CloseCode, reason: &str, retry_after: Duration) {
        let now = second(self.now);
        let form = self.form_of(key);
        let Some(connection) = self.alone(key) else { return };
        let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        let goodbye = Answer::Goodbye {
            code: code.0,
            reason: reason.to_owned(),
            retry_after_ms,
            jitter_ms: retry_after_ms * 2,
        };
        connection.answer(&goodbye, form, now);
        connection.close(code, reason, now);
    }

    fn form_of(&self, key: usize) -> Form {
        self.connections[key].session.view(&self.views).key.options.form
    }

    /// Handles one message; returns whether the connection goes on.
    fn take(&mut self, key: usize, message: Incoming) -> bool {
        let now = second(self.now);
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if let Incoming::Close(code) = message {
            connection.close(code.unwrap_or(CloseCode::NORMAL), "", now);
            return false;
        }
        let Some(left) = connection.requests_left.checked_sub(1) else {
            connection.close(CloseCode::RATE_LIMITED, "more than 50 requests a second", now);
            return false;
        };
        connection.requests_left = left;
        if connection.backlog.len() > MAX_BACKLOG {
            connection.close(CloseCode::STALLED, "answers were not read", now);
            return false;
        }
        match message {
            Incoming::Ping(payload) => connection.say(Opcode::Pong, &payload, now),
            Incoming::Pong | Incoming::Close(_) => {}
            Incoming::Text(text) => self.request(key, crate::wire::Request::from_json(&text)),
            Incoming::Binary(bytes) => self.request(key, crate::wire::Request::from_msgpack(&bytes)),
        }
        self.connections
            .get(key)
            .is_some_and(|c| matches!(c.state, State::Open | State::Blocked | State::Faulty))
    }

    fn violated(&mut self, key: usize, error: &FrameError) {
        let now = second(self.now);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.close(error.code(), &error.to_string(), now);
        }
    }

    fn flush_cohort(&mut self, id: CohortId) {
        let mut others = std::mem::take(&mut self.others);
        let (mut delivery, connections) = self.delivery(id);
        delivery.frames.begin(delivery.cohort.view());
        let mut any_gone = false;
        delivery.deliver_in_step(connections, &mut others);
        for key in others.drain(..) {
            let connection = &mut connections[key as usize];
            delivery.deliver_all(connection);
            connection.fall_in(delivery.upto);
            any_gone |= connection.state == State::Gone;
        }
        self.others = others;
        self.views.flushed(id, self.upto(), second(self.now));
        if any_gone {
            let is_gone = |&key: &u32| self.connections[key as usize].state == State::Gone;
            let members = self.views.cohort(id).expect("its sessions are still there").members();
            let gone: Vec<u32> = members.iter().copied().filter(is_gone).collect();
            for key in gone {
                self.reap(key as usize);
            }
        }
    }

    /// The means to send to sessions of a cohort, and the connections.
    fn delivery(&mut self, id: CohortId) -> (Delivery<'_>, &mut Slab<Connection<S>>) {
        let upto = self.upto();
        let cohort = self.views.cohort(id).expect("it has sessions");
        let delivery = Delivery {
            replica: &self.replica,
            view: self.views.view(cohort),
            cohort,
            encoder: &mut self.encoder,
            frames: &mut self.frames,
            counters: &mut self.counters,
            upto,
            second: second(self.now),
        };
        (delivery, &mut self.connections)
    }

    /// Brings one session to where it should be, outside a flush of its cohort.
    fn catch_up(&mut self, key: usize) {
        if self.connections.contains(key) && self.is_waiting(key) {
            self.deliver_alone(key);
        }
        self.answer_checksum(key);
    }

    /// Whether it waits for what its cohort was told, or for a checksum: that is of the tape's end, where no flush need bring it, as its
    /// cohort may have nothing to tell, or not yet.
    fn is_waiting(&self, key: usize) -> bool {
        let Connection { session, extras, .. } = &self.connections[key];
        session.position() < session.cohort(&self.views).flushed().upto.position
            || !session.is_steady()
            || extras.as_ref().is_some_and(|extras| extras.checksum.is_some())
    }

    /// Brings one session to the tape's end as far as its socket lets it, outside a flush of its cohort.
    fn deliver_alone(&mut self, key: usize) {
        self.alone(key);
        let (mut delivery, connections) = self.delivery(self.connections[key].session.cohort_id());
        delivery.deliver_all(&mut connections[key]);
    }

    fn heartbeat(&mut self, key: usize, now: u32) {
        let updated = self.connections[key].last_updated(&self.views);
        let quiet = u64::from(now.saturating_sub(updated)) + 1 >= HEARTBEAT.as_secs();
        if !quiet {
            return;
        }
        let Some(connection) = self.alone(key) else { return };
        let id = connection.session.cohort_id();
        let (mut delivery, connections) = self.delivery(id);
        delivery.beat(&mut connections[key]);
    }

    /// A connection out of step with its cohort, for what is done for it alone.
    fn alone(&mut self, key: usize) -> Option<&mut Connection<S>> {
        let connection = self.connections.get_mut(key)?;
        connection.fall_out(connection.session.cohort(&self.views));
        Some(connection)
    }

    /// Removes a connection that is gone.
    fn reap(&mut self, key: usize) {
        if self.connections.get(key).is_some_and(|connection| connection.state == State::Gone) {
            let connection = self.connections.remove(key);
            // The number of its view may be another's next.
            self.frames.clear();
            self.tally.close(connection.ends_with);
            connection.session.close(key_u32(key), &mut self.views);
        }
    }

    fn upto(&self) -> Upto {
        Upto { position: self.replica.position(), time: self.replica.time() }
    }
}

fn second(now: Duration) -> u32 {
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

fn key_u32(key: usize) -> u32 {
    u32::try_from(key).expect("fewer connections than descriptors")
}
