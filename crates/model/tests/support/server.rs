//! A server that says exactly what a test tells it to, byte by byte.
#![allow(dead_code, reason = "not every test uses every act")]

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// What the server does on a connection, in order. After the last act it hangs up.
#[derive(Clone)]
pub(crate) enum Act {
    /// Reads a whole request.
    Read,
    /// Writes bytes as they are.
    Write(Vec<u8>),
    /// Says nothing until the client hangs up.
    Hang,
    /// Waits until the test says so.
    Wait(Arc<Notify>),
    /// Goes on with TLS.
    Tls(tokio_rustls::TlsAcceptor),
}

pub(crate) fn text(text: impl Into<String>) -> Act {
    Act::Write(text.into().into_bytes())
}

/// An answer with a status, more headers (each ending in CRLF), and a body.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Act {
    let length = body.len();
    text(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"))
}

/// The head of a stream whose body goes on until the connection ends.
pub(crate) const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

/// A whole stream, on a connection that stays open after it.
pub(crate) fn chunked(body: &str) -> Act {
    let length = body.len();
    text(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
         {length:x}\r\n{body}\r\n0\r\n\r\n"
    ))
}

pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
    /// Notified when a client hung up on [`Act::Hang`].
    pub(crate) hung_up: Arc<Notify>,
}

impl Server {
    /// The n-th connection gets the n-th script; the last one serves all that follow.
    pub(crate) async fn start(scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            seen: Arc::default(),
            connections: Arc::default(),
            hung_up: Arc::default(),
        };
        let (seen, connections) = (Arc::clone(&server.seen), Arc::clone(&server.connections));
        let hung_up = Arc::clone(&server.hung_up);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let index = {
                    let mut count = connections.lock().unwrap();
                    *count += 1;
                    (*count - 1).min(scripts.len() - 1)
                };
                let script = scripts[index].clone();
                let (seen, hung_up) = (Arc::clone(&seen), Arc::clone(&hung_up));
                tokio::spawn(async move { perform(stream, script.into(), seen, hung_up).await });
            }
        });
        server
    }

    /// A server whose every connection does the same.
    pub(crate) async fn always(script: Vec<Act>) -> Self {
        Self::start(vec![script]).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// The requests so far: head and body.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn perform<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut stream: S,
    mut script: std::collections::VecDeque<Act>,
    seen: Arc<Mutex<Vec<String>>>,
    hung_up: Arc<Notify>,
) {
    while let Some(act) = script.pop_front() {
        match act {
            Act::Read => match read_request(&mut stream).await {
                Some(request) => seen.lock().unwrap().push(request),
                None => return,
            },
            Act::Write(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::Wait(go) => go.notified().await,
            Act::Hang => {
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                hung_up.notify_one();
                return;
            }
            Act::Tls(acceptor) => {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                return Box::pin(perform_boxed(Box::new(stream), script, seen, hung_up)).await;
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Keeps the type of the stream from growing with each TLS.
async fn perform_boxed(
    stream: Box<dyn Stream>,
    script: std::collections::VecDeque<Act>,
    seen: Arc<Mutex<Vec<String>>>,
    hung_up: Arc<Notify>,
) {
    Box::pin(perform(stream, script, seen, hung_up)).await;
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.to_ascii_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length: ").map(|length| length.parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or_default()];
    stream.read_exact(&mut body).await.ok()?;
    Some(head + std::str::from_utf8(&body).unwrap())
}
