//! Names and numbers of users and groups, checked while they are read.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

const UIDS: std::ops::RangeInclusive<u32> = 1001..=60_000;

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
