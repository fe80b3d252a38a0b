use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use moat_snapshot::{Node, Snapshots, Tree};
use tokio::process::Command;
use tokio::runtime::Handle;

use super::GitRef;
use super::names::is_commit;
use crate::error::WriteBackError;

/// How long one command of git may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Bytes of an object's file that are read at a time.
const CHUNK: usize = 1024 * 1024;
/// Where git is looked for: not where the caller's environment says.
const PROGRAMS: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";

/// Settings that win over those of either repository.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.alternateRefsCommand=true",
    "core.logAllRefUpdates=false",
    "credential.helper=",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "protocol.file.allow=always",
    "safe.directory=*",
];

/// Brings commits of a snapshot into a repository of the host.
pub(crate) struct Importer<'a> {
    pub(crate) snapshots: &'a Snapshots,
    pub(crate) runtime: &'a Handle,
    /// The repository's own `.git`.
    pub(crate) git_dir: PathBuf,
    /// A private folder for the time of the import is made in this one.
    pub(crate) scratch: &'a Path,
}

impl Importer<'_> {
    /// Why nothing can come in, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        match fs::symlink_metadata(&self.git_dir) {
            Ok(found) if found.is_dir() => None,
            Ok(_) => Some("the folder's `.git` leads elsewhere; fetch the commits there".into()),
            Err(_) => Some("the folder is no git repository any more".into()),
        }
    }

    /// What the references are now.
    pub(crate) fn note_before(&self, refs: &mut [GitRef]) {
        for reference in refs {
            let found = self.git(
                &self.git_dir,
                "rev-parse",
                &["rev-parse", "--quiet", "--verify", &reference.name],
            );
            reference.before =
                found.ok().map(|out| out.trim().to_owned()).filter(|commit| is_commit(commit));
        }
    }

    /// Fetches the commits. Every object is hashed and checked by git on the way in.
    pub(crate) fn fetch(
        &self,
        base: &Tree,
        last: &Tree,
        refs: &[GitRef],
    ) -> Result<(), WriteBackError> {
        let Some(first) = refs.first() else { return Ok(()) };
        let temporary =
            tempfile::Builder::new()
                .prefix("moat-commits-")
                .tempdir_in(self.scratch)
                .map_err(|error| WriteBackError::host("make a folder in", self.scratch, error))?;
        let from = temporary.path().join("from");
        let format = if first.commit.len() == 64 { "sha256" } else { "sha1" };
        let format = format!("--object-format={format}");
        let shown = from.to_string_lossy().into_owned();
        let init = ["init", "--quiet", "--bare", "--template=", &format, &shown];
        self.git(&from, "init", &init)?;
        self.copy_objects(base, last, &from)?;
        let mut fetch: Vec<String> = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--refmap=",
            "--",
        ]
        .map(str::to_owned)
        .to_vec();
        fetch.push(format!("file://{shown}"));
        for (number, reference) in refs.iter().enumerate() {
            write(&from.join(format!("refs/heads/n{number}")), reference.commit.as_bytes())?;
            fetch.push(format!("+refs/heads/n{number}:{}", reference.name));
        }
        let fetch: Vec<&str> = fetch.iter().map(String::as_str).collect();
        self.git(&self.git_dir, "fetch", &fetch).map(|_| ())
    }

    /// Objects that the run added. Those that it started from are taken from the host's own
    /// repository, which is only read.
    fn copy_objects(&self, base: &Tree, last: &Tree, from: &Path) -> Result<(), WriteBackError> {
        let objects = Path::new(".git/objects");
        for entry in last.workspace.entries() {
            let Ok(path) = entry.path.strip_prefix(objects) else { continue };
            let Node::File { content, .. } = &entry.node else { continue };
            let is_old = base.workspace.get(&entry.path).is_some_and(|old| old.node == entry.node);
            if is_old || !is_object(path) {
                continue;
            }
            let to = from.join("objects").join(path);
            let bytes = self.runtime.block_on(self.whole(*content))?;
            write(&to, &bytes)?;
        }
        let mut alternates = self.git_dir.join("objects").into_os_string();
        alternates.push("\n");
        let alternates = std::os::unix::ffi::OsStrExt::as_bytes(&*alternates).to_vec();
        write(&from.join("objects/info/alternates"), &alternates)
    }

    async fn whole(&self, content: moat_core::BlobId) -> Result<Vec<u8>, WriteBackError> {
        let mut bytes = Vec::new();
        loop {
            let part = self.snapshots.read_part(content, bytes.len() as u64, CHUNK).await?;
            if part.is_empty() {
                return Ok(bytes);
            }
            bytes.extend(part);
        }
    }

    /// Takes references back to what they were.
    pub(crate) fn take_back(&self, refs: &[GitRef]) -> Result<(), WriteBackError> {
        for reference in refs {
            let now = self.git(
                &self.git_dir,
                "rev-parse",
                &["rev-parse", "--quiet", "--verify", &reference.name],
            );
            // Moved or removed by somebody else: it is his now.
            if now.is_err() || now.is_ok_and(|now| now.trim() != reference.commit) {
                continue;
            }
            let args = match &reference.before {
                Some(before) => vec!["update-ref", &reference.name, before, &reference.commit],
                None => vec!["update-ref", "-d", &reference.name, &reference.commit],
            };
            self.git(&self.git_dir, "update-ref", &args)?;
        }
        Ok(())
    }

    /// One command, with an environment of our own making. Returns its output.
    fn git(
        &self,
        git_dir: &Path,
        step: &'static str,
        args: &[&str],
    ) -> Result<String, WriteBackError> {
        let mut command = Command::new("git");
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
            .args(args)
            .env_clear()
            .env("PATH", PROGRAMS)
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("GIT_DIR", git_dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .current_dir(self.scratch)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let failed = |message: String| WriteBackError::Git { step, message };
        let done =
            self.runtime.block_on(async { tokio::time::timeout(PATIENCE, command.output()).await });
        let output = done
            .map_err(|_| failed(format!("it took longer than {} seconds", PATIENCE.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        Err(failed(message.trim().chars().take(2000).collect()))
    }
}

/// `ab/cdef…` or `pack/pack-….pack` and its index; no alternates, no commit graphs.
fn is_object(path: &Path) -> bool {
    let Some(path) = path.to_str() else { return false };
    let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match path.split_once('/') {
        Some(("pack", name)) => {
            let stem = name.strip_suffix(".pack").or_else(|| name.strip_suffix(".idx"));
            stem.and_then(|stem| stem.strip_prefix("pack-"))
                .is_some_and(|id| matches!(id.len(), 40 | 64) && is_hex(id))
        }
        Some((fan, rest)) => {
            fan.len() == 2 && is_hex(fan) && matches!(rest.len(), 38 | 62) && is_hex(rest)
        }
        None => false,
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteBackError> {
    let fail = |error| WriteBackError::host("write", path, error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    fs::write(path, bytes).map_err(fail)
}
