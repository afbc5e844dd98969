//! The fan-out core of one shard: the tape folded into its own replica, and its sessions. On the shard
//! thread. Sans-IO: batches, bytes and the time go in, sends on a [`Link`] come out.
//!
//! Invariant: nothing is sent before [`Fanout::flush`] or a call for one connection, and each session gets
//! its frames in the order of positions.

mod connection;
mod delivery;
mod faults; // links impaired on request of the client
mod pace; // how much may be in flight to a session
mod packets; // what clients of Socket.IO send
mod report;
mod requests;
mod sessions; // several on one connection
mod tally;

pub use packets::Returned;
pub use report::{MAX_SLOW, Report};
pub use tally::Tally;

use crate::hub::{
    COHORT, ChannelId, CohortId, Replica, ServerStats, Session, TopicKey, Upto, ViewOptions, Views,
};
use crate::market::{Event, InstrumentId, Post, Sender, Symbol, Word};
use crate::server::limits::SESSION;
use crate::server::link::Link;
use crate::server::rights::Rights;
use crate::tape::{Batch, Epoch, Position};
use crate::wire::{
    Answer, CloseCode, FULL_BYTES, Form, Incoming, PROTOCOL, ReplayAction, ReplayState, Request, Resume,
    SessionNumber, UpdateEncoder,
};
use connection::{Connection, Member, State};
use delivery::{Delivery, FrameCache};
use faults::PUMP_EVERY;
use pace::{Clock, Millis, Pings};
use rustc_hash::FxHashMap;
use slab::Slab;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A sweep looks at one slice of the connections, so that it never holds up a flush.
const SLICES: u32 = 20;

/// Clients that are sent away together come back at so many moments.
const SHARES: u64 = 64;

/// How a connection begins: from its URL and headers.
#[derive(Clone, Debug)]
pub struct Opening {
    pub form: Form,
    /// Topics given in the URL.
    pub topics: Vec<String>,
    pub max_hz: Option<f64>,
    pub times: bool,
    pub since: Option<Resume>,
    /// Topics given there of which the client has nothing yet, whatever `since` says.
    pub new: Vec<String>,
    pub rights: Rights,
    /// How its client calls itself.
    pub name: Option<Word>,
}

impl Opening {
    /// Without topics.
    #[must_use]
    pub fn new(form: Form, rights: Rights) -> Self {
        let (topics, new) = (Vec::new(), Vec::new());
        Self { form, topics, max_hz: None, times: false, since: None, new, rights, name: None }
    }
}

/// All connections of one shard, and their sessions.
#[derive(Debug)]
pub struct Fanout<L> {
    replica: Replica,
    /// Where clients of Socket.IO are; with a slash.
    namespace: Cow<'static, str>,
    /// The server's figures, which the replica takes in with the next batch.
    stats: Option<Arc<ServerStats>>,
    /// How many watch these instruments, likewise.
    watchers: Vec<(InstrumentId, u64)>,
    views: Views,
    connections: Slab<Connection<L>>,
    encoder: UpdateEncoder,
    frames: FrameCache,
    /// The queue: cohorts with something pending, in the order they were touched.
    line: VecDeque<CohortId>,
    /// How many have left the queue.
    left_line: u64,
    /// Cohorts that left it because their rate does not let them be flushed yet.
    waiting: Vec<CohortId>,
    /// Since this core was made.
    now: Duration,
    /// In ms, how long a pong may wait before it is read.
    own_delay: u32,
    swept: u32,
    counters: Counters,
    tally: Tally,
    touched: Vec<TopicKey>,
    /// Connections whose links are impaired on their own request.
    impaired: Vec<usize>,
    /// Members of the cohort being flushed that are out of step with it.
    others: Vec<u32>,
    /// By number of the cohort. A new cohort may find those of an earlier one, which none of its sessions was
    /// sent.
    pings: Vec<Pings>,
    draining: bool,
    /// Requests to the room, to be taken by the shard, and how many there were so far.
    asked: Vec<AskedOfRoom>,
    all_asked: u64,
    /// Clients that do not want some of their own messages back; their names count from a random one.
    senders: FxHashMap<Sender, usize>,
    origin: u64,
    /// A connection that its door is to take back.
    returned: Option<Returned>,
}

/// A session's request to its room.
#[derive(Clone, Debug, PartialEq)]
pub struct AskedOfRoom {
    pub key: usize,
    /// Distinguishes requests, even when a connection has the key of an earlier one.
    pub number: u64,
    pub task: Task,
}

/// What a room does for a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    Replay(ReplayAction),
    Post(Box<Post>),
}

/// What it has done.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    Replay(ReplayState),
    /// The post is on the tape, at this position.
    Posted(Position),
}

/// What this core has done since it was made.
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
    /// Ticks delivered: the changes of a session's topics that the frames sent to it represent. More than
    /// `delivered` by what was merged, and by what was lost in gaps.
    pub events: u64,
    /// How often a gap in a topic's ring was reported to a session.
    pub gaps: u64,
}

impl<L: Link> Fanout<L> {
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self::with_limits(epoch, FULL_BYTES, COHORT)
    }

    /// `full`: bytes of a full update; `cohort`: sessions of a cohort. Both are small in tests.
    #[must_use]
    pub fn with_limits(epoch: Epoch, full: usize, cohort: usize) -> Self {
        Self {
            replica: Replica::new(epoch),
            namespace: "/".into(),
            stats: None,
            watchers: Vec::new(),
            views: Views::with_cohorts_of(cohort),
            connections: Slab::new(),
            encoder: UpdateEncoder::sharing(full).of(epoch),
            frames: FrameCache::default(),
            line: VecDeque::new(),
            left_line: 0,
            waiting: Vec::new(),
            now: Duration::ZERO,
            own_delay: 0,
            swept: 0,
            counters: Counters::default(),
            tally: Tally::default(),
            touched: Vec::new(),
            impaired: Vec::new(),
            others: Vec::new(),
            pings: Vec::new(),
            draining: false,
            asked: Vec::new(),
            all_asked: 0,
            senders: FxHashMap::default(),
            origin: 0,
            returned: None,
        }
    }

    /// Keeps shorter rings than usual. Call it before the first batch.
    pub fn keep(&mut self, trades: usize, bars: usize) {
        self.replica = Replica::keeping(self.replica.epoch(), trades, bars);
    }

    /// Sets the namespace of its clients of Socket.IO, which begins with a slash. Call it before the first
    /// connection.
    pub fn set_namespace(&mut self, namespace: &str) {
        self.namespace = namespace.to_owned().into();
        self.encoder.set_namespace(namespace);
    }

    /// Sets the random number by which its clients are told from those of other shards.
    pub fn set_origin(&mut self, origin: u64) {
        self.origin = origin;
    }

    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Connections that take no more for now: their sockets are full, or their clients do not read what is in
    /// flight. Looks at every connection: not for each turn.
    #[must_use]
    pub fn blocked(&self) -> usize {
        self.connections.iter().filter(|(_, connection)| self.is_slow(connection)).count()
    }

    /// Whether a connection takes no more for now, and something is pending for it. (In step nothing is,
    /// however late a pong.)
    fn is_slow(&self, connection: &Connection<L>) -> bool {
        let Connection { session, pace, .. } = connection;
        match connection.state {
            State::Blocked => true,
            State::Open if !session.is_in_step() && pace.is_slow(self.clock()) => {
                connection.sessions().any(|(_, session)| self.is_behind(session))
            }
            _ => false,
        }
    }

    /// Whether a session has not received all that its cohort has.
    fn is_behind(&self, session: &Session) -> bool {
        session.position() < session.cohort(&self.views).flushed().upto.position || !session.is_steady()
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

    /// The link of a connection, if it still exists.
    pub fn link(&mut self, key: usize) -> Option<&mut L> {
        self.connections.get_mut(key).map(|connection| &mut connection.link)
    }

    /// The requests to the room since the last call. Each must be [answered](Self::answer_asked).
    pub fn take_asked(&mut self) -> Vec<AskedOfRoom> {
        std::mem::take(&mut self.asked)
    }

    /// Sets the time of everything that follows: `now` is counted from when this core was made.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
    }

    /// The last turn took so long: pongs that arrived meanwhile waited for its end.
    pub fn took(&mut self, turn: Duration) {
        self.own_delay = u32::try_from(turn.as_millis()).unwrap_or(u32::MAX);
    }

    /// Folds a batch in. Nothing is sent before [`Self::flush`], so that what is pending together is sent
    /// together.
    pub fn apply(&mut self, batch: &Batch) {
        self.part_senders(batch);
        self.touched.clear();
        self.frames.clear();
        let (mut known, channels) = (self.replica.books().len(), self.replica.channels().len());
        self.replica.apply(batch, &mut self.touched);
        let noted = self.replica.stats().map(|(stats, _)| Arc::as_ptr(stats));
        if noted != self.stats.as_ref().map(Arc::as_ptr) {
            self.replica.note_stats(self.stats.clone(), &mut self.touched);
        }
        let is_reset = matches!(batch.events.first(), Some(Event::Reset));
        for (instrument, watchers) in self.watchers.drain(..).filter(|_| !is_reset) {
            self.replica.note_watchers(instrument, watchers, &mut self.touched);
        }
        if is_reset {
            // What was pending in the views is void, and all is pending anew.
            self.encoder.forget();
            self.views.reset(&self.replica);
            self.touched.clear();
            return;
        }
        for event in &batch.events {
            let Event::Instrument(instrument) = event else { continue };
            // A new instrument is often defined twice in its first batch, by name and then in full: the last
            // one counts.
            let Some(book) = self.replica.book(instrument.id) else { continue };
            if instrument.id.index() >= known {
                known = instrument.id.index() + 1;
                self.views.welcome(&book.definition);
            } else if book.moved_at(batch.position) {
                self.views.place(book);
            }
        }
        for (number, channel) in (0..).zip(self.replica.channels()).skip(channels) {
            self.views.welcome_channel(ChannelId(number), channel);
        }
        self.views.touch(&self.touched);
        self.views.dismiss();
    }

    /// By how much the number of sessions that name a symbol has changed since the last call; `None` if no
    /// session has begun to or ceased to.
    pub fn take_named(&mut self) -> Option<impl Iterator<Item = (Symbol, i64)> + use<L>> {
        self.views.has_named().then(|| self.views.take_named())
    }

    /// Whether [`Self::note_watchers`] is due whatever has changed: there are new topics of watchers.
    pub fn take_new_watchers(&mut self) -> bool {
        self.views.take_new_watchers()
    }

    /// How many watch the instruments whose watchers any session watches. That goes to these sessions with
    /// the next batch, as [`Self::note_stats`] has it.
    pub fn note_watchers(&mut self, count: impl Fn(&Symbol) -> u64) {
        self.watchers.clear();
        for instrument in self.views.with_watchers_watched() {
            let Some(book) = self.replica.book(instrument) else { continue };
            let watchers = count(&book.definition.symbol);
            if book.watchers.get() != Some(watchers) {
                self.watchers.push((instrument, watchers));
            }
        }
    }

    /// The server's figures go to their subscribers with the next batch: at a position already delivered they
    /// would reach no session. `None`: no figures any more.
    pub fn note_stats(&mut self, stats: Option<Arc<ServerStats>>) {
        self.stats = stats;
    }

    /// Adds a connection whose handshake is done. Returns its key.
    pub fn open(&mut self, opening: &Opening, link: impl FnOnce(usize) -> L) -> usize {
        self.views.settle();
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let options = ViewOptions::new(opening.form.id());
        let session = Session::open(
            Member::new(key, SessionNumber::FIRST).get(),
            options,
            &self.replica,
            &mut self.views,
        );
        let mut connection = Connection::new(link(key), opening, session, self.now, SESSION.request_burst);
        let welcome = Answer::Welcome {
            protocol: PROTOCOL.to_owned(),
            server: concat!("tickcast/", env!("CARGO_PKG_VERSION")).to_owned(),
            epoch: self.replica.epoch().get(),
            begins: self.replica.reset_at().get(),
            position: self.replica.position().get(),
            time: self.replica.time().micros(),
            heartbeat_ms: u64::try_from(heartbeat(opening.form).as_millis()).expect("seconds"),
            limits: SESSION.told(),
        };
        connection.answer(&welcome, &self.namespace, second(self.now));
        if let Some(name) = &opening.name {
            connection.extras.get_or_insert_default().name = Some(name.clone());
        }
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
        if !opening.new.is_empty() && self.connections[key].is_open() {
            let max_hz = Some(opening.max_hz);
            self.subscribe(key, None, opening.new.clone(), None, max_hz, Some(opening.times));
        }
        if opening.form.framing().parser().is_some() && self.connections[key].is_open() {
            self.join_all(key, opening.since);
        }
        self.reap(key);
        key
    }

    /// Messages of a client arrived; none where its bytes complete no message. `broke`: after these it broke
    /// the protocol.
    pub fn received(
        &mut self,
        key: usize,
        messages: impl IntoIterator<Item = Incoming>,
        broke: Option<(CloseCode, &str)>,
    ) {
        self.views.settle();
        let now = second(self.now);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.heard = now;
        if connection.state == State::Closing {
            return;
        }
        for message in messages {
            if let Some(returned) = &mut self.returned {
                returned.messages.push(message);
                continue;
            }
            // A session stays in step for a pong, as there are many.
            let is_over = match message {
                Incoming::Pong(payload) if self.ponged(key, &payload) => false,
                Incoming::Message(_, packet) if self.answered_heartbeat(key, &packet) => false,
                message => !self.take(key, message),
            };
            if is_over {
                break;
            }
        }
        if let Some((code, reason)) = broke
            && let Some(connection) = self.alone(key)
        {
            connection.close(code, reason, now);
            self.returned = None;
        }
        self.reap(key);
    }

    /// A pong arrived. Returns whether it answers a ping.
    fn ponged(&mut self, key: usize, payload: &[u8]) -> bool {
        let clock = self.clock();
        let Some(connection) = self.connections.get_mut(key) else { return true };
        let Some((is_late, lag_ms)) = connection.pace.ponged(payload, clock) else { return false };
        if !is_late && lag_ms.is_none() && connection.session.is_in_step() {
            return true;
        }
        self.alone(key);
        if let Some(lag_ms) = lag_ms {
            self.answer(key, &Answer::Lag { lag_ms: lag_ms.into() });
        }
        self.catch_up(key);
        true
    }

    /// The peer closed its side, or the connection broke.
    pub fn closed(&mut self, key: usize) {
        self.views.settle();
        if let Some(connection) = self.connections.get_mut(key) {
            connection.state = State::Gone;
        }
        self.reap(key);
    }

    /// A blocked socket takes bytes again.
    pub fn writable(&mut self, key: usize) {
        self.views.settle();
        let now = second(self.now);
        // The poll also reports sockets that were never full: for a session in step nothing is pending.
        let blocked = |connection: &&mut Connection<L>| !connection.session.is_in_step();
        let Some(connection) = self.connections.get_mut(key).filter(blocked) else { return };
        if connection.unblock(now) {
            self.catch_up(key);
        }
        self.reap(key);
    }

    /// The link of a connection goes to another socket now: `rest` was sent over the one before, and has not
    /// reached the peer.
    pub fn relinked(&mut self, key: usize, rest: Vec<u8>) {
        self.views.settle();
        let now = second(self.now);
        let Some(connection) = self.alone(key) else { return };
        connection.backlog.splice(0..0, rest);
        if connection.state == State::Open {
            connection.state = State::Blocked;
        }
        if connection.unblock(now) {
            self.catch_up(key);
        }
        self.reap(key);
    }

    /// Sends everything that is due now.
    pub fn flush(&mut self) {
        self.flush_with(|_| {});
    }

    /// Sends everything that is due now, one cohort after the other. `between` is called after each, and may
    /// fold in new batches: cohorts still queued deliver them, too, and those already served are queued again
    /// for the next flush.
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
        if !self.impaired.is_empty() {
            self.pump();
        }
    }

    /// Whether a cohort from the queue is due now.
    fn is_due(&mut self, id: CohortId) -> bool {
        let Some(cohort) = self.views.cohort(id).filter(|cohort| cohort.is_dirty()) else { return false };
        if cohort.next_flush > self.now {
            self.waiting.push(id);
            return false;
        }
        let period = self.views.view(cohort).key.options.period;
        if !period.is_zero() {
            // Multiples of the period, so that all sessions of one rate share their frames.
            let next = (self.now.as_nanos() / period.as_nanos() + 1) * period.as_nanos();
            let cohort = self.views.cohort_mut(id).expect("it is there");
            cohort.next_flush = Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX));
        }
        true
    }

    /// How many cohorts have left the queue, served or not.
    #[must_use]
    pub fn left_line(&self) -> u64 {
        self.left_line
    }

    /// How many cohorts are queued. Once as many have left the queue, everything folded in before is sent,
    /// except to cohorts that wait for their rate. Within [`Self::flush_with`] that holds of what was folded
    /// in before the last cohort was served.
    #[must_use]
    pub fn in_line(&self) -> usize {
        self.line.len()
    }

    /// When [`Self::flush`] is next needed even if nothing arrives.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let pump = (!self.impaired.is_empty()).then(|| self.now + PUMP_EVERY);
        let next = |&id: &CohortId| self.views.cohort(id).map(|cohort| cohort.next_flush);
        let waiting = self.waiting.iter().filter_map(next);
        let in_line = (!self.line.is_empty()).then_some(self.now);
        waiting.chain(in_line).chain(pump).min()
    }

    /// Sends heartbeats and pings, and ends connections that are silent or do not read. Call it every
    /// [`Self::SWEEP_EVERY`]; each call looks at a slice of the connections.
    pub fn sweep(&mut self) {
        self.views.settle();
        self.swept = (self.swept + 1) % SLICES;
        let (now, millis) = (second(self.now), Millis::of(self.now));
        for key in (self.swept as usize..self.connections.capacity()).step_by(SLICES as usize) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            // By the time passed: a loaded shard may sweep a connection less than once a second.
            let seconds = u8::try_from(now.saturating_sub(connection.swept)).unwrap_or(u8::MAX);
            connection.swept = now;
            let refill = SESSION.requests_per_second.saturating_mul(seconds);
            connection.requests_left =
                connection.requests_left.saturating_add(refill).min(SESSION.request_burst);
            // The silence of a client that has no pings means nothing.
            let has_pings = connection.form.framing().has_pings();
            let silent = if has_pings { now.saturating_sub(connection.heard) } else { 0 };
            let drips =
                connection.link.begun().is_some_and(|b| now.saturating_sub(b) >= SESSION.message_seconds);
            if drips && !matches!(connection.state, State::Closing | State::Gone) {
                if let Some(connection) = self.alone(key) {
                    let reason = format!("a message was not whole within {} s", SESSION.message_seconds);
                    connection.close(CloseCode::STALLED, &reason, now);
                }
                self.reap(key);
                continue;
            }
            let since_ping = connection.pace.since_ping(millis) / 1000;
            let needs_ping = silent.min(since_ping) >= SESSION.ping_seconds;
            if connection.session.is_in_step() && silent < SESSION.silence_seconds && !needs_ping {
                self.heartbeat(key, now);
                continue;
            }
            self.alone(key);
            let mut is_owed = false;
            self.each_session(key, |fanout| is_owed |= fanout.is_waiting(key));
            let connection = &mut self.connections[key];
            let unread = connection.pace.unanswered(millis).map_or(0, |since| since / 1000);
            let stuck = now.saturating_sub(connection.sent);
            match connection.state {
                State::Closing if stuck >= SESSION.linger_seconds => connection.state = State::Gone,
                // Nothing is sent to it for now, so it has nothing to answer.
                State::Open | State::Blocked if connection.is_held_back() => {}
                State::Blocked if stuck >= SESSION.stall_seconds => {
                    connection.close(CloseCode::STALLED, &unread_for(), now);
                }
                State::Open if is_owed && unread >= SESSION.stall_seconds => {
                    connection.close(CloseCode::STALLED, &unread_for(), now);
                }
                State::Open | State::Blocked if silent >= SESSION.silence_seconds => {
                    let reason = format!("nothing was heard for {} s", SESSION.silence_seconds);
                    connection.close(CloseCode::STALLED, &reason, now);
                }
                State::Open => {
                    if needs_ping {
                        connection.ping(millis, now);
                    }
                    self.each_session(key, |fanout| {
                        fanout.heartbeat(key, now);
                        fanout.tell_stats(key);
                    });
                }
                _ => {}
            }
            self.reap(key);
        }
    }

    /// Every connection is swept about once a second.
    pub const SWEEP_EVERY: Duration = Duration::from_millis(1000 / SLICES as u64);

    /// Notifies all clients that the server leaves, and when to come back. Nothing is sent after this.
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
        self.alone(key);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        let goodbye = Answer::Goodbye {
            code: code.0,
            reason: reason.to_owned(),
            retry_after_ms,
            jitter_ms: retry_after_ms * 2,
        };
        // The server adds the jitter itself: clients of a stream draw none.
        let share = (key as u64 % SHARES) * retry_after_ms * 2 / SHARES;
        connection.say_retry(retry_after_ms + share, now);
        connection.answer(&goodbye, &self.namespace, now);
        connection.close(code, reason, now);
    }

    /// Handles one message; returns whether the connection goes on.
    fn take(&mut self, key: usize, message: Incoming) -> bool {
        let now = second(self.now);
        let Some(connection) = self.alone(key) else { return false };
        if let Incoming::Close(code) = message {
            connection.close(code.unwrap_or(CloseCode::NORMAL), "", now);
            return false;
        }
        let Some(left) = connection.requests_left.checked_sub(1) else {
            let reason = format!("more than {} requests a second", SESSION.requests_per_second);
            connection.close(CloseCode::RATE_LIMITED, &reason, now);
            return false;
        };
        connection.requests_left = left;
        if connection.backlog.len() > SESSION.backlog_bytes {
            connection.close(CloseCode::STALLED, "answers were not read", now);
            return false;
        }
        match message {
            Incoming::Ping(payload) => {
                let mut pong = Vec::new();
                connection.form.framing().append_pong(&payload, &mut pong);
                connection.say(&pong, now);
            }
            Incoming::Pong(_) | Incoming::Close(_) => {}
            Incoming::Message(encoding, payload) => match connection.form.framing().parser() {
                Some(parser) => self.packet(key, parser, encoding, payload),
                None => self.request(key, Request::read(encoding, &payload)),
            },
        }
        self.connections.get(key).is_some_and(|c| matches!(c.state, State::Open | State::Blocked))
    }

    fn flush_cohort(&mut self, id: CohortId) {
        let mut others = std::mem::take(&mut self.others);
        let (mut delivery, connections) = self.delivery(id);
        delivery.frames.begin(delivery.cohort.view());
        let (mut any_gone, mut reset) = (false, Vec::new());
        if delivery.form().session() == SessionNumber::FIRST {
            delivery.deliver_in_step(connections, &mut others);
        } else {
            // Sessions that are not the first each have their own position.
            others.extend_from_slice(delivery.cohort.members());
        }
        let resets = delivery.cohort.flushed().upto.position < delivery.replica.reset_at();
        for member in others.drain(..).map(Member::of) {
            let connection = &mut connections[member.key()];
            connection.turn_to(member.number());
            delivery.deliver_all(connection);
            connection.fall_in(delivery.upto, delivery.clock.now);
            connection.turn_to(SessionNumber::FIRST);
            any_gone |= connection.state == State::Gone;
            if resets && connection.has_several() {
                reset.push(member.key());
            }
        }
        self.pings[id.index()] = delivery.pings;
        self.others = others;
        self.views.flushed(id, self.upto(), second(self.now));
        if any_gone {
            let key = |&member: &u32| Member::of(member).key();
            let members = self.views.cohort(id).expect("its sessions are still there").members();
            let gone = members.iter().map(key).filter(|&key| self.connections[key].state == State::Gone);
            for key in gone.collect::<Vec<_>>() {
                self.reap(key);
            }
        }
        // When one session of a connection was sent a reset, the others are, too.
        for key in reset {
            self.catch_up(key);
            self.reap(key);
        }
    }

    /// What sends to the sessions of a cohort need, and the connections.
    fn delivery(&mut self, id: CohortId) -> (Delivery<'_>, &mut Slab<Connection<L>>) {
        let (upto, clock) = (self.upto(), self.clock());
        let cohort = self.views.cohort(id).expect("it has sessions");
        if self.pings.len() <= id.index() {
            self.pings.resize_with(id.index() + 1, Pings::default);
        }
        let delivery = Delivery {
            replica: &self.replica,
            view: self.views.view(cohort),
            cohort,
            encoder: &mut self.encoder,
            frames: &mut self.frames,
            counters: &mut self.counters,
            upto,
            second: second(self.now),
            clock,
            pings: self.pings[id.index()],
        };
        (delivery, &mut self.connections)
    }

    /// Delivers what is pending for a connection's sessions, outside a flush of their cohorts.
    fn catch_up(&mut self, key: usize) {
        if self.connections.get(key).is_some_and(Connection::has_several) {
            return self.catch_up_in_turn(key);
        }
        if self.connections.contains(key) && self.is_waiting(key) {
            self.deliver_alone(key);
        }
        self.answer_checksum(key);
    }

    /// Whether something that its cohort received is pending for it, or a checksum. A checksum is of the
    /// tape's end, which a flush may never reach: the cohort may have nothing to send, or not yet. Of several
    /// sessions of a connection each one waits for what follows a reset, whatever its rate.
    fn is_waiting(&self, key: usize) -> bool {
        let connection = &self.connections[key];
        let Connection { session, extras, .. } = connection;
        self.is_behind(session)
            || extras.as_ref().is_some_and(|extras| extras.asked.checksum.is_some())
            || (connection.has_several() && session.position() < self.replica.reset_at())
    }

    /// Delivers what is pending for one session, as far as its socket takes it, outside a flush of its
    /// cohort.
    fn deliver_alone(&mut self, key: usize) {
        self.alone(key);
        let (mut delivery, connections) = self.delivery(self.connections[key].session.cohort_id());
        delivery.deliver_all(&mut connections[key]);
    }

    fn heartbeat(&mut self, key: usize, now: u32) {
        let updated = self.connections[key].last_updated(&self.views);
        let every = heartbeat(self.connections[key].form);
        let quiet = u64::from(now.saturating_sub(updated)) + 1 >= every.as_secs();
        if !quiet {
            return;
        }
        let Some(connection) = self.alone(key) else { return };
        let id = connection.session.cohort_id();
        let (mut delivery, connections) = self.delivery(id);
        delivery.beat(&mut connections[key]);
    }

    /// Takes a connection out of step, for something that is done for it alone.
    fn alone(&mut self, key: usize) -> Option<&mut Connection<L>> {
        let connection = self.connections.get_mut(key)?;
        if connection.session.is_in_step() {
            let cohort = connection.session.cohort_id();
            let pings = self.pings.get(cohort.index()).copied().unwrap_or_default();
            connection.fall_out(connection.session.cohort(&self.views), &pings, Millis::of(self.now));
        }
        Some(connection)
    }

    /// Removes the connection if it is gone.
    fn reap(&mut self, key: usize) {
        if self.connections.get(key).is_some_and(|connection| connection.state == State::Gone) {
            if self.connections[key].form.framing().parser().is_some() {
                self.tell_of(key, "left", &self.channels_of(key));
            }
            let connection = self.connections.remove(key);
            if let Some(sender) = connection.extras.as_ref().and_then(|extras| extras.sender) {
                self.senders.remove(&sender);
            }
            // Its view's number may be reused.
            self.frames.clear();
            self.tally.close(connection.ends_with);
            for (number, session) in connection.sessions() {
                session.close(Member::new(key, number).get(), &mut self.views);
            }
        }
    }

    fn clock(&self) -> Clock {
        Clock { now: Millis::of(self.now), own_delay: self.own_delay }
    }

    fn upto(&self) -> Upto {
        Upto { position: self.replica.position(), time: self.replica.time() }
    }
}

/// The longest silence of the server in a session of that form.
fn heartbeat(form: Form) -> Duration {
    if form.framing().has_pings() { SESSION.heartbeat } else { SESSION.stream_heartbeat }
}

fn unread_for() -> String {
    format!("owed data was not read for {} s", SESSION.stall_seconds)
}

fn second(now: Duration) -> u32 {
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}
