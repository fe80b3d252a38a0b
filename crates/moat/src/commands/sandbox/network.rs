//! The network of a sandbox, served while a command of ours uses it.
//!
//! A sandbox that stays has no process of ours that stays with it. So whoever uses it (`exec`,
//! `shell`, `expose`) serves its network meanwhile, one at a time; another takes over when that one
//! ends. In between connections wait, and nothing is let out.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use moat_core::RunId;
use moat_harness::network::{PreparedNetwork, ServedNetwork, forget_authority};
use moat_sandbox::Sandbox;
use tokio::task::JoinHandle;

use super::{Found, Place, say};
use crate::escape::escape;

/// How often one who waits looks whether it is his turn.
const TURN: Duration = Duration::from_millis(300);

/// Refusals that are told when a command has ended.
const MOST_TOLD: usize = 10;

/// A network that is served until this is dropped.
pub(super) struct Service {
    served: Option<ServedNetwork>,
    _turn: Option<File>,
}

impl Service {
    /// Of a sandbox that nobody else knows.
    pub(super) async fn of_own(
        prepared: Option<&PreparedNetwork>,
        sandbox: &dyn Sandbox,
    ) -> anyhow::Result<Self> {
        let served = match prepared {
            Some(prepared) => Some(prepared.serve(sandbox.network().await?)?),
            None => None,
        };
        Ok(Self { served, _turn: None })
    }

    /// Says what was refused, if anything was.
    pub(super) fn tell(&self) {
        let Some(served) = &self.served else { return };
        for refused in served.denials().since(0, MOST_TOLD) {
            say(&format!("denied: {}", escape(&refused)));
        }
    }
}

/// Serves the network of a sandbox that others may use as well, from now on or when it is its turn.
pub(super) struct Shared {
    now: Option<Service>,
    later: Option<JoinHandle<()>>,
}

impl Shared {
    pub(super) async fn of(place: &Place, found: &Found) -> anyhow::Result<Self> {
        let Some(settings) = &found.record.settings.network else {
            return Ok(Self { now: None, later: None });
        };
        let prepared = place.network()?.prepare(found.record.run, settings).await?;
        let sandbox = Arc::clone(&found.sandbox);
        let lock = place.records.network_lock(&found.record)?;
        if lock.try_lock().is_ok() {
            let served = prepared.serve(sandbox.network().await?)?;
            let now = Service { served: Some(served), _turn: Some(lock) };
            return Ok(Self { now: Some(now), later: None });
        }
        let later = tokio::spawn(async move {
            while lock.try_lock().is_err() {
                tokio::time::sleep(TURN).await;
            }
            let sockets = sandbox.network().await;
            let served = sockets.ok().and_then(|sockets| prepared.serve(sockets).ok());
            if served.is_none() {
                say("the sandbox's network cannot be served any more");
            }
            // Until this task is aborted.
            let _service = Service { served, _turn: Some(lock) };
            std::future::pending::<()>().await;
        });
        Ok(Self { now: None, later: Some(later) })
    }

    /// Says what was refused, if anything was.
    pub(super) fn tell(&self) {
        self.now.iter().for_each(Service::tell);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(later) = &self.later {
            later.abort();
        }
    }
}

/// What a network needs before its sandbox is made.
pub(super) async fn prepare(
    place: &Place,
    run: RunId,
    settings: &moat_core::SandboxSettings,
) -> anyhow::Result<Option<PreparedNetwork>> {
    match &settings.network {
        Some(network) => Ok(Some(place.network()?.prepare(run, network).await?)),
        None => Ok(None),
    }
}

/// Removes what only the network of a sandbox that is gone needed.
pub(super) fn forget(
    place: &Place,
    run: RunId,
    settings: &moat_core::SandboxSettings,
) -> anyhow::Result<()> {
    if settings.network.is_none() {
        return Ok(());
    }
    forget_authority(&place.network()?, run).context("cannot remove the sandbox's authority")
}
