/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes follow.
    Length(u64),
    /// Chunks follow.
    Chunked,
    /// The connection may become another protocol's (`CONNECT`, `Upgrade`); what follows is known
    /// with the answer.
    Handover,
}

/// The head of a request that is said in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head, its empty line included.
    pub length: usize,
    /// What follows.
    pub framing: Framing,
}

/// Bounds of a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
}

/// What is wrong with a request's head or framing. Two readers could understand such a request in
/// two ways, so it is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// More bytes or fields than allowed.
    #[error("the head of the request is too large")]
    TooLarge,
    /// Not `METHOD TARGET HTTP/1.x`.
    #[error("the request line is malformed")]
    RequestLine,
    /// A line that ends without CR, or a CR within a line.
    #[error("a line of the request ends in a bare CR or LF")]
    LineEnd,
    /// A field that is continued on the next line.
    #[error("a field is continued on the next line")]
    Folded,
    /// A name that is no token, or a control character in a value.
    #[error("a field of the request is malformed")]
    Field,
    /// No `Host`, or more than one.
    #[error("the request has to have one `Host`")]
    Host,
    /// Several lengths, one that is no number, or a length beside an encoding.
    #[error("the length of the request is ambiguous")]
    Length,
    /// A transfer encoding other than one `chunked`.
    #[error("the transfer encoding of the request is unknown")]
    Encoding,
    /// A chunk that is not written as chunks are.
    #[error("a chunk of the request is malformed")]
    Chunk,
}

/// Reads a head strictly; `None`: bytes are missing.
pub fn parse_head(bytes: &[u8], limits: HeadLimits) -> Result<Option<Head>, HeadError> {
    let window = bytes.get(..limits.bytes).unwrap_or(bytes);
    let Some(end) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
        return match line_ends(window) {
            Err(error) => Err(error),
            Ok(()) if bytes.len() >= limits.bytes => Err(HeadError::TooLarge),
            Ok(()) => Ok(None),
        };
    };
    let head = window.get(..end).unwrap_or_default();
    line_ends(head)?;
    let mut lines = Lines(head);
    let line = lines.next().ok_or(HeadError::RequestLine)?;
    let request = RequestLine::parse(line)?;
    let mut fields = Fields::default();
    for (count, line) in lines.enumerate() {
        if count >= limits.fields {
            return Err(HeadError::TooLarge);
        }
        fields.add(line)?;
    }
    let framing = fields.framing(&request)?;
    Ok(Some(Head { length: end + 4, framing }))
}

struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.windows(2).position(|two| two == b"\r\n");
        let (line, rest) = match end {
            Some(end) => (self.0.get(..end), self.0.get(end + 2..)),
            None => (Some(self.0), None),
        };
        self.0 = rest.unwrap_or_default();
        line
    }
}

fn line_ends(bytes: &[u8]) -> Result<(), HeadError> {
    let mut before = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let bare_lf = *byte == b'\n' && before != b'\r';
        let bare_cr = before == b'\r' && *byte != b'\n';
        if bare_lf || bare_cr || (at == 0 && matches!(byte, b'\r' | b'\n')) {
            return Err(HeadError::LineEnd);
        }
        before = *byte;
    }
    Ok(())
}

struct RequestLine {
    connect: bool,
    one_one: bool,
}

impl RequestLine {
    fn parse(line: &[u8]) -> Result<Self, HeadError> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(HeadError::RequestLine);
        };
        let known = matches!(version, b"HTTP/1.0" | b"HTTP/1.1");
        let plain = !target.is_empty() && target.iter().all(u8::is_ascii_graphic);
        if !(known && plain && is_token(method)) {
            return Err(HeadError::RequestLine);
        }
        Ok(Self { connect: method == b"CONNECT", one_one: version == b"HTTP/1.1" })
    }
}

#[derive(Default)]
struct Fields {
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl Fields {
    fn add(&mut self, line: &[u8]) -> Result<(), HeadError> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(HeadError::Folded);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(HeadError::Field)?;
        let (name, value) = line.split_at_checked(colon).ok_or(HeadError::Field)?;
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        if !is_token(name) || value.iter().any(control) {
            return Err(HeadError::Field);
        }
        match name.to_ascii_lowercase().as_slice() {
            b"host" => self.hosts += 1,
            b"content-length" => {
                let length = number(value).ok_or(HeadError::Length)?;
                if self.length.replace(length).is_some() {
                    return Err(HeadError::Length);
                }
            }
            b"transfer-encoding" => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::Encoding);
                }
                self.chunked = true;
            }
            b"upgrade" => self.upgrade = true,
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, request: &RequestLine) -> Result<Framing, HeadError> {
        if self.hosts > 1 || (self.hosts == 0 && request.one_one) {
            return Err(HeadError::Host);
        }
        if self.chunked && !request.one_one {
            return Err(HeadError::Encoding);
        }
        let handover = request.connect || self.upgrade;
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(HeadError::Length),
            (true, None) | (false, Some(1..)) if handover => Err(HeadError::Length),
            (true, None) => Ok(Framing::Chunked),
            (false, _) if handover => Ok(Framing::Handover),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok())?
}

fn is_token(bytes: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(token)
}
