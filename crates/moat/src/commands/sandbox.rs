//! `sandbox …`: sandboxes without an agent.
//!
//! A sandbox of `run` ends with its command. One of `create` stays until `rm`, or until nobody has
//! used it for as long as was said; what finds it again is written down in the data folder
//! ([`records`]). Everything else connects to it, as one of several that may at once.

mod copy;
mod create;
mod exec;
mod expose;
mod fill;
mod list;
mod narrowed;
mod network;
mod process;
mod records;
mod shell;
mod stats;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use moat_core::{Epoch, RunId, TenantId};
use moat_harness::Providers as _;
use moat_harness::network::NetworkOptions;
use moat_sandbox::{Provider, Sandbox};

use crate::cli::{Global, SandboxCommand};
use crate::config::Config;
use crate::engine::network_options;
use crate::exit::{Exit, usage};
use crate::home::Home;
use crate::sandboxes::{LOCAL, Sandboxes, kind};
use records::{Record, Records};

/// All who use one sandbox are one owner.
const EPOCH: Epoch = Epoch(1);

pub(crate) async fn dispatch(global: &Global, command: SandboxCommand) -> anyhow::Result<Exit> {
    let place = Place::open(global)?;
    match command {
        SandboxCommand::Run(args) => create::run(&place, *args).await,
        SandboxCommand::Create(args) => create::create(&place, *args).await,
        SandboxCommand::Exec(args) => exec::exec(&place, args).await,
        SandboxCommand::Shell(args) => shell::shell(&place, args).await,
        SandboxCommand::Cp(args) => copy::copy(&place, &args).await,
        SandboxCommand::Ls(args) => list::list(&place, &args).await,
        SandboxCommand::Expose(args) => expose::expose(&place, &args).await,
        SandboxCommand::Stats(args) => stats::stats(&place, &args).await,
        SandboxCommand::Pause(args) => {
            place.find(&args.sandbox).await?.sandbox.pause().await?;
            Ok(Exit::Success)
        }
        SandboxCommand::Resume(args) => {
            place.find(&args.sandbox).await?.sandbox.resume().await?;
            Ok(Exit::Success)
        }
        SandboxCommand::Rm(args) => list::remove(&place, &args).await,
    }
}

/// What all these commands work with.
struct Place {
    home: Home,
    config: Config,
    /// Where snapshots are, if a flag says so.
    blobs: Option<String>,
    sandboxes: Arc<Sandboxes>,
    records: Records,
    quiet: bool,
}

/// A sandbox that was made, and the connection to it.
struct Found {
    record: Record,
    sandbox: Arc<dyn Sandbox>,
}

impl Place {
    fn open(global: &Global) -> anyhow::Result<Self> {
        let home = Home::find(global)?;
        home.make()?;
        let config = Config::read(&home.config_file())?;
        let sandboxes = Arc::new(Sandboxes::new(&home, global.quiet)?);
        let records = Records::open(&home.data)?;
        let (blobs, quiet) = (global.blobs.clone(), global.quiet);
        Ok(Self { home, config, blobs, sandboxes, records, quiet })
    }

    /// Connects to the sandbox that the words mean.
    async fn find(&self, text: &str) -> anyhow::Result<Found> {
        let record = self.records.find(text)?;
        match self.provider(&record)?.reattach(&record.handle, EPOCH).await? {
            Some(sandbox) => Ok(Found { record, sandbox: sandbox.into() }),
            None => {
                network::forget(self, record.run, &record.settings)?;
                self.records.remove(&record)?;
                let shown = record.shown();
                Err(usage(format!(
                    "the sandbox `{shown}` is gone: nobody had used it for as long as it was to be \
                     kept, or this machine was started again; `moat sandbox create` makes another"
                )))
            }
        }
    }

    /// What made the sandbox.
    fn provider(&self, record: &Record) -> anyhow::Result<Arc<dyn Provider>> {
        let name = record.settings.provider.as_deref().map_or(LOCAL, kind);
        Ok(self.sandboxes.clone().named(name)?)
    }

    /// Whether the sandbox lives; looking is no use.
    async fn is_alive(&self, record: &Record) -> anyhow::Result<bool> {
        let provider = record.settings.provider.as_deref();
        Ok(self.sandboxes.is_alive(provider, &record.handle).await?)
    }

    /// What a network needs of this machine.
    fn network(&self) -> anyhow::Result<NetworkOptions> {
        network_options(&self.home, &self.config, &TenantId::local())
    }

    /// Fences that may be missing, by the configuration and by these flags.
    fn allow_missing(&self, flags: &[String]) -> Vec<String> {
        self.config.allow_missing.iter().chain(flags).cloned().collect()
    }
}

/// What sandboxes that stay call their owners.
pub(crate) fn owners(home: &Home) -> anyhow::Result<impl Iterator<Item = RunId>> {
    Ok(Records::open(&home.data)?.all()?.into_iter().map(|record| record.run))
}

/// A folder that is to be copied into a workspace.
fn source(dir: &std::path::Path) -> anyhow::Result<PathBuf> {
    let dir = std::fs::canonicalize(dir)
        .map_err(|error| usage(format!("cannot copy `{}`: {error}", dir.display())))?;
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(usage(format!("`{}` is no folder", dir.display())))
}

fn say(text: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
