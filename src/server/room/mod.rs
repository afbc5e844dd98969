//! A market that is served: a tape, the feed that plays on it, and who may control that.

mod folded;
pub mod wind;

pub(super) use folded::Folded;

use super::shard::ReplayControl;
use crate::feed::{Source, Span};
use crate::market::{FeedKind, FeedState, Speed, Timestamp};
use crate::tape::{Attachment, Control, Detached, Epoch, Playing, Progress, Publisher, Reader, Writer};
use crate::wire::{ErrorCode, ReplayAction, ReplayState};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use wind::{Target, WindError};

/// A seek that takes longer is given up.
const SEEK_PATIENCE: Duration = Duration::from_mins(1);

/// How a room begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Beginning {
    pub speed: Speed,
    /// From where it is played; `None`: from the beginning.
    pub start: Option<Timestamp>,
    /// No moment of it is waited for any longer.
    pub max_gap: Option<Duration>,
}

pub(super) struct Room {
    pub folded: Arc<Folded>,
    pub progress: Arc<Progress>,
    /// `None`: the public market.
    pub name: Option<String>,
    source: Option<Arc<dyn Source>>,
    beginning: Beginning,
    /// `None` once the server leaves.
    publisher: Mutex<Option<Publisher>>,
    orders: mpsc::UnboundedSender<Order>,
    span: Arc<OnceLock<Span>>,
}

/// What somebody asks of the feed, who is told the outcome.
struct Order {
    action: ReplayAction,
    reply: oneshot::Sender<Result<Playing, Refusal>>,
}

/// Why what was asked of a feed was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl Room {
    /// Starts its tape; `readers` besides its own hear of every batch. To be called within a runtime.
    ///
    /// # Errors
    /// The operating system's, and those of a source that cannot be opened.
    pub fn start(
        name: Option<String>,
        epoch: Epoch,
        source: Option<Arc<dyn Source>>,
        beginning: Beginning,
        mut readers: Vec<Box<dyn Reader>>,
    ) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let folded = Folded::new(epoch);
        readers.insert(0, Box::new(folded.reader()));
        let feed = source.as_ref().map(|source| source.open()).transpose().map_err(io::Error::other)?;
        let Beginning { speed, start, max_gap } = beginning;
        let writer = Writer { feed, held: start.is_some(), speed, max_gap, readers };
        let (publisher, thread) = writer.start()?;
        let (orders, given) = mpsc::unbounded_channel();
        let span = Arc::new(OnceLock::new());
        if let Some(source) = source.clone() {
            let span = Arc::clone(&span);
            tokio::task::spawn_blocking(move || {
                // Where it cannot be read it cannot be played either, which is told there.
                let _ = span.set(source.span().unwrap_or_default());
            });
        }
        let room = Arc::new(Self {
            folded,
            progress: Arc::clone(publisher.progress()),
            name,
            source,
            beginning,
            publisher: Mutex::new(Some(publisher)),
            orders,
            span,
        });
        tokio::spawn(take_orders(Arc::downgrade(&room), given));
        Ok((room, thread))
    }

    pub fn source(&self) -> Option<&Arc<dyn Source>> {
        self.source.as_ref()
    }

    /// The script that is played, and its phase now; `None` where there is none.
    ///
    /// # Errors
    /// [`Refusal`] where the server leaves.
    pub async fn scenario(&self) -> Result<Option<(String, &'static str)>, Refusal> {
        let Some(source) = &self.source else { return Ok(None) };
        // Only the tape knows how often what is played again and again has begun.
        let Playing { now, shift, .. } = self.tape_control(Control::Look).await?;
        Ok(source.script(now.plus_nanos(-shift)))
    }

    pub fn beginning(&self) -> Beginning {
        self.beginning
    }

    pub fn publisher(&self) -> Option<Publisher> {
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends its tape, as far as nobody else holds a publisher.
    pub fn end(&self) {
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Does what is asked, behind what was asked before.
    pub fn control(
        self: &Arc<Self>,
        action: ReplayAction,
    ) -> impl Future<Output = Result<Playing, Refusal>> + Send + use<> {
        let (reply, outcome) = oneshot::channel();
        // At once, not when somebody waits for it: so what is asked one after the other is done so.
        if action != ReplayAction::Look {
            let _ = self.orders.send(Order { action, reply });
        }
        let room = Arc::clone(self);
        async move {
            match action {
                ReplayAction::Look => room.tape_control(Control::Look).await,
                _ => outcome.await.unwrap_or_else(|_| Err(leaving())),
            }
        }
    }

    /// Lets the sessions of a shard control it.
    pub fn replay_control(self: &Arc<Self>) -> ReplayControl {
        let (room, runtime) = (Arc::downgrade(self), tokio::runtime::Handle::current());
        Box::new(move |action, tell| {
            let Some(room) = room.upgrade() else {
                return tell(Err((ErrorCode::Unavailable, leaving().message)));
            };
            let done = room.control(action);
            runtime.spawn(async move {
                tell(match done.await {
                    Ok(playing) => Ok(room.state(&playing, true)),
                    Err(Refusal { code, message }) => Err((code, message)),
                });
            });
        })
    }

    /// How things stand, as it is told to someone who may control them or not.
    pub fn state(&self, playing: &Playing, controllable: bool) -> ReplayState {
        let Playing { status, now, shift } = *playing;
        let state = match status.state {
            FeedState::Live => "playing",
            // A feed that is silent for now goes on.
            FeedState::Stale if status.kind != FeedKind::Publisher => "playing",
            other => other.name(),
        };
        let span = self.span.get().copied().unwrap_or_default();
        let now = now.plus_nanos(-shift);
        // Between two rounds, and behind the end, where the tape's clock goes on.
        let now = span.end.map_or(now, |end| now.min(end)).max(span.start.unwrap_or(now));
        ReplayState {
            now: now.to_string(),
            start: span.start.map(|start| start.to_string()),
            end: span.end.map(|end| end.to_string()),
            looped: self.source().is_some_and(|source| source.is_looped()),
            controllable: controllable && status.kind != FeedKind::Publisher,
            room: self.name.clone(),
            ..ReplayState::of(&status, state)
        }
    }

    async fn obey(self: &Arc<Self>, action: ReplayAction) -> Result<Playing, Refusal> {
        if self.source.is_none() {
            let message = "nothing is replayed here: this market is only what is published to it";
            return Err(Refusal { code: ErrorCode::NotSupported, message: message.to_owned() });
        }
        let control = match action {
            ReplayAction::Look => Control::Look,
            ReplayAction::Play => {
                // What has ended is played again.
                if self.tape_control(Control::Look).await?.status.state == FeedState::Ended {
                    return self.seek(self.beginning.start.map_or(Target::Beginning, Target::Moment)).await;
                }
                Control::Play
            }
            ReplayAction::Pause => Control::Pause,
            ReplayAction::Speed(speed) => Control::Speed(speed),
            ReplayAction::Step(step) => Control::Step(step),
            ReplayAction::Seek(to) => return self.seek_to(to).await,
        };
        self.tape_control(control).await
    }

    async fn seek_to(self: &Arc<Self>, to: Timestamp) -> Result<Playing, Refusal> {
        let Span { start, end } = self.span.get().copied().unwrap_or_default();
        if start.is_some_and(|start| to < start) || end.is_some_and(|end| to > end) {
            let shown = |at: Option<Timestamp>| at.map_or_else(|| "…".to_owned(), |at| at.to_string());
            let message = format!("{to} is outside of what is played: {} to {}", shown(start), shown(end));
            return Err(Refusal { code: ErrorCode::BadRequest, message });
        }
        self.seek(Target::Moment(to)).await
    }

    async fn seek(self: &Arc<Self>, target: Target) -> Result<Playing, Refusal> {
        let source = self.source.clone().ok_or_else(leaving)?;
        let detached: Detached = self.ask(|publisher, tell| publisher.detach(tell)).await?;
        let folded = Arc::clone(&self.folded);
        let winding = tokio::task::spawn_blocking(move || {
            let known = || folded.replica().checkpoint().collect();
            wind::wind(detached, &*source, known, target, SEEK_PATIENCE)
        });
        let (attachment, outcome): (Attachment, Result<(), WindError>) =
            winding.await.map_err(|_| leaving())?;
        let playing = self.ask(|publisher, tell| publisher.attach(attachment, tell)).await?;
        outcome.map_err(|error| Refusal { code: ErrorCode::Unavailable, message: error.to_string() })?;
        Ok(playing)
    }

    async fn tape_control(&self, control: Control) -> Result<Playing, Refusal> {
        self.ask(move |publisher, tell| publisher.control(control, tell)).await
    }

    /// Asks the tape, which may make us wait: that does not belong on the threads that serve.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Publisher, Box<dyn FnOnce(T) + Send>) -> bool + Send + 'static,
    ) -> Result<T, Refusal> {
        let publisher = self.publisher().ok_or_else(leaving)?;
        let (tell, told) = oneshot::channel();
        let tell = Box::new(move |outcome| drop(tell.send(outcome)));
        let asked = tokio::task::spawn_blocking(move || ask(publisher, tell)).await;
        match asked {
            Ok(true) => told.await.map_err(|_| leaving()),
            _ => Err(leaving()),
        }
    }
}

/// Does what is asked of a market, one after the other, for as long as there is one.
async fn take_orders(room: Weak<Room>, mut given: mpsc::UnboundedReceiver<Order>) {
    if let Some(room) = room.upgrade()
        && let Some(start) = room.beginning.start
        && let Err(Refusal { message, .. }) = room.seek(Target::Moment(start)).await
    {
        tracing::error!("the market cannot begin at {start}: {message}");
    }
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Some(order) = given.recv().await else { return };
            waiting.push_back(order);
        }
        while let Ok(order) = given.try_recv() {
            waiting.push_back(order);
        }
        let Some(room) = room.upgrade() else { return };
        let Some(Order { action, reply }) = waiting.pop_front() else { continue };
        // Somebody who drags a slider asks for many places: only the last one counts.
        let mut replies = vec![reply];
        let mut action = action;
        while let ReplayAction::Seek(_) = action
            && let Some(later) = waiting.pop_front_if(|order| matches!(order.action, ReplayAction::Seek(_)))
        {
            action = later.action;
            replies.push(later.reply);
        }
        let outcome = room.obey(action).await;
        for reply in replies {
            // Who asked may be gone.
            let _ = reply.send(outcome.clone());
        }
    }
}

fn leaving() -> Refusal {
    Refusal { code: ErrorCode::Unavailable, message: "the server is shutting down".to_owned() }
}
