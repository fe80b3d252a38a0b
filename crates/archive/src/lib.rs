//! Archives from strangers: tar, tar.gz, tar.zst and zip.
//!
//! [`Archive::open`] reads an archive to its end and checks every member before anybody is given
//! one: names, kinds, links, what stands twice or beneath what is no folder, sizes, ratio, and that
//! nothing is damaged. What it hands out afterwards ([`Archive::members`], [`Archive::read`]) is
//! what was checked; an archive that changed in between is an error. [`extract`] puts it into a
//! folder of the host: all of it or nothing, without following a link that is there.
//!
//! The forms are told apart by their bytes, never by a name. One member's header is held at a time,
//! contents never, and every size is checked before memory is taken for it. This crate must not
//! know snapshots, manifests or sandboxes.

mod archive;
mod decode;
mod error;
mod extract;
mod member;
mod rules;
mod survey;
mod zip;

pub use archive::{Archive, ReadError};
pub use decode::Decoder;
pub use error::{ArchiveError, Refusal};
pub use extract::{ExtractError, extract};
pub use member::{Kind, Member};
pub use rules::{ArchiveLimits, Rules, Trust};
