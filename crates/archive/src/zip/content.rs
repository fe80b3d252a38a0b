//! The content of one member.

use std::io::{self, BufReader, Read, Take};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::ZipEntry;
use crate::error::ArchiveError;

/// A member's content, which is compared with what the directory says about it.
pub(crate) struct ZipContent<'a, S> {
    stored: Stored<'a, S>,
    name: Vec<u8>,
    crc: u32,
    size: u64,
    read: u64,
    sum: Crc,
}

enum Stored<'a, S> {
    Plain(Take<&'a mut S>),
    Deflated(DeflateDecoder<BufReader<Take<&'a mut S>>>),
}

impl<'a, S: Read> ZipContent<'a, S> {
    pub(super) fn new(source: &'a mut S, entry: &ZipEntry) -> Self {
        let bytes = source.take(entry.stored);
        let stored = match entry.method {
            0 => Stored::Plain(bytes),
            _ => Stored::Deflated(DeflateDecoder::new(BufReader::new(bytes))),
        };
        let name = entry.name.clone();
        Self { stored, name, crc: entry.crc, size: entry.size, read: 0, sum: Crc::new() }
    }

    /// Reads the rest of it and compares.
    pub(crate) fn finish(mut self) -> Result<(), ArchiveError> {
        let done = io::copy(&mut self, &mut io::sink());
        let corrupt = |reason: String| Err(ArchiveError::corrupt(&self.name, reason));
        match done {
            Err(error) if error.raw_os_error().is_some() => Err(ArchiveError::Read(error)),
            Err(error) => corrupt(error.to_string()),
            Ok(_) if self.read != self.size => corrupt("its content is too short".to_owned()),
            Ok(_) if self.sum.sum() != self.crc => {
                corrupt("its content does not have the check sum that it should".to_owned())
            }
            Ok(_) => Ok(()),
        }
    }
}

impl<S: Read> Read for ZipContent<'_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.stored {
            Stored::Plain(source) => source.read(bytes)?,
            Stored::Deflated(decoder) => decoder.read(bytes)?,
        };
        self.read = self.read.saturating_add(count as u64);
        if self.read > self.size {
            return Err(io::Error::other("its content is longer than the directory says"));
        }
        self.sum.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }
}
