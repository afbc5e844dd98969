//! Bars follow from the recording alone: however it is played, sought in, taken up from a checkpoint, looped,
//! or shown in a room, the bars, the days and the numbers of trades are those of the recording read moment by
//! moment.
#![warn(clippy::pedantic)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tickcast::feed::formats::{OpenOptions, open, open_at};
use tickcast::feed::{Between, Feed, Recordings, Source, Stop};
use tickcast::hub::Replica;
use tickcast::market::{Event, FeedState, Instruments, Speed, Timestamp};
use tickcast::record::Recorder;
use tickcast::recording::{RecordingHeader, RecordingIndex};
use tickcast::server::room::seek::{Course, Target, seek};
use tickcast::tape::{Batch, Control, Epoch, Handle, MemoryLog, Position, Reader, Step, Tape, opening};

/// Half a minute before a day ends.
const BEGINNING: i64 = 1_704_239_970_000_000_000;
const DAY: i64 = 86_400_000_000_000;
const MILLI: i64 = 1_000_000;
const PATIENCE: Duration = Duration::from_mins(1);
const COUNTS: [&str; 7] =
    ["", "", "", "volume", "volume day_high_low", "volume bars_high_low bars_last", "nothing"];
/// What a room keeps.
const ROOM: (usize, usize) = (512, 240);

/// One trade: so many ms after the one before, of a time so many ms earlier, of this symbol.
#[derive(Clone, Debug)]
struct Row {
    after: u32,
    late: i64,
    symbol: &'static str,
    price: u16,
    counts: &'static str,
    /// What is wrong with the clock of arrival, in ms.
    early: i64,
}

fn row() -> impl Strategy<Value = Row> {
    // Often close by, at times a silence in which bars are due.
    let after = prop_oneof![3 => Just(0), 6 => 1..900_u32, 3 => 900..5_000_u32, 1 => 5_000..200_000_u32];
    let late = prop_oneof![
        6 => Just(0_i64), 4 => -7_000..4_000_i64, 2 => 0..100_000_i64, 1 => DAY / MILLI - 40_000..DAY / MILLI
    ];
    let early = prop_oneof![9 => Just(0_i64), 1 => 0..3_000_i64];
    let parts = (after, late, select(&["A", "B"][..]), 90..110_u16, select(&COUNTS[..]), early);
    parts.prop_map(|(after, late, symbol, price, counts, early)| Row {
        after,
        late,
        symbol,
        price,
        counts,
        early,
    })
}

/// The rows as a file, and the time of the last one.
fn file(folder: &Path, rows: &[Row]) -> (PathBuf, Timestamp) {
    let mut text = "time,ts_recv,symbol,price,size,counts\n".to_owned();
    let (mut at, mut last) = (BEGINNING, i64::MIN);
    for (number, Row { after, late, symbol, price, counts, early }) in rows.iter().enumerate() {
        at += i64::from(*after) * MILLI;
        let moment = |nanos| Timestamp::from_nanos(nanos);
        let (time, arrival) = (moment(at - late * MILLI), moment(at - early * MILLI));
        writeln!(text, "{time},{arrival},{symbol},{price},{},{counts}", number % 7).unwrap();
        last = last.max(at - early * MILLI);
    }
    let path = folder.join("trades.csv");
    std::fs::write(&path, text).unwrap();
    (path, Timestamp::from_nanos(last))
}

/// Batches folded, and then all bars that are due by `end`.
struct Folded(Replica);

impl Folded {
    fn new() -> Self {
        Self(Replica::new(Epoch::new(1)))
    }

    fn fold(&mut self, time: Timestamp, events: Vec<Event>) {
        let batch = Batch { position: self.0.position().next(), time, events };
        self.0.apply(&batch, &mut Vec::new());
    }

    /// All that is known, but of the feed.
    fn known(mut self, end: Timestamp) -> Vec<Event> {
        self.fold(end, Vec::new());
        self.0.checkpoint().filter(|event| !matches!(event, Event::Feed(_))).collect()
    }
}

/// The feed read moment by moment, up to a moment.
fn read(mut feed: Box<dyn Feed>, to: Timestamp, end: Timestamp) -> Vec<Event> {
    let (mut instruments, mut folded) = (Instruments::default(), Folded::new());
    let mut is_first = true;
    loop {
        let mut events = Vec::new();
        match feed.next(&mut instruments, &mut events).expect("good rows") {
            Some(at) if at <= to => {
                if std::mem::take(&mut is_first) {
                    folded.fold(at, vec![opening(at)]);
                }
                folded.fold(at, events);
            }
            _ => return folded.known(end),
        }
    }
}

/// A tape, and the batches that it has told.
struct Running {
    tape: Handle,
    told: mpsc::Receiver<Arc<Batch>>,
}

impl Running {
    fn playing(feed: Box<dyn Feed>, speed: Speed, held: bool) -> Self {
        let (tell, told) = mpsc::channel();
        // Whoever has seen enough listens no more.
        let reader = Box::new(move |batch: &Arc<Batch>| drop(tell.send(Arc::clone(batch))));
        let log = Box::new(MemoryLog::new(Epoch::new(1)));
        let readers: Vec<Box<dyn Reader>> = vec![reader];
        let tape = Tape { log, feed: Some(feed), held, speed, max_gap: None, memory: None, readers };
        let (tape, _) = tape.start().expect("a thread");
        Self { tape, told }
    }

    /// All batches up to the one that tells of the feed's end, which is only that.
    fn until_ended(&self) -> Vec<Arc<Batch>> {
        let mut batches = Vec::new();
        loop {
            let batch = self.told.recv_timeout(PATIENCE).expect("it ends");
            let is_over =
                |event: &Event| matches!(event, Event::Feed(feed) if feed.state == FeedState::Ended);
            if batch.events.iter().any(is_over) {
                return batches;
            }
            batches.push(batch);
        }
    }

    fn control(&self, control: Control) {
        assert!(self.tape.control(control, |_| ()));
    }
}

fn fold(batches: &[Arc<Batch>], mut replica: Replica, end: Timestamp) -> Vec<Event> {
    for batch in batches {
        replica.apply(batch, &mut Vec::new());
    }
    Folded(replica).known(end)
}

fn played(tape: &Running, end: Timestamp) -> Vec<Event> {
    fold(&tape.until_ended(), Replica::new(Epoch::new(1)), end)
}

/// The newest of what each ring holds, as a room keeps it.
fn in_a_room(known: Vec<Event>, end: Timestamp) -> Vec<Event> {
    let mut room = Folded(Replica::keeping(Epoch::new(1), ROOM.0, ROOM.1));
    room.fold(end, known);
    room.known(end)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn bars_are_the_same_however_a_recording_is_played(
        rows in vec(row(), 1..60), repeat in prop_oneof![4 => Just(1), 1 => 10..20_usize],
        steps in vec(1..6_000_u64, 1..12), place in 0..1000_i64, speed in select(&[1e5, 1e6][..]),
    ) {
        let rows: Vec<Row> = rows.iter().cycle().take(rows.len() * repeat).cloned().collect();
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = file(folder.path(), &rows);
        let source = Recordings::new(vec![path], OpenOptions::default());
        let end = last.plus_nanos(2 * DAY);
        let expected = read(source.open().unwrap(), last, end);

        let at_once = Running::playing(source.open().unwrap(), Speed::Max, false);
        let batches = at_once.until_ended();
        prop_assert_eq!(&fold(&batches, Replica::new(Epoch::new(1)), end), &expected, "as fast as it can");

        let room = fold(&batches, Replica::keeping(Epoch::new(1), ROOM.0, ROOM.1), end);
        prop_assert_eq!(room, in_a_room(expected.clone(), end), "in a room");

        let paced = Running::playing(source.open().unwrap(), Speed::times(speed).unwrap(), false);
        prop_assert_eq!(&played(&paced, end), &expected, "at a pace");

        // Each step tells the time, as playing does in a silence.
        let stepped = Running::playing(source.open().unwrap(), Speed::times(0.001).unwrap(), false);
        stepped.control(Control::Pause);
        for &step in &steps {
            stepped.control(Control::Step(Step::Interval(Duration::from_millis(step))));
            stepped.control(Control::Step(Step::Event));
        }
        stepped.control(Control::Speed(Speed::Max));
        stepped.control(Control::Play);
        prop_assert_eq!(&played(&stepped, end), &expected, "in steps");

        let first = Timestamp::from_nanos(BEGINNING);
        let to = first.plus_nanos(last.nanos_since(first) / 1000 * place);
        let course = Course::new(Stop::default());
        let sought = seek(&source, Target::Moment(to), |_, _| None, &course, |_| ()).unwrap();
        let tape = Running::playing(source.open().unwrap(), Speed::Max, true);
        assert!(tape.tape.attach(sought, |_| ()));
        prop_assert_eq!(&played(&tape, end), &expected, "sought");
    }

    #[test]
    fn rounds_of_a_loop_are_the_same_however_they_are_played(
        mut rows in vec(row(), 2..30), rounds in 2..4_i64,
    ) {
        (rows[0].after, rows[0].early) = (0, 0);
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = file(folder.path(), &rows);
        let mut looped = Recordings::new(vec![path], OpenOptions::default());
        looped.looped = true;
        // Somewhere in a later round; of those that take no time there would be too many.
        let first = Timestamp::from_nanos(BEGINNING);
        let to = last.plus_nanos(last.nanos_since(first).max(0) * rounds / 2);
        let end = to.plus_nanos(2 * DAY);
        let open = || Box::new(Between::new(looped.open().unwrap(), None, Some(to))) as Box<dyn Feed>;
        let expected = read(open(), to, end);
        prop_assert_eq!(&played(&Running::playing(open(), Speed::Max, false), end), &expected);
        let paced = Running::playing(open(), Speed::times(1e6).unwrap(), false);
        prop_assert_eq!(&played(&paced, end), &expected);
    }
}

/// A file with checkpoints of trades that come late and count for this and that.
fn recorded(folder: &Path) -> (PathBuf, PathBuf, Timestamp) {
    // Numbers that look like chance, the same each time.
    let mut state = 7_u64;
    let mut chance = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let rows: Vec<Row> = (0..60_000)
        .map(|_| Row {
            after: u32::try_from(if chance(400) == 0 { chance(90_000) } else { chance(300) }).unwrap(),
            late: i64::try_from(if chance(4) == 0 { chance(90_000) } else { chance(900) }).unwrap(),
            symbol: ["A", "B"][usize::try_from(chance(2)).unwrap()],
            price: u16::try_from(9_000 + chance(2_000)).unwrap(),
            counts: COUNTS[usize::try_from(chance(COUNTS.len() as u64)).unwrap()],
            early: 0,
        })
        .collect();
    let (csv, last) = file(folder, &rows);
    let tape = folder.join("trades.tape");
    let mut recorder =
        Recorder::new(std::fs::File::create(&tape).unwrap(), &RecordingHeader::default()).unwrap();
    let mut feed = open(&csv, &OpenOptions::default()).unwrap();
    let (mut instruments, mut position) = (Instruments::default(), Position::START);
    loop {
        let mut events = Vec::new();
        let Some(time) = feed.next(&mut instruments, &mut events).unwrap() else { break };
        position = position.next();
        recorder.append(&Batch { position, time, events }).unwrap();
    }
    recorder.finish().unwrap();
    (csv, tape, last)
}

#[test]
fn a_recording_taken_up_from_a_checkpoint_has_the_bars_that_it_has_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, tape, last) = recorded(folder.path());
    let options = OpenOptions::default();
    let index = RecordingIndex::read(&std::fs::File::open(&tape).unwrap()).unwrap();
    assert!(index.checkpoints.len() > 3, "{} checkpoints", index.checkpoints.len());
    let end = last.plus_nanos(2 * DAY);
    let without_state = |events: Vec<Event>| -> Vec<Event> {
        events.into_iter().filter(|event| !matches!(event, Event::Status(None, _))).collect()
    };
    let expected = without_state(read(open(&csv, &options).unwrap(), last, end));
    assert!(
        without_state(read(open(&tape, &options).unwrap(), last, end)) == expected,
        "the file as a whole"
    );
    for checkpoint in &index.checkpoints {
        let feed = open_at(&tape, &options, checkpoint.time).unwrap();
        assert!(without_state(read(feed, last, end)) == expected, "from {}", checkpoint.time);
        let source = Recordings::new(vec![tape.clone()], options.clone());
        let to = checkpoint.time.plus_nanos(777_000_000);
        let sought =
            seek(&source, Target::Moment(to), |_, _| None, &Course::new(Stop::default()), |_| ()).unwrap();
        let tape = Running::playing(source.open().unwrap(), Speed::Max, true);
        assert!(tape.tape.attach(sought, |_| ()));
        assert!(without_state(played(&tape, end)) == expected, "sought {to}");
    }
}
