//! The numbers of instruments on a tape, and its channels. Any thread: pure. The tape thread has one, a seek
//! a copy.
//! Invariant: it depends only on what was submitted so far, so all nodes that read a log number alike.

use super::{OnFault, Publication, Receipt};
use crate::feed::Translator;
use crate::feed::publish::{MAX_CHANNELS, PublishError};
use crate::market::{Event, Instruments, Symbol, Timestamp};
use std::collections::BTreeSet;

/// How a tape numbers instruments, and the scales of their prices and sizes.
#[derive(Clone, Debug, Default)]
pub struct Numbering {
    instruments: Instruments,
    /// From the numbers of the feed that is played.
    translator: Translator,
    /// So that no more than [`MAX_CHANNELS`] are made. They are no part of the market, so they stay when the
    /// tape begins anew.
    channels: BTreeSet<Symbol>,
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
            let channel = match &event {
                Event::Posted(posted) => Some(posted.channel()),
                _ => None,
            };
            if let Some(Err(error)) = channel.map(|channel| self.open(channel)) {
                on_fault(&error);
                continue;
            }
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
            let channel = event.channel().map_or(Ok(()), |channel| self.has_room_for(channel));
            let checked = channel.and_then(|()| event.check(arrival, &self.instruments));
            receipt.rejected.push(*line, checked.err()?);
        }
        Some(receipt)
    }

    /// Appends a publication's valid events to `out`. An event without a time gets `arrival`.
    pub fn publish(&mut self, publication: Publication, arrival: Timestamp, out: &mut Vec<Event>) -> Receipt {
        let mut receipt = Receipt::default();
        for (line, event) in publication.events {
            let channel = event.channel().map_or(Ok(()), |channel| self.open(channel));
            match channel.and_then(|()| event.apply(arrival, &mut self.instruments, out)) {
                Ok(()) => receipt.accepted += 1,
                Err(reason) => receipt.rejected.push(line, reason),
            }
        }
        receipt
    }

    /// Takes over the channels of the numbering that it replaces.
    pub fn keep_channels(&mut self, of: Self) {
        self.channels = of.channels;
    }

    fn open(&mut self, channel: &Symbol) -> Result<(), PublishError> {
        self.has_room_for(channel)?;
        if !self.channels.contains(channel) {
            self.channels.insert(channel.clone());
        }
        Ok(())
    }

    fn has_room_for(&self, channel: &Symbol) -> Result<(), PublishError> {
        if self.channels.len() < MAX_CHANNELS || self.channels.contains(channel) {
            return Ok(());
        }
        Err(PublishError::TooManyChannels { channel: channel.clone() })
    }
}
