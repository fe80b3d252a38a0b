//! Makes a run's sandbox and fills it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use moat_core::{Epoch, RunId, SandboxSettings, SnapshotId};
use moat_sandbox::checkpoint::{Checkpointer, Filling, SkipRules, Wanted};
use moat_sandbox::{HeldMounts, Provider, SandboxSpec};

use super::{ComputeError, FILES, Live, outfit, serve};
use crate::harness::HarnessParts;
use crate::network::PreparedNetwork;

/// A sandbox that was made, and what it was filled with.
pub(super) struct Made {
    pub(super) live: Live,
    pub(super) snapshot: Option<SnapshotId>,
    pub(super) took_ms: u64,
    /// Why there is no workspace that it lies over, if there was to be one.
    pub(super) not_kept: Option<String>,
}

/// What a sandbox is made from.
pub(super) struct Plan {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) parts: Arc<HarnessParts>,
    pub(super) run: RunId,
    pub(super) lineage: RunId,
    pub(super) epoch: Epoch,
    pub(super) settings: SandboxSettings,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) snapshot: Option<SnapshotId>,
}

impl Plan {
    pub(super) async fn make(self) -> Result<Made, ComputeError> {
        let began = Instant::now();
        let Self { parts, settings, .. } = &self;
        let network = outfit::network(parts, (self.run, self.lineage), settings).await?;
        let network = network.as_ref();
        let spec =
            outfit::spec(parts, self.run, self.epoch, settings, &self.environment, network).await?;
        let mounts = outfit::mounts(parts, self.run, settings).await?;
        match self.make_with(spec, mounts.as_deref(), network).await {
            Ok((live, not_kept)) => {
                let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                let live = Live { mounts, ..live };
                Ok(Made { live, snapshot: self.snapshot, took_ms, not_kept })
            }
            Err(error) => {
                if let Some(mounts) = mounts {
                    let _ = tokio::task::spawn_blocking(move || mounts.release()).await;
                }
                Err(error)
            }
        }
    }

    async fn make_with(
        &self,
        mut spec: SandboxSpec,
        mounts: Option<&dyn HeldMounts>,
        network: Option<&PreparedNetwork>,
    ) -> Result<(Live, Option<String>), ComputeError> {
        spec.mounts = mounts.map(|held| held.mounts().to_vec()).unwrap_or_default();
        let skip = outfit::skip(&self.settings);
        let Some(snapshot) = self.snapshot else {
            return Ok((self.make_filled(&spec, skip, None, network).await?, None));
        };
        let filling = Filling::plan(self.wanted(&spec, &skip, snapshot)).await?;
        spec.base = filling.base_snapshot();
        let over = spec.base.is_some();
        let not_kept = filling.not_kept().map(str::to_owned);
        match self.make_filled(&spec, skip.clone(), Some(filling), network).await {
            // What is kept is a cache: it is done again without it.
            Err(error) if over => {
                spec.base = None;
                let filling = Filling::load(self.wanted(&spec, &skip, snapshot)).await?;
                let live = self.make_filled(&spec, skip.clone(), Some(filling), network).await?;
                Ok((live, Some(error.to_string())))
            }
            made => Ok((made?, not_kept)),
        }
    }

    async fn make_filled(
        &self,
        spec: &SandboxSpec,
        skip: SkipRules,
        filling: Option<Filling>,
        network: Option<&PreparedNetwork>,
    ) -> Result<Live, ComputeError> {
        let sandbox = self.provider.create(spec).await?;
        let network = serve(&*sandbox, network).await;
        let guest = sandbox.guest();
        let mut checkpointer = Checkpointer::new(guest.clone(), self.parts.snapshots.clone(), skip);
        checkpointer.keep_in(self.parts.spool_dir.join(self.run.to_string()).join(FILES));
        let filled = match filling {
            Some(filling) => checkpointer.fill_from(filling, sandbox.base()).await.map(drop),
            None => Ok(()),
        };
        let served = filled.map_err(ComputeError::from).and(network);
        match served {
            Ok(network) => Ok(Live { sandbox, guest, checkpointer, network, mounts: None }),
            Err(error) => {
                // Nothing refers to a sandbox that could not be filled.
                let _ = self.provider.destroy(&sandbox.handle()).await;
                Err(error)
            }
        }
    }

    fn wanted<'a>(
        &'a self,
        spec: &'a SandboxSpec,
        skip: &'a SkipRules,
        snapshot: SnapshotId,
    ) -> Wanted<'a> {
        Wanted {
            provider: &*self.provider,
            spec,
            snapshots: &self.parts.snapshots,
            skip,
            snapshot,
            seed: self.settings.ephemeral.as_ref().map(|ephemeral| ephemeral.snapshot),
            lineage: self.lineage,
        }
    }
}
