//! Which files commands have mapped: what every provider's guest has to see, by a program in C that
//! maps one. Included by the tests of providers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command as HostCommand;
use std::sync::Arc;
use std::time::Duration;

use moat_core::{CallKey, Epoch, RunId, Seq};
use moat_sandbox::{Command, Guest, Provider, Root, SandboxSpec};

/// Maps its file to write it, takes the right to write away from the mapping, as it may give it back,
/// says so by another file, and stays. Maps the other one for itself alone.
const MAPPER: &str = r#"
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
    int file = open("mapped", O_RDWR), other = open("read", O_RDONLY);
    char *bytes = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *others = mmap(0, 4096, PROT_READ, MAP_PRIVATE, other, 0);
    if (bytes == MAP_FAILED || others == MAP_FAILED) return 1;
    close(file);
    bytes[0] = others[0];
    if (mprotect(bytes, 4096, PROT_READ)) return 1;
    close(open("ready", O_CREAT | O_WRONLY, 0600));
    pause();
    return 0;
}
"#;

fn program() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (code, program) = (folder.path().join("mapper.c"), folder.path().join("mapper"));
    std::fs::write(&code, MAPPER).unwrap();
    // Static, because an image has no libraries.
    let built =
        HostCommand::new("cc").args(["-O1", "-static", "-o"]).args([&program, &code]).status();
    assert!(built.unwrap().success(), "the mapper cannot be built");
    std::fs::read(program).unwrap()
}

/// A guest names the file that a command has mapped to write, and no other, for as long as it has.
pub(crate) async fn mapped_files_are_named(provider: &dyn Provider) {
    let run = RunId::generate();
    let sandbox = provider.create(&SandboxSpec::new(run, Epoch(1))).await.unwrap();
    let guest = sandbox.guest();
    for (path, content, mode) in [
        ("mapper", program(), 0o755),
        ("mapped", vec![b'.'; 4096], 0o600),
        ("read", vec![b'x'; 4096], 0o600),
    ] {
        guest.write(Root::Workspace, Path::new(path), &content, mode).await.unwrap();
    }
    let nothing = guest.mapped().await.unwrap();
    assert!(nothing.inodes.is_empty() && !nothing.others, "{nothing:?}");
    let key = CallKey { run, seq: Seq(1), index: 0, attempt: 1 };
    let command = Command {
        key,
        argv: vec!["/workspace/mapper".to_owned()],
        cwd: PathBuf::from("/workspace"),
        environment: BTreeMap::new(),
        tty: None,
        user: None,
    };
    guest.start(&command).await.unwrap();
    until(async || exists(&guest, "ready").await).await;
    guest.freeze().await.unwrap();
    let mapped = guest.mapped().await.unwrap();
    guest.thaw().await.unwrap();
    assert!(!mapped.others, "a process could not be looked at: {mapped:?}");
    assert!(mapped.may_hold(inode(&guest, "mapped").await), "{mapped:?}");
    assert!(!mapped.may_hold(inode(&guest, "read").await), "{mapped:?}");
    guest.signal(key, 9).await.unwrap();
    until(async || guest.mapped().await.unwrap().inodes.is_empty()).await;
    provider.destroy(&sandbox.handle()).await.unwrap();
}

async fn exists(guest: &Arc<dyn Guest>, path: &str) -> bool {
    guest.stat(Root::Workspace, Path::new(path)).await.unwrap().is_some()
}

async fn inode(guest: &Arc<dyn Guest>, path: &str) -> u64 {
    guest.stat(Root::Workspace, Path::new(path)).await.unwrap().unwrap().inode
}

async fn until(holds: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came true");
}
