//! Emulators of object stores, ended with the test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[path = "front.rs"]
mod front;

use front::Front;

/// The account that Azurite has from the start, with its published key.
const AZURE_ACCOUNT: &str = "devstoreaccount1";
const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub(crate) struct Emulator {
    /// The bucket.
    pub(crate) url: String,
    pub(crate) settings: Vec<(String, String)>,
    child: Child,
    /// Where it keeps what it keeps.
    _folder: tempfile::TempDir,
    /// What stands between it and its client.
    _front: Option<Front>,
}

fn settings(pairs: &[(&str, String)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

impl Emulator {
    /// moto, which enforces conditional writes.
    pub(crate) async fn s3() -> Option<Self> {
        let port = free_port();
        let endpoint = format!("http://127.0.0.1:{port}");
        let settings = settings(&[
            ("aws_endpoint", endpoint),
            ("aws_allow_http", "true".to_owned()),
            ("aws_region", "us-east-1".to_owned()),
            ("aws_access_key_id", "test".to_owned()),
            ("aws_secret_access_key", "test".to_owned()),
        ]);
        Self::moto(port, "s3://bucket", settings).await
    }

    async fn moto(port: u16, url: &str, settings: Vec<(String, String)>) -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let emulator = Self::start(command, folder, port, url, settings).await?;
        let made = request(port, "PUT /bucket HTTP/1.1", &[], "");
        made.starts_with("HTTP/1.1 200").then_some(emulator)
    }

    /// Azurite. Its container is made by a request that it lets through unsigned in no version, so
    /// with a signature that is made here.
    pub(crate) async fn azure() -> Option<Self> {
        let port = free_port();
        let folder = tempfile::tempdir().ok()?;
        let mut command = Command::new("azurite-blob");
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.args(["--skipApiVersionCheck", "--silent", "--location"]).arg(folder.path());
        let settings = settings(&[
            ("azure_storage_account_name", AZURE_ACCOUNT.to_owned()),
            ("azure_storage_account_key", AZURE_KEY.to_owned()),
            ("azure_storage_endpoint", format!("http://127.0.0.1:{port}/{AZURE_ACCOUNT}")),
            ("azure_allow_http", "true".to_owned()),
        ]);
        let emulator = Self::start(command, folder, port, "az://bucket", settings).await?;
        make_container(port);
        Some(emulator)
    }

    /// Google's client of object stores speaks the XML dialect of its service, which no emulator
    /// that can be had speaks: they answer the JSON dialect only. The XML one is that of S3 but for
    /// its conditions, so it is moto behind a front that translates them. What this cannot show is
    /// said in docs/snapshots.md.
    pub(crate) async fn gcs() -> Option<Self> {
        let port = free_port();
        let front = Front::before(port)?;
        let account = format!(
            r#"{{"gcs_base_url":"http://127.0.0.1:{}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#,
            front.port
        );
        let settings = settings(&[
            ("google_service_account_key", account),
            ("google_allow_http", "true".to_owned()),
        ]);
        let mut emulator = Self::moto(port, "gs://bucket", settings).await?;
        emulator._front = Some(front);
        Some(emulator)
    }

    async fn start(
        mut command: Command,
        folder: tempfile::TempDir,
        port: u16,
        url: &str,
        settings: Vec<(String, String)>,
    ) -> Option<Self> {
        command.current_dir(folder.path()).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let (url, _front) = (url.to_owned(), None);
        let mut emulator = Self { url, settings, child, _folder: folder, _front };
        for _ in 0..300 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(emulator);
            }
            // A shim of a program that is not there ends at once.
            if emulator.child.try_wait().ok()?.is_some() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        None
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn request(port: u16, line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut text = format!("{line}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// `Create Container`, with a shared key.
fn make_container(port: u16) {
    use base64::Engine as _;
    let (date, version) = ("Sat, 01 Jan 2028 00:00:00 GMT", "2021-08-06");
    let resource = format!("/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/bucket\nrestype:container");
    let signed =
        format!("PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n{resource}");
    let base64 = base64::engine::general_purpose::STANDARD;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &base64.decode(AZURE_KEY).unwrap());
    let signature = base64.encode(ring::hmac::sign(&key, signed.as_bytes()));
    let authorization = format!("SharedKey {AZURE_ACCOUNT}:{signature}");
    let answer = request(
        port,
        &format!("PUT /{AZURE_ACCOUNT}/bucket?restype=container HTTP/1.1"),
        &[("x-ms-date", date), ("x-ms-version", version), ("Authorization", &authorization)],
        "",
    );
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}
