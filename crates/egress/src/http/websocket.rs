use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ring::digest;

use super::body::{Body, Decision, text};
use super::exchange::Exchange;
use super::headers;
use crate::border::{denial, limit};
use crate::policy::check::{Check, is_on};
use crate::policy::{Denial, DenyReason};
use crate::tunnel::pass;
use crate::upstream::Alpn;

/// What is hashed behind the client's key (RFC 6455, section 4.2.2).
const SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request wants to become a WebSocket. Other upgrades are left out of the request.
pub(super) fn is_asked_for(head: &Parts) -> bool {
    head.version == hyper::Version::HTTP_11 && is_websocket(&head.headers)
}

fn is_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Sends the handshake on; once the host agrees, bytes pass as they are.
pub(super) async fn open(exchange: &Exchange<'_>, head: Parts) -> Result<Response<Body>, Denial> {
    let key = handshake(&head).map_err(|what| {
        let what = format!("{}: {what}", exchange.origin.host);
        denial(DenyReason::MalformedRequest, what)
    })?;
    let border = exchange.conn.border.clone();
    let mut request = hyper::Request::from_parts(head, ());
    let inside = hyper::upgrade::on(&mut request);
    let (mut head, ()) = request.into_parts();
    headers::strip(&mut head.headers);
    ask(&mut head.headers);
    let mut filled = exchange.secrets.fill(&mut head)?;
    let decision = exchange.allow(std::mem::take(&mut filled.names));
    let request = exchange.rewritten(head, filled, text(String::new()))?;
    let mut response = exchange.send(request, Alpn::Http1).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let counted = Decision::default();
        counted.set(&decision);
        return exchange.returned(response, &counted);
    }
    if !is_agreed(response.headers(), &key) {
        let what = format!("{}: it did not agree to a WebSocket properly", exchange.origin.host);
        return Err(denial(DenyReason::UpstreamFailed, what));
    }
    let outside = hyper::upgrade::on(&mut response);
    let subject = exchange.subject.clone();
    border.clone().tasks.spawn(async move {
        let (Ok(inside), Ok(outside)) = tokio::join!(inside, outside) else { return };
        let (inside, outside) = (TokioIo::new(inside), TokioIo::new(outside));
        let passed = pass(inside, outside, &border.limits, &border.meter).await;
        border.decisions.add_bytes(&decision, passed.sent, passed.received);
        if let Some(reached) = passed.limit {
            border.deny(&subject, &limit(reached));
        }
    });
    let (mut head, _) = response.into_parts();
    headers::strip(&mut head.headers);
    exchange.secrets.clean(&mut head.headers)?;
    ask(&mut head.headers);
    Ok(Response::from_parts(head, text(String::new())))
}

fn ask(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// The key of a proper handshake: anything else that asks for an upgrade could be a request to one
/// reader and the beginning of a tunnel to another.
fn handshake(head: &Parts) -> Result<HeaderValue, &'static str> {
    let one = |name: HeaderName| {
        let mut values = head.headers.get_all(name).into_iter();
        values.next().filter(|_| values.next().is_none()).cloned()
    };
    let key = one(SEC_WEBSOCKET_KEY);
    if !is_on(Check::WebSocketHandshake) {
        return Ok(key.unwrap_or_else(|| HeaderValue::from_static("")));
    }
    let key = key.ok_or("a WebSocket needs one key")?;
    let is_sound = STANDARD.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16);
    let version = one(SEC_WEBSOCKET_VERSION);
    if head.method != Method::GET || !is_sound || version.is_none_or(|version| version != "13") {
        return Err("the WebSocket's handshake is malformed");
    }
    Ok(key)
}

fn is_agreed(headers: &HeaderMap, key: &HeaderValue) -> bool {
    let expected = accepted(key.as_bytes());
    let agrees = headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|value| value == expected.as_str());
    is_websocket(headers) && (agrees || !is_on(Check::WebSocketHandshake))
}

/// What a server says to a key.
pub(crate) fn accepted(key: &[u8]) -> String {
    let text = [key, SUFFIX.as_bytes()].concat();
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text))
}
