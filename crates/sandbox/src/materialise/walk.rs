use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use moat_snapshot::Meta;
use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;
use tokio::sync::mpsc::Sender;

use super::MaterialiseError;
use super::host::{host_error, open_file, open_folder, stays_inside};
use super::secrets::SecretRules;
use crate::manifest::IgnoreRules;

/// Files up to this many bytes are read by the walk itself.
pub(super) const SMALL: u64 = 1024 * 1024;
/// Bytes of the largest ignore file.
const LARGEST_RULES: u64 = 1024 * 1024;
/// Findings that are sent together: waking the other side costs more than reading a small file.
const BATCH: usize = 64;
/// Bytes of contents that are sent together.
const BATCH_BYTES: usize = 1024 * 1024;
/// How often a file is read that changes meanwhile.
const TRIES: usize = 3;
/// Folders above a path, at most.
const DEEPEST: usize = 1000;

/// What a walk finds, folders before what is in them.
pub(super) enum Found {
    /// A folder; the empty path is the top.
    Folder { path: PathBuf, meta: Meta },
    /// A link that stays inside.
    Link { path: PathBuf, meta: Meta, target: PathBuf },
    /// Another name of a file that was found already.
    Hardlink { path: PathBuf, to: PathBuf },
    /// A file, whole.
    Small { path: PathBuf, meta: Meta, content: Vec<u8> },
    /// A file to be read bit by bit.
    Large { path: PathBuf, meta: Meta, size: u64, file: File },
    /// Not copied, and why. Said whether it is a likely secret.
    Left { path: PathBuf, reason: String, is_secret: bool },
}

/// What a walk leaves out.
pub(super) struct Rules {
    pub(super) ignore: IgnoreRules,
    /// `None`: nothing is taken for a secret.
    pub(super) secrets: Option<SecretRules>,
    /// Whether `.moatignore` at the top adds to `ignore`.
    pub(super) reads_moatignore: bool,
}

/// Where findings go.
pub(super) struct Sink {
    sender: Sender<Vec<Found>>,
    /// What was found and not sent yet, and its bytes.
    waiting: RefCell<(Vec<Found>, usize)>,
}

impl Sink {
    pub(super) fn new(sender: Sender<Vec<Found>>) -> Self {
        Self { sender, waiting: RefCell::default() }
    }

    /// `false`: nobody listens any more.
    pub(super) fn tell(&self, found: Found) -> bool {
        let is_full = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.1 += if let Found::Small { content, .. } = &found { content.len() } else { 0 };
            waiting.0.push(found);
            waiting.0.len() >= BATCH || waiting.1 >= BATCH_BYTES
        };
        !is_full || self.flush()
    }

    pub(super) fn tell_all(&self, found: Vec<Found>) -> bool {
        found.into_iter().all(|found| self.tell(found))
    }

    pub(super) fn flush(&self) -> bool {
        let (batch, _) = self.waiting.take();
        batch.is_empty() || self.sender.blocking_send(batch).is_ok()
    }
}

/// Walks a folder, to be called on a thread that may block. Ends early if nobody listens.
pub(super) fn walk(
    top: OwnedFd,
    shown: &Path,
    mut rules: Rules,
    sink: &Sink,
) -> Result<(), MaterialiseError> {
    if rules.reads_moatignore {
        let own = read_rules(&top).map_err(|error| host_error(&shown.join(IGNORE_FILE), error))?;
        rules.ignore.extend(own);
    }
    let stat = fstat(&top).map_err(|error| host_error(shown, error))?;
    let meta = meta_of(&stat);
    let walk = Walk { shown, rules, sink };
    if sink.tell(Found::Folder { path: PathBuf::new(), meta }) {
        walk.folder(top, PathBuf::new(), DEEPEST)?;
    }
    Ok(())
}

/// Finds one file of a folder, under the empty path.
pub(super) fn one_file(
    parent: &OwnedFd,
    name: &OsStr,
    shown: &Path,
    rules: Rules,
    sink: &Sink,
) -> Result<(), MaterialiseError> {
    let secret = rules.secrets.as_ref().and_then(|s| s.by_name(name.as_bytes(), false));
    if let Some(reason) = secret {
        let reason = format!("by its name: {reason}");
        sink.tell(Found::Left { path: PathBuf::new(), reason, is_secret: true });
        return Ok(());
    }
    // A file that is asked for by its name has to be there and be one.
    open_regular(parent, name, shown)?;
    Walk { shown, rules, sink }.file(parent, name, PathBuf::new()).map(|_| ())
}

/// Opens a file that is none of the other kinds.
pub(super) fn open_regular(
    parent: &OwnedFd,
    name: &OsStr,
    shown: &Path,
) -> Result<File, MaterialiseError> {
    let file = open_file(parent.as_fd(), name).map_err(|error| host_error(shown, error))?;
    let stat = fstat(&file).map_err(|error| host_error(shown, error))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        return Ok(File::from(file));
    }
    Err(host_error(shown, std::io::Error::other("it is no regular file")))
}

const IGNORE_FILE: &str = ".moatignore";

fn read_rules(top: &OwnedFd) -> Result<IgnoreRules, std::io::Error> {
    let file = match open_file(top.as_fd(), OsStr::new(IGNORE_FILE)) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(IgnoreRules::default()),
        Err(error) => return Err(error.into()),
    };
    let mut text = String::new();
    file.take(LARGEST_RULES).read_to_string(&mut text)?;
    Ok(IgnoreRules::parse(&text))
}

struct Walk<'a> {
    shown: &'a Path,
    rules: Rules,
    sink: &'a Sink,
}

impl Walk<'_> {
    fn tell(&self, found: Found) -> bool {
        self.sink.tell(found)
    }

    fn error(&self, path: &Path, error: impl Into<std::io::Error>) -> MaterialiseError {
        host_error(&below(self.shown, path), error)
    }

    /// Everything in a folder, by name. Answers `false` when nobody listens any more.
    fn folder(&self, fd: OwnedFd, path: PathBuf, depth: usize) -> Result<bool, MaterialiseError> {
        let at = |error: Errno| self.error(&path, error);
        if depth == 0 {
            return Err(at(Errno::NAMETOOLONG));
        }
        for name in names(&fd).map_err(at)? {
            let path = path.join(&name);
            let stat = match statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Removed since it was listed.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(self.error(&path, error)),
            };
            if !self.path(&fd, &name, path, &stat, depth)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn path(
        &self,
        above: &OwnedFd,
        name: &OsStr,
        path: PathBuf,
        stat: &Stat,
        depth: usize,
    ) -> Result<bool, MaterialiseError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_folder = kind == FileType::Directory;
        let bytes = path.as_os_str().as_bytes();
        if self.rules.ignore.matches(bytes, is_folder) {
            return Ok(true);
        }
        let secret = self.rules.secrets.as_ref().and_then(|s| s.by_name(bytes, is_folder));
        if let Some(reason) = secret {
            let reason = format!("by its name: {reason}");
            return Ok(self.tell(Found::Left { path, reason, is_secret: true }));
        }
        match kind {
            FileType::Directory => {
                let folder = match open_folder(above.as_fd(), name) {
                    Ok(folder) => folder,
                    Err(error) => return self.unreadable(path, error),
                };
                let meta = meta_of(stat);
                Ok(self.tell(Found::Folder { path: path.clone(), meta })
                    && self.folder(folder, path, depth - 1)?)
            }
            FileType::Symlink => self.link(above, name, path, stat),
            FileType::RegularFile => self.file(above, name, path),
            _ => {
                let reason = "a pipe, socket or device".to_owned();
                Ok(self.tell(Found::Left { path, reason, is_secret: false }))
            }
        }
    }

    fn link(
        &self,
        above: &OwnedFd,
        name: &OsStr,
        path: PathBuf,
        stat: &Stat,
    ) -> Result<bool, MaterialiseError> {
        let target = readlinkat(above, name, Vec::new()).map_err(|e| self.error(&path, e))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        let folder = path.parent().unwrap_or(Path::new(""));
        if stays_inside(folder, &target) {
            return Ok(self.tell(Found::Link { path, meta: meta_of(stat), target }));
        }
        let reason = format!("a link that leads outside, to `{}`", target.display());
        Ok(self.tell(Found::Left { path, reason, is_secret: false }))
    }

    fn file(&self, above: &OwnedFd, name: &OsStr, path: PathBuf) -> Result<bool, MaterialiseError> {
        for _ in 0..TRIES {
            let mut file = match open_file(above.as_fd(), name) {
                Ok(fd) => File::from(fd),
                Err(Errno::NOENT) => return Ok(true),
                Err(error) => return self.unreadable(path, error),
            };
            let stat = fstat(&file).map_err(|error| self.error(&path, error))?;
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            let meta = meta_of(&stat);
            if size > SMALL {
                return Ok(self.tell(Found::Large { path, meta, size, file }));
            }
            let mut content = Vec::with_capacity(size as usize + 1);
            let read = (&mut file).take(SMALL + 1).read_to_end(&mut content);
            read.map_err(|error| self.error(&path, error))?;
            let after = fstat(&file).map_err(|error| self.error(&path, error))?;
            if content.len() as u64 == size && facts(&after) == facts(&stat) {
                return Ok(self.tell(Found::Small { path, meta, content }));
            }
        }
        Err(MaterialiseError::Changing { path: below(self.shown, &path) })
    }

    /// What the caller may not read is not copied, and named.
    fn unreadable(&self, path: PathBuf, error: Errno) -> Result<bool, MaterialiseError> {
        match error {
            Errno::ACCESS | Errno::PERM => {
                let reason = "it may not be read".to_owned();
                Ok(self.tell(Found::Left { path, reason, is_secret: false }))
            }
            error => Err(self.error(&path, error)),
        }
    }
}

/// The names in a folder, in byte order.
fn names(folder: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort();
    Ok(names)
}

/// What changes when a content does.
pub(super) fn facts(stat: &Stat) -> impl PartialEq {
    (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
}

/// The sandbox's user owns everything; set-uid bits of the host mean nothing there.
fn meta_of(stat: &Stat) -> Meta {
    let mtime_ns = stat.st_mtime.saturating_mul(1_000_000_000);
    Meta {
        mode: stat.st_mode & 0o777,
        mtime_ns: mtime_ns.saturating_add_unsigned(stat.st_mtime_nsec),
        xattrs: BTreeMap::new(),
        ..Meta::folder()
    }
}

/// Joined, without a separator at the end.
pub(super) fn below(folder: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { folder.to_owned() } else { folder.join(path) }
}
