//! The encoder of updates, in either form. Pure; on the shard thread, or any that has a replica.
//!
//! Invariant: an update is at most [`MAX_UPDATE_BYTES`] long, with the one exception named there.

use super::framing::{Encoding, Form};
use super::{json::JsonUpdate, msgpack::MsgpackUpdate};
use crate::hub::{ChannelEntries, Entries, Image, Kind, Owed, ServerStats, TopicKey, Upto};
use crate::market::{FeedStatus, Instrument, Sender, Status, Symbol};
use crate::tape::{Epoch, Position};
use std::borrow::Cow;
use std::ops::Range;

/// The longest update, bytes. The exception: one with a full ring of numbers beyond 2^53 may be two and a
/// half times as long. What does not fit is pending for the next one.
pub const MAX_UPDATE_BYTES: usize = 64 * 1024;

/// An update with this many bytes of entries is full. The longest single entry, a full ring of trades or
/// bars, must still fit.
pub const FULL_BYTES: usize = 24 * 1024;

/// Writes updates of either form, one after the other, and reuses its memory.
#[derive(Debug)]
pub struct UpdateEncoder {
    msgpack: MsgpackUpdate,
    json: JsonUpdate,
    form: Form,
    epoch: Epoch,
    /// Where clients of Socket.IO are.
    namespace: Cow<'static, str>,
}

impl UpdateEncoder {
    /// `full`: bytes of entries from which on an update is full; [`FULL_BYTES`], or less.
    #[must_use]
    pub fn new(full: usize) -> Self {
        let (msgpack, json) = (MsgpackUpdate::new(full), JsonUpdate::new(full));
        Self { msgpack, json, form: Form::MSGPACK, epoch: Epoch::new(0), namespace: "/".into() }
    }

    /// As [`Self::new`], for updates of one replica: what several of them have in common is encoded once (in
    /// MessagePack form). The bytes are the same.
    #[must_use]
    pub fn sharing(full: usize) -> Self {
        Self { msgpack: MsgpackUpdate::sharing(full), ..Self::new(full) }
    }

    /// For a tape of that epoch.
    #[must_use]
    pub fn of(self, epoch: Epoch) -> Self {
        Self { epoch, ..self }
    }

    /// Sets the namespace of the clients of Socket.IO, which begins with a slash.
    pub fn set_namespace(&mut self, namespace: &str) {
        self.namespace = namespace.to_owned().into();
    }

    /// The tape was reset: drops the bytes kept of it.
    pub fn forget(&mut self) {
        self.msgpack.forget();
    }

    /// Starts an update of a flush from `from` to `upto`.
    pub fn begin(&mut self, form: Form, times: bool, from: Upto, upto: Upto) {
        self.form = form;
        match form.encoding() {
            Encoding::MessagePack => self.msgpack.begin(times, from, upto),
            Encoding::Json => self.json.begin(times, form, from, upto),
        }
    }

    /// Leaves the messages out of the update that was begun which this session does not want back: of the
    /// forms only Socket.IO's can.
    pub fn except(&mut self, sender: Sender) {
        self.json.except(Some(sender));
    }

    /// Ends the update and appends it to `out`, in the framing of its form. `whole`: it ends the flush.
    ///
    /// Returns how many values and ring entries it has.
    pub fn finish(&mut self, whole: bool, out: &mut Vec<u8>) -> u64 {
        match self.form.encoding() {
            Encoding::MessagePack => {
                let resume = self.msgpack.resume(whole).map(|position| (self.epoch, position));
                self.form.write_id(resume, out);
                self.msgpack.finish(whole, self.form, out);
                self.msgpack.delivered
            }
            Encoding::Json => {
                let resume = self.json.resume(whole).map(|position| (self.epoch, position));
                self.json.write_notices(&self.namespace, out);
                self.form.write_update(self.json.finish(whole), &self.namespace, resume, out);
                self.json.delivered
            }
        }
    }

    /// In how many topics the update reports a gap.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        match self.form.encoding() {
            Encoding::MessagePack => self.msgpack.gaps,
            Encoding::Json => self.json.gaps,
        }
    }
}

/// Passes each call on to the encoder of the form that was begun.
macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*);)+) => {
        $(fn $name(&mut self, $($arg: $type),*) {
            match self.form.encoding() {
                Encoding::MessagePack => self.msgpack.$name($($arg),*),
                Encoding::Json => self.json.$name($($arg),*),
            }
        })+
    };
}

impl Owed for UpdateEncoder {
    forward! {
        reset();
        definition(instrument: &Instrument);
        image(instrument: &Instrument, kind: Kind, mask: u16, image: Image<'_>);
        ring(instrument: &Instrument, kind: Kind, numbered: bool, entries: Entries<'_>);
        status(instrument: Option<&Instrument>, status: &Status);
        feed(feed: &FeedStatus);
        stats(stats: &ServerStats);
        channel(channel: &Symbol, entries: &ChannelEntries<'_>);
        joined(instrument: &Instrument, kind: Kind);
        left(instrument: &Instrument, kind: Kind);
    }

    fn is_full(&self) -> bool {
        match self.form.encoding() {
            Encoding::MessagePack => self.msgpack.is_full(),
            Encoding::Json => self.json.is_full(),
        }
    }

    fn repeat(&mut self, topic: TopicKey, since: Position) -> bool {
        self.form.encoding() == Encoding::MessagePack && self.msgpack.repeat(topic, since)
    }

    fn remember(&mut self, topic: TopicKey, since: Range<Position>) {
        if self.form.encoding() == Encoding::MessagePack {
            self.msgpack.remember(topic, since);
        }
    }
}
