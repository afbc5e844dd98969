use super::faulty::FaultyLink;
use super::tally::GONE;
use crate::hub::{Cohort, Form, Session, Upto, Views};
use crate::wire::{Answer, CloseCode, FrameReader, Id, Opcode, write_frame};
use std::io;

/// The sending half of a connection, as far as the core needs it. Never blocks.
pub trait Socket {
    /// Sends a beginning of `bytes` and returns its length, 0 where the socket takes none now.
    ///
    /// # Errors
    /// Those of a connection that is broken for good.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Nothing more will be sent.
    fn finish(&mut self);
}

/// One client: a socket and a session. Idle connections are most of a server's memory, so what only some need is boxed.
///
/// What a delivery touches stands in front and together: a core that sends to a thousand sockets has none of this left in its caches when
/// it comes by again. (Aligned to a cache line it was no faster, and took 80 bytes more.)
#[derive(Debug)]
#[repr(C)]
pub(super) struct Connection<S> {
    pub socket: S,
    pub session: Session,
    /// Second of the shard's clock in which the socket last took bytes; of a session in step its cohort may know of a later one.
    pub sent: u32,
    /// Second of the shard's clock in which the last update went out; likewise.
    pub updated: u32,
    pub state: State,
    /// Whether `extras` have stats to count in.
    pub has_stats: bool,
    /// Requests it may still make before the next refill.
    pub requests_left: u8,
    /// Whether it may control what is played even where others may not.
    pub may_control: bool,
    /// The code of the Close frame that ends it.
    pub ends_with: CloseCode,
    pub reader: FrameReader,
    /// What the socket did not take of a frame it has begun, and answers behind it. Sent before anything else.
    pub backlog: Vec<u8>,
    /// Second of the shard's clock in which the peer was last heard.
    pub heard: u32,
    /// Second of the shard's clock in which the sweep was last here, and in which it last sent a ping.
    pub swept: u32,
    pub pinged: u32,
    pub extras: Option<Box<Extras>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// The socket takes no more for now.
    Blocked,
    /// It asked for a fault: all that is said goes into the backlog, and from there by a [`FaultyLink`].
    Faulty,
    /// Our Close frame is out; what is left is to read until the peer has closed too.
    Closing,
    /// Broken or done; to be removed.
    Gone,
}

/// What only sessions that asked for it need.
#[derive(Debug, Default)]
pub(super) struct Extras {
    pub stats: Option<Stats>,
    /// A `checksum` request that waits for the session to reach the tape's end.
    pub checksum: Option<(Option<Id>, Vec<String>)>,
    /// `replay` requests under way: their numbers, and the ids to answer with.
    pub replays: Vec<(u64, Option<Id>)>,
    /// There while it is [`State::Faulty`].
    pub link: Option<FaultyLink>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    /// Changes of its topics counted by views it has left, and what its view had counted when it came.
    pub events_before: u64,
    pub events_base: u64,
    pub delivered: u64,
    pub frames: u64,
    pub bytes: u64,
}

impl<S: Socket> Connection<S> {
    pub fn new(socket: S, session: Session, second: u32, requests: u8) -> Self {
        Self {
            socket,
            session,
            reader: FrameReader::default(),
            backlog: Vec::new(),
            state: State::Open,
            ends_with: GONE,
            heard: second,
            sent: second,
            updated: second,
            swept: second,
            pinged: second,
            has_stats: false,
            requests_left: requests,
            may_control: false,
            extras: None,
        }
    }

    /// Where this is counted; `None` for the sessions that did not ask, which are nearly all.
    pub fn stats(&mut self) -> Option<&mut Stats> {
        if !self.has_stats {
            return None;
        }
        self.extras.as_mut()?.stats.as_mut()
    }

    fn count(&mut self, bytes: usize) {
        if let Some(stats) = self.stats() {
            stats.frames += 1;
            stats.bytes += bytes as u64;
        }
    }

    /// Whether the next frame may be sent now.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Sends a whole frame; what the socket does not take of one it has begun is kept. Returns whether it was begun.
    pub fn send_frame(&mut self, frame: &[u8], second: u32) -> bool {
        debug_assert!(self.backlog.is_empty(), "frames go out in order");
        let sent = self.send(frame, second);
        self.begun(frame, sent)
    }

    /// So much of a frame was sent: keeps the rest, if it was begun.
    pub fn begun(&mut self, frame: &[u8], sent: usize) -> bool {
        if sent == 0 {
            return false;
        }
        if sent < frame.len() {
            self.backlog.extend_from_slice(&frame[sent..]);
        }
        self.count(frame.len());
        true
    }

    /// Takes a whole frame as if the socket had: it goes on from the backlog.
    pub fn keep_frame(&mut self, frame: &[u8], _: u32) -> bool {
        self.backlog.extend_from_slice(frame);
        self.count(frame.len());
        true
    }

    /// What is done next is done for it alone.
    pub fn fall_out(&mut self, cohort: &Cohort) {
        if self.session.is_in_step() {
            self.session.fall_out(cohort);
            self.sent = self.sent.max(cohort.flushed().second);
            self.updated = self.updated.max(cohort.flushed().second);
        }
    }

    /// A flush of its cohort has ended at `upto`: one that went with it to its end is in step, unless something is kept of it alone.
    pub fn fall_in(&mut self, upto: Upto) {
        let is_alone = |extras: &Extras| extras.stats.is_some() || extras.checksum.is_some();
        if self.has_reached(upto) && !self.extras.as_deref().is_some_and(is_alone) {
            self.session.fall_in();
        }
    }

    /// Second of the shard's clock in which it was last told anything.
    pub fn last_updated(&self, views: &Views) -> u32 {
        if !self.session.is_in_step() {
            return self.updated;
        }
        self.updated.max(self.session.cohort(views).flushed().second)
    }

    /// Sends a frame that must not be lost: behind the backlog if need be.
    pub fn say(&mut self, opcode: Opcode, payload: &[u8], second: u32) {
        let mut frame = Vec::with_capacity(payload.len() + 10);
        write_frame(opcode, payload, &mut frame);
        self.say_frame(&frame, second);
    }

    /// As [`Self::say`], of bytes that are a frame already, or are not meant to be a good one.
    pub fn say_frame(&mut self, frame: &[u8], second: u32) {
        if matches!(self.state, State::Closing | State::Gone) {
            return;
        }
        self.count(frame.len());
        let sent = if self.is_open() && self.backlog.is_empty() { self.send(frame, second) } else { 0 };
        self.backlog.extend_from_slice(&frame[sent..]);
    }

    pub fn answer(&mut self, answer: &Answer, form: Form, second: u32) {
        match form {
            Form::MessagePack => self.say(Opcode::Binary, &answer.to_msgpack(), second),
            Form::Json => self.say(Opcode::Text, answer.to_json().as_bytes(), second),
        }
    }

    /// The socket takes bytes again: sends the backlog. Returns whether the next frame may follow.
    pub fn unblock(&mut self, second: u32) -> bool {
        let state = self.state;
        if !matches!(state, State::Blocked | State::Closing) || self.backlog.is_empty() {
            if state == State::Blocked {
                self.state = State::Open;
            }
            return self.is_open();
        }
        self.state = State::Open;
        let mut backlog = std::mem::take(&mut self.backlog);
        let sent = self.send(&backlog, second);
        if sent < backlog.len() {
            backlog.drain(..sent);
            self.backlog = backlog;
        }
        if state == State::Closing && self.state != State::Gone {
            self.state = State::Closing;
            self.finish_when_sent();
        }
        self.is_open()
    }

    /// Says why, closes our side, and leaves the rest to the peer.
    pub fn close(&mut self, code: CloseCode, reason: &str, second: u32) {
        self.mend(second);
        let mut payload = code.0.to_be_bytes().to_vec();
        // A control frame holds 125 bytes; reasons are ours and ASCII.
        payload.extend_from_slice(&reason.as_bytes()[..reason.len().min(123)]);
        self.say(Opcode::Close, &payload, second);
        if self.state == State::Gone {
            return;
        }
        if self.state != State::Closing {
            self.ends_with = code;
        }
        self.state = State::Closing;
        self.sent = second;
        self.finish_when_sent();
    }

    /// The broken way over which its frames go in place of the socket, while there is one.
    pub fn link(&mut self) -> Option<&mut FaultyLink> {
        self.extras.as_mut()?.link.as_mut()
    }

    /// Whether the broken way takes more for it.
    pub fn may_hear(&self) -> bool {
        let link = self.extras.as_ref().and_then(|extras| extras.link.as_ref());
        link.is_some_and(|link| link.room() > 0)
    }

    /// The way is whole again: what was under way comes at once. Returns whether the next frame may follow.
    pub fn mend(&mut self, second: u32) -> bool {
        let Some(link) = self.extras.as_mut().and_then(|extras| extras.link.take()) else {
            return self.is_open();
        };
        let said_since = std::mem::replace(&mut self.backlog, link.into_rest());
        self.backlog.extend_from_slice(&said_since);
        // Whoever heard nothing had nothing to answer.
        self.heard = second;
        self.state = State::Blocked;
        self.unblock(second)
    }

    fn finish_when_sent(&mut self) {
        if self.backlog.is_empty() {
            self.socket.finish();
        }
    }

    /// Whether its debt at `at` is paid and nothing waits in front of the next frame.
    pub fn has_reached(&self, at: Upto) -> bool {
        self.is_open() && self.stands_at(at)
    }

    /// Whether it was told everything up to `at`, be it still under way.
    pub fn stands_at(&self, at: Upto) -> bool {
        self.session.position() == at.position && self.session.is_steady()
    }

    fn send(&mut self, bytes: &[u8], second: u32) -> usize {
        let sent = self.socket.send(bytes);
        self.took(sent.ok(), bytes.len(), second)
    }

    /// So much of `len` bytes was sent; `None`: the connection is broken for good. Returns how many the socket took.
    pub fn took(&mut self, sent: Option<usize>, len: usize, second: u32) -> usize {
        if let Some(sent) = sent {
            if sent > 0 {
                self.sent = second;
            }
            if sent < len {
                self.state = State::Blocked;
            }
            sent
        } else {
            self.state = State::Gone;
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn what_a_delivery_touches_is_as_long_as_a_cache_line() {
        // A shard's socket is a descriptor and a seat.
        type Real = Connection<(u32, usize)>;
        assert!(offset_of!(Real, reader) <= 64);
        assert!(size_of::<Real>() <= 144, "{}", size_of::<Real>());
    }
}
