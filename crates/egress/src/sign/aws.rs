//! Signature version 4 of Amazon Web Services, in headers.
//!
//! A client inside signs with a placeholder as its key id; the signature is thrown away and made
//! anew, for the region and service that the client names, with the time of this side. Bodies:
//!
//! - The client names the hash of its body (`x-amz-content-sha256`, as all of S3 does) or says that
//!   it is not signed: that is signed as it stands, and the body is passed on as it comes.
//! - The client names no hash: the body has to be hashed by the caller before it is sent.
//! - Bodies whose pieces are signed one by one (`STREAMING-AWS4-HMAC-SHA256-PAYLOAD`) and presigned
//!   queries are refused; clients can be told to sign otherwise.

use std::fmt;
use std::time::SystemTime;

use moat_core::Secret;
use ring::{digest, hmac};
use zeroize::Zeroizing;

use super::aws_canonical::{canonical_request, header_value};
use crate::secret::AwsScope;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Headers that are never signed, because they are changed on the way.
const UNSIGNED: [&str; 4] = ["authorization", "connection", "x-amzn-trace-id", "user-agent"];

/// A key of Amazon Web Services.
#[derive(Clone)]
pub struct AwsCredentials {
    key_id: String,
    secret_key: Secret,
    session_token: Option<Secret>,
}

/// Why a value is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has to be `KEY_ID:SECRET_KEY` or `KEY_ID:SECRET_KEY:SESSION_TOKEN`")]
pub struct AwsCredentialsError;

impl AwsCredentials {
    /// Reads `KEY_ID:SECRET_KEY[:SESSION_TOKEN]`.
    ///
    /// # Errors
    ///
    /// It has other parts, or parts too short to be told from other text.
    pub fn parse(value: &Secret) -> Result<Self, AwsCredentialsError> {
        let mut parts = value.expose().splitn(3, ':');
        let (key_id, secret_key) = (parts.next().unwrap_or_default(), parts.next());
        let is_key_id =
            !key_id.is_empty() && key_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let secret_key = secret_key.filter(|key| is_key_id && key.len() >= 8);
        let secret_key = Secret::new(secret_key.ok_or(AwsCredentialsError)?);
        let token = parts.next();
        if token
            .is_some_and(|token| token.len() < 8 || !token.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(AwsCredentialsError);
        }
        let session_token = token.map(Secret::new);
        Ok(Self { key_id: key_id.to_owned(), secret_key, session_token })
    }

    /// What must not be seen.
    pub(crate) fn hidden(&self) -> Vec<&Secret> {
        [Some(&self.secret_key), self.session_token.as_ref()].into_iter().flatten().collect()
    }
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsCredentials(redacted)")
    }
}

/// A request that is to be signed, as it will be sent.
#[derive(Clone, Copy, Debug)]
pub struct AwsRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query, as they are sent.
    pub target: &'a str,
    /// Every header, `host` included (of HTTP/2: the authority).
    pub headers: &'a [(&'a str, &'a [u8])],
    /// What is known of the body.
    pub payload: AwsPayload<'a>,
}

/// What is known of a body that is to be signed.
#[derive(Clone, Copy, Debug)]
pub enum AwsPayload<'a> {
    /// What the request says itself ([`AwsSigner::needs_hash`] is false).
    AsDeclared,
    /// Its hash, by [`sha256_hex`].
    Hash(&'a str),
}

/// What a signed request has in its head.
#[derive(Clone)]
pub struct AwsSigned {
    /// Headers that take the place of those of the same name.
    pub set: Vec<(&'static str, Zeroizing<String>)>,
    /// Headers that have to go.
    pub remove: Vec<&'static str>,
}

impl fmt::Debug for AwsSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsSigned(redacted)")
    }
}

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AwsSignError {
    /// It neither says region and service itself, nor does the secret.
    #[error("the request names no region and service to sign for")]
    NoScope,
    /// It is signed with another algorithm.
    #[error("only {ALGORITHM} signatures are made")]
    Algorithm,
    /// Its pieces are signed one by one.
    #[error(
        "bodies that are signed piece by piece are not; tell the client not to (payload signing \
         off, or a checksum instead)"
    )]
    Streaming,
    /// The hash of its body is needed.
    #[error("the hash of the body is needed")]
    NoHash,
    /// The query carries a signature.
    #[error("requests with a signature in their query are not signed")]
    Presigned,
    /// The clock is before 1970, or after all calendars.
    #[error("the clock is out of range")]
    Clock,
}

/// The hash of a body, in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Signs requests with one key.
#[derive(Clone, Copy, Debug)]
pub struct AwsSigner<'a> {
    name: &'a str,
    credentials: &'a AwsCredentials,
    scope: &'a AwsScope,
}

impl<'a> AwsSigner<'a> {
    pub(crate) fn new(name: &'a str, credentials: &'a AwsCredentials, scope: &'a AwsScope) -> Self {
        Self { name, credentials, scope }
    }

    /// The secret that it signs with.
    pub fn secret_name(&self) -> &str {
        self.name
    }

    /// Whether the request says nothing about its body, so that it has to be hashed.
    pub fn needs_hash(headers: &[(&str, &[u8])]) -> bool {
        header_value(headers, "x-amz-content-sha256").is_none()
    }

    /// Signs a request.
    ///
    /// # Errors
    ///
    /// The request is one that cannot be signed.
    pub fn sign(
        &self,
        request: &AwsRequest<'_>,
        now: SystemTime,
    ) -> Result<AwsSigned, AwsSignError> {
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        if query.to_ascii_lowercase().contains("x-amz-signature=") {
            return Err(AwsSignError::Presigned);
        }
        let declared = Declared::of(request.headers)?;
        let region_and_service = declared
            .region_and_service
            .or_else(|| self.scope.region_and_service.clone())
            .ok_or(AwsSignError::NoScope)?;
        let (region, service) = region_and_service;
        let payload = payload(request)?;
        let time = timestamp(now)?;
        let mut set = vec![("x-amz-date", Zeroizing::new(time.clone()))];
        let mut remove = Vec::new();
        match &self.credentials.session_token {
            Some(token) => {
                let token = Zeroizing::new(token.expose().to_owned());
                set.push(("x-amz-security-token", token));
            }
            None => remove.push("x-amz-security-token"),
        }
        if service == "s3" {
            set.push(("x-amz-content-sha256", Zeroizing::new(payload.clone())));
        }
        let headers = replaced(request.headers, &set, &remove);
        let signed = signed_names(&headers, &declared.signed_headers);
        let canonical = canonical_request(request, &service, &headers, &signed, &payload);
        let date = time.get(..8).unwrap_or_default();
        let scope = format!("{date}/{region}/{service}/aws4_request");
        let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
        let signature = self.signature(date, &region, &service, &text);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            self.credentials.key_id,
            signed.join(";"),
        );
        set.push(("authorization", Zeroizing::new(authorization)));
        Ok(AwsSigned { set, remove })
    }

    fn signature(&self, date: &str, region: &str, service: &str, text: &str) -> String {
        let first = Zeroizing::new(format!("AWS4{}", self.credentials.secret_key.expose()));
        let mut key = Zeroizing::new(first.as_bytes().to_vec());
        for part in [date, region, service, "aws4_request"] {
            key = Zeroizing::new(mac(&key, part));
        }
        hex(&mac(&key, text))
    }
}

/// What a request that a client has signed says about that.
#[derive(Default)]
struct Declared {
    region_and_service: Option<(String, String)>,
    signed_headers: Vec<String>,
}

impl Declared {
    fn of(headers: &[(&str, &[u8])]) -> Result<Self, AwsSignError> {
        let Some(value) = header_value(headers, "authorization") else {
            return Ok(Self::default());
        };
        let parameters = value.strip_prefix(ALGORITHM).ok_or(AwsSignError::Algorithm)?;
        let mut declared = Self::default();
        for parameter in parameters.split(',') {
            match parameter.trim().split_once('=') {
                Some(("Credential", credential)) => {
                    let parts: Vec<&str> = credential.rsplitn(5, '/').collect();
                    if let ["aws4_request", service, region, _, _] = parts.as_slice() {
                        declared.region_and_service =
                            Some(((*region).to_owned(), (*service).to_owned()));
                    }
                }
                Some(("SignedHeaders", names)) => {
                    declared.signed_headers = names.split(';').map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        Ok(declared)
    }
}

/// What is signed of the body.
fn payload(request: &AwsRequest<'_>) -> Result<String, AwsSignError> {
    if let AwsPayload::Hash(hash) = request.payload {
        return Ok(hash.to_owned());
    }
    let declared = header_value(request.headers, "x-amz-content-sha256");
    let declared = declared.ok_or(AwsSignError::NoHash)?;
    match declared.as_str() {
        "UNSIGNED-PAYLOAD" | "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(declared),
        hash if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(declared)
        }
        _ => Err(AwsSignError::Streaming),
    }
}

type Headers<'a> = Vec<(&'a str, &'a [u8])>;

/// The headers as they will be sent.
fn replaced<'a>(
    headers: &'a [(&'a str, &'a [u8])],
    set: &'a [(&'static str, Zeroizing<String>)],
    remove: &[&str],
) -> Headers<'a> {
    let is_kept = |(name, _): &&(&str, &[u8])| {
        let mut gone = set.iter().map(|(name, _)| *name).chain(remove.iter().copied());
        !gone.any(|other| other.eq_ignore_ascii_case(name))
    };
    let kept = headers.iter().filter(is_kept).copied();
    kept.chain(set.iter().map(|(name, value)| (*name, value.as_bytes()))).collect()
}

/// Names of the headers that are signed: what the client signed, and what has to be.
fn signed_names(headers: &Headers<'_>, wanted: &[String]) -> Vec<String> {
    let is_signed = |name: &String| {
        let has_to_be = name == "host" || name == "content-type" || name.starts_with("x-amz-");
        (has_to_be || wanted.contains(name)) && !UNSIGNED.contains(&name.as_str())
    };
    let names = headers.iter().map(|(name, _)| name.to_ascii_lowercase());
    let mut names: Vec<String> = names.filter(is_signed).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// As in `20150830T123600Z`.
fn timestamp(now: SystemTime) -> Result<String, AwsSignError> {
    let now = jiff::Timestamp::try_from(now).map_err(|_| AwsSignError::Clock)?;
    Ok(now.strftime("%Y%m%dT%H%M%SZ").to_string())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
