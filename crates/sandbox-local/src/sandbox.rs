use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use moat_core::{Epoch, Metered, SnapshotId};
use moat_sandbox::{
    ByteStream, Guest, GuestClient, GuestError, NetworkSockets, Sandbox, SandboxError, SandboxNote,
    connect_inside, network_sockets,
};
use serde_json::Value;
use tokio::net::UnixStream;

use crate::bases;
use crate::folder;
use crate::handle::Handle;
use crate::process::ProcessId;

/// A sandbox of this machine. Dropping it lets go of the connection.
#[derive(Debug)]
pub(crate) struct LocalSandbox {
    handle: Value,
    guest: Arc<GuestClient>,
    missing_fences: Vec<String>,
    notes: Vec<SandboxNote>,
    /// Its first process.
    process: ProcessId,
    /// Its folder on the host, where its guest answers.
    folder: PathBuf,
    /// Of whoever holds this.
    epoch: Epoch,
}

impl LocalSandbox {
    pub(crate) fn new(
        handle: &Handle,
        guest: GuestClient,
        folder: PathBuf,
        epoch: Epoch,
    ) -> Result<Self, SandboxError> {
        Ok(Self {
            handle: handle.to_value()?,
            guest: Arc::new(guest),
            missing_fences: handle.missing_fences().to_vec(),
            notes: handle.notes().to_vec(),
            process: handle.process().clone(),
            folder,
            epoch,
        })
    }

    /// Another connection to the guest.
    async fn knock(&self) -> Result<UnixStream, SandboxError> {
        let stream = folder::connect(&self.folder, &self.process).await;
        Ok(stream.map_err(|error| GuestError::Disconnected(format!("its socket: {error}")))?)
    }
}

#[async_trait]
impl Sandbox for LocalSandbox {
    fn handle(&self) -> Value {
        self.handle.clone()
    }

    fn guest(&self) -> Arc<dyn Guest> {
        Arc::clone(&self.guest) as Arc<dyn Guest>
    }

    fn missing_fences(&self) -> &[String] {
        &self.missing_fences
    }

    fn notes(&self) -> &[SandboxNote] {
        &self.notes
    }

    fn base(&self) -> Option<SnapshotId> {
        bases::of(&self.folder)
    }

    async fn network(&self) -> Result<NetworkSockets, SandboxError> {
        Ok(network_sockets(self.knock().await?, self.guest.nonce(), self.epoch).await?)
    }

    async fn connect(&self, port: u16) -> Result<Box<dyn ByteStream>, SandboxError> {
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
