//! The guest protocol, spoken from the harness's side.
//!
//! A request is one write, made by the task that asks. One task reads: it hands answers to whoever
//! waits for them and output to its listeners. Every byte that it reads is hostile: a frame, a
//! listing, a name or an offset that the protocol does not allow ends the connection, and what a
//! guest may make this side hold is bounded whatever it sends.

use std::sync::Arc;
use std::time::Duration;

use moat_core::{BootNonce, Epoch};
use moat_guest::{ClientMessage, Frame, FrameDecoder, GuestMessage, Reply, Request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadHalf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::GuestError;

mod check;
mod contents;
mod convert;
mod exchange;
mod guest;
mod inbox;
mod limits;
mod link;
mod listener;
mod listing;
mod sockets;

#[cfg(not(feature = "mutations"))]
use check::Check;
use check::is_on;
#[cfg(feature = "mutations")]
pub use check::{Check, shrink, without};
use exchange::Exchange;
use inbox::{Answer, Inbox, Waiting};
use link::Link;
use listing::Listing;
pub use sockets::{connect_inside, network_sockets};

/// How long a guest may take to answer a connection's first message.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long a guest may take for what it does at once.
const QUICK: Duration = Duration::from_secs(30);

/// How long a guest may take for what grows with the workspace.
const SLOW: Duration = Duration::from_secs(300);

/// A connection to a guest. Dropping it closes the connection; the sandbox lives on for its grace.
pub struct GuestClient {
    shared: Arc<Shared>,
    nonce: BootNonce,
    /// What both sides speak.
    version: u32,
    reader: JoinHandle<()>,
}

/// What the reading task and those who ask share.
struct Shared {
    link: Link,
    inbox: Inbox,
    /// Of whoever holds this connection.
    epoch: Epoch,
}

impl GuestClient {
    /// Opens a connection as the owner with this epoch, over any stream of bytes. A local socket
    /// is to be a [`moat_sockets::GuardedStream`]: a guest may send descriptors.
    ///
    /// # Errors
    /// [`GuestError::Superseded`] if a later owner was here; [`GuestError::Unsupported`] if the
    /// guest is of a version that this code does not speak.
    pub async fn connect<S>(stream: S, epoch: Epoch) -> Result<Self, GuestError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut reader, writer) = tokio::io::split(stream);
        let link = Link::new(Box::new(writer));
        let mut decoder = decoder();
        let handshake = async {
            let versions = moat_guest::VERSIONS;
            link.send(&ClientMessage::Hello { versions, epoch: epoch.0 }, &[]).await?;
            greeting(&mut reader, &mut decoder, epoch).await
        };
        let (nonce, version) =
            tokio::time::timeout(patience(HANDSHAKE_LIMIT), handshake).await.map_err(|_| {
                GuestError::Disconnected("the guest did not answer the connection".to_owned())
            })??;
        let shared = Arc::new(Shared { link, inbox: Inbox::default(), epoch });
        let reader = tokio::spawn(read_all(reader, decoder, Arc::clone(&shared)));
        Ok(Self { shared, nonce, version, reader })
    }

    /// Returns once the connection is gone, whoever ended it.
    pub async fn closed(&self) {
        self.shared.inbox.closed().await;
    }

    /// Asks for something that is answered by one message.
    async fn ask(
        &self,
        request: Request,
        payload: &[u8],
        limit: Duration,
    ) -> Result<Answer, Exchange> {
        let (sender, receiver) = oneshot::channel();
        self.exchange(request, payload, limit, Waiting::Answer(sender), receiver).await
    }

    /// Asks for something whose answer says only that it was done.
    async fn tell(
        &self,
        request: Request,
        payload: &[u8],
        limit: Duration,
    ) -> Result<(), Exchange> {
        match self.ask(request, payload, limit).await?.reply {
            Reply::Done => Ok(()),
            _ => Err(Exchange::mismatch("an action")),
        }
    }

    /// Asks for paths.
    async fn ask_listing(
        &self,
        request: Request,
        listing: Listing,
        limit: Duration,
    ) -> Result<Vec<crate::ScanEntry>, Exchange> {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting::Listing(Box::new(listing), sender);
        self.exchange(request, &[], limit, waiting, receiver).await
    }

    async fn exchange<T>(
        &self,
        body: Request,
        payload: &[u8],
        limit: Duration,
        waiting: Waiting,
        answer: oneshot::Receiver<Result<T, Exchange>>,
    ) -> Result<T, Exchange> {
        let id = self.shared.inbox.next_id();
        self.exchange_as(id, body, payload, limit, waiting, answer).await
    }

    async fn exchange_as<T>(
        &self,
        id: u64,
        body: Request,
        payload: &[u8],
        limit: Duration,
        waiting: Waiting,
        answer: oneshot::Receiver<Result<T, Exchange>>,
    ) -> Result<T, Exchange> {
        let inbox = &self.shared.inbox;
        let _forget = inbox.expect(id, waiting)?;
        let exchange = async {
            self.shared.link.send(&ClientMessage::Request { id, body }, payload).await?;
            // The sender is only ever dropped together with the connection.
            answer.await.unwrap_or_else(|_| Err(inbox.end_reason().into()))
        };
        tokio::time::timeout(patience(limit), exchange).await.unwrap_or_else(|_| {
            let waited = limit.as_secs();
            Err(GuestError::Disconnected(format!("no answer within {waited} s")).into())
        })
    }
}

impl Drop for GuestClient {
    fn drop(&mut self) {
        self.reader.abort();
        self.shared.inbox.end(|| GuestError::Disconnected("the connection was dropped".to_owned()));
    }
}

impl std::fmt::Debug for GuestClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestClient").field("nonce", &self.nonce).finish_non_exhaustive()
    }
}

/// What cuts a guest's bytes into frames.
fn decoder() -> FrameDecoder {
    if is_on(Check::FrameSize) {
        FrameDecoder::default()
    } else {
        FrameDecoder::with_limits(usize::MAX, usize::MAX)
    }
}

/// How long a guest is waited for.
fn patience(limit: Duration) -> Duration {
    if is_on(Check::Time) { limit } else { Duration::MAX }
}

/// Reads the guest's answer to `Hello`.
async fn greeting<R: AsyncRead + Unpin>(
    reader: &mut R,
    decoder: &mut FrameDecoder,
    epoch: Epoch,
) -> Result<(BootNonce, u32), GuestError> {
    loop {
        if let Some(frame) = decoder.next_frame().map_err(convert::broken)? {
            return match parse(&frame)? {
                GuestMessage::Welcome(welcome) => convert::nonce(welcome),
                GuestMessage::Refused(refusal) => Err(convert::refusal(refusal, epoch)),
                _ => Err(convert::broken("it answered before it was asked")),
            };
        }
        read_some(reader, decoder).await?;
    }
}

/// Reads until the connection ends, and tells everyone who waits.
async fn read_all<S>(mut reader: ReadHalf<S>, mut decoder: FrameDecoder, shared: Arc<Shared>)
where
    S: AsyncRead,
{
    let reason = loop {
        if let Err(error) = deliver_all(&mut decoder, &shared) {
            break error;
        }
        if let Err(error) = read_some(&mut reader, &mut decoder).await {
            break error;
        }
    };
    shared.inbox.end(|| convert::copy(&reason));
}

fn deliver_all(decoder: &mut FrameDecoder, shared: &Shared) -> Result<(), GuestError> {
    while let Some(frame) = decoder.next_frame().map_err(convert::broken)? {
        match parse(&frame)? {
            GuestMessage::Refused(refusal) => {
                return Err(convert::refusal(refusal, shared.epoch));
            }
            message => shared.inbox.deliver(message, frame.payload)?,
        }
    }
    Ok(())
}

fn parse(frame: &Frame<'_>) -> Result<GuestMessage, GuestError> {
    serde_json::from_slice(frame.header).map_err(convert::broken)
}

async fn read_some<R: AsyncRead + Unpin>(
    reader: &mut R,
    decoder: &mut FrameDecoder,
) -> Result<(), GuestError> {
    match reader.read_buf(decoder.input()).await {
        Ok(0) => Err(GuestError::Disconnected("it closed the connection".to_owned())),
        Ok(_) => Ok(()),
        Err(error) => Err(GuestError::Disconnected(error.to_string())),
    }
}
