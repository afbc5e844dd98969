//! The protocol `tickcast.v1`: messages, their MessagePack and JSON forms, WebSocket framing, close codes.
//! `docs/protocol.md` is the specification.
//!
//! Pure: bytes in, bytes out, on any thread. Invariant: each word of the protocol is in [`schema`] or in one
//! type here, once.

#[cfg(feature = "server")]
pub(crate) mod asyncapi; // the messages, described for programs
mod checksum;
#[warn(missing_docs)]
mod close;
#[warn(missing_docs)]
mod decode;
pub mod engineio; // what carries packets of Socket.IO
mod fault; // faults that a client asks for
#[warn(missing_docs)]
mod fields;
mod frame;
mod framing; // encodings, and the bytes around a payload
pub(crate) mod json;
mod loose;
#[warn(missing_docs)]
mod message;
mod msgpack;
#[cfg(feature = "server")]
mod poll; // answers to clients without a session
mod post; // messages and states that a client posts
mod reader;
#[warn(missing_docs)]
mod replay;
mod runs;
#[warn(missing_docs)]
pub mod schema; // names and numbers, each once
pub mod socketio; // packets of Socket.IO, around the same payloads
mod told;
mod update;

pub use checksum::checksum;
pub use close::{CloseCode, CloseSchema, Return};
pub use decode::{Entry, Numbered, States, Update, UpdateDecoder};
pub use fault::{Fault, Garbled};
pub use frame::{
    FrameError, FrameReader, Incoming, MAX_MESSAGE_BYTES, Opcode, mask, write_client_frame, write_frame,
};
pub use framing::{Encoding, Form, Framing, MAX_SESSIONS, SessionNumber};
pub use message::{
    Answer, ErrorCode, Id, Limits, MAX_HZ, MIN_HZ, Op, Refusal, Request, RequestError, Resume, TopicAnswer,
    TopicChecksum, check_hz,
};
#[cfg(feature = "server")]
pub use poll::{POLL_BYTES, PollAnswer, PollQuery, PollSince};
pub use reader::DecodeError;
pub use replay::{ReplayAction, ReplayState, Seeking};
pub use schema::{BarFields, Fields, QuoteFields, WatchersFields};
pub use update::{FULL_BYTES, MAX_UPDATE_BYTES, UpdateEncoder};

/// The protocol by name, as `welcome` has it.
pub const PROTOCOL: &str = "tickcast.v1";
/// The subprotocol with MessagePack messages.
pub const PROTOCOL_MSGPACK: &str = "tickcast.v1.msgpack";
/// The subprotocol with JSON messages.
pub const PROTOCOL_JSON: &str = "tickcast.v1.json";
