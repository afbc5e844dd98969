//! Answers to clients that poll: an update, and the text with which they ask for what follows.
//! Pure; any thread that has a replica.
//!
//! Invariant: an answer depends only on the replica, the query, the text and the end that it is given, so any
//! node gives it, and whoever asks the same may be given the same bytes.

use super::framing::{Encoding, Form};
use super::json::JsonUpdate;
use super::msgpack::MsgpackUpdate;
use super::update::FULL_BYTES;
use crate::hub::{ChannelId, Kind, Owed, Poll, Replica, Subject, Topic, TopicKey, Upto};
use crate::market::InstrumentId;
use crate::tape::{Epoch, Position};
use rmp::encode;
use std::fmt;
use std::io::Write;
use std::str::FromStr;

/// What a client polls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollQuery {
    /// Sorted, each once, as `new`.
    pub topics: Vec<Topic>,
    /// Topics of which it has nothing yet, whatever it has of the others.
    pub new: Vec<Topic>,
    /// A form of JSON, of which only the images matter; or [`Form::BARE`].
    pub form: Form,
    /// Whether quotes carry their `ts_event`.
    pub times: bool,
}

/// How far a client is, as it says when it polls: `EPOCH-POSITION`. Within an answer that needs several
/// polls: five numbers, which only the server understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PollSince {
    pub epoch: Epoch,
    pub position: Position,
    /// The rest of an answer up to that position, which begins with that topic.
    pub rest: Option<(Position, TopicKey)>,
}

/// An answer to a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollAnswer {
    /// JSON in one line, with its end; or a map in `MessagePack`.
    pub body: Vec<u8>,
    /// What the client asks with next.
    pub since: PollSince,
    /// Nothing was pending.
    pub is_empty: bool,
}

/// An answer with this many bytes of entries is full. One entry more, a full ring, may make it three times as
/// long.
pub const POLL_BYTES: usize = 256 * 1024;

impl PollQuery {
    /// What is pending up to `upto` for a client that is at `since`; from the beginning where it does not
    /// say, or says what this tape does not know. `full`: bytes of entries from which on the answer is full;
    /// [`POLL_BYTES`], or less.
    #[must_use]
    pub fn answer(&self, replica: &Replica, since: Option<PollSince>, upto: Upto, full: usize) -> PollAnswer {
        let known = since.filter(|since| since.is_of(replica));
        // A client from a node that is ahead of this one receives the little between again.
        let from = known.map_or(Position::START, |since| since.position.min(replica.position()));
        let rest = known.and_then(|since| since.rest).filter(|&(upto, _)| upto <= replica.position());
        let upto = match rest {
            Some((position, _)) => Upto { position, ..upto },
            // Position 0 is before everything: who is there has had nothing, so no answer that has anything
            // ends there.
            None if from > upto.position || upto.position == Position::START => {
                Upto { position: replica.position(), time: replica.time() }
            }
            None => upto,
        };
        let next = rest.map(|(_, next)| next);
        let poll = Poll { topics: &self.topics, new: &self.new, from, upto: upto.position, next };

        let begin = if from == Position::START { upto } else { Upto { position: from, ..upto } };
        let is_refused = since.is_some() && known.is_none();
        // Images are told as they are now. Who has all up to the end of this answer gets them with the next:
        // the answer would be the same until there is another end, and the client would ask in vain.
        let is_there =
            from == upto.position && from > Position::START && rest.is_none() && self.new.is_empty();
        let mut update = PollUpdate::new(self.form, full);
        update.begin(self, begin, upto);
        let next = match &mut update {
            _ if is_there => None,
            PollUpdate::Json(update) => tell(&poll, replica, is_refused, &mut **update),
            PollUpdate::MessagePack(update) => tell(&poll, replica, is_refused, &mut **update),
        };
        let is_empty = update.is_empty() && rest.is_none();
        let position = if next.is_some() || (is_empty && since.is_some()) { from } else { upto.position };
        let rest = next.map(|next| (upto.position, next));
        let after = PollSince { epoch: replica.epoch(), position, rest };
        let resumed = since.map(|_| !is_refused);
        let body = match update {
            PollUpdate::Json(mut update) => json(update.finish(next.is_none()), after, resumed),
            PollUpdate::MessagePack(mut update) => {
                let mut bytes = Vec::new();
                update.finish(next.is_none(), self.form, &mut bytes);
                msgpack(&bytes, after, begin, upto, resumed)
            }
        };
        PollAnswer { body, since: after, is_empty }
    }

    /// Whether anything of these topics happened between two positions.
    #[must_use]
    pub fn is_pending(&self, replica: &Replica, from: Position, upto: Position) -> bool {
        let both = [&*self.topics, &*self.new].concat();
        Poll { topics: &both, new: &[], from, upto, next: None }.is_pending(replica)
    }
}

/// The encoder of an answer.
enum PollUpdate {
    Json(Box<JsonUpdate>),
    MessagePack(Box<MsgpackUpdate>),
}

impl PollUpdate {
    fn new(form: Form, full: usize) -> Self {
        match form.encoding() {
            Encoding::Json => Self::Json(Box::new(JsonUpdate::new(full))),
            Encoding::MessagePack => Self::MessagePack(Box::new(MsgpackUpdate::new(full.min(FULL_BYTES)))),
        }
    }

    fn begin(&mut self, query: &PollQuery, from: Upto, upto: Upto) {
        match self {
            Self::Json(update) => update.begin(query.times, query.form, from, upto),
            Self::MessagePack(update) => update.begin(query.times, from, upto),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Json(update) => update.is_empty(),
            Self::MessagePack(update) => update.is_empty(),
        }
    }
}

fn tell(poll: &Poll<'_>, replica: &Replica, is_refused: bool, update: &mut impl Owed) -> Option<TopicKey> {
    if is_refused {
        update.reset();
    }
    poll.tell(replica, update)
}

/// The update is a map: its fields go on.
fn json(update: &[u8], after: PollSince, resumed: Option<bool>) -> Vec<u8> {
    let (brace, fields) = update.split_last().expect("a map");
    debug_assert_eq!(*brace, b'}');
    let mut body = fields.to_vec();
    write!(body, r#","epoch":{},"since":"{after}""#, after.epoch.get()).expect(VEC);
    if let Some(resumed) = resumed {
        write!(body, r#","resumed":{resumed}"#).expect(VEC);
    }
    body.extend_from_slice(b"}\n");
    body
}

/// A map around the update, which counts from `position` and `time`.
fn msgpack(update: &[u8], after: PollSince, from: Upto, upto: Upto, resumed: Option<bool>) -> Vec<u8> {
    let mut body = Vec::with_capacity(update.len() + 128);
    encode::write_map_len(&mut body, 5 + u32::from(resumed.is_some())).expect(VEC);
    for (name, number) in [("epoch", after.epoch.get()), ("position", from.position.get())] {
        encode::write_str(&mut body, name).expect(VEC);
        encode::write_uint(&mut body, number).expect(VEC);
    }
    encode::write_str(&mut body, "time").expect(VEC);
    encode::write_sint(&mut body, upto.time.micros()).expect(VEC);
    encode::write_str(&mut body, "since").expect(VEC);
    encode::write_str(&mut body, &after.to_string()).expect(VEC);
    if let Some(resumed) = resumed {
        encode::write_str(&mut body, "resumed").expect(VEC);
        encode::write_bool(&mut body, resumed).expect(VEC);
    }
    encode::write_str(&mut body, "update").expect(VEC);
    encode::write_bin(&mut body, update).expect(VEC);
    body
}

/// Writing to a `Vec` cannot fail.
const VEC: &str = "a Vec takes every byte";

impl PollSince {
    /// Whether a tape can go on from there.
    fn is_of(&self, replica: &Replica) -> bool {
        let begins = replica.reset_at();
        let is_valid = match self.rest {
            // The rest of an answer from the beginning.
            Some((upto, _)) if self.position == Position::START => upto >= begins,
            _ => self.position >= begins,
        };
        self.epoch == replica.epoch() && is_valid
    }

    /// The furthest position that it names.
    #[must_use]
    pub fn reached(&self) -> Position {
        self.rest.map_or(self.position, |(upto, _)| upto.max(self.position))
    }
}

impl fmt::Display for PollSince {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch.get(), self.position.get())?;
        if let Some((upto, TopicKey { subject, kind })) = self.rest {
            // The market is 0.
            let number = match subject {
                Subject::Market => 0,
                Subject::Instrument(InstrumentId(number)) | Subject::Channel(ChannelId(number)) => {
                    u64::from(number) + 1
                }
            };
            write!(f, "-{}-{number}-{}", upto.get(), kind.index())?;
        }
        Ok(())
    }
}

impl FromStr for PollSince {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| {
            let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|_| is_plain)
        };
        let parse = || {
            // One more than there may be.
            let numbers: Vec<u64> = text.split('-').take(6).map(number).collect::<Option<_>>()?;
            let (epoch, position, rest) = match *numbers {
                [epoch, position] => (epoch, position, None),
                [epoch, position, upto, number, kind] => {
                    let mut kinds = Kind::ALL.into_iter().chain(Kind::OF_CHANNELS);
                    let kind = kinds.find(|known| known.index() as u64 == kind)?;
                    let subject = match number.checked_sub(1) {
                        None => Subject::Market,
                        Some(number) if kind.is_of_channels() => {
                            Subject::Channel(ChannelId(u32::try_from(number).ok()?))
                        }
                        Some(number) => Subject::Instrument(InstrumentId(u32::try_from(number).ok()?)),
                    };
                    (epoch, position, Some((Position::new(upto), TopicKey { subject, kind })))
                }
                _ => return None,
            };
            Some(Self { epoch: Epoch::new(epoch), position: Position::new(position), rest })
        };
        parse().ok_or("an epoch and a position, as 17-4711, or what the last answer gave as since")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_client_is_reads_as_it_is_written() {
        for text in [
            "17-4711",
            "0-0",
            "9007199254740991-18446744073709551615",
            "17-0-4711-131-5",
            "17-9-12-0-5",
            "17-9-12-3-8",
        ] {
            assert_eq!(text.parse::<PollSince>().map(|since| since.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_says_no_place_is_refused() {
        let broken = [
            "",
            "17",
            "17-",
            "-17",
            "17-x",
            "17-4711-",
            "17-4711-x",
            "17-0-4711",
            "17-0-4711-1",
            "17-0-4711-1-99",
            "17-0-4711-1-2-3",
            "17-0-4711-4294967297-0",
            "17-18446744073709551616",
            "17--4711",
            "+17-1-",
        ];
        for text in broken {
            assert!(text.parse::<PollSince>().is_err(), "{text:?}");
        }
    }
}
