//! How much a manifest's sources may bring.

/// What all sources of a manifest may have together, and each repository while it is fetched.
/// Archives have limits of their own beside these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

impl Default for SourceLimits {
    /// 2,000,000 paths and 64 GiB.
    fn default() -> Self {
        Self { entries: 2_000_000, bytes: 64 << 30 }
    }
}

impl SourceLimits {
    /// Of what there is too much, and how much is allowed.
    pub(super) fn check(&self, entries: u64, bytes: u64) -> Result<(), (&'static str, u64)> {
        if entries > self.entries {
            return Err(("files and folders", self.entries));
        }
        if bytes > self.bytes {
            return Err(("bytes", self.bytes));
        }
        Ok(())
    }
}
