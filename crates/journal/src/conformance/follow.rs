use std::sync::Arc;

use futures_util::StreamExt;
use moat_core::{RunId, Seq};

use super::{batch, local, new_run, soon};
use crate::{Claim, Journal, ReadError};

pub(super) async fn sees_everything_once(open: &impl Fn() -> Arc<dyn Journal>) {
    let writer = open();
    let mut owner = new_run(&*writer).await;
    let run = owner.run();
    owner.append(batch(&["before"])).await.unwrap();
    let followers: Vec<_> = (0..3)
        .map(|_| {
            let journal = open();
            tokio::spawn(async move {
                let mut events = journal.follow(&local(), run, Seq(0)).await.unwrap();
                let mut seen = Vec::new();
                while seen.len() < 61 {
                    let next = soon("the next event", events.next()).await;
                    seen.push(next.unwrap().unwrap().header.seq.0);
                }
                seen
            })
        })
        .collect();
    for n in 0..20 {
        owner.append(batch(&["x", "y", "z"])).await.unwrap();
        if n == 10 {
            // Owners come and go; a follower does not notice.
            drop(owner);
            owner = open().claim(&local(), run, Claim::IfFree).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    for follower in followers {
        assert_eq!(follower.await.unwrap(), (1..=61).collect::<Vec<_>>());
    }
}

pub(super) async fn starts_where_told(journal: &dyn Journal) {
    let missing = journal.follow(&local(), RunId::generate(), Seq(0)).await.err();
    assert!(matches!(missing, Some(ReadError::NoSuchRun { .. })));
    let mut owner = new_run(journal).await;
    owner.append(batch(&["1", "2", "3"])).await.unwrap();
    let mut events = journal.follow(&local(), owner.run(), Seq(2)).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().header.seq, Seq(3));
    let waits = tokio::time::timeout(std::time::Duration::from_millis(30), events.next());
    assert!(waits.await.is_err(), "it waits for what comes");
    owner.append(batch(&["4"])).await.unwrap();
    let next = soon("the next event", events.next()).await.unwrap().unwrap();
    assert_eq!((next.header.seq, next.body.unwrap()), (Seq(4), b"4".to_vec()));
}

/// An old owner that goes late must not take with it what wakes the followers of the new one.
pub(super) async fn outlives_an_old_owner(open: &impl Fn() -> Arc<dyn Journal>) {
    let (one, other, early, late) = (open(), open(), open(), open());
    let old = new_run(&*one).await;
    let run = old.run();
    let mut watched_before = early.follow(&local(), run, Seq(0)).await.unwrap();
    let mut new = other.claim(&local(), run, Claim::TakeOver).await.unwrap();
    drop((old, one));
    let mut watched_after = late.follow(&local(), run, Seq(0)).await.unwrap();
    for seq in 1..=3 {
        let waits = async {
            soon("the next event", watched_before.next()).await.unwrap().unwrap();
            soon("the next event", watched_after.next()).await.unwrap().unwrap()
        };
        let appends = async {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            new.append(batch(&["x"])).await.unwrap();
        };
        let (event, ()) = tokio::join!(waits, appends);
        assert_eq!(event.header.seq, Seq(seq));
    }
}
