//! The Responses API over HTTP, with or without a stream.
//!
//! [`request`] turns a [`ModelRequest`] into the bytes of a body, [`crate::http`] sends it,
//! [`stream`] folds the events of the answer (or [`answer`] reads it in one piece), and
//! [`failure`] turns everything that can go wrong into a [`ModelError`].

mod answer;
mod failure;
mod request;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use moat_core::Secret;

use crate::http::{Endpoint, Exchange, HttpClient, HttpOptions};
use crate::{
    DeltaSink, KeySource, Model, ModelError, ModelErrorClass, ModelRequest, ModelResponse, NoKey,
    PriceTable, ProxyOptions, Timeouts,
};

use answer::Answer;
pub(crate) use failure::Failure;
use stream::AnswerStream;

pub use request::encode_request;

const USER_AGENT_VALUE: &str = concat!("moat/", env!("CARGO_PKG_VERSION"));

/// Settings of a [`ResponsesModel`].
#[derive(Clone)]
pub struct ResponsesOptions {
    /// The address that `/responses` is appended to, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// Where the key comes from.
    pub key: Arc<dyn KeySource>,
    /// More headers, such as `OpenAI-Organization`.
    pub headers: Vec<(String, String)>,
    /// Proxies.
    pub proxy: ProxyOptions,
    /// A PEM file with certificate authorities that are trusted besides the host's.
    pub extra_ca: Option<PathBuf>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// The largest answer, in bytes.
    pub max_response_bytes: u64,
    /// What models cost.
    pub prices: Arc<PriceTable>,
}

impl ResponsesOptions {
    /// Settings for a base URL: no key, no proxy, the host's authorities, and the defaults of
    /// time-outs, sizes (64 MiB) and prices.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            key: Arc::new(NoKey),
            headers: Vec::new(),
            proxy: ProxyOptions::default(),
            extra_ca: None,
            timeouts: Timeouts::default(),
            max_response_bytes: 64 << 20,
            prices: Arc::new(PriceTable::built_in()),
        }
    }
}

/// A model behind the Responses API of any server.
///
/// Connections are kept and used again, so one of these serves all calls of a process.
pub struct ResponsesModel {
    http: HttpClient,
    key: Arc<dyn KeySource>,
    headers: Vec<(HeaderName, HeaderValue)>,
    prices: Arc<PriceTable>,
}

impl ResponsesModel {
    /// Checks the settings. Nothing is connected, read or resolved yet.
    pub fn new(options: ResponsesOptions) -> Result<Self, ModelError> {
        let endpoint = Endpoint::new(&options.base_url, "responses").map_err(failure::transport)?;
        let http = HttpClient::new(HttpOptions {
            endpoint,
            proxy: options.proxy,
            extra_ca: options.extra_ca,
            timeouts: options.timeouts,
            max_response_bytes: options.max_response_bytes,
        })
        .map_err(failure::transport)?;
        let headers = options.headers.iter().map(|(name, value)| header(name, value));
        Ok(Self {
            http,
            key: options.key,
            headers: headers.collect::<Result<_, _>>()?,
            prices: options.prices,
        })
    }

    /// One attempt, with the provider's error code kept apart.
    pub(crate) async fn attempt(
        &self,
        request: &ModelRequest,
        deltas: DeltaSink<'_>,
    ) -> Result<ModelResponse, Failure> {
        let body = encode_request(request)?;
        let key = self.key.key().await.map_err(failure::key)?;
        let outcome = self.exchange(request, body, key.clone(), deltas).await;
        // Servers have been seen to quote the key they refuse.
        outcome.map_err(|failure| failure.without_secret(key.as_ref()))
    }

    async fn exchange(
        &self,
        request: &ModelRequest,
        body: Bytes,
        key: Option<Secret>,
        deltas: DeltaSink<'_>,
    ) -> Result<ModelResponse, Failure> {
        let started = Instant::now();
        let mut exchange = self.post(request, body.clone(), key.as_ref()).await?;
        if exchange.status() == StatusCode::UNAUTHORIZED
            && let Some(fresh) = self.fresh_key(key.as_ref()).await?
        {
            exchange = self.post(request, body, Some(&fresh)).await?;
            if !exchange.status().is_success() {
                let failure = failure::status(&mut exchange, self.http.peer()).await;
                return Err(failure.without_secret(Some(&fresh)));
            }
        }
        if !exchange.status().is_success() {
            let failure = failure::status(&mut exchange, self.http.peer()).await;
            self.http.keep(exchange);
            return Err(failure);
        }
        let (answer, first_output) = self.read(&mut exchange, deltas, started).await?;
        self.http.keep(exchange);
        answer.into_response(request, first_output, &self.prices)
    }

    async fn post(
        &self,
        request: &ModelRequest,
        body: Bytes,
        key: Option<&Secret>,
    ) -> Result<Exchange, Failure> {
        let accept = if request.stream { "text/event-stream" } else { "application/json" };
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT, HeaderValue::from_static(accept)),
            (USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE)),
        ];
        headers.extend(self.headers.iter().cloned());
        if let Some(key) = key {
            headers.push((AUTHORIZATION, bearer(key)?));
        }
        Ok(self.http.post(&headers, body).await.map_err(failure::transport)?)
    }

    /// After a refusal: another key, if the source has one.
    async fn fresh_key(&self, refused: Option<&Secret>) -> Result<Option<Secret>, Failure> {
        let Some(refused) = refused else { return Ok(None) };
        if !self.key.rejected(refused).await {
            return Ok(None);
        }
        let fresh = self.key.key().await.map_err(failure::key)?;
        Ok(fresh.filter(|fresh| fresh != refused))
    }

    /// Reads the answer in the form in which it comes, which need not be the one asked for.
    async fn read(
        &self,
        exchange: &mut Exchange,
        deltas: DeltaSink<'_>,
        started: Instant,
    ) -> Result<(Answer, Option<Duration>), Failure> {
        let kind = exchange.header("content-type").unwrap_or_default().to_ascii_lowercase();
        let mut stream = AnswerStream::new(deltas, started, self.http.peer());
        if kind.starts_with("text/event-stream") {
            while let Some(chunk) = exchange.chunk().await.map_err(failure::transport)? {
                if let Some(answer) = stream.push(&chunk)? {
                    return Ok((answer, stream.first_output()));
                }
            }
            return stream.finish();
        }
        let body = exchange.rest().await.map_err(failure::transport)?;
        // A server that does not name its stream as one.
        if [&b"data:"[..], b"event:", b":"].iter().any(|start| body.starts_with(start)) {
            return match stream.push(&body)? {
                Some(answer) => Ok((answer, stream.first_output())),
                None => stream.finish(),
            };
        }
        Ok((Answer::from_body(&body, self.http.peer())?, Some(started.elapsed())))
    }
}

#[async_trait]
impl Model for ResponsesModel {
    async fn respond(
        &self,
        request: &ModelRequest,
        deltas: DeltaSink<'_>,
    ) -> Result<ModelResponse, ModelError> {
        self.attempt(request, deltas).await.map_err(ModelError::from)
    }
}

impl std::fmt::Debug for ResponsesModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponsesModel").field("peer", &self.http.peer()).finish_non_exhaustive()
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), ModelError> {
    let bad = |what: &str| {
        failure::error(
            ModelErrorClass::Configuration,
            format!("the header `{}` cannot be sent: {what}", name.escape_debug()),
        )
    };
    let parsed = HeaderName::try_from(name).map_err(|_| bad("that is no header name"))?;
    if [AUTHORIZATION, CONTENT_TYPE, ACCEPT].contains(&parsed) {
        return Err(bad("it is made from the other settings"));
    }
    let mut value =
        HeaderValue::try_from(value).map_err(|_| bad("its value is not printable text"))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

fn bearer(key: &Secret) -> Result<HeaderValue, ModelError> {
    // Not quoted in the error: it is the key.
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose())).map_err(|_| {
        failure::error(
            ModelErrorClass::Configuration,
            "the key holds characters that cannot be in a header".to_owned(),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
