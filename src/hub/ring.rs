//! The newest entries of a topic whose events must not be merged. Pure; any thread.
//!
//! Invariant: numbers count up by one without a hole, positions never decrease, and at most `capacity`
//! entries are held.

use crate::market::{Recalled, Tail};
use crate::tape::Position;
use std::collections::VecDeque;
use std::ops::Range;

/// The newest entries of a topic, each with its number and position.
///
/// It grows with what it holds; nothing is reserved for quiet topics.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    /// Restored entries that precede `entries`, all of one position.
    past: Option<Box<(Position, Recalled<T>)>>,
    entries: VecDeque<(Position, T)>,
    capacity: usize,
    /// Number of the first entry held, which is how many were evicted.
    first: u64,
    /// Position of the newest entry evicted.
    evicted_at: Position,
}

/// The part of a ring that is pending from some position.
#[derive(Debug)]
pub struct Run<'a, T> {
    /// Number of the first entry here, or of the next one to come where there is none.
    pub number: u64,
    /// Whether entries after that position are evicted, so that the number must be stated.
    pub broken: bool,
    /// Whether the client, which had the topic before, misses them, and is to be told so here: see
    /// [`Ring::misses`].
    pub gap: bool,
    /// Entries that are worked out from the restored past; they precede the others.
    recalled: Vec<T>,
    entries: &'a VecDeque<(Position, T)>,
    range: Range<usize>,
}

impl<T> Ring<T> {
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { past: None, entries: VecDeque::new(), capacity, first: 0, evicted_at: Position::START }
    }

    /// A ring that continues a tail; its entries get the position `at`.
    #[must_use]
    pub fn restored(capacity: usize, tail: &Tail<T>, at: Position) -> Self
    where
        T: Clone,
    {
        let skip = tail.len().saturating_sub(capacity);
        let past = tail.recalled.clone().map(|past| past.without(skip));
        let skipped = skip - skip.min(tail.recalled.as_ref().map_or(0, Recalled::len));
        let entries: VecDeque<_> = tail.entries[skipped..].iter().map(|entry| (at, entry.clone())).collect();
        let first = tail.first + skip as u64;
        Self {
            past: past.filter(|past| !past.is_empty()).map(|past| Box::new((at, past))),
            entries,
            capacity,
            first,
            evicted_at: if first == 0 { Position::START } else { at },
        }
    }

    fn recalled(&self) -> usize {
        self.past.as_ref().map_or(0, |past| past.1.len())
    }

    /// Its entries, without positions.
    #[must_use]
    pub fn tail(&self) -> Tail<T>
    where
        T: Clone,
    {
        let recalled = self.past.as_ref().map(|past| past.1.clone());
        let entries = self.entries.iter().map(|(_, entry)| entry.clone()).collect();
        Tail { first: self.first, recalled, entries }
    }

    pub fn push(&mut self, at: Position, entry: T) {
        if self.len() >= self.capacity {
            self.evict();
        }
        // Doubled as usual, but not beyond the capacity: for 600 entries that would be 1,024.
        let len = self.entries.len();
        if len == self.entries.capacity() {
            self.entries.reserve_exact(len.max(4).min(self.capacity.saturating_sub(len)));
        }
        self.entries.push_back((at, entry));
    }

    fn evict(&mut self) {
        if let Some(mut past) = self.past.take() {
            self.evicted_at = past.0;
            self.first += 1;
            past.1.forget_one();
            self.past = Some(past).filter(|past| !past.1.is_empty());
        } else {
            self.pop();
        }
    }

    /// Evicts the oldest entry that was pushed.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (evicted_at, entry) = self.entries.pop_front()?;
        debug_assert!(self.past.is_none(), "the past precedes it");
        self.evicted_at = evicted_at;
        self.first += 1;
        Some(entry)
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.recalled() + self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most entries it holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Entries so far, evicted ones included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.first + self.len() as u64
    }

    /// The number of the oldest entry that it holds, or of the next one to come if it is empty.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Entries with `since < at <= upto`.
    #[must_use]
    pub fn owed(&self, since: Position, upto: Position) -> Run<'_, T> {
        let (from, to) = (self.after(since), self.after(upto));
        // All of the past has one position, which precedes those of the entries.
        let (told, recalled) = match &self.past {
            Some(past) if past.0 <= since => (past.1.len(), Vec::new()),
            Some(past) if past.0 <= upto => (0, past.1.entries()),
            _ => (0, Vec::new()),
        };
        Run {
            number: self.first + (told + from) as u64,
            recalled,
            broken: self.evicted_at > since,
            gap: self.misses(since..upto),
            entries: &self.entries,
            range: from..to.max(from),
        }
    }

    /// Whether a client that has all up to the start of a flush misses entries that came after. If some that
    /// came after its end are evicted, too, that is said by the next flush, which would say the same again.
    #[inline]
    #[must_use]
    pub fn misses(&self, flush: Range<Position>) -> bool {
        flush.start > Position::START && flush.start < self.evicted_at && self.evicted_at <= flush.end
    }

    /// The positions next to `since` at which what is pending changes: of the entries before and after it,
    /// and of the newest evicted.
    pub(super) fn around(&self, since: Position) -> impl Iterator<Item = Position> {
        let after = self.after(since);
        let ends = [after.checked_sub(1), Some(after)].into_iter().flatten();
        let past = self.past.as_ref().map(|past| past.0);
        let ends = ends.filter_map(|at| Some(self.entries.get(at)?.0)).chain(past);
        std::iter::once(self.evicted_at).chain(ends)
    }

    /// The index of the first entry after a position. Sessions are nearly always close to the end, so the
    /// search begins there.
    fn after(&self, position: Position) -> usize {
        let len = self.entries.len();
        let is_after = |index: usize| self.entries[index].0 > position;
        let mut reach = 1;
        while reach <= len && is_after(len - reach) {
            reach *= 2;
        }
        // All before `low` are not after it, all from `high` on are.
        let (mut low, mut high) = ((len + 1).saturating_sub(reach), len - reach / 2);
        while low < high {
            let middle = usize::midpoint(low, high);
            if is_after(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        high
    }

    /// The newest entries, oldest first, with their numbers.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = (u64, T)>
    where
        T: Clone,
    {
        let skip = self.len().saturating_sub(count);
        let recalled = self.past.as_ref().filter(|past| past.1.len() > skip).map(|past| past.1.entries());
        let skipped = skip.saturating_sub(self.recalled());
        let kept = self.entries.iter().skip(skipped).map(|(_, entry)| entry.clone());
        let recalled = recalled.into_iter().flatten().skip(skip);
        (self.first + skip as u64..).zip(recalled.chain(kept))
    }

    pub fn update_all(&mut self, mut change: impl FnMut(&mut T)) {
        // The past is worked out from data that the change does not reach, so it becomes entries first.
        if let Some(past) = self.past.take() {
            let (at, past) = *past;
            past.entries().into_iter().rev().for_each(|entry| self.entries.push_front((at, entry)));
        }
        self.entries.iter_mut().for_each(|(_, entry)| change(entry));
    }
}

impl<T> Run<'_, T> {
    #[must_use]
    pub fn len(&self) -> usize {
        self.recalled.len() + self.range.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.iter_from(0)
    }

    /// The entries without the first `skipped`.
    pub fn iter_from(&self, skipped: usize) -> impl Iterator<Item = &T> {
        let recalled = &self.recalled[skipped.min(self.recalled.len())..];
        let skipped = skipped.saturating_sub(self.recalled.len());
        let start = self.range.start.saturating_add(skipped).min(self.range.end);
        recalled.iter().chain(self.entries.range(start..self.range.end).map(|(_, entry)| entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring of `capacity`, one entry a position: entry number n has position n + 1.
    #[track_caller]
    fn check_owed(published: u64, capacity: usize, since: u64, upto: u64, expected: &str) {
        let mut ring = Ring::new(capacity);
        for number in 0..published {
            ring.push(Position::new(number + 1), number);
        }
        let run = ring.owed(Position::new(since), Position::new(upto));
        let entries: Vec<u64> = run.iter().copied().collect();
        let word = if run.broken { "gap to" } else { "from" };
        assert_eq!(format!("{word} {}: {entries:?}", run.number), expected);
        assert_eq!(run.len(), entries.len());
    }

    #[test]
    fn a_ring_takes_no_room_for_more_than_it_may_hold() {
        let mut ring = Ring::new(600);
        (1..=2_000).for_each(|at| ring.push(Position::new(at), [0_u8; 64]));
        assert_eq!((ring.entries.len(), ring.entries.capacity()), (600, 600));
    }

    #[test]
    fn a_cursor_inside_the_ring_is_owed_every_entry() {
        check_owed(9, 4, 7, 9, "from 7: [7, 8]");
        check_owed(9, 4, 5, 9, "from 5: [5, 6, 7, 8]");
        check_owed(9, 4, 9, 9, "from 9: []");
        check_owed(0, 4, 0, 0, "from 0: []");
    }

    #[test]
    fn a_cursor_behind_the_ring_is_owed_an_exact_gap() {
        check_owed(9, 4, 2, 9, "gap to 5: [5, 6, 7, 8]");
    }

    #[test]
    fn what_is_lost_is_said_by_the_last_flush_that_would_say_it() {
        let mut ring = Ring::new(4);
        (1..=9).for_each(|at| ring.push(Position::new(at), at));
        // All up to 5 is evicted.
        let says = |since, upto| ring.owed(Position::new(since), Position::new(upto)).gap;
        assert_eq!(
            [says(0, 9), says(2, 3), says(2, 4), says(2, 5), says(2, 9)],
            [false, false, false, true, true]
        );
        assert_eq!([says(4, 9), says(5, 9)], [true, false]);
    }

    #[test]
    fn entries_after_the_end_of_a_flush_wait_for_the_next_one() {
        check_owed(9, 4, 6, 8, "from 6: [6, 7]");
        check_owed(9, 4, 2, 4, "gap to 5: []");
    }
}
