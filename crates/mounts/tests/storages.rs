//! Mounts and copies of real servers, with the system's rclone and FUSE.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests; what is skipped is said"
)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/storage.rs"]
mod storage;

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::{arguments, mounted_below, mounts, rclone_of};
use moat_core::{MountSource, RunId};
use moat_mounts::{MountError, Mounts};
use moat_sandbox::materialise::Remotes as _;
use serde_json::json;
use storage::{KEY, Storage, free_port};

/// More than one request carries.
const LARGE: usize = 6 << 20;

async fn copied(mounts: &Mounts, storage: &Storage) -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    let into = top.path().join("copy");
    fs::create_dir(&into).unwrap();
    mounts.copy(&storage.remote(), &into).await.unwrap();
    top
}

/// Everything that is promised of a kind of storage.
async fn holds(storage: Option<Storage>) {
    let Some(storage) = storage else { return };
    let folder = tempfile::tempdir().unwrap();
    let mounts = mounts(folder.path(), Duration::ZERO);
    let large: Vec<u8> = (0..LARGE).map(|n| (n * 31 % 251) as u8).collect();

    // What is written at the last moment is there when the sandbox is gone.
    let held = mounts.prepare(RunId::generate(), &[storage.written()]).await.unwrap();
    let data = held.mounts[0].source.clone();
    assert_eq!(fs::read_to_string(data.join("a.txt")).unwrap(), "content");
    assert!(!arguments().contains(KEY), "no key is in an argument");
    let config = fs::metadata(data.parent().unwrap().join("rclone.conf")).unwrap();
    assert_eq!(config.permissions().mode() & 0o777, 0o600);
    fs::create_dir(data.join("deep")).unwrap();
    fs::write(data.join("deep/large"), &large).unwrap();
    fs::write(data.join("b.txt"), "written").unwrap();
    held.release().unwrap();
    assert!(!mounted_below(folder.path()) && rclone_of(folder.path()).is_empty());
    assert_eq!(fs::read_dir(folder.path().join("mounts")).unwrap().count(), 0);
    let copy = copied(&mounts, &storage).await;
    let copy = copy.path().join("copy");
    assert_eq!(fs::read_to_string(copy.join("a.txt")).unwrap(), "content");
    assert_eq!(fs::read_to_string(copy.join("b.txt")).unwrap(), "written");
    assert!(fs::read(copy.join("deep/large")).unwrap() == large, "the large file is whole");

    // One that can only be read is that.
    let held = mounts.prepare(RunId::generate(), &[storage.record(&[])]).await.unwrap();
    let data = &held.mounts[0].source;
    assert_eq!(fs::read_to_string(data.join("b.txt")).unwrap(), "written");
    let refused = fs::write(data.join("x"), "x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    held.release().unwrap();
    assert!(!mounted_below(folder.path()));
}

#[tokio::test]
async fn a_bucket_of_s3() {
    holds(Storage::s3()).await;
}

#[tokio::test]
async fn a_bucket_of_a_service_like_s3() {
    holds(Storage::r2()).await;
}

#[tokio::test]
async fn a_container_of_azure() {
    holds(Storage::azure()).await;
}

#[tokio::test]
async fn a_bucket_of_google() {
    holds(Storage::gcs()).await;
}

#[tokio::test]
async fn a_server_of_webdav() {
    holds(Storage::served("webdav")).await;
}

#[tokio::test]
async fn a_server_of_sftp() {
    holds(Storage::served("sftp")).await;
}

#[tokio::test]
async fn a_killed_harness_or_rclone_loses_nothing() {
    let Some(storage) = Storage::served("webdav") else { return };
    let folder = tempfile::tempdir().unwrap();
    let long = mounts(folder.path(), Duration::from_secs(600));
    let (run, records) = (RunId::generate(), [storage.written()]);
    let held = long.prepare(run, &records).await.unwrap();
    let data = held.mounts[0].source.clone();
    let over = mounts(folder.path(), Duration::ZERO);
    assert_eq!(over.reap().unwrap(), 0, "somebody looks after it");
    // The harness is gone without a word: as long as its sandbox may be there, the mount is.
    drop(held);
    assert_eq!(long.reap().unwrap(), 0, "the sandbox may live on");
    let adopted = long.adopt(run, &records).await.unwrap();
    // As long as it is open nothing of it is uploaded.
    let mut open = fs::File::create(data.join("b.txt")).unwrap();
    open.write_all(b"written").unwrap();
    drop(adopted);

    // Rclone as well, with what it had not uploaded; the mount is of no use then, and that is said.
    for pid in rclone_of(folder.path()) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    assert!(!storage.folder.path().join("in/b.txt").exists());
    assert!(lab::until(|| rclone_of(folder.path()).is_empty()).await);
    drop(open);
    let began = Instant::now();
    let error = loop {
        // A killed process takes a moment to be gone.
        match long.adopt(run, &records).await {
            Err(error) => break error,
            Ok(_) => assert!(began.elapsed() < Duration::from_secs(60), "it lives on"),
        }
    };
    assert!(error.to_string().contains("`/workspace/data` has ended"), "{error}");
    let there = lab::until(|| over.reap().unwrap() == 1).await;
    assert!(there, "it is taken away when it is uploaded");
    let place = storage.folder.path().join("in/b.txt");
    assert_eq!(fs::read_to_string(place).unwrap(), "written");
    assert!(!mounted_below(folder.path()) && rclone_of(folder.path()).is_empty());
    assert!(!data.exists());
}

#[tokio::test]
async fn what_cannot_be_uploaded_yet_is_kept_and_said() {
    let Some(mut storage) = Storage::served("webdav") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mounts = mounts(folder.path(), Duration::ZERO);
    let run = RunId::generate();
    let held = mounts.prepare(run, &[storage.written()]).await.unwrap();
    let data = held.mounts[0].source.clone();
    // As long as it is open nothing of it is uploaded.
    let mut open = fs::File::create(data.join("b.txt")).unwrap();
    open.write_all(b"written").unwrap();
    storage.stop();
    drop(open);
    drop(held);
    assert_eq!(mounts.reap().unwrap(), 0, "it is not uploaded");
    assert!(mounted_below(folder.path()) && !rclone_of(folder.path()).is_empty());
    storage.begin().unwrap();
    let there = lab::until(|| mounts.reap().unwrap() == 1).await;
    assert!(there, "it is taken away when it is uploaded");
    let place = storage.folder.path().join("in/b.txt");
    assert_eq!(fs::read_to_string(place).unwrap(), "written");
    assert!(!mounted_below(folder.path()) && rclone_of(folder.path()).is_empty());
}

/// It says what is wrong, where, and holds no key, whether it is to be mounted or copied.
async fn is_refused(folder: &Path, good: &Storage, bad: moat_core::MountRecord, words: &[&str]) {
    let mounts = mounts(folder, Duration::ZERO);
    let MountSource::Remote(remote) = bad.source.clone() else { panic!("{bad:?}") };
    let wanted = [good.record(&[]), bad];
    let mounted = mounts.prepare(RunId::generate(), &wanted).await.unwrap_err().to_string();
    let into = folder.join("copy");
    fs::create_dir(&into).unwrap();
    let copied = mounts.copy(&remote, &into).await.unwrap_err();
    fs::remove_dir(&into).unwrap();
    assert!(mounted.starts_with("`/workspace/data`: "), "{mounted}");
    for word in words {
        assert!(mounted.contains(word) && copied.contains(word), "{word}: {mounted}\n{copied}");
    }
    assert!(!mounted.contains(KEY) && !copied.contains(KEY), "{mounted}\n{copied}");
    assert!(!mounted_below(folder), "the first was taken away again");
    assert!(rclone_of(folder).is_empty());
    assert_eq!(fs::read_dir(folder.join("mounts")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_and_leaves_nothing() {
    let (Some(s3), Some(azure), Some(webdav)) =
        (Storage::s3(), Storage::azure(), Storage::served("webdav"))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let wrong = json!({ "pass": { "secret": "WRONG" } });
    let cases = [
        (
            s3.record(&[("bucket", "no-such-bucket".into())]),
            &["no-such-bucket", "check its name"][..],
        ),
        (s3.record(&[("endpoint_url", nowhere.into())]), &["bucket/in", "address"]),
        (s3.record(&[("session_token", json!({ "secret": "UNKNOWN" }))]), &["`UNKNOWN`"]),
        (azure.record(&[("container", "no-such-one".into())]), &["no-such-one", "not found"]),
        (webdav.record(&[("secrets", wrong)]), &["webdav:in", "credentials", "401"]),
        (webdav.record(&[("backend", "webdavv".into())]), &["webdavv", "no such backend"]),
    ];
    for (bad, words) in cases {
        is_refused(folder.path(), &s3, bad, words).await;
    }
}

/// A server that takes a connection and says nothing.
#[tokio::test]
async fn what_does_not_answer_is_given_up() {
    let Some(storage) = Storage::s3() else { return };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let bad = storage.record(&[("endpoint_url", address.into())]);
    let began = Instant::now();
    let mounts = mounts(folder.path(), Duration::ZERO);
    let error = mounts.prepare(RunId::generate(), &[bad]).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(90), "{error}");
    let MountError::At { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, MountError::Late { .. }), "{error}");
    assert!(rclone_of(folder.path()).is_empty() && !mounted_below(folder.path()));
}
