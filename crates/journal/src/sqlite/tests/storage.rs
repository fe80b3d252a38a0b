use std::fs;
use std::os::unix::fs::FileExt;

use moat_core::{Retryable, Seq};

use super::{Place, SmallDisk, batch, bodies, flip, local, new_run, read_all};
use crate::sqlite::SqliteJournal;
use crate::{AppendError, Claim, ClaimError, Journal, OpenError, ReadError, StorageError};

#[tokio::test]
async fn a_newer_format_and_a_foreign_file_are_refused() {
    let place = Place::new();
    drop(place.open());
    place.raw().execute_batch("PRAGMA user_version = 7").unwrap();
    let refused = SqliteJournal::open(place.options(1)).err().unwrap();
    assert!(matches!(refused, OpenError::Newer { found: 7, known: 1, .. }), "{refused}");
    place.raw().execute_batch("PRAGMA application_id = 0").unwrap();
    let refused = SqliteJournal::open(place.options(1)).err().unwrap();
    assert!(matches!(refused, OpenError::NotAJournal { .. }), "{refused}");
    fs::write(place.data().join("journal.db"), "a letter to Ada".repeat(100)).unwrap();
    let refused = SqliteJournal::open(place.options(1)).err().unwrap();
    assert!(matches!(refused, OpenError::NotAJournal { .. }), "{refused}");
}

#[tokio::test]
async fn another_key_is_named() {
    let place = Place::new();
    let journal = place.open();
    let mut owner = new_run(&journal).await;
    owner.append(batch("sealed")).await.unwrap();
    owner.anchor().await.unwrap();
    let run = owner.run();
    drop(owner);
    let stranger = SqliteJournal::open(place.options(9)).unwrap();
    let read = stranger.read(&local(), run, Seq(0), 9).await;
    assert!(matches!(read, Err(ReadError::WrongKey { .. })), "{read:?}");
    let claimed = stranger.claim(&local(), run, Claim::IfFree).await.err();
    assert!(matches!(claimed, Some(ClaimError::WrongKey { .. })), "{claimed:?}");
    let report = stranger.verify(&local(), Some(run)).await.unwrap();
    assert_eq!(report.runs[0].anchored, None);
    assert!(!report.runs[0].problems.is_empty());
    assert_eq!(bodies(&read_all(&journal, run).await), ["sealed"], "nothing was harmed");
}

#[tokio::test]
async fn what_is_before_a_damaged_page_can_be_read_and_so_can_other_runs() {
    let place = Place::new();
    let journal = place.open();
    let (mut hit, mut other) = (new_run(&journal).await, new_run(&journal).await);
    for n in 1..=6 {
        hit.append(batch(format!("{n}").repeat(3000))).await.unwrap();
    }
    other.append(batch("whole")).await.unwrap();
    let (hit, other) = (hit.run(), other.run());
    drop(journal);
    let db = place.raw();
    let sql = "SELECT substr(body, 2, 64) FROM events WHERE number = 1 AND seq = 4";
    let mark: Vec<u8> = db.query_row(sql, [], |row| row.get(0)).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(db);
    let path = place.data().join("journal.db");
    let bytes = fs::read(&path).unwrap();
    let found = bytes.windows(64).position(|window| window == mark).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for damage in [vec![0xff; 4096], vec![0; 4096]] {
        file.write_all_at(&damage, (found / 4096 * 4096) as u64).unwrap();
        let journal = place.open();
        let read = read_all(&journal, hit).await;
        assert_eq!(read.iter().map(|event| event.header.seq.0).collect::<Vec<_>>(), [1, 2, 3]);
        match journal.read(&local(), hit, Seq(3), 9).await {
            Err(ReadError::Damaged { run, seq, .. }) => assert_eq!((run, seq), (hit, Seq(4))),
            read => panic!("a damaged event has to be named, got {read:?}"),
        }
        assert_eq!(bodies(&read_all(&journal, other).await), ["whole"]);
        let report = journal.verify(&local(), Some(hit)).await.unwrap();
        assert_eq!(report.runs[0].problems[0].seq, Some(Seq(4)), "{report:?}");
        let report = journal.verify(&local(), Some(other)).await.unwrap();
        assert_eq!(report.runs[0].problems, []);
        drop(journal);
    }
}

#[tokio::test]
async fn a_flipped_byte_is_named() {
    let place = Place::new();
    let journal = place.open();
    let mut owner = new_run(&journal).await;
    let run = owner.run();
    for n in 1..=3 {
        owner.append(batch(n.to_string())).await.unwrap();
    }
    drop((owner, journal));
    flip(&place.raw(), 2);
    let journal = place.open();
    assert_eq!(bodies(&read_all(&journal, run).await), ["1"]);
    let read = journal.read(&local(), run, Seq(1), 9).await;
    assert!(matches!(read, Err(ReadError::Damaged { seq: Seq(2), .. })), "{read:?}");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_passes() {
    let Some(disk) = SmallDisk::mount("2m") else {
        println!("SKIP a_full_disk_loses_nothing_and_passes: mounting needs root");
        return;
    };
    let place = Place::at(disk.0.path());
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 900_000]).unwrap();
    let journal = place.open();
    let mut owner = new_run(&journal).await;
    let mut written = Vec::new();
    let refused = loop {
        let body = format!("{}", written.len()).repeat(4000);
        match owner.append(batch(body.clone())).await {
            Ok(_) => written.push(body),
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, AppendError::Storage(StorageError::Full { .. })), "{refused}");
    assert!(refused.is_retryable() && !written.is_empty());
    assert_eq!(bodies(&read_all(&journal, owner.run()).await), written);
    fs::remove_file(&ballast).unwrap();
    for _ in 0..3 {
        owner.append(batch("after")).await.unwrap();
        written.push("after".to_owned());
    }
    let run = owner.run();
    drop((owner, journal));
    let journal = place.open();
    assert_eq!(bodies(&read_all(&journal, run).await), written);
    let report = journal.verify(&local(), None).await.unwrap();
    assert_eq!(report.runs[0].problems, []);
}

#[tokio::test]
async fn a_read_only_folder_can_be_read_and_says_why_it_cannot_be_written() {
    // Root may write anywhere but on a file system that is mounted read-only.
    let disk = SmallDisk::mount("2m");
    let place = disk.as_ref().map_or_else(Place::new, |disk| Place::at(disk.0.path()));
    let mut owner = new_run(&place.open()).await;
    owner.append(batch("kept")).await.unwrap();
    let run = owner.run();
    drop(owner);
    let change = |mode: &str, option: &str| {
        let mut command =
            std::process::Command::new(if disk.is_some() { "mount" } else { "chmod" });
        match disk {
            Some(_) => command.args(["-o", option]).arg(&place.root),
            None => command.args(["-R", mode]).arg(&place.root),
        };
        assert!(command.status().unwrap().success());
    };
    change("a-w", "remount,ro");
    let journal = place.open();
    assert_eq!(bodies(&read_all(&journal, run).await), ["kept"]);
    assert_eq!(journal.list(&local(), 9).await.unwrap().len(), 1);
    let refused = journal.claim(&local(), run, Claim::IfFree).await.err();
    change("u+w", "remount,rw");
    let read_only = Some(ClaimError::Storage(StorageError::ReadOnly { path: place.data() }));
    assert_eq!(format!("{refused:?}"), format!("{read_only:?}"));
}
