mod requests;
mod responses;

use std::collections::BTreeMap;

use moat_core::Secret;

use super::*;
use crate::policy::{Host, Scheme};

/// A value with everything in it that is escaped somewhere.
pub(super) const VALUE: &str = "s3cr3t/t+k&n=\"<é>'42";

pub(super) fn set(specs: &[(&str, &str)]) -> SecretSet {
    let parsed: Vec<SecretSpec> = specs.iter().map(|(spec, _)| spec.parse().unwrap()).collect();
    let values: BTreeMap<String, Secret> = parsed
        .iter()
        .zip(specs)
        .filter(|(_, (_, value))| !value.is_empty())
        .map(|(spec, (_, value))| (spec.name.clone(), Secret::new(*value)))
        .collect();
    SecretSet::new(&parsed, &LineageKey::new([7; 32]), values).unwrap()
}

pub(super) fn towards(set: &SecretSet, host: &str) -> Towards {
    set.towards(&Host::parse(host).unwrap(), 443, Scheme::Https)
}

pub(super) fn placeholder(set: &SecretSet, name: &str) -> String {
    set.environment()[name].clone()
}

#[test]
fn a_placeholder_belongs_to_a_lineage_and_a_name() {
    let key = LineageKey::new([1; 32]);
    let token = Placeholder::derive(&key, "TOKEN");
    assert_eq!(token, Placeholder::derive(&key, "TOKEN"));
    assert_ne!(token, Placeholder::derive(&key, "OTHER"));
    assert_ne!(token, Placeholder::derive(&LineageKey::new([2; 32]), "TOKEN"));
    let text = token.as_str();
    assert!(text.starts_with("moatsecret") && text.len() == 42, "{text}");
    assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
    // Runs that were started by earlier versions have it in their environment and conversation.
    assert_eq!(text, "moatsecretmhjkn6naqs3fuebnyd5gbar4epdmjzip");
}

#[test]
fn values_that_cannot_be_kept_are_refused() {
    let spec: SecretSpec = "TOKEN=env:T@a.test".parse().unwrap();
    let new = |spec: &SecretSpec, value: &str| {
        let values = BTreeMap::from([(spec.name.clone(), Secret::new(value))]);
        SecretSet::new(std::slice::from_ref(spec), &LineageKey::new([7; 32]), values)
    };
    assert!(new(&spec, "0123456789\r\n").is_ok());
    for bad in ["short", "two\nlines in it", "a zero \0 in it", ""] {
        let error = new(&spec, bad).unwrap_err().to_string();
        assert!(error.contains("`TOKEN`") && (bad.is_empty() || !error.contains(bad)), "{error}");
    }
    let aws: SecretSpec = "AWS=env:T@a.test;sign=aws".parse().unwrap();
    assert!(matches!(new(&aws, "no colon in here"), Err(SecretValueError::Credentials { .. })));
    let set = new(&spec, VALUE).unwrap();
    assert_eq!(format!("{set:?}"), r#"{"TOKEN"}"#);
}
