//! What is pending for a client that keeps its position itself, and has no session. Pure; any thread that has
//! a replica.
//!
//! Invariant: it follows from the replica and the fields of [`Poll`] alone, and is what a session with these
//! topics is owed at that position.

use super::channel::ChannelEntries;
use super::image::Image;
use super::membership::Membership;
use super::owed::{Due, Entries, Owed, Since, tell};
use super::replica::Replica;
use super::stats::ServerStats;
use super::topic::{Kind, Topic, TopicKey};
use super::view::{membership, resolve};
use crate::market::{FeedStatus, Instrument, Status, Symbol};
use crate::tape::Position;

/// The topics of a client, and how far it has them.
#[derive(Clone, Copy, Debug)]
pub struct Poll<'a> {
    /// Those it has up to `from`.
    pub topics: &'a [Topic],
    /// Those it does not have yet: all of each is pending.
    pub new: &'a [Topic],
    pub from: Position,
    /// The end of the answer.
    pub upto: Position,
    /// The topic that the rest of an answer begins with.
    pub next: Option<TopicKey>,
}

impl Poll<'_> {
    /// Delivers what is pending to `sink` until that is full, as [`tell`] does. Returns the first topic that
    /// was not delivered, if there is one.
    ///
    /// Topics are named, not counted: an instrument that is new when the rest is asked for moves no other.
    pub fn tell(&self, replica: &Replica, sink: &mut impl Owed) -> Option<TopicKey> {
        let all = [self.topics, self.new].concat();
        let topics = resolve(&all, replica);
        let (had, new) = match self.new {
            [] => Default::default(),
            new => (resolve(self.topics, replica), resolve(new, replica)),
        };
        let stayed = |membership: Membership| membership.was_there(self.from);
        let has = |topic| {
            had.binary_search(&topic).is_ok() && membership(self.topics, topic, replica).is_none_or(stayed)
        };
        let first = self.next.map_or(0, |next| topics.partition_point(|&topic| topic < next));
        let due = |topic| {
            // A new topic may cover what an old one does.
            let is_new = new.binary_search(&topic).is_ok() && !has(topic);
            let position = if is_new { Position::START } else { self.from };
            let since = Since { position, numbered: true };
            // What never belonged to the topics has not left them.
            let known = if position == Position::START { self.upto } else { position };
            match membership(&all, topic, replica) {
                None => Due::Changes(since),
                Some(membership) => membership.due(since, known, self.upto),
            }
        };
        let rest = (first..).zip(topics[first..].iter().copied());
        tell(replica, rest, due, self.upto, sink).map(|number| topics[number])
    }

    /// Whether anything is pending.
    #[must_use]
    pub fn is_pending(&self, replica: &Replica) -> bool {
        let mut anything = Anything(self.from < replica.reset_at());
        self.tell(replica, &mut anything);
        anything.0
    }
}

/// Notes whether it was given anything that a client learns something from, and takes no more then.
struct Anything(bool);

impl Owed for Anything {
    fn reset(&mut self) {
        self.0 = true;
    }

    fn definition(&mut self, _: &Instrument) {
        self.0 = true;
    }

    fn image(&mut self, _: &Instrument, _: Kind, _: u16, _: Image<'_>) {
        self.0 = true;
    }

    fn ring(&mut self, _: &Instrument, _: Kind, _: bool, entries: Entries<'_>) {
        self.0 |= entries.count() > 0;
    }

    fn status(&mut self, _: Option<&Instrument>, _: &Status) {
        self.0 = true;
    }

    fn feed(&mut self, _: &FeedStatus) {
        self.0 = true;
    }

    fn stats(&mut self, _: &ServerStats) {
        self.0 = true;
    }

    fn channel(&mut self, _: &Symbol, _: &ChannelEntries<'_>) {
        self.0 = true;
    }

    fn joined(&mut self, _: &Instrument, _: Kind) {
        self.0 = true;
    }

    fn left(&mut self, _: &Instrument, _: Kind) {
        self.0 = true;
    }

    fn is_full(&self) -> bool {
        self.0
    }
}
