//! Bodies of requests: secrets are put in, and what must not go out stops them.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::forms::{json_escape, url_encode};
use super::json::string_fields;
use super::rewrite::{Action, Rewriter, Texts};
use super::set::{Known, SecretProblem};
use super::spec::SecretPlace;
use super::towards::{Towards, replacements};

/// Bytes of a body whose fields secrets are put into. It is held as a whole.
pub const MAX_FIELD_BODY: usize = 1024 * 1024;

/// The body of one request on its way out.
pub struct RequestBody {
    towards: Towards,
    kind: Kind,
    guard: Rewriter,
    put: Rewriter,
    /// The whole body so far, where fields are looked for.
    held: Option<Zeroizing<Vec<u8>>>,
    names: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Form,
    Other,
}

impl Kind {
    fn of(content_type: Option<&str>) -> Self {
        let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        let media = media.trim().to_ascii_lowercase();
        match media.as_str() {
            "application/json" | "text/json" => Self::Json,
            "application/x-www-form-urlencoded" => Self::Form,
            other if other.ends_with("+json") => Self::Json,
            _ => Self::Other,
        }
    }

    fn escape(self) -> fn(&str) -> String {
        match self {
            Self::Json => json_escape,
            Self::Form => url_encode,
            Self::Other => str::to_owned,
        }
    }
}

impl RequestBody {
    pub(super) fn new(towards: &Towards, content_type: Option<&str>) -> Self {
        let kind = Kind::of(content_type);
        let is_field = |secret: &Known| {
            secret.spec.places.iter().any(|place| matches!(place, SecretPlace::Body(_)))
        };
        let has_fields = kind != Kind::Other && towards.own().any(|(_, secret)| is_field(secret));
        let whole = towards.own().filter(|(_, secret)| secret.spec.is_at(&SecretPlace::WholeBody));
        let put: Vec<(Zeroizing<Vec<u8>>, Action)> = replacements(whole, kind.escape());
        Self {
            towards: towards.clone(),
            kind,
            guard: Rewriter::new(towards.guard.clone()),
            put: Rewriter::new(Texts::new(put).map(Arc::new)),
            held: has_fields.then(Zeroizing::default),
            names: Vec::new(),
        }
    }

    /// Whether nothing comes out before [`RequestBody::finish`], so that the length of the whole is
    /// known then. Such a body has at most [`MAX_FIELD_BODY`] bytes.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether the length may change, so that `Content-Length` does not hold for what comes out.
    pub fn may_change(&self) -> bool {
        self.held.is_some() || self.put.has_texts()
    }

    /// Takes a piece, gives what may go out.
    ///
    /// # Errors
    ///
    /// The body must not go out; what went out of it already is not whole.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, SecretProblem> {
        let guarded = self.guard.push(piece)?;
        self.pass(&guarded)
    }

    /// Gives the rest.
    ///
    /// # Errors
    ///
    /// The body must not go out.
    pub fn finish(&mut self) -> Result<Vec<u8>, SecretProblem> {
        let guarded = self.guard.finish()?;
        let mut out = self.pass(&guarded)?;
        if let Some(held) = self.held.take() {
            let filled = self.fill(&held)?;
            out = self.put.push(&filled)?;
        }
        out.extend(self.put.finish()?);
        self.names.extend(self.towards.set.names(&self.put.used));
        Ok(out)
    }

    /// Names of the secrets that were put in, complete once it is finished.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn pass(&mut self, guarded: &[u8]) -> Result<Vec<u8>, SecretProblem> {
        let Some(held) = &mut self.held else { return self.put.push(guarded) };
        if held.len() + guarded.len() > MAX_FIELD_BODY {
            return Err(SecretProblem::TooLarge(MAX_FIELD_BODY));
        }
        held.extend_from_slice(guarded);
        Ok(Vec::new())
    }

    /// The whole body with secrets in the fields that are theirs.
    fn fill(&mut self, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretProblem> {
        let mut out = Zeroizing::new(Vec::with_capacity(body.len()));
        let mut done = 0;
        for (field, span) in self.fields(body) {
            let place = SecretPlace::Body(field);
            let secrets =
                self.towards.own().filter(|(_, known)| known.spec.places.contains(&place));
            let value = body.get(span.clone()).unwrap_or_default();
            if let Some(put) = self.towards.replace(value, secrets, self.kind.escape())? {
                out.extend_from_slice(body.get(done..span.start).unwrap_or_default());
                out.extend_from_slice(&put.bytes);
                done = span.end;
                self.names.extend(put.names);
            }
        }
        out.extend_from_slice(body.get(done..).unwrap_or_default());
        Ok(out)
    }

    fn fields(&self, body: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
        match self.kind {
            Kind::Json => string_fields(body).unwrap_or_default(),
            Kind::Form => form_fields(body),
            Kind::Other => Vec::new(),
        }
    }
}

/// Keys of a form and where their values stand.
fn form_fields(body: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
    let mut fields = Vec::new();
    let mut start = 0;
    for pair in body.split(|byte| *byte == b'&') {
        let end = start + pair.len();
        if let Some(equals) = pair.iter().position(|byte| *byte == b'=') {
            let key = String::from_utf8_lossy(pair.get(..equals).unwrap_or_default());
            let key = key.replace('+', " ");
            let key = percent_decode_str(&key).decode_utf8_lossy().into_owned();
            fields.push((key, start + equals + 1..end));
        }
        start = end + 1;
    }
    fields
}
