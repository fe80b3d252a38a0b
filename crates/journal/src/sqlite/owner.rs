use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use moat_core::{Epoch, Hash, RunId, Seq, TenantId};

use super::anchor::Anchor;
use super::lock::RunLock;
use super::wake::{Bell, Wake};
use super::{Shared, append, blocking, inbox};
use crate::format::DataKey;
use crate::{AppendError, Batch, InboxEntry, ReadError, RunOwner};

/// The end of a run's chain.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) seq: Seq,
    pub(super) chain: Hash,
}

/// The owner of a run in an embedded journal.
pub(super) struct SqliteOwner {
    pub(super) shared: Arc<Shared>,
    pub(super) tenant: TenantId,
    pub(super) run: RunId,
    pub(super) number: i64,
    pub(super) epoch: Epoch,
    pub(super) head: Head,
    pub(super) key: Arc<DataKey>,
    pub(super) wake: Arc<Wake>,
    /// An append was given up half-way, so `head` may not be the head any more.
    pub(super) uncertain: bool,
    inbox: Mutex<InboxWatch>,
    _lock: RunLock,
}

#[derive(Default)]
struct InboxWatch {
    /// There once somebody has waited.
    bell: Option<Bell>,
    /// The inbox was looked at since `bell` is there, so from then on it tells everything.
    is_current: bool,
    /// The newest entry that [`RunOwner::inbox`] has returned.
    newest: i64,
}

impl InboxWatch {
    /// Whether everything that comes from now on will be heard.
    fn listens(&mut self) -> bool {
        let Some(bell) = &mut self.bell else { return false };
        if bell.mark_seen().is_err() {
            (self.bell, self.is_current) = (None, false);
        }
        self.bell.is_some()
    }
}

impl SqliteOwner {
    #[expect(clippy::too_many_arguments, reason = "called in one place, each of its own type")]
    pub(super) fn new(
        shared: Arc<Shared>,
        tenant: TenantId,
        run: RunId,
        number: i64,
        epoch: Epoch,
        head: Head,
        key: DataKey,
        lock: RunLock,
        wake: Arc<Wake>,
    ) -> Self {
        let key = Arc::new(key);
        let inbox = Mutex::default();
        Self {
            shared,
            tenant,
            run,
            number,
            epoch,
            head,
            key,
            wake,
            uncertain: false,
            inbox,
            _lock: lock,
        }
    }

    fn inbox_watch(&self) -> std::sync::MutexGuard<'_, InboxWatch> {
        // Both fields are set on their own.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches from the first wait on. May be given up at any point and called again.
    async fn wait_for_inbox(&self) {
        let (rung, is_current, newest) = {
            let mut watch = self.inbox_watch();
            if watch.bell.is_none() {
                watch.bell = self.shared.wakes.listen(&self.tenant, self.run).ok();
            }
            (watch.bell.as_ref().map(Bell::rung), watch.is_current, watch.newest)
        };
        let Some(rung) = rung else {
            // No pipe can be had (the process has too many files open): look now and then.
            return tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        };
        if !is_current {
            // What came between the last look and the moment from which the pipe is open.
            let newer = inbox::is_newer(&self.shared, &self.tenant, self.run, self.epoch, newest);
            if newer.await.unwrap_or(true) {
                return;
            }
            self.inbox_watch().is_current = true;
        }
        rung.await;
    }
}

#[async_trait]
impl RunOwner for SqliteOwner {
    fn run(&self) -> RunId {
        self.run
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn head(&self) -> Seq {
        self.head.seq
    }

    async fn append(&mut self, batch: Batch) -> Result<Seq, AppendError> {
        append::append(self, batch).await
    }

    async fn inbox(&self) -> Result<Vec<InboxEntry>, ReadError> {
        let is_watched = self.inbox_watch().listens();
        let key = Arc::clone(&self.key);
        let (newest, entries) = inbox::waiting(&self.shared, &self.tenant, self.run, key).await?;
        let mut watch = self.inbox_watch();
        watch.newest = watch.newest.max(newest);
        watch.is_current |= is_watched;
        Ok(entries)
    }

    async fn inbox_changed(&self) {
        self.wait_for_inbox().await;
    }

    async fn anchor(&self) -> Result<(), AppendError> {
        let anchor = Anchor::new(&self.tenant, self.run, self.head.seq, self.head.chain);
        let recorded = blocking(&self.shared, move |shared| {
            shared.anchors.record(&shared.keys, std::slice::from_ref(&anchor))
        });
        let path = || self.shared.anchors.dir().to_owned();
        recorded.await.map_err(|source| AppendError::Anchor { path: path(), source })
    }
}
