//! The program that runs inside a sandbox, and its protocol.
//!
//! [`GuestConfig`] is what a launcher tells the program when it starts it.

mod config;
mod raw;

pub use config::{CONFIG_FD, GuestConfig, LISTENER_FD, RootPaths};
pub use raw::{RawBytes, from_hex, to_hex};
