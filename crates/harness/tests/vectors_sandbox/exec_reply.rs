use base64::Engine as _;
use moat_harness::exec_reply::{
    ExecArguments, Reply, STDIN_CLOSED, StdinArguments, join_streams, timed_out_output,
    unknown_session,
};
use moat_harness::truncate::{Style, truncate};
use serde_json::{Value, json};

use crate::cases::{Format, expect_equal, run_all};

#[test]
fn exec_reply_vectors() {
    run_all(&Format { prefix: "exec_reply", recognises, run });
}

fn recognises(case: &Value) -> bool {
    let kind = case["input"]["kind"].as_str().unwrap_or_default();
    matches!(kind, "format" | "one_shot" | "pty" | "write_stdin")
        && case["input"].get("chunk_id").is_some()
}

fn run(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    let text = match input["kind"].as_str().unwrap() {
        "format" => Reply {
            exit_code: integer(&input["exit_code"]),
            session_id: input["session_id"].as_i64(),
            original_tokens: input["original_token_count"].as_u64(),
            output: input["output"].as_str().unwrap(),
            ..reply(input)
        }
        .render(),
        "write_stdin" => match StdinArguments::parse(&input["args"].to_string()) {
            Ok(args) => process(input, args.max_output_tokens, args.yield_time_ms),
            Err(error) => error.to_string(),
        },
        _ => match ExecArguments::parse(&input["args"].to_string()) {
            Ok(args) => process(input, args.max_output_tokens, args.yield_time_ms),
            Err(error) => error.to_string(),
        },
    };
    expect_equal(&json!({ "text": text }), &case["expect"])
}

fn process(input: &Value, max_output_tokens: Option<u64>, yield_time_ms: u64) -> String {
    let backend = &input["backend"];
    let limit = max_output_tokens.map(|tokens| i64::try_from(tokens).unwrap_or(i64::MAX));
    let session = input["args"]["session_id"].as_i64().unwrap_or_default();
    match backend["error"].as_str() {
        Some("unknown_session") => {
            let output = unknown_session(session);
            return Reply { exit_code: Some(1), output: &output, ..reply(input) }.render();
        }
        Some(_) => {
            return Reply { exit_code: Some(1), output: STDIN_CLOSED, ..reply(input) }.render();
        }
        None => {}
    }
    let output = match backend.get("output_b64") {
        Some(bytes) => String::from_utf8_lossy(&decode(bytes)).into_owned(),
        None => join_streams(&decode(&backend["stdout_b64"]), &decode(&backend["stderr_b64"])),
    };
    if backend["timed_out"] == true {
        let partial = String::from_utf8_lossy(&decode(&backend["partial_output_b64"])).into_owned();
        let cut = truncate(&partial, limit, Style::Tool);
        let output = timed_out_output(yield_time_ms, &cut.text);
        let original_tokens = cut.original_tokens;
        return Reply { original_tokens, output: &output, ..reply(input) }.render();
    }
    let cut = truncate(&output, limit, Style::Tool);
    Reply {
        exit_code: integer(&backend["exit_code"]),
        session_id: backend["session_id"].as_i64(),
        original_tokens: cut.original_tokens,
        output: &cut.text,
        ..reply(input)
    }
    .render()
}

fn reply(input: &Value) -> Reply<'_> {
    Reply {
        chunk_id: input["chunk_id"].as_str().unwrap(),
        wall_seconds: input["wall_time_seconds"].as_f64().unwrap(),
        ..Reply::default()
    }
}

fn integer(value: &Value) -> Option<i32> {
    value.as_i64().map(|number| i32::try_from(number).unwrap())
}

fn decode(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
