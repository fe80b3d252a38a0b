//! Any text, applied to a small workspace, is a plan or an error of one line. A plan never leaves
//! the workspace, and applied to the files that it was made for it is the same again.
#![no_main]

use std::path::{Component, Path};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;
use moat_harness::patch::{FileNode, FileSource, PlanError, SourceError, parse, plan};

const FILES: [(&str, &str); 3] =
    [("a", "one\ntwo\r\nthree\n\n  four  \n“five”"), ("d/b", ""), ("d/e/c", "x\nx\nx\ny\n")];

struct Workspace;

#[async_trait]
impl FileSource for Workspace {
    async fn stat(&self, path: &Path) -> Result<Option<FileNode>, SourceError> {
        if path == Path::new("out") {
            return Ok(Some(FileNode::Symlink("/etc".into())));
        }
        if path == Path::new("in") {
            return Ok(Some(FileNode::Symlink("d/../d/e".into())));
        }
        if let Some((_, text)) = FILES.iter().find(|(name, _)| path == Path::new(name)) {
            return Ok(Some(FileNode::File { mode: 0o644, size: text.len() as u64 }));
        }
        let is_folder = FILES.iter().any(|(name, _)| Path::new(name).starts_with(path));
        Ok(is_folder.then_some(FileNode::Dir))
    }

    async fn read_at(&self, path: &Path, offset: u64, length: u32) -> Result<Vec<u8>, SourceError> {
        let file = FILES.iter().find(|(name, _)| path == Path::new(name));
        let (_, text) = file.expect("only files that stat knows are read");
        Ok(text.bytes().skip(offset as usize).take(length as usize).collect())
    }
}

fuzz_target!(|text: &str| {
    let Ok(operations) = parse(text) else { return };
    let again = || plan(&operations, Path::new("d"), &Workspace).now_or_never().expect("no wait");
    match (again(), again()) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first, second);
            for path in first.changes.iter().map(|change| &change.path).chain(&first.unlinked) {
                assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                assert!(!path.starts_with("out/") && !path.starts_with("in/"));
            }
        }
        (Err(PlanError::Rejected(error)), Err(_)) => assert_eq!(error.message.lines().count(), 1),
        (first, second) => panic!("{first:?} {second:?}"),
    }
});
