//! A market with something on its way that no market should have.

use rust_decimal::Decimal;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use tickcast::feed::{Feed, FeedError, Source, SourceError, Span, Stop};
use tickcast::market::{Conditions, Event, FeedKind, Instruments, Side, Symbol, Timestamp};

/// One symbol, `A`, that trades once a millisecond from [`START`] on, for ever.
#[derive(Clone, Default)]
pub struct Market {
    /// So many milliseconds after its start.
    pub trap: Option<(u64, Trap)>,
    /// What opens it, but for the first time.
    pub opening: Option<Trap>,
    pub opened: Arc<AtomicUsize>,
    pub stop: Option<Stop>,
}

pub const START: &str = "2026-01-05T12:00:00Z";

#[derive(Clone)]
pub enum Trap {
    Panics,
    /// Waits for the gate to open.
    Waits(Gate),
    /// Reads on, showing nothing of it, until it is told to stop.
    Reads,
}

#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |is_open| !*is_open).unwrap());
    }
}

impl Trap {
    fn spring(&self, stop: Option<&Stop>) {
        match self {
            Self::Panics => panic!("a trap for this test"),
            Self::Waits(gate) => gate.pass(),
            Self::Reads => {
                while stop.is_some_and(|stop| !stop.is_set()) {
                    std::thread::yield_now();
                }
            }
        }
    }
}

struct Play {
    market: Market,
    millis: u64,
}

/// So many milliseconds after the start.
pub fn moment(millis: u64) -> Timestamp {
    START.parse::<Timestamp>().unwrap().plus_nanos(i64::try_from(millis).unwrap() * 1_000_000)
}

impl Source for Market {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn open(&self) -> Result<Box<dyn Feed>, SourceError> {
        if self.opened.fetch_add(1, Ordering::Relaxed) > 0
            && let Some(trap) = &self.opening
        {
            trap.spring(self.stop.as_ref());
        }
        Ok(Box::new(Play { market: self.clone(), millis: 0 }))
    }

    fn span(&self) -> Result<Span, SourceError> {
        Ok(Span { start: Some(moment(0)), end: None })
    }

    fn stopped_by(&self, stop: &Stop) -> Option<Arc<dyn Source>> {
        Some(Arc::new(Self { stop: Some(stop.clone()), ..self.clone() }))
    }
}

impl Feed for Play {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        if let Some((at, trap)) = &self.market.trap
            && *at == self.millis
        {
            trap.spring(self.market.stop.as_ref());
        }
        let at = moment(self.millis);
        self.millis += 1;
        let id = instruments.intern(&Symbol::new("A").unwrap(), out);
        let numbers = (Decimal::from(self.millis % 100 + 1), Decimal::ONE);
        let kind = (Side::Buy, Conditions::default());
        let trade = instruments.trade(id, numbers, kind, (at, at), out).unwrap();
        out.push(Event::Trade(id, trade));
        Ok(Some(at))
    }
}
