use moat_core::EgressDecision;

use crate::policy::{
    DenyReason, Host, Level, NetworkLimits, NetworkPolicy, Policy, RequestPath, Scheme,
    policy_text, suggest,
};
use crate::sign::SshKey;

fn decision(host: &str, port: u16, protocol: &str) -> EgressDecision {
    EgressDecision {
        host: host.to_owned(),
        port,
        protocol: protocol.to_owned(),
        allowed: true,
        count: 1,
        ..EgressDecision::default()
    }
}

fn request(host: &str, method: &str, path: &str) -> EgressDecision {
    EgressDecision {
        method: Some(method.to_owned()),
        path: Some(path.to_owned()),
        ..decision(host, 443, "https")
    }
}

fn refused(decision: EgressDecision, reason: DenyReason) -> EgressDecision {
    EgressDecision { allowed: false, reason: Some(reason.as_str().to_owned()), ..decision }
}

#[test]
fn the_smallest_policy_is_proposed() {
    let token = vec!["TOKEN".to_owned()];
    let decisions = [
        decision("pypi.org", 443, "tls"),
        refused(decision("files.pythonhosted.org", 443, "tls"), DenyReason::NotAllowed),
        EgressDecision {
            secrets: token,
            sent: 10,
            received: 20,
            ..request("api.test", "GET", "/v1/a/x")
        },
        refused(request("api.test", "POST", "/v1/a/y"), DenyReason::MethodNotAllowed),
        decision("db.test", 5432, "tcp"),
        decision("git.test", 22, "ssh"),
        decision("git.test", 0, "dns"),
        EgressDecision {
            rule: Some("in.test:8080+private (run)".to_owned()),
            ..decision("in.test", 8080, "http")
        },
        EgressDecision {
            rule: Some("in.test+private:8080 (run)".to_owned()),
            ..decision("in.test", 8080, "http")
        },
        EgressDecision {
            rule: Some(format!("login as git with {}", SshKey::of_blob(b"key"))),
            ..decision("ssh-agent", 0, "ssh")
        },
        refused(decision("meta.test", 80, "http"), DenyReason::PrivateAddress),
        refused(decision("10.0.0.1", 80, "http"), DenyReason::AddressLiteral),
        refused(request("evil.test", "POST", "/"), DenyReason::SecretWrongPlace),
        refused(decision("no host", 80, "http"), DenyReason::InvalidHost),
    ];
    let existing = NetworkPolicy {
        secrets: vec!["TOKEN=env:MINE@*.test;in=basic".parse().unwrap()],
        ..NetworkPolicy::allowing(["*"]).unwrap()
    };
    let suggestion = suggest(&decisions, Some(&existing));
    assert_eq!(
        policy_text(&suggestion.policy),
        "network:\n  \
           allow:\n    \
             - 'GET,POST https://api.test/v1/a'\n    \
             - 'http://in.test+private:8080'\n    \
             - 'https://files.pythonhosted.org'\n    \
             - 'https://pypi.org'\n    \
             - 'ssh://git.test'\n    \
             - 'tcp://db.test:5432'\n  \
           secrets:\n    \
             - 'TOKEN=env:MINE@api.test;in=basic'\n  \
           ssh_keys:\n    \
             - 'SHA256:LHDhK3oGRvkiefQnx7OOczTY5Tic/xZ6HcMOc/gmtoM'\n"
    );
    let api = suggestion.reasons.iter().find(|(rule, _)| rule.contains("api.test")).unwrap();
    assert_eq!(api.1, "2 ×, 1 of them refused, 10 bytes out, 20 in");
    let notes = suggestion.notes.join("\n");
    for note in [
        "`preset:python` would stand for 2",
        "meta.test: leads to an address inside",
        "10.0.0.1:80: an address by number",
        "evil.test: secret_wrong_place (1 ×)",
        "something that is no host (1 ×)",
    ] {
        assert!(notes.contains(note), "{note}: {notes}");
    }

    // It is a policy, it narrows the one that there was, and it allows what was asked for.
    let document = serde_saphyr::from_str::<serde_json::Value>(&policy_text(&suggestion.policy));
    let document: NetworkPolicy =
        serde_json::from_value(document.unwrap()["network"].clone()).unwrap();
    let policy = Policy::compose([(Level::Run, document)]).unwrap();
    let api = Host::parse("api.test").unwrap();
    let path = RequestPath::parse("/v1/a/y");
    assert!(policy.request(&api, 443, Scheme::Https, "POST", &path).is_allowed());
    assert!(!policy.request(&api, 443, Scheme::Https, "DELETE", &path).is_allowed());
}

/// A run that may do nothing shows what it wants.
#[test]
fn a_run_that_denies_everything_says_what_it_needs() {
    let document = NetworkPolicy::allowing(["!*"]).unwrap();
    let policy = Policy::compose([(Level::Run, document)]).unwrap();
    let asked = [("pypi.org", 443, "tls"), ("git.test", 22, "tcp"), ("a.test", 80, "tcp")];
    let decisions = asked.map(|(host, port, protocol)| {
        let denial = policy.connect(&Host::parse(host).unwrap(), port, None).into_result();
        let denial = denial.unwrap_err();
        let rule = denial.rule.clone();
        EgressDecision { rule, ..refused(decision(host, port, protocol), denial.reason) }
    });
    let rules = suggest(&decisions, None).policy.allow.unwrap();
    let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["http://a.test", "ssh://git.test", "https://pypi.org"]);
}

/// What is proposed is the smallest policy: it loosens nothing that there was.
#[test]
fn what_was_denied_opened_and_limited_stays_so() {
    let existing = NetworkPolicy {
        deny: vec!["api.test/admin".parse().unwrap()],
        open: vec!["*.test".parse().unwrap(), "unused.example".parse().unwrap()],
        limits: NetworkLimits { requests: Some(100), ..NetworkLimits::default() },
        ..NetworkPolicy::allowing(["*.test", "!*", "!DELETE api.test"]).unwrap()
    };
    let decisions = [request("api.test", "GET", "/a/b"), request("api.test", "GET", "/c")];
    let suggested = suggest(&decisions, Some(&existing)).policy;
    assert_eq!(
        policy_text(&suggested),
        "network:\n  \
           allow:\n    \
             - '!DELETE api.test'\n    \
             - 'GET https://api.test'\n  \
           deny:\n    \
             - 'api.test/admin'\n  \
           open:\n    \
             - '*.test'\n  \
           limits:\n    \
             requests: 100\n"
    );
    let policy = Policy::compose([(Level::Run, suggested)]).unwrap();
    let api = Host::parse("api.test").unwrap();
    let get = |path| policy.request(&api, 443, Scheme::Https, "GET", &RequestPath::parse(path));
    assert!(get("/a/b").is_allowed() && !get("/admin/x").is_allowed());
}

#[test]
fn what_comes_from_inside_cannot_break_the_text() {
    let decisions = [
        request("a.test", "GET", "/x'\n    - '*"),
        request("b.test", "G ET\n", "/"),
        request("c.test", "GET", "/a b/\u{1b}[31m"),
    ];
    let text = policy_text(&suggest(&decisions, None).policy);
    let read = serde_saphyr::from_str::<serde_json::Value>(&text).unwrap();
    let read: NetworkPolicy = serde_json::from_value(read["network"].clone()).unwrap();
    assert_eq!(read.allow.unwrap().len(), 3);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
}
