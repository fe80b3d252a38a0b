//! What this side keeps on its own machine.
//!
//! ```text
//! STATE/              0700, the caller's
//!   owner             a random name, by which containers of this folder are told from others'
//!   ID/               0700
//!     run/            shared with the guest of the sandbox ID, which listens in it
//! ```

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::handle::is_id;

const OWNER: &str = "owner";
const RUN: &str = "run";
const SOCKET: &str = "guest.sock";

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct State {
    path: PathBuf,
    owner: String,
}

impl State {
    /// Opens it, made if it is not there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let path = fs::canonicalize(path)?;
        let owner = owner(&path.join(OWNER))?;
        Ok(Self { path, owner })
    }

    /// The name by which engines know it.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// Makes what is shared with the guest of a new sandbox.
    pub(crate) fn share(&self, id: &str) -> io::Result<PathBuf> {
        let folder = self.path.join(id);
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let run = folder.join(RUN);
        fs::DirBuilder::new().mode(0o700).create(&run)?;
        // Root of the container may be nobody here; nobody else gets through the folder above.
        fs::set_permissions(&run, fs::Permissions::from_mode(0o777))?;
        Ok(run)
    }

    /// Connects to the guest of a sandbox.
    pub(crate) async fn connect(&self, id: &str) -> io::Result<tokio::net::UnixStream> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(self.path.join(id).join(RUN), flags, Mode::empty())?;
        // By the descriptor, since an address holds no more than 107 bytes of path.
        let address = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        tokio::net::UnixStream::connect(address).await
    }

    /// Removes what was shared with a guest.
    pub(crate) fn unshare(&self, id: &str) -> io::Result<()> {
        let folder = self.path.join(id);
        let run = folder.join(RUN);
        // A guest that was replaced may have made anything in it, but no folder that is large: it
        // is emptied one level deep, and what is left says so.
        for entry in absent_is_empty(fs::read_dir(&run))?.into_iter().flatten() {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        for folder in [run, folder] {
            match fs::remove_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sandboxes that something is shared with, and how long ago that was made.
    pub(crate) fn shared(&self) -> io::Result<Vec<(String, Duration)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_id(&name) {
                let made = entry.metadata()?.modified()?;
                all.push((name, made.elapsed().unwrap_or_default()));
            }
        }
        Ok(all)
    }
}

fn absent_is_empty(read: io::Result<fs::ReadDir>) -> io::Result<Option<fs::ReadDir>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Reads the name, or draws one. Two that draw at once get the same.
fn owner(path: &Path) -> io::Result<String> {
    for _ in 0..2 {
        let mut text = String::new();
        match fs::File::open(path) {
            Ok(file) => {
                file.take(64).read_to_string(&mut text)?;
                let name = text.trim().to_owned();
                if is_id(&name) {
                    return Ok(name);
                }
                let message = format!("`{}` holds no name; remove it", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => draw(path)?,
        }
    }
    Err(io::Error::other("the name of the state folder comes and goes"))
}

/// Writes a name that was not there before.
fn draw(path: &Path) -> io::Result<()> {
    let number = getrandom::u64().map_err(io::Error::other)?;
    let draft = path.with_extension(format!("{number:016x}"));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(format!("{number:016x}\n").as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_stays_and_differs_between_folders() {
        let top = tempfile::tempdir().unwrap();
        let first = State::open(&top.path().join("a")).unwrap();
        assert_eq!(State::open(&top.path().join("a")).unwrap().owner(), first.owner());
        assert_ne!(State::open(&top.path().join("b")).unwrap().owner(), first.owner());
        assert!(is_id(first.owner()));
    }

    #[test]
    fn what_a_guest_left_is_removed_and_nothing_behind_its_links() {
        let top = tempfile::tempdir().unwrap();
        let outside = top.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        let state = State::open(&top.path().join("state")).unwrap();
        let run = state.share("0123456789abcdef").unwrap();
        std::os::unix::fs::symlink(&outside, run.join("link")).unwrap();
        fs::create_dir_all(run.join("deep/er")).unwrap();
        fs::write(run.join("guest.sock"), "").unwrap();
        assert_eq!(state.shared().unwrap().len(), 1);
        state.unshare("0123456789abcdef").unwrap();
        assert!(state.shared().unwrap().is_empty() && outside.join("kept").exists());
        state.unshare("0123456789abcdef").unwrap();
    }
}
