use moat_sandbox::Accounts;
use moat_sandbox::roster::ImageAccounts;

use super::*;
use crate::folder::Folder;
use crate::launcher::{StepFailed, launch};
use crate::options::LocalOptions;
use crate::prepared::Prepared;

/// Makes everything up to the guest, in an empty folder, and ends.
fn rehearse(old_kernel: bool, furnish: bool) -> Result<i32, StepFailed> {
    let top = tempfile::tempdir().unwrap();
    let prepared = Prepared::new(&LocalOptions::new(top.path())).unwrap();
    let identity = Identity::caller_or_private();
    let folder = Folder::create(top.path(), "0123456789abcdef").unwrap();
    if furnish {
        folder.furnish(&identity, 1000, prepared.toolchains.home_links(false)).unwrap();
    }
    let plan = plan(&Parts {
        identity: &identity,
        missing: &BTreeSet::new(),
        left_out: &LeftOut::default(),
        system: &prepared.system,
        toolchains: &prepared.toolchains,
        sockets: &[],
        filter: &prepared.filter,
        folder: folder.path(),
        image: None,
        base: None,
        roster: &Roster::new(
            &Accounts::default(),
            identity.is_one_user(),
            ImageAccounts::default(),
            "/bin/sh",
        )
        .unwrap(),
        network: None,
        trust: None,
        mounts: &[],
        limits: &SandboxLimits { tmp_bytes: Some(1 << 20), ..SandboxLimits::default() },
        counters: &Counters::default(),
        rehearsal: true,
        old_kernel,
    });
    launch(&prepared.launcher, &plan, &[prepared.guest.as_fd()])
}

#[test]
fn every_step_works_on_this_kernel_and_as_on_old_ones() {
    rehearse(false, true).unwrap();
    rehearse(true, true).unwrap();
}

#[test]
fn a_step_that_fails_is_named() {
    let failed = rehearse(false, false).unwrap_err();
    assert!(
        failed.step.starts_with("open `") && failed.step.ends_with("/workspace`"),
        "{failed:?}"
    );
    assert!(failed.message.contains("No such file"), "{failed:?}");
    assert_eq!(failed.fence, Some(Fence::Mount));
}
