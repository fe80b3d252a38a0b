//! Server-sent events, as the WHATWG HTML standard defines their framing, with bounds.
//!
//! Two places are looser than the standard on purpose: an event that lacks its blank line at the
//! end of the stream is still handed out ([`SseParser::finish`]), and text that is not UTF-8 is an
//! error instead of being repaired, because what comes is JSON that has to be kept as it is.

use moat_core::Retryable;

#[cfg(test)]
mod tests;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field; empty if there was none.
    pub name: String,
    /// The `data` fields, joined by line feeds.
    pub data: String,
}

/// What a stream may ask of memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct SseLimits {
    /// The longest line.
    pub line: usize,
    /// The longest event, all its `data` lines together.
    pub event: usize,
}

impl Default for SseLimits {
    fn default() -> Self {
        // The last event of an answer repeats the whole answer.
        Self { line: 32 << 20, event: 32 << 20 }
    }
}

/// Why a stream cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A line is longer than the limit.
    #[error("a line of the event stream is longer than {limit} bytes")]
    LineTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// An event is longer than the limit.
    #[error("an event of the stream is longer than {limit} bytes")]
    EventTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A field is not UTF-8.
    #[error("an event of the stream is not UTF-8")]
    NotUtf8,
}

impl Retryable for SseError {
    fn is_retryable(&self) -> bool {
        true
    }
}

/// Cuts a byte stream into events. Chunks may end anywhere.
#[derive(Debug, Default)]
pub struct SseParser {
    limits: SseLimits,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a carriage return: a line feed right after it belongs to it.
    after_cr: bool,
    past_first_line: bool,
}

impl SseParser {
    /// A parser at the start of a stream.
    pub fn new(limits: SseLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next bytes and appends the events that they complete to `events`, also when a
    /// later one is in error.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.after_cr = false;
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, tail) = rest.split_at(end);
            self.end_line(line, events)?;
            rest = match tail {
                [b'\r', b'\n', after @ ..] => after,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, after @ ..] => after,
                [] => &[],
            };
        }
        self.check_line(rest.len())?;
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// Takes the end of the stream: the event that was still open, if it had any data.
    pub fn finish(mut self) -> Result<Option<SseEvent>, SseError> {
        let mut events = Vec::new();
        self.end_line(b"", &mut events)?;
        self.dispatch(&mut events)?;
        Ok(events.pop())
    }

    fn check_line(&self, more: usize) -> Result<(), SseError> {
        if self.partial.len().saturating_add(more) > self.limits.line {
            return Err(SseError::LineTooLong { limit: self.limits.line });
        }
        Ok(())
    }

    fn end_line(&mut self, end: &[u8], events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        self.check_line(end.len())?;
        if self.partial.is_empty() {
            return self.line(end, events);
        }
        let mut line = std::mem::take(&mut self.partial);
        line.extend_from_slice(end);
        self.line(&line, events)
    }

    fn line(&mut self, line: &[u8], events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        let line = if self.past_first_line { line } else { line.strip_prefix(BOM).unwrap_or(line) };
        self.past_first_line = true;
        if line.is_empty() {
            return self.dispatch(events);
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.append_data(value),
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
                Ok(())
            }
            // An empty field name is a comment; `id` and `retry` are for reconnecting, which the
            // caller does by asking again.
            _ => Ok(()),
        }
    }

    fn append_data(&mut self, value: &[u8]) -> Result<(), SseError> {
        if self.data.len().saturating_add(value.len()) > self.limits.event {
            return Err(SseError::EventTooLong { limit: self.limits.event });
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(value);
        Ok(())
    }

    fn dispatch(&mut self, events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        let name = std::mem::take(&mut self.name);
        if !std::mem::take(&mut self.has_data) {
            return Ok(());
        }
        let text = |bytes| String::from_utf8(bytes).map_err(|_| SseError::NotUtf8);
        events.push(SseEvent { name: text(name)?, data: text(std::mem::take(&mut self.data))? });
        Ok(())
    }
}
