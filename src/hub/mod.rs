//! What each subscriber is owed. Pure: no sockets, no clock of its own.
//!
//! A [`Replica`] is the tape folded into images and rings; [`Views`] are interned subscription sets that remember what was touched, and
//! whose sessions are flushed by [`Cohort`]s; a [`Session`] is a view and a position; [`tell`] says what follows from all three.

mod cohort; // those sessions of a view that are flushed in one go
mod image;
mod owed;
mod replica;
mod ring;
mod session;
mod topic;
mod view;

pub use cohort::{COHORT, Changed, Cohort, CohortId, Flushed};
pub use image::{BarImage, QuoteImage, bar_field, refinement};
pub use owed::{Owed, Since, Upto, tell};
pub use replica::{BARS_KEPT, Bars, Book, Market, Replica, TRADES_KEPT};
pub use ring::{Ring, Run};
pub use session::{Flush, MAX_TOPICS, Session, Subscribed};
pub use topic::{Kind, Scope, Topic, TopicError, TopicKey, nearest};
pub use view::{Form, View, ViewId, ViewKey, ViewOptions, Views};
