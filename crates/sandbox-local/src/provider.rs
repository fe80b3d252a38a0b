mod end;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use moat_core::{Epoch, RunId, SandboxLimits, SnapshotId};
use moat_sandbox::{Bases, GuestClient, GuestError, Provider, Sandbox, SandboxError, SandboxSpec};
use moat_sockets::GuardedStream;
use serde_json::Value;
use tokio::sync::MutexGuard;

use crate::bases::{self, Kept, KeptWorkspaces};
use crate::create::{self, Newborn, Place};
use crate::fences::{Fence, FenceState, FenceStatus, Probe, probe_all};
use crate::folder::{self, Record};
use crate::handle::Handle;
use crate::identity::{IMAGE_BASE, Identity, can_map_ranges};
use crate::launcher::StepFailed;
use crate::limits::{self, LimitStatus};
use crate::options::LocalOptions;
use crate::prepared::Prepared;
use crate::process::ProcessId;
use crate::reap;
use crate::sandbox::LocalSandbox;
use crate::users::{self, UsersStatus};

/// How long a guest that does not answer any more may take to be gone.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Makes sandboxes from namespaces of this machine's kernel.
#[derive(Clone, Debug)]
pub struct LocalProvider {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    options: LocalOptions,
    sandboxes: PathBuf,
    /// Whether the caller may map ranges of ids, or only himself.
    private: bool,
    prepared: OnceLock<Arc<Prepared>>,
    /// Held while a workspace is made that is to be kept.
    making: tokio::sync::Mutex<()>,
}

impl LocalProvider {
    /// Makes the state folder, and nothing else: what sandboxes need is prepared with the first.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if the state folder cannot be made.
    pub fn new(options: LocalOptions) -> Result<Self, SandboxError> {
        let sandboxes = options.state_dir.join("sandboxes");
        let make = |path: &Path| {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            fs::canonicalize(path)
        };
        let state = |error| setup(&format!("make `{}`", options.state_dir.display()), error);
        let sandboxes = make(&sandboxes).map_err(state)?;
        let private = can_map_ranges(Path::new("/proc"));
        let (prepared, making) = (OnceLock::new(), tokio::sync::Mutex::default());
        let shared = Shared { options, sandboxes, private, prepared, making };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Tries every fence for real and says how it stands. Takes some tens of milliseconds, and
    /// blocks for that long.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if not even trying is possible.
    pub fn fences(&self) -> Result<Vec<FenceStatus>, SandboxError> {
        Ok(self.shared.probe()?)
    }

    /// Who holds each limit on this host.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if what sandboxes need cannot be prepared.
    pub fn limits(&self) -> Result<Vec<LimitStatus>, SandboxError> {
        let identity = self.shared.identity();
        Ok(limits::status(&self.shared.prepared()?.cgroups, &identity))
    }

    /// Who there can be in sandboxes of this host. Tries it, which takes some milliseconds, and
    /// blocks for that long.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if what sandboxes need cannot be prepared.
    pub fn users(&self) -> Result<UsersStatus, SandboxError> {
        Ok(users::status(self.shared.prepared()?, self.shared.private))
    }

    /// The kinds of toolchains in the caller's home that sandboxes show.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if what sandboxes need cannot be prepared.
    pub fn toolchains(&self) -> Result<Vec<&'static str>, SandboxError> {
        Ok(self.shared.prepared()?.toolchains.names().to_vec())
    }

    /// Whether the sandbox lives, without connecting to it, which would count as a use.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if it is no handle of this provider.
    pub fn is_alive(&self, handle: &Value) -> Result<bool, SandboxError> {
        Ok(self.shared.lives(&Handle::from_value(handle)?))
    }

    /// Whether large workspaces are kept, for other sandboxes to lie over. Tries it, which takes
    /// some milliseconds, and blocks for that long.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if what sandboxes need cannot be prepared.
    pub fn workspaces(&self) -> Result<KeptWorkspaces, SandboxError> {
        let shared = &self.shared;
        let prepared = shared.prepared()?;
        let found = match shared.why_filled() {
            Some(why) => Err(why.to_owned()),
            None => bases::find_out(&shared.kept(), prepared),
        };
        Ok(match found {
            Ok(()) => KeptWorkspaces::Kept { last_failure: shared.kept().last_failure() },
            Err(reason) => KeptWorkspaces::Filled { reason },
        })
    }

    /// Removes every kept workspace that no sandbox lies over: for who erases what was in them.
    /// Blocks.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if one of them cannot be removed.
    pub fn forget_workspaces(&self) -> Result<(), SandboxError> {
        match self.shared.collect(0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(setup("remove kept workspaces", error))
            }
            _ => Ok(()),
        }
    }

    /// Removes what sandboxes left that have ended. Sandboxes that live, and those that somebody is
    /// making or ending, are left alone. Answers how many were removed. Blocks.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if the state folder cannot be read.
    pub fn reap(&self) -> Result<usize, SandboxError> {
        if self.shared.options.control_groups {
            limits::sweep();
        }
        let reaped = reap::reap(&self.shared.sandboxes, |folder| self.shared.remove(folder));
        // One that is not needed may stay a little longer.
        let _ = self.shared.collect(self.shared.most_unused());
        reaped.map_err(|error| setup("look for ended sandboxes", error))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Runs something that blocks, beside the tasks of this thread.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, SandboxError> + Send + 'static,
    ) -> Result<T, SandboxError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || work(&shared))
            .await
            .map_err(|error| setup("wait for a thread", error))?
    }
}

#[async_trait]
impl Provider for LocalProvider {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Sandbox>, SandboxError> {
        let wanted = spec.clone();
        let (newborn, missing) = self.apart(move |shared| shared.make(&wanted)).await?;
        let path = self.shared.sandboxes.join(newborn.id());
        let guest = connect(&path, newborn.process(), spec.epoch).await?;
        let handle = Handle::new(newborn.id(), newborn.process().clone(), missing)
            .with_notes(newborn.notes());
        let sandbox = LocalSandbox::new(&handle, guest, path, spec.epoch)?;
        newborn.keep();
        Ok(Box::new(sandbox))
    }

    async fn reattach(
        &self,
        handle: &Value,
        epoch: Epoch,
    ) -> Result<Option<Box<dyn Sandbox>>, SandboxError> {
        let handle = Handle::from_value(handle)?;
        if !self.shared.lives(&handle) {
            return Ok(None);
        }
        let path = self.shared.sandboxes.join(handle.id());
        match connect(&path, handle.process(), epoch).await {
            Ok(guest) => Ok(Some(Box::new(LocalSandbox::new(&handle, guest, path, epoch)?))),
            // It ended between the look and the knock, or is just ending: a process that was killed
            // lets go of its socket a moment before it is gone.
            Err(error @ SandboxError::Guest(GuestError::Disconnected(_))) => {
                let gone = self.apart(move |shared| Ok(shared.ends(&handle, LAST_MOMENT))).await?;
                if gone { Ok(None) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    async fn destroy(&self, handle: &Value) -> Result<(), SandboxError> {
        let handle = Handle::from_value(handle)?;
        self.apart(move |shared| shared.destroy(&handle)).await
    }

    fn bases(&self) -> Option<&dyn Bases> {
        self.shared.lays_over().then_some(self)
    }
}

#[async_trait]
impl Bases for LocalProvider {
    async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        let turn = self.shared.making.lock().await;
        let find_out = |shared: &Shared| Ok(bases::find_out(&shared.kept(), shared.prepared()?));
        match self.apart(find_out).await {
            Ok(Ok(())) => Some(turn),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    async fn failed(&self, reason: String) {
        let note = move |shared: &Shared| Ok(shared.kept().note_failure(&reason));
        // Where even this cannot be written, `doctor` shows an older reason, or none.
        let _ = self.apart(note).await;
    }

    async fn find(&self, snapshot: SnapshotId, lineage: RunId) -> Option<SnapshotId> {
        let found = self.apart(move |shared| Ok(shared.kept().find(snapshot, lineage))).await;
        found.ok().flatten()
    }

    async fn keep(
        &self,
        handle: &Value,
        snapshot: SnapshotId,
        lineage: RunId,
        notes: Vec<u8>,
    ) -> Result<(), SandboxError> {
        let handle = Handle::from_value(handle)?;
        let keep = move |shared: &Shared| shared.keep(&handle, snapshot, lineage, &notes);
        self.apart(keep).await
    }

    async fn notes(&self, base: SnapshotId) -> Option<Vec<u8>> {
        self.apart(move |shared| Ok(shared.kept().notes(base))).await.ok().flatten()
    }
}

async fn connect(
    path: &Path,
    process: &ProcessId,
    epoch: Epoch,
) -> Result<GuestClient, SandboxError> {
    let stream = folder::connect(path, process)
        .await
        .map_err(|error| GuestError::Disconnected(format!("its socket: {error}")))?;
    Ok(GuestClient::connect(GuardedStream::new(stream), epoch).await?)
}

impl Shared {
    fn prepared(&self) -> Result<&Arc<Prepared>, StepFailed> {
        if let Some(prepared) = self.prepared.get() {
            return Ok(prepared);
        }
        let made = Arc::new(Prepared::new(&self.options)?);
        Ok(self.prepared.get_or_init(|| made))
    }

    fn place<'a>(&'a self, prepared: &'a Arc<Prepared>, limits: SandboxLimits) -> Place<'a> {
        Place {
            options: &self.options,
            sandboxes: &self.sandboxes,
            private: self.private,
            prepared,
            limits,
        }
    }

    /// Whose the files of unpacked images are.
    pub(crate) fn image_identity(&self) -> Identity {
        if self.private { Identity::private(IMAGE_BASE) } else { Identity::caller() }
    }

    /// Makes a sandbox.
    fn make(&self, spec: &SandboxSpec) -> Result<(Newborn, Vec<String>), SandboxError> {
        let cgroups = &self.prepared()?.cgroups;
        let limits = limits::resolve(spec.limits, self.options.limits, &self.sandboxes, cgroups)?;
        self.with_missing(&spec.allow_missing, |prepared, missing| {
            let newborn = create::create(&self.place(prepared, limits), spec, missing)?;
            Ok((newborn, names(missing)))
        })
    }

    /// Does what needs fences. When a step fails that a fence needs, every fence is tried by
    /// itself, and it is done again without those that are missing and may be.
    pub(crate) fn with_missing<T>(
        &self,
        allow_missing: &[String],
        work: impl Fn(&Arc<Prepared>, &BTreeSet<Fence>) -> Result<T, StepFailed>,
    ) -> Result<T, SandboxError> {
        let allowed = allowed(allow_missing)?;
        let prepared = self.prepared()?;
        let mut missing: BTreeSet<Fence> =
            prepared.lacking().intersection(&allowed).copied().collect();
        let failed = match work(prepared, &missing) {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        if failed.fence.is_none() {
            return Err(failed.into());
        }
        let statuses = self.probe()?;
        let lacking = statuses.iter().filter(|status| status.state == FenceState::Missing);
        for status in lacking {
            let fence = status.fence;
            if !allowed.contains(&fence) || !fence.can_be_missing() {
                return Err(refusal(status));
            }
            missing.insert(fence);
        }
        if missing.is_empty() {
            return Err(failed.into());
        }
        let done = work(prepared, &missing)?;
        prepared.lacks(&missing);
        Ok(done)
    }

    /// What a sandbox would be. Nothing is made that would belong to the range, so any serves.
    fn identity(&self) -> Identity {
        if self.private {
            Identity::private(crate::identity::PROBE_BASE)
        } else {
            Identity::caller()
        }
    }

    fn probe(&self) -> Result<Vec<FenceStatus>, StepFailed> {
        let prepared = self.prepared()?;
        let identity = self.identity();
        Ok(probe_all(&Probe {
            launcher: &prepared.launcher,
            filter: &prepared.filter,
            identity: &identity,
            folder: &self.sandboxes,
        }))
    }

    /// What was recorded of the sandbox, if it is the one that the handle means. A handle is only
    /// a claim: a process is ended, and a socket talked to, because this side wrote it down.
    fn record(&self, handle: &Handle) -> Option<Record> {
        let record = folder::read_record(&self.sandboxes.join(handle.id()))?;
        (record.process == *handle.process()).then_some(record)
    }

    fn lives(&self, handle: &Handle) -> bool {
        self.record(handle).is_some_and(|record| record.process.find().is_some())
    }

    /// Waits for its end; blocks. Answers whether it has come.
    fn ends(&self, handle: &Handle, patience: Duration) -> bool {
        let process = self.record(handle).and_then(|record| record.process.find());
        process.is_none_or(|process| process.wait(patience))
    }

    /// Whether sandboxes can lie over workspaces that are kept, as far as is known.
    fn lays_over(&self) -> bool {
        self.why_filled().is_none()
            && self.prepared.get().is_none_or(|prepared| prepared.lays_over())
    }

    /// Why no sandbox is to lie over a workspace that is kept, whether it could or not: only where
    /// the kernel is asked by one who may shift owners does renaming a folder work there as
    /// everywhere.
    fn why_filled(&self) -> Option<&'static str> {
        if !self.private {
            return Some("an overlay of an ordinary user refuses to rename folders");
        }
        if !self.options.keep_workspaces {
            return Some("`keep_workspaces = false` in the configuration");
        }
        self.kept().is_short().then_some("too little of the disk is free")
    }

    /// How many workspaces stay that no sandbox lies over.
    fn most_unused(&self) -> usize {
        if self.options.keep_workspaces { bases::MOST_UNUSED } else { 0 }
    }

    fn collect(&self, most: usize) -> std::io::Result<()> {
        bases::collect(&self.kept(), &self.sandboxes, most)
    }

    fn kept(&self) -> Kept {
        Kept::beside(&self.sandboxes, self.options.workspaces_leave_free)
    }
}

fn names(fences: &BTreeSet<Fence>) -> Vec<String> {
    fences.iter().map(|fence| fence.name().to_owned()).collect()
}

fn allowed(names: &[String]) -> Result<BTreeSet<Fence>, SandboxError> {
    let parse = |name: &String| {
        name.parse().map_err(|error| setup("understand which fences may be missing", error))
    };
    names.iter().map(parse).collect()
}

fn refusal(status: &FenceStatus) -> SandboxError {
    let mut reason = status.detail.clone();
    if !status.fence.can_be_missing() {
        reason.push_str(", and no sandbox can be made without it");
    }
    SandboxError::MissingFence {
        fence: status.name.to_owned(),
        reason,
        remedy: status.remedy.clone(),
    }
}

fn setup(step: &str, message: impl ToString) -> SandboxError {
    SandboxError::Setup { step: step.to_owned(), message: message.to_string() }
}
