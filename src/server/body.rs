//! The memory of request bodies and answers: bounded before it is taken, for each one and for all together.

use super::limits::HTTP;
use super::problem::Problem;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most that bodies read at the same time may be, decompressed, in KiB. Events take several times the
/// memory of their text.
const READING_KIB: usize = 16 * 1024;
/// Lists that are put together at the same time. The rows of one take some 25 MB where there are a hundred
/// thousand symbols, and its text as much.
const LISTING: usize = 4;
/// The largest zstd window, in bits: 8 MiB, which its specification has every decoder support.
const MAX_WINDOW_BITS: u32 = 23;

/// The memory for bodies and answers.
#[derive(Debug)]
pub(super) struct Memory {
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    listing: Arc<Semaphore>,
    /// The longest time for a complete body, and between two pieces of it.
    patience: (Duration, Duration),
}

/// A complete body, and its part of the memory.
#[derive(Debug)]
pub(super) struct Whole {
    pub bytes: Vec<u8>,
    parts: Vec<OwnedSemaphorePermit>,
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Memory {
    pub fn new() -> Self {
        let of = |kib| Arc::new(Semaphore::new(kib));
        Self {
            bodies: of(HTTP.bodies_bytes / 1024),
            answers: of(HTTP.answers_bytes / 1024),
            reading: of(READING_KIB),
            listing: Arc::new(Semaphore::new(LISTING)),
            patience: (HTTP.body_time, HTTP.body_pause),
        }
    }

    /// Reads a body of at most `limit` bytes.
    ///
    /// # Errors
    /// 413: it is longer; 408: it takes too long; 503: too many others are being read; 400: it breaks off.
    pub async fn body(&self, mut body: Body, limit: usize) -> Result<Whole, Problem> {
        let (timeout, pause) = self.patience;
        let slow = || {
            let detail = format!("the body did not come within {timeout:?}, without pauses over {pause:?}");
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail).header(header::CONNECTION, "close")
        };
        let deadline = tokio::time::Instant::now() + timeout;
        let mut whole = Whole { bytes: Vec::new(), parts: Vec::new() };
        let mut counted = HTTP.small_bytes;
        loop {
            let by = deadline.min(tokio::time::Instant::now() + pause);
            let frame = tokio::time::timeout_at(by, body.frame()).await.map_err(|_| slow())?;
            let Some(frame) = frame else { return Ok(whole) };
            let frame =
                frame.map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))?;
            let Ok(piece) = frame.into_data() else { continue };
            let len = whole.bytes.len() + piece.len();
            if len > limit {
                return Err(too_long(limit));
            }
            while counted < len {
                whole.parts.push(take(&self.bodies, HTTP.small_bytes).ok_or_else(|| {
                    busy("others send as much as this server has room for: send it again")
                        .header(header::CONNECTION, "close")
                })?);
                counted += HTTP.small_bytes;
            }
            whole.bytes.extend_from_slice(&piece);
        }
    }

    /// Waits for the turn to read a body of at most `len` bytes, decompressed.
    pub async fn turn(&self, len: usize) -> OwnedSemaphorePermit {
        let kib = kib(len.min(READING_KIB * 1024));
        Arc::clone(&self.reading).acquire_many_owned(kib).await.expect("it is never closed")
    }

    /// Waits for the turn to put a list together.
    pub async fn listing(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.listing).acquire_owned().await.expect("it is never closed")
    }

    /// An answer of that media type. It keeps its part of the memory until the client has read it, or it is
    /// compressed.
    ///
    /// # Errors
    /// As [`Self::counted`].
    pub fn answer(&self, media_type: &'static str, bytes: Vec<u8>) -> Result<Response, Problem> {
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))];
        Ok((kind, self.counted(bytes)?).into_response())
    }

    /// The bytes of an answer, or of several. They keep their part of the memory until the last of these is
    /// read.
    ///
    /// # Errors
    /// 503: too much is pending for other clients.
    pub fn counted(&self, bytes: Vec<u8>) -> Result<Bytes, Problem> {
        struct Counted(
            Vec<u8>,
            #[expect(dead_code, reason = "held as long as the bytes are")] OwnedSemaphorePermit,
        );

        impl AsRef<[u8]> for Counted {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        if bytes.len() <= HTTP.small_bytes {
            return Ok(bytes.into());
        }
        let part = take(&self.answers, bytes.len())
            .ok_or_else(|| busy("others have yet to read as much as this server has room for: ask again"))?;
        Ok(Bytes::from_owner(Counted(bytes, part)))
    }
}

impl Whole {
    /// Decompresses it. Its part of the memory is freed: the result is counted by its turn.
    pub fn unpack(self, packing: Packing, limit: usize) -> Result<Vec<u8>, Problem> {
        let Self { bytes, parts } = self;
        let unpacked = packing.unpack(bytes, limit);
        drop(parts);
        unpacked
    }
}

impl Packing {
    /// # Errors
    /// 415, naming the known ones.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut all = headers.get_all(header::CONTENT_ENCODING).iter();
        let named = all.next().map(|name| name.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        match named.as_deref() {
            _ if all.next().is_some() => Err(unknown_packing("several")),
            None | Some("" | "identity") => Ok(Self::None),
            Some("gzip" | "x-gzip") => Ok(Self::Gzip),
            Some("zstd") => Ok(Self::Zstd),
            Some(other) => Err(unknown_packing(other)),
        }
    }

    /// The most that a body of `len` bytes may be, decompressed.
    pub fn most(self, len: usize, limit: usize) -> usize {
        if self == Self::None { len } else { limit }
    }

    /// Decompresses a body into at most `limit` bytes.
    ///
    /// # Errors
    /// 413: it is more; 400: it is broken.
    fn unpack(self, bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>, Problem> {
        let broken =
            |error: std::io::Error| Problem::bad_request(format!("the body cannot be unpacked: {error}"));
        let mut unpacked = Vec::new();
        let most = limit as u64 + 1;
        match self {
            Self::None => return Ok(bytes),
            Self::Gzip => flate2::read::MultiGzDecoder::new(&*bytes).take(most).read_to_end(&mut unpacked),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(&*bytes).map_err(broken)?;
                decoder.window_log_max(MAX_WINDOW_BITS).map_err(broken)?;
                decoder.take(most).read_to_end(&mut unpacked)
            }
        }
        .map_err(broken)?;
        if unpacked.len() > limit {
            return Err(too_long(limit));
        }
        Ok(unpacked)
    }
}

fn take(of: &Arc<Semaphore>, len: usize) -> Option<OwnedSemaphorePermit> {
    Arc::clone(of).try_acquire_many_owned(kib(len)).ok()
}

fn kib(len: usize) -> u32 {
    u32::try_from(len.div_ceil(1024)).unwrap_or(u32::MAX)
}

fn too_long(limit: usize) -> Problem {
    let limit = if limit < 1 << 20 { format!("{} KiB", limit >> 10) } else { format!("{} MiB", limit >> 20) };
    let detail = format!("a request may carry {limit}, unpacked: send several");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).header(header::CONNECTION, "close")
}

fn busy(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).header(header::RETRY_AFTER, "1").because("busy")
}

fn unknown_packing(name: &str) -> Problem {
    let name: String = name.chars().take(40).collect();
    let detail = format!("Content-Encoding {name:?} is not understood: send gzip, zstd, or none");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).header(header::ACCEPT_ENCODING, "gzip, zstd")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LIMIT: usize = 1 << 20;
    const TEXT: &str = "text/plain";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[track_caller]
    fn check(packing: Packing, packed: Vec<u8>, expected: Result<usize, u16>) {
        let unpacked = packing.unpack(packed, LIMIT);
        assert_eq!(unpacked.map(|bytes| bytes.len()).map_err(|problem| problem.status().as_u16()), expected);
    }

    #[test]
    fn a_packed_body_comes_to_no_more_than_a_plain_one_may() {
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 19).unwrap();
        check(Packing::Gzip, gzip(&vec![b'x'; LIMIT]), Ok(LIMIT));
        check(Packing::Zstd, zstd(&vec![b'x'; LIMIT]), Ok(LIMIT));
        check(Packing::Gzip, gzip(&vec![b'x'; 100 * LIMIT]), Err(413));
        check(Packing::Zstd, zstd(&vec![b'x'; 100 * LIMIT]), Err(413));
        check(Packing::Gzip, b"no gzip".to_vec(), Err(400));
        check(Packing::Gzip, gzip(&vec![b'x'; LIMIT])[..100].to_vec(), Err(400));
        check(Packing::Zstd, b"no zstd".to_vec(), Err(400));
        check(Packing::Gzip, [gzip(b"one"), gzip(b"two")].concat(), Ok(6));
    }

    #[tokio::test]
    async fn bodies_and_answers_have_so_much_room_together() {
        let memory = Memory::new();
        let long = vec![b'x'; 8 << 20];
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(memory.body(Body::from(long.clone()), 8 << 20).await.expect("there is room"));
        }
        let refused = memory.body(Body::from(long.clone()), 8 << 20).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        // Small ones are not counted.
        memory.body(Body::from(vec![b'x'; HTTP.small_bytes]), 8 << 20).await.expect("it is small");
        held.clear();
        memory.body(Body::from(long.clone()), 8 << 20).await.expect("it is given back");

        let answers: Vec<_> =
            (0..8).map(|_| memory.answer(TEXT, long.clone()).expect("there is room")).collect();
        assert_eq!(memory.answer(TEXT, long.clone()).unwrap_err().status(), StatusCode::SERVICE_UNAVAILABLE);
        memory.answer(TEXT, vec![b'x'; HTTP.small_bytes]).expect("it is small");
        drop(answers);
        memory.answer(TEXT, long).expect("it is given back");
    }

    #[tokio::test]
    async fn a_body_that_drips_is_given_up() {
        const DROP: Duration = Duration::from_millis(5);
        let mut memory = Memory::new();
        memory.patience = (20 * DROP, 600 * DROP);
        // It would be complete in the end.
        let drip = futures_util::stream::unfold(0, |drops| async move {
            tokio::time::sleep(DROP).await;
            (drops < 2000).then_some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), drops + 1))
        });
        let refused = memory.body(Body::from_stream(drip), LIMIT).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);

        memory.patience = (Duration::from_hours(1), DROP);
        let stuck = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let refused = memory.body(Body::from_stream(stuck), LIMIT).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
    }
}
