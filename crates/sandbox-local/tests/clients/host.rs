//! A TLS server on the host's loopback that stands for every name, and the way to it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use moat_egress::Reach;
use moat_egress::policy::HostName;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The value that programs inside never see.
pub(crate) const VALUE: &str = "s3cret-value-of-the-host/+=";

/// Paths, each with what stood in `Authorization`.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

pub(crate) struct Host {
    address: SocketAddr,
    /// What was asked for.
    pub(crate) seen: Seen,
    /// Its authority (PEM).
    pub(crate) authority: PathBuf,
    _folder: tempfile::TempDir,
}

impl Host {
    /// Serves until the runtime ends; `files` lie below `/files/`, for who says the value.
    pub(crate) async fn start(files: PathBuf) -> Self {
        let (config, pem) = config();
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("authority.pem");
        std::fs::write(&authority, pem).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen, files) = (acceptor.clone(), Arc::clone(&kept), files.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let io = TokioIo::new(stream);
                    let service = service_fn(move |request| {
                        answer(request, Arc::clone(&seen), files.clone())
                    });
                    if is_http2 {
                        let builder =
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = builder.serve_connection(io, service).await;
                    } else {
                        let builder = hyper::server::conn::http1::Builder::new();
                        let _ = builder.serve_connection(io, service).await;
                    }
                });
            }
        });
        Self { address, seen, authority, _folder: folder }
    }

    /// Every name leads to it.
    pub(crate) fn reach(&self) -> Arc<dyn Reach> {
        Arc::new(Everywhere(self.address))
    }
}

struct Everywhere(SocketAddr);

#[async_trait]
impl Reach for Everywhere {
    async fn resolve(&self, _: &HostName, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([93, 184, 216, 34], port))])
    }

    async fn dial(&self, _: SocketAddr) -> std::io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

fn config() -> (ServerConfig, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let leaf = KeyPair::generate().unwrap();
    let names = ["api.test", "git.test", "tunnel.test"].map(str::to_owned);
    let signed = CertificateParams::new(names).unwrap().signed_by(&leaf, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(authority.der());
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = lines.join("\n");
    (config, format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n"))
}

async fn answer(
    request: Request<Incoming>,
    seen: Seen,
    files: PathBuf,
) -> Result<Response<Full<Bytes>>, Infallible> {
    use base64::Engine as _;
    let path = request.uri().path().to_owned();
    let said = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let said = said.unwrap_or_default().to_owned();
    seen.lock().unwrap().push((path.clone(), said.clone()));
    let Some(file) = path.strip_prefix("/files/") else {
        // An echo, which must not carry the value back inside.
        return Ok(Response::new(Full::from(format!("hello {path} {said}\n"))));
    };
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("user:{VALUE}"));
    let mut response = Response::new(Full::default());
    let known = [format!("Basic {basic}"), format!("Bearer {VALUE}"), VALUE.to_owned()];
    if !known.contains(&said) {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response.headers_mut().insert("www-authenticate", "Basic realm=\"x\"".parse().unwrap());
        return Ok(response);
    }
    let is_index = file.ends_with('/');
    if is_index {
        response.headers_mut().insert("content-type", "text/html".parse().unwrap());
    }
    let file = files.join(if is_index { format!("{file}index.html") } else { file.to_owned() });
    match std::fs::read(file) {
        Ok(content) => *response.body_mut() = Full::from(content),
        Err(_) => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}
