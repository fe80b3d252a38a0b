//! The network of sandboxes: a policy out of a run's journal, secrets of this machine, and the
//! proxy between them, for one sandbox at a time.
//!
//! [`NetworkOptions::prepare`] reads what there is before a sandbox is made; what the sandbox is
//! told comes from [`PreparedNetwork::spec`] and [`PreparedNetwork::environment`]; its sockets are
//! served by [`PreparedNetwork::serve`] for as long as the result lives.

mod authority;
mod denials;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use moat_core::{EgressDecided, NetworkSettings, RunId, Secret, TenantKey};
use moat_egress::policy::{ComposeError, Level, NetworkPolicy, Policy};
use moat_egress::secret::{LineageKey, SecretSet, SecretSource, SecretValueError};
use moat_egress::{
    AddressRange, Authority, AuthorityError, Egress, EgressError, EgressOptions, EgressSockets,
    Upstream, addresses_of,
};
use moat_sandbox::{NetworkSockets, NetworkSpec};
use serde_json::Value;

pub use authority::{forget_authority, forget_unused_authority, stored_authorities};
pub use denials::Denials;

/// Reads the values of secrets on this machine.
#[async_trait]
pub trait SecretReader: Send + Sync {
    /// The value. The error says what is missing, never a value.
    async fn read(&self, source: &SecretSource) -> Result<Secret, String>;
}

/// What networks of sandboxes need of this machine.
#[derive(Clone)]
pub struct NetworkOptions {
    /// From which placeholders and the key of stored authorities come.
    pub tenant_key: TenantKey,
    /// Where authorities of runs are kept, encrypted.
    pub folder: PathBuf,
    /// How hosts are reached.
    pub upstream: Arc<Upstream>,
    /// Where values of secrets are.
    pub secrets: Arc<dyn SecretReader>,
    /// The socket of the host's SSH agent.
    pub ssh_agent: Option<PathBuf>,
}

/// Why a network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// What the journal has of it cannot be read.
    #[error("the network policy of the run cannot be read: {0}")]
    Policy(#[from] serde_json::Error),
    /// The levels do not go together.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// A value is not there.
    #[error("the secret `{name}` cannot be read: {reason}")]
    Secret {
        /// The secret's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A value does not fit.
    #[error(transparent)]
    Value(#[from] SecretValueError),
    /// The authority could not be made or read.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The authority could not be stored.
    #[error("cannot keep the certificate authority in `{path}`: {source}")]
    Keep {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program has no networks to give.
    #[error("the run asks for a network and this program has none to give")]
    NotThere,
    /// The policy allows more ports of single hosts than can be listened on.
    #[error("the network policy names too many hosts with ports of their own")]
    TooManyPorts,
    /// The proxy could not be started.
    #[error(transparent)]
    Start(#[from] EgressError),
}

/// A network before its sandbox is made.
pub struct PreparedNetwork {
    policy: Policy,
    secrets: SecretSet,
    values: Vec<Secret>,
    authority: Arc<Authority>,
    upstream: Arc<Upstream>,
    ssh_agent: Option<PathBuf>,
}

impl std::fmt::Debug for PreparedNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PreparedNetwork(..)")
    }
}

/// The levels of a policy, as a journal keeps them.
pub fn to_settings(levels: &[(Level, NetworkPolicy)]) -> Result<NetworkSettings, NetworkError> {
    let written = levels.iter().map(|(level, policy)| {
        Ok::<_, serde_json::Error>((level.to_string(), serde_json::to_value(policy)?))
    });
    Ok(NetworkSettings { levels: written.collect::<Result<_, _>>()? })
}

/// The levels of a policy, from where a journal keeps them.
pub fn from_settings(
    settings: &NetworkSettings,
) -> Result<Vec<(Level, NetworkPolicy)>, NetworkError> {
    let read = |(level, policy): &(String, Value)| {
        let level = serde_json::from_value(Value::from(level.as_str()))?;
        Ok((level, serde_json::from_value(policy.clone())?))
    };
    settings.levels.iter().map(read).collect()
}

impl NetworkOptions {
    /// Reads what a network needs. `run` is whose sandbox it is; its authority is its own, and goes
    /// with [`forget_authority`]. `lineage` is the run that all others of its line were forked or
    /// continued from: placeholders are the same along it.
    pub async fn prepare(
        &self,
        (run, lineage): (RunId, RunId),
        settings: &NetworkSettings,
    ) -> Result<PreparedNetwork, NetworkError> {
        let policy = Policy::compose(from_settings(settings)?)?;
        let mut values = BTreeMap::new();
        for spec in policy.secrets() {
            let Some(source) = &spec.source else { continue };
            let read = self.secrets.read(source).await;
            let value =
                read.map_err(|reason| NetworkError::Secret { name: spec.name.clone(), reason })?;
            values.insert(spec.name.clone(), value);
        }
        let known = values.values().cloned().collect();
        let secrets = SecretSet::new(policy.secrets(), &self.lineage_key(lineage), values)?;
        let options = self.clone();
        let authority = tokio::task::spawn_blocking(move || authority::of_run(&options, run));
        let ended = |error| NetworkError::Keep {
            path: self.folder.clone(),
            source: std::io::Error::other(error),
        };
        let authority = Arc::new(authority.await.map_err(ended)??);
        let wants_agent = !policy.ssh_keys().is_empty();
        Ok(PreparedNetwork {
            policy,
            secrets,
            values: known,
            authority,
            upstream: self.upstream.clone(),
            ssh_agent: self.ssh_agent.clone().filter(|_| wants_agent),
        })
    }

    fn lineage_key(&self, lineage: RunId) -> LineageKey {
        let tenant = self.tenant_key.derive("moat 2026 secret placeholders v1");
        LineageKey::new(*blake3::keyed_hash(&tenant, lineage.as_bytes()).as_bytes())
    }
}

impl PreparedNetwork {
    /// What the sandbox is to be given.
    ///
    /// # Errors
    ///
    /// The policy needs more listeners than a sandbox may have.
    pub fn spec(&self) -> Result<NetworkSpec, NetworkError> {
        let plan = self.policy.ports();
        let ports: Vec<u16> = plan.every.iter().chain(&plan.wildcard).copied().collect();
        let addresses = addresses_of(AddressRange::SYNTHETIC, &plan.single);
        let addresses = addresses.ok_or(NetworkError::TooManyPorts)?;
        Ok(NetworkSpec {
            ports,
            addresses,
            authority: Some(self.authority.certificate_pem().into_bytes()),
            ssh_agent: self.ssh_agent.is_some(),
        })
    }

    /// Variables of every command: placeholders of secrets.
    pub fn environment(&self) -> BTreeMap<String, String> {
        self.secrets.environment()
    }

    /// The values of its secrets, which are to be known wherever bytes come in.
    pub fn values(&self) -> &[Secret] {
        &self.values
    }

    /// Serves the sockets of a sandbox for as long as the result lives.
    ///
    /// # Errors
    ///
    /// A socket cannot be used.
    pub fn serve(&self, sockets: NetworkSockets) -> Result<ServedNetwork, NetworkError> {
        let denials = Arc::new(Denials::default());
        let heard = denials.clone();
        let mut options =
            EgressOptions::new(self.policy.clone(), self.authority.clone(), self.upstream.clone());
        options.secrets = self.secrets.clone();
        options.ssh_agent = self.ssh_agent.clone();
        options.observer = Some(Arc::new(move |decision| heard.hear(decision)));
        let NetworkSockets { tcp, dns, ssh_agent } = sockets;
        let sockets = EgressSockets { tcp, dns, ssh_agent };
        Ok(ServedNetwork { egress: Egress::start(sockets, options)?, denials })
    }
}

/// The network of one sandbox while this side serves it.
#[derive(Debug)]
pub struct ServedNetwork {
    egress: Egress,
    denials: Arc<Denials>,
}

impl ServedNetwork {
    /// What was decided since the last time; `None`: nothing.
    pub fn take_decisions(&self) -> Option<EgressDecided> {
        let decided = self.egress.take_decisions();
        (!decided.decisions.is_empty() || decided.dropped > 0).then_some(decided)
    }

    /// What was refused, for who runs commands.
    pub fn denials(&self) -> &Arc<Denials> {
        &self.denials
    }
}
