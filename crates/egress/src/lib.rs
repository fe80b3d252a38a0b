//! The only way out of a sandbox: a policy that says which hosts may be reached, and a proxy on the
//! harness's side that holds to it and puts secrets in where they belong.
//!
//! It must not know agents, models or how sandboxes are made: it is given sockets and a policy.

pub mod policy;
pub mod secret;
pub mod sign;
