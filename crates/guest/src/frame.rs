use serde::Serialize;

/// Bytes of the largest header.
pub const MAX_HEADER: usize = 1 << 20;

/// Bytes of the largest payload: 4 MiB of a file, and room for what frames it.
pub const MAX_PAYLOAD: usize = (4 << 20) + (64 << 10);

/// Bytes before the header: the length of all that follows, and the length of the header.
const PREFIX: usize = 8;

/// Bytes that are read ahead while no large frame is under way.
const READ_AHEAD: usize = 64 << 10;

/// A frame as it lies in the decoder's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// A message as JSON.
    pub header: &'a [u8],
    /// Bytes that belong to it.
    pub payload: &'a [u8],
}

/// Why bytes are no frame. Nothing that follows on the same stream can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The header is longer than [`MAX_HEADER`], or than the frame.
    Header {
        /// Bytes that it claims.
        length: usize,
    },
    /// The payload is longer than [`MAX_PAYLOAD`].
    Payload {
        /// Bytes that it claims.
        length: usize,
    },
    /// The message cannot be written as JSON.
    Json,
}

// By hand, so that the guest program needs no macro crates for two messages.
impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header { length } => {
                write!(f, "a frame's header of {length} bytes is over the limit of {MAX_HEADER}")
            }
            Self::Payload { length } => {
                write!(f, "a frame's payload of {length} bytes is over the limit of {MAX_PAYLOAD}")
            }
            Self::Json => f.write_str("a message cannot be written as JSON"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Appends one frame to `out`. On an error `out` is as before.
pub fn encode<T: Serialize>(
    out: &mut Vec<u8>,
    message: &T,
    payload: &[u8],
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    let written = serde_json::to_writer(&mut *out, message).map_err(|_| FrameError::Json);
    let header = out.len().saturating_sub(start + PREFIX);
    let prefix = written.and_then(|()| prefix(header, payload.len()));
    match prefix {
        Ok(prefix) => {
            if let Some(place) = out.get_mut(start..start + PREFIX) {
                place.copy_from_slice(&prefix);
            }
            out.extend_from_slice(payload);
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

fn prefix(header: usize, payload: usize) -> Result<[u8; PREFIX], FrameError> {
    if header > MAX_HEADER {
        return Err(FrameError::Header { length: header });
    }
    if payload > MAX_PAYLOAD {
        return Err(FrameError::Payload { length: payload });
    }
    let length = |bytes: usize| u32::try_from(bytes).map_err(|_| FrameError::Json);
    let [a, b, c, d] = length(header + payload)?.to_le_bytes();
    let [e, f, g, h] = length(header)?.to_le_bytes();
    Ok([a, b, c, d, e, f, g, h])
}

/// Cuts a stream of bytes into frames.
///
/// Read into [`FrameDecoder::input`], then take frames with [`FrameDecoder::next_frame`] until
/// there is none. It holds at most one largest frame and 64 KiB, whatever arrives.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    start: usize,
    max_header: usize,
    max_payload: usize,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::with_limits(MAX_HEADER, MAX_PAYLOAD)
    }
}

impl FrameDecoder {
    /// With other limits than [`MAX_HEADER`] and [`MAX_PAYLOAD`], in bytes.
    pub fn with_limits(max_header: usize, max_payload: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, max_header, max_payload }
    }

    /// Where the next bytes of the stream are to be appended. Its spare capacity is what may be
    /// read at once.
    pub fn input(&mut self) -> &mut Vec<u8> {
        self.buffer.drain(..self.start.min(self.buffer.len()));
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * READ_AHEAD {
            self.buffer = Vec::new();
        }
        // A length over the limit was refused by `next_frame`; should a caller go on all the
        // same, it gets no more room than for small frames.
        let wanted = match self.lengths() {
            Ok(Some((header, payload))) => PREFIX + header + payload,
            _ => 0,
        };
        let missing = wanted.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.max(READ_AHEAD));
        &mut self.buffer
    }

    /// The next frame, if all of it has arrived.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some((header, payload)) = self.lengths()? else { return Ok(None) };
        let from = self.start + PREFIX;
        let end = from + header + payload;
        let Some(bytes) = self.buffer.get(from..end) else { return Ok(None) };
        self.start = end;
        let (header, payload) = bytes.split_at(header);
        Ok(Some(Frame { header, payload }))
    }

    /// The lengths of header and payload, once both are known and within their limits.
    fn lengths(&self) -> Result<Option<(usize, usize)>, FrameError> {
        let arrived = self.buffer.get(self.start..).unwrap_or_default();
        let Some(&[a, b, c, d, e, f, g, h]) = arrived.first_chunk() else { return Ok(None) };
        let [total, header] =
            [[a, b, c, d], [e, f, g, h]].map(|le| u32::from_le_bytes(le) as usize);
        if header > self.max_header || header > total {
            return Err(FrameError::Header { length: header });
        }
        let payload = total - header;
        if payload > self.max_payload {
            return Err(FrameError::Payload { length: payload });
        }
        Ok(Some((header, payload)))
    }
}
