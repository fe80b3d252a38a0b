//! Repositories from servers, and repositories that wish their reader ill.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Mutex;

use async_trait::async_trait;
use moat_core::Secret;

use super::*;

/// A repository with one commit, and its name.
fn repository(here: &Place, name: &str, files: &[(&str, &str)]) -> String {
    here.git(&["init", "-q", "-b", "main", name]);
    for (path, content) in files {
        here.write(&format!("{name}/{path}"), content);
    }
    here.git(&["-C", name, "add", "-A"]);
    here.git(&["-C", name, "commit", "-q", "-m", "one"]);
    here.git(&["-C", name, "rev-parse", "HEAD"])
}

fn entry(repo: GitRepo) -> Manifest {
    Manifest::default().entry("code", ManifestEntry::GitRepo(repo))
}

fn from(url: &str) -> GitRepo {
    GitRepo { url: Some(url.to_owned()), ..GitRepo::default() }
}

/// Writes a tree and a commit without what git would ask of them, and answers the commit.
fn commit_of(here: &Place, name: &str, listing: &str) -> String {
    let input = |args: &[&str], text: &str| {
        let mut child = Command::new("git")
            .args(["-C", name, "-c", "user.name=T", "-c", "user.email=t@example.com"])
            .args(args)
            .current_dir(here.agent())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{args:?}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    let mut lines = String::new();
    for line in listing.lines().filter(|line| !line.is_empty()) {
        let (mode, path, content) = {
            let mut words = line.splitn(3, ' ');
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default())
        };
        let (kind, id) = match mode {
            "160000" => ("commit", content.to_owned()),
            "040000" => ("tree", content.to_owned()),
            _ => (
                "blob",
                input(
                    &["hash-object", "-w", "--stdin"],
                    &content.replace("\\n", "\n").replace("\\t", "\t"),
                ),
            ),
        };
        lines.push_str(&format!("{mode} {kind} {id}\t{path}\n"));
    }
    let tree = input(&["mktree", "--missing"], &lines);
    let commit = input(&["commit-tree", &tree, "-m", "evil"], "");
    here.git(&["-C", name, "update-ref", "refs/heads/evil", &commit]);
    commit
}

#[tokio::test]
async fn submodules_come_along_when_they_are_asked_for() {
    let here = place();
    let library = repository(&here, "library", &[("lib.txt", "library")]);
    repository(&here, "app", &[("main.txt", "app"), ("vendor/.keep", "")]);
    let commit = commit_of(
        &here,
        "app",
        &format!(
            "100644 .gitmodules [submodule \"lib\"]\\n\\tpath = lib\\n\\turl = ../library\\n\n\
             160000 lib {library}\n100644 main.txt app"
        ),
    );
    let repo = GitRepo { commit: Some(commit), ..from("app") };
    let made = here.make(&entry(repo.clone())).await.unwrap();
    assert!(!paths(&made).contains(&"code/lib/lib.txt".to_owned()));
    let made = here.make(&entry(GitRepo { submodules: true, ..repo })).await.unwrap();
    assert_eq!(here.text(&made, "code/lib/lib.txt").await.unwrap(), "library");
    assert_eq!(here.text(&made, "code/main.txt").await.unwrap(), "app");
}

#[tokio::test]
async fn hostile_repositories_are_refused_by_name_and_leave_nothing() {
    let here = place();
    let id = repository(&here, "evil", &[("a", "x")]);
    here.git(&["-C", "evil", "config", "uploadpack.allowAnySHA1InWant", "true"]);
    let proof = here.dir.path().join("proof");
    let run = format!("touch {}", proof.display());
    let module = |name: &str, path: &str, url: &str| {
        format!(
            "100644 .gitmodules [submodule \"{name}\"]\\n\\tpath = {path}\\n\\turl = {url}\\n\n\
             160000 {path} {id}"
        )
    };
    let link = here.dir.path().display();
    let cases = [
        (module("x", "x", "--upload-pack=touch"), "gitmodules"),
        (module("x", "x", &format!("ext::sh -c '{run}'")), "`x`"),
        (module("x", "x", "ssh://-oProxyCommand=touch/x"), "`x`"),
        (module("../../x", "x", "../library"), "gitmodules"),
        (module("x", "x", "-u./payload"), "gitmodules"),
        (module("x", "x", "fd::17"), "`x`"),
        (module("x", "x", "git://-oProxyCommand=id/x"), "`x`"),
        (module("x", "x", &format!("file://{link}/private")), "private"),
        (module("x", "x", &format!("{link}/private")), "private"),
        (module("x\\ny", "x", "../library\\n\\turl = ext::sh"), "gitmodules"),
        (module("x", "x", "file:///etc"), "`/etc`"),
        (
            format!(
                "100644 .gitmodules [submodule \"x\"]\\n\\tpath = .git/hooks\\n\\turl = ../library\\n\n\
                 160000 x {id}"
            ),
            "git",
        ),
        (format!("120000 .gitmodules {link}"), "gitmodules"),
        ("100644 .GIT x".to_owned(), ".GIT"),
        (format!("040000 .git {}", here.git(&["-C", "evil", "rev-parse", "HEAD^{tree}"])), ".git"),
        ("100644 git~1 x".to_owned(), ".git"),
        // A link with the name of the folder of a submodule.
        (
            format!(
                "100644 .gitmodules [submodule \"d\"]\\n\\tpath = d/x\\n\\turl = ../evil\\n\n\
                 120000 d {link}"
            ),
            "",
        ),
    ];
    let (before, mut wrong) = (names(here.dir.path()), Vec::new());
    for (listing, named) in cases {
        let commit = commit_of(&here, "evil", &listing);
        let repo = GitRepo { commit: Some(commit), submodules: true, ..from("evil") };
        match here.make(&entry(repo)).await {
            Err(error) => {
                let text = error.to_string().to_lowercase();
                if !text.contains(&named.to_lowercase()) {
                    wrong.push(format!("{listing}: {error}"));
                }
            }
            // There is no such submodule in the tree: a link stands there, and is left out.
            Ok(made) => {
                if !named.is_empty() || made.left_out.iter().all(|left| left.path != "code/d") {
                    wrong.push(format!("{listing} was taken: {:?}", paths(&made)));
                }
            }
        }
        assert!(!proof.exists(), "{listing} ran a program");
        assert_eq!(names(here.dir.path()), before, "{listing} left something behind");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A tree that holds the same tree ten times, eight deep: a few hundred bytes that would become a
/// hundred million files; and a pack that is larger than allowed.
#[tokio::test]
async fn repositories_that_would_become_too_much_are_refused_before_they_do() {
    let here = place();
    repository(&here, "bomb", &[("a", "x")]);
    let mut listing = "100644 file x".to_owned();
    for _ in 0..8 {
        let commit = commit_of(&here, "bomb", &listing);
        let tree = here.git(&["-C", "bomb", "rev-parse", &format!("{commit}^{{tree}}")]);
        let again = (0..10).map(|number| format!("040000 d{number} {tree}\n"));
        listing = again.collect();
    }
    commit_of(&here, "bomb", &listing);
    let before = names(here.dir.path());
    let bomb = GitRepo { reference: Some("evil".to_owned()), ..from("bomb") };
    let limits = SourceLimits { entries: 5000, bytes: 1 << 30 };
    let error = here.make_within(&entry(bomb), limits).await.unwrap_err();
    let MaterialiseError::Git { source: GitError::TooMuch { what, limit, .. }, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*what, *limit), ("files and folders", 5000));
    assert!(error.to_string().contains("`d0/"), "{error}");

    let noise: String = (0..40_000_u64)
        .map(|number| moat_core::Hash::of(&number.to_le_bytes()).to_string())
        .collect();
    repository(&here, "large", &[("noise", &noise)]);
    let within = async |bytes| {
        let limits = SourceLimits { entries: 5000, bytes };
        here.make_within(&entry(from("large")), limits).await
    };
    // Less than what is checked out, and less than what is fetched.
    for bytes in [noise.len() as u64 - 1, 100_000] {
        let error = within(bytes).await.unwrap_err();
        let MaterialiseError::Git { source: GitError::TooMuch { what, limit, .. }, .. } = &error
        else {
            panic!("{error}")
        };
        assert_eq!((*what, *limit), ("bytes", bytes));
    }
    within(noise.len() as u64 * 3).await.unwrap();
    assert_eq!(names(here.dir.path()), before, "something is left behind");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "store");
    names.sort();
    names
}

#[tokio::test]
async fn what_a_repository_on_this_host_says_of_itself_is_not_done() {
    let here = place();
    repository(&here, "evil", &[("a.txt", "x"), (".gitattributes", "* filter=evil\n")]);
    let proof = here.dir.path().join("proof");
    let touch = format!("touch {}", proof.display());
    for (key, value) in [
        ("core.fsmonitor", touch.as_str()),
        ("core.sshCommand", &touch),
        ("core.gitProxy", &touch),
        ("filter.evil.smudge", &touch),
        ("uploadpack.packObjectsHook", &touch),
        ("include.path", "/etc/passwd"),
    ] {
        here.git(&["-C", "evil", "config", key, value]);
    }
    here.write("evil/.git/hooks/post-checkout", format!("#!/bin/sh\n{touch}\n"));
    fs::set_permissions(
        here.agent().join("evil/.git/hooks/post-checkout"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    // Its configuration includes what is none, so that git itself refuses to read it.
    let error = here.make(&entry(from("evil"))).await.unwrap_err();
    assert!(matches!(error, MaterialiseError::Git { .. }), "{error}");
    here.git(&["config", "-f", "evil/.git/config", "--unset", "include.path"]);
    let made = here.make(&entry(from("evil"))).await.unwrap();
    assert_eq!(here.text(&made, "code/a.txt").await.unwrap(), "x");
    let config = here.text(&made, "code/.git/config").await.unwrap();
    assert!(!config.contains("touch"), "{config}");
    assert!(!proof.exists());
}

/// Objects, references and configuration of a repository may be kept elsewhere, by files and links.
#[tokio::test]
async fn what_a_repository_on_this_host_keeps_elsewhere_is_not_read_from_there() {
    let here = place();
    let commit = repository(&here, "../private", &[("secret.txt", "private")]);
    let private = here.dir.path().join("private/.git");
    let evil = |name: &str| {
        repository(&here, name, &[("a.txt", "x")]);
        here.agent().join(name).join(".git")
    };
    let shown = private.display();
    let dot_git = evil("alternates");
    fs::write(dot_git.join("objects/info/alternates"), format!("{shown}/objects\n")).unwrap();
    fs::write(dot_git.join("refs/heads/main"), format!("{commit}\n")).unwrap();
    let dot_git = evil("again");
    let between = here.agent().join("between/objects");
    fs::create_dir_all(between.join("info")).unwrap();
    fs::write(between.join("info/alternates"), format!("{shown}/objects\n")).unwrap();
    fs::write(dot_git.join("objects/info/alternates"), "../../../between/objects\n").unwrap();
    let dot_git = evil("quoted");
    let quoted = format!("\"{shown}/objects\"\n");
    fs::write(dot_git.join("objects/info/alternates"), quoted).unwrap();
    let dot_git = evil("file");
    fs::remove_dir_all(&dot_git).unwrap();
    fs::write(&dot_git, format!("gitdir: {shown}\n")).unwrap();
    let dot_git = evil("link");
    fs::remove_dir_all(&dot_git).unwrap();
    symlink(&private, &dot_git).unwrap();
    let dot_git = evil("objects");
    fs::remove_dir_all(dot_git.join("objects")).unwrap();
    symlink(private.join("objects"), dot_git.join("objects")).unwrap();
    let dot_git = evil("reference");
    fs::remove_file(dot_git.join("refs/heads/main")).unwrap();
    symlink(private.join("refs/heads/main"), dot_git.join("refs/heads/main")).unwrap();
    let dot_git = evil("common");
    fs::write(dot_git.join("commondir"), format!("{shown}\n")).unwrap();

    let before = names(here.dir.path());
    for name in ["alternates", "again", "quoted", "file", "link", "objects", "reference", "common"]
    {
        let refused = here.make(&entry(from(name))).await;
        let error = refused.map(|made| paths(&made)).unwrap_err().to_string();
        let named = if name == "quoted" { "objects/info/alternates" } else { "private/.git" };
        assert!(error.contains(named), "{name}: {error}");
        assert_eq!(names(here.dir.path()), before, "{name} left something behind");
    }
    // Where all of it may be read, it is.
    repository(&here, "own", &[("a.txt", "own")]);
    here.git(&["clone", "-q", "--shared", "own", "shared"]);
    here.git(&["-C", "own", "worktree", "add", "-q", "../tree"]);
    for name in ["shared", "tree"] {
        let made = here.make(&entry(from(name))).await.unwrap();
        assert_eq!(here.text(&made, "code/a.txt").await.unwrap(), "own", "{name}");
    }
    let folders = HostFolders::new(here.agent()).scratch(here.dir.path()).allow(here.dir.path());
    let made = materialise(&entry(from("file")), &folders, &here.snapshots, &|_| {}).await.unwrap();
    assert_eq!(here.text(&made, "code/secret.txt").await.unwrap(), "private");
}

/// `git http-backend` behind a server of a few lines, which wants a token.
struct Served {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

fn serve(root: PathBuf, token: &'static str) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut headers) = (String::new(), Vec::new());
            reader.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                headers.push(line.trim().to_owned());
            }
            heard.lock().unwrap().push(first.trim().to_owned());
            let header = |name: &str| {
                let found = headers.iter().find_map(|line| {
                    let (key, value) = line.split_once(": ")?;
                    key.eq_ignore_ascii_case(name).then(|| value.to_owned())
                });
                found.unwrap_or_default()
            };
            if header("authorization") != token {
                let refused = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\
                    WWW-Authenticate: Basic\r\nConnection: close\r\n\r\n";
                stream.write_all(refused.as_bytes()).unwrap();
                continue;
            }
            let length: usize = header("content-length").parse().unwrap_or(0);
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let target = first.split(' ').nth(1).unwrap();
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let mut backend = Command::new("git")
                .arg("http-backend")
                .env("GIT_PROJECT_ROOT", &root)
                .env("GIT_HTTP_EXPORT_ALL", "1")
                .env("PATH_INFO", path)
                .env("QUERY_STRING", query)
                .env("REQUEST_METHOD", first.split(' ').next().unwrap())
                .env("CONTENT_TYPE", header("content-type"))
                .env("CONTENT_LENGTH", length.to_string())
                .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
                .env("GIT_PROTOCOL", header("git-protocol"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            backend.stdin.take().unwrap().write_all(&body).unwrap();
            let answer = backend.wait_with_output().unwrap().stdout;
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n").unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    Served { port, requests }
}

struct Token(&'static str);

#[async_trait]
impl Credentials for Token {
    async fn read(&self, name: &str) -> Result<Secret, String> {
        if name == "GIT" { Ok(Secret::new(self.0)) } else { Err(format!("`{name}` is unknown")) }
    }
}

#[tokio::test]
async fn a_token_fetches_from_a_server_and_is_nowhere_afterwards() {
    let here = place();
    let commit = repository(&here, "private", &[("a.txt", "private")]);
    // x-access-token:s3cr3t-token
    let served = serve(here.agent(), "Basic eC1hY2Nlc3MtdG9rZW46czNjcjN0LXRva2Vu");
    let url = format!("http://127.0.0.1:{}/private/.git", served.port);
    let repo = GitRepo {
        credential: Some("GIT".into()),
        commit: Some(commit),
        reference: Some("main".into()),
        ..from(&url)
    };
    let mut folders = HostFolders::new(here.agent()).scratch(here.dir.path());
    folders.git_cache = Some(here.dir.path().join("cache"));
    let refused = materialise(&entry(repo.clone()), &folders, &here.snapshots, &|_| {}).await;
    assert!(refused.unwrap_err().to_string().contains("`GIT`"));
    folders.credentials = CredentialSource(Some(Arc::new(Token("s3cr3t-token"))));
    let made = materialise(&entry(repo.clone()), &folders, &here.snapshots, &|_| {}).await.unwrap();
    assert_eq!(here.text(&made, "code/a.txt").await.unwrap(), "private");
    for entry in made.tree.workspace.entries() {
        let Node::File { content, size, .. } = entry.node else { continue };
        let bytes = here.snapshots.read_file(content, size).await.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let hides = !text.contains("s3cr3t") && !text.contains("czNjcjN0");
        assert!(hides, "{}", entry.path.display());
    }
    // A commit that was fetched before is not fetched again.
    let asked = served.requests.lock().unwrap().len();
    assert!(asked > 0);
    materialise(&entry(repo.clone()), &folders, &here.snapshots, &|_| {}).await.unwrap();
    assert_eq!(served.requests.lock().unwrap().len(), asked);
    // Nor is it for somebody without the token.
    folders.credentials = CredentialSource::default();
    let other = GitRepo { credential: None, ..repo };
    let denied = materialise(&entry(other), &folders, &here.snapshots, &|_| {}).await;
    assert!(matches!(denied, Err(MaterialiseError::Git { .. })), "{denied:?}");
    // A cache that is damaged is of no use, and is made anew.
    for kept in fs::read_dir(here.dir.path().join("cache")).unwrap() {
        let objects = kept.unwrap().path().join("objects");
        let _ = fs::remove_dir_all(objects.join("pack"));
    }
    folders.credentials = CredentialSource(Some(Arc::new(Token("s3cr3t-token"))));
    let again = GitRepo { credential: Some("GIT".into()), ..from(&url) };
    materialise(&entry(again), &folders, &here.snapshots, &|_| {}).await.unwrap();
}
