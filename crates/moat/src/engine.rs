//! Puts the parts together: journal, blobs, snapshots, model, sandboxes.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use moat_blobs::{BlobStore, PackedBlobs};
use moat_core::{KnownSecrets, RunId, Seq, TenantId};
use moat_egress::{Upstream, UpstreamOptions};
use moat_harness::network::NetworkOptions;
use moat_harness::{Harness, HarnessOptions};
use moat_journal::sqlite::{SqliteJournal, SqliteOptions};
use moat_journal::{Journal, Listed, ReadError};
use moat_model::Model;
use moat_mounts::{Mounts, MountsOptions};
use moat_sandbox::materialise::CredentialSource;
use moat_sandbox_local::{LocalOptions, LocalProvider, TOOLCHAIN_VARIABLES};
use moat_snapshot::Snapshots;

use crate::cli::{Colour, Global, ModelArgs, Which};
use crate::config::{Config, ModelConfig, variable};
use crate::exit::usage;
use crate::home::Home;
use crate::images::LocalImages;
use crate::sandboxes::Sandboxes;
use crate::secrets::{HostSecrets, NamedCredentials};
use crate::stores::{OpenSnapshots, open_blobs, open_snapshots};
use crate::view::Style;

/// How long a sandbox outlives its harness, unless the configuration says otherwise.
const ORPHAN_GRACE: Duration = Duration::from_secs(600);
/// Runs that are looked through for a part of an id.
const LOOKED_THROUGH: usize = 10_000;

/// Everything that commands work on.
pub(crate) struct Engine {
    pub(crate) home: Home,
    pub(crate) config: Config,
    pub(crate) tenant: TenantId,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) snapshots: Snapshots,
    /// What snapshots are stored in.
    pub(crate) packs: PackedBlobs,
    /// What this data folder is called where snapshots are stored.
    pub(crate) users: Vec<String>,
    pub(crate) colour: Colour,
    pub(crate) quiet: bool,
}

impl Engine {
    pub(crate) fn open(global: &Global) -> anyhow::Result<Self> {
        let home = Home::find(global)?;
        home.make()?;
        let config = Config::read(&home.config_file())?;
        let tenant = TenantId::local();
        let key = home.tenant_key(&tenant)?;
        let blobs = open_blobs(&home, &key);
        let OpenSnapshots { snapshots, packs, users } =
            open_snapshots(&home, &config, global.blobs.as_deref(), &key)?;
        let journal = SqliteJournal::open(SqliteOptions {
            data_dir: home.data.clone(),
            anchors_dir: home.anchors(),
            tenant_key: key,
            blobs: blobs.clone(),
        })
        .with_context(|| format!("cannot open the journal in `{}`", home.data.display()))?;
        let journal: Arc<dyn Journal> = Arc::new(journal);
        let (colour, quiet) = (global.color, global.quiet);
        Ok(Self { home, config, tenant, journal, blobs, snapshots, packs, users, colour, quiet })
    }

    /// All the sandboxes that can be chosen from.
    pub(crate) fn sandboxes(&self) -> anyhow::Result<Sandboxes> {
        Sandboxes::new(&self.home, self.quiet)
    }

    /// Sandboxes on this machine.
    pub(crate) fn provider(&self) -> anyhow::Result<LocalProvider> {
        local_provider(&self.home)
    }

    pub(crate) fn harness(
        &self,
        model: Arc<dyn Model>,
        secrets: KnownSecrets,
        allow_missing: &[String],
    ) -> anyhow::Result<Harness> {
        let mut allowed = self.config.allow_missing.clone();
        allowed.extend_from_slice(allow_missing);
        let provider = self.provider()?;
        let images = LocalImages::new(&self.home, provider, &allowed);
        Ok(Harness::new(HarnessOptions {
            tenant: self.tenant.clone(),
            journal: self.journal.clone(),
            blobs: self.blobs.clone(),
            snapshots: self.snapshots.clone(),
            model,
            provider: Some(Arc::new(self.sandboxes()?)),
            images: Some(Arc::new(images)),
            network: Some(self.network()?),
            mounter: Some(Arc::new(self.mounts())),
            tools: Vec::new(),
            spool_dir: self.home.data.join("spool"),
            secrets,
            orphan_grace: self.orphan_grace(),
            allow_missing: allowed,
        }))
    }

    /// How long a sandbox of a run lives when nobody drives the run.
    pub(crate) fn orphan_grace(&self) -> Duration {
        self.config.orphan_grace_seconds.map_or(ORPHAN_GRACE, Duration::from_secs)
    }

    /// What makes the mounts of manifests.
    pub(crate) fn mounts(&self) -> Mounts {
        Mounts::new(MountsOptions {
            folder: self.home.data.join("mounts"),
            shared: self.home.data.join("shared"),
            credentials: self.credentials(),
            orphan_grace: self.orphan_grace(),
        })
    }

    /// What reads the credentials that manifests name.
    pub(crate) fn credentials(&self) -> CredentialSource {
        let home = self.home.user_home.clone();
        let reader = NamedCredentials { named: self.config.credentials.clone(), home };
        CredentialSource(Some(Arc::new(reader)))
    }

    /// Takes away what sandboxes that ended had mounted.
    pub(crate) fn reap_mounts(&self) -> impl FnOnce() + Send + 'static {
        let mounts = self.mounts();
        // What cannot be taken away now is tried again by the next run.
        move || drop(mounts.reap())
    }

    /// What networks of sandboxes need of this machine.
    pub(crate) fn network(&self) -> anyhow::Result<NetworkOptions> {
        network_options(&self.home, &self.config, &self.tenant)
    }

    pub(crate) fn style(&self) -> Style {
        Style::of_stderr(self.colour)
    }

    /// The run that the words mean.
    pub(crate) async fn find(&self, which: &Which) -> anyhow::Result<RunId> {
        match &which.run {
            Some(text) => self.find_by_text(text).await,
            None => self.newest().await,
        }
    }

    pub(crate) async fn newest(&self) -> anyhow::Result<RunId> {
        let runs = self.journal.list(&self.tenant, 1).await?;
        let newest = runs.first().ok_or_else(|| usage("there are no runs yet"))?;
        Ok(newest.run)
    }

    pub(crate) async fn find_by_text(&self, text: &str) -> anyhow::Result<RunId> {
        if let Ok(run) = RunId::from_str(text) {
            // Damage and the like are for whoever reads it for a purpose.
            return match self.journal.read(&self.tenant, run, Seq(0), 1).await {
                Err(ReadError::NoSuchRun { .. }) => {
                    Err(usage(format!("there is no run {run}; `moat runs` lists them")))
                }
                Ok(events) if events.is_empty() => {
                    Err(usage(format!("run {run} ended before it began; start another one")))
                }
                _ => Ok(run),
            };
        }
        let wanted = text.to_ascii_lowercase();
        let plausible =
            wanted.len() >= 4 && wanted.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if !plausible {
            return Err(usage(format!("`{text}` is no run id; `moat runs` lists them")));
        }
        let runs = self.journal.list(&self.tenant, LOOKED_THROUGH).await?;
        let matches = |listed: &&Listed| listed.run.to_string().contains(&wanted);
        let found: Vec<_> = runs.iter().filter(matches).map(|listed| listed.run).collect();
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(usage(format!("no run has `{text}` in its id; `moat runs` lists them"))),
            many => Err(usage(format!("`{text}` is part of {} ids; give more of it", many.len()))),
        }
    }
}

/// What networks of sandboxes need of this machine.
pub(crate) fn network_options(
    home: &Home,
    config: &Config,
    tenant: &TenantId,
) -> anyhow::Result<NetworkOptions> {
    let proxy = ModelConfig::collect(&ModelArgs::default(), config);
    let upstream = UpstreamOptions {
        proxy: moat_egress::ProxyOptions {
            https: proxy.https_proxy,
            http: proxy.http_proxy,
            no_proxy: proxy.no_proxy,
        },
        extra_ca: proxy.ca_file,
    };
    Ok(NetworkOptions {
        tenant_key: home.tenant_key(tenant)?,
        folder: home.data.join("authorities"),
        upstream: Upstream::new(&upstream)?,
        secrets: Arc::new(HostSecrets { home: home.user_home.clone() }),
        ssh_agent: variable("SSH_AUTH_SOCK").map(PathBuf::from),
    })
}

pub(crate) fn local_provider(home: &Home) -> anyhow::Result<LocalProvider> {
    let mut options = LocalOptions::new(home.data.join("sandboxes"));
    options.keep_workspaces = Config::read(&home.config_file())?.keep_workspaces.unwrap_or(true);
    options.home = home.user_home.clone();
    options.toolchain_variables = TOOLCHAIN_VARIABLES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), variable(name)?)))
        .collect();
    Ok(LocalProvider::new(options)?)
}
