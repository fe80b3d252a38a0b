use super::*;
use crate::Item;

fn header(kind: &str, version: u16, must_understand: bool) -> EventHeader {
    EventHeader {
        tenant: TenantId::local(),
        run: RunId::generate(),
        seq: Seq(1),
        epoch: Epoch(1),
        at: 0,
        actor: "harness".into(),
        kind: kind.into(),
        version,
        must_understand,
    }
}

#[test]
fn an_unknown_kind_stops_a_reader_only_if_it_must_be_understood() {
    let carried = EventBody::decode(&header("sparkle", 1, false), b"{\"x\":1}").unwrap();
    assert_eq!(carried.encode().unwrap(), b"{\"x\":1}");
    let error = EventBody::decode(&header("sparkle", 1, true), b"{}").unwrap_err();
    assert!(matches!(error, DecodeEventError::NotUnderstood { .. }), "{error}");
    let newer = EventBody::decode(&header("call_finished", 2, true), b"{}").unwrap_err();
    assert!(matches!(newer, DecodeEventError::NotUnderstood { .. }), "{newer}");
}

#[test]
fn items_inside_events_keep_their_text() {
    let raw = r#"{"type":"reasoning", "encrypted_content":"…","new_member":[1.0,1e2]}"#;
    let body = EventBody::from(Steered { input: vec![Item::from_json(raw.into()).unwrap()] });
    let bytes = body.encode().unwrap();
    let back = EventBody::decode(&header("steered", 1, true), &bytes).unwrap();
    let EventBody::Steered(steered) = back else { panic!("another kind") };
    assert_eq!(steered.input[0].json(), raw);
}
