//! Contents with holes.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use moat_guest::{Failure, RawBytes, Root};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::resolve::Path;
use super::{Files, MAX_READ, os_failure};

/// Bytes of the smallest hole that is left out: a shorter one is quicker read than spoken of.
const HOLE: u64 = 64 << 10;

/// Bytes that are zero together, or are written.
const BLOCK: usize = 4096;

impl Files {
    /// How long a hole is at the beginning of a range of a file, and what comes after it.
    pub(crate) fn read_data(
        &self,
        root: Root,
        path: &RawBytes,
        range: Range<u64>,
        length: u32,
    ) -> Result<(u64, Vec<u8>), Failure> {
        let path = Path::parse(path)?;
        let file = self.beneath(root)?.open_file(&path)?;
        let failed = |error: Errno| os_failure("read", path.bytes(), &error.into());
        let size = rustix::fs::fstat(&file).map_err(failed)?.st_size;
        let end = u64::try_from(size).unwrap_or(0).min(range.end);
        let start = next_data(&file, range.start).map_err(failed)?.min(end);
        let hole = start.saturating_sub(range.start);
        let most = start.saturating_add(u64::from(length.min(MAX_READ))).min(end);
        let stop = end_of_data(&file, start, most).map_err(failed)?;
        let mut bytes = vec![0; usize::try_from(stop.saturating_sub(start)).unwrap_or(0)];
        let read = read_exact_at(&file, &mut bytes, start).map_err(failed)?;
        bytes.truncate(read);
        Ok((hole, bytes))
    }
}

/// Where data begins at or after a place; the end of all files if none does.
fn next_data(file: &OwnedFd, from: u64) -> rustix::io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(at) if at.saturating_sub(from) >= HOLE => Ok(at),
        // A hole that is too short to be one here, or a file system that knows of none.
        Ok(_) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(from),
        Err(Errno::NXIO) => Ok(u64::MAX),
        Err(error) => Err(error),
    }
}

/// Where the next hole begins that is worth leaving out, `most` at the latest.
fn end_of_data(file: &OwnedFd, from: u64, most: u64) -> rustix::io::Result<u64> {
    let mut at = from;
    while at < most {
        let hole = match rustix::fs::seek(file, SeekFrom::Hole(at)) {
            Ok(hole) if hole < most => hole,
            Ok(_) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => return Ok(most),
            Err(error) => return Err(error),
        };
        let data = next_data(file, hole)?;
        if data > hole {
            return Ok(hole);
        }
        // It was short: look behind it, and get on in any case.
        at = hole.saturating_add(HOLE);
    }
    Ok(most)
}

/// Reads until the bytes are full or the file ends; how many there are.
pub(super) fn read_exact_at(
    file: &OwnedFd,
    bytes: &mut [u8],
    offset: u64,
) -> rustix::io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Fills a new file, leaving out blocks of zeroes.
pub(super) fn write_around_holes(file: impl AsFd, content: &[u8]) -> io::Result<()> {
    rustix::fs::ftruncate(&file, content.len() as u64)?;
    let mut blocks = content.chunks(BLOCK).enumerate().peekable();
    while let Some((first, block)) = blocks.next() {
        if is_zero(block) {
            continue;
        }
        let mut end = first * BLOCK + block.len();
        while let Some((_, more)) = blocks.next_if(|(_, block)| !is_zero(block)) {
            end += more.len();
        }
        write_at(&file, content.get(first * BLOCK..end).unwrap_or_default(), first * BLOCK)?;
    }
    Ok(())
}

fn write_at(file: impl AsFd, mut bytes: &[u8], offset: usize) -> io::Result<()> {
    let mut at = offset as u64;
    while !bytes.is_empty() {
        match rustix::io::pwrite(&file, bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                at += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Compared as memory, which is quick.
fn is_zero(block: &[u8]) -> bool {
    static ZEROES: [u8; BLOCK] = [0; BLOCK];
    ZEROES.get(..block.len()).is_some_and(|zeroes| zeroes == block)
}
