use super::Counters;
use super::connection::{Connection, Socket, State};
use crate::hub::{Cohort, Flush, Owed as _, Replica, Since, TopicKey, Upto, View, ViewId, tell};
use crate::tape::Position;
use crate::wire::UpdateEncoder;
use rustc_hash::FxHashMap;
use slab::Slab;

/// Frames of one flush kept for the sessions still to come. Many sessions at many places would need a frame each.
const CACHED_BYTES: usize = 4 << 20;

/// The sends of one flush of one cohort, and what they have in common.
pub(super) struct Delivery<'a> {
    pub replica: &'a Replica,
    pub view: &'a View,
    pub cohort: &'a Cohort,
    pub encoder: &'a mut UpdateEncoder,
    pub frames: &'a mut FrameCache,
    pub counters: &'a mut Counters,
    /// The tape's end.
    pub upto: Upto,
    /// Of the shard's clock.
    pub second: u32,
}

/// The frames of one flush of a view's cohorts, or of those whose sockets take bytes again within one turn, so that each is built once for all who
/// are owed the same.
#[derive(Debug, Default)]
pub(super) struct FrameCache {
    /// The view that is being flushed.
    view: Option<ViewId>,
    bytes: Vec<u8>,
    /// The frame that was sent last: nearly always the one for the next session, too.
    last: Option<(Owed, Frame)>,
    /// All where there is more than one, because some sessions stand elsewhere than most.
    all: FxHashMap<Owed, Frame>,
}

/// What a frame follows from, as long as the tape and the views stay as they are.
type Owed = (ViewId, Flush);

/// A frame in the cache's bytes.
#[derive(Clone, Copy, Debug)]
struct Frame {
    start: usize,
    end: usize,
    /// Where the next frame of the same flush begins; `None`: this one ends it.
    next: Option<usize>,
    delivered: u64,
    gaps: u64,
}

impl Delivery<'_> {
    /// Sends its flush to the sessions in step with the cohort, as far as one frame holds it; the others, and those that fall out of step by
    /// it, go into `others`.
    ///
    /// This is the loop that nearly all deliveries go through. Each reads the connection's socket, and writes to nothing but it: a core that
    /// visits a thousand connections has them in no cache near, and the kernel's own path through a send suffers with every line that is touched
    /// beside it (`docs/performance.md`).
    pub fn deliver_in_step<S: Socket>(
        &mut self,
        connections: &mut Slab<Connection<S>>,
        others: &mut Vec<u32>,
    ) {
        let (mut frame, mut sent) = (None, 0);
        let flush = Flush { next: 0, from: self.cohort.flushed().upto, upto: self.upto };
        for &key in self.cohort.members() {
            let connection = &mut connections[key as usize];
            if !connection.session.is_in_step() {
                others.push(key);
                continue;
            }
            let since = |_| Since { position: flush.from.position, numbered: false };
            let frame = *frame.get_or_insert_with(|| self.frame(flush, true, since));
            if frame.next.is_some() {
                connection.fall_out(self.cohort);
                others.push(key);
                continue;
            }
            let bytes = &self.frames.bytes[frame.start..frame.end];
            match connection.socket.send(bytes) {
                Ok(len) if len == bytes.len() => sent += 1,
                result => {
                    self.stumble(connection, result.ok(), flush, frame);
                    others.push(key);
                }
            }
        }
        if let Some(frame) = frame {
            let events = u64::from(self.view.events_since(self.cohort.flushed())).max(frame.delivered);
            self.counters.add(sent, frame, events);
        }
    }

    /// The socket did not take the whole frame: from here on the session is on its own.
    #[cold]
    fn stumble<S: Socket>(
        &mut self,
        connection: &mut Connection<S>,
        sent: Option<usize>,
        flush: Flush,
        frame: Frame,
    ) {
        connection.fall_out(self.cohort);
        let bytes = &self.frames.bytes[frame.start..frame.end];
        let sent = connection.took(sent, bytes.len(), self.second);
        if connection.begun(bytes, sent) {
            connection.updated = self.second;
            self.count(connection, flush, frame);
        }
    }

    /// Sends frame after frame until the session stands at the tape's end or its socket would block.
    pub fn deliver_all<S: Socket>(&mut self, connection: &mut Connection<S>) {
        while !connection.has_reached(self.upto) && self.deliver(connection) {}
    }

    /// Sends the next frame of the flush that a session is due. Returns whether the next one may follow.
    pub fn deliver<S: Socket>(&mut self, connection: &mut Connection<S>) -> bool {
        connection.is_open() && self.tell_next(connection, Connection::send_frame) && connection.is_open()
    }

    /// Brings a session to the tape's end, its frames being kept, or until there are so many bytes of them.
    pub fn keep_all<S: Socket>(&mut self, connection: &mut Connection<S>, most: usize) {
        while !connection.stands_at(self.upto)
            && connection.backlog.len() < most
            && self.tell_next(connection, Connection::keep_frame)
        {}
    }

    /// Hands the next frame of the flush that a session is due to `send`. Returns whether it was taken.
    fn tell_next<S: Socket>(
        &mut self,
        connection: &mut Connection<S>,
        send: impl FnOnce(&mut Connection<S>, &[u8], u32) -> bool,
    ) -> bool {
        let flush = connection.session.flush(self.replica);
        let shares = connection.session.shares();
        let frame = self.frame(flush, shares, |topic| connection.session.since(topic));
        let bytes = &self.frames.bytes[frame.start..frame.end];
        let sent = send(connection, bytes, self.second);
        if sent {
            connection.updated = self.second;
            self.count(connection, flush, frame);
        }
        if !shares {
            self.frames.bytes.truncate(frame.start);
        }
        sent
    }

    /// The heartbeat of a session that stands at `at`: an update that moves it to the tape's end, where it is owed nothing on the way.
    pub fn beat<S: Socket>(&mut self, connection: &mut Connection<S>) {
        let send = match connection.state {
            State::Open => Connection::send_frame,
            State::Faulty => Connection::keep_frame,
            _ => return,
        };
        if self.cohort.is_dirty() {
            // What a dirty cohort has to tell waits for its rate's next flush, so this one says only that the server lives.
            let at = connection.session.upto();
            self.say_nothing(connection, at, send);
        } else {
            self.tell_next(connection, send);
        }
    }

    /// Sends an update that moves nothing.
    fn say_nothing<S: Socket>(
        &mut self,
        connection: &mut Connection<S>,
        at: Upto,
        send: fn(&mut Connection<S>, &[u8], u32) -> bool,
    ) {
        let options = self.view.key.options;
        self.frames.clear();
        self.encoder.begin(options.form, options.times, at, at);
        self.encoder.finish(true, &mut self.frames.bytes);
        if send(connection, &self.frames.bytes, self.second) {
            connection.updated = self.second;
        }
        self.frames.clear();
    }

    fn count<S: Socket>(&mut self, connection: &mut Connection<S>, flush: Flush, frame: Frame) {
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

    /// The frame of that flush for a session that is owed each topic from `since`, from the cache where others are owed the same (`shares`).
    fn frame(&mut self, flush: Flush, shares: bool, since: impl Fn(TopicKey) -> Since) -> Frame {
        let owed = (self.cohort.view(), flush);
        if shares && let Some(frame) = self.frames.get(owed) {
            return frame;
        }
        self.frames.make_room();
        let options = self.view.key.options;
        self.encoder.begin(options.form, options.times, flush.from, flush.upto);
        if flush.resets(self.replica) {
            self.encoder.reset();
        }
        // A session with fresh topics is owed them from further back than the touched ones tell.
        let oldest = if shares { flush.from.position } else { Position::START };
        let next = tell(
            self.replica,
            self.cohort.changed(self.view.topics(), oldest, flush.next),
            since,
            flush.upto.position,
            self.encoder,
        );
        let start = self.frames.bytes.len();
        let delivered = self.encoder.finish(next.is_none(), &mut self.frames.bytes);
        self.counters.built += 1;
        // What was missed of a tape that began anew is void.
        let is_void = flush.from.position < self.replica.reset_at();
        let gaps = if is_void { 0 } else { self.encoder.gaps() };
        let frame = Frame { start, end: self.frames.bytes.len(), next, delivered, gaps };
        if shares {
            self.frames.put(owed, frame);
        }
        frame
    }
}

impl Counters {
    /// `sends` of one frame that stands for so many `events` to each who is sent it.
    fn add(&mut self, sends: u64, frame: Frame, events: u64) {
        self.sent += sends;
        self.bytes += sends * (frame.end - frame.start) as u64;
        self.delivered += sends * frame.delivered;
        self.gaps += sends * frame.gaps;
        self.events += sends * events;
    }
}

impl FrameCache {
    /// A cohort of that view is to be flushed: what was built for the one before of the same view is kept, as it may stand at the same place.
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
