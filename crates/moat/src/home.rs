//! Where Moat keeps its things, and the tenant's key.
//!
//! The key lies outside the data folder: who copies or changes the data folder has neither what
//! decrypts it nor what its anchors are authenticated with.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use moat_core::{TenantId, TenantKey};

use crate::cli::Global;

/// The folders of one user.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) data: PathBuf,
    pub(crate) config: PathBuf,
    /// The caller's home folder, for the toolchains in it.
    pub(crate) user_home: Option<PathBuf>,
}

impl Home {
    pub(crate) fn find(global: &Global) -> anyhow::Result<Self> {
        let user_home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let below = |variable: &str, default: &str| -> anyhow::Result<PathBuf> {
            let named = std::env::var_os(variable).map(PathBuf::from);
            // The base directory specification says that relative values are to be ignored.
            match (named.filter(|path| path.is_absolute()), &user_home) {
                (Some(path), _) => Ok(path.join("moat")),
                (None, Some(home)) => Ok(home.join(default).join("moat")),
                (None, None) => {
                    bail!("HOME is not set; say where with --data-dir and --config-dir")
                }
            }
        };
        let data = match &global.data_dir {
            Some(dir) => std::path::absolute(dir)?,
            None => below("XDG_DATA_HOME", ".local/share")?,
        };
        let config = match &global.config_dir {
            Some(dir) => std::path::absolute(dir)?,
            None => below("XDG_CONFIG_HOME", ".config")?,
        };
        if config.starts_with(&data) {
            bail!(
                "the configuration folder `{}` is inside the data folder `{}`, but the key must \
                 lie outside of what it protects; choose another --config-dir",
                config.display(),
                data.display()
            );
        }
        Ok(Self { data, config, user_home })
    }

    pub(crate) fn anchors(&self) -> PathBuf {
        self.config.join("anchors")
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// Makes the folders, readable by their owner only.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        for folder in [&self.data, &self.config] {
            make_private(folder)?;
        }
        Ok(())
    }

    /// The tenant's key; made if there is none yet, and nothing that was sealed with one.
    pub(crate) fn tenant_key(&self, tenant: &TenantId) -> anyhow::Result<TenantKey> {
        let folder = self.config.join("keys");
        make_private(&folder)?;
        let path = folder.join(format!("{tenant}.key"));
        let key = match read_key(&path) {
            // A journal is made after its key: who finds one finds the key as well, if it is looked
            // for now, whoever makes both at this moment.
            Err(error) if is_absent(&error) && self.data.join("journal.db").exists() => {
                read_key(&path).with_context(|| {
                    format!(
                        "what is in `{}` cannot be opened without it; put it back, or begin anew \
                         with another --data-dir",
                        self.data.display()
                    )
                })
            }
            Err(error) if is_absent(&error) => return make_key(&path),
            other => other,
        };
        key.with_context(|| format!("cannot use the key `{}`", path.display()))
    }
}

pub(crate) fn make_private(folder: &Path) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the folder `{}`", folder.display()))
}

fn is_absent(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn read_key(path: &Path) -> anyhow::Result<TenantKey> {
    let file = std::fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("others can read it (mode {:03o}); run `chmod 600` on it", mode & 0o777);
    }
    let mut bytes = Vec::new();
    file.take(33).read_to_end(&mut bytes)?;
    match <[u8; 32]>::try_from(bytes) {
        Ok(key) => Ok(TenantKey::new(key)),
        Err(bytes) => bail!("it has {} bytes instead of 32; it is damaged", bytes.len()),
    }
}

/// Writes the key beside its place and links it there, so that of two processes that start at once
/// both use the one that came first, and a key is there whole or not at all.
fn make_key(path: &Path) -> anyhow::Result<TenantKey> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write the key `{}`", draft.display()))?;
    match std::fs::hard_link(&draft, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error)?,
        _ => {}
    }
    std::fs::remove_file(&draft)?;
    read_key(path)
}
