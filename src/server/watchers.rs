//! How many sessions of a room watch each symbol: what its shards share. Any thread; a shard takes the lock a
//! few times a second, and only where something has changed.

use crate::market::Symbol;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts by symbol; a symbol that nobody watches is not there.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    counts: Mutex<FxHashMap<Symbol, u64>>,
    version: AtomicU64,
}

impl Watchers {
    /// Adds what has changed in a shard.
    pub fn change(&self, changes: impl Iterator<Item = (Symbol, i64)>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (symbol, change) in changes {
            let count = counts.get(&symbol).copied().unwrap_or_default().saturating_add_signed(change);
            if count == 0 {
                counts.remove(&symbol);
            } else {
                counts.insert(symbol, count);
            }
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Grows with each change.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Passes the counts on.
    pub fn look(&self, at: impl FnOnce(&FxHashMap<Symbol, u64>)) {
        at(&self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
