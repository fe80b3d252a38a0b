use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Response;
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use tokio::time::Sleep;

use super::transcript::Pace;
use super::wire;

/// An answer in one piece, or only its first bytes.
pub(super) fn whole(body: String, cut: Option<usize>) -> Response<Playback> {
    let length = HeaderValue::from(body.len());
    let mut bytes = Bytes::from(body);
    if let Some(cut) = cut {
        bytes.truncate(cut);
    }
    let step = Step { wait: Duration::ZERO, bytes };
    let mut answer = Response::new(Playback::new(VecDeque::from([step]), cut.is_some()));
    answer.headers_mut().insert(CONTENT_LENGTH, length);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// An answer as events, or only the first of them.
pub(super) fn streamed(
    events: Vec<wire::Event>,
    pace: Pace,
    cut: Option<usize>,
) -> Response<Playback> {
    let delay = Duration::from_millis(pace.chunk_delay_ms);
    let steps = events.into_iter().take(cut.unwrap_or(usize::MAX)).map(|event| Step {
        wait: if event.is_delta { delay } else { Duration::ZERO },
        bytes: Bytes::from(event.text),
    });
    let mut answer = Response::new(Playback::new(steps.collect(), cut.is_some()));
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// A body that comes in steps and may break at its end.
pub(super) struct Playback {
    steps: VecDeque<Step>,
    breaks: bool,
    waiting: Option<Pin<Box<Sleep>>>,
}

struct Step {
    wait: Duration,
    bytes: Bytes,
}

impl Playback {
    fn new(mut steps: VecDeque<Step>, breaks: bool) -> Self {
        if breaks {
            // The wait lets what came before reach the client.
            steps.push_back(Step { wait: Duration::from_millis(5), bytes: Bytes::new() });
        }
        Self { steps, breaks, waiting: None }
    }
}

impl Body for Playback {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(sleep) = &mut this.waiting {
                ready!(sleep.as_mut().poll(cx));
                this.waiting = None;
            }
            match this.steps.front_mut() {
                Some(step) if !step.wait.is_zero() => {
                    let wait = std::mem::take(&mut step.wait);
                    this.waiting = Some(Box::pin(tokio::time::sleep(wait)));
                }
                Some(step) => {
                    let bytes = std::mem::take(&mut step.bytes);
                    this.steps.pop_front();
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                None if this.breaks => {
                    return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}
