//! Hosts as programs name them: a name, or an address however it is spelt.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::check::{Check, is_on};

/// Bytes of the longest host name.
const MAX_NAME: usize = 253;
/// Bytes of the longest label.
const MAX_LABEL: usize = 63;

/// A host name: lower case, ASCII, without a trailing dot, at most 253 bytes, never an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Box<str>);

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        match Host::parse(text)? {
            Host::Name(name) => Ok(name),
            Host::Address(address) => Err(HostError::Address(address)),
        }
    }
}

/// A host as a program names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name.
    Name(HostName),
    /// An address. IPv4 addresses inside IPv6 ones (`::ffff:…`) are IPv4 here.
    Address(IpAddr),
}

impl Host {
    /// Reads a host as it stands in a URL, a `Host` header, SNI, CONNECT or a DNS query, without
    /// its port. IPv6 may stand in brackets. Anything whose last label is a number is an address
    /// or an error, as browsers and the C library read it (`0x7f.1`, `2130706433`, `010.0.0.1`).
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Syntax)?;
            return ipv6(inner);
        }
        if text.contains(':') {
            return ipv6(text);
        }
        let text =
            if is_on(Check::TrailingDot) { text.strip_suffix('.').unwrap_or(text) } else { text };
        if is_on(Check::OddLiterals) && ends_in_number(text) {
            return ipv4(text).map(|address| Self::Address(address.into()));
        }
        let name = if is_on(Check::Case) { text.to_ascii_lowercase() } else { text.to_owned() };
        check_name(&name)?;
        Ok(Self::Name(HostName(name.into())))
    }

    /// The name, if it is one.
    pub fn name(&self) -> Option<&HostName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl From<HostName> for Host {
    fn from(name: HostName) -> Self {
        Self::Name(name)
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

/// As in a URL: IPv6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Why a text is no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing, or more than a name can have.
    #[error("a host has 1 to 253 bytes")]
    Length,
    /// A label with nothing in it, with too much in it, or with `-` at its ends.
    #[error("each part of a host has 1 to 63 bytes and no `-` at its ends")]
    Label,
    /// Something that a host name cannot hold. Names of other scripts are written in their ASCII
    /// form, as DNS and TLS carry them.
    #[error("a host has letters, digits, `-`, `_` and `.`; other scripts are written as `xn--…`")]
    Syntax,
    /// It ends in a number and is no IPv4 address.
    #[error("a host that ends in a number has to be an IPv4 address")]
    Number,
    /// An address where a name has to be.
    #[error("`{0}` is an address, not a name")]
    Address(IpAddr),
    /// A network with something behind its length.
    #[error("the network is written `{0}`")]
    Network(ipnet::IpNet),
}

fn check_name(name: &str) -> Result<(), HostError> {
    if !is_on(Check::NameSyntax) {
        return Ok(());
    }
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(HostError::Length);
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    for label in name.split('.') {
        if !label.bytes().all(is_allowed) {
            return Err(HostError::Syntax);
        }
        let has_edge = label.starts_with('-') || label.ends_with('-');
        if label.is_empty() || label.len() > MAX_LABEL || has_edge {
            return Err(HostError::Label);
        }
    }
    Ok(())
}

fn ipv6(text: &str) -> Result<Host, HostError> {
    // A zone (`%eth0`) is not read by this and is an error: it names an interface of this side.
    let address = Ipv6Addr::from_str(text).map_err(|_| HostError::Syntax)?;
    if is_on(Check::MappedLiterals) {
        return Ok(Host::Address(IpAddr::V6(address).to_canonical()));
    }
    Ok(Host::Address(address.into()))
}

/// Whether the last label is decimal digits, or hexadecimal after `0x`.
fn ends_in_number(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or(text);
    let is_decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    is_decimal || hexadecimal.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// One to four parts, each decimal, octal (`0…`) or hexadecimal (`0x…`); the last one fills what
/// is left (`inet_aton`).
fn ipv4(text: &str) -> Result<Ipv4Addr, HostError> {
    let parts = text.split('.').map(number).collect::<Result<Vec<u32>, _>>()?;
    let (last, heads) = parts.split_last().ok_or(HostError::Number)?;
    if heads.len() > 3 || heads.iter().any(|part| *part > 255) {
        return Err(HostError::Number);
    }
    let mut value: u64 = 0;
    for part in heads {
        value = value << 8 | u64::from(*part);
    }
    let room = 8 * (4 - heads.len() as u32);
    if u64::from(*last) >= 1 << room {
        return Err(HostError::Number);
    }
    let value = value << room | u64::from(*last);
    u32::try_from(value).map(Ipv4Addr::from).map_err(|_| HostError::Number)
}

fn number(part: &str) -> Result<u32, HostError> {
    let hexadecimal = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
    let (digits, radix) = match (hexadecimal, part.strip_prefix('0')) {
        (Some(""), _) => return Ok(0),
        (Some(rest), _) => (rest, 16),
        (None, Some(rest)) if !rest.is_empty() => (rest, 8),
        _ => (part, 10),
    };
    if digits.starts_with('+') {
        return Err(HostError::Number);
    }
    u32::from_str_radix(digits, radix).map_err(|_| HostError::Number)
}
