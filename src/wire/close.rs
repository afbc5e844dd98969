use std::fmt;

/// Why a connection ends, as its Close frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    pub const NORMAL: Self = Self(1000);
    pub const GOING_AWAY: Self = Self(1001);
    pub const PROTOCOL_ERROR: Self = Self(1002);
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    pub const INVALID_DATA: Self = Self(1007);
    pub const POLICY: Self = Self(1008);
    pub const TOO_BIG: Self = Self(1009);
    pub const SERVER_ERROR: Self = Self(1011);
    pub const RESTART: Self = Self(1012);
    pub const OVERLOADED: Self = Self(1013);
    /// Owed data was not read in time.
    pub const STALLED: Self = Self(4408);
    /// The room is over: its last session has left, or nothing was asked in it for too long.
    pub const ROOM_CLOSED: Self = Self(4410);
    /// Too many requests.
    pub const RATE_LIMITED: Self = Self(4429);

    /// Whether a client that is closed so may come back by itself.
    #[must_use]
    pub fn may_return(self) -> bool {
        !matches!(
            self,
            Self::PROTOCOL_ERROR
                | Self::UNSUPPORTED_DATA
                | Self::INVALID_DATA
                | Self::POLICY
                | Self::TOO_BIG
                | Self::ROOM_CLOSED
        )
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
