use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use super::Origin;
use crate::border::denial;
use crate::policy::check::{Check, is_on};
use crate::policy::{Denial, DenyReason, Host, Scheme};

/// Whether a request on a connection to a host says that it is for that host. Each of `Host`,
/// `:authority` and an absolute target has to, wherever it stands: a server may go by any of them.
pub(super) fn check(origin: &Origin, head: &Parts) -> Result<(), Denial> {
    if !is_on(Check::HostHeader) {
        return Ok(());
    }
    let scheme = head.uri.scheme_str();
    if scheme.is_some_and(|scheme| scheme != origin.scheme.as_str()) {
        return Err(mismatch(origin, "another scheme"));
    }
    let mut named = 0;
    for authority in authorities(head) {
        let authority = authority.ok_or_else(|| mismatch(origin, "something that is no host"))?;
        if split(&authority, origin.scheme) != Some((origin.host.clone(), origin.port)) {
            let shown: String =
                authority.chars().take(260).flat_map(char::escape_default).collect();
            return Err(mismatch(origin, &format!("`{shown}`")));
        }
        named += 1;
    }
    if named == 0 && head.version != hyper::Version::HTTP_10 {
        return Err(mismatch(origin, "no host"));
    }
    Ok(())
}

fn mismatch(origin: &Origin, asked: &str) -> Denial {
    let what = format!(
        "the connection is to {}:{} and the request names {asked}; they have to be the same",
        origin.host, origin.port
    );
    denial(DenyReason::HostMismatch, what)
}

fn authorities(head: &Parts) -> impl Iterator<Item = Option<String>> + '_ {
    let hosts = head.headers.get_all(HOST).into_iter();
    let hosts = hosts.map(|value| value.to_str().ok().map(str::to_owned));
    head.uri
        .authority()
        .map(|authority| Some(authority.as_str().to_owned()))
        .into_iter()
        .chain(hosts)
}

/// Host and port of `HOST[:PORT]`; nothing else may be in it.
pub(super) fn split(text: &str, scheme: Scheme) -> Option<(Host, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        None => scheme.default_port()?,
        Some(port) if port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port > 0)?
        }
        Some(_) => return None,
    };
    // An IPv6 address stands in brackets here.
    if host.contains(':') && !host.starts_with('[') {
        return None;
    }
    Host::parse(host).ok().map(|host| (host, port))
}

/// How a URL names a host and port: without the port that its scheme has anyway.
pub(super) fn authority(host: &Host, port: u16, scheme: Scheme) -> Option<Authority> {
    let text = match scheme.default_port() {
        Some(default) if default == port => host.to_string(),
        _ => format!("{host}:{port}"),
    };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_read_strictly() {
        for (text, expected) in [
            ("a.example", Some("a.example 443")),
            ("A.Example.:8443", Some("a.example 8443")),
            ("[::1]:8", Some("[::1] 8")),
            ("[::ffff:10.0.0.1]", Some("10.0.0.1 443")),
            ("::1", None),
            ("user@a.example", None),
            ("a.example:", None),
            ("a.example:0", None),
            ("a.example:+1", None),
            ("a.example:99999", None),
            ("a.example:443:443", None),
            ("a.example, b.example", None),
            ("", None),
        ] {
            let found = split(text, Scheme::Https).map(|(host, port)| format!("{host} {port}"));
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
