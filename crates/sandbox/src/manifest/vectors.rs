//! Where tests find the shared vectors.

use std::path::{Path, PathBuf};

pub(crate) fn folder() -> Option<PathBuf> {
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

/// The files of one contract.
pub(crate) fn files(folder: &Path, contract: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path, contract));
        } else if name.starts_with(contract) && name.ends_with(".jsonl") {
            found.push(path);
        }
    }
    found.sort();
    found
}
