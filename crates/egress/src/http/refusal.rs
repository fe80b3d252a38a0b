use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::{Body, text};
use crate::border::{Border, Subject};
use crate::policy::{Denial, DenyReason};
use crate::sniff::HeadError;

/// Tells programs that it was the sandbox's network that answered, and why.
const REASON: HeaderName = HeaderName::from_static("x-moat-denied");

/// Answers with the sentence that says what was denied and what would allow it.
pub(super) fn response(denial: &Denial) -> Response<Body> {
    let mut response = Response::new(text(format!("{}\n", denial.teach)));
    *response.status_mut() = status(denial.reason);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(REASON, HeaderValue::from_static(denial.reason.as_str()));
    response
}

/// Records a denial and answers with it.
pub(super) fn refuse(border: &Border, subject: &Subject, denial: &Denial) -> Response<Body> {
    border.deny(subject, denial);
    response(denial)
}

/// Answers a request that can be read in two ways, and ends its connection.
pub(super) fn malformed(border: &Border, subject: &Subject, error: HeadError) -> Response<Body> {
    let reason = match error {
        HeadError::TooLarge => DenyReason::HeadTooLarge,
        _ => DenyReason::MalformedRequest,
    };
    let denial = crate::border::denial(reason, format!("{}: {error}", subject.host));
    let mut response = refuse(border, subject, &denial);
    if error == HeadError::TooLarge {
        *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    }
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn status(reason: DenyReason) -> StatusCode {
    match reason {
        DenyReason::MalformedRequest | DenyReason::InvalidHost | DenyReason::AmbiguousPath => {
            StatusCode::BAD_REQUEST
        }
        DenyReason::HostMismatch => StatusCode::MISDIRECTED_REQUEST,
        DenyReason::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        DenyReason::UploadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        DenyReason::LimitRequests | DenyReason::LimitBytes | DenyReason::LimitConcurrency => {
            StatusCode::TOO_MANY_REQUESTS
        }
        DenyReason::TooSlow => StatusCode::GATEWAY_TIMEOUT,
        DenyReason::NotResolved | DenyReason::ServerUntrusted | DenyReason::UpstreamFailed => {
            StatusCode::BAD_GATEWAY
        }
        _ => StatusCode::FORBIDDEN,
    }
}
