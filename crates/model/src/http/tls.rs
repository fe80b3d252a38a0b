use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{TransportError, describe};

/// TLS with the host's certificate authorities and one more file of them. They are read when the
/// first connection is made: it takes milliseconds that a run over plain HTTP does not have to pay.
pub(super) struct Tls {
    extra_ca: Option<PathBuf>,
    connector: OnceCell<TlsConnector>,
}

impl Tls {
    pub(super) fn new(extra_ca: Option<PathBuf>) -> Self {
        Self { extra_ca, connector: OnceCell::new() }
    }

    pub(super) async fn connect(
        &self,
        host: &str,
        peer: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, TransportError> {
        let connector = self
            .connector
            .get_or_try_init(|| self.load())
            .await
            .map_err(TransportError::Configuration)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            TransportError::Configuration(format!("`{host}` is no name that a certificate is for"))
        })?;
        connector.connect(name, stream).await.map_err(|error| TransportError::Connect {
            peer: peer.to_owned(),
            reason: format!(
                "{}; if the server's certificate comes from an authority of your own, name its \
                 file as extra CA",
                describe(&error)
            ),
        })
    }

    async fn load(&self) -> Result<TlsConnector, String> {
        let extra_ca = self.extra_ca.clone();
        let config = tokio::task::spawn_blocking(move || config(extra_ca))
            .await
            .map_err(|error| describe(&error))??;
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn config(extra_ca: Option<PathBuf>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // Files that hold something odd are skipped: one bad certificate of the host's must not make
    // all the good ones useless.
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = extra_ca {
        add_file(&mut roots, &path).map_err(|why| {
            format!("the extra CA file `{}` cannot be used: {why}", path.display())
        })?;
    }
    if roots.is_empty() {
        return Err("this host has no certificate authorities; install its `ca-certificates` \
                    package or name a CA file"
            .to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| describe(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn add_file(roots: &mut RootCertStore, path: &std::path::Path) -> Result<(), String> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| describe(&error))?;
    let before = roots.len();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| describe(&error))?;
        roots.add(certificate).map_err(|error| describe(&error))?;
    }
    if roots.len() == before {
        return Err("it holds no certificate".to_owned());
    }
    Ok(())
}
