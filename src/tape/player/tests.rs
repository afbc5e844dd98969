//! Tests of the player, turn by turn, with clocks that are set by hand.

use super::super::log::{Bell, MemoryLog};
use super::super::{Batch, Epoch, Timeline};
use super::*;
use crate::feed::FeedError;
use crate::feed::publish::parse_json_line;
use crate::market::{Bar, BarsSnapshot, Price, Side, Size, Snapshot, Status, Tail, Trade, TradingState};
use crate::market::{Conditions, Counts, Instrument, InstrumentId, Instruments, Newest, Symbol};
use proptest::prelude::*;
use std::sync::{Mutex, Weak, mpsc};

const BEGINNING: i64 = 1_700_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// Events per second of the feeds of these tests.
const RATE: usize = 100;

/// Clocks that are set by hand.
#[derive(Clone)]
struct Hand(Arc<Mutex<(Instant, Timestamp)>>);

impl Clock for Hand {
    fn now(&self) -> Instant {
        self.both().0
    }

    fn both(&self) -> (Instant, Timestamp) {
        *self.0.lock().unwrap()
    }
}

/// A state of the market every hundredth of a second, for ever.
struct Every {
    kind: FeedKind,
    next: Timestamp,
}

impl Feed for Every {
    fn kind(&self) -> FeedKind {
        self.kind
    }

    fn next(&mut self, _: &mut Instruments, out: &mut Vec<Event>) -> Result<Option<Timestamp>, FeedError> {
        let at = self.next;
        self.next = at.plus_nanos(SECOND / i64::try_from(RATE).unwrap());
        out.push(Event::Status(None, Status { state: TradingState::Open, ts_event: at }));
        Ok(Some(at))
    }
}

struct World {
    player: Player,
    tape: Sequencer,
    clocks: Hand,
    batches: Arc<Mutex<Vec<Arc<Batch>>>>,
    seen: usize,
}

impl World {
    /// A tape that is fed by `kind` from the wall clock's time on, and has run for ten seconds.
    fn of(kind: FeedKind, speed: Speed) -> Self {
        Self::knowing(kind, speed, Vec::new())
    }

    fn knowing(kind: FeedKind, speed: Speed, known: Vec<Event>) -> Self {
        let wall = Timestamp::from_nanos(BEGINNING);
        let clocks = Hand(Arc::new(Mutex::new((Instant::now(), wall))));
        let feed =
            (kind != FeedKind::Publisher).then(|| Box::new(Every { kind, next: wall }) as Box<dyn Feed>);
        let batches = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&batches);
        let memory: Memory = Box::new(move || known.clone());
        let reader = move |batch: &Arc<Batch>| told.lock().unwrap().push(Arc::clone(batch));
        let player = Player::new(feed, false, speed, Box::new(clocks.clone()));
        let mut player = Player { memory: Some(memory), ..player };
        let log = Box::new(MemoryLog::new(Epoch::new(1)));
        let progress = Arc::clone(player.progress());
        let mut tape = Sequencer::new(log, Bell::new(Weak::new()), vec![Box::new(reader)], progress);
        player.begin(&mut tape);
        let mut world = Self { player, tape, clocks, batches, seen: 0 };
        world.pass(Duration::from_secs(10));
        world.news();
        world
    }

    /// Time passes while it runs.
    fn pass(&mut self, duration: Duration) {
        for _ in 0..duration.as_millis() / 50 {
            self.freeze(Duration::from_millis(50));
            // As its thread does, until there is nothing to do.
            while self.turn() <= self.clocks.now() {
                self.tell_time();
            }
            self.tell_time();
        }
    }

    fn turn(&mut self) -> Instant {
        self.player.turn(&mut self.tape)
    }

    fn tell_time(&mut self) {
        self.player.tell_time(&mut self.tape);
    }

    /// The process is frozen, the machine is not.
    fn freeze(&self, duration: Duration) {
        self.sleep(duration);
        self.clocks.0.lock().unwrap().0 += duration;
    }

    /// The machine sleeps, or its clock is set forward.
    fn sleep(&self, duration: Duration) {
        let wall = &mut self.clocks.0.lock().unwrap().1;
        *wall = wall.plus_nanos(i64::try_from(duration.as_nanos()).unwrap());
    }

    fn set_back(&self, duration: Duration) {
        let wall = &mut self.clocks.0.lock().unwrap().1;
        *wall = wall.plus_nanos(-i64::try_from(duration.as_nanos()).unwrap());
    }

    fn wall(&self) -> Timestamp {
        self.clocks.both().1
    }

    /// The lag of the tape's clock behind the wall clock.
    fn behind(&self) -> i64 {
        self.wall().nanos_since(self.player.clock())
    }

    /// When it arrives.
    fn publish(&mut self) -> Timestamp {
        let trade = parse_json_line(r#"{"type":"trade","symbol":"PUBLISHED","price":1,"size":1}"#).unwrap();
        let publication = Publication { events: vec![(1, trade)] };
        let (tell, told) = mpsc::channel();
        self.player.follow_machine(&mut self.tape);
        self.player.publish(
            publication,
            Box::new(move |receipt| tell.send(receipt).unwrap()),
            &mut self.tape,
        );
        assert_eq!(told.try_recv().unwrap().accepted, 1);
        match self.batches.lock().unwrap().last().unwrap().events.last() {
            Some(Event::Trade(_, trade)) => trade.ts_recv,
            other => panic!("{other:?}"),
        }
    }

    fn control(&mut self, control: Control) {
        self.player.follow_machine(&mut self.tape);
        self.player.control(control, &mut self.tape);
    }

    /// The batches since the last call.
    fn news(&mut self) -> Vec<Arc<Batch>> {
        let batches = self.batches.lock().unwrap();
        batches[std::mem::replace(&mut self.seen, batches.len())..].to_vec()
    }

    /// Since the last call: how many states, and whether time ran back anywhere but at a reset.
    #[track_caller]
    fn happened(&mut self) -> usize {
        let mut before = self.seen.checked_sub(1).map(|last| self.batches.lock().unwrap()[last].time);
        let mut count = 0;
        for batch in self.news() {
            let is_reset = batch.events.first() == Some(&Event::Reset);
            assert!(
                is_reset || before.is_none_or(|before| batch.time >= before),
                "{before:?}, then {batch:?}"
            );
            before = Some(batch.time);
            count += batch.events.iter().filter(|event| matches!(event, Event::Status(..))).count();
        }
        count
    }
}

const LIVE: [FeedKind; 2] = [FeedKind::Publisher, FeedKind::Simulator];

#[test]
fn a_tape_of_now_is_on_the_wall_after_a_sleep_and_after_a_freeze() {
    let both = |world: &World, span| {
        world.freeze(span);
        world.sleep(span);
    };
    let stop: [fn(&World, Duration); 3] = [World::sleep, World::freeze, both];
    for (kind, stop) in LIVE.into_iter().flat_map(|kind| stop.map(|stop| (kind, stop))) {
        for span in [Duration::from_secs(20), HOUR, DAY * 3] {
            let mut world = World::of(kind, Speed::Times(1.0));
            stop(&world, span);
            // Before it did anything else.
            assert_eq!(world.publish(), world.wall(), "{kind} {span:?}");
            world.pass(Duration::from_secs(10));
            let most = if kind == FeedKind::Publisher { 0 } else { 10 * RATE };
            let happened = world.happened();
            assert!((most.saturating_sub(1)..=most + 1).contains(&happened), "{kind}: {happened} at once");
            assert!(world.behind() < 2 * SECOND / i64::try_from(RATE).unwrap(), "{kind}: {}", world.behind());
        }
    }
}

#[test]
fn the_time_is_told_at_once_when_the_machine_wakes() {
    for kind in LIVE {
        let mut world = World::of(kind, Speed::Times(1.0));
        world.sleep(HOUR);
        world.turn();
        let times = world.news().iter().map(|batch| world.wall().nanos_since(batch.time)).max();
        assert!(times.is_some_and(|behind| behind < SECOND / 50), "{kind}: {times:?}");
    }
}

#[test]
fn the_clock_that_is_told_outside_is_true_after_a_step() {
    for (kind, speed) in [(FeedKind::Simulator, 1.0), (FeedKind::Replay, 1.0), (FeedKind::Simulator, 4.0)] {
        let mut world = World::of(kind, Speed::Times(speed));
        world.sleep(HOUR);
        world.pass(Duration::from_secs(3));
        let Timeline { feed, wall, reanchored, .. } = world.player.progress.timeline();
        assert_eq!(reanchored, 1);
        let nanos = Duration::from_nanos(world.wall().nanos_since(wall).unsigned_abs()).mul_f64(speed);
        let expected = feed.plus_nanos(i64::try_from(nanos.as_nanos()).unwrap());
        assert!(expected.nanos_since(world.player.clock()) < SECOND / 10, "{kind} at {speed}");
    }
}

#[test]
fn a_record_and_what_runs_at_another_pace_go_on_where_they_stood() {
    for (kind, speed) in [(FeedKind::Replay, 1.0), (FeedKind::Replay, 4.0), (FeedKind::Simulator, 4.0)] {
        let both = |world: &World, span: Duration| {
            world.freeze(span);
            world.sleep(span);
        };
        for stop in [World::sleep as fn(&World, Duration), World::freeze, both] {
            let mut world = World::of(kind, Speed::Times(speed));
            let before = world.player.clock();
            stop(&world, HOUR);
            world.pass(Duration::from_secs(5));
            let went = Duration::from_nanos(world.player.clock().nanos_since(before).unsigned_abs());
            let expected = Duration::from_secs(5).mul_f64(speed);
            assert!(went.abs_diff(expected) < Duration::from_millis(200), "{kind} at {speed}: {went:?}");
            // Nothing of it is left out.
            let expected = usize::try_from(went.as_millis()).unwrap() * RATE / 1000;
            assert!(world.happened().abs_diff(expected) < 10, "{kind} at {speed}");
        }
    }
}

#[test]
fn what_is_paused_stays_where_it_is_and_keeps_its_distance_from_then_on() {
    let mut world = World::of(FeedKind::Simulator, Speed::Times(1.0));
    world.control(Control::Pause);
    let paused = world.player.clock();
    world.sleep(HOUR);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.player.clock(), paused);
    world.control(Control::Play);
    world.pass(Duration::from_secs(2));
    let distance = world.behind();
    world.sleep(HOUR);
    world.pass(Duration::from_secs(2));
    assert!((world.behind() - distance).abs() < SECOND / 10);
}

#[test]
fn a_clock_set_back_by_seconds_is_waited_for() {
    for kind in LIVE {
        let mut world = World::of(kind, Speed::Times(1.0));
        let before = world.player.time;
        world.set_back(Duration::from_secs(4));
        assert_eq!(world.publish(), before.max(world.wall()), "{kind}");
        world.pass(Duration::from_secs(3));
        assert!(world.player.time.nanos_since(before) < SECOND / 10, "{kind}: it stands still");
        assert_eq!(world.happened(), 0, "{kind}");
        world.pass(Duration::from_secs(3));
        assert!(world.behind() < SECOND / 10);
        let resets = world.news().iter().filter(|batch| batch.events.contains(&Event::Reset)).count();
        assert_eq!(resets, 0, "{kind}");
    }
}

#[test]
fn a_clock_that_goes_to_and_fro_does_not_hold_a_simulation_up_longer_each_time() {
    let mut world = World::of(FeedKind::Simulator, Speed::Times(1.0));
    for _ in 0..10 {
        world.set_back(Duration::from_secs(4));
        world.turn();
        world.sleep(Duration::from_secs(4));
        world.turn();
    }
    world.happened();
    world.pass(Duration::from_secs(2));
    assert!(world.happened().abs_diff(2 * RATE) < 3);
}

#[test]
fn a_clock_set_back_by_more_begins_the_tape_anew_without_what_would_be_of_a_time_to_come() {
    let day = BEGINNING - BEGINNING.rem_euclid(86_400 * SECOND);
    let trade = |nanos| Trade {
        price: Price::new(7),
        size: Size::new(1),
        side: Side::Buy,
        conditions: Conditions::default(),
        counts: Counts::EVERYTHING,
        booked: 0,
        ts_event: Timestamp::from_nanos(nanos),
        ts_recv: Timestamp::from_nanos(nanos),
    };
    let bar = |start| Bar::open(Timestamp::from_nanos(start), Interval::Second, &trade(start));
    let minute = BEGINNING - BEGINNING.rem_euclid(60 * SECOND);
    let (old, new) = (bar(minute - 7200 * SECOND), bar(minute));
    let snapshot = Snapshot {
        trades: Tail::of(3, vec![trade(BEGINNING)]),
        bars_1m: BarsSnapshot { latest: Some(new), is_open: true, closed: Tail::of(5, vec![old]) },
        day: Some(bar(day)),
        newest: Some(Newest::new(Timestamp::from_nanos(BEGINNING), 0)),
        ..Snapshot::default()
    };
    let definition = Event::Instrument(Arc::new(Instrument::unknown(Symbol::new("X").unwrap())));
    let known = vec![definition.clone(), Event::Snapshot(InstrumentId(0), Arc::new(snapshot.clone()))];
    for (kind, back) in LIVE.into_iter().flat_map(|kind| [HOUR, DAY].map(|back| (kind, back))) {
        let mut world = World::knowing(kind, Speed::Times(1.0), known.clone());
        world.set_back(back);
        world.turn();
        let news = world.news();
        assert_eq!(news[0].time, world.wall(), "{kind}");
        let [Event::Reset, defined, Event::Snapshot(_, kept), Event::Feed(status)] = &news[0].events[..]
        else {
            panic!("{:?}", news[0]);
        };
        assert_eq!((defined, *status), (&definition, world.player.status));
        assert_eq!(kept.trades, snapshot.trades);
        let is_before = back == DAY;
        let bars = Tail::of(5, if is_before { Vec::new() } else { vec![old] });
        let latest = bars.entries.last().copied();
        assert_eq!(kept.bars_1m, BarsSnapshot { latest, is_open: false, closed: bars });
        assert_eq!(kept.day, snapshot.day.filter(|_| !is_before));
        assert_eq!(kept.newest.map(|newest| newest.time), Some(world.wall()));

        world.pass(Duration::from_secs(10));
        let expected = if kind == FeedKind::Publisher { 0 } else { 10 * RATE };
        assert!(world.happened().abs_diff(expected) < 3, "{kind}");
        assert!(world.behind() < SECOND / 10);
    }
}

#[test]
fn a_publisher_was_silent_while_the_machine_slept() {
    let mut world = World::of(FeedKind::Publisher, Speed::Times(1.0));
    world.publish();
    assert_eq!(world.player.status.state, FeedState::Live);
    world.sleep(HOUR);
    world.turn();
    world.tell_time();
    assert_eq!(world.player.status.state, FeedState::Stale);
    world.publish();
    world.pass(Duration::from_secs(9));
    assert_eq!(world.player.status.state, FeedState::Live);
}

#[test]
fn no_batch_holds_events_of_two_seconds() {
    let mut world = World::of(FeedKind::Replay, Speed::Times(1.0));
    world.control(Control::Step(Step::Interval(Duration::from_secs(10))));
    world.control(Control::Speed(Speed::Times(1000.0)));
    world.control(Control::Play);
    world.pass(Duration::from_secs(1));
    let second = |at| Interval::Second.start_of(at);
    for batch in world.news() {
        let of_another = |event: &&Event| matches!(event, Event::Status(_, status) if second(status.ts_event) != second(batch.time));
        assert_eq!(batch.events.iter().find(of_another), None, "at {}", batch.time);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Pass(u16),
    Sleep(u32),
    Freeze(u32),
    SetBack(u32),
    Publish,
}

fn op() -> impl Strategy<Value = Op> {
    let millis = || prop_oneof![0..200_u32, 0..10_000_u32, 0..200_000_000_u32];
    prop_oneof![
        3 => (0..3000_u16).prop_map(Op::Pass),
        1 => millis().prop_map(Op::Sleep),
        1 => millis().prop_map(Op::Freeze),
        1 => millis().prop_map(Op::SetBack),
        1 => Just(Op::Publish),
    ]
}

proptest! {
    #[test]
    fn whatever_becomes_of_the_clocks_a_tape_of_now_follows_the_wall(
        ops in proptest::collection::vec(op(), 1..30), simulated in any::<bool>(),
    ) {
        let kind = LIVE[usize::from(simulated)];
        let mut world = World::of(kind, Speed::Times(1.0));
        let millis = |millis: u32| Duration::from_millis(millis.into());
        for op in ops {
            match op {
                Op::Pass(span) => world.pass(millis(span.into())),
                Op::Sleep(span) => world.sleep(millis(span)),
                Op::Freeze(span) => world.freeze(millis(span)),
                Op::SetBack(span) => world.set_back(millis(span)),
                Op::Publish => {
                    let behind = world.publish().nanos_since(world.wall());
                    prop_assert!(-2 * SECOND - SECOND / 10 < behind && behind < 5 * SECOND + SECOND / 10, "{behind}");
                }
            }
            // What a tape that kept its pace would catch up with, what passes, and what a small step leaves.
            prop_assert!(world.happened() <= (2 + 3 + 1) * RATE, "a burst");
        }
        world.pass(Duration::from_secs(6));
        prop_assert!(world.behind().abs() < SECOND / 10, "{} behind", world.behind());
    }
}
