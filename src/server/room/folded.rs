use crate::hub::Replica;
use crate::tape::{Batch, Epoch, Reader};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Batches that may be pending while the replica is read; then the tape waits as well.
const WAITING_BATCHES: usize = 256;

/// A tape folded for occasional readers, such as the HTTP routes. A reader sees it as far as the tape is.
///
/// The tape does not wait for readers: what comes meanwhile is folded by the next reader, or with a later
/// batch.
#[derive(Debug)]
pub(in crate::server) struct Folded {
    replica: Mutex<Replica>,
    waiting: Mutex<Vec<Arc<Batch>>>,
}

impl Folded {
    pub fn new(epoch: Epoch) -> Arc<Self> {
        Arc::new(Self { replica: Mutex::new(Replica::new(epoch)), waiting: Mutex::default() })
    }

    pub fn replica(&self) -> MutexGuard<'_, Replica> {
        // A fold that panicked leaves a replica that can still be read.
        let mut replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner);
        self.catch_up(&mut replica);
        replica
    }

    /// The tape's reader that feeds it.
    pub fn reader(self: &Arc<Self>) -> impl Reader + use<> {
        let folded = Arc::clone(self);
        move |batch: &Arc<Batch>| {
            let waiting = {
                let mut waiting = folded.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.push(Arc::clone(batch));
                waiting.len()
            };
            let mut replica = match folded.replica.try_lock() {
                Ok(replica) => replica,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if waiting < WAITING_BATCHES => return,
                Err(TryLockError::WouldBlock) => {
                    folded.replica.lock().unwrap_or_else(PoisonError::into_inner)
                }
            };
            folded.catch_up(&mut replica);
        }
    }

    fn catch_up(&self, replica: &mut Replica) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let mut touched = Vec::new();
        for batch in waiting {
            replica.apply(&batch, &mut touched);
            touched.clear();
        }
    }
}
