//! The sessions of a view that are flushed together. Pure; on the shard thread.
//!
//! Invariant: `touched` names every topic of the view that changed after `flushed`.

use super::owed::Upto;
use super::topic::TopicKey;
use super::view::ViewId;
use crate::tape::Position;
use std::time::Duration;

/// The most sessions in a cohort. The tape can be folded between two cohorts, so a tick waits for the sends
/// to one of them (one or two milliseconds), not to all sessions of its view.
pub const COHORT: usize = 256;

/// Number of a cohort, as long as it has a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CohortId(pub(super) u32);

/// Sessions of one view that are flushed together, and what changed since their last flush.
#[derive(Debug)]
pub struct Cohort {
    pub(super) view: ViewId,
    /// A bit per topic of the view: whether it was touched since the last flush. Bits are in order by
    /// themselves and mark a topic once; an untouched topic costs a 64th of a word to skip.
    touched: Vec<u64>,
    is_dirty: bool,
    /// The last flush.
    flushed: Flushed,
    /// On its owner's clock: not flushed before, because of its rate.
    pub next_flush: Duration,
    /// Sorted: visited in the order of memory, and found by binary search.
    members: Vec<u32>,
}

/// The end of a cohort's last flush, and so the state of all its sessions in step. It is kept once, so that a
/// flush need not write to each of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flushed {
    pub upto: Upto,
    /// The view's count of changes then, modulo 2^32.
    pub(super) events: u32,
    /// Second of its owner's clock.
    pub second: u32,
}

/// The topics of a view that may have changed, with their numbers; made by [`Cohort::changed`].
#[derive(Clone, Debug)]
pub struct Changed<'a> {
    topics: &'a [TopicKey],
    /// `None`: all of them.
    touched: Option<&'a [u64]>,
    /// The word looked at, and its bits not yet returned.
    word: usize,
    bits: u64,
}

impl CohortId {
    /// Less than the most cohorts that ever existed at once.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Cohort {
    /// A cohort without sessions, as if it had just been flushed.
    pub(super) fn new(view: ViewId, topics: usize, flushed: Flushed, next_flush: Duration) -> Self {
        let mut cohort =
            Self { view, touched: Vec::new(), is_dirty: false, flushed, next_flush, members: Vec::new() };
        cohort.grow(topics);
        cohort
    }

    /// Makes room for the bits of so many topics.
    pub(super) fn grow(&mut self, topics: usize) {
        self.touched.resize(words(topics), 0);
    }

    /// The tape was reset: its view has so many topics now, and all are touched.
    pub(super) fn begin_anew(&mut self, topics: usize) {
        self.touched.clear();
        self.touched.resize(words(topics), u64::MAX);
        self.is_dirty = true;
    }

    #[must_use]
    pub fn view(&self) -> ViewId {
        self.view
    }

    /// Its sessions, sorted.
    #[must_use]
    pub fn members(&self) -> &[u32] {
        &self.members
    }

    pub(super) fn enter(&mut self, member: u32) {
        if let Err(at) = self.members.binary_search(&member) {
            self.members.insert(at, member);
        }
    }

    pub(super) fn leave(&mut self, member: u32) {
        if let Ok(at) = self.members.binary_search(&member) {
            self.members.remove(at);
        }
    }

    /// Those of its view's `topics` that may have changed after `since`, from number `next` on, sorted, with
    /// their numbers: the touched ones for a session that has the last flush, all for one with a lag.
    #[must_use]
    pub fn changed<'a>(&'a self, topics: &'a [TopicKey], since: Position, next: usize) -> Changed<'a> {
        let touched = (since >= self.flushed.upto.position).then_some(&*self.touched);
        let word = next / 64;
        let mut changed = Changed { topics, touched, word, bits: 0 };
        changed.bits = changed.word() & (u64::MAX << (next % 64));
        changed
    }

    #[must_use]
    pub fn flushed(&self) -> Flushed {
        self.flushed
    }

    /// Whether anything was touched since the last flush.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Marks topics, at least one, a bit each. Returns whether they are the first since the last flush.
    pub(super) fn touch(&mut self, touched: &[u64]) -> bool {
        for (known, touched) in self.touched.iter_mut().zip(touched) {
            *known |= touched;
        }
        !std::mem::replace(&mut self.is_dirty, true)
    }

    /// Notes the end of a flush.
    pub(super) fn flush(&mut self, flushed: Flushed) {
        self.flushed = flushed;
        self.touched.fill(0);
        self.is_dirty = false;
    }
}

/// Words of 64 bits for so many topics.
pub(super) fn words(topics: usize) -> usize {
    topics.div_ceil(64)
}

impl Changed<'_> {
    fn word(&self) -> u64 {
        match self.touched {
            Some(touched) => touched.get(self.word).copied().unwrap_or(0),
            None => u64::MAX,
        }
    }
}

impl Iterator for Changed<'_> {
    type Item = (usize, TopicKey);

    fn next(&mut self) -> Option<Self::Item> {
        while self.bits == 0 {
            self.word += 1;
            if self.word * 64 >= self.topics.len() {
                return None;
            }
            self.bits = self.word();
        }
        let number = self.word * 64 + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        // Past the last topic where all bits count as set.
        self.topics.get(number).map(|&topic| (number, topic))
    }
}
