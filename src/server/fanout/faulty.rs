use super::connection::{Connection, Extras, Socket, State};
use super::{Fanout, second};
use crate::hub::Form;
use crate::wire::{Answer, CloseCode, ErrorCode, Fault, Garbled, Id, Opcode};
use std::collections::VecDeque;
use std::time::Duration;

/// Between two looks at what may pass a broken way.
pub(super) const PUMP_EVERY: Duration = Duration::from_millis(20);
/// What may be under way to one session. Beyond it, it is told no more until there is room, as if its socket were full.
const MAX_UNDER_WAY: usize = 256 * 1024;
/// A slow way that was idle lets no more than this much time's bytes through at once.
const MAX_CREDIT: Duration = Duration::from_millis(200);
/// A frame of an opcode and a bit that RFC 6455 keeps for later.
const BROKEN_FRAME: [u8; 6] = [0xb3, 0x04, b'?', b'?', b'?', b'?'];
/// An update of which the first value is the one byte that `MessagePack` never uses.
const BROKEN_MSGPACK: [u8; 3] = [0x92, 0xc1, 0x00];
const BROKEN_JSON: &[u8] = b"{\"type\":\"update\",\"position\":";

/// The broken way to one session, which is off the common path while it has one: its frames are kept, wait here, and go on when they may.
#[derive(Debug)]
pub(super) struct FaultyLink {
    kind: LinkKind,
    /// On the core's clock.
    until: Option<Duration>,
    /// Under way, each piece with the moment at which it may go on.
    pieces: VecDeque<(Duration, Vec<u8>)>,
    /// When the credit was last counted, and how much there is, in bytes × 10^9.
    counted: Duration,
    credit: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkKind {
    Mute,
    Delay(Duration),
    /// Bytes a second.
    Slow(u32),
}

impl FaultyLink {
    fn new(kind: LinkKind, now: Duration, lasts: Option<Duration>) -> Self {
        let until = lasts.map(|lasts| now + lasts);
        Self { kind, until, pieces: VecDeque::new(), counted: now, credit: 0 }
    }

    fn is_mute(&self) -> bool {
        self.kind == LinkKind::Mute
    }

    /// What is under way, in order.
    pub fn into_rest(self) -> Vec<u8> {
        self.pieces.into_iter().flat_map(|(_, bytes)| bytes).collect()
    }

    fn under_way(&self) -> usize {
        self.pieces.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// How many bytes it takes of what its session is owed.
    pub fn room(&self) -> usize {
        match self.kind {
            LinkKind::Delay(_) => MAX_UNDER_WAY.saturating_sub(self.under_way()),
            // The next frame begins when the last has gone, so that what comes in between is merged.
            LinkKind::Slow(_) if self.pieces.is_empty() => 1,
            LinkKind::Slow(_) | LinkKind::Mute => 0,
        }
    }

    fn take(&mut self, bytes: Vec<u8>, now: Duration) {
        let due = if let LinkKind::Delay(by) = self.kind { now + by } else { now };
        if !bytes.is_empty() {
            self.pieces.push_back((due, bytes));
        }
    }

    /// How many bytes may go on now.
    fn passing(&mut self, now: Duration) -> usize {
        let LinkKind::Slow(bytes_per_second) = self.kind else { return usize::MAX };
        let credit = |time: Duration| time.as_nanos() * u128::from(bytes_per_second);
        let gained = credit(now.saturating_sub(self.counted));
        self.counted = now;
        self.credit = (self.credit + gained).min(credit(MAX_CREDIT).max(1_000_000_000));
        usize::try_from(self.credit / 1_000_000_000).unwrap_or(usize::MAX)
    }

    /// Sends what may go on; `Err` where the connection is broken for good. Returns whether anything went.
    fn send(&mut self, socket: &mut impl Socket, now: Duration) -> std::io::Result<bool> {
        let mut passing = self.passing(now);
        let mut any = false;
        while let Some((due, bytes)) = self.pieces.front_mut()
            && *due <= now
            && passing > 0
        {
            let wanted = bytes.len().min(passing);
            let sent = socket.send(&bytes[..wanted])?;
            any |= sent > 0;
            passing -= sent;
            self.credit = self.credit.saturating_sub(sent as u128 * 1_000_000_000);
            bytes.drain(..sent);
            if bytes.is_empty() {
                self.pieces.pop_front();
            }
            if sent < wanted {
                break;
            }
        }
        Ok(any)
    }
}

impl<S: Socket> Fanout<S> {
    /// A `fault` request. It is answered before what it asks for.
    pub(super) fn break_way(&mut self, key: usize, id: Option<Id>, fault: Fault, lasts: Option<Duration>) {
        if !self.rights.faults_allowed {
            let message = "faults are off here: the operator turns them on with --allow-faults".to_owned();
            return self.answer(key, &Answer::Error { id, code: ErrorCode::NotSupported, message });
        }
        let now = second(self.now);
        if self.connections[key].mend(now) {
            self.catch_up(key);
        }
        let for_ms = lasts.and_then(|lasts| u64::try_from(lasts.as_millis()).ok());
        self.answer(key, &Answer::Fault { id, fault: fault.name().to_owned(), for_ms });
        let form = self.form_of(key);
        let kind = match fault {
            Fault::None => return,
            Fault::Mute => LinkKind::Mute,
            Fault::Delay(by) => LinkKind::Delay(by),
            Fault::Slow(bytes_per_second) => LinkKind::Slow(bytes_per_second),
            Fault::Drop(code) => return self.drop_connection(key, code),
            Fault::Garble(what) => return self.connections[key].say_garbled(what, form, now),
        };
        let connection = &mut self.connections[key];
        if matches!(connection.state, State::Open | State::Blocked) {
            let extras: &mut Extras = connection.extras.get_or_insert_default();
            extras.link = Some(FaultyLink::new(kind, self.now, lasts));
            connection.state = State::Faulty;
            if !self.faulty.contains(&key) {
                self.faulty.push(key);
            }
        }
    }

    fn drop_connection(&mut self, key: usize, code: Option<CloseCode>) {
        let connection = &mut self.connections[key];
        match code {
            Some(code) => connection.close(code, "as asked for by \"fault\"", second(self.now)),
            None => connection.state = State::Gone,
        }
    }

    /// Moves on what may pass the ways that are broken, and mends those whose time is over.
    pub(super) fn pump(&mut self) {
        for key in std::mem::take(&mut self.faulty) {
            if self.pump_one(key) {
                self.faulty.push(key);
            }
            self.reap(key);
        }
    }

    /// Returns whether the way is still broken.
    fn pump_one(&mut self, key: usize) -> bool {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return false };
        // Another connection may have the key by now.
        let Some(link) = connection.link() else { return false };
        if link.until.is_some_and(|until| until <= now) {
            if connection.mend(second(now)) {
                self.catch_up(key);
            }
            return false;
        }
        let room = link.room();
        if room > 0 {
            self.keep_owed(key, room);
        }
        let connection = &mut self.connections[key];
        let said = if connection.link().is_some_and(|link| link.is_mute()) {
            Vec::new()
        } else {
            std::mem::take(&mut connection.backlog)
        };
        connection.pass_on(said, now)
    }

    /// Puts what a session is owed into its backlog, and the answer that waited for it.
    fn keep_owed(&mut self, key: usize, most: usize) {
        if self.is_waiting(key) {
            let (mut delivery, connections) = self.delivery(self.connections[key].session.cohort_id());
            delivery.keep_all(&mut connections[key], most);
        }
        self.answer_checksum(key);
    }
}

impl<S: Socket> Connection<S> {
    /// Hands bytes to the broken way, and on to the socket what may pass. Returns whether the connection is still there.
    fn pass_on(&mut self, said: Vec<u8>, now: Duration) -> bool {
        let Some(link) = self.extras.as_mut().and_then(|extras| extras.link.as_mut()) else { return false };
        link.take(said, now);
        let Ok(any) = link.send(&mut self.socket, now) else {
            self.state = State::Gone;
            return false;
        };
        if any {
            self.sent = second(now);
        }
        true
    }

    fn say_garbled(&mut self, what: Garbled, form: Form, second: u32) {
        match (what, form) {
            (Garbled::Frame, _) => self.say_frame(&BROKEN_FRAME, second),
            (Garbled::Message, Form::MessagePack) => self.say(Opcode::Binary, &BROKEN_MSGPACK, second),
            (Garbled::Message, Form::Json) => self.say(Opcode::Text, BROKEN_JSON, second),
        }
    }
}
