use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use moat_core::{Retryable, Secret};
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The longest key, in bytes. Tokens of identity providers run to a few kilobytes.
const MAX_KEY: u64 = 64 << 10;

/// How long reading a key file may take.
const FILE_LIMIT: Duration = Duration::from_secs(10);

/// Where the key of a provider comes from. Asked once for every call, so that keys may change
/// while a run goes on.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The key to send; `None` sends none, for servers that want none.
    async fn key(&self) -> Result<Option<Secret>, KeyError>;

    /// Told that the provider refused a key (HTTP 401). `true` means that asking again may give
    /// another one; the call is then made once more if it does.
    async fn rejected(&self, key: &Secret) -> bool {
        let _ = key;
        false
    }
}

/// Why there is no key. Never says what a key is.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("the key file `{}` cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The command cannot be run.
    #[error("the key command `{program}` cannot be run: {source}")]
    Command {
        /// Its first word.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The command failed. What it said is not repeated: it may be the key.
    #[error("the key command `{program}` failed ({status}); run it by hand to see why")]
    CommandFailed {
        /// Its first word.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The command takes too long.
    #[error("the key command `{program}` did not end within {} s", limit.as_secs_f64())]
    CommandTimeout {
        /// Its first word.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// What came is no key.
    #[error("{origin} gave no usable key: it has to be one line of printable text")]
    Unusable {
        /// What gave it.
        origin: String,
    },
}

impl Retryable for KeyError {
    fn is_retryable(&self) -> bool {
        // A file may be in the middle of being replaced, a vault may be down for a moment.
        matches!(self, Self::File { .. } | Self::CommandFailed { .. } | Self::CommandTimeout { .. })
    }
}

/// No key: nothing is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKey;

#[async_trait]
impl KeySource for NoKey {
    async fn key(&self) -> Result<Option<Secret>, KeyError> {
        Ok(None)
    }
}

/// A key that stays the same.
#[derive(Clone, Debug)]
pub struct StaticKey(Secret);

impl StaticKey {
    /// Takes the key.
    pub fn new(key: Secret) -> Self {
        Self(key)
    }
}

#[async_trait]
impl KeySource for StaticKey {
    async fn key(&self) -> Result<Option<Secret>, KeyError> {
        checked(self.0.expose(), || "the setting".to_owned()).map(Some)
    }
}

/// A key in a file, read anew for every call, so that whoever rotates it just replaces the file.
#[derive(Clone, Debug)]
pub struct FileKey(PathBuf);

impl FileKey {
    /// Names the file. White space around the key is ignored.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

#[async_trait]
impl KeySource for FileKey {
    async fn key(&self) -> Result<Option<Secret>, KeyError> {
        let failed = |source| KeyError::File { path: self.0.clone(), source };
        let read = async { read_key(tokio::fs::File::open(&self.0).await?).await };
        // A pipe or a network folder can keep a reader waiting for ever.
        let text = tokio::time::timeout(FILE_LIMIT, read)
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        checked(text.expose(), || format!("the key file `{}`", self.0.display())).map(Some)
    }

    async fn rejected(&self, _key: &Secret) -> bool {
        true
    }
}

/// A key that a command prints, kept for a while.
pub struct CommandKey {
    argv: Vec<String>,
    ttl: Duration,
    limit: Duration,
    cached: Mutex<Option<(Secret, Instant)>>,
}

impl CommandKey {
    /// `argv` is the program and its arguments, run without a shell; `ttl` is how long a key is
    /// used before the command is run again.
    pub fn new(argv: Vec<String>, ttl: Duration) -> Self {
        Self { argv, ttl, limit: Duration::from_secs(30), cached: Mutex::new(None) }
    }

    /// How long the command may take; 30 s if not set.
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    fn program(&self) -> String {
        self.argv.first().cloned().unwrap_or_default()
    }

    async fn run(&self) -> Result<Secret, KeyError> {
        let failed = |source| KeyError::Command { program: self.program(), source };
        let mut child = tokio::process::Command::new(self.program())
            .args(self.argv.iter().skip(1))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let printed = async {
            let text = match child.stdout.take() {
                Some(stdout) => read_key(stdout).await.map_err(failed)?,
                None => Secret::new(""),
            };
            Ok((text, child.wait().await.map_err(failed)?))
        };
        let (text, status) = tokio::time::timeout(self.limit, printed).await.map_err(|_| {
            KeyError::CommandTimeout { program: self.program(), limit: self.limit }
        })??;
        if !status.success() {
            return Err(KeyError::CommandFailed { program: self.program(), status });
        }
        checked(text.expose(), || format!("the key command `{}`", self.program()))
    }
}

impl std::fmt::Debug for CommandKey {
    /// Arguments may hold secrets of their own.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandKey").field("program", &self.program()).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeySource for CommandKey {
    async fn key(&self) -> Result<Option<Secret>, KeyError> {
        // Held while the command runs, so that many calls at once run it once.
        let mut cached = self.cached.lock().await;
        if let Some((key, since)) = cached.as_ref()
            && since.elapsed() < self.ttl
        {
            return Ok(Some(key.clone()));
        }
        let key = self.run().await?;
        *cached = Some((key.clone(), Instant::now()));
        Ok(Some(key))
    }

    async fn rejected(&self, key: &Secret) -> bool {
        let mut cached = self.cached.lock().await;
        if cached.as_ref().is_some_and(|(current, _)| current == key) {
            *cached = None;
        }
        true
    }
}

async fn read_key(source: impl tokio::io::AsyncRead + Unpin) -> std::io::Result<Secret> {
    let mut text = String::new();
    source.take(MAX_KEY).read_to_string(&mut text).await?;
    Ok(Secret::new(text))
}

fn checked(text: &str, origin: impl Fn() -> String) -> Result<Secret, KeyError> {
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeyError::Unusable { origin: origin() });
    }
    Ok(Secret::new(key))
}
