use std::time::Duration;

use http_body_util::Full;
use hyper::Uri;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;

use super::pool::Connection;
use super::tls::Tls;
use super::{Endpoint, ProxyOptions, TransportError, describe};

/// The longest head of a proxy's answer to `CONNECT`, in bytes.
const MAX_PROXY_HEAD: usize = 8 << 10;
/// The longest head of an answer, in bytes.
const MAX_RESPONSE_HEAD: usize = 128 << 10;

/// The way to the endpoint.
pub(super) enum Route {
    Direct,
    Proxy { host: String, port: u16, authorization: Option<HeaderValue> },
}

impl Route {
    pub(super) fn new(endpoint: &Endpoint, proxy: &ProxyOptions) -> Result<Self, TransportError> {
        if endpoint.is_loopback() {
            return Ok(Self::Direct);
        }
        let matcher = Matcher::builder()
            .https(proxy.https.as_deref().unwrap_or_default())
            .http(proxy.http.as_deref().unwrap_or_default())
            .no(proxy.no_proxy.as_deref().unwrap_or_default())
            .build();
        let Some(through) = matcher.intercept(endpoint.uri()) else {
            return Ok(Self::Direct);
        };
        let (Some("http"), Some(host)) = (through.uri().scheme_str(), through.uri().host()) else {
            return Err(TransportError::Configuration(
                "the proxy for the model cannot be used: only `http://host:port` proxies are known"
                    .to_owned(),
            ));
        };
        Ok(Self::Proxy {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: through.uri().port_u16().unwrap_or(80),
            authorization: through.basic_auth().cloned(),
        })
    }
}

/// Makes connections to one endpoint.
pub(super) struct Connector {
    endpoint: Endpoint,
    route: Route,
    tls: Option<Tls>,
}

impl Connector {
    pub(super) fn new(endpoint: Endpoint, route: Route, tls: Option<Tls>) -> Self {
        Self { endpoint, route, tls }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What stands in the request line: a path, or the whole URL for a proxy that forwards.
    pub(super) fn request_target(&self) -> Uri {
        if self.forwards() {
            return self.endpoint.uri().clone();
        }
        let path = self.endpoint.uri().path_and_query().cloned();
        path.map(Uri::from).unwrap_or_default()
    }

    /// The header for a proxy that forwards; one that tunnels gets it with `CONNECT`.
    pub(super) fn proxy_authorization(&self) -> Option<HeaderValue> {
        match &self.route {
            Route::Proxy { authorization, .. } if self.forwards() => authorization.clone(),
            _ => None,
        }
    }

    fn forwards(&self) -> bool {
        matches!(self.route, Route::Proxy { .. }) && self.tls.is_none()
    }

    /// Connects, within `budget` for all addresses of the name together.
    pub(super) async fn connect(&self, budget: Duration) -> Result<Connection, TransportError> {
        let mut stream = match &self.route {
            Route::Direct => self.dial(self.endpoint.host(), self.endpoint.port(), budget).await?,
            Route::Proxy { host, port, .. } => self.dial(host, *port, budget).await?,
        };
        let Some(tls) = &self.tls else {
            return self.handshake(stream).await;
        };
        if let Route::Proxy { authorization, .. } = &self.route {
            self.tunnel(&mut stream, authorization.as_ref()).await?;
        }
        let stream = tls.connect(self.endpoint.host(), self.endpoint.origin(), stream).await?;
        self.handshake(stream).await
    }

    async fn dial(
        &self,
        host: &str,
        port: u16,
        budget: Duration,
    ) -> Result<TcpStream, TransportError> {
        let failed = |reason: String| {
            let via = match self.route {
                Route::Direct => String::new(),
                Route::Proxy { .. } => format!(" (through the proxy {host}:{port})"),
            };
            TransportError::Connect { peer: format!("{}{via}", self.endpoint.origin()), reason }
        };
        let deadline = Instant::now() + budget;
        let addresses: Vec<_> =
            lookup_host((host, port)).await.map_err(|error| failed(describe(&error)))?.collect();
        let mut reason = "the name has no addresses".to_owned();
        for (tried, address) in addresses.iter().enumerate() {
            // Each address gets its share of what is left, so that a dead one leaves time for the
            // others.
            let left = u32::try_from(addresses.len().saturating_sub(tried)).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    tune(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => reason = format!("{address}: {error}"),
                Err(_) => reason = format!("{address}: no answer"),
            }
        }
        Err(failed(reason))
    }

    async fn tunnel(
        &self,
        stream: &mut TcpStream,
        authorization: Option<&HeaderValue>,
    ) -> Result<(), TransportError> {
        let failed = |reason: String| TransportError::Connect {
            peer: self.endpoint.origin().to_owned(),
            reason: format!("the proxy {reason}"),
        };
        let target = self.endpoint.host_and_port();
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        if let Some(authorization) = authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await.map_err(|error| failed(describe(&error)))?;

        // One byte at a time: what comes after the head belongs to TLS.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_PROXY_HEAD {
                return Err(failed("sent an endless head".to_owned()));
            }
            head.push(stream.read_u8().await.map_err(|_| failed("hung up".to_owned()))?);
        }
        let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        match (head.starts_with(b"HTTP/1."), status) {
            (true, b"200") => Ok(()),
            (true, b"407") => Err(failed("wants a user name and password (407)".to_owned())),
            (true, status) => Err(failed(format!(
                "refused to connect (status {})",
                String::from_utf8_lossy(status).escape_debug()
            ))),
            (false, _) => Err(failed("does not speak HTTP/1.1".to_owned())),
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<Connection, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_RESPONSE_HEAD)
            .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| TransportError::Connect {
                peer: self.endpoint.origin().to_owned(),
                reason: describe(&error),
            })?;
        // What the driver returns is also what every pending send and read returns.
        let driver = tokio::spawn(async move { driver.await.unwrap_or_default() });
        Ok(Connection::new(sender, driver))
    }
}

/// Small packets at once, and a peer that vanished is noticed within about a minute also while
/// nothing is being sent. None of this is worth failing for.
fn tune(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    #[cfg(target_os = "linux")]
    {
        let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(30));
        let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10));
        let _ = sockopt::set_tcp_keepcnt(stream, 3);
    }
}
