use crate::market::Side;

/// The fields of a message that are used: numbers as on the wire, prices in ten-thousandths of a dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// An event of the whole market, by its letter.
    System(u8),
    /// `T` if a stock trades; else it is halted, paused, or only quoted.
    Trading {
        symbol: &'a str,
        state: u8,
    },
    /// Names a stock; nothing else of it is kept.
    Named {
        symbol: &'a str,
    },
    Add {
        symbol: &'a str,
        order: u64,
        side: Side,
        shares: u32,
        price: u32,
    },
    Executed {
        order: u64,
        shares: u32,
        /// The day's number of this trade, as in all messages of trades.
        number: u64,
    },
    ExecutedAt {
        order: u64,
        shares: u32,
        printable: bool,
        price: u32,
        number: u64,
    },
    Cancelled {
        order: u64,
        shares: u32,
    },
    Deleted {
        order: u64,
    },
    Replaced {
        old: u64,
        new: u64,
        shares: u32,
        price: u32,
    },
    Hidden {
        symbol: &'a str,
        shares: u32,
        price: u32,
        number: u64,
    },
    Cross {
        symbol: &'a str,
        shares: u64,
        price: u32,
        kind: u8,
        number: u64,
    },
    /// Breaks the trade of that number.
    Broken {
        number: u64,
    },
    Other,
}

/// The head of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The day's number of the stock; 0 if it is of none.
    pub(super) stock: u16,
    /// Since midnight in New York.
    pub(super) nanos: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MessageError {
    #[error("a message without a type")]
    Empty,
    #[error("{kind:?} is no type of message in ITCH 5.0")]
    Unknown { kind: char },
    #[error("message {kind:?} has {len} bytes: expected {expected}")]
    Length { kind: char, len: usize, expected: usize },
    #[error("its time is {nanos} ns after midnight, which no day has")]
    Time { nanos: i64 },
    #[error("side {0:?} is neither B nor S")]
    Side(char),
    #[error("the name of its stock is not ASCII")]
    Symbol,
}

/// A leap second is the most that a day can be longer.
const DAY: i64 = 86_401_000_000_000;

/// How long messages of a type are, by the specification.
pub(super) fn length(kind: u8) -> Option<usize> {
    Some(match kind {
        b'S' | b'W' => 12,
        b'R' => 39,
        b'H' => 25,
        b'Y' | b'N' => 20,
        b'L' => 26,
        b'V' | b'J' | b'U' => 35,
        b'K' => 28,
        b'h' => 21,
        b'A' | b'C' => 36,
        b'F' | b'Q' => 40,
        b'E' => 31,
        b'X' => 23,
        b'D' | b'B' => 19,
        b'P' => 44,
        b'I' => 50,
        b'O' => 48,
        _ => return None,
    })
}

impl<'a> Message<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<(Header, Self), MessageError> {
        let &[kind, ..] = bytes else { return Err(MessageError::Empty) };
        let letter = char::from(kind);
        let expected = length(kind).ok_or(MessageError::Unknown { kind: letter })?;
        if bytes.len() != expected {
            return Err(MessageError::Length { kind: letter, len: bytes.len(), expected });
        }
        let fields = Fields(bytes);
        let nanos = (i64::from(fields.u16(5)) << 32) | i64::from(fields.u32(7));
        if nanos >= DAY {
            return Err(MessageError::Time { nanos });
        }
        let header = Header { stock: fields.u16(1), nanos };
        let message = match kind {
            b'S' => Self::System(bytes[11]),
            b'R' => Self::Named { symbol: fields.symbol(11)? },
            b'H' => Self::Trading { symbol: fields.symbol(11)?, state: bytes[19] },
            b'A' | b'F' => Self::Add {
                order: fields.u64(11),
                side: fields.side(19)?,
                shares: fields.u32(20),
                symbol: fields.symbol(24)?,
                price: fields.u32(32),
            },
            b'E' => Self::Executed { order: fields.u64(11), shares: fields.u32(19), number: fields.u64(23) },
            b'C' => Self::ExecutedAt {
                order: fields.u64(11),
                shares: fields.u32(19),
                printable: bytes[31] == b'Y',
                price: fields.u32(32),
                number: fields.u64(23),
            },
            b'X' => Self::Cancelled { order: fields.u64(11), shares: fields.u32(19) },
            b'D' => Self::Deleted { order: fields.u64(11) },
            b'U' => Self::Replaced {
                old: fields.u64(11),
                new: fields.u64(19),
                shares: fields.u32(27),
                price: fields.u32(31),
            },
            b'P' => Self::Hidden {
                shares: fields.u32(20),
                symbol: fields.symbol(24)?,
                price: fields.u32(32),
                number: fields.u64(36),
            },
            b'Q' => Self::Cross {
                shares: fields.u64(11),
                symbol: fields.symbol(19)?,
                price: fields.u32(27),
                kind: bytes[39],
                number: fields.u64(31),
            },
            b'B' => Self::Broken { number: fields.u64(11) },
            _ => Self::Other,
        };
        Ok((header, message))
    }

    pub(super) fn symbol(&self) -> Option<&'a str> {
        match *self {
            Self::Trading { symbol, .. }
            | Self::Named { symbol }
            | Self::Add { symbol, .. }
            | Self::Hidden { symbol, .. }
            | Self::Cross { symbol, .. } => Some(symbol),
            _ => None,
        }
    }
}

/// Big-endian fields of a message whose length was checked.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.0[at..at + N]);
        array
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.array(at))
    }

    /// Eight characters, padded with blanks.
    fn symbol(&self, at: usize) -> Result<&'a str, MessageError> {
        let text = std::str::from_utf8(&self.0[at..at + 8]).map_err(|_| MessageError::Symbol)?;
        Ok(text.trim_end_matches(' '))
    }

    fn side(&self, at: usize) -> Result<Side, MessageError> {
        match self.0[at] {
            b'B' => Ok(Side::Buy),
            b'S' => Ok(Side::Sell),
            other => Err(MessageError::Side(char::from(other))),
        }
    }
}
