use crate::support::PATIENCE;
use std::io::Write;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};
use tickcast::feed::sim::{SimConfig, Simulator, default_universe};
use tickcast::market::{Event, Speed, Timestamp};
use tickcast::tape::{Batch, Publisher, Writer};

/// A tape fed by a simulator; each batch is told with its arrival and number of ticks.
struct Paced {
    batches: mpsc::Receiver<(Instant, u64)>,
    /// The tape ends with it.
    _publisher: Publisher,
}

impl Paced {
    fn start(rate: u32, speed: Speed) -> Self {
        let rate = NonZeroU32::new(rate).unwrap();
        let config = SimConfig { symbols: 100, rate, seed: 1, start: Timestamp::now() };
        let (told, batches) = mpsc::channel();
        let (publisher, _thread) = Writer {
            feed: Some(Box::new(Simulator::new(&default_universe(), config))),
            held: false,
            speed,
            readers: vec![Box::new(move |batch: &Arc<Batch>| {
                let is_tick = |event: &&Event| matches!(event, Event::Quote(..) | Event::Trade(..));
                let ticks = batch.events.iter().filter(is_tick).count() as u64;
                // Nobody listens any more when the test is over.
                let _ = told.send((Instant::now(), ticks));
            })],
        }
        .start()
        .unwrap();
        let paced = Self { batches, _publisher: publisher };
        // The market's opening is one batch of its own, behind the tape's first.
        while paced.next().1 == 0 {}
        paced
    }

    fn next(&self) -> (Instant, u64) {
        self.batches.recv_timeout(PATIENCE).expect("the tape goes on")
    }

    /// The next batch with ticks in it; others only tell the time.
    fn next_ticks(&self) -> (Instant, u64) {
        std::iter::repeat_with(|| self.next()).find(|&(_, ticks)| ticks > 0).expect("the tape goes on")
    }

    /// Ticks a second from one batch of ticks to the first one that is at least `window` later.
    fn rate(&self, window: Duration) -> f64 {
        let ((begun, _), mut ticks) = (self.next_ticks(), 0);
        loop {
            let (at, more) = self.next_ticks();
            ticks += more;
            if at - begun >= window {
                #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
                return ticks as f64 / (at - begun).as_secs_f64();
            }
        }
    }
}

/// That a rate is held within 1 %. A machine busy with other things may disturb a window, not all of them.
#[track_caller]
fn check_held(rate: u32, window: Duration, windows: usize) {
    let paced = Paced::start(rate, Speed::Times(1.0));
    let mut measured = Vec::new();
    while measured.len() < windows {
        let got = paced.rate(window);
        if (got / f64::from(rate) - 1.0).abs() <= 0.01 {
            return;
        }
        measured.push(got);
    }
    panic!("asked for {rate} ticks/s, got {measured:.1?}");
}

#[test]
fn a_thousand_ticks_a_second_are_a_thousand() {
    check_held(1_000, Duration::from_secs(2), 5);
}

#[test]
fn a_hundred_thousand_ticks_a_second_are_a_hundred_thousand() {
    check_held(100_000, Duration::from_secs(2), 5);
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// All that is logged in this process from the first call on.
    fn begin() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let begin = || {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
            tracing::subscriber::set_global_default(subscriber).expect("the only one in this process");
            log
        };
        LOG.get_or_init(begin).clone()
    }

    fn says(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock().unwrap()).contains(words)
    }
}

#[test]
fn a_pace_that_the_machine_cannot_keep_is_told() {
    let log = Log::begin();
    let paced = Paced::start(1_000_000, Speed::Times(1_000.0));
    let begun = Instant::now();
    while !log.says("cannot keep the feed's pace") {
        paced.next();
        assert!(begun.elapsed() < PATIENCE, "nothing was told");
    }
}

#[test]
#[ignore = "takes a minute"]
fn the_rate_asked_for_is_held_over_ten_seconds_or_the_machine_says_that_it_cannot() {
    let log = Log::begin();
    for rate in [1, 1_000, 100_000, 1_000_000] {
        let got = Paced::start(rate, Speed::Times(1.0)).rate(Duration::from_secs(10));
        println!("asked for {rate} ticks/s, got {got:.3}");
        let held = (got / f64::from(rate) - 1.0).abs() <= 0.01;
        assert!(held || log.says("cannot keep the feed's pace"), "asked for {rate} ticks/s, got {got:.1}");
    }
}
