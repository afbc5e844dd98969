//! Captured WebSocket sessions of exchanges: each line a time of arrival and the message as it came. One
//! module a venue.

mod alpaca;
mod binance;
mod bitmex;
mod bitstamp;
mod bybit;
mod coinbase;
mod coinbase_advanced;
mod deribit;
mod hyperliquid;
mod kraken;
mod kraken_v2;
mod line;
mod okx;
mod session;
mod tardis;
mod values;

pub(super) use line::is_capture;

use self::session::Session;
use super::course::{Course, Outlier};
use super::lines::{LineError, Lines};
use super::rows::Rows;
use super::sink::{Sink, SinkError, Told};
use super::unpack::Input;
use crate::feed::text::TimeError;
use crate::feed::{Feed, FeedError, LeftOut};
use crate::market::{Event, FeedKind, Instruments, NumberError, Timestamp};

/// The longest line that is read: the snapshot of a whole order book has several MB.
const MAX_LINE: u64 = 16 << 20;

/// A captured session, one line a batch: see [`line`] for the forms of lines, and the modules next to it for
/// the venues.
///
/// Streams of trades and of best quotes are read; depth is folded to quotes if the session has no stream of
/// them, or on request. All else is left out and counted. The times of the machine's clock and the exchange's
/// are both kept as recorded, even if they disagree by seconds.
pub struct ExchangeCapture {
    file: String,
    rows: Rows,
    course: Course,
    session: Session,
    told: Told,
    /// When the last line arrived.
    arrival: Timestamp,
    /// The error of a line that also had events; these were returned first.
    fault: Option<FeedError>,
    /// Whether the lines are of Tardis.
    is_tardis: bool,
}

/// Why a line is no message.
#[derive(Debug, thiserror::Error)]
enum MessageError {
    #[error("{0}")]
    Line(#[from] LineError),
    #[error("expected a time of arrival in ns, a blank, and a JSON message (or in seconds, with a colon)")]
    NotACapture,
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Outlier(#[from] Outlier),
    #[error("{0}")]
    Sink(#[from] SinkError),
    #[error("{0}")]
    Number(#[from] NumberError),
    #[error("{0}")]
    Time(#[from] TimeError),
    #[error("{text:?} is no time: expected {expected} since 1970")]
    Unit { text: String, expected: &'static str },
    #[error("{0}")]
    Shape(&'static str),
    #[error("side {0:?} is neither buy nor sell")]
    Side(String),
    /// The book is not used until the next snapshot.
    #[error("{symbol}: {reason}: its book is unknown until the next snapshot")]
    Lost { symbol: String, reason: String },
    /// As all books of a connection.
    #[error("messages {from} to {to} are missing: all books are unknown until their next snapshots")]
    Missing { from: u64, to: u64 },
}

impl ExchangeCapture {
    pub(super) fn new(file: String, input: Input, best_quotes: bool) -> Self {
        Self {
            file,
            rows: Rows::new(Lines::new(input, MAX_LINE)),
            course: Course::default(),
            session: Session::new(best_quotes),
            told: Told::default(),
            arrival: Timestamp::default(),
            fault: None,
            is_tardis: false,
        }
    }
}

impl ExchangeCapture {
    /// Of the last record.
    fn place(&self) -> String {
        format!("{} line {}", self.file, self.rows.number())
    }
}

impl Feed for ExchangeCapture {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        loop {
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            let is_first = self.rows.number() == 0;
            let mut sink = Sink::new(&mut self.told, instruments, out);
            sink.arrival = self.arrival;
            let mut ended = false;
            let read = match self.rows.next_behind_blanks() {
                Ok((line, blanks)) => {
                    self.is_tardis |= is_first && line.is_some_and(line::is_tardis);
                    ended = line.is_none();
                    match line.map(line::split) {
                        // The change gets the moment before, and then the line is read.
                        _ if blanks && self.is_tardis && !is_first => {
                            if !ended {
                                self.rows.unread();
                            }
                            self.session.begin_anew(&mut sink)
                        }
                        None => Ok(()),
                        Some(None) => Err(MessageError::NotACapture),
                        Some(Some(line)) => match line.time().filter(|&time| !self.course.follows(time)) {
                            None => self.session.read_line(&line, &mut sink),
                            Some(time) => {
                                let behind = self.rows.look_ahead(|line| line::split(line)?.time());
                                match self.course.judge(time, &behind).map_err(MessageError::from) {
                                    Ok(()) => continue,
                                    Err(outlier) => {
                                        let _ = self.rows.next();
                                        Err(outlier)
                                    }
                                }
                            }
                        },
                    }
                }
                Err(error) => Err(error.into()),
            };
            self.arrival = sink.arrival;
            let (arrival, is_used) = (sink.arrival, sink.is_used);
            let fault = read.err().map(|error| FeedError { place: self.place(), reason: error.to_string() });
            match (is_used, fault) {
                // A line's events go first: the lost book must be visible before the error.
                (true, fault) => {
                    self.fault = fault;
                    return Ok(Some(arrival));
                }
                (false, Some(fault)) => return Err(fault),
                (false, None) if ended => return Ok(None),
                (false, None) => {}
            }
        }
    }

    fn left_out(&self) -> u64 {
        self.told.left_out.total()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        self.told.left_out.clone()
    }
}

#[cfg(test)]
mod tests;
