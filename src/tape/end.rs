//! The end of a thread, to ask for or wait for. Any thread; callbacks run on the thread that ends, or at
//! once.
//! Invariant: each callback runs exactly once, without the lock, after `is_over` is true.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether a thread is gone, including by a panic.
#[derive(Clone, Default)]
pub struct End(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_over: bool,
    waiting: Vec<Box<dyn FnOnce() + Send>>,
}

/// Kept by the thread itself: the thread is over when this is dropped.
#[derive(Debug)]
pub struct Ending(End);

impl End {
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Calls `then` when the thread is over; at once if it already is.
    pub fn when_over(&self, then: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        if state.is_over {
            drop(state);
            then();
        } else {
            state.waiting.push(Box::new(then));
        }
    }

    /// The guard that the thread must keep.
    #[must_use]
    pub fn ending(&self) -> Ending {
        Ending(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.state();
            state.is_over = true;
            std::mem::take(&mut state.waiting)
        };
        for then in waiting {
            then();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn those_who_wait_are_called_when_it_ends_and_later_ones_at_once() {
        let (end, called) = (End::default(), Arc::new(AtomicU32::new(0)));
        let call = || {
            let called = Arc::clone(&called);
            move || _ = called.fetch_add(1, Ordering::Relaxed)
        };
        let ending = end.ending();
        end.when_over(call());
        assert_eq!((end.is_over(), called.load(Ordering::Relaxed)), (false, 0));
        // As a panic would.
        let unwinds = move || {
            let _ending = ending;
            std::panic::resume_unwind(Box::new(()));
        };
        std::thread::spawn(unwinds).join().unwrap_err();
        assert_eq!((end.is_over(), called.load(Ordering::Relaxed)), (true, 1));
        end.when_over(call());
        assert_eq!(called.load(Ordering::Relaxed), 2);
    }
}
