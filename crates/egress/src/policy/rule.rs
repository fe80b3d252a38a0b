//! One rule: which requests or connections it is about.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;

use super::check::{Check, is_on};
use super::host::Host;
use super::path::{PathPrefix, RequestPath};
use super::pattern::HostPattern;

/// What is spoken over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS, or TLS that is not opened.
    Https,
    /// SSH.
    Ssh,
    /// Anything over TCP.
    Tcp,
}

impl Scheme {
    /// The port of who names none; TCP has none.
    pub fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Ssh => Some(22),
            Self::Tcp => None,
        }
    }

    /// As it is written before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::Tcp => "tcp",
        }
    }
}

/// Which requests or connections are meant.
///
/// Text form, as after `--net` and in files:
///
/// ```text
/// [METHOD[,METHOD…] ][SCHEME://]HOST[+private][:PORT[,PORT…]][/PATH]
/// ```
///
/// - `HOST` is a name, `*.suffix` (every name beneath, not the suffix itself), `*` (every name), an
///   address, or a network: `10.1.2.3`, `10.0.0.0/8`, `[fd00::/8]`. Addresses are reached by number
///   only where a rule names them by number.
/// - Without a scheme HTTP and TLS are meant, at ports 80 and 443 unless ports are named.
///   `http://` (80) and `https://` (443) mean one of them, `ssh://` (22) and `tcp://` (the port has
///   to be named) mean a connection whose bytes nobody looks at.
/// - `+private`: the name may lead to private and loopback addresses. Addresses that hand out
///   credentials (`169.254.169.254`) have to be named by number all the same.
/// - `PATH` is a prefix of whole segments, decoded: `/v1` is `/v1` and all beneath, not `/v10`.
/// - Methods are in capitals. Methods and a path need the request to be seen, so TLS of that host
///   is opened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The methods that are meant; none: all.
    pub(super) methods: BTreeSet<String>,
    /// What is spoken; `None`: HTTP or TLS.
    pub(super) scheme: Option<Scheme>,
    /// The hosts.
    pub(super) host: HostPattern,
    /// The host may have addresses that are not public.
    pub(super) private: bool,
    /// The ports; none: those of the scheme.
    pub(super) ports: BTreeSet<u16>,
    /// What the path has to be beneath.
    pub(super) path: Option<PathPrefix>,
}

/// A connection or request that wants out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    pub(super) host: &'a Host,
    pub(super) port: u16,
    /// `None`: not known yet.
    pub(super) scheme: Option<Scheme>,
    /// `None`: only the connection is known.
    pub(super) request: Option<(&'a str, &'a RequestPath)>,
}

/// The first thing in which an attempt is not what a rule is about. Later ones are nearer misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Miss {
    Host,
    Port,
    Scheme,
    Method,
    Path,
}

impl Rule {
    /// All of a host, over HTTP and TLS, at ports 80 and 443.
    pub fn host(host: impl Into<HostPattern>) -> Self {
        Self {
            methods: BTreeSet::new(),
            scheme: None,
            host: host.into(),
            private: false,
            ports: BTreeSet::new(),
            path: None,
        }
    }

    /// Which hosts it is about.
    pub fn hosts(&self) -> &HostPattern {
        &self.host
    }

    /// The ports that it is about when it allows.
    pub(super) fn allowed_ports(&self) -> impl Iterator<Item = u16> + '_ {
        let defaults: &[u16] = match (self.ports.is_empty(), self.scheme) {
            (false, _) | (true, Some(Scheme::Tcp)) => &[],
            (true, None) => &[80, 443],
            (true, Some(Scheme::Http)) => &[80],
            (true, Some(Scheme::Https)) => &[443],
            (true, Some(Scheme::Ssh)) => &[22],
        };
        self.ports.iter().copied().chain(defaults.iter().copied())
    }

    /// Whether it cannot be told from a connection alone whether a request is meant.
    pub(super) fn is_conditional(&self) -> bool {
        !self.methods.is_empty() || self.path.is_some()
    }

    /// Whether it is about connections whose bytes nobody looks at.
    pub(super) fn is_raw(&self) -> bool {
        matches!(self.scheme, Some(Scheme::Tcp | Scheme::Ssh))
    }

    /// Whether this rule, as one that allows, is about the attempt. Where only the connection is
    /// known, methods and paths are left out.
    pub(super) fn allows(&self, attempt: Attempt<'_>) -> Result<(), Miss> {
        if !self.host.matches(attempt.host) {
            return Err(Miss::Host);
        }
        if is_on(Check::Ports) && !self.allowed_ports().any(|port| port == attempt.port) {
            return Err(Miss::Port);
        }
        if is_on(Check::Schemes) && !self.allows_scheme(attempt.scheme) {
            return Err(Miss::Scheme);
        }
        let Some((method, path)) = attempt.request else { return Ok(()) };
        let allows_method = self.methods.is_empty() || self.methods.contains(method);
        if is_on(Check::Methods) && !allows_method {
            return Err(Miss::Method);
        }
        let allows_path = self.path.as_ref().is_none_or(|prefix| prefix.includes(path));
        if is_on(Check::Paths) && !allows_path {
            return Err(Miss::Path);
        }
        Ok(())
    }

    fn allows_scheme(&self, scheme: Option<Scheme>) -> bool {
        match (self.scheme, scheme) {
            (_, None) | (Some(Scheme::Tcp), _) => true,
            (None, Some(scheme)) => matches!(scheme, Scheme::Http | Scheme::Https),
            (Some(rule), Some(scheme)) => rule == scheme,
        }
    }

    /// Whether this rule, as one that denies, is about the attempt. Without ports it is about all
    /// of them, without a scheme about whatever is spoken.
    pub(super) fn denies(&self, attempt: Attempt<'_>) -> bool {
        self.may_deny(attempt)
            && match attempt.request {
                None => !self.is_conditional(),
                Some((method, path)) => {
                    let path_matches =
                        self.path.as_ref().is_none_or(|prefix| prefix.may_include(path));
                    path_matches && self.denies_method(method)
                }
            }
    }

    /// Whether this rule, as one that denies, is about some request over such a connection.
    pub(super) fn may_deny(&self, attempt: Attempt<'_>) -> bool {
        self.host.matches(attempt.host)
            && (self.ports.is_empty() || self.ports.contains(&attempt.port))
            && match (self.scheme, attempt.scheme) {
                (None | Some(Scheme::Tcp), _) => true,
                (Some(rule), Some(scheme)) => rule == scheme,
                // Not known yet: only a rule about requests can wait for it.
                (Some(_), None) => self.is_conditional(),
            }
    }

    /// Whether this rule, as one that denies, leaves nothing of what `other` allows.
    pub(super) fn denies_all_of(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty() && other.methods.is_subset(&self.methods));
        let path = match (&self.path, &other.path) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => own.covers(other),
        };
        let scheme = matches!(self.scheme, None | Some(Scheme::Tcp)) || self.scheme == other.scheme;
        let ports =
            self.ports.is_empty() || other.allowed_ports().all(|port| self.ports.contains(&port));
        self.host.covers(&other.host) && methods && path && scheme && ports
    }

    fn denies_method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|m| m.eq_ignore_ascii_case(method))
    }

    /// The rule, split so that each part is within one rule or outside it: one port, one scheme,
    /// one method each.
    pub(super) fn parts(&self) -> Vec<Self> {
        let schemes = match self.scheme {
            None => vec![Some(Scheme::Http), Some(Scheme::Https)],
            scheme => vec![scheme],
        };
        let methods: Vec<BTreeSet<String>> = match self.methods.is_empty() {
            true => vec![BTreeSet::new()],
            false => self.methods.iter().map(|method| BTreeSet::from([method.clone()])).collect(),
        };
        let mut parts = Vec::new();
        for port in self.allowed_ports() {
            for scheme in &schemes {
                for methods in &methods {
                    let (ports, methods) = (BTreeSet::from([port]), methods.clone());
                    parts.push(Self { ports, scheme: *scheme, methods, ..self.clone() });
                }
            }
        }
        parts
    }

    /// Whether everything that `part` allows, this allows.
    pub(super) fn covers(&self, part: &Self) -> bool {
        let scheme = match (self.scheme, part.scheme) {
            (Some(Scheme::Tcp), _) => true,
            (None, Some(Scheme::Http | Scheme::Https) | None) => true,
            (rule, part) => rule == part,
        };
        let path = match (&self.path, &part.path) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(rule), Some(part)) => rule.covers(part),
        };
        let names_address = matches!(self.host, HostPattern::Addresses(_));
        self.host.covers(&part.host)
            && part.allowed_ports().all(|port| self.allowed_ports().any(|own| own == port))
            && scheme
            && path
            && (self.methods.is_empty()
                || (!part.methods.is_empty() && part.methods.is_subset(&self.methods)))
            && (self.private || !part.private || names_address)
    }
}

/// The form that it is read from; reading it again gives an equal rule.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.methods.is_empty() {
            let methods: Vec<&str> = self.methods.iter().map(String::as_str).collect();
            write!(f, "{} ", methods.join(","))?;
        }
        if let Some(scheme) = self.scheme {
            write!(f, "{}://", scheme.as_str())?;
        }
        self.host.fmt(f)?;
        let path = self.path.as_ref().map(ToString::to_string).unwrap_or_default();
        if self.is_address_only() && begins_with_length(&path) {
            // Else the path would be read as the length of a network.
            f.write_str("/32")?;
        }
        if self.private {
            f.write_str("+private")?;
        }
        if !self.ports.is_empty() {
            let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
            write!(f, ":{}", ports.join(","))?;
        }
        f.write_str(&path)
    }
}

impl Rule {
    /// Whether the path is written right behind an IPv4 address.
    fn is_address_only(&self) -> bool {
        let is_address = matches!(&self.host, HostPattern::Addresses(IpNet::V4(network))
            if network.prefix_len() == network.max_prefix_len());
        is_address && !self.private && self.ports.is_empty()
    }
}

/// Whether a path begins as networks end, `/24`.
fn begins_with_length(path: &str) -> bool {
    let part = path.strip_prefix('/').unwrap_or_default();
    let after = part.trim_start_matches(|c: char| c.is_ascii_digit());
    after.len() < part.len() && (after.is_empty() || after.starts_with([':', '/', '+']))
}
