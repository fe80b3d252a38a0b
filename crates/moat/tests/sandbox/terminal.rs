//! A command on a terminal, and somebody in front of it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
    child: Mutex<Child>,
    said: Arc<Mutex<Vec<u8>>>,
    /// How much of it was looked through.
    seen: Mutex<usize>,
    before: String,
}

impl Terminal {
    pub(crate) fn start(mut command: Command, rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        tcsetwinsize(&slave, size(rows, columns)).unwrap();
        let before = settings(&slave);
        let end = || slave.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let (reader, heard) = (master.try_clone().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = rustix::io::read(&reader, &mut buffer) {
                heard.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { master, slave, child: Mutex::new(child), said, seen: Mutex::new(0), before }
    }

    pub(crate) fn type_in(&self, text: &str) {
        rustix::io::write(&self.master, text.as_bytes()).unwrap();
    }

    pub(crate) fn enter(&self, line: &str) {
        self.type_in(&format!("{line}\r"));
    }

    /// Waits until this is shown, after what was waited for before.
    pub(crate) fn until(&self, text: &str) {
        let start = Instant::now();
        let mut seen = self.seen.lock().unwrap();
        loop {
            let said = self.said.lock().unwrap().clone();
            let rest = String::from_utf8_lossy(&said[*seen..]).into_owned();
            if let Some(at) = rest.find(text) {
                *seen = (*seen + at + text.len()).min(said.len());
                return;
            }
            assert!(start.elapsed() < PATIENCE, "`{text}` is not in {rest:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.master, size(rows, columns)).unwrap();
        // It is not the terminal of the session here, so the kernel tells nobody.
        self.signal(Signal::WINCH);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.lock().unwrap().id().try_into().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits for the command's end; its exit code.
    pub(crate) fn finish(&self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.lock().unwrap().try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything that was shown.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    pub(crate) fn settings_before(&self) -> String {
        self.before.clone()
    }

    pub(crate) fn settings(&self) -> String {
        settings(&self.slave)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn settings(terminal: &OwnedFd) -> String {
    let settings = tcgetattr(terminal.as_fd()).unwrap();
    format!(
        "{:?} {:?} {:?} {:?}",
        settings.input_modes, settings.output_modes, settings.control_modes, settings.local_modes
    )
}
