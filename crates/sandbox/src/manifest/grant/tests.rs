use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::*;

/// Every case of the shared vectors for paths, in real folders.
#[test]
fn vectors_path_policy() {
    let Some(folder) = crate::manifest::vectors::folder() else { return };
    let files = crate::manifest::vectors::files(&folder, "path_policy");
    assert!(!files.is_empty(), "no path_policy*.jsonl in {}", folder.display());
    let mut failed = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let (mut cases, before) = (0, failed.len());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let case: Value = serde_json::from_str(line).unwrap();
            cases += 1;
            let answer = run(&case["input"]);
            if answer != case["expect"] {
                failed.push(format!("{}: {answer}\n  not {}", case["id"], case["expect"]));
            }
        }
        println!("{}: {} of {cases} passed", file.display(), cases + before - failed.len());
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn run(input: &Value) -> Value {
    let scratch = tempfile::tempdir().unwrap();
    let outside = |path: &str| scratch.path().join(path.trim_start_matches('/'));
    let root = input["root"].as_str().unwrap();
    fs::create_dir_all(outside(root).parent().unwrap()).unwrap();
    for entry in input["fs"].as_array().into_iter().flatten() {
        let path = outside(entry["path"].as_str().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match entry["type"].as_str().unwrap() {
            "dir" => fs::create_dir_all(&path).unwrap(),
            "file" => fs::write(&path, "").unwrap(),
            _ => symlink(entry["target"].as_str().unwrap(), &path).unwrap(),
        }
    }
    let _ = fs::create_dir_all(outside(root));
    let grants: Vec<PathGrant> = input["grants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|grant| serde_json::from_value(grant.clone()).unwrap())
        .collect();
    let operation = match input["op"].as_str().unwrap() {
        "read" => PathOperation::Read,
        "write" => PathOperation::Write,
        _ => PathOperation::RemoveTree,
    };
    let mut link = |path: &Path| match fs::read_link(outside(path.to_str().unwrap())) {
        Ok(target) => Ok(Some(target)),
        Err(_) => Ok(None),
    };
    let answer = PathPolicy::new(root, input["cwd"].as_str(), &grants)
        .and_then(|policy| policy.resolve(input["path"].as_str().unwrap(), operation, &mut link));
    match answer {
        Ok(ResolvedPath { path, real }) => json!({"ok": true, "path": path, "real": real}),
        Err(PathRefusal::ReadOnly { grant, .. }) => {
            json!({"ok": false, "reason": "read_only_grant", "grant": grant})
        }
        Err(error) => json!({"ok": false, "reason": error.class()}),
    }
}

/// The 64th link is one too many; a text that leads out is said before what grants lead to.
#[test]
fn links_are_counted_and_texts_come_first() {
    let links = |count: usize| {
        move |path: &Path| {
            let name = path.to_string_lossy();
            let number: Option<usize> = name.strip_prefix("/w/").and_then(|name| name.parse().ok());
            let next = number.filter(|number| *number < count);
            let root = (name == "/grant").then(|| PathBuf::from("/"));
            Ok(next.map(|number| PathBuf::from(format!("{}", number + 1))).or(root))
        }
    };
    let policy = PathPolicy::new("/w", None, &[]).unwrap();
    let found = policy.resolve("0", PathOperation::Read, &mut links(63)).unwrap();
    assert_eq!(found.real, Path::new("/w/63"));
    let refused = policy.resolve("0", PathOperation::Read, &mut links(64)).unwrap_err();
    assert_eq!(refused.class(), "symlink_depth");
    let grant = PathGrant { path: "/grant".to_owned(), ..PathGrant::default() };
    let policy = PathPolicy::new("/w", None, &[grant]).unwrap();
    for (path, class) in
        [("../x", "outside_relative"), ("/y", "outside_absolute"), ("x", "grant_root")]
    {
        let refused = policy.resolve(path, PathOperation::Read, &mut links(0)).unwrap_err();
        assert_eq!(refused.class(), class, "{path}");
    }
}
