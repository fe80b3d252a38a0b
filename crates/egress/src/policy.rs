//! What a sandbox may reach: rules, the levels that they come from, and the decisions.
//!
//! A [`NetworkPolicy`] is what one level says, in a file or on the command line.
//! [`Policy::compose`] puts the levels together: a lower one may only narrow what a higher one
//! allows. The [`Policy`] then answers, without any I/O: may this connection be made
//! ([`Policy::connect`]), may it lead to this address ([`Policy::address`]), may this request be
//! sent over it ([`Policy::request`]).

mod address;
pub(crate) mod check;
mod compose;
mod decide;
mod document;
mod host;
mod level;
mod parse;
mod path;
mod pattern;
mod ports;
mod preset;
mod rule;
mod suggest;
mod teach;
mod verdict;

#[cfg(test)]
mod tests;

pub use address::AddressClass;
pub use compose::ComposeError;
pub use document::{NetworkLimits, NetworkPolicy};
pub use host::{Host, HostError, HostName};
pub use level::Level;
pub use parse::{Entry, RuleError};
pub use path::RequestPath;
pub use pattern::HostPattern;
pub use ports::PortPlan;
pub use preset::Preset;
pub use rule::{Rule, Scheme};
pub use suggest::{Suggestion, policy_text, suggest};
pub use verdict::{Allowed, Denial, DenyReason, Handling, Verdict};

use std::collections::BTreeMap;

use crate::secret::SecretSpec;
use crate::sign::SshKey;
use level::LevelRules;

/// What a sandbox may reach, all levels together. The default lets nothing out.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Highest first.
    levels: Vec<LevelRules>,
    secrets: Vec<SecretSpec>,
    /// The highest level that says where the value of each secret is read.
    sources: BTreeMap<String, Level>,
    ssh_keys: Vec<SshKey>,
    limits: NetworkLimits,
}

impl Policy {
    /// The secrets, each once. One whose source is `None` was only asked for.
    pub fn secrets(&self) -> &[SecretSpec] {
        &self.secrets
    }

    /// The highest level that says where a secret's value is read; `None`: none does. An agent that
    /// somebody else wrote can name any variable, file or command of this host, so who reads values
    /// should ask a person about those that only the agent names.
    pub fn source_level(&self, secret: &str) -> Option<Level> {
        self.sources.get(secret).copied()
    }

    /// Names of secrets that no rule lets out to any of their hosts.
    pub fn unreachable_secrets(&self) -> Vec<&str> {
        let last = self.levels.iter().rev().find_map(|level| level.allow.as_ref());
        let rules = last.map(Vec::as_slice).unwrap_or_default();
        let is_reached = |secret: &&SecretSpec| {
            secret.hosts.iter().any(|own| {
                let mut hosts = rules.iter().map(|named| &named.rule.host);
                hosts.any(|host| host.covers(&own.host) || own.host.covers(host))
            })
        };
        let lost = self.secrets.iter().filter(|secret| !is_reached(secret));
        lost.map(|secret| secret.name.as_str()).collect()
    }

    /// Keys of the host's SSH agent that may be used.
    pub fn ssh_keys(&self) -> &[SshKey] {
        &self.ssh_keys
    }

    /// What may be used at most.
    pub fn limits(&self) -> NetworkLimits {
        self.limits
    }

    /// Whether anything at all may go out.
    pub fn allows_something(&self) -> bool {
        let mut allowing = self.levels.iter().filter_map(|level| level.allow.as_ref()).peekable();
        allowing.peek().is_some() && allowing.all(|rules| !rules.is_empty())
    }
}
