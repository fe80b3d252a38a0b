use crate::policy::{DenyReason, Entry, NetworkPolicy, Preset, Rule};
use crate::secret::{SecretPlace, SecretSource, SecretSpec};

#[test]
fn rules_are_read_and_written() {
    for text in [
        "a.test",
        "*.a.test",
        "*",
        "https://a.test",
        "http://a.test:8080",
        "ssh://git.test:2222",
        "tcp://db.test:5432",
        "tcp://db.test+private:5432",
        "GET,POST api.test:8443/v1/x",
        "GET api.test/a%20b",
        "10.1.2.3:5432",
        "10.0.0.0/8:443,8443/v1",
        "[fd00::/8]:443",
        "[fd00::1]",
        "xn--bcher-kva.test",
    ] {
        let rule: Rule = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rule.to_string(), text);
    }
    for (text, written) in [
        ("A.Test.", "a.test"),
        (" a.test/ ", "a.test"),
        ("a.test/v1/", "a.test/v1"),
        ("WSS://a.test", "https://a.test"),
        ("POST,GET a.test", "GET,POST a.test"),
        ("0x7f.1", "127.0.0.1"),
        ("[::ffff:10.0.0.1]", "10.0.0.1"),
        ("a.test:443,80,443", "a.test:80,443"),
    ] {
        let rule: Rule = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rule.to_string(), written);
    }
}

#[test]
fn what_is_no_rule_says_why() {
    for (text, problem) in [
        ("", "names no host"),
        ("A b c", "one space"),
        ("get a.test", "capitals"),
        ("ftp://a.test", "schemes are"),
        ("tcp://a.test", "needs a port"),
        ("GET tcp://a.test:1", "methods and paths are of HTTP"),
        ("ssh://a.test/x", "methods and paths are of HTTP"),
        ("a.test:0", "ports are"),
        ("a.test:", "ports are"),
        ("a.test:+80", "ports are"),
        ("a.test:65536", "ports are"),
        ("a.test/v1/*", "prefix"),
        ("a.test/v1?x", "no `?`"),
        ("a.test/../x", "one way only"),
        ("user@a.test", "user name"),
        ("bücher.test", "xn--"),
        ("a.*.test", "letters, digits"),
        ("*a.test", "letters, digits"),
        ("10.0.0.1/8", "written `10.0.0.0/8`"),
        ("10.0.0.0/33", "IPv4 address"),
        ("10.0.0.1+private", "needs no `+private`"),
        ("1.2.3.4.5", "IPv4 address"),
        ("[::1", "no `]`"),
    ] {
        let error = text.parse::<Rule>().expect_err(text).to_string();
        assert!(error.contains(problem), "{text}: {error}");
        assert_eq!(error.lines().count(), 1);
    }
    let error = "preset:perl".parse::<Entry>().unwrap_err().to_string();
    assert!(error.contains("`preset:python`"), "{error}");
}

#[test]
fn presets_are_data_that_can_be_read() {
    for preset in Preset::all() {
        assert_eq!(preset.rules().len(), preset.hosts().count(), "{}", preset.name());
        let entry: Entry = format!("preset:{}", preset.name()).parse().unwrap();
        assert_eq!(entry, Entry::Preset(preset));
    }
}

#[test]
fn secrets_are_read_and_written() {
    for text in [
        "TOKEN=env:MY_TOKEN@api.test",
        "TOKEN@api.test",
        "T=file:/run/a@b;c,d@a.test,*.b.test:8443",
        "T=command:pass show x@y | head -1@http://a.test",
        "T=env:T@a.test;in=basic;in=header:x-key;in=query:key;in=body:a.b;in=body:*",
        "AWS=env:AWS@*.amazonaws.test;sign=aws",
        "AWS=env:AWS@*.amazonaws.test;sign=aws:eu-central-1:s3",
    ] {
        let spec: SecretSpec = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let again: SecretSpec = spec.to_string().parse().unwrap();
        assert_eq!(spec, again);
        assert_eq!(spec.to_string().len(), text.len());
    }
    let spec: SecretSpec = "T=file:/a@b@c.test;in=header:X-Key".parse().unwrap();
    assert_eq!(spec.source, Some(SecretSource::File("/a@b".into())));
    assert!(spec.places.contains(&SecretPlace::Header("x-key".to_owned())));
    for text in [
        "TOKEN",
        "TOKEN=env:X",
        "=env:X@a.test",
        "1T=env:X@a.test",
        "T=hunter2hunter2@a.test",
        "T=env:@a.test",
        "T=env:X@*",
        "T=env:X@",
        "T=env:X@ftp://a.test",
        "T=env:X@a.test:0",
        "T=env:X@a.test;in=cookie",
        "T=env:X@a.test;sign=aws;in=basic",
        "T=env:X@a.test;sign=gcp",
    ] {
        let error = text.parse::<SecretSpec>().expect_err(text).to_string();
        assert!(!error.contains("hunter2"), "a value that was typed is not repeated");
    }
}

#[test]
fn a_document_is_read_with_the_place_of_what_is_wrong() {
    let yaml = "allow:\n  - preset:python\n  - '!evil.test'\n  - GET api.test/v1\n\
                deny: [b.test]\nopen: [c.test]\nsecrets: [T=env:T@api.test]\n\
                limits:\n  requests: 10\n";
    let read: NetworkPolicy = serde_saphyr::from_str(yaml).unwrap();
    assert_eq!(read.allow.as_ref().map(Vec::len), Some(3));
    let json = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<NetworkPolicy>(&json).unwrap(), read);

    let error = serde_saphyr::from_str::<NetworkPolicy>("allow:\n  - a.test\n  - b.test:x\n");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("b.test:x") && error.contains("line 3"), "{error}");
    let error = serde_saphyr::from_str::<NetworkPolicy>("alow: []\n").unwrap_err().to_string();
    assert!(error.contains("alow") && error.contains("allow"), "{error}");
    let error = serde_json::from_str::<NetworkPolicy>(r#"{"limits":{"request":1}}"#).unwrap_err();
    assert!(error.to_string().contains("requests"), "{error}");

    // Absent and empty are two things.
    assert_eq!(serde_json::from_str::<NetworkPolicy>("{}").unwrap().allow, None);
    assert_eq!(
        serde_json::from_str::<NetworkPolicy>(r#"{"allow":[]}"#).unwrap().allow,
        Some(vec![])
    );
    let schema = serde_json::to_value(schemars::schema_for!(NetworkPolicy)).unwrap();
    assert_eq!(schema["properties"]["deny"]["items"]["type"], "string");
    assert_eq!(schema["additionalProperties"], false);
}

/// The reference names every preset with its hosts, every reason, and rules that can be read.
#[test]
fn the_reference_is_complete() {
    let reference = include_str!("../../../../../docs/network.md");
    for preset in Preset::all() {
        let row = format!("| `{}` |", preset.name());
        let row = reference.lines().find(|line| line.starts_with(&row)).unwrap();
        let hosts: Vec<&str> = row.split('`').filter(|part| part.contains('.')).collect();
        let wanted: Vec<&str> = preset.hosts().map(|(host, _)| host).collect();
        assert_eq!(hosts, wanted, "{}", preset.name());
    }
    for reason in DenyReason::ALL {
        assert!(reference.contains(&format!("`{reason}`")), "{reason}");
    }
    let yaml = reference.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let yaml = yaml.unwrap().replace("SHA256:…", &crate::sign::SshKey::of_blob(b"key").to_string());
    let document: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    let read: NetworkPolicy = serde_json::from_value(document["network"].clone()).unwrap();
    assert!(read.ssh_keys.is_some() && !read.limits.is_empty());
}
