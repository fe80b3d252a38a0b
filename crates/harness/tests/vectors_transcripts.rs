//! The agent loop against recorded transcripts: the same requests, items and outcome.
//!
//! Runs the transcripts that need only what this crate has: function tools (and hosted ones, which
//! need no local work) and limits. The others are counted, by what they need.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that stumbles over its data is to stop there"
)]

#[path = "vectors_transcripts/compare.rs"]
mod compare;
#[path = "vectors_transcripts/scenario.rs"]
mod scenario;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

#[tokio::test]
async fn vector_transcripts() {
    let named = std::env::var_os("MOAT_VECTORS").map(PathBuf::from);
    // A folder that was asked for has to be there; the default one is not part of the repository.
    let asked = named.is_some();
    let folder = named.unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors"))
    });
    if !asked && !folder.is_dir() {
        println!("SKIP vector_transcripts: no vectors; MOAT_VECTORS names their folder");
        return;
    }
    let mut files: Vec<_> = std::fs::read_dir(folder.join("loop"))
        .expect("the folder of the loop's vectors")
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("transcripts") && name.ends_with(".jsonl")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no transcripts in {}", folder.display());
    let mut failures = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let (mut passed, mut run) = (0, 0);
        let mut later: BTreeMap<String, u32> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let case: Value = serde_json::from_str(line).expect("a case");
            let id = case["id"].as_str().expect("an id").to_owned();
            if let Some(need) = scenario::needs_more(&id, &case["input"]) {
                *later.entry(need).or_default() += 1;
                continue;
            }
            run += 1;
            match scenario::run(&case["input"])
                .await
                .and_then(|steps| compare::steps(&steps, &case["expect"]["steps"]))
            {
                Ok(()) => passed += 1,
                Err(why) => failures.push(format!("{id}: {why}")),
            }
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("{name}: {passed} of {run} passed; not run yet, by need: {later:?}");
        assert!(run >= 40, "only {run} transcripts could be run");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
