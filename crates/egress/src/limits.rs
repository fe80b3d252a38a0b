use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::policy::check::{Check, is_on};
use crate::policy::{DenyReason, NetworkLimits};
use crate::sniff::HeadLimits;

/// What one sandbox may use of the network. Absent: without limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressLimits {
    /// Connections at once.
    pub connections: usize,
    /// Requests and tunnels in all.
    pub requests: Option<u64>,
    /// Bytes in both directions, in all.
    pub bytes: Option<u64>,
    /// Bytes that one request or tunnel may send.
    pub upload_bytes: Option<u64>,
    /// Bytes of the head of a request or response.
    pub header_bytes: usize,
    /// Fields in the head of a request or response.
    pub header_fields: usize,
    /// Names that the resolver keeps addresses for.
    pub names: usize,
    /// How long the first bytes, the handshake, and each head of a request may take.
    pub request_wait: Duration,
    /// How long connecting to a host may take, for all its addresses together.
    pub connect_wait: Duration,
    /// How long a host may take to answer a request.
    pub response_wait: Duration,
    /// How long nothing may pass in a body or a tunnel.
    pub idle: Duration,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            requests: None,
            bytes: None,
            upload_bytes: None,
            header_bytes: 64 << 10,
            header_fields: 128,
            names: 16_384,
            request_wait: Duration::from_secs(30),
            connect_wait: Duration::from_secs(15),
            response_wait: Duration::from_secs(600),
            idle: Duration::from_secs(600),
        }
    }
}

impl EgressLimits {
    /// The lower of these and a policy's.
    pub(crate) fn within(&self, policy: NetworkLimits) -> Self {
        let lower = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        let concurrency = policy.concurrency.and_then(|most| usize::try_from(most).ok());
        Self {
            connections: self.connections.min(concurrency.unwrap_or(usize::MAX)),
            requests: lower(self.requests, policy.requests),
            bytes: lower(self.bytes, policy.bytes),
            upload_bytes: lower(self.upload_bytes, policy.upload_bytes),
            ..self.patient()
        }
    }

    /// After how long without a byte in either direction a connection of HTTP is given up: longer
    /// than anything that is waited for on it.
    pub(crate) fn stall(&self) -> Duration {
        self.idle.max(self.response_wait).max(self.request_wait) + self.connect_wait
    }

    /// The same, or with endless patience where a test wants to see what that does.
    fn patient(&self) -> Self {
        if is_on(Check::Slowness) {
            return self.clone();
        }
        let hour = Duration::from_secs(3600);
        let waits = Self { request_wait: hour, response_wait: hour, ..self.clone() };
        Self { idle: hour, ..waits }
    }

    pub(crate) fn head(&self) -> HeadLimits {
        if !is_on(Check::HeadSize) {
            return HeadLimits { bytes: usize::MAX, fields: usize::MAX };
        }
        HeadLimits { bytes: self.header_bytes, fields: self.header_fields }
    }
}

/// A limit of the network that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressLimit {
    /// Connections at once.
    #[error("the limit of connections at once is reached")]
    Connections,
    /// Requests in all.
    #[error("the limit of requests is reached")]
    Requests,
    /// Bytes in all.
    #[error("the limit of bytes is reached")]
    Bytes,
    /// Bytes of one request or tunnel.
    #[error("the limit of bytes that one request or connection may send is reached")]
    Upload,
}

impl EgressLimit {
    /// Why what reached it is refused.
    pub fn reason(self) -> DenyReason {
        match self {
            Self::Connections => DenyReason::LimitConcurrency,
            Self::Requests => DenyReason::LimitRequests,
            Self::Bytes => DenyReason::LimitBytes,
            Self::Upload => DenyReason::UploadTooLarge,
        }
    }
}

/// What a sandbox used of the network so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressUsage {
    /// Connections that arrived.
    pub connections: u64,
    /// Requests and tunnels that were let through.
    pub requests: u64,
    /// Decisions against.
    pub denied: u64,
    /// Bytes that left.
    pub sent_bytes: u64,
    /// Bytes that came.
    pub received_bytes: u64,
}

/// The counters behind [`EgressUsage`], and the limits on them.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    connections: AtomicU64,
    requests: AtomicU64,
    denied: AtomicU64,
    bytes: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Out,
    In,
}

impl Meter {
    pub(crate) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn denied(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request or tunnel, unless there were enough.
    pub(crate) fn request(&self, limits: &EgressLimits) -> Result<(), EgressLimit> {
        let limit = limits.requests.filter(|_| is_on(Check::Limits)).unwrap_or(u64::MAX);
        let counted = self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < limit).then_some(count.saturating_add(1))
        });
        counted.map(|_| ()).map_err(|_| EgressLimit::Requests)
    }

    /// Counts bytes before they are passed on, unless there were enough.
    pub(crate) fn bytes(
        &self,
        limits: &EgressLimits,
        direction: Direction,
        count: usize,
    ) -> Result<(), EgressLimit> {
        let limit = limits.bytes.filter(|_| is_on(Check::Limits)).unwrap_or(u64::MAX);
        let counted = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            before.checked_add(count as u64).filter(|after| *after <= limit)
        });
        counted.map_err(|_| EgressLimit::Bytes)?;
        let counter = match direction {
            Direction::Out => &self.sent,
            Direction::In => &self.received,
        };
        counter.fetch_add(count as u64, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn usage(&self) -> EgressUsage {
        EgressUsage {
            connections: self.connections.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            denied: self.denied.load(Ordering::Relaxed),
            sent_bytes: self.sent.load(Ordering::Relaxed),
            received_bytes: self.received.load(Ordering::Relaxed),
        }
    }
}
