use futures_util::FutureExt as _;
use futures_util::future::join_all;
use moat_core::{Retryable, Seq};

use super::{Place, batch, bodies, new_run, read_all};
use crate::{AppendError, Claim, Journal, StorageError};

/// Holds up the writer until several appends wait, so that they become one transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refused_append_does_not_fail_its_neighbours() {
    let place = Place::new();
    let journal = place.open();
    let mut stale = new_run(&journal).await;
    let _new = journal.claim(&super::local(), stale.run(), Claim::TakeOver).await.unwrap();
    let mut owners = Vec::new();
    for _ in 0..5 {
        owners.push(new_run(&journal).await);
    }
    let other = place.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let appends = owners.into_iter().map(|mut owner| async move {
        let appended = owner.append(batch("x")).await;
        (appended, owner.run())
    });
    // An append waits for the writer as soon as it was polled once.
    let mut appends = join_all(appends);
    let mut late = Box::pin(stale.append(batch("late")));
    assert!((&mut appends).now_or_never().is_none());
    assert!((&mut late).now_or_never().is_none());
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    assert!(matches!(late.await, Err(AppendError::Stale { .. })));
    for (appended, run) in appends.await {
        assert_eq!(appended.unwrap(), Seq(1));
        assert_eq!(bodies(&read_all(&journal, run).await), ["x"]);
    }
}

#[tokio::test]
async fn a_store_that_is_kept_busy_is_named_and_nothing_is_lost() {
    let place = Place::new();
    let journal = place.open();
    let mut owner = new_run(&journal).await;
    let other = place.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = owner.append(batch("x")).await.unwrap_err();
    assert!(matches!(&refused, AppendError::Storage(StorageError::Busy { .. })), "{refused}");
    assert!(refused.is_retryable());
    // Readers are not in the way of a writer, nor it in theirs.
    assert!(read_all(&journal, owner.run()).await.is_empty());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(owner.append(batch("x")).await.unwrap(), Seq(1));
}

#[tokio::test]
async fn an_append_that_was_given_up_makes_the_owner_claim_again() {
    let place = Place::new();
    let journal = place.open();
    let mut owner = new_run(&journal).await;
    let other = place.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let given_up =
        tokio::time::timeout(std::time::Duration::from_millis(20), owner.append(batch("perhaps")));
    assert!(given_up.await.is_err());
    other.execute_batch("ROLLBACK").unwrap();
    let refused = owner.append(batch("next")).await;
    assert!(matches!(refused, Err(AppendError::Uncertain { .. })), "{refused:?}");
    let run = owner.run();
    drop(owner);
    let mut owner = journal.claim(&super::local(), run, Claim::IfFree).await.unwrap();
    assert_eq!(owner.head(), Seq(1), "it did happen, before the claim");
    assert_eq!(owner.append(batch("next")).await.unwrap(), Seq(2));
    assert_eq!(bodies(&read_all(&journal, run).await), ["perhaps", "next"]);
}

#[tokio::test]
async fn an_owner_that_goes_leaves_no_files_behind() {
    let place = Place::new();
    let journal = place.open();
    let owner = new_run(&journal).await;
    let entry = crate::InboxEntry {
        id: "a".to_owned(),
        kind: "steer".to_owned(),
        body: "{}".to_owned(),
        who: "user:ada".to_owned(),
        at: 1,
    };
    journal.post(&super::local(), owner.run(), entry).await.unwrap();
    let count = |name: &str| std::fs::read_dir(place.data().join(name)).unwrap().count();
    assert_eq!((count("wake"), count("locks")), (2, 1));
    drop(owner);
    assert_eq!((count("wake"), count("locks")), (0, 0));
}
