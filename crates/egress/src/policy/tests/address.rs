use std::net::IpAddr;

use super::policy;
use crate::policy::{Host, Level, NetworkPolicy, Policy};

fn leads(policy: &Policy, host: &str, port: u16, address: &str) -> Result<(), String> {
    let host = Host::parse(host).unwrap();
    let address: IpAddr = address.parse().unwrap();
    policy.address(&host, port, address).map_err(|denial| denial.teach)
}

#[test]
fn a_rule_can_name_what_is_not_public() {
    let private = policy(&["db.test+private", "tcp://db.test+private:5432"]);
    assert_eq!(leads(&private, "db.test", 443, "10.0.0.1"), Ok(()));
    assert_eq!(leads(&private, "db.test", 5432, "127.0.0.1"), Ok(()));
    assert!(leads(&private, "db.test", 22, "10.0.0.1").is_err());
    assert!(leads(&private, "other.test", 443, "10.0.0.1").is_err());

    // A name may lead to what another rule names by number, at the ports of that rule.
    let by_number = policy(&["db.test", "169.254.169.254:80"]);
    assert_eq!(leads(&by_number, "db.test", 80, "169.254.169.254"), Ok(()));
    assert_eq!(leads(&by_number, "db.test", 80, "::ffff:169.254.169.254"), Ok(()));
    assert!(leads(&by_number, "db.test", 443, "169.254.169.254").is_err());

    let literal = policy(&["10.1.2.3"]);
    assert_eq!(leads(&literal, "10.1.2.3", 443, "10.1.2.3"), Ok(()));
}

#[test]
fn every_level_has_to_name_it() {
    let level = |rules: &[&str]| NetworkPolicy::allowing(rules).unwrap();
    let levels = |rules: &[&str]| {
        [(Level::Organisation, level(&["*.test", "10.0.0.0/8"])), (Level::Run, level(rules))]
    };
    let policy = Policy::compose(levels(&["db.test", "10.0.0.1"])).unwrap();
    assert_eq!(leads(&policy, "db.test", 443, "10.0.0.1"), Ok(()));
    assert!(leads(&policy, "db.test", 443, "10.0.0.2").is_err());
    assert!(Policy::compose(levels(&["db.test+private"])).is_err());
}

#[test]
fn the_denial_says_what_would_allow_it() {
    let plain = policy(&["db.test"]);
    assert_eq!(
        leads(&plain, "db.test", 443, "10.0.0.1").unwrap_err(),
        "denied: db.test leads to the private address 10.0.0.1; allow with \
         `--net db.test+private`"
    );
    assert_eq!(
        leads(&plain, "db.test", 80, "169.254.169.254").unwrap_err(),
        "denied: db.test leads to the metadata address 169.254.169.254; allow with \
         `--net 169.254.169.254`"
    );
}
