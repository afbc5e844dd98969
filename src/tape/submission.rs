//! What producers put on a log. Any thread: plain data.
//! Invariant: a submission has the same effect wherever it is read.

use super::{Numbering, Position};
use crate::feed::publish::{Published, Rejected};
use crate::market::{Event, Timestamp};

/// What a producer puts on a log.
#[derive(Clone, Debug)]
pub struct Submission {
    pub id: SubmissionId,
    /// The producer's clock. An earlier time than that of the entry before is raised to it when it is read,
    /// unless the tape begins [anew](Content::Anew).
    pub time: Timestamp,
    pub content: Content,
}

/// Identifies a submission, so that one that is on a log twice counts once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubmissionId {
    /// Random; no other producer on this log has it.
    pub producer: u64,
    /// How many this producer has appended, including this one.
    pub number: u64,
}

#[derive(Clone, Debug)]
pub enum Content {
    /// What a player submits, in its feed's numbers of instruments; empty if only time passes. A log has one
    /// player at a time.
    Played(Vec<Event>),
    Published(Publication),
    Anew(Box<Anew>),
}

/// Events from outside that go on the tape together, by symbol and in decimals.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// Each with its publisher's number for it, from 1.
    pub events: Vec<(usize, Published)>,
}

/// The outcome of a publication.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    /// Of the batch that holds its valid events; of the newest batch if nothing was put on the tape.
    pub position: Position,
    /// Events that were put on the tape.
    pub accepted: usize,
    pub rejected: Rejected,
}

/// The tape begins anew, at another moment or with another feed: everything known before is void.
#[derive(Clone, Debug)]
pub struct Anew {
    /// How instruments are numbered from here on; `None`: as they were.
    pub numbering: Option<Numbering>,
    /// The events that rebuild the market from nothing, in the numbers that hold from here on.
    pub events: Vec<Event>,
}
