//! What a tape gives to a seek, and what it takes back. Any thread: plain data.
//! Invariant: the numbering is what the feed alone makes, up to the playhead.

use super::Numbering;
use super::playhead::Playhead;
use crate::market::{Event, Timestamp};

/// A copy of what a tape plays, to be played on next to it. The tape itself goes on.
pub struct Fork {
    pub playhead: Playhead,
    /// The tape's.
    pub numbering: Numbering,
    /// The tape's clock.
    pub now: Timestamp,
}

/// What a tape is to play from another moment on.
pub struct Attachment {
    pub playhead: Playhead,
    pub numbering: Numbering,
    /// The events that rebuild the market as of `now` from nothing. The tape begins anew with them.
    pub checkpoint: Vec<Event>,
    pub now: Timestamp,
}
