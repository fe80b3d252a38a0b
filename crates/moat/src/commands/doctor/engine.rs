//! The Docker engine that sandboxes may be made on.

use std::io::Write;

use serde_json::{Value, json};

use crate::escape::escape;
use crate::home::Home;

/// What is known of it, or why nothing is.
pub(super) enum Engine {
    #[cfg(feature = "docker")]
    There(Box<moat_sandbox_docker::EngineFacts>),
    Missing(String),
}

/// Asks the engine that the environment names.
#[cfg(feature = "docker")]
pub(super) async fn look(home: &Home, quiet: bool) -> Engine {
    let place = crate::sandboxes::DockerPlace::find(home, quiet);
    let provider = match place.any() {
        Ok(provider) => provider,
        Err(error) => return Engine::Missing(error.to_string()),
    };
    match provider.facts().await {
        Ok(facts) => Engine::There(Box::new(facts)),
        Err(error) => Engine::Missing(error.to_string()),
    }
}

/// There is none to ask.
#[cfg(not(feature = "docker"))]
pub(super) async fn look(_: &Home, _: bool) -> Engine {
    Engine::Missing("this program was built without Docker".to_owned())
}

impl Engine {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    pub(super) fn row(&self) -> Value {
        match self {
            Self::Missing(reason) => json!({ "ready": false, "reason": reason }),
            #[cfg(feature = "docker")]
            Self::There(facts) => json!({
                "ready": true,
                "endpoint": facts.endpoint,
                "version": facts.version,
                "system": facts.system,
                "architecture": facts.architecture,
                "runtimes": facts.runtimes,
                "default_runtime": facts.default_runtime,
                "seccomp": facts.seccomp,
                "user_namespaces": facts.user_namespaces,
                "rootless": facts.rootless,
                "limits": {
                    "memory": facts.limits_memory, "swap": facts.limits_swap,
                    "pids": facts.limits_pids, "cpu": facts.limits_cpu,
                },
            }),
        }
    }

    pub(super) fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "\nDocker engine")?;
        match self {
            Self::Missing(reason) => writeln!(out, "MISSING  {}", escape(reason)),
            #[cfg(feature = "docker")]
            Self::There(facts) => print_facts(out, facts),
        }
    }
}

#[cfg(feature = "docker")]
fn print_facts(
    out: &mut impl Write,
    facts: &moat_sandbox_docker::EngineFacts,
) -> std::io::Result<()> {
    let word = |holds: bool| if holds { "hard" } else { "none" };
    let (endpoint, version) = (escape(&facts.endpoint), escape(&facts.version));
    writeln!(out, "{version} at {endpoint}, {}", escape(&facts.system))?;
    let runtimes: Vec<_> = facts.runtimes.iter().map(|name| escape(name)).collect();
    let usual = escape(&facts.default_runtime);
    writeln!(out, "runtimes {} (usually {usual})", runtimes.join(", "))?;
    for (holds, name, what, remedy) in [
        (
            facts.seccomp,
            "seccomp",
            "a filter on system calls",
            "needed unless gVisor's runtime is used",
        ),
        (
            facts.user_namespaces,
            "user",
            "root of a container is nobody on the machine",
            "`userns-remap` in the engine's daemon.json, or a rootless engine",
        ),
        (facts.limits_memory, "memory", "memory of containers", "without it the guest watches"),
        (facts.limits_swap, "swap", "swap of containers", "`swapaccount=1` for the kernel"),
        (facts.limits_pids, "pids", "processes of containers", "without it the guest watches"),
        (facts.limits_cpu, "cpu", "a share of the processor", "without it --cpus is refused"),
    ] {
        writeln!(out, "{:<8} {name:<18} {what}", word(holds))?;
        if !holds {
            writeln!(out, "         > {remedy}")?;
        }
    }
    Ok(())
}
