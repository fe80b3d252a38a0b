//! What a program inside and a person outside may write: hosts, paths, rules, secrets, whole
//! policies, bodies cut anywhere, encoded responses, messages to the SSH agent. Nothing panics,
//! what was read is written as it was read, and no value comes out.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use moat_core::Secret;
use moat_egress::policy::{Entry, Host, Level, NetworkPolicy, Policy, RequestPath, Scheme};
use moat_egress::secret::{LineageKey, SecretSet, SecretSpec};
use moat_egress::sign::{AgentFilter, SshKey};

const VALUE: &str = "hunter2hunter2";

fuzz_target!(|input: (u8, &str, Vec<Vec<u8>>)| {
    let (kind, text, pieces) = input;
    match kind % 4 {
        0 => policy(text),
        1 => body(&pieces),
        2 => response(text, &pieces),
        _ => agent(&pieces),
    }
});

fn policy(text: &str) {
    if let Ok(entry) = text.parse::<Entry>() {
        assert_eq!(entry.to_string().parse(), Ok(entry));
    }
    if let Ok(secret) = text.parse::<SecretSpec>() {
        assert_eq!(secret.to_string().parse(), Ok(secret));
    }
    let mut lines = text.lines();
    let host = Host::parse(lines.next().unwrap_or_default());
    let path = RequestPath::parse(lines.next().unwrap_or_default());
    let Ok(document) = NetworkPolicy::allowing(lines) else { return };
    let written = serde_json::to_string(&document).expect("a policy serialises");
    let read: NetworkPolicy = serde_json::from_str(&written).expect("and is read again");
    assert_eq!(read, document);
    let policy = Policy::compose([(Level::Run, document)]).expect("one level composes");
    if let Ok(host) = host {
        let request = policy.request(&host, 443, Scheme::Https, "GET", &path);
        let connection = policy.connect(&host, 443, Some(Scheme::Https));
        assert!(connection.is_allowed() || !request.is_allowed());
    }
}

fn set() -> SecretSet {
    let specs = ["A=env:A@a.test;in=body:*", "B=env:B@b.test"];
    let specs = specs.map(|spec| spec.parse().expect("it is a secret"));
    let values = BTreeMap::from(["A", "B"].map(|name| (name.to_owned(), Secret::new(VALUE))));
    SecretSet::new(&specs, &LineageKey::new([7; 32]), values).expect("the values can be kept")
}

fn host(name: &str) -> Host {
    Host::parse(name).expect("it is a host")
}

fn body(pieces: &[Vec<u8>]) {
    let towards = set().towards(&host("c.test"), 443, Scheme::Https);
    let mut body = towards.request_body(Some("application/json"));
    let mut out = Vec::new();
    for piece in pieces {
        let Ok(passed) = body.push(piece) else { return };
        out.extend(passed);
    }
    let Ok(rest) = body.finish() else { return };
    out.extend(rest);
    assert_eq!(out, pieces.concat());
    assert!(!out.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()));
}

fn response(encoding: &str, pieces: &[Vec<u8>]) {
    let towards = set().towards(&host("a.test"), 443, Scheme::Https);
    let Ok(Some(mut body)) = towards.response_body(Some(encoding)) else { return };
    let mut out = Vec::new();
    for piece in pieces {
        body.feed(piece);
        while let Ok(Some(passed)) = body.next_piece() {
            assert!(passed.len() <= 1 << 20);
            out.extend(passed);
            if out.len() > 1 << 24 {
                return;
            }
        }
    }
    body.end();
    while let Ok(Some(passed)) = body.next_piece() {
        out.extend(passed);
    }
    assert!(!out.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()));
}

fn agent(pieces: &[Vec<u8>]) {
    let mut filter = AgentFilter::new([SshKey::of_blob(b"key")]);
    for (index, piece) in pieces.iter().enumerate() {
        let steps = match index % 2 {
            0 => filter.from_client(piece),
            _ => filter.from_agent(piece),
        };
        if steps.is_err() {
            return;
        }
    }
}
