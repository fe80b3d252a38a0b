//! How sandboxes are made: what the configuration, an agent and flags say, put together.

use std::path::Path;

use anyhow::Context as _;
use moat_core::{NetworkSettings, SandboxLimits, SandboxSettings};
use moat_egress::policy::{Level, NetworkPolicy, Policy};
use moat_egress::secret::SecretSpec;
use moat_harness::network::{from_settings, to_settings};

use crate::cli::OutfitArgs;
use crate::escape::escape;
use crate::exit::usage;
use crate::home::Home;
use crate::sandboxes::{LOCAL, kind};

const MAX_POLICY_BYTES: u64 = 1 << 20;

/// Lays flags over the settings of an agent. Limits of flags replace the agent's; of the network
/// they can only take away.
pub(crate) fn settle(
    home: &Home,
    mut settings: SandboxSettings,
    agent: Option<NetworkPolicy>,
    args: &OutfitArgs,
) -> anyhow::Result<SandboxSettings> {
    lay_over(&mut settings.limits, args);
    settings.provider = args.provider.sandbox.clone().or(settings.provider);
    settings.as_root |= args.as_root;
    settings.run_as = args.user.clone().or(settings.run_as);
    settings.network = network(home, agent, args)?;
    Ok(settings)
}

fn lay_over(limits: &mut SandboxLimits, args: &OutfitArgs) {
    let over = |now: &mut Option<u64>, flag: Option<u64>| *now = flag.or(*now);
    over(&mut limits.memory_bytes, args.memory.map(|size| size.0));
    over(&mut limits.pids, args.pids);
    // The flag's parser keeps it between 0.01 and 4096.
    over(&mut limits.cpu_millis, args.cpus.map(|cpus| (cpus * 1000.0).round() as u64));
    over(&mut limits.disk_bytes, args.disk.map(|size| size.0));
    over(&mut limits.wall_ms, args.timeout.map(|seconds| seconds.saturating_mul(1000)));
}

/// The levels of the network's policy, checked against each other. `None`: nothing goes out.
fn network(
    home: &Home,
    agent: Option<NetworkPolicy>,
    args: &OutfitArgs,
) -> anyhow::Result<Option<NetworkSettings>> {
    let mut levels = Vec::new();
    levels.extend(organisation(home)?.map(|policy| (Level::Organisation, policy)));
    levels.extend(agent.map(|policy| (Level::Agent, policy)));
    levels.extend(policy_of(&args.net, &args.secret)?.map(|policy| (Level::Run, policy)));
    // The organisation only says what would be allowed; a run has to ask.
    if levels.iter().all(|(level, _)| *level == Level::Organisation) {
        return Ok(None);
    }
    let policy = Policy::compose(levels.clone()).map_err(usage)?;
    agree_to_sources(&levels)?;
    warn_of_unreachable(&policy);
    Ok(Some(to_settings(&levels)?))
}

/// A secret whose hosts nothing leads to is nearly always a host that was forgotten.
#[expect(clippy::print_stderr, reason = "the command line talks to a person here")]
fn warn_of_unreachable(policy: &Policy) {
    for name in policy.unreachable_secrets() {
        eprintln!(
            "warning: no rule lets anything out to a host of the secret `{}`; allow one with \
             `--net HOST`",
            escape(name)
        );
    }
}

/// An agent may come from anywhere: which of this host's values it gets, and for whom, is for the
/// person to say.
fn agree_to_sources(levels: &[(Level, NetworkPolicy)]) -> anyhow::Result<()> {
    let of = |is_agent: bool| {
        let levels = levels.iter().filter(move |(level, _)| (*level == Level::Agent) == is_agent);
        levels.flat_map(|(_, policy)| &policy.secrets).filter(|spec| spec.source.is_some())
    };
    let open = |wanted: &&SecretSpec| !of(false).any(|spec| spec.name == wanted.name);
    let Some(spec) = of(true).find(open) else { return Ok(()) };
    Err(usage(format!(
        "the agent wants the secret `{}` of this machine; to give it, say so: --secret '{spec}'",
        spec.name
    )))
}

/// `network.toml` of the configuration folder.
fn organisation(home: &Home) -> anyhow::Result<Option<NetworkPolicy>> {
    let path = home.config.join("network.toml");
    let text = match read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot read `{}`", path.display()))?,
    };
    let policy = toml::from_str(&text).with_context(|| format!("in `{}`", path.display()))?;
    Ok(Some(policy))
}

fn read(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > MAX_POLICY_BYTES {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    std::fs::read_to_string(path)
}

/// The level of a policy that flags say; `None`: they say nothing.
pub(crate) fn policy_of(
    net: &[String],
    secrets: &[String],
) -> anyhow::Result<Option<NetworkPolicy>> {
    if net.is_empty() && secrets.is_empty() {
        return Ok(None);
    }
    let mut policy = match net.is_empty() {
        true => NetworkPolicy::default(),
        false => NetworkPolicy::allowing(net).map_err(|error| usage(format!("--net: {error}")))?,
    };
    for text in secrets {
        policy.secrets.push(text.parse().map_err(|error| usage(format!("--secret: {error}")))?);
    }
    Ok(Some(policy))
}

/// The levels of a sandbox that is there, and what one call may reach of it.
pub(crate) fn narrowed(
    settings: &NetworkSettings,
    call: Option<NetworkPolicy>,
) -> anyhow::Result<NetworkSettings> {
    let Some(call) = call else { return Ok(settings.clone()) };
    let mut levels = from_settings(settings)?;
    levels.push((Level::Call, call));
    Policy::compose(levels.clone()).map_err(usage)?;
    Ok(to_settings(&levels)?)
}

/// What does not go together.
pub(crate) fn check(settings: &SandboxSettings) -> anyhow::Result<()> {
    let provider = settings.provider.as_deref().unwrap_or(LOCAL);
    if kind(provider) != LOCAL {
        return match &settings.image {
            None => Ok(()),
            Some(image) => Err(usage(format!(
                "the image `{}` would be unpacked for a local sandbox, and `{provider}` names its \
                 own: leave one of them out",
                image.reference
            ))),
        };
    }
    if settings.as_root && settings.image.is_none() {
        return Err(usage(
            "--as-root needs an image whose root file system can be written: add --image",
        ));
    }
    Ok(())
}
