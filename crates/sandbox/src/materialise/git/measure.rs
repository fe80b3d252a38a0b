//! How much a commit would become when it is checked out, counted before it is.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::super::{GitError, SourceLimits};
use super::run::Git;

/// Bytes of one line of a listing: a path as long as git takes, and what stands before it.
const LINE: u64 = 16 * 1024;

/// What all repositories of one source have together.
pub(super) struct Measure {
    limits: SourceLimits,
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Measure {
    pub(super) fn new(limits: SourceLimits) -> Self {
        Self { limits, entries: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// Adds what a commit has. A tree that names itself many times over is refused while it is
    /// being listed, long before its end.
    pub(super) async fn add(
        &self,
        git: &Git<'_>,
        tree: &str,
        commit: &str,
    ) -> Result<(), GitError> {
        let args = ["-C", tree, "ls-tree", "-r", "-t", "-l", "-z", commit];
        let mut listing = git.listing(&args)?;
        let Some(out) = listing.stdout.take() else { return Ok(()) };
        let mut lines = BufReader::new(out);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut lines).take(LINE).read_until(0, &mut line).await;
            if read.map_err(GitError::Start)? == 0 {
                return Ok(());
            }
            let size = size_in(&line).unwrap_or(0);
            let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
            let bytes = self.bytes.fetch_add(size, Ordering::Relaxed).saturating_add(size);
            self.limits.check(entries, bytes).map_err(|(what, limit)| {
                let path = line.split(|byte| *byte == b'\t').next_back().unwrap_or_default();
                let at = path.strip_suffix(b"\0").unwrap_or(path);
                GitError::TooMuch { at: String::from_utf8_lossy(at).into_owned(), what, limit }
            })?;
        }
    }
}

/// `mode type id    size<tab>path`; folders and submodules have no size.
fn size_in(line: &[u8]) -> Option<u64> {
    let before = line.split(|byte| *byte == b'\t').next()?;
    let size = before.split(|byte| *byte == b' ').next_back()?;
    std::str::from_utf8(size).ok()?.parse().ok()
}
