//! The real command with folders of its own, and a limit on how long it may take.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes. Whatever takes longer hangs, and is killed.
const LIMIT: Duration = Duration::from_secs(240);

/// Folders of one test: data, configuration, home, work.
pub(crate) struct Lab {
    folder: TempDir,
    pub(crate) home: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) config: PathBuf,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("m").rand_bytes(4).tempdir().unwrap();
        let [home, work, data, config] =
            ["home", "work", "data", "config"].map(|name| folder.path().join(name));
        for folder in [&home, &work, &config] {
            std::fs::create_dir(folder).unwrap();
        }
        // What a failed test leaves behind ends soon.
        std::fs::write(config.join("config.toml"), "orphan_grace_seconds = 60\n").unwrap();
        Self { folder, home, work, data, config }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A command line, with nothing of the caller's environment but the path.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moat"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &self.home)
            .env("MOAT_DATA_DIR", &self.data)
            .env("MOAT_CONFIG_DIR", &self.config)
            .current_dir(&self.work)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn moat(&self, args: &[&str]) -> Done {
        self.start(self.command(args)).finish()
    }

    /// A command whose success is taken for granted.
    pub(crate) fn ok(&self, args: &[&str]) -> Done {
        let done = self.moat(args);
        assert_eq!(done.code, Some(0), "moat {}: {done}", args.join(" "));
        done
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(self.ok(args).out.trim()).unwrap()
    }

    /// The id of the newest run.
    pub(crate) fn newest(&self) -> String {
        self.json(&["runs", "--json"])[0]["run"].as_str().unwrap().to_owned()
    }

    #[allow(clippy::zombie_processes, reason = "whoever has the answer waits, also for stops")]
    pub(crate) fn start(&self, mut command: Command) -> Running {
        let (out, out_path) =
            tempfile::NamedTempFile::new_in(&self.folder).unwrap().keep().unwrap();
        let (err, err_path) =
            tempfile::NamedTempFile::new_in(&self.folder).unwrap().keep().unwrap();
        let child = command.stdout(out).stderr(err).spawn().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        Running { pid, out: out_path, err: err_path, _watchdog: watchdog(pid) }
    }
}

impl Lab {
    /// Any command, with something to read.
    pub(crate) fn start_piped(&self, command: &mut Command, input: &str) -> Done {
        let input_file = self.write("stdin", input);
        let mut owned = Command::new(command.get_program());
        owned.args(command.get_args()).env_clear().stdin(File::open(input_file).unwrap());
        for (name, value) in command.get_envs() {
            owned.env(name, value.unwrap());
        }
        if let Some(folder) = command.get_current_dir() {
            owned.current_dir(folder);
        }
        self.start(owned).finish()
    }
}

/// Kills a process that takes too long, until the answer is dropped.
fn watchdog(pid: Pid) -> Sender<()> {
    let (keep, gone): (Sender<()>, Receiver<()>) = channel();
    std::thread::spawn(move || {
        if gone.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    keep
}

/// A command that was started.
pub(crate) struct Running {
    pub(crate) pid: Pid,
    pub(crate) out: PathBuf,
    err: PathBuf,
    _watchdog: Sender<()>,
}

/// How a command that may stop goes on.
pub(crate) enum Change {
    Stopped(Running),
    Ended(Done),
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    pub(crate) fn finish(self) -> Done {
        match self.wait(WaitOptions::empty()) {
            Change::Ended(done) => done,
            Change::Stopped(_) => panic!("it stopped and nobody asked it to"),
        }
    }

    /// Waits until it stops itself or ends.
    pub(crate) fn next_stop(self) -> Change {
        self.wait(WaitOptions::UNTRACED)
    }

    fn wait(self, options: WaitOptions) -> Change {
        let status = loop {
            match waitpid(Some(self.pid), options) {
                Ok(Some((_, status))) => break status,
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("cannot wait: {error}"),
            }
        };
        if status.stopped() {
            return Change::Stopped(self);
        }
        let read = |path: &Path| std::fs::read(path).unwrap();
        let (raw_out, raw_err) = (read(&self.out), read(&self.err));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Change::Ended(Done {
            code: status.exit_status(),
            signal: status.terminating_signal(),
            out: text(&raw_out),
            err: text(&raw_err),
            raw_out,
        })
    }

    pub(crate) fn kill(self) -> Done {
        self.signal(Signal::KILL);
        self.finish()
    }

    /// Waits until standard output holds the text.
    pub(crate) fn wait_for_output(&self, wanted: &str) {
        wait_until(&format!("`{wanted}` in the output"), || {
            let mut text = String::new();
            let mut file = File::open(&self.out).unwrap();
            let _ = std::io::Read::read_to_string(&mut file, &mut text);
            text.contains(wanted)
        });
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) raw_out: Vec<u8>,
}

impl Done {
    /// The lines of `--json` that a command has written so far.
    pub(crate) fn lines_so_far(out: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(out).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines of `--json`.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The last line of `--json` of a certain type.
    pub(crate) fn line(&self, kind: &str) -> Value {
        let found = self.lines().into_iter().rev().find(|line| line["type"] == kind);
        found.unwrap_or_else(|| panic!("no `{kind}` line: {self}"))
    }

    /// The run that the first line of `--json` names.
    pub(crate) fn run(&self) -> String {
        let first: Value = serde_json::from_str(self.out.lines().next().unwrap()).unwrap();
        first["run"].as_str().unwrap().to_owned()
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (code, signal) = (self.code, self.signal);
        let tail = |text: &str| {
            let skip = text.chars().count().saturating_sub(3000);
            text.chars().skip(skip).collect::<String>()
        };
        write!(f, "code {code:?}, signal {signal:?}\n{}\n{}", tail(&self.out), tail(&self.err))
    }
}

/// Looks until something is so. For what another process does and tells nobody about.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
