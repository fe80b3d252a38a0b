use std::fs;

use super::{Place, batch, event, local, new_run, read_all};
use crate::sqlite::append::IN_ROW;
use crate::{Batch, Claim, InboxEntry, IndexRow, Journal, NewEvent};

fn tombstone() -> NewEvent {
    NewEvent { kind: "erased".to_owned(), ..event("{}") }
}

/// All bytes of all files in the data folder and of the blobs.
fn everything(place: &Place) -> Vec<u8> {
    fn collect(dir: &std::path::Path, into: &mut Vec<u8>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { collect(&path, into) } else { into.extend(fs::read(path).unwrap()) }
        }
    }
    let mut bytes = Vec::new();
    collect(&place.data(), &mut bytes);
    collect(&place.root.join("blobs"), &mut bytes);
    bytes
}

fn holds(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn nothing_of_it_is_left_in_any_file() {
    let place = Place::new();
    let journal = place.open();
    let mut owner = new_run(&journal).await;
    let mut other = new_run(&journal).await;
    let run = owner.run();
    let secret = "what nobody may read again";
    let entry = |id: &str| InboxEntry {
        id: id.to_owned(),
        kind: "steer".to_owned(),
        body: secret.to_owned(),
        who: "user:ada".to_owned(),
        at: 1,
    };
    journal.post(&local(), run, entry("taken")).await.unwrap();
    journal.post(&local(), run, entry("waiting")).await.unwrap();
    let index = Some(IndexRow { status: "running".to_owned(), facts: secret.to_owned() });
    let consumed = vec!["taken".to_owned()];
    owner.append(Batch { index, consumed, ..batch(secret.repeat(2)) }).await.unwrap();
    for n in 0..40 {
        // Between another run's events, of all sizes, through several checkpoints of the file.
        owner.append(batch(secret.repeat(1 + n * 8))).await.unwrap();
        other.append(batch("kept".repeat(1 + n * 20))).await.unwrap();
    }
    owner.append(batch(secret.repeat(IN_ROW / 10))).await.unwrap();
    drop(owner);
    let before = everything(&place);
    assert!(!holds(&before, secret.as_bytes()), "plain text is in no file at any time");

    // Opening more connections to the file of a journal that is open in this process would break
    // SQLite's locks, so everything is closed and opened again.
    drop((journal, other));
    let traces = stored_bytes(&place);
    assert!(traces.len() > 40);
    let all = everything(&place);
    assert!(traces.iter().all(|trace| holds(&all, trace)), "this test looks for the right bytes");
    let journal = place.open();
    journal.erase(&local(), run, &[], tombstone()).await.unwrap();
    let all = everything(&place);
    for (n, trace) in traces.iter().enumerate() {
        assert!(!holds(&all, trace), "trace {n} of {} is left", traces.len());
    }
    assert_eq!(fs::metadata(place.data().join("journal.db-wal")).unwrap().len(), 0);
    let report = journal.verify(&local(), None).await.unwrap();
    assert!(report.runs.iter().all(|report| report.problems.is_empty()), "{report:#?}");
    assert!(report.runs.iter().any(|report| report.erased && report.anchored == Some(report.head)));
}

/// Enough of each stored secret of the first run to recognise it: the wrapped key first.
fn stored_bytes(place: &Place) -> Vec<Vec<u8>> {
    let db = place.raw();
    let mut traces = Vec::new();
    for sql in [
        "SELECT wrapped FROM scopes WHERE number = 1",
        "SELECT substr(body, 2, 64) FROM events WHERE number = 1",
        "SELECT substr(facts, 1, 64) FROM listings WHERE number = 1",
        "SELECT substr(entry, 1, 64) FROM inbox WHERE entry IS NOT NULL",
    ] {
        let mut select = db.prepare(sql).unwrap();
        let rows = select.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        traces.extend(rows.map(Result::unwrap));
    }
    traces
}

#[tokio::test]
async fn what_a_crash_left_unfinished_is_finished_by_erasing_once_more() {
    let place = Place::new();
    let journal = place.open();
    let mut owner = new_run(&journal).await;
    let run = owner.run();
    owner.append(batch(vec![1; 2 * IN_ROW])).await.unwrap();
    drop((owner, journal));
    let db = place.raw();
    let sql = "SELECT body FROM events WHERE number = 1";
    let stub: Vec<u8> = db.query_row(sql, [], |row| row.get(0)).unwrap();
    drop(db);
    let blob = fs::read_dir(place.root.join("blobs/blobs")).unwrap().next().unwrap().unwrap();
    let blob = fs::read_dir(blob.path()).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&blob).unwrap();
    place.open().erase(&local(), run, &[], tombstone()).await.unwrap();
    assert!(!blob.exists());

    // As if it had died after the transaction, before it deleted the blob.
    fs::write(&blob, bytes).unwrap();
    let db = place.raw();
    db.execute("UPDATE events SET body = ?1 WHERE seq = 1", [stub]).unwrap();
    drop(db);
    let journal = place.open();
    assert!(read_all(&journal, run).await[0].body.is_none(), "its key is gone all the same");
    let report = journal.verify(&local(), Some(run)).await.unwrap();
    assert!(report.runs[0].problems[0].message.contains("erase the run once more"));
    journal.erase(&local(), run, &[], tombstone()).await.unwrap();
    assert!(!blob.exists());
    let report = journal.verify(&local(), Some(run)).await.unwrap();
    assert_eq!(report.runs[0].problems, []);
    assert!(journal.claim(&local(), run, Claim::IfFree).await.is_err());
}

/// A listing is a view. What goes by it must not take a run for erased whose row is damaged.
#[tokio::test]
async fn a_row_that_cannot_be_opened_is_not_an_erased_run() {
    let place = Place::new();
    let journal = place.open();
    let mut owner = new_run(&journal).await;
    owner.append(batch("{}")).await.unwrap();
    let run = owner.run();
    drop((owner, journal));
    place
        .raw()
        .execute(
            "INSERT OR REPLACE INTO listings SELECT number, 'running', zeroblob(64) FROM runs",
            [],
        )
        .unwrap();
    let listed = place.open().list(&local(), 10).await.unwrap();
    assert_eq!((listed[0].run, &listed[0].index, listed[0].erased), (run, &None, false));
}
