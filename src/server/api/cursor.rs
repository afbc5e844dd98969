//! The page tokens of history: where the next page begins.

use super::history::Order;
use crate::hub::{Kind, Replica};
use crate::market::{InstrumentId, Symbol};
use crate::server::problem::Problem;
use crate::tape::{Epoch, Position};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// One state of a tape's numbering: entries of another one do not compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Numbering {
    pub epoch: Epoch,
    /// A reset numbers instruments and entries anew.
    pub reset_at: Position,
}

/// The entry at which the next page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cursor {
    pub instrument: InstrumentId,
    /// Its place in the order of its symbol: the number of a trade, the start of a bar in seconds.
    pub place: i64,
    /// The lowest number of the entries of its symbol that are still to come. If the ring has none of that
    /// number any more, some were evicted.
    pub expected: u64,
}

/// A cursor as a client has it, bound to the request that it continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub order: Order,
    pub numbering: Numbering,
    pub symbol: Symbol,
    pub place: i64,
    pub expected: u64,
}

impl Numbering {
    pub fn of(replica: &Replica) -> Self {
        Self { epoch: replica.epoch(), reset_at: replica.reset_at() }
    }
}

impl Token {
    pub fn write(&self) -> String {
        let Self { kind, order, numbering: Numbering { epoch, reset_at }, symbol, place, expected } = self;
        let (kind, order, epoch, reset_at) = (kind.name(), order.name(), epoch.get(), reset_at.get());
        // The symbol comes last, as it may have blanks.
        URL_SAFE_NO_PAD.encode(format!("{kind} {order} {epoch} {reset_at} {place} {expected} {symbol}"))
    }

    /// # Errors
    /// 400: it is malformed.
    pub fn read(text: &str) -> Result<Self, Problem> {
        let decoded = || String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok();
        decoded().and_then(|text| Self::parse(&text)).ok_or_else(|| {
            let text: String = text.chars().take(100).collect();
            let detail =
                format!("page_token={text:?}: expected the next_page_token of an answer, without a change");
            Problem::bad_request(detail)
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(7, ' ');
        let mut part = || parts.next();
        let kind = part()?;
        Some(Self {
            kind: Kind::ALL.into_iter().find(|known| known.name() == kind)?,
            order: Order::parse(part()?)?,
            numbering: Numbering {
                epoch: Epoch::new(part()?.parse().ok()?),
                reset_at: Position::new(part()?.parse().ok()?),
            },
            place: part()?.parse().ok()?,
            expected: part()?.parse().ok()?,
            symbol: Symbol::new(part()?).ok()?,
        })
    }

    /// # Errors
    /// 400: it is of another list.
    pub fn check(&self, kind: Kind, order: Order) -> Result<(), Problem> {
        if (self.kind, self.order) == (kind, order) {
            return Ok(());
        }
        let (kind, order) = (self.kind.name(), self.order.name());
        let detail =
            format!("page_token: it continues {kind} with sort={order}: ask with the same parameters");
        Err(Problem::bad_request(detail))
    }

    /// # Errors
    /// 400: it is of another tape, or of the time before a reset.
    pub fn cursor(&self, replica: &Replica) -> Result<Cursor, Problem> {
        let now = Numbering::of(replica);
        if self.numbering.epoch != now.epoch {
            let detail = "page_token: it is of another epoch, as the server or the room was started anew: \
                          begin without it";
            return Err(Problem::bad_request(detail));
        }
        let book = replica.by_symbol(self.symbol.as_str()).filter(|_| self.numbering == now);
        let book = book.ok_or_else(|| {
            Problem::bad_request("page_token: the market was reset since, as by a seek: begin without it")
        })?;
        Ok(Cursor { instrument: book.definition.id, place: self.place, expected: self.expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written(
            (kind, is_asc) in (0..Kind::ALL.len(), any::<bool>()),
            (epoch, reset_at) in (0..1_u64 << 53, any::<u64>()),
            (place, expected) in (any::<i64>(), any::<u64>()),
            symbol in "[A-Z@*%,/][A-Z 0-9]{0,5}[A-Z*%,]",
        ) {
            let token = Token {
                kind: Kind::ALL[kind],
                order: if is_asc { Order::Ascending } else { Order::Descending },
                numbering: Numbering { epoch: Epoch::new(epoch), reset_at: Position::new(reset_at) },
                symbol: Symbol::new(&symbol).unwrap(),
                place,
                expected,
            };
            prop_assert_eq!(Token::read(&token.write()).unwrap(), token);
        }

        #[test]
        fn no_text_is_more_than_malformed(text in ".{0,40}") {
            prop_assert!(Token::read(&text).is_err());
            let _ = Token::read(&URL_SAFE_NO_PAD.encode(&text));
        }
    }
}
