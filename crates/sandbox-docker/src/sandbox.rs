use std::sync::Arc;

use async_trait::async_trait;
use moat_core::{Epoch, Metered};
use moat_sandbox::{
    ByteStream, Guest, GuestClient, GuestError, NetworkSockets, Sandbox, SandboxError, SandboxNote,
    connect_inside, network_sockets,
};
use serde_json::Value;
use tokio::net::UnixStream;

use crate::error::unsupported;
use crate::handle::Handle;
use crate::provider::Shared;
use crate::reach;

/// A sandbox in a container. Dropping it lets go of the connection.
#[derive(Debug)]
pub(crate) struct DockerSandbox {
    value: Value,
    handle: Handle,
    guest: Arc<GuestClient>,
    notes: Vec<SandboxNote>,
    shared: Arc<Shared>,
    /// Of whoever holds this.
    epoch: Epoch,
}

impl DockerSandbox {
    pub(crate) fn new(
        handle: &Handle,
        guest: GuestClient,
        shared: Arc<Shared>,
        epoch: Epoch,
    ) -> Result<Self, SandboxError> {
        Ok(Self {
            value: handle.to_value()?,
            handle: handle.clone(),
            guest: Arc::new(guest),
            notes: handle
                .is_as_root()
                .then_some(SandboxNote::CommandsAreRoot)
                .into_iter()
                .collect(),
            shared,
            epoch,
        })
    }

    /// Another connection to the guest, over which descriptors can come.
    async fn knock(&self) -> Result<UnixStream, SandboxError> {
        let stream = self.shared.state.connect(self.handle.id()).await;
        Ok(stream.map_err(|error| GuestError::Disconnected(format!("its socket: {error}")))?)
    }
}

#[async_trait]
impl Sandbox for DockerSandbox {
    fn handle(&self) -> Value {
        self.value.clone()
    }

    fn guest(&self) -> Arc<dyn Guest> {
        Arc::clone(&self.guest) as Arc<dyn Guest>
    }

    fn missing_fences(&self) -> &[String] {
        self.handle.missing_fences()
    }

    fn notes(&self) -> &[SandboxNote] {
        &self.notes
    }

    async fn network(&self) -> Result<NetworkSockets, SandboxError> {
        if self.handle.is_bridged() {
            return Err(unsupported("give access to its network: it is reached through a bridge"));
        }
        Ok(network_sockets(self.knock().await?, self.guest.nonce(), self.epoch).await?)
    }

    async fn connect(&self, port: u16) -> Result<Box<dyn ByteStream>, SandboxError> {
        if self.handle.is_bridged() {
            return reach::connect_inside(&self.shared.engine, self.handle.id(), port).await;
        }
        Ok(connect_inside(self.knock().await?, self.guest.nonce(), self.epoch, port).await?)
    }

    async fn metered(&self) -> Result<Metered, SandboxError> {
        Ok(self.guest.metered().await?)
    }

    async fn pause(&self) -> Result<(), SandboxError> {
        Ok(self.guest.pause().await?)
    }

    async fn resume(&self) -> Result<(), SandboxError> {
        Ok(self.guest.resume().await?)
    }
}
