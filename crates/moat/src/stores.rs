//! Where blobs are: outputs and large events in a folder of their own, snapshots in packs.
//!
//! Packs are in the data folder, or in a folder or bucket that the flag `--blobs`, the variable
//! `MOAT_BLOBS` or `[snapshots] store` names. Credentials of buckets come from where their own
//! tools look for them, and are kept nowhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moat_blobs::{BlobStore, FolderBlobs, FolderObjects, Objects, PackedBlobs, PackedOptions};
use moat_core::{ByteSize, SealingKey, TenantKey};
use moat_snapshot::Snapshots;
use serde::Deserialize;

use crate::config::Config;
use crate::exit::usage;
use crate::home::Home;

/// Bytes that stay free on the disk of the packs, unless the configuration says otherwise; of a
/// small disk a twentieth.
const FLOOR: ByteSize = ByteSize(512 << 20);

/// `[snapshots]` of `config.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SnapshotConfig {
    /// A folder, or the address of a bucket: `s3://bucket/prefix`.
    store: Option<String>,
    /// Bytes that stay free where packs are written.
    free_space_floor: Option<ByteSize>,
    /// Bytes of packs of a bucket that are kept near by.
    cache: Option<ByteSize>,
}

/// Outputs of calls and large events.
pub(crate) fn open_blobs(home: &Home, key: &TenantKey) -> Arc<dyn BlobStore> {
    Arc::new(FolderBlobs::new(old_blobs(home), *Snapshots::blob_key(key)))
}

fn old_blobs(home: &Home) -> PathBuf {
    home.data.join("blobs")
}

/// Snapshots, and the packs that they are in.
pub(crate) struct OpenSnapshots {
    pub(crate) snapshots: Snapshots,
    pub(crate) packs: PackedBlobs,
    /// Names of this data folder among those who store there.
    pub(crate) users: Vec<String>,
}

pub(crate) fn open_snapshots(
    home: &Home,
    config: &Config,
    named: Option<&str>,
    key: &TenantKey,
) -> anyhow::Result<OpenSnapshots> {
    let options = &config.snapshots;
    let named = named.or(options.store.as_deref());
    let objects = open_objects(home, options, named)?;
    // What lies in the data folder goes where that goes, so its path says nothing there.
    let by_path = user_of(home.data.as_os_str().as_encoded_bytes(), key);
    let lies_within = named.is_none() && !home.data.join("snapshots").is_symlink();
    let user = if lies_within { user_of(b"", key) } else { by_path.clone() };
    let users = vec![user.clone(), by_path];
    let packed = PackedOptions {
        user: Some(user),
        sealing: Some(SealingKey::new(&key.derive("moat 2026 packs v1"))),
        free_space_floor: options.free_space_floor.map_or_else(|| floor_of(home), |floor| floor.0),
        // Snapshots that were taken before there were packs.
        older: Some(open_blobs(home, key)),
    };
    let packs = PackedBlobs::new(objects, *Snapshots::blob_key(key), packed);
    let snapshots = Snapshots::new(Arc::new(packs.clone()), key);
    Ok(OpenSnapshots { snapshots, packs, users })
}

fn floor_of(home: &Home) -> u64 {
    let size = |disk: rustix::fs::StatVfs| disk.f_blocks.saturating_mul(disk.f_frsize);
    rustix::fs::statvfs(&home.data).map_or(0, |disk| FLOOR.0.min(size(disk) / 20))
}

/// A name for this data folder that says nothing about where it is.
fn user_of(path: &[u8], key: &TenantKey) -> String {
    let hash = blake3::keyed_hash(&key.derive("moat 2026 users of stores v1"), path).to_hex();
    hash.get(..16).unwrap_or_default().to_owned()
}

fn open_objects(
    home: &Home,
    options: &SnapshotConfig,
    named: Option<&str>,
) -> anyhow::Result<Arc<dyn Objects>> {
    let Some(named) = named else {
        return Ok(Arc::new(FolderObjects::new(home.data.join("snapshots"))));
    };
    if let Some((scheme, _)) = named.split_once("://").filter(|(scheme, _)| *scheme != "file") {
        return open_bucket(home, options, scheme, named);
    }
    let folder = Path::new(named.strip_prefix("file://").unwrap_or(named));
    if !folder.is_absolute() {
        return Err(usage(format!(
            "the store `{named}` is neither an absolute path nor an address"
        )));
    }
    Ok(Arc::new(FolderObjects::new(folder)))
}

/// Bytes of packs of a bucket that are kept near by, unless the configuration says otherwise.
#[cfg(feature = "buckets")]
const CACHE: ByteSize = ByteSize(4 << 30);

#[cfg(feature = "buckets")]
fn open_bucket(
    home: &Home,
    options: &SnapshotConfig,
    _: &str,
    named: &str,
) -> anyhow::Result<Arc<dyn Objects>> {
    use moat_blobs::{CloudObjects, CloudOptions, KeptObjects};

    // Where their own tools look: the environment, and from there files and the machine's role.
    let ours = |name: &str| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|kind| name.starts_with(kind));
    let settings = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| ours(name) && !value.is_empty())
        .collect();
    let far = CloudObjects::open(&CloudOptions { url: named.to_owned(), settings })?;
    let near = FolderObjects::new(home.data.join("cache").join("packs"));
    let limit = options.cache.unwrap_or(CACHE).0;
    Ok(Arc::new(KeptObjects::new(Arc::new(far), near, "packs", limit)))
}

#[cfg(not(feature = "buckets"))]
fn open_bucket(
    _: &Home,
    options: &SnapshotConfig,
    scheme: &str,
    named: &str,
) -> anyhow::Result<Arc<dyn Objects>> {
    let _ = options.cache;
    Err(usage(format!(
        "cannot use the store `{named}`: this `moat` was built without `{scheme}`; build it with \
         `--features buckets`"
    )))
}
