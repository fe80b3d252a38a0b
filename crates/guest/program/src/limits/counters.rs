//! Numbers that the kernel keeps.

use std::os::fd::AsFd;

use moat_guest::{GuestLimits, LimitName};

/// Where files in memory are.
pub(super) const TMP: [&str; 2] = ["/tmp", "/dev/shm"];

/// Bytes of the largest file of counters that is looked at.
const MAX_COUNTERS: usize = 4096;

fn read(file: impl AsFd) -> Option<String> {
    let mut bytes = [0; MAX_COUNTERS];
    let length = rustix::io::pread(file, &mut bytes[..], 0).ok()?;
    Some(String::from_utf8_lossy(bytes.get(..length)?).into_owned())
}

/// One number of a file of lines `name number`.
pub(super) fn events(file: impl AsFd, name: &str) -> Option<u64> {
    parse(&read(file)?, name)
}

fn parse(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The number that a file holds.
pub(super) fn peak(file: impl AsFd) -> Option<u64> {
    read(file)?.trim().parse().ok()
}

/// The limit of files in memory that is used up, if one is.
pub(super) fn tmp_is_full(limits: &GuestLimits) -> Option<(LimitName, u64)> {
    let (bytes, inodes) = (limits.tmp_bytes, limits.tmp_inodes);
    if bytes.is_none() && inodes.is_none() {
        return None;
    }
    TMP.iter().find_map(|path| {
        let state = rustix::fs::statfs(*path).ok()?;
        let full = |used_up: bool, name, allowed: Option<u64>| {
            allowed.filter(|_| used_up).map(|allowed| (name, allowed))
        };
        full(state.f_blocks > 0 && state.f_bfree == 0, LimitName::Tmp, bytes)
            .or_else(|| full(state.f_files > 0 && state.f_ffree == 0, LimitName::TmpInodes, inodes))
    })
}

/// Bytes that files in memory use: those in `/tmp` and `/dev/shm`, and segments of System V shared
/// memory, which nobody needs to have mapped.
pub(super) fn files_in_memory() -> u64 {
    let mounted = TMP.iter().filter_map(|path| rustix::fs::statfs(*path).ok());
    let mounted = mounted.map(|state| {
        let blocks = state.f_blocks.saturating_sub(state.f_bfree);
        blocks.saturating_mul(u64::try_from(state.f_bsize).unwrap_or(0))
    });
    mounted.fold(segments(), u64::saturating_add)
}

fn segments() -> u64 {
    let text = crate::tree::read_small("/proc/sysvipc/shm").unwrap_or_default();
    parse_segments(&text)
}

/// The 15th and 16th columns are bytes in memory and in swap.
fn parse_segments(text: &str) -> u64 {
    text.lines()
        .skip(1)
        .map(|line| {
            let mut fields = line.split_whitespace().skip(14);
            let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok());
            number().unwrap_or(0).saturating_add(number().unwrap_or(0))
        })
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_both_kinds_of_hierarchy() {
        let old = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let new = "low 0\nhigh 0\nmax 17\noom 2\noom_kill 5\noom_group_kill 0\n";
        assert_eq!((parse(old, "oom_kill"), parse(new, "oom_kill")), (Some(3), Some(5)));
        assert_eq!((parse(new, "max"), parse(new, "oom")), (Some(17), Some(2)));
    }

    #[test]
    fn segments_of_shared_memory() {
        let text = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n\
                    0          0   600               1048576   12    12      0  1000  1000  1000  1000 1 2 3                 69632                  4096\n";
        assert_eq!(parse_segments(text), 73_728);
    }
}
