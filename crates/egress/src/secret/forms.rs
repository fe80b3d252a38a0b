//! The forms in which a value may appear in a stream.

use std::collections::BTreeSet;
use std::fmt;

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// What may stand unencoded in a query or a form (RFC 3986, unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// As it is.
    Plain,
    /// Escaped as in JSON or HTML.
    Escaped,
    /// Encoded as in a URL or a form.
    Url,
    /// Inside of base64, at any offset.
    Base64,
    /// Hexadecimal.
    Hex,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Escaped => "escaped",
            Self::Url => "URL-encoded",
            Self::Base64 => "base64",
            Self::Hex => "hexadecimal",
        })
    }
}

/// All forms of a value that are looked for, each once.
pub(super) fn forms(value: &str) -> Vec<(Form, Zeroizing<Vec<u8>>)> {
    let bytes = value.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let every: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    let json = json_escape(value);
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut all = vec![
        (Form::Plain, value.to_owned()),
        (Form::Escaped, json.replace('/', "\\/")),
        (Form::Escaped, json),
        (Form::Escaped, html.replace('"', "&quot;").replace('\'', "&#39;")),
        (Form::Escaped, html),
        (Form::Url, url_encode(value).to_lowercase_escapes()),
        (Form::Url, url_encode(value)),
        (Form::Url, url_encode(value).replace("%20", "+")),
        (Form::Url, every.to_lowercase()),
        (Form::Url, every),
        (Form::Hex, hex.to_uppercase()),
        (Form::Hex, hex),
    ];
    for offset in 0..3 {
        all.push((Form::Base64, inside_base64(&STANDARD_NO_PAD, bytes, offset)));
        all.push((Form::Base64, inside_base64(&URL_SAFE_NO_PAD, bytes, offset)));
    }
    let mut seen = BTreeSet::new();
    let is_new = |(_, text): &(Form, String)| seen.insert(text.clone());
    all.into_iter()
        .filter(is_new)
        .map(|(form, text)| (form, Zeroizing::new(text.into_bytes())))
        .collect()
}

/// The characters that base64 has for these bytes whatever stands before and after them, if as many
/// bytes stand before them as `offset` says, modulo three.
fn inside_base64(engine: &impl base64::Engine, bytes: &[u8], offset: usize) -> String {
    let padded: Zeroizing<Vec<u8>> =
        Zeroizing::new(std::iter::repeat_n(0, offset).chain(bytes.iter().copied()).collect());
    let encoded = engine.encode(&padded);
    let first = (offset * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    encoded.get(first..last).unwrap_or_default().to_owned()
}

/// As it stands inside a JSON text.
pub(super) fn json_escape(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// As it stands in a query or a form.
pub(super) fn url_encode(value: &str) -> String {
    percent_encode(value.as_bytes(), ENCODED).to_string()
}

trait LowercaseEscapes {
    fn to_lowercase_escapes(&self) -> String;
}

impl LowercaseEscapes for String {
    /// `%2F` as `%2f`.
    fn to_lowercase_escapes(&self) -> String {
        let mut left = 0;
        let lower = |c: char| {
            left = if c == '%' { 3 } else { left };
            let is_escape = left > 0;
            left = if is_escape { left - 1 } else { 0 };
            if is_escape { c.to_ascii_lowercase() } else { c }
        };
        self.chars().map(lower).collect()
    }
}
