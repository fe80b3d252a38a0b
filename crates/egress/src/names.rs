//! Which synthetic address stands for which name. Addresses follow from names, so that programs
//! which kept one while this side was started anew are understood again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::policy::HostName;

/// Addresses at the beginning of the range that stand for no name: the gateway is among them.
const RESERVED: u32 = 256;
/// Names whose addresses have to be known beforehand.
const MAX_FIXED: usize = 64;

/// A range of IPv4 addresses that are local inside the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: u32,
    size: u32,
}

impl AddressRange {
    /// 198.18.0.0/15, which no network uses (RFC 2544).
    pub const SYNTHETIC: Self = Self { first: 0xC612_0000, size: 1 << 17 };

    /// The range of a prefix length (8 to 22) that holds an address.
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix < 8 || prefix > 22 {
            return None;
        }
        let size = 1 << (32 - prefix);
        Some(Self { first: address.to_bits() & !(size - 1), size })
    }

    /// Whether an address is in it.
    pub const fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits().wrapping_sub(self.first) < self.size
    }

    /// The gateway: resolver and proxy are reached there.
    pub const fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first + 1)
    }

    /// The last one is no host's address, like the first.
    fn slot(&self, index: u32) -> Ipv4Addr {
        let usable = self.size - RESERVED - 1;
        Ipv4Addr::from_bits(self.first + RESERVED + index % usable)
    }
}

/// Gives these names their addresses, in the same order whenever it is done for the same names.
/// `None`: they are too many.
pub fn addresses_of(
    range: AddressRange,
    places: &BTreeSet<(HostName, u16)>,
) -> Option<Vec<(Ipv4Addr, u16)>> {
    let names = Names::new(range, MAX_FIXED);
    places.iter().map(|(name, port)| Some((names.address(name)?, *port))).collect()
}

/// The names that the sandbox asked for. Those longest unused give way when there are too many.
#[derive(Debug)]
pub(crate) struct Names {
    range: AddressRange,
    capacity: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<HostName, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, Entry>,
    by_age: BTreeMap<u64, Ipv4Addr>,
    clock: u64,
    kept: Vec<Pinned>,
}

#[derive(Debug)]
struct Entry {
    name: HostName,
    age: u64,
    users: Arc<()>,
}

/// Keeps the meaning of an address while a connection uses it.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    _users: Arc<()>,
}

impl Names {
    pub(crate) fn new(range: AddressRange, capacity: usize) -> Self {
        let capacity = capacity.clamp(1, (range.size - RESERVED) as usize / 2);
        Self { range, capacity, table: Mutex::default() }
    }

    pub(crate) fn range(&self) -> AddressRange {
        self.range
    }

    /// The address of a name, given to it now if it had none. `None`: every address is in use.
    pub(crate) fn address(&self, name: &HostName) -> Option<Ipv4Addr> {
        let mut table = self.lock();
        if let Some(address) = table.by_name.get(name).copied() {
            table.touch(address);
            return Some(address);
        }
        if table.by_name.len() >= self.capacity && !table.evict() {
            return None;
        }
        let start = preferred(name);
        let free = (0..self.range.size).map(|step| self.range.slot(start.wrapping_add(step)));
        let address = free.into_iter().find(|slot| !table.by_address.contains_key(slot))?;
        table.insert(name.clone(), address);
        Some(address)
    }

    /// The name of an address.
    pub(crate) fn name(&self, address: Ipv4Addr) -> Option<(HostName, Pinned)> {
        let mut table = self.lock();
        table.touch(address);
        let entry = table.by_address.get(&address)?;
        Some((entry.name.clone(), Pinned { _users: Arc::clone(&entry.users) }))
    }

    /// Keeps the addresses of names for good. The same names in the same order get the same
    /// addresses from fresh tables.
    pub(crate) fn keep(&self, names: impl IntoIterator<Item = HostName>) {
        for name in names {
            let pinned = self.address(&name).and_then(|address| self.name(address));
            if let Some((_, pinned)) = pinned {
                self.lock().kept.push(pinned);
            }
        }
    }

    /// Whether an address that nobody asked for since this side began is the one that a name gets:
    /// the program knows it from before.
    pub(crate) fn learn(&self, address: Ipv4Addr, name: &HostName) -> bool {
        self.range.slot(preferred(name)) == address && self.address(name) == Some(address)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn touch(&mut self, address: Ipv4Addr) {
        self.clock += 1;
        if let Some(entry) = self.by_address.get_mut(&address) {
            self.by_age.remove(&entry.age);
            entry.age = self.clock;
            self.by_age.insert(self.clock, address);
        }
    }

    fn insert(&mut self, name: HostName, address: Ipv4Addr) {
        self.clock += 1;
        self.by_age.insert(self.clock, address);
        self.by_name.insert(name.clone(), address);
        self.by_address.insert(address, Entry { name, age: self.clock, users: Arc::default() });
    }

    /// Forgets the name that was longest unused; one with connections is not unused.
    fn evict(&mut self) -> bool {
        let idle = |address: &&Ipv4Addr| {
            self.by_address.get(*address).is_some_and(|entry| Arc::strong_count(&entry.users) == 1)
        };
        let Some(address) = self.by_age.values().find(idle).copied() else { return false };
        let Some(entry) = self.by_address.remove(&address) else { return false };
        self.by_age.remove(&entry.age);
        self.by_name.remove(&entry.name);
        true
    }
}

/// FNV-1a: which address a name prefers has to be the same in every process, and nothing hangs on
/// nobody being able to choose it.
fn preferred(name: &HostName) -> u32 {
    name.as_str()
        .bytes()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_stable_distinct_and_the_same_after_a_restart() {
        let names = Names::new(AddressRange::SYNTHETIC, 1000);
        let other = Names::new(AddressRange::SYNTHETIC, 1000);
        let mut seen = std::collections::HashSet::new();
        for number in 0..500 {
            let name = name(&format!("host-{number}.example"));
            let address = names.address(&name).unwrap();
            assert!(AddressRange::SYNTHETIC.contains(address) && seen.insert(address));
            assert!(address.to_bits() >= AddressRange::SYNTHETIC.first + RESERVED);
            assert_eq!(names.address(&name), Some(address));
            assert_eq!(names.name(address).unwrap().0, name);
        }
        let known = names.address(&name("host-0.example")).unwrap();
        assert!(other.name(known).is_none());
        assert!(!other.learn(known, &name("other.example")));
        assert!(other.learn(known, &name("host-0.example")));
        assert_eq!(other.name(known).unwrap().0, name("host-0.example"));
    }

    #[test]
    fn the_longest_unused_name_gives_way_and_one_in_use_does_not() {
        let names = Names::new(AddressRange::SYNTHETIC, 3);
        let first = names.address(&name("a")).unwrap();
        let (_, pinned) = names.name(first).unwrap();
        let second = names.address(&name("b")).unwrap();
        names.address(&name("c")).unwrap();
        names.address(&name("d")).unwrap();
        assert!(names.name(second).is_none(), "b was longest unused");
        assert_eq!(names.name(first).unwrap().0, name("a"));
        drop(pinned);
        for text in ["e", "f", "g"] {
            names.address(&name(text)).unwrap();
        }
        assert!(names.name(first).is_none());
    }

    #[test]
    fn when_all_names_are_in_use_there_is_no_address() {
        let names = Names::new(AddressRange::SYNTHETIC, 1);
        let address = names.address(&name("a")).unwrap();
        let _pinned = names.name(address).unwrap();
        assert_eq!(names.address(&name("b")), None);
    }
}
