//! Wakes the owner of a run when somebody put something into its inbox.
//!
//! An inbox has one reader, so a named pipe does, and costs the owner neither a thread nor a watch
//! (whose removal takes the kernel some milliseconds at the end of every process). Whoever is going
//! to commit opens the pipe before ([`Ring`]), and writes a byte after; if he dies in between, the
//! kernel closes his end, which is heard as well. The owner opens the pipe first and looks into the
//! inbox then, so that what he does not find there is followed by something that he hears.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe::Receiver;

/// The end of whoever puts something into the inbox.
pub(super) struct Ring {
    path: PathBuf,
    pipe: File,
}

impl Ring {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), pipe: open(path, true)? })
    }

    /// The inbox holds something new.
    pub(super) fn ring(&self) {
        // A full pipe is heard anyway.
        let _ = (&self.pipe).write(&[0]);
        // An owner that let go removed the pipe, and the next one listens at another.
        let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let (mine, there) = (self.pipe.metadata().map(place), fs::metadata(&self.path).map(place));
        if let (Ok(mine), Ok(there)) = (mine, there)
            && mine != there
            && let Ok(pipe) = open(&self.path, true)
        {
            let _ = (&pipe).write(&[0]);
        }
    }
}

/// The owner's end.
pub(in crate::sqlite) struct Bell {
    path: PathBuf,
    pipe: Arc<Receiver>,
}

impl Bell {
    pub(super) fn listen(path: PathBuf) -> io::Result<Self> {
        let pipe = Arc::new(listening(&path)?);
        Ok(Self { path, pipe })
    }

    /// What happened until now is known: to be called before looking into the inbox.
    pub(in crate::sqlite) fn mark_seen(&mut self) -> io::Result<()> {
        let mut state = [PollFd::new(&*self.pipe, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut state, Some(&now))? == 0 {
            return Ok(());
        }
        // A pipe whose last writer has gone says so until it is opened anew.
        self.pipe = Arc::new(listening(&self.path)?);
        Ok(())
    }

    /// Waits until something may have happened since [`Bell::mark_seen`].
    pub(in crate::sqlite) fn rung(&self) -> impl Future<Output = ()> + Send + use<> {
        let pipe = Arc::clone(&self.pipe);
        async move {
            // An error is looked after by whoever looks then.
            let _ = pipe.readable().await;
        }
    }
}

/// Opens the owner's end and takes out what was written before.
fn listening(path: &Path) -> io::Result<Receiver> {
    let pipe = open(path, false)?;
    let mut written = [0; 512];
    while matches!((&pipe).read(&mut written), Ok(count) if count > 0) {}
    Receiver::from_file(pipe)
}

fn open(path: &Path, writes: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // A writer also reads, so that it need not wait for, or do without, an owner.
    options.read(true).write(writes).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        // Somebody else was quicker.
        Ok(()) | Err(rustix::io::Errno::EXIST) => options.open(path),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn hears(bell: &mut Bell) -> bool {
        let heard = tokio::time::timeout(Duration::from_millis(300), bell.rung()).await.is_ok();
        bell.mark_seen().unwrap();
        heard
    }

    #[tokio::test]
    async fn an_owner_hears_who_rings_and_who_dies_before_he_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.bell");
        // Opened before anybody listens, and closed without a word after.
        let early = Ring::open(&path).unwrap();
        let mut bell = Bell::listen(path.clone()).unwrap();
        bell.mark_seen().unwrap();
        drop(early);
        assert!(hears(&mut bell).await, "who opened before the owner did and died after");
        assert!(!hears(&mut bell).await, "nothing happened since");

        drop(Ring::open(&path).unwrap());
        assert!(hears(&mut bell).await, "who died before he rang");

        let (one, other) = (Ring::open(&path).unwrap(), Ring::open(&path).unwrap());
        one.ring();
        assert!(hears(&mut bell).await, "who rings while another one is about to");
        assert!(!hears(&mut bell).await);
        drop((one, other));
        assert!(hears(&mut bell).await, "the other one's end");

        // The owner lets go, which removes the pipe; the next one listens.
        let late = Ring::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let mut next = Bell::listen(path).unwrap();
        late.ring();
        assert!(hears(&mut next).await, "who opened the pipe of the owner before");
    }
}
