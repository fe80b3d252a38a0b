//! The network of a sandbox: addresses that lead nowhere but to sockets that the harness holds.
//!
//! 198.18.0.0/15 is local to the sandbox's loopback device. The launcher binds the sockets, because
//! it still may, and passes them to the guest, which keeps them and hands them to whoever owns the
//! sandbox. There is no route to anywhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use moat_sandbox::{GATEWAY, NetworkSpec, PROXY_PORT, SYNTHETIC_PREFIX, is_synthetic};

use crate::launcher::StepFailed;
use crate::plan::{Plan, Slot, Step};

/// Listening sockets that one sandbox may have. Each is a descriptor of the guest.
const MAX_LISTENERS: usize = 40;

/// Where an SSH agent is reached, seen from the root.
pub(crate) const SSH_AGENT: &str = "/moat/ssh-agent.sock";

/// What programs ask who do not ask the proxy.
const RESOLVER_PORT: u16 = 53;

/// What `/etc/resolv.conf` says where there is a network. Only the harness answers, so there is
/// nobody else to ask after the time-out.
pub(crate) const RESOLV_CONF: &str = "nameserver 198.18.0.1\noptions timeout:5 attempts:2\n";

/// One bound socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bound {
    stream: bool,
    address: Ipv4Addr,
    port: u16,
}

/// The sockets of a network, in the order in which they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    sockets: Vec<Bound>,
    ssh_agent: bool,
}

impl Network {
    /// What a sandbox is to have.
    pub(crate) fn new(spec: &NetworkSpec) -> Result<Self, StepFailed> {
        let refused = |message: String| StepFailed::new("give the sandbox a network", message);
        let everywhere: BTreeSet<u16> = spec.ports.iter().copied().collect();
        let own = [(GATEWAY, PROXY_PORT), (GATEWAY, RESOLVER_PORT)];
        let single = spec.addresses.iter().copied().chain(own);
        let single: BTreeSet<_> = single.filter(|(_, port)| !everywhere.contains(port)).collect();
        if let Some((address, port)) = single.iter().find(|(address, _)| !is_synthetic(*address)) {
            return Err(refused(format!("{address}:{port} is not within 198.18.0.0/15")));
        }
        let all = everywhere.iter().map(|port| (Ipv4Addr::UNSPECIFIED, *port)).chain(single);
        let mut sockets: Vec<_> =
            all.map(|(address, port)| Bound { stream: true, address, port }).collect();
        if sockets.iter().any(|socket| socket.port == 0) {
            return Err(refused("0 is no port".to_owned()));
        }
        if sockets.len() > MAX_LISTENERS {
            let count = sockets.len();
            return Err(refused(format!("{count} listeners are more than {MAX_LISTENERS}")));
        }
        sockets.push(Bound { stream: false, address: GATEWAY, port: RESOLVER_PORT });
        Ok(Self { sockets, ssh_agent: spec.ssh_agent })
    }

    /// Adds what is bound to a path, while the root is being made. `/moat` has to be there.
    pub(crate) fn listen_at_paths(&self, plan: &mut Plan) -> Vec<Slot> {
        if !self.ssh_agent {
            return Vec::new();
        }
        let slot = plan.slot();
        let path = Path::new(SSH_AGENT.trim_start_matches('/'));
        plan.push("listen for users of the SSH agent", &Step::UnixSocket { slot, path });
        vec![slot]
    }

    /// Adds the address and what is bound to addresses, once loopback is up.
    pub(crate) fn listen(&self, plan: &mut Plan) -> Vec<Slot> {
        let step = Step::LoopbackAddress { address: GATEWAY, prefix: SYNTHETIC_PREFIX };
        plan.push("make 198.18.0.0/15 local", &step);
        let bind = |socket: &Bound| {
            let Bound { stream, address, port } = *socket;
            let slot = plan.slot();
            let name = format!("listen on port {port} of {address}");
            plan.push(name, &Step::InternetSocket { slot, stream, address, port });
            slot
        };
        self.sockets.iter().map(bind).collect()
    }

    /// How many descriptors the guest gets.
    pub(crate) fn count(&self) -> usize {
        self.sockets.len() + usize::from(self.ssh_agent)
    }

    /// Variables by which programs find the network.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
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
        let network = Network::new(&spec).unwrap();
        let streams: Vec<_> = network.sockets.iter().filter(|socket| socket.stream).collect();
        let ports: Vec<_> = streams.iter().map(|socket| (socket.address, socket.port)).collect();
        let all = Ipv4Addr::UNSPECIFIED;
        assert_eq!(ports, [(all, 53), (all, 443), (GATEWAY, 22), (GATEWAY, PROXY_PORT)]);
        assert_eq!(network.count(), 5);
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let refused = |spec: &NetworkSpec| Network::new(spec).unwrap_err().message;
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
