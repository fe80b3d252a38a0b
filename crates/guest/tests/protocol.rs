//! The protocol: whatever is sent comes back the same, and whatever arrives is bounded.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it says")]

use std::collections::BTreeMap;

use moat_guest::*;
use proptest::prelude::*;

fn decode_all(decoder: &mut FrameDecoder, bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    decoder.input().extend_from_slice(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        frames.push((frame.header.to_vec(), frame.payload.to_vec()));
    }
    frames
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in(
        messages in prop::collection::vec((".{0,40}", prop::collection::vec(any::<u8>(), 0..200)), 0..8),
        cuts in prop::collection::vec(1..50_usize, 1..40),
    ) {
        let mut bytes = Vec::new();
        for (text, payload) in &messages {
            encode(&mut bytes, text, payload).unwrap();
        }
        let mut decoder = FrameDecoder::default();
        let mut frames = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.into_iter().cycle() {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            frames.extend(decode_all(&mut decoder, now));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let expected: Vec<_> = messages
            .into_iter()
            .map(|(text, payload)| (serde_json::to_vec(&text).unwrap(), payload))
            .collect();
        prop_assert_eq!(frames, expected);
    }

    #[test]
    fn garbage_neither_panics_nor_grows(chunks in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..64), 0..32)
    ) {
        let mut decoder = FrameDecoder::default();
        for chunk in chunks {
            decoder.input().extend_from_slice(&chunk);
            while let Ok(Some(frame)) = decoder.next_frame() {
                let _ = serde_json::from_slice::<ClientMessage>(frame.header);
                let _ = serde_json::from_slice::<GuestMessage>(frame.header);
            }
            prop_assert!(decoder.input().capacity() <= 8 + MAX_HEADER + MAX_PAYLOAD + (128 << 10));
        }
    }

    #[test]
    fn records_come_out_as_they_went_in(record in stat_record(), apply in apply_record()) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        apply.encode(&mut bytes);
        let mut rest = bytes.as_slice();
        prop_assert_eq!(StatRecord::decode(&mut rest).unwrap(), record);
        prop_assert_eq!(ApplyRecord::decode(&mut rest).unwrap(), apply);
        prop_assert!(rest.is_empty());
        for cut in 0..bytes.len() {
            let mut rest = &bytes[..cut];
            prop_assert!(
                StatRecord::decode(&mut rest).is_err() || ApplyRecord::decode(&mut rest).is_err()
            );
        }
    }

    #[test]
    fn garbage_is_no_record(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = StatRecord::decode(&mut bytes.as_slice());
        let _ = ApplyRecord::decode(&mut bytes.as_slice());
    }

    #[test]
    fn raw_bytes_survive_json(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let text = serde_json::to_string(&RawBytes(bytes.clone())).unwrap();
        prop_assert_eq!(serde_json::from_str::<RawBytes>(&text).unwrap(), RawBytes(bytes));
    }
}

fn xattrs() -> impl Strategy<Value = Xattrs> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..20);
    prop::collection::btree_map(bytes(), bytes(), 0..3)
}

fn stat_record() -> impl Strategy<Value = StatRecord> {
    let path = || prop::collection::vec(any::<u8>(), 0..60);
    let kind = prop_oneof![
        Just(StatKind::File),
        Just(StatKind::Dir),
        path().prop_map(StatKind::Symlink),
        Just(StatKind::Other),
    ];
    (
        path(),
        kind,
        any::<(u32, u32, u32)>(),
        any::<(u64, u64, u64)>(),
        any::<(i64, i64)>(),
        xattrs(),
    )
        .prop_map(|(path, kind, (mode, uid, gid), (size, inode, links), times, xattrs)| {
            StatRecord {
                path,
                kind,
                mode,
                uid,
                gid,
                size,
                mtime_ns: times.0,
                ctime_ns: times.1,
                inode,
                links,
                xattrs,
            }
        })
}

fn apply_record() -> impl Strategy<Value = ApplyRecord> {
    let path = || prop::collection::vec(any::<u8>(), 0..60);
    let kind = prop_oneof![
        Just(ApplyKind::Dir),
        (any::<u64>(), prop::option::of(path())).prop_map(|(size, at)| ApplyKind::File(size, at)),
        path().prop_map(ApplyKind::Symlink),
        path().prop_map(ApplyKind::Hardlink),
    ];
    (path(), kind, any::<(u32, u32, u32)>(), any::<i64>(), xattrs()).prop_map(
        |(path, kind, (mode, uid, gid), mtime_ns, xattrs)| ApplyRecord {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime_ns,
            xattrs,
        },
    )
}

#[test]
fn lengths_over_the_limit_are_refused_before_anything_is_held() {
    let prefix = |total: u32, header: u32| [total.to_le_bytes(), header.to_le_bytes()].concat();
    let bad = [
        (prefix(u32::MAX, 10), "payload"),
        (prefix(MAX_PAYLOAD as u32 + 11, 10), "payload"),
        (prefix(u32::MAX, MAX_HEADER as u32 + 1), "header"),
        (prefix(9, 10), "header"),
    ];
    for (bytes, part) in bad {
        let mut decoder = FrameDecoder::default();
        decoder.input().extend_from_slice(&bytes);
        let error = decoder.next_frame().unwrap_err();
        assert_eq!(matches!(error, FrameError::Payload { .. }), part == "payload", "{error}");
        assert!(decoder.input().capacity() <= 128 << 10);
    }
    let mut out = b"before".to_vec();
    let header = "x".repeat(MAX_HEADER);
    assert!(matches!(encode(&mut out, &header, &[]), Err(FrameError::Header { .. })));
    assert!(matches!(
        encode(&mut out, &1, &vec![0; MAX_PAYLOAD + 1]),
        Err(FrameError::Payload { .. })
    ));
    assert_eq!(out, b"before");
}

/// Messages of the first version, as they are on the wire. A later version still reads them.
#[test]
fn messages_of_version_1_are_read() {
    let start = r#"{"request":{"id":7,"body":{"start":{"key":"k","argv":["sh"],
        "cwd":{"root":"workspace","path":{"hex":"ff2f"}},"environment":{"A":"b"},"tty":[24,80]}}}}"#;
    let expected = ClientMessage::Request {
        id: 7,
        body: Request::Start(Start {
            key: "k".to_owned(),
            argv: vec!["sh".to_owned()],
            cwd: Place { root: Some(Root::Workspace), path: RawBytes(b"\xff/".to_vec()) },
            environment: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            tty: Some((24, 80)),
        }),
    };
    assert_eq!(serde_json::from_str::<ClientMessage>(start).unwrap(), expected);
    let messages = [
        (r#"{"hello":{"versions":{"min":1,"max":1},"epoch":3}}"#, true),
        (r#"{"credit":{"listener":1,"frames":4}}"#, true),
        (r#"{"welcome":{"version":1,"nonce":"00"}}"#, false),
        (r#"{"refused":{"superseded":{"epoch":4}}}"#, false),
        (r#"{"reply":{"id":1,"body":"done"}}"#, false),
        (r#"{"reply":{"id":1,"body":{"committed":{"conflict":"a"}}}}"#, false),
        (r#"{"failed":{"id":1,"failure":{"os":{"operation":"o","path":"p","errno":2}}}}"#, false),
        (r#"{"output":{"listener":1,"offset":9,"stream":"stderr"}}"#, false),
        (r#"{"exited":{"listener":1,"exit":{"code":-9,"wall_ms":4}}}"#, false),
    ];
    for (text, from_client) in messages {
        let again = if from_client {
            serde_json::to_string(&serde_json::from_str::<ClientMessage>(text).unwrap())
        } else {
            serde_json::to_string(&serde_json::from_str::<GuestMessage>(text).unwrap())
        };
        assert_eq!(again.unwrap(), text);
    }
}

#[test]
fn versions_meet_at_the_newest_that_both_speak() {
    let range = |min, max| Versions { min, max };
    assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
    assert_eq!(range(1, 1).common(range(2, 5)), None);
}
