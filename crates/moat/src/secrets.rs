//! Reads the values of secrets where their source says: the environment, a file, a command.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use moat_core::Secret;
use moat_egress::secret::SecretSource;
use moat_harness::network::SecretReader;
use moat_sandbox::materialise::Credentials;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::config::variable;

/// Bytes of the longest value.
const MAX_VALUE: u64 = 64 << 10;
/// How long a file or a command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The sources of this host.
pub(crate) struct HostSecrets {
    /// What `~/` stands for.
    pub(crate) home: Option<PathBuf>,
}

/// Credentials by the names that manifests use; the configuration says where each is read.
pub(crate) struct NamedCredentials {
    pub(crate) named: BTreeMap<String, String>,
    pub(crate) home: Option<PathBuf>,
}

#[async_trait]
impl Credentials for NamedCredentials {
    async fn read(&self, name: &str) -> Result<Secret, String> {
        let source = self.named.get(name).ok_or_else(|| {
            format!(
                "it is not in `config.toml`; add `{name} = \"env:VARIABLE\"`, `\"file:PATH\"` or \
                 `\"command:LINE\"` beneath `[credentials]`"
            )
        })?;
        let source = match source.split_once(':') {
            Some(("env", variable)) => SecretSource::Env(variable.to_owned()),
            Some(("file", path)) => SecretSource::File(PathBuf::from(path)),
            Some(("command", line)) => SecretSource::Command(line.to_owned()),
            _ => return Err("its source begins with `env:`, `file:` or `command:`".to_owned()),
        };
        SecretReader::read(&HostSecrets { home: self.home.clone() }, &source).await
    }
}

#[async_trait]
impl SecretReader for HostSecrets {
    async fn read(&self, source: &SecretSource) -> Result<Secret, String> {
        let read = async {
            match source {
                SecretSource::Env(name) => variable(name)
                    .map(Secret::new)
                    .ok_or_else(|| format!("the environment variable `{name}` is not set")),
                SecretSource::File(path) => self.file(path.clone()).await,
                SecretSource::Command(line) => command(line).await,
            }
        };
        let late = |_| format!("`{source}` took longer than {} s", PATIENCE.as_secs());
        let value = tokio::time::timeout(PATIENCE, read).await.map_err(late)??;
        Ok(Secret::new(value.expose().trim_end_matches(['\r', '\n'])))
    }
}

impl HostSecrets {
    async fn file(&self, path: PathBuf) -> Result<Secret, String> {
        let path = match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path,
        };
        let cannot = |error: std::io::Error| format!("`{}`: {error}", path.display());
        let file = tokio::fs::File::open(&path).await.map_err(cannot)?;
        text(file).await.map_err(cannot)
    }
}

/// What it says on standard error is for the person, what it prints is for nobody else.
async fn command(line: &str) -> Result<Secret, String> {
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let failed = |error: std::io::Error| format!("its command cannot be run: {error}");
    let mut child = command.spawn().map_err(failed)?;
    let value = match child.stdout.take() {
        Some(printed) => text(printed).await.map_err(failed)?,
        None => Secret::new(""),
    };
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        Ok(value)
    } else {
        Err(format!("its command failed ({status}); run it by hand to see why"))
    }
}

async fn text(source: impl AsyncRead + Unpin) -> std::io::Result<Secret> {
    let mut value = zeroize::Zeroizing::new(String::new());
    source.take(MAX_VALUE + 1).read_to_string(&mut value).await?;
    if value.len() as u64 > MAX_VALUE {
        return Err(std::io::Error::other("it is longer than 64 KiB"));
    }
    Ok(Secret::new(value.as_str()))
}
