use std::sync::Arc;

use moat_core::{Epoch, RunId, Seq};

use super::{batch, bodies, local, new_run, read_all, soon};
use crate::{AppendError, Claim, ClaimError, Journal};

pub(super) async fn has_one_at_a_time(open: &impl Fn() -> Arc<dyn Journal>) {
    let (one, other) = (open(), open());
    let owner = new_run(&*one).await;
    let run = owner.run();
    for journal in [&one, &other] {
        match journal.claim(&local(), run, Claim::IfFree).await.err() {
            Some(ClaimError::Held { run: named, holder }) => {
                assert_eq!((named, holder.pid), (run, std::process::id()));
                assert!(holder.silent_ms < 60_000);
            }
            refusal => panic!("a held run has to be refused, got {refusal:?}"),
        }
        let holder = journal.holder(&local(), run).await.unwrap();
        assert_eq!(holder.unwrap().pid, std::process::id());
    }
    let again = other.create(&local(), run, None).await.err();
    assert!(matches!(again, Some(ClaimError::Exists { .. })), "{again:?}");
    let nothing = other.claim(&local(), RunId::generate(), Claim::TakeOver).await.err();
    assert!(matches!(nothing, Some(ClaimError::NoSuchRun { .. })), "{nothing:?}");
    drop(owner);
    let again = other.create(&local(), run, None).await.err();
    assert!(matches!(again, Some(ClaimError::Exists { .. })), "{again:?}");
}

pub(super) async fn is_freed_by_drop(journal: &dyn Journal) {
    let mut owner = new_run(journal).await;
    let (run, first) = (owner.run(), owner.epoch());
    owner.append(batch(&["one", "two"])).await.unwrap();
    drop(owner);
    assert_eq!(journal.holder(&local(), run).await.unwrap(), None);
    let mut next = journal.claim(&local(), run, Claim::IfFree).await.unwrap();
    assert_eq!((next.run(), next.head()), (run, Seq(2)));
    assert!(next.epoch() > first);
    next.append(batch(&["three"])).await.unwrap();
    let read = read_all(journal, run).await;
    assert_eq!(bodies(&read), ["one", "two", "three"]);
    let epochs: Vec<Epoch> = read.iter().map(|event| event.header.epoch).collect();
    assert_eq!(epochs, [first, first, next.epoch()]);
}

pub(super) async fn taken_over_appends_nothing(open: &impl Fn() -> Arc<dyn Journal>) {
    let (one, other) = (open(), open());
    let mut old = new_run(&*one).await;
    let run = old.run();
    old.append(batch(&["old"])).await.unwrap();
    assert!(old.inbox().await.unwrap().is_empty());
    let waits = async {
        old.inbox_changed().await;
        old
    };
    let takes = async {
        // Most likely the other one waits by now; it has to be woken either way.
        tokio::task::yield_now().await;
        other.claim(&local(), run, Claim::TakeOver).await.unwrap()
    };
    let (mut old, mut new) =
        soon("waking the old owner", async { tokio::join!(waits, takes) }).await;
    assert!(new.epoch() > old.epoch());
    for _ in 0..2 {
        match old.append(batch(&["late"])).await {
            Err(AppendError::Stale { mine, current, holder, .. }) => {
                assert_eq!((mine, current), (old.epoch(), new.epoch()));
                assert_eq!(holder.unwrap().pid, std::process::id());
            }
            late => panic!("an old owner must append nothing, got {late:?}"),
        }
        new.append(batch(&["new"])).await.unwrap();
    }
    let held = one.claim(&local(), run, Claim::IfFree).await.err();
    assert!(matches!(held, Some(ClaimError::Held { .. })), "{held:?}");
    // That the old owner goes must not free what the new one holds.
    drop(old);
    assert!(one.holder(&local(), run).await.unwrap().is_some());
    assert_eq!(new.append(batch(&["new"])).await.unwrap(), Seq(4));
    assert_eq!(bodies(&read_all(&*one, run).await), ["old", "new", "new", "new"]);
    drop(new);
    assert!(one.claim(&local(), run, Claim::IfFree).await.is_ok());
}

pub(super) async fn two_claimants_make_one_owner(open: &impl Fn() -> Arc<dyn Journal>) {
    let run = {
        let owner = new_run(&*open()).await;
        owner.run()
    };
    for claim in [Claim::IfFree, Claim::IfFree, Claim::TakeOver] {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let journal = open();
                tokio::spawn(async move {
                    let mut owner = journal.claim(&local(), run, claim).await.ok()?;
                    owner.append(batch(&["x"])).await.ok();
                    Some(owner)
                })
            })
            .collect();
        let mut owners = Vec::new();
        for task in tasks {
            owners.extend(task.await.unwrap());
        }
        if claim == Claim::IfFree {
            assert_eq!(owners.len(), 1, "of those who ask at once exactly one gets the run");
        }
        let mut can_append = 0;
        for owner in &mut owners {
            can_append += u32::from(owner.append(batch(&["y"])).await.is_ok());
        }
        assert_eq!(can_append, 1, "of several owners only the last one can append");
    }
}
