//! Any bytes, cut anywhere, give the same events or the same error, within the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_model::sse::{SseError, SseEvent, SseLimits, SseParser};

const LIMITS: SseLimits = SseLimits { line: 64, event: 128 };

fn parse(chunks: &[&[u8]]) -> Result<Vec<SseEvent>, SseError> {
    let mut parser = SseParser::new(LIMITS);
    let mut events = Vec::new();
    for chunk in chunks {
        parser.push(chunk, &mut events)?;
    }
    events.extend(parser.finish()?);
    Ok(events)
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = parse(&[bytes]);
    let (head, tail) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    assert_eq!(whole, parse(&[head, tail]));
    for event in whole.unwrap_or_default() {
        assert!(event.data.len() <= LIMITS.event + bytes.len());
    }
});
