//! The way from the harness to hosts: names resolved on this side, each address judged and then
//! connected to exactly, the organisation's proxy and certificate authorities.

mod proxy;
mod reach;
mod tls;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

pub use proxy::ProxyOptions;
pub use reach::{Reach, SystemReach};
pub(crate) use tls::Alpn;

use crate::policy::check::{Check, is_on};
use crate::policy::{Denial, DenyReason, Host};
use proxy::Proxies;
use tls::Roots;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 16;
/// Names that are resolved at once, over all sandboxes: each may hold a thread of this process.
const MAX_LOOKUPS: usize = 32;

/// How hosts are reached. The defaults are: directly, with the host's certificate authorities.
#[derive(Clone, Debug, Default)]
pub struct UpstreamOptions {
    /// The organisation's proxy.
    pub proxy: ProxyOptions,
    /// A file of certificate authorities (PEM) that are trusted beside the host's.
    pub extra_ca: Option<PathBuf>,
}

/// Reaches hosts for all sandboxes of a process; share one.
pub struct Upstream {
    proxies: Proxies,
    roots: Roots,
    reach: Arc<dyn Reach>,
    lookups: Semaphore,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream(..)")
    }
}

/// Why a host could not be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// The options cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// The policy refuses every address of the name.
    #[error("its address {address} is refused: {denial}")]
    Address {
        /// The first one.
        address: IpAddr,
        /// Why.
        denial: Denial,
    },
    /// The name has no address.
    #[error("its name cannot be resolved: {0}")]
    Name(String),
    /// No address answers.
    #[error("it cannot be connected to: {0}")]
    Connect(String),
    /// It hung up, or said what is not HTTP.
    #[error("its connection failed: {0}")]
    Broken(String),
    /// The proxy did not connect.
    #[error("the proxy {0}")]
    Proxy(String),
    /// Its certificate is not one for this name by an authority that is trusted.
    #[error("its TLS cannot be trusted: {0}")]
    Tls(String),
    /// It took too long.
    #[error("it did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl UpstreamError {
    /// Why the connection is refused.
    pub fn reason(&self) -> DenyReason {
        match self {
            Self::Address { denial, .. } => denial.reason,
            Self::Name(_) => DenyReason::NotResolved,
            Self::Configuration(_) | Self::Connect(_) | Self::Broken(_) | Self::Proxy(_) => {
                DenyReason::UpstreamFailed
            }
            Self::Tls(_) => DenyReason::ServerUntrusted,
            Self::Timeout(_) => DenyReason::TooSlow,
        }
    }
}

/// Judges an address before it is connected to.
pub(crate) type Judge<'a> = &'a (dyn Fn(IpAddr) -> Result<(), Denial> + Send + Sync);

/// A connection to a host, or to a proxy that forwards to it.
pub(crate) struct Reached {
    pub(crate) stream: TcpStream,
    /// The stream leads to a proxy that wants whole URLs, with this authorization.
    pub(crate) forwards: Option<proxy::Forward>,
}

impl Upstream {
    /// Reaches hosts as said.
    pub fn new(options: &UpstreamOptions) -> Result<Arc<Self>, UpstreamError> {
        Self::with_reach(options, Arc::new(SystemReach))
    }

    /// Resolves and dials through something else than this host's system.
    pub fn with_reach(
        options: &UpstreamOptions,
        reach: Arc<dyn Reach>,
    ) -> Result<Arc<Self>, UpstreamError> {
        Ok(Arc::new(Self {
            proxies: Proxies::new(&options.proxy)?,
            roots: Roots::new(options.extra_ca.clone()),
            reach,
            lookups: Semaphore::new(MAX_LOOKUPS),
        }))
    }

    /// Reads the certificate authorities now, which else happens when TLS is first spoken.
    ///
    /// # Errors
    ///
    /// There are none, or the extra file cannot be used.
    pub async fn load_roots(&self) -> Result<(), UpstreamError> {
        self.roots.load().await
    }

    /// A stream to a host for bytes that are passed on as they are, or for TLS.
    pub(crate) async fn connect(
        &self,
        host: &Host,
        port: u16,
        judge: Judge<'_>,
        wait: Duration,
    ) -> Result<TcpStream, UpstreamError> {
        let reached = timeout(wait, async {
            let Some(proxy) = self.proxies.tunnel(host, port) else {
                return self.direct(host, port, judge, wait).await;
            };
            let mut stream = self.to_proxy(proxy, wait).await?;
            proxy.connect(&mut stream, host, port).await?;
            Ok(stream)
        });
        reached.await.map_err(|_| UpstreamError::Timeout(wait))?
    }

    /// A stream for plain HTTP to a host.
    pub(crate) async fn connect_plain(
        &self,
        host: &Host,
        port: u16,
        judge: Judge<'_>,
        wait: Duration,
    ) -> Result<Reached, UpstreamError> {
        let reached = timeout(wait, async {
            let Some(proxy) = self.proxies.forward(host, port) else {
                let stream = self.direct(host, port, judge, wait).await?;
                return Ok(Reached { stream, forwards: None });
            };
            let stream = self.to_proxy(proxy, wait).await?;
            Ok(Reached { stream, forwards: Some(proxy.forwarding()) })
        });
        reached.await.map_err(|_| UpstreamError::Timeout(wait))?
    }

    /// Whether plain HTTP to a host goes through a proxy, and what that wants to know.
    pub(crate) fn forward(&self, host: &Host, port: u16) -> Option<proxy::Forward> {
        self.proxies.forward(host, port).map(proxy::Proxy::forwarding)
    }

    async fn to_proxy(
        &self,
        proxy: &proxy::Proxy,
        wait: Duration,
    ) -> Result<TcpStream, UpstreamError> {
        // The proxy is the organisation's: its address is nobody's to judge.
        self.direct(proxy.host(), proxy.port(), &|_| Ok(()), wait)
            .await
            .map_err(|error| UpstreamError::Proxy(format!("cannot be reached: {error}")))
    }

    async fn direct(
        &self,
        host: &Host,
        port: u16,
        judge: Judge<'_>,
        wait: Duration,
    ) -> Result<TcpStream, UpstreamError> {
        let deadline = Instant::now() + wait;
        let addresses = self.addresses(host, port).await?;
        let mut allowed = judged(&addresses, judge)?;
        if !is_on(Check::SingleLookup) {
            allowed = self.addresses(host, port).await?;
        }
        let mut reason = String::new();
        for (tried, address) in allowed.iter().enumerate() {
            // Each address gets its share of what is left, so that a dead one leaves time for the
            // others.
            let left = u32::try_from(allowed.len().saturating_sub(tried)).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
            match timeout(share, self.reach.dial(*address)).await {
                Ok(Ok(stream)) => {
                    tune(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => reason = format!("{}: {error}", address.ip()),
                Err(_) => reason = format!("{}: no answer", address.ip()),
            }
        }
        Err(UpstreamError::Connect(reason))
    }

    async fn addresses(&self, host: &Host, port: u16) -> Result<Vec<SocketAddr>, UpstreamError> {
        let name = match host {
            Host::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
            Host::Name(name) => name,
        };
        let failed = |error: &dyn fmt::Display| UpstreamError::Name(error.to_string());
        let _turn = self.lookups.acquire().await.map_err(|error| failed(&error))?;
        let mut addresses = self.reach.resolve(name, port).await.map_err(|error| failed(&error))?;
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            return Err(failed(&"it has no address"));
        }
        Ok(addresses)
    }
}

/// The addresses that may be connected to. What was judged is what is dialled: the name is not
/// looked up again, so it cannot lead elsewhere in between.
fn judged(addresses: &[SocketAddr], judge: Judge<'_>) -> Result<Vec<SocketAddr>, UpstreamError> {
    let mut refused = None;
    let mut allowed = Vec::new();
    for address in addresses {
        match judge(address.ip().to_canonical()) {
            Ok(()) => allowed.push(*address),
            Err(denial) if refused.is_none() => refused = Some((address.ip(), denial)),
            Err(_) => {}
        }
    }
    match refused {
        Some((address, denial)) if allowed.is_empty() => {
            Err(UpstreamError::Address { address, denial })
        }
        _ => Ok(allowed),
    }
}

/// Small packets at once, and a peer that vanished is noticed within about a minute also while
/// nothing is being sent. None of this is worth failing for.
pub(crate) fn tune(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(30));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10));
    let _ = sockopt::set_tcp_keepcnt(stream, 3);
}
