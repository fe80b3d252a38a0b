//! Random sequences of everything that owners, posters and readers do, against a model that fits
//! on a page. What the model says must happen is what the journal does, and what it refuses.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use moat_blobs::FolderBlobs;
use moat_core::{Epoch, RunId, Seq, TenantId, TenantKey};
use moat_journal::sqlite::{SqliteJournal, SqliteOptions};
use moat_journal::{
    AppendError, Batch, Claim, ClaimError, InboxEntry, Journal, NewEvent, RunOwner,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Claim { run: usize, handle: usize, take_over: bool },
    Append { owner: usize, bodies: Vec<u16>, consume: bool },
    Release { owner: usize },
    Post { run: usize, handle: usize, id: u8 },
    Read { run: usize, handle: usize, after: u8, limit: u8 },
    Verify { handle: usize },
}

const RUNS: usize = 2;
const HANDLES: usize = 2;

fn step() -> impl Strategy<Value = Step> {
    let (run, handle, owner) = (0..RUNS, 0..HANDLES, 0..6_usize);
    prop_oneof![
        3 => (run.clone(), handle.clone(), any::<bool>())
            .prop_map(|(run, handle, take_over)| Step::Claim { run, handle, take_over }),
        8 => (owner.clone(), prop::collection::vec(any::<u16>(), 0..4), any::<bool>())
            .prop_map(|(owner, bodies, consume)| Step::Append { owner, bodies, consume }),
        2 => owner.prop_map(|owner| Step::Release { owner }),
        4 => (run.clone(), handle.clone(), 0..6_u8)
            .prop_map(|(run, handle, id)| Step::Post { run, handle, id }),
        3 => (run, handle.clone(), 0..12_u8, 0..6_u8)
            .prop_map(|(run, handle, after, limit)| Step::Read { run, handle, after, limit }),
        1 => handle.prop_map(|handle| Step::Verify { handle }),
    ]
}

#[derive(Default)]
struct Run {
    bodies: Vec<Vec<u8>>,
    epochs: Vec<u64>,
    epoch: u64,
    /// The owner that counts, if it was not released.
    held: bool,
    /// Every entry ever posted; whether it still waits.
    inbox: BTreeMap<String, bool>,
    order: Vec<String>,
}

struct World {
    journals: Vec<SqliteJournal>,
    ids: Vec<RunId>,
    runs: Vec<Run>,
    owners: Vec<Option<(usize, Box<dyn RunOwner>)>>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_journal_does_what_the_model_says(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut world = World::new(dir.path()).await;
            for step in steps {
                world.take(step).await;
            }
            world.check_all().await;
        });
    }
}

fn local() -> TenantId {
    TenantId::local()
}

fn body(number: u16) -> Vec<u8> {
    // Some of them are large enough for the blob store.
    number.to_string().repeat(if number.is_multiple_of(16) { 20_000 } else { 1 }).into_bytes()
}

fn event(body: Vec<u8>) -> NewEvent {
    NewEvent {
        actor: "harness".to_owned(),
        kind: "tested".to_owned(),
        version: 1,
        must_understand: true,
        at: None,
        body,
    }
}

impl World {
    async fn new(dir: &std::path::Path) -> Self {
        let open = || {
            SqliteJournal::open(SqliteOptions {
                data_dir: dir.join("data"),
                anchors_dir: dir.join("anchors"),
                tenant_key: TenantKey::new([1; 32]),
                blobs: Arc::new(FolderBlobs::new(dir.join("blobs"), [2; 32])),
            })
        };
        let journals: Vec<_> = (0..HANDLES).map(|_| open().unwrap()).collect();
        let mut world = Self { journals, ids: Vec::new(), runs: Vec::new(), owners: Vec::new() };
        for n in 0..RUNS {
            let id = RunId::generate();
            let owner = world.journals[0].create(&local(), id, None).await.unwrap();
            world.ids.push(id);
            world.runs.push(Run { epoch: 1, held: true, ..Run::default() });
            world.owners.push(Some((n, owner)));
        }
        world
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Claim { run, handle, take_over } => self.claim(run, handle, take_over).await,
            Step::Append { owner, bodies, consume } => self.append(owner, bodies, consume).await,
            Step::Release { owner } => self.release(owner),
            Step::Post { run, handle, id } => self.post(run, handle, id).await,
            Step::Read { run, handle, after, limit } => {
                self.read(run, handle, after.into(), limit.into()).await;
            }
            Step::Verify { handle } => self.verify(handle).await,
        }
    }

    async fn claim(&mut self, run: usize, handle: usize, take_over: bool) {
        let claim = if take_over { Claim::TakeOver } else { Claim::IfFree };
        let claimed = self.journals[handle].claim(&local(), self.ids[run], claim).await;
        let model = &mut self.runs[run];
        match claimed {
            Ok(owner) => {
                assert!(take_over || !model.held, "a held run was given away");
                assert!(owner.epoch() > Epoch(model.epoch));
                assert_eq!(owner.head().0, model.bodies.len() as u64);
                (model.epoch, model.held) = (owner.epoch().0, true);
                self.owners.push(Some((run, owner)));
            }
            Err(ClaimError::Held { holder, .. }) => {
                assert!(model.held && !take_over);
                assert_eq!(holder.pid, std::process::id());
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn append(&mut self, owner: usize, bodies: Vec<u16>, consume: bool) {
        let Some(Some((run, owner))) = self.owners.get_mut(owner) else { return };
        let model = &mut self.runs[*run];
        let waiting: Vec<_> = model.order.iter().filter(|id| model.inbox[*id]).cloned().collect();
        let consumed: Vec<_> = if consume { waiting.into_iter().take(1).collect() } else { vec![] };
        let bodies: Vec<_> = bodies.into_iter().map(body).collect();
        let events = bodies.iter().cloned().map(event).collect();
        let appended =
            owner.append(Batch { events, consumed: consumed.clone(), index: None }).await;
        if owner.epoch().0 == model.epoch {
            assert_eq!(appended.unwrap().0, (model.bodies.len() + bodies.len()) as u64);
            model.epochs.extend(bodies.iter().map(|_| model.epoch));
            model.bodies.extend(bodies);
            for id in consumed {
                model.inbox.insert(id, false);
            }
        } else {
            match appended {
                Err(AppendError::Stale { current, holder, .. }) => {
                    assert_eq!((current.0, holder.is_some()), (model.epoch, model.held));
                }
                other => panic!("an old owner appended: {other:?}"),
            }
        }
    }

    fn release(&mut self, owner: usize) {
        let Some(Some((run, owner))) = self.owners.get_mut(owner).map(Option::take) else { return };
        if owner.epoch().0 == self.runs[run].epoch {
            self.runs[run].held = false;
        }
    }

    async fn post(&mut self, run: usize, handle: usize, id: u8) {
        let id = id.to_string();
        let entry = InboxEntry {
            id: id.clone(),
            kind: "steer".to_owned(),
            body: "{}".to_owned(),
            who: "user:ada".to_owned(),
            at: 1,
        };
        let model = &mut self.runs[run];
        let is_new = self.journals[handle].post(&local(), self.ids[run], entry).await.unwrap();
        assert_eq!(is_new, !model.inbox.contains_key(&id));
        if is_new {
            model.inbox.insert(id.clone(), true);
            model.order.push(id);
        }
    }

    async fn read(&self, run: usize, handle: usize, after: usize, limit: usize) {
        let journal = &self.journals[handle];
        let read = journal.read(&local(), self.ids[run], Seq(after as u64), limit).await.unwrap();
        let model = &self.runs[run];
        let expected: Vec<_> = (after..model.bodies.len()).take(limit).collect();
        assert_eq!(read.len(), expected.len());
        for (event, index) in read.iter().zip(expected) {
            assert_eq!(event.header.seq.0, index as u64 + 1);
            assert_eq!(event.header.epoch.0, model.epochs[index]);
            assert!(event.body.as_ref() == Some(&model.bodies[index]));
        }
    }

    async fn verify(&self, handle: usize) {
        let report = self.journals[handle].verify(&local(), None).await.unwrap();
        assert!(report.runs.iter().all(|run| run.problems.is_empty()), "{report:#?}");
    }

    async fn check_all(&mut self) {
        for run in 0..RUNS {
            self.read(run, 1, 0, usize::MAX).await;
            let claim = self.journals[1].claim(&local(), self.ids[run], Claim::TakeOver).await;
            let waiting = claim.unwrap().inbox().await.unwrap();
            let waiting: Vec<_> = waiting.into_iter().map(|entry| entry.id).collect();
            let model = &self.runs[run];
            let expected: Vec<_> =
                model.order.iter().filter(|id| model.inbox[*id]).cloned().collect();
            assert_eq!(waiting, expected);
        }
        self.verify(0).await;
    }
}
