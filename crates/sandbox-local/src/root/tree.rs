use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::plan::{Plan, Slot, Step};

/// Which part of the work is done. Over an image, files and mount points are made in one place and
/// mounts in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Everything, as it comes.
    All,
    /// Folders, files and links only.
    Layout,
    /// Mounts only.
    Mounts,
}

/// The new root while it is being made; makes the folders that lead to a path once.
pub(super) struct Tree<'p> {
    plan: &'p mut Plan,
    phase: Phase,
    made: BTreeSet<PathBuf>,
}

impl<'p> Tree<'p> {
    pub(super) fn new(plan: &'p mut Plan, phase: Phase) -> Self {
        Self { plan, phase, made: BTreeSet::new() }
    }

    /// Whether mounts are made, and what needs them.
    pub(super) fn mounts(&self) -> bool {
        self.phase != Phase::Layout
    }

    fn lays_out(&self) -> bool {
        self.phase != Phase::Mounts
    }

    pub(super) fn plan(&mut self) -> &mut Plan {
        self.plan
    }

    pub(super) fn folder(&mut self, path: &Path) {
        let path = inside(path);
        if path.as_os_str().is_empty() || self.made.contains(path) || !self.lays_out() {
            return;
        }
        if let Some(parent) = path.parent() {
            self.folder(parent);
        }
        let name = format!("make the folder `/{}`", path.display());
        self.plan.push(name, &Step::MakeDir { path, mode: 0o755 });
        self.made.insert(path.to_owned());
    }

    pub(super) fn file(&mut self, path: &Path, mode: u32, content: &[u8]) {
        if !self.lays_out() {
            return;
        }
        let path = self.place(path);
        let name = format!("make the file `/{}`", path.display());
        self.plan.push(name, &Step::File { path: &path, mode, content });
    }

    pub(super) fn link(&mut self, path: &Path, target: &OsStr) {
        if !self.lays_out() {
            return;
        }
        let path = self.place(path);
        let name = format!("make the link `/{}`", path.display());
        self.plan.push(name, &Step::Symlink { target, path: &path });
    }

    /// Shows what is in the slot at the path.
    pub(super) fn bind(&mut self, slot: Slot, path: &Path, folder: bool, attributes: u32) {
        if folder {
            self.folder(path);
        } else {
            self.file(path, 0o444, b"");
        }
        self.bind_over(slot, path, attributes);
    }

    /// Shows a mount that is nowhere yet.
    pub(super) fn attach(&mut self, slot: Slot, path: &Path, attributes: u32) {
        self.folder(path);
        if !self.mounts() {
            return;
        }
        let target = inside(path);
        let name = format!("mount `/{}`", target.display());
        self.plan.push(name, &Step::Attach { slot, attributes, target });
    }

    /// The same as [`Tree::bind`] over what is there.
    pub(super) fn bind_over(&mut self, slot: Slot, path: &Path, attributes: u32) {
        if !self.mounts() {
            return;
        }
        let target = inside(path);
        let name = format!("mount `/{}`", target.display());
        self.plan.push(name, &Step::Bind { slot, attributes, target });
    }

    pub(super) fn mount(&mut self, kind: &str, path: &Path, flags: libc::c_ulong, options: &str) {
        self.folder(path);
        if !self.mounts() {
            return;
        }
        let target = inside(path);
        let name = format!("mount `/{}`", target.display());
        let flags = flags as u32;
        self.plan.push(name, &Step::Mount { source: kind, target, kind, flags, options });
    }

    pub(super) fn mask(&mut self, path: &Path, cover: &Path) {
        self.hide(path, cover, false);
    }

    /// Hides what lies among shown files, if anybody inside can reach it.
    pub(super) fn mask_shown(&mut self, path: &Path, cover: &Path) {
        self.hide(inside(path), cover, true);
    }

    fn hide(&mut self, path: &Path, cover: &Path, reachable: bool) {
        if !self.mounts() {
            return;
        }
        let name = format!("hide `/{}`", path.display());
        self.plan.push(name, &Step::Mask { path, cover, reachable });
    }

    /// Writes a setting that is the sandbox's own.
    pub(super) fn setting(&mut self, path: &Path, content: &str) {
        if self.mounts() {
            let name = format!("set `/{}`", path.display());
            self.plan.push(name, &Step::Setting { path, content: content.as_bytes() });
        }
    }

    /// Makes what is in a folder of a mount read-only.
    pub(super) fn read_only(&mut self, path: &Path) {
        if self.mounts() {
            let name = format!("make `/{}` read-only", path.display());
            self.plan.push(name, &Step::ReadOnly { path, bind: true });
        }
    }

    fn place(&mut self, path: &Path) -> PathBuf {
        let path = inside(path);
        if let Some(parent) = path.parent() {
            self.folder(parent);
        }
        path.to_owned()
    }
}

/// Relative to the new root.
fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
