use super::dialect::Encoding;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use zip::{CompressionMethod, ZipArchive};

/// A recording's bytes, unpacked.
pub(super) type Input = Box<dyn BufRead + Send>;

const BUFFER: usize = 64 * 1024;

/// Opens a file and unpacks gzip, zstd and zip, detected by their magic bytes, not by the name. The first two
/// may have several members or frames. A zip has one file of data, whose name is returned; texts next to it
/// (`.txt`, as HISTDATA adds them) are not read. Unpacking is by stream, and zstd's window is at most 128 MiB
/// (its own default).
pub(super) fn open(path: &Path) -> io::Result<(Input, Option<String>)> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
    if file.fill_buf()?.starts_with(b"PK\x03\x04") {
        let (input, name) = open_zip(file, File::open(path)?)?;
        return Ok((input, Some(name)));
    }
    Ok((unpack(file)?, None))
}

pub(super) fn unpack(mut packed: impl BufRead + Send + 'static) -> io::Result<Input> {
    Ok(match *packed.fill_buf()? {
        [0x1f, 0x8b, ..] => {
            Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(packed)))
        }
        // A frame, or one that is skipped: pzstd and t2sz write such, also in front.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(BufReader::with_capacity(BUFFER, zstd::Decoder::with_buffer(packed)?))
        }
        _ => Box::new(packed),
    })
}

/// Text of another encoding as UTF-8. A byte order mark overrides the encoding; invalid bytes become U+FFFD.
pub(super) fn decoded(input: Input, Encoding(encoding): Encoding) -> Input {
    let decoder = encoding_rs_io::DecodeReaderBytesBuilder::new()
        .encoding(Some(encoding))
        .bom_override(true)
        .strip_bom(true)
        .build(input);
    Box::new(BufReader::with_capacity(BUFFER, decoder))
}

/// `archive` is for the list of files, `data` for reading.
fn open_zip(
    archive: impl Read + Seek,
    mut data: impl Read + Seek + Send + 'static,
) -> io::Result<(Input, String)> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let mut archive =
        ZipArchive::new(archive).map_err(|error| invalid(format!("the zip cannot be read: {error}")))?;
    let mut found: Vec<(usize, String)> = Vec::new();
    for index in 0..archive.len() {
        let member = archive
            .by_index_raw(index)
            .map_err(|error| invalid(format!("the zip cannot be read: {error}")))?;
        let name = String::from_utf8_lossy(member.name_raw()).into_owned();
        if member.is_file() && !name.to_lowercase().ends_with(".txt") && !name.starts_with("__MACOSX/") {
            found.push((index, name));
        }
    }
    let (index, name) = match found.len() {
        1 => found.remove(0),
        0 => return Err(invalid("the zip has no file of data in it".to_owned())),
        n => {
            return Err(invalid(format!(
                "the zip has {n} files in it ({}, {}, ...): expected one",
                found[0].1, found[1].1
            )));
        }
    };
    let member =
        archive.by_index_raw(index).map_err(|error| invalid(format!("the zip cannot be read: {error}")))?;
    let (method, length, crc) = (member.compression(), member.compressed_size(), member.crc32());
    if member.encrypted() {
        return Err(invalid(format!("{name} in the zip is encrypted")));
    }
    let start =
        member.data_start().ok_or_else(|| invalid(format!("the zip does not say where {name} is")))?;
    data.seek(SeekFrom::Start(start))?;
    let packed = BufReader::with_capacity(BUFFER, data.take(length));
    let checked: Box<dyn Read + Send> = match method {
        CompressionMethod::Stored => Box::new(Checked::new(packed, crc)),
        CompressionMethod::DEFLATE => {
            Box::new(Checked::new(flate2::bufread::DeflateDecoder::new(packed), crc))
        }
        other => return Err(invalid(format!("{name} in the zip is packed by {other}: expected deflate"))),
    };
    Ok((Box::new(BufReader::with_capacity(BUFFER, checked)), name))
}

/// Reports at the end of a member of a zip if it differs from what was packed.
struct Checked<R> {
    input: R,
    seen: flate2::Crc,
    expected: u32,
}

impl<R> Checked<R> {
    fn new(input: R, expected: u32) -> Self {
        Self { input, seen: flate2::Crc::new(), expected }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(into)?;
        self.seen.update(&into[..got]);
        if got == 0 && !into.is_empty() && self.seen.sum() != self.expected {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the zip is damaged: its checksum does not match",
            ));
        }
        Ok(got)
    }
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
    fn frames_of_zstd_that_are_to_be_skipped_are() {
        let skipped = |kind: u8, content: &[u8]| {
            let len = u32::try_from(content.len()).unwrap().to_le_bytes();
            [&[kind, 0x2a, 0x4d, 0x18][..], &len, content].concat()
        };
        let frame = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
        check([skipped(0x50, b"pzst"), frame("one ")].concat(), "one ");
        check(
            [skipped(0x5f, b""), skipped(0x5a, &[7; 1000]), frame("one "), skipped(0x50, b"x"), frame("two")]
                .concat(),
            "one two",
        );
        check(skipped(0x50, b"nothing else"), "");
    }

    /// A zip as any tool writes it: name, content.
    fn zipped(files: &[(&str, &str)], method: CompressionMethod) -> Vec<u8> {
        let mut zip = Vec::new();
        let mut directory = Vec::new();
        for (name, text) in files {
            let packed = if method == CompressionMethod::Stored {
                text.as_bytes().to_vec()
            } else {
                let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
                packer.write_all(text.as_bytes()).unwrap();
                packer.finish().unwrap()
            };
            let mut crc = flate2::Crc::new();
            crc.update(text.as_bytes());
            let mut fields = vec![
                20,
                0,
                0,
                0,
                if method == CompressionMethod::Stored { 0 } else { 8 },
                0,
                0,
                0,
                0x21,
                0x28,
            ];
            fields.extend(crc.sum().to_le_bytes());
            fields.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
            fields.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
            fields.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
            fields.extend([0, 0]);
            directory.extend([b"PK\x01\x02\x14\0".as_slice(), &fields, &[0; 10]].concat());
            directory.extend(u32::try_from(zip.len()).unwrap().to_le_bytes());
            directory.extend(name.as_bytes());
            zip.extend([b"PK\x03\x04".as_slice(), &fields, name.as_bytes(), &packed].concat());
        }
        let count = [files.len().to_le_bytes()[0], 0];
        let (start, length) = (zip.len(), directory.len());
        zip.extend([&directory, b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count].concat());
        zip.extend(u32::try_from(length).unwrap().to_le_bytes());
        zip.extend(u32::try_from(start).unwrap().to_le_bytes());
        zip.extend([0, 0]);
        zip
    }

    /// The unpacked content of a zip, with its name; or the error.
    #[track_caller]
    fn check_zip(zip: &[u8], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zip");
        std::fs::write(&path, zip).unwrap();
        let got = open(&path).and_then(|(mut input, name)| {
            let mut text = String::new();
            input.read_to_string(&mut text)?;
            Ok(format!("{}: {text}", name.unwrap()))
        });
        assert_eq!(got.unwrap_or_else(|error| error.to_string()), expected);
    }

    #[test]
    fn a_zip_has_one_file_of_data() {
        for method in [CompressionMethod::Stored, CompressionMethod::DEFLATE] {
            check_zip(&zipped(&[("a.csv", "one")], method), "a.csv: one");
            check_zip(&zipped(&[("a.txt", "gaps"), ("b.csv", "two"), ("d/", "")], method), "b.csv: two");
            let several = "the zip has 2 files in it (a.csv, b.csv, ...): expected one";
            check_zip(&zipped(&[("a.csv", "one"), ("b.csv", "two")], method), several);
            check_zip(&zipped(&[("a.txt", "one")], method), "the zip has no file of data in it");
        }
    }

    #[test]
    fn a_damaged_zip_is_told() {
        let mut zip = zipped(&[("a.csv", "one")], CompressionMethod::Stored);
        let at = zip.windows(3).position(|text| text == b"one").unwrap();
        zip[at] ^= 1;
        check_zip(&zip, "the zip is damaged: its checksum does not match");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zip");
        std::fs::write(&path, &zip[..zip.len() - 8]).unwrap();
        let error = open(&path).err().expect("its directory breaks off").to_string();
        assert!(error.starts_with("the zip cannot be read: "), "{error}");
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
