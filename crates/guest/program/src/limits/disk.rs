//! How much workspace and home hold, counted in steps so that nothing else has to wait.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

/// Entries that one step looks at: about a millisecond.
const STEP: usize = 400;

/// Folders within folders that are looked into. More than a path that programs can use has names
/// for; what is deeper only counts as [`Usage::too_deep`].
const MAX_DEPTH: usize = 1000;

/// Names of one file that are told apart from equal files.
const MAX_LINKED: usize = 1 << 20;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// Something lies deeper than anybody looks.
    pub(super) too_deep: bool,
}

/// A count under way.
pub(super) struct Count {
    /// Still to be begun.
    roots: Vec<PathBuf>,
    stack: Vec<Dir>,
    linked: HashSet<(u64, u64)>,
    usage: Usage,
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

impl Count {
    pub(super) fn begin(roots: &[PathBuf]) -> Self {
        let (stack, linked) = (Vec::new(), HashSet::new());
        Self { roots: roots.to_vec(), stack, linked, usage: Usage::default() }
    }

    /// Looks at some more. `Some` once all was seen.
    pub(super) fn step(&mut self) -> Option<Usage> {
        for _ in 0..STEP {
            let Some(folder) = self.stack.last_mut() else {
                let Some(root) = self.roots.pop() else { return Some(self.usage) };
                let opened = rustix::fs::open(&root, FOLDER, Mode::empty());
                self.push(opened.ok());
                continue;
            };
            match folder.read() {
                Some(Ok(entry)) => {
                    let name = entry.file_name();
                    if !matches!(name.to_bytes(), b"." | b"..") {
                        let name = name.to_owned();
                        self.look(&name);
                    }
                }
                Some(Err(_)) | None => drop(self.stack.pop()),
            }
        }
        None
    }

    fn push(&mut self, folder: Option<OwnedFd>) {
        let Some(folder) = folder else { return };
        if self.stack.len() >= MAX_DEPTH {
            self.usage.too_deep = true;
            return;
        }
        if let Ok(folder) = Dir::new(folder) {
            self.stack.push(folder);
        }
    }

    fn look(&mut self, name: &CString) {
        let Some(folder) = self.stack.last() else { return };
        let Ok(fd) = folder.fd() else { return };
        let Ok(stat) = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_folder = kind == FileType::Directory;
        let again = !is_folder
            && stat.st_nlink > 1
            && self.linked.len() < MAX_LINKED
            && !self.linked.insert((stat.st_dev, stat.st_ino));
        if !again {
            let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
            self.usage.bytes = self.usage.bytes.saturating_add(bytes);
            self.usage.inodes += 1;
        }
        if is_folder {
            let opened = rustix::fs::openat(fd, name, FOLDER, Mode::empty()).ok();
            self.push(opened);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_counted_once_however_many_names_a_file_has() {
        let top = std::env::temp_dir().join(format!("moat-count-{}", std::process::id()));
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::fs::write(top.join("a/file"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(top.join("a/file"), top.join("a/b/other")).unwrap();
        std::os::unix::fs::symlink("/", top.join("out")).unwrap();
        for index in 0..1000 {
            std::fs::write(top.join(format!("a/b/{index}")), "").unwrap();
        }
        let mut count = Count::begin(std::slice::from_ref(&top));
        let mut steps = 1;
        let usage = loop {
            match count.step() {
                Some(usage) => break usage,
                None => steps += 1,
            }
        };
        std::fs::remove_dir_all(&top).unwrap();
        assert!(steps > 2, "it was done in {steps} steps");
        assert_eq!(usage.inodes, 2 + 1 + 1 + 1000);
        assert!((1 << 20..3 << 20).contains(&usage.bytes), "{usage:?}");
        assert!(!usage.too_deep);
    }
}
