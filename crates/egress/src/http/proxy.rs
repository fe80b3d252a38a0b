use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;

use super::body::{Body, text};
use super::{Conn, Origin, exchange, refusal, target};
use crate::border::{Protocol, Subject, denial};
use crate::connection::leave;
use crate::policy::check::{Check, is_on};
use crate::policy::{Denial, DenyReason, Host, Scheme, Verdict};
use crate::stream::{Duplex, Prefixed};

/// A request of a program that uses the proxy: a whole URL, or `CONNECT`. Both lead to the very
/// decisions that a connection to a synthetic address leads to.
pub(super) async fn request(conn: &Conn, request: Request<Incoming>) -> Response<Body> {
    if request.method() == Method::CONNECT {
        return connect(conn, request);
    }
    match origin(&request) {
        Ok(origin) => exchange::request(conn, &origin, request).await,
        Err(denied) => {
            let subject = conn.role.subject(&conn.border);
            refusal::refuse(&conn.border, &subject, &denied)
        }
    }
}

fn origin(request: &Request<Incoming>) -> Result<Origin, Denial> {
    let bad = |what: &str| Err(denial(DenyReason::MalformedRequest, what));
    match (request.uri().scheme_str(), request.uri().authority()) {
        (Some("http"), Some(authority)) => match target::split(authority.as_str(), Scheme::Http) {
            Some((host, port)) => Ok(Origin { host, port, scheme: Scheme::Http, refusal: None }),
            None => Err(denial(DenyReason::InvalidHost, "the URL names no host")),
        },
        (Some(_), _) => bad("the proxy passes `http://` on and connects by CONNECT"),
        _ => bad("this is the proxy of the sandbox; ask it for a whole URL, or CONNECT"),
    }
}

fn connect(conn: &Conn, mut request: Request<Incoming>) -> Response<Body> {
    let named = request.uri().authority().map(|authority| authority.as_str().to_owned());
    // Without a default: CONNECT names its port.
    let Some((host, port)) = named.and_then(|named| target::split(&named, Scheme::Tcp)) else {
        let subject = conn.role.subject(&conn.border);
        let denied = denial(DenyReason::InvalidHost, "CONNECT names `HOST:PORT`");
        return refusal::refuse(&conn.border, &subject, &denied);
    };
    if let Err(denied) = check(conn, &request, &host, port) {
        let subject = Subject::new(&host, port, Protocol::Tcp);
        return refusal::refuse(&conn.border, &subject, &denied);
    }
    let border = Arc::clone(&conn.border);
    let upgrade = hyper::upgrade::on(&mut request);
    conn.border.tasks.spawn(async move {
        if let Ok(stream) = upgrade.await {
            let stream: Box<dyn Duplex> = Box::new(TokioIo::new(stream));
            leave(border, host, port, Prefixed::new(Bytes::new(), stream)).await;
        }
    });
    Response::new(text(String::new()))
}

fn check(conn: &Conn, request: &Request<Incoming>, host: &Host, port: u16) -> Result<(), Denial> {
    let named = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let same = |named: &str| {
        target::split(named, Scheme::Tcp).is_none_or(|named| named == (host.clone(), port))
    };
    if is_on(Check::HostHeader) && !named.is_none_or(same) {
        let what = format!("CONNECT is to {host}:{port} and `Host` names another");
        return Err(denial(DenyReason::HostMismatch, what));
    }
    match conn.border.rules.get().connect(host, port, None) {
        Verdict::Deny(denied) if is_on(Check::ProxyDecides) => Err(denied),
        _ => Ok(()),
    }
}
