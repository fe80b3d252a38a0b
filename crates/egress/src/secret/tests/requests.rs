use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::{VALUE, placeholder, set, towards};
use crate::policy::check::{Check, without};
use crate::policy::{Host, Scheme};
use crate::secret::{Put, SecretProblem, SecretSet, Towards};

const SPECS: [(&str, &str); 3] = [
    ("TOKEN=env:T@api.test,*.b.test", VALUE),
    ("KEY=env:K@q.test;in=query:key;in=body:a.key;in=header:x-key", VALUE),
    ("WHOLE=env:W@w.test;in=body:*", VALUE),
];

fn text(put: Result<Option<Put>, SecretProblem>) -> Result<Option<String>, String> {
    let text = |put: Put| String::from_utf8(put.bytes.to_vec()).unwrap();
    put.map(|put| put.map(text)).map_err(|problem| problem.to_string())
}

fn body(towards: &Towards, kind: &str, pieces: &[&[u8]]) -> Result<Vec<u8>, SecretProblem> {
    let mut body = towards.request_body(Some(kind));
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(body.push(piece)?);
    }
    out.extend(body.finish()?);
    Ok(out)
}

#[test]
fn headers_of_its_own_hosts_get_the_value() {
    let set = set(&SPECS);
    let token = placeholder(&set, "TOKEN");
    let bearer = format!("Bearer {token}");
    let wanted = Ok(Some(format!("Bearer {VALUE}")));
    for host in ["api.test", "x.b.test"] {
        assert_eq!(text(towards(&set, host).header("Authorization", bearer.as_bytes())), wanted);
    }
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{token}")));
    let wanted = format!("Basic {}", STANDARD.encode(format!("user:{VALUE}")));
    let put = towards(&set, "api.test").header("authorization", basic.as_bytes()).unwrap().unwrap();
    assert_eq!(
        (put.names.as_slice(), &put.bytes[..]),
        (&["TOKEN".to_owned()][..], wanted.as_bytes())
    );
    assert!(!format!("{put:?}").contains("s3cr3t"));
    assert_eq!(towards(&set, "api.test").header("accept", b"*/*"), Ok(None));

    // Only at the places that are named.
    let key = placeholder(&set, "KEY");
    let q = towards(&set, "q.test");
    assert_eq!(text(q.header("X-Key", key.as_bytes())), Ok(Some(VALUE.to_owned())));
    assert_eq!(text(q.header("x-other", key.as_bytes())), Ok(None));
    let other = without(Check::SecretPlaces, || text(q.header("x-other", key.as_bytes())));
    assert_eq!(other, Ok(Some(VALUE.to_owned())));
}

#[test]
fn queries_and_bodies_get_the_value_escaped() {
    let set = set(&SPECS);
    let (key, whole) = (placeholder(&set, "KEY"), placeholder(&set, "WHOLE"));
    let q = towards(&set, "q.test");
    let encoded = "s3cr3t%2Ft%2Bk%26n%3D%22%3C%C3%A9%3E%2742";
    assert_eq!(
        text(q.target(&format!("/p?a=1&key={key}&b={key}"))),
        Ok(Some(format!("/p?a=1&key={encoded}&b={key}")))
    );
    assert_eq!(text(q.target(&format!("/{key}?x"))), Ok(None));

    // One field of JSON; everything else stays byte for byte.
    let json =
        format!(r#"{{"n": 1.50, "key": "{key}", "l":[{{"x":null}}], "a" : {{"key":"x {key}"}}}}"#);
    let escaped = VALUE.replace('"', "\\\"");
    let wanted = format!(
        r#"{{"n": 1.50, "key": "{key}", "l":[{{"x":null}}], "a" : {{"key":"x {escaped}"}}}}"#
    );
    let sent = body(&q, "application/json; charset=utf-8", &[json.as_bytes()]).unwrap();
    assert_eq!(String::from_utf8(sent).unwrap(), wanted);
    let form = format!("x=1&a.key={key}&key={key}");
    let sent = body(&q, "application/x-www-form-urlencoded", &[form.as_bytes()]).unwrap();
    assert_eq!(String::from_utf8(sent).unwrap(), format!("x=1&a.key={encoded}&key={key}"));
    // What is no JSON is passed on as it is.
    let broken = format!(r#"{{"a":{{"key":"{key}"#);
    assert_eq!(body(&q, "application/json", &[broken.as_bytes()]).unwrap(), broken.as_bytes());
    let large = vec![b' '; crate::secret::MAX_FIELD_BODY + 1];
    let problem = body(&q, "application/json", &[&large]).unwrap_err();
    assert_eq!(problem, SecretProblem::TooLarge(crate::secret::MAX_FIELD_BODY));

    let w = towards(&set, "w.test");
    let sent = body(&w, "text/plain", &[b"a ", whole.as_bytes(), b" b"]).unwrap();
    assert_eq!(String::from_utf8(sent).unwrap(), format!("a {VALUE} b"));
}

/// Each is stopped, and is not without its check.
#[test]
fn what_must_not_go_out_is_stopped() {
    let set = set(&SPECS);
    let token = placeholder(&set, "TOKEN");
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{token}")));
    let hex: String = VALUE.bytes().map(|byte| format!("{byte:02X}")).collect();
    let url = "s3cr3t%2ft%2bk%26n%3d%22%3c%c3%a9%3e%2742";
    let json = VALUE.replace('"', "\\\"");
    let inside: Vec<String> =
        (0..3).map(|before| STANDARD.encode(format!("{}{VALUE}zzz", "y".repeat(before)))).collect();
    let place = "placeholder of the secret `TOKEN`";
    let mut cases = vec![
        ("a placeholder in a header", token.as_str(), place, Check::WrongPlace),
        ("a placeholder in basic authorisation", &basic, place, Check::WrongPlace),
        ("the value", VALUE, "plain", Check::Leak),
        ("the value in JSON", &json, "escaped", Check::Leak),
        ("the value in a URL", url, "URL-encoded", Check::Leak),
        ("the value in hexadecimal", &hex, "hexadecimal", Check::Leak),
    ];
    cases.extend(inside.iter().map(|text| ("the value in base64", &**text, "base64", Check::Leak)));
    for (name, bytes, problem, check) in cases {
        let ask = || {
            // With a check off, the set has to be seen anew.
            let evil = towards(&set, "evil.test");
            let target = format!("/?x={}", bytes.replace(' ', "%20"));
            let header = evil.header("authorization", bytes.as_bytes()).err();
            let body = body(&evil, "text/plain", &[b"x", bytes.as_bytes()]).err();
            let target = if bytes.starts_with("Basic") {
                header.clone()
            } else {
                evil.target(&target).err()
            };
            let body = if bytes.starts_with("Basic") { header.clone() } else { body };
            [header, target, body].map(|problem| problem.map(|problem| problem.to_string()))
        };
        for asked in ask() {
            assert!(asked.as_ref().is_some_and(|p| p.contains(problem)), "{name}: {asked:?}");
            assert!(!asked.unwrap_or_default().contains("s3cr3t"));
        }
        println!("{name}: stopped, without {check:?}: {:?}", without(check, ask));
        assert_eq!(without(check, ask), [None, None, None], "{name} without {check:?}");
    }
}

#[test]
fn a_value_goes_to_its_own_hosts_over_tls_only() {
    let set = set(&SPECS);
    let token = placeholder(&set, "TOKEN");
    let ask = |set: &SecretSet, host: &str, scheme| {
        let towards = set.towards(&Host::parse(host).unwrap(), 443, scheme);
        text(towards.header("x", token.as_bytes()))
    };
    let cases = [
        ("another host", "evil.test", Scheme::Https, Check::SecretHosts),
        ("a name beneath", "x.api.test", Scheme::Https, Check::SecretHosts),
        ("the suffix itself", "b.test", Scheme::Https, Check::SecretHosts),
        ("a longer name", "api.test.evil.test", Scheme::Https, Check::SecretHosts),
        ("plain HTTP", "api.test", Scheme::Http, Check::SecretTls),
    ];
    for (name, host, scheme, check) in cases {
        assert!(ask(&set, host, scheme).is_err(), "{name}");
        let off = without(check, || ask(&set, host, scheme));
        assert_eq!(off, Ok(Some(VALUE.to_owned())), "{name} without {check:?}");
    }
    let plain = super::set(&[("TOKEN=env:T@http://api.test", VALUE)]);
    assert_eq!(ask(&plain, "api.test", Scheme::Http), Ok(Some(VALUE.to_owned())));
    // A secret without a value stops what needs it, and teaches.
    let absent = super::set(&[("TOKEN@api.test", "")]);
    let host = Host::parse("api.test").unwrap();
    let problem = towards(&absent, "api.test").header("x", token.as_bytes()).unwrap_err();
    assert_eq!(
        problem.denial(&host).teach,
        "denied: api.test: the secret `TOKEN` has no value here; give it with \
         `--secret TOKEN=env:VARIABLE@api.test`"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a body is cut, what goes out is the same.
    #[test]
    fn pieces_make_no_difference(
        parts in prop::collection::vec(prop::sample::select(vec![0, 1, 2, 3]), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let set = set(&SPECS);
        let (whole, token) = (placeholder(&set, "WHOLE"), placeholder(&set, "TOKEN"));
        // A placeholder, the beginning of one, the beginning of a value, and other text.
        let texts = [whole.as_str(), &whole[..17], &VALUE[..9], "moat "];
        let text: String = parts.iter().map(|part| texts[*part]).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut start = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            pieces.push(&text.as_bytes()[start..cut]);
            start = cut;
        }
        let sent = body(&towards(&set, "w.test"), "text/plain", &pieces).unwrap();
        prop_assert_eq!(String::from_utf8(sent).unwrap(), text.replace(&whole, VALUE));
        // And towards another host it is stopped wherever it is cut.
        let stopped = format!("{text}{token}");
        let cut = text.len() + token.len() / 2;
        let (a, b) = stopped.as_bytes().split_at(cut);
        prop_assert!(body(&towards(&set, "w.test"), "text/plain", &[a, b]).is_err());
    }
}
