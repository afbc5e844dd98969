use super::control::{Attachment, Control, Detached, Playing, Step};
use super::playhead::{Playhead, opening};
use super::schedule::Schedule;
use super::{Batch, Position, Progress};
use crate::feed::Feed;
use crate::market::{Event, FeedKind, FeedState, FeedStatus, Instruments, Speed, Timestamp};
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

/// A handle to a running tape: to publish on it, and to control what it plays. Cheap to clone; the tape ends when all of them are gone.
#[derive(Clone)]
pub struct Publisher {
    requests: mpsc::SyncSender<Request>,
    progress: Arc<Progress>,
}

/// What a tape is asked for, with who is to be told of the outcome.
enum Request {
    Publish(Publication, Reply<Position>),
    Control(Control, Reply<Playing>),
    Detach(Reply<Detached>),
    Attach(Box<Attachment>, Reply<Playing>),
    /// Of the server itself.
    Note(Event),
}

type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// What the tape's thread is made of.
pub struct Writer {
    /// `None`: only publishers feed this tape.
    pub feed: Option<Box<dyn Feed>>,
    /// The feed is not played, but stands for another one that will be [attached](Publisher::attach).
    pub held: bool,
    pub speed: Speed,
    /// No moment of the feed is waited for any longer: the clock jumps ahead of it.
    pub max_gap: Option<Duration>,
    pub readers: Vec<Box<dyn Reader>>,
}

/// Requests that may wait for the tape; more make those wait who ask.
const WAITING_REQUESTS: usize = 64;
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
/// A wait for the feed that is longer is told of.
const NOTABLE_GAP: Duration = Duration::from_mins(1);
/// Records that could not be read are told one by one up to this many, then only counted.
const FAULTS_TOLD: u64 = 20;

impl Publisher {
    /// Puts events on the tape in a batch of their own; `reply` is called with its position once every reader has it.
    ///
    /// Waits while many others do. Returns whether the tape is still there.
    pub fn publish(&self, publication: Publication, reply: impl FnOnce(Position) + Send + 'static) -> bool {
        self.request(Request::Publish(publication, Box::new(reply)))
    }

    /// Controls what is played; `reply` is told how things stand then. As [`Self::publish`].
    pub fn control(&self, control: Control, reply: impl FnOnce(Playing) + Send + 'static) -> bool {
        self.request(Request::Control(control, Box::new(reply)))
    }

    /// Takes the feed off the tape, which then stands still, but for what is published, until one is put [on](Self::attach) again.
    /// As [`Self::publish`].
    pub fn detach(&self, reply: impl FnOnce(Detached) + Send + 'static) -> bool {
        self.request(Request::Detach(Box::new(reply)))
    }

    /// Puts a feed on the tape. It plays unless the tape is paused. As [`Self::publish`].
    pub fn attach(&self, attachment: Attachment, reply: impl FnOnce(Playing) + Send + 'static) -> bool {
        self.request(Request::Attach(Box::new(attachment), Box::new(reply)))
    }

    /// Puts an event on the tape that is not from the market: it counts as no publication, and no publisher is live by it. Does not wait:
    /// where many requests do, it is dropped.
    pub fn note(&self, event: Event) {
        let _ = self.requests.try_send(Request::Note(event));
    }

    /// How the tape does.
    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    fn request(&self, request: Request) -> bool {
        self.requests.send(request).is_ok()
    }
}

impl Writer {
    /// Starts the tape's thread.
    ///
    /// # Errors
    /// The operating system's, where it has no thread to give.
    pub fn start(self) -> std::io::Result<(Publisher, std::thread::JoinHandle<()>)> {
        let (request, requests) = mpsc::sync_channel(WAITING_REQUESTS);
        let run = Run::new(self, requests);
        let publisher = Publisher { requests: request, progress: Arc::clone(&run.progress) };
        let thread = std::thread::Builder::new().name("tape".to_owned()).spawn(|| run.run())?;
        Ok((publisher, thread))
    }
}

/// The tape's thread: pulls the feed, lets each moment out when it is due, and does what it is asked for in between.
struct Run {
    /// Until the thread begins.
    feed: Option<Box<dyn Feed>>,
    playhead: Option<Playhead>,
    readers: Vec<Box<dyn Reader>>,
    requests: mpsc::Receiver<Request>,
    instruments: Instruments,
    position: Position,
    /// The clock of the last batch.
    time: Timestamp,
    schedule: Schedule,
    /// Where the feed's clock stands still, because it is paused or the feed was taken off.
    stopped: Option<Timestamp>,
    status: FeedStatus,
    progress: Arc<Progress>,
    last_batch: Instant,
    last_publication: Instant,
    /// Whether anything was published since the tape began or began anew.
    published: bool,
    /// When it was last told that the feed is behind.
    told_behind: Option<Instant>,
    max_gap: Option<Duration>,
    /// The moment of which it was last told that it is far away.
    told_gap: Option<Timestamp>,
}

impl Run {
    fn new(writer: Writer, requests: mpsc::Receiver<Request>) -> Self {
        let Writer { feed, held, speed, max_gap, readers } = writer;
        let kind = feed.as_ref().map_or(FeedKind::Publisher, |feed| feed.kind());
        let speed = if feed.is_some() { speed } else { Speed::Times(1.0) };
        let state = if feed.is_some() { FeedState::Live } else { FeedState::Stale };
        let status = FeedStatus { kind, state, speed };
        let now = Instant::now();
        let schedule = Schedule::from_now(Timestamp::now(), speed);
        Self {
            feed: feed.filter(|_| !held),
            playhead: None,
            readers,
            requests,
            instruments: Instruments::default(),
            position: Position::START,
            time: schedule.feed,
            progress: Arc::new(Progress::new(status, &schedule)),
            schedule,
            stopped: held.then_some(schedule.feed),
            status,
            last_batch: now,
            last_publication: now,
            published: false,
            told_behind: None,
            max_gap,
            told_gap: None,
        }
    }

    fn run(mut self) {
        if let Some(feed) = self.feed.take() {
            let playhead = Playhead::new(feed, &mut |fault| tell_fault(&self.progress, fault));
            if let Some(first) = playhead.next_at() {
                // The feed's timeline begins now, whatever its clock says.
                self.schedule = Schedule::from_now(first, self.schedule.speed);
                self.progress.begun(&self.schedule);
                self.time = first;
            }
            self.playhead = Some(playhead);
        }
        let mut events = vec![Event::Feed(self.status)];
        events.extend(self.playhead.as_ref().map_or_else(|| Some(opening(self.time)), Playhead::opening));
        self.append(self.time, events);
        loop {
            let wake = match self.let_out_due() {
                Some(due) => due.max(self.last_batch + MIN_WAIT),
                None => self.last_batch + CLOCK_EVERY,
            };
            if !self.requests_until(wake.min(self.last_batch + CLOCK_EVERY)) {
                return;
            }
            self.tell_time();
        }
    }

    /// Puts every moment that is due on the tape; returns when the next one is.
    fn let_out_due(&mut self) -> Option<Instant> {
        let mut batch = Vec::new();
        let mut time = self.time;
        while self.stopped.is_none()
            && let Some(at) = self.playhead.as_ref().and_then(Playhead::next_at)
        {
            // Without a pace all is due, and looking at the clock for each moment would take a tenth of the time.
            if self.schedule.speed != Speed::Max
                && let Some(due) = self.due_later(at, time, &mut batch)
            {
                return Some(due);
            }
            self.take(&mut batch);
            time = time.max(at);
            if batch.len() >= BATCH_EVENTS {
                self.append_unless_empty(time, &mut batch);
                self.tell_due();
                // A feed without a pace never waits, and requests must still get in between.
                if !self.requests_until(Instant::now()) {
                    self.playhead = None;
                }
                time = self.time;
            }
        }
        self.append_unless_empty(time, &mut batch);
        if self.stopped.is_none() {
            self.end_if_over();
        }
        None
    }

    /// When a moment of the feed is due; `None` where it is now. What has come before it goes on the tape at `time`.
    fn due_later(&mut self, at: Timestamp, time: Timestamp, batch: &mut Vec<Event>) -> Option<Instant> {
        let (due, now) = (self.schedule.due(at), Instant::now());
        if due > now {
            self.append_unless_empty(time, batch);
            let due = self.bridge_gap(at, due, now);
            self.progress.next_due(Some(due));
            return Some(due);
        }
        let behind = now - due;
        if behind > NOTABLY_BEHIND {
            tell_behind(&mut self.told_behind, now, behind);
            if behind > MAX_BEHIND {
                self.follow(Schedule::from_now(at, self.schedule.speed));
            }
        }
        None
    }

    /// The next moment of the feed may be far away, because a market was closed or a time is wrong: its clock is put forward where that
    /// was asked for, else it is told. Returns when the moment is due.
    fn bridge_gap(&mut self, at: Timestamp, due: Instant, now: Instant) -> Instant {
        let wait = due - now;
        if let Some(most) = self.max_gap.filter(|&most| wait > most) {
            let before = match self.schedule.speed {
                Speed::Times(factor) => most.mul_f64(factor).as_nanos(),
                Speed::Max => 0,
            };
            let before = i64::try_from(before).unwrap_or(i64::MAX);
            self.follow(Schedule::from_now(at.plus_nanos(-before), self.schedule.speed));
            return self.schedule.due(at);
        }
        if wait > NOTABLE_GAP && self.told_gap.replace(at) != Some(at) {
            let hours = wait.as_secs_f64() / 3600.0;
            tracing::info!(
                "the feed's next moment is {at}, {hours:.1} hours from now: --max-gap cuts such waits short"
            );
        }
        due
    }

    /// Takes the feed's next moment in.
    fn take(&mut self, batch: &mut Vec<Event>) {
        let before = batch.len();
        if let Some(playhead) = &mut self.playhead {
            playhead.take(&mut self.instruments, batch, &mut |fault| tell_fault(&self.progress, fault));
        }
        self.correct(&mut batch[before..]);
    }

    /// A feed knows whether it lives; what it is, how fast it is played, whether it is paused and when it ends, its tape knows better.
    fn correct(&mut self, events: &mut [Event]) {
        for event in events {
            let Event::Feed(told) = event else { continue };
            let is_state = matches!(told.state, FeedState::Live | FeedState::Stale);
            if is_state && self.status.state != FeedState::Paused {
                self.status.state = told.state;
            }
            *told = self.status;
            self.progress.changed(self.status);
        }
    }

    /// Gives a feed up that has nothing more to tell.
    fn end_if_over(&mut self) {
        let Some(ended) = self.playhead.take_if(|playhead| playhead.next_at().is_none()) else { return };
        self.progress.leaves_out(ended.left_out());
        match (self.progress.faults(), ended.left_out()) {
            (0, 0) => tracing::info!("the feed has ended"),
            (0, left_out) => tracing::info!("the feed has ended; {left_out} of its records were left out"),
            (faults, left_out) => tracing::warn!(
                "the feed has ended; {faults} of its records could not be read, {left_out} were left out"
            ),
        }
        // From here on the clock is the wall's pace from where the record ended.
        let now = self.clock();
        self.stopped = None;
        self.follow(Schedule::from_now(now, Speed::Times(1.0)));
        self.progress.next_due(None);
        self.set_state(FeedState::Ended);
    }

    /// Tells since when the feed's next moment is overdue, where it has a pace.
    fn tell_due(&self) {
        let next = self.playhead.as_ref().filter(|_| self.schedule.speed != Speed::Max);
        self.progress.next_due(next.and_then(Playhead::next_at).map(|at| self.schedule.due(at)));
    }

    /// Does what is asked for until `wake`, or until it changes when the feed is due; returns whether anyone is left who could ask.
    fn requests_until(&mut self, wake: Instant) -> bool {
        loop {
            let wait = wake.saturating_duration_since(Instant::now());
            match self.requests.recv_timeout(wait) {
                Ok(Request::Publish(publication, reply)) => self.publish(publication, reply),
                Ok(Request::Control(control, reply)) => {
                    self.control(control);
                    reply(self.playing());
                    return true;
                }
                Ok(Request::Detach(reply)) => {
                    reply(self.detach());
                    return true;
                }
                Ok(Request::Attach(attachment, reply)) => {
                    self.attach(*attachment);
                    reply(self.playing());
                    return true;
                }
                Ok(Request::Note(event)) => {
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

    fn publish(&mut self, publication: Publication, reply: Reply<Position>) {
        self.last_publication = Instant::now();
        self.published = true;
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

    fn control(&mut self, control: Control) {
        // Where there is no feed, or none any more, nothing can stand still.
        let plays = self.playhead.is_some();
        match control {
            Control::Play if self.status.state == FeedState::Paused => {
                let now = self.clock();
                self.stopped = None;
                self.follow(Schedule::from_now(now, self.status.speed));
                self.set_state(FeedState::Live);
            }
            Control::Pause if (plays || self.stopped.is_some()) && self.runs() => self.pause(),
            Control::Speed(speed) if self.status.kind != FeedKind::Publisher => {
                if self.status.state != FeedState::Ended {
                    let now = self.clock();
                    self.follow(Schedule::from_now(now, speed));
                }
                self.status.speed = speed;
                self.set_state(self.status.state);
            }
            Control::Step(step) if plays => {
                if self.runs() {
                    self.pause();
                }
                self.step(step);
            }
            _ => {}
        }
    }

    /// Whether it is neither paused nor over.
    fn runs(&self) -> bool {
        matches!(self.status.state, FeedState::Live | FeedState::Stale)
    }

    fn pause(&mut self) {
        self.stopped = Some(self.clock());
        self.progress.next_due(None);
        self.set_state(FeedState::Paused);
    }

    fn step(&mut self, step: Step) {
        let mut batch = Vec::new();
        match (step, &mut self.playhead) {
            (Step::Event, Some(playhead)) => {
                let Some(at) = playhead.next_at() else { return self.end_if_over() };
                let on_fault = &mut |fault: &dyn std::fmt::Display| tell_fault(&self.progress, fault);
                playhead.take_one(&mut self.instruments, &mut batch, on_fault);
                self.correct(&mut batch);
                let now = self.clock().max(at);
                self.stopped = Some(now);
                self.append_unless_empty(now, &mut batch);
            }
            (Step::Interval(by), _) => {
                let until = self.clock().plus_nanos(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX));
                while let Some(at) =
                    self.playhead.as_ref().and_then(Playhead::next_at).filter(|&at| at <= until)
                {
                    self.take(&mut batch);
                    if batch.len() >= BATCH_EVENTS {
                        self.append_unless_empty(at.max(self.time), &mut batch);
                    }
                }
                self.stopped = Some(until);
                // Also where nothing happened: time has passed, and bars may have closed.
                self.append(until, batch);
            }
            (Step::Event, None) => {}
        }
        self.end_if_over();
    }

    fn detach(&mut self) -> Detached {
        let now = self.clock();
        self.stopped = Some(now);
        self.progress.next_due(None);
        Detached {
            playhead: self.playhead.take(),
            instruments: self.instruments.clone(),
            position: self.position,
            now,
            is_pure: !self.published,
        }
    }

    fn attach(&mut self, attachment: Attachment) {
        let Attachment { playhead, instruments, checkpoint, now } = attachment;
        self.playhead = playhead;
        if self.status.state == FeedState::Ended && self.playhead.is_some() {
            self.status.state = FeedState::Live;
        }
        if checkpoint.is_some() {
            self.instruments = instruments;
            self.published = false;
            self.time = now;
        }
        let ended = self.status.state == FeedState::Ended;
        let speed = if ended { Speed::Times(1.0) } else { self.status.speed };
        self.stopped = (self.status.state == FeedState::Paused).then_some(now);
        self.follow(Schedule::from_now(now, speed));
        self.progress.changed(self.status);
        if let Some(checkpoint) = checkpoint {
            let mut events = vec![Event::Reset];
            events.extend(checkpoint);
            events.push(Event::Feed(self.status));
            self.append_counting(0, now, events);
        }
    }

    fn playing(&self) -> Playing {
        let shift = self.playhead.as_ref().map_or(0, Playhead::shift);
        Playing { status: self.status, now: self.clock(), shift }
    }

    fn follow(&mut self, schedule: Schedule) {
        self.schedule = schedule;
        self.progress.reanchored(&self.schedule);
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

    /// The tape's clock, which runs back only where the tape begins anew.
    fn clock(&self) -> Timestamp {
        let clock = self.stopped.unwrap_or_else(|| {
            let clock = self.schedule.clock(Instant::now());
            // Events that are pulled and not yet due must not be overtaken.
            self.playhead.as_ref().and_then(Playhead::next_at).map_or(clock, |at| clock.min(at))
        });
        clock.max(self.time)
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
        if let Some(playhead) = &self.playhead {
            self.progress.leaves_out(playhead.left_out());
        }
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

fn tell_fault(progress: &Progress, error: &dyn std::fmt::Display) {
    progress.failed();
    match progress.faults() {
        1..=FAULTS_TOLD => tracing::warn!("{error}"),
        n if n == FAULTS_TOLD + 1 => {
            tracing::warn!("more records cannot be read; only their number will be told");
        }
        _ => {}
    }
}
