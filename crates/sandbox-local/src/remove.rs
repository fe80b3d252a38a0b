//! Removes a tree that programs made which wished us ill: without following a link, without
//! recursion, with two descriptors however deep it is, and through folders that were closed.

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fchmod, openat, unlinkat};
use rustix::io::Errno;

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes `path` and everything in it. Nobody else may be at work in it any more. A path that is
/// not there is no error.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let Some(mut here) = enter(CWD, path)? else {
        return match unlinkat(CWD, path, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        };
    };
    // Names of the folders between `path` and `here`.
    let mut names: Vec<CString> = Vec::new();
    loop {
        if let Some(name) = empty(&here)? {
            here = enter(&here, &*name)?.ok_or(Errno::NOTDIR)?;
            names.push(name);
            continue;
        }
        let Some(name) = names.pop() else { break };
        here = openat(&here, c"..", FOLDER, Mode::empty())?;
        unlinkat(&here, &*name, AtFlags::REMOVEDIR)?;
    }
    drop(here);
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder so that its entries can be removed. `None`: it is no folder, or is not there.
fn enter<P: rustix::path::Arg + Copy>(
    parent: impl rustix::fd::AsFd,
    name: P,
) -> io::Result<Option<OwnedFd>> {
    let open = || openat(parent.as_fd(), name, FOLDER, Mode::empty());
    let folder = match open() {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        // Closed by its owner, who is this process or weaker.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent.as_fd(), name, Mode::RWXU, AtFlags::empty())?;
            open()?
        }
        opened => opened?,
    };
    Ok(Some(folder))
}

/// Removes everything in a folder but folders; answers one of those, if there is any.
fn empty(folder: &OwnedFd) -> io::Result<Option<CString>> {
    // Readable it is, since it was opened; that names can be removed takes more.
    let _ = fchmod(folder, Mode::RWXU);
    loop {
        let mut removed = false;
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let is_folder = || -> io::Result<bool> {
                if entry.file_type() != FileType::Unknown {
                    return Ok(entry.file_type() == FileType::Directory);
                }
                let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
            };
            if !is_folder()? {
                unlinkat(folder, name, AtFlags::empty())?;
                removed = true;
                continue;
            }
            // Most folders are empty, or soon are.
            match unlinkat(folder, name, AtFlags::REMOVEDIR) {
                Ok(()) => removed = true,
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => {
                    return Ok(Some(name.to_owned()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Removing while listing may skip names; the last listing has to find nothing.
        if !removed {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn closed_folders_and_links_out_of_the_tree() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let top = tempfile::tempdir().unwrap();
        let tree = top.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::write(tree.join("a/b/c/file"), "x").unwrap();
        symlink(outside.path(), tree.join("a/link")).unwrap();
        symlink(outside.path().join("kept"), tree.join("a/b/link")).unwrap();
        for closed in ["a/b/c", "a/b", "a"] {
            fs::set_permissions(tree.join(closed), fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.path().join("kept").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn deeper_than_a_path_or_descriptors_reach() {
        let top = tempfile::tempdir().unwrap();
        let tree = top.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut here = openat(CWD, &tree, FOLDER, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, "deeper", Mode::RWXU).unwrap();
            here = openat(&here, "deeper", FOLDER, Mode::empty()).unwrap();
        }
        drop(here);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
