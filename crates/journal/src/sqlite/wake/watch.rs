use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::watch;

/// The thread that hears of touched files and tells who subscribed to their names.
pub(super) struct Watch {
    subscribers: Arc<Subscribers>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Subscribers(Mutex<HashMap<String, watch::Sender<u64>>>);

/// Says when the journal may hold something new.
pub(in crate::sqlite) struct Subscription {
    name: String,
    changes: watch::Receiver<u64>,
    watch: Arc<Watch>,
}

impl Watch {
    pub(super) fn start(dir: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let heard = WatchFlags::ACCESS | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
        inotify::add_watch(&events, dir, heard)?;
        let stop = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
        let subscribers = Arc::new(Subscribers::default());
        let thread = std::thread::Builder::new().name("journal-wake".to_owned()).spawn({
            let (subscribers, stop) = (Arc::clone(&subscribers), Arc::clone(&stop));
            move || {
                listen(&subscribers, &events, &stop);
                // Whoever still waits looks again, and finds that it has to watch anew.
                subscribers.close();
            }
        })?;
        Ok(Self { subscribers, stop, thread: Some(thread) })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    pub(super) fn subscribe(watch: &Arc<Self>, name: String) -> Subscription {
        let mut subscribers = watch.subscribers.lock();
        let sender = subscribers.entry(name.clone()).or_insert_with(|| watch::Sender::new(0));
        Subscription { name, changes: sender.subscribe(), watch: Arc::clone(watch) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Subscription {
    /// What happened until now is known: to be called before reading.
    pub(in crate::sqlite) fn mark_seen(&mut self) {
        self.changes.mark_unchanged();
    }

    /// Waits until something may have happened since [`Subscription::mark_seen`].
    pub(in crate::sqlite) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut changes = self.changes.clone();
        async move {
            if changes.changed().await.is_err() {
                // The watch ended (its folder was removed, say). Readers look again now and then
                // until they are dropped, rather than never.
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut subscribers = self.watch.subscribers.lock();
        // This one is still counted.
        if subscribers.get(&self.name).is_some_and(|sender| sender.receiver_count() <= 1) {
            subscribers.remove(&self.name);
        }
    }
}

impl Subscribers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        // Every change is one insertion or removal, so the map is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, name: &str) {
        if let Some(sender) = self.lock().get(name) {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn wake_all(&self) {
        for sender in self.lock().values() {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn close(&self) {
        self.lock().clear();
    }
}

/// Until told to stop, or until the folder is gone.
fn listen(subscribers: &Subscribers, events: &OwnedFd, stop: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = inotify::Reader::new(events, &mut buffer);
    loop {
        match reader.next() {
            Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                subscribers.wake_all();
            }
            Ok(event) if event.events().contains(ReadFlags::IGNORED) => return,
            Ok(event) => {
                if let Some(name) = event.file_name().and_then(|name| name.to_str().ok()) {
                    subscribers.wake(name);
                }
            }
            Err(Errno::AGAIN) => {
                let mut ready =
                    [PollFd::new(events, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
                match rustix::event::poll(&mut ready, None) {
                    Ok(_) if ready.iter().skip(1).any(|stop| !stop.revents().is_empty()) => return,
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(_) => return,
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
