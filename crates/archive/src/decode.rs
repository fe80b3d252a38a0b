//! Decompression by what the first bytes say: names and media types have lied.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// A stream that may be compressed with gzip or zstd, decompressed. Holds one window of it.
#[derive(Debug)]
pub struct Decoder<R>(Form<R>);

#[derive(Debug)]
enum Form<R> {
    Plain(Box<R>),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<Zstd<R>>),
}

impl<R: BufRead> Decoder<R> {
    /// Looks at the first bytes.
    ///
    /// # Errors
    /// If those cannot be read.
    pub fn new(mut stored: R) -> io::Result<Self> {
        let start = stored.fill_buf()?;
        Ok(Self(if start.starts_with(&[0x1f, 0x8b]) {
            Form::Gzip(Box::new(MultiGzDecoder::new(stored)))
        } else if is_zstd(start) {
            Form::Zstd(Box::new(Zstd::new(stored)))
        } else {
            Form::Plain(Box::new(stored))
        }))
    }

    /// What is stored, at the place to which it was read.
    pub fn into_stored(self) -> R {
        match self.0 {
            Form::Plain(stored) => *stored,
            Form::Gzip(decoder) => decoder.into_inner(),
            Form::Zstd(decoder) => decoder.stored,
        }
    }

    /// Whether it is compressed at all.
    pub fn is_compressed(&self) -> bool {
        !matches!(self.0, Form::Plain(_))
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Form::Plain(stored) => stored.read(bytes),
            Form::Gzip(decoder) => decoder.read(bytes),
            Form::Zstd(decoder) => decoder.read(bytes),
        }
    }
}

/// Frames one after the other, some of which only say something to some programs.
struct Zstd<R> {
    stored: R,
    frame: FrameDecoder,
    within: bool,
}

impl<R> std::fmt::Debug for Zstd<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zstd").finish_non_exhaustive()
    }
}

impl<R: BufRead> Zstd<R> {
    fn new(stored: R) -> Self {
        Self { stored, frame: FrameDecoder::new(), within: false }
    }

    /// Begins the next frame with content; `false`: there is none.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.stored.fill_buf()?.is_empty() {
            match self.frame.init(&mut self.stored) {
                Ok(()) => {
                    self.within = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.stored).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R> Zstd<R> {
    /// All of a frame was read. Its sum, if it has one, is that of what came out.
    fn end(&mut self) -> io::Result<()> {
        self.within = false;
        match self.frame.get_checksum_from_data() {
            Some(said) if self.frame.get_calculated_checksum() != Some(said) => {
                Err(io::Error::other("its content does not have the check sum that it should"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.within && !self.begin()? {
                return Ok(0);
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                self.frame
                    .decode_blocks(&mut self.stored, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            if self.frame.can_collect() > 0 {
                return self.frame.read(bytes);
            }
            self.end()?;
        }
    }
}

fn is_zstd(start: &[u8]) -> bool {
    const FRAME: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let skippable = matches!(start, [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50);
    start.starts_with(&FRAME) || skippable
}
