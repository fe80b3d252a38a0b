//! Sources become entries of the workspace, one after the other; what has to be fetched first is
//! fetched side by side.

use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use moat_snapshot::{Entry, Meta, Node, Put, Snapshots, Tree};

use super::check::{Source, What};
use super::copy::Copy;
use super::host::{Place, normal, open_source};
use super::secrets::SecretRules;
use super::tokens::Search;
use super::walk::{self, Rules};
use super::{HostFolders, LeftOut, MaterialiseError, Progress, archive, git, shown, skill};
use crate::manifest::{Declared, IgnoreRules, Layout, Manifest, ManifestEntry};

/// Sources that are fetched at a time.
const FETCHED_SIDE_BY_SIDE: usize = 4;

/// What the sources gave so far.
#[derive(Default)]
pub(super) struct Collected {
    /// Metadata of the workspace itself, if a source is copied to it.
    pub(super) root: Option<Meta>,
    pub(super) entries: Vec<Entry>,
    /// Where entries are in the workspace.
    pub(super) entry_roots: Vec<PathBuf>,
    /// What checkpoints are to leave out.
    pub(super) ephemeral: Vec<PathBuf>,
    /// What sources say about themselves.
    pub(super) descriptions: Vec<(PathBuf, String)>,
    pub(super) masked: Vec<String>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) search: Search,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Paths that were found, also those that are left out.
    pub(super) found_entries: u64,
    /// Bytes of files that were found.
    pub(super) found_bytes: u64,
}

/// What sources are read with.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) folders: &'a HostFolders,
    pub(super) snapshots: &'a Snapshots,
    pub(super) progress: &'a (dyn Fn(Progress) + Send + Sync),
}

/// A source, with what was fetched for it.
struct Fetched {
    source: Source,
    checkout: Option<git::Checkout>,
    copied: Option<tempfile::TempDir>,
}

/// Puts the files of all sources into the store and their paths into `collected`.
pub(super) async fn collect_all(
    sources: Vec<Source>,
    context: Context<'_>,
    collected: &mut Collected,
) -> Result<(), MaterialiseError> {
    let fetches = sources.into_iter().map(|source| fetch(source, context));
    let mut fetched = stream::iter(fetches.collect::<Vec<_>>()).buffered(FETCHED_SIDE_BY_SIDE);
    while let Some(fetched) = fetched.next().await {
        collect(fetched?, context, collected).await?;
    }
    Ok(())
}

async fn fetch(source: Source, context: Context<'_>) -> Result<Fetched, MaterialiseError> {
    let Context { folders, progress, .. } = context;
    let mut fetched = Fetched { source, checkout: None, copied: None };
    match &fetched.source.what {
        What::Git(repo) => fetched.checkout = Some(git::fetch(repo, folders, progress).await?),
        What::Remote(remote) => {
            progress(Progress::Fetching { url: format!("{}:{}", remote.backend, remote.path) });
            fetched.copied = Some(super::remote::fetch(remote, folders).await?);
        }
        _ => {}
    }
    Ok(fetched)
}

async fn collect(
    fetched: Fetched,
    context: Context<'_>,
    collected: &mut Collected,
) -> Result<(), MaterialiseError> {
    let Fetched { source, checkout, copied } = fetched;
    let Source { at, what, owner, permissions, ephemeral } = source;
    make_folders_above(&at, collected);
    let before = collected.entries.len();
    match what {
        What::Folder => {
            if !at.as_os_str().is_empty() {
                push(collected, at.clone(), Meta::folder(), Node::Dir);
            }
        }
        What::File { content, executable } => {
            let put = context.snapshots.put(content).await?;
            let meta = Meta::with_mode(if executable { 0o755 } else { 0o644 });
            push(collected, at.clone(), meta, file_node(put));
        }
        tree => read_tree(tree, &at, (checkout, copied), context, collected).await?,
    }
    let mut own = OwnMeta { at: &at, owner, permissions };
    own.apply(before, collected);
    // What is in an ephemeral folder is left out with it.
    if ephemeral && !collected.ephemeral.iter().any(|outer| at.starts_with(outer)) {
        collected.ephemeral.push(at);
    }
    Ok(())
}

async fn read_tree(
    what: What,
    at: &Path,
    (checkout, copied): (Option<git::Checkout>, Option<tempfile::TempDir>),
    context: Context<'_>,
    collected: &mut Collected,
) -> Result<(), MaterialiseError> {
    let Context { folders, snapshots, progress } = context;
    let copy = |shown: PathBuf, secrets: Option<SecretRules>| Copy {
        at: at.to_owned(),
        shown,
        snapshots,
        progress,
        limits: folders.limits,
        secrets,
    };
    let on_host = |src: &Path| normal(&folders.base.join(src));
    match what {
        What::LocalFile(file) => {
            let (parent, name) = Place::find(folders, &file.src)?.open_parent()?;
            let allow: Vec<String> = if file.allow_secret { vec!["*".into()] } else { Vec::new() };
            let (rules, top) = (rules(&[], &allow, false), on_host(&file.src));
            let copy = copy(top.clone(), Some(SecretRules::new(&allow)));
            let walk = move |sink: &walk::Sink| walk::one_file(&parent, &name, &top, rules, sink);
            copy.run(walk, collected).await
        }
        What::Local(local) => {
            let top = open_source(folders, &local.src)?;
            let rules = rules(&local.ignore, &local.allow_secrets, true);
            let (at_host, secrets) = (on_host(&local.src), SecretRules::new(&local.allow_secrets));
            copy_folder(copy(at_host, Some(secrets)), top, rules, collected).await
        }
        What::Skill(skill) => {
            let top = open_source(folders, &skill.src)?;
            let said = skill::read(&top, &on_host(&skill.src))?;
            collected.descriptions.push((at.to_owned(), said.description));
            let rules = rules(&[], &skill.allow_secrets, true);
            let (at_host, secrets) = (on_host(&skill.src), SecretRules::new(&skill.allow_secrets));
            copy_folder(copy(at_host, Some(secrets)), top, rules, collected).await
        }
        What::Archive(entry) => {
            let (parent, name) = Place::find(folders, &entry.src)?.open_parent()?;
            let file = walk::open_regular(&parent, &name, &on_host(&entry.src))?;
            let reader = archive::Reader::new(&entry, on_host(&entry.src), folders)?;
            let secrets = SecretRules::new(&entry.allow_secrets);
            let copy = copy(on_host(&entry.src), Some(secrets));
            copy.run(move |sink| reader.walk(file, sink), collected).await?;
            collected.entry_roots.push(at.to_owned());
            Ok(())
        }
        What::Git(_) => {
            let Some(checkout) = checkout else { return Ok(()) };
            let address = PathBuf::from(checkout.address());
            copy_folder(copy(address, None), checkout.open()?, plain_rules(), collected).await
        }
        What::Remote(remote) => {
            let Some(folder) = copied else { return Ok(()) };
            let top = super::host::open_any(folder.path())?;
            let shown = PathBuf::from(format!("{}:{}", remote.backend, remote.path));
            copy_folder(copy(shown, None), top, plain_rules(), collected).await
        }
        What::Folder | What::File { .. } => Ok(()),
    }
}

async fn copy_folder(
    copy: Copy<'_>,
    top: std::os::fd::OwnedFd,
    rules: Rules,
    collected: &mut Collected,
) -> Result<(), MaterialiseError> {
    let shown = copy.shown.clone();
    copy.run(move |sink| walk::walk(top, &shown, rules, sink), collected).await?;
    collected.entry_roots.push(copy.at);
    Ok(())
}

fn rules(ignore: &[String], allow_secrets: &[String], reads_moatignore: bool) -> Rules {
    let lines = ignore.iter().map(String::as_str).filter(|line| !line.is_empty());
    Rules {
        ignore: IgnoreRules::from_lines(lines),
        secrets: Some(SecretRules::new(allow_secrets)),
        reads_moatignore,
    }
}

fn plain_rules() -> Rules {
    Rules { ignore: IgnoreRules::default(), secrets: None, reads_moatignore: false }
}

/// What an entry says about modes and owners.
struct OwnMeta<'a> {
    at: &'a Path,
    owner: Option<(u32, u32)>,
    permissions: Option<crate::manifest::Permissions>,
}

impl OwnMeta<'_> {
    /// To everything from the entry with this number on, and to the place itself, which may have
    /// been there before as the folder above something else.
    fn apply(&mut self, first: usize, collected: &mut Collected) {
        if self.at.as_os_str().is_empty() && (self.owner.is_some() || self.permissions.is_some()) {
            self.change(collected.root.get_or_insert_with(Meta::folder), true);
        }
        for (index, entry) in collected.entries.iter_mut().enumerate() {
            let is_top = entry.path == self.at;
            if is_top || (index >= first && entry.path.starts_with(self.at)) {
                self.change(&mut entry.meta, is_top);
            }
        }
    }

    fn change(&self, meta: &mut Meta, is_top: bool) {
        if let Some((uid, gid)) = self.owner {
            (meta.uid, meta.gid) = (uid, gid);
        }
        if let (true, Some(permissions)) = (is_top, self.permissions) {
            meta.mode = permissions.bits();
        }
    }
}

/// Where the workspace is itself a copy, the layout shows what is at its top.
pub(super) fn show_top(layout: &mut Layout, manifest: &Manifest, tree: &Tree) {
    let is_copy = |entry: &ManifestEntry| {
        matches!(
            entry,
            ManifestEntry::LocalDir(_) | ManifestEntry::GitRepo(_) | ManifestEntry::Archive(_)
        )
    };
    if !manifest.entries.values().any(is_copy) || manifest.entries.len() != 1 {
        return;
    }
    for entry in tree.workspace.entries() {
        if entry.path.components().count() == 1 && entry.path.as_os_str() != ".git" {
            let is_file = !matches!(entry.node, Node::Dir);
            let what = Declared { is_file, ..Declared::default() };
            // A name that is no path for a manifest (not UTF-8, say) is just not shown; the same
            // goes for the entry itself, which is declared already.
            let _ = layout.declare(&[], &shown(&entry.path), what);
        }
    }
}

fn make_folders_above(at: &Path, collected: &mut Collected) {
    let above: Vec<_> = at.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
    for folder in above.into_iter().rev() {
        let is_known = |entry: &Entry| entry.path == folder;
        if !collected.entries.iter().rev().any(is_known) {
            push(collected, folder.to_owned(), Meta::folder(), Node::Dir);
        }
    }
}

/// Adds a path; a folder that is there already only gets its metadata.
pub(super) fn push(collected: &mut Collected, path: PathBuf, meta: Meta, node: Node) {
    if node == Node::Dir
        && let Some(known) = collected.entries.iter_mut().rev().find(|entry| entry.path == path)
    {
        known.meta = meta;
        return;
    }
    collected.entries.push(Entry { path, meta, node });
}

pub(super) fn file_node(put: Put) -> Node {
    Node::File { content: put.content, size: put.size, link: None }
}
