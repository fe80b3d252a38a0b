//! Which hosts a rule is about.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::check::{Check, is_on};
use super::host::{Host, HostError, HostName};

/// Which hosts a rule or a secret is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// `api.example.com`: this name.
    Exact(HostName),
    /// `*.example.com`: every name beneath this one, not the name itself.
    Beneath(HostName),
    /// `*`: every name, no address.
    AnyName,
    /// `10.1.2.3`, `10.0.0.0/8`, `[fd00::/8]`: addresses by number.
    Addresses(IpNet),
}

impl HostPattern {
    /// Whether the host is meant.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(name), Host::Name(host)) if !is_on(Check::ExactName) => {
                host.as_str().starts_with(name.as_str())
            }
            (Self::Exact(name), Host::Name(host)) => name == host,
            (Self::Beneath(suffix), Host::Name(host)) => is_beneath(host, suffix),
            (Self::AnyName, Host::Name(_)) => true,
            (Self::AnyName, Host::Address(_)) => !is_on(Check::LiteralsNamed),
            (Self::Addresses(network), Host::Address(address)) => network.contains(address),
            (Self::Addresses(_), Host::Name(_))
            | (Self::Exact(_) | Self::Beneath(_), Host::Address(_)) => false,
        }
    }

    /// Whether the address is named by number.
    pub(super) fn names(&self, address: IpAddr) -> bool {
        matches!(self, Self::Addresses(network) if network.contains(&address))
    }

    /// Whether every host of `other` is one of this.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(name), Self::Exact(other)) => name == other,
            (Self::Beneath(suffix), Self::Exact(other)) => is_beneath(other, suffix),
            (Self::Beneath(suffix), Self::Beneath(other)) => {
                suffix == other || is_beneath(other, suffix)
            }
            (Self::AnyName, Self::Exact(_) | Self::Beneath(_) | Self::AnyName) => true,
            (Self::Addresses(network), Self::Addresses(other)) => network.contains(other),
            _ => false,
        }
    }
}

fn is_beneath(host: &HostName, suffix: &HostName) -> bool {
    let Some(rest) = host.as_str().strip_suffix(suffix.as_str()) else { return false };
    if rest.is_empty() {
        return !is_on(Check::SuffixItself);
    }
    rest.ends_with('.') || !is_on(Check::SuffixBoundary)
}

impl From<HostName> for HostPattern {
    fn from(name: HostName) -> Self {
        Self::Exact(name)
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text == "*" {
            return Ok(Self::AnyName);
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            return Ok(Self::Beneath(suffix.parse()?));
        }
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Some((address, length)) = inner.split_once('/') {
            return network(address, length).map(Self::Addresses);
        }
        Ok(match Host::parse(text)? {
            Host::Name(name) => Self::Exact(name),
            Host::Address(address) => Self::Addresses(address.into()),
        })
    }
}

/// A network as it is usually written: nothing but zeros behind its length.
fn network(address: &str, length: &str) -> Result<IpNet, HostError> {
    let address: IpAddr = address.parse().map_err(|_| HostError::Number)?;
    let is_short = !length.is_empty() && length.len() <= 3;
    if !is_short || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostError::Number);
    }
    let length = length.parse().map_err(|_| HostError::Number)?;
    let network = IpNet::new(address, length).map_err(|_| HostError::Number)?;
    (network.trunc() == network).then_some(network).ok_or(HostError::Network(network.trunc()))
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Beneath(suffix) => write!(f, "*.{suffix}"),
            Self::AnyName => f.write_str("*"),
            Self::Addresses(network) => {
                let is_one = network.prefix_len() == network.max_prefix_len();
                match (network, is_one) {
                    (IpNet::V4(network), true) => network.addr().fmt(f),
                    (IpNet::V4(network), false) => network.fmt(f),
                    (IpNet::V6(network), true) => write!(f, "[{}]", network.addr()),
                    (IpNet::V6(network), false) => write!(f, "[{network}]"),
                }
            }
        }
    }
}
