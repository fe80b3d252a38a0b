//! The network of a sandbox as every provider makes it: which sockets it has, and what programs
//! inside are told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::{GATEWAY, NetworkSpec, PROXY_PORT, is_synthetic};

/// Listening sockets that one sandbox may have. Each is a descriptor of the guest.
const MAX_LISTENERS: usize = 40;

/// Where an SSH agent is reached, seen from the root.
pub const SSH_AGENT: &str = "/moat/ssh-agent.sock";

/// What programs ask who do not ask the proxy.
const RESOLVER_PORT: u16 = 53;

/// One bound socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoundSocket {
    /// TCP, listening; else UDP.
    pub stream: bool,
    /// The address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
}

/// The sockets of a network, in the order in which they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPlan {
    sockets: Vec<BoundSocket>,
    ssh_agent: bool,
}

/// Why a network cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NetworkPlanError(String);

impl NetworkPlan {
    /// What a sandbox is to have.
    ///
    /// # Errors
    /// An address that is not synthetic, no port, or more listeners than there may be.
    pub fn new(spec: &NetworkSpec) -> Result<Self, NetworkPlanError> {
        let refused = |message: String| NetworkPlanError(message);
        let everywhere: BTreeSet<u16> = spec.ports.iter().copied().collect();
        let own = [(GATEWAY, PROXY_PORT), (GATEWAY, RESOLVER_PORT)];
        let single = spec.addresses.iter().copied().chain(own);
        let single: BTreeSet<_> = single.filter(|(_, port)| !everywhere.contains(port)).collect();
        if let Some((address, port)) = single.iter().find(|(address, _)| !is_synthetic(*address)) {
            return Err(refused(format!("{address}:{port} is not within 198.18.0.0/15")));
        }
        let all = everywhere.iter().map(|port| (Ipv4Addr::UNSPECIFIED, *port)).chain(single);
        let mut sockets: Vec<_> =
            all.map(|(address, port)| BoundSocket { stream: true, address, port }).collect();
        if sockets.iter().any(|socket| socket.port == 0) {
            return Err(refused("0 is no port".to_owned()));
        }
        if sockets.len() > MAX_LISTENERS {
            let count = sockets.len();
            return Err(refused(format!("{count} listeners are more than {MAX_LISTENERS}")));
        }
        sockets.push(BoundSocket { stream: false, address: GATEWAY, port: RESOLVER_PORT });
        Ok(Self { sockets, ssh_agent: spec.ssh_agent })
    }

    /// The sockets that are bound to addresses.
    pub fn sockets(&self) -> &[BoundSocket] {
        &self.sockets
    }

    /// Whether commands find an SSH agent at [`SSH_AGENT`].
    pub fn has_ssh_agent(&self) -> bool {
        self.ssh_agent
    }

    /// How many descriptors the guest has of it.
    pub fn count(&self) -> usize {
        self.sockets.len() + usize::from(self.ssh_agent)
    }

    /// Variables by which programs find the network.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let proxy = format!("http://{GATEWAY}:{PROXY_PORT}");
        let mut all = BTreeMap::new();
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            all.insert(name.to_owned(), proxy.clone());
            all.insert(name.to_lowercase(), proxy.clone());
        }
        for name in ["NO_PROXY", "no_proxy"] {
            all.insert(name.to_owned(), "localhost,127.0.0.1,::1".to_owned());
        }
        if self.ssh_agent {
            all.insert("SSH_AUTH_SOCK".to_owned(), SSH_AGENT.to_owned());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_at_all_addresses_takes_the_place_of_the_same_port_at_one() {
        let spec = NetworkSpec {
            ports: vec![443, 443, 53],
            addresses: vec![(Ipv4Addr::new(198, 19, 1, 2), 443), (GATEWAY, 22)],
            ..NetworkSpec::default()
        };
        let network = NetworkPlan::new(&spec).unwrap();
        let streams: Vec<_> = network.sockets.iter().filter(|socket| socket.stream).collect();
        let ports: Vec<_> = streams.iter().map(|socket| (socket.address, socket.port)).collect();
        let all = Ipv4Addr::UNSPECIFIED;
        assert_eq!(ports, [(all, 53), (all, 443), (GATEWAY, 22), (GATEWAY, PROXY_PORT)]);
        assert_eq!(network.count(), 5);
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let refused = |spec: &NetworkSpec| NetworkPlan::new(spec).unwrap_err().to_string();
        for address in [[198, 17, 255, 255], [198, 20, 0, 0], [127, 0, 0, 1], [0, 0, 0, 0]] {
            let addresses = vec![(Ipv4Addr::from(address), 80)];
            let said = refused(&NetworkSpec { addresses, ..NetworkSpec::default() });
            assert!(said.contains("198.18.0.0/15"), "{said}");
        }
        assert!(
            refused(&NetworkSpec { ports: vec![0], ..NetworkSpec::default() }).contains("port")
        );
        let ports = (1..=40).collect();
        assert!(refused(&NetworkSpec { ports, ..NetworkSpec::default() }).contains("more than"));
    }
}
