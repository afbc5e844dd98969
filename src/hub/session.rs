use super::cohort::{Cohort, CohortId};
use super::owed::{Since, Upto};
use super::replica::Replica;
use super::topic::{Topic, TopicKey};
use super::view::{View, ViewKey, ViewOptions, Views, low, resolve};
use crate::market::Timestamp;
use crate::tape::{Epoch, Position};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Topics one session may have; a set counts as one.
pub const MAX_TOPICS: usize = 1024;

/// One subscriber: a view and a position. What it is owed follows from these, so there is no queue.
///
/// Nearly all sessions of a cohort stand where its last flush has brought them. Those are *in step*: their position is the cohort's, and a
/// flush that each of them takes whole writes to none of them. A session falls out of step before anything is done for it alone, and falls
/// in again with a flush of its cohort.
#[derive(Debug)]
pub struct Session {
    cohort: CohortId,
    /// What its view had counted in changes when it last had them all told; modulo 2^32, as only differences matter.
    events_told: u32,
    /// [`Self::IN_STEP`]: where its cohort stands, of which `time` and `events_told` know nothing then.
    position: Position,
    time: Timestamp,
    /// What its position alone does not say; `None` in steady state.
    catch_up: Option<Box<CatchUp>>,
}

/// What a session still has to be told beyond its position: fresh topics, and the rest of a flush that needs several updates.
#[derive(Debug, Default)]
struct CatchUp {
    /// From where all topics are owed that `fresh` does not name; `None`: from the session's position. Of a session's first topics, which
    /// may be thousands, and stay fresh for as long as its peer does not read.
    first: Option<Position>,
    /// Topics added since the last whole flush, and from where each is owed.
    fresh: FxHashMap<TopicKey, Position>,
    /// A flush was begun and given up: what it told of rings may be told again, so every number is stated.
    restate: bool,
    begun: Option<Begun>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    next: usize,
    upto: Upto,
}

/// The flush that a session is due: to be told with [`super::tell`], from the view's topic number `next` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flush {
    pub next: usize,
    pub from: Upto,
    pub upto: Upto,
}

impl Flush {
    /// Whether it begins with the word that all is void which the session knows.
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
    /// No tape gets there.
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

    /// Leaves its view. To be called once, when the session ends.
    pub fn close(&self, key: u32, views: &mut Views) {
        views.leave(self.cohort, key);
    }

    /// Those it is flushed with, and where they stand.
    #[must_use]
    pub fn cohort<'v>(&self, views: &'v Views) -> &'v Cohort {
        views.cohort(self.cohort).expect("a session is in a cohort")
    }

    /// What it has subscribed to.
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

    /// Its place is its own from here on.
    pub fn fall_out(&mut self, cohort: &Cohort) {
        if self.is_in_step() {
            let flushed = cohort.flushed();
            Upto { position: self.position, time: self.time } = flushed.upto;
            self.events_told = flushed.events;
        }
    }

    /// It stands where the flush of its cohort ends that is just being made, and is owed nothing more.
    pub fn fall_in(&mut self) {
        debug_assert!(self.is_steady());
        self.position = Self::IN_STEP;
    }

    /// Of one that is out of step, as all that follows.
    #[must_use]
    pub fn position(&self) -> Position {
        self.upto().position
    }

    #[must_use]
    pub fn upto(&self) -> Upto {
        debug_assert!(!self.is_in_step(), "its cohort knows better");
        Upto { position: self.position, time: self.time }
    }

    /// Whether its position says all: no fresh topics, no flush half told.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        self.catch_up.is_none()
    }

    /// Whether its debt follows from the view and its flush alone, so that sessions with the same flush get the same bytes.
    #[must_use]
    pub fn shares(&self) -> bool {
        let shares =
            |catch_up: &CatchUp| catch_up.first.is_none() && catch_up.fresh.is_empty() && !catch_up.restate;
        self.catch_up.as_deref().is_none_or(shares)
    }

    /// Changes topics and options. New topics are owed from `since` if that is of this tape, else from the start.
    pub fn resubscribe(
        &mut self,
        key: u32,
        view: ViewKey,
        since: Option<(Epoch, Position)>,
        replica: &Replica,
        views: &mut Views,
    ) -> Subscribed {
        let resumed = since
            // From before the tape began anew nothing is left that could be gone on with.
            .filter(|&(epoch, at)| epoch == replica.epoch() && at >= replica.reset_at())
            // A client that comes from a shard or a node which was ahead of this one is told the little between again.
            .map(|(_, at)| at.min(replica.position()));
        self.fall_out(self.cohort(views));
        let before = self.view(views);
        let added: Vec<Topic> =
            view.topics.iter().filter(|t| before.key.topics.binary_search(t).is_err()).cloned().collect();
        let had = before.topics().to_vec();
        if before.key == view {
            return Subscribed { resumed: resumed.is_some() };
        }
        // The order of topics changes with the view: a flush half told begins anew.
        if let Some(catch_up) = &mut self.catch_up
            && catch_up.begun.take().is_some()
        {
            catch_up.restate = true;
        }
        let (added, from) = (resolve(&added, replica), resumed.unwrap_or(Position::START));
        if had.is_empty() && !added.is_empty() {
            let catch_up = self.catch_up.get_or_insert_default();
            catch_up.first = Some(from);
            catch_up.fresh.clear();
        } else {
            for topic in added.into_iter().filter(|topic| had.binary_search(topic).is_err()) {
                self.catch_up.get_or_insert_default().fresh.insert(topic, from);
            }
        }
        let untold = self.untold(before);
        self.close(key, views);
        self.cohort = views.enter(view, key, replica);
        self.events_told = low(self.view(views).events).wrapping_sub(untold);
        Subscribed { resumed: resumed.is_some() }
    }

    /// Changes of its topics that it was not told.
    #[must_use]
    pub fn untold(&self, view: &View) -> u32 {
        low(view.events).wrapping_sub(self.events_told)
    }

    /// From where it is owed a topic.
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
        // What was begun before the tape began anew has no rest.
        if let Some(Begun { next, upto }) = begun.filter(|begun| begun.upto.position >= replica.reset_at()) {
            Flush { next, from, upto }
        } else {
            let upto = Upto { position: replica.position(), time: replica.time() };
            Flush { next: 0, from, upto }
        }
    }

    /// The socket took an update of `delivered` values that told a flush up to the view's topic number `next`, and not to its
    /// end. Returns for how many changes of its topics they stand.
    pub fn told(&mut self, next: usize, upto: Upto, delivered: u64, view: &View) -> u64 {
        self.time = upto.time;
        self.catch_up.get_or_insert_default().begun = Some(Begun { next, upto });
        let told = self.untold(view).min(u32::try_from(delivered).unwrap_or(u32::MAX));
        self.events_told = self.events_told.wrapping_add(told);
        delivered
    }

    /// The socket took the update of `delivered` values that ends a flush. Returns for how many changes of its topics they stand: one each
    /// at least, as what it is told of fresh topics is news to it.
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
