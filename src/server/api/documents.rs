//! `GET /v1/openapi.json` and `GET /v1/asyncapi.json`: what there is to ask for, and what sessions send and
//! receive, for programs. The page at `/docs` shows both.

use super::select::query_of;
use crate::server::accept::knows;
use crate::server::problem::Problem;
use crate::wire::asyncapi;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

/// Kept by hand. Tests compare it with the routes, their parameters and their answers.
const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// Written from the types of the wire.
static ASYNCAPI: LazyLock<String> = LazyLock::new(|| asyncapi::document().to_string());

/// `GET /v1/openapi.json`
pub(in crate::server) async fn openapi(
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    document(OPENAPI, query.as_deref(), &headers)
}

/// `GET /v1/asyncapi.json`
pub(in crate::server) async fn asyncapi(
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    document(&ASYNCAPI, query.as_deref(), &headers)
}

fn document(text: &'static str, query: Option<&str>, headers: &HeaderMap) -> Result<Response, Problem> {
    query_of::<0>(query, [])?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let tag = HeaderValue::from_str(&tag).expect("hexadecimal digits are ASCII");
    let mut response = if knows(headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], text).into_response()
    };
    let about = response.headers_mut();
    about.insert(header::ETAG, tag);
    about.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}
