//! A folder and ids for a new sandbox, that no other has.

use std::io;

use moat_sandbox::Accounts;
use moat_sandbox::roster::{self, Roster};

use super::Place;
use crate::fences::Fence;
use crate::folder::Folder;
use crate::identity::{GUEST_BESIDE_ROOT, Identity, any_range};
use crate::launcher::StepFailed;
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

/// Makes a folder whose name no other sandbox has. Where sandboxes have ranges of ids, the range
/// is the name, so that two never share one, as long as there are enough.
pub(super) fn claim<'a>(
    place: &Place<'a>,
    accounts: &Accounts,
) -> Result<(String, Claim<'a>, Folder), StepFailed> {
    let failed = |error: io::Error| StepFailed::new("make the sandbox's folder", error);
    let lent = place.prepared.lending.ids();
    let first = getrandom::u32().map_err(io::Error::other).map_err(failed)?;
    for attempt in 0..128 {
        let (number, claim) = match lent {
            _ if place.private => {
                let base = any_range().map_err(failed)?;
                let own = place.options.left_out().stands(Fence::User.name());
                let identity = Identity::private(if own { base } else { 0 });
                (u64::from(base), Claim::Settled(identity))
            }
            Ok(ids) => {
                let slice = ids.slice(first.wrapping_add(attempt));
                // Once each was tried for itself, several sandboxes have the same one.
                let beside = if attempt < ids.slices().min(64) { 0 } else { random()? };
                (beside << 32 | u64::from(slice.uids), Claim::Lent(ids, slice))
            }
            Err(why) => (random()?, Claim::Settled(one_user(accounts, why)?)),
        };
        let id = format!("{number:016x}");
        // Ids are drawn again once a sandbox is gone, but a control group of it may not be yet.
        if place.prepared.cgroups.has_leftovers(&id) {
            continue;
        }
        match Folder::create(place.sandboxes, &id) {
            Ok(folder) => return Ok((id, claim, folder)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(StepFailed::new("make the sandbox's folder", "all names are taken; run the reaper"))
}

fn random() -> Result<u64, StepFailed> {
    getrandom::u64().map_err(|error| StepFailed::new("make the sandbox's folder", error))
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
