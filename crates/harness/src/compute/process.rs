//! A command's output on this side: in memory while it is small, in a file when it is not, whole.
//!
//! The guest is told that it may drop bytes only once they are in the file, which outlives a
//! killed harness; a harness that comes back listens from the end of the file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moat_blobs::BlobStore;
use moat_core::{BlobId, CallKey};
use moat_sandbox::{Guest, ProcessEvent, ProcessExit, Root};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::redact::Redactor;
use super::{CallContext, ComputeError};
use crate::driver::Observer;

/// Output that is kept in memory before it goes to a file. Less than the guest's own spool, so
/// that a command never waits for an acknowledgement that is not due.
const IN_MEMORY: usize = 128 * 1024;
/// Bytes between two acknowledgements to the guest.
const ACKNOWLEDGE_EVERY: u64 = 256 * 1024;
/// Bytes of one command's output that are kept. What comes after is counted and dropped.
const MAX_KEPT: u64 = 1 << 30;
/// Bytes that are read back at once.
const PIECE: usize = 256 * 1024;

/// Shows output to whoever watches the run.
pub(crate) type Tap = (String, Arc<dyn Observer>);

/// A command that this side listens to.
pub(crate) struct Process {
    shared: Arc<Shared>,
    pump: JoinHandle<()>,
    /// Where the next reply begins. Held while a reply is made, so that two calls on one session
    /// never give the same bytes.
    pub(crate) cursor: tokio::sync::Mutex<u64>,
}

struct Shared {
    spool: Mutex<Spool>,
    progress: watch::Sender<Progress>,
}

/// How far a command has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Bytes of output that can be read.
    pub(crate) length: u64,
    /// Bytes beyond what is kept.
    pub(crate) dropped: u64,
    /// How it ended.
    pub(crate) exit: Option<ProcessExit>,
    /// The sandbox does not answer any more.
    pub(crate) lost: bool,
    /// Its output could not be kept, or was not what it can be. Attaching again would not help.
    pub(crate) failed: Option<String>,
}

enum Spool {
    Memory(Vec<u8>),
    File(File),
}

impl Process {
    pub(super) async fn listen(
        context: &CallContext,
        key: CallKey,
        tap: Option<Tap>,
    ) -> Result<Self, ComputeError> {
        let path = context.spool.join(key.to_string());
        let (spool, length) = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => {
                let length = file.metadata().map_err(spool_error(&path))?.len();
                (Spool::File(file), length)
            }
            Err(_) => (Spool::Memory(Vec::new()), 0),
        };
        let events = context.guest.attach(key, length).await?;
        let progress = watch::Sender::new(Progress { length, ..Progress::default() });
        let shared = Arc::new(Shared { spool: Mutex::new(spool), progress });
        let pump = Pump {
            key,
            path,
            guest: context.guest.clone(),
            redactor: context.redactor.clone(),
            shared: shared.clone(),
            carry: Vec::new(),
            heard: length,
            acknowledged: length,
            tap,
        };
        let pump = tokio::spawn(pump.run(events));
        Ok(Self { shared, pump, cursor: tokio::sync::Mutex::new(0) })
    }

    /// Waits until the command ends, or for as long as said.
    pub(crate) async fn wait(&self, limit: Duration) -> Progress {
        let mut progress = self.shared.progress.subscribe();
        let ended = progress.wait_for(|now| now.exit.is_some() || now.lost || now.failed.is_some());
        let _ = tokio::time::timeout(limit, ended).await;
        self.shared.progress.borrow().clone()
    }

    /// Reads bytes `from..to` in pieces.
    pub(crate) fn read(
        &self,
        from: u64,
        to: u64,
        mut piece: impl FnMut(&[u8]),
    ) -> Result<(), ComputeError> {
        let mut at = from;
        while at < to {
            let bytes = self.read_piece(at, to)?;
            if bytes.is_empty() {
                break;
            }
            at += bytes.len() as u64;
            piece(&bytes);
        }
        Ok(())
    }

    /// Reads up to a piece of bytes `from..to`.
    pub(crate) fn read_piece(&self, from: u64, to: u64) -> Result<Vec<u8>, ComputeError> {
        let length = usize::try_from(to.saturating_sub(from)).unwrap_or(PIECE).min(PIECE);
        let spool = self.shared.spool.lock().unwrap_or_else(PoisonError::into_inner);
        match &*spool {
            Spool::Memory(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                let rest = bytes.get(from..).unwrap_or_default();
                Ok(rest.get(..length.min(rest.len())).unwrap_or_default().to_vec())
            }
            Spool::File(file) => {
                let mut bytes = vec![0; length];
                let read = file.read_at(&mut bytes, from);
                let read = read.map_err(spool_error(Path::new("the output spool")))?;
                bytes.truncate(read);
                Ok(bytes)
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

struct Pump {
    key: CallKey,
    path: PathBuf,
    guest: Arc<dyn Guest>,
    redactor: Arc<Redactor>,
    shared: Arc<Shared>,
    carry: Vec<u8>,
    /// Bytes that came from the guest.
    heard: u64,
    acknowledged: u64,
    tap: Option<Tap>,
}

impl Pump {
    async fn run(mut self, mut events: mpsc::Receiver<ProcessEvent>) {
        while let Some(event) = events.recv().await {
            match event {
                ProcessEvent::Output { offset, bytes, .. } => {
                    // A guest that repeats or skips bytes is not to be believed any further.
                    if offset != self.heard {
                        let place = format!("output at {offset} instead of {}", self.heard);
                        return self.fail(format!("the sandbox broke the protocol: {place}"));
                    }
                    if let Err(error) = self.take_in(bytes, false).await {
                        if error.is_lost() {
                            break;
                        }
                        return self.fail(error.to_string());
                    }
                }
                ProcessEvent::Exited(exit) => {
                    return match self.take_in(Vec::new(), true).await {
                        Ok(()) => self.shared.progress.send_modify(|now| now.exit = Some(exit)),
                        Err(error) => self.fail(error.to_string()),
                    };
                }
                ProcessEvent::Disconnected => break,
            }
        }
        self.shared.progress.send_modify(|now| now.lost = true);
    }

    fn fail(&self, reason: String) {
        self.shared.progress.send_modify(|now| now.failed = Some(reason));
    }

    async fn take_in(&mut self, bytes: Vec<u8>, last: bool) -> Result<(), ComputeError> {
        self.heard += bytes.len() as u64;
        let bytes = self.redactor.push(&mut self.carry, bytes, last);
        if let Some((call, observer)) = &self.tap {
            observer.output(call, &bytes);
        }
        let length = self.shared.progress.borrow().length;
        let room = usize::try_from(MAX_KEPT.saturating_sub(length)).unwrap_or(usize::MAX);
        let kept = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        let in_file = self.store(kept, length)?;
        let dropped = (bytes.len() - kept.len()) as u64;
        self.shared.progress.send_modify(|now| {
            now.length += kept.len() as u64;
            now.dropped += dropped;
        });
        let safe = self.heard - self.carry.len() as u64;
        if in_file && safe - self.acknowledged >= ACKNOWLEDGE_EVERY {
            self.guest.acknowledge(self.key, safe).await?;
            self.acknowledged = safe;
        }
        Ok(())
    }

    /// `true`: everything so far is in the file.
    fn store(&self, bytes: &[u8], at: u64) -> Result<bool, ComputeError> {
        let mut spool = self.shared.spool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Spool::Memory(memory) = &mut *spool {
            memory.extend_from_slice(bytes);
            if memory.len() <= IN_MEMORY {
                return Ok(false);
            }
            *spool = Spool::File(self.spill(memory)?);
            return Ok(true);
        }
        if let Spool::File(file) = &mut *spool {
            // At its place, not at the end: a harness that was stopped and taken over may wake
            // and write what it had in hand, which is the same.
            file.write_all_at(bytes, at).map_err(spool_error(&self.path))?;
        }
        Ok(true)
    }

    fn spill(&self, memory: &[u8]) -> Result<File, ComputeError> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(spool_error(folder))?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&self.path);
        let file = file.map_err(spool_error(&self.path))?;
        file.write_all_at(memory, 0).map_err(spool_error(&self.path))?;
        Ok(file)
    }
}

fn spool_error(path: &Path) -> impl FnOnce(std::io::Error) -> ComputeError {
    let path = path.to_owned();
    move |source| ComputeError::Spool { path, source }
}

/// Keeps bytes `from..to` as a blob, and puts them where the model is told that it can read them.
pub(crate) async fn keep(
    context: &CallContext,
    process: &Process,
    (from, to): (u64, u64),
    path: &Path,
) -> Result<BlobId, ComputeError> {
    let mut writer = context.blobs.writer().await?;
    // What a call that was taken up again left there is replaced.
    context.guest.remove(Root::Outputs, path).await.ok();
    let mut at = from;
    while at < to {
        let bytes = process.read_piece(at, to)?;
        if bytes.is_empty() {
            break;
        }
        context.guest.write_at(Root::Outputs, path, at - from, &bytes).await?;
        at += bytes.len() as u64;
        writer.write(bytes).await?;
    }
    let blob = writer.finish().await?;
    context.blobs.sync().await?;
    Ok(blob)
}

/// Puts a kept output back into a sandbox that does not have it.
pub(crate) async fn copy_to_guest(
    guest: &dyn Guest,
    blobs: &dyn BlobStore,
    blob: BlobId,
    path: &Path,
) -> Result<(), ComputeError> {
    let mut at = 0;
    loop {
        let bytes = blobs.read(blob, at, PIECE).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        guest.write_at(Root::Outputs, path, at, &bytes).await?;
        at += bytes.len() as u64;
    }
}
