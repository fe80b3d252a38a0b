use serde::{Deserialize, Serialize};

/// Body of `egress_decided`: what a sandbox's network policy allowed and refused since the last
/// such event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EgressDecided {
    /// The decisions, oldest first. Equal ones that follow each other are one, counted.
    pub decisions: Vec<EgressDecision>,
    /// Decisions that were not kept because there were too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

/// One decision about one connection or request. Holds names, never values of secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EgressDecision {
    /// Milliseconds since the Unix epoch, of the first.
    pub at: u64,
    /// The host as the program named it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `dns`, `tcp`, `tls`, `http`, `https`, `ssh`.
    pub protocol: String,
    /// The request's method, where requests are seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The request's path without its query, where requests are seen, cut to 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether it was let through.
    pub allowed: bool,
    /// The rule that decided, as it was written, with its level; absent: no rule named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why it was refused: a short fixed word (`not_allowed`, `private_address`, `sni_mismatch`, …).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was refused and what would allow it, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Names of the secrets that were put in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Bytes that left.
    pub sent: u64,
    /// Bytes that came.
    pub received: u64,
    /// How many equal decisions this stands for.
    #[serde(skip_serializing_if = "is_one")]
    pub count: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_one(number: &u64) -> bool {
    *number <= 1
}
