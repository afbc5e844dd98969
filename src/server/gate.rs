//! The gate before every route: who may do what, what pages of other origins may read, the answers to
//! OPTIONS. Refusals are counted.

use super::problem::{Problem, Reason};
use super::rights::{Denial, Denied, Rights};
use super::{App, ControlRule, PublishRule, api, dashboard, origin};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Headers that a page of an allowed origin may read in addition to the usual ones.
const EXPOSED: &str = "Content-Encoding, ETag, Link, Retry-After, Tickcast-Gap, Tickcast-Position";
/// How long a browser may keep the answer to a preflight, in seconds.
const MAX_AGE: &str = "600";
const PRIVATE_NETWORK_ASKED: HeaderName = HeaderName::from_static("access-control-request-private-network");
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The rules for who may do what.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub control: ControlRule,
    pub publish: PublishRule,
    /// As of [`super::Config::ops`].
    pub ops: Option<bool>,
    pub allow_faults: bool,
    pub allowed_origins: Vec<String>,
    /// Whether only this machine can reach the server.
    pub is_local: bool,
}

/// What the gate has found about a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub rights: Rights,
    /// Whether its page, if it comes from one, may send it.
    pub is_origin_allowed: bool,
}

impl Gate {
    pub fn pass(&self, headers: &HeaderMap) -> Pass {
        let is_origin_allowed = origin::is_allowed(headers, &self.allowed_origins, self.is_local);
        // If other machines reach the server, a request from elsewhere need not come through a proxy.
        let is_passed_on =
            if self.is_local { !origin::is_from_here(headers) } else { origin::is_proxied(headers) };
        let is_from_here = self.is_local && !is_passed_on;
        let denial = |is_denied: bool, why| is_denied.then_some(why);
        let publish = match self.publish {
            PublishRule::Off => Some(Denial::Off),
            PublishRule::Direct => denial(is_passed_on, Denial::Proxied),
            PublishRule::All => None,
        };
        let control = match self.control {
            ControlRule::All => None,
            ControlRule::Local if self.is_local => denial(is_passed_on, Denial::Proxied),
            ControlRule::Local | ControlRule::Off => Some(Denial::Off),
        };
        let of_stranger = denial(!is_origin_allowed, Denial::Origin);
        let rights = Rights {
            publish: of_stranger.or(publish),
            control: of_stranger.or(control),
            watch_stats: denial(!self.ops.unwrap_or(is_from_here), Denial::Off),
            fault: denial(!self.allow_faults, Denial::Off),
        };
        Pass { rights, is_origin_allowed }
    }
}

impl Pass {
    /// # Errors
    /// The answer to a page that may not connect.
    pub fn check_origin(self) -> Result<(), Problem> {
        if self.is_origin_allowed {
            return Ok(());
        }
        let detail = "pages of this origin are not let in: the operator names others with --allow-origin";
        Err(Problem::new(StatusCode::FORBIDDEN, detail).because("origin"))
    }
}

impl<S: Sync> FromRequestParts<S> for Pass {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let pass = parts.extensions.get().copied();
        pass.ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request passed no gate"))
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let problem = Self::new(StatusCode::FORBIDDEN, denied.to_string());
        match denied.why {
            Denial::Origin => problem.because("origin"),
            Denial::Proxied => problem.because("proxied"),
            Denial::Off | Denial::Room => problem,
        }
    }
}

/// Requests that were refused, by [`REASONS`].
#[derive(Debug, Default)]
pub(super) struct RefusedRequests([AtomicU64; REASONS.len()]);

/// Why requests are refused.
const REASONS: [&str; 14] = [
    "bad_request",
    "not_allowed",
    "origin",
    "proxied",
    "not_found",
    "method",
    "slow",
    "too_large",
    "media_type",
    "not_acceptable",
    "conflict",
    "no_websocket",
    "busy",
    "unavailable",
];

impl RefusedRequests {
    fn count(&self, Reason(reason): Reason) {
        if let Some(at) = REASONS.iter().position(|&known| known == reason) {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn counts(&self) -> [(&'static str, u64); REASONS.len()] {
        std::array::from_fn(|at| (REASONS[at], self.0[at].load(Ordering::Relaxed)))
    }
}

/// The header fields that let a page read an answer that a door writes itself.
pub(super) fn cors_fields(headers: &HeaderMap, pass: Pass) -> String {
    let origin = headers.get(header::ORIGIN).filter(|_| pass.is_origin_allowed);
    let origin = origin.and_then(|origin| origin.to_str().ok());
    origin.map_or_else(String::new, |origin| format!("access-control-allow-origin: {origin}\r\n"))
}

/// Every request passes here.
pub(super) async fn gate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let pass = app.gate.pass(request.headers());
    let allowed = request.headers().get(header::ORIGIN).filter(|_| pass.is_origin_allowed).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        options(&request, pass).into_response()
    } else {
        request.extensions_mut().insert(pass);
        next.run(request).await
    };
    if let Some(&reason) = response.extensions().get::<Reason>() {
        app.requests_refused.count(reason);
    }
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    response
}

/// The methods of a resource: for health checks, and for browsers' preflights of requests to another origin.
fn options(request: &Request, pass: Pass) -> Result<Response, Problem> {
    let methods = methods(request).ok_or_else(|| api::not_found(request.uri()))?;
    let methods = HeaderValue::from_static(methods);
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(header::ALLOW, methods.clone());
    if is_preflight(request.headers()) {
        pass.check_origin()?;
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        // An allowed page may send any header: no decision here depends on one that a page can set.
        if let Some(asked) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
            answer.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        }
        if request.headers().contains_key(PRIVATE_NETWORK_ASKED) {
            answer.insert(PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
    }
    Ok(response)
}

fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// `None` if the path does not exist.
fn methods(request: &Request) -> Option<&'static str> {
    let read = "GET, HEAD, OPTIONS";
    match request.uri().path() {
        "/v1/ws" | "/v1/sse" | "/v1/lines" => Some("GET, OPTIONS"),
        "/socket.io" | "/socket.io/" | "/socket.io/msgpack" | "/socket.io/msgpack/" => {
            Some("GET, POST, OPTIONS")
        }
        "/v1/publish" => Some("POST, OPTIONS"),
        // Of the server as a whole (RFC 9110, section 9.3.7).
        "*" | "/v1/replay" => Some("GET, HEAD, POST, OPTIONS"),
        "/v1/instruments" | "/v1/quotes" | "/v1/poll" | "/v1/feed" | "/metrics" | "/healthz" | "/readyz"
        | "/version" | "/v1/trades" | "/v1/bars" | "/v1/openapi.json" | "/v1/asyncapi.json" => Some(read),
        path if path.starts_with("/v1/trades/") || path.starts_with("/v1/bars/") => Some(read),
        _ => dashboard::file(request).map(|_| read),
    }
}
