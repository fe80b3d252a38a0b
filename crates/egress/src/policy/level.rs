//! Where a policy comes from.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::pattern::HostPattern;
use super::rule::Rule;

/// Where a policy comes from. An earlier one is higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A file in the configuration folder.
    Organisation,
    /// `network:` of `AGENT.md`.
    Agent,
    /// The command line, or the request that starts a run.
    Run,
    /// One call of a tool.
    Call,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Organisation => "organisation",
            Self::Agent => "agent",
            Self::Run => "run",
            Self::Call => "call",
        })
    }
}

/// A rule of a level, with how it was written there.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) rule: Rule,
    pub(super) written: String,
}

/// The rules of one level.
#[derive(Clone, Debug)]
pub(super) struct LevelRules {
    pub(super) level: Level,
    /// `None`: this level leaves it to the others.
    pub(super) allow: Option<Vec<Named>>,
    pub(super) deny: Vec<Named>,
    pub(super) open: Vec<HostPattern>,
}

impl LevelRules {
    /// A rule as verdicts and journals show it.
    pub(super) fn show(&self, named: &Named) -> String {
        format!("{} ({})", named.written, self.level)
    }
}
