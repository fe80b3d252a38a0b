//! Secrets as a request to one host sees them: its own are put in, others stop it.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::body::RequestBody;
use super::forms::url_encode;
use super::response::{ResponseBody, UnknownEncoding};
use super::rewrite::{Action, Rewriter, Texts};
use super::set::{Known, SecretProblem, SecretSet};
use super::spec::SecretPlace;
use crate::policy::check::{Check, is_on};
use crate::policy::{Host, Scheme};
use crate::sign::AwsSigner;

/// Basic authorisation as clients write it, with or without padding.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Secrets as a request to one host sees them. Cheap to clone.
#[derive(Clone)]
pub struct Towards {
    pub(super) set: SecretSet,
    /// Numbers of the secrets that are for this host.
    pub(super) own: Vec<usize>,
    /// What must not go out to it.
    pub(super) guard: Option<Arc<Texts>>,
}

/// A part of a request with secrets in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Put {
    /// The part.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Names of the secrets.
    pub names: Vec<String>,
}

impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Towards {
    pub(super) fn new(set: SecretSet, host: &Host, port: u16, scheme: Scheme) -> Self {
        let secrets = set.0.secrets.iter().enumerate();
        let is_own = |(_, secret): &(usize, &Known)| secret.spec.is_for(host, port, scheme);
        let own: Vec<usize> = secrets.filter(is_own).map(|(number, _)| number).collect();
        let guard = set.guard(&own);
        Self { set, own, guard }
    }

    /// Whether some secret is for this host, so that responses have to be looked at.
    pub fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// A header of a request. `None`: it stays as it is. Asked for every header, also those of
    /// authorisation.
    ///
    /// # Errors
    ///
    /// It must not go out.
    pub fn header(&self, name: &str, value: &[u8]) -> Result<Option<Put>, SecretProblem> {
        self.check(value)?;
        let name = name.to_ascii_lowercase();
        if matches!(name.as_str(), "authorization" | "proxy-authorization")
            && let Some(put) = self.basic(value)?
        {
            return Ok(Some(put));
        }
        let place = SecretPlace::Header(name);
        let secrets = self.own().filter(|(_, secret)| secret.spec.is_at(&place));
        self.replace(value, secrets, str::to_owned)
    }

    /// The target of a request: path and query. `None`: it stays as it is.
    ///
    /// # Errors
    ///
    /// It must not go out.
    pub fn target(&self, target: &str) -> Result<Option<Put>, SecretProblem> {
        self.check(target.as_bytes())?;
        let Some((path, query)) = target.split_once('?') else { return Ok(None) };
        let mut bytes = Zeroizing::new(path.as_bytes().to_vec());
        let mut names = Vec::new();
        for (index, pair) in query.split('&').enumerate() {
            bytes.push(if index == 0 { b'?' } else { b'&' });
            let key = pair.split('=').next().unwrap_or_default();
            let place =
                SecretPlace::Query(percent_decode_str(key).decode_utf8_lossy().into_owned());
            let secrets = self.own().filter(|(_, secret)| secret.spec.is_at(&place));
            match self.replace(pair.as_bytes(), secrets, url_encode)? {
                None => bytes.extend_from_slice(pair.as_bytes()),
                Some(put) => {
                    bytes.extend_from_slice(&put.bytes);
                    names.extend(put.names);
                }
            }
        }
        Ok((!names.is_empty()).then_some(Put { bytes, names }))
    }

    /// The body of a request, of this content type and without content encoding. A body with a
    /// content encoding is not looked into: nothing is put into it and nothing found in it.
    pub fn request_body(&self, content_type: Option<&str>) -> RequestBody {
        RequestBody::new(self, content_type)
    }

    /// A header of a response: values are replaced by placeholders. `None`: it stays as it is.
    pub fn response_header(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut rewriter = Rewriter::new(self.echoes());
        let mut replaced = rewriter.push(value).ok()?;
        replaced.extend(rewriter.finish().ok()?);
        (replaced != value).then_some(replaced)
    }

    /// The body of a response with this content encoding. `None`: it need not be looked at. What
    /// comes out is decoded: `Content-Encoding`, `Content-Length` and digests do not hold for it.
    ///
    /// # Errors
    ///
    /// The encoding is not known; the response cannot be passed on. Requests to such hosts should
    /// ask for [`super::ACCEPTED_ENCODINGS`] only.
    pub fn response_body(
        &self,
        content_encoding: Option<&str>,
    ) -> Result<Option<ResponseBody>, UnknownEncoding> {
        match self.echoes() {
            Some(echoes) => ResponseBody::new(&self.set, echoes, content_encoding).map(Some),
            None => Ok(None),
        }
    }

    /// Who signs requests to this host whose `Authorization` has the placeholder as its key id, or
    /// that have none where the secret names region and service. `None`: nobody.
    ///
    /// # Errors
    ///
    /// The secret that would sign has no value here.
    pub fn aws_signer(
        &self,
        authorization: Option<&str>,
    ) -> Result<Option<AwsSigner<'_>>, SecretProblem> {
        for (_, secret) in self.own() {
            let Some(scope) = &secret.spec.sign else { continue };
            let has_placeholder =
                authorization.is_some_and(|value| value.contains(secret.placeholder.as_str()));
            let is_unsigned = authorization.is_none() && scope.region_and_service.is_some();
            if has_placeholder || is_unsigned {
                let name = &secret.spec.name;
                let missing = || SecretProblem::Missing { name: name.clone() };
                let credentials = secret.credentials.as_ref().ok_or_else(missing)?;
                return Ok(Some(AwsSigner::new(name, credentials, scope)));
            }
        }
        Ok(None)
    }

    fn echoes(&self) -> Option<Arc<Texts>> {
        let is_needed = self.has_own() && is_on(Check::Echo);
        self.set.0.echoes.clone().filter(|_| is_needed)
    }

    pub(super) fn own(&self) -> impl Iterator<Item = (usize, &Known)> {
        self.own.iter().filter_map(|number| Some((*number, self.set.0.secrets.get(*number)?)))
    }

    /// What must not go out is not in these bytes.
    fn check(&self, bytes: &[u8]) -> Result<(), SecretProblem> {
        let mut guard = Rewriter::new(self.guard.clone());
        guard.push(bytes)?;
        guard.finish().map(|_| ())
    }

    /// User name and password, with secrets put in.
    fn basic(&self, value: &[u8]) -> Result<Option<Put>, SecretProblem> {
        let Some((scheme, encoded)) =
            std::str::from_utf8(value).ok().and_then(|v| v.split_once(' '))
        else {
            return Ok(None);
        };
        if !scheme.eq_ignore_ascii_case("basic") {
            return Ok(None);
        }
        let Ok(decoded) = BASIC.decode(encoded.trim()) else { return Ok(None) };
        self.check(&decoded)?;
        let secrets = self.own().filter(|(_, secret)| secret.spec.is_at(&SecretPlace::Basic));
        let Some(put) = self.replace(&decoded, secrets, str::to_owned)? else { return Ok(None) };
        let encoded = Zeroizing::new(BASIC.encode(&put.bytes));
        let bytes = Zeroizing::new([b"Basic ", encoded.as_bytes()].concat());
        Ok(Some(Put { bytes, names: put.names }))
    }

    /// Replaces placeholders by values. `None`: there are none.
    pub(super) fn replace<'a>(
        &self,
        bytes: &[u8],
        secrets: impl Iterator<Item = (usize, &'a Known)>,
        escape: fn(&str) -> String,
    ) -> Result<Option<Put>, SecretProblem> {
        let texts = replacements(
            secrets.filter(|(_, secret)| {
                let placeholder = secret.placeholder.as_str().as_bytes();
                bytes.windows(placeholder.len()).any(|window| window == placeholder)
            }),
            escape,
        );
        let mut rewriter = Rewriter::new(Texts::new(texts).map(Arc::new));
        let mut replaced = Zeroizing::new(rewriter.push(bytes)?);
        replaced.extend(rewriter.finish()?);
        let names = self.set.names(&rewriter.used);
        Ok((!names.is_empty()).then_some(Put { bytes: replaced, names }))
    }
}

/// Placeholders and what takes their place.
pub(super) fn replacements<'a>(
    secrets: impl Iterator<Item = (usize, &'a Known)>,
    escape: fn(&str) -> String,
) -> Vec<(Zeroizing<Vec<u8>>, Action)> {
    secrets
        .filter(|(_, secret)| secret.spec.sign.is_none())
        .map(|(number, secret)| {
            let action = match &secret.value {
                Some(value) => {
                    let value = escape(value.expose()).into_bytes();
                    Action::Replace(Zeroizing::new(value), number)
                }
                None => Action::Stop(SecretProblem::Missing { name: secret.spec.name.clone() }),
            };
            (Zeroizing::new(secret.placeholder.as_str().as_bytes().to_vec()), action)
        })
        .collect()
}
