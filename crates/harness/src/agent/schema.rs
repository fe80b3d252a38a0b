use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

use super::AgentSpec;

/// Names the schema, wherever a copy of it lies.
const SCHEMA_ID: &str = "urn:moat:schema:agent:v1";

/// The JSON Schema of [`AgentSpec`], as text. The front matter of an `AGENT.md` has the same
/// shape.
pub fn schema_text() -> String {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<AgentSpec>();
    schema.insert("$id".to_owned(), SCHEMA_ID.into());
    schema.insert("title".to_owned(), "An agent".into());
    // A schema is plain data and always serialises.
    let mut text = serde_json::to_string_pretty(schema.as_value()).unwrap_or_default();
    text.push('\n');
    text
}

/// How `moat_core::OnUnknown` is written.
#[derive(JsonSchema)]
#[schemars(rename = "OnUnknown", rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum OnUnknownShape {
    /// The model is told that the call may have happened.
    ReportUnknown,
    /// A person decides.
    Ask,
    /// The call is made again with the same idempotency key.
    Retry,
}

/// How `moat_core::ToolNotFound` is written.
#[derive(JsonSchema)]
#[schemars(rename = "ToolNotFound", rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum ToolNotFoundShape {
    /// Ends the run.
    RaiseError,
    /// Tells the model.
    ReturnErrorToModel,
}
