//! Frames of RFC 6455, read from clients and written for servers. Pure; on the thread that owns the socket.
//!
//! Invariant: each rule is checked as soon as its bytes are there, so what is kept is one incomplete message
//! within the limits.

use super::close::CloseCode;
use super::framing::Encoding;

/// The longest message a client may send, in one frame or in fragments.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The longest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL_BYTES: usize = 125;

/// The kinds of frame of RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// A message or control frame of a client, in any framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    Message(Encoding, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// The client closes; with its code, if it gave one.
    Close(Option<CloseCode>),
}

/// How a client broke RFC 6455 or a limit. The connection must end with [`FrameError::code`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    #[error("frame is not masked")]
    NotMasked,
    #[error("reserved bits are set")]
    ReservedBits,
    #[error("unknown opcode {0}")]
    UnknownOpcode(u8),
    #[error("control frame is fragmented or longer than 125 bytes")]
    BadControl,
    #[error("continuation without a beginning")]
    LoneContinuation,
    #[error("a new message begins inside a fragmented one")]
    Interleaved,
    #[error("length is not in its shortest form")]
    LongLength,
    #[error("message exceeds the limit of {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
    #[error("text is not UTF-8")]
    NotUtf8,
    #[error("close frame is malformed")]
    BadClose,
}

/// Reads a client's frames from the bytes of its socket, in pieces of any size. Holds only what is
/// incomplete: an idle client costs no buffer.
#[derive(Debug, Default)]
pub struct FrameReader(Option<Box<Unfinished>>);

/// The received part of an incomplete message.
#[derive(Debug)]
struct Unfinished {
    /// Bytes of an incomplete frame.
    partial: Vec<u8>,
    /// Payload of a message without its last fragment.
    message: Option<(Opcode, Vec<u8>)>,
    /// Second of the caller's clock in which it began.
    begun: u32,
}

/// A frame's header.
struct Header {
    opcode: Opcode,
    fin: bool,
    mask: [u8; 4],
    /// Bytes of the header itself.
    len: usize,
    payload: usize,
}

impl FrameError {
    #[must_use]
    pub fn code(&self) -> CloseCode {
        match self {
            Self::TooLong => CloseCode::TOO_BIG,
            Self::NotUtf8 => CloseCode::INVALID_DATA,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// Appends an unmasked, unfragmented frame, as a server sends it.
pub fn write_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    write_header(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends a frame as a client sends it, for a message that is passed on within the server.
pub fn write_client_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    write_header(opcode, payload.len(), out);
    // The mask follows the length. It is of zeros, which change nothing.
    out[start + 1] |= 0x80;
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Appends what precedes a payload of that length.
pub(super) fn write_header(opcode: Opcode, payload: usize, out: &mut Vec<u8>) {
    out.push(0x80 | opcode as u8);
    match payload {
        len @ 0..=125 => out.push(u8::try_from(len).expect("at most 125")),
        len @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&u16::try_from(len).expect("at most 2^16").to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Masks or unmasks a payload in place (RFC 6455, section 5.3).
pub fn mask(payload: &mut [u8], key: [u8; 4]) {
    for (byte, key) in payload.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

impl Incoming {
    /// Appends it in a frame as its client sent it, for another reader.
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        let code;
        let (opcode, payload) = match self {
            Self::Message(Encoding::Json, text) => (Opcode::Text, &text[..]),
            Self::Message(Encoding::MessagePack, bytes) => (Opcode::Binary, &bytes[..]),
            Self::Ping(payload) => (Opcode::Ping, &payload[..]),
            Self::Pong(payload) => (Opcode::Pong, &payload[..]),
            Self::Close(None) => (Opcode::Close, &[][..]),
            Self::Close(Some(close)) => {
                code = close.0.to_be_bytes();
                (Opcode::Close, &code[..])
            }
        };
        write_client_frame(opcode, payload, out);
    }
}

impl FrameReader {
    /// Appends what it holds of an incomplete message, for another reader.
    pub fn write_unread(self, out: &mut Vec<u8>) {
        let Some(Unfinished { partial, message, .. }) = self.0.map(|unfinished| *unfinished) else { return };
        if let Some((opcode, payload)) = message {
            let start = out.len();
            write_client_frame(opcode, &payload, out);
            // More fragments follow.
            out[start] &= 0x7f;
        }
        out.extend_from_slice(&partial);
    }

    /// Takes bytes from the socket, in the second `now` of the caller's clock, and passes on every message
    /// that they complete.
    ///
    /// # Errors
    /// [`FrameError`] at the first violation; nothing of the connection can be trusted after it.
    pub fn read(&mut self, bytes: &[u8], now: u32, mut on: impl FnMut(Incoming)) -> Result<(), FrameError> {
        let mut state = Reading { message: None, is_over: false };
        let mut begun = now;
        let rest = if let Some(unfinished) = self.0.take() {
            let Unfinished { mut partial, message, begun: before } = *unfinished;
            (state.message, begun) = (message, before);
            partial.extend_from_slice(bytes);
            let read = state.frames(&partial, &mut on)?;
            partial.drain(..read);
            partial
        } else {
            let read = state.frames(bytes, &mut on)?;
            bytes[read..].to_vec()
        };
        if state.message.is_some() || !rest.is_empty() {
            // A message that began before is over if any is complete: the rest belongs to another.
            let begun = if state.is_over { now } else { begun };
            self.0 = Some(Box::new(Unfinished { partial: rest, message: state.message, begun }));
        }
        Ok(())
    }

    /// The second in which the incomplete message began.
    #[must_use]
    pub fn begun(&self) -> Option<u32> {
        self.0.as_ref().map(|unfinished| unfinished.begun)
    }
}

/// The state of one call of [`FrameReader::read`].
struct Reading {
    message: Option<(Opcode, Vec<u8>)>,
    /// Whether a message was completed.
    is_over: bool,
}

impl Reading {
    /// Returns how many bytes the complete frames took.
    fn frames(&mut self, bytes: &[u8], on: &mut impl FnMut(Incoming)) -> Result<usize, FrameError> {
        let mut rest = bytes;
        while let Some(header) = Header::parse(rest)? {
            let is_control = header.opcode as u8 >= 8;
            let so_far = self.message.as_ref().map_or(0, |message| message.1.len());
            if !is_control && header.payload + so_far > MAX_MESSAGE_BYTES {
                return Err(FrameError::TooLong);
            }
            let Some(payload) = rest.get(header.len..header.len + header.payload) else { break };
            let mut payload = payload.to_vec();
            mask(&mut payload, header.mask);
            rest = &rest[header.len + header.payload..];
            if let Some(incoming) = self.take(&header, payload)? {
                // A control frame within a message does not complete it; after one, it is over already.
                self.is_over |= self.message.is_none();
                on(incoming);
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn take(&mut self, header: &Header, payload: Vec<u8>) -> Result<Option<Incoming>, FrameError> {
        let (opcode, payload) = match header.opcode {
            Opcode::Ping => return Ok(Some(Incoming::Ping(payload))),
            Opcode::Pong => return Ok(Some(Incoming::Pong(payload))),
            Opcode::Close => return close(&payload).map(Some),
            Opcode::Continuation => {
                let mut message = self.message.take().ok_or(FrameError::LoneContinuation)?;
                message.1.extend_from_slice(&payload);
                message
            }
            Opcode::Text | Opcode::Binary if self.message.is_some() => {
                return Err(FrameError::Interleaved);
            }
            opcode => (opcode, payload),
        };
        if !header.fin {
            self.message = Some((opcode, payload));
            return Ok(None);
        }
        match opcode {
            Opcode::Text if std::str::from_utf8(&payload).is_err() => Err(FrameError::NotUtf8),
            Opcode::Text => Ok(Some(Incoming::Message(Encoding::Json, payload))),
            _ => Ok(Some(Incoming::Message(Encoding::MessagePack, payload))),
        }
    }
}

impl Header {
    /// `None` while bytes are missing. Every rule is checked as soon as its bytes are there.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBits);
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => return Err(FrameError::UnknownOpcode(other)),
        };
        let fin = first & 0x80 != 0;
        if second & 0x80 == 0 {
            return Err(FrameError::NotMasked);
        }
        let short = second & 0x7f;
        let is_control = opcode as u8 >= 8;
        if is_control && (!fin || usize::from(short) > MAX_CONTROL_BYTES) {
            return Err(FrameError::BadControl);
        }
        let (extra, payload) = match short {
            126 => {
                let Some(&length) = rest.first_chunk::<2>() else { return Ok(None) };
                (2, u64::from(u16::from_be_bytes(length)))
            }
            127 => {
                let Some(&length) = rest.first_chunk::<8>() else { return Ok(None) };
                (8, u64::from_be_bytes(length))
            }
            short => (0, u64::from(short)),
        };
        if (extra == 2 && payload < 126) || (extra == 8 && payload < 0x1_0000) {
            return Err(FrameError::LongLength);
        }
        let payload = usize::try_from(payload)
            .ok()
            .filter(|&len| len <= MAX_MESSAGE_BYTES)
            .ok_or(FrameError::TooLong)?;
        let Some(&mask) = rest[extra..].first_chunk::<4>() else { return Ok(None) };
        Ok(Some(Self { opcode, fin, mask, len: 2 + extra + 4, payload }))
    }
}

fn close(payload: &[u8]) -> Result<Incoming, FrameError> {
    match payload {
        [] => Ok(Incoming::Close(None)),
        [high, low, reason @ ..] => {
            let code = CloseCode(u16::from_be_bytes([*high, *low]));
            if !code.may_be_sent() {
                return Err(FrameError::BadClose);
            }
            std::str::from_utf8(reason).map_err(|_| FrameError::NotUtf8)?;
            Ok(Incoming::Close(Some(code)))
        }
        [_] => Err(FrameError::BadClose),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_one_reader_has_begun_another_goes_on_with() {
        let mut bytes = Vec::new();
        for message in [
            Incoming::Message(Encoding::Json, b"a text".to_vec()),
            Incoming::Message(Encoding::MessagePack, vec![7; 300]),
            Incoming::Ping(b"x".to_vec()),
            Incoming::Pong(Vec::new()),
            Incoming::Close(Some(CloseCode::NORMAL)),
            Incoming::Close(None),
        ] {
            message.write_frame(&mut bytes);
        }
        let first = bytes.len();
        // And one in two fragments.
        bytes.extend(client(0x01, b"frag"));
        bytes.extend(client(0x80, b"ments"));
        let whole = {
            let (mut reader, mut read) = (FrameReader::default(), Vec::new());
            reader.read(&bytes, 0, |message| read.push(message)).unwrap();
            read
        };
        assert_eq!(whole.len(), 7);
        for cut in 0..bytes.len() {
            let (mut reader, mut read, mut rest) = (FrameReader::default(), Vec::new(), Vec::new());
            reader.read(&bytes[..cut], 0, |message| read.push(message)).unwrap();
            reader.write_unread(&mut rest);
            rest.extend_from_slice(&bytes[cut..]);
            FrameReader::default().read(&rest, 0, |message| read.push(message)).unwrap();
            assert_eq!(read, whole, "cut at {cut}, fragments from {first} on");
        }
    }

    /// A client's frame: first byte as given, payload masked with a fixed key.
    fn client(first: u8, payload: &[u8]) -> Vec<u8> {
        let key = [1, 2, 3, 4];
        let mut framed = Vec::new();
        write_frame(Opcode::Text, payload, &mut framed);
        let header = framed.len() - payload.len();
        framed[0] = first;
        framed[1] |= 0x80;
        mask(&mut framed[header..], key);
        framed.splice(header..header, key);
        framed
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Incoming>, FrameError> {
        let (mut reader, mut got) = (FrameReader::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            reader.read(piece, 0, |incoming| got.push(incoming))?;
        }
        Ok(got)
    }

    #[track_caller]
    fn check(frames: &[Vec<u8>], expected: &Result<Vec<Incoming>, FrameError>) {
        for piece in [1, 3, usize::MAX] {
            assert_eq!(&read(&frames.concat(), piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn whole_and_fragmented_messages_arrive_with_control_frames_between() {
        check(&[client(0x81, b"hello")], &Ok(vec![Incoming::Message(Encoding::Json, b"hello".to_vec())]));
        check(
            &[client(0x02, b"a"), client(0x89, b"p"), client(0x00, b"b"), client(0x80, b"c")],
            &Ok(vec![
                Incoming::Ping(b"p".to_vec()),
                Incoming::Message(Encoding::MessagePack, b"abc".to_vec()),
            ]),
        );
        check(&[client(0x88, &[0x03, 0xe8])], &Ok(vec![Incoming::Close(Some(CloseCode::NORMAL))]));
        check(
            &[client(0x88, b""), client(0x8a, b"")],
            &Ok(vec![Incoming::Close(None), Incoming::Pong(Vec::new())]),
        );
        let long = vec![b'x'; 300];
        check(&[client(0x82, &long)], &Ok(vec![Incoming::Message(Encoding::MessagePack, long)]));
    }

    #[test]
    fn violations_are_named() {
        check(&[vec![0x81, 0x00]], &Err(FrameError::NotMasked));
        check(&[client(0xc1, b"")], &Err(FrameError::ReservedBits));
        check(&[client(0x83, b"")], &Err(FrameError::UnknownOpcode(3)));
        check(&[client(0x09, b"")], &Err(FrameError::BadControl));
        check(&[client(0x89, &[0; 126])], &Err(FrameError::BadControl));
        check(&[client(0x80, b"")], &Err(FrameError::LoneContinuation));
        check(&[client(0x01, b"a"), client(0x81, b"b")], &Err(FrameError::Interleaved));
        check(&[client(0x81, b"\xff")], &Err(FrameError::NotUtf8));
        check(&[client(0x88, b"\x03")], &Err(FrameError::BadClose));
        check(&[client(0x88, &1005_u16.to_be_bytes())], &Err(FrameError::BadClose));
        check(&[vec![0x82, 0xfe, 0, 5, 0, 0, 0, 0]], &Err(FrameError::LongLength));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_any_payload() {
        let mut header = vec![0x82, 0xff];
        header.extend_from_slice(&u64::MAX.to_be_bytes());
        check(&[header], &Err(FrameError::TooLong));
        let half = vec![0; MAX_MESSAGE_BYTES / 2 + 1];
        check(&[client(0x02, &half), client(0x80, &half)], &Err(FrameError::TooLong));
    }

    #[test]
    fn a_message_is_begun_with_its_first_byte_and_over_with_its_last() {
        let mut reader = FrameReader::default();
        let mut at = |second: u32, bytes: &[u8]| {
            reader.read(bytes, second, |_| ()).unwrap();
            reader.begun()
        };
        let (whole, first, last) = (client(0x81, b"whole"), client(0x01, b"in "), client(0x80, b"two"));
        assert_eq!(at(1, &whole), None);
        assert_eq!(at(2, &whole[..1]), Some(2));
        assert_eq!(at(3, &whole[1..6]), Some(2));
        // After it another one begins.
        assert_eq!(at(4, &[&whole[6..], &first].concat()), Some(4));
        // Neither a control frame between its fragments nor half of one ends it.
        assert_eq!(at(5, &client(0x89, b"ping")), Some(4));
        assert_eq!(at(6, &last[..3]), Some(4));
        assert_eq!(at(7, &last[3..]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_hoard(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::default();
            let _ = reader.read(&bytes, 0, |_| ());
            prop_assert!(reader.0.is_none_or(|unfinished| unfinished.partial.len() <= bytes.len()));
        }
    }
}
