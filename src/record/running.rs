use super::Output;
use super::file::RecordingFile;
use super::recorder::without_past;
use crate::market::{Event, Printable, Timestamp};
use crate::recording::RecordingHeader;
use crate::tape::{Batch, Epoch, Position, Reader};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// A running recording. It has a thread that writes, so that no tick waits for a disk.
#[derive(Debug)]
pub struct Recording {
    status: Arc<RecordingStatus>,
    /// Of the first file.
    path: PathBuf,
    thread: JoinHandle<Result<Written, Failure>>,
    /// Until [`Self::reader`] takes it.
    reader: Option<RecordingReader>,
}

/// What was written, over all files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub files: u64,
    pub batches: u64,
    pub events: u64,
    pub bytes: u64,
    /// Of the last batch.
    pub position: Position,
}

/// Why a recording ended early. What was written by then can be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {}", Printable(&path.display().to_string()), Printable(reason))]
pub struct Failure {
    pub path: PathBuf,
    pub reason: String,
}

/// How a recording does. Any thread may read it.
#[derive(Debug)]
pub struct RecordingStatus {
    /// Events pending to be written.
    waiting: AtomicUsize,
    files: AtomicU64,
    batches: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    position: AtomicU64,
    /// Whether the tape has given it up.
    abandoned: AtomicBool,
    /// Whether to remove a file in which nothing is recorded.
    discarded: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// The tape's end of the path to the thread.
#[derive(Debug)]
struct RecordingReader {
    batches: Option<mpsc::Sender<Arc<Batch>>>,
    status: Arc<RecordingStatus>,
    thread: Thread,
    /// Events sent since the thread was last woken.
    unannounced: usize,
    path: PathBuf,
}

/// The thread looks for batches this often: waking it for each would cost the tape more than all else here.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// It is woken earlier if this many events are pending.
const WAKE_AT: usize = 16 * 1024;
/// Events that may be pending; with more, the tape waits.
const MAX_WAITING: usize = 1 << 20;
/// A disk that accepts nothing for this long while the tape waits is given up.
const MAX_STALL: Duration = Duration::from_secs(2);
/// How long a frame stays open, in wall time: together with [`LOOK_EVERY`], a crash costs less than a second.
const FRAME: Duration = Duration::from_millis(700);
/// The most time for the flush at the end.
const FINISH: Duration = Duration::from_secs(10);
/// How often it is checked whether the file is still there.
const CHECK_EVERY: Duration = Duration::from_millis(500);

impl Recording {
    /// Creates the file, named for a recording that begins at `now`, and starts the thread.
    ///
    /// # Errors
    /// [`Failure`] if the file cannot be created.
    pub fn start(output: Output, epoch: Epoch, source: &str, now: Timestamp) -> Result<Self, Failure> {
        let status = Arc::new(RecordingStatus::new());
        let (sender, batches) = mpsc::channel();
        let header = RecordingHeader { epoch: epoch.get(), created: now, source: source.to_owned() };
        let path = output.path_at(now);
        let file = RecordingFile::create(&output, path.clone(), &header)?;
        let run = Run {
            output,
            header,
            file,
            checked: Instant::now(),
            start: None,
            is_opening: true,
            take: 1,
            frame: None,
            before: Written { files: 1, ..Written::default() },
            batches,
            status: Arc::clone(&status),
        };
        let witness = Witness { status: Arc::clone(&status), path: path.clone() };
        let thread = std::thread::Builder::new().name("recorder".to_owned());
        let thread = thread.spawn(move || {
            let _witness = witness;
            run.run()
        });
        let thread = thread.map_err(|error| Failure { path: path.clone(), reason: told(&error) })?;
        let (waker, telling) = (thread.thread().clone(), Arc::clone(&status));
        let reader = RecordingReader {
            batches: Some(sender),
            status: telling,
            thread: waker,
            unannounced: 0,
            path: path.clone(),
        };
        Ok(Self { status, path, thread, reader: Some(reader) })
    }

    /// Ends a recording whose tape has not begun, and removes its empty file: that would block the next
    /// attempt.
    pub fn discard(self) {
        self.status.discarded.store(true, Ordering::Relaxed);
        let _ = self.finish();
    }

    /// The reader that a tape writes to. The recording ends when it is dropped.
    ///
    /// # Panics
    /// At the second call.
    pub fn reader(&mut self) -> impl Reader + use<> {
        self.reader.take().expect("a recording has one tape")
    }

    /// Its status, for any thread.
    #[must_use]
    pub fn status(&self) -> &Arc<RecordingStatus> {
        &self.status
    }

    /// Waits until all is written, once the reader is gone: about ten seconds at most.
    ///
    /// # Errors
    /// [`Failure`] if not everything could be written.
    pub fn finish(mut self) -> Result<Written, Failure> {
        self.reader = None;
        let stop = Instant::now() + FINISH;
        self.thread.thread().unpark();
        while !self.thread.is_finished() {
            if Instant::now() >= stop {
                return Err(self.failure("the disk takes no more: its end is missing"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => {
                Err(self.status.failure().unwrap_or(Failure { path: self.path, reason: PANICKED.to_owned() }))
            }
        }
    }

    /// Why it ended early; `reason` if it has not reported that.
    fn failure(&self, reason: &str) -> Failure {
        let other = || Failure { path: self.path.clone(), reason: reason.to_owned() };
        self.status.failure().unwrap_or_else(other)
    }
}

impl RecordingStatus {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            waiting: AtomicUsize::new(0),
            files: AtomicU64::new(1),
            batches: zero(),
            events: zero(),
            bytes: zero(),
            position: zero(),
            abandoned: AtomicBool::new(false),
            discarded: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// What was written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Written {
            files: load(&self.files),
            batches: load(&self.batches),
            events: load(&self.events),
            bytes: load(&self.bytes),
            position: Position::new(load(&self.position)),
        }
    }

    fn tell(&self, written: &Written) {
        let store = |count: &AtomicU64, value| count.store(value, Ordering::Relaxed);
        store(&self.files, written.files);
        store(&self.batches, written.batches);
        store(&self.events, written.events);
        store(&self.bytes, written.bytes);
        store(&self.position, written.position.get());
    }

    /// Why it ended early, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, failure: &Failure) {
        let mut known = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            tracing::error!("the recording has stopped, and the market goes on without it: {failure}");
            *known = Some(failure.clone());
        }
    }
}

/// An empty batch counts as one event.
fn weight(batch: &Batch) -> usize {
    batch.events.len().max(1)
}

impl Reader for RecordingReader {
    fn read(&mut self, batch: &Arc<Batch>) {
        let Some(batches) = &self.batches else { return };
        let weight = weight(batch);
        let waiting = self.status.waiting.fetch_add(weight, Ordering::Relaxed);
        self.unannounced += weight;
        if self.unannounced >= WAKE_AT {
            self.unannounced = 0;
            self.thread.unpark();
        }
        if waiting >= MAX_WAITING && !self.wait() {
            self.batches = None;
            self.status.abandoned.store(true, Ordering::Relaxed);
            let reason = format!("nothing could be written for {} s", MAX_STALL.as_secs());
            self.status.fail(&Failure { path: self.path.clone(), reason });
        } else if batches.send(Arc::clone(batch)).is_err() {
            // It has reported why.
            self.batches = None;
        }
    }
}

impl RecordingReader {
    /// Waits for space; returns whether there is any.
    fn wait(&self) -> bool {
        let (mut stalled_since, mut before) = (Instant::now(), usize::MAX);
        loop {
            self.thread.unpark();
            let waiting = self.status.waiting.load(Ordering::Relaxed);
            if waiting <= MAX_WAITING / 2 {
                return true;
            }
            let now = Instant::now();
            if waiting < before {
                (stalled_since, before) = (now, waiting);
            } else if now - stalled_since >= MAX_STALL {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for RecordingReader {
    fn drop(&mut self) {
        self.batches = None;
        self.thread.unpark();
    }
}

/// Reports a recorder that has panicked.
struct Witness {
    status: Arc<RecordingStatus>,
    path: PathBuf,
}

const PANICKED: &str = "the recorder has panicked";

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.status.fail(&Failure { path: self.path.clone(), reason: PANICKED.to_owned() });
        }
    }
}

/// The thread's state.
struct Run {
    output: Output,
    header: RecordingHeader,
    file: RecordingFile,
    /// When the file was last found to be there.
    checked: Instant,
    /// The time of the file's first batch.
    start: Option<Timestamp>,
    /// The file holds nothing but its opening.
    is_opening: bool,
    /// How often the tape has begun: the number in the names of its files.
    take: u32,
    /// The open frame, and when it was begun.
    frame: Option<(Timestamp, Instant)>,
    /// All before this file.
    before: Written,
    batches: mpsc::Receiver<Arc<Batch>>,
    status: Arc<RecordingStatus>,
}

impl Run {
    fn run(mut self) -> Result<Written, Failure> {
        let ended = loop {
            match self.write_waiting() {
                Err(stop) => break Err(stop),
                Ok(_) if self.status.abandoned.load(Ordering::Relaxed) => {
                    break Err(io::Error::other("the disk was too slow").into());
                }
                Ok(false) => break Ok(()),
                Ok(true) => std::thread::park_timeout(LOOK_EVERY),
            }
        };
        let written = self.written();
        self.status.tell(&written);
        let Self { file, status, before, .. } = self;
        let bytes = match ended {
            Ok(()) if status.discarded.load(Ordering::Relaxed) && written.batches == 0 => {
                file.make_room();
                return Ok(Written::default());
            }
            Ok(()) => file.finish(),
            Err(Stop::Io(error)) => Err(file.give_up(&error)),
            Err(Stop::Failed(failure)) => {
                file.give_up(&io::Error::other(failure.reason.clone()));
                Err(failure)
            }
        };
        match bytes {
            Ok(bytes) => {
                let written = Written { bytes: before.bytes + bytes, ..written };
                status.tell(&written);
                Ok(written)
            }
            Err(failure) => {
                status.fail(&failure);
                Err(failure)
            }
        }
    }

    /// Writes what is pending; returns whether more can come.
    fn write_waiting(&mut self) -> Result<bool, Stop> {
        let result = loop {
            match self.batches.try_recv() {
                Ok(batch) => {
                    self.append(&batch)?;
                    self.status.waiting.fetch_sub(weight(&batch), Ordering::Relaxed);
                }
                Err(mpsc::TryRecvError::Empty) => break true,
                Err(mpsc::TryRecvError::Disconnected) => break false,
            }
            self.close_frame_in_time()?;
        };
        self.close_frame_in_time()?;
        if self.checked.elapsed() >= CHECK_EVERY {
            self.file.check()?;
            self.checked = Instant::now();
        }
        self.status.tell(&self.written());
        Ok(result)
    }

    fn append(&mut self, batch: &Batch) -> Result<(), Stop> {
        if let Some(Event::Reset) = batch.events.first() {
            // Times run back here; they never do within a file.
            let events = without_past(batch.events.iter().cloned());
            return self.begin_anew(&Batch { position: batch.position, time: batch.time, events });
        }
        let is_first = self.start.is_none();
        let start = *self.start.get_or_insert(batch.time);
        if self.output.is_over(start, batch.time) {
            self.next_day(batch.time)?;
        }
        self.is_opening &= !batch.events.iter().any(|event| match event {
            Event::Feed(_) => false,
            // Every tape begins with it.
            Event::Status(None, _) => !is_first,
            _ => true,
        });
        Ok(self.file.append(batch)?)
    }

    fn close_frame_in_time(&mut self) -> io::Result<()> {
        let start = self.file.recorder().frame_start();
        match (self.frame, start) {
            (Some((known, begun)), Some(start)) if known == start => {
                if begun.elapsed() >= FRAME {
                    self.file.close_frame()?;
                    self.frame = None;
                }
            }
            (_, Some(start)) => {
                self.frame = Some((start, Instant::now()));
            }
            (_, None) => self.frame = None,
        }
        Ok(())
    }

    /// Begins the file of another day with the state at the end of this one.
    fn next_day(&mut self, time: Timestamp) -> Result<(), Stop> {
        let opening = Batch { time, ..self.file.recorder().opening() };
        self.next_file(&opening)
    }

    /// The tape has begun anew. A file without events so far, such as that of a replay that seeks to its
    /// start or twice in a row, is replaced by the next one.
    fn begin_anew(&mut self, opening: &Batch) -> Result<(), Stop> {
        if !self.is_opening {
            self.take += 1;
            return self.next_file(opening);
        }
        self.file.make_room();
        let before = self.before;
        let ended = self.open_next(opening)?;
        drop(ended);
        self.before = before;
        Ok(self.file.append(opening)?)
    }

    fn next_file(&mut self, opening: &Batch) -> Result<(), Stop> {
        // If there will be no other file, this one has everything so far.
        self.file.close_frame()?;
        let ended = self.open_next(opening)?;
        ended.finish().map_err(Stop::Failed)?;
        Ok(self.file.append(opening)?)
    }

    /// Goes on in another file; returns the one before, still to be ended.
    fn open_next(&mut self, opening: &Batch) -> Result<RecordingFile, Stop> {
        let time = opening.time;
        self.header.created = time;
        let created = self.output.create_another(time, &mut self.take).map_err(Stop::Failed)?;
        let file = RecordingFile::begin(created, &self.header).map_err(Stop::Failed)?;
        let before = Written { files: self.before.files + 1, ..self.written() };
        tracing::info!("the recording goes on in {}", file.path().display());
        (self.before, self.frame) = (before, None);
        (self.start, self.is_opening) = (Some(time), true);
        Ok(std::mem::replace(&mut self.file, file))
    }

    fn written(&self) -> Written {
        let recorder = self.file.recorder();
        let totals = recorder.totals();
        Written {
            files: self.before.files,
            batches: self.before.batches + totals.batches,
            events: self.before.events + totals.events,
            bytes: self.before.bytes + recorder.bytes(),
            position: recorder.position(),
        }
    }
}

/// What ends a recording early.
enum Stop {
    /// The current file cannot be written.
    Io(io::Error),
    /// Another one cannot.
    Failed(Failure),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(super) fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AlreadyExists => "there is such a file already (--force overwrites it)".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Instrument, InstrumentId, Symbol};
    use crate::recording::RecordingReader as TapeReader;

    /// The batch of a number: a definition, after a reset if the tape begins anew.
    fn batch(number: u64, begins: bool) -> Arc<Batch> {
        let symbol = Symbol::new(&format!("S{number}")).unwrap();
        let definition = Instrument { id: InstrumentId(0), ..Instrument::unknown(symbol) };
        let reset = begins.then_some(Event::Reset);
        let events = reset.into_iter().chain([Event::Instrument(Arc::new(definition))]);
        let time = Timestamp::from_nanos(i64::try_from(number).unwrap());
        Arc::new(Batch { position: Position::new(number), time, events: events.collect() })
    }

    fn positions(path: &std::path::Path) -> Vec<u64> {
        let file = std::fs::File::open(path).unwrap();
        let mut reader = TapeReader::new(zstd::Decoder::new(file).unwrap()).unwrap();
        let mut events = Vec::new();
        std::iter::from_fn(|| Some(reader.next(&mut events).unwrap()?.0)).collect()
    }

    fn start(path: PathBuf) -> Result<Recording, Failure> {
        Recording::start(Output::new(path, false), Epoch::new(1), "", Timestamp::default())
    }

    #[test]
    fn where_there_can_be_no_other_file_the_one_before_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let [there, elsewhere] = ["there", "elsewhere"].map(|name| folder.path().join(name));
        std::fs::create_dir(&there).unwrap();
        let mut recording = start(there.join("day.tape")).unwrap();
        let status = Arc::clone(recording.status());
        let mut reader = recording.reader();
        std::fs::rename(&there, &elsewhere).unwrap();
        for (number, begins) in [(1, false), (2, false), (3, true), (4, false)] {
            reader.read(&batch(number, begins));
        }
        drop(reader);
        let failure = recording.finish().unwrap_err();
        assert_eq!((failure.path, status.failure().is_some()), (there.join("day.2.tape"), true));
        assert_eq!(positions(&elsewhere.join("day.tape")), [1, 2]);
    }

    #[test]
    fn a_recording_that_is_discarded_leaves_no_empty_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("day.tape");
        start(path.clone()).unwrap().discard();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_another_that_has_taken_the_place_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let [path, moved] = ["day.tape", "moved.tape"].map(|name| folder.path().join(name));
        let mut recording = start(path.clone()).unwrap();
        let mut reader = recording.reader();
        std::fs::rename(&path, &moved).unwrap();
        std::fs::write(&path, "somebody else's").unwrap();
        reader.read(&batch(1, false));
        drop(reader);
        recording.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"somebody else's");
        assert_eq!(positions(&moved), [1]);
    }

    #[test]
    fn a_folder_that_is_named_for_the_day_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let mut recording = start(folder.path().join("{date}/day.tape")).unwrap();
        let mut reader = recording.reader();
        let day = |number, day: i64| {
            let time = Timestamp::from_nanos(day * 86_400_000_000_000);
            Arc::new(Batch { time, ..(*batch(number, false)).clone() })
        };
        reader.read(&day(1, 0));
        reader.read(&day(2, 1));
        drop(reader);
        assert_eq!(recording.finish().unwrap().files, 2);
        assert_eq!(positions(&folder.path().join("1970-01-01/day.tape")), [1]);
        // It begins with the state at the end of the day before.
        assert_eq!(positions(&folder.path().join("1970-01-02/day.tape")), [1, 2]);
    }

    #[test]
    fn a_recorder_that_panics_has_failed() {
        let status = Arc::new(RecordingStatus::new());
        let witness = Witness { status: Arc::clone(&status), path: "day.tape".into() };
        let thread = std::thread::spawn(move || {
            let _witness = witness;
            panic!("as it must never");
        });
        assert!(thread.join().is_err());
        assert_eq!(status.failure().unwrap().to_string(), "day.tape: the recorder has panicked");
    }
}
