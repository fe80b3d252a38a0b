//! Who the sandbox is, inside and on the host.
//!
//! Inside, commands are always user and group [`AGENT`]. As root on the host each sandbox has a
//! range of ids of its own, so that two sandboxes are strangers to each other and neither is
//! anybody on the host; its guest is root in its own user namespace only. An ordinary user to whom
//! the host lends ids is whom commands run as; the guest, and everybody else, is somebody of the
//! lent ids. Another can map nobody but himself: guest and commands are both he.

use std::fs;
use std::io;
use std::path::Path;

use crate::plan::{Namespaces, Step};
use crate::subordinate::Maps;

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
/// The range that files of unpacked images belong to on disk; sandboxes see them shifted into their
/// own range.
pub(crate) const IMAGE_BASE: u32 = LAST_BASE + RANGE;

/// The user that the guest is where commands are root: somebody whom no image has.
pub(crate) const GUEST_BESIDE_ROOT: u32 = RANGE - 1;

/// Who a sandbox is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) kind: Kind,
    /// Commands are user 0 inside.
    as_root: bool,
}

/// Which ids of the host stand for those inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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
    /// The caller, and ids that the host lends him.
    Lent(Maps),
}

impl Identity {
    /// A private range.
    pub(crate) fn private(base: u32) -> Self {
        Self { kind: Kind::Private { base }, as_root: false }
    }

    /// The caller himself.
    pub(crate) fn caller() -> Self {
        let kind = Kind::Caller {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        Self { kind, as_root: false }
    }

    /// The caller, and ids that the host lends him.
    pub(crate) fn lent(maps: Maps) -> Self {
        Self { kind: Kind::Lent(maps), as_root: false }
    }

    /// The same with commands that are user 0 inside.
    pub(crate) fn with_root_commands(self, as_root: bool) -> Self {
        Self { as_root, ..self }
    }

    /// Whether guest and commands are the same, and there can be nobody else.
    pub(crate) fn is_one_user(&self) -> bool {
        matches!(self.kind, Kind::Caller { .. })
    }

    /// Whether the caller can give files to those inside, being above them.
    pub(crate) fn is_private(&self) -> bool {
        matches!(self.kind, Kind::Private { .. })
    }

    /// What a sandbox of this process would be.
    #[cfg(test)]
    pub(crate) fn caller_or_private() -> Self {
        if can_map_ranges(Path::new("/proc")) { Self::private(PROBE_BASE) } else { Self::caller() }
    }

    /// The user namespace's maps.
    pub(crate) fn namespaces(&self, flags: u64) -> Namespaces {
        match &self.kind {
            Kind::Private { base } => {
                let map = format!("0 {base} {RANGE}\n");
                Namespaces { flags, uid_map: map.clone(), gid_map: map, ..Namespaces::default() }
            }
            Kind::Caller { uid, gid } => {
                let inside = self.guest();
                Namespaces {
                    flags,
                    uid_map: format!("{inside} {uid} 1\n"),
                    gid_map: format!("{inside} {gid} 1\n"),
                    deny_setgroups: true,
                    ..Namespaces::default()
                }
            }
            Kind::Lent(maps) => {
                Namespaces { flags, mapped_outside: Some(maps.clone()), ..Namespaces::default() }
            }
        }
    }

    /// The guest's user and group, as seen inside.
    pub(crate) fn guest(&self) -> u32 {
        match (&self.kind, self.as_root) {
            (Kind::Private { .. } | Kind::Lent(_), false) | (Kind::Caller { .. }, true) => 0,
            // Commands that are root are still kept from the guest's own.
            (Kind::Private { .. } | Kind::Lent(_), true) => GUEST_BESIDE_ROOT,
            (Kind::Caller { .. }, false) => AGENT,
        }
    }

    /// The step by which the first process becomes the guest's user.
    pub(crate) fn become_guest(&self) -> Step<'static> {
        let guest = self.guest();
        Step::BecomeUser {
            uid: guest,
            gid: guest,
            leave_groups: !self.is_one_user(),
            // One that is root already would lose all that it may by becoming somebody else.
            from_root: self.as_root && matches!(self.kind, Kind::Lent(_)),
        }
    }

    /// Somebody inside, on the host, if the caller can give him files; absent: they stay the
    /// caller's, who is whom commands run as, or are given away inside.
    pub(crate) fn on_host(&self, inside: u32) -> Option<u32> {
        match self.kind {
            Kind::Private { base } => Some(base + inside),
            Kind::Caller { .. } | Kind::Lent(_) => None,
        }
    }

    /// Who owns what only the guest may write, on the host; absent: whoever makes it.
    pub(crate) fn host_guest(&self) -> Option<u32> {
        self.on_host(self.guest())
    }

    /// How owners on disk become this sandbox's, in the form of a `uid_map`; `None`: they are left
    /// as they are. An unpacked image belongs to the range of images, any other folder to the
    /// host's own users.
    pub(crate) fn shift(&self, owner_of_root: u32) -> Option<String> {
        let Kind::Private { base } = self.kind else { return None };
        let unpacked = (IMAGE_BASE..IMAGE_BASE + RANGE).contains(&owner_of_root);
        let on_disk = if unpacked { IMAGE_BASE } else { 0 };
        Some(format!("{on_disk} {base} {RANGE}\n"))
    }
}

/// How the owners of a tree that was made for the range from `made_for` on become those of a private
/// range, in the form of a `uid_map`; `None`: nobody here can do that.
pub(crate) fn shift_range(identity: &Identity, made_for: u32) -> Option<String> {
    let Kind::Private { base } = identity.kind else { return None };
    Some(format!("{made_for} {base} {RANGE}\n"))
}

/// The beginning of some private range.
pub(crate) fn any_range() -> io::Result<u32> {
    let random = getrandom::u32().map_err(io::Error::other)?;
    Ok(FIRST_BASE + random % ((LAST_BASE - FIRST_BASE) / RANGE) * RANGE)
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
        inside <= u64::from(FIRST_BASE) && inside + count >= u64::from(IMAGE_BASE + RANGE)
    })
}

/// What a process of this uid can be; `proc` is where the host's `/proc` is.
pub(crate) fn can_map_ranges(proc: &Path) -> bool {
    rustix::process::geteuid().is_root()
        && fs::read_to_string(proc.join("self/uid_map")).is_ok_and(|map| has_private_ranges(&map))
}
