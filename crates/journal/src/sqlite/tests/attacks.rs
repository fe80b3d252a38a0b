//! Whoever can write the data folder, but has no key, changes it. Each change must be found, at
//! the right place, and only in the runs that it concerns.

use std::fs;

use moat_core::{Hash, RunId, Seq};
use rusqlite::{Connection, params};

use super::{Place, batch, flip, local, new_run};
use crate::format::{Stored, genesis, link};
use crate::sqlite::append::IN_ROW;
use crate::{Journal, RunReport};

/// Two runs of six events each. The fifth event has a large body; the fourth is anchored.
struct Scene {
    place: Place,
    runs: [RunId; 2],
}

async fn scene() -> Scene {
    let place = Place::new();
    let journal = place.open();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut owner = new_run(&journal).await;
        for n in 1..=6_usize {
            let size = if n == 5 { 2 * IN_ROW } else { 40 };
            owner.append(batch(vec![b'0' + n as u8; size])).await.unwrap();
            if n == 4 {
                owner.anchor().await.unwrap();
            }
            if n == 2 {
                fs::create_dir_all(place.root.join("old")).unwrap();
            }
        }
        runs.push(owner.run());
    }
    Scene { place, runs: [runs[0], runs[1]] }
}

impl Scene {
    async fn verify(&self) -> [RunReport; 2] {
        let mut report = self.place.open().verify(&local(), None).await.unwrap();
        report.runs.sort_by_key(|report| self.runs.iter().position(|run| *run == report.run));
        report.runs.try_into().unwrap()
    }

    /// Applies a change and expects that it is found in the first run only.
    async fn expect(
        self,
        change: impl FnOnce(&Connection),
        seq: impl Into<Option<u64>>,
        says: &str,
    ) {
        let db = self.place.raw();
        change(&db);
        drop(db);
        self.expect_first(seq.into(), says).await;
    }

    async fn expect_first(&self, seq: Option<u64>, says: &str) {
        let [changed, untouched] = self.verify().await;
        assert_found(&changed, seq, says);
        assert_eq!(untouched.problems, [], "the other run is whole");
        assert_eq!(untouched.anchored, Some(Seq(4)));
    }
}

fn assert_found(report: &RunReport, seq: Option<u64>, says: &str) {
    let found =
        |problem: &crate::Problem| problem.seq == seq.map(Seq) && problem.message.contains(says);
    assert!(report.problems.iter().any(found), "`{says}` at {seq:?} not in {report:#?}");
}

fn execute(sql: &str) -> impl FnOnce(&Connection) {
    move |db| db.execute_batch(sql).unwrap()
}

/// Computes the first run's hashes afresh, as whoever knows the format can.
fn rewrite_chain(db: &Connection, run: RunId) {
    let mut chain = genesis(&local(), run);
    let mut select =
        db.prepare("SELECT seq, header, body FROM events WHERE number = 1 ORDER BY seq").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = rows.map(Result::unwrap).collect();
    for (seq, header, body) in rows {
        let hash = Hash::of(&body);
        chain = link(chain, &header, hash);
        let sql = "UPDATE events SET body_hash = ?1, chain = ?2 WHERE number = 1 AND seq = ?3";
        db.execute(sql, params![hash.0, chain.0, seq]).unwrap();
        let sql = "UPDATE runs SET head = ?1, chain = ?2 WHERE number = 1";
        db.execute(sql, params![seq, chain.0]).unwrap();
    }
}

#[tokio::test]
async fn an_untouched_journal_verifies() {
    for report in scene().await.verify().await {
        assert_eq!((report.head, report.anchored), (Seq(6), Some(Seq(4))));
        assert_eq!(report.problems, []);
    }
}

#[tokio::test]
async fn an_edited_body_is_found() {
    scene().await.expect(|db| flip(db, 2), 2, "does not have the recorded hash").await;
}

#[tokio::test]
async fn an_edited_header_is_found() {
    let edit =
        "UPDATE events SET header = CAST(replace(CAST(header AS TEXT), 'harness', 'user:eve')
                AS BLOB) WHERE number = 1 AND seq = 3";
    scene().await.expect(execute(edit), 3, "does not continue the chain").await;
}

#[tokio::test]
async fn a_rewritten_chain_is_found_by_the_anchor_and_by_the_key() {
    let scene = scene().await;
    let run = scene.runs[0];
    let db = scene.place.raw();
    flip(&db, 2);
    rewrite_chain(&db, run);
    drop(db);
    scene.expect_first(Some(4), "what is before was rewritten").await;
    scene.expect_first(Some(2), "not written under this run's key").await;
}

#[tokio::test]
async fn a_rewrite_behind_the_anchor_is_found_by_the_key() {
    let scene = scene().await;
    let run = scene.runs[0];
    let db = scene.place.raw();
    execute(
        "UPDATE events SET header = CAST(replace(CAST(header AS TEXT), 'harness', 'user:eve')
         AS BLOB) WHERE number = 1 AND seq = 6",
    )(&db);
    rewrite_chain(&db, run);
    drop(db);
    scene.expect_first(Some(6), "not written under this run's key").await;
    assert_eq!(scene.verify().await[0].anchored, Some(Seq(4)));
}

#[tokio::test]
async fn an_invented_event_is_found_by_the_key() {
    let scene = scene().await;
    let run = scene.runs[0];
    let db = scene.place.raw();
    execute(
        "INSERT INTO events (number, seq, header, body_hash, chain, body)
         SELECT 1, 7, CAST(replace(CAST(header AS TEXT), '\"seq\":6', '\"seq\":7') AS BLOB),
             body_hash, chain, body FROM events WHERE number = 1 AND seq = 6",
    )(&db);
    rewrite_chain(&db, run);
    drop(db);
    scene.expect_first(Some(7), "not written under this run's key").await;
}

#[tokio::test]
async fn a_truncated_run_is_found() {
    let scene = scene().await;
    let run = scene.runs[0];
    let db = scene.place.raw();
    execute("DELETE FROM events WHERE number = 1 AND seq > 3")(&db);
    rewrite_chain(&db, run);
    drop(db);
    scene.expect_first(Some(4), "what follows 3 was cut off").await;
}

#[tokio::test]
async fn a_removed_event_is_found() {
    let remove = "DELETE FROM events WHERE number = 1 AND seq = 3";
    scene().await.expect(execute(remove), 4, "what is between is missing").await;
    let remove = "DELETE FROM events WHERE number = 1 AND seq = 6";
    scene().await.expect(execute(remove), 5, "names event 6 as its last").await;
}

#[tokio::test]
async fn exchanged_events_are_found() {
    let exchange = "UPDATE events SET seq = -2 WHERE number = 1 AND seq = 2;
        UPDATE events SET seq = 2 WHERE number = 1 AND seq = 3;
        UPDATE events SET seq = 3 WHERE number = 1 AND seq = -2";
    scene().await.expect(execute(exchange), 2, "does not continue the chain").await;
}

#[tokio::test]
async fn a_database_that_was_rolled_back_is_found() {
    let place = Place::new();
    let journal = place.open();
    let mut owner = new_run(&journal).await;
    let run = owner.run();
    owner.append(batch("1")).await.unwrap();
    drop((owner, journal));
    let (file, old) = (place.data().join("journal.db"), place.root.join("old.db"));
    fs::copy(&file, &old).unwrap();
    let journal = place.open();
    let mut owner = journal.claim(&local(), run, crate::Claim::IfFree).await.unwrap();
    owner.append(batch("2")).await.unwrap();
    owner.anchor().await.unwrap();
    drop((owner, journal));
    fs::copy(&old, &file).unwrap();
    let report = place.open().verify(&local(), Some(run)).await.unwrap();
    assert_found(&report.runs[0], Some(2), "what follows 1 was cut off");
}

#[tokio::test]
async fn swapped_runs_are_found() {
    let names = "UPDATE runs SET run = zeroblob(16) WHERE number = 1;
        UPDATE runs SET run = (SELECT scope FROM runs WHERE number = 1) WHERE number = 2;
        UPDATE runs SET run = (SELECT scope FROM runs WHERE number = 2) WHERE number = 1;";
    let rows = "UPDATE events SET number = 3 WHERE number = 1;
        UPDATE events SET number = 1 WHERE number = 2;
        UPDATE events SET number = 2 WHERE number = 3;";
    for swap in [names, rows] {
        let scene = scene().await;
        let db = scene.place.raw();
        execute(swap)(&db);
        drop(db);
        for report in scene.verify().await {
            assert_found(&report, Some(1), "does not continue the chain");
        }
    }
}

#[tokio::test]
async fn a_missing_run_is_found_by_its_anchor() {
    let remove = "DELETE FROM events WHERE number = 1; DELETE FROM runs WHERE number = 1";
    scene().await.expect(execute(remove), None, "but the run is gone").await;
}

#[tokio::test]
async fn a_missing_or_damaged_blob_is_found() {
    let scene = scene().await;
    let blobs: Vec<_> = walk(&scene.place.root.join("blobs/blobs"));
    assert_eq!(blobs.len(), 2);
    let whole = fs::read(&blobs[0]).unwrap();
    let mut damaged = whole.clone();
    damaged[1000] ^= 1;
    fs::write(&blobs[0], damaged).unwrap();
    let reports = scene.verify().await;
    let hit = reports.iter().position(|report| !report.problems.is_empty()).unwrap();
    assert_found(&reports[hit], Some(5), "is damaged");
    fs::remove_file(&blobs[0]).unwrap();
    let reports = scene.verify().await;
    assert_found(&reports[hit], Some(5), "is not in the store");
    assert_eq!(reports[1 - hit].problems, []);
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn an_anchor_without_the_key_is_found() {
    let scene = scene().await;
    let path = scene.place.root.join(format!("anchors/local.{}.anchor", scene.runs[0]));
    let anchor = fs::read_to_string(&path).unwrap();
    fs::write(&path, anchor.replace("\"seq\":4", "\"seq\":3")).unwrap();
    scene.expect_first(None, "anchor was not written with the tenant's key").await;
    // Nor does another run's anchor do.
    let other = scene.place.root.join(format!("anchors/local.{}.anchor", scene.runs[1]));
    fs::copy(other, &path).unwrap();
    scene.expect_first(None, "anchor was not written with the tenant's key").await;
}

#[tokio::test]
async fn a_pretended_erasure_is_found() {
    let pretend = "UPDATE runs SET erased = 1 WHERE number = 1;
        UPDATE events SET body = zeroblob(length(body)) WHERE number = 1;";
    scene().await.expect(execute(pretend), 6, "erased without a tombstone").await;
    // A tombstone cannot be made up either.
    let scene = scene().await;
    let run = scene.runs[0];
    let forged = Stored { bytes: [&[3; 33][..], b"{}"].concat(), hash: Hash::of(b"") };
    let db = scene.place.raw();
    execute(pretend)(&db);
    let sql = "UPDATE events SET body = ?1 WHERE number = 1 AND seq = 6";
    db.execute(sql, [forged.bytes]).unwrap();
    rewrite_chain(&db, run);
    drop(db);
    scene.expect_first(Some(6), "erased without a tombstone").await;
}

#[tokio::test]
async fn an_exchanged_key_is_found() {
    let exchange = "UPDATE scopes SET wrapped = (SELECT wrapped FROM scopes WHERE number = 2)
        WHERE number = 1";
    scene().await.expect(execute(exchange), None, "its key is gone").await;
}
