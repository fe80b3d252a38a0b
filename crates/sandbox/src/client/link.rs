//! The writing half of a connection.

use moat_guest::{ClientMessage, encode};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex;

use crate::GuestError;

/// Bytes of the buffer that are kept between messages.
const KEPT: usize = 256 << 10;

/// Sends whole messages, one after the other, whoever sends them.
pub(super) struct Link(Mutex<Writer>);

struct Writer {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    /// The message that is being sent, and how much of it was.
    frame: Vec<u8>,
    sent: usize,
}

impl Link {
    pub(super) fn new(stream: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        Self(Mutex::new(Writer { stream, frame: Vec::new(), sent: 0 }))
    }

    /// Sends one message. It may be dropped at any point: what was begun is finished by whoever
    /// sends next, so that messages never mix.
    pub(super) async fn send(
        &self,
        message: &ClientMessage,
        payload: &[u8],
    ) -> Result<(), GuestError> {
        let mut writer = self.0.lock().await;
        writer.finish().await?;
        encode(&mut writer.frame, message, payload)
            .map_err(|error| GuestError::Unsupported(format!("take such a request: {error}")))?;
        writer.finish().await
    }
}

impl Writer {
    async fn finish(&mut self) -> Result<(), GuestError> {
        while let Some(rest) = self.frame.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let lost = |reason: String| GuestError::Disconnected(reason);
            match self.stream.write(rest).await {
                Ok(0) => return Err(lost("it takes no more bytes".to_owned())),
                Ok(count) => self.sent += count,
                Err(error) => return Err(lost(error.to_string())),
            }
        }
        self.frame.clear();
        self.frame.shrink_to(KEPT);
        self.sent = 0;
        Ok(())
    }
}
