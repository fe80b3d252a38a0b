//! Storage elsewhere, on this machine: emulators and servers, ended with the test.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use moat_core::{MountRecord, MountSource, RemoteRecord};
use moat_sandbox::manifest::Manifest;
use moat_sandbox::materialise::outline;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What no configuration of another, argument, error or log may hold.
pub(crate) const KEY: &str = "s3cr3t-k3y-of-the-test";
/// A signature of Azurite's own account, with its published key, valid until 2099.
const SIGNED: &str = "sp=rwdlac&ss=b&srt=sco&se=2099-01-01T00%3A00%3A00Z&sv=2020-08-04&spr=https%2Chttp&sig=lP4358Cnz1iq8XYqBFoRARKlOuXCuZxE4Uf0d7qFrYE%3D";
const AZURE: &str = "devstoreaccount1";

/// A place with a file `in/a.txt` of seven bytes, `content`.
pub(crate) struct Storage {
    pub(crate) port: u16,
    /// The entry of a manifest that mounts `in`.
    entry: Value,
    program: (&'static str, Vec<String>),
    child: Option<Child>,
    pub(crate) folder: TempDir,
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("SKIP {test}: {reason}");
}

/// What the machine lacks for mounts.
fn lacks() -> Option<String> {
    let missing = ["/usr/bin/rclone", "/usr/bin/fusermount3"];
    let missing = missing.iter().find(|program| !Path::new(program).exists());
    let reason = missing.map(|program| format!("there is no {program}"));
    reason.or_else(|| moat_mounts::status().mounts.err())
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Storage {
    pub(crate) fn s3() -> Option<Self> {
        Self::moto(|port| {
            json!({ "type": "s3_mount", "bucket": "bucket", "prefix": "in", "region": "us-east-1",
                "endpoint_url": format!("http://127.0.0.1:{port}"),
                "access_key_id": { "secret": "ID" }, "secret_access_key": { "secret": "KEY" } })
        })
    }

    /// Another service that speaks S3's protocol, at an address of its own.
    pub(crate) fn r2() -> Option<Self> {
        Self::moto(|port| {
            json!({ "type": "r2_mount", "bucket": "bucket", "prefix": "in", "account_id": "abc123",
                "endpoint_url": format!("http://127.0.0.1:{port}"),
                "access_key_id": { "secret": "ID" }, "secret_access_key": { "secret": "KEY" } })
        })
    }

    fn moto(entry: impl Fn(u16) -> Value) -> Option<Self> {
        let port = free_port();
        let arguments = ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned);
        let storage = Self::start(port, entry(port), ("moto_server", arguments.into()))?;
        for (path, body) in [("/bucket", ""), ("/bucket/in/a.txt", "content")] {
            let answer = request(port, &format!("PUT {path}"), &[SIGNATURE], body);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        Some(storage)
    }

    pub(crate) fn azure() -> Option<Self> {
        let port = free_port();
        let arguments = ["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()];
        let rest = ["--skipApiVersionCheck", "--silent", "--inMemoryPersistence"];
        let arguments = arguments.iter().chain(&rest).map(|argument| (*argument).to_owned());
        let entry = json!({ "type": "azure_blob_mount", "account": AZURE, "container": "bucket",
            "prefix": "in", "sas_url": { "secret": format!("AZURE_{port}") } });
        let storage = Self::start(port, entry, ("azurite-blob", arguments.collect()))?;
        let blob = [("x-ms-blob-type", "BlockBlob"), ("x-ms-version", "2020-08-04")];
        for (path, body) in [("bucket?restype=container&", ""), ("bucket/in/a.txt?", "content")] {
            let line = format!("PUT /{AZURE}/{path}{SIGNED}");
            let headers = if body.is_empty() { &blob[1..] } else { &blob[..] };
            let answer = request(port, &line, headers, body);
            assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        }
        Some(storage)
    }

    pub(crate) fn gcs() -> Option<Self> {
        let port = free_port();
        let arguments =
            ["start", "--host", "127.0.0.1", "--port", &port.to_string(), "--in-memory"];
        let arguments = arguments.map(str::to_owned).into();
        let entry = json!({ "type": "gcs_mount", "bucket": "bucket", "prefix": "in",
            "endpoint_url": format!("http://127.0.0.1:{port}/storage/v1/") });
        let storage = Self::start(port, entry, ("gcp-storage-emulator", arguments))?;
        let kind = [("Content-Type", "application/json")];
        let made = request(port, "POST /storage/v1/b?project=p", &kind, r#"{"name":"bucket"}"#);
        assert!(made.contains("200"), "{made}");
        let line = "POST /upload/storage/v1/b/bucket/o?uploadType=media&name=in%2Fa.txt";
        let put = request(port, line, &[("Content-Type", "text/plain")], "content");
        assert!(put.contains("200"), "{put}");
        Some(storage)
    }

    /// Something else that rclone reaches, with a password.
    pub(crate) fn served(protocol: &'static str) -> Option<Self> {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(folder.path().join("in/a.txt"), "content").unwrap();
        let place = folder.path().to_str().unwrap();
        let arguments =
            ["serve", protocol, "--addr", &address, "--user", "me", "--pass", KEY, place];
        let arguments = arguments.map(str::to_owned).into();
        let options = match protocol {
            "sftp" => json!({ "host": "127.0.0.1", "port": port.to_string(), "user": "me" }),
            _ => json!({ "url": format!("http://{address}"), "vendor": "other", "user": "me" }),
        };
        let entry = json!({ "type": "rclone_mount", "backend": protocol, "path": "in",
            "options": options, "secrets": { "pass": { "secret": "KEY" } } });
        let program = ("/usr/bin/rclone", arguments);
        let mut storage = Self { port, entry, program, child: None, folder };
        storage.begin()?;
        Some(storage)
    }

    fn start(port: u16, entry: Value, program: (&'static str, Vec<String>)) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = Self { port, entry, program, child: None, folder };
        storage.begin()?;
        Some(storage)
    }

    /// Starts the server, also again.
    pub(crate) fn begin(&mut self) -> Option<()> {
        if let Some(reason) = lacks() {
            skip(&reason);
            return None;
        }
        let (program, arguments) = &self.program;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            skip(&format!("there is no {program}"));
            return None;
        };
        let child = self.child.insert(child);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            // A shim of a program that is not there ends at once.
            if child.try_wait().unwrap().is_some() || began.elapsed() > Duration::from_secs(60) {
                skip(&format!("{program} does not answer"));
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(())
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What a manifest with its entry asks for, with some members of that changed.
    pub(crate) fn record(&self, changed: &[(&str, Value)]) -> MountRecord {
        let mut entry = self.entry.clone();
        for (member, value) in changed {
            entry[member] = value.clone();
        }
        let manifest: Manifest =
            serde_json::from_value(json!({ "entries": { "data": entry } })).unwrap();
        outline(&manifest).unwrap().1.pop().unwrap()
    }

    pub(crate) fn written(&self) -> MountRecord {
        self.record(&[("read_only", false.into())])
    }

    pub(crate) fn remote(&self) -> RemoteRecord {
        match self.record(&[]).source {
            MountSource::Remote(remote) => remote,
            other => panic!("{other:?}"),
        }
    }
}

/// The secret with this name.
pub(crate) fn secret(name: &str) -> Option<String> {
    match name {
        "ID" => Some("an-id".to_owned()),
        "KEY" => Some(KEY.to_owned()),
        "WRONG" => Some(format!("not-{KEY}")),
        _ => {
            let port = name.strip_prefix("AZURE_")?;
            Some(format!("http://127.0.0.1:{port}/{AZURE}?{SIGNED}"))
        }
    }
}

/// The servers here ask for no true signature.
const SIGNATURE: (&str, &str) = (
    "Authorization",
    "AWS4-HMAC-SHA256 Credential=x/20240101/us-east-1/s3/aws4_request, SignedHeaders=host, \
     Signature=x",
);

fn request(port: u16, line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut text = format!("{line} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}
