//! Entries beyond folders and repositories, and what every entry may say about itself.

use std::io::Write as _;

use super::*;
use crate::manifest::{ArchiveEntry, LocalFile, ManifestUser, Skill};

fn from_json(text: &str) -> Manifest {
    serde_json::from_str(text).unwrap()
}

/// A tar stream of small files.
fn tar(members: &[(&str, u8, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, flag, content) in members {
        let is_link = matches!(flag, b'1' | b'2');
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000755");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        let size = if is_link { 0 } else { content.len() };
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = *flag;
        if is_link {
            header[157..157 + content.len()].copy_from_slice(content.as_bytes());
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        bytes.extend(header);
        if !is_link {
            bytes.extend(content.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[tokio::test]
async fn a_file_of_the_host_comes_in_alone() {
    let here = place();
    here.write("data/one.sh", "echo");
    here.write("data/.env", "KEY=1");
    fs::set_permissions(here.agent().join("data/one.sh"), fs::Permissions::from_mode(0o750))
        .unwrap();
    let file =
        |src: &str| ManifestEntry::LocalFile(LocalFile { src: src.into(), ..LocalFile::default() });
    let manifest =
        Manifest::default().entry("bin/one", file("data/one.sh")).entry("env", file("data/.env"));
    let made = here.make(&manifest).await.unwrap();
    assert_eq!(paths(&made), ["bin", "bin/one"]);
    assert_eq!(made.tree.workspace.get(Path::new("bin/one")).unwrap().meta.mode, 0o750);
    assert_eq!(made.masked, ["env"]);
    for (src, problem) in [("data", "no regular file"), ("gone", "o such file")] {
        let error = here.make(&Manifest::default().entry("x", file(src))).await.unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
    let outside = here.make(&Manifest::default().entry("x", file("../../etc/passwd"))).await;
    assert!(matches!(outside, Err(MaterialiseError::NotAllowed { .. })), "{outside:?}");
}

#[tokio::test]
async fn a_skill_says_what_it_is_for() {
    let here = place();
    here.write("skills/pdf/SKILL.md", "---\nname: pdf\ndescription: Reads PDFs\n---\nText\n");
    here.write("skills/pdf/scripts/run.py", "pass");
    here.write("skills/bad/SKILL.md", "no front matter");
    let skill = |src: &str| ManifestEntry::Skill(Skill { src: src.into(), ..Skill::default() });
    let manifest = Manifest::default().entry(".agents/pdf", skill("skills/pdf"));
    let made = here.make(&manifest).await.unwrap();
    assert!(made.text.contains("# /workspace/.agents/pdf — Reads PDFs"), "{}", made.text);
    assert!(paths(&made).contains(&".agents/pdf/scripts/run.py".to_owned()));
    let error = here.make(&Manifest::default().entry("s", skill("skills/bad"))).await.unwrap_err();
    assert!(error.to_string().contains("SKILL.md"), "{error}");
}

#[tokio::test]
async fn an_archive_is_taken_whole_or_refused_with_its_member_named() {
    let here = place();
    let large = "x".repeat(3 << 20);
    let good = tar(&[
        ("top/a", b'0', "content"),
        ("top/big", b'0', &large),
        ("top/.env", b'0', "SECRET=1"),
        ("top/d/", b'5', ""),
        ("top/l", b'2', "d"),
        ("top/h", b'1', "top/a"),
        ("other", b'0', "x"),
    ]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&good).unwrap();
    here.write("good.tgz", encoder.finish().unwrap());
    let entry = |src: &str, allow_links| ArchiveEntry {
        src: src.into(),
        allow_links,
        ..ArchiveEntry::default()
    };
    let archive =
        |entry: ArchiveEntry| Manifest::default().entry("in", ManifestEntry::Archive(entry));
    let subpath = Some("top".to_owned());
    let made =
        here.make(&archive(ArchiveEntry { subpath, ..entry("good.tgz", true) })).await.unwrap();
    assert_eq!(paths(&made), ["in", "in/a", "in/big", "in/d", "in/h", "in/l"]);
    assert_eq!(made.masked, ["in/.env"]);
    assert_eq!(here.text(&made, "in/big").await.unwrap(), large);
    let link = |path: &str| match made.tree.workspace.get(Path::new(path)).unwrap().node {
        Node::File { link, .. } => link,
        _ => None,
    };
    assert!(link("in/a").is_some() && link("in/a") == link("in/h"), "one file of two names");
    assert_eq!(here.snapshots.verify(made.snapshot).await.unwrap(), made.tree);

    let before = blobs(&here);
    here.write("evil.tar", tar(&[("ok", b'0', "x"), ("../out", b'0', "evil")]));
    for (evil, member) in
        [(entry("evil.tar", true), "`../out`"), (entry("good.tgz", false), "`top/l`")]
    {
        let error = here.make(&archive(evil)).await.unwrap_err();
        assert!(matches!(error, MaterialiseError::Archive { .. }), "{error}");
        assert!(error.to_string().contains(member), "{error}");
    }
    assert_eq!(blobs(&here), before, "nothing is left behind");
}

fn blobs(here: &Place) -> usize {
    fn count(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 }).sum()
    }
    count(&here.dir.path().join("store"))
}

#[tokio::test]
async fn owners_and_modes_are_those_that_the_manifest_names() {
    let here = place();
    here.write("src/deep/file", "x");
    let mut manifest = from_json(
        r#"{
            "entries": {
                "d": {"type": "dir", "permissions": "0750", "user": "bob", "children": {
                    "f": {"type": "file", "content": "x", "permissions": "rw-------"},
                    "g": {"type": "file", "content": "x", "user": "root", "group": "staff"}
                }},
                "c": {"type": "local_dir", "src": "src", "user": "alice", "permissions": "0700"}
            },
            "users": [{"name": "bob"}, {"name": "alice", "uid": 1500}],
            "groups": [{"name": "staff", "users": [{"name": "carol"}, {"name": "agent"}]}]
        }"#,
    );
    let made = here.make(&manifest).await.unwrap();
    let meta = |path: &str| {
        let meta = &made.tree.workspace.get(Path::new(path)).unwrap().meta;
        (meta.uid, meta.gid, meta.mode)
    };
    assert_eq!(meta("d"), (1001, 1001, 0o750));
    assert_eq!(meta("d/f"), (1001, 1001, 0o600));
    // bob 1001, carol 1002, and then the group.
    assert_eq!(meta("d/g"), (0, 1003, 0o644));
    assert_eq!(meta("c"), (1500, 1500, 0o700));
    assert_eq!((meta("c/deep").0, meta("c/deep/file").0), (1500, 1500));
    manifest.users = vec![ManifestUser { name: "alice".into(), uid: None }];
    let error = here.make(&manifest).await.unwrap_err();
    assert!(error.to_string().contains("the user `bob`"), "{error}");
}

/// What a run could never begin with is said before there is one.
#[tokio::test]
async fn what_no_sandbox_can_have_is_refused_before_anything_is_read() {
    let here = place();
    for (manifest, says) in [
        (r#"{"environment": {"A=B": "x"}}"#, "the variable `A=B` has a name"),
        (r#"{"environment": {"": "x"}}"#, "has a name that no variable can have"),
        (r#"{"environment": {"A": "x\u0000y"}}"#, "the variable `A` has a value with a zero byte"),
        (r#"{"users": [{"name": "agent"}]}"#, "`agent` is always there"),
        (
            r#"{"users": [{"name": "a", "uid": 1001}, {"name": "b", "uid": 1001}]}"#,
            "`a` and `b` have the same number",
        ),
        (
            r#"{"users": [{"name": "a", "uid": 1001}, {"name": "a", "uid": 1002}]}"#,
            "`a` has two numbers",
        ),
        (r#"{"users": [{"name": "a"}], "groups": [{"name": "a"}]}"#, "`a` has the name of a user"),
        (r#"{"groups": [{"name": "g"}, {"name": "g"}]}"#, "`g` is there twice"),
        (
            r#"{"entries": {"x": {"type": "archive", "src": "a.tar", "subpath": "../x"}}}"#,
            "leads out of the workspace",
        ),
        (
            r#"{"entries": {"x": {"type": "git_repo", "url": "https://u:hunter2@host/x"}}}"#,
            "has a `url` with a credential in it",
        ),
        (
            r#"{"entries": {"x": {"type": "git_repo", "url": "https://hunter2@host/x"}}}"#,
            "has a `url` with a credential in it",
        ),
    ] {
        let error =
            crate::materialise::check::check(&from_json(manifest)).err().map(|e| e.to_string());
        let error = error.unwrap_or_default();
        assert!(error.contains(says) && !error.contains("hunter2"), "{manifest}: {error}");
        assert!(here.make(&from_json(manifest)).await.is_err(), "{manifest}");
    }
    let alone = r#"{"entries": {"x": {"type": "git_repo", "url": "ssh://git@host/x"}},
        "users": [{"name": "bob"}], "groups": [{"name": "g", "users": [{"name": "bob"}, {"name": "root"}]}]}"#;
    crate::materialise::check::check(&from_json(alone)).unwrap();
}

#[tokio::test]
async fn what_is_ephemeral_is_kept_apart_from_the_first_checkpoint() {
    let here = place();
    let manifest = from_json(
        r#"{"entries": {
            "a/keep": {"type": "file", "content": "x"},
            "a/cache": {"type": "dir", "ephemeral": true, "children": {
                "seed": {"type": "file", "content": "seed"}
            }}
        }}"#,
    );
    let made = here.make(&manifest).await.unwrap();
    assert_eq!(paths(&made), ["a", "a/keep"]);
    let ephemeral = made.ephemeral.unwrap();
    assert_eq!(ephemeral.paths, ["a/cache"]);
    let seed = here.snapshots.load(ephemeral.snapshot).await.unwrap();
    let names: Vec<_> = seed.workspace.entries().iter().map(|e| e.path.clone()).collect();
    assert_eq!(names, [Path::new("a"), Path::new("a/cache"), Path::new("a/cache/seed")]);
}

#[test]
fn mounts_become_what_rclone_is_told_and_never_a_secret() {
    let manifest = from_json(
        r#"{"entries": {
            "s3": {"type": "s3_mount", "bucket": "data", "prefix": "a/b", "endpoint_url": "http://h",
                   "access_key_id": {"secret": "ID"}, "secret_access_key": {"secret": "KEY"}},
            "d": {"type": "dir", "children": {
                "gcs": {"type": "gcs_mount", "bucket": "g", "mount_path": "/mnt/g", "read_only": false}
            }},
            "team": {"type": "shared_mount", "name": "team", "sharing": "copy_on_write"}
        }}"#,
    );
    let (text, mounts) = outline(&manifest).unwrap();
    assert!(text.contains("# /mnt/g"), "{text}");
    let shown = serde_json::to_value(&mounts).unwrap();
    assert_eq!(shown[0]["path"], "/mnt/g");
    assert_eq!(shown[0]["read_only"], false);
    assert_eq!(shown[1]["source"]["path"], "data/a/b");
    assert_eq!(shown[1]["source"]["secrets"]["secret_access_key"], "KEY");
    assert_eq!(shown[2]["source"]["sharing"], "copy_on_write");

    for (entry, problem) in [
        (r#"{"type": "s3_mount", "bucket": "b", "access_key_id": {"secret": "A"}}"#, "one half"),
        (r#"{"type": "s3_mount", "bucket": "-b"}"#, "bucket"),
        (r#"{"type": "s3_mount", "bucket": "b", "prefix": "../c"}"#, "leads out"),
        (r#"{"type": "s3_mount", "bucket": "b", "mount_path": "/etc/x"}"#, "mount_path"),
        (r#"{"type": "s3_mount", "bucket": "b", "permissions": "0700"}"#, "is a mount"),
        (r#"{"type": "rclone_mount", "backend": "local", "path": "/"}"#, "this machine"),
        (r#"{"type": "rclone_mount", "backend": "sftp", "options": {"ssh": "sh -c id"}}"#, "run a"),
        (r#"{"type": "rclone_mount", "backend": "s3,env_auth"}"#, "`backend`"),
        (r#"{"type": "shared_mount", "name": "../x"}"#, "`name`"),
        (r#"{"type": "dir", "user": "nobody-knows"}"#, "nobody-knows"),
    ] {
        let manifest = from_json(&format!(r#"{{"entries": {{"m": {entry}}}}}"#));
        let error = outline(&manifest).unwrap_err().to_string();
        assert!(error.contains(problem), "{entry}: {error}");
    }
    // A key that is written down is no reference, and is refused while it is read.
    let written = r#"{"type": "s3_mount", "bucket": "b", "secret_access_key": "AKIA"}"#;
    assert!(serde_json::from_str::<ManifestEntry>(written).is_err());
}
