//! What all connections of one sandbox share.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use moat_core::EgressDecision;
use tokio::sync::Semaphore;

use crate::authority::Authority;
use crate::events::Decisions;
use crate::http::Clients;
use crate::limits::{EgressLimit, EgressLimits, Meter};
use crate::names::Names;
use crate::policy::{Denial, DenyReason, Host, Policy};
use crate::secret::SecretSet;
use crate::tasks::Tasks;
use crate::upstream::Upstream;

/// Bodies that one sandbox has held as a whole at once, each of at most 8 MiB.
pub(crate) const MAX_HELD: usize = 8;

pub(crate) struct Border {
    pub(crate) rules: Rules,
    pub(crate) secrets: SecretSet,
    pub(crate) names: Names,
    pub(crate) decisions: Decisions,
    pub(crate) limits: EgressLimits,
    pub(crate) meter: Meter,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) clients: Clients,
    pub(crate) tasks: Tasks,
    pub(crate) proxy_port: u16,
    /// Bodies that are held as a whole, at once.
    pub(crate) held: Arc<Semaphore>,
}

/// The policy, which a call of a tool may narrow for a while.
#[derive(Clone, Debug)]
pub(crate) struct Rules(Arc<RwLock<Arc<Policy>>>);

impl Rules {
    pub(crate) fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    pub(crate) fn get(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Whether the very address may be connected to.
    pub(crate) fn judge(&self, host: &Host, port: u16, address: IpAddr) -> Result<(), Denial> {
        self.get().address(host, port, address)
    }
}

/// What a decision is about.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// Method and path. No path: a value stands in it.
    pub(crate) request: Option<(String, Option<String>)>,
}

/// What is spoken, as decisions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Dns,
    Tcp,
    Tls,
    Http,
    Https,
    Ssh,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Https => "https",
            Self::Ssh => "ssh",
        }
    }
}

impl Subject {
    /// A connection.
    pub(crate) fn new(host: impl fmt::Display, port: u16, protocol: Protocol) -> Self {
        Self { host: host.to_string(), port, protocol, request: None }
    }

    /// A request over it.
    pub(crate) fn request(&self, method: &str, path: Option<String>) -> Self {
        Self { request: Some((method.to_owned(), path)), ..self.clone() }
    }

    fn decision(&self) -> EgressDecision {
        let (method, path) = self.request.clone().unzip();
        EgressDecision {
            host: self.host.clone(),
            port: self.port,
            protocol: self.protocol.as_str().to_owned(),
            method,
            path: path.flatten(),
            ..EgressDecision::default()
        }
    }
}

impl Border {
    /// Records that something goes out. Bytes are added to what is returned.
    pub(crate) fn allow(
        &self,
        subject: &Subject,
        rule: String,
        secrets: Vec<String>,
    ) -> EgressDecision {
        let decision =
            EgressDecision { allowed: true, rule: Some(rule), secrets, ..subject.decision() };
        self.decisions.record(decision.clone());
        decision
    }

    /// Records that something does not go out.
    pub(crate) fn deny(&self, subject: &Subject, denial: &Denial) {
        self.meter.denied();
        let mut decision = EgressDecision {
            rule: denial.rule.clone(),
            reason: Some(denial.reason.as_str().to_owned()),
            advice: Some(denial.teach.clone()),
            ..subject.decision()
        };
        // What leaks may stand in the path.
        if denial.reason == DenyReason::SecretLeak {
            decision.path = None;
            decision.advice = None;
        }
        self.decisions.record(decision);
    }

    /// Counts a request or tunnel, if there may be one more.
    pub(crate) fn count_request(&self) -> Result<(), Denial> {
        self.meter.request(&self.limits).map_err(limit)
    }
}

/// A denial that no rule is the reason of.
pub(crate) fn denial(reason: DenyReason, what: impl fmt::Display) -> Denial {
    Denial { reason, rule: None, teach: format!("denied: {what}") }
}

pub(crate) fn limit(reached: EgressLimit) -> Denial {
    denial(reached.reason(), reached)
}
