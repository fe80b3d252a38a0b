//! A provider for tests that confines **nothing**: the guest program as an ordinary process of the
//! caller, over folders beneath a directory of the test.
//!
//! It lets everything that speaks the [`Guest`](crate::Guest) contract be tested without
//! namespaces, quickly and anywhere. Commands see the whole machine; `/workspace` as a working
//! folder is mapped to the test's folder, but inside a command's own text it means nothing.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moat_core::{Epoch, Metered, SandboxLimits};
use moat_guest::{GuestConfig, GuestLimits, RawBytes, RootPaths};
use rustix::process::{Pid, Signal, getegid, geteuid, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::{
    ByteStream, Guest, GuestClient, GuestError, Provider, Sandbox, SandboxError, SandboxSpec,
    connect_inside,
};

/// How long an ended guest may take to go.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Starts guests as ordinary processes. See the module's text: nothing is confined.
#[derive(Debug)]
pub struct PlainProvider {
    base: PathBuf,
    /// Who commands run as.
    user: (u32, u32),
}

/// A guest that runs as an ordinary process.
pub struct PlainSandbox {
    handle: Handle,
    epoch: Epoch,
    client: Arc<GuestClient>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Handle {
    dir: PathBuf,
    pid: i32,
}

impl Handle {
    fn parse(handle: &Value) -> Result<Self, SandboxError> {
        Self::deserialize(handle).map_err(|error| setup("read the handle", &error))
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    fn kill(&self) {
        // Only a guest: the id may be another's by now.
        let name = std::fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        if let (Some(pid), "moat-guest") = (Pid::from_raw(self.pid), name.trim_end()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl PlainProvider {
    /// Keeps sandboxes in folders beneath `base`, which has to be short enough for the path of a
    /// socket (about 60 bytes).
    pub fn new(base: &Path) -> Self {
        Self { base: base.to_owned(), user: (geteuid().as_raw(), getegid().as_raw()) }
    }

    /// Has commands run as another user and group, which only root can do. `base` has to be
    /// passable for that user.
    #[must_use]
    pub fn with_user(self, uid: u32, gid: u32) -> Self {
        Self { user: (uid, gid), ..self }
    }

    /// The folder that stands for a root of a sandbox.
    pub fn root(handle: &Value, root: crate::Root) -> Result<PathBuf, SandboxError> {
        Ok(Handle::parse(handle)?.dir.join(folder(root)))
    }

    /// Kills the guest at once, as a machine that fails would. Its folder stays.
    pub fn kill(handle: &Value) -> Result<(), SandboxError> {
        Handle::parse(handle)?.kill();
        Ok(())
    }

    async fn start(&self, spec: &SandboxSpec) -> Result<Handle, SandboxError> {
        check(spec)?;
        let failed = |step: &'static str| move |error: io::Error| setup(step, &error);
        std::fs::create_dir_all(&self.base).map_err(failed("make the base folder"))?;
        let dir = tempfile::Builder::new().prefix("s").rand_bytes(8).tempdir_in(&self.base);
        let dir = dir.map_err(failed("make the sandbox's folder"))?.keep();
        for root in [crate::Root::Workspace, crate::Root::Home, crate::Root::Outputs] {
            std::fs::create_dir(dir.join(folder(root))).map_err(failed("make the roots"))?;
        }
        self.give_roots(&dir).map_err(failed("give the roots to the commands' user"))?;
        let config = serde_json::to_vec(&config(spec, &dir, self.user))
            .map_err(|error| setup("write the configuration", &error))?;
        std::fs::write(dir.join("config"), config).map_err(failed("write the configuration"))?;
        std::fs::write(dir.join("bytes"), moat_guest::program())
            .map_err(failed("write the program"))?;
        let listener = UnixListener::bind(dir.join("socket")).map_err(failed("make the socket"))?;
        // The shell copies the program: were this process to have it open for writing, a fork of
        // another thread at that moment would make it impossible to start.
        let script = "cp bytes guest && chmod 700 guest && \
                      exec 3<&0 4<config 0</dev/null && exec ./guest";
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .current_dir(&dir)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed("start the guest"))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| setup("start the guest", &"it ended at once"))?;
        Ok(Handle { dir, pid })
    }

    fn give_roots(&self, dir: &Path) -> io::Result<()> {
        if self.user.0 == geteuid().as_raw() {
            return Ok(());
        }
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711))?;
        for root in [crate::Root::Workspace, crate::Root::Home] {
            std::os::unix::fs::chown(dir.join(folder(root)), Some(self.user.0), Some(self.user.1))?;
        }
        Ok(())
    }

    async fn connect(handle: &Handle, epoch: Epoch) -> Result<Option<GuestClient>, SandboxError> {
        let stream = match UnixStream::connect(handle.socket()).await {
            Ok(stream) => stream,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(setup("reach the guest", &error)),
        };
        match GuestClient::connect(stream, epoch).await {
            Ok(client) => Ok(Some(client)),
            // It ended between the connection and its answer.
            Err(GuestError::Disconnected(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl Provider for PlainProvider {
    fn name(&self) -> &'static str {
        "plain"
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Sandbox>, SandboxError> {
        let handle = self.start(spec).await?;
        let client = Self::connect(&handle, spec.epoch).await?;
        let client = client.ok_or_else(|| setup("reach the guest", &"it ended at once"))?;
        Ok(Box::new(PlainSandbox { handle, epoch: spec.epoch, client: Arc::new(client) }))
    }

    async fn reattach(
        &self,
        handle: &Value,
        epoch: Epoch,
    ) -> Result<Option<Box<dyn Sandbox>>, SandboxError> {
        let handle = Handle::parse(handle)?;
        let client = Self::connect(&handle, epoch).await?;
        Ok(client.map(|client| {
            Box::new(PlainSandbox { handle, epoch, client: Arc::new(client) }) as Box<dyn Sandbox>
        }))
    }

    async fn destroy(&self, handle: &Value) -> Result<(), SandboxError> {
        let handle = Handle::parse(handle)?;
        // Whatever epoch it knows: this is its end.
        if let Ok(Some(client)) = Self::connect(&handle, Epoch(u64::MAX)).await
            && client.shutdown().await.is_ok()
        {
            let _ = tokio::time::timeout(END_LIMIT, client.closed()).await;
        }
        handle.kill();
        match std::fs::remove_dir_all(&handle.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(setup("remove the sandbox's folder", &error))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Sandbox for PlainSandbox {
    fn handle(&self) -> Value {
        serde_json::json!({ "dir": self.handle.dir, "pid": self.handle.pid })
    }

    fn guest(&self) -> Arc<dyn Guest> {
        Arc::clone(&self.client) as Arc<dyn Guest>
    }

    fn missing_fences(&self) -> &[String] {
        &[]
    }

    async fn connect(&self, port: u16) -> Result<Box<dyn ByteStream>, SandboxError> {
        let stream = UnixStream::connect(self.handle.socket()).await;
        let stream = stream.map_err(|error| setup("reach the guest", &error))?;
        Ok(connect_inside(stream, self.client.nonce(), self.epoch, port).await?)
    }

    async fn metered(&self) -> Result<Metered, SandboxError> {
        Ok(self.client.metered().await?)
    }

    async fn pause(&self) -> Result<(), SandboxError> {
        Ok(self.client.pause().await?)
    }

    async fn resume(&self) -> Result<(), SandboxError> {
        Ok(self.client.resume().await?)
    }
}

fn config(spec: &SandboxSpec, dir: &Path, (uid, gid): (u32, u32)) -> GuestConfig {
    let path = |root| RawBytes::from_path(&dir.join(folder(root)));
    let home = dir.join(folder(crate::Root::Home)).to_string_lossy().into_owned();
    let mut environment: BTreeMap<_, _> =
        [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", home.as_str()), ("LANG", "C.UTF-8")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    environment.extend(spec.environment.clone());
    GuestConfig {
        epoch: spec.epoch.0,
        orphan_grace_ms: u64::try_from(spec.orphan_grace.as_millis()).unwrap_or(u64::MAX),
        start_grace_ms: 30_000,
        roots: RootPaths {
            workspace: path(crate::Root::Workspace),
            home: path(crate::Root::Home),
            outputs: path(crate::Root::Outputs),
        },
        outputs_fd: None,
        network_fds: Vec::new(),
        uid,
        gid,
        groups: Vec::new(),
        capabilities: 0,
        users: BTreeMap::new(),
        environment,
        output_spool: 1 << 20,
        max_processes: 128,
        limits: limits(&spec.limits),
    }
}

/// What the guest itself can hold commands to.
fn limits(limits: &SandboxLimits) -> GuestLimits {
    GuestLimits {
        memory_bytes: limits.memory_bytes,
        pids: limits.pids,
        cpu_time_ms: limits.cpu_time_ms,
        wall_ms: limits.wall_ms,
        output_bytes: limits.output_bytes,
        open_files: limits.open_files,
        file_bytes: limits.file_bytes,
        disk_bytes: limits.disk_bytes,
        disk_inodes: limits.disk_inodes,
        ..GuestLimits::default()
    }
}

/// It has neither control groups nor file systems of its own.
fn check(spec: &SandboxSpec) -> Result<(), SandboxError> {
    let limits = &spec.limits;
    let cannot = [
        (limits.cpu_millis.is_some(), "hold a share of the processor"),
        (!spec.mounts.is_empty(), "show folders of the host"),
        (limits.swap_bytes.is_some(), "limit swap"),
        (limits.tmp_bytes.is_some() || limits.tmp_inodes.is_some(), "limit `/tmp`"),
    ];
    match cannot.into_iter().find(|(wanted, _)| *wanted) {
        Some((_, what)) => Err(GuestError::Unsupported(what.to_owned()).into()),
        None => Ok(()),
    }
}

fn folder(root: crate::Root) -> &'static str {
    match root {
        crate::Root::Workspace => "workspace",
        crate::Root::Home => "home",
        crate::Root::Outputs => "outputs",
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn setup(step: &str, error: &dyn std::fmt::Display) -> SandboxError {
    SandboxError::Setup { step: step.to_owned(), message: error.to_string() }
}
