use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::body::Body;
use super::target::split;
use crate::border::Rules;
use crate::limits::EgressLimits;
use crate::policy::Scheme;
use crate::stream::Duplex;
use crate::tasks::Tasks;
use crate::upstream::{Alpn, Upstream, UpstreamError};

/// Idle connections to one host that are kept, and for how long.
const MAX_IDLE: usize = 8;
const KEPT: Duration = Duration::from_secs(30);

/// The connections of one sandbox to hosts, kept for its next requests. They are never shared with
/// another sandbox, which may have another policy.
pub(crate) struct Clients {
    connect: Connect,
    tasks: Tasks,
    pools: RwLock<Pools>,
}

#[derive(Clone)]
struct Pools {
    any: Client<Connect, Body>,
    http1: Client<Connect, Body>,
}

impl Clients {
    pub(crate) fn new(
        upstream: &Arc<Upstream>,
        rules: &Rules,
        limits: &EgressLimits,
        tasks: &Tasks,
    ) -> Self {
        let connect = Connect {
            upstream: Arc::clone(upstream),
            rules: rules.clone(),
            limits: limits.clone(),
            alpn: Alpn::Any,
        };
        let pools = RwLock::new(pools(&connect, tasks));
        Self { connect, tasks: tasks.clone(), pools }
    }

    /// Sends a request, and gives its answer once the head is there.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
        alpn: Alpn,
    ) -> Result<Response<Incoming>, Error> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner).clone();
        match alpn {
            Alpn::Any => pools.any.request(request).await,
            Alpn::Http1 => pools.http1.request(request).await,
        }
    }

    /// Opens new connections from now on: those that are kept were judged by another policy.
    pub(crate) fn forget(&self) {
        let fresh = pools(&self.connect, &self.tasks);
        *self.pools.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

fn pools(connect: &Connect, tasks: &Tasks) -> Pools {
    let build = |alpn: Alpn| {
        let head = connect.limits.header_bytes;
        Client::builder(tasks.clone())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_idle_timeout(KEPT)
            .http1_max_buf_size(head.max(super::MIN_BUFFER))
            .http1_max_headers(connect.limits.header_fields)
            .http2_initial_stream_window_size(super::STREAM_WINDOW)
            .http2_initial_connection_window_size(super::CONNECTION_WINDOW)
            .http2_max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
            .build(Connect { alpn, ..connect.clone() })
    };
    Pools { any: build(Alpn::Any), http1: build(Alpn::Http1) }
}

/// Opens a connection for a URL whose host was decided about.
#[derive(Clone)]
struct Connect {
    upstream: Arc<Upstream>,
    rules: Rules,
    limits: EgressLimits,
    alpn: Alpn,
}

impl tower_service::Service<Uri> for Connect {
    type Response = Link;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Link, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connect = self.clone();
        Box::pin(async move { connect.open(&uri).await })
    }
}

impl Connect {
    async fn open(&self, uri: &Uri) -> Result<Link, UpstreamError> {
        let is_tls = uri.scheme_str() == Some("https");
        let scheme = if is_tls { Scheme::Https } else { Scheme::Http };
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let (host, port) = split(authority, scheme)
            .ok_or_else(|| UpstreamError::Name("it is no host".to_owned()))?;
        let judge = |address| self.rules.judge(&host, port, address);
        let wait = self.limits.connect_wait;
        if !is_tls {
            let reached = self.upstream.connect_plain(&host, port, &judge, wait).await?;
            let is_proxy = reached.forwards.is_some();
            return Ok(Link { is_proxy, ..Link::new(reached.stream) });
        }
        let stream = self.upstream.connect(&host, port, &judge, wait).await?;
        let stream = self.upstream.secure(&host, stream, self.alpn, wait).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Link { is_http2, ..Link::new(stream) })
    }
}

/// A connection to a host.
struct Link {
    stream: TokioIo<Box<dyn Duplex>>,
    is_proxy: bool,
    is_http2: bool,
}

impl Link {
    fn new(stream: impl Duplex + 'static) -> Self {
        Self { stream: TokioIo::new(Box::new(stream)), is_proxy: false, is_http2: false }
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.is_proxy);
        if self.is_http2 { connected.negotiated_h2() } else { connected }
    }
}

impl hyper::rt::Read for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
