use serde_json::{Map, Value, json};

use super::*;
use crate::manifest::vectors;

/// Every case of the shared vectors for this contract.
#[test]
fn vectors_manifest_tree() {
    let Some(folder) = vectors::folder() else { return };
    let files = vectors::files(&folder, "manifest_tree");
    assert!(!files.is_empty(), "no manifest_tree*.jsonl in {}", folder.display());
    let mut failed = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let cases: Vec<Value> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let before = failed.len();
        for case in &cases {
            let answer = match run(&case["input"]) {
                Ok(text) => json!({"ok": true, "text": text}),
                Err(error) => json!({"ok": false, "error": error.class()}),
            };
            if answer != case["expect"] {
                failed.push(format!("{}: {answer}\n  not {}", case["id"], case["expect"]));
            }
        }
        let passed = cases.len() - (failed.len() - before);
        println!("{}: {passed} of {} passed", file.display(), cases.len());
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Only a drive's root is absolute, nothing is said of what has an empty description, and paths are
/// shown plain whatever the root is written as.
#[test]
fn names_with_colons_and_empty_descriptions_are_plain() {
    let mut layout = Layout::default();
    let empty = Declared { is_file: true, description: Some(""), shown: None };
    layout.declare(&[], "a:b", empty).unwrap();
    let text = layout.render("//w/./x/", None, 1000).unwrap();
    assert_eq!(text, "//w/./x\n└── a:b  # /w/x/a:b\n");
    for path in ["C:/b", "c:\\b"] {
        let refused = layout.declare(&[], path, Declared::default()).unwrap_err();
        assert_eq!(refused, ManifestError::Absolute(path.to_owned()));
    }
}

fn run(input: &Value) -> Result<String, ManifestError> {
    let root = input["root"].as_str().unwrap();
    let mut layout = Layout::default();
    add(&mut layout, &[], root, input["entries"].as_object().unwrap())?;
    // Less than one level is the same mistake whatever the number.
    let depth = input["depth"].as_i64().map(|depth| usize::try_from(depth).unwrap_or(0));
    let max_chars = input.get("max_chars").and_then(Value::as_i64);
    let max_chars =
        max_chars.map_or(DEFAULT_MAX_CHARS, |chars| usize::try_from(chars).unwrap_or(0));
    layout.render(root, depth, max_chars)
}

fn add(
    layout: &mut Layout,
    above: &[String],
    root: &str,
    entries: &Map<String, Value>,
) -> Result<(), ManifestError> {
    for (path, entry) in entries {
        let kind = entry["type"].as_str().unwrap();
        let shown = entry.get("mount_path").and_then(Value::as_str).map(|path| {
            let root = root.trim_end_matches('/');
            if path.starts_with('/') { path.to_owned() } else { format!("{root}/{path}") }
        });
        let what = Declared {
            is_file: matches!(kind, "file" | "local_file"),
            description: entry.get("description").and_then(Value::as_str),
            shown,
        };
        let here = layout.declare(above, path, what)?;
        if let Some(children) = entry.get("children").and_then(Value::as_object) {
            add(layout, &here, root, children)?;
        }
    }
    Ok(())
}
