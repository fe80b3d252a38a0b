//! What stands before a member and changes what its header says.

use super::header::Header;
use super::{MAX_TAR_EXTENSIONS, TarError};

/// Extended attributes of one member.
const MAX_XATTRS: usize = 128;

/// Extensions that were read for the next member.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: u64,
    /// Some were read.
    any: bool,
}

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        !self.any
    }

    pub(super) fn add(&mut self, header: &Header, mut bytes: Vec<u8>) -> Result<(), TarError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_TAR_EXTENSIONS {
            return Err(TarError::refused(&header.path, "its extensions are too large"));
        }
        self.any |= header.flag != b'g';
        match header.flag {
            b'L' | b'K' => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                bytes.truncate(end);
                let place = if header.flag == b'L' { &mut self.path } else { &mut self.link };
                set_once(place, bytes, "name")
                    .map_err(|reason| TarError::refused(&header.path, reason))
            }
            global => self
                .add_records(&bytes, global == b'g')
                .map_err(|reason| TarError::refused(&header.path, reason)),
        }
    }

    /// `LENGTH KEY=VALUE\n`, again and again; the length counts everything.
    fn add_records(&mut self, mut rest: &[u8], global: bool) -> Result<(), String> {
        while !rest.is_empty() {
            let (key, value, after) =
                record(rest).ok_or("its extensions do not make sense".to_owned())?;
            rest = after;
            self.set(key, value, global)?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], global: bool) -> Result<(), String> {
        let wrong = || format!("its `{}` does not make sense", key.escape_ascii());
        if key.starts_with(b"GNU.sparse") {
            return Err("sparse files are not read here".to_owned());
        }
        if global {
            // Comments, in practice. What would change every member is not guessed at.
            return match key {
                b"path" | b"linkpath" | b"size" | b"uid" | b"gid" => {
                    Err(format!("a `{}` for all members is not read here", key.escape_ascii()))
                }
                _ => Ok(()),
            };
        }
        let number = || decimal(value).ok_or_else(wrong);
        match key {
            b"path" => set_once(&mut self.path, value.to_vec(), "name")?,
            b"linkpath" => set_once(&mut self.link, value.to_vec(), "target")?,
            b"size" => set_once(&mut self.size, number()?, "size")?,
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(wrong)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if self.xattrs.len() >= MAX_XATTRS || name.is_empty() || name.contains(&0) {
                        return Err(wrong());
                    }
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Of two that differ some readers take the first and others the last.
fn set_once<T>(place: &mut Option<T>, value: T, what: &str) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("its {what} is said twice")),
    }
}

fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(bytes.get(..blank)?)?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let text = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=')?;
    Some((text.get(..equals)?, text.get(equals + 1..)?, rest))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Seconds since the Unix epoch with a fraction, which may be below zero.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (negative, digits) = match whole.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, whole),
    };
    let seconds = i64::try_from(decimal(digits.as_bytes())?).ok()?;
    let shown: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos = u32::try_from(decimal(shown.as_bytes())?).ok()?;
    Some(match (negative, nanos) {
        (false, nanos) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}
