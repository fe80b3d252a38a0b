//! From a sandbox to here. Names, kinds and targets of links are the sandbox's word: a copy is made
//! beneath one folder, by descriptors, and nothing that is there is followed.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use moat_sandbox::{FileKind, FileStat, Guest, ScanEntry};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{Copied, Inside, MODE};
use crate::escape::escape;
use crate::exit::usage;

/// Bytes that are asked for at once.
const CHUNK: u32 = 4 << 20;
/// Folders in folders, and entries of one copy.
const MAX_DEPTH: usize = 256;
const MAX_ENTRIES: usize = 2_000_000;

/// What a file is written as until it is whole.
const DRAFT: &str = ".moat-copy";

pub(super) async fn copy(guest: &dyn Guest, from: &Inside, to: &Path) -> anyhow::Result<Copied> {
    let stat = if from.path.as_os_str().is_empty() {
        None
    } else {
        let missing = || usage(format!("there is no `{}` in the sandbox", from.shown()));
        Some(guest.stat(from.root, &from.path).await?.ok_or_else(missing)?)
    };
    let (parent, name) = target(from, to)?;
    let open = rustix::fs::open(&parent, FOLDER | OFlags::CLOEXEC, Mode::empty());
    let folder = open.with_context(|| format!("cannot open `{}`", parent.display()))?;
    let mut down = Down { guest, from, copied: Copied::default(), entries: 0 };
    let (path, name) = (from.path.clone(), name.as_path());
    match stat {
        Some(FileStat { kind: FileKind::Dir, .. }) | None => {
            let stat = stat.as_ref().map(|stat| (stat.mode, stat.mtime_ns));
            down.folder(&folder, name, path, stat).await?;
        }
        Some(stat) => {
            let entry = ScanEntry { path, stat };
            down.entry(&folder, name, &entry, 0).await?;
        }
    }
    Ok(down.copied)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// The folder here that gets the copy, and what the copy is called in it.
fn target(from: &Inside, to: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    if to.is_dir() {
        let name = from.name().map(PathBuf::from);
        let name = name.or_else(|| from.root.path().file_name().map(PathBuf::from));
        return Ok((to.to_owned(), name.unwrap_or_default()));
    }
    let name = to.file_name().ok_or_else(|| usage(format!("`{}` is no name", to.display())))?;
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((parent, PathBuf::from(name)))
}

struct Down<'a> {
    guest: &'a dyn Guest,
    from: &'a Inside,
    copied: Copied,
    entries: usize,
}

/// A folder here that is being filled.
struct Open {
    fd: OwnedFd,
    /// What it is of, inside.
    path: PathBuf,
    /// Mode and time that it gets when it is whole.
    stat: Option<(u32, i64)>,
    /// What is still to be copied into it.
    waiting: Vec<ScanEntry>,
}

impl Down<'_> {
    /// Copies a folder with all that is in it.
    async fn folder(
        &mut self,
        parent: &OwnedFd,
        name: &Path,
        path: PathBuf,
        stat: Option<(u32, i64)>,
    ) -> anyhow::Result<()> {
        let mut open = vec![self.open(parent, name, path, stat).await?];
        while let Some(top) = open.last_mut() {
            let Some(entry) = top.waiting.pop() else {
                if let Some(whole) = open.pop() {
                    whole.close()?;
                }
                continue;
            };
            let name = entry.path.file_name().map(PathBuf::from);
            let name = name.context("the sandbox named nothing")?;
            if entry.stat.kind == FileKind::Dir {
                anyhow::ensure!(open.len() < MAX_DEPTH, "its folders are too deep");
                let stat = Some((entry.stat.mode, entry.stat.mtime_ns));
                let Some(top) = open.last() else { break };
                let path = top.path.join(&name);
                let next = self.open(&top.fd, &name, path, stat).await?;
                open.push(next);
            } else {
                let depth = open.len();
                let Some(top) = open.last() else { break };
                let entry = ScanEntry { path: top.path.join(&name), ..entry };
                self.entry(&top.fd, &name, &entry, depth).await?;
            }
        }
        Ok(())
    }

    /// Makes a folder, or takes the one that is there, and asks what is to be in it.
    async fn open(
        &mut self,
        parent: &OwnedFd,
        name: &Path,
        path: PathBuf,
        stat: Option<(u32, i64)>,
    ) -> anyhow::Result<Open> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(cannot("make", &path, error)),
        }
        let flags = FOLDER | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty())
            .map_err(|error| cannot("make", &path, error))?;
        let mut waiting = self.guest.list(self.from.root, &path).await?;
        // As many as are in it; the last is copied first.
        waiting.sort_by(|a, b| b.path.cmp(&a.path));
        self.entries += waiting.len();
        anyhow::ensure!(self.entries <= MAX_ENTRIES, "it has more than {MAX_ENTRIES} entries");
        Ok(Open { fd, path, stat, waiting })
    }

    /// Copies what is no folder. `depth` is how many folders of the copy it lies in.
    async fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &Path,
        entry: &ScanEntry,
        depth: usize,
    ) -> anyhow::Result<()> {
        match &entry.stat.kind {
            FileKind::File => self.file(parent, name, entry).await,
            FileKind::Symlink(target) => {
                if !stays_inside(target, depth) {
                    self.copied.leave_out(&entry.path, "a link that leads out of the copy");
                    return Ok(());
                }
                match rustix::fs::symlinkat(target, parent, name) {
                    Ok(()) => Ok(()),
                    Err(Errno::EXIST) => replace_link(target, parent, name)
                        .map_err(|error| cannot("make", &entry.path, error)),
                    Err(error) => Err(cannot("make", &entry.path, error)),
                }
            }
            FileKind::Dir | FileKind::Other => {
                self.copied.leave_out(&entry.path, "neither a file, a folder nor a link");
                Ok(())
            }
        }
    }

    /// Writes a file beside its place, and puts it there when it is whole.
    async fn file(
        &mut self,
        parent: &OwnedFd,
        name: &Path,
        entry: &ScanEntry,
    ) -> anyhow::Result<()> {
        let draft = format!("{DRAFT}-{}-{}", std::process::id(), self.entries);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, &draft, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| cannot("write", &entry.path, error))?;
        let written = self.fill(File::from(fd), entry).await.and_then(|()| {
            rustix::fs::renameat(parent, &draft, parent, name)
                .map_err(|error| cannot("write", &entry.path, error))
        });
        if written.is_err() {
            // It may never have been made.
            let _ = rustix::fs::unlinkat(parent, &draft, AtFlags::empty());
        }
        written
    }

    async fn fill(&self, mut file: File, entry: &ScanEntry) -> anyhow::Result<()> {
        let failed = |error| cannot("write", &entry.path, error);
        let size = entry.stat.size;
        let mut offset = 0;
        // As much as it said it has, however much comes. A hole costs nothing inside, whatever its
        // size; nor does it here.
        while offset < size {
            let (root, path) = (self.from.root, &entry.path);
            let data = self.guest.read_data(root, path, offset..size, CHUNK).await?;
            if data.hole == 0 && data.bytes.is_empty() {
                break;
            }
            let at = offset.saturating_add(data.hole);
            offset = at.saturating_add(data.bytes.len() as u64);
            anyhow::ensure!(offset <= size, "the sandbox sent more than was asked of it");
            file.seek(SeekFrom::Start(at))
                .and_then(|_| file.write_all(&data.bytes))
                .map_err(failed)?;
        }
        file.set_len(offset).map_err(failed)?;
        let mode = Mode::from_raw_mode(entry.stat.mode & MODE);
        let set = rustix::fs::fchmod(&file, mode)
            .and_then(|()| rustix::fs::futimens(file.as_fd(), &times(entry.stat.mtime_ns)));
        set.map_err(|error| cannot("write", &entry.path, error))
    }
}

impl Open {
    fn close(self) -> anyhow::Result<()> {
        let Some((mode, mtime_ns)) = self.stat else { return Ok(()) };
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode & MODE))
            .and_then(|()| rustix::fs::futimens(&self.fd, &times(mtime_ns)))
            .map_err(|error| cannot("finish", &self.path, error))
    }
}

/// Whether a link in a folder this deep in the copy leads to somewhere in the copy. Parents stand
/// only at its beginning: those behind a name would be the parents of whatever the name leads to.
fn stays_inside(target: &Path, depth: usize) -> bool {
    let mut up = 0;
    let mut named = false;
    for part in target.components() {
        match part {
            Component::ParentDir if named => return false,
            Component::ParentDir => up += 1,
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    // In the folder that was named itself (1) nothing above belongs to the copy; of a link that was
    // named itself (0) nothing at all.
    up < depth
}

/// A link takes the place of a link or a file, never of a folder.
fn replace_link(target: &Path, parent: &OwnedFd, name: &Path) -> rustix::io::Result<()> {
    rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
    rustix::fs::symlinkat(target, parent, name)
}

fn times(mtime_ns: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime_ns.div_euclid(1_000_000_000),
        tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
    };
    Timestamps { last_access: time, last_modification: time }
}

fn cannot(what: &str, path: &Path, error: impl Into<std::io::Error>) -> anyhow::Error {
    let shown = escape(&path.to_string_lossy());
    anyhow::Error::from(error.into()).context(format!("cannot {what} the copy of `{shown}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_in_the_copy() {
        for (target, depth) in
            [("a", 1), ("a/b", 1), ("./a", 1), ("../a", 2), ("../../a", 3), ("..", 2)]
        {
            assert!(stays_inside(Path::new(target), depth), "{target} at {depth}");
        }
        for (target, depth) in [
            ("/etc/passwd", 9),
            ("..", 1),
            ("../a", 1),
            ("../../a", 2),
            ("a/..", 9),
            ("../a/../b", 9),
            ("..", 0),
            ("a", 0),
        ] {
            assert!(!stays_inside(Path::new(target), depth), "{target} at {depth}");
        }
    }
}
