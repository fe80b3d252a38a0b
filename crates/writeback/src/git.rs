//! Commits of the run come in as references, like a fetch. Nothing else of a `.git` is touched.

mod import;
mod names;

use std::collections::BTreeMap;

use moat_snapshot::{Snapshots, Tree};
use serde::{Deserialize, Serialize};

use crate::error::WriteBackError;

pub(crate) use import::Importer;

/// A commit that the run made, and the reference under which it comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitRef {
    /// The whole name: `refs/moat/RUN/…`.
    pub name: String,
    /// The commit, in hexadecimal digits.
    pub commit: String,
    /// What the reference was before; absent: it did not exist. Known once it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// References that the end of the run has and the start has not, or elsewhere.
pub(crate) async fn new_refs(
    snapshots: &Snapshots,
    run: &str,
    base: &Tree,
    last: &Tree,
) -> Result<Vec<GitRef>, WriteBackError> {
    let before = names::references(snapshots, base).await?;
    let after = names::references(snapshots, last).await?;
    let known: std::collections::BTreeSet<_> = before.values().collect();
    let mut refs = BTreeMap::new();
    for (name, commit) in &after {
        if before.get(name) != Some(commit) && !known.contains(commit) {
            refs.insert(names::imported(run, name, refs.len()), commit.clone());
        }
    }
    let refs = refs.into_iter().map(|(name, commit)| GitRef { name, commit, before: None });
    Ok(refs.collect())
}
