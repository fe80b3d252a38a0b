//! What a program says first on a connection: TLS, HTTP/1 or something else. Pure; every byte is
//! hostile.

mod client_hello;
mod http1;

pub use client_hello::{ClientHello, HelloError};
pub use http1::{Framing, Head, HeadError, HeadLimits, parse_head};

/// The most bytes that are looked at before a decision, beyond which a connection is [`First::Other`]
/// or malformed.
pub const MAX_FIRST_BYTES: usize = 64 << 10;

/// Longest method that is taken for HTTP.
const MAX_METHOD: usize = 24;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// Too few to tell.
    More,
    /// The beginning of TLS, understood.
    Tls(ClientHello),
    /// The beginning of TLS, not understood.
    BadTls(HelloError),
    /// A request line of HTTP/1.
    Http1,
    /// The preface of HTTP/2 without TLS.
    Http2,
    /// Anything else.
    Other,
}

/// Tells what a connection begins with.
pub fn first_bytes(bytes: &[u8]) -> First {
    match bytes {
        [] | [22] => First::More,
        [22, 3, ..] => match client_hello::parse(bytes) {
            Ok(Some(hello)) => First::Tls(hello),
            Ok(None) if bytes.len() >= MAX_FIRST_BYTES => First::BadTls(HelloError::TooLong),
            Ok(None) => First::More,
            Err(error) => First::BadTls(error),
        },
        _ => request_line(bytes),
    }
}

fn request_line(bytes: &[u8]) -> First {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    if bytes.starts_with(PREFACE) {
        return First::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return First::More;
    }
    let method = bytes.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    match bytes.get(method) {
        None if method <= MAX_METHOD => return First::More,
        Some(b' ') if (1..=MAX_METHOD).contains(&method) => {}
        _ => return First::Other,
    }
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() >= MAX_FIRST_BYTES { First::Other } else { First::More };
    };
    let line = bytes.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    if version.starts_with(b"HTTP/") { First::Http1 } else { First::Other }
}

/// The `Host` of a request whose head is there whole and well-formed.
pub(crate) fn host_field(bytes: &[u8]) -> Option<String> {
    let limits = HeadLimits { bytes: MAX_FIRST_BYTES, fields: 128 };
    let head = bytes.get(..parse_head(bytes, limits).ok()??.length)?;
    let fields = head.split(|byte| *byte == b'\n').skip(1);
    let value = fields.filter_map(|line| line.split_at_checked(5)).find_map(|(name, value)| {
        name.eq_ignore_ascii_case(b"host:").then(|| value.trim_ascii())
    })?;
    let text = std::str::from_utf8(value).ok()?;
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => text,
    };
    Some(host.to_owned())
}

#[cfg(test)]
mod tests;
