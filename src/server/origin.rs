use axum::http::{HeaderMap, header};

/// Whether the page that a request comes from may send it. Only browsers send an `Origin`, and only they can
/// be made to carry a stranger's request: without one there is nothing to check.
///
/// `is_local`: only this machine can reach the server. Then a page with another host cannot be the server's
/// own, even if its name resolves to this machine.
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

/// Headers by which proxies mark a forwarded request, in addition to all that begin with `x-forwarded`.
const PROXIED: [&str; 14] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "x-azure-clientip",
    "x-appengine-user-ip",
];

/// Whether a proxy has forwarded a request. It comes from this machine if the proxy does; its sender may be
/// anywhere.
pub(super) fn is_proxied(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("x-forwarded") || PROXIED.contains(&name.as_str()))
}

/// Whether a request that came from this machine was made on it: no proxy has forwarded it, and it asks for
/// the server under a name of this machine. A proxy that leaves no other trace forwards its own public name.
pub(super) fn is_from_here(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    !is_proxied(headers) && host.is_none_or(|host| is_loopback(host) || is_plain_name(host))
}

/// Whether a host is a name without dots, as in `/etc/hosts`: from elsewhere, nobody reaches a machine by
/// such a name.
fn is_plain_name(authority: &str) -> bool {
    let host = authority.split(':').next().unwrap_or_default();
    !host.is_empty() && !host.contains(['.', '['])
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

    #[track_caller]
    fn check_here(name: &'static str, value: &'static str, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
        headers.insert(name, HeaderValue::from_static(value));
        assert_eq!(is_from_here(&headers), expected, "{name}: {value}");
    }

    #[test]
    fn what_a_proxy_passes_on_is_not_from_here() {
        assert!(is_from_here(&HeaderMap::new()));
        check_here("user-agent", "curl", true);
        for host in ["localhost:8080", "LOCALHOST", "[::1]:8080", "127.0.0.2", "desk:8080"] {
            check_here("host", host, true);
        }
        for host in ["market.example", "203.0.113.9:8080", "[2001:db8::1]:8080", ""] {
            check_here("host", host, false);
        }
        for name in
            ["x-forwarded-for", "x-forwarded-host", "forwarded", "x-real-ip", "via", "cf-connecting-ip"]
        {
            // Its value does not matter: only proxies add it.
            check_here(name, "127.0.0.1", false);
        }
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
