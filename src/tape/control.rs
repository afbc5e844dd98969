use super::Position;
use super::playhead::Playhead;
use crate::market::{Event, FeedStatus, Instruments, Speed, Timestamp};
use std::time::Duration;

/// What may be asked of a tape that plays a feed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Control {
    /// Nothing; the answer tells how things are.
    Look,
    Play,
    Pause,
    Speed(Speed),
    /// Pauses, and goes on by so much.
    Step(Step),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One quote, trade or status.
    Event,
    /// All that happens within so much of the feed's time.
    Interval(Duration),
}

/// What a tape plays, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Playing {
    pub status: FeedStatus,
    /// The tape's clock.
    pub now: Timestamp,
    /// How much later than recorded that is, in ns: more with each round of what is played again and again.
    pub shift: i64,
}

/// The feed taken off a tape, which stands still meanwhile: for whoever winds it to another moment and puts it on again.
pub struct Detached {
    /// `None` where the feed has ended.
    pub playhead: Option<Playhead>,
    /// The tape's own.
    pub instruments: Instruments,
    /// The tape's last position and its clock.
    pub position: Position,
    pub now: Timestamp,
    /// Nothing but this feed is on the tape since it last began anew: what a replica knows came out of it.
    pub is_pure: bool,
}

/// A feed to be put on a tape.
pub struct Attachment {
    /// `None`: it has ended.
    pub playhead: Option<Playhead>,
    pub instruments: Instruments,
    /// The events that make the market as of `now` out of nothing, with which the tape begins anew; `None`: it goes on as it was.
    pub checkpoint: Option<Vec<Event>>,
    pub now: Timestamp,
}
