//! What a secret is, as it is written: its name, where its value is read, where it goes. Reading
//! the value is for whoever runs the program.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::policy::check::{Check, is_on};
use crate::policy::{Host, HostPattern, Scheme};

/// Bytes of the longest text of a secret.
const MAX_SPEC: usize = 4096;
/// Hosts and places of one secret.
const MAX_LIST: usize = 64;

/// What a secret is.
///
/// Text form, as after `--secret` and in files:
///
/// ```text
/// NAME[=SOURCE]@HOST[,HOST…][;in=PLACE]…[;sign=aws[:REGION:SERVICE]]
/// ```
///
/// - `SOURCE` is `env:VARIABLE`, `file:PATH` or `command:COMMAND LINE`, all of the host. Without one
///   the secret is only asked for, and another level of the policy has to say where it is read.
/// - `HOST` is as in a rule, with an optional port: `api.example.com`, `*.example.com:8443`. The
///   value is put in over TLS only, unless the host is written `http://HOST`.
/// - `PLACE` is `header:NAME`, `query:KEY`, `basic`, `body:FIELD` (a field of JSON, `a.b` for nested
///   ones, or of a form) or `body:*`. Without places it is any header, and basic authorisation.
/// - `sign=aws`: the value is `KEY_ID:SECRET_KEY[:SESSION_TOKEN]`, and requests to these hosts are
///   signed with it instead of carrying it.
///
/// Inside the sandbox the environment variable `NAME` holds the placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSpec {
    /// What it is called, and the variable that holds its placeholder.
    pub name: String,
    /// Where its value is read; `None`: another level says.
    pub source: Option<SecretSource>,
    /// Where it may go.
    pub hosts: Vec<SecretHost>,
    /// Where in a request it may be; none: any header, and basic authorisation.
    pub places: BTreeSet<SecretPlace>,
    /// Requests are signed with it.
    pub sign: Option<AwsScope>,
}

/// Where the value of a secret is read, on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file.
    File(PathBuf),
    /// What a command prints.
    Command(String),
}

/// A host that a secret may go to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretHost {
    /// Which hosts.
    pub host: HostPattern,
    /// The port; `None`: any.
    pub port: Option<u16>,
    /// Also without TLS.
    pub plain: bool,
}

/// Where in a request a secret may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretPlace {
    /// A header, by its name in lower case.
    Header(String),
    /// A key of the query.
    Query(String),
    /// User name or password of basic authorisation.
    Basic,
    /// A field of a JSON object or a form; nested ones with `.` between.
    Body(String),
    /// Anywhere in the body.
    WholeBody,
}

/// What a request to Amazon Web Services is signed for, where the request does not say it itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsScope {
    /// Region and service; `None`: as the request's own signature says.
    pub region_and_service: Option<(String, String)>,
}

impl SecretSpec {
    /// Whether the value may be put into a request to this host.
    pub fn is_for(&self, host: &Host, port: u16, scheme: Scheme) -> bool {
        self.hosts.iter().any(|own| own.includes(host, port, scheme))
    }

    /// Whether some request over such a connection may carry it.
    pub(crate) fn may_be_for(&self, host: &Host, port: u16, scheme: Option<Scheme>) -> bool {
        match scheme {
            Some(scheme) => self.is_for(host, port, scheme),
            None => self.is_for(host, port, Scheme::Https) || self.is_for(host, port, Scheme::Http),
        }
    }

    /// Whether the value may be at a place.
    pub(crate) fn is_at(&self, place: &SecretPlace) -> bool {
        if !is_on(Check::SecretPlaces) || self.places.contains(place) {
            return true;
        }
        let is_default = matches!(place, SecretPlace::Header(_) | SecretPlace::Basic);
        self.places.is_empty() && is_default
    }
}

impl SecretHost {
    fn includes(&self, host: &Host, port: u16, scheme: Scheme) -> bool {
        let is_host = self.host.matches(host) || !is_on(Check::SecretHosts);
        let is_safe = scheme == Scheme::Https || (scheme == Scheme::Http && self.plain);
        let is_port = self.port.is_none_or(|own| own == port);
        is_host && is_port && (is_safe || !is_on(Check::SecretTls))
    }

    /// Whether every place that `other` may go to is one of this.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.host.covers(&other.host)
            && (self.port.is_none() || self.port == other.port)
            && (self.plain || !other.plain)
    }
}

/// Why a text is no secret. Does not carry the text: somebody may have written a value into it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no secret: {0}; it is written `NAME=env:VARIABLE@HOST`")]
pub struct SecretSpecError(pub String);

impl FromStr for SecretSpec {
    type Err = SecretSpecError;

    fn from_str(text: &str) -> Result<Self, SecretSpecError> {
        parse(text.trim()).map_err(SecretSpecError)
    }
}

fn parse(text: &str) -> Result<SecretSpec, String> {
    if text.len() > MAX_SPEC {
        return Err(format!("it has more than {MAX_SPEC} bytes"));
    }
    // Paths and commands may have `@`, `;` and `,` in them; hosts and options have no `@`.
    let (head, tail) = text.rsplit_once('@').ok_or("it names no host after `@`")?;
    let (name, source) = match head.split_once('=') {
        Some((name, source)) => (name, Some(source.parse()?)),
        None => (head, None),
    };
    check_name(name)?;
    let mut options = tail.split(';');
    let hosts = options.next().unwrap_or_default().split(',').map(parse_host);
    let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
    let mut spec =
        SecretSpec { name: name.to_owned(), source, hosts, places: BTreeSet::new(), sign: None };
    for option in options {
        match option.split_once('=') {
            Some(("in", place)) => {
                spec.places.insert(place.parse()?);
            }
            Some(("sign", scheme)) if spec.sign.is_none() => spec.sign = Some(parse_sign(scheme)?),
            _ => return Err("its options are `;in=…` and one `;sign=…`".to_owned()),
        }
    }
    if spec.hosts.len() > MAX_LIST || spec.places.len() > MAX_LIST {
        return Err(format!("it names more than {MAX_LIST} hosts or places"));
    }
    if spec.sign.is_some() && !spec.places.is_empty() {
        return Err(
            "what is signed with is not put in: `;in=` and `;sign=` exclude each other".into()
        );
    }
    Ok(spec)
}

fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if begins && name.len() <= 64 && name.bytes().all(is_allowed) {
        return Ok(());
    }
    Err("its name is that of an environment variable, of at most 64 letters, digits and `_`".into())
}

fn parse_host(text: &str) -> Result<SecretHost, String> {
    let (rest, plain) = match text.split_once("://") {
        None => (text, false),
        Some(("https", rest)) => (rest, false),
        Some(("http", rest)) => (rest, true),
        Some(_) => return Err("its hosts are reached over `https://` or `http://`".to_owned()),
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    if host == "*" {
        return Err("a secret needs hosts of its own, `*` would give it to everybody".to_owned());
    }
    let host: HostPattern = host.parse().map_err(|error| format!("`{host}`: {error}"))?;
    let port = port.map(|port| port.parse().ok().filter(|port| *port != 0));
    match port {
        Some(None) => Err("a port is a number from 1 to 65535".to_owned()),
        Some(port) => Ok(SecretHost { host, port, plain }),
        None => Ok(SecretHost { host, port: None, plain }),
    }
}

fn parse_sign(text: &str) -> Result<AwsScope, String> {
    let is_word = |word: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=64).contains(&word.len()) && word.bytes().all(is_allowed)
    };
    match text.split(':').collect::<Vec<_>>().as_slice() {
        ["aws"] => Ok(AwsScope::default()),
        ["aws", region, service] if is_word(region) && is_word(service) => {
            let named = ((*region).to_owned(), (*service).to_owned());
            Ok(AwsScope { region_and_service: Some(named) })
        }
        _ => Err("it can sign as `aws` or `aws:REGION:SERVICE`".to_owned()),
    }
}

impl FromStr for SecretSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        if rest.is_empty() || rest.contains(['\0', '\n']) {
            return Err("its source is `env:…`, `file:…` or `command:…`".to_owned());
        }
        match kind {
            "env" if rest.contains('=') => Err("a variable's name has no `=`".to_owned()),
            "env" => Ok(Self::Env(rest.to_owned())),
            "file" => Ok(Self::File(rest.into())),
            "command" => Ok(Self::Command(rest.to_owned())),
            // What stands there may be the value itself: it is not repeated.
            _ => Err("its source is `env:…`, `file:…` or `command:…`".to_owned()),
        }
    }
}

impl FromStr for SecretPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_token = |name: &str| {
            let is_allowed =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            !name.is_empty() && name.len() <= 128 && name.bytes().all(is_allowed)
        };
        match text.split_once(':').unwrap_or((text, "")) {
            ("basic", "") => Ok(Self::Basic),
            ("header", name) if is_token(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            ("query", key) if is_token(key) => Ok(Self::Query(key.to_owned())),
            ("body", "*") => Ok(Self::WholeBody),
            ("body", field) if is_token(field) => Ok(Self::Body(field.to_owned())),
            _ => {
                Err("it may be in `header:NAME`, `query:KEY`, `basic`, `body:FIELD` or `body:*`"
                    .into())
            }
        }
    }
}

impl fmt::Display for SecretSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(source) = &self.source {
            write!(f, "={source}")?;
        }
        for (index, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if index == 0 { "@" } else { "," })?;
        }
        for place in &self.places {
            write!(f, ";in={place}")?;
        }
        match &self.sign {
            None => Ok(()),
            Some(AwsScope { region_and_service: None }) => f.write_str(";sign=aws"),
            Some(AwsScope { region_and_service: Some((region, service)) }) => {
                write!(f, ";sign=aws:{region}:{service}")
            }
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Command(line) => write!(f, "command:{line}"),
        }
    }
}

impl fmt::Display for SecretHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.plain { "http://" } else { "" }, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(key) => write!(f, "query:{key}"),
            Self::Basic => f.write_str("basic"),
            Self::Body(field) => write!(f, "body:{field}"),
            Self::WholeBody => f.write_str("body:*"),
        }
    }
}
