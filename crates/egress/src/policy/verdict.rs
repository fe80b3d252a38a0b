//! What comes out of a question to a policy.

use std::fmt;

/// Whether a connection or request may go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allow(Allowed),
    /// It may not.
    Deny(Denial),
}

impl Verdict {
    /// Whether it may.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// What is allowed, or why it is not.
    pub fn into_result(self) -> Result<Allowed, Denial> {
        match self {
            Self::Allow(allowed) => Ok(allowed),
            Self::Deny(denial) => Err(denial),
        }
    }
}

/// Something that may go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The rule that allows it, as it was written, with its level: `pypi.org (run)`.
    pub rule: String,
    /// What has to be done with its bytes.
    pub handling: Handling,
}

/// What has to be done with the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handling {
    /// Nobody looks at them.
    Raw,
    /// They are HTTP, whose requests are seen and asked about, or TLS, which is passed on as it is
    /// once its server name is that of the host.
    Tunnel,
    /// They are HTTP, or TLS that is opened and has HTTP inside; every request is asked about.
    Open,
}

/// Something that may not go out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{teach}")]
pub struct Denial {
    /// Why.
    pub reason: DenyReason,
    /// The rule that denies it, as it was written, with its level; `None`: no rule allows it.
    pub rule: Option<String>,
    /// A sentence for the model and the person: what was denied, and what would allow it.
    pub teach: String,
}

/// Why something may not go out: the short fixed words that `EgressDecision.reason` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DenyReason {
    /// No rule names the host.
    NotAllowed,
    /// A rule denies it.
    DeniedByRule,
    /// The host is allowed at other ports.
    PortNotAllowed,
    /// The host is allowed over another protocol.
    SchemeNotAllowed,
    /// The host is allowed with other methods.
    MethodNotAllowed,
    /// The host is allowed at other paths.
    PathNotAllowed,
    /// The path can be read in two ways.
    AmbiguousPath,
    /// An address by number that no rule names.
    AddressLiteral,
    /// The host is neither a name nor an address.
    InvalidHost,
    /// The name leads to an address that is not public.
    PrivateAddress,
    /// The name does not exist, or its addresses could not be had.
    NotResolved,
    /// The TLS server name is not the host.
    SniMismatch,
    /// The `Host` header or authority is not the host.
    HostMismatch,
    /// The TLS server name is hidden (encrypted client hello).
    EncryptedHello,
    /// Neither HTTP nor TLS where one of them has to be.
    UnknownProtocol,
    /// The request can be read in two ways, or is not HTTP.
    MalformedRequest,
    /// The head of a request or response is too large.
    HeadTooLarge,
    /// The other side took too long.
    TooSlow,
    /// The client does not accept the authority of the sandbox: it pins certificates.
    ClientPins,
    /// The server's certificate is not trusted.
    ServerUntrusted,
    /// The server, or the proxy before it, could not be reached.
    UpstreamFailed,
    /// A placeholder on its way to a host that its secret is not for.
    SecretWrongPlace,
    /// The value of a secret on its way out, in whatever form.
    SecretLeak,
    /// A secret that has no value here.
    SecretMissing,
    /// A request cannot be signed.
    NotSigned,
    /// The limit of requests is reached.
    LimitRequests,
    /// The limit of bytes is reached.
    LimitBytes,
    /// The limit of connections at once is reached.
    LimitConcurrency,
    /// The body of a request is larger than allowed.
    UploadTooLarge,
}

impl DenyReason {
    /// All of them, for documentation.
    pub const ALL: &'static [Self] = &[
        Self::NotAllowed,
        Self::DeniedByRule,
        Self::PortNotAllowed,
        Self::SchemeNotAllowed,
        Self::MethodNotAllowed,
        Self::PathNotAllowed,
        Self::AmbiguousPath,
        Self::AddressLiteral,
        Self::InvalidHost,
        Self::PrivateAddress,
        Self::NotResolved,
        Self::SniMismatch,
        Self::HostMismatch,
        Self::EncryptedHello,
        Self::UnknownProtocol,
        Self::MalformedRequest,
        Self::HeadTooLarge,
        Self::TooSlow,
        Self::ClientPins,
        Self::ServerUntrusted,
        Self::UpstreamFailed,
        Self::SecretWrongPlace,
        Self::SecretLeak,
        Self::SecretMissing,
        Self::NotSigned,
        Self::LimitRequests,
        Self::LimitBytes,
        Self::LimitConcurrency,
        Self::UploadTooLarge,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::DeniedByRule => "denied_by_rule",
            Self::PortNotAllowed => "port_not_allowed",
            Self::SchemeNotAllowed => "scheme_not_allowed",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::PathNotAllowed => "path_not_allowed",
            Self::AmbiguousPath => "ambiguous_path",
            Self::AddressLiteral => "address_literal",
            Self::InvalidHost => "invalid_host",
            Self::PrivateAddress => "private_address",
            Self::NotResolved => "not_resolved",
            Self::SniMismatch => "sni_mismatch",
            Self::HostMismatch => "host_mismatch",
            Self::EncryptedHello => "encrypted_hello",
            Self::UnknownProtocol => "unknown_protocol",
            Self::MalformedRequest => "malformed_request",
            Self::HeadTooLarge => "head_too_large",
            Self::TooSlow => "too_slow",
            Self::ClientPins => "client_pins",
            Self::ServerUntrusted => "server_untrusted",
            Self::UpstreamFailed => "upstream_failed",
            Self::SecretWrongPlace => "secret_wrong_place",
            Self::SecretLeak => "secret_leak",
            Self::SecretMissing => "secret_missing",
            Self::NotSigned => "not_signed",
            Self::LimitRequests => "limit_requests",
            Self::LimitBytes => "limit_bytes",
            Self::LimitConcurrency => "limit_concurrency",
            Self::UploadTooLarge => "upload_too_large",
        }
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
