//! Sockets that somebody hostile holds as well, or sends descriptors over, used so that he can hold
//! up nobody but himself.
//!
//! Three properties of sockets make a call wait that looks as if it could not:
//!
//! - `O_NONBLOCK` and every option belong to the open file, which all who hold it share. Whoever
//!   shares a listening socket can clear the flag and take the connection that was waited for.
//! - `SO_LINGER` makes closing wait until the other end has read everything, for as long as it says,
//!   and an accepted connection has it from the socket that listened.
//! - A descriptor that comes over a local connection and is not taken is closed by whoever reads
//!   past it, or closes the connection before he read it; what it is of may linger.
//!
//! So [`Doors`] accepts on a thread of its own, [`SharedDatagrams`] and [`SharedConnection`] say at
//! every call that it must not wait, [`GuardedStream`] takes descriptors in order to refuse them, and
//! what is closed by last hands closes on a thread of its own ([`close_elsewhere`]). What is
//! stuck on such a thread ends with whoever made it so: his sockets' other ends go with him.
//!
//! It must not know what is said over these sockets.

mod close;
mod datagrams;
mod doors;
mod guarded;
mod shared;

pub use close::{Descriptors, close_elsewhere};
pub use datagrams::SharedDatagrams;
pub use doors::{Arrivals, Doors};
pub use guarded::GuardedStream;
pub use shared::SharedConnection;
