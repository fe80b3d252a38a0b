//! A policy as it stands in a file: `network:` of `AGENT.md`, the organisation's file, the API.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::parse::Entry;
use super::pattern::HostPattern;
use super::rule::Rule;
use crate::secret::SecretSpec;
use crate::sign::SshKey;

/// Entries of each list of a policy.
const MAX_ENTRIES: usize = 1024;

/// What one level says about the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkPolicy {
    /// What is allowed: rules (`[METHOD ]HOST[:PORT][/PATH]`), presets (`preset:python`), and
    /// `!RULE` for what is denied. Absent: this level leaves that to the others. Empty: nothing.
    #[serde(skip_serializing_if = "Option::is_none", with = "texts::optional")]
    #[schemars(with = "Option<Vec<String>>")]
    pub allow: Option<Vec<Entry>>,
    /// What is denied, whatever is allowed.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "texts")]
    #[schemars(with = "Vec<String>")]
    pub deny: Vec<Rule>,
    /// Hosts whose TLS is opened only to look for values of secrets on their way out.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "texts")]
    #[schemars(with = "Vec<String>")]
    pub open: Vec<HostPattern>,
    /// Secrets: `NAME=env:VARIABLE@HOST`.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "texts")]
    #[schemars(with = "Vec<String>")]
    pub secrets: Vec<SecretSpec>,
    /// Keys of the host's SSH agent that logins may be signed with: `SHA256:…`.
    #[serde(skip_serializing_if = "Option::is_none", with = "texts::optional")]
    #[schemars(with = "Option<Vec<String>>")]
    pub ssh_keys: Option<Vec<SshKey>>,
    /// What may be used at most.
    #[serde(skip_serializing_if = "NetworkLimits::is_empty")]
    pub limits: NetworkLimits,
}

impl NetworkPolicy {
    /// A level that allows what these texts say (`!RULE` denies), as after `--net`.
    pub fn allowing<T: AsRef<str>>(
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Self, super::RuleError> {
        let mut allow = Vec::new();
        for text in texts {
            let text = text.as_ref();
            if allow.len() >= MAX_ENTRIES {
                return Err(super::RuleError::new(text, format!("more than {MAX_ENTRIES} rules")));
            }
            allow.push(text.parse()?);
        }
        Ok(Self { allow: Some(allow), ..Self::default() })
    }

    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a sandbox may use of the network at most, over its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkLimits {
    /// Requests, and connections whose requests are not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Bytes in both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes of one request's body, or that one connection whose requests are not seen may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_bytes: Option<u64>,
    /// Connections at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
}

impl NetworkLimits {
    /// Whether there is no limit.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each limit by its name.
    pub(super) fn each(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("requests", self.requests),
            ("bytes", self.bytes),
            ("upload_bytes", self.upload_bytes),
            ("concurrency", self.concurrency),
        ]
    }

    /// The lower ones.
    #[must_use]
    pub fn lower(self, other: Self) -> Self {
        let lower = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self {
            requests: lower(self.requests, other.requests),
            bytes: lower(self.bytes, other.bytes),
            upload_bytes: lower(self.upload_bytes, other.upload_bytes),
            concurrency: lower(self.concurrency, other.concurrency),
        }
    }
}

/// Lists whose members are read from texts and written as such, so that an error stands at the
/// text that is wrong.
mod texts {
    use super::*;

    pub(super) struct Text<T>(pub(super) T);

    impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            text.parse().map(Self).map_err(de::Error::custom)
        }
    }

    pub(super) fn serialize<T: fmt::Display, S: Serializer>(
        list: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(T::to_string))
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: fmt::Display>,
        D: Deserializer<'de>,
    {
        deserializer.deserialize_seq(ListVisitor(std::marker::PhantomData))
    }

    struct ListVisitor<T>(std::marker::PhantomData<T>);

    impl<'de, T: FromStr<Err: fmt::Display>> de::Visitor<'de> for ListVisitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of texts")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(Text(member)) = seq.next_element::<Text<T>>()? {
                if list.len() >= MAX_ENTRIES {
                    return Err(de::Error::custom(format!("more than {MAX_ENTRIES} entries")));
                }
                list.push(member);
            }
            Ok(list)
        }
    }

    pub(super) mod optional {
        use super::*;

        pub(in super::super) fn serialize<T: fmt::Display, S: Serializer>(
            list: &Option<Vec<T>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            super::serialize(list.as_deref().unwrap_or_default(), serializer)
        }

        pub(in super::super) fn deserialize<'de, T, D>(
            deserializer: D,
        ) -> Result<Option<Vec<T>>, D::Error>
        where
            T: FromStr<Err: fmt::Display>,
            D: Deserializer<'de>,
        {
            super::deserialize(deserializer).map(Some)
        }
    }
}
