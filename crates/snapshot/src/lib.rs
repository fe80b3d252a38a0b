//! Snapshots: trees of files over blobs.
//!
//! A [`Tree`] is what a sandbox's workspace and home are: every path with its metadata, and for a
//! file the id of its content. Contents go in first ([`Snapshots::put`], [`Snapshots::writer`]);
//! [`Snapshots::commit`] then turns the tree into one Merkle node per folder, waits until all of
//! it is durable, writes the root and answers with its keyed hash, the [`SnapshotId`].
//! [`Snapshots::load`] gives the tree back, every hash checked, and [`Snapshots::diff`] compares
//! two without looking at subtrees that have the same hash.
//!
//! Ids are keyed hashes of what a tree *is* (the whole content of a file, the canonical bytes of a
//! folder), never of how it is stored: cutting contents into chunks, packing and compressing them
//! is the business of the [`BlobStore`](moat_blobs::BlobStore) that keeps them under those ids.
//!
//! What is loaded is bounded and validated like any other input. This crate must not know
//! sandboxes, guests or runs.

mod archive;
mod changes;
pub mod conformance;
mod error;
mod node;
mod store;
mod tree;

pub use archive::{ArchiveError, ImportLimits, Imported};
pub use changes::{Change, ChangeKind, ContentKind, RootName};
pub use error::{CommitError, InvalidTree, LoadError, NodeError, PutError};
pub use moat_core::{BlobId, SnapshotId};
pub use store::{Committed, ContentHasher, ContentWriter, Put, Snapshots};
pub use tree::{Entry, LinkGroup, Listing, Meta, Node, Tree};
