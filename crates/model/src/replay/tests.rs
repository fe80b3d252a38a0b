use std::time::Duration;

use moat_core::{Item, Retryable, Usage};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::expand;
use super::transcript::{Planned, Transcript, TranscriptError};
use super::{RecordedTurn, ReplayModel, ReplayServer};
use crate::{
    Model, ModelError, ModelErrorClass, ModelRequest, ModelResponse, ResponsesModel,
    ResponsesOptions, StaticKey,
};

const TRANSCRIPT: &str = r#"
about: two calls at once, then a patch, then the end
turns:
  - output:
      - {type: reasoning, summary: Look first.}
      - {type: function_call, name: exec, arguments: {cmd: ls}}
      - {type: function_call, name: exec, arguments: '{"cmd": "pwd"}'}
  - expect: {outputs: 2, outputs_contain: [one, two], tools_include: exec, model: m}
    chunk: 3
    output:
      - type: custom_tool_call
        name: apply_patch
        input: |
          *** Begin Patch
          *** End Patch
  - expect: {last_output_contains: patched}
    output:
      - {type: message, template: "Turn {turn} says {last_output}"}
"#;

fn request(stream: bool) -> ModelRequest {
    ModelRequest {
        model: "m".to_owned(),
        instructions: None,
        input: vec![Item::user_message("go")],
        tools: vec![json!({"type": "function", "name": "exec"})],
        settings: Map::new(),
        stream,
        cache_key: Some("run".to_owned()),
    }
}

fn output(call: &Item, text: &str) -> Item {
    let fields = call.fields();
    let kind = format!("{}_output", fields.kind.unwrap());
    Item::from_value(&json!({"type": kind, "call_id": fields.call_id, "output": text}))
}

async fn ask(model: &ReplayModel, request: &ModelRequest) -> Result<ModelResponse, ModelError> {
    model.respond(request, &|_| {}).await
}

fn replay(text: &str) -> ReplayModel {
    ReplayModel::new(Transcript::parse(text).unwrap())
}

#[tokio::test]
async fn the_request_alone_decides_which_turn_answers() {
    for stream in [false, true] {
        let mut model = replay(TRANSCRIPT);
        let mut request = request(stream);
        let first = ask(&model, &request).await.unwrap();
        assert_eq!(first.output[1].fields().call_id.as_deref(), Some("call_replay_0_1"));
        assert_eq!(first.output[1].fields().arguments.as_deref(), Some(r#"{"cmd":"ls"}"#));
        assert_eq!(first.output[2].fields().arguments.as_deref(), Some(r#"{"cmd": "pwd"}"#));
        // Asked again, as after a crash, it says the same.
        assert_eq!(ask(&model, &request).await.unwrap().output, first.output);

        // Outputs in any order, whole items byte for byte, and a new process in between.
        request.input.extend(first.output.iter().cloned());
        request.input.push(output(&first.output[2], "two"));
        request.input.push(output(&first.output[1], "one"));
        model = replay(TRANSCRIPT);
        let second = ask(&model, &request).await.unwrap();
        let patch = second.output[0].fields();
        assert_eq!(patch.input.as_deref(), Some("*** Begin Patch\n*** End Patch\n"));

        request.input.extend(second.output.iter().cloned());
        request.input.push(output(&second.output[0], "patched {turn}"));
        let third = ask(&model, &request).await.unwrap();
        assert_eq!(third.output[0].message_text().unwrap(), "Turn 2 says patched {turn}");

        request.input.extend(third.output);
        request.input.push(Item::user_message("and now?"));
        let error = ask(&model, &request).await.unwrap_err();
        assert_eq!(error.class, ModelErrorClass::Diverged);
        assert_eq!(error.message, "the transcript has 3 turns and was asked for one more");
        assert_eq!(model.label(), Some("replay"));
    }
}

#[tokio::test]
async fn a_request_that_is_not_as_expected_diverges() {
    let model = replay(TRANSCRIPT);
    let mut request = request(true);
    let first = ask(&model, &request).await.unwrap();
    request.input.extend(first.output.iter().cloned());
    request.input.push(output(&first.output[1], "one"));
    let error = ask(&model, &request).await.unwrap_err();
    assert_eq!(error.class, ModelErrorClass::Diverged);
    assert_eq!(
        error.message,
        "turn 1 of the transcript expects the outputs to hold `two`; it is `one`"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn faults_come_in_order_and_then_the_answer() {
    for stream in [false, true] {
        let model = replay(
            r#"
turns:
  - faults:
      - {status: 429, code: rate_limit_exceeded, message: slow down, retry_after_ms: 7, times: 2}
      - {cut_after_events: 4}
      - {malformed: true}
      - {failed: server_error, message: oops}
      - {message: scripted}
    output:
      - {type: message, text: at last}
"#,
        );
        let request = request(stream);
        let mut classes = Vec::new();
        let answer = loop {
            match ask(&model, &request).await {
                Ok(answer) => break answer,
                Err(error) => classes.push((error.class, error.status, error.retry_after)),
            }
        };
        let hint = Some(Duration::from_millis(7));
        assert_eq!(
            classes,
            [
                (ModelErrorClass::Status, Some(429), hint),
                (ModelErrorClass::Status, Some(429), hint),
                (ModelErrorClass::StreamCut, None, None),
                (ModelErrorClass::Malformed, None, None),
                (ModelErrorClass::Failed, None, None),
                (ModelErrorClass::Scripted, None, None),
            ],
            "stream: {stream}"
        );
        assert_eq!(answer.output[0].message_text().unwrap(), "at last");
    }
}

#[tokio::test]
async fn only_who_has_the_key_is_answered() {
    let server = ReplayServer::start(Transcript::parse(TRANSCRIPT).unwrap()).await.unwrap();
    let mut options = ResponsesOptions::new(server.base_url());
    let guess = moat_core::Secret::new("0".repeat(server.key().expose().len()));
    options.key = std::sync::Arc::new(StaticKey::new(guess));
    let model = ResponsesModel::new(options).unwrap();
    let error = model.respond(&request(true), &|_| {}).await.unwrap_err();
    assert_eq!(error.status, Some(401));
}

#[test]
fn json_lines_and_peer_like_items_are_read() {
    let transcript = Transcript::parse(
        "{\"output\": [{\"type\": \"message\", \"text\": \"a\"}]}\n\n\
         {\"output\": [{\"type\": \"shell_call\", \"action\": {\"commands\": [\"ls\"]}}]}\n",
    )
    .unwrap();
    assert_eq!(transcript.turns.len(), 2);
    let Planned::Exact(item) = &transcript.turns[1].items[0] else { panic!() };
    assert_eq!(item.fields().call_id.as_deref(), Some("call_replay_1_0"));
}

#[test]
fn mistakes_are_named_with_their_place() {
    let error = |text: &str| Transcript::parse(text).unwrap_err();
    let typo = error("turns:\n  - output: []\n    exspect: {}\n");
    assert!(matches!(typo, TranscriptError::Form { line: 3, .. }), "{typo}");
    assert!(typo.to_string().contains("exspect"), "{typo}");
    let line = error("{\"output\": []}\n{\"oops\": 1}");
    assert!(matches!(line, TranscriptError::Form { line: 2, .. }), "{line}");
    let text = error("turns:\n- output: [{type: message}]").to_string();
    assert_eq!(text, "item 0 of turn 0 of the transcript: a `message` needs `text`");
    let twice = "turns: [{output: [{type: message, id: a, text: x}]}, {output: [{type: message, id: a, text: y}]}]";
    assert!(matches!(error(twice), TranscriptError::SharedId { first: 0, second: 1, .. }));
    assert!(matches!(error("turns: [{output: []}]"), TranscriptError::EmptyTurn { turn: 0 }));
}

/// Expands what was recorded and gives the items of all turns.
fn items(text: &str) -> Vec<Vec<Item>> {
    let transcript = Transcript::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let exact = |item: &Planned| match item {
        Planned::Exact(item) => item.clone(),
        Planned::Template { item } => expand::fill(item, 0, ""),
    };
    transcript.turns.iter().map(|turn| turn.items.iter().map(exact).collect()).collect()
}

#[test]
fn recordings_are_short_where_they_can_be_and_exact_where_they_must_be() {
    let turns = [
        vec![
            Item::from_value(&json!({"type": "message", "id": "msg_1", "role": "assistant",
                "status": "completed", "content": [{"type": "output_text", "text": "two\nlines",
                "annotations": [], "logprobs": []}]})),
            Item::from_value(&json!({"type": "function_call", "id": "fc_1", "call_id": "c",
                "name": "exec", "arguments": "{\"cmd\":\"ls\"}", "status": "completed"})),
        ],
        vec![
            Item::from_json(r#"{"type":"reasoning","id":"rs","n":1.50,"summary":[]}"#.to_owned())
                .unwrap(),
        ],
        // A provider that numbers its calls from the start in every answer.
        vec![Item::from_value(
            &json!({"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "", "id": "x"}),
        )],
    ];
    let recorded = turns.iter().map(|output| RecordedTurn {
        output,
        usage: Some(Usage { input_tokens: 5, ..Usage::default() }),
    });
    let text = Transcript::record(Some("a run"), recorded).unwrap();
    let again = items(&text);
    assert_eq!(again[0], turns[0], "{text}");
    assert_eq!(again[1][0].json(), turns[1][0].json(), "{text}");
    assert_eq!(again[2][0].fields().call_id.as_deref(), Some("c_2"), "{text}");
    assert!(text.contains("cmd: ls") && !text.contains("output_text"), "{text}");
}

fn item() -> impl Strategy<Value = Value> {
    let text = "[ -~\n\t\u{7}\u{85}éü\u{1F980}#:'\"|>-]{0,60}";
    prop_oneof![
        (text, any::<bool>()).prop_map(|(text, phase)| {
            let mut item = json!({"type": "message", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]});
            if phase {
                item["phase"] = json!("commentary");
            }
            item
        }),
        (text, text).prop_map(|(name, arguments)| json!({"type": "function_call", "call_id": "k",
            "name": name, "arguments": arguments, "status": "completed"})),
        (text, text).prop_map(|(key, text)| json!({"type": "function_call", "name": "exec",
            "arguments": json!({key: text, "n": 3, "b": false}).to_string()})),
        text.prop_map(|text| json!({"type": "custom_tool_call", "name": "p", "input": text})),
        text.prop_map(|text| json!({"type": "reasoning", "encrypted_content": text,
            "summary": [{"type": "summary_text", "text": text}]})),
        (text, any::<u64>()).prop_map(|(text, n)| json!({"type": "new_thing", "no": null, "yes": text, "n": n})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever a model said, its recording says the same.
    #[test]
    fn recordings_round_trip(turns in prop::collection::vec(prop::collection::vec(item(), 1..4), 1..4)) {
        let mut number = 0;
        let mut fresh = |mut item: Value| {
            number += 1;
            item["id"] = json!(format!("id_{number}"));
            if item["type"].as_str().unwrap().ends_with("_call") {
                item["call_id"] = json!(format!("call_{number}"));
            }
            Item::from_value(&item)
        };
        let turns: Vec<Vec<Item>> =
            turns.into_iter().map(|turn| turn.into_iter().map(&mut fresh).collect()).collect();
        let text = Transcript::record(None, turns.iter().map(|output| RecordedTurn { output, usage: None }));
        let text = text.unwrap();
        prop_assert_eq!(items(&text), turns, "{}", text);
    }
}
