use proptest::prelude::*;

use super::{SseError, SseEvent, SseLimits, SseParser};

fn parse(chunks: &[&[u8]]) -> Result<Vec<SseEvent>, SseError> {
    parse_within(chunks, SseLimits::default())
}

fn parse_within(chunks: &[&[u8]], limits: SseLimits) -> Result<Vec<SseEvent>, SseError> {
    let mut parser = SseParser::new(limits);
    let mut events = Vec::new();
    for chunk in chunks {
        parser.push(chunk, &mut events)?;
    }
    events.extend(parser.finish()?);
    Ok(events)
}

fn event(name: &str, data: &str) -> SseEvent {
    SseEvent { name: name.to_owned(), data: data.to_owned() }
}

#[test]
fn framing_follows_the_standard() {
    let cases: &[(&str, &[SseEvent])] = &[
        ("data: a\n\n", &[event("", "a")]),
        ("event: x\r\ndata:a\r\n\r\n", &[event("x", "a")]),
        ("event: x\rdata: a\r\r", &[event("x", "a")]),
        ("\u{feff}data: a\n\n", &[event("", "a")]),
        (": ping\n\n: ping\n\ndata: a\ndata: b\n\n", &[event("", "a\nb")]),
        ("data\n\n", &[event("", "")]),
        ("data:  two\n\n", &[event("", " two")]),
        ("event: lonely\n\ndata: a\n\n", &[event("", "a")]),
        ("id: 7\nretry: 5\nunknown\ndata: a\n\n", &[event("", "a")]),
        ("data: a\n\ndata: no blank line", &[event("", "a"), event("", "no blank line")]),
        ("event: x\n", &[]),
    ];
    for (text, wanted) in cases {
        assert_eq!(parse(&[text.as_bytes()]).unwrap(), *wanted, "{text:?}");
    }
}

#[test]
fn bounds_and_bad_text_are_errors() {
    let limits = SseLimits { line: 10, event: 6 };
    assert_eq!(
        parse_within(&[b"data: 12", b"345678"], limits),
        Err(SseError::LineTooLong { limit: 10 })
    );
    assert_eq!(
        parse_within(&[b"data: 1234\ndata: 567\n"], limits),
        Err(SseError::EventTooLong { limit: 6 })
    );
    assert_eq!(parse(&[b"data: \xff\n\n"]), Err(SseError::NotUtf8));
    assert_eq!(parse(&[b": \xff\n\ndata: a\n\n"]), Ok(vec![event("", "a")]));
}

proptest! {
    /// However a stream is cut into chunks and whatever ends its lines, the events are the same.
    #[test]
    fn chunks_and_line_ends_do_not_matter(
        events in prop::collection::vec(("[a-z.]{0,9}", "[ -~é\n]{0,40}"), 0..6),
        ends in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        cuts in prop::collection::vec(1usize..9, 1..40),
    ) {
        let mut text = String::new();
        for (name, data) in &events {
            text.push_str(&format!(": note{ends}event: {name}{ends}"));
            for line in data.split('\n') {
                text.push_str(&format!("data: {line}{ends}"));
            }
            text.push_str(ends);
        }
        let mut chunks = Vec::new();
        let mut rest = text.as_bytes();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            chunks.push(head);
            rest = tail;
        }
        let wanted: Vec<_> = events.iter().map(|(name, data)| event(name, data)).collect();
        prop_assert_eq!(parse(&chunks).unwrap(), wanted);
    }

    /// Any bytes give events or an error, the same ones however they are cut.
    #[test]
    fn any_bytes_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0usize..200,
    ) {
        let (head, tail) = bytes.split_at(cut.min(bytes.len()));
        prop_assert_eq!(parse(&[&bytes]), parse(&[head, tail]));
    }
}
