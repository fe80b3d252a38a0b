//! Checkpoints and restores through the real guest program.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "checkpoint/bench.rs"]
mod bench;
#[path = "checkpoint/hooked.rs"]
mod hooked;
#[path = "checkpoint/kept.rs"]
mod kept;
#[path = "checkpoint/random.rs"]
mod random;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use moat_sandbox::checkpoint::{CheckpointError, RestoreError};
use moat_snapshot::Node;

use crate::bench::{Bench, packs, store, unsealed};
use crate::hooked::Hooked;

/// What `find` shows of a folder that a restore has to bring back.
fn picture(folder: &Path) -> String {
    let script = "find . -mindepth 1 ! -type l -printf '%P %y %m %T@ %n\\n' -o \
                  -mindepth 1 -type l -printf '%P %y %l %T@\\n' | sort; \
                  find . -type f -exec sha256sum {} + | sort";
    let out = std::process::Command::new("sh").arg("-c").arg(script).current_dir(folder).output();
    let text = String::from_utf8_lossy(&out.unwrap().stdout).into_owned();
    // A folder's links are the file system's business.
    text.lines()
        .map(|line| if line.contains(" d ") { line.rsplit_once(' ').unwrap().0 } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

fn one_of_everything(folder: &Path) {
    fs::create_dir_all(folder.join("d/empty")).unwrap();
    fs::write(folder.join("d/file"), "content").unwrap();
    fs::hard_link(folder.join("d/file"), folder.join("name")).unwrap();
    symlink("/absolute/nowhere", folder.join("link")).unwrap();
    fs::write(folder.join("large"), vec![7; 3 << 20]).unwrap();
    let sparse = fs::File::create(folder.join("sparse")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    sparse.write_all_at(b"end", (40 << 20) - 3).unwrap();
    fs::set_permissions(folder.join("large"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(folder.join("d/empty"), fs::Permissions::from_mode(0o555)).unwrap();
    let old = std::time::UNIX_EPOCH + Duration::from_millis(1_234_567_890_123);
    fs::File::open(folder.join("d/file")).unwrap().set_modified(old).unwrap();
    fs::File::open(folder.join("d")).unwrap().set_modified(old).unwrap();
}

#[tokio::test]
async fn a_sandbox_comes_back_as_it_was() {
    let (_dir, snapshots) = store();
    let first = Bench::new().await;
    one_of_everything(&first.workspace());
    one_of_everything(&first.home());
    fs::create_dir_all(first.home().join(".cache/big")).unwrap();
    let mut checkpoints = first.checkpointer(&snapshots);
    let report = checkpoints.checkpoint().await.unwrap();
    assert!(!report.unchanged && report.changed_count > 0);
    assert_eq!(report.files, 8);

    let second = Bench::new().await;
    let mut restored = second.checkpointer(&snapshots);
    restored.restore(report.snapshot).await.unwrap();
    assert_eq!(picture(&second.workspace()), picture(&first.workspace()));
    assert!(!second.home().join(".cache").exists());
    let sparse = fs::metadata(second.workspace().join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 20 << 20, "holes were filled: {} blocks", sparse.blocks());
    // Nothing changed, so the next checkpoint is the one it came from.
    let again = restored.checkpoint().await.unwrap();
    assert!(again.unchanged, "{:?}", again.changed);
    assert_eq!((again.snapshot, again.new_bytes), (report.snapshot, 0));
}

#[tokio::test]
async fn a_file_of_two_gigabytes_of_holes_costs_what_its_data_does() {
    const SIZE: u64 = 2 << 30;
    let (dir, snapshots) = store();
    let bench = Bench::new().await;
    let path = bench.workspace().join("sparse");
    let file = fs::File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    for (at, text) in [(0, "begin"), (SIZE / 2 + 7, "middle"), (SIZE - 3, "end")] {
        file.write_all_at(text.as_bytes(), at).unwrap();
    }
    let before = fs::metadata(&path).unwrap().blocks();
    let guest = Arc::new(Hooked::new(bench.guest.clone()));
    let mut checkpoints = bench.checkpointer_over(guest.clone(), &snapshots);
    let snapshot = checkpoints.checkpoint().await.unwrap().snapshot;
    assert!(guest.sent() < 1 << 20, "{} bytes were sent", guest.sent());
    let stored: u64 = packs(dir.path()).iter().map(|pack| pack.metadata().unwrap().len()).sum();
    assert!(stored < 100_000, "{stored} bytes are stored");

    let fresh = Bench::new().await;
    fresh.checkpointer(&snapshots).restore(snapshot).await.unwrap();
    let restored = fs::File::open(fresh.workspace().join("sparse")).unwrap();
    let metadata = restored.metadata().unwrap();
    assert_eq!(metadata.len(), SIZE);
    // A block of data may take more room than it did, but not a thousand times as much.
    assert!(metadata.blocks() <= before + 3 * 128, "{} blocks of {before}", metadata.blocks());
    for (at, text) in [(0, "begin"), (SIZE / 2 + 7, "middle"), (SIZE - 3, "end")] {
        let mut found = vec![0; text.len()];
        restored.read_exact_at(&mut found, at).unwrap();
        assert_eq!(found, text.as_bytes());
    }
}

/// Writes what `go` says into a mapping of `file`, without any other call that would show.
const MAPPER: &str = "
import mmap, os, time
with open('file', 'r+b') as file:
    mapped = mmap.mmap(file.fileno(), 0)
first, last = mapped[0], b''
while last != b'end':
    try:
        said = open('go', 'rb').read()
    except FileNotFoundError:
        said = b''
    if said and said != last:
        mapped[:3] = last = said
        open('done.new', 'wb').write(said)
        os.rename('done.new', 'done')
    time.sleep(0.002)
";

#[tokio::test]
async fn what_is_written_through_a_mapping_is_in_the_next_checkpoint() {
    if std::process::Command::new("python3").arg("-V").output().is_err() {
        println!("SKIP what_is_written_through_a_mapping: needs python3");
        return;
    }
    let (_dir, snapshots) = store();
    let bench = Bench::new().await;
    let workspace = bench.workspace();
    bench.put("file", &[b'.'; 5000]);
    bench.put("mapper.py", MAPPER.as_bytes());
    bench.guest.start(&bench.shell(1, "exec python3 mapper.py")).await.unwrap();
    let mut checkpoints = bench.checkpointer(&snapshots);
    for (round, said) in ["one", "two", "six", "ten", "end"].into_iter().enumerate() {
        fs::write(workspace.join("go.new"), said).unwrap();
        fs::rename(workspace.join("go.new"), workspace.join("go")).unwrap();
        while fs::read(workspace.join("done")).unwrap_or_default() != said.as_bytes() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let snapshot = checkpoints.checkpoint().await.unwrap().snapshot;
        let tree = snapshots.load(snapshot).await.unwrap();
        let Node::File { content, size, .. } = tree.workspace.get(Path::new("file")).unwrap().node
        else {
            panic!()
        };
        let found = snapshots.read_file(content, size).await.unwrap();
        assert_eq!(found[..3], *said.as_bytes(), "round {round}");
        // Longer than a tick: by its times the file would be known.
        tokio::time::sleep(Duration::from_millis(50)).await;
        checkpoints.checkpoint().await.unwrap();
    }
}

#[tokio::test]
async fn a_checkpoint_reads_and_stores_only_what_changed() {
    let (_dir, snapshots) = store();
    let bench = Bench::new().await;
    for number in 0..200 {
        bench.put(format!("d{}/{number}", number % 10), format!("file {number}").as_bytes());
    }
    let guest = Arc::new(Hooked::new(bench.guest.clone()));
    let mut checkpoints = bench.checkpointer_over(guest.clone(), &snapshots);
    checkpoints.checkpoint().await.unwrap();
    // Longer than a tick: from now on times tell. The first look after it settles them.
    tokio::time::sleep(Duration::from_millis(40)).await;
    checkpoints.checkpoint().await.unwrap();
    guest.take_reads();
    let report = checkpoints.checkpoint().await.unwrap();
    assert!(report.unchanged);
    assert_eq!(guest.take_reads(), Vec::<String>::new());

    bench.put("d3/3", b"file 4");
    bench.put("d4/new", b"new");
    fs::remove_file(bench.workspace().join("d5/5")).unwrap();
    fs::set_permissions(bench.workspace().join("d6/6"), fs::Permissions::from_mode(0o700)).unwrap();
    let report = checkpoints.checkpoint().await.unwrap();
    assert_eq!(report.changed, ["d3/3", "d4/new", "d5/5", "d6/6"]);
    assert_eq!(report.files, 200);
    let mut reads = guest.take_reads();
    reads.sort();
    assert_eq!(reads, ["d3/3", "d4/new", "d6/6"]);
    assert!(report.new_bytes < 10_000, "{} bytes for three small files", report.new_bytes);
}

#[tokio::test]
async fn a_harness_that_comes_back_reads_only_what_changed_meanwhile() {
    let (dir, snapshots) = store();
    let bench = Bench::new().await;
    for number in 0..50 {
        bench.put(format!("d{}/{number}", number % 5), format!("file {number}").as_bytes());
    }
    // Older than any tick.
    tokio::time::sleep(Duration::from_millis(60)).await;
    bench.put("last", b"x");
    let kept = dir.path().join("spool/files");
    let mut before = bench.checkpointer(&snapshots);
    before.keep_in(kept.clone());
    let last = before.checkpoint().await.unwrap().snapshot;
    for _ in 0..100 {
        if kept.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(before);
    bench.put("d3/3", b"changed while nobody looked");
    for (keeps, reads) in [(true, vec!["d3/3", "last"]), (false, Vec::new())] {
        let guest = Arc::new(Hooked::new(bench.guest.clone()));
        let mut again = bench.checkpointer_over(guest.clone(), &snapshots);
        if keeps {
            again.keep_in(kept.clone());
        }
        again.adopt(last).await.unwrap();
        let report = again.checkpoint().await.unwrap();
        assert_eq!(report.changed, ["d3/3"]);
        let mut read = guest.take_reads();
        read.sort();
        assert!(if keeps { read == reads } else { read.len() == 51 }, "{read:?}");
    }
}

#[tokio::test]
async fn an_edit_within_one_tick_of_the_clock_is_seen() {
    let (_dir, snapshots) = store();
    let bench = Bench::new().await;
    let mut checkpoints = bench.checkpointer(&snapshots);
    // In place, same size, as fast as it goes: times alone would miss some of these.
    bench.put("file", b"000");
    let file = fs::OpenOptions::new().write(true).open(bench.workspace().join("file")).unwrap();
    for number in 0..60 {
        let text = format!("{number:03}");
        file.write_all_at(text.as_bytes(), 0).unwrap();
        let report = checkpoints.checkpoint().await.unwrap();
        let tree = snapshots.load(report.snapshot).await.unwrap();
        let Node::File { content, .. } = tree.workspace.get(Path::new("file")).unwrap().node else {
            panic!()
        };
        assert_eq!(snapshots.read_file(content, 3).await.unwrap(), text.as_bytes());
    }
}

#[tokio::test]
async fn a_file_that_keeps_changing_is_an_error_and_the_one_before_stays() {
    let (_dir, snapshots) = store();
    let bench = Bench::new().await;
    bench.put("file", b"start");
    let guest = Arc::new(Hooked::new(bench.guest.clone()));
    let mut checkpoints = bench.checkpointer_over(guest.clone(), &snapshots);
    let before = checkpoints.checkpoint().await.unwrap().snapshot;
    bench.put("file", b"x");
    let path = bench.workspace().join("file");
    guest.on_read(move || {
        let length = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![b'x'; length as usize + 1]).unwrap();
    });
    let failed = checkpoints.checkpoint().await;
    let Err(CheckpointError::Changing { path, .. }) = &failed else { panic!("{failed:?}") };
    assert_eq!(path, Path::new("file"));
    guest.on_read(|| {});
    let tree = snapshots.verify(before).await.unwrap();
    assert_eq!(tree.files(), 1);
    assert!(!checkpoints.checkpoint().await.unwrap().unchanged);
}

#[tokio::test]
async fn a_guest_that_sends_little_at_a_time_is_not_asked_for_ever() {
    let (_dir, snapshots) = store();
    let bench = Bench::new().await;
    bench.put("large", &vec![b'x'; 3 << 20]);
    let guest = Arc::new(Hooked::new(bench.guest.clone()));
    let mut checkpoints = bench.checkpointer_over(guest.clone(), &snapshots);
    for little in [1, 4096] {
        guest.send_at_a_time(little);
        let failed = checkpoints.checkpoint().await;
        let Err(CheckpointError::Changing { path, .. }) = &failed else { panic!("{failed:?}") };
        assert_eq!(path, Path::new("large"));
        let asked = guest.take_reads().len();
        assert!(asked < 10, "it was asked {asked} times for {little} bytes each");
    }
    // What a guest that means well may send: a part of what it was asked for, and small pieces
    // between holes.
    guest.send_at_a_time(64 << 10);
    let file = fs::File::create(bench.workspace().join("holes")).unwrap();
    for piece in 0..64_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, b"piece", piece * (68 << 10)).unwrap();
    }
    let taken = checkpoints.checkpoint().await.unwrap().snapshot;
    assert_eq!(snapshots.verify(taken).await.unwrap().files(), 2);
}

#[tokio::test]
async fn processes_go_on_whatever_becomes_of_the_checkpoint() {
    let (_dir, snapshots) = store();
    let bench = Bench::new().await;
    bench.guest.start(&bench.shell(1, "while :; do echo tick; sleep 0.01; done")).await.unwrap();
    let guest = Arc::new(Hooked::new(bench.guest.clone()));
    let mut checkpoints = bench.checkpointer_over(guest.clone(), &snapshots);
    checkpoints.checkpoint().await.unwrap();
    assert_eq!(guest.thawed().await, 1);
    guest.fail_scans();
    assert!(checkpoints.checkpoint().await.is_err());
    assert_eq!(guest.thawed().await, 2);
    // Given up in the middle of a scan.
    guest.hang_scans();
    let dropped = tokio::time::timeout(Duration::from_millis(50), checkpoints.checkpoint()).await;
    assert!(dropped.is_err());
    assert_eq!(guest.thawed().await, 3);
    // It really runs: more output comes.
    let mut events = bench.guest.attach(bench.key(1), 0).await.unwrap();
    for _ in 0..3 {
        assert!(events.recv().await.is_some());
    }
}

#[tokio::test]
async fn special_files_are_left_out_and_counted() {
    let (_dir, snapshots) = store();
    let bench = Bench::new().await;
    let made = std::process::Command::new("mkfifo").arg(bench.workspace().join("pipe")).status();
    assert!(made.unwrap().success());
    let report = bench.checkpointer(&snapshots).checkpoint().await.unwrap();
    assert_eq!((report.skipped_special, report.files), (1, 0));
}

#[tokio::test]
async fn damage_is_named_and_another_snapshot_still_restores() {
    let (dir, snapshots) = store();
    let bench = Bench::new().await;
    bench.put("file", b"whole");
    let mut checkpoints = bench.checkpointer(&snapshots);
    let whole = checkpoints.checkpoint().await.unwrap().snapshot;
    bench.put("large", &vec![5; 2 << 20]);
    let damaged = checkpoints.checkpoint().await.unwrap().snapshot;
    let id = snapshots.id_of(&vec![5; 2 << 20]).to_string();
    // Its chunks are the first thing in the newest pack.
    let pack = packs(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[60] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let fresh = Bench::new().await;
    let failed = fresh.checkpointer(&snapshots).restore(damaged).await;
    let Err(error @ RestoreError::Content { .. }) = failed else { panic!("{failed:?}") };
    let text = error.to_string();
    let named = [&id, "`large`", &damaged.to_string(), "an earlier snapshot"];
    assert!(named.iter().all(|name| text.contains(*name)), "{text}");
    let fresh = Bench::new().await;
    fresh.checkpointer(&snapshots).restore(whole).await.unwrap();
    assert_eq!(fs::read(fresh.workspace().join("file")).unwrap(), b"whole");
}

#[tokio::test]
async fn thirty_forks_add_little_to_the_store() {
    let (dir, snapshots) = unsealed();
    let bench = Bench::new().await;
    let mut noise = noise_of(4 << 20);
    for number in 0..200 {
        let content = noise.split_off(noise.len() - 20_000);
        bench.put(format!("d{}/{number}", number % 20), &content);
    }
    let source = bench.checkpointer(&snapshots).checkpoint().await.unwrap().snapshot;
    let before = stored(dir.path());
    for fork in 0..30 {
        let bench = Bench::new().await;
        let mut checkpoints = bench.checkpointer(&snapshots);
        checkpoints.restore(source).await.unwrap();
        bench.put("d3/3", format!("fork {fork}").as_bytes());
        assert!(!checkpoints.checkpoint().await.unwrap().unchanged);
    }
    let added = stored(dir.path()) - before;
    assert!(added * 20 < before, "thirty forks added {added} to {before} bytes");
}

fn stored(dir: &Path) -> u64 {
    packs(dir).iter().map(|pack| pack.metadata().unwrap().len()).sum()
}

/// Bytes that do not compress.
fn noise_of(size: usize) -> Vec<u8> {
    let mut state: u64 = 88_172_645_463_325_252;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

#[tokio::test]
async fn what_writes_and_maps_files_during_every_checkpoint_spoils_none() {
    let (_dir, snapshots) = store();
    let bench = Bench::new().await;
    let script = "i=0; while :; do i=$((i+1)); echo $i > a.new; mv a.new a; echo $i >> log; \
                  cp log copy; rm -f copy; done";
    bench.guest.start(&bench.shell(1, script)).await.unwrap();
    let mut checkpoints = bench.checkpointer(&snapshots);
    let mut taken = Vec::new();
    for _ in 0..15 {
        // A checkpoint may fail; what it reports as taken is whole.
        if let Ok(report) = checkpoints.checkpoint().await {
            taken.push(report.snapshot);
        }
    }
    assert!(taken.len() > 10, "{} of 15", taken.len());
    for snapshot in taken {
        let tree = snapshots.verify(snapshot).await.unwrap();
        let Some(log) = tree.workspace.get(Path::new("log")) else { continue };
        let Node::File { content, size, .. } = log.node else { panic!() };
        let log = String::from_utf8(snapshots.read_file(content, size).await.unwrap()).unwrap();
        let lines: Vec<u64> = log.lines().map(|line| line.parse().unwrap()).collect();
        let counts: Vec<u64> = (1..=lines.len() as u64).collect();
        assert_eq!(lines, counts, "a moment that never was");
    }
}

/// The store of a tenant holds a content that a sandbox never had. Its guest knows the content's
/// name, size and place, and gets nothing by saying them.
#[tokio::test]
async fn what_a_guest_names_is_only_bytes() {
    let (dir, snapshots) = unsealed();
    let secret = noise_of(900_000);
    let stored = snapshots.put(secret.clone()).await.unwrap();
    let kept = moat_snapshot::Entry {
        path: "secret".into(),
        meta: moat_snapshot::Meta::with_mode(0o600),
        node: Node::File { content: stored.content, size: stored.size, link: None },
    };
    let root = moat_snapshot::Meta::folder();
    let workspace = moat_snapshot::Listing::from_entries(root, vec![kept]).unwrap();
    let tree = moat_snapshot::Tree { workspace, ..moat_snapshot::Tree::empty() };
    snapshots.commit(&tree).await.unwrap();

    let bench = Bench::new().await;
    let id = stored.content.0;
    let size = stored.size.to_le_bytes();
    // What a recipe, a folder and a pack say where they refer to a content.
    let folder = [b"moat-folder\x01\x01\0\0\0\x01\0x\0".as_slice(), &[0; 20], &size, &id, &[0]];
    let pack = fs::read(packs(dir.path()).pop().unwrap()).unwrap();
    let names: [(&str, Vec<u8>); 5] = [
        ("hex", stored.content.to_string().into_bytes()),
        ("raw", id.to_vec()),
        ("recipe", [&[0; 32][..], &id, &size].concat()),
        ("folder", folder.concat()),
        ("pack", pack.get(pack.len() - 4096..).unwrap().to_vec()),
    ];
    for (name, bytes) in &names {
        bench.put(name, bytes);
    }
    let taken = bench.checkpointer(&snapshots).checkpoint().await.unwrap();
    let fresh = Bench::new().await;
    fresh.checkpointer(&snapshots).restore(taken.snapshot).await.unwrap();
    for (name, bytes) in &names {
        assert_eq!(&fs::read(fresh.workspace().join(name)).unwrap(), bytes, "{name}");
    }

    // A file of that size, said to be there by whoever never sends a byte of it.
    let file = fs::File::create(bench.workspace().join("claimed")).unwrap();
    file.set_len(stored.size).unwrap();
    let guest = Arc::new(Hooked::new(bench.guest.clone()));
    guest.send_nothing();
    let failed = bench.checkpointer_over(guest, &snapshots).checkpoint().await;
    assert!(matches!(failed, Err(CheckpointError::Changing { .. })), "{failed:?}");
    // And under the key of somebody else the same bytes have another name, and are stored anew.
    let other = moat_core::TenantKey::new([9; 32]);
    let objects = Arc::new(moat_blobs::FolderObjects::new(dir.path()));
    let options = moat_blobs::PackedOptions::default();
    let key = *moat_snapshot::Snapshots::blob_key(&other);
    let packs = moat_blobs::PackedBlobs::new(objects, key, options);
    let elsewhere = moat_snapshot::Snapshots::new(Arc::new(packs), &other);
    let put = elsewhere.put(secret).await.unwrap();
    assert!(put.new && put.content != stored.content);
}

/// Futures of this crate are spawned by whoever drives a run.
#[tokio::test]
async fn futures_can_be_sent() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    let (dir, snapshots) = store();
    let bench = Bench::new().await;
    let mut checkpoints = bench.checkpointer(&snapshots);
    let folders = moat_sandbox::materialise::HostFolders::new(dir.path());
    let manifest = moat_sandbox::manifest::Manifest::default();
    let made = moat_sandbox::materialise::materialise(&manifest, &folders, &snapshots, &|_| {});
    let made = sent(made).await.unwrap();
    sent(checkpoints.restore(made.snapshot)).await.unwrap();
    assert!(sent(checkpoints.checkpoint()).await.unwrap().unchanged);
}
