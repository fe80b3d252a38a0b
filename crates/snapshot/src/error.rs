use std::path::PathBuf;

use moat_blobs::{ReadBlobError, WriteBlobError};
use moat_core::{BlobId, Retryable, SnapshotId};

use crate::RootName;

/// Why a tree cannot be a snapshot.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidTree {
    /// Absolute, empty, too long, or with a part that is no name.
    #[error("`{}` is no path beneath a root", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// Two entries have one path.
    #[error("`{}` is there twice", path.display())]
    Duplicate {
        /// The path.
        path: PathBuf,
    },
    /// What is above a path is not a folder, or not there.
    #[error("`{}` is not in a folder", path.display())]
    NoParent {
        /// The path.
        path: PathBuf,
    },
    /// Names of one file that disagree, or a single name that says it has others.
    #[error("the names of the file `{}` do not agree", path.display())]
    Links {
        /// One of the names.
        path: PathBuf,
    },
    /// A mode of more than twelve bits, or attributes that are too large.
    #[error("the metadata of `{}` is out of bounds", path.display())]
    Metadata {
        /// The path.
        path: PathBuf,
    },
    /// A symbolic link to nothing, or to more than a path can hold.
    #[error("`{}` links to no path", path.display())]
    LinkTarget {
        /// The path.
        path: PathBuf,
    },
    /// More paths than a snapshot holds.
    #[error("there are more than {limit} paths; leave some out by a skip rule")]
    TooMany {
        /// How many are allowed.
        limit: usize,
    },
}

impl Retryable for InvalidTree {
    fn is_retryable(&self) -> bool {
        false
    }
}

/// Why a content could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The store failed to write.
    #[error(transparent)]
    Write(#[from] WriteBlobError),
    /// The store failed to say what it has.
    #[error(transparent)]
    Read(#[from] ReadBlobError),
    /// The store hashes under another key: it was opened for somebody else.
    #[error(
        "the blob store gave the id {given} to bytes whose id is {computed}; open it with this tenant's key"
    )]
    ForeignKey {
        /// What the store said.
        given: BlobId,
        /// What the hash is.
        computed: BlobId,
    },
}

impl Retryable for PutError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Write(error) => error.is_retryable(),
            Self::Read(error) => error.is_retryable(),
            Self::ForeignKey { .. } => false,
        }
    }
}

/// Why a tree was not committed. The snapshot before stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The tree cannot be a snapshot.
    #[error("cannot commit a snapshot: {0}")]
    Invalid(#[from] InvalidTree),
    /// A content of the tree was never stored, or has another size.
    #[error("cannot commit a snapshot: the content of `{}` ({content}) is not stored", path.display())]
    MissingContent {
        /// The file.
        path: PathBuf,
        /// Its content.
        content: BlobId,
    },
    /// The store failed.
    #[error("cannot commit a snapshot: {0}")]
    Store(#[from] PutError),
}

impl Retryable for CommitError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}

impl From<WriteBlobError> for CommitError {
    fn from(error: WriteBlobError) -> Self {
        Self::Store(PutError::Write(error))
    }
}

impl From<ReadBlobError> for CommitError {
    fn from(error: ReadBlobError) -> Self {
        Self::Store(PutError::Read(error))
    }
}

/// Why the bytes of a folder or root are not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NodeError {
    /// It does not begin as one.
    #[error("it is not a {0}")]
    Kind(&'static str),
    /// It was written by a later version.
    #[error("its format is version {0}, which needs a newer Moat")]
    Newer(u8),
    /// It ends in the middle.
    #[error("it is cut off")]
    CutOff,
    /// Something in it can be written in one way only, and is written in another.
    #[error("its {0} is not canonical")]
    NotCanonical(&'static str),
}

/// Why a snapshot, or a file of it, could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The root is not in the store or is damaged.
    #[error("cannot read the snapshot {snapshot}: {source}")]
    Root {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What is wrong with it.
        source: ReadBlobError,
    },
    /// A folder is not in the store or is damaged.
    #[error("cannot read the folder `{}` of {root}: {source}", path.display())]
    Folder {
        /// Which root it is in.
        root: RootName,
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        source: ReadBlobError,
    },
    /// A folder, or the root, has the right hash and is nonsense all the same.
    #[error("the folder `{}` is not one: {source}", path.display())]
    Malformed {
        /// The folder; empty for a root.
        path: PathBuf,
        /// What is wrong with it.
        source: NodeError,
    },
    /// The tree as a whole is not one.
    #[error("the snapshot is no tree: {0}")]
    Invalid(#[from] InvalidTree),
    /// A content is not in the store or is damaged.
    #[error("cannot read a file's content: {0}")]
    Content(#[from] ReadBlobError),
    /// The content of a file is not in the store or is damaged.
    #[error("cannot read the file `{}` of {root}: {source}", path.display().to_string().escape_debug())]
    File {
        /// Which root it is in.
        root: RootName,
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        source: ReadBlobError,
    },
    /// A content has another size than the tree says.
    #[error("the content {content} has {found} bytes where the snapshot says {expected}")]
    Size {
        /// The content.
        content: BlobId,
        /// Bytes that the tree says.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
}

impl Retryable for LoadError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Root { source, .. }
            | Self::Folder { source, .. }
            | Self::File { source, .. }
            | Self::Content(source) => source.is_retryable(),
            Self::Malformed { .. } | Self::Invalid(_) | Self::Size { .. } => false,
        }
    }
}
