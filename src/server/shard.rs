use super::doors::Away;
use super::fanout::{AskedOfRoom, Done, Fanout, Opening, Report, Returned, Task};
use super::inbox::{Inbox, Pending, WAITING_BATCHES};
use super::link::{Breakable, Link};
use super::metrics::{ShardMonitor, ShardStatus};
use super::room::Guest;
use super::watchers::Watchers;
use crate::hub::{Replica, ServerStats, TopicKey};
use crate::tape::{Batch, End, Epoch, Ration, Reader};
use crate::wire::{CloseCode, ErrorCode, FrameError, FrameReader, Framing, Incoming};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::SockRef;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// One read buffer serves all connections of a shard.
const READ_BYTES: usize = 64 * 1024;
/// Reads from one socket in one turn, so that a client that sends without end does not delay the others.
const READS: usize = 4;
/// Sockets reported by one poll.
const EVENTS: usize = 1024;
/// How far the sweep may be behind its schedule; the rest is skipped.
const MAX_SWEEP_LAG: Duration = Duration::from_secs(1);
/// Sweeps between two counts of blocked connections: about a second of them, since a count visits every
/// connection.
const SWEEPS_PER_COUNT: u32 = 20;
/// Ten times a second.
const SWEEPS_PER_WATCHERS: u32 = 2;
/// Bytes that a shard may have in a pair of sockets: as old as the last look when they are fetched.
const PAIR_BYTES: usize = 32 * 1024;
/// How long a shard that shuts down waits for its peers to close.
const DRAIN: Duration = Duration::from_secs(3);

const WAKE: Token = Token(usize::MAX);

/// A handle to a fan-out thread.
#[derive(Debug)]
pub(super) struct Shard {
    commands: mpsc::Sender<Command>,
    waker: Arc<Waker>,
    monitor: ShardMonitor,
    end: End,
    /// `None` once it was joined.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The tape's reader for a shard.
struct ShardReader {
    batches: mpsc::SyncSender<Pending>,
    waker: Arc<Waker>,
    /// Whether anyone is connected to the shard.
    watched: Arc<AtomicBool>,
}

/// Does what a session asks of its room, and calls back with the outcome when it is done.
pub(super) type Service = Box<dyn Fn(Task, Box<dyn FnOnce(Outcome) + Send>) + Send>;
/// Calls back with a shard's replica, which has all that was on the tape at the call. A shard that is gone
/// drops the callback.
pub(super) type Look = Arc<dyn Fn(Box<dyn FnOnce(&Replica) + Send>) + Send + Sync>;
pub(super) type Outcome = Result<Done, (ErrorCode, String)>;

/// What a shard may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Batches that may be pending for it.
    pub waiting_batches: usize,
    /// Entries of its rings: trades, and closed bars of each width. `None`: as many as usual.
    pub rings: Option<(usize, usize)>,
    /// Whether its thread has a lower priority.
    pub steps_back: bool,
}

impl Budget {
    pub const PUBLIC: Self = Self { waiting_batches: WAITING_BATCHES, rings: None, steps_back: false };
    /// Small, because there may be many private markets: one without a pace always has the most pending
    /// batches, and each has the rings of all symbols.
    pub const PRIVATE: Self = Self { waiting_batches: 8, rings: Some((512, 240)), steps_back: true };
}

/// A connection that goes back to its door. The session stays in its shard, which has an end of a pair of
/// sockets now.
pub(super) struct Homecoming {
    pub stream: std::net::TcpStream,
    /// The bytes that its peer has sent, from the packet on that names a namespace.
    pub early: Vec<u8>,
    /// What is to be sent to the peer first.
    pub rest: Vec<u8>,
    /// Heartbeats of the session that the peer has not answered.
    pub pings: u8,
    /// The other end of the pair.
    pub end: std::os::unix::net::UnixStream,
}

/// Another socket for a session whose socket is one of a pair.
pub(super) struct Replacement {
    pub stream: std::net::TcpStream,
    /// What its peer has sent already.
    pub early: Vec<u8>,
    /// What was received at the other end of the pair, and is not passed on to the peer.
    pub rest: Vec<u8>,
    /// The other end.
    pub end: std::os::unix::net::UnixStream,
    pub away: Away,
}

enum Command {
    Open {
        stream: std::net::TcpStream,
        guest: Guest,
        opening: Opening,
        early: Vec<u8>,
        away: Option<Away>,
        /// For who wants to replace its socket later.
        key: Option<oneshot::Sender<usize>>,
    },
    Replace {
        key: usize,
        cookie: u64,
        replacement: Replacement,
    },
    /// From here on this does the sessions' requests to their room.
    Serve(Service),
    Done {
        key: usize,
        number: u64,
        outcome: Outcome,
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
    Look(Box<dyn FnOnce(&Replica) + Send>),
    Stats(Option<Arc<ServerStats>>),
}

/// The thread's state: polls its sockets, and moves bytes and batches between them and the core.
struct Run {
    poll: Poll,
    fanout: Fanout<ShardLink>,
    inbox: Inbox,
    commands: mpsc::Receiver<Command>,
    /// For answers from other threads.
    answers: mpsc::Sender<Command>,
    waker: Arc<Waker>,
    service: Option<Service>,
    /// What doors keep of connections that they may take back, by their keys. Not in boxes: those would lie
    /// among what the threads of requests allocate and free, and each would hold a page of it. What is kept
    /// of a connection that has ended stays until its key is given again.
    away: Vec<Option<Away>>,
    /// Shared by the shards of a room, and the version that this one has seen.
    watchers: Arc<Watchers>,
    watchers_seen: u64,
    watched: Arc<AtomicBool>,
    monitor: ShardMonitor,
    /// Connections that took no more at the last count.
    blocked: usize,
    start: Instant,
    turns: u64,
    /// The time in which it did not wait for its poll.
    busy: Duration,
    buffer: Vec<u8>,
    /// Connections with more to read than their turn permitted.
    unread: VecDeque<usize>,
    leaving: Option<Instant>,
}

type ShardLink = Breakable<TcpLink>;

/// A plain socket. Each delivery reads the descriptor, so it is first: next to the pace.
#[derive(Debug)]
#[repr(C)]
struct TcpLink {
    stream: TcpStream,
    /// Its peer only receives, and what it sends is ignored. A flag fits between the others, an option would
    /// take 8 bytes of every connection.
    is_one_way: bool,
    reader: FrameReader,
    _guest: Guest,
}

impl Shard {
    /// # Errors
    /// The operating system's, if it has no thread or poll.
    pub fn start(
        name: String,
        namespace: &str,
        epoch: Epoch,
        budget: Budget,
        watchers: &Arc<Watchers>,
    ) -> io::Result<(Self, impl Reader + use<>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (batches, batches_in) = mpsc::sync_channel(budget.waiting_batches);
        let (commands, commands_in) = mpsc::channel();
        let watched = Arc::new(AtomicBool::new(false));
        let monitor = ShardMonitor::default();
        let mut fanout = Fanout::new(epoch);
        fanout.set_namespace(namespace);
        fanout.set_origin(rand::random());
        if let Some((trades, bars)) = budget.rings {
            fanout.keep(trades, bars);
        }
        let end = End::default();
        let ending = end.ending();
        let run = Run {
            poll,
            fanout,
            inbox: Inbox::new(batches_in),
            commands: commands_in,
            answers: commands.clone(),
            waker: Arc::clone(&waker),
            service: None,
            away: Vec::new(),
            watchers: Arc::clone(watchers),
            watchers_seen: 0,
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
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let _ending = ending;
            if budget.steps_back {
                Ration::step_back();
            }
            run.run();
        })?;
        let reader = ShardReader { batches, waker: Arc::clone(&waker), watched };
        Ok((Self { commands, waker, monitor, end, thread: Mutex::new(Some(thread)) }, reader))
    }

    /// Passes a connection to it, after its handshake.
    pub fn open(
        &self,
        stream: std::net::TcpStream,
        guest: Guest,
        opening: Opening,
        early: Vec<u8>,
        away: Option<Away>,
    ) {
        self.command(Command::Open { stream, guest, opening, early, away, key: None });
    }

    /// As [`Self::open`]; returns the session's key, `None` if the shard is gone.
    pub async fn open_with_key(
        &self,
        stream: std::net::TcpStream,
        guest: Guest,
        opening: Opening,
    ) -> Option<usize> {
        let (key, opened) = oneshot::channel();
        self.command(Command::Open { stream, guest, opening, early: Vec::new(), away: None, key: Some(key) });
        opened.await.ok()
    }

    /// Replaces the socket of a session, if it is still the one with that cookie.
    pub fn replace(&self, key: usize, cookie: u64, replacement: Replacement) {
        self.command(Command::Replace { key, cookie, replacement });
    }

    /// Lets sessions ask their room for what it does.
    pub fn serve(&self, service: Service) {
        self.command(Command::Serve(service));
    }

    /// Says goodbye to all, and ends the thread when they are gone or after a few seconds.
    pub fn leave(&self, code: CloseCode, reason: &'static str, retry_after: Duration) {
        self.command(Command::Leave { code, reason, retry_after });
    }

    /// Asks for a report on its sessions. A shard that is gone does not answer.
    pub fn report(&self, topics: Arc<[TopicKey]>, reply: oneshot::Sender<Report>) {
        self.command(Command::Report { topics, reply });
    }

    /// Passes the server's stats to it, delivered with the next batch; `None`: no more.
    pub fn note_stats(&self, stats: Option<Arc<ServerStats>>) {
        self.command(Command::Stats(stats));
    }

    pub fn monitor(&self) -> &ShardMonitor {
        &self.monitor
    }

    pub fn look(&self) -> Look {
        let (commands, waker) = (self.commands.clone(), Arc::clone(&self.waker));
        Arc::new(move |at| {
            let _ = commands.send(Command::Look(at));
            let _ = waker.wake();
        })
    }

    /// The end of its thread.
    pub fn end(&self) -> &End {
        &self.end
    }

    /// Waits for its thread.
    pub fn join(&self) {
        if self.take_thread().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a shard has panicked");
        }
    }

    fn take_thread(&self) -> Option<JoinHandle<()>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn command(&self, command: Command) {
        // A shard that is gone has logged that itself, and its sockets are closed with it.
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }
}

impl Drop for Shard {
    /// Nothing else can say goodbye for it any more.
    fn drop(&mut self) {
        if self.take_thread().is_some() {
            self.leave(CloseCode::GOING_AWAY, "the server is shutting down", Duration::ZERO);
        }
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
        // A shard without connections folds at its next sweep: an idle server need not wake up for every
        // tick.
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
            let next_sweep = swept + Fanout::<ShardLink>::SWEEP_EVERY;
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
            // Everything pending is folded before anything is sent: that is conflation.
            more = self.inbox.fold(&mut self.fanout);
            for _ in 0..self.unread.len() {
                if let Some(key) = self.unread.pop_front() {
                    self.read(key, true);
                }
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                let key = event.token().0;
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read(key, event.is_read_closed() || event.is_error());
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
                // A turn that was late does not stretch the sweep; one that was very late does not make up
                // for it.
                swept = next_sweep.max(self.start.elapsed().saturating_sub(MAX_SWEEP_LAG));
                self.fanout.sweep();
                sweeps = sweeps.wrapping_add(1);
                if sweeps.is_multiple_of(SWEEPS_PER_WATCHERS) {
                    self.count_watchers();
                }
                if sweeps.is_multiple_of(SWEEPS_PER_COUNT) {
                    self.blocked = self.fanout.blocked();
                }
            }
            self.watched.store(!self.fanout.is_empty(), Ordering::Relaxed);
            self.monitor.tell(|| self.status());
            self.turns += 1;
            let took = self.start.elapsed().saturating_sub(woken);
            self.fanout.took(took);
            self.busy += took;
        }
        self.monitor.tell_last(&self.status());
    }

    /// Passes on who has begun to watch what, and takes over what other shards have passed on.
    fn count_watchers(&mut self) {
        if let Some(changes) = self.fanout.take_named() {
            self.watchers.change(changes);
        }
        let version = self.watchers.version();
        if self.fanout.take_new_watchers() || version != self.watchers_seen {
            self.watchers_seen = version;
            let Self { watchers, fanout, .. } = self;
            watchers.look(|counts| {
                fanout.note_watchers(|symbol| counts.get(symbol).copied().unwrap_or_default());
            });
        }
    }

    fn status(&self) -> ShardStatus {
        ShardStatus {
            connections: self.fanout.len(),
            blocked: self.blocked,
            position: self.fanout.replica().position(),
            counters: self.fanout.counters(),
            tally: self.fanout.tally(),
            turns: self.turns,
            busy: self.busy,
            latency: self.inbox.latency(),
            watches_stats: self.fanout.watches_stats(),
        }
    }

    /// Sends what is due. Meanwhile, what comes is folded in between two cohorts: a tick that waited for the
    /// turn to end, and then in the queue of the next one, would be twice as late.
    fn flush(&mut self) {
        self.fanout.flush_with(|fanout| self.inbox.served(fanout, self.start));
        self.inbox.note_sent(&self.fanout, Instant::now());
    }

    fn is_done(&self) -> bool {
        self.leaving.is_some_and(|deadline| self.fanout.is_empty() || Instant::now() >= deadline)
    }

    /// Reads until the socket has no more, as edge-triggered polling requires, or its turn is over. Anything
    /// after a read that did not fill the buffer is reported anew. Only the end is not, if it was reported
    /// already: then it is read `to_the_end`.
    fn read(&mut self, key: usize, to_the_end: bool) {
        for _ in 0..READS {
            let Some(link) = self.fanout.link(key) else { return };
            let link = link.inner_mut();
            match link.stream.read(&mut self.buffer) {
                Ok(0) => return self.fanout.closed(key),
                Ok(len) => {
                    let (messages, broke) = link.take(&self.buffer[..len], self.start.elapsed());
                    self.receive(key, messages, broke.as_ref());
                    if len < self.buffer.len() && !to_the_end {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.fanout.closed(key),
            }
        }
        if !self.unread.contains(&key) {
            self.unread.push_back(key);
        }
    }

    /// Passes on the sessions' requests to their room.
    fn pass_on(&mut self) {
        for AskedOfRoom { key, number, task } in self.fanout.take_asked() {
            let (answers, waker) = (self.answers.clone(), Arc::clone(&self.waker));
            let tell = move |outcome| {
                let _ = answers.send(Command::Done { key, number, outcome });
                let _ = waker.wake();
            };
            match &self.service {
                Some(service) => service(task, Box::new(tell)),
                None => tell(Err((ErrorCode::Unavailable, "nothing is played yet".to_owned()))),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Serve(service) => self.service = Some(service),
            Command::Done { key, number, outcome } => self.fanout.answer_asked(key, number, outcome),
            Command::Open { stream, guest, opening, early, away, key: told } => {
                let registry = self.poll.registry();
                let mut broken = false;
                let (mut messages, mut broke) = (Vec::new(), None);
                let key = self.fanout.open(&opening, |key| {
                    let mut link = TcpLink::new(stream, guest, opening.form.framing());
                    broken = link.register(registry, key).is_err();
                    (messages, broke) = link.take(&early, self.start.elapsed());
                    Breakable::new(link)
                });
                self.keep(key, away);
                if broken {
                    return self.fanout.closed(key);
                }
                if let Some(told) = told {
                    let _ = told.send(key);
                }
                if !early.is_empty() {
                    self.receive(key, messages, broke.as_ref());
                }
            }
            Command::Replace { key, cookie, replacement } => self.replace(key, cookie, replacement),
            // The caller may have given up.
            Command::Report { topics, reply } => drop(reply.send(self.fanout.report(&topics))),
            Command::Look(at) => at(self.fanout.replica()),
            Command::Stats(stats) => self.fanout.note_stats(stats),
            // The first one has given the reason.
            Command::Leave { .. } if self.leaving.is_some() => {}
            Command::Leave { code, reason, retry_after } => {
                self.leaving = Some(Instant::now() + DRAIN);
                self.fanout.say_goodbye_to_all(code, reason, retry_after);
            }
        }
    }

    /// A session that is gone meanwhile takes its client's new connection with it.
    fn replace(&mut self, key: usize, cookie: u64, replacement: Replacement) {
        // What its peer sent over the old socket comes first.
        self.read(key, false);
        let Some(link) = self.fanout.link(key) else { return };
        let link = link.inner_mut();
        if SockRef::from(&link.stream).cookie().ok() != Some(cookie) {
            return;
        }
        let Replacement { stream, early, mut rest, mut end, away } = replacement;
        // Until it would block: the shard, which writes, is here.
        let _ = end.read_to_end(&mut rest);
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut link.stream);
        link.stream = TcpStream::from_std(stream);
        let is_broken = link.register(registry, key).is_err();
        let (messages, broke) = link.take(&early, self.start.elapsed());
        self.keep(key, Some(away));
        self.fanout.relinked(key, rest);
        if is_broken {
            return self.fanout.closed(key);
        }
        if !early.is_empty() {
            self.receive(key, messages, broke.as_ref());
        }
    }

    /// Keeps what a door may want of a connection, in the place of an earlier one's.
    fn keep(&mut self, key: usize, away: Option<Away>) {
        match self.away.get_mut(key) {
            Some(kept) => *kept = away,
            None if away.is_some() => {
                self.away.resize_with(key, || None);
                self.away.push(away);
            }
            None => {}
        }
    }

    /// Passes on what a peer has sent.
    fn receive(&mut self, key: usize, messages: Vec<Incoming>, broke: Option<&FrameError>) {
        let reason = broke.map(ToString::to_string);
        let broke = broke.map(FrameError::code).zip(reason.as_deref());
        self.fanout.received(key, messages, broke);
        if let Some(returned) = self.fanout.take_returned() {
            self.give_back(returned);
        }
    }

    /// Gives a connection back to its door, which has several namespaces on it from here on. The session gets
    /// an end of a pair of sockets. A session that has one already has its door at the other end.
    fn give_back(&mut self, Returned { key, messages }: Returned) {
        let Some(away) = self.away.get_mut(key).and_then(Option::take) else { return };
        let (rest, pings) = self.fanout.unlink(key);
        let Some(link) = self.fanout.link(key) else { return };
        let link = link.inner_mut();
        let mut early = Vec::new();
        for message in &messages {
            message.write_frame(&mut early);
        }
        std::mem::take(&mut link.reader).write_unread(&mut early);
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut link.stream);
        let swapped = slot_pair()
            .map(|(end, shards)| (std::mem::replace(&mut link.stream, TcpStream::from_std(shards)), end));
        let swapped = swapped.and_then(|swapped| link.register(registry, key).map(|()| swapped));
        let Ok((stream, end)) = swapped else { return self.fanout.closed(key) };
        self.fanout.relinked(key, Vec::new());
        away.take_back(Homecoming { stream: stream.into(), early, rest, pings, end });
    }
}

/// A pair of sockets: a door's end, and a shard's. A shard only sends and receives, which is the same for
/// both kinds of sockets.
pub(super) fn slot_pair() -> io::Result<(std::os::unix::net::UnixStream, std::net::TcpStream)> {
    let (end, shards) = std::os::unix::net::UnixStream::pair()?;
    end.set_nonblocking(true)?;
    shards.set_nonblocking(true)?;
    SockRef::from(&shards).set_send_buffer_size(PAIR_BYTES)?;
    Ok((end, std::net::TcpStream::from(std::os::fd::OwnedFd::from(shards))))
}

impl TcpLink {
    fn new(stream: std::net::TcpStream, guest: Guest, framing: Framing) -> Self {
        let is_one_way = !framing.has_close();
        Self {
            stream: TcpStream::from_std(stream),
            reader: FrameReader::default(),
            is_one_way,
            _guest: guest,
        }
    }

    /// The messages that these bytes complete, and the peer's error after them, if there is one.
    fn take(&mut self, bytes: &[u8], now: Duration) -> (Vec<Incoming>, Option<FrameError>) {
        let mut messages = Vec::new();
        if self.is_one_way {
            return (messages, None);
        }
        let second = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let broke = self.reader.read(bytes, second, |message| messages.push(message)).err();
        (messages, broke)
    }

    fn register(&mut self, registry: &Registry, key: usize) -> io::Result<()> {
        registry.register(&mut self.stream, Token(key), Interest::READABLE | Interest::WRITABLE)
    }
}

impl Link for TcpLink {
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
        // Fails only if the peer is gone already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn begun(&self) -> Option<u32> {
        self.reader.begun()
    }
}
