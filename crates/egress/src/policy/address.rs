//! Which addresses a name may lead to. This is the guard against names that lead inside, also
//! after they were looked up once already: it is asked for the address that is connected to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::check::{Check, is_on};

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressClass {
    /// Anybody's, on the internet.
    Public,
    /// Of private networks: RFC 1918, RFC 4193, site-local.
    Private,
    /// This host.
    Loopback,
    /// Shared by a provider's customers (100.64.0.0/10).
    Shared,
    /// Of one link (169.254.0.0/16, fe80::/10).
    LinkLocal,
    /// Hands out credentials to whoever asks, in clouds.
    Metadata,
    /// Many hosts.
    Multicast,
    /// No host (0.0.0.0/8, ::).
    Unspecified,
    /// For documentation and measurements (198.18.0.0/15 is also what sandboxes see).
    Example,
    /// Reserved, or of a transition that hides where a packet goes.
    Reserved,
}

impl AddressClass {
    /// The class of an address. An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4,
    /// Teredo, ISATAP) is of the class of that one, or reserved.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => ipv4(address),
            IpAddr::V6(address) => ipv6(address),
        }
    }

    /// Whether a rule that says `+private` is enough; else the address has to be named by number.
    pub(super) fn is_private(self) -> bool {
        matches!(self, Self::Private | Self::Loopback | Self::Shared)
            || (self == Self::Metadata && !is_on(Check::MetadataAddresses))
    }

    /// The class in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Loopback => "loopback",
            Self::Shared => "shared",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Example => "documentation",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn ipv4(address: Ipv4Addr) -> AddressClass {
    match address.octets() {
        // Alibaba's, Oracle's and Azure's beside the usual one.
        [169, 254, 169, 254] | [169, 254, 170, 2 | 23] | [100, 100, 100, 200] => {
            AddressClass::Metadata
        }
        [192, 0, 0, 192] | [168, 63, 129, 16] => AddressClass::Metadata,
        [0, ..] => AddressClass::Unspecified,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => AddressClass::Private,
        [127, ..] => AddressClass::Loopback,
        [100, 64..=127, ..] => AddressClass::Shared,
        [169, 254, ..] => AddressClass::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18 | 19, ..] => {
            AddressClass::Example
        }
        [192, 0, 0, _] | [192, 88, 99, _] | [240..=255, ..] => AddressClass::Reserved,
        [224..=239, ..] => AddressClass::Multicast,
        _ => AddressClass::Public,
    }
}

fn ipv6(address: Ipv6Addr) -> AddressClass {
    if is_on(Check::CarriedAddresses)
        && let Some(carried) = carried(address)
    {
        return ipv4(carried);
    }
    if address == Ipv6Addr::LOCALHOST {
        return AddressClass::Loopback;
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressClass::Unspecified,
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] => AddressClass::Metadata,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => AddressClass::Private,
        [0xfe80..=0xfebf, ..] => AddressClass::LinkLocal,
        [0xff00..=0xffff, ..] => AddressClass::Multicast,
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] | [0x2001, 0x0002, 0, ..] => {
            AddressClass::Example
        }
        // The rest of 2001::/23 is for protocols, 5f00::/16 for segment routing.
        [0x2001, 0..=0x01ff, ..] if is_on(Check::CarriedAddresses) => AddressClass::Reserved,
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        _ if is_on(Check::CarriedAddresses) => AddressClass::Reserved,
        _ => AddressClass::Public,
    }
}

/// The IPv4 address inside an IPv6 one.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        // `::` and `::1` are what they are.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Mapped, translated, compatible.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0, 0, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        // NAT64.
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        // 6to4.
        [0x2002, high, low, ..] => Some(join(high, low)),
        // Teredo carries it inverted.
        [0x2001, 0, _, _, _, _, high, low] => Some(join(!high, !low)),
        // ISATAP.
        [_, _, _, _, 0 | 0x0200, 0x5efe, high, low] => Some(join(high, low)),
        _ => None,
    }
}
