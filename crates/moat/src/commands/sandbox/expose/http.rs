//! HTTP: every request shows the token, and goes in without it.

use std::sync::Arc;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderValue, LOCATION, SET_COOKIE, UPGRADE,
};
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, on};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::{Gate, PATIENCE};
use crate::escape::escape;

type Body = BoxBody<Bytes, hyper::Error>;

/// Connections into the sandbox that one connection from here has open. Dropped, they end.
type Inner = Arc<Mutex<JoinSet<()>>>;

pub(super) async fn serve(stream: TcpStream, gate: Arc<Gate>) {
    let inner = Inner::default();
    let service = service_fn(|request| {
        let (gate, inner) = (Arc::clone(&gate), Arc::clone(&inner));
        async move { Ok::<_, hyper::Error>(answer(&gate, &inner, request).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(64 << 10);
    let served = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    // A connection that was upgraded goes on beside the one that it came from.
    if served.is_ok() {
        while inner.lock().await.join_next().await.is_some() {}
    }
}

async fn answer(gate: &Gate, inner: &Inner, mut request: Request<Incoming>) -> Response<Body> {
    if !is_loopback(request.headers()) {
        return refusal(StatusCode::MISDIRECTED_REQUEST, "this is 127.0.0.1, and no other host");
    }
    let by_query = take_from_query(gate, &mut request);
    let by_header = take_from_headers(gate, request.headers_mut());
    if !by_query && !by_header {
        return refusal(
            StatusCode::UNAUTHORIZED,
            "the token is missing: open the address that `moat sandbox expose` printed, or send \
             `Authorization: Bearer` with the token",
        );
    }
    // A browser keeps the token from now on, and it does not stay in the address.
    if by_query && request.method() == Method::GET && !request.headers().contains_key(UPGRADE) {
        return welcome(gate, request.uri());
    }
    match forward(gate, inner, request).await {
        Ok(response) => response,
        Err(reason) => refusal(StatusCode::BAD_GATEWAY, &reason),
    }
}

/// A page of another host that had its name lead here asks for that host.
fn is_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost")
}

fn take_from_query(gate: &Gate, request: &mut Request<Incoming>) -> bool {
    let Some((uri, shown)) = without_token(request.uri(), |token| gate.token.is(token.as_bytes()))
    else {
        return false;
    };
    *request.uri_mut() = uri;
    shown
}

/// The address without its `token`, and whether that was the right one.
fn without_token(uri: &Uri, is_right: impl Fn(&str) -> bool) -> Option<(Uri, bool)> {
    let query = uri.query()?;
    let (tokens, others): (Vec<_>, Vec<_>) =
        query.split('&').partition(|part| part.starts_with("token="));
    let right = tokens.iter().filter_map(|part| part.strip_prefix("token=")).any(is_right);
    // A parameter of the program inside that has the same name stays.
    if !right {
        return None;
    }
    let path = uri.path();
    let text =
        if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
    Some((text.parse().ok()?, right))
}

fn take_from_headers(gate: &Gate, headers: &mut HeaderMap) -> bool {
    let bearer = |value: &HeaderValue| {
        let shown = value.as_bytes().strip_prefix(b"Bearer ");
        shown.is_some_and(|shown| gate.token.is(shown))
    };
    let mut shown = headers.get(AUTHORIZATION).is_some_and(bearer);
    if shown {
        headers.remove(AUTHORIZATION);
    }
    let name = cookie_name(gate);
    let mut kept = Vec::new();
    for value in headers.get_all(COOKIE) {
        for cookie in value.to_str().unwrap_or_default().split("; ") {
            match cookie.split_once('=') {
                Some((found, token)) if found == name => shown |= gate.token.is(token.as_bytes()),
                _ => kept.push(cookie.to_owned()),
            }
        }
    }
    headers.remove(COOKIE);
    if let (false, Ok(value)) = (kept.is_empty(), HeaderValue::from_str(&kept.join("; "))) {
        headers.insert(COOKIE, value);
    }
    shown
}

/// Cookies do not know ports, so the port is a part of the name.
fn cookie_name(gate: &Gate) -> String {
    format!("moat-{}", gate.host_port)
}

fn welcome(gate: &Gate, to: &Uri) -> Response<Body> {
    let (name, token) = (cookie_name(gate), gate.token.shown());
    let cookie = format!("{name}={token}; HttpOnly; SameSite=Strict; Path=/");
    let mut response = text(StatusCode::SEE_OTHER, String::new());
    // A path with two slashes at its beginning would be another host's.
    let path = to.path_and_query().map_or("/", |path| path.as_str());
    let path = format!("/{}", path.trim_start_matches('/'));
    for (name, value) in [(SET_COOKIE, cookie), (LOCATION, path)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn forward(
    gate: &Gate,
    inner: &Inner,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, String> {
    let stream = gate.sandbox.connect(gate.port).await.map_err(|error| error.to_string())?;
    let said = |error: hyper::Error| format!("what listens in the sandbox: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    let mut open = inner.lock().await;
    // Those that have ended since the last one was opened.
    while open.try_join_next().is_some() {}
    open.spawn(async move {
        // What goes wrong on it is told by the answer.
        let _ = connection.with_upgrades().await;
    });
    drop(open);
    let upgrade = request.headers().contains_key(UPGRADE).then(|| on(&mut request));
    if upgrade.is_none() {
        request.headers_mut().remove(CONNECTION);
    }
    let mut response = sender.send_request(request).await.map_err(said)?;
    match upgrade {
        Some(outside) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let inside = on(&mut response);
            inner.lock().await.spawn(join(outside, inside));
        }
        _ => drop(response.headers_mut().remove(CONNECTION)),
    }
    Ok(response.map(|body| body.boxed()))
}

/// What was HTTP becomes bytes in both directions.
async fn join(outside: OnUpgrade, inside: OnUpgrade) {
    let (Ok(outside), Ok(inside)) = tokio::join!(outside, inside) else { return };
    let (mut outside, mut inside) = (TokioIo::new(outside), TokioIo::new(inside));
    // Whichever side fails has closed both.
    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
}

fn refusal(status: StatusCode, reason: &str) -> Response<Body> {
    text(status, format!("moat: {}\n", escape(reason)))
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_taken_off_the_address() {
        let take = |uri: &str| {
            let uri: Uri = uri.parse().unwrap();
            without_token(&uri, |token| token == "t").map(|(uri, _)| uri.to_string())
        };
        assert_eq!(take("/?token=t").as_deref(), Some("/"));
        assert_eq!(take("/a?b=1&token=t&c=2").as_deref(), Some("/a?b=1&c=2"));
        for other in ["/", "/?token=x", "/?xtoken=t", "/?a=token=t"] {
            assert_eq!(take(other), None, "{other}");
        }
    }
}
