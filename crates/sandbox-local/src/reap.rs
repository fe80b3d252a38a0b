//! Removes what ended sandboxes left.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::folder::{Folder, read_record};
use crate::handle::is_id;
use crate::identity::Ranges;

/// One pass over all sandboxes.
pub(crate) fn reap(sandboxes: &Path, ranges: &Ranges) -> io::Result<usize> {
    let mut removed = 0;
    let mut kept = BTreeSet::new();
    // Read before the folders: a range is taken before its sandbox has a folder.
    let taken = ranges.taken()?;
    for entry in fs::read_dir(sandboxes)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_id(&name) {
            continue;
        }
        match reap_one(&entry.path()) {
            Ok(true) => removed += 1,
            // What cannot be removed now is tried again in the next pass.
            Ok(false) | Err(_) => {
                kept.insert(name);
            }
        }
    }
    for (base, owner) in taken {
        if !kept.contains(&owner) && !sandboxes.join(&owner).exists() {
            ranges.give_back(base, &owner);
        }
    }
    Ok(removed)
}

fn reap_one(path: &Path) -> io::Result<bool> {
    // Whoever makes or ends a sandbox holds its folder.
    let Some(folder) = Folder::hold(path)? else { return Ok(false) };
    let lives = match read_record(path) {
        Some(record) => record.process.find().is_some(),
        // Its maker died before it could write one; a guest that answers has been started.
        None => folder.is_answered(),
    };
    if lives {
        return Ok(false);
    }
    folder.remove()?;
    Ok(true)
}
