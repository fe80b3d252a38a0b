use super::policy;
use crate::policy::check::{Check, without};
use crate::policy::{
    ComposeError, Handling, Host, Level, NetworkLimits, NetworkPolicy, Policy, RequestPath, Scheme,
    Verdict,
};

fn rules(texts: &[&str]) -> NetworkPolicy {
    NetworkPolicy::allowing(texts).unwrap()
}

fn two(higher: &[&str], lower: &[&str]) -> Result<Policy, ComposeError> {
    Policy::compose([(Level::Agent, rules(lower)), (Level::Organisation, rules(higher))])
}

#[test]
fn widening_is_refused_and_names_both_rules() {
    let error = two(&["*.good.test", "pypi.org"], &["pypi.org", "evil.test"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the rule `evil.test` of the agent allows more than the organisation does, whose nearest \
         rule is `*.good.test`; a lower level can only narrow"
    );
    let error = two(&["*.test", "!*.evil.test"], &["a.evil.test"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the rule `a.evil.test` of the agent allows what the rule `!*.evil.test` of the \
         organisation denies; a lower level can only narrow"
    );
    let widened = without(Check::Narrowing, || two(&["a.test"], &["b.test"]));
    assert!(widened.is_ok(), "the check is what refuses");
}

#[test]
fn what_narrows_and_what_widens() {
    let cases: &[(&[&str], &[&str], bool)] = &[
        (&["*"], &["a.test"], true),
        (&["*"], &["10.0.0.1"], false),
        (&["*.test"], &["*.a.test"], true),
        (&["*.a.test"], &["*.test"], false),
        (&["*.a.test"], &["a.test"], false),
        (&["a.test"], &["https://a.test"], true),
        (&["https://a.test"], &["a.test"], false),
        // Two rules together are enough for one.
        (&["https://a.test", "http://a.test", "a.test:80,443"], &["a.test"], true),
        (&["a.test:443", "a.test:80"], &["a.test"], true),
        (&["a.test:443"], &["a.test:443,8443"], false),
        (&["GET a.test", "POST a.test"], &["GET,POST a.test"], true),
        (&["GET a.test"], &["a.test"], false),
        (&["a.test/v1"], &["a.test/v1/x"], true),
        (&["a.test/v1"], &["a.test/v10"], false),
        (&["a.test/v1"], &["a.test"], false),
        (&["tcp://a.test:443"], &["https://a.test"], true),
        (&["a.test"], &["tcp://a.test:443"], false),
        (&["a.test"], &["a.test+private"], false),
        (&["a.test+private"], &["a.test"], true),
        (&["10.0.0.0/8"], &["10.1.0.0/16"], true),
        (&["10.1.0.0/16"], &["10.0.0.0/8"], false),
        (&["preset:python"], &["https://pypi.org"], true),
        (&["https://pypi.org"], &["preset:python"], false),
        (&[], &["a.test"], false),
        // In part denied is narrower; wholly denied was meant otherwise.
        (&["*.test", "!a.test"], &["*.test"], true),
        (&["*.test", "!a.test/admin"], &["a.test"], true),
        (&["*.test", "!a.test/admin"], &["a.test/admin/x"], false),
    ];
    for (higher, lower, narrows) in cases {
        let composed = two(higher, lower);
        assert_eq!(composed.is_ok(), *narrows, "{higher:?} {lower:?}: {composed:?}");
    }
}

#[test]
fn a_level_that_says_nothing_changes_nothing() {
    let host = Host::parse("a.test").unwrap();
    let allowed = |policy: &Policy| policy.connect(&host, 443, None).is_allowed();
    assert!(!allowed(&Policy::default()));
    let silent = || NetworkPolicy::default();
    let only_run = [(Level::Organisation, silent()), (Level::Run, rules(&["a.test"]))];
    assert!(allowed(&Policy::compose(only_run).unwrap()));
    let only_agent = [(Level::Agent, rules(&["a.test"])), (Level::Run, silent())];
    assert!(allowed(&Policy::compose(only_agent).unwrap()));
    let nothing = [(Level::Agent, rules(&["a.test"])), (Level::Run, rules(&[]))];
    assert!(!allowed(&Policy::compose(nothing).unwrap()));
    // Who only denies grants nothing.
    let deny = NetworkPolicy { deny: vec!["b.test".parse().unwrap()], ..silent() };
    assert!(!allowed(&Policy::compose([(Level::Run, deny)]).unwrap()));
}

#[test]
fn every_level_is_asked() {
    let levels = || {
        let organisation = rules(&["GET *.test/public"]);
        [(Level::Organisation, organisation), (Level::Run, rules(&["a.test"]))]
    };
    // Composed with the narrowing off, the decision alone has to hold.
    let policy = without(Check::Narrowing, || Policy::compose(levels())).unwrap();
    let host = Host::parse("a.test").unwrap();
    let ask = |path: &str| {
        let verdict = policy.request(&host, 443, Scheme::Https, "GET", &RequestPath::parse(path));
        verdict.is_allowed()
    };
    assert!(ask("/public/x"));
    assert!(!ask("/private"));
    assert!(without(Check::EveryLevel, || ask("/private")));
    // And the strictest level says what is opened.
    let Verdict::Allow(allowed) = policy.connect(&host, 443, None) else { panic!("it is allowed") };
    assert_eq!((allowed.handling, allowed.rule.as_str()), (Handling::Open, "a.test (run)"));
}

#[test]
fn limits_secrets_and_keys_only_narrow() {
    let limited = |requests| NetworkPolicy {
        limits: NetworkLimits { requests: Some(requests), ..NetworkLimits::default() },
        ..NetworkPolicy::default()
    };
    let composed = Policy::compose([(Level::Agent, limited(10)), (Level::Run, limited(5))]);
    assert_eq!(composed.unwrap().limits().requests, Some(5));
    let error = Policy::compose([(Level::Agent, limited(10)), (Level::Run, limited(11))]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "the limit `requests: 11` of the run is above `requests: 10` of the agent; a lower level \
         can only narrow"
    );

    let secret = |text: &str| NetworkPolicy {
        secrets: vec![text.parse().unwrap()],
        ..NetworkPolicy::default()
    };
    let both = |agent: &str, run: &str| {
        Policy::compose([(Level::Agent, secret(agent)), (Level::Run, secret(run))])
    };
    let composed = both("TOKEN@*.a.test", "TOKEN=env:MINE@api.a.test").unwrap();
    assert_eq!(composed.secrets().len(), 1);
    assert_eq!(composed.source_level("TOKEN"), Some(Level::Run));
    assert_eq!(composed.unreachable_secrets(), ["TOKEN"]);
    assert_eq!(composed.secrets()[0].to_string(), "TOKEN=env:MINE@api.a.test");
    for (agent, run) in [
        ("TOKEN@a.test", "TOKEN=env:MINE@b.test"),
        ("TOKEN=env:A@a.test", "TOKEN=env:B@a.test"),
        ("TOKEN@a.test", "TOKEN=env:MINE@http://a.test"),
        ("TOKEN@a.test;in=header:x-key", "TOKEN=env:MINE@a.test;in=query:key"),
    ] {
        let error = both(agent, run).unwrap_err();
        assert!(matches!(error, ComposeError::Secret { .. }), "{agent} {run}: {error}");
    }

    let alone = |level, text| Policy::compose([(level, secret(text))]).map(|_| ());
    for (level, text, is_fine) in [
        (Level::Organisation, "T=command:pass t@a.test", true),
        (Level::Agent, "T=env:T@a.test", true),
        (Level::Agent, "T=file:/etc/shadow@a.test", false),
        (Level::Agent, "T=command:rm -rf /@a.test", false),
        (Level::Run, "T=file:t@a.test", true),
        (Level::Call, "T=env:T@a.test", false),
        (Level::Call, "T@a.test", true),
    ] {
        assert_eq!(alone(level, text).is_ok(), is_fine, "{level} {text}");
        assert!(without(Check::Sources, || alone(level, text)).is_ok());
    }

    let keys = |n: &[u8]| NetworkPolicy {
        ssh_keys: Some(n.iter().map(|n| crate::sign::SshKey::of_blob(&[*n])).collect()),
        ..NetworkPolicy::default()
    };
    let composed = Policy::compose([(Level::Agent, keys(&[1, 2])), (Level::Run, keys(&[2]))]);
    assert_eq!(composed.unwrap().ssh_keys().len(), 1);
    assert!(Policy::compose([(Level::Agent, keys(&[1])), (Level::Run, keys(&[2]))]).is_err());
}

#[test]
fn secrets_and_wishes_open_their_hosts_only() {
    let document = NetworkPolicy {
        secrets: vec!["T=env:T@a.test".parse().unwrap()],
        open: vec!["c.test".parse().unwrap()],
        ..rules(&["*.test", "*.test:8443", "tcp://a.test:5432"])
    };
    let policy = Policy::compose([(Level::Run, document)]).unwrap();
    assert!(policy.unreachable_secrets().is_empty());
    let handling = |host: &str, port| {
        let verdict = policy.connect(&Host::parse(host).unwrap(), port, None);
        verdict.into_result().map(|allowed| allowed.handling).ok()
    };
    assert_eq!(handling("a.test", 443), Some(Handling::Open));
    assert_eq!(handling("a.test", 8443), Some(Handling::Open));
    assert_eq!(handling("a.test", 5432), Some(Handling::Raw));
    assert_eq!(handling("b.test", 443), Some(Handling::Tunnel));
    assert_eq!(handling("c.test", 443), Some(Handling::Open));
}

#[test]
fn denials_teach_whoever_can_change_it() {
    let host = Host::parse("pypi.org").unwrap();
    let teach = |policy: &Policy, port| policy.connect(&host, port, None).into_result();
    let run = policy(&["a.test"]);
    assert_eq!(
        teach(&run, 443).unwrap_err().teach,
        "denied: pypi.org; allow with `--net pypi.org`"
    );
    assert_eq!(
        teach(&run, 8443).unwrap_err().teach,
        "denied: pypi.org:8443; allow with `--net pypi.org:8443`"
    );
    assert_eq!(
        teach(&run, 22).unwrap_err().teach,
        "denied: pypi.org:22; allow with `--net ssh://pypi.org`"
    );
    let agent = Policy::compose([(Level::Agent, rules(&["a.test"]))]).unwrap();
    assert_eq!(
        teach(&agent, 443).unwrap_err().teach,
        "denied: pypi.org; the agent does not allow it: add `pypi.org` to `network.allow` of its \
         AGENT.md"
    );
    let narrow = policy(&["GET pypi.org/simple"]);
    let path = RequestPath::parse("/legacy/'x'");
    let verdict = narrow.request(&host, 443, Scheme::Https, "POST", &path);
    assert_eq!(
        verdict.into_result().unwrap_err().teach,
        "denied: POST pypi.org/legacy/'x'; allow with `--net 'POST pypi.org/legacy/'\\''x'\\'''`"
    );
}

#[test]
fn ports_are_planned() {
    let plan = policy(&[
        "a.test",
        "tcp://db.test:5432,6543",
        "*.b.test:8443",
        "ssh://c.test:222",
        "10.0.0.1:9999",
    ])
    .ports();
    assert_eq!(Vec::from_iter(plan.every), [22, 80, 222, 443]);
    let single: Vec<String> =
        plan.single.iter().map(|(name, port)| format!("{name}:{port}")).collect();
    assert_eq!(single, ["db.test:5432", "db.test:6543"]);
    assert_eq!(Vec::from_iter(plan.wildcard), [8443]);
}
