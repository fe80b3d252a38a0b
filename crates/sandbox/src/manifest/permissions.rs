//! Permission bits as people write them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nine permission bits. Written as octal digits (`0640`, `640`) or as `ls` shows them
/// (`rw-r-----`, also with a letter for the kind before it). Set-uid, set-gid and sticky bits mean
/// nothing in a sandbox and are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// The bits: owner, group and others, three each.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Permissions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "`{}` are no permissions; write octal digits such as \"0640\", or `rw-r-----`",
                text.chars().take(40).collect::<String>().escape_debug()
            )
        };
        let is_octal =
            matches!(text.len(), 3 | 4) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if is_octal {
            let bits = u32::from_str_radix(text, 8).map_err(|_| wrong())?;
            return if bits <= 0o777 { Ok(Self(bits)) } else { Err(wrong()) };
        }
        let letters = match text.len() {
            10 if text.starts_with(['-', 'd', 'l']) => text.get(1..).unwrap_or_default(),
            _ => text,
        };
        if letters.len() != 9 {
            return Err(wrong());
        }
        letters
            .bytes()
            .zip(b"rwxrwxrwx")
            .try_fold(0, |bits, (letter, meant)| match letter {
                b'-' => Ok(bits << 1),
                letter if letter == *meant => Ok(bits << 1 | 1),
                _ => Err(wrong()),
            })
            .map(Self)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Permissions {
    fn schema_name() -> Cow<'static, str> {
        "Permissions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Octal digits (`0640`) or letters as of `ls` (`rw-r-----`).",
            "type": "string",
            "pattern": "^(0?[0-7]{3}|[-dl]?([r-][w-][x-]){3})$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_digits_and_letters_are_the_same_bits() {
        for (text, bits) in [
            ("0640", 0o640),
            ("755", 0o755),
            ("rw-r-----", 0o640),
            ("drwxr-xr-x", 0o755),
            ("---------", 0),
        ] {
            let permissions: Permissions = text.parse().unwrap();
            assert_eq!(permissions.bits(), bits, "{text}");
            assert_eq!(permissions.to_string().parse(), Ok(permissions));
        }
        for text in ["4755", "64", "0o640", "rwsr-xr-x", "wr-------", "rw-r--r--@", "", "99"] {
            assert!(text.parse::<Permissions>().is_err(), "{text}");
        }
    }
}
