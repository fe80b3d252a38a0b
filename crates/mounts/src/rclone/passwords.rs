//! Settings that rclone wants to be scrambled, and says which they are.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use moat_core::{RemoteRecord, Secret};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::error::MountError;

/// How long rclone may take to answer: it reads nothing but its own program.
const WITHIN: Duration = Duration::from_secs(20);
/// Bytes of an answer.
const ANSWER: u64 = 16 << 20;
/// Kinds of storage that have no such setting.
const WITHOUT: [&str; 3] = ["s3", "google cloud storage", "azureblob"];

#[derive(Deserialize)]
struct Backend {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Options", default)]
    options: Vec<BackendOption>,
}

#[derive(Deserialize)]
struct BackendOption {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "IsPassword", default)]
    is_password: bool,
}

/// Which of a remote's settings are such.
pub(super) async fn of(folder: &Path, remote: &RemoteRecord) -> Result<Vec<String>, MountError> {
    if remote.secrets.is_empty() || WITHOUT.contains(&&*remote.backend) {
        return Ok(Vec::new());
    }
    let failed = |message: String| MountError::Rclone { remote: remote.backend.clone(), message };
    let text = answer(folder, &["config", "providers"], b"").await?.map_err(failed)?;
    let backends: Vec<Backend> = serde_json::from_slice(&text)
        .map_err(|error| failed(format!("its list of backends makes no sense: {error}")))?;
    let Some(backend) = backends.iter().find(|backend| backend.name == remote.backend) else {
        let names: Vec<_> = backends.iter().map(|backend| backend.name.as_str()).collect();
        return Err(failed(format!("it has no such backend; there are {}", names.join(", "))));
    };
    let passwords = backend.options.iter().filter(|option| option.is_password);
    Ok(passwords.map(|option| option.name.clone()).collect())
}

/// A value as rclone keeps it. That hides nothing from anybody; it is a form.
pub(super) async fn obscured(folder: &Path, value: &Secret) -> Result<String, String> {
    let line = format!("{}\n", value.expose());
    let answered = answer(folder, &["obscure", "-"], line.as_bytes()).await;
    let text = answered.map_err(|error| error.to_string())??;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err("rclone cannot take it for a password".to_owned());
    }
    Ok(text)
}

/// What rclone prints.
async fn answer(
    folder: &Path,
    arguments: &[&str],
    input: &[u8],
) -> Result<Result<Vec<u8>, String>, MountError> {
    let mut command = super::command(folder)?;
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::null()).kill_on_drop(true);
    let asked = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input).await?;
        }
        let mut text = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(ANSWER).read_to_end(&mut text).await?;
        }
        let status = child.wait().await?;
        let what = arguments.join(" ");
        if status.success() {
            Ok(text)
        } else {
            Err(std::io::Error::other(format!("`rclone {what}` failed")))
        }
    };
    Ok(match tokio::time::timeout(WITHIN, asked).await {
        Ok(answered) => answered.map_err(|error: std::io::Error| error.to_string()),
        Err(_) => Err(format!("`rclone {}` did not answer", arguments.join(" "))),
    })
}
