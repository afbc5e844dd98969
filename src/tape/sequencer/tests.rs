//! Tests of the sequencer, with logs that repeat, lose or withhold entries.

use super::super::Epoch;
use super::*;
use crate::feed::publish::parse_json_line;
use crate::market::{FeedKind, FeedState, FeedStatus, Instrument, InstrumentId, Speed, Symbol};
use crate::tape::schedule::Schedule;
use crate::tape::{MemoryLog, Publication};
use proptest::prelude::*;
use std::sync::{Mutex, Weak};

/// A log that returns what its test puts there.
#[derive(Clone, Default)]
struct Given(Arc<Mutex<Vec<Entry>>>);

impl Log for Given {
    fn epoch(&self) -> Epoch {
        Epoch::new(1)
    }

    fn append(&mut self, _: Submission) -> Result<(), LogError> {
        Ok(())
    }

    fn read(&mut self, _: Position, out: &mut Vec<Entry>) -> Result<(), LogError> {
        out.extend_from_slice(&self.0.lock().unwrap());
        Ok(())
    }

    fn notify(&mut self, _: Bell) {}
}

type Batches = Arc<Mutex<Vec<Arc<Batch>>>>;

fn sequencer(log: Box<dyn Log>) -> (Sequencer, Batches) {
    let status = FeedStatus { kind: FeedKind::Publisher, state: FeedState::Stale, speed: Speed::Max };
    let schedule = Schedule::from_now((Instant::now(), at(0)), at(0), Speed::Max);
    let batches = Batches::default();
    let read = Arc::clone(&batches);
    let reader = move |batch: &Arc<Batch>| read.lock().unwrap().push(Arc::clone(batch));
    let progress = Arc::new(Progress::new(status, &schedule));
    (Sequencer::new(log, Bell::new(Weak::new()), vec![Box::new(reader)], progress), batches)
}

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn entry(position: u64, producer: u64, number: u64, content: Content) -> Entry {
    let submission = Submission { id: SubmissionId { producer, number }, time: at(0), content };
    Entry { position: Position::new(position), submission }
}

fn trade(symbol: &str, price: &str) -> Content {
    let line = format!(r#"{{"type":"trade","symbol":"{symbol}","price":"{price}","size":1}}"#);
    Content::Published(Publication { events: vec![(1, parse_json_line(&line).unwrap())] })
}

#[test]
fn a_hole_ends_it() {
    let (log, empty) = (Given::default(), || Content::Played(Vec::new()));
    log.0.lock().unwrap().extend([entry(1, 1, 1, empty()), entry(3, 1, 3, empty())]);
    let (mut sequencer, batches) = sequencer(Box::new(log));
    sequencer.follow();
    let missing = LogError::Missing { after: Position::new(1), found: Position::new(3) };
    assert_eq!((sequencer.failure(), batches.lock().unwrap().len()), (Some(&missing), 1));
    assert_eq!(missing.to_string(), "position 1 is followed by 3: entries are missing");
}

#[test]
fn one_of_its_own_that_is_left_out_ends_it() {
    let log = Given::default();
    let (mut sequencer, batches) = sequencer(Box::new(log.clone()));
    let (tell, told) = std::sync::mpsc::channel();
    let reply: Reply<Receipt> = Box::new(move |receipt| tell.send(receipt.position).unwrap());
    sequencer.submit(at(0), trade("A", "1"), Some(reply));
    sequencer.submit(at(0), trade("A", "2"), None);
    assert!(sequencer.is_waiting());
    log.0.lock().unwrap().push(entry(1, sequencer.producer, 2, trade("A", "2")));
    sequencer.follow();
    assert_eq!(sequencer.failure(), Some(&LogError::Lost { expected: 1, found: 2 }));
    assert_eq!(batches.lock().unwrap().len(), 0);
    // The reply is dropped, not called.
    assert!(told.recv().is_err());
}

#[test]
fn a_log_that_gives_nothing_back_is_not_waited_for_without_end() {
    let (mut sequencer, _) = sequencer(Box::new(Given::default()));
    sequencer.patience = Duration::from_millis(20);
    sequencer.submit(at(0), trade("A", "1"), None);
    sequencer.settle();
    assert_eq!(sequencer.failure(), Some(&LogError::Silent(sequencer.patience)));
    assert!(!sequencer.is_waiting());
}

#[test]
fn no_batch_is_of_an_earlier_time_than_the_one_before_unless_it_begins_anew() {
    let (mut sequencer, batches) = sequencer(Box::new(MemoryLog::new(Epoch::new(1))));
    for time in [5, 3, 8] {
        sequencer.submit(at(time), Content::Played(Vec::new()), None);
    }
    let anew = Anew { numbering: None, events: Vec::new() };
    sequencer.submit(at(1), Content::Anew(Box::new(anew)), None);
    sequencer.submit(at(2), Content::Played(Vec::new()), None);
    let times: Vec<i64> = batches.lock().unwrap().iter().map(|batch| batch.time.nanos()).collect();
    assert_eq!(times, [5, 5, 8, 1, 2]);
}

#[derive(Clone, Debug)]
enum Op {
    Publish(usize, u32, u32),
    Play(usize, i64),
    Anew(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..4_usize, 1..1000_u32, 0..4_u32).prop_map(|(symbol, units, scale)| Op::Publish(symbol, units, scale)),
        4 => (0..4_usize, 1..1000_i64).prop_map(|(symbol, price)| Op::Play(symbol, price)),
        1 => any::<bool>().prop_map(Op::Anew),
    ]
}

impl Op {
    fn content(&self) -> Content {
        const SYMBOLS: [&str; 4] = ["A", "B", "C", "D"];
        match *self {
            Self::Publish(symbol, units, scale) => {
                let price = rust_decimal::Decimal::new(units.into(), scale);
                trade(SYMBOLS[symbol], &price.to_string())
            }
            // In the feed's numbers, not the tape's.
            Self::Play(symbol, previous_close) => {
                let definition = Instrument {
                    id: InstrumentId(9 - u32::try_from(symbol).unwrap()),
                    previous_close: crate::market::Price::new(previous_close),
                    ..Instrument::unknown(Symbol::new(SYMBOLS[symbol]).unwrap())
                };
                Content::Played(vec![Event::Instrument(Arc::new(definition))])
            }
            Self::Anew(renumbers) => {
                let numbering = renumbers.then(Numbering::default);
                Content::Anew(Box::new(Anew { numbering, events: Vec::new() }))
            }
        }
    }
}

proptest! {
    #[test]
    fn whoever_reads_a_log_makes_the_same_batches_of_it(
        ops in proptest::collection::vec((op(), 0..3_u64, any::<bool>()), 1..40), pieces in 1..5_usize,
    ) {
        let (mut entries, mut numbers) = (Vec::new(), [0; 3]);
        for (op, producer, again) in &ops {
            let number = &mut numbers[usize::try_from(*producer).unwrap()];
            *number += 1;
            for _ in 0..=usize::from(*again) {
                entries.push(entry(entries.len() as u64 + 1, *producer, *number, op.content()));
            }
        }
        // One reads all at once, the other in pieces, and again from the beginning each time.
        let (log, at_once) = (Given::default(), Given::default());
        at_once.0.lock().unwrap().clone_from(&entries);
        let (mut whole, expected) = sequencer(Box::new(at_once));
        whole.follow();
        let (mut in_pieces, read) = sequencer(Box::new(log.clone()));
        for piece in entries.chunks(pieces) {
            log.0.lock().unwrap().extend_from_slice(piece);
            in_pieces.follow();
        }
        prop_assert_eq!((whole.failure(), in_pieces.failure()), (None, None));
        prop_assert_eq!(&*read.lock().unwrap(), &*expected.lock().unwrap());
        // A position for each, and nothing twice.
        let positions: Vec<u64> = read.lock().unwrap().iter().map(|batch| batch.position.get()).collect();
        prop_assert_eq!(positions, (1..=entries.len() as u64).collect::<Vec<_>>());
        let trades = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::Trade(..))).count();
        let told: usize = read.lock().unwrap().iter().map(|batch| trades(&batch.events)).sum();
        prop_assert_eq!(told, ops.iter().filter(|(op, ..)| matches!(op, Op::Publish(..))).count());
    }
}
