//! Close codes, and what a client does after each. Pure; any thread.
//!
//! Invariant: each code that the protocol gives a meaning is in `close_codes!` once.

use std::fmt;

/// The code of a Close frame: why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

/// A code's meaning, and what a client does after it.
#[derive(Clone, Copy, Debug)]
pub struct CloseSchema {
    /// Of the Close frame.
    pub code: CloseCode,
    /// In words, for a Close frame without a reason.
    pub meaning: &'static str,
    /// Whether the client comes back.
    pub then: Return,
}

/// Whether a client comes back by itself after this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// After the usual backoff.
    Yes,
    /// After a longer backoff: the server has more load than it can take, or more than it takes from this
    /// client.
    Slower,
    /// Not by itself, as the same would happen again.
    No,
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $then:ident, $meaning:literal;)+) => {
        impl CloseCode {
            $($(#[$doc])* pub const $name: Self = Self($code);)+

            /// All codes with a meaning in the protocol.
            pub const KNOWN: [CloseSchema; [$($code),+].len()] = [$(CloseSchema {
                code: Self::$name,
                meaning: $meaning,
                then: Return::$then,
            }),+];
        }
    };
}

close_codes! {
    /// The end of a connection that is done.
    NORMAL = 1000, Yes, "done";
    /// Server or client shuts down.
    GOING_AWAY = 1001, Yes, "the server is going away";
    /// A frame broke RFC 6455.
    PROTOCOL_ERROR = 1002, No, "a rule of WebSocket was broken";
    /// A message of a kind that the receiver does not take.
    UNSUPPORTED_DATA = 1003, No, "data of a kind that is not accepted";
    /// A text message was not UTF-8.
    INVALID_DATA = 1007, No, "a text that is not UTF-8";
    /// A rule of the server was broken.
    POLICY = 1008, No, "a rule was broken";
    /// A message exceeded the limit of bytes.
    TOO_BIG = 1009, No, "a message that is too large";
    /// An error within the server.
    SERVER_ERROR = 1011, Yes, "the server failed";
    /// The server is being restarted.
    RESTART = 1012, Yes, "the server restarts";
    /// The server has too much load.
    OVERLOADED = 1013, Slower, "the server is overloaded";
    /// Pending data was not read in time.
    STALLED = 4408, Yes, "what was sent was not read";
    /// The room is over: its last session left, or no request came for too long.
    ROOM_CLOSED = 4410, No, "the room is over";
    /// More requests a second than the limit.
    RATE_LIMITED = 4429, Slower, "too many requests";
}

impl CloseCode {
    /// Whether a client comes back by itself after this code. After an unknown one it does.
    #[must_use]
    pub fn then(self) -> Return {
        self.schema().map_or(Return::Yes, |known| known.then)
    }

    /// In words, for a Close frame without a reason.
    #[must_use]
    pub fn meaning(self) -> Option<&'static str> {
        self.schema().map(|known| known.meaning)
    }

    fn schema(self) -> Option<&'static CloseSchema> {
        const { &Self::KNOWN }.iter().find(|known| known.code == self)
    }

    /// Whether a peer may send this code (RFC 6455, section 7.4).
    #[must_use]
    pub fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
