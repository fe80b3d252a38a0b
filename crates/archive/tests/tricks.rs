//! Archives in which one thing is said twice, differently, or not as it is: what readers disagree
//! about, and what would be written elsewhere. All are refused with the member named, and nothing is
//! left behind; what only looks odd is read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support/builder.rs"]
mod builder;

use std::fs::{self, File};
use std::io::Cursor;
use std::os::unix::fs::symlink;
use std::path::Path;

use builder::{Made, gzip, pax, sealed_block, tar, zip, zip_with, zstd};
use moat_archive::{Archive, ExtractError, Rules, Trust, extract};

/// Everything in a folder and in the one above it, with contents.
fn all_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(here) = waiting.pop() {
        for entry in fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let what = match kind {
                kind if kind.is_dir() => String::new(),
                kind if kind.is_symlink() => {
                    format!("-> {}", fs::read_link(&path).unwrap().display())
                }
                _ => String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
            };
            found.push(format!("{} {what}", path.strip_prefix(folder).unwrap().display()));
            if kind.is_dir() {
                waiting.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Extracts into a folder in which something is, and answers what is below it and beside it then.
fn taken(bytes: Vec<u8>, allow_links: bool) -> (Result<(), ExtractError>, Vec<String>, bool) {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("kept"), "kept").unwrap();
    symlink("..", inner.join("up")).unwrap();
    fs::write(outer.path().join("beside"), "beside").unwrap();
    let before = all_below(outer.path());
    let rules = Rules { trust: Trust::Import { allow_links }, ..Rules::import() };
    let done = Archive::open(Cursor::new(bytes), &rules)
        .map_err(ExtractError::Archive)
        .and_then(|mut archive| extract(&mut archive, &File::open(&inner).unwrap().into()));
    let after = all_below(outer.path());
    (done, all_below(&inner), before == after)
}

/// Each is refused for this reason, naming this, whether links are allowed or not, and leaves nothing.
fn are_refused(cases: Vec<(&str, &str, Vec<u8>)>) {
    let mut wrong = Vec::new();
    for (class, named, bytes) in cases {
        for allow_links in [false, true] {
            let (done, _, same) = taken(bytes.clone(), allow_links);
            let said = match &done {
                Err(ExtractError::Archive(error)) => (error.class(), error.to_string()),
                other => ("taken", format!("{other:?}")),
            };
            let is_link = matches!(said.0, "symlink" | "hardlink") && !allow_links;
            let is_right = is_link || (said.0 == class && said.1.contains(named));
            if !is_right || !same {
                wrong.push(format!("{class} `{named}` links {allow_links}: {said:?}, same {same}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn with(flag: u8, name: &str, link: &str, content: &[u8]) -> Made {
    Made::new(name, flag, link, content)
}

#[test]
fn tar_members_that_say_two_things_or_lead_out_are_refused_by_name() {
    let file = || Made::file("file", b"x");
    let long = |name: &str| with(b'L', "././@LongLink", "", format!("{name}\0").as_bytes());
    let cases = vec![
        ("special_file", "`dev`", tar(&[file(), with(b'3', "dev", "", b"")])),
        ("special_file", "`block`", tar(&[with(b'4', "block", "", b"")])),
        ("special_file", "`pipe`", tar(&[with(b'6', "pipe", "", b"")])),
        ("corrupt", "`holes`", tar(&[with(b'S', "holes", "", b"")])),
        ("corrupt", "`odd`", tar(&[with(b'V', "odd", "", b"")])),
        // What stands before a member wins over its header.
        ("parent_traversal", "`../out`", tar(&[pax(&[("path", "../out")]), file()])),
        ("absolute_path", "`/etc/cron.d/x`", tar(&[long("/etc/cron.d/x"), file()])),
        ("windows_drive", "`C:/x`", tar(&[pax(&[("path", "C:/x")]), file()])),
        (
            "hardlink_target",
            "`h`",
            tar(&[file(), pax(&[("linkpath", "/etc/passwd")]), Made::hardlink("h", "file")]),
        ),
        (
            "symlink_escape",
            "`l`",
            tar(&[pax(&[("linkpath", "../../etc")]), Made::link("l", "file")]),
        ),
        // Readers disagree about which of two names counts.
        ("corrupt", "", tar(&[long("one"), long("two"), file()])),
        ("corrupt", "", tar(&[pax(&[("path", "one")]), pax(&[("path", "two")]), file()])),
        ("corrupt", "", tar(&[pax(&[("path", "one"), ("path", "two")]), file()])),
        ("corrupt", "", tar(&[long("one"), pax(&[("path", "two")]), file()])),
        ("corrupt", "", tar(&[pax(&[("size", "1")]), pax(&[("size", "0")]), file()])),
        ("corrupt", "", tar(&[pax(&[("path", "a\0b")]), file()])),
        ("corrupt", "", tar(&[pax(&[("path", "")]), file()])),
        ("corrupt", "", tar(&[pax(&[("GNU.sparse.name", "x"), ("size", "1")]), file()])),
        ("corrupt", "", tar(&[with(b'g', "g", "", b"12 path=aaa\n"), file()])),
        ("corrupt", "", tar(&[with(b'x', "x", "", &vec![b'1'; 2 << 20]), file()])),
        // A folder has no content, behind which some would look for the next member.
        ("corrupt", "`folder/`", tar(&[with(b'0', "folder/", "", &[b'x'; 600])])),
        // Through a link that the archive brings, or that is there.
        ("under_symlink", "`l/x`", tar(&[Made::link("l", "file"), Made::file("l/x", b"x")])),
        ("under_symlink", "`l/x`", tar(&[Made::file("l/x", b"x"), Made::link("l", "file")])),
        (
            "under_file",
            "`h/x`",
            tar(&[file(), Made::hardlink("h", "file"), Made::file("h/x", b"")]),
        ),
        ("hardlink_target", "`h`", tar(&[Made::link("l", "file"), Made::hardlink("h", "l")])),
        ("hardlink_target", "`h`", tar(&[Made::hardlink("h", "kept")])),
        ("hardlink_target", "`h`", tar(&[file(), Made::hardlink("h", "../beside")])),
        ("hardlink_target", "`h`", tar(&[Made::hardlink("h", "h")])),
        ("existing_symlink_parent", "`up/x`", tar(&[Made::file("up/x", b"x")])),
        ("existing_symlink_parent", "`up`", tar(&[Made::file("up", b"x")])),
        ("duplicate_path", "`./file`", tar(&[file(), Made::file("./file", b"y")])),
        ("duplicate_path", "`file/`", tar(&[file(), Made::folder("file/")])),
        ("root_member", "`./`", tar(&[Made::link("./", "..")])),
        // A number below zero, and one that is none.
        ("corrupt", "`file`", sealed_block(&tar(&[file()]), 124, &[0xff; 12])),
        ("corrupt", "`file`", sealed_block(&tar(&[file()]), 124, b"0000000009\0\0")),
        ("limit_extracted_bytes", "`file`", sealed_block(&tar(&[file()]), 124, b"77777777777\0")),
        ("corrupt", "", tar(&[file()])[..700].to_vec()),
    ];
    are_refused(cases);
}

#[test]
fn what_only_looks_odd_in_a_tar_is_read() {
    // A content that looks like a header is a content, if what stands before it says so.
    let inner = tar(&[Made::file("../evil", b"")]);
    let mut hiding = tar(&[pax(&[("size", "512")]), Made::file("file", b"")]);
    hiding.truncate(hiding.len() - 1024);
    hiding.extend(&inner[..512]);
    hiding.extend([0; 1024]);
    let mut garbage = tar(&[Made::file("file", b"x")]);
    garbage.extend(b"whatever follows the end");
    let stage = format!(".moat-extract-{}-0", std::process::id());
    let (first, second) = (format!("{stage}/0"), format!("{stage}/1"));
    let staged = tar(&[Made::file(&second, b"one"), Made::file(&first, b"two")]);
    let cases = [
        (hiding, vec!["file"]),
        (garbage, vec!["file"]),
        (tar(&[Made::file("File", b"x"), Made::file("file", b"x")]), vec!["File", "file"]),
        (tar(&[Made::file("a\nb", b"x"), Made::file("-rf", b"x")]), vec!["-rf", "a\nb"]),
        // Where contents wait until all are there.
        (staged, vec![&*stage, &first, &second]),
    ];
    for (bytes, expected) in cases {
        let (done, below, _) = taken(bytes, false);
        done.unwrap();
        let names = below.iter().map(|line| line.split(' ').next().unwrap());
        let names: Vec<_> = names.filter(|name| !matches!(*name, "kept" | "up")).collect();
        assert_eq!(names, expected);
        let one = below.iter().find_map(|line| line.strip_prefix(&format!("{second} ")));
        assert!(one.is_none_or(|content| content == "one"), "{below:?}");
    }
}

#[test]
fn zip_members_that_say_two_things_or_lead_out_are_refused_by_name() {
    let plain = |name: &str| zip(&[Made::file(name, b"content")]);
    // Info-ZIP's other name, which some readers take instead.
    let other_name = |name: &str| {
        let mut sum = flate2::Crc::new();
        sum.update(b"inner");
        let field = [&[1], &sum.sum().to_le_bytes()[..], name.as_bytes()].concat();
        [&0x7075_u16.to_le_bytes()[..], &(field.len() as u16).to_le_bytes(), &field].concat()
    };
    let inner = [Made::file("inner", b"content")];
    let wide =
        |size: u64| [&1_u16.to_le_bytes()[..], &8_u16.to_le_bytes(), &size.to_le_bytes()].concat();
    let twice = [wide(7), wide(9)].concat();
    let mut link = zip(&[Made::link("l", "")]);
    // A link, by a program for DOS: readers disagree about whether that can be.
    let entry = link.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    link[entry + 5] = 0;
    link[entry + 38..entry + 42].copy_from_slice(&(0o120_777_u32 << 16).to_le_bytes());
    let mut pipe = plain("pipe");
    let entry = pipe.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    pipe[entry + 38..entry + 42].copy_from_slice(&(0o010_644_u32 << 16).to_le_bytes());
    let cases = vec![
        ("absolute_path", "`/x`", plain("/x")),
        ("windows_drive", "`//srv/share/x`", plain("//srv/share/x")),
        ("windows_drive", "`\\\\\\\\srv", plain("\\\\srv\\share\\x")),
        ("windows_drive", "`c:x`", plain("c:x")),
        ("backslash", "x`", plain("..\\x")),
        ("parent_traversal", "`a/../../x`", plain("a/../../x")),
        ("corrupt", "", plain("a\0b")),
        ("special_file", "`pipe`", pipe),
        ("symlink_escape", "`l`", zip_link("l", "../beside")),
        ("corrupt", "`l`", link),
        ("existing_symlink_parent", "`up/x`", plain("up/x")),
        ("corrupt", "`inner`", zip_with(&inner, &[], &other_name("../x"))),
        ("corrupt", "`inner`", zip_with(&inner, &other_name("other"), &[])),
        ("corrupt", "`inner`", zip_with(&inner, &[], &twice)),
        ("corrupt", "", two_directories()),
    ];
    are_refused(cases);
    // The other name is the same.
    let same = other_name("inner");
    taken(zip_with(&inner, &same, &same), false).0.unwrap();
}

/// One member as a program writes it that does not know its sizes beforehand: they stand behind the
/// content, in `behind`.
fn streamed(listed: &[u8], behind: &[u8]) -> Vec<u8> {
    let directory = listed.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let mut bytes = listed.to_vec();
    bytes[6] |= 8;
    bytes[14..26].fill(0);
    bytes.splice(directory..directory, behind.iter().copied());
    let end = bytes.len() - 6;
    let place = (directory + behind.len()) as u32;
    bytes[end..end + 4].copy_from_slice(&place.to_le_bytes());
    bytes
}

#[test]
fn zip_members_whose_own_headers_say_something_else_are_refused_by_name() {
    let whole = zip(&[Made::file("inner", b"content")]);
    let with_byte = |place: usize, flipped: u8| {
        let mut bytes = whole.clone();
        bytes[place] ^= flipped;
        bytes
    };
    // Sum, stored size, size, as the header has them.
    let (sum, stored, size) = (&whole[14..18], &whole[18..22], &whole[22..26]);
    let wide = |narrow: &[u8]| [narrow, &[0; 4]].concat();
    let descriptors = [
        [sum, stored, size].concat(),
        [b"PK\x07\x08", sum, stored, size].concat(),
        [sum, &wide(stored), &wide(size)].concat(),
        [b"PK\x07\x08", sum, &wide(stored), &wide(size)].concat(),
    ];
    let mut folder = zip(&[Made::folder("d"), Made::file("d/x", b"1")]);
    folder[30] = b'e';
    // Numbers that stand in an extra field, as programs write them that do not know how large it gets.
    let field = [&[1, 0, 16, 0][..], &wide(size), &wide(stored)].concat();
    let mut large = zip_with(&[Made::file("inner", b"content")], &field, &[]);
    large[18..26].fill(0xff);
    taken(large.clone(), false).0.unwrap();
    large[39] ^= 1;
    let mut cases = vec![
        ("corrupt", "`inner`", with_byte(14, 1)),
        ("corrupt", "`inner`", with_byte(18, 1)),
        ("corrupt", "`inner`", with_byte(25, 1)),
        ("corrupt", "`inner`", with_byte(8, 8)),
        ("corrupt", "`inner`", with_byte(6, 1)),
        // What it takes as an extra field is the beginning of its content.
        ("corrupt", "`inner`", with_byte(28, 3)),
        ("corrupt", "`inner`", streamed(&whole, &[])),
        ("corrupt", "`d", folder),
        ("corrupt", "`inner`", large),
    ];
    for descriptor in descriptors {
        let (done, below, _) = taken(streamed(&whole, &descriptor), false);
        done.unwrap();
        assert!(below.iter().any(|path| path.contains("inner")), "{below:?}");
        let mut other = descriptor.clone();
        *other.last_mut().unwrap() ^= 1;
        cases.push(("corrupt", "`inner`", streamed(&whole, &other)));
    }
    are_refused(cases);
}

/// A symbolic link as Info-ZIP stores one.
fn zip_link(name: &str, target: &str) -> Vec<u8> {
    let mut link = zip(&[Made::file(name, target.as_bytes())]);
    let entry = link.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    link[entry + 38..entry + 42].copy_from_slice(&(0o120_777_u32 << 16).to_le_bytes());
    link
}

#[test]
fn a_link_in_a_zip_leads_where_it_says() {
    let (done, below, _) = taken(zip_link("l", "kept"), true);
    done.unwrap();
    assert!(below.contains(&"l -> kept".to_owned()), "{below:?}");
    assert!(taken(zip_link("l", &"x".repeat(5000)), true).0.is_err());
}

/// One directory that is found by 32 bits, and another by 64.
fn two_directories() -> Vec<u8> {
    let first = zip(&[Made::file("shown", b"1")]);
    let end = first.len() - 22;
    let record = &first[end..];
    let (size, place) = (&record[12..16], &record[16..20]);
    let mut bytes = first[..end].to_vec();
    let at = bytes.len() as u64;
    bytes.extend(b"PK\x06\x06");
    bytes.extend(44_u64.to_le_bytes());
    bytes.extend([45, 0, 45, 0]);
    bytes.extend([0; 8]);
    // No member at all, it says.
    bytes.extend([0; 16]);
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend([place, &[0; 4]].concat());
    bytes.extend(b"PK\x06\x07");
    bytes.extend([0; 4]);
    bytes.extend(at.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(&record[..12]);
    bytes.extend(size);
    bytes.extend(place);
    bytes.extend([0; 2]);
    bytes
}

#[test]
fn compressed_streams_are_bounded_and_their_sums_are_checked() {
    let plain = tar(&[Made::file("file", &[b'x'; 3000])]);
    let (start, rest) = plain.split_at(700);
    let skip = [&0x184d_2a53_u32.to_le_bytes()[..], &4_u32.to_le_bytes(), b"skip"].concat();
    let whole = [
        [gzip(start), gzip(rest)].concat(),
        [zstd(start), skip.clone(), zstd(rest), skip].concat(),
    ];
    for bytes in whole {
        taken(bytes, false).0.unwrap();
    }
    // A window of two tebibytes; an end that never comes; sums that are not those of the content.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00];
    let mut summed = zstd(&plain);
    let last = summed.len() - 1;
    summed[last] ^= 1;
    let mut zipped = gzip(&plain);
    let place = zipped.len() - 6;
    zipped[place] ^= 1;
    let skipped = [&0x184d_2a50_u32.to_le_bytes()[..], &u32::MAX.to_le_bytes()].concat();
    let cut = zstd(&plain);
    let cut = cut[..cut.len() - 8].to_vec();
    let cases = [window.to_vec(), summed, zipped, skipped, cut];
    are_refused(cases.map(|bytes| ("corrupt", "", bytes)).into());
}
