//! Paths of requests, compared by whole decoded segments.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::check::{Check, is_on};

/// Bytes of the longest path that is compared; a longer one is ambiguous.
const MAX_PATH: usize = 8 * 1024;

/// The path of a request, decoded once, by segments. A path that two programs could read in two
/// ways (`..`, `%2e`, `//`, `%2f`, `\`, `;`, double encoding, broken encoding) is *ambiguous*: it
/// matches no path that is allowed and every path that is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath {
    segments: Vec<String>,
    is_ambiguous: bool,
}

impl RequestPath {
    /// Reads the path of a request target in origin form (`/a/b?query`), or of an absolute one
    /// with scheme and host already taken off.
    pub fn parse(target: &str) -> Self {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let Some(rest) = path.strip_prefix('/').filter(|_| path.len() <= MAX_PATH) else {
            return Self { segments: Vec::new(), is_ambiguous: true };
        };
        let mut is_ambiguous = target.contains('#');
        let mut segments = Vec::new();
        let mut raw = rest.split('/').peekable();
        while let Some(segment) = raw.next() {
            // A slash at the end says nothing; in the middle, an empty segment does.
            if segment.is_empty() && raw.peek().is_none() {
                break;
            }
            match decode(segment) {
                Some(segment) => segments.push(segment),
                None => {
                    is_ambiguous = true;
                    segments.push(segment.to_owned());
                }
            }
        }
        Self { segments, is_ambiguous }
    }

    /// Whether two programs could read it in two ways.
    pub fn is_ambiguous(&self) -> bool {
        self.is_ambiguous
    }
}

/// A segment without its encoding, unless it can be read in two ways.
fn decode(segment: &str) -> Option<String> {
    if !is_on(Check::PathDecoding) {
        return Some(segment.to_owned());
    }
    let decoded = percent_decode_str(segment).decode_utf8().ok()?;
    // Some servers take what follows a `;` for parameters of the segment, others for its name.
    let is_plain = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | ';');
    let is_unclear = matches!(&*decoded, "" | "." | "..")
        || !decoded.chars().all(is_plain)
        || !segment.bytes().all(|byte| byte.is_ascii_graphic())
        || has_broken_escape(segment)
        || (segment.contains('%') && has_escape(&decoded));
    (!is_unclear).then(|| decoded.into_owned())
}

/// A `%` that is not followed by two hexadecimal digits.
fn has_broken_escape(segment: &str) -> bool {
    segment.split('%').skip(1).any(|rest| !begins_with_hex(rest))
}

/// A `%` that is: after decoding once, that is a second encoding.
fn has_escape(segment: &str) -> bool {
    segment.split('%').skip(1).any(begins_with_hex)
}

fn begins_with_hex(text: &str) -> bool {
    let mut bytes = text.bytes();
    let mut is_digit = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
    is_digit() && is_digit()
}

/// The path of a rule: it matches itself and what is beneath it, so `/v1` does not match `/v10`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PathPrefix {
    segments: Vec<String>,
}

impl PathPrefix {
    /// Reads the path of a rule; `None` for `/`, which is every path.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, &'static str> {
        if text.contains(['?', '#']) {
            return Err("a rule's path has no `?` and no `#`");
        }
        if text.contains('*') {
            return Err("a rule's path is a prefix and has no `*`: `/v1` is all beneath `/v1`");
        }
        let path = RequestPath::parse(text);
        if path.is_ambiguous {
            return Err("a rule's path can be read in one way only");
        }
        Ok((!path.segments.is_empty()).then_some(Self { segments: path.segments }))
    }

    /// Whether an allowed path includes that of a request.
    pub(super) fn includes(&self, path: &RequestPath) -> bool {
        if path.is_ambiguous && is_on(Check::PathAmbiguity) {
            return false;
        }
        if !is_on(Check::PathSegments) {
            return path.segments.join("/").starts_with(&self.segments.join("/"));
        }
        path.segments.starts_with(&self.segments)
    }

    /// Whether a denied path may include that of a request. Some servers take no notice of case,
    /// so this does not either.
    pub(super) fn may_include(&self, path: &RequestPath) -> bool {
        if path.is_ambiguous && is_on(Check::DenyAmbiguity) {
            return true;
        }
        let mut pairs = self.segments.iter().zip(&path.segments);
        path.segments.len() >= self.segments.len()
            && pairs.all(|(rule, request)| rule.eq_ignore_ascii_case(request))
    }

    /// Whether everything beneath `other` is beneath this.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.segments.starts_with(&self.segments)
    }

    /// The longest path above all of these, or `None` if that is `/`.
    pub(super) fn common<'a>(paths: impl IntoIterator<Item = &'a RequestPath>) -> Option<Self> {
        let mut paths = paths.into_iter();
        let mut segments = paths.next().filter(|path| !path.is_ambiguous)?.segments.clone();
        for path in paths {
            if path.is_ambiguous {
                return None;
            }
            let same = segments.iter().zip(&path.segments).take_while(|(a, b)| a == b).count();
            segments.truncate(same);
        }
        (!segments.is_empty()).then_some(Self { segments })
    }
}

/// As it is written in a rule: what a rule could misread is encoded.
impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            f.write_str("/")?;
            for byte in segment.bytes() {
                let is_plain = byte.is_ascii_alphanumeric() || b"-._~!$&'(),=:@+".contains(&byte);
                match is_plain {
                    true => write!(f, "{}", char::from(byte))?,
                    false => write!(f, "%{byte:02X}")?,
                }
            }
        }
        Ok(())
    }
}
