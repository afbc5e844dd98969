//! Shares of the machine for work that must not delay others. Any thread; a [`Ration`] belongs to one tape
//! thread.
//! Invariant: all that work without a pace use at most half of the cores together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Half of a machine, for all that works next to something that must not be late. Those without a pace of
/// their own work and rest in turns, so that all of them together take no more.
#[derive(Debug)]
pub struct Share {
    cores: usize,
    /// Those that work without a pace now.
    busy: AtomicUsize,
}

/// One worker's part of a [`Share`].
#[derive(Debug)]
pub struct Ration {
    share: Arc<Share>,
    is_busy: bool,
    /// Since it last rested.
    worked: Duration,
}

/// A tape has two threads: its own, and one that folds what is on it.
const THREADS: usize = 2;
/// Resting after each batch would cost more than the work.
const TURN: Duration = Duration::from_millis(5);

impl Share {
    /// Half of this many cores.
    #[must_use]
    pub fn of(cores: usize) -> Arc<Self> {
        Arc::new(Self { cores: cores.max(1), busy: AtomicUsize::new(0) })
    }
}

impl Ration {
    #[must_use]
    pub fn new(share: &Arc<Share>) -> Self {
        Self { share: Arc::clone(share), is_busy: false, worked: Duration::ZERO }
    }

    /// Records that it has worked for this long, with more to do. Returns how long it must rest now.
    pub fn spend(&mut self, worked: Duration) -> Duration {
        if !self.is_busy {
            self.is_busy = true;
            self.share.busy.fetch_add(1, Ordering::Relaxed);
        }
        self.worked += worked;
        if self.worked < TURN {
            return Duration::ZERO;
        }
        let worked = std::mem::take(&mut self.worked);
        let threads = self.share.busy.load(Ordering::Relaxed) * THREADS;
        let whole = u32::try_from(2 * threads).unwrap_or(u32::MAX);
        let cores = u32::try_from(self.share.cores).unwrap_or(u32::MAX);
        // Of `whole / cores` turns one is its own.
        (worked.saturating_mul(whole) / cores).saturating_sub(worked)
    }

    /// Records that it has nothing more to do for now.
    pub fn idle(&mut self) {
        self.worked = Duration::ZERO;
        if std::mem::take(&mut self.is_busy) {
            self.share.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lowers the priority of the calling thread. Only on Linux, where a priority is one thread's own.
    pub fn step_back() {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::nice(10) {
            tracing::debug!("a thread keeps its priority: {error}");
        }
    }
}

impl Drop for Ration {
    fn drop(&mut self) {
        self.idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_millis(10);

    #[test]
    fn all_together_take_half_of_the_cores() {
        let share = Share::of(2);
        let mut rations: Vec<Ration> = (0..16).map(|_| Ration::new(&share)).collect();
        // One alone: two threads, each half of the time.
        assert_eq!(rations[0].spend(WORK), WORK);
        let rests: Vec<Duration> = rations.iter_mut().map(|ration| ration.spend(WORK)).collect();
        assert_eq!((rests[0], rests[1], rests[15]), (WORK, WORK * 3, WORK * 31));
        drop(rations.split_off(2));
        rations[1].idle();
        assert_eq!(rations[0].spend(WORK), WORK);
        let mut alone = Ration::new(&Share::of(8));
        assert_eq!(alone.spend(WORK), Duration::ZERO);
    }

    #[test]
    fn a_short_while_is_worked_through() {
        let mut ration = Ration::new(&Share::of(1));
        assert_eq!(ration.spend(TURN / 2), Duration::ZERO);
        assert_eq!(ration.spend(TURN / 2), TURN * 3);
    }
}
