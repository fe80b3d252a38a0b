//! Finds out whether a sandbox can lie over a workspace, before the first one is filled for that.
//!
//! That a mount is made does not say that it does what was asked for: where a file system takes no
//! attributes of the kernel's own, overlayfs is mounted all the same and leaves out what needs them.
//! So it is rehearsed, where workspaces are kept, with a tree of four paths.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::{Kept, TREE};
use crate::folder::{OVER, OVER_WORK, WORKSPACE, give_tree};
use crate::identity::{IMAGE_BASE, Identity, PROBE_BASE, shift_range};
use crate::launcher::{SealedProgram, StepFailed, launch};
use crate::plan::{Beneath, Namespaces, Plan, Step};

/// Tries it. Blocks for some milliseconds; nothing is left of it.
pub(super) fn rehearse(kept: &Kept, launcher: &SealedProgram) -> Result<(), StepFailed> {
    let prepare = |error: io::Error| StepFailed {
        errno: error.raw_os_error(),
        ..StepFailed::new("prepare trying to lie over a kept workspace", error)
    };
    kept.make_folder().map_err(prepare)?;
    let busy = || StepFailed::new("try to lie over a kept workspace", "others are being removed");
    let _lock = kept.lock(false).ok_or_else(busy)?;
    let made = kept.new_folder().map_err(prepare)?;
    furnish(made.path()).map_err(prepare)?;
    let map = shift_range(&Identity::private(PROBE_BASE), IMAGE_BASE).unwrap_or_default();
    let (tree, folder) = (made.path().join(TREE), made.path().to_owned());
    let base = Some(Beneath { tree, map, folder, rehearse: true });
    let mut plan = Plan::new(&Namespaces { base, ..Namespaces::default() });
    plan.push("end", &Step::Exit);
    launch(launcher, &plan, &[])?;
    if is_as_it_was(&made.path().join(TREE)).map_err(prepare)? {
        return Ok(());
    }
    let said = Errno::OPNOTSUPP.raw_os_error();
    Err(StepFailed {
        errno: Some(said),
        ..StepFailed::new("lie over a kept workspace", "writing over it changes it")
    })
}

/// What the launcher knows to be there: a folder that takes another name, and a file with two names,
/// one of which is written.
fn furnish(folder: &Path) -> io::Result<()> {
    let tree = folder.join(TREE);
    for path in [&tree, &tree.join("folder"), &folder.join(WORKSPACE)] {
        fs::create_dir(path)?;
    }
    for name in [OVER, OVER_WORK] {
        fs::create_dir(folder.join(name))?;
    }
    fs::write(tree.join("one"), "")?;
    fs::hard_link(tree.join("one"), tree.join("two"))?;
    give_tree(&tree, Some(IMAGE_BASE))
}

fn is_as_it_was(tree: &Path) -> io::Result<bool> {
    let names = fs::read_dir(tree)?.count();
    Ok(names == 3 && tree.join("folder").is_dir() && fs::read(tree.join("one"))?.is_empty())
}

/// Whether trying again is no use: the kernel or the file system cannot, while it lacked neither
/// memory nor room.
pub(super) fn is_permanent(failed: &StepFailed) -> bool {
    let errno = failed.errno.map(Errno::from_raw_os_error);
    let lasting = [
        Errno::NODEV,
        Errno::INVAL,
        Errno::NOSYS,
        Errno::OPNOTSUPP,
        Errno::PERM,
        Errno::ACCESS,
        Errno::XDEV,
        Errno::MLINK,
    ];
    errno.is_some_and(|errno| lasting.contains(&errno))
}
