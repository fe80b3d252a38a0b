//! The program that runs inside a sandbox, and its protocol.
//!
//! How data passes through: a launcher starts the program that [`program`] hands out, with a
//! listening socket and a [`GuestConfig`]; in a container, where there is no launcher, it makes its
//! socket itself, as a [`ContainerConfig`] says. The harness connects and says
//! [`ClientMessage::Hello`]; from then on both sides send frames ([`encode`], [`FrameDecoder`]) of
//! a [`ClientMessage`] or a [`GuestMessage`] and bytes that belong to it, of which listings are
//! records ([`StatRecord`], [`ApplyRecord`]). `PROTOCOL.md` beside this file describes all of it.
//!
//! Both sides are built from this crate, and neither trusts the other's lengths: nothing is
//! allocated before its size was checked. This crate must not know runs, providers or anything
//! else of Moat; keys of calls are opaque text here.

mod config;
mod container;
mod folder_job;
mod frame;
mod limits;
mod message;
#[cfg(feature = "embed")]
mod program;
mod raw;
mod record;
mod tar;

pub use config::{CONFIG_FD, GuestConfig, GuestUser, LISTENER_FD, RootPaths};
pub use container::{
    BRIDGE, BRIDGE_PORT, CONTAINER, ContainerConfig, ContainerNetwork, ContainerSocket,
};
pub use folder_job::*;
pub use frame::{Frame, FrameDecoder, FrameError, MAX_HEADER, MAX_PAYLOAD, encode};
pub use limits::{GuestLimits, LimitName, LimitReached, Metered};
pub use message::*;
#[cfg(feature = "embed")]
pub use program::{program, program_arch, program_hash};
pub use raw::{RawBytes, from_hex, to_hex};
pub use record::*;
pub use tar::{
    MAX_TAR_EXTENSIONS, MAX_TAR_NAME, TarContent, TarError, TarKind, TarMember, TarReader,
};
