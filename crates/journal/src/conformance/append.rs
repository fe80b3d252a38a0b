use std::sync::Arc;

use moat_core::{RunId, Seq, TenantId};

use super::{batch, bodies, event, local, new_run, read_all};
use crate::{AppendError, Batch, Claim, ClaimError, IndexRow, Journal, ReadError};

pub(super) async fn keeps_events(open: &impl Fn() -> Arc<dyn Journal>) {
    let journal = open();
    let mut owner = new_run(&*journal).await;
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut events = vec![event("first"), event(large.clone()), event(""), event(vec![0, 255])];
    events[1].actor = "user:ada".to_owned();
    events[1].kind = "another".to_owned();
    events[1].version = 7;
    events[1].must_understand = false;
    let run = owner.run();
    let head = owner.append(Batch { events, ..Batch::default() }).await.unwrap();
    assert_eq!((head, owner.head()), (Seq(4), Seq(4)));
    drop(owner);
    drop(journal);

    let read = read_all(&*open(), run).await;
    let stored: Vec<_> = read.iter().map(|event| event.body.clone().unwrap()).collect();
    assert!(stored == [b"first".to_vec(), large, b"".to_vec(), vec![0, 255]]);
    let header = &read[1].header;
    assert_eq!((&header.tenant, header.run, header.seq), (&local(), run, Seq(2)));
    assert_eq!((header.actor.as_str(), header.kind.as_str()), ("user:ada", "another"));
    assert_eq!((header.version, header.must_understand), (7, false));
    assert!(header.at > 1_700_000_000_000, "milliseconds since 1970, got {}", header.at);
    let (middle, run_at) = (open().read(&local(), run, Seq(2), 1).await.unwrap(), header.at);
    assert_eq!((middle.len(), middle[0].header.seq), (1, Seq(3)));
    assert_eq!(middle[0].header.at, run_at, "one batch, one time");
    assert!(open().read(&local(), run, Seq(4), 9).await.unwrap().is_empty());
    assert!(open().read(&local(), run, Seq(u64::MAX), 9).await.unwrap().is_empty());
    assert!(open().read(&local(), run, Seq(0), 0).await.unwrap().is_empty());
    let missing = open().read(&local(), RunId::generate(), Seq(0), 9).await;
    assert!(matches!(missing, Err(ReadError::NoSuchRun { .. })));
}

pub(super) async fn numbers_without_gaps(journal: &dyn Journal) {
    let mut owner = new_run(journal).await;
    assert_eq!(owner.head(), Seq(0));
    for n in 0..5 {
        let three = batch(&["a", "b", "c"]);
        assert_eq!(owner.append(three).await.unwrap(), Seq(n * 3 + 3));
    }
    let read = read_all(journal, owner.run()).await;
    let numbers: Vec<u64> = read.iter().map(|event| event.header.seq.0).collect();
    assert_eq!(numbers, (1..=15).collect::<Vec<_>>());
    // A batch without events only changes the row.
    assert_eq!(owner.append(Batch::default()).await.unwrap(), Seq(15));
}

pub(super) async fn is_all_or_nothing(journal: &dyn Journal) {
    let mut owner = new_run(journal).await;
    owner.append(batch(&["kept"])).await.unwrap();
    let index = Some(IndexRow { status: "lost".to_owned(), facts: "{}".to_owned() });
    let refused = Batch { consumed: vec!["never posted".to_owned()], index, ..batch(&["x", "y"]) };
    let refusal = owner.append(refused).await;
    assert!(matches!(&refusal, Err(AppendError::NotInInbox { id, .. }) if id == "never posted"));
    assert_eq!(owner.head(), Seq(1));
    assert_eq!(owner.append(batch(&["next"])).await.unwrap(), Seq(2), "the owner may go on");
    assert_eq!(bodies(&read_all(journal, owner.run()).await), ["kept", "next"]);
    let listed = journal.list(&local(), 1000).await.unwrap();
    let listed = listed.iter().find(|listed| listed.run == owner.run()).unwrap();
    assert_eq!((listed.head, &listed.index), (Seq(2), &None));
}

pub(super) async fn refuses_what_is_beyond_bounds(journal: &dyn Journal) {
    let mut owner = new_run(journal).await;
    let mut nameless = event("");
    nameless.kind = String::new();
    let mut endless = event("");
    endless.actor = "a".repeat(10_000);
    for refused in [nameless, endless] {
        let refused = Batch { events: vec![refused], ..Batch::default() };
        assert!(matches!(owner.append(refused).await, Err(AppendError::Invalid { .. })));
    }
    let many = vec![event(""); 100_000];
    let refusal = owner.append(Batch { events: many, ..Batch::default() }).await;
    assert!(matches!(refusal, Err(AppendError::Invalid { .. })));
    assert_eq!(owner.append(batch(&["fine"])).await.unwrap(), Seq(1));
}

pub(super) async fn keeps_tenants_apart(journal: &dyn Journal) {
    let (other, run) = (TenantId::new("other").unwrap(), RunId::generate());
    let mut mine = journal.create(&local(), run, None).await.unwrap();
    mine.append(batch(&["mine"])).await.unwrap();
    let missing = journal.read(&other, run, Seq(0), 9).await;
    assert!(matches!(missing, Err(ReadError::NoSuchRun { .. })));
    let missing = journal.claim(&other, run, Claim::TakeOver).await;
    assert!(matches!(missing.err(), Some(ClaimError::NoSuchRun { .. })));
    assert!(journal.list(&other, 9).await.unwrap().is_empty());
    let mut theirs = journal.create(&other, run, None).await.unwrap();
    theirs.append(batch(&["theirs"])).await.unwrap();
    assert_eq!(bodies(&read_all(journal, run).await), ["mine"]);
}

pub(super) async fn lists_newest_first(open: &impl Fn() -> Arc<dyn Journal>) {
    let journal = open();
    let row = |status: &str, facts: &str| {
        Some(IndexRow { status: status.to_owned(), facts: facts.to_owned() })
    };
    let mut owners = vec![new_run(&*journal).await, new_run(&*journal).await];
    for (owner, status) in owners.iter_mut().zip(["older", "newer"]) {
        let first = Batch { index: row(status, "{}"), ..batch(&["x"]) };
        owner.append(first).await.unwrap();
    }
    // A row stays as it was until the caller says something new; an append does not reorder.
    owners[0].append(batch(&["y"])).await.unwrap();
    let only_row = Batch { index: row("newest", "{\"n\":1}"), ..Batch::default() };
    owners[1].append(only_row).await.unwrap();
    let newer = owners.remove(1);
    let listed = open().list(&local(), 2).await.unwrap();
    assert_eq!([listed[0].run, listed[1].run], [newer.run(), owners[0].run()]);
    assert_eq!((listed[0].head, listed[1].head), (Seq(1), Seq(2)));
    assert_eq!(listed[0].index, row("newest", "{\"n\":1}"));
    assert_eq!(listed[1].index, row("older", "{}"));
    assert!(listed[0].owned && listed[1].owned);
    assert!(listed[1].updated_at >= listed[1].created_at && listed[1].created_at > 0);
    drop(newer);
    let listed = open().list(&local(), 1).await.unwrap();
    assert_eq!((listed.len(), listed[0].owned), (1, false));
}
