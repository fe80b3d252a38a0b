/// What the first message of a TLS client tells in the clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name it asks for, in lower case, as sent.
    pub server_name: Option<String>,
    /// It carries an encrypted second hello, whose name nobody on the way can see.
    pub encrypted: bool,
    /// The application protocols that it offers.
    pub alpn: Vec<Vec<u8>>,
}

/// Why bytes that begin like TLS are not a client's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// It is longer than a client's first message may be.
    #[error("the first message of TLS is too long")]
    TooLong,
    /// Lengths do not fit each other, or something is there twice.
    #[error("the first message of TLS is malformed")]
    Malformed,
}

/// The longest first message, in bytes; with post-quantum keys they have about two thousand.
const MAX_HELLO: usize = 32 << 10;
const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const EXTENSION_ENCRYPTED_HELLO: u16 = 0xfe0d;

/// Reads the message; `None`: bytes are missing.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    match message(bytes)? {
        Some(message) => hello(&message).map(Some),
        None => Ok(None),
    }
}

/// Puts the message together from the records that carry it.
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, HelloError> {
    let mut input = Reader(bytes);
    let mut message: Vec<u8> = Vec::new();
    loop {
        if let [kind, a, b, c, rest @ ..] = message.as_slice() {
            if *kind != CLIENT_HELLO {
                return Err(HelloError::Malformed);
            }
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if length > MAX_HELLO {
                return Err(HelloError::TooLong);
            }
            if let Some(whole) = rest.get(..length) {
                return Ok(Some(whole.to_vec()));
            }
        }
        let (Some(kind), Some(major), Some(_), Some(length)) =
            (input.u8(), input.u8(), input.u8(), input.u16())
        else {
            return Ok(None);
        };
        if kind != RECORD_HANDSHAKE || major != 3 || length == 0 || length > 1 << 14 {
            return Err(HelloError::Malformed);
        }
        let taken = usize::from(length).min(input.0.len());
        let partial = taken < usize::from(length);
        message.extend_from_slice(input.take(taken).unwrap_or_default());
        if partial {
            // What is there of a record may already show that it is none of ours.
            return match message.first() {
                Some(kind) if *kind != CLIENT_HELLO => Err(HelloError::Malformed),
                _ => Ok(None),
            };
        }
    }
}

fn hello(message: &[u8]) -> Result<ClientHello, HelloError> {
    read(message).ok_or(HelloError::Malformed)
}

/// `None`: malformed.
fn read(message: &[u8]) -> Option<ClientHello> {
    let mut input = Reader(message);
    input.take(2 + 32)?;
    input.vector8()?;
    input.vector16()?;
    input.vector8()?;
    let mut hello = ClientHello::default();
    if input.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(input.vector16()?);
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let body = extensions.vector16()?;
        // Two names would let two readers see different ones.
        if seen.contains(&kind) {
            return None;
        }
        seen.push(kind);
        match kind {
            EXTENSION_SERVER_NAME => hello.server_name = Some(server_name(body)?),
            EXTENSION_ALPN => hello.alpn = protocols(body)?,
            EXTENSION_ENCRYPTED_HELLO => hello.encrypted = true,
            _ => {}
        }
    }
    input.0.is_empty().then_some(hello)
}

fn server_name(body: &[u8]) -> Option<String> {
    let mut input = Reader(body);
    let mut names = Reader(input.vector16()?);
    let kind = names.u8()?;
    let name = names.vector16()?;
    let one = kind == 0 && names.0.is_empty() && input.0.is_empty();
    let plain = !name.is_empty() && name.len() <= 255 && name.iter().all(u8::is_ascii_graphic);
    if !(one && plain) {
        return None;
    }
    String::from_utf8(name.to_ascii_lowercase()).ok()
}

fn protocols(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut input = Reader(body);
    let mut list = Reader(input.vector16()?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.vector8()?.to_vec());
    }
    input.0.is_empty().then_some(protocols)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}
