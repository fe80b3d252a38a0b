use std::os::fd::{AsFd as _, OwnedFd};
use std::thread::JoinHandle;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Bytes that are sent at once; pasted text comes in as much as the terminal holds.
const CHUNK: usize = 16 << 10;

/// What is typed at standard input. Read by a thread that ends when this is dropped: a read of the
/// asynchronous runtime could not be given up, and would swallow the next key.
pub(super) struct Keys {
    typed: Receiver<Vec<u8>>,
    /// Closed, it ends the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    pub(super) fn read() -> anyhow::Result<Self> {
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
        let (sender, typed) = channel(16);
        let thread = std::thread::Builder::new()
            .name("keys".to_owned())
            .spawn(move || read_all(&stopped, &sender))
            .context("cannot start a thread")?;
        Ok(Self { typed, stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn typed(&mut self) -> &mut Receiver<Vec<u8>> {
        &mut self.typed
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop = None;
        // Should it wait for room, it finds nobody there.
        self.typed.close();
        if let Some(thread) = self.thread.take() {
            // It cannot panic.
            let _ = thread.join();
        }
    }
}

fn read_all(stopped: &OwnedFd, sender: &Sender<Vec<u8>>) {
    let stdin = std::io::stdin();
    let mut buffer = vec![0; CHUNK];
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
            PollFd::new(stopped, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let [keys, stop] = fds;
        if !stop.revents().is_empty() {
            return;
        }
        if keys.revents().is_empty() {
            continue;
        }
        match rustix::io::read(stdin.as_fd(), &mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                if sender.blocking_send(bytes).is_err() {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
