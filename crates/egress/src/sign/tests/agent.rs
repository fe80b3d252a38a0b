use proptest::prelude::*;

use crate::policy::check::{Check, without};
use crate::sign::{AgentError, AgentFilter, AgentStep, SignRefused, SshKey};

const MINE: &[u8] = b"\0\0\0\x0bssh-ed25519\0\0\0\x04mine";
const OTHER: &[u8] = b"\0\0\0\x0bssh-ed25519\0\0\0\x05other";

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body: Vec<u8> = parts.iter().flat_map(|part| string(part)).collect();
    string(&[vec![kind], body].concat())
}

fn login(key: &[u8]) -> Vec<u8> {
    let head: Vec<u8> = [string(&[9; 32]), vec![50]].concat();
    let names: Vec<u8> = [b"git".as_slice(), b"ssh-connection", b"publickey"]
        .iter()
        .flat_map(|s| string(s))
        .collect();
    [head, names, vec![1], string(b"ssh-ed25519"), string(key)].concat()
}

fn sign_request(key: &[u8], data: &[u8]) -> Vec<u8> {
    string(&[vec![13], string(key), string(data), vec![0, 0, 0, 0]].concat())
}

fn failure() -> AgentStep {
    AgentStep::ToClient(vec![0, 0, 0, 1, 5])
}

fn filter() -> AgentFilter {
    AgentFilter::new([SshKey::of_blob(MINE)])
}

#[test]
fn only_allowed_keys_are_listed() {
    let list = || {
        let mut filter = filter();
        let ask = filter.from_client(&message(11, &[])).unwrap();
        assert_eq!(ask, [AgentStep::ToAgent(vec![0, 0, 0, 1, 11])]);
        assert!(filter.is_waiting());
        let keys = [
            &b"\x0c\0\0\0\x02"[..],
            &string(OTHER),
            &string(b"me@host"),
            &string(MINE),
            &string(b"/home/me/key"),
        ];
        let steps = filter.from_agent(&string(&keys.concat())).unwrap();
        assert!(!filter.is_waiting());
        steps
    };
    let allowed = [&b"\x0c\0\0\0\x01"[..], &string(MINE), &string(b"")].concat();
    assert_eq!(list(), [AgentStep::ToClient(string(&allowed))]);
    assert_ne!(without(Check::SshKeys, list), list());
}

#[test]
fn only_logins_with_allowed_keys_are_signed() {
    let ask = |key: &[u8], data: &[u8]| filter().from_client(&sign_request(key, data)).unwrap();
    let signed = ask(MINE, &login(MINE));
    let key = SshKey::of_blob(MINE);
    assert_eq!(signed[0], AgentStep::Signing(key, "git".to_owned()));
    assert_eq!(signed[1], AgentStep::ToAgent(sign_request(MINE, &login(MINE))));

    let sshsig = [b"SSHSIG".as_slice(), &string(b"git"), &string(b"a commit")].concat();
    let long = [login(MINE), vec![0]].concat();
    type Case = (&'static str, &'static [u8], Vec<u8>, SignRefused, Check);
    let cases: [Case; 5] = [
        ("another key", OTHER, login(OTHER), SignRefused::Key, Check::SshKeys),
        ("a commit", MINE, sshsig, SignRefused::NoLogin, Check::SshLogins),
        (
            "a login with another key inside",
            MINE,
            login(OTHER),
            SignRefused::NoLogin,
            Check::SshLogins,
        ),
        ("a login with something behind it", MINE, long, SignRefused::NoLogin, Check::SshLogins),
        ("nothing", MINE, Vec::new(), SignRefused::NoLogin, Check::SshLogins),
    ];
    for (name, key, data, refused, check) in cases {
        let wanted = [AgentStep::Refused(refused), failure()];
        assert_eq!(ask(key, &data), wanted, "{name}");
        assert_ne!(without(check, || ask(key, &data)), wanted, "{name} without {check:?}");
    }
}

#[test]
fn everything_else_fails_here() {
    // Add, remove, remove all, lock, extension, smartcard, and what nobody knows.
    for kind in [17, 18, 19, 20, 22, 23, 25, 26, 27, 0, 255] {
        let steps = filter().from_client(&message(kind, &[b"session-bind@openssh.com"])).unwrap();
        assert_eq!(steps, [failure()], "{kind}");
    }
    assert_eq!(filter().from_client(&string(b"")).unwrap(), [failure()]);
    assert_eq!(filter().from_client(&[0xff; 4]), Err(AgentError::TooLong));
    assert_eq!(filter().from_agent(&message(12, &[])), Err(AgentError::Unasked));
    let mut asking = filter();
    asking.from_client(&message(11, &[])).unwrap();
    assert_eq!(asking.from_agent(&string(b"\x0c\0\0\0\x09")), Err(AgentError::Malformed));
    assert_eq!(filter().from_client(&message(11, &[]).repeat(65)), Err(AgentError::TooMany));
    // An answer of another kind than was asked for is a failure.
    let mut asking = filter();
    asking.from_client(&message(11, &[])).unwrap();
    assert_eq!(asking.from_agent(&message(14, &[b"signature"])).unwrap(), [failure()]);
}

proptest! {
    /// Whatever comes, and however it is cut, only two kinds of messages reach the agent.
    #[test]
    fn nothing_else_reaches_the_agent(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                Just(message(11, &[])),
                Just(sign_request(MINE, &login(MINE))),
                Just(sign_request(OTHER, &login(OTHER))),
            ],
            0..6,
        )
    ) {
        let mut filter = filter();
        for piece in pieces {
            let Ok(steps) = filter.from_client(&piece) else { return Ok(()) };
            for step in steps {
                if let AgentStep::ToAgent(bytes) = step {
                    let is_list = bytes == message(11, &[]);
                    prop_assert!(is_list || bytes == sign_request(MINE, &login(MINE)));
                }
            }
        }
    }

    #[test]
    fn any_answer_is_passed_on_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut filter = filter();
        filter.from_client(&message(11, &[])).unwrap();
        let _ = filter.from_agent(&string(&bytes));
    }
}
