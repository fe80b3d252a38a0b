//! Fetching a repository outside the sandbox, with nothing of it, or of the host, deciding how.

mod address;
mod cache;
mod head;
mod local;
mod measure;
mod run;
mod submodules;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use moat_core::Secret;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::host::host_error;
use super::{GitError, HostFolders, MaterialiseError, Progress};
use crate::manifest::{GitRepo, parts};
pub(super) use address::check;
use address::{address, without_credentials};
pub(super) use head::head_of;
use measure::Measure;
use run::Git;

/// Repositories within repositories.
const DEEPEST: usize = 8;

/// Reads the values of secrets that manifests name.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The value. The error is for people and says where the name is to be set.
    async fn read(&self, name: &str) -> Result<Secret, String>;
}

/// What reads secrets, if there is any.
#[derive(Clone, Default)]
pub struct CredentialSource(pub Option<Arc<dyn Credentials>>);

impl std::fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CredentialSource").field(&self.0.is_some()).finish()
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

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// The folder that is to be copied.
    pub(super) fn open(&self) -> Result<OwnedFd, MaterialiseError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = self.tree();
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
    let folder = tempfile::Builder::new()
        .prefix("moat-git-")
        .tempdir_in(&folders.scratch)
        .map_err(|error| host_error(&folders.scratch, error))?;
    let subpath = match &repo.subpath {
        Some(subpath) => Some(parts(subpath)?.into_iter().collect()),
        None => None,
    };
    let checkout = Checkout { folder, address: without_credentials(&address), subpath };
    let credential = match &repo.credential {
        Some(name) => Some((
            origin_of(&address),
            read_credential(folders, name).await.map_err(|source| checkout.failed(source))?,
        )),
        None => None,
    };
    let ssh_agent = folders.ssh_agent.as_deref();
    let largest_file = folders.limits.bytes;
    let git = Git { home: checkout.folder.path(), credential, ssh_agent, largest_file };
    let measure = Measure::new(folders.limits);
    let fetcher = Fetcher { git, repo, folders, progress, measure };
    let tree = checkout.tree();
    // The outermost repository, and then those in it that were found on the way.
    let mut waiting = vec![Wanted {
        path: tree.clone(),
        address,
        commit: repo.commit.clone(),
        reference: repo.reference.clone(),
        depth: 0,
    }];
    while let Some(wanted) = waiting.pop() {
        allow_local(&wanted.address, folders).await?;
        progress(Progress::Fetching { url: without_credentials(&wanted.address) });
        let found = fetcher.fetch(&wanted).await.map_err(|source| checkout.failed(source))?;
        waiting.extend(found);
    }
    Ok(checkout)
}

async fn read_credential(folders: &HostFolders, name: &str) -> Result<Secret, GitError> {
    let failed = |reason: String| GitError::Credential { name: name.to_owned(), reason };
    let source = folders.credentials.0.as_ref();
    let source = source.ok_or_else(|| failed("nothing here reads credentials".to_owned()))?;
    source.read(name).await.map_err(failed)
}

/// `https://host:port/` of an address.
fn origin_of(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("https", address));
    let authority = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{}/", authority.rsplit('@').next().unwrap_or_default())
}

/// A repository on this host is a source like any other folder, with all that it keeps elsewhere.
async fn allow_local(address: &str, folders: &HostFolders) -> Result<(), MaterialiseError> {
    let Some(path) = address.strip_prefix("file://").map(PathBuf::from) else { return Ok(()) };
    super::host::open_source(folders, &path)?;
    let folders = folders.clone();
    let looked = tokio::task::spawn_blocking(move || local::check(&path, &folders)).await;
    looked.map_err(|error| host_error(Path::new(address), std::io::Error::other(error)))?
}

/// A commit that is to be checked out in a folder.
struct Wanted {
    path: PathBuf,
    address: String,
    commit: Option<String>,
    reference: Option<String>,
    depth: usize,
}

struct Fetcher<'a> {
    git: Git<'a>,
    repo: &'a GitRepo,
    folders: &'a HostFolders,
    progress: &'a (dyn Fn(Progress) + Send + Sync),
    measure: Measure,
}

impl Fetcher<'_> {
    /// Fetches and checks out one repository. Answers its submodules.
    async fn fetch(&self, wanted: &Wanted) -> Result<Vec<Wanted>, GitError> {
        let tree = wanted.path.to_string_lossy();
        self.git.run("init", &["init", "--quiet", "--template=", &tree]).await?;
        self.fetch_objects(wanted).await?;
        let start = wanted.commit.as_deref().unwrap_or("refs/moat/fetched");
        let peeled = format!("{start}^{{commit}}");
        let found = ["-C", &*tree, "rev-parse", "--verify", &peeled];
        let found = self.git.run("rev-parse", &found).await?.trim().to_owned();
        if let Some(wanted) = &wanted.commit
            && !wanted.eq_ignore_ascii_case(&found)
        {
            return Err(GitError::OtherCommit { wanted: wanted.clone(), found });
        }
        self.measure.add(&self.git, &tree, &found).await?;
        let branch = wanted.reference.as_deref().filter(|name| is_branch_name(name));
        let checkout =
            ["-C", &*tree, "checkout", "--quiet", "-B", branch.unwrap_or("main"), &*found];
        self.git.run("checkout", &checkout).await?;
        let forget = ["-C", &*tree, "update-ref", "-d", "refs/moat/fetched"];
        self.git.run("update-ref", &forget).await?;
        let shown = without_credentials(&wanted.address);
        let origin = ["-C", &*tree, "config", "remote.origin.url", &shown];
        self.git.run("config", &origin).await?;
        self.submodules(wanted, &found).await
    }

    async fn submodules(&self, above: &Wanted, commit: &str) -> Result<Vec<Wanted>, GitError> {
        if !self.repo.submodules {
            return Ok(Vec::new());
        }
        let found = submodules::of_commit(&self.git, &above.path, commit, &above.address).await?;
        if !found.is_empty() && above.depth >= DEEPEST {
            let reason = format!("is nested deeper than {DEEPEST}");
            return Err(GitError::Submodule { name: above.path.display().to_string(), reason });
        }
        let wanted = found.into_iter().map(|found| Wanted {
            path: above.path.join(found.path),
            address: found.address,
            commit: Some(found.commit),
            reference: None,
            depth: above.depth + 1,
        });
        Ok(wanted.collect())
    }

    /// Brings what is wanted into the repository, as `refs/moat/fetched`.
    async fn fetch_objects(&self, wanted: &Wanted) -> Result<(), GitError> {
        let Some(cache) = self.folders.git_cache.clone().filter(|_| !is_local(&wanted.address))
        else {
            return self
                .fetch_from(&wanted.address, "refs/moat/fetched", &wanted.path, wanted)
                .await;
        };
        let credential = self.repo.credential.as_deref().unwrap_or_default();
        let key = format!("{}\n{credential}", wanted.address);
        let held = tokio::task::spawn_blocking(move || cache::hold(&cache, &key));
        let held = held.await.map_err(|error| GitError::Start(std::io::Error::other(error)))?;
        let held = held.map_err(GitError::Cache)?;
        for is_last in [false, true] {
            match self.fetch_through(&held, wanted).await {
                Err(GitError::CacheUnusable) if !is_last => {
                    held.clear().map_err(GitError::Cache)?;
                }
                done => return done,
            }
        }
        Ok(())
    }

    /// Through a repository of the cache.
    async fn fetch_through(&self, held: &cache::Held, wanted: &Wanted) -> Result<(), GitError> {
        let folder = held.folder.to_string_lossy();
        if held.is_new() {
            held.clear().map_err(GitError::Cache)?;
            self.git.run("init", &["init", "--quiet", "--bare", "--template=", &folder]).await?;
        }
        let name = wanted.commit.as_deref().or(wanted.reference.as_deref()).unwrap_or("HEAD");
        let depth = self.repo.depth.unwrap_or(1);
        let name: String = moat_core::Hash::of(format!("{depth} {name}").as_bytes()).to_string();
        let kept = format!("refs/moat/{name}");
        let is_there = match &wanted.commit {
            Some(commit) => {
                let known = ["-C", &*folder, "rev-parse", "--verify", "--quiet", &kept];
                let known = self.git.run("rev-parse", &known).await.unwrap_or_default();
                known.trim().eq_ignore_ascii_case(commit)
            }
            None => false,
        };
        if is_there {
            (self.progress)(Progress::Fetching { url: "what was fetched before".to_owned() });
        } else {
            let fetched = self.fetch_from(&wanted.address, &kept, &held.folder, wanted).await;
            if let Err(GitError::TooMuch { .. }) = &fetched {
                // What came until then is of use to nobody.
                held.clear().map_err(GitError::Cache)?;
            }
            fetched?;
        }
        let tree = wanted.path.to_string_lossy();
        let from = format!("file://{folder}");
        let target = format!("+{kept}:refs/moat/fetched");
        let fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--update-shallow"];
        let whole = [&["-C", &*tree], &fetch[..], &["--", &from, &target]].concat();
        let copied = self.git.run("fetch", &whole).await;
        copied.map(|_| ()).map_err(|_| GitError::CacheUnusable)
    }

    async fn fetch_from(
        &self,
        address: &str,
        target: &str,
        into: &Path,
        wanted: &Wanted,
    ) -> Result<(), GitError> {
        let folder = into.to_string_lossy();
        let depth = self.repo.depth.unwrap_or(1);
        let shallow = format!("--depth={depth}");
        let mut fetch = vec!["-C", &*folder, "fetch", "--quiet", "--no-tags"];
        fetch.push("--no-write-fetch-head");
        let by = |name: &str| format!("+{name}:{target}");
        let name = wanted.commit.as_deref().or(wanted.reference.as_deref()).unwrap_or("HEAD");
        let (first, second) = (by(name), by(wanted.reference.as_deref().unwrap_or("HEAD")));
        let mut one = fetch.clone();
        one.extend((depth > 0).then_some(shallow.as_str()));
        one.extend(["--", address, &first]);
        match self.git.run("fetch", &one).await {
            // A server may refuse to hand out a commit by its name: then by what is said to hold it.
            // Where that does not hold it either, the first answer is the one that says why.
            Err(first @ GitError::Failed { .. }) if wanted.commit.is_some() => {
                fetch.extend(["--", address, &second]);
                self.git.run("fetch", &fetch).await?;
                let peeled = format!("{name}^{{commit}}");
                let is_there = ["-C", &*folder, "rev-parse", "--verify", "--quiet", &peeled];
                self.git.run("rev-parse", &is_there).await.map(|_| ()).map_err(|_| first)
            }
            fetched => fetched.map(|_| ()),
        }
    }
}

fn is_local(address: &str) -> bool {
    address.starts_with("file://")
}

fn is_branch_name(name: &str) -> bool {
    !name.starts_with("refs/") && name != "HEAD" && !name.bytes().all(|b| b.is_ascii_hexdigit())
}
