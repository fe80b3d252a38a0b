//! The contract, request by request.

use std::ops::Range;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use moat_core::{BootNonce, CallKey};
use moat_guest::{
    ApplyRecord, FileChange as WireChange, MAX_INLINE, RawBytes, Reply, Request, Start,
};
use tokio::sync::mpsc;

use super::check::{Check, is_on};
use super::listing::Listing;
use super::{Exchange, GuestClient, QUICK, SLOW, convert, listener};
use crate::{
    ApplyEntry, ApplyNode, Command, CommitOutcome, FileChange, FileData, FileStat, Guest,
    GuestError, MappedFiles, ProcessEvent, ProcessStatus, Root, ScanEntry,
};

/// Bytes of content that one request carries.
const MAX_CONTENT: usize = 4 << 20;

/// Bytes of records after which a request is sent. The largest record fits behind them.
const APPLY_BATCH: usize = 2 << 20;

#[async_trait]
impl Guest for GuestClient {
    fn nonce(&self) -> &BootNonce {
        &self.nonce
    }

    async fn start(&self, command: &Command) -> Result<ProcessStatus, GuestError> {
        let start = Start {
            key: command.key.to_string(),
            argv: command.argv.clone(),
            cwd: convert::place(&command.cwd),
            environment: command.environment.clone(),
            tty: command.tty,
        };
        let request = match command.user.clone() {
            Some(user) => Request::StartAs { user, start },
            None => Request::Start(start),
        };
        match self.ask(request, &[], QUICK).await?.reply {
            Reply::Process(status)
                if status.key == command.key.to_string() || !is_on(Check::StartedKey) =>
            {
                convert::status(status)
            }
            _ => Err(Exchange::mismatch("a start").into()),
        }
    }

    async fn attach(
        &self,
        key: CallKey,
        offset: u64,
    ) -> Result<mpsc::Receiver<ProcessEvent>, GuestError> {
        self.attach_from(key, offset).await
    }

    async fn acknowledge(&self, key: CallKey, offset: u64) -> Result<(), GuestError> {
        let request = Request::Acknowledge { key: key.to_string(), offset };
        self.tell(request, &[], QUICK).await.map_err(|error| error.about(key))
    }

    async fn release(&self, key: CallKey) -> Result<(), GuestError> {
        let request = Request::Release { key: key.to_string() };
        self.tell(request, &[], QUICK).await.map_err(|error| error.about(key))
    }

    async fn write_stdin(
        &self,
        process: CallKey,
        call: CallKey,
        bytes: &[u8],
    ) -> Result<(), GuestError> {
        let request = Request::WriteStdin { process: process.to_string(), call: call.to_string() };
        self.tell(request, bytes, QUICK).await.map_err(|error| error.about(process))
    }

    async fn signal(&self, process: CallKey, signal: i32) -> Result<(), GuestError> {
        let request = Request::Signal { process: process.to_string(), signal };
        self.tell(request, &[], QUICK).await.map_err(|error| error.about(process))
    }

    async fn resize(&self, process: CallKey, rows: u16, columns: u16) -> Result<(), GuestError> {
        let request = Request::Resize { process: process.to_string(), rows, columns };
        self.tell(request, &[], QUICK).await.map_err(|error| error.about(process))
    }

    async fn processes(&self) -> Result<Vec<ProcessStatus>, GuestError> {
        match self.ask(Request::Processes, &[], QUICK).await?.reply {
            Reply::Processes(all) => all.into_iter().map(convert::status).collect(),
            _ => Err(Exchange::mismatch("a list of processes").into()),
        }
    }

    async fn stat(&self, root: Root, path: &Path) -> Result<Option<FileStat>, GuestError> {
        let request = Request::Stat { root: convert::root(root), path: RawBytes::from_path(path) };
        let answer = self.ask(request, &[], QUICK).await?;
        let mut record = answer.payload.as_slice();
        match answer.reply {
            Reply::Entries { last: true } if record.is_empty() => Ok(None),
            Reply::Entries { last: true } => {
                let found = moat_guest::StatRecord::decode(&mut record).map_err(convert::broken)?;
                if is_on(Check::OneRecord) && !record.is_empty() {
                    return Err(convert::broken("a stat has more than one record"));
                }
                Ok(Some(convert::entry(found).stat))
            }
            _ => Err(Exchange::mismatch("a stat").into()),
        }
    }

    async fn read_at(
        &self,
        root: Root,
        path: &Path,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, GuestError> {
        let (root, path) = (convert::root(root), RawBytes::from_path(path));
        let answer = self.ask(Request::ReadAt { root, path, offset, length }, &[], QUICK).await?;
        match answer.reply {
            Reply::Bytes
                if answer.payload.len() <= length as usize || !is_on(Check::ReadLength) =>
            {
                Ok(answer.payload)
            }
            _ => Err(Exchange::mismatch("a read").into()),
        }
    }

    async fn read_data(
        &self,
        root: Root,
        path: &Path,
        range: Range<u64>,
        length: u32,
    ) -> Result<FileData, GuestError> {
        self.data(root, path, range, length).await
    }

    async fn mapped(&self) -> Result<MappedFiles, GuestError> {
        self.mapped_files().await
    }

    async fn list(&self, root: Root, path: &Path) -> Result<Vec<ScanEntry>, GuestError> {
        // As the guest will have it: without needless parts.
        let plain: PathBuf = path.components().collect();
        let listing = Listing::folder(RawBytes::from_path(&plain).0);
        let request = Request::List { root: convert::root(root), path: RawBytes::from_path(path) };
        Ok(self.ask_listing(request, listing, SLOW).await?)
    }

    async fn write(
        &self,
        root: Root,
        path: &Path,
        content: &[u8],
        mode: u32,
    ) -> Result<(), GuestError> {
        check_size(content)?;
        let (root, path) = (convert::root(root), RawBytes::from_path(path));
        Ok(self.tell(Request::Write { root, path, mode }, content, QUICK).await?)
    }

    async fn write_at(
        &self,
        root: Root,
        path: &Path,
        offset: u64,
        content: &[u8],
    ) -> Result<(), GuestError> {
        check_size(content)?;
        let (root, path) = (convert::root(root), RawBytes::from_path(path));
        Ok(self.tell(Request::WriteAt { root, path, offset }, content, QUICK).await?)
    }

    async fn make_dir(&self, root: Root, path: &Path) -> Result<(), GuestError> {
        let (root, path) = (convert::root(root), RawBytes::from_path(path));
        Ok(self.tell(Request::MakeDir { root, path }, &[], QUICK).await?)
    }

    async fn remove(&self, root: Root, path: &Path) -> Result<(), GuestError> {
        let (root, path) = (convert::root(root), RawBytes::from_path(path));
        Ok(self.tell(Request::Remove { root, path }, &[], SLOW).await?)
    }

    async fn rename(&self, root: Root, from: &Path, to: &Path) -> Result<(), GuestError> {
        let (from, to) = (RawBytes::from_path(from), RawBytes::from_path(to));
        let request = Request::Rename { root: convert::root(root), from, to };
        Ok(self.tell(request, &[], QUICK).await?)
    }

    async fn commit(
        &self,
        key: CallKey,
        changes: &[FileChange],
    ) -> Result<CommitOutcome, GuestError> {
        match self.commit_all(key, changes).await? {
            Some(outcome) => Ok(outcome),
            None => Err(Exchange::mismatch("a commit").into()),
        }
    }

    async fn committed(&self, key: CallKey) -> Result<Option<CommitOutcome>, GuestError> {
        let request = Request::Committed { key: key.to_string() };
        self.ask_outcome(request, &[]).await
    }

    async fn freeze(&self) -> Result<bool, GuestError> {
        match self.ask(Request::Freeze, &[], QUICK).await?.reply {
            Reply::Frozen(any) => Ok(any),
            _ => Err(Exchange::mismatch("a freeze").into()),
        }
    }

    async fn thaw(&self) -> Result<(), GuestError> {
        Ok(self.tell(Request::Thaw, &[], QUICK).await?)
    }

    async fn scan(&self, root: Root, skip: &[PathBuf]) -> Result<Vec<ScanEntry>, GuestError> {
        let skip = skip.iter().map(|path| RawBytes::from_path(path)).collect();
        let request = Request::Scan { root: convert::root(root), skip };
        Ok(self.ask_listing(request, Listing::tree(), SLOW).await?)
    }

    async fn apply(&self, root: Root, entries: &[ApplyEntry]) -> Result<(), GuestError> {
        for entry in entries {
            if let ApplyNode::File { content: Some(content), .. } = &entry.node
                && content.len() > MAX_INLINE
            {
                let what = format!("take {} bytes of content with its entry", content.len());
                return Err(GuestError::Unsupported(what));
            }
        }
        let root = convert::root(root);
        let records = entries.iter().map(|entry| convert::apply_record(entry, true));
        self.send_records(records, || Request::Apply { root }).await
    }

    async fn finish(&self, root: Root, entries: &[ApplyEntry]) -> Result<(), GuestError> {
        let root = convert::root(root);
        let is_folder = |entry: &&ApplyEntry| entry.node == ApplyNode::Dir;
        let record = |entry| convert::apply_record(entry, false);
        let files = entries.iter().filter(|entry| !is_folder(entry)).map(record);
        self.send_records(files, || Request::Finish { root }).await?;
        // From within, so that no time of a folder is changed by what is finished in it, and none
        // is made read-only before.
        let folders = entries.iter().rev().filter(is_folder).map(record);
        self.send_records(folders, || Request::Finish { root }).await
    }

    async fn shutdown(&self) -> Result<(), GuestError> {
        Ok(self.tell(Request::Shutdown, &[], QUICK).await?)
    }
}

impl GuestClient {
    async fn attach_from(
        &self,
        key: CallKey,
        offset: u64,
    ) -> Result<mpsc::Receiver<ProcessEvent>, GuestError> {
        let full = || GuestError::Unsupported("hear one more process".to_owned());
        let (listener, receiver) = listener::channel(offset).ok_or_else(full)?;
        let (sender, answer) = tokio::sync::oneshot::channel();
        let inbox = &self.shared.inbox;
        let id = inbox.next_id();
        inbox.listen(id, listener)?;
        let request = Request::Attach { key: key.to_string(), offset, credit: listener::WINDOW };
        let waiting = super::Waiting::Answer(sender);
        let attached = match self.exchange_as(id, request, &[], QUICK, waiting, answer).await {
            Ok(answer) if answer.reply == Reply::Done => Ok(()),
            Ok(_) => Err(Exchange::mismatch("a listener").into()),
            Err(error) => Err(error.about(key)),
        };
        if let Err(error) = attached {
            inbox.forget_listener(id);
            return Err(error);
        }
        let shared = std::sync::Arc::clone(&self.shared);
        inbox.with_listener(id, |listener| listener.keep_filled(id, shared));
        Ok(receiver)
    }

    async fn commit_all(
        &self,
        key: CallKey,
        changes: &[FileChange],
    ) -> Result<Option<CommitOutcome>, GuestError> {
        let mut contents = Vec::new();
        let mut wire = Vec::with_capacity(changes.len());
        for change in changes {
            let (content, mode) = match &change.after {
                Some((content, mode)) => (Some(content), *mode),
                None => (None, None),
            };
            wire.push(WireChange {
                path: RawBytes::from_path(&change.path),
                before: change.before.map(|hash| hash.to_string()),
                size: content.map(|content| content.len() as u64),
                mode,
            });
            contents.extend_from_slice(content.map_or(&[], Vec::as_slice));
        }
        let key = key.to_string();
        if contents.len() > MAX_CONTENT {
            let mut offset = 0;
            for part in contents.chunks(MAX_CONTENT) {
                let request = Request::Stage { key: key.clone(), offset };
                self.tell(request, part, QUICK).await?;
                offset += part.len() as u64;
            }
            contents.clear();
        }
        let outcome = self.ask_outcome(Request::Commit { key, changes: wire }, &contents).await?;
        match &outcome {
            Some(CommitOutcome::Conflict(path))
                if is_on(Check::ConflictPath)
                    && !changes.iter().any(|change| change.path == *path) =>
            {
                Err(convert::broken("a conflict is about a file that was not to be changed"))
            }
            _ => Ok(outcome),
        }
    }

    async fn ask_outcome(
        &self,
        request: Request,
        payload: &[u8],
    ) -> Result<Option<CommitOutcome>, GuestError> {
        match self.ask(request, payload, SLOW).await?.reply {
            Reply::Committed(outcome) => Ok(outcome.map(convert::outcome)),
            _ => Err(Exchange::mismatch("a commit").into()),
        }
    }

    async fn send_records(
        &self,
        records: impl Iterator<Item = ApplyRecord> + Send,
        request: impl Fn() -> Request + Send,
    ) -> Result<(), GuestError> {
        let mut batch = Vec::new();
        for record in records {
            record.encode(&mut batch);
            if batch.len() >= APPLY_BATCH {
                self.tell(request(), &batch, SLOW).await?;
                batch.clear();
            }
        }
        if !batch.is_empty() {
            self.tell(request(), &batch, SLOW).await?;
        }
        Ok(())
    }
}

fn check_size(content: &[u8]) -> Result<(), GuestError> {
    if content.len() > MAX_CONTENT {
        let what = format!("write {} bytes at once", content.len());
        return Err(GuestError::Unsupported(what));
    }
    Ok(())
}
