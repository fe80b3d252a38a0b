//! How requests get to a provider: TLS, proxies, and keys that change.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

#[path = "support/server.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use moat_core::{Item, Secret};
use moat_model::{
    CommandKey, FileKey, KeySource, Model, ModelError, ModelErrorClass as Class, ModelRequest,
    ModelResponse, ResponsesModel, ResponsesOptions, StaticKey,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Map;
use server::{Act, Server, answer, text};

const KEY: &str = "sk-planted-0123456789";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A certificate for `localhost` from an authority that no host trusts.
fn tls() -> Act {
    let chain = CertificateDer::pem_file_iter(fixture("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    Act::Tls(tokio_rustls::TlsAcceptor::from(Arc::new(config)))
}

fn done() -> Act {
    answer("200 OK", "", r#"{"status":"completed","output":[]}"#)
}

fn options(url: &str) -> ResponsesOptions {
    let mut options = ResponsesOptions::new(url);
    options.key = Arc::new(StaticKey::new(Secret::new(KEY)));
    options
}

async fn ask(options: ResponsesOptions) -> Result<ModelResponse, ModelError> {
    let request = ModelRequest {
        model: "m".to_owned(),
        instructions: None,
        input: vec![Item::user_message("hi")],
        tools: Vec::new(),
        settings: Map::new(),
        stream: false,
        cache_key: None,
    };
    ResponsesModel::new(options)?.respond(&request, &|_| {}).await
}

#[tokio::test]
async fn tls_trusts_an_extra_authority_only_when_told_to() {
    let server = Server::always(vec![tls(), Act::Read, done()]).await;
    let url = format!("https://localhost:{}/v1", server.port);
    let error = ask(options(&url)).await.unwrap_err();
    assert!(error.message.contains("extra CA"), "{error}");
    assert!(server.seen().is_empty());

    let mut trusting = options(&url);
    trusting.extra_ca = Some(fixture("ca.pem"));
    ask(trusting.clone()).await.unwrap();
    assert!(
        server.seen()[0].contains(&format!("authorization: Bearer {KEY}")),
        "{:?}",
        server.seen()
    );

    trusting.extra_ca = Some(fixture("server.key"));
    let error = ask(trusting).await.unwrap_err();
    assert_eq!(error.class, Class::Configuration);
    assert!(error.message.contains("holds no certificate"), "{error}");
}

#[tokio::test]
async fn plain_requests_go_through_the_proxy_whole() {
    let proxy = Server::always(vec![Act::Read, done()]).await;
    let mut through = options("http://models.example:81/v1");
    through.proxy.http = Some(format!("http://me:pass@127.0.0.1:{}", proxy.port));
    assert!(!format!("{:?}", through.proxy).contains("pass"));
    ask(through.clone()).await.unwrap();
    let seen = proxy.seen()[0].clone();
    assert!(seen.starts_with("POST http://models.example:81/v1/responses HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("proxy-authorization: Basic bWU6cGFzcw=="), "{seen}");
    assert!(seen.contains("host: models.example:81"), "{seen}");

    // Named in NO_PROXY: asked for directly, where the name leads nowhere.
    through.base_url = "http://models.invalid:81/v1".to_owned();
    through.proxy.no_proxy = Some("example.org,.invalid".to_owned());
    assert_eq!(ask(through.clone()).await.unwrap_err().class, Class::Connection);

    // This machine is never asked for through a proxy.
    let direct = Server::always(vec![Act::Read, done()]).await;
    through.base_url = direct.url();
    ask(through).await.unwrap();
    assert_eq!((direct.seen().len(), proxy.seen().len()), (1, 1));
    assert!(direct.seen()[0].starts_with("POST /v1/responses HTTP/1.1\r\n"));
    assert!(!direct.seen()[0].contains("proxy-authorization"));
}

#[tokio::test]
async fn tls_goes_through_a_tunnel_that_the_proxy_cannot_read() {
    let open = text("HTTP/1.1 200 Connection established\r\n\r\n");
    let proxy = Server::always(vec![Act::Read, open, tls(), Act::Read, done()]).await;
    let mut through = options("https://models.example/v1");
    through.proxy.https = Some(format!("http://me:pass@127.0.0.1:{}", proxy.port));
    through.extra_ca = Some(fixture("ca.pem"));
    ask(through.clone()).await.unwrap();
    let [connect, request] = &proxy.seen()[..] else { panic!("{:?}", proxy.seen()) };
    assert!(connect.starts_with("CONNECT models.example:443 HTTP/1.1\r\n"), "{connect}");
    assert!(connect.contains("Proxy-Authorization: Basic bWU6cGFzcw==") && !connect.contains(KEY));
    assert!(request.starts_with("POST /v1/responses") && !request.contains("roxy"), "{request}");

    let refusing = text("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let proxy = Server::always(vec![Act::Read, refusing]).await;
    through.proxy.https = Some(format!("http://127.0.0.1:{}", proxy.port));
    let error = ask(through.clone()).await.unwrap_err();
    assert!(error.message.contains("user name and password (407)"), "{error}");

    through.proxy.https = Some("socks5://127.0.0.1:1080".to_owned());
    assert_eq!(ask(through).await.unwrap_err().class, Class::Configuration);
}

/// A server that refuses the first request on each connection and takes the second.
async fn refusing_once() -> Server {
    let refused = answer("401 Unauthorized", "", &format!("{{\"error\":\"bad key {KEY}\"}}"));
    Server::start(vec![vec![Act::Read, refused], vec![Act::Read, done()]]).await
}

#[tokio::test]
async fn a_refused_key_is_fetched_anew_once() {
    // A command that gives another key each time it runs.
    let folder = tempfile::tempdir().unwrap();
    let script = "echo x >> runs; printf 'key-%s\\n' \"$(wc -l < runs | tr -d ' ')\"";
    let command = format!("cd '{}' && {script}", folder.path().display());
    let argv = ["sh", "-c", &command].map(str::to_owned).to_vec();
    let key = Arc::new(CommandKey::new(argv, Duration::from_secs(60)));
    let server = refusing_once().await;
    let mut changing = options(&server.url());
    changing.key = Arc::clone(&key) as Arc<dyn KeySource>;
    ask(changing.clone()).await.unwrap();
    // The key is kept: no third run for the second call.
    ask(changing).await.unwrap();
    let keys: Vec<_> = server
        .seen()
        .iter()
        .filter_map(|seen| Some(seen.split_once("Bearer ")?.1[..5].to_owned()))
        .collect();
    assert_eq!(keys, ["key-1", "key-2", "key-2"]);

    // One that stays the same is not sent again.
    let server = refusing_once().await;
    let error = ask(options(&server.url())).await.unwrap_err();
    assert_eq!((error.status, server.seen().len()), (Some(401), 1));
    assert!(error.message.contains("bad key [the key]"), "{error}");
}

#[tokio::test]
async fn keys_from_files_and_commands_are_checked_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let source = FileKey::new(file.clone());
    assert!(source.key().await.unwrap_err().to_string().contains("cannot be read"));
    std::fs::write(&file, format!("  {KEY}\n")).unwrap();
    assert_eq!(source.key().await.unwrap().unwrap().expose(), KEY);
    std::fs::write(&file, format!("{KEY}\nsecond line\n")).unwrap();
    let error = source.key().await.unwrap_err().to_string();
    assert!(error.contains("one line") && !error.contains(KEY), "{error}");

    let command = |script: &str| {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        CommandKey::new(argv, Duration::from_secs(60)).with_limit(Duration::from_millis(500))
    };
    for (script, why) in [
        (format!("echo {KEY}; exit 3"), "failed (exit status: 3)"),
        (format!("echo {KEY} >&2"), "no usable key"),
        (format!("echo {KEY}; exec sleep 60"), "did not end within 0.5 s"),
    ] {
        let source = command(&script);
        let error = source.key().await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(!format!("{error} {error:?} {source:?}").contains(KEY));
    }
    let shown = format!("{:?}", StaticKey::new(Secret::new(KEY)));
    assert!(!shown.contains(KEY), "{shown}");
}
