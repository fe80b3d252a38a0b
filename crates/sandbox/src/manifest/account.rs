//! Names and numbers of users and groups, checked while they are read.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::Manifest;

const UIDS: std::ops::RangeInclusive<u32> = 1001..=60_000;

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
        for user in members.chain(&manifest.users) {
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
