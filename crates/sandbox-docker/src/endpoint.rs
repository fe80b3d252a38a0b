//! Where an engine is.

use std::path::{Path, PathBuf};

/// The socket of an engine on this machine, unless something else is said.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Where an engine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// An address, `HOST:PORT`.
    Tcp {
        /// The address.
        address: String,
        /// How both sides prove who they are. Without it anyone on the way has the engine, and with
        /// it the machine that it is on.
        tls: Option<Tls>,
    },
}

/// Files with which an engine and its client prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Authorities that the engine's certificate comes from.
    pub ca: PathBuf,
    /// The client's certificate.
    pub certificate: PathBuf,
    /// The client's key.
    pub key: PathBuf,
}

/// What was said about an engine makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It is neither a socket nor an address.
    #[error(
        "`{0}` is no address of a Docker engine: write `unix:///PATH` or `tcp://HOST:PORT` \
         (over SSH, forward the engine's socket: `ssh -L /tmp/docker.sock:/var/run/docker.sock`)"
    )]
    Unknown(String),
    /// It is an address of another machine, and nothing proves who is there.
    #[error(
        "`{0}` is not on this machine and would be used without TLS, which gives the engine to \
         everyone on the way: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH"
    )]
    Plain(String),
    /// TLS is asked for, and there are no certificates.
    #[error(
        "TLS is asked for and DOCKER_CERT_PATH does not say where ca.pem, cert.pem and key.pem are"
    )]
    NoCertificates,
}

impl Tls {
    /// The files as Docker names them in a folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            ca: folder.join("ca.pem"),
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        }
    }
}

impl Endpoint {
    /// What `DOCKER_HOST`, `DOCKER_CERT_PATH` and `DOCKER_TLS_VERIFY` mean together. Over TCP, TLS
    /// is used when certificates are there; without it only addresses of this machine are accepted.
    ///
    /// # Errors
    /// [`EndpointError`]
    pub fn parse(
        host: Option<&str>,
        certificates: Option<&Path>,
        verify: bool,
    ) -> Result<Self, EndpointError> {
        let host = host.filter(|host| !host.is_empty());
        let Some(host) = host else { return Ok(Self::Unix(DEFAULT_SOCKET.into())) };
        if let Some(path) = host.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(EndpointError::Unknown(host.to_owned())),
            };
        }
        let address = ["tcp://", "https://", "http://"]
            .iter()
            .find_map(|scheme| host.strip_prefix(scheme))
            .ok_or_else(|| EndpointError::Unknown(host.to_owned()))?;
        let address = address.trim_end_matches('/');
        let Some((name, _)) = address.rsplit_once(':').filter(|(name, port)| {
            !name.is_empty() && !name.contains('/') && port.parse::<u16>().is_ok()
        }) else {
            return Err(EndpointError::Unknown(host.to_owned()));
        };
        let tls = match certificates {
            Some(folder) => Some(Tls::in_folder(folder)),
            None if verify || host.starts_with("https://") => {
                return Err(EndpointError::NoCertificates);
            }
            None if is_this_machine(name) => None,
            None => return Err(EndpointError::Plain(host.to_owned())),
        };
        Ok(Self::Tcp { address: address.to_owned(), tls })
    }

    /// Whether the engine may share a file system with this process.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

fn is_this_machine(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { address, tls: Some(_) } => write!(f, "tcp://{address} (TLS)"),
            Self::Tcp { address, tls: None } => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_is_never_reached_without_tls() {
        let parse = |host| Endpoint::parse(Some(host), None, false);
        for host in
            ["tcp://10.0.0.5:2375", "tcp://docker.example.com:2375", "http://[2001:db8::1]:2375"]
        {
            assert_eq!(parse(host), Err(EndpointError::Plain(host.to_owned())));
        }
        for host in ["tcp://127.0.0.1:2375", "tcp://[::1]:2375", "tcp://localhost:2375"] {
            assert!(matches!(parse(host), Ok(Endpoint::Tcp { tls: None, .. })), "{host}");
        }
        let verified = Endpoint::parse(Some("tcp://127.0.0.1:2376"), None, true);
        assert_eq!(verified, Err(EndpointError::NoCertificates));
        let certificates = Path::new("/certs");
        let remote = Endpoint::parse(Some("tcp://h.example:2376"), Some(certificates), true);
        let tls = Some(Tls::in_folder(certificates));
        assert_eq!(remote.unwrap(), Endpoint::Tcp { address: "h.example:2376".to_owned(), tls });
    }

    #[test]
    fn what_is_no_engine_is_refused() {
        for host in
            ["ssh://me@there", "unix://relative", "tcp://host", "tcp://:1", "tcp://h:x", "x"]
        {
            let refused = Endpoint::parse(Some(host), Some(Path::new("/c")), true);
            assert_eq!(refused, Err(EndpointError::Unknown(host.to_owned())));
        }
        let usual = Endpoint::parse(None, None, false).unwrap();
        assert_eq!(usual, Endpoint::Unix(DEFAULT_SOCKET.into()));
    }
}
