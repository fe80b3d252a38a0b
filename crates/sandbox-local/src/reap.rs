//! Removes what ended sandboxes left.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::folder::{Folder, read_record};
use crate::handle::is_id;

/// Longer than anyone takes between making a folder and holding it.
const TIME_TO_HOLD: Duration = Duration::from_secs(30);

/// One pass over all sandboxes; `remove` removes a folder that somebody has taken hold of.
pub(crate) fn reap(
    sandboxes: &Path,
    remove: impl Fn(Folder) -> io::Result<()>,
) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(sandboxes)? {
        let entry = entry?;
        // What cannot be removed now is tried again in the next pass.
        if is_id(&entry.file_name().to_string_lossy())
            && reap_one(&entry.path(), &remove).unwrap_or(false)
        {
            removed += 1;
        }
    }
    Ok(removed)
}

fn reap_one(path: &Path, remove: impl Fn(Folder) -> io::Result<()>) -> io::Result<bool> {
    // Whoever makes or ends a sandbox holds its folder.
    let Some(folder) = Folder::hold(path)? else { return Ok(false) };
    let lives = match read_record(path) {
        Some(record) => record.process.find().is_some(),
        // Its maker died before it could write one; a guest that answers has been started.
        None => folder.age()? < TIME_TO_HOLD || folder.is_answered(),
    };
    if lives {
        return Ok(false);
    }
    remove(folder)?;
    Ok(true)
}
