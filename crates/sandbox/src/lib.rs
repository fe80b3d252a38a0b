//! Sandboxes: computers that may die, lie or attack, behind one contract.
//!
//! A [`Provider`] makes a machine with our guest in it; [`Guest`] is what that machine can do:
//! processes, files and the freezing and scanning of a workspace. Manifests, checkpoints and
//! restoring are written once, here, over that contract, and [`conformance`] checks any provider.
//!
//! Every byte from a guest is hostile: sizes are bounded, paths checked again and hashes computed
//! on this side. This crate must not know models or agents.

pub mod checkpoint;
mod client;
pub mod conformance;
mod contract;
pub mod environment;
pub mod manifest;
pub mod materialise;
pub mod network;
#[cfg(feature = "plain")]
pub mod plain;
pub mod roster;
pub mod trust;

#[cfg(feature = "mutations")]
pub use client::{Check, shrink, without};
pub use client::{GuestClient, connect_inside, network_sockets};
pub use contract::*;
