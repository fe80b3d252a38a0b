//! A snapshot's workspace as a tar archive, for other programs: ustar with pax headers.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use moat_core::SnapshotId;

use super::{ArchiveError, CHUNK};
use crate::tree::{Entry, LinkGroup, Node};
use crate::{RootName, Snapshots};

const BLOCK: usize = 512;
/// The largest number that eleven octal digits hold.
const MOST_OCTAL: u64 = (1 << 33) - 1;

impl Snapshots {
    /// Writes one root of a snapshot as a tar archive. Everything that tar can say comes along:
    /// modes, owners, times, links and attributes. Holes become zeroes.
    ///
    /// # Errors
    ///
    /// The snapshot is damaged or missing, or `out` cannot be written.
    pub async fn export_tar(
        &self,
        snapshot: SnapshotId,
        root: RootName,
        out: &mut (impl Write + Send),
    ) -> Result<(), ArchiveError> {
        let tree = self.load(snapshot).await?;
        let listing = if root == RootName::Home { &tree.home } else { &tree.workspace };
        let mut names: HashMap<LinkGroup, &Entry> = HashMap::new();
        for entry in listing.entries() {
            let first = match &entry.node {
                Node::File { link: Some(group), .. } => Some(*names.entry(*group).or_insert(entry)),
                _ => None,
            };
            let other = first.filter(|first| first.path != entry.path);
            out.write_all(&header(entry, other))?;
            if let (Node::File { content, size, .. }, None) = (&entry.node, other) {
                let mut hasher = self.hasher();
                let mut offset = 0;
                while offset < *size {
                    let bytes = self.read_part(*content, offset, CHUNK).await?;
                    if bytes.is_empty() {
                        break;
                    }
                    hasher.update(&bytes);
                    offset += bytes.len() as u64;
                    out.write_all(&bytes)?;
                }
                if hasher.id() != *content {
                    return Err(Self::damaged(*content).into());
                }
                out.write_all(&padding(*size))?;
            }
        }
        out.write_all(&[0; 2 * BLOCK])?;
        Ok(out.flush()?)
    }
}

fn padding(size: u64) -> Vec<u8> {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { Vec::new() } else { vec![0; BLOCK - over] }
}

/// A member's headers. `other` is the first name of a file that this is another name of.
fn header(entry: &Entry, other: Option<&Entry>) -> Vec<u8> {
    let path = entry.path.as_os_str().as_bytes();
    let (kind, target, size): (u8, &[u8], u64) = match (&entry.node, other) {
        (_, Some(other)) => (b'1', other.path.as_os_str().as_bytes(), 0),
        (Node::Dir, None) => (b'5', b"", 0),
        (Node::Symlink(target), None) => (b'2', target.as_os_str().as_bytes(), 0),
        (Node::File { size, .. }, None) => (b'0', b"", *size),
    };
    let meta = &entry.meta;
    let mut records = Vec::new();
    if path.len() > 99 {
        pax(&mut records, b"path", path);
    }
    if target.len() > 99 {
        pax(&mut records, b"linkpath", target);
    }
    if size > MOST_OCTAL {
        pax(&mut records, b"size", size.to_string().as_bytes());
    }
    let (seconds, rest) =
        (meta.mtime_ns.div_euclid(1_000_000_000), meta.mtime_ns.rem_euclid(1_000_000_000));
    if rest != 0 || seconds < 0 {
        // A time before 1970 with a fraction is written from the second before.
        let text = match (seconds < 0, rest) {
            (true, 1..) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - rest),
            _ => format!("{seconds}.{rest:09}"),
        };
        pax(&mut records, b"mtime", text.as_bytes());
    }
    for (name, value) in &meta.xattrs {
        pax(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    let mut out = Vec::new();
    if !records.is_empty() {
        out.extend(block(b"pax", b'x', b"", records.len() as u64, 0o644, (0, 0), 0));
        let padding = padding(records.len() as u64);
        out.extend(records);
        out.extend(padding);
    }
    let owner = (u64::from(meta.uid), u64::from(meta.gid));
    let seconds = u64::try_from(seconds).unwrap_or(0).min(MOST_OCTAL);
    let size = size.min(MOST_OCTAL);
    out.extend(block(path, kind, target, size, u64::from(meta.mode), owner, seconds));
    out
}

/// `LENGTH NAME=VALUE\n`, its own length counted.
fn pax(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let rest = name.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend(length.to_string().as_bytes());
    out.push(b' ');
    out.extend(name);
    out.push(b'=');
    out.extend(value);
    out.push(b'\n');
}

fn block(
    name: &[u8],
    kind: u8,
    target: &[u8],
    size: u64,
    mode: u64,
    owner: (u64, u64),
    mtime: u64,
) -> Vec<u8> {
    let cut = |text: &[u8]| text.get(..99).unwrap_or(text).to_vec();
    let mut block = Vec::with_capacity(BLOCK);
    let mut field = |bytes: Vec<u8>, width: usize| {
        let mut bytes = bytes;
        bytes.resize(width, 0);
        block.extend(bytes);
    };
    let octal = |number: u64, width: usize| format!("{number:0width$o}").into_bytes();
    let small = |number: u64| octal(number.min((1 << 21) - 1), 7);
    field(cut(name), 100);
    field(octal(mode, 7), 8);
    field(small(owner.0), 8);
    field(small(owner.1), 8);
    field(octal(size, 11), 12);
    field(octal(mtime, 11), 12);
    field(b"        ".to_vec(), 8);
    field(vec![kind], 1);
    field(cut(target), 100);
    field(b"ustar\x0000".to_vec(), 8);
    field(Vec::new(), BLOCK - 265);
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    if let Some(place) = block.get_mut(148..156) {
        place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    block
}
