//! Bodies of responses: decoded piece by piece, and values in them replaced by placeholders.

use std::collections::VecDeque;
use std::sync::Arc;

use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::zstd::params::DParameter;
use compression_codecs::{
    BrotliDecoder, DecodeV2, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
};

use super::rewrite::{Rewriter, Texts};
use super::set::SecretSet;

/// What requests to hosts with secrets should say in `Accept-Encoding`.
pub const ACCEPTED_ENCODINGS: &str = "gzip, deflate, br, zstd";
/// Bytes that are decoded at once.
const PIECE: usize = 64 * 1024;
/// The window that HTTP allows for zstd (RFC 9659): 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// The encoding of a response is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response has a content encoding that cannot be looked into")]
pub struct UnknownEncoding;

/// A response is not encoded as it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response is not encoded as it says: {0}")]
pub struct DecodeError(String);

/// The body of one response on its way in. Give it pieces with [`ResponseBody::feed`], then take
/// what comes out with [`ResponseBody::next_piece`] until there is nothing; what comes out at once is
/// bounded, however much a piece decodes to.
pub struct ResponseBody {
    set: SecretSet,
    decoder: Option<Decoder>,
    rewriter: Rewriter,
    input: VecDeque<Vec<u8>>,
    is_at_end: bool,
    is_done: bool,
}

impl ResponseBody {
    pub(super) fn new(
        set: &SecretSet,
        echoes: Arc<Texts>,
        content_encoding: Option<&str>,
    ) -> Result<Self, UnknownEncoding> {
        Ok(Self {
            set: set.clone(),
            decoder: Decoder::new(content_encoding)?,
            rewriter: Rewriter::new(Some(echoes)),
            input: VecDeque::new(),
            is_at_end: false,
            is_done: false,
        })
    }

    /// Takes a piece. Take everything out before giving the next one.
    pub fn feed(&mut self, piece: &[u8]) {
        if !piece.is_empty() {
            self.input.push_back(piece.to_vec());
        }
    }

    /// There are no more pieces.
    pub fn end(&mut self) {
        self.is_at_end = true;
    }

    /// What comes next: at most 64 KiB and what placeholders add. `None`: nothing until there is
    /// another piece or, after the end, nothing at all.
    ///
    /// # Errors
    ///
    /// The response is not encoded as it says.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, DecodeError> {
        while let Some(piece) = self.decoded()? {
            let out = self.rewriter.push(&piece).unwrap_or_default();
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
        if !self.is_at_end || self.is_done {
            return Ok(None);
        }
        self.is_done = true;
        if self.decoder.as_ref().is_some_and(|decoder| !decoder.is_complete()) {
            return Err(DecodeError("it ends too early".to_owned()));
        }
        let rest = self.rewriter.finish().unwrap_or_default();
        Ok((!rest.is_empty()).then_some(rest))
    }

    /// Names of the secrets that were found so far.
    pub fn found(&self) -> Vec<String> {
        self.set.names(&self.rewriter.used)
    }

    /// Decoded bytes; `None`: there are none until there is more input.
    fn decoded(&mut self) -> Result<Option<Vec<u8>>, DecodeError> {
        let Some(decoder) = &mut self.decoder else { return Ok(self.input.pop_front()) };
        loop {
            let mut input = self.input.pop_front();
            let (out, used) = decoder.run(input.as_deref().unwrap_or_default())?;
            if let Some(input) = &mut input
                && used < input.len()
            {
                self.input.push_front(input.split_off(used));
            }
            match (out.is_empty(), input.is_none()) {
                (false, _) => return Ok(Some(out)),
                (true, true) => return Ok(None),
                (true, false) => {}
            }
        }
    }
}

struct Decoder {
    codec: Codec,
    state: State,
}

enum Codec {
    Gzip(Box<GzipDecoder>),
    /// Not known yet which of the two kinds of `deflate` it is.
    Deflate,
    Raw(Box<DeflateDecoder>),
    Zlib(Box<ZlibDecoder>),
    Brotli(Box<BrotliDecoder>),
    Zstd(Box<ZstdDecoder>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing came yet.
    Fresh,
    /// Within a stream.
    Inside,
    /// At the end of a stream.
    Ended,
}

impl Decoder {
    fn new(content_encoding: Option<&str>) -> Result<Option<Self>, UnknownEncoding> {
        let name = content_encoding.unwrap_or_default().trim().to_ascii_lowercase();
        let codec = match name.as_str() {
            "" | "identity" => return Ok(None),
            "gzip" | "x-gzip" => Codec::Gzip(Box::default()),
            "deflate" => Codec::Deflate,
            "br" => Codec::Brotli(Box::default()),
            "zstd" => {
                let window = [DParameter::window_log_max(ZSTD_WINDOW_LOG)];
                Codec::Zstd(Box::new(ZstdDecoder::new_with_params(&window)))
            }
            _ => return Err(UnknownEncoding),
        };
        Ok(Some(Self { codec, state: State::Fresh }))
    }

    /// An empty body is complete in every encoding.
    fn is_complete(&self) -> bool {
        self.state != State::Inside
    }

    /// Decodes up to a piece's length, and says how much input it took.
    fn run(&mut self, input: &[u8]) -> Result<(Vec<u8>, usize), DecodeError> {
        if let (Codec::Deflate, Some(first)) = (&self.codec, input.first()) {
            // The low half of zlib's first byte is 8; no stream of the raw kind begins like that.
            self.codec = match first & 0x0f == 8 {
                true => Codec::Zlib(Box::default()),
                false => Codec::Raw(Box::default()),
            };
        }
        if self.state != State::Inside && input.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let codec: &mut dyn DecodeV2 = match &mut self.codec {
            Codec::Gzip(codec) => &mut **codec,
            Codec::Raw(codec) => &mut **codec,
            Codec::Zlib(codec) => &mut **codec,
            Codec::Brotli(codec) => &mut **codec,
            Codec::Zstd(codec) => &mut **codec,
            Codec::Deflate => return Ok((Vec::new(), 0)),
        };
        let failed = |error: std::io::Error| DecodeError(error.to_string());
        if self.state == State::Ended {
            // gzip and zstd may follow each other; for the others this is an error further down.
            codec.reinit().map_err(failed)?;
        }
        self.state = State::Inside;
        let mut out = vec![0; PIECE];
        let mut source = PartialBuffer::new(input);
        let mut sink = WriteBuffer::new_initialized(&mut out);
        match codec.decode(&mut source, &mut sink) {
            Ok(true) => self.state = State::Ended,
            Ok(false) => {}
            // Without input some codecs call it an error that there is nothing more to give. One
            // that is an error of the stream comes again, or is found at the end.
            Err(_) if input.is_empty() => return Ok((Vec::new(), 0)),
            Err(error) => return Err(failed(error)),
        }
        let (used, made) = (source.written_len(), sink.written_len());
        out.truncate(made);
        if used == 0 && made == 0 && !input.is_empty() && self.state == State::Inside {
            return Err(DecodeError("it does not go on".to_owned()));
        }
        Ok((out, used))
    }
}
