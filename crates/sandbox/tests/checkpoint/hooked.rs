//! A guest that does what the one behind it does, and on demand something else.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use moat_core::{BootNonce, CallKey};
use moat_sandbox::{
    ApplyEntry, Command, CommitOutcome, FileChange, FileData, FileStat, Guest, GuestError,
    MappedFiles, ProcessEvent, ProcessStatus, Root, ScanEntry,
};
use tokio::sync::{mpsc, watch};

type Hook = Box<dyn Fn() + Send + Sync>;

const SCANS: u8 = 0;
const FAILS: u8 = 1;
const HANGS: u8 = 2;

pub(crate) struct Hooked {
    inner: Arc<dyn Guest>,
    reads: Mutex<Vec<String>>,
    /// Bytes that were sent.
    sent: AtomicUsize,
    on_read: Mutex<Hook>,
    scans: AtomicU8,
    /// Bytes of content that an answer has at most.
    most: AtomicUsize,
    thaws: watch::Sender<u32>,
}

impl Hooked {
    pub(crate) fn new(inner: Arc<dyn Guest>) -> Self {
        Self {
            inner,
            reads: Mutex::default(),
            sent: AtomicUsize::new(0),
            on_read: Mutex::new(Box::new(|| {})),
            scans: AtomicU8::new(SCANS),
            most: AtomicUsize::new(usize::MAX),
            thaws: watch::channel(0).0,
        }
    }

    /// Paths that were read since the last call.
    pub(crate) fn take_reads(&self) -> Vec<String> {
        std::mem::take(&mut *self.reads.lock().unwrap())
    }

    /// Bytes of large files that were sent.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Called after every read.
    pub(crate) fn on_read(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.on_read.lock().unwrap() = Box::new(hook);
    }

    /// From now on no content is sent.
    pub(crate) fn send_nothing(&self) {
        self.send_at_a_time(0);
    }

    /// From now on an answer has no more than so many bytes of content.
    pub(crate) fn send_at_a_time(&self, most: usize) {
        self.most.store(most, Ordering::SeqCst);
    }

    pub(crate) fn fail_scans(&self) {
        self.scans.store(FAILS, Ordering::SeqCst);
    }

    pub(crate) fn hang_scans(&self) {
        self.scans.store(HANGS, Ordering::SeqCst);
    }

    /// How often it was thawed; waits for one that is new.
    pub(crate) async fn thawed(&self) -> u32 {
        let mut thaws = self.thaws.subscribe();
        thaws.mark_changed();
        let waited = thaws.wait_for(|count| *count > 0);
        let mut count = *waited.await.unwrap();
        // A thaw after a cancelled checkpoint is a task of its own: give it its turn.
        for _ in 0..100 {
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            count = count.max(*self.thaws.borrow());
        }
        count
    }
}

#[async_trait]
impl Guest for Hooked {
    fn nonce(&self) -> &BootNonce {
        self.inner.nonce()
    }
    async fn start(&self, command: &Command) -> Result<ProcessStatus, GuestError> {
        self.inner.start(command).await
    }
    async fn attach(
        &self,
        key: CallKey,
        offset: u64,
    ) -> Result<mpsc::Receiver<ProcessEvent>, GuestError> {
        self.inner.attach(key, offset).await
    }
    async fn acknowledge(&self, key: CallKey, offset: u64) -> Result<(), GuestError> {
        self.inner.acknowledge(key, offset).await
    }
    async fn release(&self, key: CallKey) -> Result<(), GuestError> {
        self.inner.release(key).await
    }
    async fn write_stdin(
        &self,
        process: CallKey,
        call: CallKey,
        bytes: &[u8],
    ) -> Result<(), GuestError> {
        self.inner.write_stdin(process, call, bytes).await
    }
    async fn signal(&self, process: CallKey, signal: i32) -> Result<(), GuestError> {
        self.inner.signal(process, signal).await
    }
    async fn resize(&self, process: CallKey, rows: u16, columns: u16) -> Result<(), GuestError> {
        self.inner.resize(process, rows, columns).await
    }
    async fn processes(&self) -> Result<Vec<ProcessStatus>, GuestError> {
        self.inner.processes().await
    }
    async fn stat(&self, root: Root, path: &Path) -> Result<Option<FileStat>, GuestError> {
        self.inner.stat(root, path).await
    }
    async fn read_at(
        &self,
        root: Root,
        path: &Path,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, GuestError> {
        let mut read = self.inner.read_at(root, path, offset, length).await;
        if let Ok(bytes) = &mut read {
            bytes.truncate(self.most.load(Ordering::SeqCst));
        }
        self.reads.lock().unwrap().push(path.display().to_string());
        (self.on_read.lock().unwrap())();
        read
    }
    async fn read_data(
        &self,
        root: Root,
        path: &Path,
        range: std::ops::Range<u64>,
        length: u32,
    ) -> Result<FileData, GuestError> {
        let mut read = self.inner.read_data(root, path, range, length).await;
        if let Ok(data) = &mut read {
            let most = self.most.load(Ordering::SeqCst);
            data.bytes.truncate(most);
            // One that sends nothing says nothing of holes either.
            data.hole = if most == 0 { 0 } else { data.hole };
        }
        let bytes = read.as_ref().map_or(0, |data| data.bytes.len());
        self.sent.fetch_add(bytes, Ordering::SeqCst);
        self.reads.lock().unwrap().push(path.display().to_string());
        (self.on_read.lock().unwrap())();
        read
    }
    async fn mapped(&self) -> Result<MappedFiles, GuestError> {
        self.inner.mapped().await
    }
    async fn list(&self, root: Root, path: &Path) -> Result<Vec<ScanEntry>, GuestError> {
        self.inner.list(root, path).await
    }
    async fn write(
        &self,
        root: Root,
        path: &Path,
        content: &[u8],
        mode: u32,
    ) -> Result<(), GuestError> {
        self.inner.write(root, path, content, mode).await
    }
    async fn write_at(
        &self,
        root: Root,
        path: &Path,
        offset: u64,
        content: &[u8],
    ) -> Result<(), GuestError> {
        self.inner.write_at(root, path, offset, content).await
    }
    async fn make_dir(&self, root: Root, path: &Path) -> Result<(), GuestError> {
        self.inner.make_dir(root, path).await
    }
    async fn remove(&self, root: Root, path: &Path) -> Result<(), GuestError> {
        self.inner.remove(root, path).await
    }
    async fn rename(&self, root: Root, from: &Path, to: &Path) -> Result<(), GuestError> {
        self.inner.rename(root, from, to).await
    }
    async fn commit(
        &self,
        key: CallKey,
        changes: &[FileChange],
    ) -> Result<CommitOutcome, GuestError> {
        self.inner.commit(key, changes).await
    }
    async fn committed(&self, key: CallKey) -> Result<Option<CommitOutcome>, GuestError> {
        self.inner.committed(key).await
    }
    async fn freeze(&self) -> Result<bool, GuestError> {
        self.inner.freeze().await
    }
    async fn thaw(&self) -> Result<(), GuestError> {
        let thawed = self.inner.thaw().await;
        self.thaws.send_modify(|count| *count += 1);
        thawed
    }
    async fn scan(&self, root: Root, skip: &[PathBuf]) -> Result<Vec<ScanEntry>, GuestError> {
        match self.scans.load(Ordering::SeqCst) {
            FAILS => Err(GuestError::Protocol("as told".into())),
            HANGS => std::future::pending().await,
            _ => self.inner.scan(root, skip).await,
        }
    }
    async fn apply(&self, root: Root, entries: &[ApplyEntry]) -> Result<(), GuestError> {
        self.inner.apply(root, entries).await
    }
    async fn finish(&self, root: Root, entries: &[ApplyEntry]) -> Result<(), GuestError> {
        self.inner.finish(root, entries).await
    }
    async fn shutdown(&self) -> Result<(), GuestError> {
        self.inner.shutdown().await
    }
}
