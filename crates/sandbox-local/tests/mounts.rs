//! Folders of the host that a sandbox sees.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use moat_core::{CallKey, Epoch, RunId, Seq};
use moat_sandbox::{
    Command, FolderMount, Guest, ProcessEvent, Provider as _, SandboxError, SandboxSpec,
};

#[test]
fn folders_of_the_host_are_seen_as_root() {
    support::as_root("folders_of_the_host_are_seen_as_root", folders_are_seen);
}

#[test]
fn folders_of_the_host_are_seen_as_ordinary_user() {
    support::as_ordinary_user("folders_of_the_host_are_seen_as_ordinary_user", folders_are_seen);
}

#[test]
fn folders_of_the_host_are_seen_as_user_with_subuids() {
    const NAME: &str = "folders_of_the_host_are_seen_as_user_with_subuids";
    support::as_user_with_subuids(NAME, folders_are_seen);
}

fn mount(source: &Path, target: &str, read_only: bool) -> FolderMount {
    let (source, target) = (source.to_owned(), PathBuf::from(target));
    FolderMount { source, target, read_only, owned: !read_only }
}

fn folders_are_seen() {
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(top.path());
    let [read, written] = ["read", "written"].map(|name| {
        let folder = top.path().join(name);
        fs::create_dir_all(folder.join("deep")).unwrap();
        fs::write(folder.join("deep/a.txt"), name).unwrap();
        folder
    });
    std::os::unix::fs::symlink("/etc/shadow", written.join("link")).unwrap();
    let before = fs::metadata("/etc/shadow").unwrap();
    let spec = SandboxSpec {
        mounts: vec![
            mount(&read, "/workspace/in/data", true),
            mount(&written, "/mnt/shared", false),
        ],
        ..SandboxSpec::new(RunId::generate(), Epoch(1))
    };
    runtime().block_on(async {
        let sandbox = provider.create(&spec).await.unwrap();
        let guest = sandbox.guest();
        let script = "cat in/data/deep/a.txt /mnt/shared/deep/a.txt; \
            (echo new > in/data/x) 2>/dev/null && echo wrote; \
            echo new > /mnt/shared/deep/a.txt && touch /mnt/shared/made && mkdir /mnt/shared/d; \
            cat /mnt/shared/link 2>/dev/null; ls /mnt";
        assert_eq!(output(&*guest, script).await, "readwrittenshared\n");
        provider.destroy(&sandbox.handle()).await.unwrap();
    });
    assert_eq!(fs::read_to_string(written.join("deep/a.txt")).unwrap(), "new\n");
    assert!(written.join("made").exists() && !read.join("x").exists());
    assert_eq!(
        fs::read_to_string(read.join("deep/a.txt")).unwrap(),
        "read",
        "it outlives the sandbox"
    );
    let owner = |stat: &fs::Metadata| std::os::unix::fs::MetadataExt::uid(stat);
    let after = fs::metadata("/etc/shadow").unwrap();
    assert_eq!(owner(&before), owner(&after), "no link is followed");

    for target in ["/etc/x", "/workspace", "/workspace/../etc", "/usr/x", "relative"] {
        let spec = SandboxSpec { mounts: vec![mount(&read, target, true)], ..spec.clone() };
        match runtime().block_on(provider.create(&spec)) {
            Err(SandboxError::Setup { .. }) => {}
            other => panic!("{target}: {:?}", other.map(|_| ())),
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn output(guest: &dyn Guest, script: &str) -> String {
    let key = CallKey { run: RunId::generate(), seq: Seq(1), index: 0, attempt: 1 };
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let (cwd, environment) = (PathBuf::from("/workspace"), BTreeMap::new());
    let command = Command { key, argv, cwd, environment, tty: None, user: None };
    guest.start(&command).await.unwrap();
    let mut events = guest.attach(key, 0).await.unwrap();
    let mut said = String::new();
    loop {
        match events.recv().await.unwrap() {
            ProcessEvent::Output { bytes, .. } => said.push_str(&String::from_utf8_lossy(&bytes)),
            ProcessEvent::Exited(_) => return said,
            ProcessEvent::Disconnected => panic!("the guest is gone"),
        }
    }
}
