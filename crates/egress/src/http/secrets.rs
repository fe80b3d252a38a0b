//! Where secrets meet requests: put in on the way out, taken out on the way back.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap,
    HeaderName, HeaderValue,
};
use hyper::http::request::Parts;
use hyper::http::response;
use hyper::http::uri::PathAndQuery;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::body::{Body, BoxError, Counted, Ended, Held};
use super::put::{Heard, Put, Scanned};
use super::{Origin, target};
use crate::border::{Border, denial, limit};
use crate::limits::EgressLimit;
use crate::policy::{Denial, DenyReason};
use crate::secret::{ACCEPTED_ENCODINGS, SecretProblem, Towards};
use crate::sign::{AwsPayload, AwsRequest, AwsSigner, sha256_hex};

/// The longest body that is hashed to be signed, in bytes. Clients of stores say the hash
/// themselves.
const MAX_SIGNED_BODY: usize = 8 << 20;
/// What holds for an encoded body only.
const ENCODED: [HeaderName; 5] = [
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
];

/// The secrets as one request sees them.
pub(super) struct Secrets<'a> {
    towards: Towards,
    origin: &'a Origin,
}

/// A request whose head has its secrets.
pub(super) struct Filled {
    pub(super) target: PathAndQuery,
    /// Names of the secrets in its head.
    pub(super) names: Vec<String>,
}

impl<'a> Secrets<'a> {
    pub(super) fn new(border: &Border, origin: &'a Origin) -> Self {
        let towards = border.secrets.towards(&origin.host, origin.port, origin.scheme);
        Self { towards, origin }
    }

    /// The path for decisions, unless a value stands in it.
    pub(super) fn path(&self, head: &Parts) -> Option<String> {
        let target = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        match self.towards.target(target) {
            Err(SecretProblem::Leak { .. }) => None,
            _ => Some(head.uri.path().to_owned()),
        }
    }

    fn denied(&self, problem: &SecretProblem) -> Denial {
        problem.denial(&self.origin.host)
    }

    fn malformed(&self) -> Denial {
        let what = format!("{}: what a secret was put into is malformed", self.origin.host);
        denial(DenyReason::MalformedRequest, what)
    }

    /// Puts secrets into target and fields.
    pub(super) fn fill(&self, head: &mut Parts) -> Result<Filled, Denial> {
        let target = head.uri.path_and_query().cloned();
        let mut target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut names = Vec::new();
        let put = self.towards.target(target.as_str()).map_err(|problem| self.denied(&problem))?;
        if let Some(put) = put {
            target = PathAndQuery::try_from(put.bytes.as_slice()).map_err(|_| self.malformed())?;
            names.extend(put.names);
        }
        names.extend(self.fill_fields(&mut head.headers)?);
        if self.towards.has_own() && head.headers.contains_key(ACCEPT_ENCODING) {
            head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED_ENCODINGS));
        }
        Ok(Filled { target, names })
    }

    fn fill_fields(&self, headers: &mut HeaderMap) -> Result<Vec<String>, Denial> {
        let mut names = Vec::new();
        for (name, value) in headers.iter_mut() {
            let put = self.towards.header(name.as_str(), value.as_bytes());
            if let Some(put) = put.map_err(|problem| self.denied(&problem))? {
                *value = HeaderValue::from_bytes(&put.bytes).map_err(|_| self.malformed())?;
                value.set_sensitive(true);
                names.extend(put.names);
            }
        }
        Ok(names)
    }

    /// The body with its secrets, and the request's signature where it is signed.
    pub(super) async fn complete(
        &self,
        border: &Border,
        head: &mut Parts,
        filled: &mut Filled,
        body: Counted<Incoming>,
        heard: Heard,
    ) -> Result<Body, Denial> {
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let mut put = self.towards.request_body(content_type);
        if !put.is_held() {
            if put.may_change() {
                head.headers.remove(CONTENT_LENGTH);
            }
            let host = self.origin.host.clone();
            let body = Put::new(body, put, self.towards.clone(), host, heard).boxed_unsync();
            return self.sign(border, head, filled, Outgoing::Streamed(body)).await;
        }
        let (bytes, place) = collect(border, body, crate::secret::MAX_FIELD_BODY).await?;
        let mut out = put.push(&bytes).map_err(|problem| self.denied(&problem))?;
        out.extend(put.finish().map_err(|problem| self.denied(&problem))?);
        filled.names.extend(put.names().iter().cloned());
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(out.len()));
        self.sign(border, head, filled, Outgoing::Held(out.into(), place)).await
    }

    async fn sign(
        &self,
        border: &Border,
        head: &mut Parts,
        filled: &mut Filled,
        body: Outgoing,
    ) -> Result<Body, Denial> {
        let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let signer = self.towards.aws_signer(authorization);
        let Some(signer) = signer.map_err(|problem| self.denied(&problem))? else {
            return Ok(body.into_body());
        };
        let Origin { host, port, scheme, .. } = self.origin;
        let authority = target::authority(host, *port, *scheme).ok_or_else(|| self.malformed())?;
        let mut fields: Vec<(&str, &[u8])> = vec![("host", authority.as_str().as_bytes())];
        fields.extend(head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        let (body, hash) = match (AwsSigner::needs_hash(&fields), body) {
            (false, body) => (body, None),
            (true, Outgoing::Held(bytes, place)) => {
                let hash = sha256_hex(&bytes);
                (Outgoing::Held(bytes, place), Some(hash))
            }
            (true, Outgoing::Streamed(body)) => {
                let (bytes, place) = collect(border, body, MAX_SIGNED_BODY).await?;
                let hash = sha256_hex(&bytes);
                (Outgoing::Held(bytes, place), Some(hash))
            }
        };
        let payload = hash.as_deref().map_or(AwsPayload::AsDeclared, AwsPayload::Hash);
        let method = head.method.as_str();
        let request =
            AwsRequest { method, target: filled.target.as_str(), headers: &fields, payload };
        let signed = signer.sign(&request, SystemTime::now()).map_err(|error| {
            denial(DenyReason::NotSigned, format!("{host}: the request is not signed: {error}"))
        })?;
        filled.names.push(signer.secret_name().to_owned());
        for name in signed.remove {
            head.headers.remove(name);
        }
        for (name, value) in signed.set {
            let mut value = HeaderValue::from_str(&value).map_err(|_| self.malformed())?;
            value.set_sensitive(true);
            head.headers.insert(HeaderName::from_static(name), value);
        }
        Ok(body.into_body())
    }

    /// The fields of an answer without values.
    pub(super) fn clean(&self, headers: &mut HeaderMap) -> Result<(), Denial> {
        for value in headers.values_mut() {
            if let Some(replaced) = self.towards.response_header(value.as_bytes()) {
                *value = HeaderValue::from_bytes(&replaced).map_err(|_| self.malformed())?;
            }
        }
        Ok(())
    }

    /// The answer without values.
    pub(super) fn returned(
        &self,
        head: &mut response::Parts,
        body: Counted<Incoming>,
    ) -> Result<Body, Denial> {
        self.clean(&mut head.headers)?;
        let encodings: Vec<_> = head.headers.get_all(CONTENT_ENCODING).into_iter().collect();
        let encoding = match encodings.as_slice() {
            [] => Ok(None),
            [one] => one.to_str().map(Some).map_err(|_| ()),
            _ => Err(()),
        };
        let scan = encoding.and_then(|one| self.towards.response_body(one).map_err(|_| ()));
        match scan {
            // Nothing comes that could be looked at: an answer to HEAD, or that nothing changed.
            _ if body.is_end_stream() => Ok(body.boxed_unsync()),
            Ok(None) => Ok(body.boxed_unsync()),
            Ok(Some(scan)) => {
                for name in ENCODED {
                    head.headers.remove(name);
                }
                Ok(Scanned::new(body, scan, self.towards.clone()).boxed_unsync())
            }
            Err(()) => Err(denial(
                DenyReason::UpstreamFailed,
                format!(
                    "{}: its answer is encoded so that it cannot be looked at",
                    self.origin.host
                ),
            )),
        }
    }
}

/// A body before it is known whether its hash is needed.
enum Outgoing {
    Held(Bytes, OwnedSemaphorePermit),
    Streamed(Body),
}

impl Outgoing {
    fn into_body(self) -> Body {
        match self {
            Self::Held(bytes, place) => Held::body(bytes, place),
            Self::Streamed(body) => body,
        }
    }
}

/// A whole body of at most so many bytes.
async fn collect<B>(
    border: &Border,
    mut body: B,
    most: usize,
) -> Result<(Bytes, OwnedSemaphorePermit), Denial>
where
    B: HttpBody<Data = Bytes, Error = BoxError> + Unpin,
{
    let gone = |_| denial(DenyReason::LimitConcurrency, "the sandbox's network ends");
    let all = async {
        let place = Arc::clone(&border.held).acquire_owned().await.map_err(gone)?;
        let mut all = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| cut(&error))?;
            let Ok(bytes) = frame.into_data() else { continue };
            if all.len() + bytes.len() > most {
                return Err(limit(EgressLimit::Upload));
            }
            all.extend_from_slice(&bytes);
        }
        Ok((all.freeze(), place))
    };
    let slow = || denial(DenyReason::TooSlow, "the body of a request did not end");
    timeout(border.limits.response_wait, all).await.map_err(|_| slow())?
}

fn cut(error: &BoxError) -> Denial {
    match error.downcast_ref::<Ended>() {
        Some(Ended(denial)) => denial.clone(),
        None => denial(DenyReason::MalformedRequest, "the body of a request was cut off"),
    }
}
