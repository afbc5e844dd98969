use super::frame::{Opcode, write_frame};
use super::{json::JsonUpdate, msgpack::MsgpackUpdate};
use crate::hub::{Form, Kind, Owed, Run, TopicKey, Upto};
use crate::market::{Bar, FeedStatus, Instrument, Price, Quote, ServerStats, Status, Trade};
use crate::tape::Position;
use std::ops::Range;

/// The longest update. What does not fit is owed in the next one.
pub const MAX_UPDATE_BYTES: usize = 64 * 1024;

/// An update is full from here on. The longest single entry is a whole ring of trades or bars, which must still fit.
pub const FULL_BYTES: usize = 24 * 1024;

/// Writes updates of either form, one after the other, reusing its memory.
#[derive(Debug)]
pub struct UpdateEncoder {
    msgpack: MsgpackUpdate,
    json: JsonUpdate,
    form: Form,
}

impl UpdateEncoder {
    /// `full`: the entries of an update take no more once they have so many bytes; [`FULL_BYTES`], or less.
    #[must_use]
    pub fn new(full: usize) -> Self {
        let (msgpack, json) = (MsgpackUpdate::new(full), JsonUpdate::new(full));
        Self { msgpack, json, form: Form::MessagePack }
    }

    /// As [`Self::new`], for updates that are all told from one replica: what several of them have in common is encoded once (in
    /// MessagePack form). The bytes are the same.
    #[must_use]
    pub fn sharing(full: usize) -> Self {
        Self { msgpack: MsgpackUpdate::sharing(full), ..Self::new(full) }
    }

    /// The tape began anew: what is kept of it to be told again is void.
    pub fn forget(&mut self) {
        self.msgpack.forget();
    }

    /// Starts an update of a flush that goes from `from` to `upto`.
    pub fn begin(&mut self, form: Form, times: bool, from: Upto, upto: Upto) {
        self.form = form;
        match form {
            Form::MessagePack => self.msgpack.begin(times, from, upto),
            Form::Json => self.json.begin(times, from, upto),
        }
    }

    /// Ends it and appends its WebSocket frame to `out`. `whole`: it ends the flush.
    ///
    /// Returns how many values and ring entries it tells.
    pub fn finish(&mut self, whole: bool, out: &mut Vec<u8>) -> u64 {
        match self.form {
            Form::MessagePack => {
                self.msgpack.finish(whole, out);
                self.msgpack.delivered
            }
            Form::Json => {
                write_frame(Opcode::Text, self.json.finish(whole), out);
                self.json.delivered
            }
        }
    }

    /// In how many topics the update tells its reader that entries are missing which it had not been told.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        match self.form {
            Form::MessagePack => self.msgpack.gaps,
            Form::Json => self.json.gaps,
        }
    }
}

/// Hands each thing owed to the encoder of the form that was begun.
macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*);)+) => {
        $(fn $name(&mut self, $($arg: $type),*) {
            match self.form {
                Form::MessagePack => self.msgpack.$name($($arg),*),
                Form::Json => self.json.$name($($arg),*),
            }
        })+
    };
}

impl Owed for UpdateEncoder {
    forward! {
        reset();
        definition(instrument: &Instrument);
        quote(instrument: &Instrument, mask: u8, quote: &Quote);
        trades(instrument: &Instrument, numbered: bool, run: &Run<'_, Trade>);
        bar(instrument: &Instrument, kind: Kind, mask: u16, bar: Option<&Bar>, previous_close: Price);
        closed_bars(instrument: &Instrument, kind: Kind, numbered: bool, run: &Run<'_, Bar>);
        status(instrument: Option<&Instrument>, status: &Status);
        feed(feed: &FeedStatus);
        stats(stats: &ServerStats);
    }

    fn is_full(&self) -> bool {
        match self.form {
            Form::MessagePack => self.msgpack.is_full(),
            Form::Json => self.json.is_full(),
        }
    }

    fn repeat(&mut self, topic: TopicKey, since: Position) -> bool {
        self.form == Form::MessagePack && self.msgpack.repeat(topic, since)
    }

    fn remember(&mut self, topic: TopicKey, since: Range<Position>) {
        if self.form == Form::MessagePack {
            self.msgpack.remember(topic, since);
        }
    }
}
