//! The protocol `tickcast.v1`: messages, their MessagePack and JSON forms, WebSocket framing, close codes.
//! `docs/protocol.md` is the specification.

mod checksum;
mod close;
mod decode;
mod fault; // what a client asks to be broken
mod fields;
mod frame;
pub(crate) mod json;
mod message;
mod msgpack;
mod reader;
mod replay;
mod runs;
pub mod tag;
mod told;
mod update;

pub use checksum::checksum;
pub use close::CloseCode;
pub use decode::{Entry, Numbered, Update, UpdateDecoder};
pub use fault::{Fault, Garbled};
pub use fields::{BarFields, QuoteFields};
pub use frame::{FrameError, FrameReader, Incoming, MAX_MESSAGE_BYTES, Opcode, mask, write_frame};
pub use message::{
    Answer, ErrorCode, Id, Limits, MAX_HZ, MIN_HZ, Op, Refusal, Request, RequestError, Resume, TopicAnswer,
    TopicChecksum, check_hz,
};
pub use reader::DecodeError;
pub use replay::{ReplayAction, ReplaySpeed, ReplayState};
pub use update::{FULL_BYTES, MAX_UPDATE_BYTES, UpdateEncoder};

/// The two subprotocols by name.
pub const PROTOCOL: &str = "tickcast.v1";
pub const PROTOCOL_MSGPACK: &str = "tickcast.v1.msgpack";
pub const PROTOCOL_JSON: &str = "tickcast.v1.json";
