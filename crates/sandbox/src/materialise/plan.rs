use std::path::{Path, PathBuf};

use base64::Engine as _;
use moat_snapshot::{Entry, Meta, Node, Put, Snapshots, Tree};

use super::copy::Copy;
use super::host::open_source;
use super::secrets::SecretRules;
use super::tokens::Search;
use super::walk::Rules;
use super::{HostFolders, LeftOut, MaterialiseError, Progress, git, shown};
use crate::manifest::{
    Declared, Dir, GitRepo, IgnoreRules, InlineFile, Layout, LocalDir, Manifest, ManifestEntry,
    ManifestError,
};

/// One entry of a manifest, with its place in the workspace.
pub(super) struct Source {
    at: PathBuf,
    what: What,
}

enum What {
    Folder,
    File { content: Vec<u8>, executable: bool },
    Local(LocalDir),
    Git(GitRepo),
}

/// What the sources gave so far.
#[derive(Default)]
pub(super) struct Collected {
    /// Metadata of the workspace itself, if a source is copied to it.
    pub(super) root: Option<Meta>,
    pub(super) entries: Vec<Entry>,
    /// Where entries are in the workspace.
    pub(super) entry_roots: Vec<PathBuf>,
    pub(super) masked: Vec<String>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) search: Search,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Checks a manifest as a whole, before anything is read.
pub(super) fn check(manifest: &Manifest) -> Result<(Vec<Source>, Layout), ManifestError> {
    if let Some(version @ (0 | 2..)) = manifest.version {
        return Err(ManifestError::Version(version));
    }
    let mut sources = Vec::new();
    let mut layout = Layout::default();
    for (path, entry) in &manifest.entries {
        add(&[], path, entry, &mut layout, &mut sources)?;
    }
    // An entry inside a copied folder would be two sources for one path.
    for outer in &sources {
        let is_copy = matches!(outer.what, What::Local(_) | What::Git(_));
        let inner = |source: &&Source| source.at != outer.at && source.at.starts_with(&outer.at);
        if let (true, Some(inner)) = (is_copy, sources.iter().find(inner)) {
            return Err(ManifestError::DuplicatePath(shown(&inner.at)));
        }
    }
    Ok((sources, layout))
}

fn add(
    above: &[String],
    path: &str,
    entry: &ManifestEntry,
    layout: &mut Layout,
    sources: &mut Vec<Source>,
) -> Result<(), ManifestError> {
    let what = Declared {
        is_file: matches!(entry, ManifestEntry::File(_)),
        description: entry.description(),
        shown: None,
    };
    let here = layout.declare(above, path, what)?;
    let at: PathBuf = here.iter().collect();
    let problem =
        |problem: &str| ManifestError::Entry { path: path.to_owned(), problem: problem.to_owned() };
    let what = match entry {
        ManifestEntry::Dir(Dir { children, .. }) => {
            sources.push(Source { at, what: What::Folder });
            return children
                .iter()
                .try_for_each(|(path, entry)| add(&here, path, entry, layout, sources));
        }
        ManifestEntry::File(_) if here.is_empty() => return Err(problem("is a file")),
        ManifestEntry::File(file) => {
            let content = content_of(file).map_err(|text| problem(&text))?;
            What::File { content, executable: file.executable }
        }
        ManifestEntry::LocalDir(local) => What::Local(local.clone()),
        ManifestEntry::GitRepo(repo) => {
            git::check(repo).map_err(|text| problem(&text))?;
            What::Git(repo.clone())
        }
    };
    sources.push(Source { at, what });
    Ok(())
}

fn content_of(file: &InlineFile) -> Result<Vec<u8>, String> {
    match (&file.content, &file.base64) {
        (Some(text), None) => Ok(text.clone().into_bytes()),
        (None, Some(base64)) => {
            let packed: String = base64.split_whitespace().collect();
            let decoded = base64::engine::general_purpose::STANDARD.decode(packed);
            decoded.map_err(|error| format!("has no valid base64: {error}"))
        }
        (None, None) => Ok(Vec::new()),
        (Some(_), Some(_)) => Err("has `content` and `base64`; give one of them".to_owned()),
    }
}

/// Where the workspace is itself a copy, the layout shows what is at its top.
pub(super) fn show_top(layout: &mut Layout, manifest: &Manifest, tree: &Tree) {
    let is_copy = |entry: &ManifestEntry| {
        matches!(entry, ManifestEntry::LocalDir(_) | ManifestEntry::GitRepo(_))
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

/// Puts one source's files into the store and its paths into `collected`.
pub(super) async fn collect(
    source: Source,
    folders: &HostFolders,
    snapshots: &Snapshots,
    progress: &(dyn Fn(Progress) + Send + Sync),
    collected: &mut Collected,
) -> Result<(), MaterialiseError> {
    let Source { at, what } = source;
    make_folders_above(&at, collected);
    match what {
        What::Folder => {
            if !at.as_os_str().is_empty() {
                push(collected, at, Meta::folder(), Node::Dir);
            }
        }
        What::File { content, executable } => {
            let put = snapshots.put(content).await?;
            let meta = Meta::with_mode(if executable { 0o755 } else { 0o644 });
            push(collected, at, meta, file_node(put));
        }
        What::Local(local) => {
            let mut lines: Vec<&str> = local.ignore.iter().map(String::as_str).collect();
            lines.retain(|line| !line.is_empty());
            let rules = Rules {
                ignore: IgnoreRules::from_lines(lines),
                secrets: Some(SecretRules::new(&local.allow_secrets)),
                reads_moatignore: true,
            };
            let allowed = SecretRules::new(&local.allow_secrets);
            let top = open_source(folders, &local.src)?;
            let shown = super::host::normal(&folders.base.join(&local.src));
            let copy = Copy { at: at.clone(), shown, snapshots, progress, secrets: Some(allowed) };
            copy.run(top, rules, collected).await?;
            collected.entry_roots.push(at);
        }
        What::Git(repo) => {
            let checkout = git::fetch(&repo, folders, progress).await?;
            let rules =
                Rules { ignore: IgnoreRules::default(), secrets: None, reads_moatignore: false };
            let top = checkout.open()?;
            let shown = PathBuf::from(checkout.address());
            let copy = Copy { at: at.clone(), shown, snapshots, progress, secrets: None };
            copy.run(top, rules, collected).await?;
            collected.entry_roots.push(at);
        }
    }
    Ok(())
}

fn make_folders_above(at: &Path, collected: &mut Collected) {
    let above: Vec<_> = at.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
    for folder in above.into_iter().rev() {
        push(collected, folder.to_owned(), Meta::folder(), Node::Dir);
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
