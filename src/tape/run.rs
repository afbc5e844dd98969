//! The tape thread: its start, and its loop.
//! Invariant: only this thread touches the player, the sequencer and the log. It ends when the last handle is
//! gone, or the log has failed.

use super::clock::Machine;
use super::handle::{Handle, Request};
use super::log::{Bell, Log};
use super::player::Player;
use super::sequencer::Sequencer;
use super::{Batch, Ration};
use crate::feed::Feed;
use crate::market::{Event, Speed};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, mpsc::Receiver};
use std::time::{Duration, Instant};

/// Reads every batch, in order. May block: the feed waits for its readers, so that nothing is lost between
/// the tape and what is folded from it.
pub trait Reader: Send {
    fn read(&mut self, batch: &Arc<Batch>);
}

impl<F: FnMut(&Arc<Batch>) + Send> Reader for F {
    fn read(&mut self, batch: &Arc<Batch>) {
        self(batch);
    }
}

/// Returns the events that rebuild the market as of the newest batch from nothing.
pub type Memory = Box<dyn Fn() -> Vec<Event> + Send>;

/// What a tape is made of: a log, a feed that is played onto it, and its readers.
pub struct Tape {
    pub log: Box<dyn Log>,
    /// `None`: only publishers feed this tape.
    pub feed: Option<Box<dyn Feed>>,
    /// The feed is not played: it only gives the kind of another one that will be [attached](Handle::attach).
    pub held: bool,
    pub speed: Speed,
    /// The longest wait for a moment of the feed, in wall time: before a later one the clock jumps ahead.
    pub max_gap: Option<Duration>,
    /// What the tape begins anew with if the machine's clock is set far back; `None`: it keeps its time then.
    pub memory: Option<Memory>,
    pub readers: Vec<Box<dyn Reader>>,
}

/// Requests that may be queued for the tape; a further one blocks its caller.
const WAITING_REQUESTS: usize = 64;

impl Tape {
    /// Starts the tape's thread.
    ///
    /// # Errors
    /// The operating system's, if it has no thread left.
    pub fn start(self) -> std::io::Result<(Handle, std::thread::JoinHandle<()>)> {
        self.start_as("tape".to_owned(), None)
    }

    /// With another name for the thread. With a ration, the thread also has a lower priority.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_as(
        self,
        name: String,
        ration: Option<Ration>,
    ) -> std::io::Result<(Handle, std::thread::JoinHandle<()>)> {
        let (request, requests) = mpsc::sync_channel(WAITING_REQUESTS);
        let request = Arc::new(request);
        let Self { log, feed, held, speed, max_gap, memory, readers } = self;
        let steps_back = ration.is_some();
        let mut player = Player::new(feed, held, speed, Box::new(Machine));
        (player.max_gap, player.memory, player.ration) = (max_gap, memory, ration);
        let progress = Arc::clone(player.progress());
        let bell = Bell::new(Arc::downgrade(&request));
        let sequencer = Sequencer::new(log, bell, readers, Arc::clone(&progress));
        let handle = Handle::new(request, Arc::clone(&progress));
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let _ending = progress.end().ending();
            if steps_back {
                Ration::step_back();
            }
            Run { player, sequencer, requests }.run();
        })?;
        Ok((handle, thread))
    }
}

/// The tape thread: lets the player submit what is due, serves requests in between, and passes on what is
/// read back.
struct Run {
    player: Player,
    sequencer: Sequencer,
    requests: Receiver<Request>,
}

impl Run {
    fn run(mut self) {
        self.player.begin(&mut self.sequencer);
        while self.sequencer.failure().is_none() {
            let wake = self.player.turn(&mut self.sequencer);
            if !self.requests_until(wake) {
                return;
            }
            self.player.tell_time(&mut self.sequencer);
        }
        if let Some(error) = self.sequencer.failure() {
            tracing::error!("the log has failed, and the tape ends with it: {error}");
        }
    }

    /// Serves requests until `wake`, or until one changes when the feed is due. Returns whether a handle is
    /// left.
    fn requests_until(&mut self, wake: Instant) -> bool {
        loop {
            let wait = wake.saturating_duration_since(self.player.now());
            let request = if wait.is_zero() {
                // Cheaper, and frequent where a feed is played as fast as possible.
                self.requests.try_recv().map_err(|error| error == TryRecvError::Disconnected)
            } else {
                let received = self.requests.recv_timeout(wait);
                received.map_err(|error| error == RecvTimeoutError::Disconnected)
            };
            match request {
                Ok(request) => {
                    if self.serve(request) || wait.is_zero() || self.sequencer.failure().is_some() {
                        return true;
                    }
                }
                Err(is_over) => return !is_over,
            }
        }
    }

    /// Serves a request; returns whether it may change when the feed is due.
    fn serve(&mut self, request: Request) -> bool {
        let Self { player, sequencer, .. } = self;
        player.follow_machine(sequencer);
        match request {
            Request::Publish(publication, reply) => {
                player.publish(publication, reply, sequencer);
                return false;
            }
            Request::Rung => {
                player.hear(sequencer);
                return false;
            }
            Request::Fork(to, reply) => {
                reply(player.fork(to, sequencer));
                return false;
            }
            Request::Seek(seeking, reply) => {
                player.seek(seeking, sequencer);
                reply(player.playing());
                return false;
            }
            Request::Control(control, reply) => {
                player.control(control, sequencer);
                reply(player.playing());
            }
            Request::Attach(attachment, reply) => {
                player.attach(*attachment, sequencer);
                reply(player.playing());
            }
        }
        true
    }
}
