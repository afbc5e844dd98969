//! The numbers of instruments on a tape. Any thread: pure. The tape thread has one, a seek a copy.
//! Invariant: it depends only on what was submitted so far, so all nodes that read a log number alike.

use super::{OnFault, Publication, Receipt};
use crate::feed::Translator;
use crate::market::{Event, Instruments, Timestamp};

/// How a tape numbers instruments, and the scales of their prices and sizes.
#[derive(Clone, Debug, Default)]
pub struct Numbering {
    instruments: Instruments,
    /// From the numbers of the feed that is played.
    translator: Translator,
}

impl Numbering {
    /// Appends what a player has submitted to `out`. `on_fault` is called for each event that cannot be held.
    pub fn play(
        &mut self,
        events: impl IntoIterator<Item = Event>,
        out: &mut Vec<Event>,
        on_fault: OnFault<'_>,
    ) {
        for event in events {
            if let Err(error) = self.translator.translate(event, &mut self.instruments, out) {
                on_fault(&error);
            }
        }
    }

    /// The receipt of a publication none of whose events is valid now; `None` if any is.
    #[must_use]
    pub fn reject(&self, publication: &Publication, arrival: Timestamp) -> Option<Receipt> {
        let mut receipt = Receipt::default();
        for (line, event) in &publication.events {
            // The first one is valid nearly always.
            receipt.rejected.push(*line, event.check(arrival, &self.instruments).err()?);
        }
        Some(receipt)
    }

    /// Appends a publication's valid events to `out`. An event without a time gets `arrival`.
    pub fn publish(&mut self, publication: Publication, arrival: Timestamp, out: &mut Vec<Event>) -> Receipt {
        let mut receipt = Receipt::default();
        for (line, event) in publication.events {
            match event.apply(arrival, &mut self.instruments, out) {
                Ok(()) => receipt.accepted += 1,
                Err(reason) => receipt.rejected.push(line, reason),
            }
        }
        receipt
    }
}
