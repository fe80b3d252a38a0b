//! What the program is told as the first process of a container, which no launcher prepared.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{GuestConfig, RawBytes};

/// The first argument of the program as the first process of a container; the second is the path of
/// a [`ContainerConfig`] as JSON, which it removes once it has read it.
pub const CONTAINER: &str = "container";

/// The first argument of the program as a bridge between its standard streams and the guest of the
/// container that it was executed in. The second is the socket's path. What it says begins with a
/// line: `0`, or the number of the error with which the connection failed.
pub const BRIDGE: &str = "bridge";

/// The first argument of the program as a bridge between its standard streams and a TCP port of the
/// container's loopback, the second. What it says begins as with [`BRIDGE`].
pub const BRIDGE_PORT: &str = "bridge-port";

/// What the first process of a container is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerConfig {
    /// What every guest is told. Its descriptors are not there: the guest makes its own.
    pub guest: GuestConfig,
    /// Where it listens. The folder is to be one that commands cannot enter.
    pub socket: RawBytes,
    /// Bridges are executed beside it. They are stopped and killed with nothing.
    pub bridged: bool,
    /// The network that it makes of the container's loopback; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<ContainerNetwork>,
}

/// Addresses of a container's loopback, and who listens there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerNetwork {
    /// The address that the loopback is given, with all of its network.
    pub address: Ipv4Addr,
    /// Bits of that network.
    pub prefix: u8,
    /// Sockets that are kept and handed out on `Network`, before the one of the SSH agent.
    pub sockets: Vec<ContainerSocket>,
    /// Where an SSH agent is reached by commands; absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_agent: Option<RawBytes>,
}

/// One bound socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSocket {
    /// TCP, listening; else UDP.
    pub stream: bool,
    /// The address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
}
