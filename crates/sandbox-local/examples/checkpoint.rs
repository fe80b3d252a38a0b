//! Measures checkpoints of a workspace that the caller describes: the first, one after small
//! changes, a restore into another sandbox, and forks. A time counts only once the snapshot is durable,
//! verified by another process's view of the store, restored, and compared.
//!
//! Arguments: files, bytes of each, changes, the folder for everything, and how often checkpoints after
//! small changes and forks are taken. Prints one JSON line.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moat_blobs::{FolderObjects, PackedBlobs, PackedOptions};
use moat_core::{CallKey, Epoch, RunId, SealingKey, Seq, SnapshotId, TenantKey};
use moat_sandbox::checkpoint::{Checkpointer, Filling, SkipRules, Wanted};
use moat_sandbox::{Command, Guest, ProcessEvent, Provider as _, Root, Sandbox, SandboxSpec};
use moat_sandbox_local::{LocalOptions, LocalProvider};
use moat_snapshot::Snapshots;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [files, bytes, changes, folder, rounds] = arguments.as_slice() else {
        return Err("give files, bytes of each, changes, a folder, and rounds".into());
    };
    let (files, bytes, changes): (usize, usize, usize) =
        (files.parse()?, bytes.parse()?, changes.parse()?);
    let rounds: usize = rounds.parse()?;
    let folder = PathBuf::from(folder);
    let provider = LocalProvider::new(LocalOptions::new(folder.join("state")))?;
    let store = folder.join("store");
    let run = RunId::generate();
    let sandbox = provider.create(&SandboxSpec::new(run, Epoch(1))).await?;
    let guest = sandbox.guest();
    fill(&*guest, files, bytes).await?;

    let snapshots = open(&store);
    let mut checkpoints = Checkpointer::new(guest.clone(), snapshots.clone(), SkipRules::default());
    peak_kib_since();
    let start = Instant::now();
    let first = checkpoints.checkpoint().await?;
    let first_took = start.elapsed();
    let first_stored = stored(&store);
    // Once the clock has moved on, times tell what changed.
    tokio::time::sleep(Duration::from_millis(50)).await;
    checkpoints.checkpoint().await?;

    let mut times = Vec::new();
    let mut last = first.snapshot;
    for round in 0..rounds {
        for change in 0..changes {
            let path = place(change * files / changes.max(1));
            let text = format!("changed in round {round}, {change}");
            guest.write(Root::Workspace, &path, text.as_bytes(), 0o644).await?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let start = Instant::now();
        let report = checkpoints.checkpoint().await?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        if report.changed_count != changes as u64 {
            return Err(format!("{} changes were found", report.changed_count).into());
        }
        last = report.snapshot;
    }
    let added = (stored(&store) - first_stored) / rounds.max(1) as u64;
    times.sort_by(f64::total_cmp);
    let first_peak = peak_kib_since();
    open(&store).verify(last).await?;
    // Whoever restores has not taken the checkpoints before.
    drop((checkpoints, snapshots));

    let other = provider.create(&SandboxSpec::new(RunId::generate(), Epoch(1))).await?;
    let mut restored = Checkpointer::new(other.guest(), open(&store), SkipRules::default());
    let start = Instant::now();
    restored.restore(last).await?;
    let restore_took = start.elapsed();
    let restore_peak = peak_kib_since();
    // Read again whole: the same snapshot, or it did not come back as it was.
    let mut look = Checkpointer::new(other.guest(), open(&store), SkipRules::default());
    drop(restored);
    if look.checkpoint().await?.snapshot != last {
        return Err("the restored sandbox is not the one that was saved".into());
    }
    provider.destroy(&other.handle()).await?;
    provider.destroy(&sandbox.handle()).await?;
    drop(look);
    peak_kib_since();
    let forks = Forks { provider, snapshots: open(&store), lineage: run, rounds };
    let forked = forks.measure(first.snapshot, last, (files, changes)).await?;

    let line = format!(
        "{{\"bytes\":{},\"first_s\":{:.4},\"first_stored\":{first_stored},\"changed_ms\":{:.3},\
         \"changed_min_ms\":{:.3},\"added\":{added},\"restore_s\":{:.4},\"base_s\":{:.4},\
         \"fork_ms\":{:.3},\"fork_live_ms\":{:.3},\"first_peak_kib\":{first_peak},\
         \"restore_peak_kib\":{restore_peak},\"fork_peak_kib\":{}}}",
        first.bytes,
        first_took.as_secs_f64(),
        times.get(rounds / 2).copied().unwrap_or_default(),
        times.first().copied().unwrap_or_default(),
        restore_took.as_secs_f64(),
        forked.base.as_secs_f64(),
        median(forked.quiet),
        median(forked.live),
        peak_kib_since(),
    );
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Forks, each until its first command has run.
struct Forks {
    provider: LocalProvider,
    snapshots: Snapshots,
    lineage: RunId,
    rounds: usize,
}

/// How long forks took, in milliseconds.
struct Forked {
    /// What is done once: the workspace that forks lie over.
    base: Duration,
    quiet: Vec<f64>,
    /// With the checkpoint of the sandbox that is forked.
    live: Vec<f64>,
}

impl Forks {
    async fn measure(
        &self,
        first: SnapshotId,
        last: SnapshotId,
        (files, changes): (usize, usize),
    ) -> Result<Forked, Box<dyn Error>> {
        let start = Instant::now();
        let (source, mut checkpoints) = self.fork(first).await?;
        let mut forked = Forked { base: start.elapsed(), quiet: Vec::new(), live: Vec::new() };
        for _ in 0..self.rounds {
            let start = Instant::now();
            let (sandbox, _) = self.fork(last).await?;
            forked.quiet.push(start.elapsed().as_secs_f64() * 1000.0);
            self.check(&*sandbox, last).await?;
        }
        for round in 0..self.rounds {
            for change in 0..changes {
                let path = place(change * files / changes.max(1));
                let text = format!("forked in round {round}, {change}");
                source.guest().write(Root::Workspace, &path, text.as_bytes(), 0o644).await?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            let start = Instant::now();
            let now = checkpoints.checkpoint().await?.snapshot;
            let (sandbox, _) = self.fork(now).await?;
            forked.live.push(start.elapsed().as_secs_f64() * 1000.0);
            self.provider.destroy(&sandbox.handle()).await?;
        }
        self.provider.destroy(&source.handle()).await?;
        Ok(forked)
    }

    async fn fork(
        &self,
        snapshot: SnapshotId,
    ) -> Result<(Box<dyn Sandbox>, Checkpointer), Box<dyn Error>> {
        let mut spec = SandboxSpec::new(RunId::generate(), Epoch(1));
        let (snapshots, skip) = (&self.snapshots, &SkipRules::default());
        let (provider, lineage) = (&self.provider, self.lineage);
        let spec_of = &spec;
        let wanted =
            Wanted { provider, spec: spec_of, snapshots, skip, snapshot, seed: None, lineage };
        let filling = Filling::plan(wanted).await?;
        spec.base = filling.base_snapshot();
        let sandbox = self.provider.create(&spec).await?;
        let mut checkpoints =
            Checkpointer::new(sandbox.guest(), snapshots.clone(), SkipRules::default());
        checkpoints.fill_from(filling, sandbox.base()).await?;
        run(&*sandbox.guest(), "/bin/true").await?;
        Ok((sandbox, checkpoints))
    }

    /// Read whole, it is what was forked.
    async fn check(
        &self,
        sandbox: &dyn Sandbox,
        expected: SnapshotId,
    ) -> Result<(), Box<dyn Error>> {
        let (guest, snapshots) = (sandbox.guest(), self.snapshots.clone());
        let mut look = Checkpointer::new(guest, snapshots, SkipRules::default());
        let found = look.checkpoint().await?.snapshot;
        self.provider.destroy(&sandbox.handle()).await?;
        if found == expected { Ok(()) } else { Err("a fork is not what was forked".into()) }
    }
}

fn open(folder: &Path) -> Snapshots {
    let key = TenantKey::new([1; 32]);
    let options =
        PackedOptions { sealing: Some(SealingKey::new(&[2; 32])), ..PackedOptions::default() };
    let objects = Arc::new(FolderObjects::new(folder));
    let blobs = PackedBlobs::new(objects, *Snapshots::blob_key(&key), options);
    Snapshots::new(Arc::new(blobs), &key)
}

fn place(number: usize) -> PathBuf {
    PathBuf::from(format!("d{:03}/{number}", number % 100))
}

/// Contents of which half compresses, as in source trees and builds.
async fn fill(guest: &dyn Guest, files: usize, bytes: usize) -> Result<(), Box<dyn Error>> {
    let mut state: u64 = 88_172_645_463_325_252;
    for number in 0..files {
        let mut content = vec![b'm'; bytes];
        for byte in content.iter_mut().skip(bytes / 2) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        let mut offset = 0;
        for part in content.chunks(1 << 20) {
            if offset == 0 {
                guest.write(Root::Workspace, &place(number), part, 0o644).await?;
            } else {
                guest.write_at(Root::Workspace, &place(number), offset, part).await?;
            }
            offset += part.len() as u64;
        }
    }
    // What was written is on the disk before anything is timed.
    run(guest, "/bin/sync").await
}

async fn run(guest: &dyn Guest, program: &str) -> Result<(), Box<dyn Error>> {
    let key = CallKey { run: RunId::generate(), seq: Seq(1), index: 0, attempt: 1 };
    let command = Command {
        key,
        argv: vec![program.to_owned()],
        cwd: PathBuf::from("/workspace"),
        environment: BTreeMap::new(),
        tty: None,
        user: None,
    };
    guest.start(&command).await?;
    let mut events = guest.attach(key, 0).await?;
    while let Some(event) = events.recv().await {
        if matches!(event, ProcessEvent::Exited(_) | ProcessEvent::Disconnected) {
            break;
        }
    }
    guest.release(key).await?;
    Ok(())
}

fn stored(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder.join("packs")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// The most memory that this process had since it was last asked.
fn peak_kib_since() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    // Lets the kernel begin anew with what the process has now.
    let begun_anew = std::fs::write("/proc/self/clear_refs", "5");
    debug_assert!(begun_anew.is_ok());
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
