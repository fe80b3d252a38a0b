//! What a connection begins with: what is known early stays so, heads that are taken are whole and
//! within their bounds, and a name in the clear is plain text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_egress::sniff::{First, HeadLimits, first_bytes, parse_head};

const LIMITS: HeadLimits = HeadLimits { bytes: 256, fields: 8 };

fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = first_bytes(bytes);
    let early = first_bytes(&bytes[..usize::from(*cut).min(bytes.len())]);
    assert!(early == First::More || early == whole);
    if let First::Tls(hello) = whole {
        let name = hello.server_name.unwrap_or_default();
        assert!(name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Ok(Some(head)) = parse_head(bytes, LIMITS) {
        assert!(head.length <= LIMITS.bytes && bytes[..head.length].ends_with(b"\r\n\r\n"));
    }
});
