//! The network of a sandbox: addresses that lead nowhere but to sockets that the harness holds.
//!
//! 198.18.0.0/15 is local to the sandbox's loopback device. The launcher binds the sockets, because
//! it still may, and passes them to the guest, which keeps them and hands them to whoever owns the
//! sandbox. There is no route to anywhere else.

use std::path::Path;

use moat_sandbox::network::{BoundSocket, NetworkPlan, SSH_AGENT};
use moat_sandbox::{GATEWAY, SYNTHETIC_PREFIX};

use crate::plan::{Plan, Slot, Step};

/// What `/etc/resolv.conf` says where there is a network. Only the harness answers, so there is
/// nobody else to ask after the time-out.
pub(crate) const RESOLV_CONF: &str = "nameserver 198.18.0.1\noptions timeout:5 attempts:2\n";

/// Adds what is bound to a path, while the root is being made. `/moat` has to be there.
pub(crate) fn listen_at_paths(network: &NetworkPlan, plan: &mut Plan) -> Vec<Slot> {
    if !network.has_ssh_agent() {
        return Vec::new();
    }
    let slot = plan.slot();
    let path = Path::new(SSH_AGENT.trim_start_matches('/'));
    plan.push("listen for users of the SSH agent", &Step::UnixSocket { slot, path });
    vec![slot]
}

/// Adds the address and what is bound to addresses, once loopback is up.
pub(crate) fn listen(network: &NetworkPlan, plan: &mut Plan) -> Vec<Slot> {
    let step = Step::LoopbackAddress { address: GATEWAY, prefix: SYNTHETIC_PREFIX };
    plan.push("make 198.18.0.0/15 local", &step);
    let bind = |socket: &BoundSocket| {
        let BoundSocket { stream, address, port } = *socket;
        let slot = plan.slot();
        let name = format!("listen on port {port} of {address}");
        plan.push(name, &Step::InternetSocket { slot, stream, address, port });
        slot
    };
    network.sockets().iter().map(bind).collect()
}
