//! Tar streams from strangers, read with bounds.
//!
//! Image layers are read where they are unpacked (in the guest program, confined to the folder that
//! they are unpacked into) and image archives by the harness; both read hostile bytes. The reader
//! holds one member's header and extensions, never content, and allocates nothing before a size was
//! checked. It knows the old, ustar, GNU (long names) and pax forms; what it does not know, it
//! refuses.

mod header;
mod pax;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Seek, SeekFrom};

use header::{BLOCK, Header};
use pax::Extensions;

/// Bytes of the longest name and of the longest target of a link.
pub const MAX_TAR_NAME: usize = 4096;

/// Bytes of all extensions of one member: long names, times, extended attributes.
pub const MAX_TAR_EXTENSIONS: u64 = 1 << 20;

/// Headers of extensions before one member.
const MAX_EXTENSION_HEADERS: usize = 8;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TarKind {
    /// A regular file, whose content follows.
    File,
    /// A folder.
    Folder,
    /// A symbolic link to [`TarMember::link`].
    Symlink,
    /// Another name of [`TarMember::link`].
    Hardlink,
    /// A named pipe.
    Pipe,
    /// A character or block device.
    Device,
}

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarMember {
    /// The name as it stands there, without zero bytes.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: TarKind,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Bytes of content.
    pub size: u64,
    /// Last change: seconds since the Unix epoch, and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why a stream cannot be read.
#[derive(Debug)]
pub enum TarError {
    /// The bytes could not be had.
    Read(io::Error),
    /// They are no tar stream, or one that is not read here.
    Refused {
        /// The member, as far as its name is known.
        member: Vec<u8>,
        /// Why.
        reason: String,
    },
}

impl TarError {
    fn refused(member: &[u8], reason: impl Into<String>) -> Self {
        let member = member.iter().copied().take(MAX_TAR_NAME).collect();
        Self::Refused { member, reason: reason.into() }
    }
}

impl std::fmt::Display for TarError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot read the archive: {error}"),
            Self::Refused { member, reason } => write!(f, "`{}`: {reason}", member.escape_ascii()),
        }
    }
}

impl std::error::Error for TarError {}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Reads the members of an archive, one after the other.
#[derive(Debug)]
pub struct TarReader<R> {
    source: R,
    /// Bytes that were read.
    position: u64,
    /// Bytes of the member's content that were not read.
    content: u64,
    /// Bytes between its content and the next header.
    padding: u64,
    ended: bool,
}

impl<R: Read> TarReader<R> {
    /// Reads from the beginning of an archive.
    pub fn new(source: R) -> Self {
        Self { source, position: 0, content: 0, padding: 0, ended: false }
    }

    /// The next member; what was not read of the one before is passed over. `None`: the end.
    ///
    /// # Errors
    /// [`TarError`]; nothing can be read after one.
    pub fn next_member(&mut self) -> Result<Option<TarMember>, TarError> {
        let mut extensions = Extensions::default();
        for _ in 0..=MAX_EXTENSION_HEADERS {
            let Some(header) = self.next_header()? else {
                if extensions.is_empty() {
                    return Ok(None);
                }
                return Err(TarError::refused(b"", "the archive ends within a member"));
            };
            if !header.is_extension() {
                let member = header.into_member(extensions)?;
                self.content = member.size;
                self.padding = padding(member.size);
                return Ok(Some(member));
            }
            if header.size > MAX_TAR_EXTENSIONS {
                return Err(TarError::refused(&header.path, "its extensions are too large"));
            }
            let mut bytes = vec![0; usize::try_from(header.size).unwrap_or_default()];
            self.fill(&mut bytes)?;
            self.padding = padding(header.size);
            extensions.add(&header, bytes)?;
        }
        Err(TarError::refused(b"", "too many extensions stand before a member"))
    }

    /// The content of the member that was read last.
    pub fn content(&mut self) -> TarContent<'_, R> {
        TarContent(self)
    }

    /// Bytes of the archive that were read: before any content is, where the content begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The source, at the place to which it was read.
    pub fn into_source(self) -> R {
        self.source
    }

    fn next_header(&mut self) -> Result<Option<Header>, TarError> {
        self.pass_over(self.content)?;
        self.pass_over(self.padding)?;
        (self.content, self.padding) = (0, 0);
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        if !self.fill_or_end(&mut block)? || block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        Header::parse(&block).map(Some)
    }

    /// Fills the bytes; `false`: the source was at its end.
    fn fill_or_end(&mut self, bytes: &mut [u8]) -> Result<bool, TarError> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(TarError::refused(b"", "the archive ends within a member")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.position += filled as u64;
        Ok(true)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), TarError> {
        if bytes.is_empty() || self.fill_or_end(bytes)? {
            return Ok(());
        }
        Err(TarError::refused(b"", "the archive ends within a member"))
    }

    fn pass_over(&mut self, count: u64) -> Result<(), TarError> {
        let passed = io::copy(&mut (&mut self.source).take(count), &mut io::sink())?;
        self.position += passed;
        if passed == count {
            return Ok(());
        }
        Err(TarError::refused(b"", "the archive ends within a member"))
    }
}

impl<R: Read + Seek> TarReader<R> {
    /// Goes past the content of the member that was read last without reading it.
    ///
    /// # Errors
    /// [`TarError::Read`].
    pub fn skip_content(&mut self) -> Result<(), TarError> {
        let rest = self.content.saturating_add(self.padding);
        let offset = i64::try_from(rest)
            .map_err(|_| TarError::refused(b"", "the archive ends within a member"))?;
        self.source.seek(SeekFrom::Current(offset))?;
        self.position = self.position.saturating_add(rest);
        (self.content, self.padding) = (0, 0);
        Ok(())
    }
}

/// The content of one member, as a stream that ends with it.
#[derive(Debug)]
pub struct TarContent<'a, R>(&'a mut TarReader<R>);

impl<R: Read> Read for TarContent<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.0;
        let count = reader.content.min(bytes.len() as u64);
        let Some(room) = bytes.get_mut(..usize::try_from(count).unwrap_or_default()) else {
            return Ok(0);
        };
        if room.is_empty() {
            return Ok(0);
        }
        let read = reader.source.read(room)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        reader.content -= read as u64;
        reader.position += read as u64;
        Ok(read)
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
