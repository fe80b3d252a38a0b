use super::*;

/// A header of the POSIX form, with its sum.
fn header(path: &str, flag: u8, size: &[u8], link: &str) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut put = |start: usize, bytes: &[u8]| {
        block[start..start + bytes.len()].copy_from_slice(bytes);
    };
    put(0, path.as_bytes());
    put(100, b"0004755\0");
    put(108, b"0001750\0");
    put(116, b"0001751\0");
    put(124, size);
    put(136, b"00000000144\0");
    put(148, b"        ");
    put(156, &[flag]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn extension(flag: u8, content: &[u8]) -> Vec<u8> {
    let size = format!("{:011o}\0", content.len());
    [header("x", flag, size.as_bytes(), ""), padded(content)].concat()
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut content = String::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while format!("{length}{rest}").len() != length {
            length += 1;
        }
        content += &format!("{length}{rest}");
    }
    extension(b'x', content.as_bytes())
}

fn read(bytes: &[u8]) -> Result<Vec<(TarMember, Vec<u8>)>, String> {
    let mut reader = TarReader::new(bytes);
    let mut found = Vec::new();
    while let Some(member) = reader.next_member().map_err(|error| error.to_string())? {
        let start = reader.position() as usize;
        let mut content = Vec::new();
        reader.content().read_to_end(&mut content).map_err(|error| error.to_string())?;
        assert_eq!(content, bytes[start..start + content.len()]);
        found.push((member, content));
    }
    Ok(found)
}

const EMPTY: &[u8] = b"00000000000\0";

#[test]
fn every_form_is_read() {
    let long = "l".repeat(300);
    let archive = [
        header("plain", b'0', b"00000000005\0", ""),
        padded(b"hello"),
        header("old/", 0, EMPTY, ""),
        extension(b'L', format!("{long}\0").as_bytes()),
        extension(b'K', b"far\0"),
        header("short", b'2', EMPTY, "near"),
        pax(&[
            ("path", "pa\u{e9}"),
            ("mtime", "-1.25"),
            ("uid", "70000"),
            ("size", "3"),
            ("SCHILY.xattr.user.a", "b=c\n"),
        ]),
        header("ignored", b'0', b"\x80\0\0\0\0\0\0\0\0\0\0\x09", ""),
        padded(b"abc"),
        vec![0; 2 * BLOCK],
        b"whatever follows the end".to_vec(),
    ]
    .concat();
    let found = read(&archive).unwrap();
    let [(plain, hello), (old, _), (link, _), (extended, abc)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((plain.path.as_slice(), plain.kind), (b"plain".as_slice(), TarKind::File));
    assert_eq!((plain.mode, plain.uid, plain.gid, plain.mtime), (0o4755, 1000, 1001, (100, 0)));
    assert_eq!(hello, b"hello");
    assert_eq!(old.kind, TarKind::Folder);
    assert_eq!((link.path.len(), link.link.as_slice()), (300, b"far".as_slice()));
    assert_eq!(extended.path, "pa\u{e9}".as_bytes());
    assert_eq!((extended.mtime, extended.uid), ((-2, 750_000_000), 70_000));
    assert_eq!(extended.xattrs, [(b"user.a".to_vec(), b"b=c\n".to_vec())]);
    assert_eq!(abc, b"abc");
}

#[test]
fn what_is_not_bounded_or_not_known_is_refused() {
    let file = || header("f", b'0', EMPTY, "");
    let mut broken = file();
    broken[0] = b'g';
    let huge = header("x", b'x', b"77777777777\0", "");
    let many: Vec<u8> = (0..9).flat_map(|_| pax(&[("comment", "x")])).collect();
    let names = ["one\0", "two\0"].map(|name| extension(b'L', name.as_bytes())).concat();
    let name = "n".repeat(MAX_TAR_NAME + 1);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("does not add up", broken),
        ("extensions are too large", [huge, file()].concat()),
        ("too many extensions", [many, file()].concat()),
        ("name is said twice", [names, file()].concat()),
        ("size is said twice", [pax(&[("size", "1"), ("size", "0")]), file()].concat()),
        ("has a content", header("f/", b'0', b"00000000001\0", "")),
        ("empty or too long", [extension(b'L', name.as_bytes()), file()].concat()),
        ("zero byte", [pax(&[("path", "a\0b")]), file()].concat()),
        ("do not make sense", [extension(b'x', b"99 path=x\n"), file()].concat()),
        ("`size` does not", [pax(&[("size", "-1")]), file()].concat()),
        ("sparse", [pax(&[("GNU.sparse.major", "1")]), file()].concat()),
        ("sparse", header("f", b'S', EMPTY, "")),
        ("unknown kind", header("f", b'Z', EMPTY, "")),
        ("link to nothing", header("f", b'1', EMPTY, "")),
        ("for all members", [extension(b'g', b"12 path=aaa\n"), file()].concat()),
        ("is no number", header("f", b'0', b"0000000009\0\0", "")),
        ("below zero", header("f", b'0', &[0xff; 12], "")),
        ("ends within", header("f", b'0', b"00000001000\0", "")),
        ("ends within", pax(&[("path", "x")])),
        ("ends within", file()[..100].to_vec()),
    ];
    for (expected, archive) in cases {
        let refused = read(&archive).unwrap_err();
        let short = refused.contains(expected)
            || (expected == "ends within" && refused.contains("end of file"));
        assert!(short, "{expected}: {refused}");
    }
}
