use crate::market::Tail;
use crate::tape::Position;
use std::collections::VecDeque;

/// The newest entries of a topic whose events must not be merged, each with its number and position.
///
/// Grows with what it holds; nothing is reserved for quiet topics.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    entries: VecDeque<(Position, T)>,
    capacity: usize,
    /// Number of the first entry held: how many were evicted.
    first: u64,
    /// Position of the newest entry evicted.
    evicted_at: Position,
}

/// The part of a ring that a reader at some position is owed.
#[derive(Debug)]
pub struct Run<'a, T> {
    /// Number of the first entry here, or of the next one to come where there is none.
    pub number: u64,
    /// Whether entries after the reader's position are gone, so that it must be told the number.
    pub broken: bool,
    /// Whether the reader, which had been told of the topic before, misses them.
    pub gap: bool,
    entries: &'a VecDeque<(Position, T)>,
    range: std::ops::Range<usize>,
}

impl<T> Ring<T> {
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), capacity, first: 0, evicted_at: Position::START }
    }

    /// A ring that goes on behind a tail; its entries are as new as `at`.
    #[must_use]
    pub fn restored(capacity: usize, tail: &Tail<T>, at: Position) -> Self
    where
        T: Clone,
    {
        let skip = tail.entries.len().saturating_sub(capacity);
        let entries: VecDeque<_> = tail.entries[skip..].iter().map(|entry| (at, entry.clone())).collect();
        let first = tail.first + skip as u64;
        Self { entries, capacity, first, evicted_at: if first == 0 { Position::START } else { at } }
    }

    /// What it holds, without positions.
    #[must_use]
    pub fn tail(&self) -> Tail<T>
    where
        T: Clone,
    {
        Tail { first: self.first, entries: self.entries.iter().map(|(_, entry)| entry.clone()).collect() }
    }

    pub fn push(&mut self, at: Position, entry: T) {
        if self.entries.len() >= self.capacity
            && let Some((evicted_at, _)) = self.entries.pop_front()
        {
            self.evicted_at = evicted_at;
            self.first += 1;
        }
        self.entries.push_back((at, entry));
    }

    /// How many entries it has had, those that were evicted included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Entries with `since < at <= upto`.
    #[must_use]
    pub fn owed(&self, since: Position, upto: Position) -> Run<'_, T> {
        let (from, to) = (self.after(since), self.after(upto));
        Run {
            number: self.first + from as u64,
            broken: self.evicted_at > since,
            gap: self.evicted_at > since && since > Position::START,
            entries: &self.entries,
            range: from..to.max(from),
        }
    }

    /// The positions next to `since` at which what is owed changes: of the entries before and after it, and of the newest evicted.
    pub(super) fn around(&self, since: Position) -> impl Iterator<Item = Position> {
        let after = self.owed(since, Position::MAX).range.start;
        let ends = [after.checked_sub(1), Some(after)].into_iter().flatten();
        std::iter::once(self.evicted_at).chain(ends.filter_map(|at| Some(self.entries.get(at)?.0)))
    }

    /// The index of the first entry after a position. Readers are nearly always close to the end, so the search begins there.
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
    pub fn newest(&self, count: usize) -> impl Iterator<Item = (u64, &T)> {
        let skip = self.entries.len().saturating_sub(count);
        let numbers = self.first + skip as u64..;
        numbers.zip(self.entries.iter().skip(skip).map(|(_, entry)| entry))
    }

    pub fn update_all(&mut self, mut change: impl FnMut(&mut T)) {
        self.entries.iter_mut().for_each(|(_, entry)| change(entry));
    }
}

impl<T> Run<'_, T> {
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.iter_from(0)
    }

    /// Without the first so many.
    pub fn iter_from(&self, skipped: usize) -> impl Iterator<Item = &T> {
        let start = self.range.start.saturating_add(skipped).min(self.range.end);
        self.entries.range(start..self.range.end).map(|(_, entry)| entry)
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
    fn entries_after_the_end_of_a_flush_wait_for_the_next_one() {
        check_owed(9, 4, 6, 8, "from 6: [6, 7]");
        check_owed(9, 4, 2, 4, "gap to 5: []");
    }
}
