//! The image that a sandbox is asked to be on, looked at from the host: its files are hostile.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use moat_sandbox::RootFilesystem;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};

use crate::launcher::StepFailed;
use crate::root::ImageRoot;

/// Bytes of an image's `passwd` or `group` that are looked at.
const MAX_SETTINGS: u64 = 256 << 10;

/// Where images have their certificate authorities. The first is there in any case afterwards.
const BUNDLES: [&str; 4] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl/ca-bundle.pem",
];

/// An image, opened.
#[derive(Debug)]
pub(crate) struct OpenImage {
    pub(crate) root: ImageRoot,
    fd: OwnedFd,
}

/// Opens the image, if one is asked for. `state` is where sandboxes are: a folder that holds it is
/// no image. `shift` says how owners on disk become the sandbox's, from the owner of the folder.
pub(crate) fn open(
    root: &RootFilesystem,
    shift: impl FnOnce(u32) -> Option<String>,
    state: &Path,
) -> Result<Option<OpenImage>, StepFailed> {
    let RootFilesystem::Image { folder, writable, .. } = root else { return Ok(None) };
    let failed = |error: &dyn ToString| {
        StepFailed::new(format!("use `{}` as an image", folder.display()), error.to_string())
    };
    let folder = &fs::canonicalize(folder).map_err(|error| failed(&error))?;
    if state.starts_with(folder) {
        return Err(failed(&"sandboxes are kept in it"));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(folder, flags, Mode::empty()).map_err(|error| failed(&error))?;
    let owner = rustix::fs::fstat(&fd).map_err(|error| failed(&error))?.st_uid;
    let image = OpenImage {
        root: ImageRoot {
            folder: folder.clone(),
            writable: *writable,
            shift: shift(owner),
            bundles: Vec::new(),
        },
        fd,
    };
    let bundles = bundles(&image);
    Ok(Some(OpenImage { root: ImageRoot { bundles, ..image.root }, ..image }))
}

impl OpenImage {
    /// A small text of the image; links are followed within it. `None`: there is none that can be
    /// used.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let file = self.find(path, ResolveFlags::IN_ROOT)?;
        let mut text = Vec::new();
        file.take(MAX_SETTINGS).read_to_end(&mut text).ok()?;
        String::from_utf8(text).ok()
    }

    /// Whether there is a program or file at a path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.find(path, ResolveFlags::IN_ROOT).is_some()
    }

    fn find(&self, path: &str, resolve: ResolveFlags) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        let fd = openat2(&self.fd, path, flags, Mode::empty(), resolve).ok()?;
        let stat = rustix::fs::fstat(&fd).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        is_file.then(|| File::from(fd))
    }
}

/// Those that are reached without a link: over a link there is no mounting.
fn bundles(image: &OpenImage) -> Vec<PathBuf> {
    let (first, others) = (BUNDLES.iter().take(1), BUNDLES.iter().skip(1));
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let there = others.filter(|path| image.find(path, beneath).is_some());
    first.chain(there).map(PathBuf::from).collect()
}
