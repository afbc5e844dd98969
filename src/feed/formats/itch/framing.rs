use super::message;
use crate::market::Timestamp;
use std::io::{self, Read};

/// Where messages come from: a file of messages, each behind its length, or captured packets of the MoldUDP64 feed.
pub(super) struct Framing<R> {
    input: R,
    kind: Kind,
    /// The last frame: a message, or a packet.
    frame: Vec<u8>,
    /// Bytes read so far, and messages.
    offset: u64,
    messages: u64,
}

enum Kind {
    BinaryFile,
    Pcap(Pcap),
}

struct Pcap {
    big_endian: bool,
    nanos: bool,
    /// What is left in the last packet.
    rest: Rest,
    /// By the feed: its session, and the number its next message should have.
    expected: Option<([u8; 10], u64)>,
    /// Packets of anything else.
    left_out: u64,
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

/// Why a file of captured packets cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the capture has packets of link type {0}: expected 1, Ethernet")]
    LinkType(u32),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FramingError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the file breaks off in a message")]
    Truncated,
    #[error("a packet of {0} bytes is longer than any can be")]
    PacketLength(u32),
    #[error("a packet breaks off in a message")]
    TruncatedPacket,
    #[error("messages {from} to {to} are missing")]
    Missing { from: u64, to: u64 },
}

impl FramingError {
    /// Whether nothing behind it can be read.
    pub(super) fn ends(&self) -> bool {
        !matches!(self, Self::TruncatedPacket | Self::Missing { .. })
    }
}

/// The longest packet that tools capture.
const MAX_PACKET: u32 = 256 * 1024;
const PCAP_HEADER: usize = 24;
const MOLD_HEADER: usize = 20;
/// A packet that says the session has ended has this many messages, and none of them.
const END_OF_SESSION: u16 = 0xffff;

pub(super) fn is_pcap(head: &[u8]) -> bool {
    head.len() >= PCAP_HEADER && byte_order(head).is_some()
}

/// Whether a file begins with whole messages, each behind its length.
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

/// Big-endian or not, and nanoseconds or microseconds, by the magic number.
fn byte_order(head: &[u8]) -> Option<(bool, bool)> {
    match head.get(..4)? {
        [0xa1, 0xb2, 0xc3, 0xd4] => Some((true, false)),
        [0xd4, 0xc3, 0xb2, 0xa1] => Some((false, false)),
        [0xa1, 0xb2, 0x3c, 0x4d] => Some((true, true)),
        [0x4d, 0x3c, 0xb2, 0xa1] => Some((false, true)),
        _ => None,
    }
}

impl<R: io::BufRead> Framing<R> {
    pub(super) fn new(mut input: R) -> Result<Self, CaptureError> {
        let head = input.fill_buf()?;
        let kind = if is_pcap(head) {
            let (big_endian, nanos) = byte_order(head).unwrap_or_default();
            let mut header = [0; PCAP_HEADER];
            input.read_exact(&mut header)?;
            let pcap = Pcap { big_endian, nanos, rest: Rest::default(), expected: None, left_out: 0 };
            // The upper bits say other things of it.
            match pcap.u32(&header[20..]) & 0xffff {
                1 => Kind::Pcap(pcap),
                other => return Err(CaptureError::LinkType(other)),
            }
        } else {
            Kind::BinaryFile
        };
        let offset = if matches!(kind, Kind::Pcap(_)) { PCAP_HEADER as u64 } else { 0 };
        Ok(Self { input, kind, frame: Vec::new(), offset, messages: 0 })
    }

    pub(super) fn has_times(&self) -> bool {
        matches!(self.kind, Kind::Pcap(_))
    }

    pub(super) fn left_out(&self) -> u64 {
        match &self.kind {
            Kind::BinaryFile => 0,
            Kind::Pcap(pcap) => pcap.left_out,
        }
    }

    /// Of the last message.
    pub(super) fn place(&self) -> String {
        format!("message {} (up to byte {})", self.messages, self.offset)
    }

    pub(super) fn next(&mut self) -> Result<Option<Framed<'_>>, FramingError> {
        match self.kind {
            Kind::BinaryFile => self.next_of_file(),
            Kind::Pcap(_) => self.next_of_packets(),
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
            // The end of a session, behind which another may follow.
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
            let Kind::Pcap(pcap) = &mut self.kind else { return Ok(None) };
            let Rest { captured, at, end, messages } = &mut pcap.rest;
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

    /// Reads packets up to the next one with messages; false at the end.
    fn next_packet(&mut self) -> Result<bool, FramingError> {
        match self.read(16)? {
            0 => return Ok(false),
            16 => {}
            _ => return Err(FramingError::Truncated),
        }
        let Kind::Pcap(pcap) = &self.kind else { return Ok(false) };
        let [seconds, fraction, len] = [0, 4, 8].map(|at| pcap.u32(&self.frame[at..]));
        if len > MAX_PACKET {
            return Err(FramingError::PacketLength(len));
        }
        let unit = if pcap.nanos { 1 } else { 1_000 };
        let captured = i64::from(seconds) * 1_000_000_000 + i64::from(fraction) * unit;
        let len = len as usize;
        if self.read(len)? < len {
            return Err(FramingError::Truncated);
        }
        let Kind::Pcap(pcap) = &mut self.kind else { return Ok(false) };
        match mold(&self.frame) {
            Some(range) => pcap.take(&self.frame, range, Timestamp::from_nanos(captured))?,
            None => pcap.left_out += 1,
        }
        Ok(true)
    }

    /// Fills `frame` with so many bytes, or with those that are left. Memory follows what is there, not what was announced.
    fn read(&mut self, len: usize) -> Result<usize, FramingError> {
        self.frame.clear();
        let got = (&mut self.input).take(len as u64).read_to_end(&mut self.frame)?;
        self.offset += got as u64;
        Ok(got)
    }
}

impl Pcap {
    fn u32(&self, bytes: &[u8]) -> u32 {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// Takes the messages of a packet up, without those that came before: the feed is sent twice.
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

/// Where the message is that begins with its length at `at`.
fn block(packet: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let length = packet.get(at..at + 2)?;
    let start = at + 2;
    let end = start + usize::from(u16::from_be_bytes([length[0], length[1]]));
    (end <= packet.len()).then_some(start..end)
}

/// The payload of an Ethernet frame that carries UDP over IPv4, if it is long enough for a packet of MoldUDP64.
fn mold(frame: &[u8]) -> Option<std::ops::Range<usize>> {
    let u16_at = |at: usize| frame.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    let mut at = 12;
    // Behind a VLAN's tag there is the real type.
    while matches!(u16_at(at)?, 0x8100 | 0x88a8) {
        at += 4;
    }
    if u16_at(at)? != 0x0800 {
        return None;
    }
    let ip = at + 2;
    let (first, protocol) = (*frame.get(ip)?, *frame.get(ip + 9)?);
    // Only whole datagrams: a fragment that is not the first has an offset.
    if first >> 4 != 4 || protocol != 17 || u16_at(ip + 6)? & 0x1fff != 0 {
        return None;
    }
    let udp = ip + usize::from(first & 0x0f) * 4;
    let end = udp.checked_add(u16_at(udp + 4)?)?.min(frame.len());
    let start = udp + 8;
    (start + MOLD_HEADER <= end).then_some(start..end)
}
