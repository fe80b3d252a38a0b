//! How a plan is written down: little-endian numbers, texts that end with a zero byte.
//!
//! ```text
//! plan  = "MOATPLN3" namespaces:u64 deny_setgroups:u32 mapped_outside:u32 uid_map:bytes gid_map:bytes
//!         shifted:text shifted_map:bytes base:text base_map:bytes folder:text rehearse:u32 step*
//! step  = code:u32 bytes
//! bytes = length:u32 byte* padding to a multiple of four
//! text  = bytes whose last is zero, and no other
//! ```
//!
//! Everything starts at a multiple of four, so that a seccomp filter can be used where it lies.

use core::ffi::CStr;

use crate::sys::Errno;

const MAGIC: &[u8] = b"MOATPLN3";

/// A plan, still in its bytes.
pub(crate) struct Plan<'a> {
    /// `CLONE_NEW…` flags.
    pub(crate) namespaces: u64,
    /// Whether `setgroups` is forbidden, without which an ordinary user may not map groups.
    pub(crate) deny_setgroups: bool,
    /// Whether the harness has the id maps written, by programs that may do it, and says when.
    pub(crate) mapped_outside: bool,
    /// Content of `/proc/PID/uid_map`.
    pub(crate) uid_map: &'a [u8],
    /// Content of `/proc/PID/gid_map`.
    pub(crate) gid_map: &'a [u8],
    /// A tree of the host whose owners are shifted, and how; it comes into a slot of its own.
    pub(crate) shifted: Option<(&'a CStr, &'a [u8])>,
    /// What the workspace lies over; it comes into a slot of its own.
    pub(crate) base: Option<Base<'a>>,
    /// The steps.
    pub(crate) steps: Reader<'a>,
}

/// A tree beneath a workspace.
pub(crate) struct Base<'a> {
    /// The tree of the host.
    pub(crate) tree: &'a CStr,
    /// How its owners are shifted.
    pub(crate) map: &'a [u8],
    /// The sandbox's folder, with `base`, `workspace` and `work` in it.
    pub(crate) folder: &'a CStr,
    /// Only tries it, with a tree that was made for that.
    pub(crate) rehearse: bool,
}

impl<'a> Plan<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Errno> {
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(Errno::MALFORMED);
        }
        let namespaces = reader.u64()?;
        let deny_setgroups = reader.u32()? != 0;
        let mapped_outside = reader.u32()? != 0;
        let uid_map = reader.bytes()?;
        let gid_map = reader.bytes()?;
        let (shifted, map) = (reader.text()?, reader.bytes()?);
        let shifted = (!shifted.is_empty()).then_some((shifted, map));
        let base = Base {
            tree: reader.text()?,
            map: reader.bytes()?,
            folder: reader.text()?,
            rehearse: reader.u32()? != 0,
        };
        let base = (!base.tree.is_empty()).then_some(base);
        Ok(Self {
            namespaces,
            deny_setgroups,
            mapped_outside,
            uid_map,
            gid_map,
            shifted,
            base,
            steps: *reader,
        })
    }
}

/// Reads numbers and texts off the front of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Errno> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Errno::MALFORMED)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Errno> {
        let bytes = self.take(4)?.try_into().map_err(|_| Errno::MALFORMED)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Errno> {
        let bytes = self.take(8)?.try_into().map_err(|_| Errno::MALFORMED)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Errno> {
        let length = self.u32()? as usize;
        let bytes = self.take(length)?;
        self.take(length.next_multiple_of(4) - length)?;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<&'a CStr, Errno> {
        CStr::from_bytes_with_nul(self.bytes()?).map_err(|_| Errno::MALFORMED)
    }
}
