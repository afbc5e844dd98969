//! Why reading a recording ends. Any thread: plain data.
//! Invariant: an error is final; only [`RecordingError::Truncated`] leaves all before it intact for certain.

use super::VERSION;
use std::io;

/// Why a recording cannot be read further. Nothing after that position can be trusted, so reading ends there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    #[error("the recording breaks off here, as after a crash: all before is intact")]
    Truncated,
    #[error("cannot read on: {0}")]
    Io(io::Error),
    #[error("{what}: expected {expected}")]
    Unexpected { what: &'static str, expected: &'static str },
    #[error("{what} is {value:?}, which is none")]
    Value { what: &'static str, value: String },
    #[error("{what} exceeds the limit of {max}")]
    TooLarge { what: &'static str, max: usize },
    #[error("version {0} of the form is newer than this reader, which knows {VERSION}")]
    Version(u64),
}
