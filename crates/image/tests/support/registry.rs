//! A registry on this machine, small, and as bad as a test wants it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use moat_image::Digest;
use tokio::net::TcpListener;

/// What it serves, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    /// By path below `/v2/NAME/`.
    pub(crate) things: BTreeMap<String, (String, Vec<u8>)>,
    /// User and password that it asks for.
    pub(crate) password: Option<(String, String)>,
}

/// A running registry; it ends with its value.
pub(crate) struct Registry {
    pub(crate) address: String,
    /// Paths that were asked for.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registry {
    pub(crate) async fn start(shelf: Shelf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shelf, seen) = (shelf.clone(), Arc::clone(&seen));
                let service = service_fn(move |request| {
                    let response = answer(&shelf, &request);
                    seen.lock().unwrap().push(request.uri().path().to_owned());
                    async move { Ok::<_, Infallible>(response) }
                });
                connections.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, asked, task }
    }
}

fn answer(shelf: &Shelf, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let respond = |status: u16, kind: &str, body: &[u8]| {
        Response::builder()
            .status(status)
            .header("content-type", kind)
            .body(Full::new(Bytes::copy_from_slice(body)))
            .unwrap()
    };
    if let Some((user, password)) = &shelf.password {
        let expected = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
        let given = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if given != Some(&expected) {
            let mut refused = respond(401, "application/json", b"{\"errors\":[]}");
            let challenge = "Basic realm=\"test\"".parse().unwrap();
            refused.headers_mut().insert("www-authenticate", challenge);
            return refused;
        }
    }
    let path = request.uri().path();
    if path == "/v2/" {
        return respond(200, "application/json", b"{}");
    }
    match shelf.things.get(path.trim_start_matches("/v2/")) {
        Some((kind, body)) => {
            let mut response = respond(200, kind, body);
            // What it says of itself is right even where what it gives is not.
            let named = path.rsplit('/').next().unwrap_or_default();
            let digest = if named.starts_with("sha256:") {
                named.to_owned()
            } else {
                Digest::of(body).to_string()
            };
            response.headers_mut().insert("docker-content-digest", digest.parse().unwrap());
            response
        }
        None => respond(404, "application/json", b"{\"errors\":[{\"code\":\"NAME_UNKNOWN\"}]}"),
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte))
            << (8 * (3 - part.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= part.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
