use std::error::Error;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use moat_core::EgressDecision;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

use crate::border::{Border, denial, limit};
use crate::limits::{Direction, EgressLimit};
use crate::policy::check::{Check, is_on};
use crate::policy::{Denial, DenyReason};

pub(super) type BoxError = Box<dyn Error + Send + Sync>;
/// A body on its way in either direction.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

pub(super) fn text(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

/// A body that was held as a whole, and its place among those that may be.
pub(super) struct Held {
    bytes: Full<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Held {
    pub(super) fn body(bytes: impl Into<Bytes>, place: OwnedSemaphorePermit) -> Body {
        Self { bytes: Full::new(bytes.into()), _place: place }.boxed_unsync()
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.get_mut().bytes).poll_frame(cx);
        polled.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.size_hint()
    }
}

/// What ends a body before its end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Ended(pub(super) Denial);

/// Called once with the denial that ended a body.
pub(super) type OnDenial = Box<dyn Fn(&Denial) + Send>;

/// The decision that bytes are counted for. A request's body is begun to be read before it is made.
#[derive(Clone, Debug, Default)]
pub(super) struct Decision(Arc<OnceLock<EgressDecision>>);

impl Decision {
    pub(super) fn set(&self, decision: &EgressDecision) {
        let _ = self.0.set(decision.clone());
    }
}

/// A body whose bytes are counted and bounded, and which has to go on.
pub(super) struct Counted<B> {
    inner: B,
    border: Arc<Border>,
    decision: Decision,
    direction: Direction,
    passed: u64,
    idle: Pin<Box<Sleep>>,
    on_denial: OnDenial,
}

impl<B> Counted<B> {
    pub(super) fn new(
        inner: B,
        border: &Arc<Border>,
        decision: &Decision,
        direction: Direction,
        on_denial: OnDenial,
    ) -> Self {
        Self {
            inner,
            border: Arc::clone(border),
            decision: decision.clone(),
            direction,
            passed: 0,
            idle: Box::pin(sleep(border.limits.idle)),
            on_denial,
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), EgressLimit> {
        let limits = &self.border.limits;
        let upload = limits.upload_bytes.filter(|_| is_on(Check::Limits)).unwrap_or(u64::MAX);
        let passed = self.passed.saturating_add(bytes as u64);
        if self.direction == Direction::Out && passed > upload {
            return Err(EgressLimit::Upload);
        }
        self.border.meter.bytes(limits, self.direction, bytes)?;
        self.passed = passed;
        Ok(())
    }

    fn end(&self, denial: Denial) -> BoxError {
        (self.on_denial)(&denial);
        Box::new(Ended(denial))
    }
}

impl<B> HttpBody for Counted<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let idle = this.border.limits.idle;
                this.idle.as_mut().reset(Instant::now() + idle);
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if let Err(reached) = this.count(bytes) {
                    return Poll::Ready(Some(Err(this.end(limit(reached)))));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match this.idle.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => {
                    let denial = denial(DenyReason::TooSlow, "a body stopped");
                    Poll::Ready(Some(Err(this.end(denial))))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for Counted<B> {
    fn drop(&mut self) {
        let (sent, received) = match self.direction {
            Direction::Out => (self.passed, 0),
            Direction::In => (0, self.passed),
        };
        if let Some(decision) = self.decision.0.get() {
            self.border.decisions.add_bytes(decision, sent, received);
        }
    }
}
