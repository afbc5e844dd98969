//! One client's connection: a link, and the session or sessions on it. On the shard thread.
//!
//! Invariant: frames go out completely and in order; what a socket took in part is in `backlog`, which is
//! sent before anything else.
//!
//! ```text
//!               took: the socket takes no more
//!         +------------------------------------+
//!         |                                    v
//!       OPEN                                BLOCKED
//!         ^                                    |
//!         +------------------------------------+
//!         |     unblock: the backlog is sent   |
//!         |                                    |
//!         +------- close: we send Close -------+
//!                         |
//!                         v
//!                      CLOSING
//!                         |  the peer closed, or `linger_seconds` passed
//!                         v
//!                       GONE ---- reap: removed
//! Any state -> GONE: the connection broke, or the peer closed without a Close.
//! ```

use super::pace::{Clock, Millis, Pace, Pings};
use super::tally::GONE;
use super::{Opening, second};
use crate::hub::{Cohort, Session, Upto, Views};
use crate::market::{Sender, Word};
use crate::server::link::{Impaired, Link};
use crate::server::rights::Rights;
use crate::tape::Position;
use crate::wire::{Answer, CloseCode, Form, Id, SessionNumber};
use std::mem::swap;
use std::time::Duration;

/// One client: a link and a session. Idle connections are most of a server's memory, so what only some need
/// is boxed.
///
/// A connection may have more sessions. Everything is done for the session *in hand*, which is the first
/// unless [`Self::turn_to`] took another, so neither this code nor a delivery knows of more than one.
///
/// A delivery in step touches the last bytes of `pace` and the first of `link`, which are neighbours. With a
/// thousand sockets none of this is left in a core's caches from one delivery to the next, and each more
/// cache line makes the `send` itself slower: one or two of them cost a tenth of it. (Aligned to a cache line
/// it was no faster, and took 80 bytes more.)
#[derive(Debug)]
#[repr(C)]
pub(super) struct Connection<L> {
    /// Second of the shard's clock in which the socket last took bytes; in step, the cohort may have a later
    /// one.
    pub sent: u32,
    /// Second of the shard's clock in which the last update was sent; in step, the cohort may have a later
    /// one.
    pub updated: u32,
    pub pace: Pace,
    pub link: L,
    pub session: Session,
    pub state: State,
    /// Of the session in hand.
    pub form: Form,
    /// Whether `extras` have stats.
    pub has_stats: bool,
    /// Requests left before the next refill.
    pub requests_left: u8,
    pub rights: Rights,
    /// The code that it is counted under when it ends.
    pub ends_with: CloseCode,
    /// The rest of a frame that the socket took in part, and answers after it. Sent before anything else.
    pub backlog: Vec<u8>,
    /// Second of the shard's clock in which the peer last sent anything.
    pub heard: u32,
    /// Second of the shard's clock of the last sweep.
    pub swept: u32,
    pub extras: Option<Box<Extras>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Takes frames.
    Open,
    /// Waits for the socket to take bytes again.
    Blocked,
    /// Our Close is sent or in the backlog; reads go on until the peer has closed too.
    Closing,
    /// Broken or done; about to be removed.
    Gone,
}

/// What few connections need.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// Of the session in hand.
    pub asked: Asked,
    /// The sessions that are not in hand, if there is more than one.
    pub parked: Vec<Parked>,
    /// The session that last had its turn.
    pub served: SessionNumber,
    /// With several sessions: the last reset that was sent to them.
    pub begins: Position,
    /// Requests to the room without an answer yet: their numbers, and the ids to answer with.
    pub asked_of_room: Vec<(u64, Option<Id>)>,
    /// How its client calls itself.
    pub name: Option<Word>,
    /// Under which its own messages are known, if it does not want some of them back; and up to where such
    /// messages are pending.
    pub sender: Option<Sender>,
    pub own_upto: Position,
}

/// What a session asked for in addition to topics.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub stats: Option<Stats>,
    /// A `checksum` request that waits for the session to reach the tape's end.
    pub checksum: Option<(Option<Id>, Vec<String>)>,
}

/// A session that is not in hand.
#[derive(Debug)]
pub(super) struct Parked {
    number: SessionNumber,
    session: Session,
    updated: u32,
    asked: Asked,
}

/// A session as its cohort knows it: the connection's key, and the session's number. A first session's value
/// is its connection's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member(u32);

/// Low bits of a member that are its connection's key.
const KEY_BITS: u32 = 28;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    /// Changes counted by views that it has left. `events_base`: what its present view had counted when it
    /// joined.
    pub events_before: u64,
    pub events_base: u64,
    pub delivered: u64,
    pub frames: u64,
    pub bytes: u64,
}

impl<L: Link> Connection<L> {
    pub fn new(link: L, opening: &Opening, session: Session, now: Duration, requests: u8) -> Self {
        let second = second(now);
        let form = opening.form;
        Self {
            link,
            form,
            session,
            pace: Pace::new(Millis::of(now), form.framing().has_pings()),
            backlog: Vec::new(),
            state: State::Open,
            ends_with: GONE,
            heard: second,
            sent: second,
            updated: second,
            swept: second,
            has_stats: false,
            requests_left: requests,
            rights: opening.rights,
            extras: None,
        }
    }

    /// The stats to count in; `None` for the sessions that did not ask, nearly all.
    pub fn stats(&mut self) -> Option<&mut Stats> {
        if !self.has_stats {
            return None;
        }
        self.extras.as_mut()?.asked.stats.as_mut()
    }

    /// Takes that session in hand; returns whether it is open.
    pub fn turn_to(&mut self, number: SessionNumber) -> bool {
        let in_hand = self.form.session();
        if in_hand == number {
            return true;
        }
        let Some(extras) = &mut self.extras else { return false };
        let Some(parked) = extras.parked.iter_mut().find(|parked| parked.number == number) else {
            return false;
        };
        parked.number = in_hand;
        swap(&mut parked.session, &mut self.session);
        swap(&mut parked.updated, &mut self.updated);
        swap(&mut parked.asked, &mut extras.asked);
        self.has_stats = extras.asked.stats.is_some();
        self.form = self.form.in_session(number);
        true
    }

    /// Adds a session, and takes it in hand.
    pub fn park(&mut self, number: SessionNumber, session: Session, second: u32) {
        debug_assert!(!self.session.is_in_step(), "where there are several each has its own place");
        let parked = Parked { number, session, updated: second, asked: Asked::default() };
        self.extras.get_or_insert_default().parked.push(parked);
        self.turn_to(number);
    }

    /// Removes a session that is not in hand.
    pub fn give_up(&mut self, number: SessionNumber) -> Option<Session> {
        let parked = &mut self.extras.as_mut()?.parked;
        let at = parked.iter().position(|parked| parked.number == number)?;
        Some(parked.swap_remove(at).session)
    }

    fn parked(&self) -> &[Parked] {
        self.extras.as_deref().map_or(&[], |extras| &extras.parked)
    }

    /// Sends a reset to a connection with several sessions, before the first of them gets what follows it.
    /// Returns whether that may be sent now.
    pub fn announce_reset(&mut self, begins: Position, second: u32) -> bool {
        if !self.has_several() {
            return true;
        }
        if let Some(extras) = &mut self.extras
            && extras.begins < begins
        {
            extras.begins = begins;
            let number = self.form.session();
            self.turn_to(SessionNumber::FIRST);
            // Those of Socket.IO have one session, so the namespace means nothing.
            self.answer(&Answer::Reset { begins: begins.get() }, "/", second);
            self.turn_to(number);
        }
        self.is_open()
    }

    pub fn has_several(&self) -> bool {
        !self.parked().is_empty()
    }

    /// All its sessions, the one in hand first.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionNumber, &Session)> {
        let parked = self.parked().iter().map(|parked| (parked.number, &parked.session));
        std::iter::once((self.form.session(), &self.session)).chain(parked)
    }

    /// Its sessions in the order of their turns, if it has several.
    pub fn in_turn(&self) -> Vec<SessionNumber> {
        let mut numbers: Vec<SessionNumber> = self.sessions().map(|(number, _)| number).collect();
        let served = self.extras.as_ref().map_or(SessionNumber::FIRST, |extras| extras.served);
        numbers.sort_unstable_by_key(|&number| (number <= served, number));
        numbers
    }

    fn count(&mut self, bytes: usize) {
        if let Some(stats) = self.stats() {
            stats.frames += 1;
            stats.bytes += bytes as u64;
        }
    }

    /// Whether the pace lets the next frame be sent now.
    pub fn may_send(&mut self, clock: Clock) -> bool {
        self.link.impaired().is_some() || self.pace.may_send(clock)
    }

    /// Whether a ping goes with its next frame.
    pub fn wants_ping(&self, now: Millis) -> bool {
        self.form.framing().has_pings() && self.link.impaired().is_none() && self.pace.wants_ping(now)
    }

    /// Whether its state lets the next frame be sent now.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Sends a frame, and keeps the rest of one that was begun. Returns whether it was begun.
    pub fn send_frame(&mut self, frame: &[u8], second: u32) -> bool {
        debug_assert!(self.backlog.is_empty(), "frames go out in order");
        let sent = self.send(frame, second);
        self.begun(frame, sent)
    }

    /// Keeps the rest of a frame of which `sent` bytes were sent, if it was begun.
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

    /// Takes it out of step: what follows is done for it alone.
    pub fn fall_out(&mut self, cohort: &Cohort, pings: &Pings, now: Millis) {
        if self.session.is_in_step() {
            self.pace.fall_out(pings, now);
            self.session.fall_out(cohort);
            self.sent = self.sent.max(cohort.flushed().second);
            self.updated = self.updated.max(cohort.flushed().second);
        }
    }

    /// A flush of its cohort has ended at `upto`. A session that has reached it is in step, unless something
    /// is kept for it alone, or its connection has other sessions: pings in step are those of one cohort.
    pub fn fall_in(&mut self, upto: Upto, now: Millis) {
        let is_alone = |Extras { asked, parked, .. }: &Extras| {
            asked.stats.is_some() || asked.checksum.is_some() || !parked.is_empty()
        };
        if self.has_reached(upto)
            && self.pace.may_fall_in()
            && self.link.impaired().is_none()
            && !self.extras.as_deref().is_some_and(is_alone)
        {
            self.session.fall_in();
            self.pace.fall_in(now);
        }
    }

    /// Second of the shard's clock of the last update.
    pub fn last_updated(&self, views: &Views) -> u32 {
        if !self.session.is_in_step() {
            return self.updated;
        }
        self.updated.max(self.session.cohort(views).flushed().second)
    }

    /// Sends a ping: the pong shows that the peer is there, and how far it has read.
    pub fn ping(&mut self, now: Millis, second: u32) {
        let (framing, mut ping) = (self.form.framing(), Vec::new());
        framing.append_ping(&mut ping);
        framing.stamp_ping(&mut ping, now.get());
        self.pace.sent_ping(now);
        self.say(&ping, second);
    }

    /// Sends bytes that must not be lost: after the backlog if there is one.
    pub fn say(&mut self, frame: &[u8], second: u32) {
        if matches!(self.state, State::Closing | State::Gone) {
            return;
        }
        self.count(frame.len());
        let sent = if self.is_open() && self.backlog.is_empty() { self.send(frame, second) } else { 0 };
        self.backlog.extend_from_slice(&frame[sent..]);
    }

    /// Sends the time to come back, where that is no part of a message.
    pub fn say_retry(&mut self, millis: u64, second: u32) {
        let mut line = Vec::new();
        self.form.framing().append_retry(millis, &mut line);
        if !line.is_empty() {
            self.say(&line, second);
        }
    }

    /// `namespace`: where clients of Socket.IO are.
    pub fn answer(&mut self, answer: &Answer, namespace: &str, second: u32) {
        let mut frame = Vec::new();
        self.form.write_answer(namespace, answer, &mut frame);
        self.say(&frame, second);
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

    /// Sends a Close frame and closes our side; the rest is the peer's.
    pub fn close(&mut self, code: CloseCode, reason: &str, second: u32) {
        self.mend(second);
        let mut frame = Vec::new();
        self.form.framing().append_close(code, reason, &mut frame);
        self.say(&frame, second);
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

    /// As whom it does not want messages back that are pending from there.
    pub fn does_not_want(&self, from: Position) -> Option<Sender> {
        self.extras.as_ref().filter(|extras| from < extras.own_upto)?.sender
    }

    /// Whether its link takes nothing for now, on its client's own request.
    pub fn is_held_back(&self) -> bool {
        self.link.impaired() == Some(Impaired::HoldsBack)
    }

    /// Ends an impairment of its link: what was held back is sent at once. Returns whether the next frame may
    /// follow.
    pub fn mend(&mut self, second: u32) -> bool {
        if self.link.impaired().is_none() {
            return self.is_open();
        }
        self.link.mend();
        self.is_mended(second);
        self.unblock(second)
    }

    /// Its link is impaired no more: a peer that received nothing had nothing to answer.
    pub fn is_mended(&mut self, second: u32) {
        self.heard = second;
        self.pace.forgive();
    }

    fn finish_when_sent(&mut self) {
        if self.backlog.is_empty() {
            self.link.finish();
        }
    }

    /// Whether nothing is pending up to `at`, and the next frame may be sent.
    pub fn has_reached(&self, at: Upto) -> bool {
        self.is_open() && self.stands_at(at)
    }

    /// Whether everything up to `at` was delivered, even if still in flight.
    pub fn stands_at(&self, at: Upto) -> bool {
        self.session.position() == at.position && self.session.is_steady()
    }

    fn send(&mut self, bytes: &[u8], second: u32) -> usize {
        let sent = self.link.send(bytes);
        self.took(sent.ok(), bytes.len(), second)
    }

    /// Notes that `sent` of `len` bytes were sent; `None`: the connection is broken for good. Returns how
    /// many the socket took.
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

impl Member {
    pub fn new(key: usize, number: SessionNumber) -> Self {
        let key = u32::try_from(key).ok().filter(|key| key >> KEY_BITS == 0).expect("few connections");
        Self(u32::try_from(number.index()).expect("few sessions") << KEY_BITS | key)
    }

    /// From a cohort's member.
    pub fn of(member: u32) -> Self {
        Self(member)
    }

    pub fn get(self) -> u32 {
        self.0
    }

    pub fn key(self) -> usize {
        (self.0 & ((1 << KEY_BITS) - 1)) as usize
    }

    pub fn number(self) -> SessionNumber {
        SessionNumber::new(u64::from(self.0 >> KEY_BITS)).expect("as many as there are bits for")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MAX_SESSIONS;
    use std::mem::offset_of;

    #[test]
    fn what_a_delivery_touches_is_together() {
        // A shard's socket, which starts with its descriptor.
        #[repr(C)]
        struct Real((u32, u32), [usize; 4]);
        assert_eq!(
            offset_of!(Connection<Real>, pace) + size_of::<Pace>(),
            offset_of!(Connection<Real>, link)
        );
        assert!(size_of::<Pace>() - Pace::TOUCHED_FROM <= 8);
        assert!(size_of::<Connection<Real>>() <= 160, "{}", size_of::<Connection<Real>>());
    }

    #[test]
    fn a_member_is_a_connection_and_a_number_and_a_first_session_its_connection() {
        assert_eq!(Member::new(77, SessionNumber::FIRST).get(), 77);
        for number in 0..MAX_SESSIONS as u64 {
            let number = SessionNumber::new(number).unwrap();
            let key = (1 << KEY_BITS) - 1;
            let member = Member::of(Member::new(key, number).get());
            assert_eq!((member.key(), member.number()), (key, number));
        }
    }
}
