use super::*;

const SECOND: i64 = 1_000_000_000;

fn entry(path: &str, kind: FileKind, ctime_ns: i64) -> ScanEntry {
    let stat = FileStat {
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: 3,
        mtime_ns: 0,
        ctime_ns,
        inode: ctime_ns as u64,
        links: 1,
        xattrs: std::collections::BTreeMap::new(),
    };
    ScanEntry { path: path.into(), stat }
}

fn scan(files: &[(&str, i64)]) -> RootScan {
    let mut entries = vec![entry("", FileKind::Dir, 1)];
    entries.extend(files.iter().map(|(path, ctime)| entry(path, FileKind::File, *ctime)));
    RootScan::check(entries).unwrap()
}

/// What a scan of these files would not have to read again, if it read the rest.
fn known(memory: &mut Memory, files: &[(&str, i64)]) -> Vec<String> {
    let (workspace, home) = (scan(files), scan(&[]));
    memory.begin(&workspace, &home);
    let mut known = Vec::new();
    for ScanEntry { path, stat } in &workspace.entries {
        match memory.recall(Root::Workspace, path, Facts::of(stat)) {
            Some(_) => known.push(path.display().to_string()),
            None => {
                let content = BlobId([1; 32]);
                memory.learn(Root::Workspace, path.clone(), Facts::of(stat), content);
            }
        }
    }
    memory.end();
    known
}

#[test]
fn what_may_have_changed_unseen_is_read_again_once_the_clock_has_moved_on() {
    let now = 1000 * SECOND + 7;
    let files = [("fresh", now), ("just before", now - 5_000_000), ("old", now - SECOND)];
    let mut memory = Memory::default();
    assert!(known(&mut memory, &files).is_empty(), "nothing is known at first");
    assert_eq!(known(&mut memory, &files), ["old"], "the others may change within the same tick");
    std::thread::sleep(TICK * 2);
    assert_eq!(known(&mut memory, &files), ["old"], "they could have, before");
    assert_eq!(known(&mut memory, &files), ["fresh", "just before", "old"], "now it would show");
    assert_eq!(known(&mut memory, &[("fresh", now + 1)]), [""; 0], "another time, read again");
    assert_eq!(known(&mut memory, &files), [""; 0], "what was gone in between is forgotten");
}

#[test]
fn whole_seconds_are_long_ticks() {
    let mut memory = Memory::default();
    memory.begin(&scan(&[("a", 100 * SECOND), ("b", 90 * SECOND)]), &scan(&[]));
    assert_eq!(memory.unsettled_from, 98 * SECOND);
    memory.begin(&scan(&[("a", 100 * SECOND), ("b", 90 * SECOND + 1)]), &scan(&[]));
    assert_eq!(memory.unsettled_from, 100 * SECOND - 20_000_000);
}

#[test]
fn names_of_one_file_are_believed_only_if_they_agree() {
    let mut one = entry("a", FileKind::File, 5);
    one.stat.links = 2;
    let mut other = ScanEntry { path: "b".into(), ..one.clone() };
    let root = entry("", FileKind::Dir, 1);
    let group = |names: Vec<ScanEntry>| {
        let scan = RootScan::check([vec![root.clone()], names].concat()).unwrap();
        scan.groups().get(&5).copied().flatten()
    };
    assert_eq!(group(vec![one.clone(), other.clone()]), Some(LinkGroup::of(Path::new("a"))));
    assert_eq!(group(vec![one.clone()]), None, "the other name is outside");
    other.stat.size = 4;
    assert_eq!(group(vec![one, other]), None);
}

#[test]
fn what_is_known_outlives_the_harness_and_belongs_to_one_boot() {
    let now = 1000 * SECOND + 7;
    let files = [("fresh", now), ("old", now - SECOND)];
    let mut memory = Memory::default();
    known(&mut memory, &files);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/files");
    let (key, boot) = (moat_core::SealingKey::new(&[1; 32]), moat_core::BootNonce("a".into()));
    kept::write(&path, &key, &boot, &memory.encode());
    let mut again = kept::read(&path, &key, &boot).unwrap();
    assert_eq!(known(&mut again, &files), ["old"], "the other one may have changed unseen");
    let other = moat_core::BootNonce("b".into());
    assert!(kept::read(&path, &key, &other).is_none(), "another boot");
    let bytes = memory.encode();
    for cut in 0..bytes.len() {
        assert!(Memory::decode(&bytes[..cut]).is_none(), "cut at {cut}");
    }
    std::fs::write(&path, b"garbage").unwrap();
    assert!(kept::read(&path, &key, &boot).is_none());
}
