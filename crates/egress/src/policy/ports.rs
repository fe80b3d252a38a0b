//! Which ports have to be listened on inside a sandbox, so that what is allowed can be reached and
//! what is not can be told so.

use std::collections::BTreeSet;

use super::Policy;
use super::host::HostName;
use super::pattern::HostPattern;

/// Ports that are listened on whatever is allowed, so that a denial is an answer and not silence.
const ALWAYS: [u16; 3] = [22, 80, 443];
/// From here on a port that is listened on at all addresses is taken from programs inside.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Which ports have to be listened on inside a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortPlan {
    /// At every synthetic address; below 1024.
    pub every: BTreeSet<u16>,
    /// At the address of one name; from 1024 on.
    pub single: BTreeSet<(HostName, u16)>,
    /// From 1024 on, and allowed for names that are not known beforehand (`*.example.com:8443`).
    /// Listened on at every address, they are taken from programs inside that want to listen at
    /// all addresses; otherwise they are reached through the proxy's variables only.
    pub wildcard: BTreeSet<u16>,
}

impl Policy {
    /// Which ports have to be listened on inside a sandbox. Addresses by number are reached through
    /// the proxy's variables only.
    pub fn ports(&self) -> PortPlan {
        let mut plan = PortPlan { every: BTreeSet::from(ALWAYS), ..PortPlan::default() };
        // The last level that allows is within all the others.
        let last = self.levels.iter().rev().find_map(|level| level.allow.as_ref());
        for named in last.into_iter().flatten() {
            for port in named.rule.allowed_ports() {
                match &named.rule.host {
                    HostPattern::Addresses(_) => {}
                    _ if port < FIRST_UNPRIVILEGED => {
                        plan.every.insert(port);
                    }
                    HostPattern::Exact(name) => {
                        plan.single.insert((name.clone(), port));
                    }
                    HostPattern::Beneath(_) | HostPattern::AnyName => {
                        plan.wildcard.insert(port);
                    }
                }
            }
        }
        plan
    }
}
