//! Bodies as they pass: secrets put in, values taken out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::HeaderValue;

use super::body::{BoxError, Ended, OnDenial};
use crate::policy::Host;
use crate::secret::{RequestBody, ResponseBody, SecretProblem, Towards};

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

/// Who is told what a body held.
pub(super) struct Heard {
    /// Names of the secrets that were put in, once, at the end.
    pub(super) names: Box<dyn Fn(Vec<String>) + Send>,
    /// Why it must not go out.
    pub(super) denial: OnDenial,
}

/// The body of a request with its secrets.
pub(super) struct Put<B> {
    inner: B,
    put: RequestBody,
    towards: Towards,
    host: Host,
    heard: Heard,
    trailers: Option<HeaderMap>,
    is_empty: bool,
    is_finished: bool,
}

impl<B: HttpBody> Put<B> {
    pub(super) fn new(
        inner: B,
        put: RequestBody,
        towards: Towards,
        host: Host,
        heard: Heard,
    ) -> Self {
        let is_empty = inner.is_end_stream();
        Self { inner, put, towards, host, heard, trailers: None, is_empty, is_finished: false }
    }

    fn stopped(&self, problem: &SecretProblem) -> BoxError {
        let denial = problem.denial(&self.host);
        (self.heard.denial)(&denial);
        Box::new(Ended(denial))
    }

    fn finish(&mut self) -> Result<Vec<u8>, BoxError> {
        self.is_finished = true;
        let rest = self.put.finish().map_err(|problem| self.stopped(&problem))?;
        let names = self.put.names().to_vec();
        if !names.is_empty() {
            (self.heard.names)(names);
        }
        let mut trailers = self.trailers.take().unwrap_or_default();
        let is_there = !trailers.is_empty();
        for (name, value) in trailers.iter_mut() {
            let put = self.towards.header(name.as_str(), value.as_bytes());
            if let Some(put) = put.map_err(|problem| self.stopped(&problem))? {
                *value = HeaderValue::from_bytes(&put.bytes)?;
            }
        }
        self.trailers = is_there.then_some(trailers);
        Ok(rest)
    }
}

impl<B: HttpBody<Data = Bytes, Error = BoxError> + Unpin> HttpBody for Put<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        while !this.is_finished {
            let out = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => this.put.push(&piece).map_err(|problem| this.stopped(&problem)),
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok();
                        this.finish()
                    }
                },
                Some(Err(error)) => Err(error),
                None => this.finish(),
            };
            match out {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out))))),
                Err(error) => {
                    this.is_finished = true;
                    this.trailers = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        // The end of what comes in is not that of what goes out: some may be held back.
        self.is_empty || (self.is_finished && self.trailers.is_none())
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        if self.put.may_change() {
            return hyper::body::SizeHint::default();
        }
        self.inner.size_hint()
    }
}

/// The body of an answer without values.
pub(super) struct Scanned<B> {
    inner: B,
    scan: ResponseBody,
    towards: Towards,
    trailers: Option<HeaderMap>,
    is_ended: bool,
}

impl<B> Scanned<B> {
    pub(super) fn new(inner: B, scan: ResponseBody, towards: Towards) -> Self {
        Self { inner, scan, towards, trailers: None, is_ended: false }
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        self.is_ended = true;
        self.scan.end();
        self.trailers = trailers;
        for value in self.trailers.iter_mut().flat_map(|trailers| trailers.values_mut()) {
            if let Some(replaced) = self.towards.response_header(value.as_bytes()) {
                *value = HeaderValue::from_bytes(&replaced)
                    .unwrap_or_else(|_| HeaderValue::from_static(""));
            }
        }
    }
}

impl<B: HttpBody<Data = Bytes, Error = BoxError> + Unpin> HttpBody for Scanned<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.scan.next_piece()? {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece)))));
            }
            if this.is_ended {
                let trailers = this.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => this.scan.feed(&piece),
                    Err(frame) => this.end(frame.into_trailers().ok()),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.end(None),
            }
        }
    }
}
