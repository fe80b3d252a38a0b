use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use moat_sandbox::GuestError;

use super::path::link_target;

/// Links that may be followed on the way to one file.
const MOST_LINKS: usize = 40;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileNode {
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Bytes.
        size: u64,
    },
    /// A folder.
    Dir,
    /// A symbolic link and its target.
    Symlink(PathBuf),
    /// A pipe, socket or device.
    Other,
}

/// The files that a patch is planned on. Paths are relative to the workspace; no part of a path
/// that is asked for, but the last, is a link.
#[async_trait]
pub trait FileSource: Send + Sync {
    /// What is at a path; links are not followed. `None`: nothing.
    async fn stat(&self, path: &Path) -> Result<Option<FileNode>, SourceError>;

    /// Up to `length` bytes (at most 4 MiB) from `offset` on; none at the end.
    async fn read_at(&self, path: &Path, offset: u64, length: u32) -> Result<Vec<u8>, SourceError>;
}

/// Why a [`FileSource`] did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system said no about this file: the model is told.
    #[error("{0}")]
    Refused(String),
    /// The sandbox cannot be asked: the call's outcome is not the model's fault.
    #[error(transparent)]
    Guest(#[from] GuestError),
}

impl moat_core::Retryable for SourceError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Guest(error) if error.is_retryable())
    }
}

/// The workspace as it is after the operations that were planned so far.
pub(super) struct View<'s> {
    pub(super) source: &'s dyn FileSource,
    /// What the source said.
    known: HashMap<PathBuf, Option<FileNode>>,
    /// What operations made of it.
    planned: HashMap<PathBuf, Option<FileNode>>,
    /// Folders that planned files need.
    folders: HashSet<PathBuf>,
}

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Without links; empty for the workspace itself.
    pub(super) path: PathBuf,
    pub(super) node: Option<FileNode>,
}

/// Why a path leads nowhere.
#[derive(Debug)]
pub(super) enum ResolveError {
    /// A link on the way leads out of the workspace.
    Outside(PathBuf),
    /// Too many links.
    Loop,
    /// Something on the way is no folder.
    NotDir(PathBuf),
    Source(SourceError),
}

impl<'s> View<'s> {
    pub(super) fn new(source: &'s dyn FileSource) -> Self {
        Self { source, known: HashMap::new(), planned: HashMap::new(), folders: HashSet::new() }
    }

    /// Says that a file of this size will be at a path.
    pub(super) fn plan_file(&mut self, path: &Path, mode: u32, size: u64) {
        self.planned.insert(path.to_owned(), Some(FileNode::File { mode, size }));
        self.folders.extend(path.ancestors().skip(1).map(Path::to_owned));
    }

    /// Says that nothing will be at a path.
    pub(super) fn plan_removal(&mut self, path: &Path) {
        self.planned.insert(path.to_owned(), None);
    }

    /// Follows links, the last name's only if `follow_last`.
    pub(super) async fn resolve(
        &mut self,
        names: &[String],
        follow_last: bool,
    ) -> Result<Resolved, ResolveError> {
        let mut walk = Walk { left: names.iter().map(OsString::from).collect(), ..Walk::default() };
        let mut at = Resolved { path: PathBuf::new(), node: Some(FileNode::Dir) };
        while let Some(name) = walk.left.pop_front() {
            if name == ".." {
                if !at.path.pop() {
                    return Err(ResolveError::Outside(walk.last_link));
                }
                at.node = Some(FileNode::Dir);
                continue;
            }
            let next = at.path.join(&name);
            let node = self.look(&next).await.map_err(ResolveError::Source)?;
            match node {
                Some(FileNode::Symlink(target)) if follow_last || !walk.left.is_empty() => {
                    let from_root = walk.follow(&next, &target)?;
                    if from_root {
                        at.path = PathBuf::new();
                    }
                    at.node = Some(FileNode::Dir);
                }
                Some(FileNode::File { .. } | FileNode::Other) if !walk.left.is_empty() => {
                    return Err(ResolveError::NotDir(next));
                }
                node => at = Resolved { path: next, node },
            }
        }
        if at.path.as_os_str().is_empty() {
            at.node = Some(FileNode::Dir);
        }
        Ok(at)
    }

    async fn look(&mut self, path: &Path) -> Result<Option<FileNode>, SourceError> {
        if self.folders.contains(path) {
            return Ok(Some(FileNode::Dir));
        }
        if let Some(planned) = self.planned.get(path) {
            return Ok(planned.clone());
        }
        // Below what an operation removed, the source has nothing to say.
        if path.ancestors().skip(1).any(|above| self.planned.contains_key(above)) {
            return Ok(None);
        }
        if let Some(known) = self.known.get(path) {
            return Ok(known.clone());
        }
        let node = self.source.stat(path).await?;
        self.known.insert(path.to_owned(), node.clone());
        Ok(node)
    }
}

/// The names that are left to walk.
#[derive(Default)]
struct Walk {
    left: VecDeque<OsString>,
    links: usize,
    last_link: PathBuf,
}

impl Walk {
    /// Puts a link's target before what is left. Returns whether it starts at the root.
    fn follow(&mut self, link: &Path, target: &Path) -> Result<bool, ResolveError> {
        self.links += 1;
        self.last_link = link.to_owned();
        if self.links > MOST_LINKS {
            return Err(ResolveError::Loop);
        }
        let outside = || ResolveError::Outside(link.to_owned());
        let (from_root, below) = link_target(target).ok_or_else(outside)?;
        for component in below.components().rev() {
            match component {
                Component::Normal(name) => self.left.push_front(name.to_owned()),
                Component::ParentDir => self.left.push_front(OsString::from("..")),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        Ok(from_root)
    }
}
