//! One block of a tar stream that is a header.

use super::pax::Extensions;
use super::{MAX_TAR_NAME, TarError, TarKind, TarMember};

pub(super) const BLOCK: usize = 512;

/// A header as it stands there, extensions not applied.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) path: Vec<u8>,
    pub(super) size: u64,
    pub(super) flag: u8,
    link: Vec<u8>,
    mode: u64,
    uid: u64,
    gid: u64,
    mtime: i64,
}

impl Header {
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, TarError> {
        let mut path = text(block, 0, 100).to_vec();
        check_sum(block, &path)?;
        let number = |start, length, what: &str| {
            number(field(block, start, length))
                .ok_or_else(|| TarError::refused(&path, format!("its {what} is no number")))
        };
        let unsigned = |start, length, what: &str| {
            u64::try_from(number(start, length, what)?)
                .map_err(|_| TarError::refused(&path, format!("its {what} is below zero")))
        };
        let (mode, uid) = (unsigned(100, 8, "mode")?, unsigned(108, 8, "owner")?);
        let (gid, size) = (unsigned(116, 8, "group")?, unsigned(124, 12, "size")?);
        let mtime = number(136, 12, "time")?;
        let flag = field(block, 156, 1).first().copied().unwrap_or_default();
        // Only the POSIX form has a prefix; the GNU form has other things in its place.
        if field(block, 257, 6) == b"ustar\0" {
            let prefix = text(block, 345, 155);
            if !prefix.is_empty() {
                path = [prefix, b"/", &path].concat();
            }
        }
        let link = text(block, 157, 100).to_vec();
        Ok(Self { path, size, flag, link, mode, uid, gid, mtime })
    }

    /// Whether it only says something about members that follow.
    pub(super) fn is_extension(&self) -> bool {
        matches!(self.flag, b'x' | b'g' | b'L' | b'K')
    }

    pub(super) fn into_member(self, extensions: Extensions) -> Result<TarMember, TarError> {
        let path = extensions.path.unwrap_or(self.path);
        let link = extensions.link.unwrap_or(self.link);
        let refused = |reason: &str| Err(TarError::refused(&path, reason));
        if path.is_empty() || path.len() > MAX_TAR_NAME || link.len() > MAX_TAR_NAME {
            return refused("its name, or the name that it links to, is empty or too long");
        }
        if path.contains(&0) || link.contains(&0) {
            return refused("its name, or the name that it links to, has a zero byte in it");
        }
        let kind = match self.flag {
            // Old archives have no kind of their own for folders.
            0 | b'0' | b'7' if path.ends_with(b"/") => TarKind::Folder,
            0 | b'0' | b'7' => TarKind::File,
            b'1' => TarKind::Hardlink,
            b'2' => TarKind::Symlink,
            b'3' | b'4' => TarKind::Device,
            b'5' => TarKind::Folder,
            b'6' => TarKind::Pipe,
            b'S' => return refused("sparse files are not read here"),
            _ => return refused("it is of an unknown kind"),
        };
        if link.is_empty() && matches!(kind, TarKind::Hardlink | TarKind::Symlink) {
            return refused("it is a link to nothing");
        }
        // Of all other kinds nothing follows, whatever their header says.
        let size = extensions.size.unwrap_or(self.size);
        // Some readers take it for a file, and look for the next member behind its content.
        if size > 0 && kind == TarKind::Folder && self.flag != b'5' {
            return refused("it is a folder by its name, and has a content");
        }
        Ok(TarMember {
            kind,
            mode: (self.mode & 0o7777) as u32,
            uid: extensions.uid.unwrap_or(self.uid),
            gid: extensions.gid.unwrap_or(self.gid),
            size: if kind == TarKind::File { size } else { 0 },
            mtime: extensions.mtime.unwrap_or((self.mtime, 0)),
            xattrs: extensions.xattrs,
            path,
            link,
        })
    }
}

/// The sum of all bytes, of which some writers took for signed; the sum itself counts as blanks.
fn check_sum(block: &[u8; BLOCK], path: &[u8]) -> Result<(), TarError> {
    let said = number(field(block, 148, 8));
    let bytes = || block.iter().enumerate().map(|(at, byte)| (at, *byte));
    let blanked = |(at, byte): (usize, u8)| if (148..156).contains(&at) { b' ' } else { byte };
    let unsigned: i64 = bytes().map(|byte| i64::from(blanked(byte))).sum();
    let signed: i64 = bytes().map(|byte| i64::from(blanked(byte).cast_signed())).sum();
    if said.is_some_and(|said| said == unsigned || said == signed) {
        return Ok(());
    }
    Err(TarError::refused(path, "its header does not add up: this is no tar archive"))
}

fn field(block: &[u8; BLOCK], start: usize, length: usize) -> &[u8] {
    block.get(start..start + length).unwrap_or_default()
}

/// Up to the first zero byte.
fn text(block: &[u8; BLOCK], start: usize, length: usize) -> &[u8] {
    let field = field(block, start, length);
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits between blanks, or, marked by the highest bit, a binary number.
fn number(field: &[u8]) -> Option<i64> {
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        // The sign is the next bit; only what fits into 63 bits is a number here.
        let start = if first & 0x40 != 0 { -1_i64 } else { i64::from(first & 0x3f) };
        return rest
            .iter()
            .try_fold(start, |sum, byte| sum.checked_mul(256).map(|sum| sum | i64::from(*byte)));
    }
    let digits = field.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    digits.iter().try_fold(0_i64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}
