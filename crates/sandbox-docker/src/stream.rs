//! The standard streams of a program that the engine runs in a container, as one stream of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bollard::container::LogOutput;
use bollard::errors::Error;
use bytes::{Buf as _, Bytes};
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of what it says on standard error that are kept.
const MAX_SAID: usize = 2000;

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;
type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// Reads its standard output, writes its standard input.
pub(crate) struct Attached {
    output: Output,
    input: Input,
    /// What was read and not yet taken.
    rest: Bytes,
    /// What it said on standard error.
    said: Vec<u8>,
}

impl Attached {
    pub(crate) fn new(output: Output, input: Input) -> Self {
        Self { output, input, rest: Bytes::new(), said: Vec::new() }
    }

    fn hear(&mut self, bytes: &Bytes) {
        let room = MAX_SAID.saturating_sub(self.said.len());
        self.said.extend(bytes.iter().take(room));
    }
}

impl AsyncRead for Attached {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.output.as_mut().poll_next(context)) {
                Some(Ok(LogOutput::StdOut { message })) => self.rest = message,
                Some(Ok(LogOutput::StdErr { message })) => self.hear(&message),
                Some(Ok(LogOutput::StdIn { .. } | LogOutput::Console { .. })) => {
                    let message = "the engine sent something that is no output of a program";
                    return Poll::Ready(Err(io::Error::other(message)));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None if self.said.is_empty() => return Poll::Ready(Ok(())),
                None => {
                    let said =
                        String::from_utf8_lossy(&std::mem::take(&mut self.said)).trim().to_owned();
                    return Poll::Ready(Err(io::Error::other(said)));
                }
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(self.rest.get(..count).unwrap_or_default());
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Attached {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.input.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_shutdown(context)
    }
}
