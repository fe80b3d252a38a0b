use std::collections::BTreeMap;
use std::fmt;

use moat_core::OnUnknown;
use schemars::JsonSchema;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::schema::OnUnknownShape;

/// A tool over the sandbox.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SandboxTool {
    /// Runs commands.
    ExecCommand,
    /// Types into commands that run, and waits for them.
    WriteStdin,
    /// Changes files.
    ApplyPatch,
    /// Shows images to the model.
    ViewImage,
}

impl SandboxTool {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::ExecCommand, Self::WriteStdin, Self::ApplyPatch, Self::ViewImage];

    /// The name that the model calls.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExecCommand => crate::exec_reply::EXEC_COMMAND,
            Self::WriteStdin => crate::exec_reply::WRITE_STDIN,
            Self::ApplyPatch => crate::patch::APPLY_PATCH,
            Self::ViewImage => crate::image::VIEW_IMAGE,
        }
    }

    /// The tool of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }
}

/// How one tool is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToolSettings {
    /// Calls wait for a person.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub needs_approval: bool,
    /// What to do about a call whose outcome a crash made unknown; the agent's word by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OnUnknownShape>")]
    pub on_unknown: Option<OnUnknown>,
}

/// The tools that an agent has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Tools(BTreeMap<SandboxTool, ToolSettings>);

impl Default for Tools {
    /// All, with default settings.
    fn default() -> Self {
        Self::of(&SandboxTool::ALL)
    }
}

impl Tools {
    /// These tools, with default settings.
    pub fn of(tools: &[SandboxTool]) -> Self {
        Self(tools.iter().map(|tool| (*tool, ToolSettings::default())).collect())
    }

    /// A tool's settings, if the agent has it.
    pub fn get(&self, tool: SandboxTool) -> Option<ToolSettings> {
        self.0.get(&tool).copied()
    }

    /// Adds a tool, or changes its settings.
    pub fn set(&mut self, tool: SandboxTool, settings: ToolSettings) {
        self.0.insert(tool, settings);
    }
}

/// How tools are written: for the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum Shape {
    /// Names.
    List(Vec<SandboxTool>),
    /// Names with settings.
    Map(BTreeMap<SandboxTool, Option<ToolSettings>>),
}

impl<'de> Deserialize<'de> for Tools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToolsVisitor)
    }
}

/// Reads both forms by hand: what is wrong in one of them is said where it stands.
struct ToolsVisitor;

impl<'de> Visitor<'de> for ToolsVisitor {
    type Value = Tools;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tools, or tools with settings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tools, A::Error> {
        let mut tools = Tools::of(&[]);
        while let Some(tool) = list.next_element::<SandboxTool>()? {
            if tools.get(tool).is_some() {
                return Err(A::Error::custom(format!("`{}` stands twice", tool.name())));
            }
            tools.set(tool, ToolSettings::default());
        }
        Ok(tools)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tools, A::Error> {
        let mut tools = Tools::of(&[]);
        while let Some(tool) = map.next_key::<SandboxTool>()? {
            let settings = map.next_value::<Option<ToolSettings>>()?.unwrap_or_default();
            tools.set(tool, settings);
        }
        Ok(tools)
    }
}
