use std::sync::Arc;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConnection, RootCertStore, ServerConnection};

use super::*;

#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl rustls::server::ResolvesServerCert for One {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Whether a client that trusts `trusted` accepts what `authority` makes for `host`, asking for
/// `name`.
fn accepts(trusted: &str, authority: &Authority, host: &str, name: &str) -> bool {
    use rustls::pki_types::pem::PemObject;
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(One(authority
            .certified(&Host::parse(host).unwrap())
            .unwrap())));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        if server.process_new_packets().is_err() {
            return false;
        }
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        if client.process_new_packets().is_err() {
            return false;
        }
    }
    true
}

#[test]
fn what_it_makes_is_trusted_by_who_trusts_it_also_after_being_saved() {
    let authority = Authority::generate().unwrap();
    let trusted = authority.certificate_pem();
    let saved = serde_json::to_vec(&authority.save()).unwrap();
    let loaded = Authority::load(&serde_json::from_slice(&saved).unwrap()).unwrap();
    assert_eq!(loaded.certificate_pem(), trusted);
    let other = Authority::generate().unwrap();
    let long = format!("{}.example", "a".repeat(63));
    for host in ["api.example.com", "10.0.0.7", long.as_str()] {
        assert!(accepts(&trusted, &authority, host, host), "{host}");
        assert!(accepts(&trusted, &loaded, host, host), "{host} after loading");
        assert!(!accepts(&trusted, &authority, host, "other.example"), "{host} for another");
        assert!(!accepts(&trusted, &other, host, host), "{host} by another authority");
    }
    let _ = UnixTime::now();
}

#[test]
fn keys_are_not_shown_and_broken_ones_not_taken() {
    let authority = Authority::generate().unwrap();
    assert_eq!(format!("{authority:?} {:?}", authority.save()), "Authority(..) SavedAuthority(..)");
    let mut saved = authority.save();
    saved.key.truncate(20);
    assert!(matches!(Authority::load(&saved), Err(AuthorityError::Load(_))));
    let mut saved = authority.save();
    saved.certificate.truncate(20);
    assert!(matches!(Authority::load(&saved), Err(AuthorityError::Load(_))));
}
