//! A host of the internet, on the loopback: one port for plain HTTP, one for TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;
use crate::policy::Host;

/// Requests as they arrived.
pub(super) type Seen = Arc<Mutex<Vec<String>>>;

/// Where it listens.
#[derive(Clone)]
pub(super) struct Server {
    /// What was said to it.
    pub(super) seen: Seen,
    pub(super) plain: SocketAddr,
    pub(super) tls: SocketAddr,
    pub(super) raw: SocketAddr,
}

impl Server {
    /// Serves until the runtime ends. TLS has a certificate of `authority` for the asked name.
    pub(super) async fn start(authority: Arc<Authority>) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (plain, tls, raw) =
            (bind().await.unwrap(), bind().await.unwrap(), bind().await.unwrap());
        let seen = Seen::default();
        let server = Self {
            seen: Arc::clone(&seen),
            plain: plain.local_addr().unwrap(),
            tls: tls.local_addr().unwrap(),
            raw: raw.local_addr().unwrap(),
        };
        let plain_seen = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = plain.accept().await {
                tokio::spawn(http1(stream, Arc::clone(&plain_seen)));
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = tls.accept().await {
                tokio::spawn(secure(stream, Arc::clone(&authority), Arc::clone(&seen)));
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = raw.accept().await {
                tokio::spawn(async move {
                    let _ = stream.write_all(b"220 hello\r\n").await;
                    let mut buffer = [0; 64];
                    if let Ok(count) = stream.read(&mut buffer).await {
                        let _ = stream.write_all(&buffer[..count]).await;
                    }
                });
            }
        });
        server
    }
}

async fn http1(stream: TcpStream, seen: Seen) {
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| answer(request, Arc::clone(&seen))),
        )
        .with_upgrades()
        .await;
}

#[derive(Debug)]
struct Any(Arc<Authority>);

impl rustls::server::ResolvesServerCert for Any {
    fn resolve(
        &self,
        hello: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        let name = hello.server_name().unwrap_or("127.0.0.1");
        // A host whose certificate is another's.
        let name = if name == "impostor.test" { "other.test" } else { name };
        self.0.certified(&Host::parse(name).unwrap()).ok()
    }
}

async fn secure(stream: TcpStream, authority: Arc<Authority>, seen: Seen) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Any(authority)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(
                TokioIo::new(stream),
                service_fn(|request| answer(request, Arc::clone(&seen))),
            )
            .await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(
                TokioIo::new(stream),
                service_fn(|request| answer(request, Arc::clone(&seen))),
            )
            .with_upgrades()
            .await;
    }
}

async fn answer(
    mut request: Request<Incoming>,
    seen: Seen,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let mut response = Response::new(Full::default());
    match path.as_str() {
        "/redirect" => {
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().insert("location", "http://denied.test/".parse().unwrap());
        }
        "/slow" => tokio::time::sleep(std::time::Duration::from_secs(60)).await,
        "/large-head" => {
            response.headers_mut().insert("x-large", "a".repeat(100_000).parse().unwrap());
        }
        "/large" => *response.body_mut() = Full::new(Bytes::from(vec![b'a'; 100_000])),
        "/socket" => {
            let key = request.headers().get("sec-websocket-key").unwrap().as_bytes().to_vec();
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                let mut buffer = [0; 64];
                let count = stream.read(&mut buffer).await.unwrap();
                let _ = stream.write_all(&buffer[..count].to_ascii_uppercase()).await;
            });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let accept = if request.uri().query() == Some("wrong") {
                "wrong".to_owned()
            } else {
                crate::http::accepted(&key)
            };
            let headers = response.headers_mut();
            headers.insert("connection", "upgrade".parse().unwrap());
            headers.insert("upgrade", "websocket".parse().unwrap());
            headers.insert("sec-websocket-accept", accept.parse().unwrap());
        }
        "/echo-head" => {
            let value = request.headers()["authorization"].clone();
            response.headers_mut().insert("x-echo", value);
        }
        _ => *response.body_mut() = echo(request, &seen).await,
    }
    Ok(response)
}

/// Everything that was said, back.
async fn echo(request: Request<Incoming>, seen: &Seen) -> Full<Bytes> {
    let (head, body) = request.into_parts();
    let mut text = format!("{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    text.push_str(&String::from_utf8_lossy(&body));
    seen.lock().unwrap().push(text.clone());
    Full::new(Bytes::from(text))
}
