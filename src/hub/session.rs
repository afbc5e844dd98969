//! One subscriber: a view and a position. Pure; on the shard thread.
//!
//! Invariant: everything up to `position` was delivered, except for the topics and the rest that `catch_up`
//! names.
//!
//! ```text
//!                 fall_in: a flush of its cohort ends
//!               +------------------------------------+
//!               |                                    v
//!          OUT OF STEP                            IN STEP
//!      has its own position           its position is the cohort's
//!               ^                                    |
//!               +------------------------------------+
//!                fall_out: something is done for it alone
//!
//! Out of step:
//!      STEADY ---- told: a part of a flush ----> BEGUN
//!      (position says all)                       (next topic is noted)
//!        ^  |                                      |
//!        |  +-- resubscribe: new topics --> FRESH  |
//!        |                                    |    |
//!        +--- reached: the flush ends --------+----+
//! BEGUN -- resubscribe --> FRESH: the flush starts again, and every number is stated.
//! ```

use super::cohort::{Cohort, CohortId};
use super::membership::Membership;
use super::owed::{Due, Since, Upto};
use super::replica::Replica;
use super::topic::{Topic, TopicKey};
use super::view::{View, ViewKey, ViewOptions, Views, low, membership, resolve};
use crate::market::Timestamp;
use crate::tape::{Epoch, Position};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The most topics of one session; a set counts as one.
pub const MAX_TOPICS: usize = 1024;

/// One subscriber. What is pending for it follows from its view and its position, so there is no queue.
///
/// Nearly all sessions of a cohort are *in step*: their position is the cohort's, and a flush that fits into
/// one frame writes to none of them. A session falls out of step before anything is done for it alone, and in
/// step again with a flush of its cohort.
#[derive(Debug)]
pub struct Session {
    cohort: CohortId,
    /// Its view's count of changes when all of them were last delivered; modulo 2^32, as only differences
    /// matter.
    events_told: u32,
    /// [`Self::IN_STEP`]: its cohort's, and then `time` and `events_told` are stale.
    position: Position,
    time: Timestamp,
    /// What is pending beyond its position; `None` in steady state.
    catch_up: Option<Box<CatchUp>>,
}

/// What is pending beyond a session's position: new topics, and the rest of a flush that needs several
/// updates.
#[derive(Debug, Default)]
struct CatchUp {
    /// From where all topics are pending that `fresh` does not name; `None`: from the session's position. Set
    /// for a session's first topics, which may be thousands, and stay so as long as its client does not read.
    first: Option<Position>,
    /// Topics added since the last complete flush, and from where each is pending.
    fresh: FxHashMap<TopicKey, Position>,
    /// A flush was begun and given up: its entries of rings may be sent again, so every number is stated.
    restate: bool,
    begun: Option<Begun>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    next: usize,
    upto: Upto,
}

/// The flush that is due for a session: to be delivered with [`super::tell`], from the view's topic number
/// `next` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flush {
    pub next: usize,
    pub from: Upto,
    pub upto: Upto,
}

impl Flush {
    /// Whether it begins with a reset: all that the client knows is void.
    #[must_use]
    pub fn resets(&self, replica: &Replica) -> bool {
        self.next == 0 && self.from.position < replica.reset_at()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Whether the client's position was one of this tape; `false` also where it gave none.
    pub resumed: bool,
}

impl Session {
    /// No tape gets that far.
    const IN_STEP: Position = Position::MAX;

    /// A session without topics, at the tape's end.
    pub fn open(key: u32, options: ViewOptions, replica: &Replica, views: &mut Views) -> Self {
        let cohort = views.enter(ViewKey { topics: Arc::new([]), options }, key, replica);
        let mut session = Self {
            cohort,
            events_told: 0,
            position: replica.position(),
            time: replica.time(),
            catch_up: None,
        };
        session.events_told = low(session.view(views).events);
        session
    }

    /// Leaves its view. Call it once, when the session ends.
    pub fn close(&self, key: u32, views: &mut Views) {
        views.leave(self.cohort, key);
    }

    /// The sessions it is flushed with, and their last flush.
    #[must_use]
    pub fn cohort<'v>(&self, views: &'v Views) -> &'v Cohort {
        views.cohort(self.cohort).expect("a session is in a cohort")
    }

    /// Its subscriptions.
    #[must_use]
    pub fn view<'v>(&self, views: &'v Views) -> &'v View {
        views.view(self.cohort(views))
    }

    #[must_use]
    pub fn cohort_id(&self) -> CohortId {
        self.cohort
    }

    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.position == Self::IN_STEP
    }

    /// It has its own position from here on.
    pub fn fall_out(&mut self, cohort: &Cohort) {
        if self.is_in_step() {
            let flushed = cohort.flushed();
            Upto { position: self.position, time: self.time } = flushed.upto;
            self.events_told = flushed.events;
        }
    }

    /// It has reached the end of its cohort's flush, and nothing more is pending.
    pub fn fall_in(&mut self) {
        debug_assert!(self.is_steady());
        self.position = Self::IN_STEP;
    }

    /// Only out of step, as all that follows.
    #[must_use]
    pub fn position(&self) -> Position {
        self.upto().position
    }

    #[must_use]
    pub fn upto(&self) -> Upto {
        debug_assert!(!self.is_in_step(), "its cohort knows better");
        Upto { position: self.position, time: self.time }
    }

    /// Whether its position says all: no new topics, no flush in part.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        self.catch_up.is_none()
    }

    /// Whether what is pending follows from the view and its flush alone, so that sessions with the same
    /// flush get the same bytes.
    #[must_use]
    pub fn shares(&self) -> bool {
        let shares =
            |catch_up: &CatchUp| catch_up.first.is_none() && catch_up.fresh.is_empty() && !catch_up.restate;
        self.catch_up.as_deref().is_none_or(shares)
    }

    /// Changes topics and options. New topics are pending from `since` if that is of this tape, else from the
    /// start. Channels outlive a reset, so theirs are pending from `since` also where that lies before one.
    pub fn resubscribe(
        &mut self,
        key: u32,
        view: ViewKey,
        since: Option<(Epoch, Position)>,
        replica: &Replica,
        views: &mut Views,
    ) -> Subscribed {
        let had = since
            .filter(|&(epoch, _)| epoch == replica.epoch())
            // A client from a shard or node that was ahead of this one receives the little between again.
            .map(|(_, at)| at.min(replica.position()));
        // From before a reset nothing of the market is left to resume from.
        let resumed = had.filter(|&at| at >= replica.reset_at());
        self.fall_out(self.cohort(views));
        let before = self.view(views);
        if before.key == view {
            return Subscribed { resumed: resumed.is_some() };
        }
        let from = resumed.unwrap_or(Position::START);
        let is_new = |topic: &&Topic| before.key.topics.binary_search(topic).is_err();
        let added: Vec<Topic> = view.topics.iter().filter(is_new).cloned().collect();
        let (mut fresh, untold) = (resolve(&added, replica), self.untold(before));
        let is_first = before.topics().is_empty() && !fresh.is_empty();
        if !is_first {
            fresh.retain(|&topic| !self.goes_on(topic, replica, views));
        }
        // The order of topics changes with the view: a flush in part starts again.
        if let Some(catch_up) = &mut self.catch_up
            && catch_up.begun.take().is_some()
        {
            catch_up.restate = true;
        }
        if is_first {
            let catch_up = self.catch_up.get_or_insert_default();
            catch_up.first = Some(from);
            catch_up.fresh.clear();
            if let Some(had) = had.filter(|_| resumed.is_none()) {
                let of_channels = fresh.into_iter().filter(|topic| topic.kind.is_of_channels());
                catch_up.fresh.extend(of_channels.map(|topic| (topic, had)));
            }
        } else {
            for topic in fresh {
                if topic.kind.is_of_channels() {
                    let from = had.unwrap_or(Position::START);
                    self.catch_up.get_or_insert_default().fresh.insert(topic, from);
                    continue;
                }
                let mut from = had_upto(topic, from, &added, &view.topics, replica);
                if let Some(had) = self.had_of_left(topic, &view.topics, replica, views) {
                    from = if from == Position::START { had } else { had.min(from) };
                }
                self.catch_up.get_or_insert_default().fresh.insert(topic, from);
            }
        }
        self.close(key, views);
        self.cohort = views.enter(view, key, replica);
        self.events_told = low(self.view(views).events).wrapping_sub(untold);
        Subscribed { resumed: resumed.is_some() }
    }

    /// Whether a topic is watched already and need not start again. It must where it is pending that it
    /// joined.
    fn goes_on(&self, topic: TopicKey, replica: &Replica, views: &Views) -> bool {
        let due = || self.view(views).due(topic, self.since(topic), self.position, replica.position());
        views.watches(self.cohort, topic) && matches!(due(), Due::Changes(_))
    }

    /// Up to where a resuming client has a topic that left its sets since, if that is still pending and the
    /// topic is in none of those `wanted` either: a new request for it must not drop that notice.
    fn had_of_left(
        &self,
        topic: TopicKey,
        wanted: &[Topic],
        replica: &Replica,
        views: &Views,
    ) -> Option<Position> {
        let had = self.since(topic).position;
        let is_resumed = had != Position::START && self.view(views).has_moved(topic);
        (is_resumed && !is_there(wanted, topic, replica)).then_some(had)
    }

    /// Changes of its topics that are pending, modulo 2^32.
    #[must_use]
    pub fn untold(&self, view: &View) -> u32 {
        low(view.events).wrapping_sub(self.events_told)
    }

    /// From where a topic is pending.
    #[must_use]
    pub fn since(&self, topic: TopicKey) -> Since {
        match &self.catch_up {
            None => Since { position: self.position, numbered: false },
            Some(catch_up) => match catch_up.fresh.get(&topic).copied().or(catch_up.first) {
                Some(position) => Since { position, numbered: true },
                None => Since { position: self.position, numbered: catch_up.restate },
            },
        }
    }

    /// The flush that brings it to the tape's end, or the rest of the one that was begun.
    #[must_use]
    pub fn flush(&self, replica: &Replica) -> Flush {
        let from = self.upto();
        let begun = self.catch_up.as_ref().and_then(|catch_up| catch_up.begun);
        // A flush that was begun before a reset has no rest.
        if let Some(Begun { next, upto }) = begun.filter(|begun| begun.upto.position >= replica.reset_at()) {
            Flush { next, from, upto }
        } else {
            let upto = Upto { position: replica.position(), time: replica.time() };
            Flush { next: 0, from, upto }
        }
    }

    /// The socket took an update of `delivered` values that is a part of a flush, up to the view's topic
    /// number `next`. Returns how many changes of its topics they represent.
    pub fn told(&mut self, next: usize, upto: Upto, delivered: u64, view: &View) -> u64 {
        self.time = upto.time;
        self.catch_up.get_or_insert_default().begun = Some(Begun { next, upto });
        let told = self.untold(view).min(u32::try_from(delivered).unwrap_or(u32::MAX));
        self.events_told = self.events_told.wrapping_add(told);
        delivered
    }

    /// The socket took the update of `delivered` values that ends a flush. Returns how many changes of its
    /// topics they represent: at least one each, as all of a new topic is new to the client.
    #[inline]
    pub fn reached(&mut self, upto: Upto, delivered: u64, view: &View) -> u64 {
        self.position = upto.position;
        self.time = upto.time;
        self.catch_up = None;
        let untold = self.untold(view);
        self.events_told = low(view.events);
        delivered.max(u64::from(untold))
    }
}

/// Up to where a client has a topic of `added`, if it has these up to `from`. Of what moved into these sets
/// after that it has nothing. A topic that has left them since is still reported as left, unless another of
/// those `wanted` covers it.
fn had_upto(
    topic: TopicKey,
    from: Position,
    added: &[Topic],
    wanted: &[Topic],
    replica: &Replica,
) -> Position {
    let since = Since { position: from, numbered: true };
    let due = |those: Membership| those.due(since, from, replica.position());
    let stayed = membership(added, topic, replica).is_none_or(|those| matches!(due(those), Due::Changes(_)));
    if stayed || !is_there(wanted, topic, replica) { from } else { Position::START }
}

/// Whether a topic belongs to those `wanted` now.
fn is_there(wanted: &[Topic], topic: TopicKey, replica: &Replica) -> bool {
    membership(wanted, topic, replica).is_none_or(|those| those.is_there())
}
