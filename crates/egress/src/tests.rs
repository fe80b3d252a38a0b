//! The proxy as programs meet it: real loopback servers behind it, scripted names, no namespaces.

mod cases;
mod flows;
mod server;
mod shared;
mod table;
mod world;

pub(crate) use world::Unverified;
