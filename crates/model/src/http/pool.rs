use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Connections that are kept at most.
const MAX_IDLE: usize = 256;
/// Middle boxes forget quiet connections without a word, so an old one is not trusted.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);
/// How long the next call waits for the rest of the last answer before it takes a new connection.
const DRAIN_TIME: Duration = Duration::from_millis(20);
/// How much of it it reads, in bytes.
const DRAIN_BYTES: usize = 64 << 10;

/// One HTTP/1.1 connection, and the task that moves its bytes. Dropping it closes the connection,
/// whatever it is doing.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    /// The end of an answer that nobody waited for: usually the last, empty chunk.
    leftover: Option<Incoming>,
    idle_since: Instant,
}

impl Connection {
    pub(super) fn new(sender: SendRequest<Full<Bytes>>, driver: JoinHandle<()>) -> Self {
        Self { sender, driver, leftover: None, idle_since: Instant::now() }
    }

    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.send_request(request).await
    }

    pub(super) fn set_leftover(&mut self, body: Incoming) {
        self.leftover = Some(body);
    }

    /// Reads what is left of the last answer and waits until the connection takes a request.
    async fn is_ready(&mut self) -> bool {
        let mut read = 0;
        while let Some(body) = &mut self.leftover {
            match body.frame().await {
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => return false,
                None => self.leftover = None,
            }
            if read > DRAIN_BYTES {
                return false;
            }
        }
        self.sender.ready().await.is_ok()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connections that wait for the next call, the freshest last.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Connection>>);

impl Pool {
    /// A connection that takes a request, if there is one.
    pub(super) async fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.pop()?;
            let ready = tokio::time::timeout(DRAIN_TIME, connection.is_ready()).await;
            if ready.unwrap_or(false) {
                return Some(connection);
            }
        }
    }

    pub(super) fn put(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|other| !other.sender.is_closed() && is_fresh(other));
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn pop(&self) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.sender.is_closed() && is_fresh(connection));
        idle.pop()
    }
}

fn is_fresh(connection: &Connection) -> bool {
    connection.idle_since.elapsed() < MAX_IDLE_TIME
}
