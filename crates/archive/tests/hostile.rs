//! Archives that wish their reader ill, and archives of every form that do not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "support/builder.rs"]
mod builder;

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

use builder::{Made, gzip, tar, zip, zstd};
use moat_archive::{Archive, ArchiveError, ArchiveLimits, Kind, Rules, Trust, extract};
use proptest::prelude::*;

fn opened(bytes: Vec<u8>, rules: &Rules) -> Result<Archive<Cursor<Vec<u8>>>, ArchiveError> {
    Archive::open(Cursor::new(bytes), rules)
}

fn contents(archive: &mut Archive<Cursor<Vec<u8>>>) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    archive
        .read(|member, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            found.push((member.path.display().to_string(), bytes));
            Ok::<_, std::io::Error>(())
        })
        .unwrap();
    found
}

fn names_below(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_form_gives_the_same_members() {
    let members = [Made::file("a/b.txt", b"hello"), Made::file("c", &[7; 5000])];
    let plain = tar(&members);
    for bytes in [plain.clone(), gzip(&plain), zstd(&plain), zip(&members)] {
        let mut archive = opened(bytes, &Rules::import()).unwrap();
        let expected =
            vec![("a/b.txt".to_owned(), b"hello".to_vec()), ("c".to_owned(), vec![7; 5000])];
        assert_eq!(contents(&mut archive), expected);
    }
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let bomb = Made::file("big", &vec![0; 40 << 20]);
    for bytes in [gzip(&tar(std::slice::from_ref(&bomb))), zip(std::slice::from_ref(&bomb))] {
        assert!(bytes.len() < 1 << 20);
        match opened(bytes, &Rules::import()) {
            Err(ArchiveError::Ratio { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    // A header that lies about its size is found by reading no further than it says.
    let mut lying = zip(&[Made::file("x", &[0; 100_000])]);
    let size = 100_000_u32.to_le_bytes();
    let places: Vec<_> =
        (0..lying.len() - 4).filter(|place| lying[*place..].starts_with(&size)).collect();
    for place in places {
        lying[place..place + 4].copy_from_slice(&10_u32.to_le_bytes());
    }
    let error = opened(lying, &Rules::import()).unwrap_err();
    assert_eq!((error.class(), error.to_string().contains("`x`")), ("corrupt", true), "{error}");
}

#[test]
fn zip_directories_that_lie_are_refused_with_the_member_named() {
    let whole = zip(&[Made::file("inner", b"content"), Made::file("other", b"content")]);
    // The member's own header names it otherwise: readers disagree about which name counts.
    let mut renamed = whole.clone();
    let place = renamed.windows(5).position(|window| window == b"inner").unwrap();
    renamed[place..place + 5].copy_from_slice(b"outer");
    // Both members at one place.
    let mut shared = whole.clone();
    let second = shared.windows(5).rposition(|window| window == b"other").unwrap();
    shared[second - 4..second].copy_from_slice(&0_u32.to_le_bytes());
    let mut encrypted = whole;
    let entry = encrypted.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    encrypted[entry + 8] |= 1;
    for (bytes, member) in [(renamed, "inner"), (shared, "other"), (encrypted, "inner")] {
        let error = opened(bytes, &Rules::import()).unwrap_err();
        assert_eq!(error.class(), "corrupt", "{error}");
        assert!(error.to_string().contains(member), "{error}");
    }
}

#[test]
fn links_are_taken_only_when_allowed_and_only_inside() {
    let inside = tar(&[
        Made::file("d/a", b"x"),
        Made::link("d/l", "../d/a"),
        Made::link("m", "d"),
        Made::hardlink("h", "d/a"),
    ]);
    let allow = Rules { trust: Trust::Import { allow_links: true }, ..Rules::import() };
    assert_eq!(opened(inside.clone(), &Rules::import()).unwrap_err().class(), "symlink");
    let mut archive = opened(inside, &allow).unwrap();
    assert!(archive.members().iter().any(|member| member.kind == Kind::Hardlink("d/a".into())));
    let folder = tempfile::tempdir().unwrap();
    extract(&mut archive, &File::open(folder.path()).unwrap().into()).unwrap();
    assert_eq!(fs::read(folder.path().join("m/l")).unwrap(), b"x");
    for (name, target) in [("l", "/etc"), ("l", ".."), ("d/l", "../.."), ("l", "m/../..")] {
        let error = opened(tar(&[Made::link(name, target)]), &allow).unwrap_err();
        assert_eq!(error.class(), "symlink_escape", "{name} -> {target}");
    }
}

#[test]
fn a_failed_extraction_leaves_the_folder_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "old").unwrap();
    let mut archive =
        opened(tar(&[Made::file("a", b"new"), Made::file("new/b", b"x")]), &Rules::import())
            .unwrap();
    // What stands in the way of the second is noticed after the first could have been replaced.
    fs::create_dir(folder.path().join("new")).unwrap();
    fs::create_dir(folder.path().join("new/b")).unwrap();
    let error = extract(&mut archive, &File::open(folder.path()).unwrap().into()).unwrap_err();
    assert!(error.to_string().contains("`new/b`"), "{error}");
    assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"old");
    let mut names = names_below(folder.path());
    names.sort();
    assert_eq!(names, ["a", "new"]);
}

fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        Just("l".to_owned()),
        "[a-c]{1,2}",
        Just("C:".to_owned()),
        Just("x\\y".to_owned()),
    ];
    proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn member() -> impl Strategy<Value = Made> {
    (name(), name(), 0..6_u8).prop_map(|(name, target, kind)| match kind {
        0 => Made::folder(&name),
        1 => Made::link(&name, &target),
        2 => Made::hardlink(&name, &target),
        _ => Made::file(&name, target.as_bytes()),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the members are called and lead to: nothing outside of the folder changes, and a
    /// refusal leaves nothing in it.
    #[test]
    fn nothing_leaves_the_folder(
        members in proptest::collection::vec(member(), 0..6),
        restore in any::<bool>(),
        allow_links in any::<bool>(),
    ) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("a/b/inner");
        fs::create_dir_all(&inner).unwrap();
        fs::write(outer.path().join("a/keep"), "kept").unwrap();
        let trust = if restore { Trust::Restore } else { Trust::Import { allow_links } };
        let rules = Rules { trust, ..Rules::import() };
        let done = opened(tar(&members), &rules)
            .is_ok_and(|mut archive| {
                extract(&mut archive, &File::open(&inner).unwrap().into()).is_ok()
            });
        prop_assert_eq!(names_below(outer.path()), ["a"]);
        let mut beside = names_below(&outer.path().join("a"));
        beside.sort();
        prop_assert_eq!(beside, ["b", "keep"]);
        prop_assert_eq!(names_below(&outer.path().join("a/b")), ["inner"]);
        prop_assert_eq!(fs::read(outer.path().join("a/keep")).unwrap(), b"kept");
        if !done {
            prop_assert_eq!(names_below(&inner).len(), 0);
        }
    }

    /// One byte of an archive is changed: it is read as something, or refused; never a panic, and
    /// never more than is allowed.
    #[test]
    fn damage_is_an_error_or_harmless(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let members = [Made::file("a/b", b"some content, some content"), Made::folder("c")];
        for mut bytes in [zip(&members), gzip(&tar(&members)), tar(&members)] {
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok(mut archive) = opened(bytes, &Rules::import()) {
                for (_, content) in contents(&mut archive) {
                    prop_assert!(content.len() <= 1024);
                }
            }
        }
    }
}

#[test]
fn limits_name_the_member_at_which_it_was_too_much() {
    let members: Vec<_> = (0..5).map(|n| Made::file(&format!("f{n}"), b"12345")).collect();
    let limits = ArchiveLimits { members: 3, ..ArchiveLimits::default() };
    let error = opened(tar(&members), &Rules { limits, ..Rules::import() }).unwrap_err();
    assert_eq!(error.to_string(), "`f3` is refused: the archive would have more than 3 members");
    let limits = ArchiveLimits { extracted_bytes: 12, ..ArchiveLimits::default() };
    let error = opened(zip(&members), &Rules { limits, ..Rules::import() }).unwrap_err();
    assert_eq!(error.to_string(), "`f2` is refused: the archive would have more than 12 bytes");
}
