use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compression_codecs::core::Level;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::{
    BrotliEncoder, DeflateEncoder, EncodeV2, GzipEncoder, ZlibEncoder, ZstdEncoder,
};
use proptest::prelude::*;

use super::{VALUE, placeholder, set, towards};
use crate::policy::check::{Check, without};
use crate::secret::{DecodeError, SecretSet, UnknownEncoding};

const SPEC: [(&str, &str); 1] = [("TOKEN=env:T@api.test", VALUE)];

fn encode(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut encoder: Box<dyn EncodeV2> = match encoding {
        "gzip" => Box::new(GzipEncoder::new(Level::Default.into())),
        "zlib" => Box::new(ZlibEncoder::new(Level::Default.into())),
        "deflate" => Box::new(DeflateEncoder::new(Level::Default.into())),
        "br" => Box::new(BrotliEncoder::new(Default::default())),
        "zstd" => Box::new(ZstdEncoder::new(3)),
        _ => return bytes.to_vec(),
    };
    let mut out = vec![0; bytes.len() + 4096];
    let mut sink = WriteBuffer::new_initialized(&mut out);
    let mut source = PartialBuffer::new(bytes);
    while !source.unwritten().is_empty() {
        encoder.encode(&mut source, &mut sink).unwrap();
    }
    assert!(encoder.finish(&mut sink).unwrap());
    let length = sink.written_len();
    out.truncate(length);
    out
}

fn receive(
    set: &SecretSet,
    encoding: Option<&str>,
    pieces: &[&[u8]],
) -> Result<(Vec<u8>, Vec<String>, usize), DecodeError> {
    let mut body = towards(set, "api.test").response_body(encoding).unwrap().unwrap();
    let (mut out, mut largest) = (Vec::new(), 0);
    let mut take = |body: &mut crate::secret::ResponseBody| {
        while let Some(piece) = body.next_piece()? {
            largest = largest.max(piece.len());
            out.extend(piece);
        }
        Ok(())
    };
    for piece in pieces {
        body.feed(piece);
        take(&mut body)?;
    }
    body.end();
    take(&mut body)?;
    let found = body.found();
    Ok((out, found, largest))
}

#[test]
fn an_echo_does_not_carry_the_value_back() {
    let set = set(&SPEC);
    let hidden = placeholder(&set, "TOKEN");
    let json = serde_json::json!({ "token": VALUE }).to_string();
    let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    let basic = STANDARD.encode(format!("user:{VALUE}"));
    let html = VALUE.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let echoes = [VALUE, &json, &hex, &basic, &html, "s3cr3t%2Ft%2Bk%26n%3D%22%3C%C3%A9%3E%2742"];
    for (encoding, header) in [
        ("", None),
        ("", Some("identity")),
        ("gzip", Some("gzip")),
        ("gzip", Some("X-Gzip")),
        ("zlib", Some("deflate")),
        ("deflate", Some("deflate")),
        ("br", Some("br")),
        ("zstd", Some("zstd")),
    ] {
        for echo in echoes {
            let page = format!("before {echo} after");
            let sent = encode(encoding, page.as_bytes());
            let (a, b) = sent.split_at(sent.len() / 2);
            let (received, found, _) = receive(&set, header, &[a, b]).unwrap();
            let received = String::from_utf8(received).unwrap();
            assert!(received.contains(&hidden) && !received.contains(echo), "{received}");
            assert!(received.starts_with("before ") && received.ends_with(" after"));
            assert_eq!(found, ["TOKEN"]);
        }
    }
    let header = |set: &SecretSet| towards(set, "api.test").response_header(VALUE.as_bytes());
    assert_eq!(header(&set), Some(hidden.into_bytes()));
    assert_eq!(towards(&set, "api.test").response_header(b"text/plain"), None);
    assert_eq!(without(Check::Echo, || header(&set)), None, "the check is what replaces");
    // Responses of other hosts need not be looked at.
    assert!(towards(&set, "other.test").response_body(Some("x")).unwrap().is_none());
    let unknown = towards(&set, "api.test").response_body(Some("compress"));
    assert!(matches!(unknown, Err(UnknownEncoding)));
}

#[test]
fn what_is_streamed_is_not_held_back() {
    let set = set(&SPEC);
    let mut body = towards(&set, "api.test").response_body(None).unwrap().unwrap();
    for event in ["data: one\n\n", "data: two\n\n"] {
        body.feed(event.as_bytes());
        assert_eq!(body.next_piece().unwrap().as_deref(), Some(event.as_bytes()));
        assert_eq!(body.next_piece().unwrap(), None);
    }
    // Also where it is compressed and flushed.
    let mut encoder = GzipEncoder::new(Level::Default.into());
    let mut body = towards(&set, "api.test").response_body(Some("gzip")).unwrap().unwrap();
    for event in ["data: one\n\n", "data: two\n\n"] {
        let mut out = vec![0; 4096];
        let mut sink = WriteBuffer::new_initialized(&mut out);
        encoder.encode(&mut PartialBuffer::new(event.as_bytes()), &mut sink).unwrap();
        while !encoder.flush(&mut sink).unwrap() {}
        let length = sink.written_len();
        body.feed(&out[..length]);
        assert_eq!(body.next_piece().unwrap().as_deref(), Some(event.as_bytes()));
    }
}

#[test]
fn a_bomb_comes_out_in_bounded_pieces() {
    let set = set(&SPEC);
    let zeros = vec![0; 4 << 20];
    for encoding in ["gzip", "br", "zstd"] {
        let bomb = encode(encoding, &zeros);
        assert!(bomb.len() < 64 * 1024);
        let (received, _, largest) = receive(&set, Some(encoding), &[&bomb]).unwrap();
        assert_eq!(received.len(), zeros.len(), "{encoding}");
        assert!(largest <= 64 * 1024, "{encoding}: {largest}");
    }
}

#[test]
fn what_is_broken_or_cut_is_an_error() {
    let set = set(&SPEC);
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let whole = encode(encoding, "a page with some text in it".repeat(20).as_bytes());
        let cut = &whole[..whole.len() / 2];
        assert!(receive(&set, Some(encoding), &[cut]).is_err(), "{encoding}");
        assert!(
            receive(&set, Some(encoding), &[b"\xff\xff\xff\xff nothing"]).is_err(),
            "{encoding}"
        );
        // No body at all is none in every encoding.
        assert_eq!(receive(&set, Some(encoding), &[]).unwrap().0, b"");
    }
    // Two streams one after the other are one text.
    for encoding in ["gzip", "zstd"] {
        let two = [encode(encoding, b"one "), encode(encoding, b"two")].concat();
        assert_eq!(receive(&set, Some(encoding), &[&two]).unwrap().0, b"one two", "{encoding}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_cut_lets_the_value_through(
        before in "[a-zA-Z0-9/+=]{0,9}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        encoding in prop::sample::select(vec!["", "gzip", "br", "zstd"]),
    ) {
        let set = set(&SPEC);
        let token = placeholder(&set, "TOKEN");
        let page = format!("{before}{VALUE}{VALUE}{}{VALUE}", &VALUE[..8]);
        let sent = encode(encoding, page.as_bytes());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(sent.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut start = 0;
        for cut in cuts.into_iter().chain([sent.len()]) {
            pieces.push(&sent[start..cut]);
            start = cut;
        }
        let (received, _, _) = receive(&set, Some(encoding), &pieces).unwrap();
        prop_assert_eq!(String::from_utf8(received).unwrap(), page.replace(VALUE, &token));
    }

    /// A server that is hostile sends what is nearly right.
    #[test]
    fn what_is_nearly_right_is_decoded_or_an_error(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        text in "[a-d]{0,300}",
        encoding in prop::sample::select(vec!["gzip", "zlib", "deflate", "br", "zstd"]),
    ) {
        let mut bytes = encode(encoding, text.as_bytes());
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        let encoding = if encoding == "zlib" { "deflate" } else { encoding };
        let (a, b) = bytes.split_at(bytes.len() / 2);
        let _ = receive(&set(&SPEC), Some(encoding), &[a, b]);
    }

    #[test]
    fn any_bytes_are_decoded_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        encoding in prop::sample::select(vec!["gzip", "deflate", "br", "zstd"]),
    ) {
        let _ = receive(&set(&SPEC), Some(encoding), &[&bytes]);
    }
}
