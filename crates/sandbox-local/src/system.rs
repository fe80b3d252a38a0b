//! Which of the host's system folders appear inside, read-only: found once per provider.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::launcher::StepFailed;

/// Folders with programs and libraries. One that is a link on the host is the same link inside.
///
/// Of `/nix` not all: a daemon that builds, and fetches, for whoever asks listens in it.
const PROGRAMS: [&str; 12] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/libexec",
    "/opt",
    "/nix/store",
    "/nix/var/nix/profiles",
    "/gnu",
];

/// What of the host's `/etc` programs need to start and to trust. Nothing with a secret in it:
/// no `shadow`, no private keys, no `gitconfig`, `npmrc` or `pip.conf`, which may hold tokens.
const SETTINGS: [&str; 34] = [
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fedora-release",
    "fonts",
    "ghostscript",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "maven/m2.conf",
    "mime.types",
    "os-release",
    "papersize",
    "perl",
    "pki/ca-trust/extracted",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "redhat-release",
    "rpc",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
];

/// Beginnings of names in `/etc` that stand for any version.
const VERSIONED_SETTINGS: [&str; 3] = ["java-", "python3", "static"];

/// One path of the host's that appears inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A link, as it is on the host.
    Link {
        /// Where it is.
        path: PathBuf,
        /// What it says.
        target: OsString,
    },
    /// A file or folder, with all mounts beneath it, read-only.
    Bound {
        /// Where it is, outside and inside.
        path: PathBuf,
        /// Whether it is a folder.
        folder: bool,
    },
}

/// What a host path is shown as; `None` where there is nothing to show.
pub(crate) fn shown(path: &Path) -> Option<Shown> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path).ok()?.into_os_string();
        return Some(Shown::Link { path: path.to_owned(), target });
    }
    (kind.is_dir() || kind.is_file())
        .then(|| Shown::Bound { path: path.to_owned(), folder: kind.is_dir() })
}

/// All system paths of this host.
pub(crate) fn find() -> Vec<Shown> {
    let programs = PROGRAMS.iter().map(PathBuf::from);
    let etc = Path::new("/etc");
    let mut settings: BTreeSet<PathBuf> = SETTINGS.iter().map(|name| etc.join(name)).collect();
    for entry in fs::read_dir(etc).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if VERSIONED_SETTINGS.iter().any(|start| name.to_string_lossy().starts_with(start)) {
            settings.insert(entry.path());
        }
    }
    programs.chain(settings).filter_map(|path| shown(&path)).collect()
}

/// Devices that programs expect, with their numbers; each is the host's own, and none reaches
/// hardware.
pub(crate) const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Looks whether the host's devices are what they should be. A program that runs as root and
/// writes its output to `/dev/null` may have put a file in its place, and a sandbox that was given
/// that could write to a file of the host.
pub(crate) fn check_devices() -> Result<(), StepFailed> {
    DEVICES.iter().try_for_each(|(name, major, minor)| {
        check_device(&Path::new("/dev").join(name), *major, *minor)
    })
}

fn check_device(path: &Path, major: u32, minor: u32) -> Result<(), StepFailed> {
    let step = || format!("use `{}`", path.display());
    let stat = match rustix::fs::stat(path) {
        Ok(stat) => stat,
        // Left out: not every container has a terminal device.
        Err(rustix::io::Errno::NOENT) if path.ends_with("tty") => return Ok(()),
        Err(error) => return Err(StepFailed::new(step(), error)),
    };
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    let number = rustix::fs::makedev(major, minor);
    if kind == rustix::fs::FileType::CharacterDevice && stat.st_rdev == number {
        return Ok(());
    }
    let shown = path.display();
    let remedy = format!("`sudo rm {shown} && sudo mknod -m 666 {shown} c {major} {minor}`");
    Err(StepFailed::new(step(), format!("it is not that device; make it anew with {remedy}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_place_of_a_device_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = check_device(file.path(), 1, 3).unwrap_err();
        assert!(refused.message.contains("c 1 3"), "{refused:?}");
        check_device(Path::new("/dev/zero"), 1, 5).unwrap();
        check_device(Path::new("/dev/zero"), 1, 3).unwrap_err();
        check_device(Path::new("/dev/no-such-tty"), 5, 0).unwrap_err();
        check_device(Path::new("/no/such/tty"), 5, 0).unwrap();
    }
}
