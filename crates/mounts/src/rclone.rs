//! Rclone, told by a configuration file that only the caller can read.

mod passwords;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use moat_core::{RemoteRecord, Secret};
use moat_sandbox::materialise::CredentialSource;
use tokio::process::{Child, Command};

use crate::error::MountError;

/// How long a mount may take to be there.
const MOUNTED_WITHIN: Duration = Duration::from_secs(20);
/// How long copying may take.
const COPIED_WITHIN: Duration = Duration::from_secs(3600);
/// Bytes of what rclone says that are shown.
const SAID: u64 = 2000;
/// Where programs are looked for: not where the caller's environment says.
const PROGRAMS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How long it waits for a connection, and for what comes through one.
const WAITS: [&str; 4] = ["--contimeout", "10s", "--timeout", "60s"];
/// The name of the only remote in a configuration.
const REMOTE: &str = "moat";
const CONFIGURATION: &str = "rclone.conf";

fn find(name: &str) -> Option<PathBuf> {
    PROGRAMS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

pub(crate) fn program() -> Result<PathBuf, MountError> {
    find("rclone").ok_or(MountError::Missing {
        program: "rclone",
        needs: "storage elsewhere is reached with it",
        install: "Debian: apt-get install rclone",
    })
}

/// What takes mounts away, for ordinary users as well.
pub(crate) fn unmounter() -> Option<PathBuf> {
    find("fusermount3").or_else(|| find("fusermount"))
}

/// What this host can do with storage elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountsStatus {
    /// Whether entries can be copied; if not, why, and what to do about it.
    pub copies: Result<(), String>,
    /// The same of mounting them.
    pub mounts: Result<(), String>,
}

/// Looks what this host can do with storage elsewhere. Starts nothing.
pub fn status() -> MountsStatus {
    let text = |error: MountError| error.to_string();
    MountsStatus { copies: program().map(drop).map_err(text), mounts: can_mount().map_err(text) }
}

/// Whether this host can mount.
pub(crate) fn can_mount() -> Result<(), MountError> {
    program()?;
    if unmounter().is_none() {
        return Err(MountError::Missing {
            program: "fusermount3",
            needs: "mounts are made with it",
            install: "Debian: apt-get install fuse3; `strategy: copy` works without",
        });
    }
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    device.map_err(|source| MountError::NoFuse { source })?;
    if rustix::process::geteuid().is_root() || lets_others_see() {
        return Ok(());
    }
    Err(MountError::NotForOthers)
}

/// Whether what ordinary users mount may be seen by other users, as those of their sandboxes are.
fn lets_others_see() -> bool {
    let text = std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    text.lines().any(|line| line.trim() == "user_allow_other")
}

/// What an rclone whose folder is `own` finds in its environment.
pub(crate) fn environment(own: &Path) -> [(&'static str, OsString); 4] {
    [
        ("PATH", PROGRAMS.join(":").into()),
        ("HOME", own.into()),
        ("RCLONE_CONFIG", own.join(CONFIGURATION).into()),
        ("RCLONE_CACHE_DIR", own.join("cache").into()),
    ]
}

/// How rclone is told to mount.
pub(crate) fn mount_arguments(remote: &str, at: &Path, read_only: bool) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["mount", "--vfs-cache-mode", "writes"].map(Into::into).into();
    // What was written is uploaded this long after it was closed, and seen this late if it changed there.
    arguments.extend(["--vfs-write-back", "1s", "--dir-cache-time", "10s"].map(Into::into));
    // Users of the sandbox are others than the caller, also where the caller is no root and the host
    // lends him ids.
    arguments.extend(["--umask", "000", "--allow-other"].map(Into::into));
    arguments.extend(WAITS.map(Into::into));
    if read_only {
        arguments.push("--read-only".into());
    }
    arguments.extend(["--".into(), remote.into(), at.into()]);
    arguments
}

/// A remote with the values of its secrets, in a folder of its own.
pub(crate) struct Configured {
    folder: PathBuf,
    secrets: Vec<Secret>,
    /// What rclone is given: the remote's name and the path.
    pub(crate) remote: String,
    /// The same for people.
    shown: String,
}

impl Configured {
    /// Writes the configuration.
    pub(crate) async fn write(
        folder: &Path,
        remote: &RemoteRecord,
        credentials: &CredentialSource,
    ) -> Result<Self, MountError> {
        let mut text = format!("[{REMOTE}]\ntype = {}\n", one_line(&remote.backend));
        for (name, value) in &remote.options {
            let _ = writeln!(text, "{} = {}", one_line(name), one_line(value));
        }
        let mut secrets = Vec::new();
        let passwords = passwords::of(folder, remote).await?;
        for (option, name) in &remote.secrets {
            let failed = |reason: String| MountError::Credential { name: name.clone(), reason };
            let source = credentials.0.as_ref();
            let source = source.ok_or_else(|| failed("nothing here reads credentials".into()))?;
            let value = source.read(name).await.map_err(failed)?;
            let mut packed = pack(value.expose()).map_err(failed)?;
            if passwords.contains(option) {
                packed = passwords::obscured(folder, &value).await.map_err(failed)?;
                secrets.push(Secret::new(&*packed));
            }
            let _ = writeln!(text, "{} = {packed}", one_line(option));
            secrets.push(value);
        }
        let path = folder.join(CONFIGURATION);
        let write = || -> io::Result<()> {
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())
        };
        write().map_err(MountError::folder("write", &path))?;
        Ok(Self {
            folder: folder.to_owned(),
            secrets,
            remote: format!("{REMOTE}:{}", remote.path),
            shown: format!("{}:{}", remote.backend, remote.path),
        })
    }

    fn command(&self) -> Result<Command, MountError> {
        command(&self.folder)
    }

    fn log(&self) -> Result<File, MountError> {
        let path = self.folder.join("rclone.log");
        let open = File::options().create(true).append(true).mode(0o600).open(&path);
        open.map_err(MountError::folder("write", &path))
    }

    /// The end of what rclone said, without credentials.
    fn said(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(self.folder.join("rclone.log"))?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(SAID)))?;
            let mut bytes = Vec::new();
            file.take(SAID).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let mut said = read().unwrap_or_default();
        for secret in self.secrets.iter().filter(|secret| !secret.expose().is_empty()) {
            said = said.replace(secret.expose(), "[masked]");
        }
        let said = said.trim();
        if said.is_empty() { "it said nothing".to_owned() } else { said.to_owned() }
    }

    fn failed(&self, message: String) -> MountError {
        MountError::Rclone { remote: self.shown.clone(), message }
    }

    /// Copies everything into a folder.
    pub(crate) async fn copy(&self, into: &Path) -> Result<(), MountError> {
        // What cannot be reached is said soon, not after all that is tried while copying.
        self.is_reachable().await?;
        let log = self.log()?;
        let mut command = self.command()?;
        command
            .args(["copy", "--retries", "2", "--low-level-retries", "3"])
            .args(["--create-empty-src-dirs", "--transfers", "8"])
            .args(WAITS)
            .args(["--", &self.remote])
            .arg(into)
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| self.failed(error.to_string()))?;
        match tokio::time::timeout(COPIED_WITHIN, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(_)) => Err(self.failed(self.said())),
            Ok(Err(error)) => Err(self.failed(error.to_string())),
            Err(_) => Err(self.late("was not copied", COPIED_WITHIN)),
        }
    }

    fn late(&self, what: &'static str, within: Duration) -> MountError {
        let (remote, seconds) = (self.shown.clone(), within.as_secs());
        MountError::Late { remote, what, seconds, message: self.said() }
    }

    /// Mounts it, and waits until it is there. What runs then goes on when this process ends.
    pub(crate) async fn mount(&self, at: &Path, read_only: bool) -> Result<u32, MountError> {
        can_mount()?;
        self.is_reachable().await?;
        let log = self.log()?;
        let mut command = self.command()?;
        command.args(mount_arguments(&self.remote, at, read_only));
        command.stdout(Stdio::null()).stderr(log);
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| self.failed(error.to_string()))?;
        let pid = child.id().unwrap_or_default();
        match tokio::time::timeout(MOUNTED_WITHIN, self.until_mounted(&mut child, at)).await {
            Ok(Ok(())) => {
                // Its end is nobody's business here: the reaper looks for it by its number.
                tokio::spawn(async move { child.wait().await });
                Ok(pid)
            }
            Ok(Err(())) => Err(self.failed(self.said())),
            Err(_) => {
                let _ = child.kill().await;
                crate::table::unmount(at);
                Err(self.late("was not mounted", MOUNTED_WITHIN))
            }
        }
    }

    /// Rclone mounts what is not there as an empty folder; a wrong key would first be noticed by a
    /// command.
    async fn is_reachable(&self) -> Result<(), MountError> {
        let log = self.log()?;
        let mut command = self.command()?;
        command
            .args(["lsf", "--max-depth", "1", "--retries", "1", "--low-level-retries", "2"])
            .args(WAITS)
            .args(["--", &self.remote])
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| self.failed(error.to_string()))?;
        match tokio::time::timeout(MOUNTED_WITHIN, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(_) => Err(self.failed(self.said())),
            Err(_) => {
                let _ = child.kill().await;
                Err(self.late("did not answer", MOUNTED_WITHIN))
            }
        }
    }

    async fn until_mounted(&self, child: &mut Child, at: &Path) -> Result<(), ()> {
        loop {
            if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return Err(());
            }
            if crate::table::is_mounted(at) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Rclone, with nothing of this process's environment.
fn command(own: &Path) -> Result<Command, MountError> {
    let mut command = Command::new(program()?);
    command.env_clear().envs(environment(own)).current_dir(own).stdin(Stdio::null());
    Ok(command)
}

/// A value of a configuration stands in one line; what has more was refused before.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A secret as a value: JSON keys of service accounts may be written over several lines.
fn pack(value: &str) -> Result<String, String> {
    if !value.contains(['\n', '\r']) {
        return Ok(value.to_owned());
    }
    let parsed: serde_json::Value = serde_json::from_str(value)
        .map_err(|_| "its value has several lines and is no JSON".to_owned())?;
    Ok(parsed.to_string())
}
