use axum::http::{HeaderMap, header};

/// Whether a request may come from the page it comes from. Only browsers send an `Origin`, and only they can be made to carry a stranger's
/// request: without one there is nothing to check.
///
/// `is_local`: only this machine can reach the server. Then a page whose host is not this machine cannot be the server's own, though its name may have
/// been made to lead here.
pub(super) fn is_allowed(headers: &HeaderMap, allowed: &[String], is_local: bool) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let Some((_, authority)) = origin.split_once("://") else { return allowed.iter().any(|a| a == origin) };
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    (!is_local && own.is_some_and(|own| own.eq_ignore_ascii_case(authority)))
        || is_loopback(authority)
        || allowed
            .iter()
            .any(|a| a == "*" || a.eq_ignore_ascii_case(origin) || a.eq_ignore_ascii_case(authority))
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[track_caller]
    fn check(origin: Option<&'static str>, host: &'static str, allowed: &[&str], expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        assert_eq!(is_allowed(&headers, &allowed, false), expected);
    }

    #[test]
    fn programs_and_the_servers_own_pages_are_let_in() {
        check(None, "quotes.example:8080", &[], true);
        check(Some("https://quotes.example"), "quotes.example", &[], true);
        check(Some("http://localhost:5173"), "127.0.0.1:8080", &[], true);
        check(Some("http://[::1]:5173"), "127.0.0.1:8080", &[], true);
    }

    #[test]
    fn a_name_that_was_made_to_lead_here_is_not_this_machine() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("evil.example:8080"));
        headers.insert(header::ORIGIN, HeaderValue::from_static("http://evil.example:8080"));
        assert!(is_allowed(&headers, &[], false) && !is_allowed(&headers, &[], true));
    }

    #[test]
    fn strangers_pages_are_let_in_only_by_name() {
        check(Some("https://evil.example"), "127.0.0.1:8080", &[], false);
        check(Some("null"), "127.0.0.1:8080", &[], false);
        check(Some("https://localhost.evil.example"), "127.0.0.1:8080", &[], false);
        check(Some("https://desk.example"), "quotes.example", &["https://desk.example"], true);
        check(Some("https://desk.example"), "quotes.example", &["desk.example"], true);
    }
}
