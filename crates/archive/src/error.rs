use std::io;

use moat_core::Retryable;

/// What is wrong with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its name begins at the root of the file system.
    AbsolutePath,
    /// Its name has a part `..`.
    ParentTraversal,
    /// Its name begins with a drive or a share, as on Windows.
    WindowsDrive,
    /// Its name has a back slash, which other systems take for a separator.
    Backslash,
    /// Its name, or a part of it, is too long for a file system.
    Name,
    /// It is the archive's own root, and no folder.
    RootMember,
    /// It is a device, a pipe or a socket.
    SpecialFile,
    /// It is a symbolic link.
    Symlink,
    /// It is a symbolic link that leads out.
    SymlinkOut,
    /// It is a second name of another file.
    Hardlink,
    /// It is a second name of something that is no file before it in the archive.
    HardlinkTarget,
    /// Another member has its path.
    DuplicatePath,
    /// It lies beneath a link of the archive.
    UnderSymlink,
    /// It lies beneath a file of the archive.
    UnderFile,
    /// It would go through, or replace, a link that is there already.
    ExistingSymlinkParent,
    /// A folder is there already.
    ExistingDirectory,
    /// A file is there already, where a folder is needed.
    ExistingFile,
}

impl Refusal {
    /// The name in the conformance vectors.
    pub fn class(self) -> &'static str {
        match self {
            Self::AbsolutePath => "absolute_path",
            Self::ParentTraversal => "parent_traversal",
            Self::WindowsDrive => "windows_drive",
            Self::Backslash => "backslash",
            Self::Name => "name",
            Self::RootMember => "root_member",
            Self::SpecialFile => "special_file",
            Self::Symlink => "symlink",
            Self::SymlinkOut => "symlink_escape",
            Self::Hardlink => "hardlink",
            Self::HardlinkTarget => "hardlink_target",
            Self::DuplicatePath => "duplicate_path",
            Self::UnderSymlink => "under_symlink",
            Self::UnderFile => "under_file",
            Self::ExistingSymlinkParent => "existing_symlink_parent",
            Self::ExistingDirectory => "existing_directory",
            Self::ExistingFile => "existing_file",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AbsolutePath => "its name is an absolute path",
            Self::ParentTraversal => "its name has a part `..`",
            Self::WindowsDrive => "its name begins with a drive or a share",
            Self::Backslash => "its name has a back slash",
            Self::Name => "its name is too long",
            Self::RootMember => "it is the root of the archive and no folder",
            Self::SpecialFile => "it is a device, pipe or socket",
            Self::Symlink => "it is a symbolic link",
            Self::SymlinkOut => "it is a symbolic link that leads out",
            Self::Hardlink => "it is a hard link",
            Self::HardlinkTarget => "it is a hard link to no file before it in the archive",
            Self::DuplicatePath => "its path is there twice",
            Self::UnderSymlink => "it lies beneath a symbolic link of the archive",
            Self::UnderFile => "it lies beneath a file of the archive",
            Self::ExistingSymlinkParent => "a symbolic link stands in its way",
            Self::ExistingDirectory => "a folder is there already",
            Self::ExistingFile => "a file stands in its way",
        })
    }
}

/// Why an archive is not taken. Nothing of it was written then.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A member is refused.
    #[error("`{member}` is refused: {reason}")]
    Refused {
        /// The member's name as it stands there, escaped.
        member: String,
        /// What is wrong with it.
        reason: Refusal,
    },
    /// More than allowed is in it.
    #[error("`{member}` is refused: the archive would have more than {limit} {what}")]
    Limit {
        /// The member at which it was too much, escaped.
        member: String,
        /// Of what there is too much.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// The archive itself is too large.
    #[error("the archive has {size} bytes, and {limit} are allowed")]
    TooLarge {
        /// Its bytes.
        size: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// It becomes too large when it is decompressed.
    #[error("the archive is refused: it would become more than {ratio} times as large")]
    Ratio {
        /// How many times are allowed.
        ratio: u64,
    },
    /// It is damaged, or no archive.
    #[error("the archive is damaged{}: {reason}", at(member))]
    Corrupt {
        /// The member, as far as it is known, escaped.
        member: String,
        /// What does not fit.
        reason: String,
    },
    /// It could not be read.
    #[error("cannot read the archive: {0}")]
    Read(io::Error),
}

fn at(member: &str) -> String {
    if member.is_empty() { String::new() } else { format!(" at `{member}`") }
}

impl ArchiveError {
    pub(crate) fn refused(member: &[u8], reason: Refusal) -> Self {
        Self::Refused { member: shown(member), reason }
    }

    pub(crate) fn corrupt(member: &[u8], reason: impl Into<String>) -> Self {
        Self::Corrupt { member: shown(member), reason: reason.into() }
    }

    /// The name in the conformance vectors.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Refused { reason, .. } => reason.class(),
            Self::Limit { what: "members", .. } => "limit_members",
            Self::Limit { .. } => "limit_extracted_bytes",
            Self::TooLarge { .. } => "limit_input_bytes",
            Self::Ratio { .. } => "limit_ratio",
            Self::Corrupt { .. } => "corrupt",
            Self::Read(_) => "read",
        }
    }
}

impl Retryable for ArchiveError {
    fn is_retryable(&self) -> bool {
        false
    }
}

/// A name for people: printable, and not longer than a screen.
pub(crate) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(name);
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}
