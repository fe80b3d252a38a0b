use proptest::prelude::*;

use crate::policy::{Entry, Host, Level, NetworkPolicy, Policy, RequestPath, Rule, Scheme};
use crate::secret::SecretSpec;

fn host() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a.test", "b.a.test", "x.b.a.test", "c.test", "10.1.2.3", "10.9.0.1"])
}

fn pattern() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "*",
        "*.test",
        "*.a.test",
        "*.b.a.test",
        "a.test",
        "b.a.test",
        "c.test",
        "10.0.0.0/8",
        "10.1.2.3",
    ])
}

fn path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["/", "/v1", "/v1/x", "/v10", "/v1/../x", "/V1/x", "/v1//x"])
}

fn rule() -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec!["", "GET ", "POST ", "GET,POST "]);
    let scheme = prop::sample::select(vec!["", "http://", "https://", "tcp://", "ssh://"]);
    let port = prop::sample::select(vec!["", ":443", ":80,443", ":8443", ":22"]);
    let path = prop::sample::select(vec!["", "/v1", "/v1/x"]);
    let parts = (method, scheme, pattern(), port, path);
    parts.prop_map(|(method, scheme, host, port, path)| match scheme {
        "tcp://" => format!("{scheme}{host}{}", if port.is_empty() { ":443" } else { port }),
        "ssh://" => format!("{scheme}{host}{port}"),
        _ => format!("{method}{scheme}{host}{port}{path}"),
    })
}

fn document() -> impl Strategy<Value = NetworkPolicy> {
    let entry = (rule(), prop::bool::weighted(0.2));
    let entry = entry.prop_map(|(rule, deny)| if deny { format!("!{rule}") } else { rule });
    prop::collection::vec(entry, 0..5)
        .prop_map(|texts| NetworkPolicy::allowing(&texts).expect("every text is a rule"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is put together, with the check for narrowing or without it, lets nothing out that
    /// one level alone would not.
    #[test]
    fn together_allows_no_more_than_any_level(
        levels in prop::collection::vec(document(), 1..4),
        host in host(),
        port in prop::sample::select(vec![22, 80, 443, 8443]),
        scheme in prop::sample::select(vec![Scheme::Http, Scheme::Https, Scheme::Tcp, Scheme::Ssh]),
        method in prop::sample::select(vec!["GET", "POST", "get"]),
        path in path(),
    ) {
        use crate::policy::check::{Check, without};
        let names = [Level::Organisation, Level::Agent, Level::Run];
        let levels: Vec<_> = names.into_iter().zip(levels).collect();
        let host = Host::parse(host).unwrap();
        let path = RequestPath::parse(path);
        let asks = |policy: &Policy| [
            policy.connect(&host, port, None).is_allowed(),
            policy.connect(&host, port, Some(scheme)).is_allowed(),
            policy.request(&host, port, scheme, method, &path).is_allowed(),
        ];
        let composed = Policy::compose(levels.clone());
        let together = without(Check::Narrowing, || Policy::compose(levels.clone())).unwrap();
        let alone: Vec<Policy> =
            levels.iter().cloned().map(|level| Policy::compose([level]).unwrap()).collect();
        let together = asks(&together);
        for policy in &alone {
            for (together, alone) in together.iter().zip(asks(policy)) {
                prop_assert!(!together || alone);
            }
        }
        // And where it narrows, the lowest level alone says what is allowed, but for denials above.
        let denies = levels.iter().any(|(_, level)| {
            level.allow.iter().flatten().any(|entry| matches!(entry, Entry::Deny(_)))
        });
        if composed.is_ok() && !denies {
            prop_assert_eq!(asks(&composed.unwrap()), asks(alone.last().unwrap()));
        }
    }

    #[test]
    fn any_text_is_a_rule_or_an_error(text in "\\PC{0,40}") {
        if let Ok(entry) = text.parse::<Entry>() {
            prop_assert_eq!(entry.to_string().parse::<Entry>(), Ok(entry));
        }
        let _ = text.parse::<SecretSpec>();
        let _ = Host::parse(&text);
        let _ = RequestPath::parse(&text);
    }

    #[test]
    fn what_looks_like_a_rule_is_written_as_it_is_read(
        text in "(GET |!|tcp://|https://)?(\\*\\.)?[a-c0-9.\\[\\]:]{1,12}(\\+private)?(:[0-9,]{1,6})?(/[a-c.%2/]{0,8})?"
    ) {
        if let Ok(entry) = text.parse::<Entry>() {
            prop_assert_eq!(entry.to_string().parse::<Entry>(), Ok(entry));
        }
    }

    /// The same where a path stands behind an address, as the length of a network does.
    #[test]
    fn a_path_behind_an_address_stays_one(
        text in "(0|1\\.2\\.3\\.4)(/32)?(\\+private)?(:80)?/[0-3]{1,2}(/|:|\\+|a)?"
    ) {
        if let Ok(entry) = text.parse::<Entry>() {
            prop_assert_eq!(entry.to_string().parse::<Entry>(), Ok(entry));
        }
    }

    #[test]
    fn a_rule_covers_its_own_parts(text in rule()) {
        let rule: Rule = text.parse().unwrap();
        let parts = rule.parts();
        prop_assert!(!parts.is_empty());
        prop_assert!(parts.iter().all(|part| rule.covers(part)));
    }

    #[test]
    fn a_secret_is_written_as_it_is_read(
        text in "T(=(env:[A-Z]{1,3}|file:/[a-z@;,=]{1,6}|command:[a-z @;|]{1,8}))?@(http://)?(\\*\\.)?[a-c0-9.\\[\\]:/]{1,10}(,[a-c.]{1,5}:[0-9]{1,5})?(;in=(basic|header:[A-Za-z-]{1,4}|query:[a-z.]{1,3}|body:(\\*|[a-z.]{1,4}))){0,2}(;sign=aws(:[a-z1-]{1,4}:s3)?)?"
    ) {
        if let Ok(secret) = text.parse::<SecretSpec>() {
            prop_assert_eq!(secret.to_string().parse::<SecretSpec>(), Ok(secret));
        }
    }

    /// However a server reads a path that is allowed, it is beneath the rule's path; and one that
    /// some server reads as beneath a denied path is denied.
    #[test]
    fn no_reading_of_a_path_leads_elsewhere(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "/", "v1", "x", "V1", ".", "..", "%2e", "%2E.", "%2f", "%5c", "\\", ";", ";y", "%25",
                "2e", "2f", "%76", "%", "%00", "é", "?", "#", "admin",
            ]),
            0..9,
        )
    ) {
        let target = format!("/v1{}", parts.concat());
        let path = RequestPath::parse(&target);
        let ask = |rules: &[&str]| {
            let host = Host::parse("a.test").unwrap();
            super::policy(rules).request(&host, 443, Scheme::Https, "GET", &path).is_allowed()
        };
        let readings: Vec<Vec<String>> = (0..3).map(|times| reading(&target, times)).collect();
        if ask(&["a.test/v1"]) {
            for reading in &readings {
                prop_assert_eq!(reading.first().map(String::as_str), Some("v1"), "{}", &target);
            }
        }
        let leads_to_x = |reading: &Vec<String>| {
            reading.len() > 1 && reading[0].eq_ignore_ascii_case("v1") && reading[1] == "x"
        };
        if readings.iter().any(leads_to_x) {
            prop_assert!(!ask(&["a.test", "!a.test/v1/x"]), "{}", &target);
        }
    }
}

/// A path as a careless server reads it: decoded so many times, `\\` as `/`, parameters off, dots
/// and empty segments resolved.
fn reading(target: &str, times: usize) -> Vec<String> {
    let mut path = target.split(['?', '#']).next().unwrap_or_default().to_owned();
    for _ in 0..times {
        path = percent_encoding::percent_decode_str(&path).decode_utf8_lossy().into_owned();
    }
    let mut segments: Vec<String> = Vec::new();
    for segment in path.replace('\\', "/").split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name.to_owned()),
        }
    }
    segments
}
