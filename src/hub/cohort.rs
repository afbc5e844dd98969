use super::owed::Upto;
use super::topic::TopicKey;
use super::view::ViewId;
use crate::tape::Position;
use std::time::Duration;

/// Sessions in a cohort, at most. The tape can be folded between two of them: a tick then waits for the end of the sends to one, not to all
/// sessions of its view, and that end is one or two milliseconds away.
pub const COHORT: usize = 256;

/// Number of a cohort, for as long as it has a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CohortId(pub(super) u32);

/// Sessions of one view that are flushed in one go, and what happened to their topics since they last were.
#[derive(Debug)]
pub struct Cohort {
    pub(super) view: ViewId,
    /// A bit per topic of the view: whether it was touched since the last flush. Bits, because they are in order as they come and need no
    /// other record of what is marked already; a topic that is not touched costs a 64th of a word to pass over.
    touched: Vec<u64>,
    is_dirty: bool,
    /// The last flush: `touched` is all that has changed since.
    flushed: Flushed,
    /// On its owner's clock: not to be flushed before, for its rate.
    pub next_flush: Duration,
    /// Sorted: they are visited as they lie in memory, and found by halving.
    members: Vec<u32>,
}

/// Where the last flush of a cohort has brought it, and with it all of its sessions that are in step: what would be the same for each of
/// them is kept once, so that a flush need not write to them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flushed {
    pub upto: Upto,
    /// What the view had counted in changes, modulo 2^32.
    pub(super) events: u32,
    /// On its owner's clock.
    pub second: u32,
}

/// The topics of a view that may have changed, with their numbers; made by [`Cohort::changed`].
#[derive(Clone, Debug)]
pub struct Changed<'a> {
    topics: &'a [TopicKey],
    /// `None`: all of them.
    touched: Option<&'a [u64]>,
    /// The word looked at, and those of its bits that are still to come.
    word: usize,
    bits: u64,
}

impl CohortId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

impl Cohort {
    /// One without sessions, as if it had been flushed.
    pub(super) fn new(view: ViewId, topics: usize, flushed: Flushed, next_flush: Duration) -> Self {
        let mut cohort =
            Self { view, touched: Vec::new(), is_dirty: false, flushed, next_flush, members: Vec::new() };
        cohort.grow(topics);
        cohort
    }

    /// Its view has so many topics now.
    pub(super) fn grow(&mut self, topics: usize) {
        self.touched.resize(words(topics), 0);
    }

    /// All topics of its view, so many, are others than before.
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

    /// Those of its view's `topics` that may have changed after `since`, from number `next` on, sorted, with their numbers: those touched
    /// for a reader that is as far as the last flush, all for one further back.
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

    /// Takes down that topics were touched, one at least, a bit each. Returns whether they are the first since the last flush.
    pub(super) fn touch(&mut self, touched: &[u64]) -> bool {
        for (known, touched) in self.touched.iter_mut().zip(touched) {
            *known |= touched;
        }
        !std::mem::replace(&mut self.is_dirty, true)
    }

    /// A flush is over: nothing is touched since.
    pub(super) fn flush(&mut self, flushed: Flushed) {
        self.flushed = flushed;
        self.touched.fill(0);
        self.is_dirty = false;
    }
}

/// Words that have a bit for each of so many topics.
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
        // Past the end where all bits are taken for set.
        self.topics.get(number).map(|&topic| (number, topic))
    }
}
