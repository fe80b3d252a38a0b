//! HTTP/1.1 to one endpoint: connecting (directly, through a proxy, with TLS), keeping connections
//! alive between calls, and reading bodies within bounds of time and size.
//!
//! This is hyper without a client library on top. Redirects are never followed, so a key cannot
//! leave for another host; nothing is sent twice, except when a kept connection turns out to be
//! closed before a single byte of an answer came; and trust roots are loaded only when the first
//! TLS connection is made.

mod connect;
mod endpoint;
mod exchange;
mod pool;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Request, Response};
use moat_core::Retryable;

pub(crate) use endpoint::Endpoint;
pub(crate) use exchange::Exchange;

use connect::{Connector, Route};
use pool::Pool;
use tls::Tls;

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection: looking the name up, connecting, the proxy and TLS together.
    pub connect: Duration,
    /// From the request to the head of the answer.
    pub first_byte: Duration,
    /// Between two pieces of the answer's body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(600),
            idle: Duration::from_secs(300),
        }
    }
}

/// Proxies, in the spelling of the well-known environment variables. The program reads those; this
/// crate does not. This machine itself (`localhost`, loopback addresses) is never reached through a
/// proxy.
#[derive(Clone, Default)]
pub struct ProxyOptions {
    /// `HTTPS_PROXY`: for `https` base URLs. `http://[user:password@]host:port`.
    pub https: Option<String>,
    /// `HTTP_PROXY`: for `http` base URLs.
    pub http: Option<String>,
    /// `NO_PROXY`: hosts, domains and address ranges that are reached directly, by comma.
    pub no_proxy: Option<String>,
}

impl std::fmt::Debug for ProxyOptions {
    /// Proxy URLs may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyOptions")
            .field("https", &self.https.is_some())
            .field("http", &self.http.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// What goes wrong below HTTP's status codes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[error("{0}")]
    Configuration(String),
    #[error("cannot connect to {peer}: {reason}")]
    Connect { peer: String, reason: String },
    #[error("no answer from {peer} within {} s while {what}", after.as_secs_f64())]
    Timeout { peer: String, what: &'static str, after: Duration },
    #[error("the connection to {peer} broke before an answer came: {reason}")]
    Broken { peer: String, reason: String },
    #[error("the answer of {peer} broke off: {reason}")]
    Cut { peer: String, reason: String },
    #[error("{peer} does not speak HTTP/1.1: {reason}")]
    NotHttp { peer: String, reason: String },
    #[error("the answer of {peer} is larger than {limit} bytes")]
    TooLarge { peer: String, limit: u64 },
}

impl Retryable for TransportError {
    fn is_retryable(&self) -> bool {
        !matches!(self, Self::Configuration(_) | Self::TooLarge { .. })
    }
}

/// Settings of an [`HttpClient`].
pub(crate) struct HttpOptions {
    pub endpoint: Endpoint,
    pub proxy: ProxyOptions,
    pub extra_ca: Option<PathBuf>,
    pub timeouts: Timeouts,
    pub max_response_bytes: u64,
}

/// Sends requests to one endpoint.
pub(crate) struct HttpClient {
    connector: Connector,
    timeouts: Timeouts,
    max_response_bytes: u64,
    pool: Pool,
}

impl HttpClient {
    pub(crate) fn new(options: HttpOptions) -> Result<Self, TransportError> {
        let route = Route::new(&options.endpoint, &options.proxy)?;
        let tls = options.endpoint.is_tls().then(|| Tls::new(options.extra_ca));
        Ok(Self {
            connector: Connector::new(options.endpoint, route, tls),
            timeouts: options.timeouts,
            max_response_bytes: options.max_response_bytes,
            pool: Pool::default(),
        })
    }

    /// The peer as errors name it: scheme, host and port.
    pub(crate) fn peer(&self) -> &str {
        self.connector.endpoint().origin()
    }

    /// Posts a body and waits for the head of the answer.
    pub(crate) async fn post(
        &self,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Exchange, TransportError> {
        if let Some(mut connection) = self.pool.take().await {
            let request = self.request(headers, body.clone())?;
            match self.send(&mut connection, request).await? {
                Ok(response) => return Ok(self.exchange(response, connection)),
                // The server had closed it: others that are as old are no better.
                Err(error) if is_stale(&error) => self.pool.clear(),
                Err(error) => return Err(self.send_error(&error)),
            }
        }
        let mut connection = self.connect().await?;
        let request = self.request(headers, body)?;
        match self.send(&mut connection, request).await? {
            Ok(response) => Ok(self.exchange(response, connection)),
            Err(error) => Err(self.send_error(&error)),
        }
    }

    async fn send(
        &self,
        connection: &mut pool::Connection,
        request: Request<Full<Bytes>>,
    ) -> Result<Result<Response<Incoming>, hyper::Error>, TransportError> {
        let sent = tokio::time::timeout(self.timeouts.first_byte, connection.send(request));
        sent.await.map_err(|_| TransportError::Timeout {
            peer: self.peer().to_owned(),
            what: "waiting for the answer to begin",
            after: self.timeouts.first_byte,
        })
    }

    fn exchange(&self, response: Response<Incoming>, connection: pool::Connection) -> Exchange {
        let peer = self.peer().to_owned();
        Exchange::new(response, connection, peer, self.timeouts.idle, self.max_response_bytes)
    }

    /// Gives a connection back whose answer is read, or read as far as it matters.
    pub(crate) fn keep(&self, exchange: Exchange) {
        self.pool.put(exchange.into_connection());
    }

    async fn connect(&self) -> Result<pool::Connection, TransportError> {
        tokio::time::timeout(self.timeouts.connect, self.connector.connect(self.timeouts.connect))
            .await
            .unwrap_or_else(|_| {
                Err(TransportError::Timeout {
                    peer: self.peer().to_owned(),
                    what: "connecting",
                    after: self.timeouts.connect,
                })
            })
    }

    fn request(
        &self,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, TransportError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.connector.request_target();
        let map = request.headers_mut();
        map.insert(HOST, self.connector.endpoint().host_header()?);
        if let Some(authorization) = self.connector.proxy_authorization() {
            map.insert(PROXY_AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            map.insert(name.clone(), value.clone());
        }
        Ok(request)
    }

    fn send_error(&self, error: &hyper::Error) -> TransportError {
        let (peer, reason) = (self.peer().to_owned(), describe(error));
        if error.is_parse() {
            return TransportError::NotHttp { peer, reason };
        }
        TransportError::Broken { peer, reason }
    }
}

/// Whether a connection ended before any of an answer came: the usual end of a kept connection
/// that the server closed at the same moment.
fn is_stale(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_closed() || error.is_incomplete_message() || is_io(error)
}

fn is_io(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// An error with its causes, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
