/// How far an archive is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It stands in for a snapshot and was checked by its hash: links are kept as they are (and
    /// never followed), and limits do not apply.
    Restore,
    /// It comes from anywhere.
    Import {
        /// Links that stay inside are taken instead of refused.
        allow_links: bool,
    },
}

/// What an archive that is imported may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Members, the archive's own root not counted.
    pub members: u64,
    /// Bytes of all contents.
    pub extracted_bytes: u64,
    /// Bytes of the archive as it is stored.
    pub input_bytes: u64,
    /// How many times larger than stored its contents may be, past their first 16 MiB.
    pub ratio: u64,
}

impl Default for ArchiveLimits {
    /// 100,000 members, 4 GiB of contents, 1 GiB stored, a ratio of 250.
    fn default() -> Self {
        Self { members: 100_000, extracted_bytes: 4 << 30, input_bytes: 1 << 30, ratio: 250 }
    }
}

/// What is asked of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How far it is believed.
    pub trust: Trust,
    /// What it may have; for imports.
    pub limits: ArchiveLimits,
}

impl Rules {
    /// An archive from anywhere, without links, within the default limits.
    pub fn import() -> Self {
        Self { trust: Trust::Import { allow_links: false }, limits: ArchiveLimits::default() }
    }

    /// An archive that was checked by its hash.
    pub fn restore() -> Self {
        Self { trust: Trust::Restore, limits: ArchiveLimits::default() }
    }

    pub(crate) fn is_import(&self) -> bool {
        matches!(self.trust, Trust::Import { .. })
    }

    /// The permission bits of a file that had these.
    pub(crate) fn file_mode(&self, mode: u32) -> u32 {
        let runs = mode & 0o100 != 0;
        match (self.trust, runs) {
            (Trust::Import { .. }, true) => 0o755,
            (Trust::Import { .. }, false) => 0o644,
            (Trust::Restore, true) => (mode & 0o755) | 0o600,
            (Trust::Restore, false) => (mode & 0o644) | 0o600,
        }
    }
}
