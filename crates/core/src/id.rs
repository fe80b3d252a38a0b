use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Serialize};

/// Text that should have been an id was not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{given}` is not {what}")]
pub struct InvalidId {
    /// The text as it was given, cut to a printable length.
    pub given: String,
    /// What it should have been, with its article.
    pub what: &'static str,
}

impl InvalidId {
    fn new(given: &str, what: &'static str) -> Self {
        Self { given: given.chars().take(80).collect(), what }
    }
}

/// Whose data this is. Every key in every store begins with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(String);

impl TenantId {
    /// Accepts 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        let ok = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
        if ok { Ok(Self(text.to_owned())) } else { Err(InvalidId::new(text, "a tenant name")) }
    }

    /// The tenant of a machine that serves one person.
    pub fn local() -> Self {
        Self("local".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One execution of an agent; sorts by the time it was made (UUID version 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(uuid::Uuid);

impl RunId {
    /// A fresh id.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    /// The sixteen bytes of the id.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads the sixteen bytes back.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        uuid::Uuid::parse_str(text).map(Self).map_err(|_| InvalidId::new(text, "a run id"))
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// The place of an event in its run's journal. The first event has 1; 0 means "before all".
    Seq
}
counter! {
    /// How often the ownership of a run has been taken. An owner with an older epoch can write
    /// nothing, neither to the journal nor to the sandbox.
    Epoch
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hex(text).map(Self).ok_or_else(|| InvalidId::new(text, $what))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

digest! {
    /// The keyed hash of a blob's bytes.
    BlobId, "a blob id (64 hexadecimal digits)"
}
digest! {
    /// The keyed hash of a snapshot's root.
    SnapshotId, "a snapshot id (64 hexadecimal digits)"
}
digest! {
    /// A BLAKE3 hash of plain data: a link of a journal's chain, an agent's definition.
    Hash, "a hash (64 hexadecimal digits)"
}

impl Hash {
    /// BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (hex_digit(*high)? << 4) | hex_digit(*low)?;
    }
    Some(bytes)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// Names one attempt at one call for ever, also to the guest that executes it.
///
/// A provider's call ids repeat, so they cannot serve: the key is the answer that holds the call
/// (its sequence number), the call's place in it, and which attempt this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallKey {
    /// The run that makes the call.
    pub run: RunId,
    /// The sequence number of the `model_answered` event that holds the call.
    pub seq: Seq,
    /// The index of the call among the answer's output items.
    pub index: u32,
    /// 1 for the first attempt.
    pub attempt: u32,
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.run, self.seq, self.index, self.attempt)
    }
}

impl FromStr for CallKey {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId::new(text, "a call key");
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or_else(invalid);
        let run = part()?.parse().map_err(|_| invalid())?;
        let seq = Seq(part()?.parse().map_err(|_| invalid())?);
        let index = part()?.parse().map_err(|_| invalid())?;
        let attempt = part()?.parse().map_err(|_| invalid())?;
        if parts.next().is_some() {
            return Err(invalid());
        }
        Ok(Self { run, seq, index, attempt })
    }
}

/// A random value that a guest draws when it starts, so that a sandbox that was replaced is never
/// mistaken for the one before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootNonce(pub String);
