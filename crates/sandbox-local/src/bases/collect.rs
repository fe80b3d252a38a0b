//! Removes kept workspaces that nobody is likely to need.

use std::fs;
use std::io;
use std::path::Path;

use super::{FAILED, Kept, LOCK, State, used};
use crate::remove::remove_tree;

/// How many that no sandbox lies over are kept.
pub(crate) const MOST_UNUSED: usize = 4;
/// Begins the names of those that are being removed, which nobody finds any more.
const GONE: &str = "gone-";

/// One pass. Leaves what sandboxes lie over, and the latest `most` of the others as long as the disk
/// is not short. Where somebody is about to use one, nothing is done.
pub(crate) fn collect(kept: &Kept, sandboxes: &Path, most: usize) -> io::Result<()> {
    let Some(lock) = kept.lock(true) else { return Ok(()) };
    let used = used(sandboxes)?;
    let most = if kept.is_short() { 0 } else { most };
    let mut unused: Vec<String> = kept.all().iter().map(|(_, id, _)| id.to_string()).collect();
    unused.retain(|name| !used.contains(name));
    let newest = unused.split_off(unused.len().saturating_sub(most));
    for entry in fs::read_dir(&kept.folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let stays = match name.parse() {
            Ok(snapshot) if used.contains(&name) => !matches!(kept.state(snapshot), State::Old),
            Ok(_) => newest.contains(&name),
            Err(_) => name == LOCK || name == FAILED || name.starts_with(GONE),
        };
        if !stays {
            // First of all it is not found any more, so that nobody takes a part for the whole.
            kept.set_aside(&name)?;
        }
    }
    drop(lock);
    for entry in fs::read_dir(&kept.folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(GONE) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

impl Kept {
    /// Whether so little of the disk is free that nothing is kept.
    pub(crate) fn is_short(&self) -> bool {
        // It may not be there yet.
        let place = self.folder.parent().unwrap_or(&self.folder);
        let least = |blocks: u64| blocks / 100 * u64::from(self.leave_free);
        rustix::fs::statvfs(place).is_ok_and(|disk| disk.f_bavail < least(disk.f_blocks))
    }

    /// Takes its name from a folder that is to be removed.
    pub(super) fn set_aside(&self, name: &str) -> io::Result<()> {
        let random = getrandom::u64().map_err(io::Error::other)?;
        fs::rename(self.folder.join(name), self.folder.join(format!("{GONE}{random:016x}")))
    }
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
        let kept = Kept::beside(&sandboxes, 0);
        collect(&kept, &sandboxes, MOST_UNUSED).unwrap();
        let used = keep(&kept, &top, 0);
        let base = kept.use_in(&sandboxes.join("one"), used).unwrap().unwrap();
        assert_eq!((fs::read(base.tree.join("file")).unwrap(), base.owners_from), (vec![0], 7));
        let unused: Vec<_> = (1..=6).map(|number| keep(&kept, &top, number)).collect();
        fs::create_dir(kept.folder.join("new-left-by-a-kill")).unwrap();

        // Whoever is about to use one is not disturbed.
        let lock = kept.lock(false).unwrap();
        collect(&kept, &sandboxes, MOST_UNUSED).unwrap();
        assert!(unused.iter().all(|snapshot| is_kept(&kept, *snapshot)));
        drop(lock);
        collect(&kept, &sandboxes, MOST_UNUSED).unwrap();
        assert!(is_kept(&kept, used));
        assert!(unused.iter().filter(|snapshot| is_kept(&kept, **snapshot)).count() <= MOST_UNUSED);
        assert!(!is_kept(&kept, SnapshotId([1; 32])), "the oldest goes first");
        assert!(!kept.folder.join("new-left-by-a-kill").exists());

        // Why one could not be made is told until one is.
        let full = Kept::beside(&sandboxes, 100);
        assert!(full.is_short() && !kept.is_short());
        assert_eq!(kept.last_failure(), None);
        kept.note_failure(&"ä".repeat(5000)).unwrap();
        collect(&kept, &sandboxes, 0).unwrap();
        assert_eq!(kept.last_failure().unwrap().chars().count(), 1024);
        let later = keep(&kept, &top, 7);
        assert!(kept.last_failure().is_none() && is_kept(&kept, later));

        // One of whom it cannot be told is left to those who lie over it.
        let record = kept.path(used).join(RECORD);
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, "").unwrap();
        collect(&kept, &sandboxes, 0).unwrap();
        assert!(kept.path(used).exists() && unused.iter().all(|id| !kept.path(*id).exists()));

        // Nobody knows what a machine that lost its power had on its disk.
        fs::write(&record, text.replace(&crate::process::boot().unwrap(), "before")).unwrap();
        assert!(!is_kept(&kept, used));
        assert!(kept.use_in(&sandboxes.join("one"), used).unwrap().is_none());
        let again = keep(&kept, &top, 0);
        assert!(is_kept(&kept, again), "one of another boot is in nobody's way");
        fs::write(&record, text.replace(&crate::process::boot().unwrap(), "before")).unwrap();
        collect(&kept, &sandboxes, MOST_UNUSED).unwrap();
        assert!(!kept.path(used).exists());
        assert!(sandboxes.join("one").join(USES).exists(), "a sandbox's folder is its own");
    }
}
