use crate::wire::{CloseCode, Op};

/// What became of a shard's connections and their requests since it exists.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub opened: u64,
    /// By [`CODES`]; behind them one place for all codes that clients make up.
    closed: [u64; CODES.len() + 1],
    /// By [`OPS`].
    requests: [u64; OPS.len()],
    /// Requests answered with an error.
    pub errors: u64,
}

/// A peer that was gone without a Close frame, as the RFC has it (section 7.4.1).
pub(super) const GONE: CloseCode = CloseCode(1006);

const CODES: [CloseCode; 14] = [
    CloseCode::NORMAL,
    CloseCode::GOING_AWAY,
    CloseCode::PROTOCOL_ERROR,
    CloseCode::UNSUPPORTED_DATA,
    GONE,
    CloseCode::INVALID_DATA,
    CloseCode::POLICY,
    CloseCode::TOO_BIG,
    CloseCode::SERVER_ERROR,
    CloseCode::RESTART,
    CloseCode::OVERLOADED,
    CloseCode::STALLED,
    CloseCode::ROOM_CLOSED,
    CloseCode::RATE_LIMITED,
];

const OPS: [&str; 8] = ["subscribe", "unsubscribe", "ping", "stats", "checksum", "auth", "fault", "replay"];

impl Tally {
    /// Connections that ended, by the code of the Close frame that ended them: ours, or the client's where it closed first.
    #[must_use]
    pub fn closed(&self) -> Vec<(String, u64)> {
        let names = CODES.iter().map(ToString::to_string).chain(["other".to_owned()]);
        names.zip(self.closed).collect()
    }

    /// Requests that were understood, by `op`.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, u64)> {
        OPS.iter().map(ToString::to_string).zip(self.requests).collect()
    }

    pub(super) fn close(&mut self, code: CloseCode) {
        let at = CODES.iter().position(|&known| known == code).unwrap_or(CODES.len());
        self.closed[at] += 1;
    }

    pub(super) fn request(&mut self, op: &Op) {
        let at = match op {
            Op::Subscribe { .. } => 0,
            Op::Unsubscribe { .. } => 1,
            Op::Ping => 2,
            Op::Stats { .. } => 3,
            Op::Checksum { .. } => 4,
            Op::Auth => 5,
            Op::Replay(_) => 7,
            Op::Fault { .. } => 6,
        };
        self.requests[at] += 1;
    }
}
