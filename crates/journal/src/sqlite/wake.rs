//! Wakes readers in every process, without polling and without missing a commit.
//!
//! In `DATA/wake` every run that is being written has a file for its events, and a named pipe for
//! its inbox, which is described in [`fifo`]. Whoever is going to commit an event opens the file
//! *for writing before the commit* and keeps it open ([`Wake`]). After the commit it reads the file's one byte ([`Wake::announce`]), which costs less
//! than anything else that can be heard and writes nothing. Readers watch the folder for
//! `IN_ACCESS` and `IN_CLOSE_WRITE` and look into the journal again when either comes.
//!
//! Nothing is missed: a reader starts to watch before it reads, so a commit that it did not read
//! is followed by an event that it sees. After that commit the writer either lives to touch the
//! file, or dies; then the kernel closes the descriptor that it held since before the commit, and
//! that can be heard too. (A writer that is stopped between commit and touch delays its readers
//! until it goes on, dies, or anybody else writes to the run.) When the kernel's queue of events
//! overflows, all readers look again.
//!
//! Names carry tenant and run, so a reader wakes for its own run only. An owner removes the
//! files when it lets go; events of a removed file still come under its name.

mod fifo;
mod watch;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use moat_core::{RunId, TenantId};

pub(super) use fifo::Bell;
use fifo::Ring;
pub(super) use watch::Subscription;
use watch::Watch;

/// What may have changed.
#[derive(Clone, Copy)]
pub(super) enum Topic {
    /// There are new events.
    Events,
    /// There is a new inbox entry, or the run was taken over.
    Inbox,
}

pub(super) struct Wakes {
    dir: PathBuf,
    /// Started when the first reader waits: a process that waits for nothing needs no thread.
    watch: Mutex<Option<Arc<Watch>>>,
}

/// The promise to wake readers once something was committed.
pub(super) struct Wake {
    path: PathBuf,
    /// Open for as long as there may be commits; see above.
    held: Option<Held>,
    remove: bool,
}

enum Held {
    Events(File),
    Inbox(Ring),
}

impl Wakes {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("wake"), watch: Mutex::new(None) }
    }

    /// To be called before the commit that it announces. With `remove`, its drop
    /// removes the run's files.
    pub(super) fn promise(
        &self,
        tenant: &TenantId,
        run: RunId,
        topic: Topic,
        remove: bool,
    ) -> io::Result<Arc<Wake>> {
        let path = self.dir.join(name(tenant, run, topic));
        let open = || match topic {
            Topic::Events => open(&path).map(Held::Events),
            Topic::Inbox => Ring::open(&path).map(Held::Inbox),
        };
        let held = self.in_folder(open)?;
        Ok(Arc::new(Wake { path, held: Some(held), remove }))
    }

    /// Listens for what is put into the inbox of one run from now on; so look after that.
    pub(super) fn listen(&self, tenant: &TenantId, run: RunId) -> io::Result<Bell> {
        let path = self.dir.join(name(tenant, run, Topic::Inbox));
        self.in_folder(|| Bell::listen(path.clone()))
    }

    /// Makes the folder if it is not there.
    fn in_folder<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        open().or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
                open()
            }
            _ => Err(error),
        })
    }

    /// Starts to watch the events of one run. What is committed from now on wakes the
    /// subscription; so read after subscribing.
    pub(super) fn subscribe(&self, tenant: &TenantId, run: RunId) -> io::Result<Subscription> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = match &*watch {
            Some(watch) if watch.is_alive() => watch,
            _ => watch.insert(Arc::new(Watch::start(&self.dir)?)),
        };
        Ok(Watch::subscribe(watch, name(tenant, run, Topic::Events)))
    }
}

impl Wake {
    /// To be called after the commit.
    pub(super) fn announce(self: Arc<Self>) {
        match &self.held {
            Some(Held::Inbox(ring)) => ring.ring(),
            Some(Held::Events(file)) => {
                // Where nobody else holds it, closing it is what readers hear; once is enough.
                let is_held = Arc::strong_count(&self) > 1;
                if is_held && !matches!(file.read_at(&mut [0], 0), Ok(1)) {
                    drop(open(&self.path));
                }
            }
            None => {}
        }
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        drop(self.held.take());
        if self.remove {
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(self.path.with_extension(Topic::Inbox.as_str()));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.len() == 0 {
        file.write_all_at(b"\n", 0)?;
    }
    Ok(file)
}

fn name(tenant: &TenantId, run: RunId, topic: Topic) -> String {
    format!("{tenant}.{run}.{}", topic.as_str())
}

impl Topic {
    fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            // Not `inbox`, which was a file once.
            Self::Inbox => "bell",
        }
    }
}
