use std::time::{Duration, SystemTime};

use moat_core::Secret;
use serde_json::Value;

use crate::http::{Exchange, TransportError};
use crate::{KeyError, ModelError, ModelErrorClass};

/// The longest text of a provider that becomes part of a message, in characters.
const MAX_TEXT: usize = 2_000;
/// How much of an error's body is read, in bytes.
const MAX_ERROR_BODY: usize = 64 << 10;
/// A hint further away than this means: do not retry (the rule of the official clients).
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// A failed attempt and the provider's own word for why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub error: ModelError,
    /// `error.code`, or `error.type` where there is no code.
    pub code: Option<String>,
    /// `error.message`.
    pub said: Option<String>,
}

impl Failure {
    /// Takes a key out of what the provider said.
    pub(super) fn without_secret(mut self, key: Option<&Secret>) -> Self {
        if let Some(key) = key
            && self.error.message.contains(key.expose())
        {
            self.error.message = self.error.message.replace(key.expose(), "[the key]");
        }
        self
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self { error, code: None, said: None }
    }
}

impl From<Failure> for ModelError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// A failure without status and hints.
pub(crate) fn error(class: ModelErrorClass, message: String) -> ModelError {
    ModelError { class, status: None, message, retry_after: None, should_retry: None }
}

pub(super) fn transport(failed: TransportError) -> ModelError {
    let class = match &failed {
        TransportError::Configuration(_) => ModelErrorClass::Configuration,
        TransportError::Connect { .. } | TransportError::Broken { .. } => {
            ModelErrorClass::Connection
        }
        TransportError::Timeout { .. } => ModelErrorClass::Timeout,
        TransportError::Cut { .. } => ModelErrorClass::StreamCut,
        TransportError::NotHttp { .. } | TransportError::TooLarge { .. } => {
            ModelErrorClass::Malformed
        }
    };
    let retryable = moat_core::Retryable::is_retryable(&failed);
    ModelError { should_retry: (!retryable).then_some(false), ..error(class, failed.to_string()) }
}

pub(super) fn key(failed: KeyError) -> ModelError {
    let should_retry = moat_core::Retryable::is_retryable(&failed);
    ModelError {
        should_retry: Some(should_retry),
        ..error(ModelErrorClass::Configuration, failed.to_string())
    }
}

pub(super) fn malformed(peer: &str, why: &dyn std::fmt::Display) -> Failure {
    error(
        ModelErrorClass::Malformed,
        format!("the answer of {peer} cannot be read: {}", one_line(&why.to_string())),
    )
    .into()
}

pub(super) fn cut(peer: &str) -> Failure {
    error(
        ModelErrorClass::StreamCut,
        format!("the answer of {peer} broke off: the stream ended before its last event"),
    )
    .into()
}

/// A JSON error without the type names that the parser puts into its messages.
pub(super) struct JsonShape<'a>(pub &'a serde_json::Error);

impl std::fmt::Display for JsonShape<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use serde_json::error::Category;
        let what = match self.0.classify() {
            Category::Eof => "the JSON ends too early",
            Category::Syntax | Category::Io => "that is not JSON",
            Category::Data => "a member has another type than the protocol says",
        };
        write!(f, "{what} (line {}, column {})", self.0.line(), self.0.column())
    }
}

/// What an answer with an error status says.
pub(super) async fn status(exchange: &mut Exchange, peer: &str) -> Failure {
    let status = exchange.status();
    let retry_after = retry_after(
        exchange.header("retry-after-ms"),
        exchange.header("retry-after"),
        SystemTime::now(),
    );
    let mut should_retry = match exchange.header("x-should-retry") {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    };
    let request_id = exchange.header("x-request-id").map(one_line);
    let location = exchange.header("location").map(one_line);
    let body = exchange.excerpt(MAX_ERROR_BODY).await;
    let said = Said::from_body(&body);

    if should_retry.is_none()
        && (status.is_redirection()
            || retry_after.is_some_and(|after| after > MAX_RETRY_AFTER)
            || said.is_quota())
    {
        should_retry = Some(false);
    }
    let mut message = format!("HTTP {} from {peer}", status.as_u16());
    if let (true, Some(location)) = (status.is_redirection(), location) {
        message.push_str(&format!(
            ": it redirects to `{location}`; redirects are not followed, set that base URL"
        ));
    }
    said.append_to(&mut message, status.canonical_reason().unwrap_or("no reason given"));
    if let Some(id) = request_id {
        message.push_str(&format!(" [request {id}]"));
    }
    let error = ModelError {
        class: ModelErrorClass::Status,
        status: Some(status.as_u16()),
        message,
        retry_after,
        should_retry,
    };
    Failure { error, code: said.code.or(said.kind), said: said.message }
}

/// A failure that came inside an answer: `response.error` or an `error` event.
pub(super) fn reported(value: &Value) -> Failure {
    let said = Said::from_value(value);
    let mut message = "the provider reports a failure".to_owned();
    said.append_to(&mut message, "no reason given");
    // The codes that a moment's patience helps against; the others come again.
    let passing = ["server_error", "rate_limit_exceeded", "server_is_overloaded", "slow_down"];
    let code = said.code.clone().or_else(|| said.kind.clone());
    let should_retry = code.as_deref().map(|code| passing.contains(&code));
    let retry_after = said.message.as_deref().and_then(hint_in_text);
    let error =
        ModelError { should_retry, retry_after, ..self::error(ModelErrorClass::Failed, message) };
    Failure { error, code, said: said.message }
}

/// A failure inside a stream has no headers; OpenAI puts the hint into the text: `Please try again
/// in 1.898s.` or `… in 28ms.`
fn hint_in_text(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once("try again in ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, unit) = rest.split_at(end);
    let number: f64 = number.parse().ok()?;
    let seconds = if unit.starts_with("ms") {
        number / 1000.0
    } else if unit.starts_with('s') {
        number
    } else {
        return None;
    };
    Duration::try_from_secs_f64(seconds).ok().filter(|hint| *hint <= MAX_RETRY_AFTER)
}

/// What a provider says about an error, in any of the usual envelopes.
#[derive(Default)]
struct Said {
    message: Option<String>,
    kind: Option<String>,
    code: Option<String>,
    param: Option<String>,
}

impl Said {
    fn from_body(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        match serde_json::from_str::<Value>(&text) {
            Ok(value @ (Value::Object(_) | Value::String(_))) => Self::from_value(&value),
            _ => Self {
                message: Some(one_line(text.trim())).filter(|text| !text.is_empty()),
                ..Self::default()
            },
        }
    }

    fn from_value(value: &Value) -> Self {
        let inner = value.get("error").filter(|inner| inner.is_object() || inner.is_string());
        let value = inner.unwrap_or(value);
        if let Value::String(text) = value {
            return Self { message: Some(one_line(text)), ..Self::default() };
        }
        let text = |name: &str| match value.get(name)? {
            Value::String(text) => Some(one_line(text)),
            Value::Number(number) => Some(number.to_string()),
            other @ (Value::Array(_) | Value::Object(_)) => Some(one_line(&other.to_string())),
            _ => None,
        };
        Self {
            message: text("message").or_else(|| text("detail")),
            // The type of the flat `error` event says nothing.
            kind: text("type").filter(|kind| kind != "error"),
            code: text("code"),
            param: text("param"),
        }
    }

    fn is_quota(&self) -> bool {
        let is = |text: &Option<String>| text.as_deref() == Some("insufficient_quota");
        is(&self.kind) || is(&self.code)
    }

    fn append_to(&self, message: &mut String, otherwise: &str) {
        message.push_str(": ");
        message.push_str(self.message.as_deref().unwrap_or(otherwise));
        let code = self.code.as_ref().or(self.kind.as_ref());
        let param = self.param.as_ref().map(|param| format!("parameter `{param}`"));
        let notes: Vec<_> = code.cloned().into_iter().chain(param).collect();
        if !notes.is_empty() {
            message.push_str(&format!(" ({})", notes.join(", ")));
        }
    }
}

/// The provider's hint: milliseconds, seconds, or a date.
fn retry_after(millis: Option<&str>, after: Option<&str>, now: SystemTime) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let seconds = |value: f64| Duration::try_from_secs_f64(value).ok();
    if let Some(hint) = millis.and_then(number).and_then(|millis| seconds(millis / 1000.0)) {
        return Some(hint);
    }
    let after = after?;
    if let Some(value) = number(after) {
        return seconds(value);
    }
    let date = httpdate::parse_http_date(after.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Someone else's text as part of a one-line message: bounded, without control characters.
pub(super) fn one_line(text: &str) -> String {
    let mut line: String =
        text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_come_in_three_spellings() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let after = |millis, after| retry_after(millis, after, now);
        assert_eq!(after(Some("5"), Some("9")), Some(Duration::from_millis(5)));
        assert_eq!(after(None, Some("1.5")), Some(Duration::from_millis(1500)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(after(None, Some(date)), Some(Duration::from_secs(30)));
        assert_eq!(after(Some("soon"), Some("later")), None);
        assert_eq!(after(None, Some("-3")), None);
    }

    #[test]
    fn hints_in_a_failures_text_are_read() {
        let hint = |text: &str| hint_in_text(text).map(|hint| hint.as_millis());
        assert_eq!(hint("Rate limit reached. Please try again in 1.898s. Visit"), Some(1898));
        assert_eq!(hint("Please try again in 28ms."), Some(28));
        assert_eq!(hint("Please try again in 6m0s."), None);
        assert_eq!(hint("Please try again in 500s."), None);
        assert_eq!(hint("try again in a moment"), None);
    }

    #[test]
    fn errors_are_found_in_the_usual_envelopes() {
        let text = |body: &str| {
            let mut message = String::new();
            Said::from_body(body.as_bytes()).append_to(&mut message, "Bad Request");
            message
        };
        assert_eq!(
            text(r#"{"error":{"message":"no","type":"t","param":"input","code":"c"}}"#),
            ": no (c, parameter `input`)"
        );
        assert_eq!(text(r#"{"error":"plain"}"#), ": plain");
        assert_eq!(text(r#"{"detail":"from a framework"}"#), ": from a framework");
        assert_eq!(text("<h1>\nBad\u{1b}[31m</h1>"), ": <h1> Bad [31m</h1>");
        assert_eq!(text(""), ": Bad Request");
        assert!(text(&"x".repeat(9_000)).chars().count() < 2_010);
    }
}
