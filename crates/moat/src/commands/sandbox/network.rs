//! The network of a sandbox, served while a command of ours uses it.
//!
//! A sandbox that stays has no process of ours that stays with it. So whoever uses it (`exec`,
//! `shell`, `expose`) serves its network meanwhile, one at a time; another takes over when that one
//! ends. In between connections wait, and nothing is let out. Whoever serves it may narrow it for as
//! long as that takes: the level of the call; what that command leaves running ends with it.

use std::fs::File;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use moat_core::{CallKey, RunId};
use moat_harness::network::{Denials, PreparedNetwork, ServedNetwork, forget_authority};
use moat_sandbox::{Guest, Sandbox};
use tokio::task::JoinHandle;

use super::{Found, Place, narrowed, say};
use crate::cli::CallNetworkArgs;
use crate::escape::escape;
use crate::exit::usage;
use crate::outfit;

/// How often one who waits looks whether it is his turn.
const TURN: Duration = Duration::from_millis(300);

/// Refusals that are told when a command has ended.
const MOST_TOLD: usize = 10;

/// A network that is served until this is dropped.
pub(super) struct Service(Option<ServedNetwork>);

impl Service {
    /// Of a sandbox that nobody else knows.
    pub(super) async fn of_own(
        prepared: Option<&PreparedNetwork>,
        sandbox: &dyn Sandbox,
    ) -> anyhow::Result<Self> {
        match prepared {
            Some(prepared) => Ok(Self(Some(prepared.serve(sandbox.network().await?)?))),
            None => Ok(Self(None)),
        }
    }

    /// Says what was refused, if anything was.
    pub(super) fn tell(&self) {
        if let Some(served) = &self.0 {
            say_since(served.denials(), 0);
        }
    }
}

/// Serves the network of a sandbox that others may use as well, from now on or when it is its turn.
pub(super) struct Shared {
    /// With the lock that says whose turn it is.
    _now: Option<(ServedNetwork, File)>,
    later: Option<JoinHandle<()>>,
    /// What is refused, once it is its turn.
    heard: Arc<OnceLock<Arc<Denials>>>,
    /// The command for which it is narrowed.
    narrowed_for: Option<CallKey>,
    /// How many refusals were told.
    told: u64,
}

impl Shared {
    /// `call` is what this use of the sandbox may reach at most, and `command` what is going to be
    /// started for it.
    pub(super) async fn of(
        place: &Place,
        found: &Found,
        call: &CallNetworkArgs,
        command: Option<CallKey>,
    ) -> anyhow::Result<Self> {
        let heard = Arc::default();
        let mut shared = Self { _now: None, later: None, heard, narrowed_for: None, told: 0 };
        let call = outfit::policy_of(&call.net, &call.secret)?;
        let Some(settings) = &found.record.settings.network else {
            return match call {
                None => Ok(shared),
                Some(_) => Err(usage(format!(
                    "the sandbox `{}` was made without a network, and a call can only narrow what \
                     there is; `moat sandbox create --net RULE` makes one with a network",
                    found.record.shown()
                ))),
            };
        };
        let is_narrowed = call.is_some();
        let settings = outfit::narrowed(settings, call)?;
        let run = found.record.run;
        let prepared = place.network()?.prepare((run, run), &settings).await?;
        let sandbox = Arc::clone(&found.sandbox);
        let lock = place.records.network_lock(&found.record)?;
        if lock.try_lock().is_ok() {
            narrowed::end_noted(&lock, &*sandbox.guest()).await?;
            if let Some(command) = command.filter(|_| is_narrowed) {
                narrowed::note(&lock, command)?;
                shared.narrowed_for = Some(command);
            }
            let served = prepared.serve(sandbox.network().await?)?;
            let _ = shared.heard.set(Arc::clone(served.denials()));
            shared._now = Some((served, lock));
            return Ok(shared);
        }
        if is_narrowed {
            // It would reach what the other one may.
            anyhow::bail!(
                "another command serves the network of `{}` now, so it cannot be narrowed for this \
                 one; try again when that one has ended",
                found.record.shown()
            );
        }
        shared.later = Some(tokio::spawn(in_turn(lock, sandbox, prepared, shared.heard.clone())));
        Ok(shared)
    }

    /// Ends what the command left running for which the network is narrowed, if it is: soon it is
    /// wider again.
    pub(super) async fn end_left(&self, guest: &dyn Guest) -> anyhow::Result<()> {
        match self.narrowed_for {
            Some(command) => narrowed::end(guest, command).await,
            None => Ok(()),
        }
    }

    /// Says what was refused since the last time, if anything was.
    pub(super) fn tell(&mut self) {
        if let Some(denials) = self.heard.get() {
            self.told = say_since(denials, self.told);
        }
    }
}

/// Waits for its turn, and serves until it is aborted.
async fn in_turn(
    lock: File,
    sandbox: Arc<dyn Sandbox>,
    prepared: PreparedNetwork,
    heard: Arc<OnceLock<Arc<Denials>>>,
) {
    while lock.try_lock().is_err() {
        tokio::time::sleep(TURN).await;
    }
    let ended = narrowed::end_noted(&lock, &*sandbox.guest()).await;
    let sockets = match ended {
        Ok(()) => sandbox.network().await.ok(),
        Err(_) => None,
    };
    let served = sockets.and_then(|sockets| prepared.serve(sockets).ok());
    match &served {
        Some(served) => drop(heard.set(Arc::clone(served.denials()))),
        None => say("the sandbox's network cannot be served any more"),
    }
    std::future::pending::<()>().await;
}

/// Says what was refused since a place in time, and gives the place of now.
fn say_since(denials: &Denials, mark: u64) -> u64 {
    let now = denials.mark();
    for refused in denials.since(mark, MOST_TOLD) {
        say(&format!("denied: {}", escape(&refused)));
    }
    now
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
        Some(network) => Ok(Some(place.network()?.prepare((run, run), network).await?)),
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
