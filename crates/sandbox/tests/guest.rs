//! The real guest program, as an ordinary process, through the client.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it says"
)]

#[path = "guest/bench.rs"]
mod bench;
#[path = "guest/files.rs"]
mod files;
#[path = "guest/owner.rs"]
mod owner;
#[path = "guest/process.rs"]
mod process;
#[path = "guest/terminal.rs"]
mod terminal;
#[path = "guest/user.rs"]
mod user;
#[path = "guest/workspace.rs"]
mod workspace;
