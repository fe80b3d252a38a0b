//! The process that serves a mount: whether it lives, and how it is ended without losing what was
//! written.
//!
//! Rclone keeps what is written in its cache, notes beside each file whether it is uploaded, and
//! forgets about the rest when it is unmounted or ends. So its notes are read before anything is
//! taken away, and where it was killed another one goes on with its cache.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::record::Mounted;
use crate::table::{is_mounted, unmount};

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(20);
/// How often what was written at the last moment is gone after.
const ROUNDS: usize = 3;
/// How long another rclone may take to be there.
const SERVED_WITHIN: Duration = Duration::from_secs(10);
/// How long a killed one may take to be gone.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a note that are read; a longer one is of a file that is being written.
const NOTE: u64 = 1 << 20;

/// A process that serves a mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Serving {
    pid: u32,
    /// When it began, in the kernel's ticks: numbers of processes come back.
    began: u64,
}

impl Serving {
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, began: began(pid)? })
    }

    fn end(&self) {
        if !self.lives() {
            return;
        }
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let until = Instant::now() + ENDED_WITHIN;
        while self.lives() && Instant::now() < until {
            std::thread::sleep(EVERY);
        }
    }

    pub(crate) fn lives(&self) -> bool {
        began(self.pid) == Some(self.began)
    }
}

fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, blanks and brackets among it.
    let rest = stat.rsplit_once(')')?.1;
    let state = rest.split_whitespace().next()?;
    if state == "Z" { None } else { rest.split_whitespace().nth(19)?.parse().ok() }
}

impl Mounted {
    /// Takes it away once everything is uploaded that was written. `changed` is told when another
    /// process serves it.
    ///
    /// # Errors
    /// If it is not within the time; then it is served on.
    pub(crate) fn end(
        mut self,
        until: Instant,
        mut changed: impl FnMut(&Self) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(mut serving) = self.process.clone() else { return Ok(()) };
        let own = self.folder.parent().unwrap_or(&self.folder).to_owned();
        for _ in 0..ROUNDS {
            if self.written.is_some() {
                while serving.lives() && first_waiting(&own).is_some() {
                    if Instant::now() >= until {
                        return Err(self.late(&own));
                    }
                    std::thread::sleep(EVERY);
                }
            }
            // Nothing waits, or nobody would upload it.
            unmount(&self.folder);
            serving.end();
            let Some(remote) = &self.written else { return Ok(()) };
            if first_waiting(&own).is_none() {
                return Ok(());
            }
            serving = serve_again(&own, remote, &self.folder)?;
            self.process = Some(serving.clone());
            changed(&self)?;
        }
        Err(self.late(&own))
    }

    fn late(&self, own: &Path) -> io::Error {
        let mut count = 0_usize;
        each_waiting(own, &mut |_| {
            count += 1;
            false
        });
        let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        io::Error::other(format!(
            "{files} written there could not be uploaded so far; rclone goes on trying in \
             the background, with what it has in `{}`, and says why not in `{}`",
            own.join("cache").display(),
            own.join("rclone.log").display()
        ))
    }
}

/// Another rclone for a mount whose own was killed. It begins with uploading what is in the cache.
fn serve_again(own: &Path, remote: &str, at: &Path) -> io::Result<Serving> {
    let log = File::options().create(true).append(true).open(own.join("rclone.log"))?;
    let program = crate::rclone::program().map_err(io::Error::other)?;
    let mut command = Command::new(program);
    command.env_clear().envs(crate::rclone::environment(own)).current_dir(own);
    command.args(crate::rclone::mount_arguments(remote, at, false));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn()?;
    let until = Instant::now() + SERVED_WITHIN;
    while !is_mounted(at) {
        let ended = child.try_wait()?.is_some();
        if ended || Instant::now() >= until {
            let _ = child.kill();
            let _ = child.wait();
            let text = format!(
                "rclone cannot go on uploading; see `{}`",
                own.join("rclone.log").display()
            );
            return Err(io::Error::other(text));
        }
        std::thread::sleep(EVERY);
    }
    Serving::of(child.id()).ok_or_else(|| io::Error::other("rclone ended at once"))
}

/// A file that is not uploaded yet.
fn first_waiting(own: &Path) -> Option<PathBuf> {
    let mut found = None;
    each_waiting(own, &mut |path| {
        found = Some(path.to_owned());
        true
    });
    found
}

/// Every file that is not uploaded yet, until `enough` says so.
fn each_waiting(own: &Path, enough: &mut dyn FnMut(&Path) -> bool) {
    let mut folders = vec![own.join("cache").join("vfsMeta")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && !is_uploaded(&path) && enough(&path) {
                return;
            }
        }
    }
}

/// What rclone notes about a file.
#[derive(Deserialize)]
struct Note {
    #[serde(rename = "Dirty")]
    is_dirty: bool,
}

/// Whether a note says so. One that cannot be read is being written.
fn is_uploaded(path: &Path) -> bool {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(NOTE).read_to_end(&mut text));
    match read {
        Ok(_) => serde_json::from_slice::<Note>(&text).is_ok_and(|note| !note.is_dirty),
        // It was removed since the folder was read.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
