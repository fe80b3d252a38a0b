//! Moat.
