use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// Why a request was refused, as metrics count it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reason(pub &'static str);

/// An HTTP error (RFC 9457, `application/problem+json`): what is wrong, and what would be right.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    extra: Map<String, Value>,
    reason: Option<&'static str>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl Problem {
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), extra: Map::new(), reason: None, headers: Vec::new() }
    }

    /// Sets the reason by which it is counted, if the status does not imply it.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The reason by which it is counted.
    pub(super) fn reason(&self) -> Reason {
        Reason(self.reason.unwrap_or(match self.status {
            StatusCode::FORBIDDEN => "not_allowed",
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::METHOD_NOT_ALLOWED => "method",
            StatusCode::REQUEST_TIMEOUT => "slow",
            StatusCode::NOT_ACCEPTABLE => "not_acceptable",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "media_type",
            StatusCode::CONFLICT => "conflict",
            StatusCode::UPGRADE_REQUIRED => "no_websocket",
            status if status.is_server_error() => "unavailable",
            _ => "bad_request",
        }))
    }

    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    #[must_use]
    pub fn wrong_method(method: &Method, uri: &Uri) -> Self {
        let detail = format!("{} cannot be asked with {method}", uri.path());
        Self::new(StatusCode::METHOD_NOT_ALLOWED, detail)
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let reason = self.reason();
        let mut body = Map::from_iter([
            ("type".to_owned(), "about:blank".into()),
            ("title".to_owned(), self.status.canonical_reason().unwrap_or("Error").into()),
            ("status".to_owned(), self.status.as_u16().into()),
            ("detail".to_owned(), self.detail.into()),
        ]);
        body.extend(self.extra);
        let json = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, Value::Object(body).to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response.extensions_mut().insert(reason);
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
