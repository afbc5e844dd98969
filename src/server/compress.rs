//! Compression of answers that end, as `Accept-Encoding` asks: gzip, brotli or zstd.
//!
//! An answer is compressed while the socket takes it. So it counts in the [memory](super::body) of answers,
//! uncompressed, until its last part is compressed.

use axum::http::{HeaderValue, header};
use axum::response::Response;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

/// The fewest bytes that are compressed: fewer fit in one packet anyway.
const LEAST: u64 = 1024;

/// What is compressed already, such as images and fonts, stays as it is. The fastest level makes lists nearly
/// as small as others do, and takes the least memory for each answer under way.
pub(super) fn layer() -> CompressionLayer<impl Predicate> {
    let predicate =
        SizeAbove::new(LEAST).and(NotForContentType::IMAGES).and(NotForContentType::const_new("font/"));
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(predicate)
}

/// Makes the tag of a compressed answer a weak one: other bytes have the same.
pub(super) async fn weaken(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if headers.contains_key(header::CONTENT_ENCODING)
        && let Some(tag) = headers.get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
    {
        let weak = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).expect("a tag, and ASCII");
        headers.insert(header::ETAG, weak);
    }
    response
}
