//! A whole snapshot, or one root of it, as a new folder on the host.
//!
//! Where [`WriteBack`](crate::WriteBack) gives changes back to a folder that people work in,
//! this makes a folder that was not there, for looking at and working on. All of it or nothing: it
//! is made under another name beside its place and gets its name when it is whole and durable.
//! Nothing in it is followed or executed on the way. Links stay what they were, also those that
//! lead out, because they are only text until somebody follows them; set-uid and set-gid bits are
//! left out, since on the host they would mean something else.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use moat_core::{BlobId, SnapshotId};
use moat_snapshot::{Entry, LinkGroup, Listing, LoadError, Meta, Node, RootName, Snapshots};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags, fchmod, fsetxattr,
    ftruncate, futimens, linkat, mkdirat, openat, renameat, symlinkat, syncfs, utimensat,
};
use rustix::io::Errno;
use tokio::runtime::Handle;

use crate::error::WriteBackError;

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
/// Bytes that are read and written at a time.
const CHUNK: usize = 1 << 20;
/// Where a file is looked at for holes: what is zero all over is not written.
const BLOCK: usize = 4096;

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Regular files, each name counted.
    pub files: u64,
    /// Bytes of their contents, holes counted.
    pub bytes: u64,
    /// Set-uid and set-gid bits that were left out.
    pub special_bits: u64,
    /// Extended attributes that this file system, or the caller's rights, do not allow.
    pub lost_attributes: u64,
}

/// Makes `folder` from one root of a snapshot. `folder` must not exist, or be empty.
///
/// # Errors
///
/// [`WriteBackError::Occupied`] if there is something; else what could not be read or written.
/// Then nothing is left behind.
pub async fn restore(
    snapshots: &Snapshots,
    snapshot: SnapshotId,
    root: RootName,
    folder: &Path,
) -> Result<Restored, WriteBackError> {
    let tree = snapshots.load(snapshot).await?;
    let listing = match root {
        RootName::Workspace => tree.workspace,
        RootName::Home => tree.home,
    };
    let (snapshots, folder) = (snapshots.clone(), folder.to_owned());
    let runtime = Handle::current();
    let done = tokio::task::spawn_blocking(move || {
        let restoring = Restoring::begin(&snapshots, &runtime, root, &folder)?;
        restoring.run(&listing)
    });
    done.await.map_err(|_| WriteBackError::GivenUp)?
}

struct Restoring<'a> {
    snapshots: &'a Snapshots,
    runtime: &'a Handle,
    root: RootName,
    /// Where it is to be.
    folder: &'a Path,
    /// What it is called until it is whole; removed when this is dropped.
    unfinished: tempfile::TempDir,
    top: OwnedFd,
    restored: Restored,
}

impl<'a> Restoring<'a> {
    fn begin(
        snapshots: &'a Snapshots,
        runtime: &'a Handle,
        root: RootName,
        folder: &'a Path,
    ) -> Result<Self, WriteBackError> {
        match std::fs::read_dir(folder) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(WriteBackError::Occupied { path: folder.to_owned() });
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(WriteBackError::host("look into", folder, error)),
        }
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let unfinished = tempfile::Builder::new()
            .prefix(".moat-restore-")
            .tempdir_in(parent)
            .map_err(|error| WriteBackError::host("make a folder in", parent, error))?;
        let top = openat(CWD, unfinished.path(), FOLDER, Mode::empty())
            .map_err(|error| WriteBackError::host("open", unfinished.path(), error))?;
        Ok(Self {
            snapshots,
            runtime,
            root,
            folder,
            unfinished,
            top,
            restored: Restored::default(),
        })
    }

    fn run(mut self, listing: &Listing) -> Result<Restored, WriteBackError> {
        let mut first_names: std::collections::HashMap<LinkGroup, &Path> = Default::default();
        for entry in listing.entries() {
            let parent = self.parent(&entry.path)?;
            let name = entry.path.file_name().unwrap_or_default();
            match &entry.node {
                Node::Dir => {
                    // Its own mode comes last: it may not let its owner write.
                    mkdirat(&parent, name, Mode::RWXU).map_err(|e| self.error(&entry.path, e))?;
                }
                Node::Symlink(target) => {
                    symlinkat(target, &parent, name).map_err(|e| self.error(&entry.path, e))?;
                    set_link_time(&parent, name, &entry.meta);
                }
                Node::File { content, size, link } => {
                    let first = link.and_then(|group| first_names.get(&group).copied());
                    match first {
                        Some(first) => self.link(first, &parent, name, &entry.path)?,
                        None => self.file(&parent, name, entry, *content, *size)?,
                    }
                    first_names.extend(link.filter(|_| first.is_none()).map(|g| (g, &*entry.path)));
                    self.restored.files += 1;
                }
            }
        }
        for entry in listing.entries().iter().rev() {
            if entry.node == Node::Dir {
                let folder = self.open_folder(&entry.path)?;
                self.dress(&folder, &entry.meta, &entry.path)?;
            }
        }
        let top = self.top.try_clone().map_err(|e| self.error(Path::new(""), e))?;
        self.dress(&top, listing.root(), Path::new(""))?;
        self.finish()
    }

    /// Durable first, then named: whoever sees the folder sees all of it, also after a crash.
    fn finish(self) -> Result<Restored, WriteBackError> {
        syncfs(&self.top).map_err(|e| self.error(Path::new(""), e))?;
        let unfinished = self.unfinished.keep();
        renameat(CWD, &unfinished, CWD, self.folder).map_err(|error| {
            // What is in the way came meanwhile. What was made is removed as if it had failed.
            let _ = std::fs::remove_dir_all(&unfinished);
            match error {
                Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR => {
                    WriteBackError::Occupied { path: self.folder.to_owned() }
                }
                error => WriteBackError::host("name", self.folder, error),
            }
        })?;
        Ok(self.restored)
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &Entry,
        content: BlobId,
        size: u64,
    ) -> Result<(), WriteBackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = openat(parent, name, flags | OFlags::NOFOLLOW, Mode::RUSR | Mode::WUSR);
        let file = File::from(made.map_err(|e| self.error(&entry.path, e))?);
        let mut hasher = self.snapshots.hasher();
        let mut offset = 0;
        while offset < size {
            let part = self.snapshots.read_part(content, offset, CHUNK);
            let bytes = self.runtime.block_on(part).map_err(|error| self.unread(entry, error))?;
            if bytes.is_empty() {
                return Err(self.unread(entry, Snapshots::damaged(content)).into());
            }
            hasher.update(&bytes);
            for (at, block) in bytes.chunks(BLOCK).enumerate() {
                if block.iter().any(|byte| *byte != 0) {
                    let place = offset.saturating_add((at * BLOCK) as u64);
                    file.write_all_at(block, place).map_err(|e| self.error(&entry.path, e))?;
                }
            }
            offset = offset.saturating_add(bytes.len() as u64);
        }
        if hasher.id() != content || offset != size {
            return Err(self.unread(entry, Snapshots::damaged(content)).into());
        }
        ftruncate(&file, size).map_err(|e| self.error(&entry.path, e))?;
        self.restored.bytes = self.restored.bytes.saturating_add(size);
        self.dress(&OwnedFd::from(file), &entry.meta, &entry.path)
    }

    /// What is wrong with a content, and whose it is.
    fn unread(&self, entry: &Entry, error: LoadError) -> LoadError {
        match error {
            LoadError::Content(source) => {
                LoadError::File { root: self.root, path: entry.path.clone(), source }
            }
            error => error,
        }
    }

    fn link(
        &self,
        first: &Path,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), WriteBackError> {
        let there = self.parent(first)?;
        let first = first.file_name().unwrap_or_default();
        linkat(&there, first, parent, name, AtFlags::empty()).map_err(|e| self.error(path, e))
    }

    /// Mode, attributes and time, in the order in which one does not change another.
    fn dress(&mut self, file: &OwnedFd, meta: &Meta, path: &Path) -> Result<(), WriteBackError> {
        for (name, value) in &meta.xattrs {
            let name = OsStr::from_bytes(name);
            if fsetxattr(file, name, value, XattrFlags::empty()).is_err() {
                self.restored.lost_attributes += 1;
            }
        }
        self.restored.special_bits += u64::from((meta.mode & 0o6000).count_ones());
        fchmod(file, Mode::from_raw_mode(meta.mode & 0o1777)).map_err(|e| self.error(path, e))?;
        futimens(file, &times(meta)).map_err(|e| self.error(path, e))
    }

    fn parent(&self, path: &Path) -> Result<OwnedFd, WriteBackError> {
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => self.open_folder(parent),
            None => self.top.try_clone().map_err(|e| self.error(path, e)),
        }
    }

    /// Name by name: everything here was made by this restore, folders as folders.
    fn open_folder(&self, path: &Path) -> Result<OwnedFd, WriteBackError> {
        let mut here = self.top.try_clone().map_err(|e| self.error(path, e))?;
        for name in path {
            here = openat(&here, name, FOLDER, Mode::empty()).map_err(|e| self.error(path, e))?;
        }
        Ok(here)
    }

    fn error(&self, path: &Path, error: impl Into<std::io::Error>) -> WriteBackError {
        WriteBackError::host("restore", self.folder.join(path), error)
    }
}

fn times(meta: &Meta) -> Timestamps {
    let second = 1_000_000_000;
    let modified = Timespec {
        tv_sec: meta.mtime_ns.div_euclid(second),
        tv_nsec: meta.mtime_ns.rem_euclid(second) as _,
    };
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: modified,
    }
}

/// File systems without times of links leave them as they are.
fn set_link_time(parent: &OwnedFd, name: &OsStr, meta: &Meta) {
    let _ = utimensat(parent, name, &times(meta), AtFlags::SYMLINK_NOFOLLOW);
}

#[cfg(test)]
mod tests;
