//! Counts of a shard's connections and requests, for metrics. Pure; on the shard thread, added up on others.
//!
//! Invariant: counts only grow.

use crate::wire::schema::OPS;
use crate::wire::{CloseCode, Op};

/// Counts of a shard's connections and requests since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub opened: u64,
    /// By [`CloseCode::KNOWN`]; then [`GONE`], and one for all other codes.
    closed: [u64; CloseCode::KNOWN.len() + 2],
    /// By [`OPS`].
    requests: [u64; OPS.len()],
    /// Requests answered with an error.
    pub errors: u64,
}

/// A peer that was gone without a Close frame (RFC 6455, section 7.4.1).
pub(super) const GONE: CloseCode = CloseCode(1006);

impl Tally {
    /// Connections that ended, by the code of the first Close frame: ours or the client's.
    #[must_use]
    pub fn closed(&self) -> Vec<(String, u64)> {
        let known = CloseCode::KNOWN.iter().map(|known| known.code.to_string());
        known.chain([GONE.to_string(), "other".to_owned()]).zip(self.closed).collect()
    }

    /// Requests that could be read, by `op`.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, u64)> {
        OPS.iter().map(|op| op.name.to_owned()).zip(self.requests).collect()
    }

    /// The sum of two shards.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.opened += other.opened;
        self.errors += other.errors;
        self.closed.iter_mut().zip(other.closed).for_each(|(sum, count)| *sum += count);
        self.requests.iter_mut().zip(other.requests).for_each(|(sum, count)| *sum += count);
        self
    }

    pub(super) fn close(&mut self, code: CloseCode) {
        let known = CloseCode::KNOWN.iter().position(|known| known.code == code);
        let unknown = CloseCode::KNOWN.len() + usize::from(code != GONE);
        self.closed[known.unwrap_or(unknown)] += 1;
    }

    pub(super) fn request(&mut self, op: &Op) {
        self.requests[op.index()] += 1;
    }
}
