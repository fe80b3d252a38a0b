//! Names and numbers of users and groups, checked while they are read.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::{Manifest, ManifestError};

const UIDS: std::ops::RangeInclusive<u32> = 1001..=60_000;

/// Who is always there.
const ALWAYS: [&str; 2] = ["agent", "root"];

/// Numbers of the users and groups that entries can belong to: the same numbers that a provider
/// gives out on the host's system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    /// Users, with `agent` and `root`.
    pub users: BTreeMap<String, u32>,
    /// Groups, each user's own among them.
    pub groups: BTreeMap<String, u32>,
}

impl Accounts {
    /// Those of a manifest. Users without a number get the next free one, in the order of names;
    /// groups come after all users.
    pub fn of(manifest: &Manifest) -> Self {
        let members = manifest.groups.iter().flat_map(|group| &group.users);
        let mut asked: BTreeMap<&str, Option<u32>> = BTreeMap::new();
        let added = members.filter(|user| !is_always_there(&user.name));
        for user in added.chain(&manifest.users) {
            let uid = asked.entry(&user.name).or_default();
            *uid = user.uid.or(*uid);
        }
        let mut taken: BTreeSet<u32> = asked.values().flatten().copied().collect();
        let mut next = || {
            let free = UIDS.clone().find(|number| !taken.contains(number)).unwrap_or(*UIDS.end());
            taken.insert(free);
            free
        };
        let mut users: BTreeMap<String, u32> = asked
            .into_iter()
            .map(|(name, uid)| (name.to_owned(), uid.unwrap_or_else(&mut next)))
            .collect();
        let names: BTreeSet<&str> = manifest.groups.iter().map(|group| &*group.name).collect();
        let given: Vec<_> = names.into_iter().map(|name| (name.to_owned(), next())).collect();
        users.extend([("agent".to_owned(), 1000), ("root".to_owned(), 0)]);
        let mut groups = users.clone();
        groups.extend(given);
        Self { users, groups }
    }
}

/// Whether it is `agent` or `root`, who need no entry to be a member of a group.
pub fn is_always_there(name: &str) -> bool {
    ALWAYS.contains(&name)
}

/// Checks that all users and groups of a manifest can be there side by side.
pub(crate) fn check(manifest: &Manifest) -> Result<(), ManifestError> {
    let wrong = |problem: String| Err(ManifestError::Account(problem));
    let mut numbers: BTreeMap<&str, Option<u32>> = BTreeMap::new();
    if let Some(user) = manifest.users.iter().find(|user| is_always_there(&user.name)) {
        return wrong(format!("`{}` is always there", user.name));
    }
    let members = manifest.groups.iter().flat_map(|group| &group.users);
    for user in manifest.users.iter().chain(members) {
        if is_always_there(&user.name) && user.uid.is_some() {
            return wrong(format!("`{}` has a number already", user.name));
        }
        let number = numbers.entry(&user.name).or_default();
        if number.is_some() && user.uid.is_some() && *number != user.uid {
            return wrong(format!("`{}` has two numbers", user.name));
        }
        *number = number.or(user.uid);
    }
    let mut owners: BTreeMap<u32, &str> = BTreeMap::new();
    for (name, number) in &numbers {
        if let Some(other) = number.and_then(|number| owners.insert(number, name)) {
            return wrong(format!("`{other}` and `{name}` have the same number"));
        }
    }
    let mut groups = BTreeSet::new();
    for group in &manifest.groups {
        let name = group.name.as_str();
        if numbers.contains_key(name) || is_always_there(name) {
            return wrong(format!("the group `{name}` has the name of a user"));
        }
        if !groups.insert(name) {
            return wrong(format!("the group `{name}` is there twice"));
        }
    }
    Ok(())
}

pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let mut letters = name.bytes();
    let first = letters.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest = letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    if !first || !rest || name.len() > 32 {
        return Err(D::Error::custom(
            "a user's or group's name has 1 to 32 small letters, digits, `_` and `-`, and begins \
             with a letter or `_`",
        ));
    }
    Ok(name)
}

pub(super) fn uid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let uid = Option::<u32>::deserialize(deserializer)?;
    if uid.is_some_and(|uid| !UIDS.contains(&uid)) {
        return Err(D::Error::custom("a user's number is from 1001 to 60000"));
    }
    Ok(uid)
}
