use std::sync::Arc;

use futures_util::FutureExt;
use moat_core::{RunId, Seq};

use super::{batch, entry, local, new_run, soon};
use crate::{AppendError, Batch, Claim, InboxEntry, InboxError, Journal};

pub(super) async fn holds_entries_until_consumed(open: &impl Fn() -> Arc<dyn Journal>) {
    let (poster, driver) = (open(), open());
    let missing = poster.post(&local(), RunId::generate(), entry("a")).await;
    assert!(matches!(missing, Err(InboxError::NoSuchRun { .. })));
    let run = new_run(&*driver).await.run();
    // Nobody owns the run now.
    assert!(poster.post(&local(), run, entry("b")).await.unwrap());
    assert!(poster.post(&local(), run, entry("a")).await.unwrap());
    let changed = InboxEntry { kind: "cancel".to_owned(), ..entry("b") };
    assert!(!poster.post(&local(), run, changed).await.unwrap(), "an id counts once");
    let mut owner = driver.claim(&local(), run, Claim::IfFree).await.unwrap();
    assert_eq!(owner.inbox().await.unwrap(), [entry("b"), entry("a")], "oldest first, as posted");
    assert_eq!(owner.inbox().await.unwrap().len(), 2, "looking takes nothing");
    let takes_b = Batch { consumed: vec!["b".to_owned()], ..batch(&["took b"]) };
    owner.append(takes_b).await.unwrap();
    assert_eq!(owner.inbox().await.unwrap(), [entry("a")]);
    assert!(!poster.post(&local(), run, entry("b")).await.unwrap(), "nor after it was taken up");
    for (id, kind) in [("", "steer"), ("x", ""), ("y", &"k".repeat(1000))] {
        let refused = InboxEntry { id: id.to_owned(), kind: kind.to_owned(), ..entry("z") };
        let refused = poster.post(&local(), run, refused).await;
        assert!(matches!(refused, Err(InboxError::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(owner.inbox().await.unwrap(), [entry("a")]);
}

pub(super) async fn is_consumed_with_the_append(journal: &dyn Journal) {
    let mut old = new_run(journal).await;
    let run = old.run();
    journal.post(&local(), run, entry("a")).await.unwrap();
    let mut new = journal.claim(&local(), run, Claim::TakeOver).await.unwrap();
    let takes_a = || Batch { consumed: vec!["a".to_owned()], ..batch(&["took a"]) };
    let late = old.append(takes_a()).await;
    assert!(matches!(late, Err(AppendError::Stale { .. })), "{late:?}");
    assert_eq!(new.inbox().await.unwrap(), [entry("a")], "a refused append takes nothing");
    assert_eq!(new.append(takes_a()).await.unwrap(), Seq(1));
    let twice = new.append(takes_a()).await;
    assert!(matches!(twice, Err(AppendError::NotInInbox { .. })), "{twice:?}");
}

pub(super) async fn wakes_the_owner(open: &impl Fn() -> Arc<dyn Journal>) {
    let (poster, driver) = (open(), open());
    let mut owner = new_run(&*driver).await;
    let run = owner.run();
    // Posted before anybody waits, or has ever looked.
    poster.post(&local(), run, entry("early")).await.unwrap();
    // A wait that was given up at once must not swallow it.
    let _ = owner.inbox_changed().now_or_never();
    soon("a wake for an earlier entry", owner.inbox_changed()).await;
    assert_eq!(owner.inbox().await.unwrap().len(), 1);
    for n in 0..20 {
        // Posted between a look and the wait, and while it waits.
        let id = n.to_string();
        let posts = async {
            if n % 2 == 0 {
                tokio::task::yield_now().await;
            }
            poster.post(&local(), run, entry(&id)).await.unwrap();
        };
        let ((), ()) = tokio::join!(soon("a wake", owner.inbox_changed()), posts);
        let waiting = owner.inbox().await.unwrap();
        assert_eq!(waiting.last().unwrap().id, id, "a wake comes when the entry can be seen");
    }
    // What the owner does itself is no news to it.
    owner.append(batch(&["x"])).await.unwrap();
    let waits = tokio::time::timeout(std::time::Duration::from_millis(50), owner.inbox_changed());
    assert!(waits.await.is_err(), "nothing new, so nothing to wake for");
}
