//! The handle to a running tape. Any thread: requests are queued, and served and answered on the tape thread.
//! Invariant: a reply is called exactly once, or dropped if the tape ends first.

use super::attachment::{Attachment, Fork};
use super::control::{Control, Playing};
use super::{Progress, Publication, Receipt};
use crate::market::Timestamp;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// A handle to a running tape: to publish on it, and to control what it plays. Cheap to clone; the tape ends
/// when all of them are gone.
#[derive(Clone)]
pub struct Handle {
    requests: Arc<SyncSender<Request>>,
    progress: Arc<Progress>,
}

/// A request to a tape, with the callback for its outcome.
pub(super) enum Request {
    Publish(Publication, Reply<Receipt>),
    Control(Control, Reply<Playing>),
    Seek(bool, Reply<Playing>),
    Fork(Timestamp, Reply<Option<Fork>>),
    Attach(Box<Attachment>, Reply<Playing>),
    /// The log may have more to read.
    Rung,
}

pub(super) type Reply<T> = Box<dyn FnOnce(T) + Send>;

impl Handle {
    pub(super) fn new(requests: Arc<SyncSender<Request>>, progress: Arc<Progress>) -> Self {
        Self { requests, progress }
    }

    /// Puts events on the tape in a batch of their own. `reply` receives the outcome once every reader has
    /// the batch; it is dropped if the tape ends first.
    ///
    /// Blocks while the queue of requests is full. Returns whether the tape is still there.
    pub fn publish(&self, publication: Publication, reply: impl FnOnce(Receipt) + Send + 'static) -> bool {
        self.request(Request::Publish(publication, Box::new(reply)))
    }

    /// Controls what is played; `reply` receives the state after it. As [`Self::publish`].
    pub fn control(&self, control: Control, reply: impl FnOnce(Playing) + Send + 'static) -> bool {
        self.request(Request::Control(control, Box::new(reply)))
    }

    /// Puts on the tape whether a seek is running elsewhere. The tape itself goes on unchanged. As
    /// [`Self::publish`].
    pub fn seeking(&self, seeking: bool, reply: impl FnOnce(Playing) + Send + 'static) -> bool {
        self.request(Request::Seek(seeking, Box::new(reply)))
    }

    /// A copy of what is played, if `to` is later than the tape's clock and all on the tape since it last
    /// began anew came from the feed, in the feed's first round: then a replica knows nothing else. As
    /// [`Self::publish`].
    ///
    /// `reply` is called between two batches, before the tape goes on.
    pub fn fork(&self, to: Timestamp, reply: impl FnOnce(Option<Fork>) + Send + 'static) -> bool {
        self.request(Request::Fork(to, Box::new(reply)))
    }

    /// Replaces the tape's feed by another one, which ends a seek. It plays unless the tape is paused. As
    /// [`Self::publish`].
    pub fn attach(&self, attachment: Attachment, reply: impl FnOnce(Playing) + Send + 'static) -> bool {
        self.request(Request::Attach(Box::new(attachment), Box::new(reply)))
    }

    /// The tape's counters and timeline.
    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    fn request(&self, request: Request) -> bool {
        self.requests.send(request).is_ok()
    }
}
