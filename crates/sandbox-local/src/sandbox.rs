use std::sync::Arc;

use moat_sandbox::{Guest, GuestClient, Sandbox, SandboxError};
use serde_json::Value;

use crate::handle::Handle;

/// A sandbox of this machine. Dropping it lets go of the connection.
#[derive(Debug)]
pub(crate) struct LocalSandbox {
    handle: Value,
    guest: Arc<GuestClient>,
    missing_fences: Vec<String>,
}

impl LocalSandbox {
    pub(crate) fn new(handle: &Handle, guest: GuestClient) -> Result<Self, SandboxError> {
        Ok(Self {
            handle: handle.to_value()?,
            guest: Arc::new(guest),
            missing_fences: handle.missing_fences().to_vec(),
        })
    }
}

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
}
