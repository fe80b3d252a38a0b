//! OCI images: fetched, verified by their digests, and unpacked into folders that sandboxes see as
//! their root.
//!
//! It must not know sandboxes or agents; who unpacks a layer, and how that is confined, is given to
//! it.
