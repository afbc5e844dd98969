use super::{Feed, FeedError, LeftOut};
use crate::market::{Event, FeedKind, Instruments, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop, set from any thread: long reads check it now and then. A child is also set by its
/// parent.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Wish>);

#[derive(Debug, Default)]
struct Wish {
    is_set: AtomicBool,
    of: Option<Stop>,
}

impl Stop {
    /// A child, which is set with this one, or by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(Arc::new(Wish { is_set: AtomicBool::new(false), of: Some(self.clone()) }))
    }

    pub fn set(&self) {
        self.0.is_set.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.is_set.load(Ordering::Relaxed) || self.0.of.as_ref().is_some_and(Self::is_set)
    }
}

/// A feed that ends when its [`Stop`] is set. It is the innermost wrapper, next to the reader: outer feeds
/// skip much of what it reads, and would not check in the meantime.
pub(super) struct Stoppable {
    feed: Box<dyn Feed>,
    stop: Stop,
}

impl Stoppable {
    pub fn new(feed: Box<dyn Feed>, stop: Stop) -> Self {
        Self { feed, stop }
    }
}

impl Feed for Stoppable {
    fn kind(&self) -> FeedKind {
        self.feed.kind()
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        if self.stop.is_set() { Ok(None) } else { self.feed.next(instruments, out) }
    }

    fn fork(&self) -> Option<Box<dyn Feed>> {
        Some(Box::new(Self { feed: self.feed.fork()?, stop: self.stop.clone() }))
    }

    fn left_out(&self) -> u64 {
        self.feed.left_out()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        self.feed.left_out_by_kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Only;
    use crate::feed::script::{Script, play};
    use crate::market::Symbol;

    #[test]
    fn what_passes_over_all_it_reads_ends_all_the_same() {
        let stop = Stop::default();
        let inner = Stoppable::new(Box::new(Script::new("1:A=1 2:B=2")), stop.child());
        stop.set();
        let mut only = Only::new(Box::new(inner), [Symbol::new("A").unwrap()]);
        assert_eq!(play(&mut only), ["the symbols asked for: nothing was there of A"]);
    }

    #[test]
    fn a_child_is_set_by_itself_or_with_its_parent() {
        let parent = Stop::default();
        let (one, other) = (parent.child(), parent.child());
        one.set();
        assert_eq!((parent.is_set(), one.is_set(), other.is_set()), (false, true, false));
        parent.set();
        assert!(other.is_set());
    }
}
