//! Several sessions on one connection: opened, closed, and each in its turn. On the shard thread.
//!
//! Invariant: outside of a call here or of a request, a connection has its first session in hand.

use super::connection::Member;
use super::{Fanout, second};
use crate::hub::{Session, ViewOptions};
use crate::server::link::Link;
use crate::wire::{Answer, ErrorCode, Id, SessionNumber};

impl<L: Link> Fanout<L> {
    pub(super) fn open_session(&mut self, key: usize, id: Option<Id>, number: SessionNumber) {
        let connection = &mut self.connections[key];
        if connection.sessions().any(|(known, _)| known == number) {
            let message = format!("session {number} is open already");
            return self.answer(key, &Answer::Error { id, code: ErrorCode::BadRequest, message });
        }
        let options = ViewOptions::new(connection.form.in_session(number).id());
        let member = Member::new(key, number).get();
        let session = Session::open(member, options, &self.replica, &mut self.views);
        connection.park(number, session, second(self.now));
        // One that begins after a reset need not be sent it, so its client learns of it here.
        let begins = self.replica.reset_at();
        if connection.sessions().any(|(_, session)| session.position() < begins) {
            connection.announce_reset(begins, second(self.now));
        }
        let (position, time) = (self.replica.position().get(), self.replica.time().micros());
        self.answer(key, &Answer::Opened { id, position, time });
    }

    /// Closes the session in hand.
    pub(super) fn close_session(&mut self, key: usize, id: Option<Id>, number: SessionNumber) {
        self.answer(key, &Answer::Closed { id });
        // Its view's number may be reused.
        self.frames.clear();
        let connection = &mut self.connections[key];
        connection.turn_to(SessionNumber::FIRST);
        if let Some(session) = connection.give_up(number) {
            session.close(Member::new(key, number).get(), &mut self.views);
        }
    }

    /// What may be in flight is the connection's, so its sessions take turns, a frame each.
    #[cold]
    pub(super) fn catch_up_in_turn(&mut self, key: usize) {
        let clock = self.clock();
        let mut goes_on = true;
        while std::mem::take(&mut goes_on) {
            for number in self.connections[key].in_turn() {
                self.connections[key].turn_to(number);
                if self.is_waiting(key) && !self.connections[key].stands_at(self.upto()) {
                    if !self.connections[key].is_open() || !self.connections[key].may_send(clock) {
                        goes_on = false;
                        break;
                    }
                    let (mut delivery, connections) =
                        self.delivery(self.connections[key].session.cohort_id());
                    goes_on |= delivery.deliver(&mut connections[key]);
                    if let Some(extras) = &mut self.connections[key].extras {
                        extras.served = number;
                    }
                }
                self.answer_checksum(key);
            }
        }
        self.connections[key].turn_to(SessionNumber::FIRST);
    }

    /// Calls `act` with each of its sessions in hand.
    pub(super) fn each_session(&mut self, key: usize, mut act: impl FnMut(&mut Self)) {
        if !self.connections[key].has_several() {
            return act(self);
        }
        for number in self.connections[key].in_turn() {
            self.connections[key].turn_to(number);
            act(self);
        }
        self.connections[key].turn_to(SessionNumber::FIRST);
    }
}
