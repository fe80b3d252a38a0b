//! Trees that have everything a tree can have.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::draw::Draw;
use crate::{Entry, InvalidTree, LinkGroup, Listing, Meta, Node, PutError, Snapshots, Tree};

/// Random paths beside those that are always there.
const MORE: u64 = 10;
/// Bytes that are put at a time.
const STEP: usize = 1 << 20;

/// What the place can keep in which a tree is to be.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// The owner and group of everything. Absent: anybody.
    pub owner: Option<(u32, u32)>,
    /// Extended attributes; in a sandbox of the name space `user.`.
    pub xattrs: bool,
    /// It is a file system: times from 1970 on, attributes in `user.`, links of one mode.
    pub real: bool,
}

impl Allowed {
    /// Whatever a snapshot can hold.
    pub fn anything() -> Self {
        Self { owner: None, xattrs: true, real: false }
    }

    /// What a sandbox's user can have.
    pub fn in_a_sandbox(owner: (u32, u32), xattrs: bool) -> Self {
        Self { owner: Some(owner), xattrs, real: true }
    }
}

/// A tree with its contents, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What is to be in the workspace.
    pub workspace: SampleRoot,
    /// What is to be in the home folder.
    pub home: SampleRoot,
}

/// One root of a sample.
#[derive(Clone, Debug)]
pub struct SampleRoot {
    root: Meta,
    paths: BTreeMap<PathBuf, (Meta, Planned)>,
}

#[derive(Clone, Debug)]
enum Planned {
    Dir,
    File(Content),
    Symlink(PathBuf),
    /// Another name of the file at that path.
    Name(PathBuf),
}

/// The content of a file: holes and what is between them.
#[derive(Clone, Debug)]
pub struct Content(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Data(Vec<u8>),
    Hole(usize),
}

impl Content {
    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in &self.0 {
            match part {
                Part::Data(data) => bytes.extend_from_slice(data),
                Part::Hole(size) => bytes.resize(bytes.len() + size, 0),
            }
        }
        bytes
    }
}

impl Sample {
    /// Draws a tree.
    pub fn new(seed: u64, allowed: &Allowed) -> Self {
        let mut draw = Draw::new(seed);
        let workspace = SampleRoot::draw(&mut draw, allowed);
        Self { workspace, home: SampleRoot::draw(&mut draw, allowed) }
    }

    /// Stores the contents. The tree can be committed then.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn put(&self, snapshots: &Snapshots) -> Result<Tree, PutError> {
        let workspace = self.workspace.put(snapshots).await?;
        Ok(Tree { workspace, home: self.home.put(snapshots).await? })
    }
}

impl SampleRoot {
    /// The files, each once, with what is in them.
    pub fn contents(&self) -> impl Iterator<Item = (&Path, &Content)> {
        self.paths.iter().filter_map(|(path, (_, planned))| match planned {
            Planned::File(content) => Some((path.as_path(), content)),
            _ => None,
        })
    }

    fn draw(draw: &mut Draw, allowed: &Allowed) -> Self {
        let root = Meta { mode: 0o755, ..meta(draw, allowed) };
        let mut drawn = Self { root, paths: BTreeMap::new() };
        drawn.one_of_each(draw, allowed);
        for _ in 0..MORE {
            let depth = 1 + draw.below(3);
            let path = (0..depth).map(|_| name(draw)).collect::<PathBuf>();
            let planned = match draw.below(6) {
                0 => Planned::Dir,
                1 => Planned::Symlink(target(draw)),
                _ => Planned::File(content(draw)),
            };
            drawn.add(draw, allowed, path, planned);
        }
        drawn.link_some(draw);
        drawn
    }

    /// What every tree has, however the numbers fall.
    fn one_of_each(&mut self, draw: &mut Draw, allowed: &Allowed) {
        let data = |draw: &mut Draw, size| Part::Data(draw.bytes(size));
        let (middle, large) = (data(draw, 3), data(draw, 300_000));
        let hole = |size| Part::Hole(size);
        let files = [
            ("empty file", vec![]),
            ("all/hole", vec![hole(3 << 20)]),
            ("all/small hole", vec![hole(100_000)]),
            ("all/hole first", vec![hole(1 << 20), middle.clone()]),
            ("all/hole last", vec![large.clone(), hole((1 << 20) + 5)]),
            ("all/holes", vec![hole(700_001), middle, hole(2 << 20), large, hole(65_536)]),
        ];
        for (path, parts) in files {
            self.add(draw, allowed, path.into(), Planned::File(Content(parts)));
        }
        self.add(draw, allowed, "empty folder".into(), Planned::Dir);
        let dangling = Planned::Symlink("/absolute/and/nowhere".into());
        self.add(draw, allowed, "all/link".into(), dangling);
        for odd in [b"line\nend".as_slice(), b"\xff\xfe", b"-rf", b" ", b"a\\b", &[b'n'; 255]] {
            let path = PathBuf::from(OsString::from_vec(odd.to_vec()));
            let planned = Planned::File(content(draw));
            self.add(draw, allowed, Path::new("odd").join(path), planned);
        }
        // The group of a file is named for its first name, wherever that is.
        let original = PathBuf::from("all/holes");
        for name in ["another name", "zz/and another"] {
            self.add(draw, allowed, name.into(), Planned::Name(original.clone()));
        }
    }

    /// Adds a path with the folders above it, unless something is in its way.
    fn add(&mut self, draw: &mut Draw, allowed: &Allowed, path: PathBuf, planned: Planned) {
        let above: Vec<_> = path.ancestors().skip(1).filter(|p| p != &Path::new("")).collect();
        let is_blocked = |path: &&Path| {
            let found = self.paths.get(*path);
            found.is_some_and(|(_, planned)| !matches!(planned, Planned::Dir))
        };
        if self.paths.contains_key(&path) || above.iter().any(is_blocked) {
            return;
        }
        for folder in above {
            if !self.paths.contains_key(folder) {
                let folder_meta = Meta { mode: folder_mode(draw), ..meta(draw, allowed) };
                self.paths.insert(folder.into(), (folder_meta, Planned::Dir));
            }
        }
        let drawn = meta(draw, allowed);
        let path_meta = match &planned {
            Planned::Dir => Meta { mode: folder_mode(draw), ..drawn },
            Planned::Symlink(_) if allowed.real => {
                Meta { mode: 0o777, xattrs: BTreeMap::new(), ..drawn }
            }
            _ => drawn,
        };
        self.paths.insert(path, (path_meta, planned));
    }

    /// Gives some of the random files second names.
    fn link_some(&mut self, draw: &mut Draw) {
        let files: Vec<PathBuf> = self.contents().map(|(path, _)| path.to_owned()).collect();
        for number in 0..2 {
            let Some(file) = draw.one_of(&files) else { return };
            let Some((meta, _)) = self.paths.get(&file) else { return };
            let name = PathBuf::from(format!("name {number}"));
            self.paths.insert(name, (meta.clone(), Planned::Name(file)));
        }
    }

    async fn put(&self, snapshots: &Snapshots) -> Result<Listing, PutError> {
        let mut nodes = BTreeMap::new();
        for (path, content) in self.contents() {
            let mut writer = snapshots.writer().await?;
            for part in content.bytes().chunks(STEP) {
                writer.write(part.to_vec()).await?;
            }
            let put = writer.finish().await?;
            let link = self.group(path);
            nodes.insert(path, Node::File { content: put.content, size: put.size, link });
        }
        let entries = self.paths.iter().filter_map(|(path, (meta, planned))| {
            let (meta, node) = match planned {
                Planned::Dir => (meta, Node::Dir),
                Planned::Symlink(target) => (meta, Node::Symlink(target.clone())),
                Planned::File(_) => (meta, nodes.get(path.as_path())?.clone()),
                Planned::Name(file) => {
                    (&self.paths.get(file)?.0, nodes.get(file.as_path())?.clone())
                }
            };
            Some(Entry { path: path.clone(), meta: meta.clone(), node })
        });
        let listing = Listing::from_entries(self.root.clone(), entries.collect());
        Ok(listing.unwrap_or_else(|error: InvalidTree| unreachable!("a sample is sound: {error}")))
    }

    /// What ties the names of a file together, if it has several.
    fn group(&self, file: &Path) -> Option<LinkGroup> {
        let others = self.paths.iter().filter(
            |(_, (_, planned))| matches!(planned, Planned::Name(original) if original == file),
        );
        let mut names: Vec<&Path> = others.map(|(name, _)| name.as_path()).collect();
        if names.is_empty() {
            return None;
        }
        names.push(file);
        names.sort_by(|a, b| crate::tree::order(a, b));
        names.first().map(|first| LinkGroup::of(first))
    }
}

/// A folder's mode, with which its owner can get at what is in it.
fn folder_mode(draw: &mut Draw) -> u32 {
    draw.one_of(&[0o755, 0o700, 0o555, 0o500, 0o1777, 0o2755]).unwrap_or(0o755)
}

fn meta(draw: &mut Draw, allowed: &Allowed) -> Meta {
    let modes = [0o644, 0o755, 0o600, 0o444, 0o4711, 0o2755, 0o1666, 0];
    let mode = if allowed.real {
        draw.one_of(&modes).unwrap_or(0o644)
    } else {
        draw.below(0o10000) as u32
    };
    let (uid, gid) = allowed.owner.unwrap_or_else(|| (draw.number() as u32, draw.number() as u32));
    let mtime_ns = if allowed.real {
        draw.below(2_000_000_000_000_000_000) as i64
    } else {
        draw.number() as i64
    };
    let count = if allowed.xattrs && draw.below(2) == 0 { 1 + draw.below(2) } else { 0 };
    let xattr = |draw: &mut Draw| {
        let (name, value) = (draw.number(), draw.below(200) as usize);
        (format!("user.{name:x}").into_bytes(), draw.bytes(value))
    };
    let xattrs = (0..count).map(|_| xattr(draw)).collect();
    Meta { mode, uid, gid, mtime_ns, xattrs }
}

/// A name of any bytes.
fn name(draw: &mut Draw) -> PathBuf {
    let length = 1 + draw.below(5) as usize;
    let mut name = draw.bytes(length);
    for byte in &mut name {
        if matches!(*byte, 0 | b'/') {
            *byte = b'x';
        }
    }
    if name == b"." || name == b".." {
        name.push(b'x');
    }
    OsString::from_vec(name).into()
}

fn target(draw: &mut Draw) -> PathBuf {
    let length = 1 + draw.below(60) as usize;
    let mut target = draw.bytes(length);
    target.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'.');
    OsString::from_vec(target).into()
}

fn content(draw: &mut Draw) -> Content {
    let size = match draw.below(12) {
        // Around what is cut, and what travels with its entry.
        0 => (256 << 10) - 1 + draw.below(3),
        1 => 300_000 + draw.below(500_000),
        _ => draw.below(300),
    };
    let data = draw.bytes(size as usize);
    let hole = if draw.below(8) == 0 { draw.below(300_000) as usize } else { 0 };
    Content(vec![Part::Data(data), Part::Hole(hole)])
}
