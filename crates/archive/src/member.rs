use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::error::Refusal;

/// Bytes of the longest path.
const LONGEST_PATH: usize = 4096;
/// Bytes of the longest part of one.
const LONGEST_NAME: usize = 255;

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file of this many bytes.
    File {
        /// Bytes of its content.
        size: u64,
    },
    /// A symbolic link and what it leads to, verbatim.
    Symlink(PathBuf),
    /// A second name of a file that is an earlier member.
    Hardlink(PathBuf),
}

/// A member that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Relative, of ordinary parts only.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// The permission bits that it gets.
    pub mode: u32,
    /// Last change: nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Which of the archive's members it is, all of them counted.
    pub(crate) ordinal: u64,
}

/// The path that a name of a member means. Empty: the root.
pub(crate) fn path_of(name: &[u8]) -> Result<PathBuf, Refusal> {
    if is_windows_drive(name) {
        return Err(Refusal::WindowsDrive);
    }
    if name.contains(&b'\\') {
        return Err(Refusal::Backslash);
    }
    if name.starts_with(b"/") {
        return Err(Refusal::AbsolutePath);
    }
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Refusal::ParentTraversal),
            part if part.len() > LONGEST_NAME || part.contains(&0) => return Err(Refusal::Name),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(Refusal::Name);
    }
    Ok(path)
}

/// `C:…`, `//server/share…` and the same with back slashes.
fn is_windows_drive(name: &[u8]) -> bool {
    if let [letter, b':', ..] = name
        && letter.is_ascii_alphabetic()
    {
        return true;
    }
    let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\');
    let [first, second, rest @ ..] = name else { return false };
    if !is_separator(first) || !is_separator(second) {
        return false;
    }
    // A server, one separator, and a share.
    match rest.iter().position(is_separator) {
        None | Some(0) => false,
        Some(end) => rest.get(end + 1).is_some_and(|byte| !is_separator(byte)),
    }
}

/// Whether a link at `path` stays inside whatever else the tree holds: it climbs only before it
/// descends, so no other link on its way decides where `..` leads, and not above the root.
pub(crate) fn stays_inside(path: &Path, target: &Path) -> bool {
    use std::path::Component;
    let mut depth = path.components().count().saturating_sub(1);
    let mut descends = false;
    for part in target.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(_) => descends = true,
            Component::ParentDir => match depth.checked_sub(1) {
                Some(above) if !descends => depth = above,
                _ => return false,
            },
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_or_are_refused() {
        let cases: [(&[u8], Result<&str, Refusal>); 15] = [
            (b"a//./b/", Ok("a/b")),
            (b"./", Ok("")),
            (b"-rf", Ok("-rf")),
            (b"1:x", Ok("1:x")),
            (b"c:x", Err(Refusal::WindowsDrive)),
            (b"\\\\srv\\share\\x", Err(Refusal::WindowsDrive)),
            (b"//srv/share", Err(Refusal::WindowsDrive)),
            (b"//srv", Err(Refusal::AbsolutePath)),
            (b"//srv/", Err(Refusal::AbsolutePath)),
            (b"///srv/x", Err(Refusal::AbsolutePath)),
            (b"a\\b", Err(Refusal::Backslash)),
            (b"/x", Err(Refusal::AbsolutePath)),
            (b"a/../b", Err(Refusal::ParentTraversal)),
            (b"a..b", Ok("a..b")),
            (&[b'n'; 256], Err(Refusal::Name)),
        ];
        for (name, expected) in cases {
            assert_eq!(path_of(name), expected.map(PathBuf::from), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn links_climb_before_they_descend() {
        let stays = |path: &str, target: &str| stays_inside(Path::new(path), Path::new(target));
        assert!(stays("a/b", "../c") && stays("a", "b/c") && stays("a/b/c", "../.././x"));
        // `two/../..` leads out where `two` is a link, so no such thing is believed.
        assert!(!stays("a", "../c") && !stays("a", "/c") && !stays("a/b", "two/../c"));
    }
}
