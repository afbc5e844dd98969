use super::schedule::Schedule;
use super::{Batch, Position, Progress};
use crate::feed::{Feed, Translator};
use crate::market::{
    Event, FeedKind, FeedState, FeedStatus, Instruments, Speed, Status, Timestamp, TradingState,
};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Someone who reads every batch, in order. May block: the feed waits for its readers, so that nothing is lost between
/// the tape and those who fold it.
pub trait Reader: Send {
    fn read(&mut self, batch: &Arc<Batch>);
}

impl<F: FnMut(&Arc<Batch>) + Send> Reader for F {
    fn read(&mut self, batch: &Arc<Batch>) {
        self(batch);
    }
}

/// Events from outside: told the arrival time, they define and append, as a feed does.
pub type Publication = Box<dyn FnOnce(Timestamp, &mut Instruments, &mut Vec<Event>) + Send>;

/// What comes to the tape from outside.
enum Incoming {
    Publication(Publication, Reply),
    /// Of the server itself.
    Note(Event),
}

/// A handle to publish on a running tape. Cheap to clone; the tape ends when all of them are gone.
#[derive(Clone)]
pub struct Publisher {
    incoming: mpsc::SyncSender<Incoming>,
    progress: Arc<Progress>,
}

/// Called with the position of the publication's batch.
type Reply = Box<dyn FnOnce(Position) + Send>;

/// What the tape's thread is made of.
pub struct Writer {
    /// `None`: only publishers feed this tape.
    pub feed: Option<Box<dyn Feed>>,
    pub speed: Speed,
    pub readers: Vec<Box<dyn Reader>>,
}

/// Publications that may wait for the tape; more make the publisher wait.
const WAITING_PUBLICATIONS: usize = 64;
/// Events of one batch. A feed that is behind, or runs as fast as it can, is cut into batches of this size.
const BATCH_EVENTS: usize = 1024;
/// Ticks closer together than this leave together: waking up for each would cost more than they do.
const MIN_WAIT: Duration = Duration::from_micros(500);
/// A tape on which nothing happens is told the time this often, so that bars close and sessions hear of it.
const CLOCK_EVERY: Duration = Duration::from_secs(1);
/// A publisher that is silent for this long is stale.
const STALE_AFTER: Duration = Duration::from_secs(10);
/// A feed further behind its schedule than this, 1 % of ten seconds, is told of, at most every [`TELL_BEHIND_EVERY`].
const NOTABLY_BEHIND: Duration = Duration::from_millis(100);
const TELL_BEHIND_EVERY: Duration = Duration::from_secs(10);
/// A feed further behind its schedule than this gives it up, and goes on from now.
const MAX_BEHIND: Duration = Duration::from_secs(2);
/// Records that could not be read are told one by one up to this many, then only counted.
const FAULTS_TOLD: u64 = 20;

impl Publisher {
    /// Puts events on the tape in a batch of their own; `reply` is called with its position once every reader has it.
    ///
    /// Waits while many others do. Returns whether the tape is still there.
    pub fn publish(&self, publication: Publication, reply: impl FnOnce(Position) + Send + 'static) -> bool {
        self.incoming.send(Incoming::Publication(publication, Box::new(reply))).is_ok()
    }

    /// Puts an event on the tape that is not from the market: it counts as no publication, and no publisher is live by it. Does not wait:
    /// where many publications do, it is dropped.
    pub fn note(&self, event: Event) {
        let _ = self.incoming.try_send(Incoming::Note(event));
    }

    /// How the tape does.
    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }
}

impl Writer {
    /// Starts the tape's thread.
    ///
    /// # Errors
    /// The operating system's, where it has no thread to give.
    pub fn start(self) -> std::io::Result<(Publisher, std::thread::JoinHandle<()>)> {
        let (publish, incoming) = mpsc::sync_channel(WAITING_PUBLICATIONS);
        let run = Run::new(self, incoming);
        let publisher = Publisher { incoming: publish, progress: Arc::clone(&run.progress) };
        let thread = std::thread::Builder::new().name("tape".to_owned()).spawn(|| run.run())?;
        Ok((publisher, thread))
    }
}

/// The tape's thread: pulls the feed, lets each moment out when it is due, and takes publications in between.
struct Run {
    feed: Option<Box<dyn Feed>>,
    readers: Vec<Box<dyn Reader>>,
    incoming: mpsc::Receiver<Incoming>,
    instruments: Instruments,
    /// The feed is read ahead and so counts in instruments of its own until its events are due: what is published in between may
    /// define others, or make scales finer.
    feed_instruments: Instruments,
    translator: Translator,
    position: Position,
    /// The clock of the last batch.
    time: Timestamp,
    schedule: Schedule,
    status: FeedStatus,
    progress: Arc<Progress>,
    /// The feed's next moment, pulled and not yet due.
    next: Option<(Timestamp, Vec<Event>)>,
    last_batch: Instant,
    last_publication: Instant,
    /// When it was last told that the feed is behind.
    told_behind: Option<Instant>,
}

impl Run {
    fn new(writer: Writer, incoming: mpsc::Receiver<Incoming>) -> Self {
        let Writer { feed, speed, readers } = writer;
        let kind = feed.as_ref().map_or(FeedKind::Publisher, |feed| feed.kind());
        let speed = if feed.is_some() { speed } else { Speed::Times(1.0) };
        let state = if feed.is_some() { FeedState::Live } else { FeedState::Stale };
        let status = FeedStatus { kind, state, speed };
        let now = Instant::now();
        let schedule = Schedule::from_now(Timestamp::now(), speed);
        Self {
            feed,
            readers,
            incoming,
            instruments: Instruments::default(),
            feed_instruments: Instruments::default(),
            translator: Translator::default(),
            position: Position::START,
            time: schedule.feed,
            progress: Arc::new(Progress::new(status, &schedule)),
            schedule,
            status,
            next: None,
            last_batch: now,
            last_publication: now,
            told_behind: None,
        }
    }

    fn run(mut self) {
        self.pull();
        if let Some((first, _)) = self.next {
            // The feed's timeline begins now, whatever its clock says.
            self.schedule = Schedule::from_now(first, self.schedule.speed);
            self.progress.begun(&self.schedule);
            self.time = first;
        }
        let states =
            |(_, events): &(_, Vec<Event>)| events.iter().any(|e| matches!(e, Event::Status(None, _)));
        let mut events = vec![Event::Feed(self.status)];
        if !self.next.as_ref().is_some_and(states) {
            // A feed that says nothing of the market's state is of one that is open.
            events.push(Event::Status(None, Status { state: TradingState::Open, ts_event: self.time }));
        }
        self.append(self.time, events);
        loop {
            let wake = match self.let_out_due() {
                Some(due) => due.max(self.last_batch + MIN_WAIT),
                None => self.last_batch + CLOCK_EVERY,
            };
            if !self.publications_until(wake.min(self.last_batch + CLOCK_EVERY)) {
                return;
            }
            self.tell_time();
        }
    }

    /// Puts every moment that is due on the tape; returns when the next one is.
    fn let_out_due(&mut self) -> Option<Instant> {
        let mut batch = Vec::new();
        let mut time = self.time;
        while let Some((at, events)) = &mut self.next {
            let (at, due, now) = (*at, self.schedule.due(*at), Instant::now());
            if due > now {
                self.append_unless_empty(time, &mut batch);
                self.progress.next_due(Some(due));
                return Some(due);
            }
            let behind = now - due;
            if behind > NOTABLY_BEHIND && self.schedule.speed != Speed::Max {
                tell_behind(&mut self.told_behind, now, behind);
                if behind > MAX_BEHIND {
                    self.schedule = Schedule::from_now(at, self.schedule.speed);
                    self.progress.reanchored(&self.schedule);
                }
            }
            for mut event in events.drain(..) {
                if let Event::Feed(told) = &mut event {
                    // A feed knows whether it lives; what it is, how fast it is played and when it ends, its tape knows better.
                    if matches!(told.state, FeedState::Live | FeedState::Stale) {
                        self.status.state = told.state;
                    }
                    *told = self.status;
                    self.progress.changed(self.status);
                }
                if let Err(error) = self.translator.translate(event, &mut self.instruments, &mut batch) {
                    tell_fault(&self.progress, &error);
                }
            }
            time = time.max(at);
            self.pull();
            if batch.len() >= BATCH_EVENTS {
                self.append_unless_empty(time, &mut batch);
                self.tell_due();
                // A feed without a pace never waits, and publishers must still get in between.
                if !self.publications_until(Instant::now()) {
                    (self.next, self.feed) = (None, None);
                }
            }
        }
        self.append_unless_empty(time, &mut batch);
        self.feed_ended();
        None
    }

    /// Pulls the feed's next moment into `next`, telling of records that cannot be read.
    fn pull(&mut self) {
        let Some(feed) = &mut self.feed else { return };
        let mut events = match self.next.take() {
            Some((_, mut events)) => {
                events.clear();
                events
            }
            None => Vec::new(),
        };
        loop {
            match feed.next(&mut self.feed_instruments, &mut events) {
                Ok(Some(at)) => {
                    self.next = Some((at, events));
                    return;
                }
                Ok(None) => return,
                Err(error) => tell_fault(&self.progress, &error),
            }
        }
    }

    fn feed_ended(&mut self) {
        if self.feed.take().is_none() {
            return;
        }
        let faults = self.progress.faults();
        if faults > 0 {
            tracing::warn!("the feed has ended; {faults} of its records could not be read");
        } else {
            tracing::info!("the feed has ended");
        }
        // From here on the clock is the wall's pace from where the record ended.
        self.schedule = Schedule::from_now(self.time, Speed::Times(1.0));
        self.progress.reanchored(&self.schedule);
        self.progress.next_due(None);
        self.set_state(FeedState::Ended);
    }

    /// Tells since when the feed's next moment is overdue, where it has a pace.
    fn tell_due(&self) {
        let next = self.next.as_ref().filter(|_| self.schedule.speed != Speed::Max);
        self.progress.next_due(next.map(|(at, _)| self.schedule.due(*at)));
    }

    /// Takes publications until `wake`; returns whether anyone is left who could publish.
    fn publications_until(&mut self, wake: Instant) -> bool {
        loop {
            let wait = wake.saturating_duration_since(Instant::now());
            match self.incoming.recv_timeout(wait) {
                Ok(Incoming::Publication(publication, reply)) => self.publish(publication, reply),
                Ok(Incoming::Note(event)) => {
                    let time = self.clock();
                    self.append_counting(0, time, vec![event]);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => return true,
                Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            }
            if wait.is_zero() {
                return true;
            }
        }
    }

    fn publish(&mut self, publication: Publication, reply: Reply) {
        self.last_publication = Instant::now();
        self.progress.published();
        if self.status.kind == FeedKind::Publisher && self.status.state == FeedState::Stale {
            self.set_state(FeedState::Live);
        }
        let arrival = self.clock();
        let mut events = Vec::new();
        publication(arrival, &mut self.instruments, &mut events);
        if !events.is_empty() {
            self.append(arrival, events);
        }
        reply(self.position);
    }

    /// Tells the time where nothing else did, and a publisher's silence.
    fn tell_time(&mut self) {
        let now = Instant::now();
        let publisher_is_live =
            self.status.kind == FeedKind::Publisher && self.status.state == FeedState::Live;
        if publisher_is_live && now - self.last_publication >= STALE_AFTER {
            self.set_state(FeedState::Stale);
        }
        if now - self.last_batch >= CLOCK_EVERY {
            let time = self.clock();
            self.append(time, Vec::new());
        }
    }

    /// The tape's clock, which never runs back.
    fn clock(&self) -> Timestamp {
        let clock = self.schedule.clock(Instant::now());
        // Events that are pulled and not yet due must not be overtaken.
        let limit = self.next.as_ref().map_or(clock, |&(at, _)| clock.min(at));
        limit.max(self.time)
    }

    fn set_state(&mut self, state: FeedState) {
        self.status.state = state;
        self.progress.changed(self.status);
        let time = self.clock();
        self.append(time, vec![Event::Feed(self.status)]);
    }

    fn append_unless_empty(&mut self, time: Timestamp, events: &mut Vec<Event>) {
        if !events.is_empty() {
            self.append(time, std::mem::take(events));
        }
    }

    fn append(&mut self, time: Timestamp, events: Vec<Event>) {
        self.append_counting(events.len(), time, events);
    }

    /// Appends a batch of which so many events count as events on the tape.
    fn append_counting(&mut self, counted: usize, time: Timestamp, events: Vec<Event>) {
        self.position = self.position.next();
        self.time = time;
        self.progress.appended(self.position, counted);
        let batch = Arc::new(Batch { position: self.position, time, events });
        for reader in &mut self.readers {
            reader.read(&batch);
        }
        self.last_batch = Instant::now();
    }
}

fn tell_behind(told: &mut Option<Instant>, now: Instant, behind: Duration) {
    if told.is_none_or(|told| now - told >= TELL_BEHIND_EVERY) {
        *told = Some(now);
        tracing::warn!("this machine cannot keep the feed's pace: {:.1} s behind", behind.as_secs_f64());
    }
}

fn tell_fault(progress: &Progress, error: &impl std::fmt::Display) {
    progress.failed();
    match progress.faults() {
        1..=FAULTS_TOLD => tracing::warn!("{error}"),
        n if n == FAULTS_TOLD + 1 => {
            tracing::warn!("more records cannot be read; only their number will be told");
        }
        _ => {}
    }
}
