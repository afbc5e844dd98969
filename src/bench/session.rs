use super::door::{Door, Greeting, Received, Rings};
use super::swarm::Peer;
use super::workload::Timeline;
use crate::client::{Change, Image};
use crate::market::Timestamp;
use crate::tape::Position;
use crate::wire::{Answer, UpdateDecoder};
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Up to so many ticks of an update are each timed; of more, a sample of this size at equal distances.
const TIMED: usize = 8;
/// The longest latency that is distinguished, in µs.
const MAX_LATENCY: u64 = 120_000_000;
/// The longest message a server may send; its updates are at most 512 KiB.
pub(super) const MAX_FRAME: usize = 1 << 20;

/// One subscriber: reads just enough of each frame to know what it delivers, or all of it.
#[derive(Debug)]
pub struct Session {
    door: Door,
    greeting: Arc<Greeting>,
    stage: Stage,
    /// The beginning of an incomplete message.
    partial: Vec<u8>,
    /// As of the last update: µs on the tape's clock, and the position.
    micros: i64,
    position: u64,
    /// Of the updates since counting began.
    bytes: u64,
    due: Option<Due>,
    full: Option<Box<Full>>,
    /// The frames it received, for a floor of the same bytes at the same cadence.
    log: Option<Log>,
    pub watch: Option<CatchUp>,
}

/// The updates sent to a session.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The session's state before the first: position, and µs on the tape's clock.
    pub from: (u64, i64),
    /// When each was due on the tape's clock, µs, and the length of its frame.
    pub frames: Vec<(i64, u32)>,
    /// The frames one after the other.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    Handshake,
    /// The handshake is done, and nothing of the topics was received yet.
    Subscribing,
    Open,
}

/// Its timeline, and how much of it was delivered.
#[derive(Debug)]
struct Due {
    timeline: Arc<Timeline>,
    /// The state when counting began.
    from: usize,
    next: usize,
}

/// A session that reads everything.
#[derive(Debug)]
struct Full {
    reads: Reads,
    /// Trades and closed bars that were delivered, or reported as missed, since counting began.
    accounted: u64,
}

#[derive(Debug)]
enum Reads {
    MessagePack(Box<(UpdateDecoder, Image)>),
    Json(Rings),
}

/// How a session that has not read for a while becomes up to date.
#[derive(Clone, Copy, Debug)]
pub struct CatchUp {
    /// On the tape's clock, µs: data later than this are up to date.
    pub now: i64,
    /// Bytes and frames read before that.
    pub old_bytes: u64,
    pub old_frames: u64,
    pub is_there: bool,
}

/// Counts over all sessions.
#[derive(Debug)]
pub struct Notes {
    /// Pairs the tape's clock with this machine's.
    pub clock: Option<Clock>,
    /// Only what is due in here is timed, in µs on the tape's clock.
    pub window: std::ops::Range<i64>,
    /// The due times are unknown: each update is timed from its own moment on the tape's clock.
    pub times_updates: bool,
    pub latency: Histogram<u64>,
    pub frames: u64,
    pub bytes: u64,
    /// Changes of the topics of sessions whose timeline is known.
    pub ticks: u64,
    /// Frames and bytes of those.
    pub timed_frames: u64,
    pub timed_bytes: u64,
    /// Ring entries that were reported as missed to the fully decoded sessions.
    pub missed: u64,
}

/// A moment on the tape's clock, and the moment on ours at which it is due.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub feed_micros: i64,
    pub here: Instant,
    pub speed: f64,
}

impl Clock {
    /// µs from when a moment of the tape was due to `at`; 0 if `at` is earlier.
    pub fn late(&self, due: i64, at: Instant) -> u64 {
        let since_anchor = at.saturating_duration_since(self.here);
        let due = self.micros_until(due);
        u64::try_from(i64::try_from(since_anchor.as_micros()).unwrap_or(i64::MAX).saturating_sub(due))
            .unwrap_or(0)
    }

    /// Wall time from the anchor to a moment of the tape, µs.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "2^53 µs are 285 years")]
    fn micros_until(&self, due: i64) -> i64 {
        ((due - self.feed_micros) as f64 / self.speed) as i64
    }

    /// The tape's clock at a moment of ours, µs.
    #[expect(clippy::cast_possible_truncation, reason = "as above")]
    pub fn tape_micros(&self, at: Instant) -> i64 {
        let (after, before) =
            (at.saturating_duration_since(self.here), self.here.saturating_duration_since(at));
        self.feed_micros + ((after.as_secs_f64() - before.as_secs_f64()) * 1e6 * self.speed) as i64
    }

    /// When a moment of the tape is due here.
    pub fn due(&self, micros: i64) -> Instant {
        let after = self.micros_until(micros);
        let span = Duration::from_micros(after.unsigned_abs());
        if after < 0 { self.here.checked_sub(span).unwrap_or(self.here) } else { self.here + span }
    }
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            clock: None,
            window: 0..0,
            times_updates: false,
            latency: latencies(),
            frames: 0,
            bytes: 0,
            ticks: 0,
            timed_frames: 0,
            timed_bytes: 0,
            missed: 0,
        }
    }
}

impl Session {
    /// `greeting` as of [`Door::greeting`].
    pub fn new(
        door: Door,
        greeting: Arc<Greeting>,
        timeline: Option<Arc<Timeline>>,
        decode: bool,
        log: bool,
    ) -> Self {
        let full = || {
            let reads = match door {
                Door::Websocket => Reads::MessagePack(Box::new((
                    UpdateDecoder::new(Position::START, Timestamp::default()),
                    Image::default(),
                ))),
                Door::SocketIo | Door::Sse | Door::Lines => Reads::Json(Rings::default()),
            };
            Box::new(Full { reads, accounted: 0 })
        };
        Self {
            door,
            greeting,
            stage: Stage::Handshake,
            partial: Vec::new(),
            micros: 0,
            position: 0,
            bytes: 0,
            due: timeline.map(|timeline| Due { timeline, from: 0, next: 0 }),
            full: decode.then(full),
            log: log.then(Log::default),
            watch: None,
        }
    }

    /// A session that receives another one's frames again, from a floor to which it sends the number of that
    /// log.
    pub fn again(door: Door, log: &Log, number: u32, timeline: Option<Arc<Timeline>>) -> Self {
        let mut session = Self::new(door, Arc::default(), timeline, false, false);
        session.greeting = Arc::new(Greeting { request: number.to_be_bytes().into(), then: Vec::new() });
        session.stage = Stage::Open;
        (session.position, session.micros) = log.from;
        // What was due at that moment was delivered.
        session.begin(log.from.1 + 1);
        session
    }

    /// The tape's clock as of the last update, µs.
    pub fn micros(&self) -> i64 {
        self.micros
    }

    pub fn is_timed(&self) -> bool {
        self.due.is_some()
    }

    pub fn take_log(&mut self) -> Option<Log> {
        self.log.take()
    }

    /// Counts from here on: changes due before `from`, on the tape's clock, no longer matter.
    pub fn begin(&mut self, from: i64) {
        self.bytes = 0;
        if let Some(due) = &mut self.due {
            due.from = due.timeline.partition_point(|&moment| moment < from);
            due.next = due.from;
        }
        if let Some(full) = &mut self.full {
            full.accounted = 0;
        }
        if let Some(log) = &mut self.log {
            *log = Log { from: (self.position, self.micros), ..Log::default() };
        }
    }

    /// Bytes of the updates since counting began.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether its frames are read in full.
    pub fn is_decoded(&self) -> bool {
        self.full.is_some()
    }

    /// Whether anything is due to it from `window`, on the tape's clock.
    pub fn is_owed(&self, window: &std::ops::Range<i64>) -> bool {
        let until = |due: &Due, end| due.timeline.partition_point(|&moment| moment < end);
        self.due.as_ref().is_some_and(|due| until(due, window.start) < until(due, window.end))
    }

    /// Trades and closed bars due to a session without other topics that its frames neither delivered nor
    /// reported as missed; 0 if the frames are not read in full. Entries due before counting began may be
    /// delivered after it, and so hide a few.
    pub fn untold(&self) -> u64 {
        let (Some(due), Some(full)) = (&self.due, &self.full) else { return 0 };
        ((due.next - due.from) as u64).saturating_sub(full.accounted)
    }

    /// How many changes due before `end` it has not received; they are timed as if they came now.
    pub fn give_up(&mut self, end: i64, notes: &mut Notes) -> u64 {
        let Some(due) = &mut self.due else { return 0 };
        let left = due.timeline[due.next..].partition_point(|&moment| moment < end);
        time(&due.timeline[due.next..due.next + left], Instant::now(), notes);
        due.next += left;
        left as u64
    }

    fn handshake(&mut self) -> Result<usize, String> {
        let Some(end) = self.partial.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(0);
        };
        let head = String::from_utf8_lossy(&self.partial[..end]);
        if !head.starts_with(self.door.accepted()) {
            let body = String::from_utf8_lossy(&self.partial[end + 4..]);
            let status = head.lines().next().unwrap_or_default();
            return Err(format!("the server answered {status:?} {body}"));
        }
        self.stage = Stage::Subscribing;
        Ok(end + 4)
    }

    fn message(
        &mut self,
        message: &[u8],
        payload: usize,
        at: Instant,
        notes: &mut Notes,
        answer: &mut Vec<u8>,
    ) -> Result<(), String> {
        match self.door.read(message, payload)? {
            Received::Update(update) => self.update(message, update, at, notes),
            Received::Answer(answer) => self.answered(answer),
            Received::Accepted => {
                answer.extend_from_slice(&self.greeting.then);
                Ok(())
            }
            Received::Asked(bytes) => {
                answer.extend(bytes);
                Ok(())
            }
            Received::Nothing => Ok(()),
        }
    }

    fn answered(&mut self, payload: &[u8]) -> Result<(), String> {
        let answer = match self.door {
            Door::Websocket => rmp_serde::from_slice::<Answer>(payload).map_err(|error| error.to_string()),
            Door::SocketIo | Door::Sse | Door::Lines => {
                serde_json::from_slice(payload).map_err(|error| error.to_string())
            }
        };
        match answer.map_err(|error| format!("an unreadable answer: {error}"))? {
            Answer::Welcome { position, time, .. } => {
                (self.position, self.micros) = (position, time);
                if let Some(Full { reads: Reads::MessagePack(read), .. }) = self.full.as_deref_mut() {
                    read.0 = UpdateDecoder::new(Position::new(position), Timestamp::from_micros(time));
                }
                Ok(())
            }
            Answer::Subscribed { topics, .. } => {
                self.stage = Stage::Open;
                match topics.iter().find_map(|topic| topic.error.as_ref()) {
                    Some(refusal) => Err(format!("a topic was refused: {}", refusal.message)),
                    None => Ok(()),
                }
            }
            Answer::Error { message, .. } => Err(format!("the server said: {message}")),
            _ => Ok(()),
        }
    }

    fn update(&mut self, frame: &[u8], payload: &[u8], at: Instant, notes: &mut Notes) -> Result<(), String> {
        let len = frame.len();
        let from = (self.position, self.micros);
        (self.position, self.micros) =
            self.door.advance(payload, from).ok_or("an update without a beginning")?;
        notes.frames += 1;
        notes.bytes += len as u64;
        self.bytes += len as u64;
        if let Some(watch) = &mut self.watch
            && !watch.is_there
        {
            watch.is_there = self.micros >= watch.now;
            if !watch.is_there {
                watch.old_bytes += len as u64;
                watch.old_frames += 1;
            }
        }
        if let Some(log) = &mut self.log {
            log.frames.push((self.micros, u32::try_from(frame.len()).unwrap_or(u32::MAX)));
            log.bytes.extend_from_slice(frame);
        }
        if let Some(due) = &mut self.due {
            let rest = &due.timeline[due.next..];
            // Nearly always a few: looking at them one by one is quicker than searching.
            let told = match rest.iter().take(TIMED).position(|&moment| moment > self.micros) {
                Some(few) => few,
                None => rest.partition_point(|&moment| moment <= self.micros),
            };
            time(&rest[..told], at, notes);
            due.next += told;
            notes.ticks += told as u64;
            notes.timed_frames += 1;
            notes.timed_bytes += len as u64;
        } else if notes.times_updates && self.position > from.0 {
            time(&[self.micros], at, notes);
        }
        if let Some(full) = &mut self.full {
            full.apply(payload, self.position, notes)?;
        }
        Ok(())
    }
}

impl Full {
    fn apply(&mut self, update: &[u8], position: u64, notes: &mut Notes) -> Result<(), String> {
        match &mut self.reads {
            Reads::MessagePack(read) => {
                let (decoder, image) = &mut **read;
                let update = decoder.decode(update).map_err(|error| error.to_string())?;
                for change in image.apply(&update) {
                    match change {
                        Change::Gap { missed, .. } => {
                            notes.missed += missed;
                            self.accounted += missed;
                        }
                        Change::Trade { .. } | Change::ClosedBar { .. } => self.accounted += 1,
                        _ => {}
                    }
                }
                if decoder.position().get() != position {
                    return Err("position and decoder disagree".to_owned());
                }
            }
            Reads::Json(rings) => {
                let entries = rings.apply(update)?;
                notes.missed += entries.missed;
                self.accounted += entries.delivered + entries.missed;
            }
        }
        Ok(())
    }
}

impl Peer for Session {
    type Notes = Notes;

    fn received(
        &mut self,
        bytes: &[u8],
        at: Instant,
        notes: &mut Notes,
        answer: &mut Vec<u8>,
    ) -> Result<(), String> {
        let mut held = std::mem::take(&mut self.partial);
        let (mut rest, mut searched) = (bytes, held.len());
        if !held.is_empty() || matches!(self.stage, Stage::Handshake) {
            held.extend_from_slice(bytes);
            rest = &held;
        }
        if matches!(self.stage, Stage::Handshake) {
            self.partial = rest.to_vec();
            let taken = self.handshake()?;
            if taken == 0 {
                return Ok(());
            }
            self.partial.clear();
            (rest, searched) = (&rest[taken..], 0);
        }
        while let Some((payload, len)) = self.door.extent(rest, searched)? {
            let (message, more) = rest.split_at(len);
            self.message(message, payload, at, notes, answer)?;
            (rest, searched) = (more, 0);
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    fn greeting(&self) -> Vec<u8> {
        self.greeting.request.clone()
    }

    fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }
}

/// A histogram of µs, to three digits.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_LATENCY, 3).expect("bounds in order")
}

/// Records the latencies of these: all if they are few, else of a sample.
fn time(due: &[i64], at: Instant, notes: &mut Notes) {
    let Some(clock) = notes.clock else { return };
    let step = due.len().div_ceil(TIMED).max(1);
    for chunk in due.chunks(step) {
        if notes.window.contains(&chunk[0]) {
            let late = clock.late(chunk[0], at).clamp(1, MAX_LATENCY);
            notes.latency.record_n(late, chunk.len() as u64).expect("clamped to the bounds");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_claims_to_tell_and_does_not_is_seen_through() {
        let timeline: Timeline = [1, 2, 3].into();
        let mut session =
            Session::new(Door::Websocket, Arc::default(), Some(Arc::new(timeline)), true, false);
        session.stage = Stage::Open;
        // By 3 positions and 3 µs further, without a change.
        session
            .received(&[0x82, 3, 0x92, 3, 3], Instant::now(), &mut Notes::default(), &mut Vec::new())
            .unwrap();
        assert_eq!((session.untold(), session.bytes()), (3, 5));
    }

    #[test]
    fn where_what_is_due_is_not_known_each_update_is_timed_from_the_moment_it_tells() {
        let clock = Clock { feed_micros: 3, here: Instant::now(), speed: 1.0 };
        let mut notes = Notes { clock: Some(clock), window: 0..10, times_updates: true, ..Notes::default() };
        let mut session = Session::new(Door::Websocket, Arc::default(), None, false, false);
        session.stage = Stage::Open;
        let at = clock.here + Duration::from_millis(5);
        session.received(&[0x82, 3, 0x92, 3, 3], at, &mut notes, &mut Vec::new()).unwrap();
        assert_eq!((notes.latency.len(), notes.latency.max() / 100), (1, 50));
    }
}
