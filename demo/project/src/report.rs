//! Sums windows up.

use std::collections::BTreeMap;
use std::fmt;

use crate::record::Record;
use crate::span::Span;
use crate::time::format_time;
use crate::windows::tile;

/// One window, summed up.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which window.
    pub span: Span,
    /// Lines in it.
    pub lines: usize,
    /// Lines of it that were the server's fault.
    pub errors: usize,
    /// Lines per second.
    pub rate: f64,
    /// The client with the most lines, and how many.
    pub busiest: Option<(String, usize)>,
}

/// A log, summed up.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its windows, oldest first.
    pub rows: Vec<Row>,
    /// Lines of the log.
    pub lines: usize,
    /// Lines per second over the whole log.
    pub rate: f64,
    /// The rate from which a window counts as a burst.
    pub limit: f64,
}

impl Report {
    /// Sums up `records` in windows of `width` seconds.
    pub fn new(records: &[Record], width: u64, limit: f64) -> Self {
        let whole = Span::covering(records.iter().map(|record| record.at));
        let windows = whole.map(|whole| tile(whole, width)).unwrap_or_default();
        Self {
            rows: windows.into_iter().map(|span| Row::new(span, records)).collect(),
            lines: records.len(),
            rate: whole.map_or(0.0, |whole| whole.rate(records.len())),
            limit,
        }
    }

    /// The windows whose rate reaches the limit.
    pub fn bursts(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.rate >= self.limit)
    }
}

impl Row {
    fn new(span: Span, records: &[Record]) -> Self {
        let inside: Vec<_> = records.iter().filter(|record| span.contains(record.at)).collect();
        let mut clients = BTreeMap::new();
        for record in &inside {
            *clients.entry(record.client.as_str()).or_insert(0) += 1;
        }
        let busiest = clients.into_iter().max_by_key(|(_, lines)| *lines);
        Self {
            span,
            lines: inside.len(),
            errors: inside.iter().filter(|record| record.is_error()).count(),
            rate: span.rate(inside.len()),
            busiest: busiest.map(|(client, lines)| (client.to_owned(), lines)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20}  {:>5}  {:>6}  {:>10}", "window", "lines", "errors", "per second")?;
        for row in &self.rows {
            let start = format_time(row.span.start);
            writeln!(f, "{start:<20}  {:>5}  {:>6}  {:>10.2}", row.lines, row.errors, row.rate)?;
        }
        let counted: usize = self.rows.iter().map(|row| row.lines).sum();
        writeln!(f, "{counted} of {} lines, {:.3} per second", self.lines, self.rate)?;
        for row in self.bursts() {
            let (client, lines) = row.busiest.clone().unwrap_or_default();
            let start = format_time(row.span.start);
            writeln!(f, "burst at {start}: {:.2} per second, {lines} by {client}", row.rate)?;
        }
        Ok(())
    }
}
