//! The members of an archive of the host, found as the files of a folder are.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use moat_archive::{Archive, ArchiveLimits, Kind, Member, ReadError, Rules, Trust};
use moat_snapshot::Meta;

use super::host::host_error;
use super::secrets::SecretRules;
use super::walk::{Found, SMALL, Sink};
use super::{HostFolders, MaterialiseError};
use crate::manifest::{ArchiveEntry, parts};

/// What reads one archive.
pub(super) struct Reader {
    shown: PathBuf,
    rules: Rules,
    subpath: PathBuf,
    secrets: SecretRules,
    scratch: PathBuf,
}

impl Reader {
    pub(super) fn new(
        entry: &ArchiveEntry,
        shown: PathBuf,
        folders: &HostFolders,
    ) -> Result<Self, MaterialiseError> {
        let defaults = ArchiveLimits::default();
        let limits = ArchiveLimits {
            members: entry.max_members.unwrap_or(defaults.members),
            extracted_bytes: entry.max_bytes.unwrap_or(defaults.extracted_bytes),
            ..defaults
        };
        let trust = Trust::Import { allow_links: entry.allow_links };
        Ok(Self {
            shown,
            rules: Rules { trust, limits },
            subpath: parts(entry.subpath.as_deref().unwrap_or("."))?.into_iter().collect(),
            secrets: SecretRules::new(&entry.allow_secrets),
            scratch: folders.scratch.clone(),
        })
    }

    /// Finds everything in it, to be called on a thread that may block.
    pub(super) fn walk(&self, file: File, sink: &Sink) -> Result<(), MaterialiseError> {
        let refused = |source| MaterialiseError::Archive { path: self.shown.clone(), source };
        let mut archive = Archive::open(file, &self.rules).map_err(refused)?;
        let Some(taken) = self.without_contents(archive.members(), sink)? else { return Ok(()) };
        let done = archive.read(|member, content| {
            match taken.get(&member.path) {
                Some(path) => self.content(path.clone(), member, content, sink),
                None => Ok(true),
            }
            .and_then(|listens| if listens { Ok(()) } else { Err(Stop::NobodyListens) })
        });
        match done {
            Ok(()) | Err(ReadError::Taker(Stop::NobodyListens)) => Ok(()),
            Err(ReadError::Archive(error)) => Err(refused(error)),
            Err(ReadError::Taker(Stop::Failed(error))) => Err(error),
        }
    }

    /// Tells folders, links and what is left out. Answers the files that are taken, by their path
    /// in the archive; `None`: nobody listens.
    fn without_contents(
        &self,
        members: &[Member],
        sink: &Sink,
    ) -> Result<Option<Taken>, MaterialiseError> {
        let (mut told, mut taken) = (Told::default(), Taken::new());
        let meta = |mode, mtime_ns| Meta { mtime_ns, ..Meta::with_mode(mode) };
        let mut found = vec![Found::Folder { path: PathBuf::new(), meta: Meta::folder() }];
        let mut any = self.subpath.as_os_str().is_empty();
        for member in members {
            let Ok(path) = member.path.strip_prefix(&self.subpath) else { continue };
            any = true;
            if path.as_os_str().is_empty() {
                continue;
            }
            if let Some((secret, reason)) = self.secret_at(path, member.kind == Kind::Folder) {
                if told.left.insert(secret.clone()) {
                    let reason = format!("by its name: {reason}");
                    found.push(Found::Left { path: secret, reason, is_secret: true });
                }
                continue;
            }
            let above: Vec<_> = path.ancestors().skip(1).collect();
            for folder in above.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
                if told.folders.insert(folder.to_owned()) {
                    found.push(Found::Folder { path: folder.to_owned(), meta: Meta::folder() });
                }
            }
            let (path, meta) = (path.to_owned(), meta(member.mode, member.mtime_ns));
            match &member.kind {
                Kind::Folder if !told.folders.insert(path.clone()) => {}
                Kind::Folder => found.push(Found::Folder { path, meta }),
                Kind::Symlink(target) => {
                    found.push(Found::Link { path, meta, target: target.clone() });
                }
                Kind::File { .. } => {
                    taken.insert(member.path.clone(), path);
                }
                Kind::Hardlink(to) => match taken.get(to) {
                    Some(to) => found.push(Found::Hardlink { path, to: to.clone() }),
                    None => {
                        let reason = "another name of a file that is left out".to_owned();
                        found.push(Found::Left { path, reason, is_secret: false });
                    }
                },
            }
        }
        if !any {
            let source = io::Error::new(io::ErrorKind::NotFound, "it has no such folder");
            return Err(host_error(&self.shown.join(&self.subpath), source));
        }
        Ok(sink.tell_all(found).then_some(taken))
    }

    /// The part of a path that is likely a secret by its name, and why.
    fn secret_at(&self, path: &Path, is_folder: bool) -> Option<(PathBuf, &'static str)> {
        let mut above: Vec<_> = path.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
        above.reverse();
        above.into_iter().find_map(|part| {
            let is_folder = is_folder || part != path;
            let reason = self.secrets.by_name(part.as_os_str().as_bytes(), is_folder)?;
            Some((part.to_owned(), reason))
        })
    }

    /// `false`: nobody listens.
    fn content(
        &self,
        path: PathBuf,
        member: &Member,
        content: &mut dyn Read,
        sink: &Sink,
    ) -> Result<bool, Stop> {
        let Kind::File { size } = member.kind else { return Ok(true) };
        let meta = Meta { mtime_ns: member.mtime_ns, ..Meta::with_mode(member.mode) };
        // What a damaged stream says comes from the archive; the disk is this machine's.
        let failed = |error: io::Error| Stop::Failed(host_error(&self.shown, error));
        if size <= SMALL {
            let mut bytes = Vec::new();
            content.take(SMALL + 1).read_to_end(&mut bytes).map_err(failed)?;
            return Ok(sink.tell(Found::Small { path, meta, content: bytes }));
        }
        let mut file = tempfile::tempfile_in(&self.scratch).map_err(failed)?;
        io::copy(content, &mut file).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(sink.tell(Found::Large { path, meta, size, file }))
    }
}

/// Files that are taken: their path in the archive, and beneath the entry.
type Taken = std::collections::HashMap<PathBuf, PathBuf>;

#[derive(Default)]
struct Told {
    folders: HashSet<PathBuf>,
    left: HashSet<PathBuf>,
}

#[derive(Debug)]
enum Stop {
    NobodyListens,
    Failed(MaterialiseError),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NobodyListens => f.write_str("nobody listens"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
