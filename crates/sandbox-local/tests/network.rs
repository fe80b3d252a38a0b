//! A sandbox with a network reaches the sockets that the harness holds, and nothing else; as root
//! and as an ordinary user.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use moat_core::Epoch;
use moat_sandbox::{NetworkSockets, NetworkSpec, Provider as _, Root, SandboxError, SandboxSpec};
use support::inside::Inside;

const AUTHORITY: &[u8] = include_bytes!("network/authority.pem");

#[test]
fn leads_to_the_harness_only_as_root() {
    support::as_root("leads_to_the_harness_only_as_root", || on_runtime(leads));
}

#[test]
fn leads_to_the_harness_only_as_ordinary_user() {
    let name = "leads_to_the_harness_only_as_ordinary_user";
    support::as_ordinary_user(name, || on_runtime(leads));
}

#[test]
fn names_and_authorities_are_found_as_root() {
    support::as_root("names_and_authorities_are_found_as_root", || on_runtime(finds));
}

#[test]
fn names_and_authorities_are_found_as_ordinary_user() {
    let name = "names_and_authorities_are_found_as_ordinary_user";
    support::as_ordinary_user(name, || on_runtime(finds));
}

fn on_runtime<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body());
}

/// What the probe is answered.
const ANSWERS: &[(&str, &str)] = &[
    ("everywhere", "done"),
    ("far_end", "done"),
    ("proxy", "done"),
    ("resolver_stream", "done"),
    ("database", "done"),
    ("resolver", "done"),
    ("ssh_agent", "done"),
    ("other_port", "ECONNREFUSED"),
    ("database_elsewhere", "ECONNREFUSED"),
    ("other_resolver", "ECONNREFUSED"),
    ("other_datagram", "ECONNREFUSED"),
    ("host_loopback", "ECONNREFUSED"),
    ("host_loopback_by_name", "ECONNREFUSED"),
    ("before", "ENETUNREACH"),
    ("behind", "ENETUNREACH"),
    ("outside", "ENETUNREACH"),
    ("private", "ENETUNREACH"),
    ("metadata", "ENETUNREACH"),
    ("broadcast", "ENETUNREACH"),
    ("broadcast_of_the_network", "ENETUNREACH|EACCES"),
    ("datagram_outside", "ENETUNREACH"),
    ("datagram_multicast", "ENETUNREACH"),
    ("outside6", "ENETUNREACH|EADDRNOTAVAIL"),
    ("link_local6", "ENETUNREACH|EADDRNOTAVAIL|EINVAL"),
    ("mapped_outside", "ENETUNREACH"),
    ("mapped_inside", "done"),
    ("new_route", "EPERM"),
    ("new_address", "EPERM"),
    ("transparent", "EPERM"),
    ("raw", "EPERM"),
    ("packet", "EPERM"),
    ("take_over", "EACCES"),
    ("take_over_one", "EACCES"),
    ("take_over_shared", "EADDRINUSE"),
    ("take_over_again", "EADDRINUSE"),
    ("take_over_database", "EADDRINUSE"),
    ("own_database", "done"),
    ("own_server", "done"),
];

/// What the probe's connections were made to, in its order.
const ARRIVED: [([u8; 4], u16); 6] = [
    ([198, 18, 5, 6], 443),
    ([198, 19, 255, 254], 443),
    ([198, 18, 0, 1], 3128),
    ([198, 18, 0, 1], 53),
    ([198, 18, 3, 4], 5432),
    ([198, 18, 5, 6], 443),
];

fn network() -> NetworkSpec {
    NetworkSpec {
        ports: vec![443, 8443],
        addresses: vec![(Ipv4Addr::new(198, 18, 3, 4), 5432)],
        authority: Some(AUTHORITY.to_vec()),
        ssh_agent: true,
    }
}

async fn leads() {
    let inside = Inside::new(|spec| spec.network = Some(network())).await;
    let sockets = inside.sandbox.network().await.unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();

    let program = support::build_program(include_str!("network/probe.c"));
    inside.guest.write(Root::Workspace, Path::new("probe"), &program, 0o755).await.unwrap();
    let (code, said) = inside.run(&["/workspace/probe", &port]).await;
    assert_eq!(code, 0, "the probe said {said}");
    let said: Vec<_> = said.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut broken = Vec::new();
    for (name, expected) in ANSWERS {
        let answer = said.iter().find(|(said, _)| said == name).map_or("nothing", |(_, a)| *a);
        let holds = expected.split('|').any(|expected| expected == answer);
        println!("{} {name}: {answer}", if holds { "ok    " } else { "BROKEN" });
        if !holds {
            broken.push(format!("{name}: {answer} instead of {expected}"));
        }
    }
    assert_eq!(said.len(), ANSWERS.len(), "{said:?}");
    assert!(broken.is_empty(), "broken:\n{}", broken.join("\n"));
    arrived(&sockets);
    inside.provider.destroy(&inside.sandbox.handle()).await.unwrap();
}

/// Everything that the probe reached waits at the sockets.
fn arrived(sockets: &NetworkSockets) {
    let mut found = Vec::new();
    for listener in &sockets.tcp {
        while let Ok((stream, from)) = listener.accept() {
            assert!(from.ip().to_string().starts_with("198."), "it came from {from}");
            found.push(stream.local_addr().unwrap());
        }
    }
    found.sort();
    let mut expected = ARRIVED.map(SocketAddr::from);
    expected.sort();
    assert_eq!(found, expected);
    let mut query = [0; 8];
    let dns = sockets.dns.as_ref().unwrap();
    assert_eq!(dns.recv(&mut query).unwrap(), 1);
    assert!(dns.recv(&mut query).is_err(), "a second datagram arrived");
    let agent = sockets.ssh_agent.as_ref().unwrap();
    agent.accept().unwrap();
    assert!(agent.accept().is_err(), "a second user of the agent");
}

async fn finds() {
    let inside = Inside::new(|spec| spec.network = Some(network())).await;
    let sockets = inside.sandbox.network().await.unwrap();
    let resolver = Resolver::start(sockets.dns.unwrap());
    let (code, said) = inside.sh("getent ahostsv4 some.where.example").await;
    assert!(code == 0 && said.starts_with("198.18.44.55 "), "{code} {said:?}");
    // As most programs ask, who want no addresses that they could not use.
    let (code, said) = inside.sh("getent ahosts some.where.example").await;
    assert!(code == 0 && said.starts_with("198.18.44.55 "), "{code} {said:?}");
    drop(resolver);
    trusts(&inside).await;
    variables(&inside).await;
    let (_, said) = inside.sh("stat -c %a:%U /moat/ssh-agent.sock; touch /moat/x 2>&1").await;
    assert!(said.starts_with("666:") && said.contains("Read-only"), "{said}");
    inside.provider.destroy(&inside.sandbox.handle()).await.unwrap();
    let left = inside.provider.reap().unwrap();
    assert_eq!(left, 0);
}

async fn trusts(inside: &Inside) {
    let last = String::from_utf8_lossy(AUTHORITY);
    let places = "$SSL_CERT_FILE $CURL_CA_BUNDLE $NODE_EXTRA_CA_CERTS";
    let (code, said) = inside.sh(&format!("sha256sum < {places} | uniq | wc -l")).await;
    assert_eq!((code, said.trim()), (0, "1"));
    let hosts = "/etc/ssl/certs/ca-certificates.crt";
    for place in ["/moat/ca-certificates.crt", hosts] {
        if place == hosts && !Path::new(hosts).exists() {
            continue;
        }
        let (code, said) = inside.sh(&format!("cat {place}")).await;
        assert!(code == 0 && said.ends_with(&*last), "{place}");
        let before = std::fs::read_to_string(hosts).unwrap_or_default();
        assert!(said.starts_with(before.trim_end()), "{place} lacks the host's authorities");
    }
    let (code, said) = inside.sh("echo x >> /moat/ca-certificates.crt").await;
    assert_ne!(code, 0, "{said}");
    if !Path::new("/usr/bin/keytool").exists() {
        support::skip("the store of Java's", "needs the program `keytool`");
        return;
    }
    let list = "keytool -list -keystore /moat/ca-certificates.jks -storetype JKS </dev/null";
    let (_, said) = inside.sh(list).await;
    let count = std::fs::read_to_string(hosts).unwrap_or_default().matches("BEGIN CERT").count();
    assert!(said.contains(&format!("contains {} entries", count + 1)), "{said}");
}

async fn variables(inside: &Inside) {
    let names = "HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy NO_PROXY \
        no_proxy SSL_CERT_FILE REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS CURL_CA_BUNDLE \
        GIT_SSL_CAINFO PIP_CERT CARGO_HTTP_CAINFO npm_config_cafile AWS_CA_BUNDLE DENO_CERT \
        JAVA_TOOL_OPTIONS SSH_AUTH_SOCK";
    for name in names.split_whitespace() {
        let (code, said) = inside.sh(&format!("printenv {name}")).await;
        assert_eq!(code, 0, "`{name}` is not set");
        let value = said.trim();
        if name.to_lowercase().ends_with("s_proxy") {
            assert_eq!(value, "http://198.18.0.1:3128");
        }
        if value.starts_with('/') {
            let (code, _) = inside.sh(&format!("test -e {value}")).await;
            assert_eq!(code, 0, "`{name}` names `{value}`, which is not there");
        }
    }
}

/// Answers every query for an address by one, as long as it lives.
struct Resolver {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    fn start(socket: UdpSocket) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let serve = move || {
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut query = [0; 512];
            while !seen.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
                socket.send_to(&answer(&query[..length]), from).unwrap();
            }
        };
        Self { over, thread: Some(std::thread::spawn(serve)) }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The query's own header and question, and an address if it asked for one of version 4.
fn answer(query: &[u8]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let is_v4 = query[end - 4..end - 2] == [0, 1];
    let header = [0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0];
    let mut answer = [&query[..2], &header, &query[12..end]].concat();
    if is_v4 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 18, 44, 55]);
    }
    answer
}

#[test]
fn what_cannot_be_a_network_is_refused() {
    on_runtime(|| async {
        let top = tempfile::tempdir().unwrap();
        let provider = support::provider(top.path());
        let specs = [
            NetworkSpec { addresses: vec![(Ipv4Addr::LOCALHOST, 80)], ..NetworkSpec::default() },
            NetworkSpec { authority: Some(b"nothing".to_vec()), ..NetworkSpec::default() },
        ];
        for network in specs {
            let spec = SandboxSpec {
                network: Some(network),
                ..SandboxSpec::new(moat_core::RunId::generate(), Epoch(1))
            };
            let made = provider.create(&spec).await;
            assert!(matches!(made, Err(SandboxError::Setup { .. })));
        }
        let left = std::fs::read_dir(support::state_folder(top.path()).join("sandboxes")).unwrap();
        assert_eq!(left.count(), 0, "a refused sandbox leaves something");
    });
}
