use hyper::Uri;
use hyper::header::HeaderValue;

use super::TransportError;

/// Where requests go: a base URL and a path below it, taken apart and checked once.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    uri: Uri,
    tls: bool,
    host: String,
    port: u16,
    origin: String,
}

impl Endpoint {
    /// `path` is appended to the base URL's path; a query of the base URL stays.
    pub(crate) fn new(base_url: &str, path: &str) -> Result<Self, TransportError> {
        let bad = |why: &str| {
            TransportError::Configuration(format!(
                "the base URL cannot be used: {why}; it has to look like `https://host/v1`"
            ))
        };
        // The text is not quoted before it is known to hold no password.
        let (base, query) = match base_url.trim().split_once('?') {
            Some((base, query)) => (base, format!("?{query}")),
            None => (base_url.trim(), String::new()),
        };
        let text = format!("{}/{path}{query}", base.trim_end_matches('/'));
        let uri: Uri = text.parse().map_err(|_| bad("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("it begins with neither `https://` nor `http://`")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it holds a user name or password; hand keys over as keys"));
        }
        let host = authority.host();
        if host.is_empty() {
            return Err(bad("it names no host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let origin = format!("{}://{host}:{port}", if tls { "https" } else { "http" });
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host, port, origin, uri })
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host, an IPv6 address without its brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// This machine: no proxy can reach it for us, whatever the settings say.
    pub(crate) fn is_loopback(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// `host:port`, an IPv6 address in brackets.
    pub(crate) fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn host_header(&self) -> Result<HeaderValue, TransportError> {
        let authority = self.uri.authority().map(|authority| authority.as_str());
        HeaderValue::from_str(authority.unwrap_or_default())
            .map_err(|_| TransportError::Configuration("the base URL's host is no host".to_owned()))
    }
}
