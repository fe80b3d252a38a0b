//! The vocabulary of Moat: ids, conversation items, journal events, usage and errors.
//!
//! Data only. Every other crate speaks in these types, so this crate must not know any I/O, any
//! provider, any clock and any source of randomness (fresh run ids are the one exception: they are
//! made where a run is created).
//!
//! How data passes through: a driver builds an [`EventBody`], [`EventBody::encode`] turns it into
//! bytes that the journal stores beside an [`EventHeader`], and [`EventBody::decode`] reads them
//! back, in any later version of Moat.

mod error;
mod event;
mod id;
mod item;
mod limits;
mod seal;
mod secret;
mod size;
mod usage;

pub use error::Retryable;
pub use event::*;
pub use id::*;
pub use item::{Item, ItemFields};
pub use limits::{LimitName, Metered, SandboxLimitReached, SandboxLimits};
pub use seal::SealingKey;
pub use secret::{KnownSecrets, Secret, TenantKey};
pub use size::{ByteSize, ByteSizeError};
pub use usage::{Cost, Usage};
