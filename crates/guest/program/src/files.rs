//! Files beneath the roots.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use moat_guest::{Failure, GuestConfig, MAX_PAYLOAD, Place, RawBytes, Root, StatRecord};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom};
use rustix::io::Errno;

mod apply;
mod commit;
mod data;
mod identity;
mod remove;
mod replace;
mod resolve;
mod scan;
mod stat;

pub(crate) use commit::Commits;
pub(crate) use identity::Identity;
pub(crate) use remove::Remove;
pub(crate) use resolve::Path;
pub(crate) use scan::Scan;

use identity::Assumed;
use resolve::{Resolver, Target};

/// Bytes of a file that are read at once.
const MAX_READ: u32 = 4 << 20;

/// How a folder is opened to list it.
const LISTED: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The roots, and the rights with which they are used.
pub(crate) struct Files {
    workspace: RootDir,
    home: RootDir,
    outputs: RootDir,
    identity: Identity,
    resolver: Resolver,
}

struct RootDir {
    fd: OwnedFd,
    path: PathBuf,
}

/// A failure of the operating system.
pub(crate) fn os_failure(operation: &str, path: &[u8], error: &io::Error) -> Failure {
    Failure::Os {
        operation: operation.to_owned(),
        path: RawBytes(path.to_vec()),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}

impl Files {
    pub(crate) fn open(config: &GuestConfig, outputs: Option<OwnedFd>) -> Result<Self, String> {
        let open = |path: &RawBytes, fd: Option<OwnedFd>| {
            let path = path.to_path();
            let fd = match fd {
                Some(fd) => fd,
                None => rustix::fs::open(&path, resolve::FOLDER, Mode::empty())
                    .map_err(|error| format!("cannot open `{}`: {error}", path.display()))?,
            };
            Ok::<_, String>(RootDir { fd, path })
        };
        let workspace = open(&config.roots.workspace, None)?;
        Ok(Self {
            resolver: Resolver::probe(&workspace.fd),
            workspace,
            home: open(&config.roots.home, None)?,
            outputs: open(&config.roots.outputs, outputs)?,
            identity: Identity::new(config.uid, config.gid, &config.groups, config.capabilities),
        })
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    fn dir(&self, root: Root) -> &RootDir {
        match root {
            Root::Workspace => &self.workspace,
            Root::Home => &self.home,
            Root::Outputs => &self.outputs,
        }
    }

    /// The folder that a place names, as commands see it.
    pub(crate) fn place(&self, place: &Place) -> Result<PathBuf, Failure> {
        let path = place.path.to_path();
        match place.root {
            None if path.is_absolute() => Ok(path),
            None => Err(Failure::Outside { path: place.path.clone() }),
            // Not resolved here: the command enters it with its own rights.
            Some(root) => Ok(self.dir(root).path.join(Path::parse(&place.path)?.to_path())),
        }
    }

    /// Access to one root with the right identity, for as long as the value lives.
    fn beneath(&self, root: Root) -> Result<Beneath<'_>, Failure> {
        let assumed = match root {
            Root::Workspace | Root::Home => {
                let assumed = self.identity.assume();
                Some(assumed.map_err(|error| os_failure("become the user of", b"", &error))?)
            }
            // Commands read it and do not write it, so it belongs to the guest.
            Root::Outputs => None,
        };
        Ok(Beneath { root: self.dir(root).fd.as_fd(), resolver: &self.resolver, assumed })
    }

    pub(crate) fn stat(&self, root: Root, path: &RawBytes) -> Result<Option<StatRecord>, Failure> {
        let path = Path::parse(path)?;
        let found = self.beneath(root)?.stat(&path);
        found.or_else(|error| match error {
            Failure::Os { errno: libc::ENOENT | libc::ENOTDIR, .. } => Ok(None),
            error => Err(error),
        })
    }

    pub(crate) fn read_at(
        &self,
        root: Root,
        path: &RawBytes,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, Failure> {
        let path = Path::parse(path)?;
        let file = self.beneath(root)?.open_file(&path)?;
        let failed = |error: Errno| os_failure("read", path.bytes(), &error.into());
        let size = rustix::fs::fstat(&file).map_err(failed)?.st_size;
        let left = u64::try_from(size).unwrap_or(0).saturating_sub(offset);
        let wanted = u64::from(length.min(MAX_READ)).min(left);
        let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(0)];
        let read = data::read_exact_at(&file, &mut bytes, offset).map_err(failed)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    pub(crate) fn write(
        &self,
        root: Root,
        path: &RawBytes,
        content: &[u8],
        mode: u32,
    ) -> Result<(), Failure> {
        let path = Path::parse(path)?;
        let beneath = self.beneath(root)?;
        let target = beneath.target_with_parents(&path)?;
        replace::replace(&target, content, mode)
            .map_err(|error| os_failure("write", path.bytes(), &error))
    }

    pub(crate) fn write_at(
        &self,
        root: Root,
        path: &RawBytes,
        offset: u64,
        content: &[u8],
    ) -> Result<(), Failure> {
        let path = Path::parse(path)?;
        let failed = |error: Errno| os_failure("write", path.bytes(), &error.into());
        let beneath = self.beneath(root)?;
        let target = beneath.target(&path)?;
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let file = rustix::fs::openat(&target.parent, target.name, flags, mode).map_err(failed)?;
        refuse_special(&file).map_err(failed)?;
        rustix::fs::seek(&file, SeekFrom::Start(offset)).map_err(failed)?;
        replace::write_all(&file, content)
            .map_err(|error| os_failure("write", path.bytes(), &error))
    }

    pub(crate) fn make_dir(&self, root: Root, path: &RawBytes) -> Result<(), Failure> {
        self.beneath(root)?.make_dirs(&Path::parse(path)?)
    }

    pub(crate) fn rename(&self, root: Root, from: &RawBytes, to: &RawBytes) -> Result<(), Failure> {
        let (from, to) = (Path::parse(from)?, Path::parse(to)?);
        let beneath = self.beneath(root)?;
        let (source, target) = (beneath.target(&from)?, beneath.target(&to)?);
        rustix::fs::renameat_with(
            &source.parent,
            source.name,
            &target.parent,
            target.name,
            RenameFlags::empty(),
        )
        .map_err(|error| os_failure("rename", from.bytes(), &error.into()))
    }

    pub(crate) fn apply(&self, root: Root, records: &[u8]) -> Result<(), Failure> {
        apply::apply(&self.beneath(root)?, records)
    }

    pub(crate) fn finish(&self, root: Root, records: &[u8]) -> Result<(), Failure> {
        apply::finish(&self.beneath(root)?, records)
    }
}

/// One root, used with the right identity: files are opened as the commands' user for as long as
/// this lives.
struct Beneath<'a> {
    root: BorrowedFd<'a>,
    resolver: &'a Resolver,
    assumed: Option<Assumed<'a>>,
}

impl Beneath<'_> {
    /// The folder that holds the last part of a path, and that part.
    fn target<'p>(&self, path: &'p Path) -> Result<Target<'p>, Failure> {
        let outside = || Failure::Outside { path: RawBytes(path.bytes().to_vec()) };
        let (parent, name) = path.split_last().ok_or_else(outside)?;
        let parent = self.open(&parent, resolve::FOLDER)?;
        Ok(Target { parent, name })
    }

    fn target_with_parents<'p>(&self, path: &'p Path) -> Result<Target<'p>, Failure> {
        match self.target(path) {
            Err(Failure::Os { errno: libc::ENOENT, .. }) => {
                if let Some((parent, _)) = path.split_last() {
                    self.make_dirs(&parent)?;
                }
                self.target(path)
            }
            result => result,
        }
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Failure> {
        self.resolver.open(self.root, path, flags)
    }

    /// Opens a regular file to read it, following links that stay beneath the root.
    fn open_file(&self, path: &Path) -> Result<OwnedFd, Failure> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match self.open(path, flags) {
            Err(Failure::Os { errno: libc::EACCES, .. }) => self.open_closed(path, flags, 0o400)?,
            result => result?,
        };
        refuse_special(&file).map_err(|error| os_failure("read", path.bytes(), &error.into()))?;
        Ok(file)
    }

    /// Opens a folder to list it, following no link at all.
    fn open_folder(&self, path: &Path) -> Result<OwnedFd, Failure> {
        match self.resolver.open_unlinked(self.root, path, LISTED) {
            Err(Failure::Os { errno: libc::EACCES, .. }) => self.open_closed(path, LISTED, 0o400),
            result => result,
        }
    }

    /// Opens what its owner has closed to himself: a checkpoint has to have all there is. The
    /// modes are as before when this returns.
    fn open_closed(&self, path: &Path, flags: OFlags, needed: u32) -> Result<OwnedFd, Failure> {
        let failed = |error: Errno| os_failure("open", path.bytes(), &error.into());
        let target = self.target(path)?;
        let stat = rustix::fs::statat(&target.parent, target.name, NO_FOLLOW).map_err(failed)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !kind.is_file() && !kind.is_dir() {
            return Err(failed(Errno::ACCESS));
        }
        let mode = |mode: u32| Mode::from_raw_mode(mode & 0o7777);
        let set = |mode| {
            rustix::fs::chmodat(&target.parent, target.name, mode, AtFlags::empty()).map_err(failed)
        };
        set(mode(stat.st_mode | needed))?;
        let opened = self.resolver.open_unlinked(self.root, path, flags);
        set(mode(stat.st_mode))?;
        opened
    }

    fn make_dirs(&self, path: &Path) -> Result<(), Failure> {
        for prefix in path.prefixes() {
            let target = self.target(&prefix)?;
            match rustix::fs::mkdirat(&target.parent, target.name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(os_failure("make", prefix.bytes(), &error.into())),
            }
        }
        // What is there may be a file, or a link that leads out.
        self.open(path, resolve::FOLDER).map(drop)
    }

    fn stat(&self, path: &Path) -> Result<Option<StatRecord>, Failure> {
        let failed = |error: io::Error| os_failure("stat", path.bytes(), &error);
        if path.is_empty() {
            let root = self.open_folder(path)?;
            let folder = stat::Folder::enter(root.as_fd()).map_err(failed)?;
            return folder.stat(b"", Vec::new()).map(Some).map_err(failed);
        }
        let target = self.target(path)?;
        let folder = stat::Folder::enter(target.parent.as_fd()).map_err(failed)?;
        folder.stat(target.name, path.bytes().to_vec()).map(Some).map_err(failed)
    }
}

/// Reading a pipe could block and reading a device could do anything.
fn refuse_special(file: &OwnedFd) -> rustix::io::Result<()> {
    let stat = rustix::fs::fstat(file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}

/// Flags of statx and unlinkat that leave the last part of a path alone.
const NO_FOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

const _: () = assert!(MAX_READ as usize <= MAX_PAYLOAD, "a read has to fit into one frame");
