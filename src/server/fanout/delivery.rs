//! The sends of one flush of one cohort. On the shard thread.
//!
//! Invariant: a frame follows from view and flush, and is built once for all sessions of which
//! [`Session::shares`](crate::hub::Session::shares).

use super::Counters;
use super::connection::{Connection, State};
use super::pace::{Clock, Millis, Pings};
use crate::hub::{Cohort, Flush, Owed as _, Replica, Since, TopicKey, Upto, View, ViewId, tell};
use crate::market::Sender;
use crate::server::link::Link;
use crate::tape::Position;
use crate::wire::{Form, Framing, UpdateEncoder};
use rustc_hash::FxHashMap;
use slab::Slab;

/// Bytes of frames kept of one flush. Many sessions at many positions would need a frame each.
const CACHED_BYTES: usize = 4 << 20;

/// The sends of one flush of one cohort, and what they share.
pub(super) struct Delivery<'a> {
    pub replica: &'a Replica,
    pub view: &'a View,
    pub cohort: &'a Cohort,
    pub encoder: &'a mut UpdateEncoder,
    pub frames: &'a mut FrameCache,
    pub counters: &'a mut Counters,
    /// The tape's end.
    pub upto: Upto,
    /// Second of the shard's clock.
    pub second: u32,
    pub clock: Clock,
    /// The pings sent to its sessions in step.
    pub pings: Pings,
}

/// The frames of one flush of a view's cohorts, or of sockets that take bytes again within one turn: each is
/// built once for all sessions with the same pending.
#[derive(Debug, Default)]
pub(super) struct FrameCache {
    /// The view that is being flushed.
    view: Option<ViewId>,
    bytes: Vec<u8>,
    /// The frame that was sent last: nearly always the next session's, too.
    last: Option<(Owed, Frame)>,
    /// All frames, if there are several because some sessions have other positions.
    all: FxHashMap<Owed, Frame>,
}

/// What a frame follows from, while the tape and the views do not change.
type Owed = (ViewId, Flush);

/// A frame in the cache's bytes. A ping follows it, which is sent with it where one is due.
#[derive(Clone, Copy, Debug)]
struct Frame {
    start: usize,
    end: usize,
    /// The view's topic number at which the next frame of the flush begins; `None`: this one ends it.
    next: Option<usize>,
    delivered: u64,
    gaps: u64,
}

impl Delivery<'_> {
    /// Sends its flush to the sessions in step, if one frame holds it. All others, and those that fall out of
    /// step by it, go into `others`.
    ///
    /// Nearly all deliveries go through this loop. Each reads the connection and writes to nothing but its
    /// socket: with a thousand connections none of them is in a near cache, and each more line touched slows
    /// the kernel's own path through a send (`docs/performance.md`).
    pub fn deliver_in_step<L: Link>(&mut self, connections: &mut Slab<Connection<L>>, others: &mut Vec<u32>) {
        let (mut frame, mut sent) = (None, 0);
        let Clock { now, .. } = self.clock;
        let framing = self.form().framing();
        let (with_ping, due) = (framing.has_pings() && self.pings.is_due(now), self.pings.due(now));
        let ping = with_ping.then_some(framing);
        let flush = Flush { next: 0, from: self.cohort.flushed().upto, upto: self.upto };
        for &key in self.cohort.members() {
            let connection = &mut connections[key as usize];
            debug_assert_eq!(connection.pace.is_in_step(), connection.session.is_in_step());
            if !connection.pace.is_in_step() {
                others.push(key);
                continue;
            }
            if !connection.pace.has_answered(due) && connection.pace.is_late(&self.pings, self.clock) {
                connection.fall_out(self.cohort, &self.pings, now);
                connection.pace.slow_down();
                others.push(key);
                continue;
            }
            let since = |_| Since { position: flush.from.position, numbered: false };
            let frame = *frame.get_or_insert_with(|| self.frame(flush, true, None, since));
            if frame.next.is_some() {
                connection.fall_out(self.cohort, &self.pings, now);
                others.push(key);
                continue;
            }
            let bytes = self.frames.bytes(frame, ping, now);
            match connection.link.send_in_step(bytes) {
                Ok(len) if len == bytes.len() => sent += 1,
                result => {
                    self.stumble(connection, result.ok(), flush, frame, with_ping);
                    others.push(key);
                }
            }
        }
        if let Some(frame) = frame {
            let events = u64::from(self.view.events_since(self.cohort.flushed())).max(frame.delivered);
            self.counters.add(sent, frame, events);
            self.pings.sent(with_ping, now);
        }
    }

    /// The socket did not take the complete frame: the session is out of step from here on.
    #[cold]
    fn stumble<L: Link>(
        &mut self,
        connection: &mut Connection<L>,
        sent: Option<usize>,
        flush: Flush,
        frame: Frame,
        with_ping: bool,
    ) {
        let Clock { now, .. } = self.clock;
        connection.fall_out(self.cohort, &self.pings, now);
        let ping = with_ping.then_some(connection.form.framing());
        let bytes = self.frames.bytes(frame, ping, now);
        let sent = connection.took(sent, bytes.len(), self.second);
        if connection.begun(bytes, sent) {
            connection.pace.sent(with_ping, now);
            connection.updated = self.second;
            self.count(connection, flush, frame);
        }
    }

    /// Sends frame after frame until the session is at the tape's end or its socket would block.
    pub fn deliver_all<L: Link>(&mut self, connection: &mut Connection<L>) {
        while !connection.has_reached(self.upto) && self.deliver(connection) {}
    }

    /// Sends the next frame of a session's flush. Returns whether another may follow.
    pub fn deliver<L: Link>(&mut self, connection: &mut Connection<L>) -> bool {
        connection.is_open()
            && connection.may_send(self.clock)
            && self.tell_next(connection, connection.wants_ping(self.clock.now))
            && connection.is_open()
    }

    /// Sends the next frame of a session's flush. Returns whether it was begun.
    fn tell_next<L: Link>(&mut self, connection: &mut Connection<L>, with_ping: bool) -> bool {
        let flush = connection.session.flush(self.replica);
        if flush.resets(self.replica) && !connection.announce_reset(self.replica.reset_at(), self.second) {
            return false;
        }
        let except = connection.does_not_want(flush.from.position);
        let shares = connection.session.shares() && except.is_none();
        let frame = self.frame(flush, shares, except, |topic| connection.session.since(topic));
        let ping = with_ping.then_some(connection.form.framing());
        let bytes = self.frames.bytes(frame, ping, self.clock.now);
        let sent = connection.send_frame(bytes, self.second);
        if sent {
            connection.pace.sent(with_ping, self.clock.now);
            connection.updated = self.second;
            self.count(connection, flush, frame);
        }
        if !shares {
            self.frames.bytes.truncate(frame.start);
        }
        sent
    }

    /// Sends a heartbeat: an update up to the tape's end, if nothing is pending before it.
    pub fn beat<L: Link>(&mut self, connection: &mut Connection<L>) {
        // A client that does not read what it has gets no heartbeat.
        if connection.state != State::Open || !connection.may_send(self.clock) {
            return;
        }
        if self.cohort.is_dirty() {
            // What is pending for a dirty cohort waits for its rate's next flush, so this update only says
            // that the server lives.
            let at = connection.session.upto();
            self.say_nothing(connection, at);
        } else {
            self.tell_next(connection, false);
        }
    }

    /// Sends an empty update that stays at `at`.
    fn say_nothing<L: Link>(&mut self, connection: &mut Connection<L>, at: Upto) {
        self.frames.clear();
        self.encoder.begin(self.form(), self.view.key.options.times, at, at);
        self.encoder.finish(true, &mut self.frames.bytes);
        if connection.send_frame(&self.frames.bytes, self.second) {
            connection.updated = self.second;
        }
        self.frames.clear();
    }

    pub fn form(&self) -> Form {
        Form::of(self.view.key.options.form)
    }

    fn count<L: Link>(&mut self, connection: &mut Connection<L>, flush: Flush, frame: Frame) {
        let (session, delivered) = (&mut connection.session, frame.delivered);
        let events = match frame.next {
            Some(next) => session.told(next, flush.upto, delivered, self.view),
            None => session.reached(flush.upto, delivered, self.view),
        };
        self.counters.add(1, frame, events);
        if let Some(stats) = connection.stats() {
            stats.delivered += delivered;
        }
    }

    /// The frame of that flush for a session for which each topic is pending from `since`; from the cache, if
    /// other sessions share it.
    fn frame(
        &mut self,
        flush: Flush,
        shares: bool,
        except: Option<Sender>,
        since: impl Fn(TopicKey) -> Since,
    ) -> Frame {
        let owed = (self.cohort.view(), flush);
        if shares && let Some(frame) = self.frames.get(owed) {
            return frame;
        }
        self.frames.make_room();
        let form = self.form();
        self.encoder.begin(form, self.view.key.options.times, flush.from, flush.upto);
        if let Some(sender) = except {
            self.encoder.except(sender);
        }
        if flush.resets(self.replica) {
            self.encoder.reset();
        }
        // New topics are pending from before the marks of the cohort.
        let oldest = if shares { flush.from.position } else { Position::START };
        let (from, upto) = (flush.from.position, flush.upto.position);
        let topics = self.cohort.changed(self.view.topics(), oldest, flush.next);
        let next = if self.view.has_moves() {
            tell(
                self.replica,
                topics,
                |topic| self.view.due(topic, since(topic), from, upto),
                upto,
                self.encoder,
            )
        } else {
            tell(self.replica, topics, since, upto, self.encoder)
        };
        let start = self.frames.bytes.len();
        let delivered = self.encoder.finish(next.is_none(), &mut self.frames.bytes);
        self.counters.built += 1;
        // What was missed before a reset is void.
        let is_void = flush.from.position < self.replica.reset_at();
        let gaps = if is_void { 0 } else { self.encoder.gaps() };
        let frame = Frame { start, end: self.frames.bytes.len(), next, delivered, gaps };
        form.framing().append_ping(&mut self.frames.bytes);
        if shares {
            self.frames.put(owed, frame);
        }
        frame
    }
}

impl Counters {
    /// Counts `sends` of one frame that represents `events` changes to each receiver.
    fn add(&mut self, sends: u64, frame: Frame, events: u64) {
        self.sent += sends;
        self.bytes += sends * (frame.end - frame.start) as u64;
        self.delivered += sends * frame.delivered;
        self.gaps += sends * frame.gaps;
        self.events += sends * events;
    }
}

impl FrameCache {
    /// A cohort of that view is about to be flushed. The frames of the view's cohort before it are kept: its
    /// position may be the same.
    pub fn begin(&mut self, view: ViewId) {
        if self.view != Some(view) {
            self.clear();
            self.view = Some(view);
        }
    }

    pub fn clear(&mut self) {
        self.view = None;
        self.bytes.clear();
        self.last = None;
        if !self.all.is_empty() {
            self.all.clear();
        }
    }

    /// The bytes to send of a frame; `ping`: and of the ping after it.
    fn bytes(&mut self, frame: Frame, ping: Option<Framing>, now: Millis) -> &[u8] {
        let Some(framing) = ping else { return &self.bytes[frame.start..frame.end] };
        let end = frame.end + framing.ping_len();
        framing.stamp_ping(&mut self.bytes[frame.end..end], now.get());
        &self.bytes[frame.start..end]
    }

    fn get(&mut self, owed: Owed) -> Option<Frame> {
        if let Some((last, frame)) = self.last
            && last == owed
        {
            return Some(frame);
        }
        let frame = *self.all.get(&owed)?;
        self.last = Some((owed, frame));
        Some(frame)
    }

    fn put(&mut self, owed: Owed, frame: Frame) {
        if let Some((last, last_frame)) = self.last.replace((owed, frame)) {
            self.all.insert(last, last_frame);
            self.all.insert(owed, frame);
        }
    }

    fn make_room(&mut self) {
        if self.bytes.len() > CACHED_BYTES {
            let view = self.view;
            self.clear();
            self.view = view;
        }
    }
}
