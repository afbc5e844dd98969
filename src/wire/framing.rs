//! How a session's messages are encoded, and the bytes around each on its connection. Pure; any thread.
//!
//! Invariant: a payload is the same in every framing. An encoder asks a [`Framing`] for the head and the
//! tail, and knows nothing else of the connection.

use super::close::CloseCode;
use super::fault::Garbled;
use super::frame::{Opcode, write_frame, write_header};
use super::message::Answer;
use super::socketio::Parser;
use crate::hub::FormId;
use crate::tape::{Epoch, Position};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::fmt;
use std::io::Write;

/// How a message is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Binary: updates are arrays, other messages maps.
    MessagePack,
    /// Text: all messages are maps.
    Json,
}

/// The bytes around each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Frames of RFC 6455, as a server sends them.
    WebSocket,
    /// Socket.IO over WebSocket: an event each, whose argument is the payload, which is JSON. Its parser may
    /// write that as `MessagePack`.
    SocketIo(Parser),
    /// Server-Sent Events: a `data` field each, and the position to resume from in `id`.
    Events,
    /// One line for each message.
    Lines,
    /// None: each message has its own end.
    Bare,
}

/// An encoding, a framing that can hold it, and the session of the connection that the messages are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    encoding: Encoding,
    framing: Framing,
    images: bool,
    session: SessionNumber,
}

/// Number of a session on its connection. Messages of the first are not marked, so a client with one session
/// sees no numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionNumber(u8);

/// The most sessions of a connection; their numbers are below it.
pub const MAX_SESSIONS: usize = 16;

/// Bytes of a WebSocket's ping with the time of sending.
const PING_LEN: usize = 6;
/// A heartbeat of Engine.IO: the application of a client answers it, not only its library.
const HEARTBEAT: &[u8] = b"\x81\x012";

/// A frame with an opcode and a bit that RFC 6455 reserves.
const BROKEN_FRAME: [u8; 6] = [0xb3, 0x04, b'?', b'?', b'?', b'?'];
/// An update whose first value is the one byte that `MessagePack` never uses.
const BROKEN_MSGPACK: &[u8] = &[0x92, 0xc1, 0x00];
const BROKEN_JSON: &[u8] = b"{\"type\":\"update\",\"position\":";
/// The longest reason of a Close frame, bytes.
const MAX_REASON_BYTES: usize = 123;

impl Form {
    /// `MessagePack` over WebSocket: `tickcast.v1.msgpack`.
    pub const MSGPACK: Self = Self::of_changes(Encoding::MessagePack, Framing::WebSocket);
    /// JSON over WebSocket: `tickcast.v1.json`.
    pub const JSON: Self = Self::of_changes(Encoding::Json, Framing::WebSocket);
    /// JSON as events of Socket.IO.
    pub const SOCKET_IO: Self = Self::of_changes(Encoding::Json, Framing::SocketIo(Parser::Json));
    /// The values of JSON as events of Socket.IO in `MessagePack`.
    pub const SOCKET_IO_MSGPACK: Self = Self::of_changes(Encoding::Json, Framing::SocketIo(Parser::Msgpack));
    /// JSON as Server-Sent Events.
    pub const EVENTS: Self = Self::of_changes(Encoding::Json, Framing::Events);
    /// `MessagePack` as Server-Sent Events, in base64.
    pub const EVENTS_MSGPACK: Self = Self::of_changes(Encoding::MessagePack, Framing::Events);
    /// JSON, one message on each line.
    pub const LINES: Self = Self::of_changes(Encoding::Json, Framing::Lines);
    /// `MessagePack`, one message after the other.
    pub const BARE: Self = Self::of_changes(Encoding::MessagePack, Framing::Bare);

    /// All forms of first sessions.
    const ALL: [Self; 12] = [
        Self::MSGPACK,
        Self::JSON,
        Self::EVENTS,
        Self::LINES,
        Self::BARE,
        Self::EVENTS.of_images(),
        Self::LINES.of_images(),
        Self::SOCKET_IO,
        Self::SOCKET_IO.of_images(),
        Self::EVENTS_MSGPACK,
        Self::SOCKET_IO_MSGPACK,
        Self::SOCKET_IO_MSGPACK.of_images(),
    ];

    const fn of_changes(encoding: Encoding, framing: Framing) -> Self {
        Self { encoding, framing, images: false, session: SessionNumber::FIRST }
    }

    /// The same with all fields of a quote or bar of which any changed, for clients that keep nothing. JSON
    /// only.
    #[must_use]
    pub const fn of_images(self) -> Self {
        Self { images: true, ..self }
    }

    /// Whether all fields of a changed image are sent.
    #[must_use]
    pub const fn has_images(self) -> bool {
        self.images
    }

    /// The same for that session of the connection.
    #[must_use]
    pub const fn in_session(self, session: SessionNumber) -> Self {
        Self { session, ..self }
    }

    /// The session that the messages are of.
    #[must_use]
    #[inline]
    pub const fn session(self) -> SessionNumber {
        self.session
    }

    /// How messages are encoded.
    #[must_use]
    pub const fn encoding(self) -> Encoding {
        self.encoding
    }

    /// What is around them.
    #[must_use]
    pub const fn framing(self) -> Framing {
        self.framing
    }

    /// Its number in the keys of views. Sessions share frames only within a form.
    ///
    /// # Panics
    /// Never: every form has a number.
    #[must_use]
    pub fn id(self) -> FormId {
        let first = self.in_session(SessionNumber::FIRST);
        let number = Self::ALL.iter().position(|&form| form == first).expect("each form is one of these");
        FormId(u8::try_from(number * MAX_SESSIONS + self.session.index()).expect("few forms"))
    }

    /// The form of that number.
    ///
    /// # Panics
    /// If no form has it.
    #[must_use]
    pub fn of(id: FormId) -> Self {
        let (number, session) = (usize::from(id.0) / MAX_SESSIONS, usize::from(id.0) % MAX_SESSIONS);
        Self::ALL[number].in_session(SessionNumber(u8::try_from(session).expect("below MAX_SESSIONS")))
    }

    /// Appends a complete message.
    pub fn write(self, payload: &[u8], out: &mut Vec<u8>) {
        self.begin(payload.len(), out);
        // The session's mark includes the opening brace of JSON.
        let begun = self.encoding == Encoding::Json && self.session != SessionNumber::FIRST;
        self.write_payload(&payload[usize::from(begun)..], out);
        self.end(out);
    }

    /// Appends a payload, as text where the framing holds nothing else.
    #[inline]
    pub(super) fn write_payload(self, payload: &[u8], out: &mut Vec<u8>) {
        if self.is_in_base64() {
            let start = out.len();
            out.resize(start + payload.len().div_ceil(3) * 4, 0);
            BASE64_STANDARD.encode_slice(payload, &mut out[start..]).expect("four bytes for each three");
        } else {
            out.extend_from_slice(payload);
        }
    }

    /// Whether payloads are bytes in a framing of text.
    #[inline]
    pub(super) const fn is_in_base64(self) -> bool {
        matches!((self.framing, self.encoding), (Framing::Events, Encoding::MessagePack))
    }

    /// Appends a complete answer, in a namespace where there are some.
    pub fn write_answer(self, namespace: &str, answer: &Answer, out: &mut Vec<u8>) {
        match (self.framing, self.encoding) {
            (Framing::SocketIo(parser), _) => parser.write_answer(namespace, answer, out),
            (_, Encoding::MessagePack) => self.write(&answer.to_msgpack(), out),
            (_, Encoding::Json) => self.write(answer.to_json().as_bytes(), out),
        }
    }

    /// Appends a complete update. `resume`: the position that a client has after it, where that is known.
    pub(super) fn write_update(
        self,
        payload: &[u8],
        namespace: &str,
        resume: Option<(Epoch, Position)>,
        out: &mut Vec<u8>,
    ) {
        if let Framing::SocketIo(parser) = self.framing {
            return parser.write_event(namespace, "update", payload, out);
        }
        self.write_id(resume, out);
        self.write(payload, out);
    }

    /// Appends the id of an event: the position to resume from after it.
    pub(super) fn write_id(self, resume: Option<(Epoch, Position)>, out: &mut Vec<u8>) {
        if let (Framing::Events, Some((epoch, position))) = (self.framing, resume) {
            writeln!(out, "id: {}-{}", epoch.get(), position.get()).expect("a Vec takes every byte");
        }
    }

    /// Appends the head of a payload of that length. A session that is not the first also gets its number:
    /// before the payload, or as the first field of a JSON map, whose brace must not follow then.
    #[inline]
    pub(super) fn begin(self, payload: usize, out: &mut Vec<u8>) {
        if self.session != SessionNumber::FIRST {
            return self.begin_marked(payload, out);
        }
        self.begin_frame(payload, out);
    }

    #[inline]
    fn begin_frame(self, payload: usize, out: &mut Vec<u8>) {
        match (self.framing, self.encoding) {
            (Framing::WebSocket | Framing::SocketIo(_), Encoding::MessagePack) => {
                write_header(Opcode::Binary, payload, out);
            }
            (Framing::WebSocket | Framing::SocketIo(_), Encoding::Json) => {
                write_header(Opcode::Text, payload, out);
            }
            (Framing::Events, _) => out.extend_from_slice(b"data: "),
            (Framing::Lines | Framing::Bare, _) => {}
        }
    }

    #[cold]
    fn begin_marked(self, payload: usize, out: &mut Vec<u8>) {
        match self.encoding {
            Encoding::MessagePack => {
                self.begin_frame(payload + 1, out);
                out.push(self.session.0);
            }
            Encoding::Json => {
                let mark = format!("{{\"session\":{},", self.session);
                self.begin_frame(payload + mark.len() - 1, out);
                out.extend_from_slice(mark.as_bytes());
            }
        }
    }

    /// Appends the tail of a payload.
    #[inline]
    pub(super) fn end(self, out: &mut Vec<u8>) {
        match self.framing {
            Framing::WebSocket | Framing::SocketIo(_) | Framing::Bare => {}
            Framing::Events => out.extend_from_slice(b"\n\n"),
            Framing::Lines => out.push(b'\n'),
        }
    }

    /// Appends what cannot be read: a message, or (where there is one) a frame.
    pub fn write_garbled(self, what: Garbled, out: &mut Vec<u8>) {
        match (what, self.framing, self.encoding) {
            (Garbled::Frame, Framing::WebSocket | Framing::SocketIo(_), _) => {
                out.extend_from_slice(&BROKEN_FRAME);
            }
            (_, _, Encoding::MessagePack) => self.write(BROKEN_MSGPACK, out),
            (_, _, Encoding::Json) => self.write(BROKEN_JSON, out),
        }
    }
}

impl SessionNumber {
    /// The session that each connection has.
    pub const FIRST: Self = Self(0);

    /// `None` from [`MAX_SESSIONS`] on.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (usize::from(number) < MAX_SESSIONS).then_some(Self(number))
    }

    /// From 0, below [`MAX_SESSIONS`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0.into()
    }

    /// Splits a `MessagePack` message into its session's number and the rest.
    #[must_use]
    pub fn split(message: &[u8]) -> (Self, &[u8]) {
        match message {
            [number, rest @ ..] if usize::from(*number) < MAX_SESSIONS => (Self(*number), rest),
            _ => (Self::FIRST, message),
        }
    }
}

impl fmt::Display for SessionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Framing {
    /// The parser of Socket.IO, if it is that.
    #[must_use]
    pub const fn parser(self) -> Option<Parser> {
        match self {
            Self::SocketIo(parser) => Some(parser),
            _ => None,
        }
    }

    /// Whether a peer answers pings, which show how far it has read.
    #[must_use]
    #[inline]
    pub const fn has_pings(self) -> bool {
        matches!(self, Self::WebSocket | Self::SocketIo(_))
    }

    /// Whether a peer sends a Close frame: the end of such a connection waits for it.
    #[must_use]
    pub const fn has_close(self) -> bool {
        self.has_pings()
    }

    /// Bytes of a ping; 0 where there are none.
    #[must_use]
    #[inline]
    pub const fn ping_len(self) -> usize {
        match self {
            Self::WebSocket => PING_LEN,
            Self::SocketIo(_) => HEARTBEAT.len(),
            Self::Events | Self::Lines | Self::Bare => 0,
        }
    }

    /// Writes the time of sending into a ping, if its pong returns it.
    #[inline]
    pub fn stamp_ping(self, ping: &mut [u8], moment: u32) {
        if self == Self::WebSocket {
            ping[2..PING_LEN].copy_from_slice(&moment.to_be_bytes());
        }
    }

    /// Appends the time in ms after which a client is to reconnect; nothing where that is part of a message.
    pub fn append_retry(self, millis: u64, out: &mut Vec<u8>) {
        if self == Self::Events {
            writeln!(out, "retry: {millis}").expect("a Vec takes every byte");
        }
    }

    /// Appends a ping of [`Self::ping_len`] bytes, to be [stamped](Self::stamp_ping) when it is sent; nothing
    /// where there are none.
    pub fn append_ping(self, out: &mut Vec<u8>) {
        match self {
            Self::WebSocket => write_frame(Opcode::Ping, &[0; 4], out),
            Self::SocketIo(_) => out.extend_from_slice(HEARTBEAT),
            Self::Events | Self::Lines | Self::Bare => {}
        }
    }

    /// Appends the answer to a peer's ping.
    pub fn append_pong(self, payload: &[u8], out: &mut Vec<u8>) {
        if self.has_pings() {
            write_frame(Opcode::Pong, payload, out);
        }
    }

    /// Appends a Close frame, where there is such a thing; of the reason, which is ASCII, at most 123 bytes.
    pub fn append_close(self, code: CloseCode, reason: &str, out: &mut Vec<u8>) {
        if self.has_close() {
            let mut payload = code.0.to_be_bytes().to_vec();
            payload.extend_from_slice(&reason.as_bytes()[..reason.len().min(MAX_REASON_BYTES)]);
            write_frame(Opcode::Close, &payload, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_payload_stands_in_any_framing() {
        let framed = |form: Form| {
            let mut out = Vec::new();
            form.write(b"{}", &mut out);
            out
        };
        assert_eq!(framed(Form::JSON), b"\x81\x02{}");
        assert_eq!(framed(Form::MSGPACK), b"\x82\x02{}");
        assert_eq!(framed(Form::EVENTS), b"data: {}\n\n");
        assert_eq!(framed(Form::EVENTS_MSGPACK), b"data: e30=\n\n");
        assert_eq!(framed(Form::LINES), b"{}\n");
        assert_eq!(framed(Form::BARE), b"{}");
    }

    #[test]
    fn only_a_websocket_has_pings_and_close_frames() {
        let control = |framing: Framing| {
            let mut out = Vec::new();
            framing.append_ping(&mut out);
            framing.append_pong(b"x", &mut out);
            framing.append_close(CloseCode::RESTART, "bye", &mut out);
            out
        };
        let mut frames = vec![0x89, 4, 0, 0, 0, 0, 0x8a, 1, b'x', 0x88, 5];
        frames.extend_from_slice(&CloseCode::RESTART.0.to_be_bytes());
        frames.extend_from_slice(b"bye");
        assert_eq!(control(Framing::WebSocket), frames);
        for framing in [Framing::Events, Framing::Lines, Framing::Bare] {
            assert_eq!(control(framing), b"");
        }
        let mut ping = Vec::new();
        Framing::WebSocket.append_ping(&mut ping);
        Framing::WebSocket.stamp_ping(&mut ping, 0x0102_0304);
        assert_eq!(ping, [0x89, 4, 1, 2, 3, 4]);
        let mut heartbeat = Vec::new();
        Framing::SocketIo(Parser::Json).append_ping(&mut heartbeat);
        Framing::SocketIo(Parser::Json).stamp_ping(&mut heartbeat, 0x0102_0304);
        assert_eq!(heartbeat, [0x81, 1, b'2']);
    }

    #[test]
    fn each_form_has_a_number_of_its_own() {
        let mut ids = std::collections::BTreeSet::new();
        for form in Form::ALL {
            for number in 0..MAX_SESSIONS as u64 {
                let form = form.in_session(SessionNumber::new(number).unwrap());
                assert_eq!(Form::of(form.id()), form);
                assert!(ids.insert(form.id().0));
            }
        }
    }

    #[test]
    fn the_first_session_of_a_connection_is_not_marked_and_others_are() {
        let third = SessionNumber::new(3).unwrap();
        let framed = |form: Form, payload: &[u8]| {
            let mut out = Vec::new();
            form.write(payload, &mut out);
            out
        };
        assert_eq!(framed(Form::JSON.in_session(SessionNumber::FIRST), b"{\"a\":1}"), b"\x81\x07{\"a\":1}");
        assert_eq!(framed(Form::JSON.in_session(third), b"{\"a\":1}"), b"\x81\x13{\"session\":3,\"a\":1}");
        assert_eq!(framed(Form::LINES.in_session(third), b"{\"a\":1}"), b"{\"session\":3,\"a\":1}\n");
        assert_eq!(framed(Form::MSGPACK.in_session(third), b"\x92\0\0"), b"\x82\x04\x03\x92\0\0");
        assert_eq!(framed(Form::BARE.in_session(third), b"\x92\0\0"), b"\x03\x92\0\0");
        assert_eq!(SessionNumber::split(b"\x03\x92\0\0"), (third, &b"\x92\0\0"[..]));
        assert_eq!(SessionNumber::split(b"\x92\0\0"), (SessionNumber::FIRST, &b"\x92\0\0"[..]));
        assert_eq!(SessionNumber::new(16), None);
    }
}
