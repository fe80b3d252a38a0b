//! From here into a sandbox.

use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use moat_sandbox::{ApplyEntry, ApplyNode, FileKind, Guest};

use super::{Copied, Inside, MODE};
use crate::exit::usage;

/// The user and group of commands.
const AGENT: (u32, u32) = (1000, 1000);

/// Bytes of content that an entry carries itself, and bytes that are sent at once of larger ones.
const INLINE: u64 = 256 << 10;
const CHUNK: usize = 4 << 20;

/// Entries, and bytes in them, that are sent at once.
const BATCH: usize = 256;
const BATCH_BYTES: u64 = 8 << 20;

pub(super) async fn copy(from: &Path, guest: &dyn Guest, to: &Inside) -> anyhow::Result<Copied> {
    // What was named may be a link; what is in it is not followed.
    let cannot = |error| usage(format!("cannot copy `{}`: {error}", from.display()));
    let top = fs::canonicalize(from).map_err(cannot)?;
    let target = target(&top, guest, to).await?;
    if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        guest.make_dir(to.root, parent).await?;
    }
    let mut sender = Sender { guest, to, batch: Vec::new(), bytes: 0, finish: Vec::new() };
    let mut copied = Copied::default();
    let mut waiting = vec![(top, target)];
    while let Some((path, inside)) = waiting.pop() {
        let stat = fs::symlink_metadata(&path).map_err(cannot)?;
        if stat.is_dir() {
            sender.add(entry(inside.clone(), &stat, ApplyNode::Dir), 0).await?;
            let entries = fs::read_dir(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let entries = entries.with_context(|| format!("cannot read `{}`", path.display()))?;
            waiting.extend(entries.iter().map(|e| (e.path(), inside.join(e.file_name()))));
        } else if stat.is_symlink() {
            let node = ApplyNode::Symlink(fs::read_link(&path)?);
            sender.add(entry(inside, &stat, node), 0).await?;
        } else if stat.is_file() {
            sender.file(&path, inside).await?;
        } else {
            copied.leave_out(&path, "neither a file, a folder nor a link");
        }
    }
    sender.end().await?;
    Ok(copied)
}

/// What the copy is called inside: in a folder that is there it keeps its name.
async fn target(top: &Path, guest: &dyn Guest, to: &Inside) -> anyhow::Result<PathBuf> {
    let there = match to.path.as_os_str().is_empty() {
        true => Some(FileKind::Dir),
        false => guest.stat(to.root, &to.path).await?.map(|stat| stat.kind),
    };
    match (there, top.file_name()) {
        (Some(FileKind::Dir), Some(name)) => Ok(to.path.join(name)),
        (None, Some(name)) if to.folder => Ok(to.path.join(name)),
        (Some(FileKind::Dir), None) | (None, None) => Err(usage("`/` is not copied")),
        (Some(_), _) if to.folder => Err(usage(format!("`{}` is no folder", to.shown()))),
        _ => Ok(to.path.clone()),
    }
}

fn entry(path: PathBuf, stat: &Metadata, node: ApplyNode) -> ApplyEntry {
    let seconds = stat.mtime().saturating_mul(1_000_000_000);
    ApplyEntry {
        path,
        node,
        mode: stat.mode() & MODE,
        owner: AGENT,
        mtime_ns: seconds.saturating_add(stat.mtime_nsec()),
        xattrs: Default::default(),
    }
}

/// Sends entries in batches, and sets modes and times of folders when all is there.
struct Sender<'a> {
    guest: &'a dyn Guest,
    to: &'a Inside,
    batch: Vec<ApplyEntry>,
    bytes: u64,
    finish: Vec<ApplyEntry>,
}

impl Sender<'_> {
    async fn add(&mut self, entry: ApplyEntry, bytes: u64) -> anyhow::Result<()> {
        // Contents were sent by then.
        let node = match &entry.node {
            ApplyNode::File { size, .. } => ApplyNode::File { size: *size, content: None },
            other => other.clone(),
        };
        self.finish.push(ApplyEntry { node, ..entry.clone() });
        self.batch.push(entry);
        self.bytes += bytes;
        if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn file(&mut self, path: &Path, inside: PathBuf) -> anyhow::Result<()> {
        let read = || -> std::io::Result<(File, Metadata)> {
            // It may have become something else since it was looked at.
            let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
            let file =
                fs::OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
            let stat = file.metadata()?;
            if stat.is_file() { Ok((file, stat)) } else { Err(std::io::Error::other("it changed")) }
        };
        let cannot = || format!("cannot read `{}`", path.display());
        let (mut file, stat) = read().with_context(cannot)?;
        let size = stat.len();
        if size <= INLINE {
            let mut content = Vec::new();
            file.take(INLINE + 1).read_to_end(&mut content).with_context(cannot)?;
            let size = content.len() as u64;
            let node = ApplyNode::File { size, content: Some(content) };
            return self.add(entry(inside, &stat, node), size).await;
        }
        let node = ApplyNode::File { size, content: None };
        self.add(entry(inside.clone(), &stat, node), 0).await?;
        self.flush().await?;
        let mut offset = 0;
        while offset < size {
            let mut chunk = Vec::new();
            let part = (&mut file).take((size - offset).min(CHUNK as u64));
            { part }.read_to_end(&mut chunk).with_context(cannot)?;
            if chunk.is_empty() {
                anyhow::bail!("`{}` became shorter while it was read", path.display());
            }
            self.guest.write_at(self.to.root, &inside, offset, &chunk).await?;
            offset += chunk.len() as u64;
        }
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        if !batch.is_empty() {
            self.guest.apply(self.to.root, &batch).await?;
        }
        Ok(())
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.flush().await?;
        // A folder stands after what is in it.
        self.finish.reverse();
        Ok(self.guest.finish(self.to.root, &self.finish).await?)
    }
}
