//! Makes a store that speaks S3's dialect understand the conditions of Google's.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What Google calls "only if there is none", and what S3 does.
const THEIRS: &str = "x-goog-if-generation-match: 0";
const OURS: &str = "if-none-match: *";
const SIGNED: &str = "authorization: AWS4-HMAC-SHA256 Credential=test/20280101/us-east-1/s3/\
                      aws4_request, SignedHeaders=host, Signature=0";

/// Listens before a store, and ends with the test.
pub(crate) struct Front {
    pub(crate) port: u16,
    accepting: JoinHandle<()>,
}

impl Front {
    pub(crate) fn before(store: u16) -> Option<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").ok()?;
        listener.set_nonblocking(true).ok()?;
        let port = listener.local_addr().ok()?.port();
        let listener = TcpListener::from_std(listener).ok()?;
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(between(client, store));
            }
        });
        Some(Self { port, accepting })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn between(client: TcpStream, store: u16) -> std::io::Result<()> {
    let store = TcpStream::connect(("127.0.0.1", store)).await?;
    let (from_client, mut to_client) = client.into_split();
    let (mut from_store, mut to_store) = store.into_split();
    let mut requests = BufReader::new(from_client);
    let asked = async {
        loop {
            let mut size: u64 = 0;
            loop {
                let mut line = String::new();
                if requests.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                let text = line.trim_end().to_ascii_lowercase();
                if let Some(length) = text.strip_prefix("content-length:") {
                    size = length.trim().parse().unwrap_or(0);
                }
                let said = match text.as_str() {
                    THEIRS => format!("{OURS}\r\n"),
                    // The store wants to see whose request it is, and believes whatever it says.
                    "" => format!("{SIGNED}\r\n\r\n"),
                    _ if text.starts_with("authorization:") => continue,
                    _ => line,
                };
                to_store.write_all(said.as_bytes()).await?;
                if text.is_empty() {
                    break;
                }
            }
            tokio::io::copy(&mut (&mut requests).take(size), &mut to_store).await?;
        }
    };
    tokio::select! {
        asked = asked => asked,
        answered = tokio::io::copy(&mut from_store, &mut to_client) => answered.map(drop),
    }
}
