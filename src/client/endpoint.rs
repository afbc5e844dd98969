use std::fmt;
use tokio_tungstenite::tungstenite::http::Uri;

/// The address of a server: `ws://host:port`, `http://host:port` or `host:port`, perhaps with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    authority: String,
    /// With its query; empty if none was given.
    path: String,
}

/// Why a text is no address of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Not of the form `ws://HOST:PORT`; holds the first 200 characters of the text.
    #[error("{0:?} is no address of a server: write ws://HOST:PORT, such as ws://127.0.0.1:8080")]
    Malformed(String),
    /// A `wss://` or `https://` address; holds the first 200 characters of the text.
    #[error(
        "{0:?} asks for TLS, which this client does not speak: use ws://, through a tunnel where the network is not yours"
    )]
    Tls(String),
}

impl Endpoint {
    /// Reads an address; a text without a scheme is taken as `ws://`.
    ///
    /// # Errors
    /// [`EndpointError`] says what to write instead.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed(text.chars().take(200).collect());
        let (scheme, rest) = text.split_once("://").unwrap_or(("ws", text));
        match scheme {
            "ws" | "http" => {}
            "wss" | "https" => return Err(EndpointError::Tls(text.chars().take(200).collect())),
            _ => return Err(malformed()),
        }
        let uri: Uri = format!("ws://{rest}").parse().map_err(|_| malformed())?;
        let authority = uri.authority().filter(|a| !a.host().is_empty() && !a.as_str().contains('@'));
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        Ok(Self {
            authority: authority.ok_or_else(malformed)?.to_string(),
            path: if path == "/" { String::new() } else { path.to_owned() },
        })
    }

    /// Whether a word of a command line is an address, not a topic.
    #[must_use]
    pub fn is_url(word: &str) -> bool {
        ["ws://", "wss://", "http://", "https://"].iter().any(|scheme| word.starts_with(scheme))
    }

    /// `HOST`, or `HOST:PORT`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The URL of the WebSocket; its path is `/v1/ws` if none was given.
    #[must_use]
    pub fn websocket(&self) -> String {
        let path = if self.path.is_empty() { "/v1/ws" } else { &self.path };
        format!("ws://{}{path}", self.authority)
    }

    /// The URL for HTTP requests to `path`; ignores the path that was given.
    #[must_use]
    pub fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ws://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = Endpoint::parse(text).map_or_else(|e| e.to_string(), |e| e.websocket());
        assert_eq!(got, expected);
    }

    #[test]
    fn an_address_is_taken_as_people_write_it() {
        check("ws://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/ws");
        check("http://desk:8080/", "ws://desk:8080/v1/ws");
        check("localhost:9000", "ws://localhost:9000/v1/ws");
        check("[::1]:9000", "ws://[::1]:9000/v1/ws");
        check("ws://proxy/market/ws?x=1", "ws://proxy/market/ws?x=1");
        assert_eq!(Endpoint::parse("ws://a:1").unwrap().http("/v1/publish"), "http://a:1/v1/publish");
    }

    #[test]
    fn what_is_no_address_is_told_what_to_write() {
        check("", "\"\" is no address of a server: write ws://HOST:PORT, such as ws://127.0.0.1:8080");
        check(
            "ftp://a",
            "\"ftp://a\" is no address of a server: write ws://HOST:PORT, such as ws://127.0.0.1:8080",
        );
        check(
            "ws://a b",
            "\"ws://a b\" is no address of a server: write ws://HOST:PORT, such as ws://127.0.0.1:8080",
        );
        assert!(matches!(Endpoint::parse("wss://a"), Err(EndpointError::Tls(_))));
    }
}
