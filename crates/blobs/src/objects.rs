//! Named objects that are written once: a folder, or a bucket of an object store.

#[cfg(feature = "buckets")]
mod cloud;
mod folder;
mod kept;

use std::error::Error;

use async_trait::async_trait;
use bytes::Bytes;
use moat_core::Retryable;

#[cfg(feature = "buckets")]
pub use cloud::{CloudObjects, CloudOptions};
pub use folder::FolderObjects;
pub use kept::KeptObjects;

/// Where objects are. Methods are called inside a tokio runtime.
///
/// Contract, checked by [`crate::conformance::objects`]:
/// - an object is there whole or not at all, whatever dies meanwhile, and is never overwritten: of
///   several that create one name exactly one does;
/// - what was created is durable when [`Objects::create`] returns, and everybody sees it;
/// - names are parts of `a-z`, `0-9`, `-`, `_` and `.` that are separated by `/`; every other name
///   is refused.
#[async_trait]
pub trait Objects: Send + Sync {
    /// What it is called in messages; holds no credential.
    fn place(&self) -> String;

    /// Whether leases end with their holders at once, as on one machine.
    fn is_near(&self) -> bool;

    /// Creates an object. `Ok(false)`: there is one of that name, and it stays as it is.
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, ObjectError>;

    /// All bytes of an object that has at most `limit`.
    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, ObjectError>;

    /// Up to `length` bytes from `offset` on; fewer at the end, none behind it.
    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError>;

    /// The objects in a folder (`packs`), in the order of their names.
    async fn list(&self, folder: &str) -> Result<Vec<ListedObject>, ObjectError>;

    /// Removes an object. `Ok(false)`: it was not there.
    async fn remove(&self, name: &str) -> Result<bool, ObjectError>;

    /// Says that somebody writes here, until the lease is dropped or its process dies.
    async fn lease(&self) -> Result<Box<dyn Lease>, ObjectError>;

    /// When the leases began whose holders live: milliseconds since the Unix epoch.
    async fn leases(&self) -> Result<Vec<u64>, ObjectError>;

    /// Bytes that can still be written; `None`: there is no such bound.
    async fn free_bytes(&self) -> Result<Option<u64>, ObjectError>;
}

/// The sign that somebody writes. See [`Objects::lease`].
pub trait Lease: Send + Sync {
    /// When it began: milliseconds since the Unix epoch.
    fn began(&self) -> u64;
}

/// An object that a listing showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its whole name.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// An object could not be written, read, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It is not there.
    #[error("`{name}` is not in {place}")]
    Missing {
        /// Where it was looked for.
        place: String,
        /// The object.
        name: String,
    },
    /// It is larger than the caller is ready to take.
    #[error("`{name}` in {place} holds {size} bytes, more than the {limit} that are allowed here")]
    TooLarge {
        /// Where it is.
        place: String,
        /// The object.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// What the caller allowed, in bytes.
        limit: u64,
    },
    /// No space, or no quota, is left.
    #[error("no space is left in {place}; free some and try again")]
    Full {
        /// Where the space is missing.
        place: String,
    },
    /// Less space is left than is to stay free.
    #[error(
        "{place} has {free} bytes left, and {floor} are to stay free; free some, or lower `snapshots.free_space_floor`"
    )]
    Floor {
        /// Where the space is missing.
        place: String,
        /// Bytes that are left.
        free: u64,
        /// Bytes that are to stay.
        floor: u64,
    },
    /// The store does not let us.
    #[error("{place} refuses: {reason}. Check the credentials and what they allow")]
    Refused {
        /// Which store.
        place: String,
        /// What it said.
        reason: String,
    },
    /// It is no name of an object.
    #[error("`{name}` is no name of an object")]
    Name {
        /// What was given.
        name: String,
    },
    /// The storage failed otherwise.
    #[error("cannot {doing} `{name}` in {place}: {source}")]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// Which store.
        place: String,
        /// The object or folder.
        name: String,
        /// What it said.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl Retryable for ObjectError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Floor { .. } | Self::Failed { .. } => true,
            Self::Missing { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. }
            | Self::Name { .. } => false,
        }
    }
}

/// Accepts `packs/0a1b` and nothing that leads elsewhere.
pub(crate) fn check_name(name: &str) -> Result<(), ObjectError> {
    let fits = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
    };
    if name.len() <= 200 && name.split('/').all(fits) {
        return Ok(());
    }
    Err(ObjectError::Name { name: name.chars().take(200).collect() })
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
