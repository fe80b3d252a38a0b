//! Whether workspaces are kept, and why not, for `doctor`.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::{FAILED, Kept};
use crate::process;

/// Characters of a reason that are kept.
const MOST: usize = 1024;

/// What becomes of large workspaces on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptWorkspaces {
    /// They are kept, and sandboxes lie over them.
    Kept {
        /// Why the last one that was to be kept since the machine started was not, if it was not:
        /// sandboxes that needed it were filled instead.
        last_failure: Option<String>,
    },
    /// Every sandbox is filled.
    Filled {
        /// Why.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Failure {
    /// The machine's boot.
    boot: String,
    reason: String,
}

impl Kept {
    /// Writes down why one could not be made.
    pub(crate) fn note_failure(&self, reason: &str) -> io::Result<()> {
        let reason = reason.chars().take(MOST).collect();
        let failure = serde_json::to_vec(&Failure { boot: process::boot()?, reason })?;
        self.make_folder()?;
        let new = tempfile::NamedTempFile::with_prefix_in("new-", &self.folder)?;
        fs::write(new.path(), failure)?;
        new.persist(self.folder.join(FAILED))?;
        Ok(())
    }

    /// One was made.
    pub(super) fn forget_failure(&self) {
        // At worst an old reason is shown.
        let _ = fs::remove_file(self.folder.join(FAILED));
    }

    /// Why the last one could not be made, if that was since the machine started.
    pub(crate) fn last_failure(&self) -> Option<String> {
        let text = fs::read(self.folder.join(FAILED)).ok()?;
        let failure: Failure = serde_json::from_slice(&text).ok()?;
        (failure.boot == process::boot().ok()?).then_some(failure.reason)
    }
}
