//! Paths that stay beneath a root, whatever links are there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use moat_guest::{Failure, MAX_PATH, RawBytes};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::os_failure;

/// How a folder is opened that is only a place to start from.
pub(super) const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Bytes of a path that the kernel takes at once, with room to spare.
const MAX_STEP: usize = 4000;

/// Times that a resolution is tried that a rename elsewhere disturbed.
const TRIES: usize = 64;

/// A relative path without empty parts, `.` and `..`. Empty: the root itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<u8>);

/// An entry of a folder.
pub(super) struct Target<'p> {
    pub(super) parent: OwnedFd,
    pub(super) name: &'p [u8],
}

impl Path {
    /// Checks a path that came from outside.
    pub(crate) fn parse(path: &RawBytes) -> Result<Self, Failure> {
        let bytes = &path.0;
        let parts = || bytes.split(|byte| *byte == b'/');
        let bad = bytes.len() > MAX_PATH
            || bytes.first() == Some(&b'/')
            || bytes.contains(&0)
            || parts().any(|part| part == b"..");
        if bad {
            return Err(Failure::Outside { path: path.clone() });
        }
        let kept: Vec<_> = parts().filter(|part| !part.is_empty() && *part != b".").collect();
        Ok(Self(kept.join(&b'/')))
    }

    /// Takes a path that this program made of names that the kernel gave it.
    pub(super) fn from_names(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn to_path(&self) -> PathBuf {
        crate::spawn::path_from_bytes(&self.0)
    }

    /// The path of an entry of this folder.
    pub(super) fn join(&self, name: &[u8]) -> Self {
        if self.0.is_empty() {
            return Self(name.to_vec());
        }
        Self([&self.0, name].join(&b'/'))
    }

    /// The folder and the last part. `None` for the root itself.
    pub(super) fn split_last(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().rposition(|byte| *byte == b'/') {
            None => Some((Self(Vec::new()), &self.0)),
            Some(slash) => Some((Self(self.0.get(..slash)?.to_vec()), self.0.get(slash + 1..)?)),
        }
    }

    /// The path of each folder on the way, and last the path itself.
    pub(super) fn prefixes(&self) -> Vec<Self> {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let ends = ends.chain((!self.0.is_empty()).then_some(self.0.len()));
        ends.filter_map(|end| self.0.get(..end)).map(|prefix| Self(prefix.to_vec())).collect()
    }

    /// The path in pieces that the kernel takes.
    fn steps(&self) -> Vec<&[u8]> {
        let mut steps = Vec::new();
        let mut rest = self.0.as_slice();
        while rest.len() > MAX_STEP {
            let head = rest.get(..MAX_STEP).unwrap_or(rest);
            // Names have at most 255 bytes, so there is a slash; else the kernel will say no.
            let Some(slash) = head.iter().rposition(|byte| *byte == b'/') else { break };
            let (step, after) = rest.split_at(slash);
            steps.push(step);
            rest = after.get(1..).unwrap_or_default();
        }
        steps.push(if rest.is_empty() { b"." } else { rest });
        steps
    }
}

/// How paths are resolved on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// By the kernel, in one step that no race can trick.
    Kernel,
    /// Part by part, refusing every link.
    Stepwise,
}

impl Resolver {
    pub(super) fn probe(root: &OwnedFd) -> Self {
        match openat2(root, ".", FOLDER, Mode::empty(), ResolveFlags::BENEATH) {
            // A filter in front of the kernel may answer for it.
            Err(Errno::NOSYS | Errno::PERM) => Self::Stepwise,
            _ => Self::Kernel,
        }
    }

    /// Opens what is beneath `root`, following links that stay beneath it.
    pub(super) fn open(
        self,
        root: BorrowedFd<'_>,
        path: &Path,
        flags: OFlags,
    ) -> Result<OwnedFd, Failure> {
        self.open_with(root, path, flags, ResolveFlags::empty())
    }

    /// Opens what is beneath `root`, following no link at all.
    pub(super) fn open_unlinked(
        self,
        root: BorrowedFd<'_>,
        path: &Path,
        flags: OFlags,
    ) -> Result<OwnedFd, Failure> {
        self.open_with(root, path, flags | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS)
    }

    fn open_with(
        self,
        root: BorrowedFd<'_>,
        path: &Path,
        flags: OFlags,
        more: ResolveFlags,
    ) -> Result<OwnedFd, Failure> {
        let steps = path.steps();
        let last = steps.len().saturating_sub(1);
        let mut at: Option<OwnedFd> = None;
        for (index, step) in steps.into_iter().enumerate() {
            let flags = if index == last { flags } else { FOLDER };
            let from = at.as_ref().map_or(root, |fd| fd.as_fd());
            let opened = match self {
                Self::Kernel => open_in_kernel(from, step, flags, more),
                Self::Stepwise => open_stepwise(from, step, flags),
            };
            at = Some(opened.map_err(|error| failure(path, error))?);
        }
        at.ok_or_else(|| failure(path, Errno::INVAL))
    }
}

fn open_in_kernel(
    from: BorrowedFd<'_>,
    step: &[u8],
    flags: OFlags,
    more: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | more;
    let mut tries = 0;
    loop {
        match openat2(from, step, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < TRIES => tries += 1,
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn open_stepwise(from: BorrowedFd<'_>, step: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    let mut parts = step.split(|byte| *byte == b'/').peekable();
    while let Some(part) = parts.next() {
        if part == b".." {
            return Err(Errno::XDEV);
        }
        let flags = if parts.peek().is_some() { FOLDER } else { flags } | OFlags::NOFOLLOW;
        let from = at.as_ref().map_or(from, |fd| fd.as_fd());
        let opened = openat(from, part, flags, Mode::empty())?;
        at = Some(opened);
    }
    at.ok_or(Errno::INVAL)
}

fn failure(path: &Path, error: Errno) -> Failure {
    match error {
        // What the kernel answers to a path that leads out, and to a link that is refused.
        Errno::XDEV | Errno::LOOP => Failure::Outside { path: RawBytes(path.bytes().to_vec()) },
        error => os_failure("open", path.bytes(), &error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Path, Failure> {
        Path::parse(&path.into())
    }

    #[test]
    fn only_paths_that_go_down_are_accepted() {
        for bad in ["/etc", "..", "a/../b", "a/..", "a\0b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for (given, kept) in [("", ""), (".", ""), ("a//b/./c/", "a/b/c"), ("..a/b..", "..a/b..")] {
            assert_eq!(parse(given).unwrap().bytes(), kept.as_bytes());
        }
    }

    #[test]
    fn long_paths_are_cut_between_names() {
        let long = vec!["n".repeat(255); 40].join("/");
        let path = parse(&long).unwrap();
        let steps = path.steps();
        assert!(steps.len() == 3 && steps.iter().all(|step| step.len() <= MAX_STEP));
        assert_eq!(steps.join(&b'/'), long.as_bytes());
        assert_eq!(parse("").unwrap().steps(), [b"."]);
    }

    #[test]
    fn prefixes_end_with_the_path_itself() {
        let all = |path: &str| -> Vec<String> {
            let prefixes = parse(path).unwrap().prefixes();
            prefixes.iter().map(|p| String::from_utf8_lossy(p.bytes()).into_owned()).collect()
        };
        assert_eq!(all("a/b/c"), ["a", "a/b", "a/b/c"]);
        assert_eq!(all(""), [""; 0]);
    }
}
