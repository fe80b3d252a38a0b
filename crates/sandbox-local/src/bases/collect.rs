//! Removes kept workspaces that nobody is likely to need.

use std::fs;
use std::io;
use std::path::Path;

use super::{Kept, LOCK, used};
use crate::remove::remove_tree;

/// How many that no sandbox lies over are kept.
const MOST_UNUSED: usize = 4;

/// One pass. Leaves what sandboxes lie over, and the latest of the others as long as the disk has
/// a twentieth of its bytes free. Where somebody is about to use one, nothing is done.
pub(crate) fn collect(kept: &Kept, sandboxes: &Path) -> io::Result<()> {
    let Some(_lock) = kept.lock(true) else { return Ok(()) };
    let used = used(sandboxes)?;
    let mut stay: Vec<String> = kept.all().iter().map(|(_, id, _)| id.to_string()).collect();
    let unused = stay.iter().filter(|name| !used.contains(*name)).count();
    let most = if is_short(&kept.folder)? { 0 } else { MOST_UNUSED };
    let mut too_many = unused.saturating_sub(most);
    stay.retain(|name| {
        let goes = !used.contains(name) && too_many > 0;
        too_many -= usize::from(goes);
        !goes
    });
    for entry in fs::read_dir(&kept.folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One of another boot serves nobody, also where a dead sandbox's folder still names it.
        if name != LOCK && !stay.contains(&name) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether less than a twentieth of the disk is free.
fn is_short(folder: &Path) -> io::Result<bool> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail < disk.f_blocks / 20)
}

#[cfg(test)]
mod tests {
    use moat_core::{RunId, SnapshotId};
    use tempfile::TempDir;

    use super::super::{RECORD, USES};
    use super::*;

    fn keep(kept: &Kept, top: &TempDir, number: u8) -> SnapshotId {
        let (snapshot, workspace) = (SnapshotId([number; 32]), top.path().join("workspace"));
        fs::create_dir(&workspace).unwrap();
        fs::write(workspace.join("file"), [number]).unwrap();
        kept.keep(&workspace, snapshot, (RunId::generate(), 7), b"notes").unwrap();
        snapshot
    }

    fn is_kept(kept: &Kept, snapshot: SnapshotId) -> bool {
        kept.find(snapshot, RunId::generate()) == Some(snapshot)
    }

    #[test]
    fn what_is_used_stays_and_what_nobody_needs_goes() {
        let top = tempfile::tempdir().unwrap();
        let sandboxes = top.path().join("sandboxes");
        fs::create_dir_all(sandboxes.join("one")).unwrap();
        let kept = Kept::beside(&sandboxes);
        collect(&kept, &sandboxes).unwrap();
        let used = keep(&kept, &top, 0);
        let base = kept.use_in(&sandboxes.join("one"), used).unwrap().unwrap();
        assert_eq!((fs::read(base.tree.join("file")).unwrap(), base.owners_from), (vec![0], 7));
        let unused: Vec<_> = (1..=6).map(|number| keep(&kept, &top, number)).collect();
        fs::create_dir(kept.folder.join("new-left-by-a-kill")).unwrap();

        // Whoever is about to use one is not disturbed.
        let lock = kept.lock(false).unwrap();
        collect(&kept, &sandboxes).unwrap();
        assert!(unused.iter().all(|snapshot| is_kept(&kept, *snapshot)));
        drop(lock);
        collect(&kept, &sandboxes).unwrap();
        assert!(is_kept(&kept, used));
        assert!(unused.iter().filter(|snapshot| is_kept(&kept, **snapshot)).count() <= MOST_UNUSED);
        assert!(!is_kept(&kept, SnapshotId([1; 32])), "the oldest goes first");
        assert!(!kept.folder.join("new-left-by-a-kill").exists());

        // Nobody knows what a machine that lost its power had on its disk.
        let record = kept.path(used).join(RECORD);
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, text.replace(&crate::process::boot().unwrap(), "before")).unwrap();
        assert!(!is_kept(&kept, used));
        assert!(kept.use_in(&sandboxes.join("one"), used).unwrap().is_none());
        collect(&kept, &sandboxes).unwrap();
        assert!(!kept.path(used).exists());
        assert!(sandboxes.join("one").join(USES).exists(), "a sandbox's folder is its own");
    }
}
