use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};

use super::pool::Connection;
use super::{TransportError, describe};

/// An answer whose body is being read. Dropping it closes the connection.
pub(crate) struct Exchange {
    head: Parts,
    body: Incoming,
    connection: Connection,
    peer: String,
    idle: Duration,
    limit: u64,
    received: u64,
}

impl Exchange {
    pub(super) fn new(
        response: Response<Incoming>,
        connection: Connection,
        peer: String,
        idle: Duration,
        limit: u64,
    ) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body, connection, peer, idle, limit, received: 0 }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.head.status
    }

    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        loop {
            let frame = tokio::time::timeout(self.idle, self.body.frame()).await.map_err(|_| {
                TransportError::Timeout {
                    peer: self.peer.clone(),
                    what: "reading the answer",
                    after: self.idle,
                }
            })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| TransportError::Cut {
                peer: self.peer.clone(),
                reason: describe(&error),
            })?;
            // Trailers are of no interest.
            let Ok(bytes) = frame.into_data() else { continue };
            self.received = self.received.saturating_add(bytes.len() as u64);
            if self.received > self.limit {
                return Err(TransportError::TooLarge {
                    peer: self.peer.clone(),
                    limit: self.limit,
                });
            }
            return Ok(Some(bytes));
        }
    }

    /// The rest of the body.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>, TransportError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// As much of the body as fits into `limit` bytes and arrives without an error.
    pub(crate) async fn excerpt(&mut self, limit: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            let room = limit.saturating_sub(all.len());
            all.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if all.len() >= limit {
                break;
            }
        }
        all
    }

    pub(super) fn into_connection(mut self) -> Connection {
        self.connection.set_leftover(self.body);
        self.connection
    }
}
