//! What every [`Journal`] has to pass. Panics with what is wrong, as tests do.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test suite, run by tests only"
)]

mod append;
mod erase;
mod follow;
mod inbox;
mod owner;

use std::sync::Arc;
use std::time::Duration;

use moat_core::{RunId, Seq, TenantId};

use crate::{Batch, InboxEntry, Journal, NewEvent, RunOwner, StoredEvent};

/// Runs the whole suite. `open` makes a new journal over the same place each time, as another
/// process would.
pub async fn check(open: impl Fn() -> Arc<dyn Journal>) {
    append::keeps_events(&open).await;
    append::numbers_without_gaps(&*open()).await;
    append::is_all_or_nothing(&*open()).await;
    append::refuses_what_is_beyond_bounds(&*open()).await;
    append::keeps_tenants_apart(&*open()).await;
    append::lists_newest_first(&open).await;
    owner::has_one_at_a_time(&open).await;
    owner::is_freed_by_drop(&*open()).await;
    owner::taken_over_appends_nothing(&open).await;
    owner::two_claimants_make_one_owner(&open).await;
    inbox::holds_entries_until_consumed(&open).await;
    inbox::is_consumed_with_the_append(&*open()).await;
    inbox::wakes_the_owner(&open).await;
    follow::sees_everything_once(&open).await;
    follow::starts_where_told(&*open()).await;
    follow::outlives_an_old_owner(&open).await;
    erase::leaves_hashes_and_a_tombstone(&open).await;
    erase::needs_consent_of_forks(&*open()).await;
    erase::refuses_while_owned(&*open()).await;
    erase::verifies_what_is_whole(&*open()).await;
}

fn local() -> TenantId {
    TenantId::local()
}

fn event(body: impl Into<Vec<u8>>) -> NewEvent {
    NewEvent {
        actor: "harness".to_owned(),
        kind: "tested".to_owned(),
        version: 1,
        must_understand: true,
        at: None,
        body: body.into(),
    }
}

fn batch(bodies: &[&str]) -> Batch {
    Batch { events: bodies.iter().map(|body| event(*body)).collect(), ..Batch::default() }
}

fn entry(id: &str) -> InboxEntry {
    InboxEntry {
        id: id.to_owned(),
        kind: "steer".to_owned(),
        body: format!("{{\"text\":\"{id}\"}}"),
        who: "user:ada".to_owned(),
        at: 1_700_000_000_000,
    }
}

async fn new_run(journal: &dyn Journal) -> Box<dyn RunOwner> {
    journal.create(&local(), RunId::generate(), None).await.unwrap()
}

async fn read_all(journal: &dyn Journal, run: RunId) -> Vec<StoredEvent> {
    let mut all: Vec<StoredEvent> = Vec::new();
    loop {
        let after = all.last().map_or(Seq(0), |event| event.header.seq);
        let more = journal.read(&local(), run, after, 7).await.unwrap();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

fn bodies(events: &[StoredEvent]) -> Vec<String> {
    let text = |event: &StoredEvent| String::from_utf8(event.body.clone().unwrap()).unwrap();
    events.iter().map(text).collect()
}

/// Waits for something that has to come. The bound only ends a test that would hang.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} has not happened"),
    }
}
