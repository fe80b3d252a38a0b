//! The table: what a program does, what comes of it, and what that hangs on.

use std::time::Duration;

use super::table::{Act, Case, Mutation, Outcome, VALUE, check_all};
use crate::policy::check::Check;

use Act::{Connect, Plain, Proxy, Tls};
use Outcome::{Answered, Failed, Led, Refused, Replied};

/// Bytes of a placeholder.
const PLACEHOLDER: usize = 42;
const GET: &str = "GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
const POST: &str =
    "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
const SMUGGLE: &str = "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\
    Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n";

fn case(name: &'static str, allow: &'static [&'static str], act: Act, outcome: Outcome) -> Case {
    // What is allowed hangs on the policy that allows it; what is not, on one that does not.
    let is_allowed = matches!(
        outcome,
        Answered(..) | Led(_) | Failed(_) | Outcome::Echoed(_) | Outcome::Sent(_)
    );
    let everything: &[&str] = &["*", "*:8080,8443", "tcp://a.test:25"];
    let otherwise = Mutation::Allowing(if is_allowed { &[] } else { everything });
    Case::new(name, allow, act, outcome, otherwise)
}

#[test]
fn what_is_allowed_goes_out() {
    check_all(vec![
        case("plain HTTP", &["a.test"], Plain("a.test", 80, GET), Answered("200", "GET /x")),
        case(
            "TLS passed on",
            &["a.test"],
            Tls("a.test", 443, "a.test", GET),
            Answered("200", "GET /x"),
        ),
        case(
            "TLS opened for a path",
            &["a.test/x"],
            Tls("a.test", 443, "a.test", GET),
            Answered("200", "a.test/x"),
        ),
        case(
            "a body through opened TLS",
            &["a.test/x"],
            Tls("a.test", 443, "a.test", POST),
            Answered("200", "body"),
        ),
        case(
            "a URL through the proxy",
            &["a.test"],
            Proxy("GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"),
            Answered("200", "GET /x"),
        ),
        case(
            "CONNECT",
            &["a.test"],
            Connect("a.test:443", "a.test", GET),
            Answered("200", "GET /x"),
        ),
        case(
            "CONNECT, opened",
            &["a.test/x"],
            Connect("a.test:443", "a.test", GET),
            Answered("200", "a.test/x"),
        ),
        case(
            "a name beneath a suffix",
            &["*.test"],
            Plain("a.test", 80, GET),
            Answered("200", "GET /x"),
        ),
        case(
            "another port",
            &["a.test:8443"],
            Tls("a.test", 8443, "a.test", GET),
            Answered("200", "GET /x"),
        ),
        case(
            "raw TCP, the server first",
            &["tcp://a.test:9000"],
            Plain("a.test", 9000, ""),
            Outcome::Echoed("220 hello"),
        ),
        case(
            "raw SSH",
            &["ssh://a.test"],
            Plain("a.test", 22, "SSH-2.0-x\r\n"),
            Outcome::Echoed("SSH-2.0-x"),
        ),
        case("a method", &["GET a.test"], Plain("a.test", 80, GET), Answered("200", "GET /x")),
        case(
            "an address that is named",
            &["93.184.216.34"],
            Proxy(
                "GET http://93.184.216.34/x HTTP/1.1\r\nHost: 93.184.216.34\r\nConnection: close\r\n\r\n",
            ),
            Answered("200", "GET /x"),
        ),
        case(
            "a chunked body",
            &["a.test"],
            Plain(
                "a.test",
                80,
                "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            ),
            Answered("200", "body"),
        ),
        case(
            "a redirect is an answer",
            &["a.test"],
            Plain(
                "a.test",
                80,
                "GET /redirect HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
            ),
            Answered("302", "http://denied.test/"),
        ),
        case(
            "a private address behind a name",
            &["a.test+private"],
            Plain("a.test", 80, GET),
            Answered("200", "GET /x"),
        )
        .lookups(&["10.0.0.5"]),
        case(
            "any case",
            &["a.test"],
            Proxy("GET http://A.Test/x HTTP/1.1\r\nHost: a.TEST\r\nConnection: close\r\n\r\n"),
            Answered("200", "GET /x"),
        )
        .without(Check::Case),
        case(
            "a trailing dot",
            &["a.test"],
            Proxy("GET http://a.test./x HTTP/1.1\r\nHost: a.test.\r\nConnection: close\r\n\r\n"),
            Answered("200", "GET /x"),
        )
        .without(Check::TrailingDot),
        case(
            "a second lookup leads inside",
            &["a.test"],
            Plain("a.test", 80, GET),
            Led("93.184.216.34"),
        )
        .lookups(&["93.184.216.34", "127.0.0.1"])
        .without(Check::SingleLookup),
        case(
            "one of two addresses is private",
            &["a.test"],
            Plain("a.test", 80, GET),
            Led("93.184.216.34"),
        )
        .lookups(&["10.0.0.1 93.184.216.34"])
        .without(Check::PrivateAddresses),
        case(
            "TLS, and a second lookup",
            &["a.test"],
            Tls("a.test", 443, "a.test", GET),
            Led("93.184.216.34"),
        )
        .lookups(&["93.184.216.34", "::1"])
        .without(Check::SingleLookup),
    ]);
}

#[test]
fn hosts_that_are_not_named_are_refused_in_words() {
    check_all(vec![
        case("plain HTTP", &["b.test"], Plain("a.test", 80, GET), Replied("403", "--net a.test")),
        case("TLS", &["b.test"], Tls("a.test", 443, "a.test", GET), Replied("403", "--net a.test")),
        case("nothing is allowed", &[], Plain("a.test", 80, GET), Replied("403", "--net a.test")),
        case(
            "the hop after a redirect",
            &["a.test"],
            Plain(
                "denied.test",
                80,
                "GET / HTTP/1.1\r\nHost: denied.test\r\nConnection: close\r\n\r\n",
            ),
            Replied("403", "--net denied.test"),
        ),
        case(
            "a URL through the proxy",
            &["b.test"],
            Proxy("GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            Replied("403", "--net a.test"),
        ),
        case(
            "CONNECT",
            &["b.test"],
            Proxy("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"),
            Replied("403", "--net a.test"),
        )
        .without(Check::ProxyDecides),
        case(
            "a suffix without its dot",
            &["*.a.test"],
            Proxy("GET http://evila.test/ HTTP/1.1\r\nHost: evila.test\r\n\r\n"),
            Refused("not_allowed"),
        )
        .without(Check::SuffixBoundary),
        case("the suffix itself", &["*.a.test"], Plain("a.test", 80, GET), Refused("not_allowed"))
            .without(Check::SuffixItself),
        case(
            "a name beneath an exact one",
            &["a.test"],
            Proxy("GET http://x.a.test/ HTTP/1.1\r\nHost: x.a.test\r\n\r\n"),
            Refused("not_allowed"),
        ),
        case(
            "an allowed name as the beginning",
            &["a.test"],
            Proxy("GET http://a.test.evil.test/ HTTP/1.1\r\nHost: a.test.evil.test\r\n\r\n"),
            Refused("not_allowed"),
        )
        .without(Check::ExactName),
        case(
            "another port",
            &["a.test"],
            Plain("a.test", 8080, "GET /x HTTP/1.1\r\nHost: a.test:8080\r\n\r\n"),
            Refused("port_not_allowed"),
        )
        .without(Check::Ports),
        case(
            "another scheme",
            &["http://a.test:80,443"],
            Tls("a.test", 443, "a.test", GET),
            Refused("scheme_not_allowed"),
        )
        .without(Check::Schemes),
        case(
            "another method",
            &["GET a.test"],
            Plain("a.test", 80, POST),
            Refused("method_not_allowed"),
        )
        .without(Check::Methods),
        case("another path", &["a.test/v1"], Plain("a.test", 80, GET), Refused("path_not_allowed"))
            .without(Check::Paths),
        case(
            "another path, opened",
            &["a.test/v1"],
            Tls("a.test", 443, "a.test", GET),
            Refused("path_not_allowed"),
        )
        .without(Check::Opening),
        case(
            "a longer segment",
            &["a.test/v1"],
            Plain("a.test", 80, "GET /v10 HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            Refused("path_not_allowed"),
        )
        .without(Check::PathSegments),
        case(
            "a path that climbs",
            &["a.test/v1"],
            Plain("a.test", 80, "GET /v1/../x HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            Refused("ambiguous_path"),
        )
        .without(Check::PathAmbiguity),
        case(
            "a path that climbs in code",
            &["a.test/v1"],
            Plain("a.test", 80, "GET /v1/%2e%2e/x HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            Refused("ambiguous_path"),
        )
        .without(Check::PathAmbiguity),
        case(
            "what is denied beside what is allowed",
            &["*", "!a.test"],
            Plain("a.test", 80, GET),
            Refused("denied_by_rule"),
        )
        .without(Check::DenyWins),
        case(
            "an address",
            &["a.test"],
            Proxy("GET http://93.184.216.34/ HTTP/1.1\r\nHost: 93.184.216.34\r\n\r\n"),
            Refused("address_literal"),
        )
        .allowing(&["93.184.216.34"]),
        case(
            "an address under `*`",
            &["*"],
            Connect("93.184.216.34:443", "", GET),
            Refused("address_literal"),
        )
        .without(Check::LiteralsNamed),
        case(
            "an address in one number",
            &["*"],
            Proxy("GET http://2130706433/ HTTP/1.1\r\nHost: 2130706433\r\n\r\n"),
            Refused("address_literal"),
        )
        .without(Check::OddLiterals),
        case(
            "an address in hexadecimal",
            &["*"],
            Proxy("GET http://0x7f.1/ HTTP/1.1\r\nHost: 0x7f.1\r\n\r\n"),
            Refused("address_literal"),
        )
        .without(Check::OddLiterals),
        case(
            "a mapped address",
            &["10.0.0.1", "!10.0.0.1"],
            Proxy("GET http://[::ffff:10.0.0.1]/ HTTP/1.1\r\nHost: [::ffff:10.0.0.1]\r\n\r\n"),
            Refused("denied_by_rule"),
        )
        .without(Check::MappedLiterals),
        case(
            "no host",
            &["*"],
            Proxy("GET http://user@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            Refused("invalid_host"),
        )
        .allowing(&[])
        .only_refused(),
    ]);
}

#[test]
fn names_that_lead_inside_are_refused() {
    let refused = |name, lookups: &'static [&'static str], check| {
        case(name, &["a.test"], Plain("a.test", 80, GET), Refused("private_address"))
            .lookups(lookups)
            .without(check)
    };
    check_all(vec![
        refused("loopback", &["127.0.0.1", "127.0.0.1"], Check::PrivateAddresses),
        refused("private", &["10.1.2.3"], Check::PrivateAddresses),
        refused("link-local", &["169.254.1.1"], Check::PrivateAddresses),
        refused("IPv6 loopback", &["::1"], Check::PrivateAddresses),
        refused("shared", &["100.64.0.1"], Check::PrivateAddresses),
        refused("translated (NAT64)", &["64:ff9b::7f00:1"], Check::CarriedAddresses),
        refused("6to4", &["2002:0a00:0001::"], Check::CarriedAddresses),
        refused("mapped", &["::ffff:192.168.0.1"], Check::PrivateAddresses),
        refused("all of them", &["10.0.0.1 192.168.0.1 ::1"], Check::PrivateAddresses),
        case(
            "through TLS",
            &["a.test"],
            Tls("a.test", 443, "a.test", GET),
            Replied("403", "+private"),
        )
        .lookups(&["10.0.0.1"])
        .without(Check::PrivateAddresses),
        case(
            "through opened TLS",
            &["a.test/x"],
            Tls("a.test", 443, "a.test", GET),
            Replied("403", "+private"),
        )
        .lookups(&["10.0.0.1"])
        .without(Check::PrivateAddresses),
        case(
            "metadata, also where private is allowed",
            &["a.test+private"],
            Plain("a.test", 80, GET),
            Refused("private_address"),
        )
        .lookups(&["169.254.169.254"])
        .without(Check::MetadataAddresses),
    ]);
}

#[test]
fn names_in_tls_and_requests_are_the_host() {
    let other = "GET /x HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n";
    check_all(vec![
        case("another server name", &["a.test", "other.test"], Tls("a.test", 443, "other.test", GET), Refused("sni_mismatch")).without(Check::ServerName),
        case("another server name after CONNECT", &["a.test"], Connect("a.test:443", "other.test", GET), Refused("sni_mismatch")).without(Check::ServerName),
        case("another server name, opened", &["a.test/x"], Tls("a.test", 443, "other.test", GET), Refused("sni_mismatch")).without(Check::ServerName),
        case("no server name", &["a.test"], Tls("a.test", 443, "", GET), Refused("sni_mismatch")).without(Check::ServerNamePresent),
        case("an encrypted hello", &["a.test"], Act::EncryptedHello("a.test"), Refused("encrypted_hello")).without(Check::EncryptedHello),
        case("another Host", &["a.test", "other.test"], Plain("a.test", 80, other), Refused("host_mismatch")).without(Check::HostHeader),
        case("another Host, opened", &["a.test/x"], Tls("a.test", 443, "a.test", other), Refused("host_mismatch")).without(Check::HostHeader),
        case("another port in Host", &["a.test"], Plain("a.test", 80, "GET /x HTTP/1.1\r\nHost: a.test:8080\r\n\r\n"), Refused("host_mismatch")).without(Check::HostHeader),
        case("another host in the target", &["a.test"], Plain("a.test", 80, "GET http://other.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n"), Refused("host_mismatch")).without(Check::HostHeader),
        case("another Host at the proxy", &["a.test"], Proxy("GET http://a.test/x HTTP/1.1\r\nHost: other.test\r\n\r\n"), Refused("host_mismatch")).without(Check::HostHeader),
        case("another Host at CONNECT", &["a.test"], Proxy("CONNECT a.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n"), Refused("host_mismatch")).without(Check::HostHeader),
        case("the second request names another", &["a.test"], Plain("a.test", 80, "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\nGET /x HTTP/1.1\r\nHost: other.test\r\n\r\n"), Outcome::Broken("host_mismatch")).without(Check::HostHeader),
        case("another's certificate", &["impostor.test/x"], Tls("impostor.test", 443, "impostor.test", "GET /x HTTP/1.1\r\nHost: impostor.test\r\n\r\n"), Outcome::Broken("server_untrusted")).without(Check::ServerTrust),
    ]);
}

#[test]
fn requests_that_can_be_read_in_two_ways_are_refused() {
    let shape = |name, text| {
        case(name, &["a.test"], Plain("a.test", 80, text), Replied("400", "denied: a.test"))
            .without(Check::Framing)
    };
    check_all(vec![
        shape("a length beside an encoding", SMUGGLE),
        shape("two lengths", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody"),
        shape("another encoding", "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        shape("two encodings", "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        shape("two hosts", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n"),
        shape("no host", "GET / HTTP/1.1\r\nX: y\r\n\r\n"),
        shape("a folded field", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\n b\r\n\r\n"),
        shape("a bare line feed", "GET / HTTP/1.1\nHost: a.test\r\n\r\n"),
        shape("a space before the colon", "GET / HTTP/1.1\r\nHost: a.test\r\nX : y\r\n\r\n"),
        shape("a control character", "GET / HTTP/1.1\r\nHost: a.test\r\nX: \x01\r\n\r\n"),
        shape("a signed length", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +4\r\n\r\nbody"),
        shape("HTTP/1.0 in chunks", "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        case("in opened TLS", &["a.test/x"], Tls("a.test", 443, "a.test", SMUGGLE), Replied("400", "ambiguous")).without(Check::Framing),
        case("at the proxy", &["a.test"], Proxy("POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Replied("400", "ambiguous")).without(Check::Framing),
        case("as the second request", &["a.test"], Plain("a.test", 80, "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\nPOST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Outcome::Broken("malformed_request")).without(Check::Framing),
        case("a broken chunk", &["a.test"], Plain("a.test", 80, "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0x4\r\nbody\r\n0\r\n\r\n"), Outcome::Broken("malformed_request")).without(Check::Framing),
    ]);
}

#[test]
fn bounds_hold() {
    let long: &'static str =
        format!("GET /x HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n", "a".repeat(20_000)).leak();
    let many: &'static str =
        format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{}\r\n", "X: y\r\n".repeat(200)).leak();
    let twice = "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\nGET /x HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let path = |path: &str| -> &'static str {
        format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n").leak()
    };
    let plain = |text| Plain("a.test", 80, text);
    check_all(vec![
        case("a large head", &["a.test"], plain(long), Replied("431", "too large")).without(Check::HeadSize),
        case("many fields", &["a.test"], plain(many), Replied("431", "too large")).without(Check::HeadSize),
        case("a large head of an answer", &["a.test"], plain(path("/large-head")), Outcome::Broken("upstream_failed")).limits(|limits| limits.header_bytes = 8 << 10).allowing(&[]),
        case("a head that does not end", &["a.test"], plain("GET /x HTTP/1.1\r\nHost: a"), Refused("too_slow")).without(Check::Slowness),
        case("a program that says nothing", &["a.test"], plain(""), Refused("too_slow")).without(Check::Slowness),
        case("a request line that does not end", &["a.test"], plain("GET /x"), Refused("too_slow")).without(Check::Slowness),
        case("a hello that does not end", &["a.test"], Plain("a.test", 443, "\x16\x03\x01\x00\x50\x01\x00"), Refused("too_slow")).without(Check::Slowness),
        case("a body that does not end", &["a.test"], plain("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nbody"), Outcome::Broken("too_slow")).limits(|limits| limits.response_wait = Duration::from_secs(60)).without(Check::Slowness),
        case("a host that does not answer", &["a.test"], plain(path("/slow")), Outcome::Broken("too_slow")).without(Check::Slowness),
        case("one request too many", &["a.test"], plain(twice), Outcome::Broken("limit_requests")).limits(|limits| limits.requests = Some(1)).without(Check::Limits),
        case("bytes too many", &["a.test"], plain(path("/large")), Outcome::Broken("limit_bytes")).limits(|limits| limits.bytes = Some(5000)).without(Check::Limits),
        case("bytes too many in a tunnel", &["a.test"], Tls("a.test", 443, "a.test", path("/large")), Outcome::Broken("limit_bytes")).limits(|limits| limits.bytes = Some(20_000)).without(Check::Limits),
        case("a body too large", &["a.test"], plain(POST), Outcome::Broken("upload_too_large")).limits(|limits| limits.upload_bytes = Some(3)).without(Check::Limits),
        case("another protocol", &["a.test:25"], Plain("a.test", 25, "EHLO a\r\n"), Refused("unknown_protocol")).without(Check::KnownProtocol),
        case("a name that does not exist", &["missing.test"], Plain("missing.test", 80, "GET /x HTTP/1.1\r\nHost: missing.test\r\n\r\n"), Failed("not_resolved")),
        case("a WebSocket without a key", &["a.test"], plain("GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"), Replied("400", "WebSocket")).without(Check::WebSocketHandshake),
        case("a WebSocket by POST", &["a.test"], plain("POST /x HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"), Replied("400", "WebSocket")).without(Check::WebSocketHandshake),
        case("a WebSocket that was not agreed to", &["a.test"], plain("GET /socket?wrong HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"), Outcome::Broken("upstream_failed")).without(Check::WebSocketHandshake),
    ]);
}

#[test]
fn secrets_go_to_their_hosts_and_nowhere_else() {
    const SPEC: &str = "KEY=env:KEY@a.test";
    let send = |fields: &str, body: &str| -> &'static str {
        let length = body.replace("{KEY}", &"x".repeat(PLACEHOLDER)).len();
        format!(
            "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        )
        .leak()
    };
    let secret = |name, act, outcome, spec| {
        case(name, &["a.test", "b.test"], act, outcome).secret(spec, VALUE)
    };
    let tls = |fields: &str, body: &str| Tls("a.test", 443, "a.test", send(fields, body));
    let get = |target: &str, fields: &str| -> &'static str {
        format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{fields}\r\n").leak()
    };
    let bearer = "Authorization: Bearer {KEY}\r\n";
    check_all(vec![
        secret("a header", tls(bearer, ""), Outcome::Sent("Bearer v-4l/u3+0f.the=secret"), SPEC).without(Check::Echo),
        secret("through CONNECT", Connect("a.test:443", "a.test", get("/x", bearer)), Outcome::Sent("Bearer v-4l/u3+0f.the=secret"), SPEC),
        secret("a query", Tls("a.test", 443, "a.test", get("/x?k={KEY}", "")), Outcome::Sent("k=v-4l%2Fu3%2B0f.the%3Dsecret"), "KEY=env:KEY@a.test;in=query:k"),
        secret("a field of JSON", tls("Content-Type: application/json\r\n", "{\"a\":{\"b\":\"{KEY}\"}}"), Outcome::Sent("{\"a\":{\"b\":\"v-4l/u3+0f.the=secret\"}}"), "KEY=env:KEY@a.test;in=body:a.b"),
        secret("a whole body", tls("", "some {KEY} text"), Outcome::Sent("some v-4l/u3+0f.the=secret text"), "KEY=env:KEY@a.test;in=body:*"),
        secret("an echo in a head", Tls("a.test", 443, "a.test", get("/echo-head", bearer)), Outcome::Answered("200", "x-echo: Bearer moatsecret"), SPEC).without(Check::Echo),
        secret("another host", Plain("b.test", 80, "GET / HTTP/1.1\r\nHost: b.test\r\nX: {KEY}\r\n\r\n"), Refused("secret_wrong_place"), SPEC).without(Check::WrongPlace),
        secret("without TLS", Plain("a.test", 80, get("/x", bearer)), Refused("secret_wrong_place"), SPEC).without(Check::SecretTls),
        secret("another field", tls("X-Other: {KEY}\r\n", ""), Outcome::Unsent(VALUE), "KEY=env:KEY@a.test;in=header:x-key").without(Check::SecretPlaces),
        secret("a body where only fields are named", tls("", "{KEY}"), Outcome::Unsent(VALUE), SPEC).without(Check::SecretPlaces),
        secret("the value itself in a field", Plain("b.test", 80, "GET / HTTP/1.1\r\nHost: b.test\r\nX: v-4l/u3+0f.the=secret\r\n\r\n"), Refused("secret_leak"), SPEC).without(Check::Leak),
        secret("the value in the target", Plain("b.test", 80, "GET /v-4l/u3+0f.the=secret HTTP/1.1\r\nHost: b.test\r\n\r\n"), Refused("secret_leak"), SPEC).without(Check::Leak),
        secret("the value in base64 in a body", Plain("b.test", 80, "POST / HTTP/1.1\r\nHost: b.test\r\nContent-Length: 28\r\n\r\ndi00bC91MyswZi50aGU9c2VjcmV0"), Outcome::Broken("secret_leak"), SPEC).without(Check::Leak),
        case("no value", &["a.test"], tls(bearer, ""), Refused("secret_missing")).secret(SPEC, "").only_refused(),
    ]);
}
