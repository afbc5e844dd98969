//! The fan-out core of one shard: the tape folded into its own replica, and the sessions it owes. Sans-IO: batches, bytes and the time
//! go in, sends on a [`Socket`] come out.

mod connection;
mod requests;
mod tally;

pub use connection::Socket;
pub use tally::Tally;

use crate::hub::{Flush, Form, Replica, Session, TopicKey, Upto, ViewId, ViewOptions, Views, tell};
use crate::market::Event;
use crate::tape::{Batch, Epoch, Position};
use crate::wire::{
    Answer, CloseCode, FULL_BYTES, FrameError, Incoming, Limits, MAX_HZ, MAX_MESSAGE_BYTES, Opcode, PROTOCOL,
    Resume, UpdateEncoder,
};
use connection::{Connection, State};
use slab::Slab;
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
/// Frames of one flush kept for the sessions still to come. Many sessions at many places would need a frame each.
const CACHED_BYTES: usize = 4 << 20;
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
    cache: FrameCache,
    /// Views with something to tell, in the order they were touched.
    due: Vec<ViewId>,
    /// Since this core exists.
    now: Duration,
    swept: u32,
    counters: Counters,
    tally: Tally,
    touched: Vec<TopicKey>,
    draining: bool,
}

/// What this core has done since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Update frames built.
    pub built: u64,
    /// Update frames sent, at one `send` each.
    pub sent: u64,
    /// Values and ring entries in the frames sent.
    pub delivered: u64,
}

/// The frames of one flush of one view, so that each is built once for all who are owed the same.
#[derive(Debug, Default)]
struct FrameCache {
    bytes: Vec<u8>,
    frames: Vec<CachedFrame>,
}

#[derive(Clone, Copy, Debug)]
struct CachedFrame {
    flush: Flush,
    frame: Frame,
}

/// A frame in the cache's bytes.
#[derive(Clone, Copy, Debug)]
struct Frame {
    start: usize,
    end: usize,
    /// Where the next frame of the same flush begins; `None`: this one ends it.
    next: Option<usize>,
    delivered: u64,
}

impl<S: Socket> Fanout<S> {
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self::with_full_bytes(epoch, FULL_BYTES)
    }

    /// With another size at which updates are full, so that tests need no great flushes to see one split.
    #[must_use]
    pub fn with_full_bytes(epoch: Epoch, full: usize) -> Self {
        Self {
            replica: Replica::new(epoch),
            views: Views::default(),
            connections: Slab::new(),
            encoder: UpdateEncoder::new(full),
            cache: FrameCache::default(),
            due: Vec::new(),
            now: Duration::ZERO,
            swept: 0,
            counters: Counters::default(),
            tally: Tally::default(),
            touched: Vec::new(),
            draining: false,
        }
    }

    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
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

    /// Time passes; everything below happens at `now`, counted from when this core was made.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
    }

    /// Folds a batch in. Nothing is sent before [`Self::flush`], so that what is pending together goes out together.
    pub fn apply(&mut self, batch: &Batch) {
        self.touched.clear();
        let mut known = self.replica.books().len();
        self.replica.apply(batch, &mut self.touched);
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
        self.views.mark(&self.touched);
    }

    /// A new connection, its handshake done; `early` are bytes that came with it. Returns its key.
    pub fn open(&mut self, opening: &Opening, early: &[u8], socket: impl FnOnce(usize) -> S) -> usize {
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let options = ViewOptions::new(opening.form);
        let session = Session::open(key_u32(key), options, &self.replica, &mut self.views);
        let mut connection = Connection::new(socket(key), session, second(self.now), REQUEST_BURST);
        let welcome = Answer::Welcome {
            protocol: PROTOCOL.to_owned(),
            server: concat!("tickcast/", env!("CARGO_PKG_VERSION")).to_owned(),
            epoch: self.replica.epoch().get(),
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
        let now = second(self.now);
        let Some(connection) = self.connections.get_mut(key) else { return };
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
        if let Some(connection) = self.connections.get_mut(key) {
            connection.state = State::Gone;
        }
        self.reap(key);
    }

    /// A socket that would block takes bytes again.
    pub fn writable(&mut self, key: usize) {
        let now = second(self.now);
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.unblock(now) {
            self.catch_up(key);
        }
        self.reap(key);
    }

    /// Sends everything that is due now.
    pub fn flush(&mut self) {
        self.views.take_dirty(&mut self.due);
        let mut due = std::mem::take(&mut self.due);
        due.retain(|&id| {
            let Some(view) = self.views.get_mut(id) else { return false };
            if !view.is_dirty() {
                return false;
            }
            if view.next_flush > self.now {
                return true;
            }
            let period = view.key.options.period;
            if !period.is_zero() {
                // Whole multiples of the period, so that all sessions of one rate share their frames.
                let periods = self.now.as_nanos() / period.as_nanos() + 1;
                view.next_flush =
                    Duration::from_nanos(u64::try_from(periods * period.as_nanos()).unwrap_or(u64::MAX));
            }
            self.flush_view(id);
            false
        });
        due.append(&mut self.due);
        self.due = due;
    }

    /// When [`Self::flush`] is next needed although nothing came.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.due.iter().filter_map(|&id| self.views.get(id)).map(|view| view.next_flush).min()
    }

    /// Heartbeats, pings, and the end of peers that are silent or do not read. To be called every
    /// [`Self::SWEEP_EVERY`]; each call looks at a slice of the connections.
    pub fn sweep(&mut self) {
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
            let stuck = now.saturating_sub(connection.sent);
            match connection.state {
                State::Closing if stuck >= LINGER_SECONDS => connection.state = State::Gone,
                State::Blocked if stuck >= STALL_SECONDS => {
                    connection.close(CloseCode::STALLED, "owed data was not read for 30 s", now);
                }
                State::Open | State::Blocked if silent >= SILENCE_SECONDS => {
                    connection.close(CloseCode::STALLED, "nothing was heard for 60 s", now);
                }
                State::Open => {
                    if now.saturating_sub(connection.pinged) >= PING_EVERY_SECONDS {
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
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.say_goodbye(key, code, reason, retry_after);
            self.reap(key);
        }
    }

    fn say_goodbye(&mut self, key: usize, code: CloseCode, reason: &str, retry_after: Duration) {
        let now = second(self.now);
        let form = self.form_of(key);
        let connection = &mut self.connections[key];
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
        let view = self.connections[key].session.view();
        self.views.get(view).expect("a session has a view").key.options.form
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
        self.connections.get(key).is_some_and(|c| matches!(c.state, State::Open | State::Blocked))
    }

    fn violated(&mut self, key: usize, error: &FrameError) {
        let now = second(self.now);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.close(error.code(), &error.to_string(), now);
        }
    }

    fn flush_view(&mut self, id: ViewId) {
        self.cache.clear();
        let view = self.views.get_mut(id).expect("due views are live");
        view.sort_touched();
        let members = std::mem::take(&mut view.members);
        for &key in &members {
            self.deliver_all(key as usize);
        }
        let position = self.replica.position();
        let view = self.views.get_mut(id).expect("due views are live");
        view.members = members;
        view.flushed(position);
        // Sends may have found broken connections; they leave only now that the list is back in its place.
        let gone: Vec<u32> = view
            .members
            .iter()
            .copied()
            .filter(|&key| self.connections[key as usize].state == State::Gone)
            .collect();
        for key in gone {
            self.reap(key as usize);
        }
    }

    /// Brings one session to where it should be, outside a flush of its view.
    fn catch_up(&mut self, key: usize) {
        let Some(connection) = self.connections.get(key) else { return };
        let view = self.views.get(connection.session.view()).expect("a session has a view");
        if connection.session.position() < view.flushed_at() || !connection.session.is_steady() {
            self.deliver_alone(key);
        }
        self.answer_checksum(key);
    }

    /// [`Self::deliver_all`] for one session, outside a flush of its view.
    fn deliver_alone(&mut self, key: usize) {
        self.cache.clear();
        self.views
            .get_mut(self.connections[key].session.view())
            .expect("a session has a view")
            .sort_touched();
        self.deliver_all(key);
    }

    /// Sends frame after frame until the session stands at the tape's end or its socket would block.
    fn deliver_all(&mut self, key: usize) {
        while !self.connections[key].has_reached(self.upto()) && self.deliver(key) {}
    }

    /// Sends the next frame of the flush that a session is due. Returns whether the next one may follow.
    fn deliver(&mut self, key: usize) -> bool {
        let now = second(self.now);
        if !self.connections[key].is_open() {
            return false;
        }
        let flush = self.connections[key].session.flush(&self.replica);
        let shares = self.connections[key].session.shares();
        let frame = self.frame(key, flush, shares);
        let connection = &mut self.connections[key];
        let sent = connection.send_frame(&self.cache.bytes[frame.start..frame.end], now);
        if !shares {
            self.cache.bytes.truncate(frame.start);
        }
        if !sent {
            return false;
        }
        connection.updated = now;
        self.counters.sent += 1;
        self.counters.delivered += frame.delivered;
        if let Some(stats) = connection.extras.as_mut().and_then(|extras| extras.stats.as_mut()) {
            stats.delivered += frame.delivered;
        }
        match frame.next {
            Some(next) => connection.session.told(next, flush.upto),
            None => connection.session.reached(flush.upto),
        }
        connection.is_open()
    }

    /// The frame of that flush for that session, from the cache where others are owed the same (`shares`).
    fn frame(&mut self, key: usize, flush: Flush, shares: bool) -> Frame {
        if shares && let Some(cached) = self.cache.frames.iter().find(|cached| cached.flush == flush) {
            return cached.frame;
        }
        if self.cache.bytes.len() > CACHED_BYTES {
            self.cache.clear();
        }
        let session = &self.connections[key].session;
        let view = self.views.get(session.view()).expect("a session has a view");
        let options = view.key.options;
        self.encoder.begin(options.form, options.times, flush.from, flush.upto);
        // A session with fresh topics is owed them from further back than the touched ones tell.
        let oldest = if shares { flush.from.position } else { Position::START };
        let next = tell(
            &self.replica,
            view.changed(oldest, flush.next),
            |topic| session.since(topic),
            flush.upto.position,
            &mut self.encoder,
        );
        let start = self.cache.bytes.len();
        let delivered = self.encoder.finish(next.is_none(), &mut self.cache.bytes);
        self.counters.built += 1;
        let frame = Frame { start, end: self.cache.bytes.len(), next, delivered };
        if shares {
            self.cache.frames.push(CachedFrame { flush, frame });
        }
        frame
    }

    fn heartbeat(&mut self, key: usize, now: u32) {
        let connection = &self.connections[key];
        let quiet = u64::from(now.saturating_sub(connection.updated)) + 1 >= HEARTBEAT.as_secs();
        if !quiet {
            return;
        }
        self.cache.clear();
        let view = self.views.get(connection.session.view()).expect("a session has a view");
        if !view.is_dirty() {
            self.deliver(key);
            return;
        }
        // What a dirty view has to tell waits for its rate's next flush, so this one says only that the server lives.
        let (options, at) = (view.key.options, connection.session.upto());
        self.encoder.begin(options.form, options.times, at, at);
        self.encoder.finish(true, &mut self.cache.bytes);
        let connection = &mut self.connections[key];
        if connection.send_frame(&self.cache.bytes, now) {
            connection.updated = now;
        }
        self.cache.clear();
    }

    /// Removes a connection that is gone.
    fn reap(&mut self, key: usize) {
        if self.connections.get(key).is_some_and(|connection| connection.state == State::Gone) {
            let connection = self.connections.remove(key);
            self.tally.close(connection.ends_with);
            connection.session.close(key_u32(key), &mut self.views);
        }
    }

    fn upto(&self) -> Upto {
        Upto { position: self.replica.position(), time: self.replica.time() }
    }
}

impl FrameCache {
    fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }
}

fn second(now: Duration) -> u32 {
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

fn key_u32(key: usize) -> u32 {
    u32::try_from(key).expect("fewer connections than descriptors")
}
