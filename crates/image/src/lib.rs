//! OCI images: fetched, verified by their digests, and unpacked into folders that sandboxes see as
//! their root.
//!
//! How data passes through: an [`ImageReference`] says where an image is; [`ImageCache::fetch`]
//! finds its configuration and layers there (an archive of `docker save`, a folder or archive in
//! the OCI layout, a registry), and streams each layer, decompressed, bounded and hashed, into
//! [`Unpack`], which applies it to a folder. Only what is whole, as every digest says, and on disk
//! is renamed to its place in the cache, where it is shared and never written again.
//!
//! Every byte of an image is hostile. This crate reads its small JSON texts and the outer shape of
//! archives, with bounds ([`ImageLimits`]); what is in a layer it does not look at, since that is
//! read where it is confined.
//!
//! It must not know sandboxes or agents; who unpacks a layer, and how that is confined, is given to
//! it. It reads no environment and no home folder: credentials of registries are given to it too.

mod archive;
mod cache;
mod config;
mod digest;
mod docker_archive;
mod error;
mod layer;
mod layout;
mod limits;
mod manifest;
mod reference;
#[cfg(feature = "registry")]
mod registry;
mod source;
mod unpack;

pub use cache::{CachedImage, ImageCache, OnProgress, Passwords, Progress};
pub use config::{Image, ImageConfig};
pub use digest::Digest;
pub use error::ImageError;
pub use limits::ImageLimits;
pub use reference::{ImageReference, RegistryName, RegistryPassword};
pub use unpack::{LayerBounds, LayerCount, Unpack, UnpackError};
