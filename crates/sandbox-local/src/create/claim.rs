//! A folder and ids for a new sandbox, that no other has.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use moat_sandbox::Accounts;
use moat_sandbox::roster::{self, Roster};

use super::Place;
use crate::clear::clear;
use crate::fences::Fence;
use crate::folder::Folder;
use crate::identity::{GUEST_BESIDE_ROOT, Identity, any_range};
use crate::launcher::StepFailed;
use crate::reap::reap;
use crate::subordinate::{self, NoIds, People, Slice, SubordinateIds};

/// Whose ids a sandbox will have.
#[derive(Debug)]
pub(crate) enum Claim<'a> {
    /// Who it is on the host is known already.
    Settled(Identity),
    /// It is some of the ids that the host lends; which of them, follows from who will be in it.
    Lent(&'a SubordinateIds, Slice),
}

impl Claim<'_> {
    /// Whether there can be nobody beside whom commands run as.
    pub(super) fn is_one_user(&self) -> bool {
        matches!(self, Self::Settled(identity) if identity.is_one_user())
    }

    /// How owners on disk become the sandbox's.
    pub(super) fn shift(&self, owner_of_root: u32) -> Option<String> {
        match self {
            Self::Settled(identity) => identity.shift(owner_of_root),
            Self::Lent(..) => None,
        }
    }

    /// Who the sandbox is. Those for whom there is no id can be nobody in it.
    pub(super) fn identity(self, accounts: &Accounts, roster: &mut Roster) -> Identity {
        match self {
            Self::Settled(identity) => identity,
            Self::Lent(ids, slice) => {
                let maps = ids.maps(slice, &people(accounts, roster));
                roster.keep(
                    |uid| subordinate::has(&maps.uids, uid),
                    |gid| subordinate::has(&maps.gids, gid),
                );
                Identity::lent(maps)
            }
        }
        .with_root_commands(accounts.as_root)
    }
}

/// Who needs an id: first those that were asked for, then those of the image.
fn people(accounts: &Accounts, roster: &Roster) -> People {
    let asked = accounts.users.iter().filter_map(|user| roster.users.get(&user.name));
    let all = || [&roster.default].into_iter().chain(asked.clone()).chain(roster.users.values());
    let guest = accounts.as_root.then_some(GUEST_BESIDE_ROOT);
    let groups = all().flat_map(|user| [user.gid].into_iter().chain(user.groups.iter().copied()));
    People {
        uid: roster.default.uid,
        gid: roster.default.gid,
        uids: guest.into_iter().chain(all().map(|user| user.uid)).collect(),
        gids: guest.into_iter().chain(groups).collect(),
    }
}

/// Whose ids a sandbox will have, with its name and its folder.
type Claimed<'a> = Result<(String, Claim<'a>, Folder), StepFailed>;

/// Names that are tried before there is thought to be none.
const ATTEMPTS: usize = 128;

/// Makes a folder whose name no other sandbox has. Where sandboxes have ranges of ids, the range
/// is the name, so that two never have the same.
pub(super) fn claim<'a>(place: &Place<'a>, accounts: &Accounts) -> Claimed<'a> {
    let lent = place.prepared.lending.ids();
    if let (false, Ok(ids)) = (place.private, lent) {
        return claim_lent(place, accounts, ids);
    }
    for _ in 0..ATTEMPTS {
        let (number, claim) = match lent {
            Err(why) if !place.private => (random()?, Claim::Settled(one_user(accounts, why)?)),
            _ => {
                let base = any_range().map_err(failed)?;
                let own = place.options.left_out().stands(Fence::User.name());
                let identity = Identity::private(if own { base } else { 0 });
                (u64::from(base), Claim::Settled(identity))
            }
        };
        if let Some((id, folder)) = take(place, number)? {
            return Ok((id, claim, folder));
        }
    }
    Err(failed("all names are taken; run the reaper"))
}

/// A slice of the ids that the host lends: one that no other sandbox has, as long as there is any.
/// After that those who have nobody else in them have one together.
fn claim_lent<'a>(place: &Place<'a>, accounts: &Accounts, ids: &'a SubordinateIds) -> Claimed<'a> {
    for is_last in [false, true] {
        let taken = taken(place.sandboxes).map_err(failed)?;
        let beginning = getrandom::u32().map_err(failed)?;
        for slice in ids.own(beginning).filter(|slice| !taken.contains(&slice.uids)) {
            if let Some((id, folder)) = take(place, u64::from(slice.uids))? {
                return Ok((id, Claim::Lent(ids, slice), folder));
            }
        }
        if !is_last {
            // Some may have ended and not been removed. What cannot be now, is in a later pass.
            let missing = place.prepared.lacking();
            let remove =
                |folder: Folder| folder.remove(|path| clear(place.prepared, &missing, path));
            let _ = reap(place.sandboxes, remove);
        }
    }
    let alone = !roster::asks_for_others(accounts) && !accounts.as_root;
    let Some(common) = ids.common().filter(|_| alone) else { return Err(none_free(place, ids)) };
    for _ in 0..ATTEMPTS {
        let number = (random()? | 1) << 32 | u64::from(common.uids);
        if let Some((id, folder)) = take(place, number)? {
            return Ok((id, Claim::Lent(ids, common), folder));
        }
    }
    Err(failed("all names are taken; run the reaper"))
}

/// Makes the folder of this name. `None`: it is somebody's.
fn take(place: &Place<'_>, number: u64) -> Result<Option<(String, Folder)>, StepFailed> {
    let id = format!("{number:016x}");
    // Ids are drawn again once a sandbox is gone, but a control group of it may not be yet.
    if place.prepared.cgroups.has_leftovers(&id) {
        return Ok(None);
    }
    match Folder::create(place.sandboxes, &id) {
        Ok(folder) => Ok(Some((id, folder))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Where the slices begin that sandboxes have: the lower half of their names.
fn taken(sandboxes: &Path) -> io::Result<BTreeSet<u32>> {
    let mut taken = BTreeSet::new();
    for entry in fs::read_dir(sandboxes)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok());
        taken.extend(number.map(|number| number as u32));
    }
    Ok(taken)
}

fn none_free(place: &Place<'_>, ids: &SubordinateIds) -> StepFailed {
    let message = format!(
        "the host lends ids for {}, and as many are in `{}`; remove one (`moat sandbox ls`, `moat \
         sandbox rm`), or lend more with `sudo usermod --add-subuids … --add-subgids …`",
        ids.own_slices(),
        place.sandboxes.display(),
    );
    StepFailed::new("give the sandbox ids that no other has", message)
}

fn failed(error: impl ToString) -> StepFailed {
    StepFailed::new("make the sandbox's folder", error)
}

fn random() -> Result<u64, StepFailed> {
    getrandom::u64().map_err(failed)
}

/// The caller himself, who can be nobody else's host.
fn one_user(accounts: &Accounts, why: &NoIds) -> Result<Identity, StepFailed> {
    if roster::asks_for_others(accounts) {
        return Err(StepFailed::unsupported(format!(
            "have users beside `agent`, since the host lends the caller no ids for them: {why}. {}",
            why.remedy()
        )));
    }
    Ok(Identity::caller())
}
