//! Certificate authorities of runs that stopped and were not taken up again.

use std::collections::HashSet;
use std::time::Duration;

use moat_core::RunId;
use moat_harness::network::{forget_unused_authority, stored_authorities};
use moat_journal::Listed;

use crate::commands::sandbox::owners;
use crate::engine::Engine;

/// So much longer than a sandbox of a run lives when nobody drives it.
const LATER: Duration = Duration::from_secs(3600);

/// Removes those of runs whose sandboxes cannot be alive any more. One that is taken up later gets
/// another, with another sandbox.
pub(super) async fn remove_left(engine: &Engine) -> anyhow::Result<()> {
    let network = engine.network()?;
    let age = LATER.saturating_add(engine.orphan_grace());
    let old = stored_authorities(&network, age)?;
    if old.is_empty() {
        return Ok(());
    }
    let listed = engine.journal.list(&engine.tenant, 1_000_000).await?;
    let mut used: HashSet<RunId> =
        listed.iter().filter(|run| may_live(run, age)).map(|run| run.run).collect();
    used.extend(owners(&engine.home)?);
    for run in old.into_iter().filter(|run| !used.contains(run)) {
        // Somebody may have taken the run up since it was listed.
        let _is_removed = forget_unused_authority(&network, run, age)?;
    }
    Ok(())
}

/// Whether the run may have a sandbox.
fn may_live(run: &Listed, age: Duration) -> bool {
    let updated = std::time::UNIX_EPOCH + Duration::from_millis(run.updated_at);
    run.owned || updated.elapsed().map_or(true, |past| past < age)
}
