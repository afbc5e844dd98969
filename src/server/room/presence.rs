//! The guests of a room: each from its admission until its connection is gone.

use crate::server::permits::Permit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(in crate::server) struct Presence {
    /// How many have been admitted, and how many of them have left.
    came: AtomicU64,
    left: AtomicU64,
    changed: Notify,
}

/// A guest of a room, with its connection's permit.
#[derive(Debug)]
pub(in crate::server) struct Guest {
    presence: Arc<Presence>,
    _permit: Permit,
}

impl Presence {
    pub fn enter(self: &Arc<Self>, permit: Permit) -> Guest {
        self.came.fetch_add(1, Ordering::SeqCst);
        Guest { presence: Arc::clone(self), _permit: permit }
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        // A guest leaves after it came, so in this order the counts are equal only if the room was empty.
        let left = self.left.load(Ordering::SeqCst);
        left == self.came.load(Ordering::SeqCst)
    }

    /// How many have been admitted so far.
    pub fn came(&self) -> u64 {
        self.came.load(Ordering::SeqCst)
    }

    /// Waits until all have left. A new guest may be there by then.
    pub async fn left(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_empty() {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.presence.left.fetch_add(1, Ordering::SeqCst);
        // A concurrent `left` finds the room empty, or is woken: `notified` counts from its call on.
        self.presence.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::permits::Permits;

    #[tokio::test]
    async fn a_room_is_left_when_the_last_one_goes_and_not_before() {
        let (permits, presence) = (Permits::new(2), Arc::new(Presence::default()));
        let enter = || presence.enter(permits.take().expect("a permit"));
        let (first, second) = (enter(), enter());
        assert!(permits.take().is_none() && !presence.is_empty());
        let waiting = Arc::clone(&presence);
        let left = tokio::spawn(async move { waiting.left().await });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!left.is_finished() && !presence.is_empty());
        drop(second);
        left.await.unwrap();
        assert_eq!((permits.taken(), presence.came()), (0, 2));
    }
}
