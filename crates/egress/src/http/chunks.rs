use crate::sniff::HeadError;

/// Longest line of a chunk's size with its extension, in bytes.
const MAX_LINE: usize = 256;
/// Longest trailer section, in bytes.
const MAX_TRAILERS: usize = 8 << 10;

/// Follows a chunked body and finds its end, strictly.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Size,
    Content(u64),
    ContentEnd,
    Trailers,
}

/// Where the body is after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    End,
}

impl Chunks {
    /// How many of the bytes are known to be of the body, and whether it ends after them. A line
    /// that is not there whole is left for the next time.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(usize, Step), HeadError> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if let State::Content(left) = self.state {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                at += taken;
                let left = left.saturating_sub(taken as u64);
                self.state = if left == 0 { State::ContentEnd } else { State::Content(left) };
                continue;
            }
            let limit = if matches!(self.state, State::Trailers) { MAX_TRAILERS } else { MAX_LINE };
            let Some(end) = rest.iter().take(limit).position(|byte| *byte == b'\n') else {
                return if rest.len() < limit {
                    Ok((at, Step::More))
                } else {
                    Err(HeadError::Chunk)
                };
            };
            at += end + 1;
            if self.line_ended(rest.get(..=end).unwrap_or_default())? {
                return Ok((at, Step::End));
            }
        }
        Ok((at, Step::More))
    }

    /// Whether that was the last line of the body.
    fn line_ended(&mut self, line: &[u8]) -> Result<bool, HeadError> {
        let line = line.strip_suffix(b"\r\n").ok_or(HeadError::Chunk)?;
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(HeadError::Chunk);
        }
        match self.state {
            State::Size => {
                self.state = match size(line).ok_or(HeadError::Chunk)? {
                    0 => State::Trailers,
                    size => State::Content(size),
                };
            }
            State::ContentEnd if line.is_empty() => self.state = State::Size,
            State::Trailers if line.is_empty() => return Ok(true),
            State::Trailers => {
                self.trailers += line.len() + 2;
                let folded = matches!(line.first(), Some(b' ' | b'\t'));
                if folded || !line.contains(&b':') || self.trailers > MAX_TRAILERS {
                    return Err(HeadError::Chunk);
                }
            }
            State::ContentEnd | State::Content(_) => return Err(HeadError::Chunk),
        }
        Ok(false)
    }
}

/// Hexadecimal digits and nothing else before an extension.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?;
    let digits = if digits.len() < line.len() { digits.trim_ascii_end() } else { digits };
    let valid = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    valid.then(|| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Result<(usize, Step), HeadError> {
        Chunks::default().follow(bytes)
    }

    #[test]
    fn a_body_ends_where_it_ends_however_it_is_cut() {
        let body = b"4;a=b\r\nWiki\r\n5\r\npedia\r\n0\r\nX: y\r\n\r\nGET /";
        let end = body.len() - 5;
        assert_eq!(whole(body), Ok((end, Step::End)));
        for cut in 1..end {
            let mut chunks = Chunks::default();
            let (taken, step) = chunks.follow(&body[..cut]).unwrap();
            assert_eq!(step, Step::More);
            assert_eq!(chunks.follow(&body[taken..]), Ok((end - taken, Step::End)));
        }
    }

    #[test]
    fn odd_chunks_are_refused() {
        for body in [
            &b"4\nWiki\r\n"[..],
            b"0x4\r\nWiki\r\n",
            b"+4\r\nWiki\r\n",
            b" 4\r\nWiki\r\n",
            b"4\r\nWikiX\r\n",
            b"\r\n",
            b"ffffffffffffffff1\r\n",
            b"0\r\n folded: x\r\n\r\n",
        ] {
            assert_eq!(whole(body), Err(HeadError::Chunk), "{}", body.escape_ascii());
        }
        assert_eq!(whole(&[b'a'; 300]), Err(HeadError::Chunk));
    }
}
