//! A process is killed in the middle of making a file: before each of its steps, and while half of
//! it is written. What was there stays, nothing is there by half, and the next process makes it.
//!
//! The other process is this test program once more.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use super::*;
use crate::{BlobStore, PackedBlobs, PackedOptions, ReadBlobError};

const DIR: &str = "MOAT_TEST_DIR";
/// Before what it stops.
const BEFORE: &str = "MOAT_TEST_BEFORE";
/// Bytes of a file that it may write; at the next one the kernel ends it.
const MOST: &str = "MOAT_TEST_MOST";
/// Begins the line that says how far it is.
const REACHED: &str = "reached ";
const DONE: &str = "done ";

thread_local! {
    /// What this thread came to.
    static STEPS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn step(name: &str) {
    STEPS.with_borrow_mut(|steps| steps.push(name.to_owned()));
    if std::env::var(BEFORE).is_ok_and(|before| before == name) {
        println!("{REACHED}{name}");
        loop {
            std::thread::park();
        }
    }
}

/// Bytes of its own for each number, which do not get smaller.
fn bytes(number: u8) -> Vec<u8> {
    let mut bytes = vec![0; 300_000];
    blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut bytes);
    bytes
}

fn store(dir: &Path) -> PackedBlobs {
    let options = PackedOptions { free_space_floor: 1, ..PackedOptions::default() };
    PackedBlobs::new(Arc::new(FolderObjects::new(dir)), [3; 32], options)
}

async fn put(dir: &Path, number: u8) -> moat_core::BlobId {
    let store = store(dir);
    let id = store.put(bytes(number)).await.unwrap();
    store.sync().await.unwrap();
    id
}

/// The other process; nothing when it is run as a test.
#[tokio::test]
async fn other_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    if let Ok(most) = std::env::var(MOST) {
        let most = most.parse().ok();
        setrlimit(Resource::Fsize, Rlimit { current: most, maximum: most }).unwrap();
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
    }
    println!("{DONE}{}", put(Path::new(&dir), 2).await);
}

fn other(dir: &Path, variable: &str, value: &str) -> Child {
    let name = format!("{}::other_process", module_path!().split_once("::").unwrap().1);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &name, "--nocapture"]).env(DIR, dir).env(variable, value);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Its last word, and how it ended, after it was killed.
fn end(mut child: Child) -> (Option<String>, ExitStatus) {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The harness of tests may have begun the line.
    let word = lines
        .filter_map(|line| {
            Some(line.split_at(line.find(REACHED).or(line.find(DONE))?).1.to_owned())
        })
        .next();
    let _ = child.kill();
    (word, child.wait().unwrap())
}

/// Files that have no name yet.
fn nameless(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join(NEW)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// What a process that was killed left: the one before, and nothing by half. Then the next does it.
async fn goes_on(dir: &Path, before: moat_core::BlobId, case: &str) {
    let found = store(dir);
    assert_eq!(found.get(before, u64::MAX).await.unwrap(), bytes(1), "{case}");
    assert_eq!(found.check().await.unwrap(), [], "{case}");
    let wanted = store(&dir.with_extension("elsewhere")).put(bytes(2)).await.unwrap();
    match found.get(wanted, u64::MAX).await {
        Ok(whole) => assert_eq!(whole, bytes(2), "{case}"),
        Err(ReadBlobError::Missing { .. }) => {}
        Err(other) => panic!("{case}: {other}"),
    }
    // Long ago.
    for file in nameless(dir) {
        let file = File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::now() - 2 * LEFT_OVER).unwrap();
    }
    assert_eq!(put(dir, 2).await, wanted);
    let again = store(dir);
    assert_eq!(again.get(wanted, u64::MAX).await.unwrap(), bytes(2), "{case}");
    assert_eq!(again.check().await.unwrap(), [], "{case}");
    // What another made of the one that died is not written once more, and swept with the next.
    put(dir, 3).await;
    assert_eq!(nameless(dir), Vec::<PathBuf>::new(), "{case}");
    assert_eq!(FolderObjects::new(dir).leases().await.unwrap(), Vec::<u64>::new(), "{case}");
}

#[tokio::test]
async fn a_kill_before_any_step_of_a_file_leaves_nothing_by_half() {
    for before in ["written", "synced", "named", "its name synced", "its folder synced"] {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("store");
        let first = match before {
            // Folders are made with the first file.
            "its folder synced" => None,
            _ => Some(put(&dir, 1).await),
        };
        let (word, status) = end(other(&dir, BEFORE, before));
        assert_eq!(word, Some(format!("{REACHED}{before}")), "{status}");
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
        let first = match first {
            Some(first) => first,
            None => put(&dir, 1).await,
        };
        goes_on(&dir, first, before).await;
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_write_leaves_nothing_by_half() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("store");
    let first = put(&dir, 1).await;
    let (word, status) = end(other(&dir, MOST, "150000"));
    assert_eq!((word, status.signal()), (None, Some(Signal::XFSZ.as_raw())));
    let [half] = &nameless(&dir)[..] else { panic!("{:?}", nameless(&dir)) };
    assert_eq!(fs::metadata(half).unwrap().len(), 150_000);
    goes_on(&dir, first, "half is written").await;
}

/// Somebody may have died between the name and its being durable; whoever is told that the file is
/// there counts on it.
#[test]
fn a_name_that_was_there_is_made_durable_as_well() {
    let top = tempfile::tempdir().unwrap();
    let shared = Shared { dir: top.path().to_owned(), swept: Once::new() };
    let steps = || STEPS.with_borrow_mut(std::mem::take);
    assert!(shared.create("packs/a", b"a").unwrap());
    assert_eq!(steps().last().unwrap(), "its name synced");
    assert!(!shared.create("packs/a", b"a").unwrap());
    assert_eq!(steps(), ["its name synced"]);
}
