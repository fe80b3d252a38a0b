//! Writes the fixture of the current format. Only for a new format: a fixture that was released
//! never changes. What it holds is what `tests/fixture.rs` expects.
//!
//! `cargo run -p moat-journal --example write_fixture`
#![expect(clippy::unwrap_used, reason = "a program for the people who change the format")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moat_blobs::FolderBlobs;
use moat_core::{TenantId, TenantKey};
use moat_journal::sqlite::{SqliteJournal, SqliteOptions};
use moat_journal::{Batch, InboxEntry, IndexRow, Journal, NewEvent};

const RUN: &str = "01890000-0000-7000-8000-000000000001";
const ERASED: &str = "01890000-0000-7000-8000-000000000002";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn open(root: &Path) -> SqliteJournal {
    SqliteJournal::open(SqliteOptions {
        data_dir: root.join("data"),
        anchors_dir: root.join("anchors"),
        tenant_key: TenantKey::new(*b"the key of the fixtures, 32 byte"),
        blobs: Arc::new(FolderBlobs::new(root.join("blobs"), [2; 32])),
    })
    .unwrap()
}

fn event(kind: &str, body: &[u8]) -> NewEvent {
    NewEvent {
        actor: "user:ada".to_owned(),
        kind: kind.to_owned(),
        version: 3,
        must_understand: kind == "started",
        at: None,
        body: body.to_vec(),
    }
}

fn entry() -> InboxEntry {
    InboxEntry {
        id: "steer-1".to_owned(),
        kind: "steer".to_owned(),
        body: "{\"text\":\"go on\"}".to_owned(),
        who: "user:ada".to_owned(),
        at: 1_700_000_000_000,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    assert!(!fixture().exists(), "a fixture is never written again");
    let (local, journal) = (TenantId::local(), open(&fixture()));
    for id in [RUN, ERASED] {
        let mut owner = journal.create(&local, id.parse().unwrap(), None).await.unwrap();
        let index = IndexRow { status: "paused".to_owned(), facts: "{\"turns\":2}".to_owned() };
        let events =
            vec![event("started", b"{\"input\":\"hello\"}"), event("large", &[7; 100_000])];
        owner.append(Batch { events, index: Some(index), ..Batch::default() }).await.unwrap();
        owner.anchor().await.unwrap();
        owner
            .append(Batch { events: vec![event("ended", b"{}")], ..Batch::default() })
            .await
            .unwrap();
        drop(owner);
        journal.post(&local, id.parse().unwrap(), entry()).await.unwrap();
    }
    let tombstone = event("erased", b"{\"reason\":\"asked\"}");
    journal.erase(&local, ERASED.parse().unwrap(), &[], tombstone).await.unwrap();
    drop(journal);
    // Nothing that belongs to the moment.
    for left in ["data/wake", "data/locks", "anchors/lock", "blobs/pending"] {
        let left = fixture().join(left);
        let _ = std::fs::remove_dir_all(&left).or_else(|_| std::fs::remove_file(&left));
    }
}
