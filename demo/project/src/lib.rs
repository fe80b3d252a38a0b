//! Finds bursts in access logs.
//!
//! A log is read into [`Record`]s, the time that it covers is tiled with windows, and each window
//! is summed up: how many lines, how many errors, which client most of all.

mod record;
mod report;
mod span;
mod time;
mod windows;

pub use record::{read_log, ParseError, Record};
pub use report::{Report, Row};
pub use span::Span;
pub use time::{format_time, parse_time};
pub use windows::tile;
