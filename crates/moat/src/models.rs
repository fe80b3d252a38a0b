//! Which model answers, and how it is reached.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use moat_core::{KnownSecrets, Secret};
use moat_model::{
    CommandKey, FileKey, KeyError, KeySource, Model, NoKey, PriceTable, ProxyOptions, ReplayModel,
    ResponsesModel, ResponsesOptions, StaticKey, Transcript,
};

use crate::cli::ModelArgs;
use crate::config::{Config, DEFAULT_MODEL, KeyFrom, ModelConfig};

/// How long a key that a command printed is used before the command is run again.
const KEY_TTL: Duration = Duration::from_secs(300);
const MAX_PRICES_BYTES: u64 = 1 << 20;
const MAX_TRANSCRIPT_BYTES: u64 = 256 << 20;

/// A model that is ready to be asked.
pub(crate) struct Chosen {
    pub(crate) model: Arc<dyn Model>,
    /// Its name, if flags, environment or configuration say it.
    pub(crate) name: Option<String>,
    /// Values that are replaced wherever they come in.
    pub(crate) secrets: KnownSecrets,
    /// The transcript, if the model is a replay.
    pub(crate) replay: Option<PathBuf>,
}

impl Chosen {
    pub(crate) fn name_or_default(&self) -> String {
        self.name.clone().unwrap_or_else(|| DEFAULT_MODEL.to_owned())
    }
}

/// Makes the model that the flags ask for; `recorded` is the transcript that the run began with.
pub(crate) async fn choose(
    args: &ModelArgs,
    config: &Config,
    recorded: Option<&str>,
) -> anyhow::Result<Chosen> {
    let wants_provider = args.base_url.is_some();
    let recorded = recorded.map(PathBuf::from).filter(|_| !wants_provider);
    if let Some(path) = args.replay.clone().or(recorded) {
        return replay(&path, args);
    }
    let collected = ModelConfig::collect(args, config);
    let key: Arc<dyn KeySource> = match collected.key {
        KeyFrom::Nowhere => Arc::new(NoKey),
        KeyFrom::Value(key) => Arc::new(StaticKey::new(key)),
        KeyFrom::File(path) => Arc::new(FileKey::new(path)),
        KeyFrom::Command(command) => {
            let argv = ["sh", "-c", &command].map(str::to_owned).to_vec();
            Arc::new(CommandKey::new(argv, KEY_TTL))
        }
    };
    let secrets = KnownSecrets::default();
    let key: Arc<dyn KeySource> = Arc::new(Remembered { key, known: secrets.clone() });
    // Known before the first byte comes in. That there is none is said when it is used.
    let _ = key.key().await;
    let mut options = ResponsesOptions::new(collected.base_url);
    options.key = key;
    options.extra_ca = collected.ca_file;
    options.proxy = ProxyOptions {
        https: collected.https_proxy,
        http: collected.http_proxy,
        no_proxy: collected.no_proxy,
    };
    if let Some(path) = collected.prices_file {
        options.prices = Arc::new(prices(&path)?);
    }
    let model = Arc::new(ResponsesModel::new(options)?);
    Ok(Chosen { model, name: collected.model, secrets, replay: None })
}

fn replay(path: &Path, args: &ModelArgs) -> anyhow::Result<Chosen> {
    let path = std::path::absolute(path)?;
    let text = read_bounded(&path, MAX_TRANSCRIPT_BYTES)?;
    let transcript = Transcript::parse(&text)
        .with_context(|| format!("cannot use the transcript `{}`", path.display()))?;
    let model: Arc<dyn Model> = Arc::new(ReplayModel::new(transcript));
    let name = args.model.clone().or_else(|| Some("replay".to_owned()));
    Ok(Chosen { model, name, secrets: KnownSecrets::default(), replay: Some(path) })
}

/// A source whose every key is from then on known as a secret, so that one that was rotated in
/// while a run goes on is redacted like the first.
struct Remembered {
    key: Arc<dyn KeySource>,
    known: KnownSecrets,
}

#[async_trait]
impl KeySource for Remembered {
    async fn key(&self) -> Result<Option<Secret>, KeyError> {
        let key = self.key.key().await?;
        key.iter().for_each(|key| self.known.add(key.clone()));
        Ok(key)
    }

    async fn rejected(&self, key: &Secret) -> bool {
        self.key.rejected(key).await
    }
}

fn prices(path: &Path) -> anyhow::Result<PriceTable> {
    let mut table = PriceTable::built_in();
    table.extend(PriceTable::from_json(&read_bounded(path, MAX_PRICES_BYTES)?)?);
    Ok(table)
}

fn read_bounded(path: &Path, limit: u64) -> anyhow::Result<String> {
    let cannot = || format!("cannot read `{}`", path.display());
    let size = std::fs::metadata(path).with_context(cannot)?.len();
    anyhow::ensure!(size <= limit, "`{}` has {size} bytes, more than {limit}", path.display());
    std::fs::read_to_string(path).with_context(cannot)
}
