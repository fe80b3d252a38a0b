use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use moat_blobs::FolderBlobs;
use moat_core::TenantKey;
use moat_snapshot::Node;

use super::*;
use crate::manifest::{Dir, GitRepo, InlineFile, LocalDir, ManifestEntry};

mod entries;
mod repositories;

struct Place {
    dir: tempfile::TempDir,
    snapshots: Snapshots,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let key = TenantKey::new([1; 32]);
    let blobs = FolderBlobs::new(dir.path().join("store"), *Snapshots::blob_key(&key));
    fs::create_dir(dir.path().join("agent")).unwrap();
    Place { snapshots: Snapshots::new(Arc::new(blobs), &key), dir }
}

impl Place {
    fn agent(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.agent().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    async fn make(&self, manifest: &Manifest) -> Result<Materialised, MaterialiseError> {
        let folders = HostFolders::new(self.agent()).scratch(self.dir.path());
        materialise(manifest, &folders, &self.snapshots, &|_| {}).await
    }

    async fn make_within(
        &self,
        manifest: &Manifest,
        limits: SourceLimits,
    ) -> Result<Materialised, MaterialiseError> {
        let folders = HostFolders::new(self.agent()).scratch(self.dir.path());
        let cache = Some(self.agent().join("git-cache"));
        let folders = HostFolders { limits, git_cache: cache, ..folders };
        materialise(manifest, &folders, &self.snapshots, &|_| {}).await
    }

    async fn text(&self, made: &Materialised, path: &str) -> Option<String> {
        let entry = made.tree.workspace.get(Path::new(path))?;
        let Node::File { content, size, .. } = entry.node else { return None };
        Some(String::from_utf8(self.snapshots.read_file(content, size).await.unwrap()).unwrap())
    }

    fn git(&self, args: &[&str]) -> String {
        let out = Command::new("git")
            .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
            .args(args)
            .current_dir(self.agent())
            .output()
            .unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

fn paths(made: &Materialised) -> Vec<String> {
    made.tree.workspace.entries().iter().map(|e| e.path.display().to_string()).collect()
}

fn local(src: &str) -> ManifestEntry {
    ManifestEntry::LocalDir(LocalDir::new(src))
}

#[tokio::test]
async fn a_folder_comes_in_with_modes_links_and_empty_folders() {
    let here = place();
    here.write("src/run.sh", "#!/bin/sh\n");
    fs::set_permissions(here.agent().join("src/run.sh"), fs::Permissions::from_mode(0o4755))
        .unwrap();
    here.write("src/deep/er/file", vec![7; 3 << 20]);
    fs::create_dir(here.agent().join("src/empty")).unwrap();
    symlink("run.sh", here.agent().join("src/link")).unwrap();
    symlink("../../run.sh", here.agent().join("src/deep/er/up")).unwrap();
    symlink("../../../secret", here.agent().join("src/deep/er/out")).unwrap();
    symlink("/etc/passwd", here.agent().join("src/absolute")).unwrap();
    let manifest = Manifest::copy_of("src");
    let made = here.make(&manifest).await.unwrap();
    assert_eq!(
        paths(&made),
        ["deep", "deep/er", "deep/er/file", "deep/er/up", "empty", "link", "run.sh"]
    );
    assert_eq!(made.tree.workspace.get(Path::new("run.sh")).unwrap().meta.mode, 0o755);
    let left: Vec<_> = made.left_out.iter().map(|left| left.path.as_str()).collect();
    assert_eq!(left, ["absolute", "deep/er/out"]);
    assert!(made.masked.is_empty(), "a link is no secret");
    assert_eq!(here.snapshots.verify(made.snapshot).await.unwrap(), made.tree);
    assert_eq!(here.make(&manifest).await.unwrap().snapshot, made.snapshot, "again");
    assert!(made.text.contains("├── deep/"), "{}", made.text);
}

#[tokio::test]
async fn sources_have_a_bound_that_is_named_with_the_path() {
    let here = place();
    for number in 0..9 {
        here.write(&format!("src/d/{number}"), "ten bytes.");
    }
    here.write("src/large", vec![b'l'; 2 << 20]);
    let manifest = Manifest::default().entry("a", local("src"));
    let within =
        async |entries, bytes| here.make_within(&manifest, SourceLimits { entries, bytes }).await;
    within(12, (2 << 20) + 90).await.unwrap();
    for (entries, bytes, named) in
        [(11, u64::MAX, "files and folders"), (100, (2 << 20) + 89, "bytes"), (100, 5, "d/0")]
    {
        let error = within(entries, bytes).await.unwrap_err();
        assert!(matches!(error, MaterialiseError::TooMuch { .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    // All sources together.
    let twice = manifest.clone().entry("b", local("src"));
    let limits = SourceLimits { entries: 13, bytes: u64::MAX };
    let error = here.make_within(&twice, limits).await.unwrap_err();
    assert!(matches!(error, MaterialiseError::TooMuch { .. }), "{error}");
}

#[tokio::test]
async fn entries_and_folders_above_them_are_made() {
    let here = place();
    here.write("talks/a.md", "a");
    let file = InlineFile { content: Some("text".into()), ..InlineFile::default() };
    let bytes = InlineFile { base64: Some("AAE=".into()), ..InlineFile::default() };
    let children = [("notes/n.md".to_owned(), ManifestEntry::File(file))].into();
    let manifest = Manifest::default()
        .entry("out", ManifestEntry::Dir(Dir { children, ..Dir::default() }))
        .entry("x/y/bytes", ManifestEntry::File(bytes))
        .entry("in/talks", local("./talks"));
    let made = here.make(&manifest).await.unwrap();
    assert_eq!(
        paths(&made),
        [
            "in",
            "in/talks",
            "in/talks/a.md",
            "out",
            "out/notes",
            "out/notes/n.md",
            "x",
            "x/y",
            "x/y/bytes"
        ]
    );
    assert_eq!(here.text(&made, "x/y/bytes").await.unwrap(), "\0\u{1}");
    assert!(made.text.contains("│   └── notes/"), "{}", made.text);
}

#[tokio::test]
async fn a_source_elsewhere_is_refused_unless_it_is_allowed() {
    let here = place();
    let outside = here.dir.path().join("outside");
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::write(outside.join("sub/file"), "x").unwrap();
    symlink(&outside, here.agent().join("link")).unwrap();
    for src in ["../outside", "a/../../outside", "link", "link/sub", "/etc"] {
        let refused = here.make(&Manifest::default().entry("x", local(src))).await;
        assert!(matches!(refused, Err(MaterialiseError::NotAllowed { .. })), "{src}: {refused:?}");
    }
    let folders = HostFolders::new(here.agent()).allow(&outside);
    let manifest = Manifest::default().entry("x", local("../outside"));
    let made = materialise(&manifest, &folders, &here.snapshots, &|_| {}).await.unwrap();
    assert_eq!(paths(&made), ["x", "x/sub", "x/sub/file"]);
    let missing = here.make(&Manifest::default().entry("x", local("nowhere"))).await;
    assert!(matches!(missing, Err(MaterialiseError::Host { .. })), "{missing:?}");
}

#[tokio::test]
async fn secrets_stay_on_the_host_and_are_named() {
    let here = place();
    // Put together here, so that this file holds nothing that looks like a token.
    let token = format!("gh{}_{}", "p", "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3hJ5");
    here.write("src/.env", "KEY=s3cret");
    here.write("src/.env.local", "KEY=s3cret");
    here.write("src/.env.example", "KEY=");
    here.write("src/sub/server.pem", "s3cret");
    here.write("src/sub/.aws/credentials", "s3cret");
    here.write("src/sub/notes.txt", format!("token: {token}"));
    here.write("src/large.log", [token.as_bytes(), &vec![b'x'; 2 << 20]].concat());
    here.write("src/kept/id_rsa", "a fixture");
    here.write("src/.git/config", format!("[remote \"o\"]\n\turl = https://u:{token}@h/r\n"));
    here.write("src/.git/logs/HEAD", format!("0 0 me\tpasted {token} by mistake\n"));
    here.write("src/.git/HEAD", "ref: refs/heads/main\n");
    here.write("src/.git/packed-refs", format!("# x\n{} refs/heads/main\n", "ab".repeat(20)));
    let mut source = LocalDir::new("src");
    source.allow_secrets = vec!["kept/id_rsa".into()];
    let made =
        here.make(&Manifest::default().entry(".", ManifestEntry::LocalDir(source))).await.unwrap();
    assert_eq!(
        made.masked,
        [
            ".env",
            ".env.local",
            ".git/config",
            ".git/logs/HEAD",
            "large.log",
            "sub/.aws",
            "sub/notes.txt",
            "sub/server.pem"
        ]
    );
    assert_eq!(
        paths(&made),
        [
            ".env.example",
            ".git",
            ".git/HEAD",
            ".git/config",
            ".git/logs",
            ".git/packed-refs",
            "kept",
            "kept/id_rsa",
            "sub"
        ]
    );
    assert_eq!(
        here.text(&made, ".git/config").await.unwrap(),
        "[remote \"o\"]\n\turl = https://h/r\n"
    );
    assert_eq!(made.git_head, Some("ab".repeat(20)));
    // Neither the value nor the token is in any blob, not even in one that nothing refers to.
    let found = Command::new("grep")
        .args(["-rlE", &format!("s3cret|{token}")])
        .arg(here.dir.path().join("store"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
}

#[tokio::test]
async fn what_is_ignored_is_not_there() {
    let here = place();
    here.write("src/.moatignore", "*.log\n!keep.log\n");
    for path in ["src/a.log", "src/keep.log", "src/target/x", "src/sub/target/y", "src/z"] {
        here.write(path, "x");
    }
    let mut source = LocalDir::new("src");
    source.ignore = vec!["/target/".into()];
    let made =
        here.make(&Manifest::default().entry(".", ManifestEntry::LocalDir(source))).await.unwrap();
    assert_eq!(paths(&made), [".moatignore", "keep.log", "sub", "sub/target", "sub/target/y", "z"]);
    assert!(made.left_out.is_empty(), "asked for, so not worth a word");
}

#[tokio::test]
async fn instructions_are_found_outer_ones_first_and_cut_in_the_open() {
    let here = place();
    here.write("src/AGENTS.md", "outer");
    here.write("src/sub/AGENTS.md", "nested");
    here.write("big/AGENTS.md", "ä".repeat(20 << 10));
    let made = here.make(&Manifest::copy_of("src")).await.unwrap();
    assert_eq!(made.agents_md.files, [("AGENTS.md".to_owned(), "outer".to_owned())]);
    assert_eq!(made.agents_md.nested, ["sub/AGENTS.md"]);
    assert_eq!(made.agents_md.cut, None);
    let made = here
        .make(&Manifest::default().entry("a", local("src")).entry("b", local("big")))
        .await
        .unwrap();
    let [(_, outer), (path, big)] = &made.agents_md.files[..] else {
        panic!("{:?}", made.agents_md)
    };
    assert_eq!((outer.as_str(), path.as_str()), ("outer", "b/AGENTS.md"));
    assert_eq!(outer.len() + big.len(), 32 * 1024 - 1, "no character is cut in two");
    assert!(made.agents_md.cut.unwrap().contains("`b/AGENTS.md` after its first 32762 bytes"));
}

#[tokio::test]
async fn manifests_are_checked_before_anything_is_read() {
    let here = place();
    here.write("src/x", "x");
    let file = |content: &str| {
        ManifestEntry::File(InlineFile { content: Some(content.into()), ..InlineFile::default() })
    };
    let both = ManifestEntry::File(InlineFile {
        content: Some(String::new()),
        base64: Some(String::new()),
        ..InlineFile::default()
    });
    let ext =
        ManifestEntry::GitRepo(GitRepo { url: Some("ext::sh -c id".into()), ..GitRepo::default() });
    let option = ManifestEntry::GitRepo(GitRepo {
        url: Some("--upload-pack=id".into()),
        ..GitRepo::default()
    });
    let bad = |path: &str, entry| Manifest::default().entry(path, entry);
    for (manifest, class) in [
        (bad("/etc/x", file("")), "absolute"),
        (bad("a/../../x", file("")), "escape_root"),
        (bad("a", file("")).entry("./a", file("")), "duplicate_path"),
        (bad("a", local("src")).entry("a/b", file("")), "duplicate_path"),
        (bad("a", file("")).entry("a/b", file("")), "entry"),
        (bad("a", both), "entry"),
        (bad("a", ext), "entry"),
        (bad("a", option), "entry"),
        (bad(".", file("")), "entry"),
    ] {
        match here.make(&manifest).await {
            Err(MaterialiseError::Manifest(error)) => assert_eq!(error.class(), class, "{error}"),
            other => panic!("{manifest:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_repository_is_fetched_without_its_hooks_and_configuration() {
    let here = place();
    here.git(&["init", "-q", "-b", "trunk"]);
    here.write("code/lib.rs", "one");
    here.git(&["add", "."]);
    here.git(&["commit", "-qm", "one"]);
    let first = here.git(&["rev-parse", "HEAD"]);
    here.write("code/lib.rs", "two");
    here.git(&["commit", "-qam", "two"]);
    let trap = here.dir.path().join("trap");
    let hook = format!("#!/bin/sh\ntouch {}\n", trap.display());
    for name in ["post-checkout", "post-merge", "reference-transaction"] {
        here.write(&format!(".git/hooks/{name}"), &hook);
        let path = here.agent().join(".git/hooks").join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let command = format!("touch {}", trap.display());
    here.git(&["config", "uploadpack.packObjectsHook", &command]);
    here.git(&["config", "core.fsmonitor", &command]);

    let repo = |commit: Option<&str>, subpath: Option<&str>| {
        ManifestEntry::GitRepo(GitRepo {
            url: Some(".".into()),
            reference: Some("trunk".into()),
            commit: commit.map(str::to_owned),
            subpath: subpath.map(str::to_owned),
            ..GitRepo::default()
        })
    };
    let made = here.make(&Manifest::default().entry(".", repo(None, None))).await.unwrap();
    assert_eq!(here.text(&made, "code/lib.rs").await.unwrap(), "two");
    assert_eq!(made.git_head, Some(here.git(&["rev-parse", "HEAD"])));
    assert!(!paths(&made).iter().any(|path| path.starts_with(".git/hooks")), "{:?}", paths(&made));
    let made =
        here.make(&Manifest::default().entry("r", repo(Some(&first), Some("code")))).await.unwrap();
    assert_eq!(paths(&made), ["r", "r/lib.rs"]);
    assert_eq!(here.text(&made, "r/lib.rs").await.unwrap(), "one");
    assert!(!trap.exists(), "something of the repository was run");
    let wrong =
        here.make(&Manifest::default().entry("r", repo(Some(&"ab".repeat(20)), None))).await;
    assert!(matches!(wrong, Err(MaterialiseError::Git { .. })), "{wrong:?}");
}
