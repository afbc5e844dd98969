use crate::hub::{Replica, TopicKey};
use crate::market::{Event, Timestamp};
use crate::recording::{RecordingHeader, RecordingWriter, Totals};
use crate::tape::{Batch, Epoch, Position};
use std::io::{self, Write};

/// Writes a tape with its checkpoints, by folding what it writes.
pub struct Recorder<W: Write> {
    writer: RecordingWriter<W>,
    replica: Replica,
    /// Unused, kept for its capacity.
    touched: Vec<TopicKey>,
}

impl<W: Write> Recorder<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(writer: W, header: &RecordingHeader) -> io::Result<Self> {
        let writer = RecordingWriter::new(writer, header)?;
        Ok(Self { writer, replica: Replica::new(Epoch::new(header.epoch)), touched: Vec::new() })
    }

    /// Appends a batch, and a checkpoint before it if one is due.
    ///
    /// # Errors
    /// As [`RecordingWriter::append`].
    pub fn append(&mut self, batch: &Batch) -> io::Result<()> {
        if self.writer.wants_checkpoint(batch.time) {
            self.writer.checkpoint(self.replica.time(), self.replica.checkpoint())?;
        }
        self.writer.append(batch.position.get(), batch.time, &batch.events)?;
        self.replica.apply(batch, &mut self.touched);
        self.touched.clear();
        Ok(())
    }

    /// The first batch of another recording that continues this one: the current instruments, states and
    /// quotes.
    #[must_use]
    pub fn opening(&self) -> Batch {
        let (position, time) = (self.replica.position(), self.replica.time());
        Batch { position, time, events: without_past(self.replica.checkpoint()) }
    }

    /// The time of the open frame's first batch, on the tape's clock: what a crash would cost.
    #[must_use]
    pub fn frame_start(&self) -> Option<Timestamp> {
        self.writer.frame_start()
    }

    #[must_use]
    pub fn position(&self) -> Position {
        self.replica.position()
    }

    #[must_use]
    pub fn totals(&self) -> &Totals {
        self.writer.totals()
    }

    /// Bytes written so far that are complete frames.
    #[must_use]
    pub fn whole_bytes(&self) -> u64 {
        self.writer.whole_bytes()
    }

    /// Batches in these.
    #[must_use]
    pub fn whole_batches(&self) -> u64 {
        self.writer.whole_batches()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// # Errors
    /// As [`RecordingWriter::close_frame`].
    pub fn close_frame(&mut self) -> io::Result<()> {
        self.writer.close_frame()
    }

    /// # Errors
    /// As [`RecordingWriter::finish`].
    pub fn finish(self) -> io::Result<W> {
        self.writer.finish()
    }
}

/// The known market without its past: of snapshots only the states and quotes.
pub(super) fn without_past(events: impl Iterator<Item = Event>) -> Vec<Event> {
    let events = events.flat_map(|event| match event {
        Event::Snapshot(id, snapshot) => {
            let status = snapshot.status.map(|status| Event::Status(Some(id), status));
            let quote = snapshot.quote.map(|quote| Event::Quote(id, quote));
            [status, quote]
        }
        Event::Reset => [None, None],
        other => [Some(other), None],
    });
    events.flatten().collect()
}
