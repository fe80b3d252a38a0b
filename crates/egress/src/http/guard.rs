use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::chunks::{Chunks, Step};
use crate::policy::check::{Check, is_on};
use crate::sniff::{Framing, HeadError, HeadLimits, parse_head};

/// What hyper reads in place of a request that is refused: the service answers it by what
/// [`Requests::violation`] says.
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
/// Bytes read at once.
const READ: usize = 16 << 10;

/// Reads a connection of HTTP/1 before hyper does, and lets only requests through that are said in
/// one way. hyper follows the standard where a request is ambiguous (a length beside an encoding,
/// say), but the standard lets others choose differently.
pub(super) struct Guard<S> {
    inner: S,
    limits: HeadLimits,
    requests: Arc<Requests>,
    raw: BytesMut,
    cleared: usize,
    state: State,
}

enum State {
    Head,
    Length(u64),
    Chunks(Chunks),
    Handover,
    Raw,
    Refused,
    Broken,
}

/// What the guard and the service of one connection know of each other.
#[derive(Default)]
pub(super) struct Requests(Mutex<Shared>);

#[derive(Default)]
struct Shared {
    heads: u64,
    served: u64,
    violation: Option<(u64, HeadError)>,
    body: Option<HeadError>,
    handover: Option<bool>,
    waker: Option<Waker>,
    in_head: bool,
}

impl Requests {
    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called once for each request that the service gets: why it stands for a refused one, if it
    /// does.
    pub(super) fn next(&self) -> Option<HeadError> {
        let mut shared = self.lock();
        shared.served += 1;
        let served = shared.served;
        shared.violation.filter(|(head, _)| *head == served).map(|(_, error)| error)
    }

    /// What was wrong with a body, if that was why it ended.
    pub(super) fn body_violation(&self) -> Option<HeadError> {
        self.lock().body
    }

    /// Whether the head of a request was begun and is not there whole: a connection that ends so
    /// was not merely idle.
    pub(super) fn is_in_head(&self) -> bool {
        self.lock().in_head
    }

    /// Says whether a request that asked for another protocol got it.
    pub(super) fn handed_over(&self, granted: bool) {
        let mut shared = self.lock();
        shared.handover = Some(granted);
        if let Some(waker) = shared.waker.take() {
            waker.wake();
        }
    }

    fn head(&self) {
        let mut shared = self.lock();
        shared.heads += 1;
        shared.in_head = false;
    }

    fn refuse(&self, error: HeadError) {
        let mut shared = self.lock();
        shared.heads += 1;
        shared.violation = Some((shared.heads, error));
    }

    fn poll_handover(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut shared = self.lock();
        match shared.handover.take() {
            Some(granted) => Poll::Ready(granted),
            None => {
                shared.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<S> Guard<S> {
    pub(super) fn new(inner: S, limits: HeadLimits, requests: Arc<Requests>) -> Self {
        let state = if is_on(Check::Framing) { State::Head } else { State::Raw };
        Self { inner, limits, requests, raw: BytesMut::new(), cleared: 0, state }
    }

    /// Goes as far as the bytes that are there allow. Ready: some are cleared, or nothing more will
    /// be; pending: more have to be read, or an answer has to be given first.
    fn advance(&mut self, cx: &Context<'_>) -> io::Result<Advance> {
        loop {
            let fresh = self.raw.get(self.cleared..).unwrap_or_default();
            match &mut self.state {
                State::Raw => {
                    self.cleared = self.raw.len();
                    return Ok(self.progress());
                }
                State::Refused => return Ok(self.progress_or(Advance::Stop)),
                State::Broken => return Err(io::ErrorKind::InvalidData.into()),
                State::Handover => match self.requests.poll_handover(cx) {
                    Poll::Ready(true) => self.state = State::Raw,
                    Poll::Ready(false) => self.state = State::Head,
                    Poll::Pending => return Ok(self.progress_or(Advance::Stop)),
                },
                State::Length(0) => self.state = State::Head,
                State::Length(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(fresh.len());
                    self.cleared += taken;
                    *left = left.saturating_sub(taken as u64);
                    if taken == 0 || *left > 0 {
                        return Ok(self.progress());
                    }
                }
                State::Chunks(chunks) => match chunks.follow(fresh) {
                    Ok((taken, Step::More)) => {
                        self.cleared += taken;
                        return Ok(self.progress());
                    }
                    Ok((taken, Step::End)) => {
                        self.cleared += taken;
                        self.state = State::Head;
                    }
                    Err(error) => {
                        self.requests.lock().body = Some(error);
                        self.state = State::Broken;
                    }
                },
                // One request at a time: what follows is looked at when hyper asks for it.
                State::Head if self.cleared > 0 => return Ok(Advance::Cleared),
                State::Head => match parse_head(fresh, self.limits) {
                    Ok(None) => {
                        self.requests.lock().in_head = !fresh.is_empty();
                        return Ok(Advance::Read);
                    }
                    Ok(Some(head)) => {
                        self.cleared += head.length;
                        self.requests.head();
                        self.state = match head.framing {
                            Framing::Length(length) => State::Length(length),
                            Framing::Chunked => State::Chunks(Chunks::default()),
                            Framing::Handover => State::Handover,
                        };
                        return Ok(Advance::Cleared);
                    }
                    Err(error) => {
                        self.requests.refuse(error);
                        self.raw = BytesMut::from(REFUSED);
                        self.cleared = REFUSED.len();
                        self.state = State::Refused;
                    }
                },
            }
        }
    }

    fn progress(&self) -> Advance {
        self.progress_or(Advance::Read)
    }

    fn progress_or(&self, otherwise: Advance) -> Advance {
        if self.cleared > 0 { Advance::Cleared } else { otherwise }
    }
}

enum Advance {
    Cleared,
    Read,
    Stop,
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.cleared == 0 {
                match this.advance(cx)? {
                    Advance::Cleared => {}
                    Advance::Stop => return Poll::Pending,
                    Advance::Read => {
                        if ready!(this.poll_fill(cx))? == 0 {
                            return Poll::Ready(Ok(()));
                        }
                        continue;
                    }
                }
            }
            let count = this.cleared.min(out.remaining());
            out.put_slice(this.raw.get(..count).unwrap_or_default());
            this.raw.advance(count);
            this.cleared -= count;
            return Poll::Ready(Ok(()));
        }
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0_u8; READ];
        let mut buffer = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
        self.raw.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
