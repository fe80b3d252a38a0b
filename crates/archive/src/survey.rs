//! The check of all members, in the order of the archive, before anybody is given one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::{ArchiveError, Refusal};
use crate::member::{Kind, Member, path_of, stays_inside};
use crate::rules::{Rules, Trust};

/// Members that are looked at even where limits do not apply.
const MOST_MEMBERS: u64 = 8_000_000;

/// A member as an archive names it.
pub(crate) struct Found<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: FoundKind<'a>,
    pub(crate) mode: u32,
    pub(crate) mtime_ns: i64,
}

#[derive(Clone, Copy)]
pub(crate) enum FoundKind<'a> {
    Folder,
    File(u64),
    Symlink(&'a [u8]),
    Hardlink(&'a [u8]),
    Special,
}

/// What was found so far.
pub(crate) struct Survey {
    rules: Rules,
    members: Vec<Member>,
    by_path: HashMap<PathBuf, usize>,
    ordinal: u64,
    counted: u64,
    bytes: u64,
}

impl Survey {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            members: Vec::new(),
            by_path: HashMap::new(),
            ordinal: 0,
            counted: 0,
            bytes: 0,
        }
    }

    /// Takes in the next member.
    pub(crate) fn add(&mut self, found: &Found<'_>) -> Result<(), ArchiveError> {
        let refused = |reason| ArchiveError::refused(found.name, reason);
        let ordinal = self.ordinal;
        self.ordinal += 1;
        let path = path_of(found.name).map_err(refused)?;
        if path.as_os_str().is_empty() {
            let is_folder = matches!(found.kind, FoundKind::Folder);
            return if is_folder { Ok(()) } else { Err(refused(Refusal::RootMember)) };
        }
        let kind = self.kind(&path, found.kind).map_err(refused)?;
        self.count(found.name, &kind)?;
        if let Some(earlier) = self.by_path.get(&path).and_then(|index| self.members.get(*index)) {
            let twice = earlier.kind == Kind::Folder && kind == Kind::Folder;
            return if twice { Ok(()) } else { Err(refused(Refusal::DuplicatePath)) };
        }
        let mode = match &kind {
            Kind::Folder => 0o755,
            Kind::File { .. } => self.rules.file_mode(found.mode),
            Kind::Symlink(_) => 0o777,
            // A file has one mode, whichever of its names is looked at.
            Kind::Hardlink(to) => self.named(to).map_or(0o644, |member| member.mode),
        };
        self.by_path.insert(path.clone(), self.members.len());
        self.members.push(Member { path, kind, mode, mtime_ns: found.mtime_ns, ordinal });
        Ok(())
    }

    fn named(&self, path: &Path) -> Option<&Member> {
        self.by_path.get(path).and_then(|index| self.members.get(*index))
    }

    fn kind(&self, path: &Path, kind: FoundKind<'_>) -> Result<Kind, Refusal> {
        use std::os::unix::ffi::OsStrExt as _;
        let path_from = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        match (kind, self.rules.trust) {
            (FoundKind::Folder, _) => Ok(Kind::Folder),
            (FoundKind::File(size), _) => Ok(Kind::File { size }),
            (FoundKind::Special, _) => Err(Refusal::SpecialFile),
            (FoundKind::Symlink(_), Trust::Import { allow_links: false }) => Err(Refusal::Symlink),
            (FoundKind::Hardlink(_), Trust::Import { allow_links: false }) => {
                Err(Refusal::Hardlink)
            }
            (FoundKind::Symlink(target), Trust::Restore) => Ok(Kind::Symlink(path_from(target))),
            (FoundKind::Symlink(target), Trust::Import { .. }) => {
                let target = path_from(target);
                let inside = stays_inside(path, &target);
                if inside { Ok(Kind::Symlink(target)) } else { Err(Refusal::SymlinkOut) }
            }
            (FoundKind::Hardlink(target), _) => {
                let to = path_of(target).map_err(|_| Refusal::HardlinkTarget)?;
                match self.named(&to).map(|member| &member.kind) {
                    Some(Kind::File { .. }) => Ok(Kind::Hardlink(to)),
                    Some(Kind::Hardlink(first)) => Ok(Kind::Hardlink(first.clone())),
                    _ => Err(Refusal::HardlinkTarget),
                }
            }
        }
    }

    fn count(&mut self, name: &[u8], kind: &Kind) -> Result<(), ArchiveError> {
        let too_much = |what, limit| {
            Err(ArchiveError::Limit { member: crate::error::shown(name), what, limit })
        };
        self.counted += 1;
        if let Kind::File { size } = kind {
            self.bytes = self.bytes.saturating_add(*size);
        }
        let limits = self.rules.limits;
        let members = if self.rules.is_import() { limits.members } else { MOST_MEMBERS };
        if self.counted > members {
            return too_much("members", members);
        }
        if self.rules.is_import() && self.bytes > limits.extracted_bytes {
            return too_much("bytes", limits.extracted_bytes);
        }
        Ok(())
    }

    /// What is checked once all members are known.
    pub(crate) fn finish(self) -> Result<Vec<Member>, ArchiveError> {
        for member in &self.members {
            for above in member.path.ancestors().skip(1) {
                let reason = match self.named(above).map(|member| &member.kind) {
                    None | Some(Kind::Folder) => continue,
                    Some(Kind::Symlink(_)) => Refusal::UnderSymlink,
                    Some(_) => Refusal::UnderFile,
                };
                use std::os::unix::ffi::OsStrExt as _;
                return Err(ArchiveError::refused(member.path.as_os_str().as_bytes(), reason));
            }
        }
        Ok(self.members)
    }
}
