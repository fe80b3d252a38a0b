//! Denials in words: what was denied, and what would allow it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::address::AddressClass;
use super::host::Host;
use super::level::{Level, LevelRules, Named};
use super::path::PathPrefix;
use super::pattern::HostPattern;
use super::rule::{Attempt, Miss, Rule, Scheme};
use super::verdict::{Denial, DenyReason};

/// Characters of a path that are shown.
const MAX_SHOWN: usize = 256;

pub(super) fn denied_by(level: &LevelRules, named: &Named, attempt: Attempt<'_>) -> Denial {
    Denial {
        reason: DenyReason::DeniedByRule,
        rule: Some(format!("!{}", level.show(named))),
        teach: format!(
            "denied: {}; the rule `!{}` of the {} denies it",
            shown(attempt),
            named.written,
            level.level
        ),
    }
}

pub(super) fn not_allowed(level: Option<&LevelRules>, miss: Miss, attempt: Attempt<'_>) -> Denial {
    let is_ambiguous = attempt.request.is_some_and(|(_, path)| path.is_ambiguous());
    let reason = match (miss, attempt.host) {
        (Miss::Host, Host::Address(_)) => DenyReason::AddressLiteral,
        (Miss::Host, Host::Name(_)) => DenyReason::NotAllowed,
        (Miss::Port, _) => DenyReason::PortNotAllowed,
        (Miss::Scheme, _) => DenyReason::SchemeNotAllowed,
        (Miss::Method, _) => DenyReason::MethodNotAllowed,
        (Miss::Path, _) if is_ambiguous => DenyReason::AmbiguousPath,
        (Miss::Path, _) => DenyReason::PathNotAllowed,
    };
    let advice = match reason {
        DenyReason::AmbiguousPath => {
            "its path can be read in two ways (`..`, `//`, `%2f`, …); ask for the plain one".into()
        }
        _ => advice(level, &rule_for(attempt, miss)),
    };
    Denial { reason, rule: None, teach: format!("denied: {}; {advice}", shown(attempt)) }
}

pub(super) fn private_address(
    level: Option<&LevelRules>,
    attempt: Attempt<'_>,
    address: IpAddr,
    class: AddressClass,
) -> Denial {
    let rule = match class.is_private() {
        true => Rule { private: true, ..rule_for(attempt, Miss::Host) },
        false => rule_for(Attempt { host: &Host::Address(address), ..attempt }, Miss::Host),
    };
    let advice = advice(level, &rule);
    Denial {
        reason: DenyReason::PrivateAddress,
        rule: None,
        teach: format!(
            "denied: {} leads to the {class} address {address}; {advice}",
            shown(attempt)
        ),
    }
}

/// What would allow it, for who can: only the level that refuses, and those above, can be asked.
fn advice(level: Option<&LevelRules>, rule: &Rule) -> String {
    match level.map(|level| level.level) {
        None | Some(Level::Run | Level::Call) => format!("allow with {}", flag(rule)),
        Some(Level::Agent) => {
            format!("the agent does not allow it: add `{rule}` to `network.allow` of its AGENT.md")
        }
        Some(Level::Organisation) => {
            format!("the organisation's policy does not allow it: `{rule}` would")
        }
    }
}

/// As it is typed.
fn flag(rule: &Rule) -> String {
    let text = rule.to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:/,+@%=".contains(c);
    match text.chars().all(is_plain) {
        true => format!("`--net {text}`"),
        false => format!("`--net '{}'`", text.replace('\'', "'\\''")),
    }
}

/// The smallest rule that allows the attempt.
pub(super) fn rule_for(attempt: Attempt<'_>, miss: Miss) -> Rule {
    let host = match attempt.host {
        Host::Name(name) => HostPattern::Exact(name.clone()),
        Host::Address(address) => HostPattern::Addresses((*address).into()),
    };
    let port = attempt.port;
    let scheme = match (attempt.scheme, port) {
        (None, 22) => Some(Scheme::Ssh),
        (Some(scheme @ (Scheme::Ssh | Scheme::Tcp)), _) => Some(scheme),
        _ => None,
    };
    let is_default = match scheme {
        None => matches!(port, 80 | 443),
        Some(scheme) => scheme.default_port() == Some(port),
    };
    let ports = if is_default { BTreeSet::new() } else { BTreeSet::from([port]) };
    let rule = Rule { scheme, ports, ..Rule::host(host) };
    match attempt.request {
        Some((method, path)) if matches!(miss, Miss::Method | Miss::Path) => Rule {
            methods: BTreeSet::from([method.to_owned()]),
            path: PathPrefix::common([path]),
            ..rule
        },
        _ => rule,
    }
}

fn shown(attempt: Attempt<'_>) -> String {
    let mut text = match attempt.port {
        80 | 443 => attempt.host.to_string(),
        port => format!("{}:{port}", attempt.host),
    };
    if let Some((method, path)) = attempt.request {
        let path = PathPrefix::common([path]).map_or("/".to_owned(), |path| path.to_string());
        let path: String = path.chars().take(MAX_SHOWN).collect();
        let method: String = method.chars().take(32).flat_map(char::escape_default).collect();
        text = format!("{method} {text}{path}");
    }
    text
}
