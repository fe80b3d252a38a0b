//! A journal that version 1 of the format wrote is read for ever. `examples/write_fixture.rs`
//! wrote it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moat_blobs::FolderBlobs;
use moat_core::{Epoch, RunId, Seq, TenantId, TenantKey};
use moat_journal::sqlite::{SqliteJournal, SqliteOptions};
use moat_journal::{Batch, Claim, InboxEntry, Journal, NewEvent};

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

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

#[tokio::test]
async fn version_one_is_read_verified_and_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(), dir.path());
    let (local, journal) = (TenantId::local(), open(dir.path()));
    let (run, erased): (RunId, RunId) = (RUN.parse().unwrap(), ERASED.parse().unwrap());
    let read = journal.read(&local, run, Seq(0), 10).await.unwrap();
    let kinds: Vec<_> = read.iter().map(|event| event.header.kind.as_str()).collect();
    assert_eq!(kinds, ["started", "large", "ended"]);
    let header = &read[0].header;
    assert_eq!((header.epoch, header.version, header.must_understand), (Epoch(1), 3, true));
    assert_eq!(header.actor, "user:ada");
    assert_eq!(read[0].body.as_deref(), Some(&b"{\"input\":\"hello\"}"[..]));
    assert!(read[1].body.as_deref() == Some(&[7; 100_000][..]));
    let listed = journal.list(&local, 10).await.unwrap();
    assert_eq!([listed[0].run, listed[1].run], [erased, run]);
    let index = listed[1].index.clone().unwrap();
    assert_eq!((index.status.as_str(), index.facts.as_str()), ("paused", "{\"turns\":2}"));

    let gone = journal.read(&local, erased, Seq(0), 10).await.unwrap();
    assert!(gone[0].body.is_none() && gone[1].body.is_none() && listed[0].index.is_none());
    assert_eq!(gone[3].body.as_deref(), Some(&b"{\"reason\":\"asked\"}"[..]));

    let report = journal.verify(&local, None).await.unwrap();
    let found = report.runs.iter().map(|run| (run.erased, run.anchored, run.problems.len()));
    assert_eq!(found.collect::<Vec<_>>(), [(false, Some(Seq(2)), 0), (true, Some(Seq(4)), 0)]);

    let mut owner = journal.claim(&local, run, Claim::IfFree).await.unwrap();
    assert_eq!(owner.inbox().await.unwrap(), [entry()]);
    let batch = Batch {
        events: vec![event("more", b"{}")],
        consumed: vec!["steer-1".to_owned()],
        ..Batch::default()
    };
    assert_eq!(owner.append(batch).await.unwrap(), Seq(4));
    let report = journal.verify(&local, Some(run)).await.unwrap();
    assert_eq!(report.runs[0].problems, []);
}
