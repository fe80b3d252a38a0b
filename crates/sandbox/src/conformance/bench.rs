use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moat_core::{CallKey, Epoch, RunId, Seq};
use serde_json::Value;

use crate::{
    Command, Guest, GuestError, OutputStream, ProcessEvent, ProcessExit, Provider, Sandbox,
    SandboxError, SandboxSpec,
};

/// Why a check failed.
#[derive(Debug)]
pub(super) struct Problem(pub(super) String);

impl From<GuestError> for Problem {
    fn from(error: GuestError) -> Self {
        Self(format!("the guest: {error}"))
    }
}

impl From<SandboxError> for Problem {
    fn from(error: SandboxError) -> Self {
        Self(format!("the provider: {error}"))
    }
}

/// A grace within which a check is certainly done.
pub(super) const LONG: Duration = Duration::from_secs(120);

/// Longer than anything takes that happens at once.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// A provider, and what was made with it.
pub(super) struct Bench<'a> {
    pub(super) provider: &'a dyn Provider,
    made: Mutex<Vec<Value>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(provider: &'a dyn Provider) -> Self {
        Self { provider, made: Mutex::default() }
    }

    /// A sandbox that outlives everything the check does.
    pub(super) async fn sandbox(&self) -> Result<Lab, Problem> {
        self.sandbox_with(LONG, BTreeMap::new()).await
    }

    pub(super) async fn sandbox_with(
        &self,
        orphan_grace: Duration,
        environment: BTreeMap<String, String>,
    ) -> Result<Lab, Problem> {
        let run = RunId::generate();
        let spec = SandboxSpec { orphan_grace, environment, ..SandboxSpec::new(run, Epoch(1)) };
        Ok(self.make(&spec).await?)
    }

    /// A sandbox as said.
    pub(super) async fn make(&self, spec: &SandboxSpec) -> Result<Lab, SandboxError> {
        let lab = Lab::new(spec.run, self.provider.create(spec).await?);
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(lab.sandbox.handle());
        Ok(lab)
    }

    /// Connects to a sandbox again.
    pub(super) async fn reattach(
        &self,
        run: RunId,
        handle: &Value,
        epoch: u64,
    ) -> Result<Option<Lab>, Problem> {
        let found = self.provider.reattach(handle, Epoch(epoch)).await?;
        Ok(found.map(|sandbox| Lab::new(run, sandbox)))
    }

    /// Waits until a sandbox is gone; `pause` is left between looks, each of which connects to one
    /// that is there.
    pub(super) async fn gone(&self, handle: &Value, pause: Duration) -> Result<bool, Problem> {
        let start = Instant::now();
        while start.elapsed() < SOON {
            match self.provider.reattach(handle, Epoch(1_000)).await {
                Ok(None) => return Ok(true),
                Ok(Some(_)) => {}
                // It is just ending.
                Err(SandboxError::Guest(GuestError::Disconnected(_))) => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause).await;
        }
        Ok(false)
    }

    /// Ends everything that was made.
    pub(super) async fn clear(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in made {
            // A sandbox that cannot be ended is what a check of its own is for.
            let _ = self.provider.destroy(&handle).await;
        }
    }
}

/// A sandbox to work in.
pub(super) struct Lab {
    pub(super) run: RunId,
    pub(super) sandbox: Box<dyn Sandbox>,
    pub(super) guest: Arc<dyn Guest>,
}

/// Keys of one process of the harness never repeat.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A command that ended, and all it said.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) exit: ProcessExit,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Finished {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Lab {
    fn new(run: RunId, sandbox: Box<dyn Sandbox>) -> Self {
        let guest = sandbox.guest();
        Self { run, sandbox, guest }
    }

    pub(super) fn key(&self) -> CallKey {
        let seq = Seq(NEXT.fetch_add(1, Ordering::Relaxed));
        CallKey { run: self.run, seq, index: 0, attempt: 1 }
    }

    pub(super) fn command(&self, argv: &[&str]) -> Command {
        Command {
            key: self.key(),
            argv: argv.iter().map(|text| (*text).to_owned()).collect(),
            cwd: PathBuf::from("/workspace"),
            environment: BTreeMap::new(),
            tty: None,
            user: None,
        }
    }

    pub(super) fn shell(&self, script: &str) -> Command {
        self.command(&["/bin/sh", "-c", script])
    }

    /// Starts a script and does not wait.
    pub(super) async fn start(&self, script: &str) -> Result<CallKey, Problem> {
        let command = self.shell(script);
        self.guest.start(&command).await?;
        Ok(command.key)
    }

    /// Runs a script to its end.
    pub(super) async fn sh(&self, script: &str) -> Result<Finished, Problem> {
        self.finish(&self.shell(script)).await
    }

    /// The same, and it has to succeed; answers what it said.
    pub(super) async fn ask(&self, script: &str) -> Result<String, Problem> {
        let finished = self.sh(script).await?;
        let said = String::from_utf8_lossy(&finished.stderr);
        ensure!(finished.exit.code == 0, "`{script}` ended with {:?}: {said}", finished.exit);
        Ok(finished.text())
    }

    /// Runs a command to its end.
    pub(super) async fn finish(&self, command: &Command) -> Result<Finished, Problem> {
        self.guest.start(command).await?;
        self.collect(command.key, 0).await
    }

    /// Everything a process says from an offset on, and how it ends.
    pub(super) async fn collect(&self, key: CallKey, offset: u64) -> Result<Finished, Problem> {
        let mut events = self.guest.attach(key, offset).await?;
        let (mut stdout, mut stderr, mut expected) = (Vec::new(), Vec::new(), offset);
        loop {
            let event = tokio::time::timeout(SOON, events.recv()).await;
            match event.map_err(|_| Problem("nothing is heard of the process".to_owned()))? {
                Some(ProcessEvent::Output { offset, stream, bytes }) => {
                    ensure!(offset == expected, "output at {offset} instead of {expected}");
                    expected += bytes.len() as u64;
                    match stream {
                        OutputStream::Stdout => stdout.extend(bytes),
                        OutputStream::Stderr => stderr.extend(bytes),
                    }
                    self.guest.acknowledge(key, expected).await?;
                }
                Some(ProcessEvent::Exited(exit)) => return Ok(Finished { exit, stdout, stderr }),
                Some(ProcessEvent::Disconnected) | None => {
                    return Err(Problem("the connection ended".to_owned()));
                }
            }
        }
    }

    /// Waits until a script succeeds.
    pub(super) async fn until(&self, script: &str) -> Result<(), Problem> {
        let start = Instant::now();
        while start.elapsed() < SOON {
            if self.sh(script).await?.exit.code == 0 {
                return Ok(());
            }
        }
        Err(Problem(format!("`{script}` never came true")))
    }

    /// A whole file of a root.
    pub(super) async fn read(&self, root: crate::Root, path: &str) -> Result<Vec<u8>, GuestError> {
        self.guest.read_at(root, Path::new(path), 0, 1 << 20).await
    }
}
