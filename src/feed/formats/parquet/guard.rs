//! Guards against damaged files: the library trusts some numbers of a file for how much memory it needs, and
//! asserts others.

use bytes::{Buf, Bytes};
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::cell::Cell;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// A page larger than this when unpacked, and than [`MOST_PACKED`] times its size in the file, is damaged:
/// writers make pages of 1 MiB.
const MOST_UNPACKED: u64 = 4 << 20;
const MOST_PACKED: u64 = 1024;
/// The most bytes of the numbers at the head of a page.
const MAX_HEAD: u64 = 24;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call of the library. If it panics, the file is damaged, which is an error like others.
pub(super) fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    // The panic is reported as an error, so not by the hook.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_GUARDED.try_with(Cell::get).unwrap_or(false) {
                usual(panic);
            }
        }));
    });
    IS_GUARDED.set(true);
    // State that a panic left incomplete is not read again: the file ends there.
    let read = panic::catch_unwind(AssertUnwindSafe(read));
    IS_GUARDED.set(false);
    read.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let said: String = said.unwrap_or("it does not say why").chars().take(200).collect();
        Err(damaged(&format!("reading it fails: {said}")))
    })
}

fn damaged(reason: &str) -> ParquetError {
    ParquetError::General(format!("it is damaged: {reason}"))
}

/// A file, with requests limited to its length.
pub(super) struct Chunks(pub(super) File);

impl Length for Chunks {
    fn len(&self) -> u64 {
        Length::len(&self.0)
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<File>;

    /// From the head of a page on, but for the end of the file.
    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let mut reader = self.0.try_clone()?;
        reader.seek(SeekFrom::Start(start))?;
        let mut head = Vec::new();
        (&mut reader).take(MAX_HEAD).read_to_end(&mut head)?;
        if head.len() as u64 == MAX_HEAD {
            check_head(&head)?;
        }
        reader.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(reader))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > Length::len(self)) {
            return Err(damaged(&format!("it has no {length} bytes from {start} on")));
        }
        self.0.get_bytes(start, length)
    }
}

/// A page begins with its kind, its size, and its size in the file, in Thrift's compact protocol: each after
/// a byte that
// names it.
fn check_head(head: &[u8]) -> Result<(), ParquetError> {
    let (mut sizes, mut rest) = ([0; 3], head);
    for size in &mut sizes {
        let Some((0x15, behind)) = rest.split_first() else { return Err(damaged("a page has no head")) };
        rest = behind;
        // Signs are the lowest bit; a negative size is refused by the library.
        *size = varint(&mut rest).ok_or_else(|| damaged("a page has no head"))? >> 1;
    }
    let [_, unpacked, packed] = sizes;
    if unpacked > MOST_UNPACKED && unpacked / MOST_PACKED > packed {
        return Err(damaged(&format!("a page of {packed} bytes is said to be {unpacked} unpacked")));
    }
    Ok(())
}

/// The pages of a column, checked for stating no more values than they have.
pub(super) struct Pages {
    pages: Box<dyn PageReader>,
    /// Whether values may be missing; a page then states which before its values.
    is_optional: bool,
}

impl Pages {
    pub(super) fn new(pages: Box<dyn PageReader>, is_optional: bool) -> Self {
        Self { pages, is_optional }
    }

    fn check(&self, page: &Page) -> Result<(), ParquetError> {
        let (encoding, values, values_at, buffer) = match page {
            Page::DictionaryPage { buf, num_values, .. } => {
                // The smallest value in a page has one byte.
                return if *num_values as usize <= buf.len() { Ok(()) } else { Err(too_many()) };
            }
            Page::DataPage { buf, num_values, encoding, .. } => {
                let has_levels = self.is_optional && buf.len() >= 4;
                let levels = if has_levels { (&buf[..]).get_u32_le().saturating_add(4) } else { 0 };
                (*encoding, *num_values, levels, buf)
            }
            Page::DataPageV2 {
                buf, num_values, encoding, def_levels_byte_len, rep_levels_byte_len, ..
            } => (*encoding, *num_values, def_levels_byte_len.saturating_add(*rep_levels_byte_len), buf),
        };
        if !matches!(encoding, Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY) {
            return Ok(());
        }
        let cut = || damaged("a page ends before its values");
        let bytes = buffer.get(values_at as usize..).ok_or_else(cut)?;
        // Texts without a value among them are encoded as nothing.
        if bytes.is_empty() {
            return Ok(());
        }
        let behind = run_of_deltas(bytes, values)?.ok_or_else(cut)?;
        if encoding == Encoding::DELTA_BYTE_ARRAY {
            run_of_deltas(behind, values)?;
        }
        Ok(())
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.pages.get_next_page()?;
        page.map(|page| self.check(&page).map(|()| page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.pages.at_record_boundary()
    }
}

fn too_many() -> ParquetError {
    damaged("a page is said to have more values than it has bytes")
}

/// The bytes after the delta-encoded integers, of which there are at most `most`; `None` if they are
/// truncated.
fn run_of_deltas(mut bytes: &[u8], most: u32) -> Result<Option<&[u8]>, ParquetError> {
    let mut numbers = || varint(&mut bytes);
    let (Some(block), Some(parts), Some(count), Some(_first)) = (numbers(), numbers(), numbers(), numbers())
    else {
        return Ok(None);
    };
    if count > most.into() {
        return Err(too_many());
    }
    let Some(of_part) = block.checked_div(parts) else { return Ok(None) };
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let (Some(_least), Ok(parts)) = (varint(&mut bytes), usize::try_from(parts)) else { return Ok(None) };
        let Some((widths, rest)) = bytes.split_at_checked(parts) else { return Ok(None) };
        bytes = rest;
        for &width in widths {
            if left == 0 {
                break;
            }
            let len = of_part.saturating_mul(width.into()) / 8;
            let Some(rest) = usize::try_from(len).ok().and_then(|len| bytes.get(len..)) else {
                return Ok(None);
            };
            (bytes, left) = (rest, left.saturating_sub(of_part));
        }
    }
    Ok(Some(bytes))
}

/// A number in groups of seven bits, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_panics_is_an_error() {
        let told = guarded::<()>(|| panic!("index {} is out of bounds", 3)).unwrap_err().to_string();
        assert!(told.ends_with("it is damaged: reading it fails: index 3 is out of bounds"), "{told}");
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
    }

    #[test]
    fn a_page_that_claims_to_be_much_larger_is_refused_before_it_is_read() {
        let head = |unpacked: u64, packed: u64| {
            let mut bytes = vec![0x15, 0];
            for number in [unpacked, packed] {
                bytes.push(0x15);
                let mut rest = number << 1;
                while rest >= 0x80 {
                    bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
                    rest >>= 7;
                }
                bytes.push(u8::try_from(rest).unwrap());
            }
            check_head(&bytes).map_err(|error| error.to_string())
        };
        assert_eq!(head(1 << 20, 40), Ok(()));
        assert_eq!(head(1 << 30, 1 << 20), Ok(()));
        let told = head(1 << 30, 40).unwrap_err();
        assert!(told.ends_with("a page of 40 bytes is said to be 1073741824 unpacked"), "{told}");
        assert!(check_head(&[0x18, 0]).is_err());
    }

    #[test]
    fn a_run_of_deltas_is_walked_to_its_end() {
        // Blocks of 128 in 4 parts; 34 integers from 7 on, of which the first part has differences of 2 bits,
        // the second of none.
        let mut bytes = vec![0x80, 0x01, 4, 34, 14, 0, 2, 0, 0, 0];
        bytes.extend([0xff; 8]);
        bytes.extend(b"behind");
        assert_eq!(run_of_deltas(&bytes, 34).unwrap(), Some(&b"behind"[..]));
        assert_eq!(run_of_deltas(&bytes[..12], 34).unwrap(), None);
        assert!(run_of_deltas(&bytes, 33).is_err());
        assert_eq!(run_of_deltas(&[0, 0, 5, 0], 9).unwrap(), None);
    }
}
