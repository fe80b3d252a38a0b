use moat_core::Retryable;

/// What is wrong with a manifest. The field tells where: the path of the entry, as it was given.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// A version that this Moat does not know.
    #[error("the manifest has version {0}; this Moat knows version 1")]
    Version(u32),
    /// A path begins at the root of the file system.
    #[error("`{0}` is absolute; give a path beneath the workspace")]
    Absolute(String),
    /// A path leads out of the workspace.
    #[error("`{0}` leads out of the workspace")]
    EscapeRoot(String),
    /// Two entries are at one path.
    #[error("two entries are at `{0}`")]
    DuplicatePath(String),
    /// No name, or one that no folder can hold.
    #[error("`{0}` is no path")]
    BadPath(String),
    /// Something of an entry is missing, contradicts itself or is no value of its kind.
    #[error("the entry `{path}` {problem}")]
    Entry {
        /// The entry.
        path: String,
        /// What is wrong with it, as the rest of a sentence.
        problem: String,
    },
    /// A path grant makes no sense.
    #[error("in `path_grants`: {0}")]
    Grant(String),
    /// A variable that no process can be given.
    #[error("the variable `{}` {problem}", name.escape_debug())]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong with it, as the rest of a sentence.
        problem: &'static str,
    },
    /// Users and groups that cannot all be there.
    #[error("in `users` and `groups`: {0}")]
    Account(String),
    /// A tree cannot be rendered to less than one level.
    #[error("the depth has to be at least 1")]
    Depth,
    /// A tree cannot be rendered in no characters.
    #[error("the number of characters has to be at least 1")]
    MaxChars,
}

impl ManifestError {
    /// The name of the error in the conformance vectors.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::Absolute(_) => "absolute",
            Self::EscapeRoot(_) => "escape_root",
            Self::DuplicatePath(_) => "duplicate_path",
            Self::BadPath(_) => "path",
            Self::Entry { .. } => "entry",
            Self::Grant(_) => "grant",
            Self::Variable { .. } => "variable",
            Self::Account(_) => "account",
            Self::Depth => "depth",
            Self::MaxChars => "max_chars",
        }
    }
}

impl Retryable for ManifestError {
    fn is_retryable(&self) -> bool {
        false
    }
}

/// The parts of an entry's path beneath a folder of the workspace. `.` parts mean nothing; a back
/// slash separates as well, as in the peer's manifests.
pub(crate) fn parts(given: &str) -> Result<Vec<String>, ManifestError> {
    let text = given.replace('\\', "/");
    // A drive's root. `C:x` is a name like any other here.
    let drive = matches!(text.as_bytes(), [letter, b':', b'/', ..] if letter.is_ascii_alphabetic());
    if text.starts_with('/') || drive {
        return Err(ManifestError::Absolute(given.to_owned()));
    }
    let parts: Vec<_> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(ManifestError::EscapeRoot(given.to_owned()));
    }
    if text.is_empty() || parts.iter().any(|part| part.contains('\0') || part.len() > 255) {
        return Err(ManifestError::BadPath(given.to_owned()));
    }
    Ok(parts.into_iter().map(str::to_owned).collect())
}
