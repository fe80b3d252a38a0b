use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 1024, fields: 8 };

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn server_name(name: &[u8]) -> Vec<u8> {
    let mut body = (name.len() as u16 + 3).to_be_bytes().to_vec();
    body.push(0);
    body.extend((name.len() as u16).to_be_bytes());
    body.extend(name);
    extension(0, &body)
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = extensions.concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(body);
    message
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in message.chunks(size) {
        bytes.extend([22, 3, 1]);
        bytes.extend((part.len() as u16).to_be_bytes());
        bytes.extend(part);
    }
    bytes
}

#[test]
fn a_hello_is_read_whole_and_in_pieces() {
    let message = hello(&[
        server_name(b"API.example.com"),
        extension(16, b"\x00\x0c\x02h2\x08http/1.1"),
        extension(0xfe0d, b"anything"),
    ]);
    let expected = ClientHello {
        server_name: Some("api.example.com".to_owned()),
        encrypted: true,
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    for size in [1, 3, 50, 4000] {
        let bytes = records(&message, size);
        assert_eq!(first_bytes(&bytes), First::Tls(expected.clone()));
        for cut in 0..bytes.len() {
            assert_eq!(first_bytes(&bytes[..cut]), First::More, "cut at {cut} of {size}");
        }
    }
    assert_eq!(first_bytes(&records(&hello(&[]), 99)), First::Tls(ClientHello::default()));
}

#[test]
fn a_hello_that_two_readers_could_read_differently_is_malformed() {
    for extensions in [
        vec![server_name(b"a.example"), server_name(b"b.example")],
        vec![extension(0, b"\x00\x06\x01\x00\x03abc")],
        vec![extension(0, b"\x00\x06\x00\x00\x03abcX")],
        vec![server_name(b"a\0b")],
        vec![server_name(b"")],
    ] {
        let bytes = records(&hello(&extensions), 4000);
        assert_eq!(first_bytes(&bytes), First::BadTls(HelloError::Malformed));
    }
    assert_eq!(
        first_bytes(b"\x16\x03\x01\x00\x04\x02\0\0\0"),
        First::BadTls(HelloError::Malformed)
    );
    let long = b"\x16\x03\x01\x00\x04\x01\xff\xff\xff";
    assert_eq!(first_bytes(long), First::BadTls(HelloError::TooLong));
}

#[test]
fn http_is_told_from_what_only_looks_like_it() {
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\n"[..], First::Http1),
        (b"M-SEARCH * HTTP/1.1\r\n", First::Other),
        (b"GET / HTTP/1.1", First::More),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", First::Http2),
        (b"PRI * HT", First::More),
        (b"EHLO example.com\r\n", First::Other),
        (b"SSH-2.0-OpenSSH_9\r\n", First::Other),
        (b"PING\r\n", First::Other),
        (b"\x00\x01", First::Other),
    ] {
        assert_eq!(first_bytes(bytes), expected, "{}", bytes.escape_ascii());
    }
    assert_eq!(first_bytes(&[b'A'; 25]), First::Other);
    let endless = [b"GET ".as_slice(), &vec![b'a'; MAX_FIRST_BYTES]].concat();
    assert_eq!(first_bytes(&endless), First::Other);
}

#[test]
fn heads_are_read_strictly() {
    let framing =
        |head: &str| parse_head(head.as_bytes(), LIMITS).map(|head| head.map(|head| head.framing));
    for (head, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(Some(Framing::Length(0)))),
        ("GET / HTTP/1.1\r\nHost: a\r\n", Ok(None)),
        ("GET / HTTP/1.0\r\n\r\n", Ok(Some(Framing::Length(0)))),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Ok(Some(Framing::Length(5)))),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            Ok(Some(Framing::Chunked)),
        ),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", Ok(Some(Framing::Handover))),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", Ok(Some(Framing::Handover))),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(HeadError::LineEnd)),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Err(HeadError::LineEnd)),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", Err(HeadError::LineEnd)),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Err(HeadError::RequestLine)),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Err(HeadError::RequestLine)),
        ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Err(HeadError::RequestLine)),
        ("GET / HTTP/1.1\r\n\r\n", Err(HeadError::Host)),
        ("GET / HTTP/1.1\r\nHost: a\r\nHOST: b\r\n\r\n", Err(HeadError::Host)),
        ("GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", Err(HeadError::Folded)),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Err(HeadError::Field)),
        ("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", Err(HeadError::Field)),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Err(HeadError::Field)),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            Err(HeadError::Length),
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", Err(HeadError::Length)),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", Err(HeadError::Length)),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(HeadError::Length),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Err(HeadError::Encoding),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(HeadError::Encoding),
        ),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(HeadError::Encoding),
        ),
    ] {
        assert_eq!(framing(head), expected, "{}", head.escape_debug());
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(1024));
    assert_eq!(framing(&long), Err(HeadError::TooLarge));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(9));
    assert_eq!(framing(&many), Err(HeadError::TooLarge));
}

proptest::proptest! {
    /// Any bytes, cut anywhere: what is known early stays so, and nothing panics.
    #[test]
    fn what_is_known_stays_known(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
                                 tls: bool, cut: usize) {
        let mut bytes = bytes;
        if tls {
            bytes.splice(0..0, [22, 3, 1, 0, 60, 1]);
        }
        let early = first_bytes(&bytes[..cut % (bytes.len() + 1)]);
        if early != First::More {
            proptest::prop_assert_eq!(early, first_bytes(&bytes));
        }
        let _ = parse_head(&bytes, LIMITS);
    }
}
