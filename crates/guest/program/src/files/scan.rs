//! Listing what is beneath a root, in steps.

use std::collections::{BTreeSet, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;

use moat_guest::{Failure, MAX_PATH, RawBytes, Root, StatKind, StatRecord};
use rustix::fs::RawDir;
use rustix::io::Errno;

use super::resolve::Path;
use super::{Beneath, Files, LISTED, os_failure, stat};

/// Bytes of records that are sent at once.
const FRAME: usize = 256 << 10;

/// Bytes of records that wait until it is their turn. A folder of 400,000 names fits.
const MAX_HELD: usize = 128 << 20;

/// What a record costs beside its path and attributes.
const RECORD_COST: usize = 200;

/// A listing under way. Folders stand before what is in them, names are in byte order.
pub(crate) struct Scan {
    root: Root,
    recursive: bool,
    skip: BTreeSet<Vec<u8>>,
    /// What is still to be sent, of each folder on the way down.
    waiting: Vec<VecDeque<StatRecord>>,
    held: usize,
}

impl Scan {
    /// Everything beneath the root, itself included.
    pub(crate) fn tree(files: &Files, root: Root, skip: &[RawBytes]) -> Result<Self, Failure> {
        let skip = skip.iter().map(|path| Ok(Path::parse(path)?.bytes().to_vec()));
        let skip = skip.collect::<Result<_, Failure>>()?;
        let own = files.beneath(root)?.stat(&Path::from_names(Vec::new()))?;
        let waiting = vec![own.into_iter().collect()];
        Ok(Self { root, recursive: true, skip, waiting, held: 0 })
    }

    /// What is in one folder.
    pub(crate) fn folder(files: &Files, root: Root, path: &RawBytes) -> Result<Self, Failure> {
        let path = Path::parse(path)?;
        let beneath = files.beneath(root)?;
        let folder = beneath.open(&path, LISTED)?;
        let mut scan =
            Self { root, recursive: false, skip: BTreeSet::new(), waiting: Vec::new(), held: 0 };
        scan.enter(&path, &folder)?;
        Ok(scan)
    }

    /// The next records, and whether they are the last.
    pub(crate) fn step(&mut self, files: &Files) -> Result<(Vec<u8>, bool), Failure> {
        let beneath = files.beneath(self.root)?;
        let mut out = Vec::new();
        while out.len() < FRAME {
            let Some(folder) = self.waiting.last_mut() else { return Ok((out, true)) };
            let Some(record) = folder.pop_front() else {
                self.waiting.pop();
                continue;
            };
            self.held = self.held.saturating_sub(cost(&record));
            if self.skip.contains(&record.path) && !record.path.is_empty() {
                continue;
            }
            record.encode(&mut out);
            if self.recursive && record.kind == StatKind::Dir {
                self.descend(&beneath, record.path)?;
            }
        }
        Ok((out, false))
    }

    fn descend(&mut self, beneath: &Beneath<'_>, path: Vec<u8>) -> Result<(), Failure> {
        let path = Path::from_names(path);
        match beneath.open_folder(&path) {
            Ok(folder) => self.enter(&path, &folder),
            // It went away since it was seen; whoever needs one moment freezes before.
            Err(Failure::Os { errno: libc::ENOENT | libc::ENOTDIR, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads all entries of a folder.
    fn enter(&mut self, path: &Path, folder: &std::os::fd::OwnedFd) -> Result<(), Failure> {
        let failed = |error: &std::io::Error| os_failure("list", path.bytes(), error);
        let mut records = VecDeque::new();
        let entries = stat::Folder::enter(folder.as_fd()).map_err(|error| failed(&error))?;
        for name in names(folder).map_err(|error| failed(&error.into()))? {
            let entry = path.join(&name);
            if entry.bytes().len() > MAX_PATH {
                return Err(failed(&Errno::NAMETOOLONG.into()));
            }
            let record = match entries.stat(&name, entry.bytes().to_vec()) {
                Ok(record) => record,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
                Err(error) => return Err(os_failure("stat", entry.bytes(), &error)),
            };
            self.held += cost(&record);
            if self.held > MAX_HELD {
                return Err(failed(&Errno::NOBUFS.into()));
            }
            records.push_back(record);
        }
        self.waiting.push(records);
        Ok(())
    }
}

fn cost(record: &StatRecord) -> usize {
    let xattrs = record.xattrs.iter().map(|(name, value)| name.len() + value.len());
    RECORD_COST + record.path.len() + xattrs.sum::<usize>()
}

/// The names in a folder, in byte order.
pub(super) fn names(folder: impl std::os::fd::AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut entries = RawDir::new(folder, &mut buffer);
    let mut names = Vec::new();
    let mut held = 0;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        held += name.len() + size_of::<Vec<u8>>();
        if held > MAX_HELD {
            return Err(Errno::NOBUFS);
        }
        names.push(name.to_vec());
    }
    names.sort_unstable();
    Ok(names)
}
