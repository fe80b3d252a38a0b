//! What all tests of the guest start from.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use moat_core::{CallKey, Epoch, RunId, Seq};
use moat_sandbox::plain::PlainProvider;
use moat_sandbox::{Command, Guest, OutputStream, ProcessEvent, ProcessExit, Provider, Root};
use moat_sandbox::{Sandbox, SandboxSpec};
use serde_json::Value;
use tokio::sync::mpsc::Receiver;

/// A guest in a temporary folder.
pub(crate) struct Bench {
    pub(crate) provider: PlainProvider,
    pub(crate) sandbox: Option<Box<dyn Sandbox>>,
    pub(crate) guest: Arc<dyn Guest>,
    pub(crate) handle: Value,
    run: RunId,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with_grace(Duration::from_secs(20)).await
    }

    pub(crate) async fn with_grace(orphan_grace: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let provider = PlainProvider::new(folder.path());
        Self::create(folder, provider, orphan_grace).await
    }

    /// As in a sandbox that root made: the guest is root, commands are somebody else. `None` where
    /// the tests do not run as root.
    pub(crate) async fn with_other_user(uid: u32) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let passable = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(folder.path(), passable).unwrap();
        let provider = PlainProvider::new(folder.path()).with_user(uid, uid);
        Some(Self::create(folder, provider, Duration::from_secs(20)).await)
    }

    async fn create(
        folder: tempfile::TempDir,
        provider: PlainProvider,
        orphan_grace: Duration,
    ) -> Self {
        let run = RunId::generate();
        let spec = SandboxSpec {
            orphan_grace,
            environment: BTreeMap::from([("FROM_SPEC".to_owned(), "yes".to_owned())]),
            ..SandboxSpec::new(run, Epoch(5))
        };
        let sandbox = provider.create(&spec).await.unwrap();
        let (guest, handle) = (sandbox.guest(), sandbox.handle());
        Self { provider, sandbox: Some(sandbox), guest, handle, run, _folder: folder }
    }

    pub(crate) fn key(&self, seq: u64) -> CallKey {
        CallKey { run: self.run, seq: Seq(seq), index: 0, attempt: 1 }
    }

    pub(crate) fn shell(&self, seq: u64, script: &str) -> Command {
        Command {
            key: self.key(seq),
            argv: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            cwd: "/workspace".into(),
            environment: BTreeMap::new(),
            tty: None,
            user: None,
        }
    }

    /// Runs a script to its end.
    pub(crate) async fn run(&self, seq: u64, script: &str) -> Heard {
        let command = self.shell(seq, script);
        self.guest.start(&command).await.unwrap();
        Heard::all(&mut self.guest.attach(command.key, 0).await.unwrap()).await
    }

    /// The folder that is `/workspace` inside.
    pub(crate) fn workspace(&self) -> PathBuf {
        PlainProvider::root(&self.handle, Root::Workspace).unwrap()
    }

    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        let path = self.workspace().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn get(&self, path: impl AsRef<Path>) -> Vec<u8> {
        std::fs::read(self.workspace().join(path)).unwrap()
    }

    pub(crate) fn is_root(&self) -> bool {
        is_root()
    }

    pub(crate) fn pid(&self) -> u64 {
        self.handle["pid"].as_u64().unwrap()
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = PlainProvider::kill(&self.handle);
    }
}

/// What was heard from a process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) exit: Option<ProcessExit>,
}

impl Heard {
    /// Hears a process to its end.
    pub(crate) async fn all(events: &mut Receiver<ProcessEvent>) -> Self {
        let mut heard = Self::default();
        while let Some(event) = next(events).await {
            heard.add(event);
        }
        heard
    }

    fn add(&mut self, event: ProcessEvent) {
        match event {
            ProcessEvent::Output { offset, stream, bytes } => {
                assert_eq!(offset, (self.stdout.len() + self.stderr.len()) as u64);
                match stream {
                    OutputStream::Stdout => self.stdout.extend(bytes),
                    OutputStream::Stderr => self.stderr.extend(bytes),
                }
            }
            ProcessEvent::Exited(exit) => self.exit = Some(exit),
            ProcessEvent::Disconnected => panic!("the connection is gone"),
        }
    }

    pub(crate) fn code(&self) -> i32 {
        self.exit.as_ref().unwrap().code
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// The next event, or an end to the test if there is none for long.
pub(crate) async fn next(events: &mut Receiver<ProcessEvent>) -> Option<ProcessEvent> {
    tokio::time::timeout(Duration::from_secs(20), events.recv()).await.expect("nothing is heard")
}

/// Reads until the text is in the output; gives all output.
pub(crate) async fn until(events: &mut Receiver<ProcessEvent>, text: &str) -> String {
    let mut all = Vec::new();
    loop {
        let output = String::from_utf8_lossy(&all).into_owned();
        if output.contains(text) {
            return output;
        }
        match next(events).await {
            Some(ProcessEvent::Output { bytes, .. }) => all.extend(bytes),
            other => panic!("{other:?} before `{text}` in `{output}`"),
        }
    }
}
