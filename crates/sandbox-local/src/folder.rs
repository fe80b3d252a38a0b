//! A sandbox's folder on the host: what it may write, and what is needed to find it again.
//!
//! ```text
//! STATE/sandboxes/ID/       0700, the caller's
//!   workspace/ home/ outputs/
//!   homes/NAME/             of users beside the one that commands run as
//!   base.id base/ work/     what the workspace lies over, if it does (`bases`)
//!   layer/upper/ layer/work/  what was written over an image, if the sandbox may
//!   guest.sock              where the guest answers
//!   cgroups.json            its control groups, written before they are made
//!   sandbox.json            its first process
//!   trust.pem trust.jks     the authorities that it trusts, if it has one of its own
//! ```

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use moat_sandbox::trust::Bundle;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::limits;
use crate::process::ProcessId;
use crate::remove::remove_tree;

const SOCKET: &str = "guest.sock";
const RECORD: &str = "sandbox.json";
/// Homes of users beside the one that commands run as.
pub(crate) const HOMES: &str = "homes";
/// What was written over an image.
pub(crate) const LAYER: &str = "layer";
/// The workspace.
pub(crate) const WORKSPACE: &str = "workspace";
/// Where the launcher sees the tree that the workspace lies over, and nobody else; the launcher has
/// these two names as well.
pub(crate) const OVER: &str = "base";
/// Where the kernel prepares what is written over it.
pub(crate) const OVER_WORK: &str = "work";
/// The certificate authorities that are trusted inside, as text.
pub(crate) const TRUST: &str = "trust.pem";
/// The same for Java.
pub(crate) const TRUST_JAVA: &str = "trust.jks";

/// What is written into a sandbox's folder once its first process is known.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The first process.
    pub(crate) process: ProcessId,
}

/// A folder, held: while this lives no reaper touches it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    held: rustix::fd::OwnedFd,
}

impl Folder {
    /// Makes the folder of a new sandbox; an error if there is one of this name.
    pub(crate) fn create(sandboxes: &Path, id: &str) -> io::Result<Self> {
        let path = sandboxes.join(id);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Self::hold(&path)?
            .ok_or_else(|| io::Error::other("somebody else holds the new sandbox's folder"))
    }

    /// Makes what the sandbox may write; `user` is who commands run as, `links` are those of his
    /// home.
    pub(crate) fn furnish<'a>(
        &self,
        identity: &Identity,
        user: u32,
        links: impl Iterator<Item = &'a (PathBuf, PathBuf)>,
    ) -> io::Result<()> {
        let path = &self.path;
        let user = identity.on_host(user);
        for (name, owner) in [(WORKSPACE, user), ("home", user), ("outputs", identity.host_guest())]
        {
            let path = path.join(name);
            fs::DirBuilder::new().mode(0o755).create(&path)?;
            // The caller's mask may have taken bits that others need to look inside.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            give(&path, owner)?;
        }
        for (link, target) in links {
            let link = path.join("home").join(link);
            if let Some(parent) = link.parent() {
                fs::create_dir_all(parent)?;
                give(parent, user)?;
            }
            symlink(target, &link)?;
            if let Some(owner) = user {
                lchown(&link, Some(owner), Some(owner))?;
            }
        }
        Ok(())
    }

    /// Makes the home of somebody beside whom commands run as.
    pub(crate) fn furnish_home(&self, identity: &Identity, name: &str, uid: u32) -> io::Result<()> {
        let homes = self.path.join(HOMES);
        match fs::DirBuilder::new().mode(0o755).create(&homes) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => fs::set_permissions(&homes, fs::Permissions::from_mode(0o755))?,
        }
        let home = homes.join(name);
        fs::DirBuilder::new().mode(0o700).create(&home)?;
        if !identity.is_private() {
            // It may have got the group of the folder above, which nobody inside has.
            chown(&home, None, Some(rustix::process::getegid().as_raw()))?;
        }
        give(&home, identity.on_host(uid))
    }

    /// Makes the folder of the workspace that something is shown over.
    pub(crate) fn furnish_mount(
        &self,
        identity: &Identity,
        user: u32,
        inside: &Path,
    ) -> io::Result<()> {
        let mut path = self.path.join(WORKSPACE);
        for part in inside {
            path.push(part);
            match fs::DirBuilder::new().mode(0o755).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    give(&path, identity.on_host(user))?;
                }
            }
        }
        Ok(())
    }

    /// Makes what takes up changes of an image.
    pub(crate) fn furnish_layer(&self, identity: &Identity) -> io::Result<()> {
        let layer = self.path.join(LAYER);
        for path in [layer.clone(), layer.join("upper"), layer.join("work")] {
            fs::DirBuilder::new().mode(0o755).create(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            give(&path, identity.on_host(0))?;
        }
        Ok(())
    }

    /// Makes what a workspace needs that lies over a tree: the place of the tree, and that of the
    /// kernel's own work.
    pub(crate) fn furnish_over(&self) -> io::Result<()> {
        [OVER, OVER_WORK]
            .into_iter()
            .try_for_each(|name| fs::DirBuilder::new().mode(0o700).create(self.path.join(name)))
    }

    /// Takes hold of a folder. `None`: somebody else has it.
    pub(crate) fn hold(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::lock(path, rustix::fs::open(path, flags, Mode::empty())?)
    }

    /// Takes hold of a folder that was opened.
    fn lock(path: &Path, held: rustix::fd::OwnedFd) -> io::Result<Option<Self>> {
        match flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Since it was opened somebody may have removed it, and another have made one of its name.
        let (here, there) = (rustix::fs::fstat(&held)?, rustix::fs::lstat(path)?);
        let is_it = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino);
        Ok(is_it.then(|| Self { path: path.to_owned(), held }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The socket at which the guest will answer.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        // By the descriptor, since an address holds no more than 107 bytes of path.
        UnixListener::bind(socket_address(self.held.as_raw_fd()))
    }

    pub(crate) fn write_record(&self, record: &Record) -> io::Result<()> {
        fs::write(self.path.join(RECORD), serde_json::to_vec(record)?)
    }

    /// Writes what is trusted inside, for everyone inside to read.
    pub(crate) fn write_trust(&self, bundle: &Bundle) -> io::Result<()> {
        for (name, content) in [(TRUST, &bundle.pem), (TRUST_JAVA, &bundle.java)] {
            let path = self.path.join(name);
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
        Ok(())
    }

    /// How long ago it was made.
    pub(crate) fn age(&self) -> io::Result<Duration> {
        let made = fs::metadata(&self.path)?.modified()?;
        Ok(made.elapsed().unwrap_or_default())
    }

    /// Whether a guest listens here.
    pub(crate) fn is_answered(&self) -> bool {
        UnixStream::connect(socket_address(self.held.as_raw_fd())).is_ok()
    }

    /// Removes it with everything in it, and the sandbox's control groups. `clear` is called for
    /// what belongs to others than the caller.
    pub(crate) fn remove(self, clear: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        limits::remove_recorded(&self.path)?;
        match remove_tree(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                clear(&self.path)?;
                remove_tree(&self.path)
            }
            done => done,
        }
    }
}

/// What is known of the sandbox whose folder this is. `None`: nothing was written yet.
pub(crate) fn read_record(path: &Path) -> Option<Record> {
    let text = fs::read(path.join(RECORD)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Connects to the guest, who may be hostile, of the sandbox whose folder this is and whose first
/// process that one. Where another has its name by now, nobody is told anything.
pub(crate) async fn connect(
    path: &Path,
    process: &ProcessId,
) -> io::Result<tokio::net::UnixStream> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    let record = read_record(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())));
    if record.is_none_or(|record| record.process != *process) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "another sandbox has its name"));
    }
    tokio::net::UnixStream::connect(socket_address(folder.as_raw_fd())).await
}

fn socket_address(folder: i32) -> String {
    format!("/proc/self/fd/{folder}/{SOCKET}")
}

/// Gives a folder and everything beneath it to a user, without following a link. What is in it may
/// be a stranger's work: names are taken from descriptors of folders that were opened for
/// themselves.
pub(crate) fn give_tree(path: &Path, owner: Option<u32>) -> io::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(path, flags, Mode::empty())?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(owner), rustix::fs::Gid::from_raw(owner));
    rustix::fs::fchown(&top, Some(uid), Some(gid))?;
    // As many descriptors as the tree is deep.
    let mut open = vec![rustix::fs::Dir::read_from(&top)?];
    while let Some(folder) = open.last_mut() {
        let Some(entry) = folder.next() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::openat(folder.fd()?, name, flags, Mode::empty()) {
            Ok(below) => {
                rustix::fs::fchown(&below, Some(uid), Some(gid))?;
                let below = rustix::fs::Dir::read_from(&below)?;
                open.push(below);
            }
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
                let at = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(folder.fd()?, name, Some(uid), Some(gid), at)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn give(path: &Path, owner: Option<u32>) -> io::Result<()> {
    match owner {
        Some(owner) => chown(path, Some(owner), Some(owner)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between opening a folder and taking hold of it, it may be removed and its name given away.
    #[test]
    fn a_folder_that_has_lost_its_name_is_not_held() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("0123456789abcdef");
        fs::create_dir(&path).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let open = || rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        let (first, old) = (open(), open());
        assert!(Folder::lock(&path, first).unwrap().is_some());
        // Kept elsewhere, so that the new one cannot have its number.
        fs::rename(&path, top.path().join("elsewhere")).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Folder::lock(&path, old).unwrap().is_none());
        assert!(Folder::hold(&path).unwrap().is_some());
    }

    #[tokio::test]
    async fn only_the_sandbox_that_is_meant_is_spoken_to() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::create(top.path(), "0123456789abcdef").unwrap();
        let _listener = folder.listen().unwrap();
        let process = ProcessId::of(std::process::id() as i32).unwrap();
        let other = ProcessId::of(std::os::unix::process::parent_id() as i32).unwrap();
        let refused = connect(folder.path(), &process).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound, "nobody is known");
        folder.write_record(&Record { process: process.clone() }).unwrap();
        connect(folder.path(), &process).await.unwrap();
        assert!(connect(folder.path(), &other).await.is_err());
    }
}
