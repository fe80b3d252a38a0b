//! Files that commands write without the kernel telling anybody when.
//!
//! What is written through a shared mapping changes a file's times with the first write to a page at
//! most, and on a file system in memory perhaps never. So a file that is mapped like that has to be read
//! whatever its times say.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;

use moat_guest::MAX_MAPPED;

use crate::files::Identity;
use crate::sys;
use crate::tree;

/// Bytes of one process's table of mappings that are looked at: the kernel allows 65,530 of them.
const MAX_TABLE: u64 = 16 << 20;

/// Their inodes, and whether there may be others. To be asked while commands are stopped.
pub(crate) fn files(identity: &Identity) -> (Vec<u64>, bool) {
    let mut inodes = BTreeSet::new();
    let mut others = false;
    for seen in tree::commands().iter().filter(|seen| !seen.is_dead()) {
        others |= look(seen.pid, identity, &mut inodes).is_none();
    }
    others |= inodes.len() > MAX_MAPPED;
    (inodes.into_iter().take(MAX_MAPPED).collect(), others)
}

/// Looks at one process. `None`: not all of it was seen.
fn look(pid: i32, identity: &Identity, inodes: &mut BTreeSet<u64>) -> Option<()> {
    let table = open_as_its_user(pid, identity)?;
    let mut lines = BufReader::new(table.take(MAX_TABLE)).split(b'\n');
    let mut seen: u64 = 0;
    while let Some(line) = lines.next().transpose().ok()? {
        seen = seen.saturating_add(line.len() as u64 + 1);
        let Some((inode, path)) = parse(&line) else { continue };
        inodes.insert(inode);
        // Where file systems lie over each other a scan may see another number.
        inodes.extend(std::fs::symlink_metadata(path).ok().map(|found| found.ino()));
        if inodes.len() > MAX_MAPPED {
            return None;
        }
    }
    // A process whose first thread has ended shows no table, whatever the others do.
    (1..MAX_TABLE).contains(&seen).then_some(())
}

/// The table of mappings: a process is shown to its own user.
fn open_as_its_user(pid: i32, identity: &Identity) -> Option<File> {
    let owner = std::fs::metadata(format!("/proc/{pid}")).ok()?;
    let open = || File::open(format!("/proc/{pid}/maps")).ok();
    let own = identity.own();
    if own == (owner.uid(), owner.gid()) {
        return open();
    }
    if sys::set_file_identity(owner.uid(), owner.gid()).is_err() {
        restore(own);
        return open();
    }
    let table = open();
    restore(own);
    table
}

fn restore((uid, gid): (u32, u32)) {
    if sys::set_file_identity(uid, gid).is_err() {
        // Going on as somebody else would be worse than ending.
        sys::exit(70);
    }
}

/// The inode and path of a shared mapping; `None`: it is none of a file. One that is not written at
/// the moment counts: what it had written before may be written again without a trace.
fn parse(line: &[u8]) -> Option<(u64, std::path::PathBuf)> {
    // address permissions offset device inode path
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let permissions = fields.nth(1)?;
    let inode = fields.nth(2)?;
    let inode = std::str::from_utf8(inode).ok()?.parse().ok().filter(|inode| *inode != 0)?;
    let path = fields.next()?.trim_ascii_start();
    let shared = permissions.get(3) == Some(&b's');
    let in_memory = [b"/memfd:".as_slice(), b"/dev/", b"/SYSV"];
    if !shared || !path.starts_with(b"/") || in_memory.iter().any(|with| path.starts_with(with)) {
        return None;
    }
    Some((inode, OsString::from_vec(unescape(path)).into()))
}

/// The kernel writes a line's end within a name as `\012`, and nothing else that way.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(after) => {
                bytes.push(b'\n');
                rest = after;
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_mappings_of_files_count() {
        let at =
            |line: &str| parse(line.as_bytes()).map(|(inode, path)| (inode, path.into_os_string()));
        let found =
            at("7f00-7f01 rw-s 00001000 fd:01 1234                       /workspace/a b\\012c");
        assert_eq!(found, Some((1234, "/workspace/a b\nc".into())));
        let read = "7f00-7f01 r--s 00000000 fd:01 1234                       /workspace/read";
        assert_eq!(at(read), Some((1234, "/workspace/read".into())));
        for other in [
            "7f00-7f01 rw-p 00000000 fd:01 1234                       /workspace/private",
            "7f00-7f01 rw-s 00000000 00:01 7                          /memfd:x (deleted)",
            "7f00-7f01 rw-s 00000000 00:05 7                          /dev/zero (deleted)",
            "7f00-7f01 rw-p 00000000 00:00 0 ",
            "7f00-7f01 rw-p 00000000 00:00 0                          [heap]",
            "nonsense",
            "",
        ] {
            assert_eq!(at(other), None, "{other}");
        }
    }
}
