//! A repository on this host, looked at before git reads it: what it keeps elsewhere, and would be
//! read from there, has to lie beneath allowed folders as well.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::super::host::host_error;
use super::super::{HostFolders, MaterialiseError};

/// Bytes of a file that names a folder, or folders.
const LONGEST: u64 = 64 * 1024;
/// Folders that repositories may name one after the other.
const MOST: usize = 64;
/// Folders of one repository within each other.
const DEEPEST: usize = 64;

/// Checks the repository at `path`. Blocks.
pub(super) fn check(path: &Path, folders: &HostFolders) -> Result<(), MaterialiseError> {
    let above = std::iter::once(&folders.base).chain(&folders.allowed);
    let mut look = Look {
        above: above.filter_map(|folder| fs::canonicalize(folder).ok()).collect(),
        seen: BTreeSet::new(),
        left: folders.limits.entries,
        most: folders.limits.entries,
    };
    let dot_git = path.join(".git");
    let repository = match fs::symlink_metadata(&dot_git) {
        Ok(stat) if stat.is_file() => match named(&dot_git, path, "gitdir:")?.pop() {
            Some(folder) => folder,
            // Git takes it for none either.
            None => return Ok(()),
        },
        Ok(_) => dot_git,
        Err(_) => path.to_owned(),
    };
    look.at(&repository)
}

struct Look {
    /// What may be read.
    above: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
    left: u64,
    most: u64,
}

impl Look {
    /// A folder of git's, with all that it names. One that is not there names nothing.
    fn at(&mut self, folder: &Path) -> Result<(), MaterialiseError> {
        let Some(real) = self.allowed(folder)? else { return Ok(()) };
        if !self.seen.insert(real.clone()) {
            return Ok(());
        }
        if self.seen.len() > MOST {
            return Err(MaterialiseError::NotAllowed { path: folder.to_owned() });
        }
        self.links(&real, 0)?;
        for folder in named(&real.join("commondir"), &real, "")? {
            self.at(&folder)?;
        }
        // Either it is a repository's folder, or one of its objects.
        for objects in [real.join("objects"), real.clone()] {
            for folder in named(&objects.join("info/alternates"), &objects, "")? {
                self.at(&folder)?;
            }
        }
        Ok(())
    }

    /// Every link beneath a folder leads to what may be read.
    fn links(&mut self, folder: &Path, depth: usize) -> Result<(), MaterialiseError> {
        let failed = |error| host_error(folder, error);
        if depth > DEEPEST {
            return Err(failed(io::Error::other("its folders are nested too deep")));
        }
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            self.left = self.left.checked_sub(1).ok_or_else(|| MaterialiseError::TooMuch {
                path: path.clone(),
                what: "files and folders",
                limit: self.most,
            })?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_symlink() {
                if let Some(real) = self.allowed(&path)?.filter(|real| real.is_dir())
                    && self.seen.insert(real.clone())
                {
                    self.links(&real, depth + 1)?;
                }
            } else if kind.is_dir() {
                self.links(&path, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Where a path really is, if it is there at all and may be read.
    fn allowed(&self, path: &Path) -> Result<Option<PathBuf>, MaterialiseError> {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(host_error(path, error)),
        };
        match self.above.iter().any(|folder| real.starts_with(folder)) {
            true => Ok(Some(real)),
            false => Err(MaterialiseError::NotAllowed { path: real }),
        }
    }
}

/// The folders that a file names, one in each line, relative to `to`.
fn named(file: &Path, to: &Path, before: &str) -> Result<Vec<PathBuf>, MaterialiseError> {
    let mut text = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut text));
    match read {
        Ok(_) if text.len() as u64 > LONGEST => {
            return Err(host_error(file, io::Error::other("it is too long")));
        }
        Ok(_) => {}
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(host_error(file, error)),
    }
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    let folder = |line: &[u8]| {
        let line = line.strip_prefix(before.as_bytes())?.trim_ascii();
        // Git puts quotes around names that need them, and such a name is nobody's but a trick.
        let is_plain = !line.starts_with(b"\"") && !line.contains(&0);
        is_plain.then(|| to.join(std::ffi::OsStr::from_bytes(line)))
    };
    lines
        .map(|line| {
            let odd =
                || host_error(file, io::Error::other("it names no folder that is understood"));
            folder(line).ok_or_else(odd)
        })
        .collect()
}
