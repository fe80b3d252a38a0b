//! Sandboxes from Linux namespaces on this machine.
//!
//! How data passes through: [`LocalProvider::create`](moat_sandbox::Provider::create) makes a folder on the
//! host, composes a *plan* for it (`root`), and hands that to a separate small program, the
//! launcher (`launcher/`), which executes it in fresh namespaces and becomes the guest. From then on
//! everything goes over the guest's socket, which this crate does not look into.
//!
//! Everything that is decided is decided here, in safe code: what is shown and where (`system`,
//! `toolchains`), who is who (`identity`, `subordinate`), which system calls are answered (`seccomp`), what the
//! guest keeps (`capabilities`), what may be used (`limits`). The launcher only does. This crate must not know runs, models or
//! journals, reads no environment and looks for no home folder: [`LocalOptions`] says what it is to
//! know.

mod bases;
mod capabilities;
mod clear;
mod create;
mod fences;
mod folder;
mod folder_job;
mod handle;
mod identity;
mod image;
mod landlock;
mod launcher;
mod left_out;
mod limits;
mod network;
mod options;
mod plan;
mod prepared;
mod process;
mod provider;
mod reap;
mod remove;
mod root;
mod sandbox;
mod seccomp;
mod sockets;
mod subordinate;
mod system;
mod toolchains;
mod trust;
mod unpacker;
mod users;

pub use bases::KeptWorkspaces;
pub use fences::{Fence, FenceState, FenceStatus, UnknownFence};
#[cfg(feature = "mutations")]
pub use left_out::LeftOut;
pub use limits::{LimitState, LimitStatus};
pub use options::LocalOptions;
pub use provider::LocalProvider;
pub use toolchains::TOOLCHAIN_VARIABLES;
pub use unpacker::LocalUnpacker;
pub use users::{UsersState, UsersStatus};
