//! Sockets that services of the host have in folders that sandboxes see. A mount that is read-only
//! keeps nobody from connecting to one, and neither does Landlock, so they are covered.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::launcher::StepFailed;
use crate::system::Shown;

/// Bytes of the kernel's list: more sockets than a host has.
const MAX_LIST: u64 = 64 << 20;
/// Sockets in folders of programs, of which there are hardly ever any.
const MAX_COVERED: usize = 512;

/// Fields of a line before the path.
const FIELDS: usize = 7;

/// Those that are there now, beneath what is shown.
pub(crate) fn find<'a>(
    shown: impl Iterator<Item = &'a Shown> + Clone,
) -> Result<Vec<PathBuf>, StepFailed> {
    let step = "list the host's sockets";
    let list = read("/proc/self/net/unix").map_err(|error| StepFailed::new(step, error))?;
    let mut found = named(&list, shown);
    // A name stays on the list when its file is gone, and may be another file's by now.
    found.retain(|path| fs::symlink_metadata(path).is_ok_and(|stat| stat.file_type().is_socket()));
    if found.len() > MAX_COVERED {
        let message = format!(
            "{} services listen in folders of programs, as at `{}`: more than {MAX_COVERED} are \
             not covered; move them to /run",
            found.len(),
            found.first().map(|path| path.display().to_string()).unwrap_or_default()
        );
        return Err(StepFailed::new(step, message));
    }
    Ok(found.into_iter().collect())
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut list = Vec::new();
    File::open(path)?.take(MAX_LIST).read_to_end(&mut list)?;
    Ok(list)
}

/// Paths on the list that are beneath what is shown.
fn named<'a>(list: &[u8], shown: impl Iterator<Item = &'a Shown> + Clone) -> BTreeSet<PathBuf> {
    let is_shown = |place: &Path| {
        shown.clone().any(|shown| match shown {
            Shown::Bound { path, .. } => place.starts_with(path),
            Shown::Link { .. } => false,
        })
    };
    let paths = list.split(|byte| *byte == b'\n').filter_map(path);
    paths.filter(|path| is_shown(path)).map(Path::to_owned).collect()
}

/// The path of a line; `None`: it has none, or a name without a file.
fn path(line: &[u8]) -> Option<&Path> {
    let mut rest = line.trim_ascii_start();
    for _ in 0..FIELDS {
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        rest = rest.get(end..)?.trim_ascii_start();
    }
    rest.starts_with(b"/").then(|| Path::new(OsStr::from_bytes(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_beneath_what_is_shown_are_found() {
        let list = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12345 /opt/db/a socket\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12345 /optional/x\n\
            0000000000000000: 00000003 00000000 00000000 0002 01    45 /opt/\xff\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 22345\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12345 @/opt/abstract\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/x\n";
        let shown = [
            Shown::Bound { path: "/opt".into(), folder: true },
            Shown::Link { path: "/run".into(), target: "usr/run".into() },
        ];
        let found = named(list, shown.iter());
        let expected = [Path::new("/opt/db/a socket"), Path::new(OsStr::from_bytes(b"/opt/\xff"))];
        assert_eq!(found.iter().map(PathBuf::as_path).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_socket_that_is_gone_is_not_covered() {
        let folder = tempfile::tempdir().unwrap();
        let shown = [Shown::Bound { path: folder.path().to_owned(), folder: true }];
        let (here, gone) = (folder.path().join("here"), folder.path().join("gone"));
        let listening =
            [&here, &gone].map(|path| std::os::unix::net::UnixListener::bind(path).unwrap());
        fs::remove_file(&gone).unwrap();
        fs::write(&gone, "a program").unwrap();
        assert_eq!(find(shown.iter()).unwrap(), [here]);
        drop(listening);
    }
}
