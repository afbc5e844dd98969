//! A market that is served: a tape, the feed that plays on it, the shards that fold it for their sessions,
//! and its guests.
//!
//! The public market is the room without a name; private ones have a clock of their own.

mod folded;
mod orders;
mod posts;
mod presence;
mod pulse;
pub mod seek;
mod seeking;

pub(super) use folded::Folded;
pub(super) use presence::{Guest, Presence};
pub(super) use pulse::Point;

use super::doors::Away;
use super::fanout::{Done, Opening, Task};
use super::rights::{Denial, Rights};
use super::shard::{Budget, Look, Outcome, Replacement, Service, Shard};
use crate::feed::{Source, Span, Stop};
use crate::hub::{Replica, ServerStats};
use crate::market::{FeedKind, FeedState, Speed, Timestamp};
use crate::tape::{Control, Epoch, Handle, Log, Memory, Playing, Progress, Ration, Reader, Share, Tape};
use crate::wire::{CloseCode, ErrorCode, ReplayState, Seeking};
use orders::{Order, take_orders};
use posts::{Posts, posts, put_on_tape};
use pulse::Pulse;
use seek::{Course, Target};
use socket2::SockRef;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// How a room begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Beginning {
    pub speed: Speed,
    /// The moment to play from; `None`: the beginning.
    pub start: Option<Timestamp>,
    /// The longest wait for a moment of it, in wall time.
    pub max_gap: Option<Duration>,
}

pub(super) struct Room {
    pub progress: Arc<Progress>,
    /// `None`: the public market.
    pub name: Option<String>,
    source: Option<Arc<dyn Source>>,
    beginning: Beginning,
    known: Known,
    pulse: Pulse,
    shards: Vec<Shard>,
    next_shard: AtomicUsize,
    /// `None`: by the rules of the gate.
    access: Option<Access>,
    presence: Arc<Presence>,
    /// Requests over HTTP.
    asked: AtomicU64,
    /// Whether its shards have the server's stats.
    stats_told: AtomicBool,
    /// Notified when its tape or one of its shards is gone.
    over: Arc<Notify>,
    /// Of a private market: its threads must not delay the public one's.
    share: Option<Arc<Share>>,
    /// `None` once it was ended.
    tape: Mutex<Option<Handle>>,
    orders: mpsc::UnboundedSender<Order>,
    posts: Posts,
    span: Arc<OnceLock<Span>>,
    /// Set once it was ended: all that still reads for it ends, too.
    stop: Stop,
    /// The running seek.
    course: Mutex<Option<(Target, Arc<Course>)>>,
    /// Whether it has reached the moment that it was to begin at.
    begun: AtomicBool,
    /// Why it could not begin.
    failed: OnceLock<String>,
}

/// The error for requests to the public market once it has failed.
pub(super) const FAILED: &str = "the market has failed: the server's log says how";

/// The readers of every batch of a tape.
pub(super) type Readers = Vec<Box<dyn Reader>>;

/// The parts of a market.
pub(super) struct Parts {
    /// `None`: the public market.
    pub name: Option<String>,
    pub log: Box<dyn Log>,
    pub source: Option<Arc<dyn Source>>,
    pub beginning: Beginning,
    /// They get every batch.
    pub readers: Readers,
    pub known: Known,
    /// Their readers are among `readers`.
    pub shards: Vec<Shard>,
    pub access: Option<Access>,
    pub presence: Arc<Presence>,
    pub share: Option<Arc<Share>>,
    /// The source's first and last moment, shared with another market that plays the same.
    pub span: Option<Arc<OnceLock<Span>>>,
    pub stop: Stop,
}

/// Who may control a private market.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// Those who have it may.
    pub key: Option<String>,
    /// All in the room may.
    pub open_to_all: bool,
}

/// The replica for occasional readers.
pub(super) enum Known {
    /// Folded for them alone.
    Folded(Arc<Folded>),
    /// That of the market's only shard: folding twice would double the cost.
    Shard(Look),
}

/// Why a request to a feed was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

/// Where a session is. The cookie is its socket's, as keys are used again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    shard: usize,
    key: usize,
    cookie: u64,
}

impl Room {
    /// Starts its tape. Call it within a runtime. Opening its source may take long.
    ///
    /// # Errors
    /// The operating system's, and those of a source that cannot be opened.
    pub fn start(parts: Parts) -> io::Result<(Arc<Self>, std::thread::JoinHandle<()>)> {
        let Parts {
            name,
            log,
            source,
            beginning,
            mut readers,
            known,
            shards,
            access,
            presence,
            share,
            span,
            stop,
        } = parts;
        let feed = source.as_ref().map(|source| stoppable(source, &stop).open());
        let feed = feed.transpose().map_err(io::Error::other)?;
        let Beginning { speed, start, max_gap } = beginning;
        // Only a market on the wall clock asks for it, and only the public one has such a replica.
        let memory = match &known {
            Known::Folded(folded) => {
                let folded = Arc::clone(folded);
                Some(Box::new(move || folded.replica().checkpoint().collect()) as Memory)
            }
            Known::Shard(_) => None,
        };
        // Last of all readers: what it announces the replica has.
        let (pulse, reader) = Pulse::new(log.epoch());
        readers.push(Box::new(reader));
        let tape = Tape { log, feed, held: start.is_some(), speed, max_gap, memory, readers };
        let thread = thread_name("tape", name.as_deref());
        let (tape, thread) = tape.start_as(thread, share.as_ref().map(Ration::new))?;
        let (orders, given) = mpsc::unbounded_channel();
        let (posts, posted) = posts();
        let span = span.unwrap_or_else(|| {
            let span = Arc::new(OnceLock::new());
            if let Some(source) = &source {
                let (source, span) = (stoppable(source, &stop), Arc::clone(&span));
                tokio::task::spawn_blocking(move || {
                    // If it cannot be read it cannot be played either, and that reports the error.
                    let _ = span.set(source.span().unwrap_or_default());
                });
            }
            span
        });
        let progress = Arc::clone(tape.progress());
        let over = Arc::new(Notify::new());
        for end in shards.iter().map(Shard::end).chain([progress.end()]) {
            let over = Arc::clone(&over);
            end.when_over(move || over.notify_one());
        }
        let room = Arc::new(Self {
            progress,
            name,
            source,
            beginning,
            known,
            pulse,
            shards,
            next_shard: AtomicUsize::new(0),
            access,
            presence,
            asked: AtomicU64::new(0),
            stats_told: AtomicBool::new(false),
            over,
            share,
            tape: Mutex::new(Some(tape)),
            orders,
            posts,
            span,
            stop,
            course: Mutex::default(),
            begun: AtomicBool::new(start.is_none()),
            failed: OnceLock::new(),
        });
        for shard in &room.shards {
            shard.serve(room.service());
        }
        tokio::spawn(put_on_tape(Arc::downgrade(&room), posted));
        tokio::spawn(take_orders(Arc::downgrade(&room), given));
        Ok((room, thread))
    }

    /// Reads the market, as far as the tape is.
    ///
    /// # Errors
    /// [`Refusal`] if there is no market any more.
    pub async fn look<T: Send + 'static>(
        &self,
        at: impl FnOnce(&Replica) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        match &self.known {
            Known::Folded(folded) => Ok(at(&folded.replica())),
            Known::Shard(look) => {
                let (tell, told) = oneshot::channel();
                look(Box::new(move |replica| drop(tell.send(at(replica)))));
                told.await.map_err(|_| self.gone())
            }
        }
    }

    /// The life of its tape.
    pub fn epoch(&self) -> Epoch {
        self.pulse.epoch()
    }

    /// Whether it was opened with a key.
    pub fn has_key(&self) -> bool {
        self.access.as_ref().is_some_and(|access| access.key.is_some())
    }

    /// Passes a session to the next shard.
    pub fn open(
        &self,
        guest: Guest,
        opening: Opening,
        stream: std::net::TcpStream,
        early: Vec<u8>,
        away: Option<Away>,
    ) {
        let next = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        self.shards[next].open(stream, guest, opening, early, away);
    }

    /// Passes a session to the next shard, and returns where it is.
    ///
    /// # Errors
    /// The shard is gone, or the operating system does not know the socket.
    pub async fn open_in(
        &self,
        guest: Guest,
        opening: Opening,
        stream: std::net::TcpStream,
    ) -> io::Result<Seat> {
        let cookie = SockRef::from(&stream).cookie()?;
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let key = self.shards[shard].open_with_key(stream, guest, opening).await;
        let key = key.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Seat { shard, key, cookie })
    }

    /// Replaces the socket of a session that was [opened](Self::open_in) and still exists.
    pub fn replace(&self, seat: Seat, replacement: Replacement) {
        self.shards[seat.shard].replace(seat.key, seat.cookie, replacement);
    }

    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    pub fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    /// The rights in it of a client that has the gate's rights `outside` and gives this key.
    pub fn rights(&self, outside: Rights, key: Option<&str>, is_opener: bool) -> Rights {
        let Some(access) = &self.access else { return outside };
        let has_key = access.key.is_some() && access.key.as_deref() == key;
        let control = match outside.control {
            Some(Denial::Origin) => Some(Denial::Origin),
            _ => (!is_opener && !access.open_to_all && !has_key).then_some(Denial::Room),
        };
        Rights { control, ..outside }
    }

    /// Counts a request over HTTP.
    pub fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// A count that grows with every request in it.
    pub fn activity(&self) -> u64 {
        let requests = self.shards.iter().flat_map(|shard| shard.monitor().status().tally.requests());
        let requests: u64 = requests.map(|(_, count)| count).sum();
        requests + self.presence.came() + self.asked.load(Ordering::Relaxed)
    }

    /// Passes the server's stats to its shards while a session watches them, and `None` once when none does
    /// any more.
    pub fn tell_stats(&self, stats: Option<&Arc<ServerStats>>) {
        let watches = self.shards.iter().any(|shard| shard.monitor().status().watches_stats);
        let told = self.stats_told.swap(watches, Ordering::Relaxed);
        if watches || told {
            let stats = stats.filter(|_| watches);
            self.shards.iter().for_each(|shard| shard.note_stats(stats.cloned()));
        }
    }

    /// Waits until it has failed: its tape or one of its shards is gone without being ended, or it could not
    /// begin.
    pub async fn failed(&self) {
        while self.failure().is_none() {
            self.over.notified().await;
        }
    }

    /// Says goodbye to all in it.
    pub fn say_goodbye(&self, code: CloseCode, reason: &'static str, retry_after: Duration) {
        self.shards.iter().for_each(|shard| shard.leave(code, reason, retry_after));
    }

    /// Waits until its shards are gone; after a goodbye that is soon.
    pub async fn emptied(&self) {
        for shard in &self.shards {
            let (tell, ended) = oneshot::channel();
            shard.end().when_over(move || _ = tell.send(()));
            let _ = ended.await;
        }
    }

    /// The span of its source, for another market that plays it, too.
    pub fn span(&self) -> Arc<OnceLock<Span>> {
        Arc::clone(&self.span)
    }

    /// Whether it has reached the moment that it was to begin at.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Why it has failed; `None` if it has not.
    pub fn failure(&self) -> Option<String> {
        let panicked = || "what it plays has failed".to_owned();
        let is_gone = self.progress.has_ended() || self.shards.iter().any(|shard| shard.end().is_over());
        self.failed.get().cloned().or_else(|| (is_gone && !self.stop.is_set()).then(panicked))
    }

    pub fn source(&self) -> Option<&Arc<dyn Source>> {
        self.source.as_ref()
    }

    /// The script that is played, and its current phase; `None` if there is none.
    ///
    /// # Errors
    /// [`Refusal`] if the server shuts down.
    pub async fn scenario(&self) -> Result<Option<(String, &'static str)>, Refusal> {
        let Some(source) = &self.source else { return Ok(None) };
        // Only the tape knows the round of a feed that is played in a loop.
        let Playing { now, shift, .. } = self.tape_control(Control::Look).await?;
        Ok(source.script(now.plus_nanos(-shift)))
    }

    pub fn beginning(&self) -> Beginning {
        self.beginning
    }

    pub fn tape(&self) -> Option<Handle> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends its tape, unless there is another handle, and all that is read for it.
    pub fn end(&self) {
        self.stop.set();
        self.tape.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Does what the sessions of a shard ask for.
    fn service(self: &Arc<Self>) -> Service {
        let (room, runtime) = (Arc::downgrade(self), tokio::runtime::Handle::current());
        Box::new(move |task, tell| {
            let Some(room) = room.upgrade() else {
                return tell(Err((ErrorCode::Unavailable, "this market is over".to_owned())));
            };
            // Timers are of this runtime, too.
            let _entered = runtime.enter();
            match task {
                Task::Replay(action) => {
                    let done = room.control(action);
                    runtime.spawn(async move {
                        tell(outcome(done.await.map(|playing| Done::Replay(room.state(&playing, true)))));
                    });
                }
                Task::Post(post) => {
                    let done = room.post(*post);
                    runtime.spawn(async move { tell(outcome(done.await.map(Done::Posted))) });
                }
            }
        })
    }

    /// The state as it is reported to a client, which may control it or not.
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
        // Between two rounds, and after the end, the tape's clock goes on.
        let now = span.end.map_or(now, |end| now.min(end)).max(span.start.unwrap_or(now));
        let seeking = self.course().as_ref().map(|(target, course)| {
            let to = match target {
                Target::Beginning => None,
                Target::Moment(to) => Some(to.to_string()),
            };
            Box::new(Seeking { to, reached: course.reached().map(|at| at.to_string()) })
        });
        ReplayState {
            seeking,
            now: now.to_string(),
            start: span.start.map(|start| start.to_string()),
            end: span.end.map(|end| end.to_string()),
            looped: self.source().is_some_and(|source| source.is_looped()),
            controllable: controllable && status.kind != FeedKind::Publisher,
            room: self.name.clone(),
            ..ReplayState::of(&status, state)
        }
    }

    /// The error for requests once it is over.
    pub fn gone(&self) -> Refusal {
        let message = match (&self.name, self.stop.is_set()) {
            (None, true) => "the server is shutting down",
            (None, false) => FAILED,
            (Some(_), true) => "this room is over",
            (Some(_), false) => "this room has failed: what it plays breaks",
        };
        Refusal { code: ErrorCode::Unavailable, message: message.to_owned() }
    }

    async fn tape_control(&self, control: Control) -> Result<Playing, Refusal> {
        self.ask(move |tape, tell| tape.control(control, tell)).await
    }

    /// Asks the tape. That may block, so it does not run on the threads that serve.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Handle, Box<dyn FnOnce(T) + Send>) -> bool + Send + 'static,
    ) -> Result<T, Refusal> {
        let tape = self.tape().ok_or_else(|| self.gone())?;
        let (tell, told) = oneshot::channel();
        let tell = Box::new(move |outcome| drop(tell.send(outcome)));
        let asked = tokio::task::spawn_blocking(move || ask(tape, tell)).await;
        match asked {
            Ok(true) => told.await.map_err(|_| self.gone()),
            _ => Err(self.gone()),
        }
    }
}

fn outcome(done: Result<Done, Refusal>) -> Outcome {
    done.map_err(|Refusal { code, message }| (code, message))
}

/// Starts the shards of a market; returns them and their readers of its tape.
///
/// # Errors
/// As [`Shard::start`].
pub(super) fn start_shards(
    count: usize,
    room: Option<&str>,
    epoch: Epoch,
) -> io::Result<(Vec<Shard>, Readers)> {
    let budget = if room.is_some() { Budget::PRIVATE } else { Budget::PUBLIC };
    let namespace = format!("/{}", room.unwrap_or_default());
    let (mut shards, mut readers) = (Vec::new(), Readers::new());
    let watchers = Arc::default();
    for number in 0..count {
        let (shard, reader) = Shard::start(
            thread_name(&format!("shard-{number}"), room),
            &namespace,
            epoch,
            budget,
            &watchers,
        )?;
        shards.push(shard);
        readers.push(Box::new(reader));
    }
    Ok((shards, readers))
}

/// The name of a market's thread; a private market's includes its name, so that a panic in it is not taken
/// for one of the public market's.
fn thread_name(what: &str, room: Option<&str>) -> String {
    room.map_or_else(|| what.to_owned(), |room| format!("{what}@{room}"))
}

fn stoppable(source: &Arc<dyn Source>, stop: &Stop) -> Arc<dyn Source> {
    source.stopped_by(stop).unwrap_or_else(|| Arc::clone(source))
}
