//! Folders that several runs share.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    reason = "tests; what is shared is not used by each"
)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/storage.rs"]
mod storage;

use std::fs;
use std::time::Duration;

use lab::mounts;
use moat_core::{MountRecord, MountSource, RunId};
use moat_mounts::MountError;

/// A process that one test starts has the locks of the other for a moment, and here time passes at
/// once.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn shared(sharing: &str) -> [MountRecord; 1] {
    let source = MountSource::Shared { name: "team".into(), sharing: sharing.into() };
    [MountRecord { path: "/mnt/team".into(), read_only: sharing == "read_only", source }]
}

/// Who is said to hold the folder.
fn held(error: &MountError) -> &str {
    match error {
        MountError::At { source, .. } => held(source),
        MountError::Held { holder, .. } => holder,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_folder_is_locked_or_copied_as_it_says() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let mounts = mounts(folder.path(), Duration::from_secs(600));
    let first = RunId::generate();
    let one = mounts.prepare(first, &shared("lock")).await.unwrap();
    fs::write(one.mounts[0].source.join("note"), "one").unwrap();
    let error = mounts.prepare(RunId::generate(), &shared("lock")).await.unwrap_err();
    assert!(held(&error).contains(&first.to_string()), "{error}");

    let copy = mounts.prepare(RunId::generate(), &shared("copy_on_write")).await.unwrap();
    let own = &copy.mounts[0].source;
    assert_eq!(fs::read_to_string(own.join("note")).unwrap(), "one");
    fs::write(own.join("note"), "mine").unwrap();
    assert_eq!(fs::read_to_string(one.mounts[0].source.join("note")).unwrap(), "one");
    copy.release().unwrap();

    let kept = one.mounts[0].source.clone();
    one.release().unwrap();
    assert_eq!(fs::read_to_string(kept.join("note")).unwrap(), "one", "the folder stays");
    let next = mounts.prepare(RunId::generate(), &shared("lock")).await.unwrap();
    assert_eq!(fs::read_to_string(next.mounts[0].source.join("note")).unwrap(), "one");
}

/// A sandbox outlives its harness, and writes on: until it is certainly gone, nobody else is given
/// what it locked, and a harness that finds it again has the lock again.
#[tokio::test(start_paused = true)]
async fn a_lock_outlives_its_harness_as_long_as_its_sandbox_may() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let [long, over] = [600, 0].map(|seconds| mounts(folder.path(), Duration::from_secs(seconds)));
    let (first, second) = (RunId::generate(), RunId::generate());
    drop(long.prepare(first, &shared("lock")).await.unwrap());
    let error = long.prepare(second, &shared("lock")).await.unwrap_err();
    assert!(held(&error).contains(&format!("moat resume {first}")), "{error}");

    let again = long.adopt(first, &shared("lock")).await.unwrap();
    let error = over.prepare(second, &shared("lock")).await.unwrap_err();
    assert_eq!(held(&error), format!("the run {first}"), "{error}");
    drop(again);

    // The sandbox is gone for certain: whoever asks next has it, and the first is refused.
    long.reap().unwrap();
    let next = over.prepare(second, &shared("lock")).await.unwrap();
    let error = over.adopt(first, &shared("lock")).await.unwrap_err();
    assert!(held(&error).contains(&second.to_string()), "{error}");
    next.release().unwrap();
    // A run whose sandbox was made anew has it at once.
    drop(long.prepare(first, &shared("lock")).await.unwrap());
    long.prepare(first, &shared("lock")).await.unwrap().release().unwrap();
    let error = long.adopt(first, &shared("lock")).await.unwrap_err();
    assert!(matches!(error, MountError::Ended { .. }), "{error}");
}
