//! The decisions as a table. Every case names the check that it depends on, and is run a second
//! time without it: then the answer has to be another one.

mod address;
mod cases;
mod compose;
mod document;
mod properties;
mod suggest;

use super::check::{Check, without};
use super::*;

/// What a case asks.
pub(super) enum Ask {
    /// `connect HOST PORT [SCHEME]`
    Connect(&'static str, u16, Option<Scheme>),
    /// `SCHEME METHOD HOST PORT PATH`
    Request(Scheme, &'static str, &'static str, u16, &'static str),
    /// `HOST PORT ADDRESS`
    Address(&'static str, u16, &'static str),
}

pub(super) struct Case {
    pub(super) name: &'static str,
    /// Rules of the run, `!` denies.
    pub(super) rules: &'static [&'static str],
    pub(super) ask: Ask,
    /// The answer in short: `tunnel`, `open`, `raw`, `ok` or a reason.
    pub(super) answer: &'static str,
    /// The check without which the answer is another one.
    pub(super) check: Check,
}

pub(super) fn policy(rules: &[&str]) -> Policy {
    let document = NetworkPolicy::allowing(rules).expect("the rules are rules");
    Policy::compose([(Level::Run, document)]).expect("one level always composes")
}

fn short(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allow(allowed) => format!("{:?}", allowed.handling).to_lowercase(),
        Verdict::Deny(denial) => denial.reason.to_string(),
    }
}

fn answer(case: &Case) -> String {
    let policy = policy(case.rules);
    let parse = |host: &str| Host::parse(host).map_err(|_| "invalid_host".to_owned());
    let asked = match &case.ask {
        Ask::Connect(host, port, scheme) => {
            parse(host).map(|host| short(policy.connect(&host, *port, *scheme)))
        }
        Ask::Request(scheme, method, host, port, path) => parse(host).map(|host| {
            short(policy.request(&host, *port, *scheme, method, &RequestPath::parse(path)))
        }),
        Ask::Address(host, port, address) => parse(host).map(|host| {
            let address = address.parse().expect("an address");
            match policy.address(&host, *port, address) {
                Ok(()) => "ok".to_owned(),
                Err(denial) => denial.reason.to_string(),
            }
        }),
    };
    asked.unwrap_or_else(|reason| reason)
}

#[test]
fn every_case_is_as_said_and_fails_with_its_check_off() {
    let mut wrong = Vec::new();
    for case in cases::CASES {
        let with = answer(case);
        let off = without(case.check, || answer(case));
        println!("{:<58} {:<20} without {:?}: {off}", case.name, with, case.check);
        if with != case.answer {
            wrong.push(format!("{}: {with} instead of {}", case.name, case.answer));
        }
        if off == case.answer {
            wrong.push(format!("{}: still {off} without {:?}", case.name, case.check));
        }
    }
    println!("{} cases, each with its check on and off", cases::CASES.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
