use super::msgpack::{write_step, write_trade};
use crate::hub::{Run, TRADES_KEPT};
use crate::market::{Instrument, Trade};

/// Trades as bytes, each encoded once, when somebody is first told of it.
///
/// Why: a run of trades is told as the steps from one to the next, so any run of a ring is a slice of these bytes behind its first price
/// and moment. Readers who stand at many different places, as they do when a market is too loud for them, then cost a copy each and
/// no encoding. What is told without this is the same to the byte.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// By instrument.
    logs: Vec<Log>,
}

/// The newest trades of one ring, at least all that the ring still has and anybody was told.
#[derive(Debug, Default)]
struct Log {
    /// Price scale, size scale and anchor that the bytes hold for.
    scales: (u8, u8, i64),
    /// Number of the first trade here.
    first: u64,
    /// Where each trade's step begins, and the end of the last one.
    starts: Vec<Start>,
    bytes: Vec<u8>,
    last: Option<Trade>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Start {
    byte: usize,
    /// Counted from the log's first.
    elements: u32,
}

impl Runs {
    /// Appends a run that is not empty to `out`, behind its first price and moment. Returns how many elements that are.
    pub fn append(&mut self, instrument: &Instrument, run: &Run<'_, Trade>, out: &mut Vec<u8>) -> u32 {
        let index = instrument.id.index();
        if index >= self.logs.len() {
            self.logs.resize_with(index + 1, Log::default);
        }
        let log = &mut self.logs[index];
        log.extend(instrument, run);
        let first = usize::try_from(run.number - log.first).expect("a log is shorter than memory");
        let (start, end) = (log.starts[first], log.starts[first + run.len()]);
        let own = skip_int(&log.bytes, skip_int(&log.bytes, start.byte));
        out.extend_from_slice(&log.bytes[own..end.byte]);
        end.elements - start.elements - 2
    }
}

impl Log {
    /// Takes in what it has not yet of a run.
    fn extend(&mut self, instrument: &Instrument, run: &Run<'_, Trade>) {
        let scales = (instrument.price_scale, instrument.size_scale, instrument.anchor_units());
        let end = self.first + self.starts.len().saturating_sub(1) as u64;
        if self.scales != scales || run.number < self.first || run.number > end || self.starts.is_empty() {
            *self = Self { scales, first: run.number, ..std::mem::take(self).emptied() };
            self.starts.push(Start::default());
        }
        let known = self.first + self.starts.len() as u64 - 1 - run.number;
        let mut elements = self.starts.last().map_or(0, |start| start.elements);
        for trade in run.iter_from(usize::try_from(known).unwrap_or(usize::MAX)) {
            // Nobody is ever told the step to a log's first trade.
            elements += write_step(instrument, self.last.as_ref().unwrap_or(trade), trade, &mut self.bytes);
            elements += write_trade(trade, &mut self.bytes);
            self.starts.push(Start { byte: self.bytes.len(), elements });
            self.last = Some(*trade);
        }
        if self.starts.len() > 2 * TRADES_KEPT + 1 {
            self.forget(TRADES_KEPT);
        }
    }

    /// Drops the oldest so many.
    fn forget(&mut self, count: usize) {
        let Start { byte, elements } = self.starts[count];
        self.first += count as u64;
        self.starts.drain(..count);
        self.bytes.drain(..byte);
        for start in &mut self.starts {
            start.byte -= byte;
            start.elements -= elements;
        }
    }

    /// With the memory it has, and nothing in it.
    fn emptied(mut self) -> Self {
        self.starts.clear();
        self.bytes.clear();
        self.last = None;
        self
    }
}

/// Where the integer, or nil, that begins at `at` ends.
fn skip_int(bytes: &[u8], at: usize) -> usize {
    at + match bytes[at] {
        0xcc | 0xd0 => 2,
        0xcd | 0xd1 => 3,
        0xce | 0xd2 => 5,
        0xcf | 0xd3 => 9,
        _ => 1,
    }
}
