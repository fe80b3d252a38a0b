//! TLS from inside: passed on, opened, or refused in words.

use std::io;
use std::sync::Arc;

use rustls::server::{ClientHello as Hello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ServerConfig};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::border::{Border, Protocol, Subject, denial};
use crate::connection::{Arrived, tunnel};
use crate::http::{self, Origin, Role};
use crate::policy::check::{Check, is_on};
use crate::policy::{Denial, DenyReason, Handling, Host, Scheme, Verdict};
use crate::sniff::ClientHello;

/// A connection to a host over which TLS begins.
pub(crate) async fn arrived(
    border: Arc<Border>,
    host: Host,
    port: u16,
    hello: ClientHello,
    stream: Arrived,
) {
    let subject = Subject::new(&host, port, Protocol::Tls);
    let verdict = border.rules.get().connect(&host, port, Some(Scheme::Https));
    let checked = match verdict {
        Verdict::Allow(allowed) => check(&host, &hello, allowed.handling).map(|()| allowed),
        Verdict::Deny(denied) => Err(denied),
    };
    let (denied, stream) = match checked {
        Ok(allowed) if allowed.handling == Handling::Open => {
            open(border, host, port, stream).await;
            return;
        }
        Ok(allowed) => match tunnel(&border, &host, &subject, &allowed, stream).await {
            Ok(()) => return,
            Err(failed) => failed,
        },
        Err(denied) => {
            border.deny(&subject, &denied);
            (denied, stream)
        }
    };
    refuse(border, host, port, &hello, denied, stream).await;
}

/// The name in the clear has to be the host's: what a server answers hangs on it, not on where the
/// connection goes.
fn check(host: &Host, hello: &ClientHello, handling: Handling) -> Result<(), Denial> {
    let asked = hello.server_name.as_deref();
    let is_same = match (host, asked) {
        (Host::Address(_), None) => true,
        (Host::Name(_), None) => !is_on(Check::ServerNamePresent),
        (host, Some(name)) => Host::parse(name).is_ok_and(|name| name == *host),
    };
    if is_on(Check::ServerName) && !is_same {
        let asked = asked.unwrap_or("no name at all");
        let what = format!("{host}: TLS asks for {asked}; the server name has to be the host");
        return Err(denial(DenyReason::SniMismatch, what));
    }
    // What is opened is not sent on, so nothing can hide in it.
    if is_on(Check::EncryptedHello) && hello.encrypted && handling != Handling::Open {
        let what = format!(
            "{host}: the server name is encrypted (ECH); switch that off in the program, or have \
             TLS of this host opened"
        );
        return Err(denial(DenyReason::EncryptedHello, what));
    }
    Ok(())
}

async fn open(border: Arc<Border>, host: Host, port: u16, stream: Arrived) {
    let subject = Subject::new(&host, port, Protocol::Tls);
    match accept(&border, &host, stream).await {
        Ok(stream) => {
            let origin = Origin { host, port, scheme: Scheme::Https, refusal: None };
            serve(border, origin, stream).await;
        }
        Err(failed) => {
            let denied = match failed {
                Failed::Refused => denial(
                    DenyReason::ClientPins,
                    format!(
                        "{host}: the program does not accept the sandbox's authority; it pins \
                         certificates, or brings authorities of its own"
                    ),
                ),
                Failed::Slow => denial(DenyReason::TooSlow, format!("{host}: TLS did not begin")),
                Failed::Broken(why) => {
                    denial(DenyReason::MalformedRequest, format!("{host}: TLS failed: {why}"))
                }
            };
            border.deny(&subject, &denied);
        }
    }
}

/// Says why in HTTP over TLS, to who trusts the sandbox's authority. Others see TLS fail.
async fn refuse(
    border: Arc<Border>,
    host: Host,
    port: u16,
    hello: &ClientHello,
    denied: Denial,
    stream: Arrived,
) {
    let asked = hello.server_name.as_deref().and_then(|name| Host::parse(name).ok());
    let host = asked.unwrap_or(host);
    if let Ok(stream) = accept(&border, &host, stream).await {
        let origin = Origin { host, port, scheme: Scheme::Https, refusal: Some(denied) };
        serve(border, origin, stream).await;
    }
}

async fn serve(border: Arc<Border>, origin: Origin, stream: TlsStream<Arrived>) {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    if is_http2 {
        Box::pin(http::serve_http2(border, origin, stream)).await;
    } else {
        Box::pin(http::serve_http1(border, Role::Origin(origin), stream)).await;
    }
}

enum Failed {
    Refused,
    Slow,
    Broken(String),
}

async fn accept(
    border: &Border,
    host: &Host,
    stream: Arrived,
) -> Result<TlsStream<Arrived>, Failed> {
    let config = config(border, host).map_err(Failed::Broken)?;
    match timeout(border.limits.request_wait, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(Failed::Slow),
    }
}

/// Programs refuse a certificate with an alert, or by hanging up.
fn failed(error: &io::Error) -> Failed {
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match alert {
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        )) => Failed::Refused,
        Some(error) => Failed::Broken(error.to_string()),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Failed::Refused,
            _ => Failed::Broken(error.to_string()),
        },
    }
}

fn config(border: &Border, host: &Host) -> Result<Arc<ServerConfig>, String> {
    let key = border.authority.certified(host).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The certificate for the host that the connection is for; the name that is asked for was checked.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: Hello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
