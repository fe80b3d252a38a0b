use moat_harness::truncate::{OutputWindow, Stream, Style, Truncated, truncate};
use serde_json::{Value, json};

use crate::cases::{Format, expect_equal, run_all};

#[test]
fn truncation_vectors() {
    run_all(&Format { prefix: "truncation", recognises, run });
}

fn recognises(case: &Value) -> bool {
    let input = &case["input"];
    input.get("max_output_tokens").is_some()
        && (input.get("text").is_some() || input.get("text_parts").is_some())
}

fn run(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    let text = text_of(input);
    let limit = input["max_output_tokens"].as_i64();
    let style = if input["style"] == "plain" { Style::Plain } else { Style::Tool };
    let shown =
        |cut: Truncated| json!({ "text": cut.text, "original_token_count": cut.original_tokens });
    expect_equal(&shown(truncate(&text, limit, style)), &case["expect"])?;
    let Some(limit) = limit.and_then(|limit| u32::try_from(limit.max(0)).ok()) else {
        return Ok(());
    };
    let mut window = OutputWindow::new(limit, style);
    for piece in text.as_bytes().chunks(7) {
        window.push(Stream::Stdout, piece);
    }
    expect_equal(&shown(window.finish()), &case["expect"]).map_err(|e| format!("in pieces: {e}"))
}

fn text_of(input: &Value) -> String {
    if let Some(text) = input["text"].as_str() {
        return text.to_owned();
    }
    let part = |part: &Value| part[0].as_str().unwrap().repeat(part[1].as_u64().unwrap() as usize);
    input["text_parts"].as_array().unwrap().iter().map(part).collect()
}
