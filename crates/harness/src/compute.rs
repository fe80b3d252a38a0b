//! The sandbox of a run, as the driver needs it: there when a call needs it, saved when a call
//! ends, found again after a crash, replaced when it is gone.

mod make;
mod outfit;
mod process;
mod providers;
mod redact;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use moat_blobs::{BlobStore, ReadBlobError, WriteBlobError};
use moat_core::{
    BootNonce, CallKey, Checkpointed, EgressDecided, Epoch, Retryable, RunId, SandboxAttached,
    SandboxRehydrated, SandboxSettings, SnapshotId,
};
use moat_sandbox::checkpoint::{CheckpointError, Checkpointer, RestoreError};
use moat_sandbox::{Guest, GuestError, HeldMounts, Provider, Root, Sandbox, SandboxError};
use moat_snapshot::LoadError;
use tokio::task::JoinHandle;

use crate::harness::HarnessParts;
use crate::machine::{AttachedSandbox, KeptOutput};
use crate::network::{Denials, NetworkError, PreparedNetwork, ServedNetwork};

use make::Made;
pub use outfit::Images;
pub(crate) use outfit::forget_mounts;
pub(crate) use process::{Process, Progress, keep};
pub use providers::Providers;
pub(crate) use redact::Redactor;

/// In a run's folder: what is known of its sandbox's files.
const FILES: &str = "files";

/// Why the sandbox could not be made, found, saved or read.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// The agent has tools that need a sandbox and the program has no provider of one.
    #[error("the agent's tools need a sandbox and none is configured")]
    NoProvider,
    /// The provider failed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// What the sandbox has mounted is not there any more.
    #[error(transparent)]
    Mounts(SandboxError),
    /// The guest failed.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The files could not be saved.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The files could not be brought back.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The last checkpoint could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A whole output could not be kept.
    #[error("cannot keep a command's output: {0}")]
    KeepOutput(#[from] WriteBlobError),
    /// A whole output could not be read back.
    #[error("cannot read a command's output back: {0}")]
    ReadOutput(#[from] ReadBlobError),
    /// A command's output could not be taken in.
    #[error("cannot take in a command's output: {0}")]
    Output(String),
    /// Its network could not be made.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A file of the harness could not be written or read.
    #[error("cannot write `{path}`: {source}")]
    Spool {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ComputeError {
    /// The sandbox is gone, or may be: attaching again finds out.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Guest(error) | Self::Sandbox(SandboxError::Guest(error)) => error.is_retryable(),
            Self::Checkpoint(CheckpointError::Guest(error)) => error.is_retryable(),
            Self::Restore(RestoreError::Guest(error)) => error.is_retryable(),
            // One that is made anew has them again.
            Self::Mounts(_) => true,
            _ => false,
        }
    }
}

impl Retryable for ComputeError {
    fn is_retryable(&self) -> bool {
        self.is_lost()
    }
}

/// Characters of a reason that stand in a journal.
const NOTE: usize = 400;

/// The sandbox of one run.
pub(crate) struct Compute {
    parts: Arc<HarnessParts>,
    provider: Arc<dyn Provider>,
    run: RunId,
    lineage: RunId,
    epoch: Epoch,
    settings: SandboxSettings,
    environment: BTreeMap<String, String>,
    live: Option<Live>,
    coming: Option<Coming>,
    release: Vec<CallKey>,
    processes: Arc<Mutex<HashMap<CallKey, Arc<Process>>>>,
}

struct Live {
    sandbox: Box<dyn Sandbox>,
    guest: Arc<dyn Guest>,
    checkpointer: Checkpointer,
    /// Serves its network while this lives.
    network: Option<ServedNetwork>,
    /// What it sees of this machine; nobody takes it away while this lives.
    mounts: Option<Box<dyn HeldMounts>>,
}

impl Live {
    /// Ends the sandbox, and takes away what it saw of this machine. Answers what is left of that.
    async fn destroy(self, provider: &dyn Provider) -> Option<String> {
        // What is left is the reaper's.
        let _ = provider.destroy(&self.sandbox.handle()).await;
        let mounts = self.mounts?;
        let released = tokio::task::spawn_blocking(move || mounts.release()).await;
        released.ok()?.err().map(|error| error.to_string())
    }

    /// Why what it has mounted cannot be used any more.
    fn broken_mount(&self) -> Option<String> {
        self.mounts.as_ref()?.broken()
    }
}

/// A sandbox that is being made while the model thinks.
struct Coming(JoinHandle<Result<Made, ComputeError>>);

/// What attaching came to.
pub(crate) enum Attached {
    /// The sandbox that the journal knows, which was at hand.
    Same,
    /// The sandbox that the journal knows, found again after this side had lost it.
    Again,
    /// Another one, filled from the last checkpoint.
    Fresh(Box<Fresh>),
}

/// A sandbox that the journal does not know yet.
pub(crate) struct Fresh {
    pub(crate) attached: SandboxAttached,
    pub(crate) rehydrated: Option<SandboxRehydrated>,
    pub(crate) reason_lost: String,
}

/// What a call needs of the sandbox. Outlives the borrow of the driver.
#[derive(Clone)]
pub(crate) struct CallContext {
    pub(crate) guest: Arc<dyn Guest>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) spool: PathBuf,
    pub(crate) redactor: Arc<Redactor>,
    /// What the sandbox's network refused, if it has one.
    pub(crate) denials: Option<Arc<Denials>>,
    processes: Arc<Mutex<HashMap<CallKey, Arc<Process>>>>,
}

impl Compute {
    pub(crate) fn new(
        parts: &Arc<HarnessParts>,
        (run, lineage): (RunId, RunId),
        settings: &SandboxSettings,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ComputeError> {
        let providers = parts.provider.clone().ok_or(ComputeError::NoProvider)?;
        Ok(Self {
            parts: parts.clone(),
            provider: providers.choose(settings.provider.as_deref())?,
            run,
            lineage,
            epoch: Epoch::default(),
            settings: settings.clone(),
            environment: environment.clone(),
            live: None,
            coming: None,
            release: Vec::new(),
            processes: Arc::default(),
        })
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    pub(crate) fn nonce(&self) -> Option<BootNonce> {
        self.live.as_ref().map(|live| live.guest.nonce().clone())
    }

    pub(crate) fn context(&self) -> Option<CallContext> {
        let live = self.live.as_ref()?;
        Some(CallContext {
            guest: live.guest.clone(),
            blobs: self.parts.blobs.clone(),
            spool: self.spool_dir(),
            redactor: self.parts.redactor.clone(),
            denials: live.network.as_ref().map(|network| network.denials().clone()),
            processes: self.processes.clone(),
        })
    }

    /// Begins to make a sandbox, unless there is one or the journal knows one.
    pub(crate) fn prefetch(
        &mut self,
        known: Option<&AttachedSandbox>,
        snapshot: Option<SnapshotId>,
        epoch: Epoch,
    ) {
        self.epoch = epoch;
        let is_wanted = known.is_none_or(|known| known.left);
        if self.live.is_none() && self.coming.is_none() && is_wanted {
            self.coming = Some(self.make(snapshot));
        }
    }

    fn make(&self, snapshot: Option<SnapshotId>) -> Coming {
        let plan = make::Plan {
            provider: self.provider.clone(),
            parts: self.parts.clone(),
            run: self.run,
            lineage: self.lineage,
            epoch: self.epoch,
            settings: self.settings.clone(),
            environment: self.environment.clone(),
            snapshot,
        };
        Coming(tokio::spawn(plan.make()))
    }

    /// Makes sure that a sandbox is there: the one that the journal knows, or a new one.
    pub(crate) async fn attach(
        &mut self,
        known: Option<&AttachedSandbox>,
        snapshot: Option<SnapshotId>,
        outputs: &[KeptOutput],
        epoch: Epoch,
    ) -> Result<Attached, ComputeError> {
        self.epoch = epoch;
        let mut reason_lost = "it was lost while a call ran".to_owned();
        if let Some(known) = known {
            let broken = self.live.as_ref().and_then(Live::broken_mount);
            if broken.is_none() && self.nonce().is_some_and(|nonce| nonce == known.nonce) {
                return Ok(Attached::Same);
            }
            match self.reattach(known, epoch, snapshot).await {
                Ok(true) => return Ok(Attached::Again),
                Ok(false) if known.left => {
                    let to = self.settings.provider.as_deref().unwrap_or_default();
                    reason_lost = format!("the run goes on in another one: {to}");
                }
                Ok(false) => "the provider says that it is gone".clone_into(&mut reason_lost),
                Err(error) if error.is_lost() => reason_lost = error.to_string(),
                Err(error) => return Err(error),
            }
            // Whatever is left of it must not go on beside its successor.
            end(&self.parts, known).await;
        }
        let made = self.made(snapshot).await?;
        let notes = made.live.sandbox.notes().iter().map(|note| note.as_str().to_owned());
        let attached = SandboxAttached {
            provider: self.provider.name().to_owned(),
            handle: made.live.sandbox.handle(),
            nonce: made.live.guest.nonce().clone(),
            missing_fences: made.live.sandbox.missing_fences().to_vec(),
            notes: notes.chain(made.not_kept.map(not_kept_note)).collect(),
        };
        let rehydrated = made.snapshot.filter(|_| known.is_some()).map(|snapshot| {
            let nonce = attached.nonce.clone();
            SandboxRehydrated { snapshot, nonce, duration_ms: made.took_ms }
        });
        self.live = Some(made.live);
        self.put_outputs_back(outputs).await?;
        Ok(Attached::Fresh(Box::new(Fresh { attached, rehydrated, reason_lost })))
    }

    async fn made(&mut self, snapshot: Option<SnapshotId>) -> Result<Made, ComputeError> {
        let coming = self.coming.take().unwrap_or_else(|| self.make(snapshot));
        match coming.0.await {
            Ok(made) => made,
            Err(error) => Err(SandboxError::Setup {
                step: "make a sandbox".to_owned(),
                message: error.to_string(),
            }
            .into()),
        }
    }

    async fn reattach(
        &mut self,
        known: &AttachedSandbox,
        epoch: Epoch,
        snapshot: Option<SnapshotId>,
    ) -> Result<bool, ComputeError> {
        self.live = None;
        if known.left || known.provider != self.provider.name() {
            return Ok(false);
        }
        let Some(sandbox) = self.provider.reattach(&known.handle, epoch).await? else {
            return Ok(false);
        };
        let guest = sandbox.guest();
        if *guest.nonce() != known.nonce {
            return Ok(false);
        }
        let snapshots = self.parts.snapshots.clone();
        let skip = outfit::skip(&self.settings);
        let mut checkpointer = Checkpointer::new(guest.clone(), snapshots, skip);
        checkpointer.keep_in(self.spool_dir().join(FILES));
        if let Some(snapshot) = snapshot {
            checkpointer.adopt(snapshot).await?;
        }
        let network =
            outfit::network(&self.parts, (self.run, self.lineage), &self.settings).await?;
        let network = serve(&*sandbox, network.as_ref()).await?;
        let mounts = outfit::adopt_mounts(&self.parts, self.run, &self.settings).await?;
        self.live = Some(Live { sandbox, guest, checkpointer, network, mounts });
        Ok(true)
    }

    async fn put_outputs_back(&self, outputs: &[KeptOutput]) -> Result<(), ComputeError> {
        let Some(live) = &self.live else { return Ok(()) };
        for kept in outputs {
            let Ok(path) = std::path::Path::new(&kept.path).strip_prefix(Root::Outputs.path())
            else {
                continue;
            };
            process::copy_to_guest(&*live.guest, &*self.parts.blobs, kept.blob, path).await?;
        }
        Ok(())
    }

    /// The connection is gone; attaching finds out whether the sandbox is too.
    pub(crate) fn lose(&mut self) {
        self.live = None;
        self.release.clear();
        self.lock_processes().clear();
    }

    /// Saves the files. `None`: nothing changed since the last time.
    pub(crate) async fn checkpoint(&mut self) -> Result<Option<Checkpointed>, ComputeError> {
        let Some(live) = &mut self.live else { return Ok(None) };
        let report = live.checkpointer.checkpoint().await?;
        if report.unchanged {
            return Ok(None);
        }
        Ok(Some(Checkpointed {
            snapshot: report.snapshot,
            files: report.files,
            bytes: report.bytes,
            new_bytes: report.new_bytes,
            changed: report.changed,
            changed_count: report.changed_count,
            duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
        }))
    }

    /// What the network's policy decided since the last time.
    pub(crate) fn take_decisions(&self) -> Option<EgressDecided> {
        self.live.as_ref()?.network.as_ref()?.take_decisions()
    }

    /// Where outputs of this run are while they are being written.
    fn spool_dir(&self) -> PathBuf {
        self.parts.spool_dir.join(self.run.to_string())
    }

    /// The guest may forget this attempt once its outcome is durable.
    pub(crate) fn release_later(&mut self, key: CallKey) {
        self.release.push(key);
    }

    pub(crate) async fn outcomes_are_durable(&mut self) {
        let keys = std::mem::take(&mut self.release);
        let Some(live) = &self.live else { return };
        let guest = &live.guest;
        for key in &keys {
            if self.lock_processes().remove(key).is_some() {
                // Small outputs never had a file.
                let _ = std::fs::remove_file(self.spool_dir().join(key.to_string()));
            }
        }
        // A guest that cannot be told keeps the results a little longer; nothing depends on it.
        let _ = futures_util::future::join_all(keys.iter().map(|key| guest.release(*key))).await;
    }

    /// Ends and forgets every process of the sandbox but these: calls that the journal gave up, or
    /// whose outcome it has.
    pub(crate) async fn release_all_but(
        &self,
        known: &HashSet<CallKey>,
    ) -> Result<(), ComputeError> {
        let Some(live) = &self.live else { return Ok(()) };
        for process in live.guest.processes().await? {
            if !known.contains(&process.key) {
                live.guest.release(process.key).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn kill(&self, key: CallKey) {
        if let Some(live) = &self.live {
            // It may have ended by itself.
            let _ = live.guest.signal(key, 9).await;
        }
    }

    /// Lets go of the sandbox: for good if the run is over, else it lives on for its grace. Answers
    /// what is left of what it had mounted.
    pub(crate) async fn let_go(mut self, over: bool) -> Option<String> {
        self.lock_processes().clear();
        if let Some(coming) = self.coming.take()
            && let Ok(Ok(made)) = coming.0.await
        {
            // No event names it, so nothing will look for it.
            made.live.destroy(&*self.provider).await;
        }
        let live = self.live.take().filter(|_| over)?;
        let left = live.destroy(&*self.provider).await;
        let _ = std::fs::remove_dir_all(self.spool_dir());
        left
    }

    fn lock_processes(&self) -> std::sync::MutexGuard<'_, HashMap<CallKey, Arc<Process>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a journal says why a large workspace was not kept for forks to lie over.
fn not_kept_note(reason: String) -> String {
    let reason: String = reason.chars().take(NOTE).collect();
    format!("workspace_not_kept: {reason}")
}

/// Ends a sandbox that the journal knows. Best effort: one that cannot be ended, because its provider
/// does not answer or is not there any more, ends itself after its grace.
pub(crate) async fn end(parts: &HarnessParts, known: &AttachedSandbox) {
    let provider = parts.provider.clone().map(|providers| providers.named(&known.provider));
    if let Some(Ok(provider)) = provider {
        let _ = provider.destroy(&known.handle).await;
    }
}

/// Serves a sandbox's network.
async fn serve(
    sandbox: &dyn Sandbox,
    network: Option<&PreparedNetwork>,
) -> Result<Option<ServedNetwork>, ComputeError> {
    let Some(network) = network else { return Ok(None) };
    Ok(Some(network.serve(sandbox.network().await?)?))
}

impl CallContext {
    /// The process under this key, listened to from where the harness has its output.
    pub(crate) async fn process(
        &self,
        key: CallKey,
        tap: Option<process::Tap>,
    ) -> Result<Arc<Process>, ComputeError> {
        if let Some(process) = self.lock().get(&key) {
            return Ok(process.clone());
        }
        let process = Arc::new(Process::listen(self, key, tap).await?);
        self.lock().insert(key, process.clone());
        Ok(process)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CallKey, Arc<Process>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
