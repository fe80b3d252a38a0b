//! Numbers in records.

use crate::error::ArchiveError;

/// A record of fixed places.
pub(super) struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The number in `length` bytes (at most eight), the smallest first.
    pub(super) fn number(&self, start: usize, length: usize) -> Result<u64, ArchiveError> {
        at(self.0, start, length).ok_or_else(|| super::corrupt("it ends within a record"))
    }
}

/// The number in `length` bytes (at most eight), the smallest first.
pub(super) fn at(bytes: &[u8], start: usize, length: usize) -> Option<u64> {
    let field = bytes.get(start..start.checked_add(length)?)?;
    Some(field.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
}

/// The time that zip archives keep, taken for UTC: nanoseconds since the Unix epoch.
pub(super) fn dos_time(time: u32, date: u32) -> i64 {
    let (day, month, year) = (date & 31, (date >> 5) & 15, (date >> 9) + 1980);
    let (second, minute, hour) = ((time & 31) * 2, (time >> 5) & 63, time >> 11);
    // Days since the epoch, in years that begin with March.
    let (year, month) = (i64::from(year), i64::from(month.clamp(1, 12)));
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(day.max(1)) - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    let seconds = days * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    seconds.saturating_mul(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_and_seconds() {
        // 2024-02-29 13:37:42 UTC.
        let date = (2024 - 1980) << 9 | 2 << 5 | 29;
        let time = 13 << 11 | 37 << 5 | 21;
        assert_eq!(dos_time(time, date), 1_709_213_862_000_000_000);
    }
}
