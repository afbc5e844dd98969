//! What a recording holds in addition to its events, in zstd frames that every unpacker skips: checkpoints,
//! and an index of them at the end. Any thread: it blocks on the file.
//! Invariant: checkpoints are in the order of both offset and time.

use super::cursor::Cursor;
use super::decode::header;
use super::encode::{put_array, put_int, put_text, put_uint};
use super::{MAX_BATCH, RecordingError, RecordingReader};
use crate::market::Timestamp;
use rmp::encode::ByteBuf;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// Where reading a recording can begin, and its totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordingIndex {
    /// In the order of the file.
    pub checkpoints: Vec<Checkpoint>,
    /// `None` for a recording that breaks off: only reading all of it would count them.
    pub totals: Option<Totals>,
}

/// An offset at which reading can begin: it holds the market as of `position`, as a reader that started at
/// the beginning would know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Of the last batch before it.
    pub position: u64,
    /// Of the last batch before it.
    pub time: Timestamp,
    /// Bytes of the file before it.
    pub offset: u64,
}

/// What a complete recording holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of batches.
    pub batches: u64,
    /// Number of events, without those of checkpoints.
    pub events: u64,
    /// Of the first batch.
    pub first: Timestamp,
    /// Of the last batch.
    pub last: Timestamp,
    /// Of the last batch.
    pub last_position: u64,
}

const ZSTD_FRAME: u32 = 0xfd2f_b528;
/// One of the sixteen that mark a skippable frame.
const SKIPPABLE: u32 = 0x184d_2a5c;
/// Magic number and length.
const FRAME_HEAD: u64 = 8;
/// The last bytes of a file with an index; the length of the index's frame comes before them.
const TRAILER: &[u8] = b"tape.end";
/// A larger index is not ours: it would have a million checkpoints. In bytes.
const MAX_INDEX: u64 = 32 << 20;
const CHECKPOINT: &str = "checkpoint";
const INDEX: &str = "index";
const VERSION: u64 = 1;
/// The most bytes before a checkpoint's packed batches.
const MAX_CHECKPOINT_HEAD: u64 = 64;

impl RecordingIndex {
    /// Reads the index at the end of a file. If there is none, looks for checkpoints from the beginning,
    /// frame by frame, without unpacking. The file's offset is undefined afterwards.
    ///
    /// # Errors
    /// Those of the file.
    pub fn read(file: &File) -> io::Result<Self> {
        match Self::from_end(file)? {
            Some(index) => Ok(index),
            None => Self::from_frames(file),
        }
    }

    /// The last checkpoint that is not later than `time`.
    #[must_use]
    pub fn before(&self, time: Timestamp) -> Option<&Checkpoint> {
        let later = self.checkpoints.partition_point(|checkpoint| checkpoint.time <= time);
        self.checkpoints[..later].last()
    }

    /// Its frame.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut content = ByteBuf::new();
        put_array(&mut content, 4);
        put_text(&mut content, INDEX);
        put_uint(&mut content, VERSION);
        let totals = self.totals.unwrap_or_default();
        put_array(&mut content, 5);
        for count in [totals.batches, totals.events, totals.last_position] {
            put_uint(&mut content, count);
        }
        put_int(&mut content, totals.first.nanos());
        put_int(&mut content, totals.last.nanos());
        put_array(&mut content, self.checkpoints.len());
        for checkpoint in &self.checkpoints {
            put_array(&mut content, 3);
            put_uint(&mut content, checkpoint.position);
            put_int(&mut content, checkpoint.time.nanos());
            put_uint(&mut content, checkpoint.offset);
        }
        let mut content = content.into_vec();
        let len = FRAME_HEAD + content.len() as u64 + 4 + TRAILER.len() as u64;
        content.extend(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        content.extend(TRAILER);
        skippable(&content)
    }

    /// The index at the end of a file; `None` if there is none.
    ///
    /// # Errors
    /// Those of the file.
    pub fn from_end(mut file: &File) -> io::Result<Option<Self>> {
        let len = file.seek(SeekFrom::End(0))?;
        let trailer = 4 + TRAILER.len();
        let Some(at) = len.checked_sub(trailer as u64) else { return Ok(None) };
        let mut end = vec![0; trailer];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut end)?;
        let Some((&frame_len, TRAILER)) = end.split_first_chunk::<4>() else { return Ok(None) };
        let frame_len = u64::from(u32::from_le_bytes(frame_len));
        if frame_len > MAX_INDEX || frame_len > len || frame_len < FRAME_HEAD + trailer as u64 {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(len - frame_len))?;
        let mut frame = Vec::new();
        file.take(frame_len).read_to_end(&mut frame)?;
        let content = frame.get(..frame.len() - trailer).and_then(|frame| frame.get(8..)).unwrap_or_default();
        // If it is not an index after all, the checkpoints are found by their frames.
        Ok(read_index(&mut Cursor::new(content)).ok().filter(|index| index.is_in_order(len)))
    }

    fn is_in_order(&self, len: u64) -> bool {
        self.checkpoints.is_sorted_by(|a, b| a.offset < b.offset && a.time <= b.time)
            && self.checkpoints.last().is_none_or(|last| last.offset < len)
    }

    fn from_frames(file: &File) -> io::Result<Self> {
        let mut frames = Frames::new(file)?;
        let mut index = Self::default();
        while let Some((offset, magic)) = frames.next()? {
            if magic == SKIPPABLE
                && let Ok((position, time)) = frames.peek(MAX_CHECKPOINT_HEAD, checkpoint_head)?
            {
                index.checkpoints.push(Checkpoint { position, time, offset });
            }
        }
        // A checkpoint whose time is out of order would mislead the search.
        let mut latest = None;
        index.checkpoints.retain(|checkpoint| {
            let in_order = latest.is_none_or(|latest| latest <= checkpoint.time);
            latest = latest.max(Some(checkpoint.time));
            in_order
        });
        Ok(index)
    }
}

/// The frame of a checkpoint whose batches are `packed`.
pub(super) fn checkpoint_frame(position: u64, time: Timestamp, packed: &[u8]) -> Vec<u8> {
    let mut content = ByteBuf::new();
    put_array(&mut content, 4);
    put_text(&mut content, CHECKPOINT);
    put_uint(&mut content, VERSION);
    put_uint(&mut content, position);
    put_int(&mut content, time.nanos());
    let mut content = content.into_vec();
    content.extend(packed);
    skippable(&content)
}

/// Reads a file from a checkpoint on: its own batches, then those after it.
///
/// # Errors
/// [`RecordingError`] if the file cannot be read, or has no checkpoint there.
pub fn open_checkpoint(
    mut file: File,
    checkpoint: &Checkpoint,
) -> Result<RecordingReader<impl Read + Send + use<>>, RecordingError> {
    file.seek(SeekFrom::Start(0)).map_err(RecordingError::Io)?;
    let mut first = Vec::new();
    zstd::Decoder::new(&file)
        .and_then(|frame| frame.single_frame().take(MAX_BATCH as u64).read_to_end(&mut first))
        .map_err(RecordingError::Io)?;
    let header = header(&mut Cursor::new(&first))?;

    let unreadable =
        |_| RecordingError::Unexpected { what: "checkpoint", expected: "one where the index says" };
    let mut head = [0; 8];
    file.seek(SeekFrom::Start(checkpoint.offset)).map_err(RecordingError::Io)?;
    file.read_exact(&mut head).map_err(unreadable)?;
    let (magic, len) = frame_head(head);
    let mut content = Vec::new();
    // No more than the file has, whatever the length says.
    (&file).take(len.into()).read_to_end(&mut content).map_err(RecordingError::Io)?;
    let mut cursor = Cursor::new(&content);
    if magic != SKIPPABLE || content.len() as u64 != u64::from(len) {
        return Err(unreadable(io::ErrorKind::InvalidData.into()));
    }
    checkpoint_head(&mut cursor)?;
    let packed = content.split_off(content.len() - cursor.left());
    let state = zstd::Decoder::new(io::Cursor::new(packed)).map_err(RecordingError::Io)?;
    let rest = zstd::Decoder::new(file).map_err(RecordingError::Io)?;
    Ok(RecordingReader::from_checkpoint(header, state.chain(rest)))
}

fn skippable(content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).expect("checkpoints are cut far below 4 GiB");
    [&SKIPPABLE.to_le_bytes()[..], &len.to_le_bytes(), content].concat()
}

fn checkpoint_head(cursor: &mut Cursor) -> Result<(u64, Timestamp), RecordingError> {
    expect(cursor, CHECKPOINT)?;
    Ok((cursor.uint("position")?, Timestamp::from_nanos(cursor.int("time")?)))
}

fn read_index(cursor: &mut Cursor) -> Result<RecordingIndex, RecordingError> {
    expect(cursor, INDEX)?;
    if cursor.array_len("totals")? != 5 {
        return Err(RecordingError::Unexpected { what: "totals", expected: "an array of 5" });
    }
    let [batches, events, last_position] =
        [cursor.uint("batches")?, cursor.uint("events")?, cursor.uint("position")?];
    let [first, last] = [cursor.int("first")?, cursor.int("last")?].map(Timestamp::from_nanos);
    let totals = Some(Totals { batches, events, first, last, last_position });
    let mut checkpoints = Vec::new();
    for _ in 0..cursor.array_len("checkpoints")? {
        if cursor.array_len("checkpoint")? != 3 {
            return Err(RecordingError::Unexpected { what: "checkpoint", expected: "an array of 3" });
        }
        let position = cursor.uint("position")?;
        let time = Timestamp::from_nanos(cursor.int("time")?);
        checkpoints.push(Checkpoint { position, time, offset: cursor.uint("offset")? });
    }
    Ok(RecordingIndex { checkpoints, totals })
}

/// How all our skippable frames begin: an array of four, the frame's kind, and its version.
fn expect(cursor: &mut Cursor, name: &'static str) -> Result<(), RecordingError> {
    let is_ours =
        cursor.array_len(name)? == 4 && cursor.text(name)? == name && cursor.uint("version")? == VERSION;
    if is_ours {
        Ok(())
    } else {
        Err(RecordingError::Unexpected { what: name, expected: "one of version 1" })
    }
}

fn frame_head(head: [u8; 8]) -> (u32, u32) {
    let [a, b, c, d, len @ ..] = head;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(len))
}

/// The frames of a zstd file, found by the lengths of their blocks: nothing is unpacked.
struct Frames<'a> {
    file: BufReader<&'a File>,
    /// Of the file.
    len: u64,
    /// Where the next frame begins.
    next: u64,
    /// Where the content of the current skippable frame begins.
    content: u64,
}

impl<'a> Frames<'a> {
    fn new(mut file: &'a File) -> io::Result<Self> {
        let len = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Self { file: BufReader::with_capacity(4096, file), len, next: 0, content: 0 })
    }

    /// Where the next frame begins, and its magic number; `None` if there is no further complete frame.
    fn next(&mut self) -> io::Result<Option<(u64, u32)>> {
        let begin = self.next;
        match self.measure(begin) {
            Ok(Some((end, magic))) if end <= self.len => {
                self.next = end;
                Ok(Some((begin, magic)))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The end of the frame that begins at `at`, and its magic number.
    fn measure(&mut self, at: u64) -> io::Result<Option<(u64, u32)>> {
        self.seek(at)?;
        let magic = u32::from_le_bytes(self.bytes()?);
        if magic & !0xf == SKIPPABLE & !0xf {
            let len = u32::from_le_bytes(self.bytes()?);
            self.content = at + FRAME_HEAD;
            return Ok(Some((self.content + u64::from(len), magic)));
        }
        if magic != ZSTD_FRAME {
            return Ok(None);
        }
        // RFC 8878, 3.1.1.1: a descriptor states which of window, dictionary and content size follow it, and
        // their lengths.
        let [descriptor] = self.bytes()?;
        let single_segment = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content_size = match descriptor >> 6 {
            0 => u64::from(single_segment),
            size => 1 << size,
        };
        let mut at = at + 5 + u64::from(!single_segment) + dictionary + content_size;
        loop {
            self.seek(at)?;
            let [a, b, c] = self.bytes()?;
            let block = u32::from_le_bytes([a, b, c, 0]);
            let (is_last, kind, size) = (block & 1 != 0, (block >> 1) & 3, u64::from(block >> 3));
            // A block of kind 1 is one byte, repeated.
            at += 3 + if kind == 1 { 1 } else { size };
            if is_last {
                break;
            }
        }
        Ok(Some((at + if descriptor & 4 != 0 { 4 } else { 0 }, magic)))
    }

    /// Reads the beginning of the content of the current skippable frame.
    fn peek<T>(&mut self, most: u64, read: impl FnOnce(&mut Cursor) -> T) -> io::Result<T> {
        self.seek(self.content)?;
        let mut head = Vec::new();
        (&mut self.file).take(most.min(self.next - self.content)).read_to_end(&mut head)?;
        Ok(read(&mut Cursor::new(&head)))
    }

    fn seek(&mut self, to: u64) -> io::Result<()> {
        let here = self.file.stream_position()?;
        // Relative, so that what is buffered is kept.
        self.file.seek_relative(to.wrapping_sub(here).cast_signed())
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
