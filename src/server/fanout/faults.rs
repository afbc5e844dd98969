//! The `fault` request: links that are impaired on request of their own clients, so that a client can be
//! tested. On the shard thread.
//!
//! Invariant: a connection does not fall in step while its link is impaired, so no other one waits for it.

use super::connection::{Connection, State};
use super::{Fanout, second};
use crate::server::link::{Impairment, Link};
use crate::server::rights::Action;
use crate::wire::{Answer, CloseCode, ErrorCode, Fault, Garbled, Id};
use std::time::Duration;

/// How often impaired links are pumped.
pub(super) const PUMP_EVERY: Duration = Duration::from_millis(20);

impl<L: Link> Fanout<L> {
    /// Handles a `fault` request. The answer is sent before the fault begins.
    pub(super) fn begin_fault(&mut self, key: usize, id: Option<Id>, fault: Fault, lasts: Option<Duration>) {
        if let Err(denied) = self.connections[key].rights.may(Action::Fault) {
            let (code, message) = (ErrorCode::NotSupported, denied.to_string());
            return self.answer(key, &Answer::Error { id, code, message });
        }
        if self.connections[key].mend(second(self.now)) {
            self.catch_up(key);
        }
        let for_ms = lasts.and_then(|lasts| u64::try_from(lasts.as_millis()).ok());
        self.answer(key, &Answer::Fault { id, fault: fault.name().to_owned(), for_ms });
        match fault {
            Fault::None => {}
            Fault::Mute => self.impair(key, Impairment::Mute, lasts),
            Fault::Delay(by) => self.impair(key, Impairment::Delay(by), lasts),
            Fault::Slow(bytes_per_second) => self.impair(key, Impairment::Slow(bytes_per_second), lasts),
            Fault::Drop(code) => self.drop_connection(key, code),
            Fault::Garble(what) => self.connections[key].say_garbled(what, second(self.now)),
        }
    }

    fn impair(&mut self, key: usize, impairment: Impairment, lasts: Option<Duration>) {
        let connection = &mut self.connections[key];
        if matches!(connection.state, State::Open | State::Blocked)
            && connection.link.impair(impairment, self.now, lasts)
            && !self.impaired.contains(&key)
        {
            self.impaired.push(key);
        }
    }

    fn drop_connection(&mut self, key: usize, code: Option<CloseCode>) {
        let connection = &mut self.connections[key];
        match code {
            Some(code) => connection.close(code, "as asked for by \"fault\"", second(self.now)),
            None => connection.state = State::Gone,
        }
    }

    /// Sends what the impaired links let pass, and drops those that are mended from the list.
    pub(super) fn pump(&mut self) {
        for key in std::mem::take(&mut self.impaired) {
            if self.pump_one(key) {
                self.impaired.push(key);
            }
            self.reap(key);
        }
    }

    /// Returns whether the link is still impaired.
    fn pump_one(&mut self, key: usize) -> bool {
        let now = second(self.now);
        let Some(connection) = self.connections.get_mut(key) else { return false };
        // Another connection may have the key by now.
        if connection.link.impaired().is_none() {
            return false;
        }
        if connection.link.pump(self.now).is_err() {
            connection.state = State::Gone;
            return false;
        }
        let is_impaired = connection.link.impaired().is_some();
        if !is_impaired {
            connection.is_mended(now);
        }
        if !connection.is_held_back() && connection.unblock(now) {
            self.catch_up(key);
        }
        is_impaired
    }
}

impl<L: Link> Connection<L> {
    fn say_garbled(&mut self, what: Garbled, second: u32) {
        let mut bytes = Vec::new();
        self.form.write_garbled(what, &mut bytes);
        self.say(&bytes, second);
    }
}
