//! The harness, or the sandbox, is killed in the middle of filling a sandbox from a snapshot: at
//! every step of it that the store can see, before the step and after it, while the guest is
//! receiving files. The next attempt fills another one with all of it, and nothing is left of the
//! first.
//!
//! The other harness is this test program once more. It says which sandbox it fills and that it has
//! come to a step, and waits there for its end.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use moat_blobs::{BlobStore, BlobWriter, FolderBlobs, ReadBlobError, WriteBlobError};
use moat_core::{BlobId, Epoch, RunId, SnapshotId, TenantKey};
use moat_sandbox::checkpoint::{Checkpointer, RestoreError, SkipRules};
use moat_sandbox::{GuestError, Provider as _, Root, Sandbox, SandboxSpec};
use moat_sandbox_local::LocalProvider;
use moat_snapshot::Snapshots;
use serde_json::Value;

const TOP: &str = "MOAT_TEST_TOP";
const SNAPSHOT: &str = "MOAT_TEST_SNAPSHOT";
/// The step at which it stops, counted from 1: odd ones are before a call of the store.
const STEP: &str = "MOAT_TEST_STEP";
/// Begin lines of the other process: which sandbox it fills, where it has stopped, and its end.
const FILLS: &str = "fills ";
const REACHED: &str = "reached ";
const FILLED: &str = "filled ";
/// Files of the snapshot, and the bytes of each.
const FILES: u8 = 4;
const BYTES: usize = 2 << 20;

/// Blobs in a folder, of which one read is not begun, or does not come back.
struct Stopping {
    blobs: FolderBlobs,
    steps: AtomicUsize,
    at: Box<dyn Fn(usize) + Send + Sync>,
}

impl Stopping {
    fn step(&self) {
        (self.at)(self.steps.fetch_add(1, Ordering::SeqCst) + 1);
    }
}

#[async_trait]
impl BlobStore for Stopping {
    async fn put_new(&self, bytes: Vec<u8>) -> Result<(BlobId, bool), WriteBlobError> {
        self.blobs.put_new(bytes).await
    }
    async fn put_file(&self, path: &Path) -> Result<(BlobId, u64), WriteBlobError> {
        self.blobs.put_file(path).await
    }
    async fn writer(&self) -> Result<Box<dyn BlobWriter>, WriteBlobError> {
        self.blobs.writer().await
    }
    async fn get(&self, id: BlobId, limit: u64) -> Result<Vec<u8>, ReadBlobError> {
        self.step();
        let got = self.blobs.get(id, limit).await;
        self.step();
        got
    }
    async fn read(&self, id: BlobId, at: u64, length: usize) -> Result<Vec<u8>, ReadBlobError> {
        self.step();
        let read = self.blobs.read(id, at, length).await;
        self.step();
        read
    }
    async fn verify(&self, id: BlobId) -> Result<u64, ReadBlobError> {
        self.blobs.verify(id).await
    }
    async fn size(&self, id: BlobId) -> Result<Option<u64>, ReadBlobError> {
        self.blobs.size(id).await
    }
    async fn delete(&self, id: BlobId) -> Result<bool, WriteBlobError> {
        self.blobs.delete(id).await
    }
    async fn sync(&self) -> Result<(), WriteBlobError> {
        self.blobs.sync().await
    }
}

fn snapshots(top: &Path, at: impl Fn(usize) + Send + Sync + 'static) -> Snapshots {
    let key = TenantKey::new([7; 32]);
    let blobs = FolderBlobs::new(top.join("blobs"), *Snapshots::blob_key(&key));
    let (steps, at) = (AtomicUsize::new(0), Box::new(at));
    Snapshots::new(Arc::new(Stopping { blobs, steps, at }), &key)
}

async fn create(provider: &LocalProvider) -> Box<dyn Sandbox> {
    // Somebody else ends it when its harness is killed, long before this grace is over.
    let orphan_grace = Duration::from_secs(600);
    let spec = SandboxSpec { orphan_grace, ..SandboxSpec::new(RunId::generate(), Epoch(1)) };
    provider.create(&spec).await.unwrap()
}

fn checkpointer(sandbox: &dyn Sandbox, snapshots: &Snapshots) -> Checkpointer {
    Checkpointer::new(sandbox.guest(), snapshots.clone(), SkipRules::default())
}

/// A snapshot of a workspace and a home.
async fn committed(top: &Path, provider: &LocalProvider) -> SnapshotId {
    let snapshots = snapshots(top, |_| {});
    let sandbox = create(provider).await;
    let guest = sandbox.guest();
    for number in 0..FILES {
        let mut bytes = vec![0; BYTES];
        bytes.iter_mut().zip(0_u32..).for_each(|(byte, at)| {
            *byte = (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ number;
        });
        let root = if number == 0 { Root::Home } else { Root::Workspace };
        let path = format!("folder{number}/file");
        guest.write(root, Path::new(&path), &bytes, 0o640).await.unwrap();
    }
    let report = checkpointer(&*sandbox, &snapshots).checkpoint().await.unwrap();
    provider.destroy(&sandbox.handle()).await.unwrap();
    report.snapshot
}

/// The next attempt: another sandbox holds all of it.
async fn fills_again(top: &Path, provider: &LocalProvider, snapshot: SnapshotId) {
    let snapshots = snapshots(top, |_| {});
    let sandbox = create(provider).await;
    checkpointer(&*sandbox, &snapshots).restore(snapshot).await.unwrap();
    let whole = checkpointer(&*sandbox, &snapshots).checkpoint().await.unwrap();
    assert_eq!(whole.snapshot, snapshot);
    provider.destroy(&sandbox.handle()).await.unwrap();
}

/// What sandboxes have left in the provider's folder.
fn left(top: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(support::state_folder(top).join("sandboxes")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The other harness; nothing when it is run as a test.
#[test]
fn other_process() {
    let (Some(top), Ok(step)) = (std::env::var_os(TOP), std::env::var(STEP)) else { return };
    let (top, step) = (PathBuf::from(top), step.parse::<usize>().unwrap());
    let snapshot = std::env::var(SNAPSHOT).unwrap().parse().unwrap();
    let provider = support::provider(&top);
    runtime().block_on(async {
        let sandbox = create(&provider).await;
        println!("{FILLS}{}", sandbox.handle());
        let snapshots = snapshots(&top, move |reached| {
            if reached == step {
                println!("{REACHED}{step}");
                loop {
                    std::thread::park();
                }
            }
        });
        checkpointer(&*sandbox, &snapshots).restore(snapshot).await.unwrap();
        println!("{FILLED}{snapshot}");
        loop {
            std::thread::park();
        }
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs it until it has reached a step, or has filled its sandbox, and kills it there. Answers the
/// sandbox, and whether there was such a step.
fn kill_at(top: &Path, snapshot: SnapshotId, step: usize) -> (Value, bool) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_process", "--nocapture"])
        .env(TOP, top)
        .env(SNAPSHOT, snapshot.to_string())
        .env(STEP, step.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut handle, mut word) = (None, None);
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
        // The harness of tests may have begun the line.
        if let Some((_, text)) = line.split_once(FILLS) {
            handle = Some(serde_json::from_str(text).unwrap());
        } else if line.contains(REACHED) || line.contains(FILLED) {
            word = Some(line.contains(REACHED));
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    (handle.unwrap(), word.unwrap_or_else(|| panic!("at step {step} it said nothing")))
}

#[test]
fn a_harness_that_is_killed_while_it_fills_a_sandbox_is_in_nobodys_way_as_root() {
    const NAME: &str =
        "a_harness_that_is_killed_while_it_fills_a_sandbox_is_in_nobodys_way_as_root";
    support::as_root(NAME, || harness_is_killed(1));
}

#[test]
fn a_harness_that_is_killed_while_it_fills_a_sandbox_is_in_nobodys_way_as_ordinary_user() {
    const NAME: &str =
        "a_harness_that_is_killed_while_it_fills_a_sandbox_is_in_nobodys_way_as_ordinary_user";
    support::as_ordinary_user(NAME, || harness_is_killed(6));
}

/// At every `stride`-th step.
fn harness_is_killed(stride: usize) {
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(top.path());
    let runtime = runtime();
    let snapshot = runtime.block_on(committed(top.path(), &provider));
    let mut steps = 0;
    loop {
        let (handle, reached) = kill_at(top.path(), snapshot, steps + stride);
        runtime.block_on(async {
            // It outlives its harness, half filled, and whoever owns the run ends it.
            assert!(provider.is_alive(&handle).unwrap());
            fills_again(top.path(), &provider, snapshot).await;
            let half = provider.reattach(&handle, Epoch(2)).await.unwrap().unwrap();
            let scan = half.guest().scan(Root::Workspace, &[]).await.unwrap();
            let names = scan.iter().map(|entry| entry.path.clone());
            println!("step {}: {:?}", steps + stride, names.collect::<Vec<_>>());
            drop(half);
            provider.destroy(&handle).await.unwrap();
            assert!(!provider.is_alive(&handle).unwrap());
        });
        provider.reap().unwrap();
        assert_eq!(left(top.path()), Vec::<PathBuf>::new());
        if !reached {
            break;
        }
        steps += stride;
    }
    // Each file is read by itself.
    assert!(steps >= 2 * usize::from(FILES), "only {steps} steps were seen");
}

#[test]
fn a_sandbox_that_is_killed_while_it_is_filled_is_named_and_filled_anew_as_root() {
    const NAME: &str =
        "a_sandbox_that_is_killed_while_it_is_filled_is_named_and_filled_anew_as_root";
    support::as_root(NAME, || {
        let top = tempfile::tempdir().unwrap();
        let provider = support::provider(top.path());
        let runtime = runtime();
        let snapshot = runtime.block_on(committed(top.path(), &provider));
        for step in 1..=2 * usize::from(FILES) {
            runtime.block_on(sandbox_is_killed(top.path(), &provider, snapshot, step));
        }
    });
}

/// The sandbox ends at a step, and the harness goes on reading.
async fn sandbox_is_killed(
    top: &Path,
    provider: &LocalProvider,
    snapshot: SnapshotId,
    step: usize,
) {
    let sandbox = create(provider).await;
    let (kill, killed) = std::sync::mpsc::sync_channel::<()>(0);
    let (ended, has_ended) = std::sync::mpsc::sync_channel::<()>(0);
    let has_ended = std::sync::Mutex::new(has_ended);
    let snapshots = snapshots(top, move |reached| {
        if reached == step {
            kill.send(()).unwrap();
            has_ended.lock().unwrap().recv().unwrap();
        }
    });
    let (provider_of_thread, handle) = (provider.clone(), sandbox.handle());
    let killer = std::thread::spawn(move || {
        killed.recv().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(provider_of_thread.destroy(&handle)).unwrap();
        ended.send(()).unwrap();
    });
    let failed = checkpointer(&*sandbox, &snapshots).restore(snapshot).await.unwrap_err();
    killer.join().unwrap();
    let lost = matches!(&failed, RestoreError::Guest(GuestError::Disconnected(_)));
    assert!(lost, "step {step}: {failed:?}");
    drop(sandbox);
    fills_again(top, provider, snapshot).await;
    provider.reap().unwrap();
    assert_eq!(left(top), Vec::<PathBuf>::new());
}
