//! The player: plays a feed at its pace. To the log it is one more producer, the one that sets the time. Tape
//! thread.
//! Invariant: the tape's time runs back only where the tape begins anew, and no batch spans two seconds of
//! it.
//!
//! ```text
//! Live ───────── silence ───────► Stale       10 s without a publication, or the feed reports it
//! Stale ──────── publication ───► Live        or the feed reports that it is live
//! Live, Stale ── Pause, Step ───► Paused ── Play ────► Live
//! any ────────── no next moment ► Ended ─── attach ──► Live
//! ```
//!
//! While a seek runs elsewhere, all of them are shown as Seeking.

use super::attachment::{Attachment, Fork};
use super::clock::Clock;
use super::control::{Control, Playing, Step};
use super::handle::Reply;
use super::playhead::{Playhead, opening};
use super::schedule::Schedule;
use super::sequencer::Sequencer;
use super::{Anew, Content, Memory, Numbering, Position, Progress, Publication, Ration, Receipt};
use crate::feed::Feed;
use crate::market::{Event, FeedKind, FeedState, FeedStatus, Interval, Speed, Timestamp};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events of one batch. A feed that is behind, or is played as fast as possible, is cut into batches of this
/// size.
const BATCH_EVENTS: usize = 1024;
/// Ticks closer together than this share a batch: waking up for each would cost more than the ticks.
const MIN_WAIT: Duration = Duration::from_micros(500);
/// A tape without events gets a batch with only the time this often, so that bars close and sessions know it.
const CLOCK_EVERY: Duration = Duration::from_secs(1);
/// A publisher that is silent for this long is stale.
const STALE_AFTER: Duration = Duration::from_secs(10);
/// A feed further behind its schedule than this, 1 % of ten seconds, is logged, at most every
/// [`TELL_BEHIND_EVERY`].
const NOTABLY_BEHIND: Duration = Duration::from_millis(100);
const TELL_BEHIND_EVERY: Duration = Duration::from_secs(10);
/// A feed further behind its schedule than this gets a new one, from now on.
const MAX_BEHIND: Duration = Duration::from_secs(2);
/// A larger step of the machine's clock is followed, in ns. Two readings of two clocks may differ by less.
const NOTABLE_STEP: i64 = 50_000_000;
/// If the machine's clock is set back by at most this, in ns, the tape's clock waits for it; beyond, the tape
/// begins anew.
const MAX_WAIT_FOR_CLOCK: i64 = 5_000_000_000;
/// A longer wait for the feed's next moment is logged.
const NOTABLE_GAP: Duration = Duration::from_mins(1);
/// A step that takes longer than this ends at the moment it has reached.
const LONGEST_STEP: Duration = Duration::from_secs(2);

/// Submits each moment of a feed when it is due, and the feed's status.
pub(super) struct Player {
    /// Until it begins.
    feed: Option<Box<dyn Feed>>,
    playhead: Option<Playhead>,
    pub memory: Option<Memory>,
    machine: Box<dyn Clock>,
    /// The time of the last submission.
    time: Timestamp,
    schedule: Schedule,
    /// The feed's clock while it does not run: the feed is paused, or held for another one.
    stopped: Option<Timestamp>,
    /// Without a seek: [`shown`] adds that.
    status: FeedStatus,
    seeking: bool,
    progress: Arc<Progress>,
    pub ration: Option<Ration>,
    /// When it last rested or had nothing to do.
    rested: Instant,
    /// When anything was last submitted, a publication too.
    last_batch: Instant,
    last_publication: Instant,
    /// Publications on the tape that were noticed.
    publications: u64,
    /// For how long the machine has slept since the last publication.
    slept: Duration,
    /// When it was last logged that the feed is behind.
    told_behind: Option<Instant>,
    pub max_gap: Option<Duration>,
    /// The moment that was last logged as far away.
    told_gap: Option<Timestamp>,
}

/// When there is something to submit.
enum Due {
    /// At once, after so much rest.
    Now(Duration),
    At(Instant),
    /// Not until a request changes something.
    Never,
}

impl Player {
    pub fn new(feed: Option<Box<dyn Feed>>, held: bool, speed: Speed, machine: Box<dyn Clock>) -> Self {
        let kind = feed.as_ref().map_or(FeedKind::Publisher, |feed| feed.kind());
        let speed = if feed.is_some() { speed } else { Speed::Times(1.0) };
        let state = if feed.is_some() { FeedState::Live } else { FeedState::Stale };
        let status = FeedStatus { kind, state, speed };
        let (now, wall) = machine.both();
        let schedule = Schedule::from_now((now, wall), wall, speed);
        Self {
            feed: feed.filter(|_| !held),
            playhead: None,
            memory: None,
            machine,
            time: schedule.feed,
            progress: Arc::new(Progress::new(status, &schedule)),
            schedule,
            stopped: held.then_some(schedule.feed),
            status,
            seeking: false,
            ration: None,
            rested: now,
            last_batch: now,
            last_publication: now,
            publications: 0,
            slept: Duration::ZERO,
            told_behind: None,
            max_gap: None,
            told_gap: None,
        }
    }

    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    pub fn now(&self) -> Instant {
        self.machine.now()
    }

    /// Submits what a tape begins with. On a log that already has entries only publications go on; what is
    /// played begins anew.
    pub fn begin(&mut self, tape: &mut Sequencer) {
        tape.follow();
        let is_first = tape.position() == Position::START;
        self.publications = tape.publications();
        self.time = self.time.max(tape.time());
        if let Some(feed) = self.feed.take() {
            let playhead = Playhead::new(feed, &mut |fault| self.progress.tell_fault(fault));
            if let Some(first) = playhead.next_at() {
                // The feed's timeline begins now, whatever its clock says.
                self.schedule = Schedule::from_now(self.machine.both(), first, self.schedule.speed);
                self.progress.begun(&self.schedule);
                self.time = first;
            }
            self.playhead = Some(playhead);
        }
        let mut events = vec![Event::Feed(self.status)];
        let plays = self.status.kind != FeedKind::Publisher;
        if is_first || plays {
            events.extend(self.playhead.as_ref().map_or_else(|| Some(opening(self.time)), Playhead::opening));
        }
        if is_first || !plays {
            self.submit(self.time, events, tape);
        } else {
            self.begin_with(self.time, Some(Numbering::default()), events, tape);
        }
    }

    /// Submits what is due by now; returns when to look again.
    pub fn turn(&mut self, tape: &mut Sequencer) -> Instant {
        self.follow_machine(tape);
        self.hear(tape);
        match self.let_out_due(tape) {
            Due::Now(rest) => self.machine.now() + rest,
            Due::At(due) => due.max(self.last_batch + MIN_WAIT).min(self.last_batch + CLOCK_EVERY),
            Due::Never => self.last_batch + CLOCK_EVERY,
        }
    }

    /// Notices what other producers have put on the log.
    pub fn hear(&mut self, tape: &mut Sequencer) {
        tape.follow();
        if tape.publications() == self.publications {
            return;
        }
        self.publications = tape.publications();
        (self.last_publication, self.slept) = (self.machine.now(), Duration::ZERO);
        self.revive(tape);
    }

    /// A publisher that publishes is live.
    fn revive(&mut self, tape: &mut Sequencer) {
        if self.status.kind == FeedKind::Publisher && self.status.state == FeedState::Stale {
            self.set_state(FeedState::Live, tape);
        }
    }

    /// Whether the tape's clock runs with the wall clock, at a constant distance. A replay has its own time.
    fn is_of_now(&self) -> bool {
        self.status.kind != FeedKind::Replay
            && self.schedule.speed == Speed::Times(1.0)
            && self.stopped.is_none()
    }

    /// Checks whether the wall clock has made a step, because the machine slept or the clock was set; and
    /// whether this process was frozen. Call it before anything that needs the time.
    pub fn follow_machine(&mut self, tape: &mut Sequencer) {
        let both = self.machine.both();
        if self.is_of_now()
            && let Some(at) = self.playhead.as_ref().and_then(Playhead::next_at)
        {
            self.leave_out(self.schedule.due(at), both.0);
        }
        let step = self.schedule.wall_jump(both);
        if step.saturating_abs() >= NOTABLE_STEP {
            self.follow_step(both.0, step, tape);
        }
    }

    /// Dues do not change. But the wall clock shows another time by then, and so does the clock of a tape
    /// that [is of now](Self::is_of_now).
    fn follow_step(&mut self, now: Instant, step: i64, tape: &mut Sequencer) {
        let Schedule { wall_time, feed, .. } = self.schedule;
        let before = self.schedule.clock(now);
        let is_far_back = self.time.nanos_since(before.plus_nanos(step)) > MAX_WAIT_FOR_CLOCK;
        // A private market has no memory to begin anew with, so it keeps its time.
        let follows = self.is_of_now() && (!is_far_back || self.memory.is_some());
        let moved = if follows { step } else { 0 };
        let (wall_time, feed) = (wall_time.plus_nanos(step), feed.plus_nanos(moved));
        self.follow(Schedule { wall_time, feed, ..self.schedule });
        if !follows {
            return;
        }
        let seconds = Duration::from_nanos(step.unsigned_abs()).as_secs_f64();
        let clock = before.plus_nanos(step);
        // The tape may still be waiting for a clock that was set back earlier.
        let waits = self.time.nanos_since(before).max(0);
        if step > 0 {
            tracing::info!("the clock has gone ahead by {seconds:.1} s, and so does the tape");
            self.slept += Duration::from_nanos(step.unsigned_abs());
            self.put_off(step - waits.min(step));
            self.submit(self.clock(), Vec::new(), tape);
        } else if is_far_back {
            tracing::warn!("the clock was set back by {seconds:.1} s: the tape begins anew at {clock}");
            self.put_off(step - waits);
            self.begin_anew(clock, tape);
        } else {
            tracing::info!(
                "the clock was set back by {seconds:.1} s: the tape waits until it is there again"
            );
        }
    }

    fn put_off(&mut self, nanos: i64) {
        if let Some(playhead) = &mut self.playhead {
            playhead.put_off(nanos);
        }
    }

    /// Begins the tape anew with all that is known as of `now`.
    fn begin_anew(&mut self, now: Timestamp, tape: &mut Sequencer) {
        // What is in flight has times from before.
        tape.settle();
        let known = self.memory.as_ref().map_or_else(Vec::new, |memory| memory());
        let known = known.into_iter().filter_map(|event| match event {
            Event::Feed(_) => None,
            Event::Snapshot(id, snapshot) => {
                Some(Event::Snapshot(id, Arc::new(Arc::unwrap_or_clone(snapshot).as_of(now))))
            }
            other => Some(other),
        });
        let events = known.chain([Event::Feed(self.told())]).collect();
        self.begin_with(now, None, events, tape);
    }

    /// Skips what a market of now should have done while this process was frozen or could not keep the pace:
    /// it is delivered neither in one burst nor with a clock that lags from then on. The next moment is due
    /// now.
    fn leave_out(&mut self, due: Instant, now: Instant) {
        let behind = now.saturating_duration_since(due);
        if behind > MAX_BEHIND {
            tell_behind(&mut self.told_behind, now, behind);
            self.put_off(i64::try_from(behind.as_nanos()).unwrap_or(i64::MAX));
            self.progress.reanchored(&self.schedule);
        }
    }

    /// Submits every moment that is due, a batch per call, so that requests are served in between.
    fn let_out_due(&mut self, tape: &mut Sequencer) -> Due {
        let mut time = self.time;
        self.rested = Instant::now();
        while self.stopped.is_none()
            && let Some(at) = self.playhead.as_ref().and_then(Playhead::next_at)
        {
            // Without a pace all is due, and reading the clock for each moment would take a tenth of the
            // time.
            if self.schedule.speed != Speed::Max
                && let Some(due) = self.due_later(at, time, tape)
            {
                self.is_idle();
                return Due::At(due);
            }
            // It may have been postponed.
            let at = self.playhead.as_ref().and_then(Playhead::next_at).unwrap_or(at);
            let taken = self.take();
            time = time.max(at);
            if taken >= BATCH_EVENTS || self.second_is_over(time) {
                self.let_out(time, tape);
                self.tell_due();
                // A feed without a pace never waits.
                return Due::Now(self.rest());
            }
        }
        self.let_out(time, tape);
        self.is_idle();
        if self.stopped.is_none() {
            self.end_if_over(tape);
        }
        Due::Never
    }

    /// Whether all that the feed has for this second of the clock was taken. No batch holds events of two
    /// seconds: so what the clock closes is closed before the next second's events are folded, whether or not
    /// a batch with only the time came in between.
    fn second_is_over(&self, time: Timestamp) -> bool {
        let next = self.playhead.as_ref().and_then(Playhead::next_at);
        next.is_none_or(|next| Interval::Second.start_of(next) > Interval::Second.start_of(time))
    }

    /// How long it must rest, by its ration.
    fn rest(&mut self) -> Duration {
        let worked = self.rested.elapsed();
        self.ration.as_mut().map_or(Duration::ZERO, |ration| ration.spend(worked))
    }

    fn is_idle(&mut self) {
        if let Some(ration) = &mut self.ration {
            ration.idle();
        }
    }

    /// When a moment of the feed is due; `None` if now. If later, what was taken before it is submitted at
    /// `time`.
    fn due_later(&mut self, at: Timestamp, time: Timestamp, tape: &mut Sequencer) -> Option<Instant> {
        let (due, now) = (self.schedule.due(at), self.machine.now());
        if due > now {
            self.let_out(time, tape);
            let due = self.bridge_gap(at, due, now);
            self.progress.next_due(Some(due));
            return Some(due);
        }
        let behind = now - due;
        if behind > NOTABLY_BEHIND {
            tell_behind(&mut self.told_behind, now, behind);
            if behind > MAX_BEHIND && self.is_of_now() {
                self.let_out(time, tape);
                self.leave_out(due, now);
            } else if behind > MAX_BEHIND {
                self.follow(Schedule::from_now(self.machine.both(), at, self.schedule.speed));
            }
        }
        None
    }

    /// The next moment of the feed may be far away, because a market was closed or a time is wrong. With
    /// `max_gap` the feed's clock is set forward; otherwise the wait is logged. Returns when the moment is
    /// due.
    fn bridge_gap(&mut self, at: Timestamp, due: Instant, now: Instant) -> Instant {
        let wait = due - now;
        if let Some(most) = self.max_gap.filter(|&most| wait > most) {
            let before = match self.schedule.speed {
                Speed::Times(factor) => most.mul_f64(factor).as_nanos(),
                Speed::Max => 0,
            };
            let before = i64::try_from(before).unwrap_or(i64::MAX);
            let both = self.machine.both();
            self.follow(Schedule::from_now(both, at.plus_nanos(-before), self.schedule.speed));
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

    /// Takes the feed's next moment; returns how many events are taken and not submitted.
    fn take(&mut self) -> usize {
        let Some(playhead) = &mut self.playhead else { return 0 };
        let progress = &self.progress;
        let taken = playhead.take(&mut |fault| progress.tell_fault(fault));
        correct(taken, &mut self.status, self.seeking, progress);
        playhead.taken()
    }

    /// What was taken and not submitted yet.
    fn taken(&mut self) -> Vec<Event> {
        self.playhead.as_mut().map_or_else(Vec::new, Playhead::let_out)
    }

    /// Submits what was taken, if anything was.
    fn let_out(&mut self, time: Timestamp, tape: &mut Sequencer) {
        let taken = self.taken();
        if !taken.is_empty() {
            self.submit(time, taken, tape);
        }
    }

    /// Drops a feed that has no next moment.
    fn end_if_over(&mut self, tape: &mut Sequencer) {
        let Some(ended) = self.playhead.take_if(|playhead| playhead.next_at().is_none()) else { return };
        self.progress.leaves_out(ended.left_out());
        match (self.progress.faults(), ended.left_out()) {
            (0, 0) => tracing::info!("the feed has ended"),
            (0, left_out) => tracing::info!("the feed has ended; {left_out} of its records were left out"),
            (faults, left_out) => tracing::warn!(
                "the feed has ended; {faults} of its records could not be read, {left_out} were left out"
            ),
        }
        // From here on the clock runs at the wall clock's pace from where the record ended.
        let now = self.clock();
        self.stopped = None;
        self.follow(Schedule::from_now(self.machine.both(), now, Speed::Times(1.0)));
        self.progress.next_due(None);
        self.set_state(FeedState::Ended, tape);
    }

    /// Reports since when the feed's next moment is overdue, if it has a pace.
    fn tell_due(&self) {
        let next = self.playhead.as_ref().filter(|_| self.schedule.speed != Speed::Max);
        self.progress.next_due(next.and_then(Playhead::next_at).map(|at| self.schedule.due(at)));
    }

    /// Submits a publication; `reply` receives the outcome.
    pub fn publish(&mut self, publication: Publication, reply: Reply<Receipt>, tape: &mut Sequencer) {
        self.progress.published();
        let arrival = self.clock();
        // A publication without a valid event is no sign of life, and gets no position.
        if let Some(receipt) = tape.numbering().reject(&publication, arrival) {
            return reply(Receipt { position: tape.position(), ..receipt });
        }
        // The feed's status goes on the tape first.
        self.revive(tape);
        let arrival = arrival.max(self.time);
        self.time = arrival;
        tape.submit(arrival, Content::Published(publication), Some(reply));
        self.last_batch = self.machine.now();
        self.hear(tape);
    }

    /// Sets whether a seek is running elsewhere.
    pub fn seek(&mut self, seeking: bool, tape: &mut Sequencer) {
        self.seeking = seeking;
        self.set_state(self.status.state, tape);
    }

    pub fn control(&mut self, control: Control, tape: &mut Sequencer) {
        // Without a feed there is nothing to pause.
        let plays = self.playhead.is_some();
        match control {
            Control::Play if self.status.state == FeedState::Paused => {
                let now = self.clock();
                self.stopped = None;
                self.follow(Schedule::from_now(self.machine.both(), now, self.status.speed));
                self.set_state(FeedState::Live, tape);
            }
            Control::Pause if (plays || self.stopped.is_some()) && self.runs() => self.pause(tape),
            Control::Speed(speed) if self.status.kind != FeedKind::Publisher => {
                if self.status.state != FeedState::Ended {
                    let now = self.clock();
                    self.follow(Schedule::from_now(self.machine.both(), now, speed));
                }
                self.status.speed = speed;
                self.set_state(self.status.state, tape);
            }
            Control::Step(step) if plays => {
                if self.runs() {
                    self.pause(tape);
                }
                self.step(step, tape);
            }
            _ => {}
        }
    }

    /// Whether it is neither paused nor ended.
    fn runs(&self) -> bool {
        matches!(self.status.state, FeedState::Live | FeedState::Stale)
    }

    fn pause(&mut self, tape: &mut Sequencer) {
        self.stopped = Some(self.clock());
        self.progress.next_due(None);
        self.set_state(FeedState::Paused, tape);
    }

    fn step(&mut self, step: Step, tape: &mut Sequencer) {
        match (step, &mut self.playhead) {
            (Step::Event, Some(playhead)) => {
                let Some(at) = playhead.next_at() else { return self.end_if_over(tape) };
                let progress = &self.progress;
                let taken = playhead.take_one(&mut |fault| progress.tell_fault(fault));
                correct(taken, &mut self.status, self.seeking, progress);
                let now = self.clock().max(at);
                self.stopped = Some(now);
                self.let_out(now, tape);
            }
            (Step::Interval(by), _) => {
                let begun = Instant::now();
                let mut until = self.clock().plus_nanos(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX));
                while let Some(at) =
                    self.playhead.as_ref().and_then(Playhead::next_at).filter(|&at| at <= until)
                {
                    let taken = self.take();
                    let time = at.max(self.time);
                    if taken >= BATCH_EVENTS || self.second_is_over(time) {
                        self.let_out(time, tape);
                        // Publications and other requests wait meanwhile.
                        if begun.elapsed() >= LONGEST_STEP {
                            until = self.time;
                        }
                    }
                }
                self.stopped = Some(until);
                // Even without events: time has passed, and bars may have closed.
                let taken = self.taken();
                self.submit(until, taken, tape);
            }
            (Step::Event, None) => {}
        }
        self.end_if_over(tape);
    }

    /// A copy of what is played, if all that is on the tape came from it and is not later than `to`.
    pub fn fork(&self, to: Timestamp, tape: &mut Sequencer) -> Option<Fork> {
        // The caller reads next what the readers made of it.
        tape.settle();
        let now = self.clock();
        let playhead = self.playhead.as_ref().filter(|playhead| playhead.shift() == 0)?;
        if tape.published() || now > to {
            return None;
        }
        Some(Fork { playhead: playhead.fork()?, numbering: tape.numbering().clone(), now })
    }

    /// Plays another feed from here on.
    pub fn attach(&mut self, attachment: Attachment, tape: &mut Sequencer) {
        let Attachment { playhead, numbering, checkpoint, now } = attachment;
        self.playhead = Some(playhead);
        self.seeking = false;
        self.time = now;
        if self.status.state == FeedState::Ended {
            self.status.state = FeedState::Live;
        }
        self.stopped = (self.status.state == FeedState::Paused).then_some(now);
        self.follow(Schedule::from_now(self.machine.both(), now, self.status.speed));
        self.progress.changed(self.told());
        let mut events = checkpoint;
        events.push(Event::Feed(self.told()));
        self.begin_with(now, Some(numbering), events, tape);
    }

    pub fn playing(&self) -> Playing {
        let shift = self.playhead.as_ref().map_or(0, Playhead::shift);
        Playing { status: self.told(), now: self.clock(), shift }
    }

    /// The status as it is reported.
    fn told(&self) -> FeedStatus {
        shown(self.status, self.seeking)
    }

    fn follow(&mut self, schedule: Schedule) {
        self.schedule = schedule;
        self.progress.reanchored(&self.schedule);
    }

    /// Submits the time if nothing else did, and a publisher's silence.
    pub fn tell_time(&mut self, tape: &mut Sequencer) {
        let now = self.machine.now();
        let publisher_is_live =
            self.status.kind == FeedKind::Publisher && self.status.state == FeedState::Live;
        let is_silent = now - self.last_publication + self.slept >= STALE_AFTER;
        // What is in flight on the log may be a publication.
        if publisher_is_live && is_silent && !tape.is_waiting() {
            self.set_state(FeedState::Stale, tape);
        }
        if now - self.last_batch >= CLOCK_EVERY {
            let time = self.clock();
            self.submit(time, Vec::new(), tape);
        }
    }

    /// The tape's clock. It runs back only where the tape begins anew.
    fn clock(&self) -> Timestamp {
        let clock = self.stopped.unwrap_or_else(|| {
            let clock = self.schedule.clock(self.machine.now());
            // It must not pass events that are pulled and not yet due.
            self.playhead.as_ref().and_then(Playhead::next_at).map_or(clock, |at| clock.min(at))
        });
        clock.max(self.time)
    }

    fn set_state(&mut self, state: FeedState, tape: &mut Sequencer) {
        self.status.state = state;
        self.progress.changed(self.told());
        self.submit(self.clock(), vec![Event::Feed(self.told())], tape);
    }

    fn submit(&mut self, time: Timestamp, events: Vec<Event>, tape: &mut Sequencer) {
        self.put(time, Content::Played(events), tape);
    }

    /// Begins the tape anew, at a time that may be earlier than its own.
    fn begin_with(
        &mut self,
        time: Timestamp,
        numbering: Option<Numbering>,
        events: Vec<Event>,
        tape: &mut Sequencer,
    ) {
        self.put(time, Content::Anew(Box::new(Anew { numbering, events })), tape);
    }

    fn put(&mut self, time: Timestamp, content: Content, tape: &mut Sequencer) {
        self.time = time;
        if let Some(playhead) = &self.playhead {
            self.progress.leaves_out(playhead.left_out());
        }
        tape.submit(time, content, None);
        self.last_batch = self.machine.now();
    }
}

/// A feed knows only whether it is live or stale. The player knows its kind and speed, whether it is paused,
/// and when it ends.
fn correct(events: &mut [Event], status: &mut FeedStatus, seeking: bool, progress: &Progress) {
    for event in events {
        let Event::Feed(told) = event else { continue };
        let is_state = matches!(told.state, FeedState::Live | FeedState::Stale);
        if is_state && status.state != FeedState::Paused {
            status.state = told.state;
        }
        *told = shown(*status, seeking);
        progress.changed(*told);
    }
}

/// The status as it is reported.
fn shown(status: FeedStatus, seeking: bool) -> FeedStatus {
    let state = if seeking { FeedState::Seeking } else { status.state };
    FeedStatus { state, ..status }
}

fn tell_behind(told: &mut Option<Instant>, now: Instant, behind: Duration) {
    if told.is_none_or(|told| now - told >= TELL_BEHIND_EVERY) {
        *told = Some(now);
        tracing::warn!("this machine cannot keep the feed's pace: {:.1} s behind", behind.as_secs_f64());
    }
}

#[cfg(test)]
mod tests;
