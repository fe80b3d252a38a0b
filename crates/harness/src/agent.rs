//! What an agent is: one definition, whether it comes from a folder (`AGENT.md`), from a program
//! or from a registry.
//!
//! `AGENT.md` is YAML between two lines `---`, then text. The YAML is [`AgentSpec`] without its
//! instructions, the text is the instructions. Everything unknown in it is an error that says
//! where it stands and what was probably meant; the shape is published as a JSON Schema
//! ([`schema_text`]). Reading the folder is the only I/O here.

mod checks;
mod error;
mod explain;
mod front_matter;
mod load;
mod sandbox;
mod schema;
mod suggest;
mod tools;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use moat_core::{Hash, OnUnknown, SandboxSettings, ToolNotFound, ToolRecord};
use moat_egress::policy::NetworkPolicy;
use moat_sandbox::manifest::{
    Accounts, EnvironmentValue, Manifest, ManifestGroup, is_always_there,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use error::{AgentError, Position};
pub use load::MAX_AGENT_BYTES;
pub use sandbox::{SandboxDefinition, SandboxLimitsDefinition};
pub use schema::schema_text;
pub use tools::{SandboxTool, ToolSettings, Tools};

/// The version of the definition that this Moat reads and writes.
pub const AGENT_VERSION: u32 = 1;

/// An agent's definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// The version of this shape; 1.
    #[serde(default = "current_version", deserialize_with = "checks::version")]
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// What the agent is called: 1 to 128 characters on one line.
    #[serde(deserialize_with = "checks::name")]
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// What it is for, for people and for agents that choose among agents; at most 4,096 bytes.
    #[serde(default, deserialize_with = "checks::description")]
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub description: String,
    /// The model to call; the caller's choice by default.
    #[serde(default, deserialize_with = "checks::model", skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Members of every request to the model: `temperature`, `reasoning`, `tool_choice`, ….
    #[serde(default, deserialize_with = "checks::model_settings")]
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub model_settings: serde_json::Map<String, Value>,
    /// The tools over the sandbox: a list of names, or names with settings; all by default.
    #[serde(default)]
    #[schemars(with = "tools::Shape")]
    pub tools: Tools,
    /// Tools whose calls wait for a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<SandboxTool>,
    /// What a run may use at most.
    #[serde(default)]
    pub limits: Limits,
    /// How its sandboxes are made.
    #[serde(default, skip_serializing_if = "SandboxDefinition::is_empty")]
    pub sandbox: SandboxDefinition,
    /// What its sandboxes may reach; nothing by default. An organisation's and a run's policies
    /// can only take away from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkPolicy>,
    /// What a fresh workspace holds. Host paths are relative to the agent's folder.
    #[serde(default)]
    pub manifest: Manifest,
    /// Environment of every command, over the manifest's. Values reach the sandbox as they are:
    /// no secrets.
    #[serde(default, deserialize_with = "checks::environment")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// What to do about a call with effects outside whose outcome a crash made unknown, for tools
    /// that do not say it themselves.
    #[serde(default)]
    #[schemars(with = "schema::OnUnknownShape")]
    pub on_unknown: OnUnknown,
    /// What a call of a tool that does not exist does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::ToolNotFoundShape>")]
    pub tool_not_found: Option<ToolNotFound>,
    /// What the agent is told about its work. In `AGENT.md` this is the text after the front
    /// matter.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instructions: String,
}

fn current_version() -> u32 {
    AGENT_VERSION
}

/// What a run may use at most, over its whole life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Model calls for one input. The command line's default is 200.
    #[serde(deserialize_with = "checks::positive", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub turns: Option<u32>,
    /// Input and output tokens.
    #[serde(deserialize_with = "checks::positive", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub tokens: Option<u64>,
    /// Money, in US dollars.
    #[serde(deserialize_with = "checks::amount", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cost_usd: Option<f64>,
}

impl AgentSpec {
    /// An agent with all tools over the sandbox, an empty workspace and no limits of its own.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            version: AGENT_VERSION,
            name: name.into(),
            description: String::new(),
            model: None,
            model_settings: serde_json::Map::new(),
            tools: Tools::default(),
            approvals: Vec::new(),
            limits: Limits::default(),
            sandbox: SandboxDefinition::default(),
            network: None,
            manifest: Manifest::default(),
            environment: BTreeMap::new(),
            on_unknown: OnUnknown::default(),
            tool_not_found: None,
            instructions: String::new(),
        }
    }

    /// The agent of `moat exec`, which has no folder of its own.
    pub fn for_exec() -> Self {
        Self { description: "Works on a copy of one folder.".to_owned(), ..Self::new("moat") }
    }

    /// The hash of the whole definition. Two definitions that mean the same, in whatever order
    /// their members were written, have the same hash.
    pub fn hash(&self) -> Hash {
        // Members stand in the type's order and maps are sorted, so equal values are equal text.
        // A finite definition always serialises.
        Hash::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// The tools over the sandbox as the journal keeps them, in the order in which the model sees
    /// them.
    pub fn tool_records(&self) -> Vec<ToolRecord> {
        let chosen = crate::sandbox_tools().into_iter().filter_map(|record| {
            let tool = SandboxTool::from_name(&record.name)?;
            let settings = self.tools.get(tool)?;
            Some(ToolRecord {
                needs_approval: settings.needs_approval || self.approvals.contains(&tool),
                on_unknown: settings.on_unknown.unwrap_or(self.on_unknown),
                ..record
            })
        });
        chosen.collect()
    }

    /// How its sandboxes are made, without the image and the network, which the caller looks up.
    pub fn sandbox_settings(&self) -> SandboxSettings {
        let group = |group: &ManifestGroup| {
            let users = group.users.iter().map(|user| user.name.clone()).collect();
            (group.name.clone(), users)
        };
        // A user that only a group names is one all the same.
        let members = self.manifest.groups.iter().flat_map(|group| &group.users);
        let members = members.filter(|user| !is_always_there(&user.name));
        let users = members.chain(&self.manifest.users);
        let mut users: BTreeMap<_, _> = users.map(|user| (user.name.clone(), user.uid)).collect();
        if self.manifest.has_owners() {
            // Files that are made before the sandbox is belong to the numbers that it will give.
            let numbers = Accounts::of(&self.manifest).users;
            users.iter_mut().for_each(|(name, uid)| *uid = numbers.get(name).copied().or(*uid));
        }
        SandboxSettings {
            provider: self.sandbox.provider.clone(),
            limits: self.sandbox.limits.limits(),
            as_root: self.sandbox.as_root,
            users,
            secret_variables: self.secret_variables(),
            groups: self.manifest.groups.iter().map(group).collect(),
            run_as: self.sandbox.user.clone(),
            ..SandboxSettings::default()
        }
    }

    /// Environment of every command: the manifest's text, and this agent's over it. Variables that
    /// hold a secret's placeholder are those of [`AgentSpec::secret_variables`].
    pub fn environment(&self) -> BTreeMap<String, String> {
        let text = |(name, value): (&String, &EnvironmentValue)| {
            Some((name.clone(), value.text()?.to_owned()))
        };
        let mut environment: BTreeMap<_, _> =
            self.manifest.environment.iter().filter_map(text).collect();
        environment.extend(self.environment.clone());
        environment
    }

    /// Variables that hold the placeholder of a secret, and the names of those.
    pub fn secret_variables(&self) -> BTreeMap<String, String> {
        let secret = |(name, value): (&String, &EnvironmentValue)| {
            Some((name.clone(), value.secret()?.to_owned()))
        };
        self.manifest.environment.iter().filter_map(secret).collect()
    }
}
