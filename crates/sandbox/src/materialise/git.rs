//! Fetching a repository outside the sandbox, with nothing of it, or of the host, deciding how.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use moat_snapshot::{Node, Snapshots, Tree};
use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::host::{host_error, normal};
use super::{GitError, HostFolders, MaterialiseError, Progress};
use crate::manifest::{GitRepo, parts};

/// How long one command of git may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Bytes of git's complaints that are kept.
const COMPLAINT: u64 = 4096;
/// Where git and ssh are looked for: not where the caller's environment says.
const PROGRAMS: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";

/// Settings that win over whatever a repository brings.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.logAllRefUpdates=false",
    "core.autocrlf=false",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "init.defaultBranch=main",
    "protocol.allow=never",
    "protocol.file.allow=always",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "protocol.ssh.allow=always",
    "protocol.git.allow=always",
    "safe.directory=*",
    "submodule.recurse=false",
    "transfer.fsckObjects=true",
];

/// Checks what a manifest says about a repository; the problem is the rest of a sentence.
pub(super) fn check(repo: &GitRepo) -> Result<(), String> {
    match (&repo.url, &repo.repo) {
        (Some(_), Some(_)) => return Err("has `url` and `repo`; give one of them".into()),
        (None, None) => return Err("needs a `url` or a `repo`".into()),
        (Some(_), None) if repo.host.is_some() => {
            return Err("has `url` and `host`; `host` goes with `repo`".into());
        }
        _ => {}
    }
    let words = [&repo.url, &repo.repo, &repo.host, &repo.reference, &repo.subpath];
    for word in words.into_iter().flatten() {
        let is_option = word.starts_with('-');
        if word.is_empty() || is_option || word.chars().any(char::is_control) {
            return Err(format!("has a value that git could misread: `{}`", word.escape_debug()));
        }
    }
    if let Some(commit) = &repo.commit
        && !(matches!(commit.len(), 40 | 64) && commit.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return Err("needs a whole `commit`: 40 or 64 hexadecimal digits".into());
    }
    if let Some(subpath) = &repo.subpath {
        parts(subpath).map_err(|error| format!("has a bad `subpath`: {error}"))?;
    }
    address(repo, Path::new("/")).map(|_| ())
}

/// The address to fetch from.
fn address(repo: &GitRepo, base: &Path) -> Result<String, String> {
    let Some(url) = &repo.url else {
        let host = repo.host.as_deref().unwrap_or("github.com");
        let name = repo.repo.as_deref().unwrap_or_default().trim_end_matches(".git");
        let is_plain = |text: &str| !text.contains(['@', '?', '#', ' ']) && !text.contains("..");
        if !is_plain(host) || !is_plain(name) || host.contains('/') {
            return Err("has a `host` or `repo` that makes no address".into());
        }
        return Ok(format!("https://{host}/{name}.git"));
    };
    if let Some((scheme, _)) = url.split_once("://") {
        return match scheme {
            "https" | "http" | "ssh" | "git" | "file" => Ok(url.clone()),
            other => Err(format!("has a `url` of a kind that is not fetched: `{other}`")),
        };
    }
    // `ext::…` and the like run programs.
    if url.contains("::") {
        return Err("has a `url` of a kind that is not fetched".into());
    }
    let is_remote = url.split_once(':').is_some_and(|(host, _)| !host.contains('/'));
    if is_remote {
        Ok(url.clone())
    } else {
        Ok(format!("file://{}", normal(&base.join(url)).display()))
    }
}

/// An address as it may be shown and stored.
fn without_credentials(address: &str) -> String {
    match super::git_config::mask(address.as_bytes()) {
        Some(masked) => String::from_utf8_lossy(&masked).into_owned(),
        None => address.to_owned(),
    }
}

/// A repository in a private folder that goes when this does.
pub(super) struct Checkout {
    folder: tempfile::TempDir,
    address: String,
    subpath: Option<PathBuf>,
}

impl Checkout {
    /// Where it came from, without credentials.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    fn failed(&self, source: GitError) -> MaterialiseError {
        MaterialiseError::Git { url: self.address.clone(), source }
    }

    /// The folder that is to be copied.
    pub(super) fn open(&self) -> Result<OwnedFd, MaterialiseError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = self.folder.path().join("tree");
        let mut here =
            openat(CWD, &path, flags, Mode::empty()).map_err(|error| host_error(&path, error))?;
        for part in self.subpath.iter().flatten() {
            here = openat(&here, part, flags, Mode::empty()).map_err(|_| {
                let subpath = self.subpath.as_deref().unwrap_or(Path::new(""));
                self.failed(GitError::NoSubpath(subpath.display().to_string()))
            })?;
        }
        Ok(here)
    }
}

/// Fetches one commit and checks it out.
pub(super) async fn fetch(
    repo: &GitRepo,
    folders: &HostFolders,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Checkout, MaterialiseError> {
    let problem = |problem| MaterialiseError::Git {
        url: repo.url.as_deref().map(without_credentials).unwrap_or_default(),
        source: GitError::Failed { step: "fetch", message: problem },
    };
    let address = address(repo, &folders.base).map_err(problem)?;
    allow_local(&address, folders)?;
    let folder = tempfile::Builder::new()
        .prefix("moat-git-")
        .tempdir_in(&folders.scratch)
        .map_err(|error| host_error(&folders.scratch, error))?;
    let subpath = match &repo.subpath {
        Some(subpath) => Some(parts(subpath)?.into_iter().collect()),
        None => None,
    };
    let checkout = Checkout { folder, address: without_credentials(&address), subpath };
    progress(Progress::Fetching { url: checkout.address.clone() });
    run(&checkout, &address, repo).await.map_err(|source| checkout.failed(source))?;
    Ok(checkout)
}

/// A repository on this host is a source like any other folder.
fn allow_local(address: &str, folders: &HostFolders) -> Result<(), MaterialiseError> {
    match address.strip_prefix("file://") {
        Some(path) => super::host::open_source(folders, Path::new(path)).map(|_| ()),
        None => Ok(()),
    }
}

async fn run(checkout: &Checkout, address: &str, repo: &GitRepo) -> Result<(), GitError> {
    let tree = checkout.folder.path().join("tree");
    let tree = tree.to_string_lossy();
    git(checkout, "init", &["init", "--quiet", "--template=", &tree]).await?;
    let wanted = repo.commit.as_deref().or(repo.reference.as_deref()).unwrap_or("HEAD");
    let fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head"];
    let target = format!("+{wanted}:refs/moat/fetched");
    let shallow = [&["-C", &*tree], &fetch[..], &["--", address, &target]].concat();
    let fetched = match git(checkout, "fetch", &shallow).await {
        // A server may refuse to hand out a commit by its name: then by what is said to hold it.
        Err(_) if repo.commit.is_some() => {
            let reference = repo.reference.as_deref().unwrap_or("HEAD");
            let target = format!("+{reference}:refs/moat/fetched");
            let fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"];
            let whole = [&["-C", &*tree], &fetch[..], &["--", address, &target]].concat();
            git(checkout, "fetch", &whole).await
        }
        fetched => fetched,
    };
    fetched?;
    let start = repo.commit.as_deref().unwrap_or("refs/moat/fetched");
    let peeled = format!("{start}^{{commit}}");
    let found =
        git(checkout, "rev-parse", &["-C", &tree, "rev-parse", "--verify", &peeled]).await?;
    let found = found.trim().to_owned();
    if let Some(wanted) = &repo.commit
        && !wanted.eq_ignore_ascii_case(&found)
    {
        return Err(GitError::OtherCommit { wanted: wanted.clone(), found });
    }
    let checkout_args = match repo.reference.as_deref().filter(|name| is_branch_name(name)) {
        Some(branch) => vec!["-C", &*tree, "checkout", "--quiet", "-B", branch, &*found],
        None => vec!["-C", &*tree, "checkout", "--quiet", "-B", "main", &*found],
    };
    git(checkout, "checkout", &checkout_args).await?;
    let forget = ["-C", &*tree, "update-ref", "-d", "refs/moat/fetched"];
    git(checkout, "update-ref", &forget).await?;
    let origin = ["-C", &*tree, "config", "remote.origin.url", checkout.address()];
    git(checkout, "config", &origin).await.map(|_| ())
}

fn is_branch_name(name: &str) -> bool {
    !name.starts_with("refs/") && name != "HEAD" && !name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// One command, with an environment of our own making. Returns its output.
async fn git(checkout: &Checkout, step: &'static str, args: &[&str]) -> Result<String, GitError> {
    let mut command = Command::new("git");
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command
        .args(args)
        .env_clear()
        .env("PATH", PROGRAMS)
        .env("HOME", checkout.folder.path())
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "/bin/false")
        .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
        .current_dir(checkout.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(GitError::Start)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let done = tokio::time::timeout(PATIENCE, async {
        let (out, err) = tokio::join!(head_of_pipe(out), head_of_pipe(err));
        (child.wait().await, out, err)
    });
    let (status, out, err) =
        done.await.map_err(|_| GitError::TimedOut { step, seconds: PATIENCE.as_secs() })?;
    if status.map_err(GitError::Start)?.success() {
        return Ok(out);
    }
    Err(GitError::Failed { step, message: without_credentials(err.trim()) })
}

/// The beginning of what a command says; the rest is read and dropped.
async fn head_of_pipe(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut head = Vec::new();
    let _ = (&mut pipe).take(COMPLAINT).read_to_end(&mut head).await;
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&head).into_owned()
}

/// The commit that a workspace has checked out, read from its snapshot; `None` if it is none, or
/// keeps its history elsewhere.
pub(super) async fn head_of(
    tree: &Tree,
    snapshots: &Snapshots,
) -> Result<Option<String>, MaterialiseError> {
    let Some(head) = text(tree, snapshots, ".git/HEAD").await? else { return Ok(None) };
    let Some(reference) = head.trim().strip_prefix("ref: ") else {
        return Ok(commit_name(head.trim()));
    };
    if let Some(loose) = text(tree, snapshots, &format!(".git/{reference}")).await? {
        return Ok(commit_name(loose.trim()));
    }
    let packed = text(tree, snapshots, ".git/packed-refs").await?.unwrap_or_default();
    let line =
        packed.lines().find(|line| line.split_once(' ').is_some_and(|(_, name)| name == reference));
    Ok(line.and_then(|line| commit_name(line.split(' ').next().unwrap_or_default())))
}

fn commit_name(text: &str) -> Option<String> {
    let is_name = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_name.then(|| text.to_owned())
}

async fn text(
    tree: &Tree,
    snapshots: &Snapshots,
    path: &str,
) -> Result<Option<String>, MaterialiseError> {
    match tree.workspace.get(Path::new(path)).map(|entry| &entry.node) {
        Some(Node::File { content, size, .. }) if *size <= super::git_config::LARGEST => {
            let bytes = snapshots.read_file(*content, *size).await?;
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
        }
        _ => Ok(None),
    }
}
