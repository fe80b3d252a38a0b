//! The only way out of a sandbox: a policy that says which hosts may be reached, and a proxy on the
//! harness's side that holds to it and puts secrets in where they belong.
//!
//! [`Egress::start`] is given the sockets of a sandbox's network namespace. Every name is answered
//! with a synthetic address ([`dns`]), so that a connection tells by where it arrives which name and
//! port it is for. What is said first on it ([`sniff`]) tells the protocol; the [`policy`] says
//! whether it may go on and whether its bytes are passed on as they are, or its requests are looked
//! at one by one, with TLS opened by the sandbox's own [`Authority`]. [`Upstream`] reaches the real
//! hosts. Every decision is recorded, with names and never with values.
//!
//! It must not know agents, models or how sandboxes are made: it is given sockets and a policy.

mod agent;
mod authority;
mod border;
mod connection;
pub mod dns;
mod egress;
mod events;
mod http;
mod limits;
mod names;
pub mod policy;
pub mod secret;
pub mod sign;
pub mod sniff;
mod stream;
mod tasks;
mod tls;
mod tunnel;
mod upstream;

#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityError, SavedAuthority};
pub use egress::{Egress, EgressError, EgressOptions, EgressSockets};
pub use events::Observer;
pub use limits::{EgressLimit, EgressLimits, EgressUsage};
pub use names::{AddressRange, addresses_of};
pub use upstream::{ProxyOptions, Reach, SystemReach, Upstream, UpstreamError, UpstreamOptions};
