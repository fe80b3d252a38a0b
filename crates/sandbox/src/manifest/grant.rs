//! Which paths the workspace and grants beside it cover: by text, and then with links resolved.

use std::collections::HashSet;
use std::io;
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Links on one path that are followed. As in the peer, the 64th is one too many.
const MOST_LINKS: usize = 63;

/// A folder of the sandbox outside of its workspace that may be touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathGrant {
    /// The folder, absolute, and not the root of the file system.
    pub path: String,
    /// It may only be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// What it is for; the model reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What is to be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathOperation {
    /// It is read.
    Read,
    /// It is written, made or removed.
    Write,
    /// It is removed with everything beneath it; a link is removed itself.
    RemoveTree,
}

/// A path that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPath {
    /// Absolute, by its text alone.
    pub path: PathBuf,
    /// With links resolved; parts that are missing are kept.
    pub real: PathBuf,
}

/// Why a path may not be used.
#[derive(Debug, thiserror::Error)]
pub enum PathRefusal {
    /// It leads out of the workspace.
    #[error("`{0}` leads out of the workspace")]
    OutsideRelative(String),
    /// It is absolute, and in no folder that may be touched.
    #[error("`{0}` is outside the workspace and of every granted folder")]
    OutsideAbsolute(String),
    /// A link on it leads elsewhere.
    #[error("`{path}` leads elsewhere through a link, to `{}`", real.display())]
    SymlinkEscape {
        /// The path.
        path: String,
        /// Where it leads.
        real: PathBuf,
    },
    /// Links lead in circles.
    #[error("`{0}` leads through too many links")]
    SymlinkDepth(String),
    /// It may only be read.
    #[error("`{path}` may only be read: the grant of `{grant}` says so")]
    ReadOnly {
        /// The path.
        path: String,
        /// The grant.
        grant: String,
    },
    /// A grant is, or leads to, the root of the file system.
    #[error("the grant of `{0}` would be the whole file system")]
    GrantRoot(String),
    /// A grant is not absolute.
    #[error("the grant of `{0}` is no absolute path")]
    GrantNotAbsolute(String),
    /// The folder that relative paths begin in is not beneath the workspace.
    #[error("`{0}` is no folder beneath the workspace to work in")]
    Cwd(String),
    /// A link could not be looked at.
    #[error("cannot look at `{path}`: {source}")]
    Look {
        /// The path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl PathRefusal {
    /// The name in the conformance vectors.
    pub fn class(&self) -> &'static str {
        match self {
            Self::OutsideRelative(_) => "outside_relative",
            Self::OutsideAbsolute(_) => "outside_absolute",
            Self::SymlinkEscape { .. } => "symlink_escape",
            Self::SymlinkDepth(_) => "symlink_depth",
            Self::ReadOnly { .. } => "read_only_grant",
            Self::GrantRoot(_) => "grant_root",
            Self::GrantNotAbsolute(_) => "grant_not_absolute",
            Self::Cwd(_) => "cwd_invalid",
            Self::Look { .. } => "io",
        }
    }
}

/// The rules for paths of one sandbox. Does no I/O: whoever asks brings what reads links.
#[derive(Clone, Debug)]
pub struct PathPolicy {
    root: PathBuf,
    cwd: PathBuf,
    grants: Vec<(PathBuf, PathGrant)>,
}

impl PathPolicy {
    /// Paths beneath `root`, relative ones beneath `cwd` in it, and the granted ones.
    ///
    /// # Errors
    /// If `cwd` or a grant makes no sense by its text.
    pub fn new(root: &str, cwd: Option<&str>, grants: &[PathGrant]) -> Result<Self, PathRefusal> {
        let cwd = cwd.map_or_else(|| Ok(PathBuf::new()), check_cwd)?;
        let mut known = Vec::new();
        for grant in grants {
            if !grant.path.starts_with('/') {
                return Err(PathRefusal::GrantNotAbsolute(grant.path.clone()));
            }
            let path = fold(Path::new(&grant.path));
            if path == Path::new("/") {
                return Err(PathRefusal::GrantRoot(grant.path.clone()));
            }
            known.push((path, grant.clone()));
        }
        Ok(Self { root: fold(Path::new(root)), cwd, grants: known })
    }

    /// The absolute path that a text means.
    ///
    /// # Errors
    /// If it is outside, or is to be written and may only be read.
    pub fn normalise(&self, text: &str, operation: PathOperation) -> Result<PathBuf, PathRefusal> {
        if is_windows_absolute(text) {
            return Err(PathRefusal::OutsideAbsolute(text.to_owned()));
        }
        let slashed = text.replace('\\', "/");
        let is_absolute = slashed.starts_with('/');
        let whole = if is_absolute {
            fold(Path::new(&slashed))
        } else {
            fold(&self.root.join(&self.cwd).join(&slashed))
        };
        if whole.starts_with(&self.root) {
            return Ok(whole);
        }
        if !is_absolute {
            return Err(PathRefusal::OutsideRelative(text.to_owned()));
        }
        let roots = self.grants.iter().map(|(path, grant)| (path.as_path(), grant));
        match longest(&whole, roots) {
            None => Err(PathRefusal::OutsideAbsolute(text.to_owned())),
            Some(grant) if grant.read_only && operation != PathOperation::Read => {
                Err(read_only(text, grant))
            }
            Some(_) => Ok(whole),
        }
    }

    /// The same with links resolved. `link` answers a link's target, and `None` for everything
    /// else and for what is not there.
    ///
    /// # Errors
    /// If the path is refused by its text or by where it leads.
    pub fn resolve(
        &self,
        text: &str,
        operation: PathOperation,
        link: &mut dyn FnMut(&Path) -> io::Result<Option<PathBuf>>,
    ) -> Result<ResolvedPath, PathRefusal> {
        let mut real = |path: &Path| real_path(path, link);
        let path = self.normalise(text, operation)?;
        let resolved = real(&path)?;
        let mut grants = Vec::new();
        for (path, grant) in &self.grants {
            let resolved = real(path)?;
            if resolved == Path::new("/") {
                return Err(PathRefusal::GrantRoot(grant.path.clone()));
            }
            grants.push((resolved, grant));
        }
        let root = real(&self.root)?;
        let allow = |at: &Path| {
            if at.starts_with(&root) {
                return Ok(());
            }
            match longest(at, grants.iter().map(|(path, grant)| (path.as_path(), *grant))) {
                None => Err(PathRefusal::SymlinkEscape { path: text.into(), real: at.to_owned() }),
                Some(grant) if grant.read_only && operation != PathOperation::Read => {
                    Err(read_only(text, grant))
                }
                Some(_) => Ok(()),
            }
        };
        allow(&resolved)?;
        let mut is_link =
            || link(&path).map_err(|source| look(&path, source)).map(|to| to.is_some());
        if operation == PathOperation::RemoveTree && !is_link()? {
            let beneath = grants
                .iter()
                .filter(|(path, grant)| grant.read_only && path.starts_with(&resolved));
            for (path, _) in beneath {
                allow(path)?;
            }
        }
        Ok(ResolvedPath { path, real: resolved })
    }
}

fn read_only(path: &str, grant: &PathGrant) -> PathRefusal {
    PathRefusal::ReadOnly { path: path.to_owned(), grant: grant.path.clone() }
}

fn look(path: &Path, source: io::Error) -> PathRefusal {
    PathRefusal::Look { path: path.display().to_string(), source }
}

/// The grant of the longest folder above a path; of equal ones the first.
fn longest<'a>(
    path: &Path,
    grants: impl Iterator<Item = (&'a Path, &'a PathGrant)>,
) -> Option<&'a PathGrant> {
    let mut best: Option<(usize, &PathGrant)> = None;
    for (folder, grant) in grants.filter(|(folder, _)| path.starts_with(folder)) {
        let length = folder.as_os_str().len();
        if best.is_none_or(|(longest, _)| length > longest) {
            best = Some((length, grant));
        }
    }
    best.map(|(_, grant)| grant)
}

fn check_cwd(cwd: &str) -> Result<PathBuf, PathRefusal> {
    let path = Path::new(cwd);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    let is_bad = cwd.trim().is_empty() || cwd.contains('\\') || is_windows_absolute(cwd);
    if is_bad || path.is_absolute() || climbs {
        return Err(PathRefusal::Cwd(cwd.to_owned()));
    }
    Ok(path.to_owned())
}

/// `C:\…` and `C:/…`; `C:x` is an ordinary name.
fn is_windows_absolute(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b':', b'/' | b'\\', ..] if letter.is_ascii_alphabetic())
}

/// Takes `.` and `..` out by text alone.
fn fold(path: &Path) -> PathBuf {
    let mut folded = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => {
                folded.pop();
            }
            Component::Normal(name) => folded.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    folded
}

fn real_path(
    path: &Path,
    link: &mut dyn FnMut(&Path) -> io::Result<Option<PathBuf>>,
) -> Result<PathBuf, PathRefusal> {
    let too_deep = || PathRefusal::SymlinkDepth(path.display().to_string());
    let mut real = PathBuf::from("/");
    let mut left: Vec<PathBuf> = reversed(path);
    let (mut followed, mut seen) = (0, HashSet::new());
    while let Some(part) = left.pop() {
        match part.components().next() {
            Some(Component::RootDir) => real = PathBuf::from("/"),
            Some(Component::ParentDir) => {
                real.pop();
            }
            Some(Component::Normal(name)) => {
                let here = real.join(name);
                match link(&here).map_err(|source| look(&here, source))? {
                    None => real = here,
                    Some(target) => {
                        followed += 1;
                        // The same link with the same rest: it leads back to itself.
                        if followed > MOST_LINKS || !seen.insert((here, left.len())) {
                            return Err(too_deep());
                        }
                        left.extend(reversed(&target));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(real)
}

fn reversed(path: &Path) -> Vec<PathBuf> {
    path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect()
}

#[cfg(test)]
mod tests;
