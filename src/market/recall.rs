use super::{Bar, Interval, Trade};
use std::fmt;
use std::sync::Arc;

/// What happened to an instrument before its tape began, computed on request: it is the same each time, and
/// takes no memory.
pub trait Recall: fmt::Debug + Send + Sync {
    /// The newest trades, oldest first.
    fn trades(&self) -> Vec<Trade>;
    /// The newest closed bars of a width, oldest first.
    fn bars(&self, interval: Interval) -> Vec<Bar>;
}

/// The entries of one ring that are recalled.
#[derive(Clone)]
pub struct Recalled<T> {
    past: Arc<dyn Recall>,
    all: fn(&dyn Recall) -> Vec<T>,
    /// How many of the oldest are forgotten.
    forgotten: usize,
    /// How many are left.
    len: usize,
}

impl<T> Recalled<T> {
    /// The entries that `all` returns, which must always be the same `len` ones.
    #[must_use]
    pub fn new(past: Arc<dyn Recall>, all: fn(&dyn Recall) -> Vec<T>, len: usize) -> Self {
        Self { past, all, forgotten: 0, len }
    }

    /// Without the forgotten ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<T> {
        let mut entries = (self.all)(&*self.past);
        entries.drain(..self.forgotten);
        entries
    }

    /// Forgets the oldest, if there is one.
    pub fn forget_one(&mut self) {
        if self.len > 0 {
            (self.forgotten, self.len) = (self.forgotten + 1, self.len - 1);
        }
    }

    /// Without this many of the oldest.
    #[must_use]
    pub fn without(self, count: usize) -> Self {
        let count = count.min(self.len);
        Self { forgotten: self.forgotten + count, len: self.len - count, ..self }
    }
}

impl<T: fmt::Debug> fmt::Debug for Recalled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries().fmt(f)
    }
}
