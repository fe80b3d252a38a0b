//! Applying one layer.
//!
//! What engines agree on is done: a later member of the same name replaces an earlier one, absolute
//! names and absolute links are taken from the root, links of lower layers are followed, within the
//! root. Devices are left out, which is what engines without privileges do. Refused by name: `..`,
//! unknown kinds, owners past the range, more members or bytes than allowed, and whatever the
//! kernel refuses (a folder behind a file, a loop of links, a hard link to nothing).

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use moat_guest::{FolderJobReport, TarError, TarKind, TarMember, TarReader};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::place::{Folders, inside, split};
use super::whiteout::{Made, Meaning, meaning};
use super::{Failure, failed, remove};

/// Owners from here on have no place in the range of ids that an image has.
const MAX_OWNER: u64 = 65_536;

const INPUT: usize = 1 << 20;
const COPY: usize = 256 << 10;

/// What a layer may have.
pub(super) struct Rules {
    pub(super) owners: bool,
    pub(super) max_entries: u64,
    pub(super) max_bytes: u64,
}

pub(super) fn unpack(input: File, rules: Rules) -> Result<FolderJobReport, Failure> {
    let mut archive = TarReader::new(BufReader::with_capacity(INPUT, input));
    let mut layer = Layer {
        rules,
        folders: Folders::default(),
        made: Made::default(),
        times: Vec::new(),
        entries: 0,
        bytes: 0,
        devices: 0,
        buffer: vec![0; COPY],
    };
    while let Some(member) = archive.next_member().map_err(from_tar)? {
        layer.apply(&member, &mut archive)?;
    }
    layer.finish()?;
    // The sender finds out by this that all was taken.
    io::copy(&mut archive.into_source(), &mut io::sink()).map_err(failed("read", b"the layer"))?;
    Ok(FolderJobReport::Done { entries: layer.entries, bytes: layer.bytes, devices: layer.devices })
}

fn from_tar(error: TarError) -> Failure {
    match error {
        TarError::Read(error) => failed("read", b"the layer")(error),
        TarError::Refused { member, reason } => Failure::Refused { member, reason },
    }
}

type Archive = TarReader<BufReader<File>>;

struct Layer {
    rules: Rules,
    folders: Folders,
    made: Made,
    /// Times of folders, which change as long as something is made in them.
    times: Vec<(Vec<u8>, (i64, u32))>,
    entries: u64,
    bytes: u64,
    devices: u64,
    buffer: Vec<u8>,
}

impl Layer {
    fn apply(&mut self, member: &TarMember, archive: &mut Archive) -> Result<(), Failure> {
        self.count(member)?;
        let path = inside(&member.path, &member.path)?;
        let Some((folder, name)) = split(&path) else {
            if member.kind != TarKind::Folder {
                return Err(Failure::refused(&member.path, "it would replace the root"));
            }
            return self.settle_folder(CWD, c"/", member, &path);
        };
        let parent = self.folders.open(folder, true, &member.path)?;
        match meaning(name, &member.path)? {
            Meaning::Nothing => return Ok(()),
            Meaning::HideAll => {
                self.folders.forget();
                let readable = reopen(parent.as_fd()).map_err(failed("open", folder))?;
                return self.made.hide_all(&readable, folder);
            }
            Meaning::Hide(hidden) => {
                self.folders.forget();
                let hidden_path = [folder, b"/", hidden].concat();
                let hidden_path = hidden_path.strip_prefix(b"/").unwrap_or(&hidden_path);
                return self.made.hide(&parent, hidden_path, hidden);
            }
            Meaning::File => {}
        }
        let entry = CString::new(name).map_err(failed("read the name of", &path))?;
        let merged = self.make_room(parent.as_fd(), &entry, member)?;
        self.make(parent.as_fd(), &entry, member, merged, archive)?;
        if member.kind == TarKind::Folder {
            self.settle_folder(parent.as_fd(), &entry, member, &path)?;
        }
        self.made.note(&path)
    }

    fn count(&mut self, member: &TarMember) -> Result<(), Failure> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(member.size);
        if self.entries > self.rules.max_entries {
            let most = self.rules.max_entries;
            return Err(Failure::refused(&member.path, format!("more than {most} members")));
        }
        if self.bytes > self.rules.max_bytes {
            let most = self.rules.max_bytes;
            return Err(Failure::refused(&member.path, format!("more than {most} bytes")));
        }
        if self.rules.owners && (member.uid >= MAX_OWNER || member.gid >= MAX_OWNER) {
            let reason = format!("its owner {}:{} is over 65535", member.uid, member.gid);
            return Err(Failure::refused(&member.path, reason));
        }
        Ok(())
    }

    /// Removes what is in the way; answers whether a folder is there that stays.
    fn make_room(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CString,
        member: &TarMember,
    ) -> Result<bool, Failure> {
        let stat = match rustix::fs::statat(parent, &**name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(failed("look at", &member.path)(error)),
        };
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_folder && member.kind == TarKind::Folder {
            return Ok(true);
        }
        self.folders.forget();
        remove::remove(parent, name).map_err(failed("replace", &member.path))?;
        Ok(false)
    }

    fn make(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CString,
        member: &TarMember,
        merged: bool,
        archive: &mut Archive,
    ) -> Result<(), Failure> {
        let name = name.as_c_str();
        let make = |step| failed(step, &member.path);
        match member.kind {
            TarKind::File => return self.file(parent, name, member, archive),
            TarKind::Folder if merged => return Ok(()),
            TarKind::Folder => {
                rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(make("make"))?;
                return Ok(());
            }
            TarKind::Device => {
                self.devices += 1;
                return Ok(());
            }
            TarKind::Hardlink => {
                let target = inside(&member.link, &member.path)?;
                let Some((folder, target)) = split(&target) else {
                    return Err(Failure::refused(&member.path, "it links to the root"));
                };
                let folder = self.folders.open(folder, false, &member.path)?;
                rustix::fs::linkat(&*folder, target, parent, name, AtFlags::empty())
                    .map_err(make("link"))?;
                // Owner, mode and times are those of the file.
                return Ok(());
            }
            TarKind::Symlink => {
                rustix::fs::symlinkat(member.link.as_slice(), parent, name)
                    .map_err(make("link"))?;
            }
            TarKind::Pipe => {
                rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR, 0)
                    .map_err(make("make"))?;
            }
        }
        self.give(parent, name, member)?;
        if member.kind == TarKind::Pipe {
            rustix::fs::chmodat(parent, name, mode(member), AtFlags::empty())
                .map_err(make("set the mode of"))?;
        }
        rustix::fs::utimensat(parent, name, &times(member.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(make("set the times of"))
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        member: &TarMember,
        archive: &mut Archive,
    ) -> Result<(), Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(made.map_err(failed("make", &member.path))?);
        let mut content = archive.content();
        loop {
            match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => {
                    let bytes = self.buffer.get(..count).unwrap_or_default();
                    file.write_all(bytes).map_err(failed("write", &member.path))?;
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Failure::refused(&member.path, "the archive ends within it"));
                }
                Err(error) => return Err(failed("read", &member.path)(error)),
            }
        }
        self.give(parent, name, member)?;
        attributes(file.as_fd(), member)?;
        rustix::fs::fchmod(&file, mode(member)).map_err(failed("set the mode of", &member.path))?;
        rustix::fs::futimens(&file, &times(member.mtime))
            .map_err(failed("set the times of", &member.path))
    }

    fn settle_folder(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        member: &TarMember,
        path: &[u8],
    ) -> Result<(), Failure> {
        self.give(parent, name, member)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
        let folder = opened.map_err(failed("open", &member.path))?;
        attributes(folder.as_fd(), member)?;
        rustix::fs::fchmod(&folder, mode(member))
            .map_err(failed("set the mode of", &member.path))?;
        self.times.push((path.to_vec(), member.mtime));
        Ok(())
    }

    fn give(
        &self,
        parent: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        member: &TarMember,
    ) -> Result<(), Failure> {
        if !self.rules.owners {
            return Ok(());
        }
        // Checked to be in the range when the member was counted.
        let owner = Uid::from_raw(u32::try_from(member.uid).unwrap_or_default());
        let group = Gid::from_raw(u32::try_from(member.gid).unwrap_or_default());
        rustix::fs::chownat(parent, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("give an owner to", &member.path))
    }

    /// Times of folders, the innermost first. One that a later member took away is passed over.
    fn finish(&mut self) -> Result<(), Failure> {
        self.folders.forget();
        for (path, time) in std::mem::take(&mut self.times).iter().rev() {
            let from_root = [b"/", path.as_slice()].concat();
            let set = rustix::fs::utimensat(
                CWD,
                from_root.as_slice(),
                &times(*time),
                AtFlags::SYMLINK_NOFOLLOW,
            );
            match set {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(failed("set the times of", path)(error)),
            }
        }
        Ok(())
    }
}

/// `user.*` is kept where the file system can; capabilities and whatever else gives rights, and
/// what an overlay would take for its own, are left out.
fn attributes(file: BorrowedFd<'_>, member: &TarMember) -> Result<(), Failure> {
    for (name, value) in &member.xattrs {
        if !name.starts_with(b"user.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        match rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(error) => return Err(failed("set an attribute of", &member.path)(error)),
        }
    }
    Ok(())
}

fn reopen(folder: BorrowedFd<'_>) -> rustix::io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(folder, c".", flags, Mode::empty())
}

fn mode(member: &TarMember) -> Mode {
    Mode::from_raw_mode(member.mode & 0o7777)
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    // What lies outside of what file systems can keep is cut off by the kernel.
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
