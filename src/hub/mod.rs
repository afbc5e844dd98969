//! What is pending for each subscriber. Pure: no sockets and no clock of its own; a shard thread calls all of
//! it, other threads fold replicas too.
//!
//! A [`Replica`] is the tape folded into images and rings. [`Views`] are interned subscription sets that note
//! what was touched; a [`Cohort`] is the sessions of one view that are flushed together. A [`Session`] is a
//! view and a position. [`tell`] delivers what follows from these.
//!
//! Invariant: what is pending for a session follows from the replica, its view and its position. No session
//! has a queue.

mod amend; // trades that are broken or corrected
mod channel; // messages and states of a channel
mod cohort; // sessions of a view that are flushed together
#[warn(missing_docs)]
mod image;
mod membership;
mod owed;
mod poll; // clients without a session
mod replica;
mod ring;
mod session;
#[warn(missing_docs)]
mod stats; // what the topic `stats` holds
#[warn(missing_docs)]
mod topic;
mod view;

pub use channel::{Channel, ChannelEntries, StateRun};
pub use cohort::{COHORT, Changed, Cohort, CohortId, Flushed};
pub use image::*; // a new image needs no line here
pub use membership::Moves;
pub use owed::{Due, Entries, Owed, Since, Upto, tell};
pub use poll::Poll;
pub use replica::{BARS_KEPT, Bars, Book, Market, Replica, TRADES_KEPT};
pub use ring::{Ring, Run};
pub use session::{Flush, MAX_TOPICS, Session, Subscribed};
pub use stats::{
    FeedStats, LatencyStats, RecordingStats, ServerStats, SessionStats, ShardStats, SlowSession, TapeStats,
    TopicStats, TopicsStats,
};
pub use topic::{ChannelId, Kind, Scope, Subject, Topic, TopicError, TopicKey};
pub use view::{FormId, View, ViewId, ViewKey, ViewOptions, Views};
