//! Who there can be in sandboxes of this host, for `doctor`.

use crate::identity::Identity;
use crate::launcher::{StepFailed, launch};
use crate::plan::{Plan, Step};
use crate::prepared::Prepared;
use crate::subordinate::SubordinateIds;

/// Whom users of a sandbox are on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsersState {
    /// Somebody of a range that is the sandbox's own.
    Private,
    /// The caller, and others of ranges that `/etc/subuid` and `/etc/subgid` lend him.
    Lent,
    /// The caller, and nobody else: users beside the one that commands run as are refused.
    One,
}

/// What `doctor` prints of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersStatus {
    /// Whom they are.
    pub state: UsersState,
    /// How many sandboxes can have ids of their own, or why there are none to have.
    pub detail: String,
    /// What to do about it; empty if there is nothing to do.
    pub remedy: String,
}

/// Tries it, in a process that is thrown away.
pub(crate) fn status(prepared: &Prepared, private: bool) -> UsersStatus {
    if private {
        let (state, detail) = (UsersState::Private, String::new());
        return UsersStatus { state, detail, remedy: String::new() };
    }
    if let Ok(ids) = prepared.lending.ids() {
        match try_all(prepared, ids) {
            Ok(()) => {
                let slices = ids.own_slices();
                let detail = format!(
                    "ids for {slices} sandboxes of their own; further ones can have nobody else \
                     in them"
                );
                return UsersStatus { state: UsersState::Lent, detail, remedy: String::new() };
            }
            Err(failed) if !prepared.lending.were_refused(|| Err(failed.clone())) => {
                let detail = failed.to_string();
                return UsersStatus { state: UsersState::One, detail, remedy: String::new() };
            }
            Err(_) => {}
        }
    }
    let (detail, remedy) = match prepared.lending.ids() {
        Err(why) => (why.to_string(), why.remedy()),
        Ok(_) => Default::default(),
    };
    UsersStatus { state: UsersState::One, detail, remedy }
}

/// Has all of the ids that the host lends mapped, in a process that is thrown away.
pub(crate) fn try_all(prepared: &Prepared, ids: &SubordinateIds) -> Result<(), StepFailed> {
    let identity = Identity::lent(ids.everything());
    let mut plan = Plan::new(&identity.namespaces(crate::fences::Fence::User.namespace()));
    plan.push("become a user of the namespace", &identity.become_guest());
    plan.push("end", &Step::Exit);
    launch(&prepared.launcher, &plan, &[]).map(drop)
}
