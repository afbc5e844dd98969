//! A connection's life: its opening, what arrives on it, heartbeats and deadlines, goodbyes, its end.

use super::connection::{Connection, Member, State};
use super::pace::Millis;
use super::{Fanout, second};
use crate::hub::{Session, ViewOptions};
use crate::market::Word;
use crate::server::limits::SESSION;
use crate::server::link::Link;
use crate::server::rights::Rights;
use crate::wire::{Answer, CloseCode, Form, Incoming, PROTOCOL, Request, Resume, SessionNumber};
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

impl<L: Link> Fanout<L> {
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
    pub(super) fn ponged(&mut self, key: usize, payload: &[u8]) -> bool {
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

    /// Removes the connection if it is gone.
    pub(super) fn reap(&mut self, key: usize) {
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
}

/// The longest silence of the server in a session of that form.
fn heartbeat(form: Form) -> Duration {
    if form.framing().has_pings() { SESSION.heartbeat } else { SESSION.stream_heartbeat }
}

fn unread_for() -> String {
    format!("owed data was not read for {} s", SESSION.stall_seconds)
}
