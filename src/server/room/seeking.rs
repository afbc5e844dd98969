//! How a room seeks: the path to another moment is folded next to the tape ([`seek`]), which then goes on
//! from there. On the runtime, with a thread for the fold.
//! Invariant: a seek that fails leaves the tape as it was; there is one at a time.
//!
//! ```text
//!             seek                    folded
//! at rest ──────────► seeking ─────────────────► attached, at rest at the target
//!    ▲                   │
//!    └───────────────────┘ another seek, the end of the room, an error, more than SEEK_PATIENCE
//! ```

use super::seek::{self, Course, SeekError, Target};
use super::{Known, Refusal, Room, stoppable, thread_name};
use crate::feed::{Feed, FeedError, Span};
use crate::market::{Event, FeedKind, Instruments, Timestamp};
use crate::tape::{Attachment, Control, Fork, Numbering, Playhead, Playing, Ration};
use crate::wire::ErrorCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// A seek that takes longer is given up.
pub(super) const SEEK_PATIENCE: Duration = Duration::from_mins(1);
/// A seek known to need more events is refused at once: they are about half a minute of work.
const MAX_SEEK_EVENTS: u64 = 200_000_000;

/// A feed of nothing, for a market that cannot begin.
struct Nothing(FeedKind);

impl Feed for Nothing {
    fn kind(&self) -> FeedKind {
        self.0
    }

    fn next(&mut self, _: &mut Instruments, _: &mut Vec<Event>) -> Result<Option<Timestamp>, FeedError> {
        Ok(None)
    }
}

impl Room {
    pub(super) fn first_target(&self) -> Target {
        self.beginning.start.map_or(Target::Beginning, Target::Moment)
    }

    pub(super) async fn seek_to(self: &Arc<Self>, to: Timestamp) -> Result<Playing, Refusal> {
        let refuse = |message| Err(Refusal { code: ErrorCode::BadRequest, message });
        let Span { start, end } = self.span.get().copied().unwrap_or_default();
        if start.is_some_and(|start| to < start) || end.is_some_and(|end| to > end) {
            let shown = |at: Option<Timestamp>| at.map_or_else(|| "…".to_owned(), |at| at.to_string());
            return refuse(format!("{to} is outside of what is played: {} to {}", shown(start), shown(end)));
        }
        let Playing { now, shift, .. } = self.tape_control(Control::Look).await?;
        // From the current moment if that is not later than the target, else from the beginning.
        let from = Some(now.plus_nanos(-shift)).filter(|&now| now <= to).or(start);
        let events =
            self.source.as_ref().zip(from).and_then(|(source, from)| source.events_between(from, to));
        if let Some(events) = events.filter(|&events| events > MAX_SEEK_EVENTS) {
            return refuse(format!(
                "{to} is {events} events away, and a seek goes over {MAX_SEEK_EVENTS} at the most"
            ));
        }
        self.seek(Target::Moment(to), Some(SEEK_PATIENCE)).await
    }

    /// Folds the path to another moment next to the tape, and puts that moment on the tape when it is
    /// reached. If that fails the tape is as if the seek had never been asked for.
    pub(super) async fn seek(
        self: &Arc<Self>,
        target: Target,
        patience: Option<Duration>,
    ) -> Result<Playing, Refusal> {
        let course = Arc::new(Course::new(self.stop.child()));
        *self.course() = Some((target, Arc::clone(&course)));
        let outcome = self.seek_along(target, &course, patience).await;
        *self.course() = None;
        outcome
    }

    async fn seek_along(
        self: &Arc<Self>,
        target: Target,
        course: &Arc<Course>,
        patience: Option<Duration>,
    ) -> Result<Playing, Refusal> {
        self.ask(|tape, tell| tape.seeking(true, tell)).await?;
        match self.fold_to(target, course, patience).await {
            Ok(attachment) => self.ask(|tape, tell| tape.attach(attachment, tell)).await,
            Err(refusal) => {
                self.ask(|tape, tell| tape.seeking(false, tell)).await?;
                Err(refusal)
            }
        }
    }

    async fn fold_to(
        self: &Arc<Self>,
        target: Target,
        course: &Arc<Course>,
        patience: Option<Duration>,
    ) -> Result<Attachment, Refusal> {
        let unavailable = |message| Refusal { code: ErrorCode::Unavailable, message };
        let source = stoppable(self.source.as_ref().ok_or_else(|| self.gone())?, &course.stop);
        let (done, folding) = oneshot::channel();
        // Weak, so that the end of the room need not wait for it.
        let (room, along) = (Arc::downgrade(self), Arc::clone(course));
        let mut ration = self.share.as_ref().map(Ration::new);
        let thread = std::thread::Builder::new().name(thread_name("seek", self.name.as_deref()));
        let started = thread.spawn(move || {
            Ration::step_back();
            let fork = |to, first| room.upgrade()?.fork(to, first);
            let rest = |worked| {
                if let Some(ration) = &mut ration {
                    std::thread::sleep(ration.spend(worked));
                }
            };
            let _ = done.send(seek::seek(&*source, target, fork, &along, rest));
        });
        started.map_err(|error| unavailable(format!("no thread for the seek: {error}")))?;
        let outcome = match patience {
            Some(patience) => tokio::time::timeout(patience, folding).await,
            None => Ok(folding.await),
        };
        match outcome {
            Ok(Ok(Ok(attachment))) => Ok(attachment),
            Ok(Ok(Err(SeekError::Stopped))) if self.stop.is_set() => Err(self.gone()),
            Ok(Ok(Err(SeekError::Stopped))) => {
                Err(unavailable("another place was asked for meanwhile".to_owned()))
            }
            Ok(Ok(Err(SeekError::Source(error)))) => Err(unavailable(error.to_string())),
            Ok(Err(_)) => Err(unavailable(
                "the seek failed: what is played breaks on the way there. Nothing has changed".to_owned(),
            )),
            Err(_) => {
                // It ends by itself at its next check; if it hangs in the file system nobody waits for it.
                course.stop.set();
                let reached = course.reached().map_or_else(String::new, |at| format!(" at {at}"));
                let seconds = patience.unwrap_or_default().as_secs();
                Err(unavailable(format!(
                    "the seek took more than {seconds} s, and was given up{reached}. Nothing has changed"
                )))
            }
        }
    }

    /// A copy of what the tape plays, and the market there. Waits for the tape, and the tape waits while the
    /// market is read.
    fn fork(&self, to: Timestamp, first: Option<Timestamp>) -> Option<(Fork, Vec<Event>)> {
        let (tell, told) = std::sync::mpsc::channel();
        let known = self.known_now();
        let is_nearer = move |fork: &Fork| first.is_none_or(|first| first <= fork.now);
        let reply = move |fork: Option<Fork>| {
            drop(tell.send(fork.filter(is_nearer).and_then(|fork| Some((fork, known()?)))));
        };
        self.tape()?.fork(to, reply);
        told.recv().ok()?
    }

    /// Returns the events that rebuild the market as it is known. To be called on the tape thread.
    fn known_now(&self) -> Box<dyn FnOnce() -> Option<Vec<Event>> + Send> {
        match &self.known {
            Known::Folded(folded) => {
                let folded = Arc::clone(folded);
                Box::new(move || Some(folded.replica().checkpoint().collect()))
            }
            Known::Shard(look) => {
                let look = Arc::clone(look);
                Box::new(move || {
                    let (tell, told) = std::sync::mpsc::channel();
                    look(Box::new(move |replica| drop(tell.send(replica.checkpoint().collect()))));
                    told.recv().ok()
                })
            }
        }
    }

    pub(super) fn course(&self) -> MutexGuard<'_, Option<(Target, Arc<Course>)>> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seeks to the moment that the room is to begin at.
    pub(super) async fn begin(self: &Arc<Self>) {
        if self.beginning.start.is_none() {
            return;
        }
        // Anybody may open a room; the public market's start is the operator's choice, and nobody is served
        // yet.
        let patience = self.name.as_ref().map(|_| SEEK_PATIENCE);
        if let Err(Refusal { message, .. }) = self.seek(self.first_target(), patience).await {
            if self.stop.is_set() {
                return;
            }
            tracing::error!("the market cannot begin where it should: {message}");
            let _ = self.failed.set(format!("it cannot begin where it should: {message}"));
            self.over.notify_one();
            let kind = self.progress.timeline().status.kind;
            let attachment = Attachment {
                playhead: Playhead::new(Box::new(Nothing(kind)), &mut |_| ()),
                numbering: Numbering::default(),
                checkpoint: Vec::new(),
                now: Timestamp::now(),
            };
            let _ = self.ask(|tape, tell| tape.attach(attachment, tell)).await;
        }
        self.begun.store(true, Ordering::Relaxed);
    }
}
