//! The root of a sandbox on an image: the image's folder with a skeleton of the sandbox's own laid
//! over it.
//!
//! The skeleton (mount points, and the files of `/etc` that are the sandbox's) is made in memory and
//! is the upper of two layers, so every path that something is mounted on is made of real folders:
//! a link of the image never leads a mount elsewhere. Nothing is done per file of the image.

use std::path::{Path, PathBuf};

use super::tree::{Phase, Tree};
use super::{Parts, READ_ONLY, Sources, WRITABLE, compose, open};
use crate::folder;
use crate::plan::{Plan, Slot, Step, attribute};

/// The image that a sandbox is on.
#[derive(Clone, Debug)]
pub(crate) struct ImageRoot {
    /// Its folder on the host.
    pub(crate) folder: PathBuf,
    /// Whether commands may write.
    pub(crate) writable: bool,
    /// How owners on disk become owners on this host, in the form of a `uid_map`; `None`: they are
    /// as they are.
    pub(crate) shift: Option<String>,
    /// Paths of bundles of certificate authorities in the image.
    pub(crate) bundles: Vec<PathBuf>,
}

impl ImageRoot {
    /// What the launcher is to shift.
    pub(super) fn shifted(&self) -> Option<(PathBuf, String)> {
        self.shift.clone().map(|map| (self.folder.clone(), map))
    }
}

/// What is opened of an image on the host.
pub(super) struct ImageSources {
    /// Absent: it comes shifted.
    image: Option<Slot>,
    /// What commands write.
    layer: Option<Slot>,
}

impl ImageSources {
    pub(super) fn open(plan: &mut Plan, parts: &Parts<'_>, image: &ImageRoot) -> Self {
        let layer = parts.folder.join(folder::LAYER);
        Self {
            image: image.shift.is_none().then(|| open(plan, &image.folder, false)),
            layer: image.writable.then(|| open(plan, &layer, false)),
        }
    }
}

/// Makes the root; the current folder is the empty one that was mounted, and will be the root.
pub(super) fn make(plan: &mut Plan, parts: &Parts<'_>, sources: &Sources<'_>, image: &ImageRoot) {
    let Some(opened) = &sources.image else { return };
    let make_dir = |plan: &mut Plan, path: &str| {
        let path = Path::new(path);
        let name = format!("make the folder `{}`", path.display());
        plan.push(name, &Step::MakeDir { path, mode: 0o755 });
    };
    for name in ["skeleton", "image", "layer", "root"] {
        make_dir(plan, name);
    }
    let enter = |plan: &mut Plan, path: &str| {
        plan.push("enter a part of the new root", &Step::ChangeDir(Path::new(path)));
    };
    enter(plan, "skeleton");
    compose(&mut Tree::new(plan, Phase::Layout), parts, sources);
    enter(plan, "..");

    let target = Path::new("image");
    let step = match opened.image {
        Some(slot) => Step::Bind { slot, attributes: READ_ONLY, target },
        None => Step::Attach { slot: Slot::SHIFTED, attributes: READ_ONLY, target },
    };
    plan.push("mount the image", &step);
    if let Some(slot) = opened.layer {
        let target = Path::new("layer");
        let step = Step::Bind { slot, attributes: WRITABLE, target };
        plan.push("mount the folder that is written", &step);
    }
    overlay(plan, image.writable);
    // Sockets and mount points of the sandbox's own stay in memory.
    let own = plan.slot();
    let path = Path::new("skeleton/moat");
    let flags = libc::O_PATH as u32;
    plan.push("open `/moat`", &Step::Open { slot: own, flags, optional: false, path });
    enter(plan, "root");
    let attributes = WRITABLE | attribute::NO_EXEC;
    plan.push("mount `/moat`", &Step::Bind { slot: own, attributes, target: Path::new("moat") });
    compose(&mut Tree::new(plan, Phase::Mounts), parts, sources);
}

fn overlay(plan: &mut Plan, writable: bool) {
    let lower = "lowerdir=skeleton:image";
    let (flags, options) = if writable {
        (0, format!("{lower},upperdir=layer/upper,workdir=layer/work,userxattr"))
    } else {
        (libc::MS_RDONLY, lower.to_owned())
    };
    let flags = (flags | libc::MS_NOSUID | libc::MS_NODEV) as u32;
    let target = Path::new("root");
    let step = Step::Mount { source: "moat", target, kind: "overlay", flags, options: &options };
    plan.push("lay the sandbox's own files over the image", &step);
}

/// What is left to do once the root is the root.
pub(super) fn finish(plan: &mut Plan, image: &ImageRoot) {
    let mut close = |path: &str| {
        let step = Step::ReadOnly { path: Path::new(path), bind: false };
        plan.push(format!("make `{path}` read-only"), &step);
    };
    close("/moat");
    if !image.writable {
        close("/");
    }
}
