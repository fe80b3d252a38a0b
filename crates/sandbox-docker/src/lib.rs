//! Sandboxes in containers of a Docker engine, on this machine or another.
//!
//! How data passes through: [`DockerProvider::create`](moat_sandbox::Provider::create) sees to the
//! image (`image`), makes an image of our own from it that also holds the guest and knows the
//! sandbox's users (`base`), and a container from that with everything taken away that commands do
//! not need (`container`). The guest is its first process. From then on everything goes over the
//! guest's socket (`reach`): directly, where engine and harness share a file system, or through a
//! bridge, a process that the engine starts in the container and whose standard streams it carries.
//!
//! The engine is trusted, as the kernel of this machine is; nothing inside a container is. This
//! crate must not know runs, models or journals, and reads no environment: which engine there is,
//! and with which certificates it is reached, is for the program to say ([`Endpoint`]).

mod archive;
mod base;
mod config;
mod container;
mod create;
mod endpoint;
mod engine;
mod error;
mod folder;
mod handle;
mod image;
mod limits;
mod login;
mod options;
mod provider;
mod reach;
mod reap;
mod remote;
mod sandbox;
mod stream;
mod trust;

pub use endpoint::{Endpoint, EndpointError, Tls};
pub use engine::EngineFacts;
pub use error::DockerError;
pub use login::{DEFAULT_REGISTRY, DEFAULT_REGISTRY_URL, Proof, RegistryLogin, RegistryLogins};
pub use options::{DockerOptions, PullPolicy, PullProgress};
pub use provider::DockerProvider;
