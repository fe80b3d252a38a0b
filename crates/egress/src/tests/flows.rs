//! What takes more than one message: other versions of HTTP, WebSockets, real sockets, agents.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::world::{Setup, World, ask, hear, say, tls};
use crate::egress::EgressSockets;
use crate::names::AddressRange;

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

fn allow(rules: &[&'static str]) -> Setup {
    Setup { allow: rules.to_vec(), ..Setup::default() }
}

#[test]
fn http2_is_opened_and_each_request_decided() {
    block_on(async {
        let world = World::new(&allow(&["GET a.test/x"])).await;
        let stream = world.trusting(world.connect("a.test", 443), "a.test", &["h2"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, driver) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(driver);
        let mut status = async |path: &str, authority: &str| {
            let uri = format!("https://{authority}{path}");
            let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8_lossy(&body).into_owned())
        };
        let (code, text) = status("/x?q", "a.test").await;
        assert!(code == 200 && text.starts_with("GET https://a.test/x?q"), "{code} {text}");
        assert_eq!(status("/y", "a.test").await.0, 403);
        assert_eq!(status("/x", "other.test").await.0, 421);
        assert_eq!(status("/x", "a.test:8443").await.0, 421);
        let reasons: Vec<_> =
            world.decisions().into_iter().map(|one| one.reason.unwrap_or_default()).collect();
        assert_eq!(reasons, ["", "path_not_allowed", "host_mismatch"]);
    });
}

#[test]
fn a_websocket_passes_after_its_handshake() {
    block_on(async {
        let world = World::new(&allow(&["a.test/socket"])).await;
        let stream = world.connect("a.test", 443);
        let mut stream = world.trusting(stream, "a.test", &["http/1.1"]).await.unwrap();
        let head = "GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n";
        let reply = ask(&mut stream, head.as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 101"), "{reply}");
        assert!(reply.to_lowercase().contains("upgrade: websocket"), "{reply}");
        assert_eq!(say(stream, b"frame").await, "FRAME");
        let usage = world.egress.usage();
        assert_eq!((usage.sent_bytes, usage.received_bytes), (5, 5));
    });
}

#[test]
fn an_upgrade_to_something_else_is_a_plain_request() {
    block_on(async {
        let world = World::new(&allow(&["a.test"])).await;
        let text = "GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
            Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n\
            GET /second HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        let reply = say(world.connect("a.test", 80), text.as_bytes()).await;
        assert!(reply.contains("GET /x") && reply.contains("GET /second"), "{reply}");
        assert!(!reply.contains("h2c") && !reply.contains("settings"), "{reply}");
    });
}

#[test]
fn a_program_that_pins_certificates_is_named() {
    block_on(async {
        let world = World::new(&allow(&["a.test/x"])).await;
        let other = crate::authority::Authority::generate().unwrap().certificate_pem();
        let stream = world.connect("a.test", 443);
        assert!(tls(stream, "a.test", &[], Some(&other)).await.is_err());
        let decisions = world.decisions_with_a_reason().await;
        let reasons: Vec<_> = decisions.into_iter().map(|one| one.reason).collect();
        assert_eq!(reasons, [Some("client_pins".to_owned())]);
    });
}

/// Sockets as a sandbox hands them over, on the loopback: 127.18.0.0/15 is local there as well.
#[test]
fn addresses_that_the_resolver_gave_lead_to_their_hosts() {
    block_on(async {
        let range = AddressRange::new(Ipv4Addr::new(127, 18, 0, 0), 15).unwrap();
        let tcp = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let dns = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let resolver = dns.local_addr().unwrap();
        let rule: &'static str = format!("a.test:{port}").leak();
        let sockets = EgressSockets { tcp: vec![tcp], dns: Some(dns), ssh_agent: None };
        let world = World::with_sockets(&allow(&[rule]), sockets, range).await;

        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let lookup = async |name: &str| {
            let mut query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0".to_vec();
            for label in name.split('.') {
                query.push(label.len() as u8);
                query.extend(label.as_bytes());
            }
            query.extend([0, 0, 1, 0, 1]);
            client.send_to(&query, resolver).await.unwrap();
            let mut reply = [0; 512];
            let count = client.recv(&mut reply).await.unwrap();
            Ipv4Addr::from(<[u8; 4]>::try_from(&reply[count - 4..count]).unwrap())
        };
        let request = |host: &str| {
            format!("GET /x HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n")
        };
        let fetch = async |address: Ipv4Addr, host: &str| {
            let stream = TcpStream::connect((address, port)).await.unwrap();
            say(stream, request(host).as_bytes()).await
        };
        let known = lookup("a.test").await;
        let reply = fetch(known, "a.test").await;
        assert!(reply.contains("GET /x"), "{reply}");
        let denied = lookup("b.test").await;
        let reply = fetch(denied, "b.test").await;
        assert!(reply.contains(&format!("--net b.test:{port}")), "{reply}");
        assert!(fetch(denied, "a.test").await.starts_with("HTTP/1.1 421"));
        // An address that nobody asked for, and one that is known from before a restart.
        assert_eq!(fetch(Ipv4Addr::new(127, 18, 77, 77), "a.test").await, "");
        let before = crate::names::Names::new(range, 10).address(&"c.test".parse().unwrap());
        let reply = fetch(before.unwrap(), "c.test").await;
        assert!(reply.contains("--net c.test"), "{reply}");
        // Not an address of the range.
        assert_eq!(fetch(Ipv4Addr::new(127, 0, 0, 1), "a.test").await, "");
        let reasons: Vec<_> = world.decisions().into_iter().filter_map(|one| one.reason).collect();
        assert_eq!(
            reasons,
            ["not_allowed", "not_allowed", "host_mismatch", "invalid_host", "not_allowed"]
        );
    });
}

#[test]
fn what_is_listened_on_beforehand_is_what_the_resolver_answers() {
    block_on(async {
        let rules = ["a.test:9000,8443", "b.test:9000", "c.test", "tcp://d.test:25"];
        let world = World::new(&allow(&rules)).await;
        let plan = world.border.rules.get().ports();
        let mut addresses = crate::addresses_of(AddressRange::SYNTHETIC, &plan.single).unwrap();
        let address = |name: &str| world.egress.address_of(&name.parse().unwrap()).unwrap();
        let (a, b) = (address("a.test"), address("b.test"));
        addresses.sort();
        let mut expected = vec![(a, 8443), (a, 9000), (b, 9000)];
        expected.sort();
        assert_eq!(addresses, expected);
        assert_eq!(Vec::from_iter(plan.every), [22, 25, 80, 443]);
    });
}

#[test]
fn connections_are_bounded_and_end_with_their_sandbox() {
    block_on(async {
        let range = AddressRange::new(Ipv4Addr::new(127, 18, 0, 0), 15).unwrap();
        let tcp = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let rule: &'static str = format!("tcp://a.test:{port}").leak();
        let sockets = EgressSockets { tcp: vec![tcp], ..EgressSockets::default() };
        let mut setup = allow(&[rule]);
        setup.limits.connections = 2;
        let world = World::with_sockets(&setup, sockets, range).await;
        let address = world.egress.address_of(&"a.test".parse().unwrap()).unwrap();
        let connect = || TcpStream::connect((address, port));
        let (mut one, _two) = (connect().await.unwrap(), connect().await.unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut three = connect().await.unwrap();
        assert_eq!(three.read(&mut [0]).await.unwrap_or(0), 0);
        let last = world.decisions().pop().unwrap();
        assert_eq!(last.reason.as_deref(), Some("limit_concurrency"));
        world.egress.shutdown(Duration::from_millis(50)).await;
        let ended = tokio::time::timeout(Duration::from_secs(2), one.read(&mut [0])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
        assert!(connect().await.is_err(), "it still listens");
    });
}

#[test]
fn the_policy_can_be_narrowed_while_connections_are_kept() {
    block_on(async {
        let world = World::new(&allow(&["a.test"])).await;
        let mut stream = world.connect("a.test", 80);
        let get = b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n";
        assert!(ask(&mut stream, get).await.starts_with("HTTP/1.1 200"));
        let _ = hear(&mut stream).await;
        world.egress.set_policy(crate::policy::Policy::default());
        assert!(ask(&mut stream, get).await.starts_with("HTTP/1.1 403"));
    });
}

#[test]
fn the_organisations_proxy_is_gone_through() {
    block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let head = ask(&mut stream, b"").await;
                let refused = head.contains("refused.test");
                seen.lock().unwrap().push(head);
                let reply: &[u8] = match refused {
                    true => b"HTTP/1.1 403 Forbidden\r\n\r\n",
                    false => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                };
                stream.write_all(reply).await.unwrap();
            }
        });
        let url: &'static str = format!("http://user:password@127.0.0.1:{}", proxy.port()).leak();
        let setup = Setup { proxy: Some(url), ..allow(&["a.test", "refused.test/x"]) };
        let world = World::new(&setup).await;
        let get = "GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        let reply = say(world.connect("a.test", 80), get.as_bytes()).await;
        assert!(reply.ends_with("ok"), "{reply}");
        let stream = world.connect("refused.test", 443);
        let stream = world.trusting(stream, "refused.test", &["http/1.1"]).await.unwrap();
        let get = get.replace("a.test", "refused.test");
        let reply = say(stream, get.as_bytes()).await;
        assert!(reply.contains("the proxy refused to connect (status 403)"), "{reply}");
        let heads = heads.lock().unwrap().join("");
        assert!(heads.starts_with("GET http://a.test/x HTTP/1.1\r\n"), "{heads}");
        assert!(heads.contains("CONNECT refused.test:443 HTTP/1.1\r\n"), "{heads}");
        assert_eq!(
            heads.to_lowercase().matches("proxy-authorization: basic dxnlcjpwyxnzd29yza==").count(),
            2,
            "{heads}"
        );
        assert!(!format!("{:?}", world.decisions()).contains("password"));
    });
}

#[test]
fn a_program_that_does_not_read_is_given_up() {
    block_on(async {
        let mut setup = allow(&["a.test"]);
        let short = Duration::from_millis(100);
        setup.limits.idle = short;
        setup.limits.response_wait = short;
        setup.limits.request_wait = short;
        setup.limits.connect_wait = short;
        let world = World::new(&setup).await;
        let mut stream = world.connect("a.test", 80);
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
        let decisions = world.decisions_with_a_reason().await;
        let reasons: Vec<_> = decisions.into_iter().filter_map(|one| one.reason).collect();
        assert_eq!(reasons, ["too_slow"]);
    });
}

#[test]
fn requests_are_signed_on_this_side() {
    block_on(async {
        let mut setup = allow(&["a.test"]);
        let value = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        setup.secrets = vec![("AWS=env:AWS@a.test;sign=aws:us-east-1:service", value)];
        let world = World::new(&setup).await;
        let stream = world.trusting(world.connect("a.test", 443), "a.test", &["http/1.1"]).await;
        let text = "POST /x?b=2&a=1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\
            Connection: close\r\n\r\nbody";
        let reply = say(stream.unwrap(), text.as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        let seen = world.seen.lock().unwrap().join("");
        let signed = "authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/";
        assert!(seen.contains(signed) && seen.ends_with("\nbody"), "{seen}");
        assert!(!seen.contains("wJalrXUtnFEMI"), "{seen}");
        assert_eq!(world.decisions()[0].secrets, ["AWS"]);
    });
}

#[test]
fn the_hosts_agent_lists_the_allowed_keys_only() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let (outer, inner) = (folder.path().join("agent"), folder.path().join("inside"));
        let agent = tokio::net::UnixListener::bind(&outer).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = agent.accept().await.unwrap();
            let mut question = [0; 5];
            stream.read_exact(&mut question).await.unwrap();
            // One key, with its comment.
            let body = b"\x0c\0\0\0\x01\0\0\0\x03key\0\0\0\x02hi";
            stream.write_all(&(body.len() as u32).to_be_bytes()).await.unwrap();
            stream.write_all(body).await.unwrap();
        });
        let listener = std::os::unix::net::UnixListener::bind(&inner).unwrap();
        let sockets = EgressSockets { ssh_agent: Some(listener), ..EgressSockets::default() };
        let setup = Setup { ssh_agent: Some(outer), ..Setup::default() };
        let world = World::with_sockets(&setup, sockets, AddressRange::SYNTHETIC).await;
        let mut client = tokio::net::UnixStream::connect(&inner).await.unwrap();
        client.write_all(&[0, 0, 0, 1, 11]).await.unwrap();
        let mut answer = [0; 9];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0, 0, 0, 5, 12, 0, 0, 0, 0], "the key is not one of the policy's");
        drop(world);
    });
}
