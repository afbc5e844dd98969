//! Trades as bytes that many sessions share. Pure; on the shard thread, one per encoder.
//!
//! Invariant: the bytes sent are those that encoding the run anew would give.

use super::msgpack::{write_step, write_trade};
use crate::hub::{Run, TRADES_KEPT};
use crate::market::{Instrument, Trade};

/// Trades as bytes, each encoded once, when it is first sent to any session.
///
/// Why: a run of trades is sent as the steps from one to the next, so any run of a ring is a slice of these
/// bytes, after its first price and moment. Sessions at many different positions, as in a market too fast for
/// them, then cost a copy each and no encoding.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// By instrument.
    logs: Vec<Log>,
}

/// The newest trades of one ring: at least all that the ring still has and any session was sent.
#[derive(Debug, Default)]
struct Log {
    /// Price scale, size scale and anchor of the bytes.
    scales: (u8, u8, i128),
    /// Number of the first trade here.
    first: u64,
    /// The start of each trade's step, and the end of the last one.
    starts: Vec<Start>,
    bytes: Vec<u8>,
    last: Option<Trade>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Start {
    byte: usize,
    /// Elements before it, counted from the log's first.
    elements: u32,
}

impl Runs {
    /// Appends a run that is not empty to `out`, after its first price and moment. Returns how many elements
    /// that are.
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
    /// Encodes the trades of a run that it does not have yet.
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
            // The step to a log's first trade is never sent.
            elements += write_step(instrument, self.last.as_ref().unwrap_or(trade), trade, &mut self.bytes);
            elements += write_trade(trade, &mut self.bytes);
            self.starts.push(Start { byte: self.bytes.len(), elements });
            self.last = Some(*trade);
        }
        if self.starts.len() > 2 * TRADES_KEPT + 1 {
            self.forget(TRADES_KEPT);
        }
    }

    /// Drops the oldest `count` trades.
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

    /// Empty, with its memory kept.
    fn emptied(mut self) -> Self {
        self.starts.clear();
        self.bytes.clear();
        self.last = None;
        self
    }
}

/// The end of the number (an integer, or its digits as a string) or nil that begins at `at`.
fn skip_int(bytes: &[u8], at: usize) -> usize {
    at + match bytes[at] {
        len @ 0xa0..=0xbf => 1 + usize::from(len & 0x1f),
        0xd9 => 2 + usize::from(bytes[at + 1]),
        0xcc | 0xd0 => 2,
        0xcd | 0xd1 => 3,
        0xce | 0xd2 => 5,
        0xcf | 0xd3 => 9,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use crate::hub::{Entries, Kind, Owed, Ring, TRADES_KEPT, Upto};
    use crate::market::{
        Conditions, Counts, Instrument, InstrumentId, Price, Side, Size, Symbol, Timestamp, Trade,
    };
    use crate::tape::Position;
    use crate::wire::{FULL_BYTES, Form, UpdateEncoder};

    fn trade(number: i64) -> Trade {
        let at = Timestamp::from_micros(1_000_000 * number + number * number % 7_919);
        let letters = if number % 11 == 0 { "I" } else { "" };
        Trade {
            price: if number % 13 == 0 { Price::NONE } else { Price::new(15_000 + number * number % 500) },
            size: Size::new(number % 400),
            side: [Side::None, Side::Buy, Side::Sell][usize::try_from(number % 3).unwrap()],
            conditions: Conditions::new(letters).unwrap(),
            counts: if number % 7 == 0 { Counts::VOLUME.and(Counts::BREAK) } else { Counts::EVERYTHING },
            booked: u16::try_from(number % 7 % 3).unwrap(),
            ts_event: at,
            ts_recv: at,
        }
    }

    /// What an encoder writes for a run of the ring.
    fn told(
        encoder: &mut UpdateEncoder,
        instrument: &Instrument,
        ring: &Ring<Trade>,
        since: u64,
        upto: u64,
    ) -> Vec<u8> {
        let at = |position| Upto { position: Position::new(position), time: Timestamp::from_micros(77) };
        let mut out = Vec::new();
        encoder.begin(Form::MSGPACK, false, at(since), at(upto));
        let run = ring.owed(Position::new(since), Position::new(upto));
        encoder.ring(instrument, Kind::Trades, false, Entries::Trades(&run));
        encoder.finish(true, &mut out);
        out
    }

    #[test]
    fn any_run_of_a_ring_is_told_as_if_it_were_encoded_anew() {
        let mut instrument = Instrument {
            id: InstrumentId(2),
            anchor: Price::new(14_000),
            ..Instrument::unknown(Symbol::new("X").unwrap())
        };
        let mut ring = Ring::new(TRADES_KEPT);
        let mut sharing = UpdateEncoder::sharing(FULL_BYTES);
        for position in 1..=6 * TRADES_KEPT as u64 {
            ring.push(Position::new(position), trade(i64::try_from(position).unwrap()));
            if position == 4 * TRADES_KEPT as u64 {
                // All numbers are in finer units from here on.
                instrument.price_scale += 1;
                ring.update_all(|trade| trade.price = trade.price.refined(1));
            }
            // Mostly the newest, now and then a long lag, now and then nothing for a while.
            let back = match position % 100 {
                0 => TRADES_KEPT as u64 * 2,
                7 => 600,
                20..60 => continue,
                _ => position % 3 + 1,
            };
            let since = position.saturating_sub(back);
            let plain = told(&mut UpdateEncoder::new(FULL_BYTES), &instrument, &ring, since, position);
            assert_eq!(
                told(&mut sharing, &instrument, &ring, since, position),
                plain,
                "{since} to {position}"
            );
            let before = since.max(position.saturating_sub(back / 2));
            let rest = told(&mut UpdateEncoder::new(FULL_BYTES), &instrument, &ring, since, before);
            assert_eq!(told(&mut sharing, &instrument, &ring, since, before), rest);
        }
    }
}
