use super::fanout::{AskedReplay, Fanout, Opening, Report, Socket};
use super::inbox::{Inbox, Pending, WAITING_BATCHES};
use super::metrics::{ShardMonitor, ShardStatus};
use super::seats::Seat;
use crate::hub::TopicKey;
use crate::tape::{Batch, Epoch, Reader};
use crate::wire::{CloseCode, ErrorCode, ReplayAction, ReplayState};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// One read buffer serves all connections of a shard.
const READ_BYTES: usize = 64 * 1024;
/// Reads from one socket in one turn, so that nobody who sends without end keeps the others waiting.
const READS: usize = 4;
/// Sockets told of by one poll.
const EVENTS: usize = 1024;
/// How far the sweep may be behind its schedule before it gives up the rest.
const MAX_SWEEP_LAG: Duration = Duration::from_secs(1);
/// Sweeps after which those that are blocked are counted: about a second of them, as it takes a look at every connection.
const SWEEPS_PER_COUNT: u32 = 20;
/// How long a shard that leaves waits for its peers to close.
const DRAIN: Duration = Duration::from_secs(3);

const WAKE: Token = Token(usize::MAX);

/// A fan-out thread and the way to it.
#[derive(Debug)]
pub(super) struct Shard {
    commands: mpsc::Sender<Command>,
    waker: Arc<Waker>,
    monitor: ShardMonitor,
    thread: JoinHandle<()>,
}

/// The tape's way to a shard.
struct ShardReader {
    batches: mpsc::SyncSender<Pending>,
    waker: Arc<Waker>,
    /// Whether anyone is connected to the shard.
    watched: Arc<AtomicBool>,
}

/// Does what is asked of what is played, and tells the outcome when it is done.
pub(super) type ReplayControl = Box<dyn Fn(ReplayAction, Box<dyn FnOnce(ReplayOutcome) + Send>) + Send>;
pub(super) type ReplayOutcome = Result<ReplayState, (ErrorCode, String)>;

enum Command {
    Open {
        stream: std::net::TcpStream,
        seat: Seat,
        opening: Opening,
        early: Vec<u8>,
        controls: bool,
    },
    /// From here on what sessions ask of what is played is done by this.
    Serve {
        control: ReplayControl,
        controllable: bool,
    },
    Replayed {
        key: usize,
        number: u64,
        outcome: ReplayOutcome,
    },
    Leave {
        code: CloseCode,
        reason: &'static str,
        retry_after: Duration,
    },
    Report {
        topics: Arc<[TopicKey]>,
        reply: oneshot::Sender<Report>,
    },
}

/// The thread's own: polls its sockets, and moves bytes and batches between them and the core.
struct Run {
    poll: Poll,
    fanout: Fanout<ShardSocket>,
    inbox: Inbox,
    commands: mpsc::Receiver<Command>,
    /// The way back for answers that others find.
    answers: mpsc::Sender<Command>,
    waker: Arc<Waker>,
    control: Option<ReplayControl>,
    watched: Arc<AtomicBool>,
    monitor: ShardMonitor,
    /// Connections that took no more when they were last looked through.
    blocked: usize,
    start: Instant,
    turns: u64,
    /// How long it did not wait for its poll.
    busy: Duration,
    buffer: Vec<u8>,
    /// Connections of which more could be read than their turn allowed.
    unread: VecDeque<usize>,
    leaving: Option<Instant>,
}

#[derive(Debug)]
struct ShardSocket {
    stream: TcpStream,
    _seat: Seat,
}

impl Shard {
    /// # Errors
    /// The operating system's, where it has no thread or poll to give.
    pub fn start(
        number: usize,
        epoch: Epoch,
        ops: bool,
        allow_faults: bool,
    ) -> io::Result<(Self, impl Reader + use<>)> {
        Self::spawn(format!("shard-{number}"), epoch, ops, allow_faults)
    }

    /// One for a private market.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_room(name: &str, epoch: Epoch) -> io::Result<(Self, impl Reader + use<>)> {
        Self::spawn(format!("room-{name}"), epoch, false, false)
    }

    fn spawn(name: String, epoch: Epoch, ops: bool, allow_faults: bool) -> io::Result<(Self, ShardReader)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (batches, batches_in) = mpsc::sync_channel(WAITING_BATCHES);
        let (commands, commands_in) = mpsc::channel();
        let watched = Arc::new(AtomicBool::new(false));
        let monitor = ShardMonitor::default();
        let mut fanout = Fanout::new(epoch);
        if !ops {
            fanout.forbid_stats();
        }
        if allow_faults {
            fanout.allow_faults();
        }
        let run = Run {
            poll,
            fanout,
            inbox: Inbox::new(batches_in),
            commands: commands_in,
            answers: commands.clone(),
            waker: Arc::clone(&waker),
            control: None,
            watched: Arc::clone(&watched),
            monitor: monitor.clone(),
            blocked: 0,
            start: Instant::now(),
            turns: 0,
            busy: Duration::ZERO,
            buffer: vec![0; READ_BYTES],
            unread: VecDeque::new(),
            leaving: None,
        };
        let thread = std::thread::Builder::new().name(name).spawn(|| run.run())?;
        let reader = ShardReader { batches, waker: Arc::clone(&waker), watched };
        Ok((Self { commands, waker, monitor, thread }, reader))
    }

    /// Hands a connection over, its handshake done.
    /// `controls`: it may control what is played, even where others may not.
    pub fn open(
        &self,
        stream: std::net::TcpStream,
        seat: Seat,
        opening: Opening,
        early: Vec<u8>,
        controls: bool,
    ) {
        self.command(Command::Open { stream, seat, opening, early, controls });
    }

    /// Lets sessions ask how what is played does and, where they may, control it.
    pub fn serve(&self, control: ReplayControl, controllable: bool) {
        self.command(Command::Serve { control, controllable });
    }

    /// Says goodbye to all and ends the thread when they are gone, at the latest after a few seconds.
    pub fn leave(&self, code: CloseCode, reason: &'static str, retry_after: Duration) {
        self.command(Command::Leave { code, reason, retry_after });
    }

    /// Asks for what the shard has to tell of its sessions. No answer comes from one that is gone.
    pub fn report(&self, topics: Arc<[TopicKey]>, reply: oneshot::Sender<Report>) {
        self.command(Command::Report { topics, reply });
    }

    pub fn monitor(&self) -> &ShardMonitor {
        &self.monitor
    }

    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a shard has panicked");
        }
    }

    fn command(&self, command: Command) {
        // A shard that is gone has told of it itself, and its sockets are closed with it.
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }
}

impl Reader for ShardReader {
    fn read(&mut self, batch: &Arc<Batch>) {
        match self.batches.try_send((Instant::now(), Arc::clone(batch))) {
            Ok(()) => {}
            Err(mpsc::TrySendError::Full(batch)) => {
                let _ = self.waker.wake();
                let _ = self.batches.send(batch);
            }
            Err(mpsc::TrySendError::Disconnected(_)) => return,
        }
        // A shard that nobody is connected to folds at its next sweep: an idle server need not wake up for every tick.
        if self.watched.load(Ordering::Relaxed) {
            let _ = self.waker.wake();
        }
    }
}

impl Run {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let (mut swept, mut more) = (Duration::ZERO, false);
        let mut sweeps = 0_u32;
        while !self.is_done() {
            let now = self.start.elapsed();
            let next_sweep = swept + Fanout::<ShardSocket>::SWEEP_EVERY;
            let wake = match self.fanout.next_due() {
                _ if more || !self.unread.is_empty() => now,
                Some(due) => due.min(next_sweep),
                None => next_sweep,
            };
            if let Err(error) = self.poll.poll(&mut events, Some(wake.saturating_sub(now)))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!("a shard cannot poll its sockets: {error}");
                return;
            }
            let woken = self.start.elapsed();
            self.fanout.tick(woken);
            // Everything pending is folded before anything is sent: that is where conflation comes from.
            more = self.inbox.fold(&mut self.fanout);
            for _ in 0..self.unread.len() {
                if let Some(key) = self.unread.pop_front() {
                    self.read(key);
                }
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                let key = event.token().0;
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read(key);
                }
                if event.is_writable() {
                    self.fanout.writable(key);
                }
            }
            self.flush();
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            self.pass_on();
            if self.start.elapsed() >= next_sweep {
                // A turn that was late does not stretch the sweep; one that was very late does not make up for it.
                swept = next_sweep.max(self.start.elapsed().saturating_sub(MAX_SWEEP_LAG));
                self.fanout.sweep();
                sweeps = sweeps.wrapping_add(1);
                if sweeps.is_multiple_of(SWEEPS_PER_COUNT) {
                    self.blocked = self.fanout.blocked();
                }
            }
            self.watched.store(!self.fanout.is_empty(), Ordering::Relaxed);
            self.monitor.tell(|| ShardStatus {
                connections: self.fanout.len(),
                blocked: self.blocked,
                position: self.fanout.replica().position(),
                counters: self.fanout.counters(),
                tally: self.fanout.tally(),
                turns: self.turns,
                busy: self.busy,
                latency: self.inbox.latency(),
                watches_stats: self.fanout.watches_stats(),
            });
            self.turns += 1;
            self.busy += self.start.elapsed().saturating_sub(woken);
        }
    }

    /// Sends what is due. While that lasts, what has come in the meantime is folded in between two cohorts: a tick that waited for the whole
    /// turn to end, and then for its place in the next, would be twice as late.
    fn flush(&mut self) {
        self.fanout.flush_with(|fanout| self.inbox.served(fanout, self.start));
        self.inbox.note_sent(&self.fanout, Instant::now());
    }

    fn is_done(&self) -> bool {
        self.leaving.is_some_and(|deadline| self.fanout.is_empty() || Instant::now() >= deadline)
    }

    /// Reads until the socket has no more, as edge-triggered polling asks, or its turn is over.
    fn read(&mut self, key: usize) {
        for _ in 0..READS {
            let Some(socket) = self.fanout.socket(key) else { return };
            match socket.stream.read(&mut self.buffer) {
                Ok(0) => return self.fanout.closed(key),
                Ok(len) => self.fanout.received(key, &self.buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.fanout.closed(key),
            }
        }
        if !self.unread.contains(&key) {
            self.unread.push_back(key);
        }
    }

    /// Hands on what sessions ask of what is played.
    fn pass_on(&mut self) {
        for AskedReplay { key, number, action } in self.fanout.take_asked() {
            let (answers, waker) = (self.answers.clone(), Arc::clone(&self.waker));
            let tell = move |outcome| {
                let _ = answers.send(Command::Replayed { key, number, outcome });
                let _ = waker.wake();
            };
            match &self.control {
                Some(control) => control(action, Box::new(tell)),
                None => tell(Err((ErrorCode::Unavailable, "nothing is played yet".to_owned()))),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Serve { control, controllable } => {
                self.control = Some(control);
                self.fanout.set_controllable(controllable);
            }
            Command::Replayed { key, number, outcome } => self.fanout.answer_replay(key, number, outcome),
            Command::Open { stream, seat, opening, early, controls } => {
                let registry = self.poll.registry();
                let mut broken = false;
                let key = self.fanout.open(&opening, &early, |key| {
                    let mut socket = ShardSocket { stream: TcpStream::from_std(stream), _seat: seat };
                    broken = socket.register(registry, key).is_err();
                    socket
                });
                if broken {
                    self.fanout.closed(key);
                } else if controls {
                    self.fanout.let_control(key);
                }
            }
            // Whoever asked may have given up.
            Command::Report { topics, reply } => drop(reply.send(self.fanout.report(&topics))),
            Command::Leave { code, reason, retry_after } => {
                self.leaving = Some(Instant::now() + DRAIN);
                self.fanout.say_goodbye_to_all(code, reason, retry_after);
            }
        }
    }
}

impl ShardSocket {
    fn register(&mut self, registry: &Registry, key: usize) -> io::Result<()> {
        registry.register(&mut self.stream, Token(key), Interest::READABLE | Interest::WRITABLE)
    }
}

impl Socket for ShardSocket {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // `send` is cheaper than `write`, and must not raise a signal when the peer is gone.
        loop {
            match rustix::net::send(&self.stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => return Ok(sent),
                Err(Errno::AGAIN) => return Ok(0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn finish(&mut self) {
        // Fails only where the peer is gone already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
