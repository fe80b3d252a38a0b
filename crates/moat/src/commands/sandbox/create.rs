//! Making sandboxes: `run` for one command, `create` for as long as it is used.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use moat_core::{RunId, SandboxSettings};
use moat_harness::Providers as _;
use moat_harness::network::PreparedNetwork;
use moat_sandbox::{Accounts, Provider, Root, RootFilesystem, Sandbox, SandboxSpec};
use serde_json::json;

use super::network::{self, Service};
use super::records::Record;
use super::{EPOCH, Place, fill, process, source};
use crate::cli::{OutfitArgs, SandboxCreateArgs, SandboxRunArgs};
use crate::exit::Exit;
use crate::images::{self, LocalImages};
use crate::outfit;

pub(super) async fn run(place: &Place, args: SandboxRunArgs) -> anyhow::Result<Exit> {
    let dir = args.dir.as_deref().map(source).transpose()?;
    let made =
        Made::new(place, &args.outfit, &args.fences.allow_missing, &[], Duration::ZERO).await?;
    let guest = made.sandbox.guest();
    let ran = async {
        let network = Service::of_own(made.network.as_ref(), &*made.sandbox).await?;
        if let Some(dir) = &dir {
            fill::fill(place, dir, guest.clone()).await?;
        }
        let cwd = Root::Workspace.path().to_owned();
        let command = process::command(args.command, cwd, args.env, None);
        let ended = process::run(&*guest, &command, args.json, async || Ok(())).await;
        network.tell();
        ended
    };
    let ran = ran.await;
    made.provider.destroy(&made.sandbox.handle()).await?;
    network::forget(place, made.run, &made.settings)?;
    ran
}

pub(super) async fn create(place: &Place, args: SandboxCreateArgs) -> anyhow::Result<Exit> {
    let dir = args.dir.as_deref().map(source).transpose()?;
    let outfit = (&args.outfit, args.fences.allow_missing.as_slice());
    let made = Made::new(place, outfit.0, outfit.1, &args.env, args.keep).await?;
    let mut record = Record::new(made.run, made.settings)?;
    record.name = args.name;
    record.handle = made.sandbox.handle();
    record.keep_seconds = args.keep.as_secs();
    record.missing_fences = made.sandbox.missing_fences().to_vec();
    let kept = async {
        place.records.add(&record)?;
        match &dir {
            Some(dir) => fill::fill(place, dir, made.sandbox.guest()).await,
            None => Ok(()),
        }
    };
    if let Err(error) = kept.await {
        made.provider.destroy(&record.handle).await?;
        network::forget(place, record.run, &record.settings)?;
        // Another sandbox may be what has the name.
        if place.records.find(&record.id).is_ok() {
            place.records.remove(&record)?;
        }
        return Err(error);
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        let shown = json!({ "v": 1, "id": record.id, "name": record.name,
            "keep_seconds": record.keep_seconds, "missing_fences": record.missing_fences });
        writeln!(out, "{shown}")?;
    } else {
        writeln!(out, "{}", record.shown())?;
    }
    Ok(Exit::Success)
}

/// A sandbox that was just made.
struct Made {
    run: RunId,
    settings: SandboxSettings,
    provider: Arc<dyn Provider>,
    sandbox: Box<dyn Sandbox>,
    network: Option<PreparedNetwork>,
}

impl Made {
    async fn new(
        place: &Place,
        args: &OutfitArgs,
        allow_missing: &[String],
        environment: &[(String, String)],
        keep: Duration,
    ) -> anyhow::Result<Self> {
        let mut settings = outfit::settle(&place.home, SandboxSettings::default(), None, args)?;
        let allow_missing = place.allow_missing(allow_missing);
        let root = match &args.image {
            Some(text) => {
                let images =
                    LocalImages::new(&place.home, place.sandboxes.local.clone(), &allow_missing);
                let here = std::env::current_dir().context("cannot find the current folder")?;
                let (record, image) = images.find(text, &here, images::shown(place.quiet)).await?;
                settings.image = Some(record);
                images::root_of(image, settings.as_root)
            }
            None => RootFilesystem::Host,
        };
        outfit::check(&settings)?;
        let provider = place.sandboxes.clone().choose(settings.provider.as_deref())?;
        let run = RunId::generate();
        let network = network::prepare(place, run, &settings).await?;
        let mut variables = network.as_ref().map(PreparedNetwork::environment).unwrap_or_default();
        variables.extend(environment.iter().cloned());
        let spec = SandboxSpec {
            orphan_grace: keep,
            environment: variables,
            allow_missing,
            root,
            network: network.as_ref().map(PreparedNetwork::spec).transpose()?,
            limits: settings.limits,
            accounts: Accounts {
                as_root: settings.as_root,
                run_as: settings.run_as.clone(),
                ..Accounts::default()
            },
            ..SandboxSpec::new(run, EPOCH)
        };
        match provider.create(&spec).await {
            Ok(sandbox) => Ok(Self { run, settings, provider, sandbox, network }),
            Err(error) => {
                network::forget(place, run, &settings)?;
                Err(error.into())
            }
        }
    }
}
