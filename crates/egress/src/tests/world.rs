//! One sandbox's network without a sandbox: programs are in-memory streams.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use moat_core::{EgressDecision, Secret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::server::{Seen, Server};
use crate::authority::Authority;
use crate::border::Border;
use crate::connection::leave;
use crate::egress::{Egress, EgressOptions, EgressSockets};
use crate::http::{Role, serve_http1};
use crate::limits::EgressLimits;
use crate::names::AddressRange;
use crate::policy::{Host, HostName, Level, NetworkPolicy, Policy};
use crate::secret::{LineageKey, SecretSet};
use crate::stream::{Duplex, Prefixed};
use crate::upstream::{ProxyOptions, Reach, Upstream, UpstreamOptions};

/// How long a program waits for an answer; limits in tests are far below.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct World {
    pub(super) egress: Egress,
    pub(super) border: Arc<Border>,
    pub(super) dialled: Arc<Mutex<Vec<SocketAddr>>>,
    pub(super) seen: Seen,
}

/// Names as a hostile or honest resolver answers them, and dialling that ends on the loopback.
struct Script {
    server: Server,
    lookups: Mutex<VecDeque<&'static str>>,
    dialled: Arc<Mutex<Vec<SocketAddr>>>,
}

#[async_trait]
impl Reach for Script {
    async fn resolve(&self, name: &HostName, port: u16) -> io::Result<Vec<SocketAddr>> {
        let scripted = self.lookups.lock().unwrap().pop_front();
        let addresses = match (scripted, name.as_str()) {
            (Some(addresses), _) => addresses,
            (None, "missing.test") => return Err(io::Error::other("no such name")),
            (None, _) => "93.184.216.34",
        };
        let addresses = addresses.split(' ').map(|one| SocketAddr::new(one.parse().unwrap(), port));
        Ok(addresses.collect())
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.dialled.lock().unwrap().push(address);
        if address.ip().is_loopback() && address.port() != 80 {
            return TcpStream::connect(address).await;
        }
        let real = match address.port() {
            443 | 8443 => self.server.tls,
            22 | 25 | 9000 => self.server.raw,
            _ => self.server.plain,
        };
        TcpStream::connect(real).await
    }
}

/// What a world is made from.
#[derive(Clone, Default)]
pub(super) struct Setup {
    pub(super) allow: Vec<&'static str>,
    pub(super) lookups: Vec<&'static str>,
    pub(super) limits: EgressLimits,
    /// The host's SSH agent.
    pub(super) ssh_agent: Option<std::path::PathBuf>,
    /// The organisation's proxy.
    pub(super) proxy: Option<&'static str>,
    /// Secrets as they are written, and their values.
    pub(super) secrets: Vec<(&'static str, &'static str)>,
}

impl World {
    pub(super) async fn new(setup: &Setup) -> Self {
        Self::with_sockets(setup, EgressSockets::default(), AddressRange::SYNTHETIC).await
    }

    pub(super) async fn with_sockets(
        setup: &Setup,
        sockets: EgressSockets,
        range: AddressRange,
    ) -> Self {
        let outside = Arc::new(Authority::generate().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let extra_ca = folder.path().join("ca.pem");
        std::fs::write(&extra_ca, outside.certificate_pem()).unwrap();
        let server = Server::start(outside).await;
        let dialled = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&server.seen);
        let reach = Script {
            server,
            lookups: Mutex::new(setup.lookups.iter().copied().collect()),
            dialled: Arc::clone(&dialled),
        };
        let proxy = setup.proxy.map(str::to_owned);
        let proxy = ProxyOptions { https: proxy.clone(), http: proxy, no_proxy: None };
        let options = UpstreamOptions { extra_ca: Some(extra_ca), proxy };
        let upstream = Upstream::with_reach(&options, Arc::new(reach)).unwrap();
        upstream.load_roots().await.unwrap();
        let mut document = NetworkPolicy::allowing(&setup.allow).unwrap();
        document.secrets = setup.secrets.iter().map(|(spec, _)| spec.parse().unwrap()).collect();
        let policy = Policy::compose([(Level::Run, document)]).unwrap();
        let authority = Arc::new(Authority::generate().unwrap());
        let values = policy.secrets().iter().zip(&setup.secrets);
        let values = values
            .filter(|(_, (_, value))| !value.is_empty())
            .map(|(spec, (_, value))| (spec.name.clone(), Secret::new(*value)));
        let secrets =
            SecretSet::new(policy.secrets(), &LineageKey::new([7; 32]), values.collect()).unwrap();
        let options = EgressOptions {
            secrets,
            range,
            ssh_agent: setup.ssh_agent.clone(),
            limits: setup.limits.clone(),
            ..EgressOptions::new(policy, authority, upstream)
        };
        let egress = Egress::start(sockets, options).unwrap();
        let border = egress.border();
        Self { egress, border, dialled, seen }
    }

    /// A stream on which a program reaches `host:port`.
    pub(super) fn connect(&self, host: &str, port: u16) -> impl Duplex + 'static + use<> {
        let (inside, outside) = tokio::io::duplex(64 << 10);
        let host = Host::parse(host).unwrap();
        let arrived = Prefixed::new(Bytes::new(), Box::new(outside) as Box<dyn Duplex>);
        tokio::spawn(leave(Arc::clone(&self.border), host, port, arrived));
        inside
    }

    /// A stream on which a program reaches the proxy.
    pub(super) fn proxy(&self) -> impl Duplex + 'static + use<> {
        let (inside, outside) = tokio::io::duplex(64 << 10);
        tokio::spawn(serve_http1(Arc::clone(&self.border), Role::Proxy, outside));
        inside
    }

    /// TLS of a program that trusts the sandbox's authority, and nobody else.
    pub(super) async fn trusting<S>(
        &self,
        stream: S,
        name: &str,
        alpn: &[&str],
    ) -> io::Result<tokio_rustls::client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let pem = self.border.authority.certificate_pem();
        tls(stream, name, alpn, Some(&pem)).await
    }

    /// What a program says, with placeholders where secrets are named (`{NAME}`).
    pub(super) fn text(&self, text: &str) -> Vec<u8> {
        let mut text = text.to_owned();
        for (name, placeholder) in self.border.secrets.environment() {
            text = text.replace(&format!("{{{name}}}"), &placeholder);
        }
        text.into_bytes()
    }

    pub(super) fn decisions(&self) -> Vec<EgressDecision> {
        self.egress.take_decisions().decisions
    }

    /// All decisions up to one that gives a reason, which may take its time.
    pub(super) async fn decisions_with_a_reason(&self) -> Vec<EgressDecision> {
        let mut found = Vec::new();
        let decided = tokio::time::timeout(Duration::from_secs(60), async {
            while !found.iter().any(|one: &EgressDecision| one.reason.is_some()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                found.extend(self.decisions());
            }
        });
        assert!(decided.await.is_ok(), "it is waited for without an end");
        found
    }
}

/// TLS of a program that trusts one authority, or checks nothing.
pub(super) async fn tls<S>(
    stream: S,
    name: &str,
    alpn: &[&str],
    trusted: Option<&str>,
) -> io::Result<tokio_rustls::client::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    if let Some(pem) = trusted {
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = !name.is_empty();
    if trusted.is_none() {
        config.dangerous().set_certificate_verifier(Arc::new(Unverified));
    }
    config.alpn_protocols = alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
    let name = if name.is_empty() { "nobody.test" } else { name };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connect = TlsConnector::from(Arc::new(config)).connect(name, stream);
    tokio::time::timeout(PATIENCE, connect).await.map_err(|_| io::ErrorKind::TimedOut)?
}

#[derive(Debug)]
pub(crate) struct Unverified;

impl rustls::client::danger::ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Says something and hears everything until the other side ends, or says nothing for a while.
pub(super) async fn say(mut stream: impl Duplex, text: &[u8]) -> String {
    let _ = stream.write_all(text).await;
    let _ = stream.flush().await;
    hear(&mut stream).await
}

pub(super) async fn hear(stream: &mut (impl Duplex + ?Sized)) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let quiet = Duration::from_millis(800);
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(quiet, stream.read(&mut buffer)).await {
        all.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Says something and hears one head.
pub(super) async fn ask(stream: &mut (impl Duplex + ?Sized), text: &[u8]) -> String {
    let _ = stream.write_all(text).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tokio::time::timeout(PATIENCE, stream.read_u8()).await {
            Ok(Ok(byte)) => head.push(byte),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}
