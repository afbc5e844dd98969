//! A recording as a feed.

use crate::feed::translate::Translator;
use crate::feed::{Feed, FeedError};
use crate::market::{Event, FeedKind, Instruments, Timestamp};
use crate::recording::{self, Checkpoint, RecordingError, RecordingReader};
use std::fs::File;
use std::io::Read;

/// A recording as a feed: its instruments get the numbers of the tape that plays it.
pub struct Recording<R> {
    file: String,
    reader: RecordingReader<R>,
    translator: Translator,
    /// The latest moment so far.
    latest: Option<Timestamp>,
    batch: Vec<Event>,
    /// The error of the batch before, returned after the rest of that batch.
    refused: Option<FeedError>,
}

impl<R: Read + Send> Recording<R> {
    /// # Errors
    /// As [`RecordingReader::new`].
    pub(crate) fn new(file: String, unpacked: R) -> Result<Self, RecordingError> {
        Ok(Self::reading(file, RecordingReader::new(unpacked)?))
    }

    fn reading(file: String, reader: RecordingReader<R>) -> Self {
        let translator = Translator::default();
        Self { file, reader, translator, latest: None, batch: Vec::new(), refused: None }
    }

    fn error(&self, reason: &dyn std::fmt::Display) -> FeedError {
        let place = format!("{} batch {}", self.file, self.reader.batches());
        FeedError { place, reason: reason.to_string() }
    }
}

/// A recording as a feed from a checkpoint on.
pub(super) fn open_checkpoint(
    name: String,
    file: File,
    checkpoint: &Checkpoint,
) -> Result<Recording<impl Read + Send + use<>>, RecordingError> {
    Ok(Recording::reading(name, recording::open_checkpoint(file, checkpoint)?))
}

impl<R: Read + Send> Feed for Recording<R> {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        let start = out.len();
        let Some((_, time)) = self.reader.next(out).map_err(|error| self.error(&error))? else {
            return Ok(None);
        };
        let mut refused = None;
        // Nearly all batches are of quotes and trades, which are translated in place: moving them costs as
        // much as reading them.
        if out[start..].iter().all(|event| matches!(event, Event::Quote(..) | Event::Trade(..))) {
            let mut kept = start;
            for at in start..out.len() {
                match self.translator.translate_in_place(&mut out[at], instruments) {
                    Err(error) => refused = refused.or(Some(error)),
                    Ok(()) if kept == at => kept += 1,
                    Ok(()) => {
                        out.swap(kept, at);
                        kept += 1;
                    }
                }
            }
            out.truncate(kept);
        } else {
            self.batch.extend(out.drain(start..));
            // The recorded tape's feed is not this tape's.
            for event in self.batch.drain(..).filter(|event| !matches!(event, Event::Feed(_))) {
                if let Err(error) = self.translator.translate(event, instruments, out) {
                    refused = refused.or(Some(error));
                }
            }
        }
        self.refused = refused.map(|error| self.error(&error));
        // Moments never run backwards, even if the file's do.
        self.latest = self.latest.max(Some(time));
        Ok(self.latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::formats::show::show;
    use crate::market::{Conditions, Counts, Instrument, InstrumentId, Price, Side, Size, Symbol, Trade};
    use crate::recording::{RecordingHeader, RecordingWriter};
    use std::sync::Arc;

    #[test]
    fn a_recording_is_a_feed_that_goes_on_behind_an_undefined_instrument() {
        let at = |seconds: i64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let trade = |id, price, seconds| {
            let trade = Trade {
                price: Price::new(price),
                size: Size::new(3),
                side: Side::Buy,
                conditions: Conditions::default(),
                counts: Counts::EVERYTHING,
                booked: 0,
                ts_event: at(seconds),
                ts_recv: at(seconds),
            };
            Event::Trade(InstrumentId(id), trade)
        };
        let x = Instrument { id: InstrumentId(5), ..Instrument::unknown(Symbol::new("X").unwrap()) };
        let mut writer = RecordingWriter::new(Vec::new(), &RecordingHeader::default()).unwrap();
        writer.append(1, at(0), &[Event::Instrument(Arc::new(x))]).unwrap();
        for (id, price, seconds) in [(5, 100, 1), (6, 101, 2), (5, 102, 3)] {
            writer.append(1, at(seconds), &[trade(id, price, seconds)]).unwrap();
        }
        let file = zstd::decode_all(&writer.finish().unwrap()[..]).unwrap();
        let mut feed = Recording::new("x.tape".to_owned(), &file[..]).unwrap();
        assert_eq!(
            show(&mut feed),
            [
                "1970-01-01T00:00:01Z trade X 1 x 3 buy",
                "x.tape batch 3: instrument 6 is used before it is defined",
                "1970-01-01T00:00:03Z trade X 1.02 x 3 buy",
            ]
        );
    }
}
