//! The network of one sandbox, from its start to its end.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use moat_core::EgressDecided;
use moat_sockets::{Arrivals, Doors, SharedDatagrams};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::agent;
use crate::authority::Authority;
use crate::border::{Border, MAX_HELD, Protocol, Rules, Subject, limit};
use crate::connection::arrived;
use crate::dns;
use crate::events::{Decisions, Observer};
use crate::http::Clients;
use crate::limits::{EgressLimit, EgressLimits, EgressUsage, Meter};
use crate::names::{AddressRange, Names};
use crate::policy::{Host, HostName, Policy};
use crate::secret::SecretSet;
use crate::tasks::Tasks;
use crate::upstream::Upstream;

/// The port of the HTTP proxy at the gateway.
const PROXY_PORT: u16 = 3128;
/// How long to wait after a datagram could not be taken.
const PAUSE: Duration = Duration::from_millis(50);
/// How long closing the listening sockets may take.
const CLOSE: Duration = Duration::from_secs(1);

/// The sockets of a sandbox's network namespace. The sandbox holds them as well.
#[derive(Debug, Default)]
pub struct EgressSockets {
    /// Listening TCP sockets. The local address of an accepted connection is what the program
    /// inside connected to.
    pub tcp: Vec<std::net::TcpListener>,
    /// Where the resolver of the sandbox receives its queries.
    pub dns: Option<std::net::UdpSocket>,
    /// Where programs that want an SSH agent connect to.
    pub ssh_agent: Option<std::os::unix::net::UnixListener>,
}

/// How the network of a sandbox is to be.
#[derive(Clone)]
pub struct EgressOptions {
    /// What may be reached.
    pub policy: Policy,
    /// What is put into requests.
    pub secrets: SecretSet,
    /// With what TLS is opened inside.
    pub authority: Arc<Authority>,
    /// How hosts are reached.
    pub upstream: Arc<Upstream>,
    /// Bounds beside those of the policy; the lower one holds.
    pub limits: EgressLimits,
    /// The addresses that stand for names.
    pub range: AddressRange,
    /// The port of the HTTP proxy at the gateway.
    pub proxy_port: u16,
    /// The socket of the host's SSH agent (`SSH_AUTH_SOCK`), which the keys of the policy are used
    /// of. `None`: the sandbox's agent has no keys.
    pub ssh_agent: Option<PathBuf>,
    /// Is shown every decision as it is made.
    pub observer: Option<Observer>,
}

impl EgressOptions {
    /// Without secrets, and otherwise the defaults.
    pub fn new(policy: Policy, authority: Arc<Authority>, upstream: Arc<Upstream>) -> Self {
        Self {
            policy,
            secrets: SecretSet::default(),
            authority,
            upstream,
            limits: EgressLimits::default(),
            range: AddressRange::SYNTHETIC,
            proxy_port: PROXY_PORT,
            ssh_agent: None,
            observer: None,
        }
    }
}

/// Why the network of a sandbox could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// A socket cannot be used.
    #[error("a socket of the sandbox cannot be used: {0}")]
    Socket(#[from] io::Error),
}

/// The network of one sandbox. Dropping it closes all connections.
pub struct Egress {
    border: Arc<Border>,
    closing: watch::Sender<bool>,
}

impl Egress {
    /// Serves the sockets of a sandbox, within the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// A socket cannot be used.
    pub fn start(sockets: EgressSockets, options: EgressOptions) -> Result<Self, EgressError> {
        let limits = options.limits.within(options.policy.limits());
        let names = Names::new(options.range, limits.names);
        // In the order in which `addresses_of` goes through them, so that they are the same.
        names.keep(options.policy.ports().single.into_iter().map(|(name, _)| name));
        let rules = Rules::new(options.policy);
        let tasks = Tasks::default();
        let clients = Clients::new(&options.upstream, &rules, &limits, &tasks);
        let border = Arc::new(Border {
            rules,
            secrets: options.secrets,
            names,
            decisions: Decisions::new(options.observer),
            meter: Meter::default(),
            upstream: options.upstream,
            authority: options.authority,
            proxy_port: options.proxy_port,
            held: Arc::new(Semaphore::new(MAX_HELD)),
            clients,
            limits,
            tasks,
        });
        let (closing, closed) = watch::channel(false);
        let slots = Arc::new(Semaphore::new(border.limits.connections));
        // Without an agent that serves it, nobody is to wait at its socket.
        let (doors, Arrivals { tcp, local }) =
            Doors::open(sockets.tcp, sockets.ssh_agent.filter(|_| options.ssh_agent.is_some()))?;
        border.tasks.spawn(accept(Arc::clone(&border), doors, tcp, slots, closed.clone()));
        if let Some(socket) = sockets.dns {
            let socket = SharedDatagrams::new(socket)?;
            border.tasks.spawn(until(closed.clone(), answer(Arc::clone(&border), socket)));
        }
        if let Some(path) = options.ssh_agent {
            border.tasks.spawn(until(closed, agent::serve(Arc::clone(&border), local, path)));
        }
        Ok(Self { border, closing })
    }

    /// The synthetic address of a name, for who has to know it before a program asks (to listen at
    /// it, say). `None`: every address is in use.
    pub fn address_of(&self, name: &HostName) -> Option<Ipv4Addr> {
        self.border.names.address(name)
    }

    /// Narrows or restores what may be reached, from the next decision on.
    pub fn set_policy(&self, policy: Policy) {
        self.border.rules.set(policy);
        self.border.clients.forget();
    }

    /// The decisions since the last time, oldest first.
    pub fn take_decisions(&self) -> EgressDecided {
        self.border.decisions.take()
    }

    /// Returns when there are decisions to take.
    pub async fn decided(&self) {
        self.border.decisions.changed().await;
    }

    /// What was used so far.
    pub fn usage(&self) -> EgressUsage {
        self.border.meter.usage()
    }

    /// Takes no new connections, lets those that are there end, for at most `wait`, and closes the
    /// rest. The decisions can be taken afterwards.
    pub async fn shutdown(&self, wait: Duration) {
        let _ = self.closing.send(true);
        self.border.tasks.drain(wait).await;
    }
}

#[cfg(test)]
impl Egress {
    pub(crate) fn border(&self) -> Arc<Border> {
        Arc::clone(&self.border)
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.border.tasks.abort();
    }
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

async fn until(mut closed: watch::Receiver<bool>, task: impl Future<Output = ()>) {
    tokio::select! {
        _ = closed.wait_for(|closed| *closed) => {}
        () = task => {}
    }
}

async fn accept(
    border: Arc<Border>,
    doors: Doors,
    mut tcp: mpsc::Receiver<TcpStream>,
    slots: Arc<Semaphore>,
    closed: watch::Receiver<bool>,
) {
    let take = async {
        while let Some(stream) = tcp.recv().await {
            border.meter.connection();
            match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => border.tasks.spawn(hold(slot, arrived(Arc::clone(&border), stream))),
                Err(_) => refuse(&border, &stream),
            }
        }
    };
    until(closed, take).await;
    doors.close(CLOSE).await;
}

async fn hold(slot: OwnedSemaphorePermit, task: impl Future<Output = ()>) {
    task.await;
    drop(slot);
}

/// Closes a connection that is one too many.
fn refuse(border: &Border, stream: &TcpStream) {
    let Ok(local) = stream.local_addr() else { return };
    let host = match local.ip() {
        std::net::IpAddr::V4(address) => border.names.name(address).map(|(name, _)| name),
        std::net::IpAddr::V6(_) => None,
    };
    let host = host.map_or(Host::Address(local.ip()), Host::Name);
    let subject = Subject::new(host, local.port(), Protocol::Tcp);
    border.deny(&subject, &limit(EgressLimit::Connections));
}

async fn answer(border: Arc<Border>, socket: SharedDatagrams) {
    let mut query = [0; dns::MAX_QUERY + 1];
    loop {
        let Ok((length, peer)) = socket.receive(&mut query).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if let Some(answer) = border.resolve(query.get(..length).unwrap_or_default()) {
            // A resolver that hears nothing asks again.
            let _ = socket.send(&answer, peer);
        }
    }
}

impl Border {
    /// Answers a query of the sandbox. Every name has an address, also one that may not be reached,
    /// so that the refusal can say why; what is recorded here is what nobody may reach at all.
    pub(crate) fn resolve(&self, query: &[u8]) -> Option<Vec<u8>> {
        let answer = dns::answer(query, &self.names)?;
        if let Some(name) = answer.asked {
            let subject = Subject::new(&name, 53, Protocol::Dns);
            self.record_lookup(&subject, &Host::Name(name));
        }
        Some(answer.message)
    }

    fn record_lookup(&self, subject: &Subject, host: &Host) {
        let rules = self.rules.get();
        let likely = [443, 80, 22].map(|port| rules.connect(host, port, None));
        if let Some(crate::policy::Verdict::Deny(denied)) = likely.first()
            && denied.reason == crate::policy::DenyReason::NotAllowed
            && likely.iter().all(|verdict| !verdict.is_allowed())
        {
            self.deny(subject, denied);
        }
    }
}
