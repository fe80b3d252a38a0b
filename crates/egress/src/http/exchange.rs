use std::error::Error as _;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use hyper::header::{HeaderMap, PROXY_AUTHORIZATION};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, Uri, Version};
use moat_core::EgressDecision;
use tokio::time::timeout;

use super::body::{Body, Counted, Decision, Ended, OnDenial};
use super::put::Heard;
use super::secrets::{Filled, Secrets};
use super::{Conn, Origin, headers, refusal, target, websocket};
use crate::border::{Border, Subject, denial};
use crate::connection::unreachable;
use crate::limits::Direction;
use crate::policy::{Allowed, Denial, DenyReason, RequestPath, Scheme};
use crate::upstream::{Alpn, UpstreamError};

/// Decides about one request and, if it may, sends it on.
pub(super) async fn request(
    conn: &Conn,
    origin: &Origin,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    if let Some(refused) = &origin.refusal {
        // Recorded when the connection was refused.
        return refusal::response(refused);
    }
    let secrets = Secrets::new(&conn.border, origin);
    let subject = origin.subject().request(head.method.as_str(), secrets.path(&head));
    match decide(conn, origin, &head) {
        Ok(allowed) => {
            let recorded = Arc::default();
            let exchange = Exchange { conn, origin, subject: &subject, allowed, secrets, recorded };
            match exchange.run(head, body).await {
                Ok(response) => response,
                Err(denied) => exchange.refused(&denied),
            }
        }
        Err(denied) => refusal::refuse(&conn.border, &subject, &denied),
    }
}

fn decide(conn: &Conn, origin: &Origin, head: &Parts) -> Result<Allowed, Denial> {
    target::check(origin, head)?;
    // `OPTIONS *` and the like are about the server as a whole.
    if head.method == Method::CONNECT || head.uri.path() == "*" {
        let what = format!("{}: {} is not passed on", origin.host, head.method);
        return Err(denial(DenyReason::MalformedRequest, what));
    }
    let path = RequestPath::parse(head.uri.path());
    let policy = conn.border.rules.get();
    let verdict =
        policy.request(&origin.host, origin.port, origin.scheme, head.method.as_str(), &path);
    let allowed = verdict.into_result()?;
    conn.border.count_request()?;
    Ok(allowed)
}

/// One request that may go out.
pub(super) struct Exchange<'a> {
    pub(super) conn: &'a Conn,
    pub(super) origin: &'a Origin,
    pub(super) subject: &'a Subject,
    pub(super) allowed: Allowed,
    pub(super) secrets: Secrets<'a>,
    /// What ended a body is recorded where it did: there may be nobody left to tell.
    pub(super) recorded: Arc<AtomicBool>,
}

impl Exchange<'_> {
    fn border(&self) -> &Arc<Border> {
        &self.conn.border
    }

    fn refused(&self, denied: &Denial) -> Response<Body> {
        if self.recorded.load(Ordering::Relaxed) {
            return refusal::response(denied);
        }
        refusal::refuse(self.border(), self.subject, denied)
    }

    async fn run(&self, mut head: Parts, body: Incoming) -> Result<Response<Body>, Denial> {
        if websocket::is_asked_for(&head) {
            return websocket::open(self, head).await;
        }
        headers::strip(&mut head.headers);
        let mut filled = self.secrets.fill(&mut head)?;
        // Bytes are counted on the program's side, for the decision that is made below.
        let counted = Decision::default();
        let body = self.counted(body, &counted, Direction::Out);
        let heard = Heard { names: self.reporter(), denial: self.on_denial() };
        let body =
            self.secrets.complete(self.border(), &mut head, &mut filled, body, heard).await?;
        let decision = self.allow(mem::take(&mut filled.names));
        counted.set(&decision);
        let request = self.rewritten(head, filled, body)?;
        let response = self.send(request, Alpn::Any).await?;
        self.returned(response, &counted)
    }

    pub(super) fn allow(&self, secrets: Vec<String>) -> EgressDecision {
        self.border().allow(self.subject, self.allowed.rule.clone(), secrets)
    }

    /// Records the secrets that a body held, which is known when it was sent.
    fn reporter(&self) -> Box<dyn Fn(Vec<String>) + Send> {
        let (border, subject) = (Arc::clone(self.border()), self.subject.clone());
        let rule = self.allowed.rule.clone();
        Box::new(move |names| {
            border.allow(&subject, rule.clone(), names);
        })
    }

    fn counted(
        &self,
        body: Incoming,
        decision: &Decision,
        direction: Direction,
    ) -> Counted<Incoming> {
        Counted::new(body, self.border(), decision, direction, self.on_denial())
    }

    /// The answer as the program gets it.
    pub(super) fn returned(
        &self,
        response: Response<Incoming>,
        decision: &Decision,
    ) -> Result<Response<Body>, Denial> {
        let (mut head, body) = response.into_parts();
        headers::strip(&mut head.headers);
        head.version = Version::default();
        let body = self.counted(body, decision, Direction::In);
        let body = self.secrets.returned(&mut head, body)?;
        Ok(Response::from_parts(head, body))
    }

    /// Records what ends a body.
    fn on_denial(&self) -> OnDenial {
        let (border, subject) = (Arc::clone(self.border()), self.subject.clone());
        let recorded = Arc::clone(&self.recorded);
        Box::new(move |denied| {
            recorded.store(true, Ordering::Relaxed);
            border.deny(&subject, denied);
        })
    }

    /// The request as it leaves: the URL is put together from what was decided about, not taken
    /// from what the program wrote.
    pub(super) fn rewritten(
        &self,
        head: Parts,
        filled: Filled,
        body: Body,
    ) -> Result<Request<Body>, Denial> {
        let Origin { host, port, scheme, .. } = self.origin;
        let bad = || denial(DenyReason::MalformedRequest, format!("{host}: it has no URL"));
        let uri = Uri::builder()
            .scheme(scheme.as_str())
            .authority(target::authority(host, *port, *scheme).ok_or_else(bad)?)
            .path_and_query(filled.target)
            .build()
            .map_err(|_| bad())?;
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = head.headers;
        self.add_proxy_authorization(request.headers_mut());
        Ok(request)
    }

    fn add_proxy_authorization(&self, headers: &mut HeaderMap) {
        if self.origin.scheme == Scheme::Http
            && let Some(forward) =
                self.border().upstream.forward(&self.origin.host, self.origin.port)
            && let Some(authorization) = forward.authorization
        {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
    }

    pub(super) async fn send(
        &self,
        request: Request<Body>,
        alpn: Alpn,
    ) -> Result<Response<Incoming>, Denial> {
        let wait = self.border().limits.response_wait;
        match timeout(wait, self.border().clients.send(request, alpn)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => {
                Err(unreachable(&self.origin.host, self.origin.port, UpstreamError::Timeout(wait)))
            }
        }
    }

    /// Looks for what we know among the causes; the rest is the host's connection.
    fn failed(&self, error: &hyper_util::client::legacy::Error) -> Denial {
        let (host, port) = (&self.origin.host, self.origin.port);
        let mut cause = error.source();
        let mut last = "the connection failed".to_owned();
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<UpstreamError>() {
                return unreachable(host, port, error.clone());
            }
            if let Some(Ended(denial)) = error.downcast_ref::<Ended>() {
                return denial.clone();
            }
            last = error.to_string();
            cause = error.source();
        }
        if let Some(error) = self.conn.requests.as_ref().and_then(|all| all.body_violation()) {
            return denial(DenyReason::MalformedRequest, format!("{host}: {error}"));
        }
        unreachable(host, port, UpstreamError::Broken(last))
    }
}
