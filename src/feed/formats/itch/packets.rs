//! Packets that were captured, as pcap or pcapng, and the UDP datagrams in them.

use crate::market::Timestamp;
use std::io::{self, BufRead, Read};
use std::ops::Range;

/// The form of a capture.
pub(super) struct Packets {
    form: Form,
    big_endian: bool,
    /// Of the last packet that states one.
    time: Timestamp,
}

enum Form {
    Pcap {
        nanos: bool,
    },
    /// Its interfaces: each with its kind of link and its clock.
    PcapNg {
        interfaces: Vec<Interface>,
    },
}

struct Interface {
    link: u16,
    /// Units of its times per second, and their offset in seconds.
    resolution: u64,
    offset: i64,
}

/// The next piece of a capture.
pub(super) enum Piece {
    /// A packet of so many bytes, when it was captured, and by which kind of link.
    Packet {
        time: Timestamp,
        link: u16,
    },
    /// Metadata of the capture.
    Other,
    End,
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
pub(super) enum PacketError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the file breaks off in a packet")]
    Truncated,
    #[error("a packet of {0} bytes is longer than any can be")]
    Length(u32),
    #[error("a block of the capture says to be of {0} bytes, which none can be")]
    Block(u32),
}

/// The only kind of link that is read.
pub(super) const ETHERNET: u16 = 1;
/// The longest packet that tools capture.
const MAX_PACKET: u32 = 256 * 1024;
const PCAP_HEADER: usize = 24;
/// A block of pcapng that begins a section.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Most interfaces of a section, to bound memory.
const MAX_INTERFACES: usize = 1024;

/// Whether a file begins as a capture does.
pub(super) fn is_capture(head: &[u8]) -> bool {
    head.len() >= PCAP_HEADER && (byte_order(head).is_some() || is_section(head))
}

fn is_section(head: &[u8]) -> bool {
    head.starts_with(&SECTION) && head.get(8..12).is_some_and(|magic| section_order(magic).is_some())
}

/// Big-endian or not, by the magic number of a section.
fn section_order(magic: &[u8]) -> Option<bool> {
    let magic = [magic[0], magic[1], magic[2], magic[3]];
    match BYTE_ORDER {
        order if u32::from_le_bytes(magic) == order => Some(false),
        order if u32::from_be_bytes(magic) == order => Some(true),
        _ => None,
    }
}

/// Big-endian or not, and nanoseconds or microseconds, by the magic number of a pcap.
fn byte_order(head: &[u8]) -> Option<(bool, bool)> {
    match head.get(..4)? {
        [0xa1, 0xb2, 0xc3, 0xd4] => Some((true, false)),
        [0xd4, 0xc3, 0xb2, 0xa1] => Some((false, false)),
        [0xa1, 0xb2, 0x3c, 0x4d] => Some((true, true)),
        [0x4d, 0x3c, 0xb2, 0xa1] => Some((false, true)),
        _ => None,
    }
}

impl Packets {
    /// Reads the header and returns its length; `None` if it is no capture.
    pub(super) fn open(input: &mut impl BufRead) -> Result<Option<(Self, u64)>, CaptureError> {
        let head = input.fill_buf()?;
        if !is_capture(head) {
            return Ok(None);
        }
        let time = Timestamp::default();
        let Some((big_endian, nanos)) = byte_order(head) else {
            let form = Form::PcapNg { interfaces: Vec::new() };
            return Ok(Some((Self { form, big_endian: false, time }, 0)));
        };
        let mut header = [0; PCAP_HEADER];
        input.read_exact(&mut header)?;
        let packets = Self { form: Form::Pcap { nanos }, big_endian, time };
        // The upper bits have other meanings.
        match packets.u32(&header[20..]) & 0xffff {
            1 => Ok(Some((packets, PCAP_HEADER as u64))),
            other => Err(CaptureError::LinkType(other)),
        }
    }

    /// Reads the next piece of the capture; a packet's bytes are in `frame` then.
    pub(super) fn next(
        &mut self,
        input: &mut impl BufRead,
        frame: &mut Vec<u8>,
        offset: &mut u64,
    ) -> Result<Piece, PacketError> {
        let mut source = Source { input, offset };
        match self.form {
            Form::Pcap { nanos } => self.next_packet(nanos, &mut source, frame),
            Form::PcapNg { .. } => self.next_block(&mut source, frame),
        }
    }

    fn next_packet(
        &mut self,
        nanos: bool,
        source: &mut Source<impl BufRead>,
        frame: &mut Vec<u8>,
    ) -> Result<Piece, PacketError> {
        if !source.begins(16, frame)? {
            return Ok(Piece::End);
        }
        let [seconds, fraction, len] = [0, 4, 8].map(|at| self.u32(&frame[at..]));
        if len > MAX_PACKET {
            return Err(PacketError::Length(len));
        }
        let unit = if nanos { 1 } else { 1_000 };
        let time = Timestamp::from_nanos(i64::from(seconds) * 1_000_000_000 + i64::from(fraction) * unit);
        source.read(len as usize, frame)?;
        Ok(Piece::Packet { time, link: ETHERNET })
    }

    fn next_block(
        &mut self,
        source: &mut Source<impl BufRead>,
        frame: &mut Vec<u8>,
    ) -> Result<Piece, PacketError> {
        // The kind, the total length, and four bytes that follow in every block.
        if !source.begins(12, frame)? {
            return Ok(Piece::End);
        }
        let is_section = frame.starts_with(&SECTION);
        if is_section {
            self.big_endian = section_order(&frame[8..12]).unwrap_or(self.big_endian);
        }
        let (kind, len) = (self.u32(&frame[..4]), self.u32(&frame[4..8]));
        let mut body = [frame[8], frame[9], frame[10], frame[11]].to_vec();
        if len < 12 || len % 4 != 0 || len > 2 * MAX_PACKET {
            return Err(PacketError::Block(len));
        }
        // A block without a body ends with its length.
        if len > 12 {
            source.read(len as usize - 12, frame)?;
            body.extend_from_slice(&frame[..frame.len() - 4]);
        } else {
            body.clear();
        }
        if is_section {
            self.form = Form::PcapNg { interfaces: Vec::new() };
            return Ok(Piece::Other);
        }
        self.block(kind, &body, frame)
    }

    /// Parses a block; a packet's bytes go into `frame`.
    fn block(&mut self, kind: u32, body: &[u8], frame: &mut Vec<u8>) -> Result<Piece, PacketError> {
        let u16_at = |at: usize| body.get(at..at + 2).map(|bytes| self.u16(bytes));
        let u32_at = |at: usize| body.get(at..at + 4).map(|bytes| self.u32(bytes));
        let packet: (_, _, _, usize) = match kind {
            1 => {
                let interface = Interface::read(u16_at(0).unwrap_or_default(), body, self.big_endian);
                if let Form::PcapNg { interfaces } = &mut self.form
                    && interfaces.len() < MAX_INTERFACES
                {
                    interfaces.push(interface);
                }
                return Ok(Piece::Other);
            }
            // One that states its time, and the form it had at first.
            6 => (u32_at(0), u32_at(4).zip(u32_at(8)), u32_at(12), 20),
            2 => (u16_at(0).map(u32::from), u32_at(4).zip(u32_at(8)), u32_at(12), 20),
            3 => (
                Some(0),
                None,
                u32_at(0).map(|len| len.min(u32::try_from(body.len()).unwrap_or(u32::MAX) - 4)),
                4,
            ),
            _ => return Ok(Piece::Other),
        };
        let (Some(interface), time, Some(len), start) = packet else { return Err(PacketError::Truncated) };
        let Form::PcapNg { interfaces } = &self.form else { return Ok(Piece::Other) };
        let Some(interface) = interfaces.get(interface as usize) else { return Ok(Piece::Other) };
        let data = body.get(start..start.saturating_add(len as usize)).ok_or(PacketError::Truncated)?;
        let link = interface.link;
        if let Some((high, low)) = time {
            self.time = interface.time(u64::from(high) << 32 | u64::from(low));
        }
        frame.clear();
        frame.extend_from_slice(data);
        Ok(Piece::Packet { time: self.time, link })
    }

    fn u16(&self, bytes: &[u8]) -> u16 {
        let bytes = [bytes[0], bytes[1]];
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(&self, bytes: &[u8]) -> u32 {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

impl Interface {
    /// Its options state the unit of time; default microseconds.
    fn read(link: u16, body: &[u8], big_endian: bool) -> Self {
        let (mut resolution, mut offset) = (1_000_000, 0);
        let mut rest = body.get(8..).unwrap_or_default();
        let u16_of = |bytes: &[u8]| {
            let bytes = [bytes[0], bytes[1]];
            if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
        };
        while let [_, _, _, _, ..] = rest {
            let (code, len) = (u16_of(&rest[..2]), usize::from(u16_of(&rest[2..4])));
            let Some(value) = rest.get(4..4 + len) else { break };
            match (code, value) {
                (0, _) => break,
                // A power of ten, or of two.
                (9, [exponent]) if exponent & 0x80 == 0 => {
                    resolution = 10_u64.checked_pow((*exponent).into()).unwrap_or(resolution);
                }
                (9, [exponent]) => {
                    resolution = 2_u64.checked_pow((*exponent & 0x7f).into()).unwrap_or(resolution);
                }
                (14, value) if value.len() == 8 => {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(value);
                    offset = if big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) };
                }
                _ => {}
            }
            rest = rest.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        }
        Self { link, resolution, offset }
    }

    fn time(&self, units: u64) -> Timestamp {
        let nanos = u128::from(units) * 1_000_000_000 / u128::from(self.resolution);
        let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
        Timestamp::from_nanos(nanos.saturating_add(self.offset.saturating_mul(1_000_000_000)))
    }
}

/// The bytes of a capture, and the count of those read.
struct Source<'a, R> {
    input: &'a mut R,
    offset: &'a mut u64,
}

impl<R: BufRead> Source<'_, R> {
    /// Fills `into` with so many bytes. Memory follows what is there, not what was announced.
    fn read(&mut self, len: usize, into: &mut Vec<u8>) -> Result<(), PacketError> {
        if self.fill(len, into)? < len { Err(PacketError::Truncated) } else { Ok(()) }
    }

    /// The same; false at the end of the capture.
    fn begins(&mut self, len: usize, into: &mut Vec<u8>) -> Result<bool, PacketError> {
        match self.fill(len, into)? {
            0 => Ok(false),
            got if got == len => Ok(true),
            _ => Err(PacketError::Truncated),
        }
    }

    fn fill(&mut self, len: usize, into: &mut Vec<u8>) -> Result<usize, PacketError> {
        into.clear();
        let got = (&mut *self.input).take(len as u64).read_to_end(into)?;
        *self.offset += got as u64;
        Ok(got)
    }
}

/// The content of a UDP datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// MoldUDP64, by its header; whether its messages are ITCH is not checked.
    Datagram(Range<usize>),
    /// IEX's transport, by its payload.
    Iex(&'static str),
    /// No complete UDP datagram over IPv4.
    NotUdp,
}

/// Reads an Ethernet frame.
pub(super) fn payload(frame: &[u8]) -> Payload {
    match datagram(frame) {
        Some(range) => iex(&frame[range.clone()]).map_or(Payload::Datagram(range), Payload::Iex),
        None => Payload::NotUdp,
    }
}

fn datagram(frame: &[u8]) -> Option<Range<usize>> {
    let u16_at = |at: usize| frame.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    let mut at = 12;
    // The real type follows a VLAN's tag.
    while matches!(u16_at(at)?, 0x8100 | 0x88a8) {
        at += 4;
    }
    if u16_at(at)? != 0x0800 {
        return None;
    }
    let ip = at + 2;
    let (first, protocol) = (*frame.get(ip)?, *frame.get(ip + 9)?);
    // Only complete datagrams: a fragment that is not the first has an offset.
    if first >> 4 != 4 || protocol != 17 || u16_at(ip + 6)? & 0x1fff != 0 {
        return None;
    }
    let udp = ip + usize::from(first & 0x0f) * 4;
    let end = udp.checked_add(u16_at(udp + 4)?)?.min(frame.len());
    let start = udp + 8;
    (start <= end).then_some(start..end)
}

/// IEX-TP's header has its version, and the kind and length of its messages.
fn iex(payload: &[u8]) -> Option<&'static str> {
    const HEADER: usize = 40;
    let u16_at = |at: usize| payload.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    if payload.len() < HEADER || payload[0] != 1 || usize::from(u16_at(12)?) != payload.len() - HEADER {
        return None;
    }
    match u16_at(2)? {
        0x8002 => Some("TOPS 1.5"),
        0x8003 => Some("TOPS 1.6"),
        0x8004 => Some("DEEP 1.0"),
        0x8005 => Some("DEEP+ 1.0"),
        _ => None,
    }
}
