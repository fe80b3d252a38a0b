//! Everything that can go wrong between here and a provider, with a server that does it on purpose.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

#[path = "support/server.rs"]
mod server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use moat_core::{Item, Retryable, Secret};
use moat_model::{
    Model, ModelError, ModelErrorClass as Class, ModelRequest, ModelResponse, ResponsesModel,
    ResponsesOptions, StaticKey, Timeouts,
};
use serde_json::{Map, json};
use server::{Act, STREAM, Server, answer, chunked, text};

const KEY: &str = "sk-planted-0123456789";

fn request(stream: bool) -> ModelRequest {
    ModelRequest {
        model: "m".to_owned(),
        instructions: None,
        input: vec![Item::user_message("hi")],
        tools: Vec::new(),
        settings: Map::new(),
        stream,
        cache_key: None,
    }
}

fn options(url: &str) -> ResponsesOptions {
    let mut options = ResponsesOptions::new(url);
    options.key = Arc::new(StaticKey::new(Secret::new(KEY)));
    options.timeouts = Timeouts {
        connect: Duration::from_secs(10),
        first_byte: Duration::from_secs(10),
        idle: Duration::from_secs(10),
    };
    options
}

async fn ask(url: &str) -> Result<ModelResponse, ModelError> {
    ResponsesModel::new(options(url)).unwrap().respond(&request(true), &|_| {}).await
}

async fn fails(server: &Server) -> ModelError {
    let error = ask(&server.url()).await.unwrap_err();
    assert!(!error.message.contains(KEY) && !format!("{error:?}").contains(KEY), "{error:?}");
    assert!(!error.message.contains('\n'), "{error}");
    error
}

/// A server that answers every connection with one thing.
async fn saying(act: Act) -> Server {
    Server::always(vec![Act::Read, act]).await
}

fn events(events: &[serde_json::Value]) -> String {
    let frame = |event: &serde_json::Value| format!("data: {event}\n\n");
    events.iter().map(frame).collect()
}

fn completed(output: serde_json::Value) -> serde_json::Value {
    json!({"type": "response.completed",
           "response": {"id": "r", "model": "m-1", "status": "completed", "output": output}})
}

fn call(arguments: &str) -> serde_json::Value {
    json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments})
}

#[tokio::test]
async fn nobody_listens() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = ask(&format!("http://127.0.0.1:{port}/v1")).await.unwrap_err();
    assert_eq!(error.class, Class::Connection);
    assert!(error.is_retryable());
    assert!(error.message.contains(&format!("http://127.0.0.1:{port}")), "{error}");
    let error = ask("http://no-such-host.invalid/v1").await.unwrap_err();
    assert!(matches!(error.class, Class::Connection | Class::Timeout), "{error}");
}

#[tokio::test]
async fn each_wait_has_its_own_limit() {
    let hurried = |url: &str, limit: fn(&mut Timeouts) -> &mut Duration| {
        let mut options = options(url);
        *limit(&mut options.timeouts) = Duration::from_millis(100);
        let model = ResponsesModel::new(options).unwrap();
        async move { model.respond(&request(true), &|_| {}).await.unwrap_err() }
    };
    let silent = Server::always(vec![Act::Hang]).await;
    let stalls = Server::always(vec![Act::Read, text(STREAM), text(": ping\n\n"), Act::Hang]).await;
    let over_tls = format!("https://127.0.0.1:{}/v1", silent.port);
    for (error, what) in [
        (hurried(&over_tls, |limits| &mut limits.connect).await, "connecting"),
        (hurried(&silent.url(), |limits| &mut limits.first_byte).await, "the answer to begin"),
        (hurried(&stalls.url(), |limits| &mut limits.idle).await, "reading the answer"),
    ] {
        assert_eq!(error.class, Class::Timeout, "{error}");
        assert!(error.message.contains(what) && error.is_retryable(), "{error}");
        assert!(error.message.contains("within 0.1 s"), "{error}");
    }
}

#[tokio::test]
async fn answers_that_break_off() {
    let created = events(&[json!({"type": "response.created", "response": {}})]);
    let half_event = "data: {\"type\": \"response.comp";
    let half_chunk = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                      transfer-encoding: chunked\r\n\r\nff\r\ndata: {";
    let half_body = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":";
    for said in [
        STREAM.to_owned(),
        format!("{STREAM}{created}"),
        format!("{STREAM}{created}{half_event}"),
        format!("{STREAM}{created}data: [DONE]\n\n"),
        half_chunk.to_owned(),
        half_body.to_owned(),
    ] {
        let error = fails(&saying(text(said.clone())).await).await;
        assert_eq!(error.class, Class::StreamCut, "{said}: {error}");
        assert!(error.is_retryable());
    }
    let error = fails(&Server::always(vec![Act::Read]).await).await;
    assert_eq!(error.class, Class::Connection, "{error}");
}

#[tokio::test]
async fn answers_that_are_not_what_the_protocol_says() {
    let json = "content-type: application/json\r\n";
    for act in [
        chunked("data: {\"type\": \n\n"),
        chunked("data: {\"type\": 5}\n\n"),
        chunked("data: \u{1}\n\n"),
        chunked("data: {\"type\":\"response.output_text.delta\",\"delta\":{}}\n\n"),
        chunked("data: {\"type\":\"response.completed\"}\n\n"),
        chunked("data: {\"type\":\"response.completed\",\"response\":{\"output\":{}}}\n\n"),
        chunked(&events(&[
            json!({"type": "response.output_item.done", "output_index": 0, "item": call("{}")}),
            completed(json!([call("{\"other\":1}")])),
        ])),
        answer("200 OK", json, "<html>login</html>"),
        answer("200 OK", json, "{}"),
        text("220 mail.example.org ESMTP\r\n\r\n"),
    ] {
        let error = fails(&saying(act.clone()).await).await;
        let Act::Write(said) = act else { panic!() };
        assert_eq!(error.class, Class::Malformed, "{}: {error}", String::from_utf8_lossy(&said));
        assert!(!error.message.contains("serde") && !error.message.contains("struct"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_asked_for_again() {
    let server = saying(chunked(&format!(": {}\n\n", "x".repeat(5_000)))).await;
    let mut options = options(&server.url());
    options.max_response_bytes = 4_096;
    let model = ResponsesModel::new(options).unwrap();
    let error = model.respond(&request(true), &|_| {}).await.unwrap_err();
    assert_eq!(error.class, Class::Malformed);
    assert!(!error.is_retryable() && error.message.contains("4096 bytes"), "{error}");
}

#[tokio::test]
async fn what_the_provider_says_about_errors_is_passed_on() {
    let body = json!({"error": {"message": format!("bad key {KEY}\n"), "type": "invalid_request_error",
                                "param": "input[3]", "code": "invalid_value"}});
    let error = fails(
        &saying(answer("400 Bad Request", "x-request-id: req_7\r\n", &body.to_string())).await,
    )
    .await;
    assert_eq!((error.class, error.status), (Class::Status, Some(400)));
    assert!(!error.is_retryable());
    let message = &error.message;
    for part in ["HTTP 400", "bad key [the key]", "invalid_value", "`input[3]`", "req_7"] {
        assert!(message.contains(part), "{part}: {message}");
    }

    let hints = [
        ("429 Slow", "retry-after-ms: 1500\r\n", "{}", Some(1500), true),
        ("429 Slow", "retry-after: 2\r\n", "{}", Some(2000), true),
        ("429 Slow", "retry-after: 121\r\n", "{}", Some(121_000), false),
        ("429 Slow", "", r#"{"error":{"type":"insufficient_quota"}}"#, None, false),
        ("500 Oops", "x-should-retry: false\r\n", "oops", None, false),
        ("400 Bad", "x-should-retry: true\r\n", "", None, true),
        ("503 Busy", "", "<h1>busy</h1>", None, true),
        ("302 Found", "location: http://elsewhere.example/v1\r\n", "", None, false),
    ];
    for (status, headers, body, millis, retry) in hints {
        let error = fails(&saying(answer(status, headers, body)).await).await;
        assert_eq!(error.class, Class::Status, "{error}");
        assert_eq!(error.retry_after, millis.map(Duration::from_millis), "{status} {headers}");
        assert_eq!(error.is_retryable(), retry, "{status} {headers}{body}: {error}");
    }
}

#[tokio::test]
async fn failures_inside_an_answer() {
    let response = |status: &str, more: serde_json::Value| {
        let mut response = json!({"id": "r", "status": status, "output": []});
        response.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        response
    };
    let failed = response("failed", json!({"error": {"code": "server_error", "message": "oops"}}));
    let policy = response("failed", json!({"error": {"code": "bio_policy", "message": "no"}}));
    let incomplete =
        response("incomplete", json!({"incomplete_details": {"reason": "max_output_tokens"}}));
    let cases = [
        (json!({"type": "response.failed", "response": failed}), "oops (server_error)", true),
        (json!({"type": "response.failed", "response": policy}), "no (bio_policy)", false),
        (
            json!({"type": "response.incomplete", "response": incomplete}),
            "max_output_tokens",
            false,
        ),
        (
            json!({"type": "error", "code": "rate_limit_exceeded", "message": "slow", "param": null}),
            "slow (rate_limit_exceeded)",
            true,
        ),
        (
            json!({"error": {"message": "nested", "code": "invalid_prompt"}}),
            "nested (invalid_prompt)",
            false,
        ),
    ];
    for (event, said, retry) in cases {
        let error = fails(&saying(chunked(&events(&[event]))).await).await;
        assert_eq!(error.class, Class::Failed, "{error}");
        assert!(error.message.contains(said), "{error}");
        assert_eq!(error.is_retryable(), retry, "{error}");
    }
    // Without a stream it is the response object itself that says so.
    let error = fails(&saying(answer("200 OK", "", &failed.to_string())).await).await;
    assert_eq!(error.class, Class::Failed);
    let queued = response("queued", json!({}));
    let error = fails(&saying(answer("200 OK", "", &queued.to_string())).await).await;
    assert!(error.message.contains("`queued`"), "{error}");
}

#[tokio::test]
async fn oddities_that_are_no_errors() {
    let item = r#"{ "type":"reasoning", "id":"rs",  "big":123456789012345678901234567890,"x":1.0e+2, "new":{"a":[ ]}}"#;
    let end = format!(
        "{{\"type\":\"response.completed\",\"response\":{{\"id\":\"r\",\"output\":[{item}]}}}}"
    );
    let done = format!(
        "data: {{\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{item}}}\n\n"
    );
    let empty_end =
        events(&[json!({"type": "response.completed", "response": {"id": "r", "output": []}})]);
    for body in [
        format!("\u{feff}: ping\r\n\r\nevent: x\r\ndata: {end}\r\n\r\n"),
        format!(
            "data: {{\"type\":\"response.of_tomorrow\",\"x\":1}}\n\ndata: {end}\n\ndata: [DONE]\n\n"
        ),
        // No blank line at the end; the type only in the event's name; no output in the end.
        format!("data: {end}"),
        format!(
            "event: response.completed\ndata: {}\n\n",
            end.replace("\"type\":\"response.completed\",", "")
        ),
        format!("{done}{empty_end}"),
    ] {
        let answer = ask(&saying(text(format!("{STREAM}{body}"))).await.url()).await.unwrap();
        assert_eq!(answer.output.len(), 1, "{body}");
        assert_eq!(answer.output[0].json(), item, "{body}");
        assert_eq!(answer.model, "m");
    }
    // A stream that is not called one.
    let unnamed = format!("data: {end}\n\n");
    let answer = ask(&saying(answer("200 OK", "", &unnamed)).await.url()).await.unwrap();
    assert_eq!(answer.output[0].json(), item);
    // A stream was asked for, JSON came.
    let json = format!("{{\"output\":[{item}],\"usage\":{{\"input_tokens\":3}}}}");
    let answer = ask(&saying(server::answer("200 OK", "", &json)).await.url()).await.unwrap();
    assert_eq!((answer.output[0].json(), answer.usage.input_tokens), (item, 3));
}

#[tokio::test]
async fn one_connection_serves_all_calls_and_a_closed_one_is_replaced() {
    let whole = || chunked(&events(&[completed(json!([]))]));
    let twice = vec![Act::Read, whole(), Act::Read, whole()];
    // The second connection is closed only when the next request has already arrived on it.
    let late = vec![Act::Read, whole(), Act::Read];
    let server = Server::start(vec![twice, late, vec![Act::Read, whole(), Act::Hang]]).await;
    let model = ResponsesModel::new(options(&server.url())).unwrap();
    for connections in [1, 1, 2, 3] {
        model.respond(&request(true), &|_| {}).await.unwrap();
        assert_eq!(server.connections(), connections);
    }
}

#[tokio::test]
async fn dropping_a_call_ends_it() {
    let delta = json!({"type": "response.output_text.delta", "output_index": 0, "delta": "hel"});
    let server =
        Server::always(vec![Act::Read, text(STREAM), text(events(&[delta])), Act::Hang]).await;
    let mut options = options(&server.url());
    options.timeouts.idle = Duration::from_secs(600);
    let model = ResponsesModel::new(options).unwrap();
    let heard = tokio::sync::Notify::new();
    let (request, deltas) = (request(true), |_| heard.notify_one());
    tokio::select! {
        _ = model.respond(&request, &deltas) => panic!("the server never answers"),
        () = heard.notified() => {}
    }
    tokio::time::timeout(Duration::from_secs(5), server.hung_up.notified()).await.unwrap();
}

#[tokio::test]
async fn deltas_come_while_the_answer_is_still_being_written() {
    let go = Arc::new(tokio::sync::Notify::new());
    let delta = |index: u32, text: &str| json!({"type": "response.reasoning_summary_text.delta", "output_index": index, "delta": text});
    let first = events(&[delta(1, "é")]);
    let part = json!({"type": "response.reasoning_summary_part.added", "output_index": 1, "summary_index": 1});
    let rest = events(&[part, delta(1, "x"), completed(json!([]))]);
    let script = vec![Act::Read, text(STREAM), text(first), Act::Wait(Arc::clone(&go)), text(rest)];
    let server = Server::always(script).await;
    let heard = Mutex::new(Vec::new());
    let answer = ResponsesModel::new(options(&server.url())).unwrap();
    let answer = answer
        .respond(&request(true), &|delta| {
            go.notify_one();
            heard.lock().unwrap().push((delta.item, delta.offset, delta.text));
        })
        .await
        .unwrap();
    let text = |text: &str| text.to_owned();
    assert_eq!(
        *heard.lock().unwrap(),
        [(1, 0, text("é")), (1, 2, text("\n\n")), (1, 4, text("x"))]
    );
    assert!(answer.first_output.is_some());
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_once() {
    for (url, why) in [
        ("api.example.com/v1", "https://"),
        ("ftp://example.com", "https://"),
        ("https://me:secret@example.com/v1", "hand keys over"),
        ("https:///v1", "base URL"),
    ] {
        let error = ResponsesModel::new(options(url)).unwrap_err();
        assert_eq!(error.class, Class::Configuration);
        assert!(error.message.contains(why) && !error.message.contains("secret"), "{error}");
    }
    let mut options = options("http://127.0.0.1:1/v1");
    options.headers.push(("authorization".to_owned(), "x".to_owned()));
    assert_eq!(ResponsesModel::new(options).unwrap_err().class, Class::Configuration);
}
