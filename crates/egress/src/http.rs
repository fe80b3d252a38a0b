//! HTTP from inside: every request is decided on its own and sent on by this side, never as the
//! bytes that came.

mod body;
mod chunks;
mod client;
mod exchange;
mod guard;
mod headers;
mod proxy;
mod put;
mod refusal;
mod secrets;
mod target;
mod websocket;

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};

pub(crate) use client::Clients;
#[cfg(test)]
pub(crate) use websocket::accepted;

use crate::border::{Border, Protocol, Subject, denial};
use crate::policy::{Denial, DenyReason, Host, Scheme};
use crate::stream::{Duplex, Watched};
use body::Body;
use guard::{Guard, Requests};

/// Requests at once over one connection of HTTP/2.
const MAX_STREAMS: u32 = 32;
/// Bytes of one request or answer of HTTP/2 that wait here, and of all over one connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// The least that hyper reads ahead, in bytes.
const MIN_BUFFER: usize = 8 << 10;

/// Where the requests of a connection go.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// To the one host that the program connected to.
    Origin(Origin),
    /// Where each says: the program uses the proxy.
    Proxy,
}

/// A host as the program connected to it.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) scheme: Scheme,
    /// Every request is answered by this.
    pub(crate) refusal: Option<Denial>,
}

impl Role {
    /// What decisions are about where no request is known.
    fn subject(&self, border: &Border) -> Subject {
        match self {
            Self::Origin(origin) => origin.subject(),
            Self::Proxy => {
                Subject::new(border.names.range().gateway(), border.proxy_port, Protocol::Http)
            }
        }
    }
}

impl Origin {
    pub(crate) fn subject(&self) -> Subject {
        let protocol = match self.scheme {
            Scheme::Https => Protocol::Https,
            _ => Protocol::Http,
        };
        Subject::new(&self.host, self.port, protocol)
    }
}

/// One connection of HTTP.
struct Conn {
    border: Arc<Border>,
    role: Role,
    requests: Option<Arc<Requests>>,
}

/// Serves HTTP/1 to a program until it ends.
pub(crate) async fn serve_http1(border: Arc<Border>, role: Role, io: impl Duplex + 'static) {
    let requests = Arc::new(Requests::default());
    let limits = border.limits.clone();
    let (io, watch) = Watched::new(io);
    let guard = Guard::new(io, limits.head(), Arc::clone(&requests));
    let subject = role.subject(&border);
    let served = Some(Arc::clone(&requests));
    let conn = Arc::new(Conn { border: Arc::clone(&border), role, requests: served });
    let service = service_fn(move |request| answer(Arc::clone(&conn), request));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_wait)
        .max_buf_size(limits.header_bytes.max(MIN_BUFFER))
        .max_headers(limits.header_fields)
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    let served = tokio::select! {
        served = serving => served,
        () = watch.stalled(limits.stall()) => {
            border.deny(&subject, &denial(DenyReason::TooSlow, "nothing passes"));
            return;
        }
    };
    if served.is_err_and(|error| error.is_timeout()) && requests.is_in_head() {
        border.deny(&subject, &denial(DenyReason::TooSlow, "the head of a request did not end"));
    }
}

/// Serves HTTP/2 to a program until it ends.
pub(crate) async fn serve_http2(border: Arc<Border>, origin: Origin, io: impl Duplex + 'static) {
    let tasks = border.tasks.clone();
    let limits = border.limits.clone();
    let conn = Arc::new(Conn { border, role: Role::Origin(origin), requests: None });
    let service = service_fn(move |request| answer(Arc::clone(&conn), request));
    let head = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
    let (io, watch) = Watched::new(io);
    let serving = http2::Builder::new(tasks)
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.request_wait)
        .keep_alive_timeout(limits.request_wait)
        .max_header_list_size(head)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .serve_connection(TokioIo::new(io), service);
    // How it ended says nothing that a decision did not.
    tokio::select! {
        _ = serving => {}
        () = watch.stalled(limits.stall()) => {}
    }
}

async fn answer(conn: Arc<Conn>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let violation = conn.requests.as_ref().and_then(|requests| requests.next());
    if let Some(error) = violation {
        let subject = conn.role.subject(&conn.border);
        return Ok(refusal::malformed(&conn.border, &subject, error));
    }
    // The guard passes nothing on before it knows what the connection becomes.
    let waits =
        request.method() == Method::CONNECT || request.headers().contains_key(header::UPGRADE);
    let is_connect = request.method() == Method::CONNECT;
    let response = match &conn.role {
        Role::Origin(origin) => exchange::request(&conn, origin, request).await,
        Role::Proxy => proxy::request(&conn, request).await,
    };
    if let Some(requests) = conn.requests.as_ref().filter(|_| waits) {
        let status = response.status();
        let granted =
            status == StatusCode::SWITCHING_PROTOCOLS || (is_connect && status == StatusCode::OK);
        requests.handed_over(granted);
    }
    Ok(response)
}
