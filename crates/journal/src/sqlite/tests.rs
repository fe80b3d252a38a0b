mod attacks;
mod erasure;
mod group;
mod lock;
mod processes;
mod storage;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moat_blobs::FolderBlobs;
use moat_core::{RunId, Seq, TenantId, TenantKey};
use rusqlite::Connection;

use super::{SqliteJournal, SqliteOptions, schema};
use crate::{Batch, Journal, NewEvent, RunOwner, StoredEvent};

/// When set, the process dies right after its next commit, before it has woken anybody.
static DIES_AFTER_COMMIT: AtomicBool = AtomicBool::new(false);

pub(super) fn between_commit_and_wake() {
    if DIES_AFTER_COMMIT.load(Ordering::SeqCst) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// A data folder, its anchors and its blobs.
struct Place {
    root: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { root: dir.path().to_owned(), _dir: Some(dir) }
    }

    fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), _dir: None }
    }

    fn options(&self, key: u8) -> SqliteOptions {
        SqliteOptions {
            data_dir: self.data(),
            anchors_dir: self.root.join("anchors"),
            tenant_key: TenantKey::new([key; 32]),
            blobs: Arc::new(FolderBlobs::new(self.root.join("blobs"), [2; 32])),
        }
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn open(&self) -> SqliteJournal {
        SqliteJournal::open(self.options(1)).unwrap()
    }

    /// As an attacker, or the tester, sees the file. No journal may be open in this process.
    fn raw(&self) -> Connection {
        Connection::open(schema::path_in(&self.data())).unwrap()
    }
}

/// Changes one byte of a stored body.
fn flip(db: &Connection, seq: i64) {
    let find = "SELECT body FROM events WHERE number = 1 AND seq = ?1";
    let mut body: Vec<u8> = db.query_row(find, [seq], |row| row.get(0)).unwrap();
    body[30] ^= 1;
    let change = "UPDATE events SET body = ?1 WHERE number = 1 AND seq = ?2";
    db.execute(change, rusqlite::params![body, seq]).unwrap();
}

fn local() -> TenantId {
    TenantId::local()
}

fn event(body: impl Into<Vec<u8>>) -> NewEvent {
    NewEvent {
        actor: "harness".to_owned(),
        kind: "tested".to_owned(),
        version: 1,
        must_understand: true,
        at: None,
        body: body.into(),
    }
}

fn batch(body: impl Into<Vec<u8>>) -> Batch {
    Batch { events: vec![event(body)], ..Batch::default() }
}

async fn new_run(journal: &SqliteJournal) -> Box<dyn RunOwner> {
    journal.create(&local(), RunId::generate(), None).await.unwrap()
}

async fn read_all(journal: &SqliteJournal, run: RunId) -> Vec<StoredEvent> {
    journal.read(&local(), run, Seq(0), 10_000).await.unwrap()
}

fn bodies(events: &[StoredEvent]) -> Vec<String> {
    let text = |event: &StoredEvent| {
        String::from_utf8_lossy(event.body.as_deref().unwrap_or(b"(none)")).into_owned()
    };
    events.iter().map(text).collect()
}

/// Waits for something that has to come. The bound only ends a test that would hang.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(30), future).await.unwrap()
}

/// A memory file system of one or a few megabytes, unmounted when dropped. Needs root.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir.path());
        mount.output().is_ok_and(|done| done.status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
