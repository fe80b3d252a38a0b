//! Every case of the shared vectors for archives, into real folders.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests; what is skipped is said"
)]

use std::fs::{self, File};
use std::io::{Cursor, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use moat_archive::{Archive, ArchiveLimits, ExtractError, Rules, Trust, extract};
use serde_json::{Value, json};

#[test]
fn vectors_archive_safety() {
    let Some(folder) = folder() else { return };
    let mut files = Vec::new();
    find(&folder, &mut files);
    assert!(!files.is_empty(), "no archive_safety*.jsonl in {}", folder.display());
    let mut failed = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let (mut cases, before) = (0, failed.len());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let case: Value = serde_json::from_str(line).unwrap();
            for (mode, expected) in case["expect"].as_object().unwrap() {
                cases += 1;
                let answer = run(&case["input"], mode);
                if answer != *expected {
                    failed.push(format!("{} {mode}: {answer}\n  not {expected}", case["id"]));
                }
            }
        }
        println!("{}: {} of {cases} passed", file.display(), cases + before - failed.len());
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("MOAT_VECTORS") {
        return Some(folder.into());
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.canonicalize().unwrap().join("../shared/vectors");
    if !folder.is_dir() {
        println!("skipped: no vectors at {}; set MOAT_VECTORS", folder.display());
        return None;
    }
    Some(folder)
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            find(&path, files);
        } else if name.starts_with("archive_safety") && name.ends_with(".jsonl") {
            files.push(path);
        }
    }
}

fn run(input: &Value, mode: &str) -> Value {
    let target = tempfile::tempdir().unwrap();
    for entry in input["existing"].as_array().into_iter().flatten() {
        let path = target.path().join(entry["path"].as_str().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match entry["type"].as_str().unwrap() {
            "dir" => fs::create_dir_all(&path).unwrap(),
            "file" => fs::write(&path, entry["content"].as_str().unwrap_or_default()).unwrap(),
            _ => symlink(entry["target"].as_str().unwrap(), &path).unwrap(),
        }
        if entry["type"] != "symlink" {
            let mode = if entry["type"] == "dir" { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    let packed = input["archive_gz_b64"].as_str().unwrap();
    let packed = base64::engine::general_purpose::STANDARD.decode(packed).unwrap();
    let mut bytes = Vec::new();
    flate2::read::MultiGzDecoder::new(&*packed).read_to_end(&mut bytes).unwrap();
    let trust = match mode {
        "restore" => Trust::Restore,
        _ => Trust::Import { allow_links: false },
    };
    let limit = |name: &str, default| {
        input.get("limits").and_then(|limits| limits[name].as_u64()).unwrap_or(default)
    };
    let defaults = ArchiveLimits::default();
    let limits = ArchiveLimits {
        members: limit("max_members", defaults.members),
        extracted_bytes: limit("max_extracted_bytes", defaults.extracted_bytes),
        input_bytes: limit("max_input_bytes", defaults.input_bytes),
        ..defaults
    };
    let done = Archive::open(Cursor::new(bytes), &Rules { trust, limits })
        .map_err(ExtractError::Archive)
        .and_then(|mut archive| extract(&mut archive, &File::open(target.path()).unwrap().into()));
    let mut tree = Vec::new();
    list(target.path(), target.path(), &mut tree);
    tree.sort_by(|a, b| a["path"].as_str().cmp(&b["path"].as_str()));
    tie(target.path(), &mut tree);
    match done {
        Ok(()) => json!({"ok": true, "tree": tree}),
        Err(ExtractError::Archive(error)) => {
            json!({"ok": false, "reason": error.class(), "tree": tree})
        }
        Err(error) => json!({"ok": false, "reason": error.to_string(), "tree": tree}),
    }
}

fn list(top: &Path, folder: &Path, tree: &mut Vec<Value>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stat = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(top).unwrap().to_str().unwrap();
        let mode = format!("{:04o}", stat.mode() & 0o7777);
        if stat.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            tree.push(json!({"path": name, "type": "symlink", "target": target}));
        } else if stat.is_dir() {
            tree.push(json!({"path": name, "type": "dir", "mode": mode}));
            list(top, &path, tree);
        } else {
            tree.push(json!({"path": name, "type": "file", "mode": mode, "size": stat.len()}));
        }
    }
}

/// Later names of one file say which is the first.
fn tie(top: &Path, tree: &mut [Value]) {
    let mut first = std::collections::HashMap::new();
    for entry in tree.iter_mut().filter(|entry| entry["type"] == "file") {
        let path = entry["path"].as_str().unwrap().to_owned();
        let inode = fs::symlink_metadata(top.join(&path)).unwrap().ino();
        if let Some(other) = first.get(&inode) {
            entry["hardlink_to"] = json!(other);
        } else {
            first.insert(inode, path);
        }
    }
}
