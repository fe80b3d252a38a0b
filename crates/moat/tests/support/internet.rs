//! An internet of one process: an HTTP proxy on loopback that leads every name to TLS servers of
//! the test, under a certificate authority of the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Hosts that have a server.
pub(crate) const HOSTS: [&str; 3] = ["api.example.com", "git.example.com", "other.example.org"];

pub(crate) struct Internet {
    /// The address for `HTTPS_PROXY`.
    pub(crate) proxy: String,
    /// The authority (PEM).
    pub(crate) authority: String,
    seen: Arc<Mutex<Vec<Value>>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Site {
    acceptor: TlsAcceptor,
    /// Where repositories are, served as plain files.
    files: PathBuf,
    /// Password of the repositories.
    password: String,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Internet {
    pub(crate) fn start(files: PathBuf, password: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (acceptor, authority) = acceptor();
        let seen = Arc::<Mutex<Vec<Value>>>::default();
        let site = Site { acceptor, files, password: password.to_owned(), seen: seen.clone() };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, site));
        Self { proxy: format!("http://{address}"), authority, seen, _runtime: runtime }
    }

    /// The requests that arrived: host, method, path, headers.
    pub(crate) fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }
}

fn acceptor() -> (TlsAcceptor, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = HOSTS.map(str::to_owned).to_vec();
    let issuer = Issuer::from_params(&params, &authority_key);
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let pem = base64::engine::general_purpose::STANDARD.encode(authority.der());
    let lines: Vec<_> =
        pem.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = lines.join("\n");
    let pem = format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n");
    (TlsAcceptor::from(Arc::new(config)), pem)
}

async fn serve(listener: TcpListener, site: Site) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { return };
        tokio::spawn(tunnel(stream, peer, site.clone()));
    }
}

/// `CONNECT name:443`, and from then on the server of that name.
async fn tunnel(mut stream: TcpStream, _: SocketAddr, site: Site) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(target) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
        return;
    };
    let host = target.trim_end_matches(":443").to_owned();
    if !HOSTS.contains(&host.as_str()) {
        let _ = stream.write_all(b"HTTP/1.1 502 No such host\r\n\r\n").await;
        return;
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let Ok(stream) = site.acceptor.clone().accept(stream).await else { return };
    let answer = service_fn(move |request| {
        let (site, host) = (site.clone(), host.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(&site, &host, request).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

async fn answer(site: &Site, host: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let headers: BTreeMap<String, String> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().map(str::to_owned);
    let method = request.method().to_string();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let saw = json!({
        "host": host, "method": method, "path": path, "query": query, "headers": headers,
        "body": body,
    });
    site.seen.lock().unwrap().push(saw.clone());
    if host != "git.example.com" {
        // Whatever came in goes back: an echoing server must not carry a secret in.
        return Response::new(Full::from(saw.to_string()));
    }
    let login = format!("token:{}", site.password);
    let login =
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login.as_bytes()));
    if headers.get("authorization") != Some(&login) {
        let mut response = Response::new(Full::from("log in"));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let realm = "Basic realm=\"git\"".parse().unwrap();
        response.headers_mut().insert("www-authenticate", realm);
        return response;
    }
    match std::fs::read(site.files.join(path.trim_start_matches('/'))) {
        Ok(content) => Response::new(Full::from(content)),
        Err(_) => {
            let mut response = Response::new(Full::from("nothing there"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}
