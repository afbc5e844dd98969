use crate::feed::formats::recording::{RecordingHeader, RecordingWriter, Totals};
use crate::hub::{Replica, TopicKey};
use crate::market::{Event, Timestamp};
use crate::tape::{Batch, Epoch, Position};
use std::io::{self, Write};

/// Writes a tape with its checkpoints: it folds what it writes, and so knows what stands where.
pub struct Recorder<W: Write> {
    writer: RecordingWriter<W>,
    replica: Replica,
    /// Of no interest here, and kept for its room.
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

    /// Appends a batch, and a checkpoint before it where one is due.
    ///
    /// # Errors
    /// Those of the writer, and for batches that no reader would take: see [`RecordingWriter::append`].
    pub fn append(&mut self, batch: &Batch) -> io::Result<()> {
        if self.writer.wants_checkpoint(batch.time) {
            self.writer.checkpoint(self.replica.time(), self.replica.checkpoint())?;
        }
        self.writer.append(batch.position.get(), batch.time, &batch.events)?;
        self.replica.apply(batch, &mut self.touched);
        self.touched.clear();
        Ok(())
    }

    /// What another recording begins with that goes on behind this one: the instruments, states and quotes as they stand.
    #[must_use]
    pub fn opening(&self) -> Batch {
        let (position, time) = (self.replica.position(), self.replica.time());
        Batch { position, time, events: without_past(self.replica.checkpoint()) }
    }

    /// When the open frame was begun, on the tape's clock: what a crash would cost.
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

    /// Bytes written so far that are whole frames.
    #[must_use]
    pub fn whole_bytes(&self) -> u64 {
        self.writer.whole_bytes()
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

/// What is known without what has led to it: of snapshots the states and quotes alone.
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
