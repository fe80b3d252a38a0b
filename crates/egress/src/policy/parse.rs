//! From the text of a rule to the rule.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::host::HostError;
use super::path::PathPrefix;
use super::pattern::HostPattern;
use super::preset::Preset;
use super::rule::{Rule, Scheme};

/// Bytes of the longest text of a rule.
const MAX_RULE: usize = 1024;
/// Ports and methods of one rule.
const MAX_LIST: usize = 16;

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no network rule: {problem}")]
pub struct RuleError {
    /// The text, cut.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

impl RuleError {
    pub(super) fn new(text: &str, problem: impl ToString) -> Self {
        let text = text.chars().take(120).flat_map(char::escape_default).collect();
        Self { text, problem: problem.to_string() }
    }
}

/// One entry of a list of rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// What the rule is about is allowed.
    Allow(Rule),
    /// `!RULE`: what the rule is about is denied, whatever else is allowed. Without ports it is
    /// about all ports, without a scheme about whatever is spoken.
    Deny(Rule),
    /// `preset:NAME`: what a named set of rules is about is allowed.
    Preset(Preset),
}

impl FromStr for Entry {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let trimmed = text.trim();
        if let Some(name) = trimmed.strip_prefix("preset:") {
            let preset = name.parse().map_err(|problem: String| RuleError::new(text, problem))?;
            return Ok(Self::Preset(preset));
        }
        match trimmed.strip_prefix('!') {
            Some(rule) => rule.parse().map(Self::Deny),
            None => trimmed.parse().map(Self::Allow),
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Allow(rule) => rule.fmt(f),
            Self::Deny(rule) => write!(f, "!{rule}"),
            Self::Preset(preset) => write!(f, "preset:{}", preset.name()),
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        parse(text.trim()).map_err(|problem| RuleError::new(text, problem))
    }
}

fn parse(text: &str) -> Result<Rule, String> {
    if text.len() > MAX_RULE {
        return Err(format!("it has more than {MAX_RULE} bytes"));
    }
    let (methods, rest) = match text.split_once(char::is_whitespace) {
        Some((methods, rest)) => (parse_methods(methods)?, rest.trim_start()),
        None => (BTreeSet::new(), text),
    };
    if rest.contains(char::is_whitespace) {
        return Err("it is `[METHOD ]HOST[:PORT][/PATH]`, with one space at most".to_owned());
    }
    let (scheme, rest) = match rest.split_once("://") {
        Some((scheme, rest)) => (Some(parse_scheme(scheme)?), rest),
        None => (None, rest),
    };
    let (host, rest) = split_host(rest)?;
    if host.contains('@') {
        return Err("it has no user name".to_owned());
    }
    let (rest, private) = match rest.strip_prefix("+private") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (ports, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let rule = Rule {
        methods,
        scheme,
        host: host.parse().map_err(|error: HostError| error.to_string())?,
        private,
        ports: parse_ports(ports)?,
        path: if path.is_empty() { None } else { PathPrefix::parse(path)? },
    };
    check(rule)
}

/// What has no meaning together.
fn check(rule: Rule) -> Result<Rule, String> {
    if rule.is_raw() && rule.is_conditional() {
        return Err("methods and paths are of HTTP, and `tcp://` and `ssh://` are not".to_owned());
    }
    if rule.scheme == Some(Scheme::Tcp) && rule.ports.is_empty() {
        return Err("`tcp://` needs a port: `tcp://HOST:PORT`".to_owned());
    }
    if rule.private && matches!(rule.host, HostPattern::Addresses(_)) {
        return Err("an address that is named by number needs no `+private`".to_owned());
    }
    Ok(rule)
}

fn parse_methods(text: &str) -> Result<BTreeSet<String>, String> {
    let methods: Vec<&str> = text.split(',').collect();
    if methods.len() > MAX_LIST {
        return Err(format!("it names more than {MAX_LIST} methods"));
    }
    let is_method = |method: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
        !method.is_empty() && method.len() <= 32 && method.bytes().all(is_allowed)
    };
    match methods.iter().find(|method| !is_method(method)) {
        Some(_) => Err("methods are in capitals, with commas between: `GET,HEAD HOST`".to_owned()),
        None => Ok(methods.into_iter().map(str::to_owned).collect()),
    }
}

fn parse_scheme(text: &str) -> Result<Scheme, String> {
    match text.to_ascii_lowercase().as_str() {
        "http" | "ws" => Ok(Scheme::Http),
        "https" | "wss" => Ok(Scheme::Https),
        "ssh" => Ok(Scheme::Ssh),
        "tcp" => Ok(Scheme::Tcp),
        _ => Err("the schemes are `http`, `https`, `ssh` and `tcp`".to_owned()),
    }
}

/// The host, and what follows it. A network's length (`10.0.0.0/8`) is part of the host.
fn split_host(text: &str) -> Result<(&str, &str), String> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or("its `[` has no `]`")?;
        return Ok(text.split_at(end + 1));
    }
    let end = text.find(['+', ':', '/']).unwrap_or(text.len());
    let (host, rest) = text.split_at(end);
    if host.is_empty() {
        return Err("it names no host".to_owned());
    }
    let is_address = host.parse::<std::net::Ipv4Addr>().is_ok();
    if let Some(length) = rest.strip_prefix('/').filter(|_| is_address) {
        let digits = length.bytes().take_while(u8::is_ascii_digit).count();
        let after = length.get(digits..).unwrap_or_default();
        if digits > 0 && (after.is_empty() || after.starts_with([':', '/', '+'])) {
            return Ok(text.split_at(end + 1 + digits));
        }
    }
    Ok((host, rest))
}

fn parse_ports(text: &str) -> Result<BTreeSet<u16>, String> {
    if text.is_empty() {
        return Ok(BTreeSet::new());
    }
    let problem = match text.ends_with("+private") {
        true => "`+private` stands before the port, as in `HOST+private:8443`",
        false => "ports are numbers from 1 to 65535, after `:`, with commas between",
    };
    let list = text.strip_prefix(':').ok_or(problem)?;
    if list.split(',').count() > MAX_LIST {
        return Err(format!("it names more than {MAX_LIST} ports"));
    }
    let parse_port = |port: &str| {
        let is_digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        port.parse().ok().filter(|port| is_digits && *port != 0).ok_or_else(|| problem.to_owned())
    };
    list.split(',').map(parse_port).collect()
}
