//! Ids that the host lends to an ordinary user: ranges that `/etc/subuid` and `/etc/subgid` name,
//! put into user namespaces by the set-user-id programs `newuidmap` and `newgidmap`.
//!
//! The ranges are cut into slices, and a sandbox has one. Whom its commands run as is the caller
//! himself; everybody else in it is somebody of the slice, and so nobody of the host. What those
//! leave in the sandbox's folder the caller can neither read nor remove: it takes a process in a
//! namespace with all of the ranges.

mod map;
mod programs;
mod table;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

pub(crate) use map::{Line, People, SLICE, has};
pub(crate) use programs::{MAP_IDS, MapFailed, Programs};
use table::Owner;

use crate::launcher::StepFailed;

/// Bytes of a table of ids or users that are looked at.
const MAX_TABLE: u64 = 4 << 20;

const UIDS: &str = "/etc/subuid";
const GIDS: &str = "/etc/subgid";
const PASSWD: &str = "/etc/passwd";

/// Why a caller has nobody to be but himself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoIds {
    #[error("they are switched off")]
    SwitchedOff,
    #[error("the caller is root of a container, which has no ids to give")]
    RootOfContainer,
    #[error(
        "{table} gives {user} {found} (there have to be {SLICE} ids in a row from 65536 on{odd})"
    )]
    NoRange { table: &'static str, user: String, found: &'static str, odd: String },
    #[error("the program `{name}` {problem}")]
    NoProgram { name: &'static str, problem: String },
    #[error("`{name}` refused: {said}")]
    Refused { name: &'static str, said: String },
}

impl NoIds {
    /// What to do about it, in one line.
    pub(crate) fn remedy(&self) -> String {
        let run_as_root = "or run as root";
        match self {
            Self::SwitchedOff => "Switch them on in the provider's options.".to_owned(),
            Self::RootOfContainer => {
                "Run outside of the container, or as an ordinary user who has ranges in \
                 /etc/subuid and /etc/subgid, with `newuidmap` and `newgidmap`."
                    .to_owned()
            }
            Self::NoRange { user, .. } => format!(
                "Give a range that nobody else has with `sudo usermod --add-subuids 100000-165535 \
                 --add-subgids 100000-165535 {user}` (it goes into /etc/subuid and /etc/subgid; \
                 `newuidmap` and `newgidmap`, of the package uidmap or shadow-utils, put it to \
                 use), {run_as_root}."
            ),
            Self::NoProgram { .. } => format!(
                "Install `newuidmap` and `newgidmap`: `sudo apt-get install uidmap`, or `sudo dnf \
                 install shadow-utils`; they belong to root and are set-user-id. With ranges in /etc/subuid \
                 and /etc/subgid (`sudo usermod --add-subuids …`) that is all; {run_as_root}."
            ),
            Self::Refused { .. } => format!(
                "`newuidmap` and `newgidmap` need their set-user-id bit, a mount without `nosuid`, \
                 a caller without `no_new_privs`, and lines of the caller in /etc/subuid and \
                 /etc/subgid (`getsubids`, `sudo usermod --add-subuids …`); {run_as_root}."
            ),
        }
    }
}

/// The caller's ranges, and what puts them to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubordinateIds {
    /// The caller's own user and group.
    uid: u32,
    gid: u32,
    uids: Vec<Range<u32>>,
    gids: Vec<Range<u32>>,
    programs: Arc<Programs>,
}

/// The ids that one sandbox has of the caller's ranges: from these numbers on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slice {
    pub(crate) uids: u32,
    pub(crate) gids: u32,
}

impl SubordinateIds {
    /// Those of this process's user.
    pub(crate) fn find() -> Result<Self, NoIds> {
        let uid = rustix::process::geteuid().as_raw();
        if uid == 0 {
            return Err(NoIds::RootOfContainer);
        }
        let name = table::name_of(uid, &read(PASSWD));
        let owner = Owner { uid, name: name.as_deref() };
        let uids = ranges(UIDS, owner, uid)?;
        let gid = rustix::process::getegid().as_raw();
        let gids = ranges(GIDS, owner, gid)?;
        let programs = Arc::new(Programs::find()?);
        Ok(Self { uid, gid, uids, gids, programs })
    }

    fn slices(&self) -> u32 {
        count(&self.uids).min(count(&self.gids))
    }

    fn slice(&self, number: u32) -> Slice {
        Slice { uids: nth(&self.uids, number), gids: nth(&self.gids, number) }
    }

    /// The slice that sandboxes in which there is nobody else have together once each of the others
    /// is some sandbox's own. Where there is only one slice, it is somebody's own.
    pub(crate) fn common(&self) -> Option<Slice> {
        (self.slices() > 1).then(|| self.slice(0))
    }

    /// How many sandboxes can have ids that no other has.
    pub(crate) fn own_slices(&self) -> u32 {
        self.slices() - u32::from(self.slices() > 1)
    }

    /// The slices that sandboxes have for themselves, beginning anywhere.
    pub(crate) fn own(&self, beginning: u32) -> impl Iterator<Item = Slice> {
        let (all, own) = (self.slices(), self.own_slices());
        let beginning = beginning % own.max(1);
        let numbers = (beginning..own).chain(0..beginning);
        numbers.map(move |number| self.slice(number + (all - own)))
    }

    /// The maps of a sandbox in which these people are.
    pub(crate) fn maps(&self, slice: Slice, people: &People) -> Maps {
        Maps {
            uids: map::lines(slice.uids, (people.uid, self.uid), &people.uids),
            gids: map::lines(slice.gids, (people.gid, self.gid), &people.gids),
            programs: Arc::clone(&self.programs),
        }
    }

    /// Maps with everything that the caller has: he is 0.
    pub(crate) fn everything(&self) -> Maps {
        Maps {
            uids: map::all(self.uid, &self.uids),
            gids: map::all(self.gid, &self.gids),
            programs: Arc::clone(&self.programs),
        }
    }
}

/// Who is who in one user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maps {
    pub(crate) uids: Vec<Line>,
    pub(crate) gids: Vec<Line>,
    pub(crate) programs: Arc<Programs>,
}

/// What is known of the caller's ranges: looked for once, and given up if they turn out to be
/// of no use.
#[derive(Debug)]
pub(crate) struct Lending {
    found: Result<SubordinateIds, NoIds>,
    refused: OnceLock<NoIds>,
}

impl Lending {
    /// Looks for them, if they are wanted.
    pub(crate) fn find(wanted: bool) -> Self {
        let found = if wanted { SubordinateIds::find() } else { Err(NoIds::SwitchedOff) };
        Self { found, refused: OnceLock::new() }
    }

    pub(crate) fn ids(&self) -> Result<&SubordinateIds, &NoIds> {
        match self.refused.get() {
            Some(refused) => Err(refused),
            None => self.found.as_ref(),
        }
    }

    /// What the tables give, also once no sandbox is made with it any more: those that were can
    /// only be removed with it.
    pub(crate) fn found(&self) -> Result<&SubordinateIds, &NoIds> {
        self.found.as_ref()
    }

    /// Some of the ids were refused. `all` tries them all: if they are refused as well, there are
    /// none from now on, which is answered; otherwise it was about those, or about that moment.
    pub(crate) fn were_refused(&self, all: impl FnOnce() -> Result<(), StepFailed>) -> bool {
        if let Err(StepFailed { no_ids: Some(why), .. }) = all() {
            // Another thread may have found the same.
            let _ = self.refused.set(*why);
        }
        self.refused.get().is_some()
    }
}

fn ranges(table: &'static str, owner: Owner<'_>, own: u32) -> Result<Vec<Range<u32>>, NoIds> {
    let found = table::parse(&read(table), owner);
    let usable = table::usable(&found.ranges, own);
    if count(&usable) > 0 {
        return Ok(usable);
    }
    let odd = match found.odd.first() {
        Some(line) => format!("; line {line} makes no sense and was left out"),
        None => String::new(),
    };
    let found = if found.ranges.is_empty() { "no range of ids" } else { "too few ids" };
    let user = owner.name.map_or_else(|| owner.uid.to_string(), str::to_owned);
    Err(NoIds::NoRange { table, user, found, odd })
}

/// A table of the system, or as much of it as is looked at. One that is not there is empty.
fn read(path: &str) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(file) = File::open(Path::new(path)) {
        // What cannot be read is as if it were not there, which is said in the end.
        let _ = file.take(MAX_TABLE).read_to_end(&mut text);
    }
    text
}

fn count(ranges: &[Range<u32>]) -> u32 {
    ranges.iter().map(|range| (range.end - range.start) / SLICE).sum()
}

fn nth(ranges: &[Range<u32>], mut number: u32) -> u32 {
    for range in ranges {
        let here = (range.end - range.start) / SLICE;
        if number < here {
            return range.start + number * SLICE;
        }
        number -= here;
    }
    ranges.first().map_or(0, |range| range.start)
}
