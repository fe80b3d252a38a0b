use std::fmt;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::UpstreamError;
use crate::policy::Host;

/// The longest head of a proxy's answer to `CONNECT`, in bytes.
const MAX_HEAD: usize = 8 << 10;

/// Proxies as `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name them. May hold a password.
#[derive(Clone, Default)]
pub struct ProxyOptions {
    /// The proxy for TLS and for connections that are passed on as they are.
    pub https: Option<String>,
    /// The proxy for plain HTTP.
    pub http: Option<String>,
    /// Hosts that are reached without a proxy.
    pub no_proxy: Option<String>,
}

impl fmt::Debug for ProxyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyOptions(..)")
    }
}

pub(super) struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    matcher: Matcher,
}

/// One proxy.
pub(crate) struct Proxy {
    host: Host,
    port: u16,
    authorization: Option<HeaderValue>,
}

/// What a proxy that forwards plain HTTP has to be told with each request.
#[derive(Clone)]
pub(crate) struct Forward {
    pub(crate) authorization: Option<HeaderValue>,
}

impl Proxies {
    pub(super) fn new(options: &ProxyOptions) -> Result<Self, UpstreamError> {
        let matcher = Matcher::builder()
            .https(options.https.as_deref().unwrap_or_default())
            .http(options.http.as_deref().unwrap_or_default())
            .no(options.no_proxy.as_deref().unwrap_or_default())
            .build();
        // Which hosts a proxy is for is asked each time; what it is follows from a host that no
        // exception is for.
        let unconditional = |options: ProxyOptions, scheme: &str| {
            let matcher = Matcher::builder()
                .https(options.https.unwrap_or_default())
                .http(options.http.unwrap_or_default())
                .build();
            let uri: Option<Uri> = format!("{scheme}://host.invalid/").parse().ok();
            uri.and_then(|uri| matcher.intercept(&uri)).map(|via| Proxy::new(&via)).transpose()
        };
        Ok(Self {
            https: unconditional(options.clone(), "https")?,
            http: unconditional(options.clone(), "http")?,
            matcher,
        })
    }

    pub(super) fn tunnel(&self, host: &Host, port: u16) -> Option<&Proxy> {
        self.https.as_ref().filter(|_| self.applies("https", host, port))
    }

    pub(super) fn forward(&self, host: &Host, port: u16) -> Option<&Proxy> {
        self.http.as_ref().filter(|_| self.applies("http", host, port))
    }

    fn applies(&self, scheme: &str, host: &Host, port: u16) -> bool {
        let uri = format!("{scheme}://{host}:{port}/").parse::<Uri>();
        // No proxy can reach this machine for us.
        let loopback = match host {
            Host::Address(address) => address.is_loopback(),
            Host::Name(name) => name.as_str() == "localhost",
        };
        !loopback && uri.is_ok_and(|uri| self.matcher.intercept(&uri).is_some())
    }
}

impl Proxy {
    fn new(via: &hyper_util::client::proxy::matcher::Intercept) -> Result<Self, UpstreamError> {
        let unusable = || {
            UpstreamError::Configuration(
                "the proxy of the organisation cannot be used: only `http://host:port` proxies \
                 are known"
                    .to_owned(),
            )
        };
        let (Some("http"), Some(host)) = (via.uri().scheme_str(), via.uri().host()) else {
            return Err(unusable());
        };
        Ok(Self {
            host: Host::parse(host).map_err(|_| unusable())?,
            port: via.uri().port_u16().unwrap_or(80),
            authorization: via.basic_auth().cloned(),
        })
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn forwarding(&self) -> Forward {
        Forward { authorization: self.authorization.clone() }
    }

    /// Asks for a tunnel to a host.
    pub(super) async fn connect(
        &self,
        stream: &mut TcpStream,
        host: &Host,
        port: u16,
    ) -> Result<(), UpstreamError> {
        let failed = |reason: &str| UpstreamError::Proxy(reason.to_owned());
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        request.push_str("User-Agent: moat\r\n");
        let mut request = request.into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await.map_err(|error| failed(&error.to_string()))?;

        // One byte at a time: what comes after the head belongs to the host.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_HEAD {
                return Err(failed("sent an endless head"));
            }
            head.push(stream.read_u8().await.map_err(|_| failed("hung up"))?);
        }
        let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        match (head.starts_with(b"HTTP/1."), status) {
            (true, [b'2', _, _]) => Ok(()),
            (true, b"407") => Err(failed("wants a user name and password (407)")),
            (true, status) => Err(failed(&format!(
                "refused to connect (status {})",
                String::from_utf8_lossy(status).escape_debug()
            ))),
            (false, _) => Err(failed("does not speak HTTP/1.1")),
        }
    }
}
