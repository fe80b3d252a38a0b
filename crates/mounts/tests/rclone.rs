//! Mounts of a real server, with the system's rclone and FUSE.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests; what is skipped is said"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moat_core::{MountRecord, MountSource, RemoteRecord, RunId, Secret};
use moat_mounts::{MountError, Mounts, MountsOptions};
use moat_sandbox::materialise::{CredentialSource, Credentials, Remotes as _};

const KEY: &str = "s3cr3t-k3y-of-the-test";

struct Keys;

#[async_trait]
impl Credentials for Keys {
    async fn read(&self, name: &str) -> Result<Secret, String> {
        match name {
            "ID" => Ok(Secret::new("an-id")),
            "KEY" => Ok(Secret::new(KEY)),
            _ => Err("it is not in `config.toml`".to_owned()),
        }
    }
}

/// An S3 server of this machine, ended with the test.
struct Server(Child, u16);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("SKIP {test}: {reason}");
}

fn serve() -> Option<Server> {
    if !rustix::process::geteuid().is_root() {
        skip("it mounts as root");
        return None;
    }
    for program in ["/usr/bin/rclone", "/usr/bin/fusermount3", "/dev/fuse"] {
        if !Path::new(program).exists() {
            skip(&format!("there is no {program}"));
            return None;
        }
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("moto_server")
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = child else {
        skip("there is no moto_server");
        return None;
    };
    let server = Server(child, port);
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if began.elapsed() > Duration::from_secs(30) {
            skip("moto_server does not answer");
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    put(port, "/bucket", "");
    put(port, "/bucket/in/a.txt", "content");
    Some(server)
}

/// The test's own server asks for no signature.
fn request(port: u16, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {length}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=x/20240101/us-east-1/s3/aws4_request, \
         SignedHeaders=host, Signature=x\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn put(port: u16, path: &str, body: &str) {
    let answer = request(port, "PUT", path, body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn remote(port: u16, path: &str) -> RemoteRecord {
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    RemoteRecord {
        backend: "s3".into(),
        path: path.into(),
        options: text(&[
            ("provider", "Other"),
            ("endpoint", &format!("http://127.0.0.1:{port}")),
            ("region", "us-east-1"),
            ("no_check_bucket", "true"),
            ("force_path_style", "true"),
        ]),
        secrets: text(&[("access_key_id", "ID"), ("secret_access_key", "KEY")]),
    }
}

fn record(source: MountSource, read_only: bool) -> MountRecord {
    MountRecord { path: "/workspace/data".into(), read_only, source }
}

fn mounts(folder: &Path) -> Mounts {
    Mounts::new(MountsOptions {
        folder: folder.join("mounts"),
        shared: folder.join("shared"),
        credentials: CredentialSource(Some(Arc::new(Keys))),
    })
}

/// The arguments of every process that is alive.
fn arguments() -> String {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

fn mounted_below(folder: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.contains(folder.to_str().unwrap())
}

#[tokio::test]
async fn a_bucket_is_mounted_and_goes_with_its_run_also_after_a_kill() {
    let Some(server) = serve() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mounts = mounts(folder.path());
    let (run, port) = (RunId::generate(), server.1);
    let wanted = [record(MountSource::Remote(remote(port, "bucket/in")), false)];
    let held = mounts.prepare(run, &wanted).await.unwrap();
    let data = held.mounts[0].source.clone();
    assert_eq!(fs::read_to_string(data.join("a.txt")).unwrap(), "content");
    fs::write(data.join("b.txt"), "written").unwrap();
    assert!(!arguments().contains(KEY), "no key is in an argument");
    let began = Instant::now();
    while !request(port, "GET", "/bucket/in/b.txt", "").ends_with("written") {
        assert!(began.elapsed() < Duration::from_secs(30), "it is uploaded");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let config = data.parent().unwrap().join("rclone.conf");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(config).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    // Whoever held it is gone without a word: as long as that may be so, it stays.
    assert_eq!(mounts.reap(Duration::ZERO).unwrap(), 0, "somebody looks after it");
    drop(held);
    assert_eq!(mounts.reap(Duration::from_secs(600)).unwrap(), 0, "the sandbox may live on");
    let adopted = mounts.adopt(run).unwrap();
    assert_eq!(fs::read_to_string(data.join("a.txt")).unwrap(), "content");
    drop(adopted);
    assert_eq!(mounts.reap(Duration::ZERO).unwrap(), 1);
    assert!(!data.exists() && !mounted_below(folder.path()));
    assert!(!arguments().contains(folder.path().to_str().unwrap()), "rclone has ended");
    assert!(
        request(port, "GET", "/bucket/in/a.txt", "").ends_with("content"),
        "what was mounted is as it was"
    );
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_and_leaves_nothing() {
    let Some(server) = serve() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mounts = mounts(folder.path());
    let good = record(MountSource::Remote(remote(server.1, "bucket")), true);
    let mut nobody = remote(server.1, "bucket");
    nobody.secrets.insert("session_token".into(), "UNKNOWN".into());
    let missing = remote(server.1, "no-such-bucket");
    for (bad, word) in [(missing, "no-such-bucket"), (nobody, "`UNKNOWN`")] {
        let wanted = [good.clone(), record(MountSource::Remote(bad), true)];
        let error = mounts.prepare(RunId::generate(), &wanted).await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert!(!error.to_string().contains(KEY), "{error}");
        assert!(!mounted_below(folder.path()), "the first was taken away again");
    }
    let into = folder.path().join("copy");
    fs::create_dir(&into).unwrap();
    mounts.copy(&remote(server.1, "bucket/in"), &into).await.unwrap();
    assert_eq!(fs::read_to_string(into.join("a.txt")).unwrap(), "content");
    // A read-only mount is one.
    let held = mounts.prepare(RunId::generate(), &[good]).await.unwrap();
    assert!(fs::write(held.mounts[0].source.join("x"), "x").is_err());
    held.release().unwrap();
    assert!(!mounted_below(folder.path()));
}

#[tokio::test(start_paused = true)]
async fn a_shared_folder_is_locked_or_copied_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let mounts = mounts(folder.path());
    let shared = |sharing: &str| {
        let source = MountSource::Shared { name: "team".into(), sharing: sharing.into() };
        [record(source, sharing == "read_only")]
    };
    let first = RunId::generate();
    let one = mounts.prepare(first, &shared("lock")).await.unwrap();
    fs::write(one.mounts[0].source.join("note"), "one").unwrap();
    let error = mounts.prepare(RunId::generate(), &shared("lock")).await.unwrap_err();
    assert!(matches!(error, MountError::Held { .. }), "{error}");
    assert!(error.to_string().contains(&first.to_string()), "{error}");

    let copy = mounts.prepare(RunId::generate(), &shared("copy_on_write")).await.unwrap();
    let own = &copy.mounts[0].source;
    assert_eq!(fs::read_to_string(own.join("note")).unwrap(), "one");
    fs::write(own.join("note"), "mine").unwrap();
    assert_eq!(fs::read_to_string(one.mounts[0].source.join("note")).unwrap(), "one");
    copy.release().unwrap();

    let kept = one.mounts[0].source.clone();
    one.release().unwrap();
    assert_eq!(fs::read_to_string(kept.join("note")).unwrap(), "one", "the folder stays");
    let next = mounts.prepare(RunId::generate(), &shared("lock")).await.unwrap();
    assert_eq!(fs::read_to_string(next.mounts[0].source.join("note")).unwrap(), "one");
}
