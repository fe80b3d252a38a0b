use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Upstream, UpstreamError};
use crate::policy::Host;
use crate::policy::check::{Check, is_on};

/// Which protocols are offered to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Alpn {
    /// HTTP/2 or HTTP/1.1.
    Any,
    /// HTTP/1.1 only, for what becomes another protocol.
    Http1,
}

/// The certificate authorities that hosts are verified with. They are read when the first TLS
/// connection is made.
pub(super) struct Roots {
    extra_ca: Option<PathBuf>,
    configs: OnceCell<Configs>,
}

struct Configs {
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl Roots {
    pub(super) fn new(extra_ca: Option<PathBuf>) -> Self {
        Self { extra_ca, configs: OnceCell::new() }
    }

    pub(super) async fn load(&self) -> Result<(), UpstreamError> {
        self.configs().await.map(|_| ())
    }

    async fn configs(&self) -> Result<&Configs, UpstreamError> {
        self.configs
            .get_or_try_init(|| async {
                let extra_ca = self.extra_ca.clone();
                let roots = tokio::task::spawn_blocking(move || load(extra_ca.as_deref()));
                let roots = Arc::new(roots.await.map_err(|error| error.to_string())??);
                let any = config(&roots, &["h2", "http/1.1"])?;
                Ok(Configs { any, http1: config(&roots, &["http/1.1"])? })
            })
            .await
            .map_err(UpstreamError::Configuration)
    }

    async fn config(&self, alpn: Alpn) -> Result<Arc<ClientConfig>, UpstreamError> {
        let configs = self.configs().await?;
        Ok(Arc::clone(match alpn {
            Alpn::Any => &configs.any,
            Alpn::Http1 => &configs.http1,
        }))
    }
}

impl Upstream {
    /// Speaks TLS to a host over a stream; its certificate has to be one for its name.
    pub(crate) async fn secure<S>(
        &self,
        host: &Host,
        stream: S,
        alpn: Alpn,
        wait: Duration,
    ) -> Result<TlsStream<S>, UpstreamError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.roots.config(alpn).await?;
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.as_str().to_owned())
                .map_err(|_| UpstreamError::Tls("no certificate is for such a name".to_owned()))?,
            Host::Address(address) => ServerName::from(*address),
        };
        timeout(wait, TlsConnector::from(config).connect(name, stream))
            .await
            .map_err(|_| UpstreamError::Timeout(wait))?
            .map_err(|error| UpstreamError::Tls(error.to_string()))
    }
}

fn load(extra_ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Files that hold something odd are skipped: one bad certificate of the host's must not make
    // all the good ones useless.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = extra_ca {
        add_file(&mut roots, path).map_err(|why| {
            format!("the extra CA file `{}` cannot be used: {why}", path.display())
        })?;
    }
    if roots.is_empty() {
        return Err("this host has no certificate authorities; install its `ca-certificates` \
                    package or name a CA file"
            .to_owned());
    }
    Ok(roots)
}

fn config(roots: &Arc<RootCertStore>, alpn: &[&str]) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    if !is_on(Check::ServerTrust) {
        trust_everybody(&mut config);
    }
    Ok(Arc::new(config))
}

#[cfg(test)]
fn trust_everybody(config: &mut ClientConfig) {
    config.dangerous().set_certificate_verifier(Arc::new(crate::tests::Unverified));
}

#[cfg(not(test))]
fn trust_everybody(_: &mut ClientConfig) {}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let before = roots.len();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.len() == before {
        return Err("it holds no certificate".to_owned());
    }
    Ok(())
}
