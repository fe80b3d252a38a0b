//! A manifest as a whole, checked before anything is read.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use moat_core::{MountRecord, RemoteRecord};

use super::{git, shown};
use crate::manifest::{
    Accounts, ArchiveEntry, Common, Declared, Dir, GitRepo, InlineFile, Layout, LocalDir,
    LocalFile, Manifest, ManifestEntry, ManifestError, PathPolicy, Permissions, Skill,
    check_accounts, parts, variable_problem,
};

/// One entry of a manifest, with its place in the workspace.
pub(super) struct Source {
    pub(super) at: PathBuf,
    pub(super) what: What,
    /// User and group of everything in it, if they are not the sandbox's own.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) permissions: Option<Permissions>,
    pub(super) ephemeral: bool,
}

pub(super) enum What {
    Folder,
    File {
        content: Vec<u8>,
        executable: bool,
    },
    LocalFile(LocalFile),
    Local(LocalDir),
    Git(Box<GitRepo>),
    Skill(Skill),
    Archive(Box<ArchiveEntry>),
    /// Storage elsewhere, copied.
    Remote(RemoteRecord),
}

impl What {
    /// Whether what is in it is only known when it is there.
    fn is_tree(&self) -> bool {
        !matches!(self, Self::Folder | Self::File { .. } | Self::LocalFile(_))
    }
}

/// What a manifest asks for.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) sources: Vec<Source>,
    pub(super) mounts: Vec<MountRecord>,
    pub(super) layout: Layout,
}

/// Checks a manifest as a whole.
pub(super) fn check(manifest: &Manifest) -> Result<Checked, ManifestError> {
    if let Some(version @ (0 | 2..)) = manifest.version {
        return Err(ManifestError::Version(version));
    }
    PathPolicy::new(super::WORKSPACE, None, &manifest.path_grants)
        .map_err(|error| ManifestError::Grant(error.to_string()))?;
    for (name, value) in &manifest.environment {
        if let Some(problem) = variable_problem(name, value) {
            return Err(ManifestError::Variable { name: name.clone(), problem });
        }
    }
    check_accounts(manifest)?;
    let accounts = Accounts::of(manifest);
    let mut checker = Checker { accounts, checked: Checked::default() };
    for (path, entry) in &manifest.entries {
        checker.add(&[], path, entry, Inherited::default())?;
    }
    let checked = checker.checked;
    no_two_at_one_place(&checked)?;
    Ok(checked)
}

/// An entry inside a copied folder would be two sources for one path; so would one in a mount.
fn no_two_at_one_place(checked: &Checked) -> Result<(), ManifestError> {
    let places: Vec<_> = checked.sources.iter().map(|source| &source.at).collect();
    let mounted: Vec<PathBuf> = checked
        .mounts
        .iter()
        .filter_map(|mount| {
            let inside = PathBuf::from(&mount.path);
            inside.strip_prefix(super::WORKSPACE).ok().map(PathBuf::from)
        })
        .collect();
    let trees = checked.sources.iter().filter(|source| source.what.is_tree());
    for outer in trees.map(|source| &source.at).chain(&mounted) {
        // A mount may lie in a copy: what the copy has there is covered.
        let inner = places.iter().find(|inner| **inner != outer && inner.starts_with(outer));
        if let Some(inner) = inner {
            return Err(ManifestError::DuplicatePath(shown(inner)));
        }
    }
    for (index, mount) in checked.mounts.iter().enumerate() {
        let here = Path::new(&mount.path);
        let mut others = checked.mounts.iter().take(index).map(|other| Path::new(&other.path));
        let overlaps = others.any(|other| here.starts_with(other) || other.starts_with(here));
        let covers = places.iter().any(|at| Path::new(super::WORKSPACE).join(at) == here);
        if overlaps || covers {
            return Err(ManifestError::DuplicatePath(mount.path.clone()));
        }
    }
    Ok(())
}

/// What entries in a folder have from it.
#[derive(Clone, Copy, Default)]
struct Inherited {
    owner: Option<(u32, u32)>,
    ephemeral: bool,
}

struct Checker {
    accounts: Accounts,
    checked: Checked,
}

impl Checker {
    fn add(
        &mut self,
        above: &[String],
        path: &str,
        entry: &ManifestEntry,
        inherited: Inherited,
    ) -> Result<(), ManifestError> {
        let problem = |problem: String| ManifestError::Entry { path: path.to_owned(), problem };
        let common = entry.common();
        let target = match super::mounts::target(entry, above, path) {
            Some(target) => Some(target.map_err(problem)?),
            None => None,
        };
        let what = Declared {
            is_file: entry.is_file(),
            description: common.description,
            shown: target.clone(),
        };
        let here = self.checked.layout.declare(above, path, what)?;
        let at: PathBuf = here.iter().collect();
        let own = Inherited {
            owner: self.owner(&common).map_err(problem)?.or(inherited.owner),
            ephemeral: common.ephemeral || inherited.ephemeral,
        };
        if at.as_os_str().is_empty() && own.ephemeral {
            return Err(problem(
                "is the workspace itself, which checkpoints cannot leave out".into(),
            ));
        }
        let what = match entry {
            ManifestEntry::Dir(Dir { children, .. }) => {
                self.push(at, What::Folder, own, common.permissions);
                return children
                    .iter()
                    .try_for_each(|(path, entry)| self.add(&here, path, entry, own));
            }
            ManifestEntry::File(_) | ManifestEntry::LocalFile(_) if here.is_empty() => {
                return Err(problem("is a file".to_owned()));
            }
            ManifestEntry::File(file) => {
                let content = content_of(file).map_err(problem)?;
                What::File { content, executable: file.executable }
            }
            ManifestEntry::LocalFile(file) => What::LocalFile(file.clone()),
            ManifestEntry::LocalDir(local) => What::Local(local.clone()),
            ManifestEntry::GitRepo(repo) => {
                git::check(repo).map_err(problem)?;
                What::Git(Box::new(repo.clone()))
            }
            ManifestEntry::Skill(skill) => What::Skill(skill.clone()),
            ManifestEntry::Archive(archive) => {
                if let Some(subpath) = &archive.subpath {
                    let bad = |error| problem(format!("has a bad `subpath`: {error}"));
                    parts(subpath).map_err(bad)?;
                }
                What::Archive(Box::new(archive.clone()))
            }
            mount => match super::mounts::record(mount, target.unwrap_or_default()) {
                Ok(super::mounts::Wanted::Copy(remote)) => What::Remote(remote),
                Ok(super::mounts::Wanted::Mount(record)) => {
                    if common.permissions.is_some()
                        || common.user.is_some()
                        || common.group.is_some()
                    {
                        let text =
                            "is a mount, whose modes and owners are not the sandbox's to set";
                        return Err(problem(text.to_owned()));
                    }
                    self.checked.mounts.push(record);
                    return Ok(());
                }
                Err(text) => return Err(problem(text)),
            },
        };
        self.push(at, what, own, common.permissions);
        Ok(())
    }

    fn push(&mut self, at: PathBuf, what: What, own: Inherited, permissions: Option<Permissions>) {
        let Inherited { owner, ephemeral } = own;
        self.checked.sources.push(Source { at, what, owner, permissions, ephemeral });
    }

    fn owner(&self, common: &Common<'_>) -> Result<Option<(u32, u32)>, String> {
        let nobody = |kind: &str, name: &str| {
            format!(
                "belongs to the {kind} `{}`, which the manifest does not have",
                name.escape_debug()
            )
        };
        if common.user.is_none() && common.group.is_none() {
            return Ok(None);
        }
        let user = common.user.unwrap_or("agent");
        let uid = *self.accounts.users.get(user).ok_or_else(|| nobody("user", user))?;
        let gid = match common.group {
            None => uid,
            Some(group) => {
                *self.accounts.groups.get(group).ok_or_else(|| nobody("group", group))?
            }
        };
        Ok(Some((uid, gid)))
    }
}

fn content_of(file: &InlineFile) -> Result<Vec<u8>, String> {
    match (&file.content, &file.base64) {
        (Some(text), None) => Ok(text.clone().into_bytes()),
        (None, Some(base64)) => {
            let packed: String = base64.split_whitespace().collect();
            let decoded = base64::engine::general_purpose::STANDARD.decode(packed);
            decoded.map_err(|error| format!("has no valid base64: {error}"))
        }
        (None, None) => Ok(Vec::new()),
        (Some(_), Some(_)) => Err("has `content` and `base64`; give one of them".to_owned()),
    }
}
