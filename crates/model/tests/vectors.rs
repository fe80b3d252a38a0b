//! Conformance vectors: what an answer's status and headers say about trying again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test"
)]

#[path = "support/server.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use moat_core::{Item, Retryable};
use moat_model::{Model, ModelRequest, ResponsesModel, ResponsesOptions};
use serde_json::{Map, Value};
use server::{Act, Server, answer};

fn files() -> Vec<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let root = std::env::var_os("MOAT_VECTORS").map_or(shared, PathBuf::from);
    let Ok(folder) = std::fs::read_dir(root.join("loop")) else { return Vec::new() };
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("retry_table") && name.ends_with(".jsonl")
    });
    files.sort();
    files
}

/// The provider's advice on HTTP errors. The rest of the table is about policies, which are not
/// this crate's.
#[tokio::test]
async fn retry_advice_vectors() {
    let files = files();
    if files.is_empty() {
        println!("SKIP retry_advice_vectors: no vectors; MOAT_VECTORS names their folder");
    }
    for file in files {
        let mut passed = 0;
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let input = &case["input"];
            if input["provider_advice"] == "openai" && input["error"]["kind"] == "status" {
                check(&case).await;
                passed += 1;
            }
        }
        assert!(passed > 0, "{}", file.display());
        println!("{}: {passed} passed", file.file_name().unwrap().display());
    }
}

async fn check(case: &Value) {
    let error = &case["input"]["error"];
    let headers = error["headers"].as_object().unwrap().iter();
    let headers: String =
        headers.map(|(name, value)| format!("{name}: {}\r\n", value.as_str().unwrap())).collect();
    let said = answer(&format!("{} Vector", error["status"]), &headers, "{}");
    let server = Server::always(vec![Act::Read, said]).await;
    let model = ResponsesModel::new(ResponsesOptions::new(server.url())).unwrap();
    let request = ModelRequest {
        model: "m".to_owned(),
        instructions: None,
        input: vec![Item::user_message("hi")],
        tools: Vec::new(),
        settings: Map::new(),
        stream: case["input"]["stream"].as_bool().unwrap(),
        cache_key: None,
    };
    let failed = model.respond(&request, &|_| {}).await.unwrap_err();
    let advice = &case["expect"]["advice"];
    let suggested = advice["suggested"].as_bool().unwrap_or(false);
    let after = advice["retry_after"].as_f64().map(Duration::from_secs_f64);
    assert_eq!(failed.is_retryable(), suggested, "{case}: {failed}");
    assert_eq!(failed.retry_after, after, "{case}: {failed}");
}
