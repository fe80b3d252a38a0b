//! Builds the guest program for this host.
fn main() {}
