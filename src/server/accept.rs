//! Which media type a client wants (RFC 9110, section 12.5.1), and whether it has an answer already (section
//! 13.1.2).

use axum::http::{HeaderMap, HeaderValue, header};

/// The media ranges of a request's `Accept`.
#[derive(Debug)]
pub(super) struct Accept(Vec<Range>);

#[derive(Debug)]
struct Range {
    /// In lower case.
    name: String,
    version: Option<String>,
    /// In thousandths.
    weight: u32,
}

impl Accept {
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        Self(values.flat_map(|value| value.split(',')).map(Range::parse).collect())
    }

    /// Whether the client has no preference.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether that type is named itself.
    pub fn names(&self, media_type: &str) -> bool {
        self.0.iter().any(|range| range.name == media_type)
    }

    /// The weight of a media type in that version, in thousandths: that of the most specific range that
    /// includes it. 0: it is not wanted.
    pub fn weight(&self, media_type: &str, version: Option<&str>) -> u32 {
        let (kind, _) = media_type.split_once('/').unwrap_or((media_type, ""));
        let fits = self.0.iter().filter_map(|range| {
            let exactness = match range.name.as_str() {
                "*/*" => 0,
                name if name.strip_suffix("/*") == Some(kind) => 1,
                name if name == media_type => 2,
                _ => return None,
            };
            let is_other = version.is_some() && range.version.as_deref().is_some_and(|v| Some(v) != version);
            (!is_other).then_some((exactness, range.weight))
        });
        fits.max().map_or(0, |(_, weight)| weight)
    }
}

impl Range {
    fn parse(range: &str) -> Self {
        let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
        let parameter = |name: &str| {
            let mut found = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
            let (_, value) = found.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
            Some(value.trim().trim_matches('"').to_owned())
        };
        Self {
            name: name.trim().to_ascii_lowercase(),
            version: parameter("version"),
            weight: parameter("q").map_or(1000, |q| thousandths(&q)),
        }
    }
}

/// A weight of a media range; an invalid one is 0.
fn thousandths(weight: &str) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
    weight.parse::<f64>().map_or(0, |weight| (weight.clamp(0.0, 1.0) * 1000.0) as u32)
}

/// Whether the client has what that tag is of. What was compressed on its way has a weak tag.
pub(super) fn knows(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    fn opaque(tag: &[u8]) -> &[u8] {
        tag.strip_prefix(b"W/").unwrap_or(tag)
    }
    let values = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = values.flat_map(|value| value.as_bytes().split(|&b| b == b',')).map(<[u8]>::trim_ascii);
    known.any(|known| known == b"*" || opaque(known) == opaque(tag.as_bytes()))
}
