//! A connection from inside: whose it is, what is spoken over it, what becomes of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::border::{Border, Protocol, Subject, denial, limit};
use crate::dns;
use crate::http::{self, Origin, Role};
use crate::policy::check::{Check, is_on};
use crate::policy::{Allowed, Denial, DenyReason, Handling, Host, Scheme, Verdict};
use crate::sniff::{First, host_field};
use crate::stream::{Duplex, Prefixed};
use crate::tls;
use crate::tunnel::pass;
use crate::upstream::{UpstreamError, tune};

/// How long a program may stay silent on a connection that is refused in any case.
const REFUSED_WAIT: Duration = Duration::from_secs(5);
/// The port of the resolver, at the gateway.
const DNS_PORT: u16 = 53;

/// A connection whose first bytes may have been read, of whatever transport.
pub(crate) type Arrived = Prefixed<Box<dyn Duplex>>;

/// Takes a connection to the end.
pub(crate) async fn arrived(border: Arc<Border>, stream: TcpStream) {
    tune(&stream);
    let Ok(SocketAddr::V4(local)) = stream.local_addr() else { return };
    let (address, port) = (*local.ip(), local.port());
    let stream: Arrived = Prefixed::new(Bytes::new(), Box::new(stream));
    if address == border.names.range().gateway() {
        if port == border.proxy_port {
            Box::pin(http::serve_http1(border, Role::Proxy, stream)).await;
        } else if port == DNS_PORT {
            resolver(&border, stream).await;
        }
        return;
    }
    if !border.names.range().contains(address) {
        return;
    }
    match border.names.name(address) {
        Some((name, _pinned)) => leave(border, Host::Name(name), port, stream).await,
        None => unknown(border, address, port, stream).await,
    }
}

/// An address that nobody asked for since this side began: what is said first may tell the name
/// that it stood for before.
async fn unknown(border: Arc<Border>, address: Ipv4Addr, port: u16, mut stream: Arrived) {
    let named = match stream.first(REFUSED_WAIT).await {
        First::Tls(hello) => hello.server_name,
        First::Http1 => host_field(stream.read_ahead()),
        _ => None,
    };
    let host = named.and_then(|name| Host::parse(&name).ok());
    match &host {
        Some(Host::Name(name)) if border.names.learn(address, name) => {
            leave(border, Host::Name(name.clone()), port, stream).await;
        }
        _ => {
            let subject = Subject::new(address, port, Protocol::Tcp);
            let what = format!("nothing is known of the address {address}; resolve its name again");
            border.deny(&subject, &denial(DenyReason::InvalidHost, what));
        }
    }
}

/// A connection to a host and port, however the program got there.
pub(crate) async fn leave(border: Arc<Border>, host: Host, port: u16, mut stream: Arrived) {
    let verdict = border.rules.get().connect(&host, port, None);
    if let Verdict::Allow(allowed) = &verdict
        && allowed.handling == Handling::Raw
    {
        let protocol = if port == 22 { Protocol::Ssh } else { Protocol::Tcp };
        let subject = Subject::new(&host, port, protocol);
        let _ = tunnel(&border, &host, &subject, allowed, stream).await;
        return;
    }
    let wait = border.limits.request_wait;
    let wait = if verdict.is_allowed() { wait } else { wait.min(REFUSED_WAIT) };
    match stream.first(wait).await {
        First::Tls(hello) => Box::pin(tls::arrived(border, host, port, hello, stream)).await,
        First::Http1 => {
            let origin = Origin { host, port, scheme: Scheme::Http, refusal: None };
            Box::pin(http::serve_http1(border, Role::Origin(origin), stream)).await;
        }
        first => {
            let subject = Subject::new(&host, port, Protocol::Tcp);
            match (verdict, not_understood(&host, port, &first, stream.is_silent())) {
                (Verdict::Deny(denied), _) => border.deny(&subject, &denied),
                (Verdict::Allow(allowed), _) if !is_on(Check::KnownProtocol) => {
                    let _ = tunnel(&border, &host, &subject, &allowed, stream).await;
                }
                (Verdict::Allow(_), denied) => border.deny(&subject, &denied),
            }
        }
    }
}

fn not_understood(host: &Host, port: u16, first: &First, is_silent: bool) -> Denial {
    match first {
        First::BadTls(error) => denial(DenyReason::MalformedRequest, format!("{host}: {error}")),
        First::More if is_silent => {
            denial(DenyReason::TooSlow, format!("{host}:{port}: the program said nothing"))
        }
        First::More => denial(DenyReason::TooSlow, format!("{host}:{port}: the program stopped")),
        _ => denial(
            DenyReason::UnknownProtocol,
            format!(
                "{host}:{port}: it is neither TLS nor HTTP/1; allow other protocols with \
                 `--net tcp://{host}:{port}`"
            ),
        ),
    }
}

/// Connects to the host and passes bytes on as they are. If that cannot be, the stream is given
/// back with why; it is recorded already.
pub(crate) async fn tunnel(
    border: &Border,
    host: &Host,
    subject: &Subject,
    allowed: &Allowed,
    stream: Arrived,
) -> Result<(), (Denial, Arrived)> {
    let outside = match border.count_request() {
        Err(denied) => Err(denied),
        Ok(()) => {
            let judge = |address| border.rules.judge(host, subject.port, address);
            let wait = border.limits.connect_wait;
            let connected = border.upstream.connect(host, subject.port, &judge, wait).await;
            connected.map_err(|error| unreachable(host, subject.port, error))
        }
    };
    let outside = match outside {
        Ok(outside) => outside,
        Err(denied) => {
            border.deny(subject, &denied);
            return Err((denied, stream));
        }
    };
    let decision = border.allow(subject, allowed.rule.clone(), Vec::new());
    let passed = pass(stream, outside, &border.limits, &border.meter).await;
    border.decisions.add_bytes(&decision, passed.sent, passed.received);
    if let Some(reached) = passed.limit {
        border.deny(subject, &limit(reached));
    }
    Ok(())
}

/// Why a host cannot be reached, in words.
pub(crate) fn unreachable(host: &Host, port: u16, error: UpstreamError) -> Denial {
    match error {
        UpstreamError::Address { denial, .. } => denial,
        error => Denial {
            reason: error.reason(),
            rule: None,
            teach: format!("{host}:{port} is allowed, and failed: {error}"),
        },
    }
}

/// Queries over TCP, each with its length before it.
async fn resolver(border: &Border, mut stream: Arrived) {
    let mut query = [0; dns::MAX_QUERY];
    loop {
        let one = async {
            let length = usize::from(stream.read_u16().await.ok()?);
            let query = query.get_mut(..length)?;
            stream.read_exact(query).await.ok()?;
            let answer = border.resolve(query)?;
            stream.write_u16(u16::try_from(answer.len()).ok()?).await.ok()?;
            stream.write_all(&answer).await.ok()
        };
        if !matches!(timeout(border.limits.request_wait, one).await, Ok(Some(()))) {
            return;
        }
    }
}
