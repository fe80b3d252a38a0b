//! One unpacker per image, across processes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::ImageError;

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Waits for the lock; whoever does not want to wait drops the future.
pub(super) async fn wait(path: PathBuf) -> Result<Lock, ImageError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(ImageError::file("make", folder))?;
    }
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(ImageError::file("open", &path))?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => return Err(ImageError::file("lock", &path)(error.into())),
        }
    }
}
