//! From what a run wanted of the network to the smallest policy that allows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use moat_core::EgressDecision;

use super::document::NetworkPolicy;
use super::host::Host;
use super::parse::Entry;
use super::path::{PathPrefix, RequestPath};
use super::pattern::HostPattern;
use super::preset::Preset;
use super::rule::{Rule, Scheme};
use super::verdict::DenyReason;
use crate::secret::{SecretHost, SecretSpec};
use crate::sign::SshKey;

/// Rules that are proposed at most; a program inside can ask for as many hosts as it likes.
const MAX_RULES: usize = 500;

/// What a run would have needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suggestion {
    /// The smallest policy that allows what was used and what was refused only because no rule
    /// allowed it. What the policy that there was denied, opened and limited stays so. Secrets are by
    /// name, with source and places of that policy.
    pub policy: NetworkPolicy,
    /// For each rule, what it is for.
    pub reasons: Vec<(String, String)>,
    /// What is not proposed, and why: each needs a person to think about it.
    pub notes: Vec<String>,
}

/// What was seen of one host over one protocol.
#[derive(Default)]
struct Use {
    ports: BTreeSet<u16>,
    methods: BTreeSet<String>,
    paths: Vec<RequestPath>,
    /// A connection whose requests were not seen.
    is_unseen: bool,
    is_private: bool,
    times: u64,
    refused: u64,
    sent: u64,
    received: u64,
}

/// Proposes the smallest policy for these decisions. `existing` is the policy that there was.
pub fn suggest<'a>(
    decisions: impl IntoIterator<Item = &'a EgressDecision>,
    existing: Option<&NetworkPolicy>,
) -> Suggestion {
    let mut uses: BTreeMap<(Host, Scheme), Use> = BTreeMap::new();
    let mut secrets: BTreeMap<String, BTreeSet<(HostPattern, bool)>> = BTreeMap::new();
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    let mut keys: BTreeSet<SshKey> = BTreeSet::new();
    for decision in decisions {
        let Ok(host) = Host::parse(&decision.host) else {
            add(&mut refused, "something that is no host".to_owned(), decision.count);
            continue;
        };
        if decision.port == 0 {
            keys.extend(login_key(decision));
            continue;
        }
        let Some(scheme) = scheme(decision) else { continue };
        match not_proposed(decision, &host) {
            Some(note) => add(&mut refused, note, decision.count),
            None => {
                let is_plain = scheme == Scheme::Http;
                for name in &decision.secrets {
                    let hosts = secrets.entry(name.clone()).or_default();
                    hosts.insert((pattern(&host), is_plain));
                }
                uses.entry((host, scheme)).or_default().add(decision);
            }
        }
    }
    let mut suggestion = Suggestion::default();
    suggestion.add_rules(uses);
    suggestion.add_secrets(secrets, existing);
    suggestion.policy.ssh_keys = (!keys.is_empty()).then(|| keys.into_iter().collect());
    if let Some(existing) = existing {
        suggestion.keep_restrictions(existing);
    }
    suggestion.notes.extend(refused.into_iter().map(|(note, times)| format!("{note} ({times} ×)")));
    suggestion
}

fn add(notes: &mut BTreeMap<String, u64>, note: String, count: u64) {
    if notes.len() < MAX_RULES || notes.contains_key(&note) {
        *notes.entry(note).or_default() += count.max(1);
    }
}

/// `None`: nothing was to be decided about (a name was looked up), or it is not known. A connection
/// that was refused before it said anything is taken for what its port is for.
fn scheme(decision: &EgressDecision) -> Option<Scheme> {
    match (decision.protocol.as_str(), decision.port) {
        ("http", _) => Some(Scheme::Http),
        ("https" | "tls", _) => Some(Scheme::Https),
        ("ssh", _) => Some(Scheme::Ssh),
        ("tcp", port) if !decision.allowed => {
            let usual = [Scheme::Http, Scheme::Https, Scheme::Ssh].into_iter();
            let mut usual = usual.filter(|scheme| scheme.default_port() == Some(port));
            Some(usual.next().unwrap_or(Scheme::Tcp))
        }
        ("tcp", _) => Some(Scheme::Tcp),
        _ => None,
    }
}

/// The key of a login that the SSH agent signed: `login as USER with KEY`, of no host and port.
fn login_key(decision: &EgressDecision) -> Option<SshKey> {
    let (_, key) = decision.rule.as_deref().filter(|_| decision.allowed)?.rsplit_once(" with ")?;
    key.parse().ok()
}

fn pattern(host: &Host) -> HostPattern {
    match host {
        Host::Name(name) => HostPattern::Exact(name.clone()),
        Host::Address(address) => HostPattern::Addresses((*address).into()),
    }
}

/// Why a refused decision is none that a rule should allow without a person's thought.
fn not_proposed(decision: &EgressDecision, host: &Host) -> Option<String> {
    if decision.allowed {
        return None;
    }
    let word = decision.reason.as_deref().unwrap_or_default();
    let Some(reason) = DenyReason::ALL.iter().find(|reason| reason.as_str() == word) else {
        return Some(format!("{host}: refused for a reason that is not known here"));
    };
    match reason {
        DenyReason::NotAllowed
        | DenyReason::PortNotAllowed
        | DenyReason::SchemeNotAllowed
        | DenyReason::MethodNotAllowed
        | DenyReason::PathNotAllowed => None,
        // Who denies everything only wants to see what is asked for.
        DenyReason::DeniedByRule
            if decision.rule.as_deref().is_some_and(|rule| rule.starts_with("!* (")) =>
        {
            None
        }
        DenyReason::UnknownProtocol => {
            let port = decision.port;
            Some(format!("{host}: neither HTTP nor TLS; `tcp://{host}:{port}` would allow it"))
        }
        DenyReason::AddressLiteral => {
            Some(format!("{host}:{}: an address by number; `{host}` would allow it", decision.port))
        }
        DenyReason::PrivateAddress => {
            Some(format!("{host}: leads to an address inside; `{host}+private` would allow it"))
        }
        other => Some(format!("{host}: {other}")),
    }
}

impl Use {
    fn add(&mut self, decision: &EgressDecision) {
        let count = decision.count.max(1);
        self.ports.insert(decision.port);
        self.times += count;
        self.sent = self.sent.saturating_add(decision.sent);
        self.received = self.received.saturating_add(decision.received);
        if !decision.allowed {
            self.refused += count;
        }
        // As it is shown in journals: `RULE (LEVEL)`.
        let rule = decision.rule.as_deref().and_then(|shown| shown.rsplit_once(" ("));
        let rule = rule.and_then(|(rule, _)| rule.parse::<Rule>().ok());
        self.is_private |= rule.is_some_and(|rule| rule.private);
        match (&decision.method, &decision.path) {
            (Some(method), Some(path)) => {
                self.methods.insert(method.clone());
                self.paths.push(RequestPath::parse(path));
            }
            _ => self.is_unseen = true,
        }
    }

    /// The smallest rule; methods and a common path where every request was seen.
    fn rule(&self, host: &Host, scheme: Scheme) -> Rule {
        let is_default = self.ports.iter().all(|port| scheme.default_port() == Some(*port));
        let rule = Rule {
            scheme: Some(scheme),
            ports: if is_default { BTreeSet::new() } else { self.ports.clone() },
            private: self.is_private,
            ..Rule::host(pattern(host))
        };
        let is_web = matches!(scheme, Scheme::Http | Scheme::Https);
        // Methods come from inside; only those that a rule can name.
        let is_method = |method: &String| {
            let is_allowed = |byte: u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
            !method.is_empty() && method.len() <= 32 && method.bytes().all(is_allowed)
        };
        if self.is_unseen
            || !is_web
            || self.methods.len() > 8
            || !self.methods.iter().all(is_method)
        {
            return rule;
        }
        Rule { methods: self.methods.clone(), path: PathPrefix::common(&self.paths), ..rule }
    }

    fn reason(&self) -> String {
        let mut reason = format!("{} ×", self.times);
        if self.refused > 0 {
            let _ = write!(reason, ", {} of them refused", self.refused);
        }
        if self.sent + self.received > 0 {
            let _ = write!(reason, ", {} bytes out, {} in", self.sent, self.received);
        }
        reason
    }
}

impl Suggestion {
    fn add_rules(&mut self, uses: BTreeMap<(Host, Scheme), Use>) {
        let total = uses.len();
        let mut allow = Vec::new();
        for ((host, scheme), seen) in uses.into_iter().take(MAX_RULES) {
            let rule = seen.rule(&host, scheme);
            self.reasons.push((rule.to_string(), seen.reason()));
            allow.push(Entry::Allow(rule));
        }
        if total > MAX_RULES {
            self.notes.push(format!("{} more hosts are left out", total - MAX_RULES));
        }
        for preset in Preset::all() {
            let hosts: Vec<&str> = preset.hosts().map(|(host, _)| host).collect();
            let is_of_it = |entry: &&Entry| match entry {
                Entry::Allow(rule) => hosts.contains(&rule.host.to_string().as_str()),
                _ => false,
            };
            let shared = allow.iter().filter(is_of_it).count();
            if shared > 1 {
                let name = preset.name();
                self.notes.push(format!("`preset:{name}` would stand for {shared} of these rules"));
            }
        }
        self.policy.allow = Some(allow);
    }

    /// What the policy that there was keeps from going out stays so: what is proposed allows no more
    /// than was asked for. But for `!*`, which is there to see what that is.
    fn keep_restrictions(&mut self, existing: &NetworkPolicy) {
        let is_all = |rule: &Rule| rule.to_string() == "*";
        let allow = self.policy.allow.get_or_insert_default();
        let hosts: Vec<HostPattern> = allow
            .iter()
            .filter_map(|entry| match entry {
                Entry::Allow(rule) => Some(rule.hosts().clone()),
                Entry::Deny(_) | Entry::Preset(_) => None,
            })
            .collect();
        let denies = |entry: &&Entry| matches!(entry, Entry::Deny(rule) if !is_all(rule));
        allow.extend(existing.allow.iter().flatten().filter(denies).cloned());
        self.policy.deny = existing.deny.iter().filter(|rule| !is_all(rule)).cloned().collect();
        let is_used = |open: &&HostPattern| hosts.iter().any(|host| open.covers(host));
        self.policy.open = existing.open.iter().filter(is_used).cloned().collect();
        self.policy.limits = existing.limits;
    }

    fn add_secrets(
        &mut self,
        secrets: BTreeMap<String, BTreeSet<(HostPattern, bool)>>,
        existing: Option<&NetworkPolicy>,
    ) {
        for (name, hosts) in secrets {
            let known = existing
                .and_then(|policy| policy.secrets.iter().find(|secret| secret.name == name));
            let host = |(host, plain)| SecretHost { host, port: None, plain };
            self.policy.secrets.push(SecretSpec {
                name,
                source: known.and_then(|known| known.source.clone()),
                hosts: hosts.into_iter().map(host).collect(),
                places: known.map(|known| known.places.clone()).unwrap_or_default(),
                sign: known.and_then(|known| known.sign.clone()),
            });
        }
    }
}

/// A policy as text in one fixed form, for `AGENT.md` and for comparing: equal policies have equal
/// texts, and each entry has its own line.
pub fn policy_text(policy: &NetworkPolicy) -> String {
    let mut text = "network:\n".to_owned();
    let mut list = |name: &str, entries: Option<Vec<String>>| {
        let Some(mut entries) = entries else { return };
        entries.sort_unstable();
        entries.dedup();
        match entries.is_empty() {
            true => text.push_str(&format!("  {name}: []\n")),
            false => text.push_str(&format!("  {name}:\n")),
        }
        for entry in entries {
            text.push_str(&format!("    - '{}'\n", entry.replace('\'', "''")));
        }
    };
    fn texts<T: ToString>(entries: &[T]) -> Vec<String> {
        entries.iter().map(T::to_string).collect()
    }
    let some = |entries: Vec<String>| Some(entries).filter(|entries| !entries.is_empty());
    list("allow", policy.allow.as_deref().map(texts));
    list("deny", some(texts(&policy.deny)));
    list("open", some(texts(&policy.open)));
    list("secrets", some(texts(&policy.secrets)));
    list("ssh_keys", policy.ssh_keys.as_deref().map(texts));
    let limits = policy.limits.each();
    if !policy.limits.is_empty() {
        text.push_str("  limits:\n");
    }
    for (name, limit) in limits {
        if let Some(limit) = limit {
            text.push_str(&format!("    {name}: {limit}\n"));
        }
    }
    text
}
