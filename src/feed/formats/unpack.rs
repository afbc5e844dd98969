use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// A recording's bytes, unpacked.
pub(super) type Input = Box<dyn BufRead + Send>;

const BUFFER: usize = 64 * 1024;

/// Opens a file and unpacks gzip and zstd, told by their magic bytes; a name may say anything. Both may have
/// several members or frames. Unpacking is by stream, and zstd's window is at most 128 MiB (its own default).
pub(super) fn open(path: &Path) -> io::Result<Input> {
    unpack(BufReader::with_capacity(BUFFER, File::open(path)?))
}

pub(super) fn unpack(mut packed: impl BufRead + Send + 'static) -> io::Result<Input> {
    Ok(match *packed.fill_buf()? {
        [0x1f, 0x8b, ..] => {
            Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(packed)))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(BufReader::with_capacity(BUFFER, zstd::Decoder::with_buffer(packed)?))
        }
        _ => Box::new(packed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Read, Write};

    fn gzip(text: &str) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    #[track_caller]
    fn check(packed: Vec<u8>, expected: &str) {
        let mut text = String::new();
        unpack(Cursor::new(packed)).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, expected);
    }

    #[test]
    fn every_member_and_frame_is_unpacked() {
        check(b"plain".to_vec(), "plain");
        check(Vec::new(), "");
        check([gzip("one "), gzip("two")].concat(), "one two");
        let frames = ["one ", "two"].map(|text| zstd::encode_all(text.as_bytes(), 1).unwrap());
        check(frames.concat(), "one two");
    }
}
