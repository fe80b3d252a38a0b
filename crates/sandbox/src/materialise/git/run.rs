//! One command of git, with an environment of our own making.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use moat_core::Secret;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use super::super::GitError;
use super::address::without_credentials;

/// How long one command of git may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Bytes of git's complaints that are kept.
const COMPLAINT: u64 = 4096;
/// Bytes of an answer: the largest `.gitmodules` that is read.
const ANSWER: u64 = 1024 * 1024;
/// What git says when the limit of a file's size refuses a write.
const TOO_LARGE: &str = "File too large";
/// Where git and ssh are looked for: not where the caller's environment says.
const PROGRAMS: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";

/// Settings that win over whatever a repository brings.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.logAllRefUpdates=false",
    "core.autocrlf=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    // Always one file, so that its limit is one of all that is fetched.
    "fetch.unpackLimit=1",
    "gc.auto=0",
    "http.followRedirects=false",
    "init.defaultBranch=main",
    "maintenance.auto=false",
    "protocol.allow=never",
    "protocol.file.allow=always",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "protocol.ssh.allow=always",
    "protocol.git.allow=always",
    "safe.directory=*",
    "submodule.recurse=false",
    "transfer.fsckObjects=true",
];

/// How git is run for one source.
pub(super) struct Git<'a> {
    /// A private folder, which poses as a home folder.
    pub(super) home: &'a Path,
    /// Where a token goes, and the token.
    pub(super) credential: Option<(String, Secret)>,
    /// The socket of the caller's SSH agent.
    pub(super) ssh_agent: Option<&'a Path>,
    /// Bytes of the largest file that git may write; what it fetches is one file.
    pub(super) largest_file: u64,
}

impl Git<'_> {
    /// Runs one command. Returns its output.
    pub(super) async fn run(&self, step: &'static str, args: &[&str]) -> Result<String, GitError> {
        let mut child = self.command(args).spawn().map_err(GitError::Start)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let done = tokio::time::timeout(PATIENCE, async {
            let (out, err) = tokio::join!(head_of_pipe(out, ANSWER), head_of_pipe(err, COMPLAINT));
            (child.wait().await, out, err)
        });
        let (status, out, err) =
            done.await.map_err(|_| GitError::TimedOut { step, seconds: PATIENCE.as_secs() })?;
        if status.map_err(GitError::Start)?.success() {
            return Ok(out);
        }
        if err.contains(TOO_LARGE) {
            let (at, limit) = (step.to_owned(), self.largest_file);
            return Err(GitError::TooMuch { at, what: "bytes", limit });
        }
        Err(GitError::Failed { step, message: without_credentials(err.trim()) })
    }

    /// A command whose answer is read bit by bit by whoever asks. It ends when it is dropped.
    pub(super) fn listing(&self, args: &[&str]) -> Result<Child, GitError> {
        self.command(args).stderr(Stdio::null()).spawn().map_err(GitError::Start)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("/bin/sh");
        // The limit counts blocks of 512 bytes, and every process of git's inherits it. Without its
        // signal (25) a write that goes beyond it fails, and git says so.
        let blocks = (self.largest_file / 512).max(1).to_string();
        let script = "trap '' 25; ulimit -f \"$0\" && exec git \"$@\"";
        command.args(["-c", script, &blocks]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
            .args(args)
            .env_clear()
            .env("PATH", PROGRAMS)
            .env("HOME", self.home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oClearAllForwardings=yes")
            .current_dir(self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(agent) = self.ssh_agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        if let Some((origin, secret)) = &self.credential {
            // In the environment, which only the caller's own processes can read; arguments are
            // for everybody to see.
            command
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", format!("http.{origin}.extraHeader"))
                .env("GIT_CONFIG_VALUE_0", authorization(secret));
        }
        command
    }
}

/// A token goes as the password of a user whose name does not matter.
fn authorization(secret: &Secret) -> String {
    let value = secret.expose();
    let pair =
        if value.contains(':') { value.to_owned() } else { format!("x-access-token:{value}") };
    format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// The beginning of what a command says; the rest is read and dropped.
async fn head_of_pipe(pipe: Option<impl tokio::io::AsyncRead + Unpin>, most: u64) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut head = Vec::new();
    let _ = (&mut pipe).take(most).read_to_end(&mut head).await;
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&head).into_owned()
}
