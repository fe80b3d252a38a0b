use std::sync::Arc;

use moat_core::{RunId, Seq};

use super::{batch, entry, event, local, new_run, read_all};
use crate::{
    Batch, Claim, ClaimError, EraseError, InboxError, IndexRow, Journal, NewEvent, VerifyError,
};

fn tombstone() -> NewEvent {
    NewEvent { kind: "erased".to_owned(), ..event("{\"reason\":\"asked\"}") }
}

pub(super) async fn leaves_hashes_and_a_tombstone(open: &impl Fn() -> Arc<dyn Journal>) {
    let journal = open();
    let mut owner = new_run(&*journal).await;
    let run = owner.run();
    let index = Some(IndexRow { status: "finished".to_owned(), facts: "{}".to_owned() });
    let events = vec![event("private"), event(vec![7; 500_000])];
    owner.append(Batch { events, index, ..Batch::default() }).await.unwrap();
    journal.post(&local(), run, entry("private")).await.unwrap();
    drop(owner);
    journal.erase(&local(), run, &[], tombstone()).await.unwrap();
    journal.erase(&local(), run, &[], tombstone()).await.unwrap();

    let journal = open();
    let read = read_all(&*journal, run).await;
    assert_eq!(read.len(), 3, "erasing twice leaves one tombstone");
    assert!(read[0].body.is_none() && read[1].body.is_none());
    assert_eq!(read[0].header.kind, "tested");
    assert_eq!(read[2].header.kind, "erased");
    assert_eq!(read[2].body.as_deref(), Some(&b"{\"reason\":\"asked\"}"[..]));
    let listed = journal.list(&local(), 1000).await.unwrap();
    let listed = listed.iter().find(|listed| listed.run == run).unwrap();
    assert_eq!((listed.head, &listed.index, listed.owned), (Seq(3), &None, false));
    assert!(listed.erased);
    let claimed = journal.claim(&local(), run, Claim::TakeOver).await.err();
    assert!(matches!(claimed, Some(ClaimError::Erased { .. })), "{claimed:?}");
    let forked = journal.create(&local(), RunId::generate(), Some(run)).await.err();
    assert!(matches!(forked, Some(ClaimError::Erased { .. })), "{forked:?}");
    let posted = journal.post(&local(), run, entry("late")).await;
    assert!(matches!(posted, Err(InboxError::Erased { .. })), "{posted:?}");
    let report = journal.verify(&local(), Some(run)).await.unwrap();
    assert_eq!((report.runs.len(), report.runs[0].erased), (1, true));
    assert_eq!((report.runs[0].head, &report.runs[0].problems), (Seq(3), &Vec::new()));
    let missing = journal.erase(&local(), RunId::generate(), &[], tombstone()).await;
    assert!(matches!(missing, Err(EraseError::NoSuchRun { .. })), "{missing:?}");
}

pub(super) async fn needs_consent_of_forks(journal: &dyn Journal) {
    let root = new_run(journal).await.run();
    let fork = RunId::generate();
    journal.create(&local(), fork, Some(root)).await.unwrap();
    let grandchild = RunId::generate();
    let mut owner = journal.create(&local(), grandchild, Some(fork)).await.unwrap();
    owner.append(batch(&["private"])).await.unwrap();
    drop(owner);
    for (erased, others) in [(root, [fork, grandchild]), (fork, [root, grandchild])] {
        for consent in [&[][..], &others[..1]] {
            match journal.erase(&local(), erased, consent, tombstone()).await {
                Err(EraseError::Forks { mut forks }) => {
                    forks.sort();
                    let mut expected = others[consent.len()..].to_vec();
                    expected.sort();
                    assert_eq!(forks, expected);
                }
                other => panic!("forks that were not named must be, got {other:?}"),
            }
        }
    }
    assert_eq!(read_all(journal, grandchild).await.len(), 1, "nothing happened so far");
    journal.erase(&local(), root, &[fork, grandchild], tombstone()).await.unwrap();
    for run in [root, fork, grandchild] {
        let read = read_all(journal, run).await;
        assert_eq!(read.last().unwrap().header.kind, "erased");
        assert!(read.iter().rev().skip(1).all(|event| event.body.is_none()));
        let report = journal.verify(&local(), Some(run)).await.unwrap();
        assert!(report.runs[0].erased && report.runs[0].problems.is_empty());
    }
}

pub(super) async fn refuses_while_owned(journal: &dyn Journal) {
    let root = new_run(journal).await.run();
    let fork = RunId::generate();
    let mut owner = journal.create(&local(), fork, Some(root)).await.unwrap();
    match journal.erase(&local(), root, &[fork], tombstone()).await {
        Err(EraseError::Held { run, holder }) => {
            assert_eq!((run, holder.pid), (fork, std::process::id()));
        }
        other => panic!("an owned run must not be erased, got {other:?}"),
    }
    owner.append(batch(&["still mine"])).await.unwrap();
    assert!(journal.claim(&local(), root, Claim::IfFree).await.is_ok(), "nor stay locked");
}

pub(super) async fn verifies_what_is_whole(journal: &dyn Journal) {
    let mut owner = new_run(journal).await;
    owner.append(batch(&["1", "2"])).await.unwrap();
    owner.anchor().await.unwrap();
    let large = Batch { events: vec![event(vec![1; 300_000])], ..Batch::default() };
    owner.append(large).await.unwrap();
    let report = journal.verify(&local(), Some(owner.run())).await.unwrap();
    let found = &report.runs[0];
    assert_eq!((found.run, found.head, found.erased), (owner.run(), Seq(3), false));
    assert!(found.anchored >= Some(Seq(2)), "{:?}", found.anchored);
    assert_eq!(found.problems, []);
    let all = journal.verify(&local(), None).await.unwrap();
    assert!(all.runs.iter().any(|report| report.run == owner.run()));
    assert!(all.runs.iter().all(|report| report.problems.is_empty()), "{all:?}");
    let missing = journal.verify(&local(), Some(RunId::generate())).await;
    assert!(matches!(missing, Err(VerifyError::NoSuchRun { .. })));
}
