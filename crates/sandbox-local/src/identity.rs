//! Who the sandbox is, inside and on the host.
//!
//! Inside, commands are always user and group [`AGENT`]. As root on the host each sandbox has a
//! range of ids of its own, so that two sandboxes are strangers to each other and neither is
//! anybody on the host; its guest is root in its own user namespace only. An ordinary user can map
//! nobody but himself: guest and commands are both he.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::plan::Namespaces;

/// The user and group that commands run as, as seen inside.
pub(crate) const AGENT: u32 = 1000;

/// Ids in a private range.
const RANGE: u32 = 65_536;
/// Private ranges lie where neither users, nor `/etc/subuid`, nor containers of other programs
/// have theirs (`systemd`'s list of ranges leaves this one free).
const FIRST_BASE: u32 = 0x7000_0000;
const LAST_BASE: u32 = 0x7ffc_0000;
/// A range for trying fences, in which nothing is ever made.
pub(crate) const PROBE_BASE: u32 = LAST_BASE;

/// A range that a living maker has taken has a folder by then, or its maker is dead.
const TIME_TO_MAKE_A_FOLDER: Duration = Duration::from_secs(60);

/// Who a sandbox is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A private range, from this id on.
    Private {
        /// Id 0 of the inside.
        base: u32,
    },
    /// The caller, and nobody else.
    Caller {
        /// His user.
        uid: u32,
        /// His group.
        gid: u32,
    },
}

impl Identity {
    /// The caller himself.
    pub(crate) fn caller() -> Self {
        Self::Caller {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    /// The user namespace's maps.
    pub(crate) fn namespaces(&self, flags: u64) -> Namespaces {
        match self {
            Self::Private { base } => {
                let map = format!("0 {base} {RANGE}\n");
                Namespaces { flags, uid_map: map.clone(), gid_map: map, deny_setgroups: false }
            }
            Self::Caller { uid, gid } => Namespaces {
                flags,
                uid_map: format!("{AGENT} {uid} 1\n"),
                gid_map: format!("{AGENT} {gid} 1\n"),
                deny_setgroups: true,
            },
        }
    }

    /// The guest's user and group, as seen inside.
    pub(crate) fn guest(&self) -> u32 {
        match self {
            Self::Private { .. } => 0,
            Self::Caller { .. } => AGENT,
        }
    }

    /// Who owns what commands may write, on the host; absent: whoever makes it.
    pub(crate) fn host_agent(&self) -> Option<u32> {
        match self {
            Self::Private { base } => Some(base + AGENT),
            Self::Caller { .. } => None,
        }
    }

    /// Who owns what only the guest may write, on the host; absent: whoever makes it.
    pub(crate) fn host_guest(&self) -> Option<u32> {
        match self {
            Self::Private { base } => Some(*base),
            Self::Caller { .. } => None,
        }
    }
}

/// Hands out private ranges; those in use are files in a folder, so that sandboxes of several
/// processes share none.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    folder: PathBuf,
}

impl Ranges {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Takes a range for the sandbox of this name.
    pub(crate) fn take(&self, sandbox: &str) -> io::Result<u32> {
        let count = (LAST_BASE - FIRST_BASE) / RANGE;
        for _ in 0..64 {
            let random = getrandom::u32().map_err(io::Error::other)?;
            let base = FIRST_BASE + (random % count) * RANGE;
            match fs::File::create_new(self.path(base)) {
                Ok(mut file) => {
                    io::Write::write_all(&mut file, sandbox.as_bytes())?;
                    return Ok(base);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("all ranges of user ids are in use; run the reaper"))
    }

    /// Gives a range back, if it is this sandbox's.
    pub(crate) fn give_back(&self, base: u32, sandbox: &str) {
        let path = self.path(base);
        if fs::read(&path).is_ok_and(|owner| owner == sandbox.as_bytes()) {
            // One that stays is found by the reaper.
            let _ = fs::remove_file(path);
        }
    }

    /// Ranges that were taken a while ago, and the sandboxes that took them.
    pub(crate) fn taken(&self) -> io::Result<Vec<(u32, String)>> {
        let mut taken = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let age = entry.metadata().and_then(|metadata| metadata.modified());
            let old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > TIME_TO_MAKE_A_FOLDER));
            let base = entry.file_name().to_string_lossy().parse();
            if let (true, Ok(base), Ok(owner)) = (old, base, fs::read_to_string(entry.path())) {
                taken.push((base, owner));
            }
        }
        Ok(taken)
    }

    fn path(&self, base: u32) -> PathBuf {
        self.folder.join(base.to_string())
    }
}

/// Whether the caller's own user namespace has the private ranges, that is, whether he is root of
/// the whole machine and not of a container that was given some ids.
pub(crate) fn has_private_ranges(uid_map: &str) -> bool {
    uid_map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(inside)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        inside <= u64::from(FIRST_BASE) && inside + count >= u64::from(LAST_BASE + RANGE)
    })
}

/// What a process of this uid can be; `proc` is where the host's `/proc` is.
pub(crate) fn can_map_ranges(proc: &Path) -> bool {
    rustix::process::geteuid().is_root()
        && fs::read_to_string(proc.join("self/uid_map")).is_ok_and(|map| has_private_ranges(&map))
}
