use super::*;

fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn names() -> Names {
    Names::new(AddressRange::SYNTHETIC, 8)
}

/// Response code and the data of the answers.
fn ask(names: &Names, query: &[u8]) -> (RCODE, Vec<String>) {
    let message = answer(query, names).unwrap().message;
    let packet = Packet::parse(&message).unwrap();
    assert_eq!(packet.id(), 0x1234);
    assert!(packet.has_flags(PacketFlag::RESPONSE));
    let answers = packet.answers.iter().map(|record| match &record.rdata {
        RData::A(a) => Ipv4Addr::from_bits(a.address).to_string(),
        RData::PTR(name) => name.0.to_string(),
        other => format!("{other:?}"),
    });
    (packet.rcode(), answers.collect())
}

#[test]
fn names_have_an_address_and_addresses_a_name() {
    let names = names();
    let (code, first) = ask(&names, &query("API.example.com.", 1));
    assert_eq!((code, first.len()), (RCODE::NoError, 1));
    assert_eq!(ask(&names, &query("api.example.com", 1)).1, first);
    let mut octets: Vec<_> = first[0].split('.').collect();
    octets.reverse();
    let back = query(&format!("{}.in-addr.arpa", octets.join(".")), 12);
    assert_eq!(ask(&names, &back), (RCODE::NoError, vec!["api.example.com".to_owned()]));
    let gateway = query("1.0.18.198.in-addr.arpa", 12);
    assert_eq!(ask(&names, &gateway).1, ["gateway.moat.internal"]);
    assert_eq!(ask(&names, &query("1.1.1.1.in-addr.arpa", 12)).0, RCODE::NameError);
    assert_eq!(ask(&names, &query("localhost", 1)).1, ["127.0.0.1"]);
}

#[test]
fn there_is_nothing_but_ipv4_and_nothing_that_hides_a_hello() {
    for kind in [28, 64, 65, 16, 15, 33] {
        let (code, answers) = ask(&names(), &query("example.com", kind));
        assert!(answers.is_empty(), "{kind}: {answers:?}");
        assert!(matches!(code, RCODE::NoError | RCODE::FormatError), "{kind}: {code:?}");
    }
}

#[test]
fn what_is_no_name_has_no_address() {
    for name in ["1.2.3.4", "a b.example", "0x7f.1", "-a.example"] {
        assert_eq!(ask(&names(), &query(name, 1)), (RCODE::NameError, vec![]), "{name}");
    }
    let mut dotted =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0dgood.evil.com\x00".to_vec();
    dotted.extend([0, 1, 0, 1]);
    assert_eq!(ask(&names(), &dotted), (RCODE::NameError, vec![]));
}

#[test]
fn what_is_no_query_is_not_answered() {
    let mut response = query("example.com", 1);
    response[2] |= 0x80;
    assert!(answer(&response, &names()).is_none());
    assert!(answer(b"short", &names()).is_none());
    assert!(answer(&vec![0; MAX_QUERY + 1], &names()).is_none());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let names = names();
        if let Some(answer) = answer(&bytes, &names) {
            proptest::prop_assert!(answer.message.len() <= 2 * MAX_QUERY);
            proptest::prop_assert_eq!(&answer.message[..2], &bytes[..2]);
        }
    }
}
