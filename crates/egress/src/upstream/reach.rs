use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::net::{TcpStream, lookup_host};

use crate::policy::HostName;

/// Resolves names and opens connections on the harness's side.
#[async_trait]
pub trait Reach: Send + Sync {
    /// The addresses of a name, each with this port.
    async fn resolve(&self, name: &HostName, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// Connects to exactly this address.
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// This host's resolver and network.
#[derive(Clone, Copy, Debug)]
pub struct SystemReach;

#[async_trait]
impl Reach for SystemReach {
    async fn resolve(&self, name: &HostName, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host((name.as_str(), port)).await?.collect())
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}
