//! Which provider makes a run's sandboxes, and which one made the one that it has.

use std::sync::Arc;

use moat_sandbox::{GuestError, Provider, SandboxError};

/// The providers of a program. Every provider is also the only one of its kind.
pub trait Providers: Send + Sync {
    /// Who makes sandboxes, as a run's settings say it; `None`: the usual one.
    ///
    /// # Errors
    /// What is wanted makes no sense, or this program does not have it.
    fn choose(self: Arc<Self>, wanted: Option<&str>) -> Result<Arc<dyn Provider>, SandboxError>;

    /// Who finds and ends sandboxes that a provider of this name made.
    ///
    /// # Errors
    /// This program does not have it.
    fn named(self: Arc<Self>, name: &str) -> Result<Arc<dyn Provider>, SandboxError>;
}

impl<P: Provider + 'static> Providers for P {
    fn choose(self: Arc<Self>, wanted: Option<&str>) -> Result<Arc<dyn Provider>, SandboxError> {
        match wanted {
            None => Ok(self),
            // What follows the name is for providers that have more than one kind of sandbox.
            Some(wanted) => self.named(wanted.split(':').next().unwrap_or(wanted)),
        }
    }

    fn named(self: Arc<Self>, name: &str) -> Result<Arc<dyn Provider>, SandboxError> {
        if name == Provider::name(&*self) {
            return Ok(self);
        }
        let name: String = name.chars().take(80).collect();
        let what = format!("be had: this program has none of the provider `{name}`");
        Err(GuestError::Unsupported(what).into())
    }
}
