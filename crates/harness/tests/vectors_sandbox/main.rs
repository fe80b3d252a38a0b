//! Runs the conformance cases for tools over a sandbox: every case of every file of their formats
//! in the folder named by `MOAT_VECTORS` (by default `../shared/vectors` beside the repository).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a case that is not as its format says fails the test, and counts are printed"
)]

mod apply_patch;
mod cases;
mod exec_reply;
mod image_sniff;
mod truncation;
