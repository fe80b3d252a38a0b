//! An engine at an address that is reached with TLS on both sides.
//!
//! Only what is in the three files counts: the authorities that this machine trusts for the web may
//! not vouch for an engine, which is root of its machine, and a file that is missing is an error
//! instead of a connection without it. That is why the connection is made here.

use std::path::Path;
use std::sync::Arc;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::endpoint::Tls;

/// Bytes of a file with certificates or a key.
const MAX_FILE: u64 = 1 << 20;

/// A client that makes a connection for each request, as long answers and streams need one anyway.
///
/// # Errors
/// What is wrong with the files, for people.
pub(crate) fn open(address: &str, tls: &Tls, patience: u64) -> Result<Docker, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(config(tls)?));
    let address: Arc<str> = address.into();
    let to = format!("https://{address}");
    let transport = move |request| {
        let (address, name, connector) = (address.clone(), name.clone(), connector.clone());
        async move { send(&address, name, &connector, request).await }
    };
    Docker::connect_with_custom_transport(transport, Some(to), patience, API_DEFAULT_VERSION)
        .map_err(|error| error.to_string())
}

async fn send(
    address: &str,
    name: ServerName<'static>,
    connector: &TlsConnector,
    request: BollardRequest,
) -> Result<Response<Incoming>, Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = connector.connect(name, stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer's body, or with the stream that it becomes: nobody else has a hold on it.
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(addressed(request)?).await?)
}

/// The request as a server wants to have it: the host apart from the path.
fn addressed(mut request: BollardRequest) -> Result<BollardRequest, Error> {
    let host = request.uri().authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    if let Some(Ok(host)) = host {
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    Ok(request)
}

fn config(tls: &Tls) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&tls.ca)? {
        roots.add(authority).map_err(|error| in_file(&tls.ca, error))?;
    }
    let chain = certificates(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&tls.key)?);
    let key = key.map_err(|error| in_file(&tls.key, format!("it holds no key: {error}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                in_file(&tls.key, format!("it is not the key of `{}`", tls.certificate.display()))
            }
            other => in_file(&tls.certificate, other),
        })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| in_file(path, error))?;
    if found.is_empty() { Err(in_file(path, "it holds no certificate")) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| in_file(path, error))?.len();
    if size > MAX_FILE {
        return Err(in_file(path, format!("it has {size} bytes, more than any certificate")));
    }
    std::fs::read(path).map_err(|error| in_file(path, error))
}

fn in_file(path: &Path, reason: impl ToString) -> String {
    format!("`{}`: {}", path.display(), reason.to_string())
}

/// What a failure of TLS means, for people. `None`: who answers speaks none.
pub(crate) fn explain(tls: &Tls, error: &rustls::Error) -> Option<String> {
    let certificate = tls.certificate.display();
    let look = format!("`openssl x509 -noout -dates -issuer -in {certificate}` tells");
    Some(match error {
        rustls::Error::InvalidMessage(_) => return None,
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer => format!(
                "no authority in `{}` signed the certificate that the engine shows",
                tls.ca.display()
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the engine's certificate has expired".to_owned()
            }
            other => format!("the engine's certificate is not believed: {other}"),
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            format!("the engine refuses `{certificate}`, which has expired; {look}")
        }
        rustls::Error::AlertReceived(alert) => format!(
            "the engine refuses `{certificate}` ({alert:?}): it has expired, or is of an authority \
             that the engine does not know; {look}"
        ),
        other => other.to_string(),
    })
}
