//! The fan-out core of one shard: the tape folded into its own replica, and its sessions. On the shard
//! thread. Sans-IO: batches, bytes and the time go in, sends on a [`Link`] come out.
//!
//! Invariant: nothing is sent before [`Fanout::flush`] or a call for one connection, and each session gets
//! its frames in the order of positions.

mod connection;
mod delivery;
mod faults; // links impaired on request of the client
mod flush; // what is pending, to whom it is due
mod lifecycle; // connections opened, heard, swept, closed
mod pace; // how much may be in flight to a session
mod packets; // what clients of Socket.IO send
mod report;
mod requests;
mod sessions; // several on one connection
mod tally;

pub use lifecycle::Opening;
pub use packets::Returned;
pub use report::{MAX_SLOW, Report};
pub use tally::Tally;

use crate::hub::{COHORT, ChannelId, CohortId, Replica, ServerStats, Session, TopicKey, Upto, Views};
use crate::market::{Event, InstrumentId, Post, Sender, Symbol};
use crate::server::link::Link;
use crate::tape::{Batch, Epoch, Position};
use crate::wire::{FULL_BYTES, ReplayAction, ReplayState, UpdateEncoder};
use connection::{Connection, State};
use delivery::FrameCache;
use pace::{Clock, Millis, Pings};
use rustc_hash::FxHashMap;
use slab::Slab;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

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

    fn clock(&self) -> Clock {
        Clock { now: Millis::of(self.now), own_delay: self.own_delay }
    }

    fn upto(&self) -> Upto {
        Upto { position: self.replica.position(), time: self.replica.time() }
    }
}

fn second(now: Duration) -> u32 {
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}
