//! Measures durable appends of 2 KiB beside SQLite's own floor on the same disk, and prints JSON.
//!
//! `cargo run --release -p moat-journal --example append_bench [FOLDER] [APPENDS]`
#![expect(clippy::print_stdout, reason = "a program that prints its result")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measuring program")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moat_blobs::FolderBlobs;
use moat_core::{RunId, TenantId, TenantKey};
use moat_journal::sqlite::{SqliteJournal, SqliteOptions};
use moat_journal::{Batch, Journal, NewEvent, RunOwner};

const BODY: usize = 2048;
const RUNS: usize = 64;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let appends = arguments.next().map_or(4000, |count| count.parse().unwrap());
    let dir = tempfile::tempdir_in(parent).unwrap();

    let start = Instant::now();
    let journal = open(&dir.path().join("journal"));
    let create_us = micros(start.elapsed());
    drop(journal);
    let start = Instant::now();
    let journal = open(&dir.path().join("journal"));
    let open_us = micros(start.elapsed());

    // Taken in turns, so that a disk that changes its pace does so for both.
    let raw = RawSqlite::open(&dir.path().join("raw.db"));
    let mut owner = new_run(&journal).await;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for n in 0..10 {
        let warm = n == 0;
        let raw_slice = raw.inserts(appends / 10);
        let our_slice = one_by_one(&mut *owner, appends / 10).await;
        if !warm {
            floor.extend(raw_slice);
            ours.extend(our_slice);
        }
    }
    let many = many_runs(&journal, appends).await;
    let (ours, floor) = (Quantiles::of(ours), Quantiles::of(floor));
    println!(
        "{{\"body_bytes\":{BODY},\"create_us\":{create_us:.0},\"open_us\":{open_us:.0},\
         \"append_p50_us\":{:.1},\"append_p99_us\":{:.1},\
         \"raw_p50_us\":{:.1},\"raw_p99_us\":{:.1},\"ratio_p50\":{:.2},\
         \"runs\":{RUNS},\"appends_per_s\":{many:.0},\"raw_appends_per_s\":{:.0}}}",
        ours.p50,
        ours.p99,
        floor.p50,
        floor.p99,
        ours.p50 / floor.p50,
        1e6 / floor.mean,
    );
}

fn open(dir: &Path) -> SqliteJournal {
    let options = SqliteOptions {
        data_dir: dir.join("data"),
        anchors_dir: dir.join("anchors"),
        tenant_key: TenantKey::new([1; 32]),
        blobs: Arc::new(FolderBlobs::new(dir.join("blobs"), [2; 32])),
    };
    SqliteJournal::open(options).unwrap()
}

async fn new_run(journal: &SqliteJournal) -> Box<dyn RunOwner> {
    journal.create(&TenantId::local(), RunId::generate(), None).await.unwrap()
}

fn batch() -> Batch {
    let event = NewEvent {
        actor: "harness".to_owned(),
        kind: "measured".to_owned(),
        version: 1,
        must_understand: true,
        at: None,
        body: vec![7; BODY],
    };
    Batch { events: vec![event], ..Batch::default() }
}

async fn one_by_one(owner: &mut dyn RunOwner, count: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let batch = batch();
        let start = Instant::now();
        owner.append(batch).await.unwrap();
        times.push(start.elapsed());
    }
    times
}

/// Appends each second with many runs at once.
async fn many_runs(journal: &SqliteJournal, appends: usize) -> f64 {
    let mut owners = Vec::new();
    for _ in 0..RUNS {
        owners.push(new_run(journal).await);
    }
    let each = appends * 10 / RUNS;
    let start = Instant::now();
    let drivers: Vec<_> = owners
        .into_iter()
        .map(|mut owner| {
            tokio::spawn(async move {
                for _ in 0..each {
                    owner.append(batch()).await.unwrap();
                }
            })
        })
        .collect();
    for driver in drivers {
        driver.await.unwrap();
    }
    (each * RUNS) as f64 / start.elapsed().as_secs_f64()
}

/// The floor: one insert in one transaction, WAL, full sync, nothing around it.
struct RawSqlite(rusqlite::Connection);

impl RawSqlite {
    fn open(path: &Path) -> Self {
        let db = rusqlite::Connection::open(path).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE events (id INTEGER PRIMARY KEY, body BLOB NOT NULL);",
        )
        .unwrap();
        Self(db)
    }

    fn inserts(&self, count: usize) -> Vec<Duration> {
        let body = vec![7_u8; BODY];
        let mut insert = self.0.prepare("INSERT INTO events (body) VALUES (?1)").unwrap();
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            insert.execute([&body]).unwrap();
            times.push(start.elapsed());
        }
        times
    }
}

struct Quantiles {
    p50: f64,
    p99: f64,
    mean: f64,
}

impl Quantiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |share: f64| micros(times[(times.len() as f64 * share) as usize]);
        let mean = micros(times.iter().sum::<Duration>()) / times.len() as f64;
        Self { p50: at(0.5), p99: at(0.99), mean }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
