use super::recorder::without_past;
use super::{Output, Recorder};
use crate::feed::formats::recording::RecordingHeader;
use crate::market::{Event, Timestamp};
use crate::tape::{Batch, Epoch, Position, Reader};
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// A recording under way: a thread that writes, so that no disk is waited for on the way of a tick.
#[derive(Debug)]
pub struct Recording {
    status: Arc<RecordingStatus>,
    thread: JoinHandle<Result<Written, Failure>>,
    /// Which reader writes to it is not taken yet.
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
#[error("{}: {reason}", path.display())]
pub struct Failure {
    pub path: PathBuf,
    pub reason: String,
}

/// What a recording tells of itself, to anyone who asks.
#[derive(Debug)]
pub struct RecordingStatus {
    /// Events that wait to be written.
    waiting: AtomicUsize,
    files: AtomicU64,
    batches: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    position: AtomicU64,
    /// Whether the tape has given it up.
    abandoned: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// The tape's way to the thread.
#[derive(Debug)]
struct RecordingReader {
    batches: Option<mpsc::Sender<Arc<Batch>>>,
    status: Arc<RecordingStatus>,
    thread: Thread,
    /// Events sent since the thread was last woken.
    unannounced: usize,
    path: PathBuf,
}

/// The thread looks for batches this often: waking it for each would cost the tape more than the rest of it.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// It is woken before that where so many events wait.
const WAKE_AT: usize = 16 * 1024;
/// Events that may wait; beyond these the tape does.
const MAX_WAITING: usize = 1 << 20;
/// A disk that takes nothing for so long while the tape waits is given up.
const MAX_STALL: Duration = Duration::from_secs(2);
/// How long a frame stays open on the wall's clock: together with [`LOOK_EVERY`], a crash costs less than a second.
const FRAME: Duration = Duration::from_millis(700);
/// What is flushed at the end may take so long.
const FINISH: Duration = Duration::from_secs(10);
const BUFFER: usize = 256 * 1024;

impl Recording {
    /// Creates the file, named for a recording that begins at `now`, and starts the thread.
    ///
    /// # Errors
    /// [`Failure`] where the file cannot be created.
    pub fn start(output: Output, epoch: Epoch, source: &str, now: Timestamp) -> Result<Self, Failure> {
        let status = Arc::new(RecordingStatus::new());
        let (sender, batches) = mpsc::channel();
        let header = RecordingHeader { epoch: epoch.get(), created: now, source: source.to_owned() };
        let path = output.path_at(now);
        let failed = |error: io::Error| Failure { path: path.clone(), reason: told(&error) };
        let file = output.create(&path).and_then(|file| begin(file, &header)).map_err(failed)?;
        let run = Run {
            output,
            header,
            file,
            path: path.clone(),
            start: None,
            is_opening: true,
            take: 1,
            frame: None,
            before: Written { files: 1, ..Written::default() },
            batches,
            status: Arc::clone(&status),
        };
        let thread = std::thread::Builder::new().name("recorder".to_owned());
        let thread = thread.spawn(|| run.run()).map_err(failed)?;
        let (waker, telling) = (thread.thread().clone(), Arc::clone(&status));
        let reader =
            RecordingReader { batches: Some(sender), status: telling, thread: waker, unannounced: 0, path };
        Ok(Self { status, thread, reader: Some(reader) })
    }

    /// What a tape writes to. The recording ends when it is dropped.
    ///
    /// # Panics
    /// When it is asked for twice.
    pub fn reader(&mut self) -> impl Reader + use<> {
        self.reader.take().expect("a recording has one tape")
    }

    /// How it does.
    #[must_use]
    pub fn status(&self) -> &Arc<RecordingStatus> {
        &self.status
    }

    /// Waits until all is written, once the reader is gone: a few seconds at the most.
    ///
    /// # Errors
    /// [`Failure`] where not everything could be written.
    pub fn finish(mut self) -> Result<Written, Failure> {
        self.reader = None;
        let stop = Instant::now() + FINISH;
        self.thread.thread().unpark();
        while !self.thread.is_finished() {
            if Instant::now() >= stop {
                let reason = "the disk takes no more: its end is missing".to_owned();
                return Err(self.status.failure().unwrap_or(Failure { path: PathBuf::new(), reason }));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => Err(Failure { path: PathBuf::new(), reason: "the recorder has panicked".to_owned() }),
        }
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

/// An empty batch takes its room, too.
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
            // It has told why.
            self.batches = None;
        }
    }
}

impl RecordingReader {
    /// Waits for room; whether there is any.
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

type Writing = Recorder<BufWriter<File>>;

/// The thread's own.
struct Run {
    output: Output,
    header: RecordingHeader,
    file: Writing,
    path: PathBuf,
    /// The time of the file's first batch.
    start: Option<Timestamp>,
    /// Nothing is in the file but what it began with.
    is_opening: bool,
    /// How often the tape has begun, and so which number is in the names of its files.
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
        loop {
            match self.write_waiting() {
                Err(error) => return Err(self.fail(&error)),
                Ok(_) if self.status.abandoned.load(Ordering::Relaxed) => {
                    return Err(self.fail(&io::Error::other("the disk was too slow")));
                }
                Ok(false) => break,
                Ok(true) => std::thread::park_timeout(LOOK_EVERY),
            }
        }
        let written = self.written();
        self.status.tell(&written);
        let Self { file, path, status, before, .. } = self;
        match finish(file) {
            Ok(bytes) => {
                let written = Written { bytes: before.bytes + bytes, ..written };
                status.tell(&written);
                Ok(written)
            }
            Err(error) => {
                let failure = Failure { path, reason: told(&error) };
                status.fail(&failure);
                Err(failure)
            }
        }
    }

    /// Writes what waits; whether more can come.
    fn write_waiting(&mut self) -> io::Result<bool> {
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
        self.status.tell(&self.written());
        Ok(result)
    }

    fn append(&mut self, batch: &Batch) -> io::Result<()> {
        if let Some(Event::Reset) = batch.events.first() {
            // Times run back here, which they never do within a file.
            let events = without_past(batch.events.iter().cloned());
            return self.begin_anew(&Batch { position: batch.position, time: batch.time, events });
        }
        let is_first = self.start.is_none();
        let start = *self.start.get_or_insert(batch.time);
        if self.output.is_over(start, batch.time) {
            self.next_day(batch.time)?;
        }
        self.is_opening &= !batch.events.iter().any(|event| match event {
            Event::Feed(_) | Event::Stats(_) => false,
            // Every tape begins with it.
            Event::Status(None, _) => !is_first,
            _ => true,
        });
        match self.file.append(batch) {
            // Nothing was written of it, and nothing else is wrong.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                tracing::error!("batch {} is not recorded: {error}", batch.position.get());
                Ok(())
            }
            result => result,
        }
    }

    fn close_frame_in_time(&mut self) -> io::Result<()> {
        let start = self.file.frame_start();
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

    /// Begins the file of another day with what stands at the end of this one.
    fn next_day(&mut self, time: Timestamp) -> io::Result<()> {
        let opening = Batch { time, ..self.file.opening() };
        self.next_file(&opening)
    }

    /// The tape has begun anew. A file in which nothing has happened yet, such as that of a replay which is wound to its start, or sought
    /// twice, makes room for the next one.
    fn begin_anew(&mut self, opening: &Batch) -> io::Result<()> {
        if !self.is_opening {
            self.take += 1;
            return self.next_file(opening);
        }
        let before = self.before;
        // Where it stays, the next one gets a number.
        let _ = std::fs::remove_file(&self.path);
        self.next_file(opening)?;
        self.before = before;
        Ok(())
    }

    fn next_file(&mut self, opening: &Batch) -> io::Result<()> {
        let time = opening.time;
        self.header.created = time;
        let (path, file) = self.output.create_another(time, &mut self.take)?;
        let file = begin(file, &self.header)?;
        let before = Written { files: self.before.files + 1, ..self.written() };
        let ended = std::mem::replace(&mut self.file, file);
        finish(ended)?;
        tracing::info!("the recording goes on in {}", path.display());
        (self.path, self.before, self.frame) = (path, before, None);
        (self.start, self.is_opening) = (Some(time), true);
        self.file.append(opening)
    }

    fn written(&self) -> Written {
        let totals = self.file.totals();
        Written {
            files: self.before.files,
            batches: self.before.batches + totals.batches,
            events: self.before.events + totals.events,
            bytes: self.before.bytes + self.file.bytes(),
            position: self.file.position(),
        }
    }

    /// Leaves a file that ends with a whole frame, as far as the disk lets it.
    fn fail(self, error: &io::Error) -> Failure {
        let Self { file, path, status, .. } = self;
        let whole = file.whole_bytes();
        // What it still holds goes to the file first, if it can.
        drop(file);
        if let Ok(file) = File::options().write(true).open(&path)
            && file.metadata().is_ok_and(|metadata| metadata.len() > whole)
        {
            let _ = file.set_len(whole);
        }
        let failure = Failure { path, reason: told(error) };
        status.fail(&failure);
        failure
    }
}

fn begin(file: File, header: &RecordingHeader) -> io::Result<Writing> {
    let mut recorder = Recorder::new(BufWriter::with_capacity(BUFFER, file), header)?;
    // A file that a crash leaves behind can be opened, however early it comes.
    recorder.close_frame()?;
    Ok(recorder)
}

/// Its size.
fn finish(recorder: Writing) -> io::Result<u64> {
    let file = recorder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AlreadyExists => "there is such a file already (--force overwrites it)".to_owned(),
        _ => error.to_string(),
    }
}
