use super::message;
use super::packets::{self, CaptureError, ETHERNET, PacketError, Packets, Payload, Piece};
use crate::feed::LeftOut;
use crate::market::Timestamp;
use std::io::{self, Read};

/// The source of messages: a file of messages, each after its length, or captured packets of the MoldUDP64
/// feed.
pub(super) struct Framing<R> {
    input: R,
    kind: Kind,
    /// The last frame: a message, or a packet.
    frame: Vec<u8>,
    /// Bytes read so far, and messages.
    offset: u64,
    messages: u64,
    left_out: LeftOut,
}

enum Kind {
    BinaryFile,
    Capture(Capture),
}

struct Capture {
    packets: Packets,
    /// The rest of the last packet.
    rest: Rest,
    /// The feed's session, and the expected number of its next message.
    expected: Option<([u8; 10], u64)>,
}

#[derive(Default)]
struct Rest {
    captured: Timestamp,
    at: usize,
    end: usize,
    messages: u16,
}

/// A message, and when its packet was captured.
pub(super) struct Framed<'a> {
    pub(super) message: &'a [u8],
    pub(super) captured: Option<Timestamp>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FramingError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Packet(#[from] PacketError),
    #[error("the file breaks off in a message")]
    Truncated,
    #[error("a packet breaks off in a message")]
    TruncatedPacket,
    /// Orders may be among them.
    #[error("messages {from} to {to} are missing")]
    Missing { from: u64, to: u64 },
}

impl FramingError {
    /// Whether nothing after it can be read.
    pub(super) fn ends(&self) -> bool {
        !matches!(self, Self::TruncatedPacket | Self::Missing { .. })
    }
}

const MOLD_HEADER: usize = 20;
/// The count of messages of a packet that ends the session; it holds none.
const END_OF_SESSION: u16 = 0xffff;

/// Whether a file begins with complete messages, each after its length.
pub(super) fn is_binary_file(head: &[u8]) -> bool {
    let mut rest = head;
    let mut messages = 0;
    while let [high, low, kind, ..] = *rest {
        let len = usize::from(u16::from_be_bytes([high, low]));
        if message::length(kind) != Some(len) {
            return false;
        }
        messages += 1;
        match rest.get(2 + len..) {
            Some(behind) => rest = behind,
            None => break,
        }
    }
    messages > 0
}

impl<R: io::BufRead> Framing<R> {
    pub(super) fn new(mut input: R) -> Result<Self, CaptureError> {
        let (kind, offset) = match Packets::open(&mut input)? {
            Some((packets, offset)) => {
                (Kind::Capture(Capture { packets, rest: Rest::default(), expected: None }), offset)
            }
            None => (Kind::BinaryFile, 0),
        };
        Ok(Self { input, kind, frame: Vec::new(), offset, messages: 0, left_out: LeftOut::default() })
    }

    pub(super) fn has_times(&self) -> bool {
        matches!(self.kind, Kind::Capture(_))
    }

    /// Packets of anything else.
    pub(super) fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// When the last packet was captured.
    pub(super) fn captured(&self) -> Option<Timestamp> {
        match &self.kind {
            Kind::BinaryFile => None,
            Kind::Capture(capture) => Some(capture.rest.captured),
        }
    }

    /// Of the last message.
    pub(super) fn place(&self) -> String {
        format!("message {} (up to byte {})", self.messages, self.offset)
    }

    pub(super) fn next(&mut self) -> Result<Option<Framed<'_>>, FramingError> {
        match self.kind {
            Kind::BinaryFile => self.next_of_file(),
            Kind::Capture(_) => self.next_of_packets(),
        }
    }

    fn next_of_file(&mut self) -> Result<Option<Framed<'_>>, FramingError> {
        loop {
            match self.read(2)? {
                0 => return Ok(None),
                2 => {}
                _ => return Err(FramingError::Truncated),
            }
            self.messages += 1;
            let len = u16::from_be_bytes([self.frame[0], self.frame[1]]).into();
            // The end of a session; another may follow.
            if len == 0 {
                continue;
            }
            if self.read(len)? < len {
                return Err(FramingError::Truncated);
            }
            return Ok(Some(Framed { message: &self.frame, captured: None }));
        }
    }

    fn next_of_packets(&mut self) -> Result<Option<Framed<'_>>, FramingError> {
        loop {
            let Kind::Capture(capture) = &mut self.kind else { return Ok(None) };
            let Rest { captured, at, end, messages } = &mut capture.rest;
            if *messages > 0 {
                *messages -= 1;
                self.messages += 1;
                let message = block(&self.frame[..*end], *at);
                let Some(message) = message else {
                    *messages = 0;
                    return Err(FramingError::TruncatedPacket);
                };
                *at = message.end;
                return Ok(Some(Framed { message: &self.frame[message], captured: Some(*captured) }));
            }
            if !self.next_packet()? {
                return Ok(None);
            }
        }
    }

    /// Reads the next packet; false at the end.
    fn next_packet(&mut self) -> Result<bool, FramingError> {
        let Kind::Capture(capture) = &mut self.kind else { return Ok(false) };
        let (time, link) = match capture.packets.next(&mut self.input, &mut self.frame, &mut self.offset)? {
            Piece::Packet { time, link } => (time, link),
            Piece::Other => return Ok(true),
            Piece::End => return Ok(false),
        };
        if link != ETHERNET {
            self.left_out.add("packets of link type", &link.to_string());
            return Ok(true);
        }
        match packets::payload(&self.frame) {
            Payload::Datagram(range) if capture.is_mold(&self.frame[range.clone()]) => {
                capture.take(&self.frame, range, time)?;
            }
            Payload::Datagram(_) => self.left_out.add("UDP packets", "that are not MoldUDP64 of ITCH"),
            Payload::Iex(protocol) => self.left_out.add("IEX-TP packets of", protocol),
            Payload::NotUdp => self.left_out.add("packets", "that are not UDP over IPv4"),
        }
        Ok(true)
    }

    /// Fills `frame` with so many bytes, or with those that are left. Memory follows what is there, not what
    /// was announced.
    fn read(&mut self, len: usize) -> Result<usize, FramingError> {
        self.frame.clear();
        let got = (&mut self.input).take(len as u64).read_to_end(&mut self.frame)?;
        self.offset += got as u64;
        Ok(got)
    }
}

impl Capture {
    /// Whether a datagram is of MoldUDP64 and carries ITCH: by its session, or by its first message.
    fn is_mold(&self, payload: &[u8]) -> bool {
        let Some(header) = payload.get(..MOLD_HEADER) else { return false };
        if self.expected.is_some_and(|(session, _)| header[..10] == session) {
            return true;
        }
        match u16::from_be_bytes([header[18], header[19]]) {
            // A heartbeat, or the end.
            0 | END_OF_SESSION => payload.len() == MOLD_HEADER,
            _ => match payload[MOLD_HEADER..] {
                [high, low, kind, ..] => {
                    message::length(kind) == Some(u16::from_be_bytes([high, low]).into())
                }
                _ => false,
            },
        }
    }

    /// Takes the messages of a packet, without those that came before: the feed is sent twice.
    fn take(
        &mut self,
        packet: &[u8],
        payload: std::ops::Range<usize>,
        captured: Timestamp,
    ) -> Result<(), FramingError> {
        let header = &packet[payload.start..payload.start + MOLD_HEADER];
        let mut session = [0; 10];
        session.copy_from_slice(&header[..10]);
        let mut number = [0; 8];
        number.copy_from_slice(&header[10..18]);
        let number = u64::from_be_bytes(number);
        let count = match u16::from_be_bytes([header[18], header[19]]) {
            END_OF_SESSION => 0,
            count => count,
        };
        self.rest = Rest { captured, at: payload.start + MOLD_HEADER, end: payload.end, messages: count };
        // Numbers start at 1; captures whose numbers were blanked out have 0.
        if number == 0 {
            return Ok(());
        }
        let expected = self.expected.filter(|(known, _)| *known == session).map_or(number, |(_, next)| next);
        let next = number.saturating_add(count.into());
        self.expected = Some((session, next.max(expected)));
        let known = expected.saturating_sub(number).min(count.into());
        for _ in 0..known {
            match block(&packet[..payload.end], self.rest.at) {
                Some(message) => self.rest.at = message.end,
                None => break,
            }
            self.rest.messages -= 1;
        }
        if number > expected {
            return Err(FramingError::Missing { from: expected, to: number - 1 });
        }
        Ok(())
    }
}

/// The range of the message that begins with its length at `at`.
fn block(packet: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let length = packet.get(at..at + 2)?;
    let start = at + 2;
    let end = start + usize::from(u16::from_be_bytes([length[0], length[1]]));
    (end <= packet.len()).then_some(start..end)
}
