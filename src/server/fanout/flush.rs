//! Flushes: the queue of cohorts with something pending, and what is delivered to their sessions.

use super::connection::{Connection, Member, State};
use super::delivery::Delivery;
use super::faults::PUMP_EVERY;
use super::pace::Pings;
use super::{Fanout, second};
use crate::hub::CohortId;
use crate::server::link::Link;
use crate::wire::SessionNumber;
use slab::Slab;
use std::time::Duration;

impl<L: Link> Fanout<L> {
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
    pub(super) fn delivery(&mut self, id: CohortId) -> (Delivery<'_>, &mut Slab<Connection<L>>) {
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
    pub(super) fn catch_up(&mut self, key: usize) {
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
    pub(super) fn is_waiting(&self, key: usize) -> bool {
        let connection = &self.connections[key];
        let Connection { session, extras, .. } = connection;
        self.is_behind(session)
            || extras.as_ref().is_some_and(|extras| extras.asked.checksum.is_some())
            || (connection.has_several() && session.position() < self.replica.reset_at())
    }

    /// Delivers what is pending for one session, as far as its socket takes it, outside a flush of its
    /// cohort.
    pub(super) fn deliver_alone(&mut self, key: usize) {
        self.alone(key);
        let (mut delivery, connections) = self.delivery(self.connections[key].session.cohort_id());
        delivery.deliver_all(&mut connections[key]);
    }
}
