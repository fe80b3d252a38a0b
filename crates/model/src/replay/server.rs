use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use moat_core::{Retryable, Secret};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::playback::{Playback, streamed, whole};
use super::transcript::{Fault, Pace, Transcript, TranscriptError, TranscriptUsage};
use super::turn::{Asked, Index, Pick};
use super::wire;

/// `error.code` of a request that the transcript does not foresee.
pub(super) const DIVERGED: &str = "replay_diverged";
/// `error.code` of a failure that says nothing about how it should look.
pub(super) const SCRIPTED: &str = "replay_scripted";

/// The largest request, in bytes.
const MAX_REQUEST: usize = 256 << 20;
/// The most connections at once.
const MAX_CONNECTIONS: usize = 1024;
/// Attempts that are counted at once; beyond it, counting starts anew.
const MAX_COUNTED: usize = 10_000;
/// How long a call hangs that never ends.
const HANG: Duration = Duration::from_secs(24 * 3600);

/// Why a replay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// No loopback port.
    #[error("the replay server cannot listen on the loopback address: {0}")]
    Listen(#[source] io::Error),
    /// No randomness for the server's own key.
    #[error("the replay server has no key: {0}")]
    Key(getrandom::Error),
    /// The transcript contradicts itself.
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    /// The client side refuses the server's address.
    #[error("the replay server cannot be used: {0}")]
    Client(String),
}

impl Retryable for ReplayError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Listen(_) | Self::Key(_))
    }
}

/// A server on the loopback address that plays a transcript to whoever has its key. It ends when
/// it is dropped.
pub struct ReplayServer {
    base_url: String,
    key: Secret,
    listener: JoinHandle<()>,
}

impl ReplayServer {
    /// Listens on a port of the system's choice, with a key that nobody else knows: other users of
    /// the machine can reach the port.
    pub async fn start(transcript: impl Into<Arc<Transcript>>) -> Result<Self, ReplayError> {
        let transcript = transcript.into();
        let index = Index::new(&transcript)?;
        let key = random_key().map_err(ReplayError::Key)?;
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.map_err(ReplayError::Listen)?;
        let port = socket.local_addr().map_err(ReplayError::Listen)?.port();
        let player =
            Player { transcript, index, key: key.clone(), attempts: Mutex::new(HashMap::new()) };
        Ok(Self {
            base_url: format!("http://127.0.0.1:{port}/v1"),
            key,
            listener: tokio::spawn(listen(socket, Arc::new(player))),
        })
    }

    /// What clients use as their base URL.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// What clients use as their key.
    pub fn key(&self) -> &Secret {
        &self.key
    }
}

impl Drop for ReplayServer {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl std::fmt::Debug for ReplayServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayServer").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

fn random_key() -> Result<Secret, getrandom::Error> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes)?;
    Ok(Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// Owns the connections: they end with it.
async fn listen(socket: TcpListener, player: Arc<Player>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = socket.accept().await else {
            // Out of descriptors, or the peer is gone already; neither is worth spinning for.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let player = Arc::clone(&player);
        connections.spawn(async move {
            let _slot = slot;
            let play = service_fn(move |request| {
                let player = Arc::clone(&player);
                async move { Ok::<_, Infallible>(player.play(request).await) }
            });
            // A client that hangs up is no concern of the server.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), play)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

struct Player {
    transcript: Arc<Transcript>,
    index: Index,
    key: Secret,
    /// Attempts per turn and prompt cache key.
    attempts: Mutex<HashMap<(usize, String), u32>>,
}

impl Player {
    async fn play(&self, request: Request<Incoming>) -> Response<Playback> {
        if !self.is_authorised(&request) {
            return error(StatusCode::UNAUTHORIZED, "invalid_api_key", "wrong key");
        }
        if request.method() != Method::POST || !request.uri().path().ends_with("/responses") {
            return error(StatusCode::NOT_FOUND, "not_found", "there is only POST /v1/responses");
        }
        let body = match Limited::new(request.into_body(), MAX_REQUEST).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                return error(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "too_large",
                    "the request is too large",
                );
            }
        };
        match serde_json::from_slice::<Asked<'_>>(&body) {
            Ok(asked) => self.answer(&asked).await,
            Err(why) => {
                let why = format!("the request is not of the protocol's form: {why}");
                error(StatusCode::BAD_REQUEST, "invalid_json", &why)
            }
        }
    }

    fn is_authorised(&self, request: &Request<Incoming>) -> bool {
        let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
        let wanted = self.key.expose().as_bytes();
        // Takes the same time wherever the first difference is.
        given.len() == wanted.len()
            && given.iter().zip(wanted).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }

    async fn answer(&self, asked: &Asked<'_>) -> Response<Playback> {
        let pick = match asked.pick(&self.transcript, &self.index) {
            Ok(pick) => pick,
            Err(why) => return error(StatusCode::BAD_REQUEST, DIVERGED, &why),
        };
        let Some(turn) = self.transcript.turns.get(pick.turn) else {
            return error(StatusCode::BAD_REQUEST, DIVERGED, "the transcript is over");
        };
        let pace = self.transcript.pace(turn);
        if pace.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(pace.delay_ms)).await;
        }
        let response = wire::Response {
            turn: pick.turn,
            model: asked.model.as_deref().unwrap_or("replay"),
            usage: turn.usage.unwrap_or_else(|| estimate(&pick)),
            output: &pick.output,
            created_at: now(),
        };
        match self.fault(asked, pick.turn, &turn.faults) {
            Some(fault) => faulty(fault, &response, asked.stream, pace).await,
            None if asked.stream => streamed(response.events(pace), pace, None),
            None => whole(response.completed(), None),
        }
    }

    /// What goes wrong with this attempt, which is counted.
    fn fault<'a>(&self, asked: &Asked<'_>, turn: usize, faults: &'a [Fault]) -> Option<&'a Fault> {
        if faults.is_empty() {
            return None;
        }
        let who = asked.prompt_cache_key.clone().unwrap_or_default();
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.len() >= MAX_COUNTED {
            attempts.clear();
        }
        let count = attempts.entry((turn, who)).or_default();
        let mut attempt = *count;
        *count = count.saturating_add(1);
        for fault in faults {
            let times = fault.times.unwrap_or(1);
            if fault.always || attempt < times {
                return Some(fault);
            }
            attempt = attempt.saturating_sub(times);
        }
        None
    }
}

async fn faulty(
    fault: &Fault,
    response: &wire::Response<'_>,
    stream: bool,
    pace: Pace,
) -> Response<Playback> {
    if fault.hang {
        tokio::time::sleep(HANG).await;
    }
    if let Some(events) = fault.cut_after_events {
        return if stream {
            streamed(response.events(pace), pace, Some(events))
        } else {
            let body = response.completed();
            let half = body.len() / 2;
            whole(body, Some(half))
        };
    }
    if fault.malformed {
        return if stream {
            let broken = "event: response.output_text.delta\ndata: {\"type\": \"response.out\n\n";
            let event = wire::Event { text: broken.to_owned(), is_delta: false };
            streamed(vec![event], pace, None)
        } else {
            whole("{\"id\": \"resp_replay\", \"output\": [".to_owned(), None)
        };
    }
    let message = fault.message.as_deref().unwrap_or("the transcript says that this call fails");
    if let Some(code) = &fault.failed {
        return if stream {
            streamed(response.failed_events(code, message), pace, None)
        } else {
            whole(response.failed(code, message), None)
        };
    }
    let status = fault.status.and_then(|status| StatusCode::from_u16(status).ok());
    let code = fault.code.as_deref().or(fault.status.is_none().then_some(SCRIPTED));
    let mut answer =
        error(status.unwrap_or(StatusCode::BAD_REQUEST), code.unwrap_or_default(), message);
    let hints = [
        ("retry-after-ms", fault.retry_after_ms.map(|millis| millis.to_string())),
        ("retry-after", fault.retry_after.clone()),
        ("x-should-retry", fault.should_retry.map(|retry| retry.to_string())),
    ];
    for (name, value) in hints {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// Four bytes to a token, as a rule of thumb.
fn estimate(pick: &Pick) -> TranscriptUsage {
    let output: usize = pick.output.iter().map(|item| item.json().len()).sum();
    TranscriptUsage {
        input_tokens: (pick.input_bytes / 4) as u64,
        output_tokens: (output / 4) as u64,
        ..TranscriptUsage::default()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Playback> {
    let code = (!code.is_empty()).then_some(code);
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    let mut answer = whole(body.to_string(), None);
    *answer.status_mut() = status;
    answer
}
