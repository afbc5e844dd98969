use super::accept::knows;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

/// The pages that `build.rs` made, and the client as `client.js` for other pages.
#[derive(RustEmbed)]
#[folder = "$OUT_DIR/web"]
struct Page;

/// The page loads nothing from elsewhere.
const POLICY: &str = "default-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; \
                      object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// A file of the dashboard; `None` if the path names none.
pub(super) fn file(request: &Request) -> Option<Response> {
    let path = match request.uri().path().trim_start_matches('/') {
        "" => "index.html",
        "ops" => "ops.html",
        "docs" => "docs.html",
        // A page finds everything next to itself, whatever path a proxy serves it under.
        "ops/" => return Some(moved("../ops")),
        "docs/" => return Some(moved("../docs")),
        path => path,
    };
    let file = Page::get(path)?;
    let hash = file.metadata.sha256_hash();
    let tag = u64::from_be_bytes(*hash.first_chunk().expect("32 bytes"));
    let tag = HeaderValue::from_str(&format!("\"{tag:016x}\"")).expect("hexadecimal digits are ASCII");
    let mut response = if knows(request.headers(), &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        // By its ending it would be a film.
        let is_types = path.ends_with(".d.ts");
        let mime = if is_types { "text/plain; charset=utf-8" } else { file.metadata.mimetype() };
        let mime = HeaderValue::from_str(mime).expect("MIME types are ASCII");
        ([(header::CONTENT_TYPE, mime)], file.data).into_response()
    };
    // Vite puts a content hash into the names of all but the page itself.
    let keep = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    headers.insert(header::ETAG, tag);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Some(response)
}

fn moved(to: &'static str) -> Response {
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, to)]).into_response()
}
