//! Content-addressed blob store
