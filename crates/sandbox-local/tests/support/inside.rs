//! A sandbox to run commands in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use moat_core::{CallKey, Epoch, RunId, Seq};
use moat_sandbox::{
    Command, Guest, OutputStream, ProcessEvent, Provider as _, Sandbox, SandboxError, SandboxSpec,
};
use moat_sandbox_local::{LocalOptions, LocalProvider};

pub(crate) struct Inside {
    pub(crate) provider: LocalProvider,
    pub(crate) sandbox: Box<dyn Sandbox>,
    pub(crate) guest: Arc<dyn Guest>,
    run: RunId,
    top: tempfile::TempDir,
}

impl Inside {
    pub(crate) async fn new(change: impl FnOnce(&mut SandboxSpec)) -> Self {
        Self::with(|_| (), change).await.unwrap()
    }

    pub(crate) async fn with(
        configure: impl FnOnce(&mut LocalOptions),
        change: impl FnOnce(&mut SandboxSpec),
    ) -> Result<Self, SandboxError> {
        let top = tempfile::tempdir().unwrap();
        let mut options = LocalOptions::new(super::state_folder(top.path()));
        configure(&mut options);
        let provider = LocalProvider::new(options).unwrap();
        let run = RunId::generate();
        let mut spec = SandboxSpec {
            orphan_grace: Duration::from_secs(60),
            ..SandboxSpec::new(run, Epoch(1))
        };
        change(&mut spec);
        let sandbox = provider.create(&spec).await?;
        let guest = sandbox.guest();
        Ok(Self { provider, sandbox, guest, run, top })
    }

    /// Where its provider keeps everything.
    #[allow(dead_code, reason = "not every test looks there")]
    pub(crate) fn top(&self) -> &std::path::Path {
        self.top.path()
    }

    pub(crate) async fn start(&self, argv: &[&str]) -> CallKey {
        let listed = self.guest.processes().await.unwrap().len() as u64;
        let key = CallKey { run: self.run, seq: Seq(listed + 1), index: 0, attempt: 1 };
        let command = Command {
            key,
            argv: argv.iter().map(|text| (*text).to_owned()).collect(),
            cwd: PathBuf::from("/workspace"),
            environment: BTreeMap::new(),
            tty: None,
            user: None,
        };
        self.guest.start(&command).await.unwrap();
        key
    }

    /// Runs a command to its end; its exit code and all that it said on standard output.
    pub(crate) async fn run(&self, argv: &[&str]) -> (i32, String) {
        let key = self.start(argv).await;
        let mut events = self.guest.attach(key, 0).await.unwrap();
        let mut said = Vec::new();
        let mut read = 0;
        loop {
            match events.recv().await.unwrap() {
                ProcessEvent::Output { bytes, stream, offset } => {
                    read = offset + bytes.len() as u64;
                    if stream == OutputStream::Stdout {
                        said.extend(bytes);
                    }
                }
                ProcessEvent::Exited(exit) => {
                    self.guest.acknowledge(key, read).await.unwrap();
                    return (exit.code, String::from_utf8_lossy(&said).into_owned());
                }
                ProcessEvent::Disconnected => panic!("the guest is gone"),
            }
        }
    }

    pub(crate) async fn sh(&self, script: &str) -> (i32, String) {
        self.run(&["/bin/sh", "-c", script]).await
    }
}
