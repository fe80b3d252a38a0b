//! Submodules: each is a repository of its own, fetched like any other, at the commit that the
//! repository above it names. What `.gitmodules` says is hostile; git's own command for submodules
//! is not used.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};

use super::super::GitError;
use super::address::of_submodule;
use super::run::Git;
use crate::manifest::parts;

/// Submodules of one repository.
const MOST: usize = 64;

/// A submodule that is to be fetched.
pub(super) struct Submodule {
    /// Where it is, beneath the repository.
    pub(super) path: PathBuf,
    pub(super) address: String,
    pub(super) commit: String,
}

/// What a commit says about its submodules.
pub(super) async fn of_commit(
    git: &Git<'_>,
    tree: &Path,
    commit: &str,
    parent: &str,
) -> Result<Vec<Submodule>, GitError> {
    let folder = tree.to_string_lossy();
    let listed = ["-C", &*folder, "ls-tree", "-z", commit, "--", ".gitmodules"];
    let listed = git.run("ls-tree", &listed).await?;
    if listed.is_empty() {
        return Ok(Vec::new());
    }
    let refused = |name: &str, reason: String| GitError::Submodule {
        name: name.chars().take(200).flat_map(char::escape_debug).collect(),
        reason,
    };
    if !listed.starts_with("100") {
        return Err(refused(".gitmodules", "is no regular file".into()));
    }
    let blob = format!("{commit}:.gitmodules");
    let config = ["-C", &*folder, "config", "--blob", &blob, "--no-includes", "--list", "-z"];
    let text = git.run("config", &config).await?;
    let mut sections: BTreeMap<String, [Option<String>; 2]> = BTreeMap::new();
    for setting in text.split('\0').filter(|setting| !setting.is_empty()) {
        let (key, value) = setting.split_once('\n').unwrap_or((setting, ""));
        let Some((name, which)) = key.strip_prefix("submodule.").and_then(|k| k.rsplit_once('.'))
        else {
            continue;
        };
        let place = match which {
            "path" => 0,
            "url" => 1,
            _ => continue,
        };
        let section = sections.entry(name.to_owned()).or_default();
        if let Some(place) = section.get_mut(place) {
            *place = Some(value.to_owned());
        }
    }
    if sections.len() > MOST {
        return Err(refused(".gitmodules", format!("has more than {MOST} submodules")));
    }
    let mut found = Vec::new();
    for (name, [path, url]) in sections {
        let (Some(path), Some(url)) = (path, url) else { continue };
        let path = check_name(&name)
            .and_then(|()| check_path(&path))
            .map_err(|reason| refused(&name, reason))?;
        let address = of_submodule(&url, parent).map_err(|reason| refused(&name, reason))?;
        let shown = path.to_string_lossy().into_owned();
        let entry = ["-C", &*folder, "ls-tree", "-z", commit, "--", &shown];
        let entry = git.run("ls-tree", &entry).await?;
        // Of one that was removed, `.gitmodules` may still say something.
        let Some(commit) = entry.strip_prefix("160000 commit ") else { continue };
        let commit: String = commit.chars().take_while(char::is_ascii_hexdigit).collect();
        check_place(tree, &path).map_err(|reason| refused(&name, reason))?;
        found.push(Submodule { path, address, commit });
    }
    Ok(found)
}

fn check_name(name: &str) -> Result<(), String> {
    let climbs = name.split(['/', '\\']).any(|part| part == "..");
    if name.is_empty() || name.starts_with('-') || climbs || name.chars().any(char::is_control) {
        return Err("has a name that is none".into());
    }
    Ok(())
}

fn check_path(path: &str) -> Result<PathBuf, String> {
    let bad = || format!("has the path `{}`", path.escape_debug());
    if path.starts_with('-') || path.contains('\\') || path.chars().any(char::is_control) {
        return Err(bad());
    }
    let parts = parts(path).map_err(|_| bad())?;
    if parts.is_empty() || parts.iter().any(|part| is_dot_git(part)) {
        return Err(bad());
    }
    Ok(parts.into_iter().collect())
}

/// `.git`, in whatever way some file system takes a name for it.
fn is_dot_git(part: &str) -> bool {
    let visible: String = part
        .chars()
        .filter(
            |c| !matches!(*c as u32, 0x200c..=0x200f | 0x202a..=0x202e | 0x206a..=0x206f | 0xfeff),
        )
        .collect();
    let bare = visible.split(':').next().unwrap_or_default().trim_end_matches([' ', '.']);
    bare.eq_ignore_ascii_case(".git") || bare.eq_ignore_ascii_case("git~1")
}

/// The place of a submodule in a checkout is an empty folder, reached through folders.
fn check_place(tree: &Path, path: &Path) -> Result<(), String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |_| "lies where the repository has something else".to_owned();
    let mut here = openat(CWD, tree, flags, Mode::empty()).map_err(failed)?;
    for part in path.iter() {
        here = openat(&here, part, flags, Mode::empty()).map_err(failed)?;
    }
    let dot_git = statat(&here, OsStr::new(".git"), AtFlags::SYMLINK_NOFOLLOW);
    match dot_git.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(_) => Err("lies where the repository has something else".to_owned()),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_that_lead_elsewhere_are_refused() {
        for path in
            ["../x", ".git/modules/x", "a/.GIT", "a/.g\u{200c}it", "git~1", "-x", "a\\b", "."]
        {
            assert!(check_path(path).is_err(), "{path}");
        }
        for name in ["../../x", "-x", "a\nb", ""] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert_eq!(check_path("vendor/lib"), Ok(PathBuf::from("vendor/lib")));
    }
}
