//! What goes wrong with an engine, and what to do about it.

use std::error::Error as _;
use std::io;

use bollard::errors::Error;
use moat_core::Retryable;
use moat_sandbox::{GuestError, SandboxError};

use crate::endpoint::Endpoint;
use crate::remote;

/// Bytes of an engine's message that are passed on.
const MAX_MESSAGE: usize = 2000;

/// Why something could not be had from an engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DockerError {
    /// Nobody answers.
    #[error(
        "no Docker engine answers at {endpoint}: start it (`systemctl start docker`, or Docker \
         Desktop), or say with DOCKER_HOST where it is: {reason}"
    )]
    NoEngine {
        /// Where it was looked for.
        endpoint: String,
        /// What the system said.
        reason: String,
    },
    /// The socket may not be used.
    #[error(
        "the Docker engine at {endpoint} may not be used by this user: be one of the group \
         `docker` (which is as much as being root of that machine), use a rootless engine, or run \
         this as root"
    )]
    NoPermission {
        /// Where it is.
        endpoint: String,
    },
    /// Certificates cannot be used.
    #[error("cannot use the certificates for {endpoint}: {reason}")]
    Certificates {
        /// For which engine.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// The image is not there, and was not to be fetched.
    #[error(
        "the engine has no image `{image}` and is not to fetch it (pull=never): `docker pull \
         {image}` gets it, or leave pull=never out"
    )]
    NoImage {
        /// The image.
        image: String,
    },
    /// The image could not be fetched.
    #[error("the engine cannot fetch the image `{image}`: {reason} ({asked})")]
    Pull {
        /// The image.
        image: String,
        /// What the engine said.
        reason: String,
        /// As whom it was asked, and where that is changed.
        asked: String,
    },
    /// The login at a registry cannot be told.
    #[error("cannot tell the login for {registry}: {reason}")]
    Login {
        /// The registry.
        registry: String,
        /// What is wrong.
        reason: String,
    },
    /// Somebody else answers.
    #[error("what answers at {endpoint} is no Docker engine: {reason}; set DOCKER_HOST to one")]
    NotAnEngine {
        /// Where it was looked for.
        endpoint: String,
        /// What it said.
        reason: String,
    },
    /// It is reached with TLS only.
    #[error(
        "the engine at {endpoint} is reached with TLS: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH \
         to a folder with ca.pem, cert.pem and key.pem"
    )]
    WantsTls {
        /// Where it is.
        endpoint: String,
    },
    /// The image cannot have its volumes.
    #[error(
        "the image `{image}` declares a volume at `{path}`, in a folder that is the sandbox's own: \
         use an image without it"
    )]
    Volume {
        /// The image.
        image: String,
        /// Where the volume would be.
        path: String,
    },
    /// The engine lacks the runtime.
    #[error(
        "the engine has no runtime `{runtime}` (it has {known}): install it and name it in the \
         engine's daemon.json, under `runtimes`"
    )]
    NoRuntime {
        /// The one that was asked for.
        runtime: String,
        /// Those that are there.
        known: String,
    },
    /// The engine's machine is of another kind than the guest.
    #[error(
        "the image `{image}` is for {theirs}, and this program has a guest for {ours} only: use an \
         image for {ours}"
    )]
    Architecture {
        /// The image.
        image: String,
        /// What it is for.
        theirs: String,
        /// What there is a guest for.
        ours: String,
    },
    /// The engine refused something.
    #[error("the Docker engine cannot {step}: {reason}")]
    Refused {
        /// What was asked for.
        step: String,
        /// What it said.
        reason: String,
        /// The status of its answer; 0: it gave none.
        status: u16,
    },
}

impl DockerError {
    /// Something that was asked for is not there.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// The engine is at work on it already.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }

    /// An error that this side found.
    pub(crate) fn here(step: &str, reason: impl ToString) -> Self {
        Self::Refused { step: step.to_owned(), reason: reason.to_string(), status: 0 }
    }

    /// An error of the engine, or of the way there.
    pub(crate) fn of(endpoint: &Endpoint, step: &str, error: &Error) -> Self {
        if let Error::DockerResponseServerError { status_code, message } = error {
            let (step, status) = (step.to_owned(), *status_code);
            return Self::Refused { step, reason: cut(message), status };
        }
        let tls = if let Endpoint::Tcp { tls, .. } = endpoint { tls.as_ref() } else { None };
        let endpoint = endpoint.to_string();
        if let Some((tls, failure)) = tls.zip(find::<rustls::Error>(error)) {
            return match remote::explain(tls, failure) {
                Some(reason) => Self::Certificates { endpoint, reason },
                None => Self::NotAnEngine { endpoint, reason: "it speaks no TLS".to_owned() },
            };
        }
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::PermissionDenied) => Self::NoPermission { endpoint },
            Some(
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::TimedOut,
            ) => Self::NoEngine { endpoint, reason: chain(error) },
            _ => match error {
                Error::SocketNotFoundError(path) => {
                    Self::NoEngine { endpoint, reason: format!("there is no `{path}`") }
                }
                Error::RequestTimeoutError => {
                    Self::NoEngine { endpoint, reason: "it does not answer in time".to_owned() }
                }
                _ => Self::Refused { step: step.to_owned(), reason: chain(error), status: 0 },
            },
        }
    }

    /// The same of the first words, when it is not known yet who is there.
    pub(crate) fn of_greeting(endpoint: &Endpoint, error: &Error) -> Self {
        let Self::Refused { status, reason, step } = Self::of(endpoint, "say what it is", error)
        else {
            return Self::of(endpoint, "say what it is", error);
        };
        let at = endpoint.to_string();
        let tls = if let Endpoint::Tcp { tls, .. } = endpoint { tls.as_ref() } else { None };
        match (status, tls) {
            (400, None) if reason.contains("HTTPS server") => Self::WantsTls { endpoint: at },
            // It has seen the certificate, and does not always find the time to say why it leaves.
            (0, Some(tls)) if broke_off(error) => {
                let certificate = tls.certificate.display();
                let reason = format!(
                    "the engine broke off, as it does where it refuses `{certificate}`: {reason}"
                );
                Self::Certificates { endpoint: at, reason }
            }
            (0, _) if find::<io::Error>(error).is_some() => Self::NoEngine { endpoint: at, reason },
            (0 | 404, _) => Self::NotAnEngine { endpoint: at, reason },
            _ => Self::Refused { status, reason, step },
        }
    }
}

/// Somebody was there, and is not any more.
fn broke_off(error: &Error) -> bool {
    let kind = find::<io::Error>(error).map(io::Error::kind);
    let left = matches!(
        kind,
        Some(
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    );
    left || find::<hyper::Error>(error).is_some_and(hyper::Error::is_incomplete_message)
}

impl Retryable for DockerError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::NoEngine { .. } | Self::Pull { .. })
    }
}

impl From<DockerError> for SandboxError {
    fn from(error: DockerError) -> Self {
        Self::Setup { step: "use the Docker engine".to_owned(), message: error.to_string() }
    }
}

/// What this provider, or this engine, does not have.
pub(crate) fn unsupported(what: impl Into<String>) -> SandboxError {
    GuestError::Unsupported(what.into()).into()
}

/// The first of this kind among an error and its causes.
fn find<E: std::error::Error + 'static>(error: &Error) -> Option<&E> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>() {
            // What it was made from is not told as its source.
            Some(io) => match io.get_ref() {
                Some(inner) => Some(inner),
                None => error.source(),
            },
            // Some name an error as their own whose source is that error's source.
            None => match error.downcast_ref::<Error>() {
                Some(Error::IOError { err }) => Some(err),
                _ => error.source(),
            },
        };
    }
    None
}

/// An error with all its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    cut(&text)
}

fn cut(text: &str) -> String {
    text.trim().chars().take(MAX_MESSAGE).collect()
}
