use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, future::BoxFuture};
use moat_snapshot::{Entry, LinkGroup, Meta, Node, Put, Snapshots};
use tokio::sync::mpsc;

use super::collect::{Collected, file_node, push};
use super::host::host_error;
use super::secrets::SecretRules;
use super::walk::{Found, Sink, below, facts};
use super::{LeftOut, MaterialiseError, Progress, SourceLimits, git_config, shown};

/// Contents that are stored at a time.
const SIDE_BY_SIDE: usize = 8;
/// Batches of findings that wait between the walk and the store.
const WAITING: usize = 2;
/// Bytes of a large file that are read at a time.
const CHUNK: usize = 1024 * 1024;
/// How often progress is told, in files.
const TOLD_EVERY: u64 = 256;

/// One folder on its way into the workspace.
pub(super) struct Copy<'a> {
    pub(super) at: PathBuf,
    pub(super) shown: PathBuf,
    pub(super) snapshots: &'a Snapshots,
    pub(super) progress: &'a (dyn Fn(Progress) + Send + Sync),
    /// What all sources may have.
    pub(super) limits: SourceLimits,
    /// Which contents may be searched; `None`: none are.
    pub(super) secrets: Option<SecretRules>,
}

type Stored<'a> = BoxFuture<'a, Result<(PathBuf, Meta, Put), MaterialiseError>>;

impl Copy<'_> {
    pub(super) async fn run(
        &self,
        find: impl FnOnce(&Sink) -> Result<(), MaterialiseError> + Send + 'static,
        collected: &mut Collected,
    ) -> Result<(), MaterialiseError> {
        let (sender, mut found) = mpsc::channel(WAITING);
        // Ends by itself: when the receiver goes, its next word is not heard.
        let finding = tokio::task::spawn_blocking(move || {
            let sink = Sink::new(sender);
            let done = find(&sink);
            sink.flush();
            done
        });
        let mut second_names = Vec::new();
        let mut storing: FuturesUnordered<Stored<'_>> = FuturesUnordered::new();
        while let Some(batch) = found.recv().await {
            for found in batch {
                self.count(&found, collected)?;
                let found = match found {
                    Found::Hardlink { path, to } => {
                        second_names.push((self.inside(&path), self.inside(&to)));
                        continue;
                    }
                    other => other,
                };
                storing.extend(self.take(found, collected).await?);
                if storing.len() >= SIDE_BY_SIDE
                    && let Some(stored) = storing.next().await
                {
                    self.keep(stored?, collected);
                }
            }
        }
        while let Some(stored) = storing.next().await {
            self.keep(stored?, collected);
        }
        finding.await.map_err(|_| MaterialiseError::GivenUp)??;
        tie(second_names, collected);
        Ok(())
    }

    /// Counts what was found, before anything of it is stored.
    fn count(&self, found: &Found, collected: &mut Collected) -> Result<(), MaterialiseError> {
        let (path, size) = match found {
            Found::Small { path, content, .. } => (path, content.len() as u64),
            Found::Large { path, size, .. } => (path, *size),
            Found::Folder { path, .. }
            | Found::Link { path, .. }
            | Found::Hardlink { path, .. }
            | Found::Left { path, .. } => (path, 0),
        };
        collected.found_entries += 1;
        collected.found_bytes = collected.found_bytes.saturating_add(size);
        let checked = self.limits.check(collected.found_entries, collected.found_bytes);
        checked.map_err(|(what, limit)| {
            let path = below(&self.shown, path);
            MaterialiseError::TooMuch { path, what, limit }
        })
    }

    /// A path of the source as a path of the workspace. The source's top has an empty one, which
    /// joined would leave a separator at the end.
    fn inside(&self, path: &Path) -> PathBuf {
        below(&self.at, path)
    }

    fn keep(&self, (path, meta, put): (PathBuf, Meta, Put), collected: &mut Collected) {
        collected.files += 1;
        collected.bytes += put.size;
        if collected.files.is_multiple_of(TOLD_EVERY) {
            let (files, bytes) = (collected.files, collected.bytes);
            (self.progress)(Progress::Copying { files, bytes });
        }
        collected.entries.push(Entry { path, meta, node: file_node(put) });
    }

    /// Takes in what was found; a content that is to be stored is handed back as a future.
    async fn take(
        &self,
        found: Found,
        collected: &mut Collected,
    ) -> Result<Option<Stored<'_>>, MaterialiseError> {
        match found {
            Found::Folder { path, meta } => {
                let path = self.inside(&path);
                if path.as_os_str().is_empty() {
                    collected.root = Some(meta);
                } else if path == self.at {
                    push(collected, path, meta, Node::Dir);
                } else {
                    collected.entries.push(Entry { path, meta, node: Node::Dir });
                }
            }
            Found::Link { path, meta, target } => {
                let meta = Meta { mode: 0o777, ..meta };
                let path = self.inside(&path);
                collected.entries.push(Entry { path, meta, node: Node::Symlink(target) });
            }
            Found::Left { path, reason, is_secret } => {
                self.leave(&path, reason, is_secret, collected);
            }
            Found::Small { path, meta, content } => {
                return Ok(self.small(path, meta, content, collected));
            }
            Found::Large { path, meta, size, file } => {
                return self.large(path, meta, size, file, collected).await;
            }
            // Taken out before; its file has to be there first.
            Found::Hardlink { .. } => {}
        }
        Ok(None)
    }

    fn leave(&self, path: &Path, reason: String, is_secret: bool, collected: &mut Collected) {
        let path = shown(&self.inside(path));
        if is_secret {
            collected.masked.push(path.clone());
        }
        collected.left_out.push(LeftOut { path, reason });
    }

    fn small(
        &self,
        path: PathBuf,
        meta: Meta,
        mut content: Vec<u8>,
        collected: &mut Collected,
    ) -> Option<Stored<'_>> {
        if self.secrets.is_some() {
            if git_config::keeps_addresses(&path)
                && let Some(masked) = git_config::mask(&content)
            {
                content = masked;
                let reason = "credentials in it were taken out".to_owned();
                self.leave(&path, reason, true, collected);
            }
            // Of those as well: not every credential stands where credentials belong.
            if let Some(what) = self.search(&path, &content, collected) {
                self.leave(&path, format!("it holds what looks like a {what}"), true, collected);
                return None;
            }
        }
        let path = self.inside(&path);
        Some(Box::pin(async move { Ok((path, meta, self.snapshots.put(content).await?)) }))
    }

    fn search(
        &self,
        path: &Path,
        content: &[u8],
        collected: &mut Collected,
    ) -> Option<&'static str> {
        let allowed = self.secrets.as_ref()?.is_allowed(path.as_os_str().as_bytes());
        // Objects of git are compressed; there is nothing to be seen in them.
        let is_object = path.components().any(|part| part.as_os_str() == "objects")
            && path.components().any(|part| part.as_os_str() == ".git");
        if allowed || is_object {
            return None;
        }
        collected.search.look(&shown(&self.inside(path)), content)
    }

    async fn large(
        &self,
        path: PathBuf,
        meta: Meta,
        size: u64,
        file: std::fs::File,
        collected: &mut Collected,
    ) -> Result<Option<Stored<'_>>, MaterialiseError> {
        let at = below(&self.shown, &path);
        let stat =
            |file: &std::fs::File| rustix::fs::fstat(file).map_err(|error| host_error(&at, error));
        let before = stat(&file)?;
        let mut file = tokio::fs::File::from_std(file);
        let mut writer = self.snapshots.writer().await?;
        let mut left = size;
        let mut is_head = true;
        while left > 0 {
            let part = read_part(&mut file, left).await.map_err(|error| host_error(&at, error))?;
            if part.is_empty() {
                break;
            }
            if std::mem::take(&mut is_head) && self.secrets.is_some() {
                if size <= git_config::LARGEST && git_config::keeps_addresses(&path) {
                    return self.whole(path, meta, part, &mut file, collected).await;
                }
                let name = shown(&self.inside(&path));
                let allowed = self
                    .secrets
                    .as_ref()
                    .is_none_or(|rules| rules.is_allowed(path.as_os_str().as_bytes()));
                let found =
                    if allowed { None } else { collected.search.look_at_head(&name, &part) };
                if let Some(what) = found {
                    let reason = format!("it holds what looks like a {what}");
                    self.leave(&path, reason, true, collected);
                    return Ok(None);
                }
            }
            left = left.saturating_sub(part.len() as u64);
            writer.write(part).await?;
        }
        let file = file.into_std().await;
        if left > 0 || facts(&stat(&file)?) != facts(&before) {
            return Err(MaterialiseError::Changing { path: at });
        }
        let put = writer.finish().await?;
        self.keep((self.inside(&path), meta, put), collected);
        Ok(None)
    }

    /// The rest of a file of git that is read as if it were small.
    async fn whole(
        &self,
        path: PathBuf,
        meta: Meta,
        mut content: Vec<u8>,
        file: &mut tokio::fs::File,
        collected: &mut Collected,
    ) -> Result<Option<Stored<'_>>, MaterialiseError> {
        let at = below(&self.shown, &path);
        loop {
            let part = read_part(file, git_config::LARGEST).await;
            let part = part.map_err(|error| host_error(&at, error))?;
            if part.is_empty() {
                return Ok(self.small(path, meta, content, collected));
            }
            content.extend(part);
            if content.len() as u64 > 2 * git_config::LARGEST {
                return Err(MaterialiseError::Changing { path: at });
            }
        }
    }
}

/// Makes one file of several names. Those of a file that was left out are left out with it.
fn tie(second_names: Vec<(PathBuf, PathBuf)>, collected: &mut Collected) {
    let mut groups: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for (path, first) in second_names {
        groups.entry(first).or_default().push(path);
    }
    for (first, mut names) in groups {
        let is_first = |entry: &&mut Entry| entry.path == first;
        let Some(entry) = collected.entries.iter_mut().rev().find(is_first) else {
            let left = |path: &PathBuf| LeftOut {
                path: shown(path),
                reason: "another name of a file that is left out".to_owned(),
            };
            collected.left_out.extend(names.iter().map(left));
            continue;
        };
        names.push(first);
        let group = names.iter().min_by(|a, b| order(a, b)).map(|path| LinkGroup::of(path));
        if let Node::File { link, .. } = &mut entry.node {
            *link = group;
        }
        let (meta, node) = (entry.meta.clone(), entry.node.clone());
        names.pop();
        let others =
            names.into_iter().map(|path| Entry { path, meta: meta.clone(), node: node.clone() });
        collected.entries.extend(others);
    }
}

/// The order of a listing: by parts, each in byte order.
fn order(a: &Path, b: &Path) -> std::cmp::Ordering {
    a.iter().map(OsStr::as_bytes).cmp(b.iter().map(OsStr::as_bytes))
}

async fn read_part(file: &mut tokio::fs::File, most: u64) -> std::io::Result<Vec<u8>> {
    use tokio::io::AsyncReadExt as _;
    let most = usize::try_from(most).unwrap_or(CHUNK).min(CHUNK);
    let mut part = Vec::with_capacity(most);
    file.take(most as u64).read_to_end(&mut part).await?;
    Ok(part)
}
