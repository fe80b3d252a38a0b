//! The configuration file, and what flags and environment say over it.
//!
//! Order, first wins: flag, environment (`OPENAI_BASE_URL`, `OPENAI_API_KEY`, `MOAT_MODEL`,
//! `HTTPS_PROXY`, `NO_PROXY`), `config.toml`, default.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use moat_core::{ByteSize, Secret};
use moat_sandbox::materialise::SourceLimits;
use serde::Deserialize;

use crate::cli::ModelArgs;
use crate::stores::SnapshotConfig;

/// `config.toml`, version 1.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The model to ask.
    model: Option<String>,
    /// Where the Responses API is.
    base_url: Option<String>,
    /// The API key. Better in a file of its own or printed by a command.
    #[serde(deserialize_with = "secret")]
    api_key: Option<Secret>,
    /// A file that holds the key.
    api_key_file: Option<PathBuf>,
    /// A command that prints the key.
    api_key_command: Option<String>,
    /// Further certificate authorities (PEM).
    ca_file: Option<PathBuf>,
    /// A price table that is laid over the built-in one (JSON).
    prices_file: Option<PathBuf>,
    /// Seconds that a sandbox outlives its harness.
    pub(crate) orphan_grace_seconds: Option<u64>,
    /// Fences that may be missing on this host.
    pub(crate) allow_missing: Vec<String>,
    /// Whether large workspaces are kept on this machine, for sandboxes to lie over; yes if absent.
    pub(crate) keep_workspaces: Option<bool>,
    /// Where snapshots are kept, and how.
    pub(crate) snapshots: SnapshotConfig,
    /// How much the sources of a manifest may bring.
    pub(crate) sources: SourceConfig,
    /// Where the values of the credentials are read that manifests name.
    pub(crate) credentials: std::collections::BTreeMap<String, String>,
}

/// `[sources]` of `config.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SourceConfig {
    /// Files, folders and links of all sources of a manifest together.
    entries: Option<std::num::NonZeroU64>,
    /// Bytes of their files.
    bytes: Option<ByteSize>,
}

impl SourceConfig {
    pub(crate) fn limits(&self) -> SourceLimits {
        let usual = SourceLimits::default();
        SourceLimits {
            entries: self.entries.map_or(usual.entries, std::num::NonZeroU64::get),
            bytes: self.bytes.map_or(usual.bytes, |bytes| bytes.0),
        }
    }
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

const MAX_CONFIG_BYTES: u64 = 1 << 20;

impl Config {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let size = match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            other => other.with_context(|| format!("cannot read `{}`", path.display()))?.len(),
        };
        anyhow::ensure!(size <= MAX_CONFIG_BYTES, "`{}` is larger than 1 MiB", path.display());
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        toml::from_str(&text).map_err(|error| {
            // The library's own rendering quotes the line, which may hold a key.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            anyhow::anyhow!("{}:{line}:{column}: {}", path.display(), error.message())
        })
    }
}

/// How the model is reached, all sources taken together.
#[derive(Debug)]
pub(crate) struct ModelConfig {
    pub(crate) model: Option<String>,
    pub(crate) base_url: String,
    pub(crate) key: KeyFrom,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) prices_file: Option<PathBuf>,
    pub(crate) https_proxy: Option<String>,
    pub(crate) http_proxy: Option<String>,
    pub(crate) no_proxy: Option<String>,
}

/// Where the key comes from.
#[derive(Debug)]
pub(crate) enum KeyFrom {
    Nowhere,
    Value(Secret),
    File(PathBuf),
    Command(String),
}

/// The model when nothing names one.
pub(crate) const DEFAULT_MODEL: &str = "gpt-5.5";
const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";

impl ModelConfig {
    pub(crate) fn collect(args: &ModelArgs, config: &Config) -> Self {
        let file = args.api_key_file.clone().map(KeyFrom::File);
        let command = args.api_key_command.clone().map(KeyFrom::Command);
        let key = file
            .or(command)
            .or_else(|| variable("OPENAI_API_KEY").map(|key| KeyFrom::Value(Secret::new(key))))
            .or_else(|| config.api_key.clone().map(KeyFrom::Value))
            .or_else(|| config.api_key_file.clone().map(KeyFrom::File))
            .or_else(|| config.api_key_command.clone().map(KeyFrom::Command));
        let url = args.base_url.clone().or_else(|| variable("OPENAI_BASE_URL"));
        Self {
            model: args
                .model
                .clone()
                .or_else(|| variable("MOAT_MODEL"))
                .or_else(|| config.model.clone()),
            base_url: url
                .or_else(|| config.base_url.clone())
                .unwrap_or_else(|| DEFAULT_BASE_URL.to_owned()),
            key: key.unwrap_or(KeyFrom::Nowhere),
            ca_file: args.ca_file.clone().or_else(|| config.ca_file.clone()),
            prices_file: config.prices_file.clone(),
            https_proxy: variable("HTTPS_PROXY").or_else(|| variable("https_proxy")),
            // The upper-case form is left alone: a CGI server sets it from a request header.
            http_proxy: variable("http_proxy"),
            no_proxy: variable("NO_PROXY").or_else(|| variable("no_proxy")),
        }
    }
}

/// An environment variable that says something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}
