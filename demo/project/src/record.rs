//! Lines of a log.

use std::fmt;
use std::io::{self, BufRead};

use crate::time::parse_time;

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Who.
    pub client: String,
    /// What was answered.
    pub status: u16,
}

/// Why a log could not be read.
#[derive(Debug)]
pub enum ParseError {
    /// A line is not what a line should be.
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The log could not be read at all.
    Read(io::Error),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { number, reason } => write!(f, "line {number}: {reason}"),
            Self::Read(error) => write!(f, "cannot read the log: {error}"),
        }
    }
}

impl Record {
    /// Reads `TIME CLIENT METHOD PATH STATUS`.
    pub fn parse(line: &str) -> Result<Self, &'static str> {
        let mut words = line.split_whitespace();
        let mut next = |what| words.next().ok_or(what);
        let at = parse_time(next("no time")?).ok_or("the time is not like 2026-03-01T12:00:07Z")?;
        let client = next("no client")?.to_owned();
        let _method = next("no method")?;
        let _path = next("no path")?;
        let status = next("no status")?.parse().map_err(|_| "the status is not a number")?;
        Ok(Self { at, client, status })
    }

    /// Whether the server was at fault.
    pub fn is_error(&self) -> bool {
        self.status >= 500
    }
}

/// Reads a whole log. Empty lines and lines that begin with `#` are skipped.
pub fn read_log(log: impl BufRead) -> Result<Vec<Record>, ParseError> {
    let mut records = Vec::new();
    for (index, line) in log.lines().enumerate() {
        let line = line.map_err(ParseError::Read)?;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let record = Record::parse(&line)
            .map_err(|reason| ParseError::Line { number: index + 1, reason })?;
        records.push(record);
    }
    Ok(records)
}
