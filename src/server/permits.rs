//! Connection permits: concurrent handshakes cannot exceed the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A limited number of connections at a time.
#[derive(Clone, Debug)]
pub(super) struct Permits {
    taken: Arc<AtomicUsize>,
    all: usize,
}

/// One connection's permit. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Permits {
    pub fn new(all: usize) -> Self {
        Self { taken: Arc::default(), all }
    }

    /// `None` if all are taken.
    pub fn take(&self) -> Option<Permit> {
        let one_more = |taken| (taken < self.all).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Permit(Arc::clone(&self.taken)))
    }

    pub fn all(&self) -> usize {
        self.all
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_that_is_given_up_can_be_taken_again() {
        let permits = Permits::new(2);
        let (first, second) = (permits.take(), permits.take());
        assert!(first.is_some() && second.is_some() && permits.take().is_none());
        drop(first);
        assert_eq!(permits.taken(), 1);
        assert!(permits.take().is_some());
    }
}
