//! Sandboxes lie over workspaces that are kept, and nobody can tell.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use moat_blobs::FolderBlobs;
use moat_core::{CallKey, Epoch, RunId, Seq, SnapshotId, TenantKey};
use moat_sandbox::checkpoint::{Checkpointer, Filling, SkipRules, Wanted};
use moat_sandbox::{Command, Guest, ProcessEvent, Provider as _, Sandbox, SandboxSpec};
use moat_sandbox_local::{KeptWorkspaces, LocalProvider};
use moat_snapshot::Snapshots;

#[test]
fn sandboxes_lie_over_what_is_kept_as_root() {
    support::as_root("sandboxes_lie_over_what_is_kept_as_root", lies_over);
}

#[test]
fn an_ordinary_user_has_every_sandbox_filled() {
    support::as_ordinary_user("an_ordinary_user_has_every_sandbox_filled", || {
        let top = tempfile::tempdir().unwrap();
        let provider = support::provider(top.path());
        assert!(provider.bases().is_none());
        let found = provider.workspaces().unwrap();
        assert!(matches!(&found, KeptWorkspaces::Filled { reason } if reason.contains("rename")));
    });
}

/// A file system that overlayfs cannot write to, or that has no owners to shift.
#[test]
fn what_cannot_lie_over_anything_is_found_before_it_is_filled_as_root() {
    const NAME: &str = "what_cannot_lie_over_anything_is_found_before_it_is_filled_as_root";
    support::as_root(NAME, || {
        let top = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "ramfs", "-o", "mode=755", "ramfs"])
            .arg(top.path())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            return support::skip(NAME, "a file system cannot be mounted");
        }
        let provider = support::provider(top.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let can = runtime.block_on(async {
            let bases = provider.bases().unwrap();
            bases.turn().await.is_some()
        });
        let (found, again) = (provider.workspaces().unwrap(), provider.bases().is_some());
        let left =
            std::fs::read_dir(support::state_folder(top.path()).join("bases")).map(|entries| {
                let names = entries.map(|entry| entry.unwrap().file_name());
                names.collect::<Vec<_>>()
            });
        let unmounted = std::process::Command::new("umount").arg("-l").arg(top.path()).status();
        assert!(unmounted.unwrap().success());
        assert!(!can && !again, "{found:?}");
        assert!(matches!(&found, KeptWorkspaces::Filled { .. }), "{found:?}");
        assert_eq!(left.unwrap(), ["lock"], "nothing is left of the try");
    });
}

/// More paths than a workspace has that is not worth being kept.
const FILL: &str = "set -e
    for folder in $(seq 60); do
        mkdir -p d$folder/deep
        for file in $(seq 80); do echo $file > d$folder/$file; done
    done
    echo one > linked; ln linked d1/linked; ln linked d2/linked
    echo two > pair; ln pair d1/pair
    ln -s ../linked d3/link; ln -s /nowhere d3/broken
    chmod 4755 d4/1; chmod 700 d5; touch -d 2001-02-03 d6/1
    truncate -s 1M sparse; printf 'odd\\nname' > \"$(printf 'odd\\nname')\"";

/// Everything that may be done to a file or folder of somebody else's. `$1` tells the rounds apart.
const CHANGE: &str = "set -e; n=$1
    perl -e 'rename \"d$ARGV[0]\", \"moved$ARGV[0]\" or die $!' $((n + 10))
    perl -e 'rename \"moved$ARGV[0]/deep\", \"deep$ARGV[0]\" or die $!' $((n + 10))
    echo more$n >> d1/linked; tail -1 d2/linked | grep -q more$n
    rm -r d$((n + 20)); mkdir d$((n + 20)); echo new > d$((n + 20))/1
    rm d$((n + 30))/1; mkdir d$((n + 30))/1; echo in > d$((n + 30))/1/file
    rm -r d$((n + 40)); echo file > d$((n + 40))
    ln pair z-pair$n; ln d7/1 another$n; rm -f d8/$n; chmod 640 d8/7$n 2>/dev/null || chmod 640 d8/1$n
    chmod 750 d9; touch -d 2011-11-1$n d9/deep; ln -sfn $n d3/link
    truncate -s $((n * 1000)) d6/2; echo changed > d5/$((n + 1)); echo new$n > fresh$n
    perl -e 'open F, \"+<\", \"d6/3\" or die; seek F, 0, 0; print F \"X$ARGV[0]\"' $n";

struct Bench {
    provider: LocalProvider,
    snapshots: Snapshots,
    lineage: RunId,
}

/// Runs a script to its end; its exit code, and all that it said.
async fn sh(guest: &dyn Guest, script: &str, arguments: &[&str]) -> (i32, String) {
    let key = CallKey { run: RunId::generate(), seq: Seq(1), index: 0, attempt: 1 };
    let program = ["/bin/bash", "-c", script, "sh"];
    let argv = program.iter().chain(arguments).map(|text| (*text).to_owned()).collect();
    let (cwd, environment) = (PathBuf::from("/workspace"), BTreeMap::new());
    guest.start(&Command { key, argv, cwd, environment, tty: None, user: None }).await.unwrap();
    let mut events = guest.attach(key, 0).await.unwrap();
    let mut said = Vec::new();
    loop {
        match events.recv().await.unwrap() {
            ProcessEvent::Output { bytes, .. } => said.extend(bytes),
            ProcessEvent::Exited(exit) => {
                return (exit.code, String::from_utf8_lossy(&said).into_owned());
            }
            ProcessEvent::Disconnected => panic!("the guest is gone"),
        }
    }
}

impl Bench {
    /// A sandbox that holds a snapshot, as a run would get it.
    async fn begin(&self, snapshot: SnapshotId) -> (Box<dyn Sandbox>, Checkpointer) {
        self.begin_without(snapshot, SkipRules::default()).await
    }

    /// The same where checkpoints leave out more.
    async fn begin_without(
        &self,
        snapshot: SnapshotId,
        skip: SkipRules,
    ) -> (Box<dyn Sandbox>, Checkpointer) {
        let mut spec = SandboxSpec::new(RunId::generate(), Epoch(1));
        let filling = Filling::plan(Wanted {
            provider: &self.provider,
            spec: &spec,
            snapshots: &self.snapshots,
            skip: &skip,
            snapshot,
            seed: None,
            lineage: self.lineage,
        });
        let filling = filling.await.unwrap();
        spec.base = filling.base_snapshot();
        let sandbox = self.provider.create(&spec).await.unwrap();
        let mut checkpoints = Checkpointer::new(sandbox.guest(), self.snapshots.clone(), skip);
        checkpoints.fill_from(filling, sandbox.base()).await.unwrap();
        (sandbox, checkpoints)
    }

    fn checkpointer(&self, sandbox: &dyn Sandbox) -> Checkpointer {
        Checkpointer::new(sandbox.guest(), self.snapshots.clone(), SkipRules::default())
    }

    /// What a sandbox holds, every byte of it read.
    async fn whole(&self, sandbox: &dyn Sandbox) -> SnapshotId {
        self.checkpointer(sandbox).checkpoint().await.unwrap().snapshot
    }

    async fn end(&self, sandbox: Box<dyn Sandbox>) {
        self.provider.destroy(&sandbox.handle()).await.unwrap();
    }
}

fn lies_over() {
    let top = tempfile::tempdir().unwrap();
    let tenant = TenantKey::new([7; 32]);
    let blobs = FolderBlobs::new(top.path().join("blobs"), *Snapshots::blob_key(&tenant));
    let bench = Bench {
        provider: support::provider(top.path()),
        snapshots: Snapshots::new(Arc::new(blobs), &tenant),
        lineage: RunId::generate(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let spec = SandboxSpec::new(RunId::generate(), Epoch(1));
        let source = bench.provider.create(&spec).await.unwrap();
        assert_eq!(sh(&*source.guest(), FILL, &[]).await, (0, String::new()));
        let first = bench.whole(&*source).await;
        bench.end(source).await;

        let (sandbox, mut checkpoints) = bench.begin(first).await;
        assert_eq!(sandbox.base(), Some(first), "{:?}", bench.provider.workspaces());
        let found = bench.provider.workspaces().unwrap();
        assert_eq!(found, KeptWorkspaces::Kept { last_failure: None });
        assert_eq!(bench.whole(&*sandbox).await, first);
        assert!(checkpoints.checkpoint().await.unwrap().unchanged);
        // Little changed, and no file with several names: most of it need not be looked at.
        let few = "echo more > d1/1; rm d2/2; mkdir d3/new; echo new > d3/new/file; chmod 700 d4";
        for (round, script) in [("0", few), ("1", CHANGE), ("2", CHANGE)] {
            assert_eq!(sh(&*sandbox.guest(), script, &[round]).await, (0, String::new()));
            let last = checkpoints.checkpoint().await.unwrap().snapshot;
            assert_eq!(bench.whole(&*sandbox).await, last, "round {round}");

            // Whoever continues from here lies over the same.
            let (other, mut checkpoints) = bench.begin(last).await;
            assert_eq!(other.base(), Some(first));
            assert_eq!(bench.whole(&*other).await, last, "round {round}, elsewhere");
            assert!(checkpoints.checkpoint().await.unwrap().unchanged);
            bench.end(other).await;
        }
        // A file may have names where checkpoints do not look any more: some of them, or all but
        // one.
        for folders in [vec!["d1"], vec!["d1", "d2"]] {
            let workspace = folders.into_iter().map(PathBuf::from).collect();
            let skip = SkipRules { workspace, ..SkipRules::default() };
            let (other, mut checkpoints) = bench.begin_without(first, skip).await;
            assert_eq!(other.base(), Some(first));
            assert!(checkpoints.checkpoint().await.unwrap().unchanged);
            bench.end(other).await;
        }
        // What is kept is as it was for everybody else.
        let (other, _) = bench.begin(first).await;
        assert_eq!(bench.whole(&*other).await, first);
        bench.end(other).await;
        bench.end(sandbox).await;
    });
}
